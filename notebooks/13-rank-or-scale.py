# %% [markdown]
# # Is it rank or is it scale?
#
# [![Open in Colab](../book/_static/colab.svg)](https://colab.research.google.com/github/OWNER/peek/blob/main/notebooks/13-rank-or-scale.ipynb)
#
# *A poorly trained network is said to need fewer components. Does it, or are its numbers only smaller? Here you change the numbers
# of a network without changing one of its answers, and see which scores fall for it.*
#
# You know {doc}`03-how-much-training`; symbols are in {doc}`../book/notation`. Allow 90 minutes to read and answer; the chapter runs
# for about two minutes on a laptop CPU.

# %% tags=["remove-cell"]
import sys

if (
    "google.colab" in sys.modules
):  # Colab keeps its own torch and numpy; this adds peeklib alone
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/OWNER/peek")  # noqa: F821

# %%
import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from tqdm.auto import tqdm

import peeklib as pk
from peeklib import zoo

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# The book has a zoo of small networks, each trained by a *recipe* ({doc}`14-a-score-without-labels`). Here is its base: the paper's network, five epochs on 10,000
# images. It is the well trained network of this page, trained again here, beside what the zoo's table says of it.

# %%
rear = pk.cached(zoo.rear)  # kept on disk: what was trained once is not trained again
base = zoo.Recipe(data.name, "cnn")
model, facts = rear(base)
listed = zoo.find(pk.evidence.table("zoo"), base)
assert abs(facts["accuracy"] - listed.accuracy) < 0.01
print(f"accuracy {facts['accuracy']:.3f}, in the table {listed.accuracy:.3f}")

# %% [markdown]
# Three recipes make poor networks: *little data*, 500 images instead of 10,000; *class order*, the training images mostly sorted by class (`sorting` 0.8);
# and *untrained*. The seed draws weights, images and their order.

# %%
SEEDS = range(3 if full else 1)
short = {} if full else {"epochs": 1}
KINDS = {
    "good": {},
    "little data": {"factor": "images", "images": 500},
    "class order": {"factor": "sorting", "sorting": 0.8, **short},
    "untrained": {"factor": "untrained", "epochs": 0},
}
POOR = list(KINDS)[1:]
nets = {
    (kind, seed): rear(replace(base, seed=seed, **KINDS[kind]))
    for seed in tqdm(SEEDS, desc="training")
    for kind in KINDS
}
probe = zoo.probe_images(data.name)  # 500 test images, without labels
probe = probe if full else probe[:120]
seen = {cell: pk.scores.observe(net, probe) for cell, (net, _) in nets.items()}

# %% [markdown]
# `pk.scores.observe` records once what the scores of this page need: pixels, hidden layers, outputs. Now the trick. A ReLU network
# gives the same answers if a layer's weights and bias are multiplied by a number $c$ and the weights behind it are divided by $c$
# {cite}`dinh2017sharp`. We do it to both hidden layers. With powers of two not even the last bit of an answer changes.


# %%
def rescaled(model, c):
    """The same function, with relu1 and relu2 times c."""
    twin = copy.deepcopy(model).requires_grad_(False)
    for layer, behind in ((twin.conv1, twin.conv2), (twin.conv2, twin.fc)):
        layer.weight *= c
        layer.bias *= c
        behind.weight /= c
    return twin


CS = (0.5, 1, 2, 4, 8) if full else (1, 8)
poor = nets["little data", 0][0]
twins = {c: pk.scores.observe(rescaled(poor, c), probe) for c in CS}
for twin in twins.values():
    assert torch.equal(twin.logits, seen["little data", 0].logits)

# %% [markdown]
# The four errors: *RMSE* is the paper's. *Relative* divides by the norm of the data. *Unit norm* brings pixels and layers to one
# norm each before the fit, so that none counts more because its numbers are large. *Last block* is the error of `relu2` alone in these fits.
#
# Move the sliders. The good network stays as it is; the poor one, *little data*, gets its layers times $c$. *For which of the four
# errors can you choose which network is on top?*

# %% tags=["hide-input"]
ERRORS = {
    "RMSE": ("plain", lambda fit: fit.rmse),
    "relative": ("plain", lambda fit: fit.relative_error),
    "unit norm": ("unit", lambda fit: fit.relative_error),
    "last block": ("unit", lambda fit: fit.block_errors["relu2"]),
}
RANKS = pk.scores.RANKS


def along(look, error):
    """One error of a network at every rank."""
    sweep, read = ERRORS[error]
    return [read(fit) for fit in getattr(look, sweep).fits.values()]


def log_ranks(figure):
    for ax in figure.axes:
        ax.set_xscale("log", base=2)
        ax.set_xticks(RANKS, labels=RANKS)
    return figure


# %% tags=["hide-input"]
def draw(error, c):
    pair = {"good": seen["good", 0], f"little data × {c}": twins[c]}
    lines = {name: along(look, error) for name, look in pair.items()}
    above = sum(np.greater(*lines.values()))
    title = f"{error}: the good network is above at {above} of {len(RANKS)} ranks"
    table = pd.concat(
        [pd.DataFrame({"rank": RANKS, "y": y, "network": k}) for k, y in lines.items()]
    )
    label = error if error == "RMSE" else f"{error}: relative error"
    label = "relative error" if error == "relative" else label
    words = {"title": title, "xlabel": "rank", "ylabel": label}
    figure = pk.plots.curves(table, "rank", "y", "network", **words)
    every = [*twins.values(), seen["good", 0]]
    figure.axes[0].set_ylim(0, 1.05 * max(max(along(x, error)) for x in every))
    return log_ranks(figure), f"{title}, with the layers of the poor one times {c}."


pk.Explorer({"error": list(ERRORS), "c": CS}, draw, start={"c": 1})

# %% [markdown]
# **You will be able to**
#
# - split the gap between two RMSEs into a part of size and a part of relative error;
# - check that a factorization has converged before you compare errors;
# - say for a score which changes of a network must leave it alone, and test it;
# - name the scores that these controls leave standing, and what they still cannot see.
#
# For the RMSE you can: at $c = 8$ the poor network is on top at every rank. The plain relative error moves a little, the other two not at all.

# %% [markdown]
# ## How poor are the poor networks?
#
# *3 minutes.* This table is the only place of the chapter where labels are used, apart from training.

# %%
hits = pd.Series({cell: facts["accuracy"] for cell, (_, facts) in nets.items()})
sizes = pd.DataFrame(
    {
        cell: {name: b.square().mean().sqrt().item() for name, b in look.hidden.items()}
        for cell, look in seen.items()
    }
).T
assert hits["good"].min() > max(hits[kind].max() for kind in POOR)
told = hits.groupby(level=0, sort=False).agg(["min", "max"]).map("{:.1%}".format)
means = sizes.groupby(level=0, sort=False).mean().round(3)
told.rename(columns="accuracy, {}".format).join(means.add_prefix("size of "))

# %% [markdown]
# *Size* is the root mean square of the activations, a mean over the seeds. It falls from *good* to *little data* to *untrained*. The network in class order is a
# special case. On MNIST its training has driven `relu2` to zero for every image: that block is all zeros, and the network gives one answer to everything.

# %%
if data.name == "mnist":
    assert (sizes.loc["class order", "relu2"] == 0).all()
for c, above in ((1, 0), (8, len(RANKS))):  # the first slider at its ends
    pair = (along(x, "RMSE") for x in (twins[c], seen["good", 0]))
    assert sum(np.greater(*pair)) == above
order = ["good", "little data", "untrained"]
assert all(means[layer][order].is_monotonic_decreasing for layer in ("relu1", "relu2"))


# %% [markdown]
# ## Is it rank or is it scale?
#
# *10 minutes.* First the paper's curves {cite}`saini2018peek`: RMSE against rank. Bands run from the smallest to the largest value over the seeds.


# %% tags=["hide-input"]
def rank_curves(error, label):
    rows = [
        (kind, rank, value)
        for (kind, _), look in seen.items()
        for rank, value in zip(RANKS, along(look, error), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["network", "rank", "value"])
    mean = table.groupby(["rank", "network"])["value"].mean().unstack()
    top = (mean["good"] > mean[POOR].max(axis=1)).sum()
    title = f"{label}: the good networks are on top at {top} of {len(RANKS)} ranks"
    words = {"title": title, "xlabel": "rank", "ylabel": label}
    figure = log_ranks(pk.plots.curves(table, "rank", "value", "network", **words))
    figure.axes[0].set_ylim(0, 1.4 * table["value"].max())
    kinds = ", ".join(f"{kind} {mean[kind].iloc[-1]:.2f}" for kind in KINDS)
    return pk.show(figure, f"{title}. Means at rank {RANKS[-1]}: {kinds}.")


rank_curves("RMSE", "RMSE")

# %% tags=["hide-input"]
rank_curves("relative", "relative error")

# %% [markdown]
# One division, and the picture is another. The two errors are tied by an identity: RMSE = size × relative error, where size is the root mean square of all the
# data. So the logarithm of the ratio of two RMSEs is a sum of two, and the gap between two networks splits without a rest:
#
# $$\log\frac{\text{RMSE}_1}{\text{RMSE}_2} = \log\frac{\text{size}_1}{\text{size}_2} + \log\frac{\text{relative error}_1}{\text{relative error}_2}$$

# %%
rows = []
for kind in POOR:
    for seed in SEEDS:
        for rank in RANKS:
            good, bad = (seen[k, seed].plain[rank, 0] for k in ("good", kind))
            gap = np.log(good.rmse / bad.rmse)
            error = np.log(good.relative_error / bad.relative_error)
            rows.append((kind, seed, rank, gap, gap - error, error))
columns = ["network", "seed", "rank", "RMSE", "size", "relative error"]
gaps = pd.DataFrame(rows, columns=columns)
data_size = {
    cell: torch.cat([*(look.inputs | look.hidden).values()]).square().mean().sqrt()
    for cell, look in seen.items()
}
for row in gaps.itertuples():  # the identity, against sizes that no fit was asked for
    ratio = data_size["good", row.seed] / data_size[row.network, row.seed]
    assert abs(ratio.log() - row.size) < 1e-4

# %% tags=["hide-input"]
long = gaps.melt(["network", "seed", "rank"], columns[3:], "part of", "value")
share = (gaps["size"] / gaps["RMSE"]).groupby(gaps["network"], sort=False).mean()
title = f"Size makes {share.min():.0%} to {share.max():.0%} of the gap in RMSE"
with pk.plots.theme():
    figure, ax = pk.plots.canvas(height=3.6)
    how = {"palette": "viridis", "errorbar": ("pi", 100), "ax": ax}
    sns.barplot(long, x="value", y="network", hue="part of", **how)
    ax.axvline(0, color="black", linewidth=1)
    ax.set(title=title, ylabel="", xlabel="log of good over poor; 0: equal")
    ax.get_legend().remove()
    figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize=10)
    sns.despine(ax=ax)
parts = gaps.groupby("network", sort=False)[columns[3:]].mean()
words = "; ".join(
    f"{kind}: RMSE {row['RMSE']:.2f}, size {row['size']:.2f}, relative error {row['relative error']:.2f}"
    for kind, row in parts.iterrows()
)
pk.show(figure, f"{title}. Means over ranks and seeds of log ratios, {words}.")

# %%
if data.name == "mnist":
    assert share[["class order", "untrained"]].min() > 0.95
    assert 0.3 < share["little data"] < 0.7
    assert parts.loc["class order", "relative error"] < 0
share.map("{:.0%}".format)

# %% [markdown]
# On MNIST all of the gap to the untrained network is size, and to the one in class order a little more than all: there the relative error points the
# other way. That network has the lowest RMSE of all and the *highest* relative error. Its dead layers cost nothing, and what is left are pixels, which few
# components cannot draw well. Against *little data*, size is about half of the gap; the rest is relative error. That is not rank alone: the plain fits weigh pixels and layers by their size, so their relative error
# depends on it too.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# Take seed 0 and rank 16, *good* against *untrained*. Which share of the log ratio of their RMSEs is size?
#
# <details><summary>Hint</summary>The log ratio of sizes is that of the RMSEs minus that of the relative errors.</details>

# %%
ends = [seen[kind, 0].plain[16, 0] for kind in ("good", "untrained")]
rmses, relatives = [f.rmse for f in ends], [f.relative_error for f in ends]
my_share = None
pk.check.size_share(my_share, rmses, relatives)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
solution = 1 - np.log(relatives[0] / relatives[1]) / np.log(rmses[0] / rmses[1])
pk.check.size_share(solution, rmses, relatives)
print(f"{solution:.0%} is size")

# %% [markdown]
# ## Have all fits converged?
#
# *7 minutes.* An error that is still falling says as much about the solver as about the network. The *KKT residual* says how far one more step would move
# the factors; 0 is the end. Here it stands beside the errors of all fits so far.

# %%
rows = []
for (kind, _), look in seen.items():
    for name, sweep in (("plain", look.plain), ("unit norm", look.unit)):
        table = sweep.table().assign(network=kind, blocks=name)
        rows.append(table[["network", "blocks", "relative_error", "kkt", "converged"]])
fits = pd.concat(rows).groupby(["blocks", "network"], sort=False)
kkt = fits.agg({"relative_error": "mean", "kkt": "max", "converged": "mean"})
worst = kkt["kkt"].max()
assert (kkt["converged"] == 1).all() and worst < 0.02
kkt.style.format({"relative_error": "{:.3f}", "kkt": "{:.4f}", "converged": "{:.0%}"})

# %% [markdown]
# Mean error, largest residual, and the share of fits that stopped by their own rule. All did, with residuals below 0.02. The paper uses multiplicative updates
# {cite}`lee2001algorithms` and does not say when it stops. What would a fixed number of rounds do to the comparison? Two networks, blocks of one norm, 50 rounds of `mu` beside `hals` run to
# the end and `auto`, which all scores of this page use.

# %%
WAYS = {
    "mu, 50 rounds": {"solver": "mu", "max_iter": 50, "tol": 0},
    "auto": pk.scores.FIT,
    "hals": {"solver": "hals", "max_iter": 300, "tol": 1e-5},
}
rows = []
for kind in ("good", "little data"):
    look = seen[kind, 0]
    blocks = pk.scores.unit_norm(look.inputs | look.hidden)
    for way, how in WAYS.items():
        found = pk.rank_sweep(blocks, RANKS, **how).table()
        rows.append(found.assign(network=kind, way=way))
ways = pd.concat(rows)
best = ways.groupby(["network", "rank"])["relative_error"].transform("min")
ways["excess"] = 100 * (ways["relative_error"] / best - 1)

# %% tags=["hide-input"]
tops = ways.groupby("way", sort=False)[["excess", "kkt"]].max()
ways["fit"] = ways["network"] + ", " + ways["way"]
by_net = ways[ways["way"] == "mu, 50 rounds"].groupby("network", sort=False)
bias = by_net["excess"].mean()
title = (
    f"mu stops {bias['good']:.1f} % (good), {bias['little data']:.1f} % (poor) too high"
)
words = {"title": title, "xlabel": "rank", "ylabel": "error above the lowest found (%)"}
shown = ways[ways["way"] != "hals"]
figure = log_ranks(pk.plots.curves(shown, "rank", "excess", "fit", **words))
alt = f"Relative error above the lowest of three solvers, by rank. {title}, mean over the ranks."
pk.show(figure, alt)

# %%
assert tops.loc["auto", "excess"] < 0.5 < tops.loc["mu, 50 rounds", "excess"]
assert tops.loc["auto", "kkt"] < 0.02 < tops.loc["mu, 50 rounds", "kkt"]
assert bias["little data"] != bias["good"]
ratios = ways.pivot(index=["way", "rank"], columns="network", values="relative_error")
ratios = (ratios["good"] / ratios["little data"]).groupby("way").mean()
tops = tops.join(ratios.rename("good over poor"))
tops.style.format({"excess": "{:.2f} %", "kkt": "{:.4f}", "good over poor": "{:.3f}"})

# %% [markdown]
# Largest excess and residual over ranks and networks, and the mean ratio of the two networks' errors. At a fixed budget `mu` is too high by an amount that grows with the rank and is
# *not the same for both networks*, so it shifts the curves against each other. The residual gives it away. Here the shift is small beside the gap (last column); it need not be at higher ranks. Every fit
# behind a score of this page has converged. (A small residual says that a fit has ended, not that it ended at the lowest minimum: see `hals`.)

# %% [markdown]
# ## Which block is it, and how low could its error be?
#
# *7 minutes.* An error has a floor: no factorization of rank $r$ does better than cutting off the singular values after the $r$-th
# {cite}`eckart1936approximation`. Here are the errors of each block, in the fits of one norm, and its floor.


# %%
def floor(block):
    """Relative error of the best approximation at each of `RANKS`; 0 for a block of zeros."""
    if not block.any():
        return [0.0] * len(RANKS)
    energy = pk.spectrum(block).square()
    left = 1 - energy.cumsum(0) / energy.sum()
    return [left[rank - 1].clamp(min=0).sqrt().item() for rank in RANKS]


rows = []
for (kind, seed), look in seen.items():
    for name, block in (look.inputs | look.hidden).items():
        found = [fit.block_errors[name] for fit in look.unit.fits.values()]
        where = {"network": kind, "seed": seed, "block": name, "rank": RANKS}
        rows.append(pd.DataFrame({**where, "error": found, "floor": floor(block)}))
blocks = pd.concat(rows)
assert (blocks["error"] >= blocks["floor"] - 1e-4).all()

# %% tags=["hide-input"]
with pk.plots.theme():
    figure, axes = pk.plots.canvas(1, 2, height=3.8, sharey=True)
    for ax, kind in zip(axes, ("good", "untrained"), strict=True):
        part = blocks[blocks["network"] == kind].melt(
            ["block", "rank"], ["error", "floor"], "what", "value"
        )
        how = {"hue": "block", "style": "what", "palette": "viridis", "ax": ax}
        legend = "full" if kind == "good" else False
        sns.lineplot(part, x="rank", y="value", errorbar=None, legend=legend, **how)
        ax.set(title=kind, xlabel="rank", ylabel="relative error", ylim=(0, 1))
    axes[0].legend(frameon=False, fontsize=9)
    at16 = blocks[blocks["rank"] == 16].groupby(["block", "network"], sort=False)
    at16 = at16[["error", "floor"]].mean()
    pair = [at16.loc[("relu2", kind), "error"] for kind in ("good", "untrained")]
    title = f"relu2 at rank 16: {pair[0]:.2f} good, {pair[1]:.2f} untrained"
    figure.suptitle(title, fontsize=12)
alt = "Relative error of each block by rank, with the Eckart–Young floor dashed."
pk.show(log_ranks(figure), f"{alt} {title}; mean over the seeds.")

# %%
rank_of = pd.Series(
    {
        (name, kind, seed): pk.effective_rank(block) if block.any() else 0.0
        for (kind, seed), look in seen.items()
        for name, block in (look.inputs | look.hidden).items()
    }
).rename_axis(["block", "network", "seed"])
by_block = at16.join(
    rank_of.groupby(["block", "network"]).mean().rename("entropy rank")
)
gap = by_block["error"].unstack()[list(KINDS)]
assert (gap["good"] / gap["untrained"]).idxmax() == "relu2"
assert (gap["good"] / gap["little data"]).idxmax() == "relu2"
if data.name == "mnist":
    assert gap.loc["relu2", "good"] > 1.5 * gap.loc["relu2", "untrained"]
    assert gap.loc["relu1", "good"] < 1.2 * gap.loc["relu1", "untrained"]
    ranks = by_block["entropy rank"].unstack()
    assert ranks.loc["relu1", "untrained"] > ranks.loc["relu1", "good"]
by_block.round({"error": 2, "floor": 2, "entropy rank": 0})

# %% [markdown]
# Errors and floors at rank 16, means over the seeds. `relu2` is where a good network differs most from the poor ones, and its floor differs as well: this is rank, not the
# solver, and not the unit. In `relu1` a good and an untrained network differ little, and the entropy rank {cite}`roy2007effective` is *higher* in the untrained one.

# %% [markdown]
# ## Which scores may move?
#
# *5 minutes.* Now all the scores. We wrote down this rule before we ran a control; the scores of networks as they are, we had seen. A score of training that *stands*:
#
# 1. *Same function, same score.* It moves by at most 1 % if the layers are rescaled ($c = 4$) or dead units are added, in each of three networks.
# 2. *It sees structure.* It moves by more than 5 % in the good network if each neuron's values are permuted over the images.
# 3. *It knows good from poor.* Every good network stands above every poor and every untrained one, across all seeds.
# 4. *It does not need many images.* Point 3 also holds with 100 images.

# %% tags=["hide-input"]
SCORES = {
    name: score for name, score in pk.scores.SCORES.items() if score.family != "weights"
}
LIMIT, LEAST, FEW = 0.01, 0.05, 100 if full else 60
ways = {1: "high", -1: "low"}
listed = {n: [s.family, ways[s.better], s.says] for n, s in SCORES.items()}
listed = pd.DataFrame(listed, index=["looks at", "better", "is"]).T
listed.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# And what do we expect? By construction, before any measurement:
#
# - *Rescaling.* The RMSE must move. So must the relative error of the plain fits: the pixels' say in it changes. Blocks of one norm are the *same numbers* for every $c$, and spectra divide
#   by their own sum or largest value: nothing that is computed from these may move. `answers_area` looks at outputs, which do not change, and at blocks, which stay the same only because they are brought to one norm.
# - *Dead units.* The RMSE must fall: it divides by the number of entries, and there are more. Relative errors and spectra have nothing to gain from rows of zeros. A fit starts from other random numbers, though, and may end a little elsewhere.
# - *Permutation.* Each neuron keeps its size and its histogram; what neurons have in common is gone. Whoever claims to see shared structure must move.
# - *Outputs.* `answers_alone_area`, `nuclear_norm`, `confidence` and `prediction_entropy` never look at a hidden layer. By construction they stay under all three. That is no merit: they cannot tell anything about rank.

# %%
SAME = ("stays", "stays", "moves")  # rescaled, dead units, permuted
PREDICTED = {name: SAME for name in SCORES}
PREDICTED["rmse_area"] = ("moves", "moves", "moves")
PREDICTED["relative_error_area"] = ("moves", "stays", "moves")
OUTPUTS = ["answers_alone_area", "nuclear_norm", "confidence", "prediction_entropy"]
PREDICTED |= {name: ("stays", "stays", "stays") for name in OUTPUTS}

# %% [markdown]
# (The line for `answers_alone_area` was corrected after a first run; it had been left at the default.) Here are all the scores of all networks, with all images and with 100, and then the controls.


# %%
def measure(look):
    return {name: score(look) for name, score in SCORES.items()}


counts = {
    len(probe): seen,
    FEW: {cell: pk.scores.observe(net, probe[:FEW]) for cell, (net, _) in nets.items()},
}
standing = {  # images → score × (kind, seed)
    count: pd.DataFrame({cell: measure(look) for cell, look in group.items()})
    for count, group in tqdm(counts.items(), desc="scores")
}

# %% [markdown]
# ## Who falls for the same function?
#
# *10 minutes.* Three networks of seed 0, and two twins of each. Dead units: a network twice as wide, where every weight that the first does
# not have is zero.


# %%
def padded(model):
    """The same function, with as many units again that are always zero."""
    twin = pk.models.PaperCNN(width=2).requires_grad_(False)
    for new, old in zip(twin.parameters(), model.parameters(), strict=True):
        new.zero_()[tuple(map(slice, old.shape))] = old
    return twin


CONTROLLED = ["good", "little data", "untrained"] if full else ["good", "untrained"]
looks = {}
for kind in CONTROLLED:
    net, own = nets[kind, 0][0], seen[kind, 0]
    looks["rescaled", kind] = pk.scores.observe(rescaled(net, 4), probe)
    looks["dead units", kind] = pk.scores.observe(padded(net), probe)
    assert torch.equal(looks["rescaled", kind].logits, own.logits)
    assert torch.allclose(looks["dead units", kind].logits, own.logits, atol=1e-4)

# %% [markdown]
# The answers are the same: to the last bit for the rescaled twins, to rounding for the padded ones. So are the blocks of one norm, bit by bit. And here is the third control, which breaks the
# function on purpose: it leaves pixels, outputs and every neuron's values alone, and deals these values out to other images, for each neuron in another way. (Spectra are of the *embedding*, what the last linear layer reads. In this network that is `relu2`.)


# %% tags=["hide-input"]
def permuted(look, seed=0):
    """Each neuron's values in an order of its own over the images."""
    draw = torch.Generator().manual_seed(seed)
    hidden = {
        name: block.gather(1, torch.rand(block.shape, generator=draw).argsort(dim=1))
        for name, block in look.hidden.items()
    }
    assert torch.equal(look.embedding, look.last)  # what the last linear layer reads
    return replace(look, hidden=hidden, embedding=hidden["relu2"])


for kind in CONTROLLED:
    own, twin = seen[kind, 0], looks["rescaled", kind]
    pairs = [pk.scores.unit_norm(x.inputs | x.hidden) for x in (own, twin)]
    assert all(torch.equal(pairs[0][name], pairs[1][name]) for name in pairs[0])
    looks["permuted", kind] = permuted(own)
values = {c: measure(look) for c, look in tqdm(looks.items(), desc="controls")}
values |= {(f"{FEW} images", kind): standing[FEW][kind, 0] for kind in CONTROLLED}
values = pd.DataFrame(values)  # score × (control, network)
for look in looks.values():  # these fits have converged, too
    assert all(fit.kkt < 0.02 for fit in {**look.plain.fits, **look.unit.fits}.values())

# %% tags=["hide-input"]
own = standing[len(probe)].xs(0, axis=1, level=1)[CONTROLLED]
change = values.copy()
for control, kind in values:
    moved = values[control, kind] - own[kind]
    change[control, kind] = moved / own[kind].abs().clip(lower=1e-9)


# %% tags=["hide-input"]
def change_figure(control, title):
    part = 100 * change[control].rename_axis(index="score", columns="network")
    part = part.stack().rename("change").reset_index()
    with pk.plots.theme():
        figure, ax = pk.plots.canvas(height=4.6)
        how = {"hue": "network", "style": "network", "palette": "viridis", "s": 60}
        sns.scatterplot(part, x="change", y="score", **how, ax=ax)
        ax.set_xscale("symlog", linthresh=1, linscale=0.7)
        ticks = [-100, -10, -1, 0, 1, 10, 100, 1000]
        ax.set_xticks(ticks, labels=[f"{tick:+d}" if tick else "0" for tick in ticks])
        ax.axvspan(-100 * LIMIT, 100 * LIMIT, color="0.9", zorder=0)
        ax.set(
            title=title, ylabel="", xlabel=f"change: {control} (%)", xlim=(-150, 3e3)
        )
        ax.get_legend().remove()
        figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize=10)
        sns.despine(ax=ax)
    words = ", ".join(f"{n} {x:+.1%}" for n, x in change[control, "good"].items())
    return pk.show(figure, f"{title}. In the good network: {words}.")


def movers(control, limit=LIMIT):
    most = change[control].abs().max(axis=1)
    return list(most.index[most > limit])


# %% tags=["hide-input"]
moved = movers("rescaled")
change_figure("rescaled", f"Layers × 4: {len(moved)} of {len(SCORES)} scores move")

# %%
exact = [name for name in SCORES if PREDICTED[name][0] == "stays"]
assert change.loc[exact, "rescaled"].abs().max(axis=None) < 1e-6
moved

# %% [markdown]
# Grey is within 1 %. What was to stay, stays to one part in a million. The two errors of the plain fits move. Now the dead units.

# %% tags=["hide-input"]
moved = movers("dead units")
change_figure("dead units", f"Dead units: {len(moved)} of {len(SCORES)} scores move")

# %%
spectra = [name for name, score in SCORES.items() if score.family == "spectrum"]
assert change.loc[spectra, "dead units"].abs().max(axis=None) < 1e-4
pair = seen["good", 0], looks["dead units", "good"]
features, more = (sum(map(len, (x.inputs | x.hidden).values())) for x in pair)
print(f"RMSE: {change.loc['rmse_area', ('dead units', 'good')]:+.1%}")
print(f"from the number of entries alone: {(features / more) ** 0.5 - 1:+.1%}")
moved

# %% [markdown]
# The RMSE falls by what the number of entries says. Spectra do not move. What else moves does so because a fit started elsewhere and ended elsewhere. That is a small thing for an error, and not for a
# small difference of two errors such as `nmf_svd_gap`.
#
# ### Exercise 2 ●●○ (10 minutes)
#
# How many neurons that are always zero must the good network of seed 0 get, for its RMSE at rank 16 to fall to that of *little data*?
#
# <details><summary>Hint</summary>Rows of zeros add nothing to the sum of squares. RMSE² × number of rows stays as it is.</details>

# %%
mine, target = (seen[kind, 0].plain[16, 0].rmse for kind in ("good", "little data"))
my_count = None
pk.check.dead_neurons(my_count, mine, target, features)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
count = int(np.ceil(features * ((mine / target) ** 2 - 1)))
pk.check.dead_neurons(count, mine, target, features)
print(f"{count:,} dead neurons beside {features:,} pixels and neurons")

# %% [markdown]
# All of this rescales whole layers. A ReLU network keeps its answers, too, if every *channel* gets a factor of its own. Then a block is no longer the same up to one number. Here the channels of
# both layers get factors between ¼ and 4.


# %%
def uneven(model, seed=0):
    """The same function, with a factor of its own for each channel of relu1 and relu2."""
    twin, draw = (
        copy.deepcopy(model).requires_grad_(False),
        torch.Generator().manual_seed(seed),
    )
    for layer, behind, size in ((twin.conv1, twin.conv2, 1), (twin.conv2, twin.fc, 16)):
        c = 4 ** (2 * torch.rand(len(layer.bias), generator=draw) - 1)
        layer.weight *= c[:, None, None, None]
        layer.bias *= c
        shape = (1, -1) + (1,) * (behind.weight.ndim - 2)
        behind.weight /= c.repeat_interleave(size).reshape(shape)
    return twin


twin, own = pk.scores.observe(uneven(nets["good", 0][0]), probe), seen["good", 0]
assert torch.allclose(twin.logits, own.logits, atol=1e-3)
for name in ("last_block_area", "rankme", "stable_rank", "answers_area"):
    before, later = (SCORES[name](look) for look in (own, twin))
    print(f"{name}: {before:.3f}, with a factor for each channel {later:.3f}")

# %% [markdown]
# No score of hidden blocks is protected against that. So rule 1 asks for little: it is about the unit of a layer, and not about all that leaves a function alone.

# %% [markdown]
# ## Who sees that structure is gone?
#
# *7 minutes.* Permuted: same sizes, same histograms, nothing shared.
#
# ### Exercise 3 ●●○ (10 minutes)
#
# Before you look: write the permutation yourself, a function of one block, neurons × images.
#
# <details><summary>Hint</summary>Random numbers of the block's shape, sorted along each row with <code>argsort</code>, give an order for each
# row; <code>block.gather(1, order)</code> applies it.</details>

# %%
my_permutation = None
pk.check.permuted_neurons(my_permutation)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def permutation(block):
    draw = torch.Generator().manual_seed(0)
    return block.gather(1, torch.rand(block.shape, generator=draw).argsort(dim=1))


pk.check.permuted_neurons(permutation)

# %% tags=["hide-input"]
after = change["permuted", "good"]
blind = [name for name in SCORES if abs(after[name]) <= LEAST]
title = f"Permuted: {len(SCORES) - len(blind)} of {len(SCORES)} scores see it"
change_figure("permuted", title)

# %%
better = pd.Series({name: score.better for name, score in SCORES.items()})
praised = [
    name for name in SCORES if name not in blind and after[name] * better[name] > 0
]
assert change.loc[OUTPUTS, "permuted"].abs().max(axis=None) == 0
assert change.loc[spectra, ("permuted", "good")].abs().min() > LIMIT
print("do not see it:", ", ".join(blind))
print("see it, and call it better:", ", ".join(praised))

# %% [markdown]
# The second line deserves a pause. The paper's rule is: more rank, better trained. Here is a block whose neurons fire for random images. It has more rank than any other, and by every score on that line it
# comes from a better network than before. These scores measure how many directions are in use. That a trained network uses more of them than an untrained one is something we *observe*, and not what they measure.
#
# Two on the first line were to move. Why do they not?

# %%
relu2 = seen["good", 0].last
flat = len(probe) * relu2.mean(dim=1).square().sum() / relu2.square().sum()
good = standing[len(probe)]["good", 0]
first = 1 / good["stable_rank"]
print(f"relu2: the first singular direction holds {first:.0%} of the energy, ", end="")
print(f"the mean over the images {flat:.0%}")
assert 0 <= first - flat < 0.1
print(f"answers: with all blocks {good['answers_area']:.3f}, ", end="")
print(f"alone {good['answers_alone_area']:.3f}, ", end="")
print(f"with permuted layers {values.loc['answers_area', ('permuted', 'good')]:.3f}")

# %% [markdown]
# The *stable rank* {cite}`rudelson2007sampling` compares all singular values with the first, and the first is mostly the mean pattern of activity: the two shares are nearly equal. A permutation keeps every mean. And the answers, added as blocks to bring
# outputs and layers together, have nearly the error that they have when they are factorized *alone*: in a good network `answers_area` is a score of outputs, whatever the layers do.

# %% [markdown]
# ## Do other seeds and fewer images agree?
#
# *7 minutes.* Every good network against every poor one, over all seeds: in which share of the pairs is the good one better? Then once more with 100 of the
# images.


# %%
def pairs_right(table, kind):
    """Share of (good, poor) pairs in which the good network scores better."""
    good, bad = (table[k].mul(better, axis=0).to_numpy() for k in ("good", kind))
    share = (good[:, :, None] > bad[:, None, :]).mean(axis=(1, 2))
    return pd.Series(share, table.index)


# %% tags=["hide-input"]
right = pd.DataFrame(
    {
        f"{kind}, {count}": pairs_right(table, kind)
        for kind in POOR
        for count, table in standing.items()
    }
)
sure = (right == 1).all(axis=1)
title = f"{sure.sum()} of {len(SCORES)} scores are right about every pair"
words = {
    "xlabel": "good against … on … images",
    "ylabel": "",
    "label": "pairs right",
}
figure = pk.plots.class_matrix(right, title=title, **words)
figure.axes[0].tick_params(labelsize=10)
figure.axes[0].tick_params(axis="x", rotation=90)
names = ", ".join(right.index[sure])
pk.show(
    figure, f"Share of pairs in which the good network scores better. {title}: {names}."
)

# %% tags=["hide-input"]
title = f"{FEW} images: {len(movers(f'{FEW} images'))} of {len(SCORES)} scores move"
change_figure(f"{FEW} images", title)

# %% [markdown]
# The number of images moves nearly every score by more than 1 %. So compare networks on the same images, always; the order is what may be trusted.

# %% [markdown]
# ## What is left standing?
#
# *7 minutes.* The rule from above, in code.

# %%
many, few = (
    pd.concat([pairs_right(t, k) for k in POOR], axis=1) for t in standing.values()
)
most = {c: change[c].abs().max(axis=1) for c in ("rescaled", "dead units")}
shown = pd.DataFrame(
    {
        "rescaled": most["rescaled"],
        "dead units": most["dead units"],
        "permuted": after.abs(),
        "all seeds": many.mean(axis=1),
        f"{FEW} images": few.mean(axis=1),
    }
)
passed = pd.DataFrame(
    {
        "rescaled": shown["rescaled"] <= LIMIT,
        "dead units": shown["dead units"] <= LIMIT,
        "permuted": shown["permuted"] > LEAST,
        "all seeds": shown["all seeds"] == 1,
        f"{FEW} images": shown[f"{FEW} images"] == 1,
    }
)
stand = list(passed.index[passed.all(axis=1)])

# %% tags=["hide-input"]
text = shown.map(lambda x: f"{x:.0%}" if x >= 0.0995 or x == 0 else f"{x:.1%}")
with pk.plots.theme():
    figure, ax = pk.plots.canvas(height=4.8)
    how = {"annot": text, "fmt": "", "annot_kws": {"fontsize": 10}, "linewidths": 1}
    colours = ["#f0c9a0", "#9fc8e8"]  # fails, holds
    sns.heatmap(
        passed.astype(int), cmap=colours, vmin=0, vmax=1, cbar=False, ax=ax, **how
    )
    title = f"{len(stand)} of {len(SCORES)} scores stand"
    ax.set(ylabel="", xlabel="change, or pairs right; blue: holds")
    ax.tick_params(axis="both", labelsize=10, rotation=0)
    figure.suptitle(title, fontsize=11)
alt = "Every score under every control: " + "; ".join(
    f"{name} fails {', '.join(row.index[~row])}"
    for name, row in passed.iterrows()
    if not row.all()
)
shown_text = ", ".join(stand) or "none"
print(f"left standing: {shown_text}")
pk.show(figure, f"{title}: {shown_text}. {alt}.")

# %%
others = passed.drop(columns="permuted").all(axis=1)
mild = list(passed.index[others & (shown["permuted"] > LIMIT)])
print(f"permuted, 1 % instead of 5: {', '.join(mild)}")
if data.name == "mnist" and full:
    assert mild == ["last_block_area", "stable_rank"]

# %% [markdown]
# The limits are ours. One result depends on the 5 % for a permutation: with 1 % the stable rank would stand, too. Were the predictions right?

# %%
told = pd.DataFrame(PREDICTED, index=["rescaled", "dead units", "permuted"]).T
found = shown[told.columns] > pd.Series([LIMIT, LIMIT, LEAST], told.columns)
wrong = (told == "moves") != found
print(f"{(~wrong).to_numpy().sum()} of {wrong.size} predictions held; not:")
for name, control in wrong.stack()[lambda x: x].index:
    print(
        f"  {name}, {control}: {told.loc[name, control]}? {shown.loc[name, control]:.1%}"
    )

# %% [markdown]
# ## Two networks that are not in the rule
#
# *5 minutes.* A rule is as good as the networks in it. Two more: one is trained in *half* class order and is a little worse than the base. The other has learnt 1,000 images with *random labels* by heart
# {cite}`zhang2017understanding`: it was trained for long, and on test images it knows nothing.

# %%
HARD = {
    "half order": {"factor": "sorting", "sorting": 0.5, **short},
    "random labels": {"factor": "noise", "images": 1000, "noise": 1.0}
    | {"epochs": 60 if full else 2},
}
hard = {kind: rear(replace(base, **how)) for kind, how in HARD.items()}
scored = {
    kind: measure(pk.scores.observe(net, probe)) for kind, (net, _) in hard.items()
}
good = standing[len(probe)]["good"]
asked = ["rmse_area", "unit_norm_area", *stand]
table = good.agg(["min", "max"], axis=1).add_prefix("good, ").join(pd.DataFrame(scored))
told = {"good, min": hits["good"].min(), "good, max": hits["good"].max()}
told |= {kind: facts["accuracy"] for kind, (_, facts) in hard.items()}
table = table.loc[list(dict.fromkeys([*asked, "answers_area", *OUTPUTS]))]
learnt = hard["random labels"][1]["train_accuracy"]
print(f"random labels: {learnt:.0%} of the training labels learnt")
pd.concat([pd.DataFrame(told, index=["accuracy"]), table]).round(3)

# %%
least = good.mul(better, axis=0).min(axis=1)
fooled = {
    kind: [n for n in SCORES if better[n] * scored[kind][n] >= least[n]]
    for kind in HARD
}
for kind, names in fooled.items():
    print(f"{kind}, not below every good network: {', '.join(names) or 'none'}")
both = [name for name in SCORES if not any(name in names for names in fooled.values())]
print("below in both cases:", ", ".join(both))
if data.name == "mnist" and full:
    assert stand == ["last_block_area"]
    assert all("last_block_area" in names for names in fooled.values())
    assert set(both) & set(SCORES) == {"answers_area", *OUTPUTS[1:]}
    assert change.loc["rmse_area", ("rescaled", "good")] > 2
    least = good.loc["answers_area"].min() - scored["half order"]["answers_area"]
    assert 0 < least < 0.01
    assert "rmse_area" in fooled["random labels"] and learnt > 0.9

# %% [markdown]
# On MNIST the one score left, `last_block_area`, puts both above every good network. So do most others for the random labels: to learn 1,000 of them by heart takes many directions.
# Rank in the last layer is no property of good training. It is a property of having learnt to tell many things apart, right or wrong. Below the good ones in both cases are only three scores of the
# outputs, which say how sure the network is, and how evenly; and, for half order by less than 0.01, `answers_area`.
#
# ## We saw
#
# - RMSE = size × relative error. On MNIST the gap in RMSE to untrained and class-ordered networks is size, all of it; to networks with little data, about half of it.
#   So: mostly scale.
# - The RMSE orders all our good and poor networks, and follows any number you multiply the layers by, and any neuron that never fires. Neither changes an answer.
# - A score that divides by the size of each block cannot be moved by rescaling a layer (a factor for each channel still moves it). Of those, the error of the last block alone also sees structure, agrees over seeds and needs few images. It is the one
#   left standing: the last layer is where good and poor networks differ, in its floor as well as in its error.
# - It stands by our rule, and the rule is too kind: the score is wrong about random labels and about half class order, in the one network of each that we trained. And like most scores of rank it prefers a permuted block to the network's own.
# - A fixed number of rounds of `mu` shifts networks against each other; the KKT residual shows it.
# - One architecture, one data set, three recipes for poor networks, three seeds: a test that a score can fail, and no proof of one that passes.
#
# What comes next: {doc}`14-a-score-without-labels` asks the same of the whole zoo, where scores can be wrong in more ways.
#
# References are in the {doc}`../book/bibliography`.
