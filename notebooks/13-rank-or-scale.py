# %% [markdown]
# # Is it rank or is it scale?
#
# *A poorly trained network is said to need fewer components. Does it, or are its numbers only smaller? Here you change the numbers
# of a network without changing one of its answers, and see which scores fall for it.*
#
# You know {doc}`03-how-much-training`; symbols are in {doc}`../book/notation`. Allow 110 minutes to read and answer; the chapter runs
# for about half a minute on a laptop CPU.

# %% tags=["remove-cell"]
# Installs peeklib on Colab, which brings torch and numpy; elsewhere it only looks for it.
# `make sync` puts this cell into every notebook, with the address of this copy.
import importlib.util
import subprocess
import sys

PEEKLIB = ""


class Stop(Exception):
    def _render_traceback_(self):  # one sentence in place of a traceback
        return [f"Stop: {self}"]


if "google.colab" in sys.modules and PEEKLIB:
    pip = [sys.executable, "-m", "pip", "install", "-q", PEEKLIB]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines()]
        wrong = [x for w in ("fatal", "error") for x in said if x.lower().startswith(w)]
        why = (wrong or said or ["no reason given"])[0]
        raise Stop(f"peeklib could not be installed from {PEEKLIB}: {why}")
elif importlib.util.find_spec("peeklib") is None:
    raise Stop(
        "peeklib is not installed here: `%pip install` its wheel, uploaded beside this "
        "notebook, or git+<the address of a copy of this book>."
    )

# %%
import copy

import numpy as np
import pandas as pd
import seaborn as sns
import torch

import peeklib as pk
from peeklib import zoo
from peeklib.course.ledger import spread
from peeklib.course.studies import scale

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# The book has a zoo of small networks, each trained by a *recipe* ({doc}`14-a-score-without-labels`). Here is its base: the paper's network, five epochs on 10,000
# images. It is the well trained network of this page. Three recipes make poor networks: *little data*, 500 images instead of 10,000; *class order*, the training images
# mostly sorted by class (`sorting` 0.8); and *untrained*. The seed draws weights, images and their order.
#
# Numbers of several seeds come from a *table of evidence*: a file of the package, made once (by `python book/evidence.py rank_or_scale`) and the
# same for everybody. What you can touch is trained here, from seed 0. In the boxes headed *agrees* or *differs* one of the table's entries is computed again on the machine that ran this page ({doc}`../book/running`).

# %%
table = pk.evidence.table("rank_or_scale")  # a row for each network, change and rank
MANY, FEW = table["images"].max(), table["images"].min()
KINDS = ["good", "little data", "class order", "untrained"]
POOR, SEEDS = KINDS[1:], range(table["seed"].nunique())
unchanged = table[(table["control"] == "none") & (table["images"] == MANY)]
asis = unchanged[unchanged["network"].isin(KINDS)]
minutes = pk.evidence.how("rank_or_scale")["minutes"]
print(
    f"MNIST, {len(SEEDS)} seeds of each kind, {minutes:.0f} minutes on a busy machine"
)
print("in a notebook, all of it anew: pd.DataFrame(scale.rank_or_scale())")

# %%
nets, facts = {}, {}
for kind in scale.CONTROLLED:  # good, little data, untrained
    nets[kind], facts[kind] = scale.rear(scale.recipe(kind, data=data.name))
probe = zoo.probe_images(data.name)  # 500 test images, without labels
probe = probe if full else probe[:120]
seen = {kind: pk.scores.observe(net, probe) for kind, net in nets.items()}

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


CS = (0.5, 1, 2, 4, 8) if full else (1, 4)
poor = nets["little data"]
twins = {c: pk.scores.observe(rescaled(poor, c), probe) for c in CS}
same = [torch.equal(x.logits, seen["little data"].logits) for x in twins.values()]
print(f"{sum(same)} of {len(same)} twins give the very same answers")

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
    pair = {"good": seen["good"], f"little data × {c}": twins[c]}
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
    every = [*twins.values(), seen["good"]]
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
# For the RMSE you can: at $c = 8$ the poor network is on top at every rank. The plain relative error falls, too, and not by a little; the other two do not move at all. How
# many times the poor one's RMSE the good one's is at rank 16, here and in the table, which has $c$ = 1 and 4. The two may differ by as much as the RMSEs of the good network's seeds:

# %% tags=["hide-input"]
at16 = table[(table["rank"] == 16) & (table["images"] == MANY)]
good16 = at16[at16["network"] == "good"].set_index(["control", "seed"])["rmse"]["none"]
poor16 = at16[(at16["network"] == "little data") & (at16["seed"] == 0)]
poor16 = poor16.set_index("control")["rmse"]
listed = {"c = 1": good16[0] / poor16["none"], "c = 4": good16[0] / poor16["rescaled"]}
own = seen["good"].plain[16, 0].rmse
live = {f"c = {c}": own / twins[c].plain[16, 0].rmse for c in (1, 4)}
near = good16.max() / good16.min() - 1
relative = table[(table["network"] == "little data") & (table["images"] == MANY)]
relative = relative[relative["seed"] == 0].set_index(["control", "rank"])
relative = relative["relative_error"]
falls = relative["rescaled"] / relative["none"] - 1
print(f"relative error of little data, c = 4: {falls.max():+.0%} to {falls.min():+.0%}")
pk.recheck("RMSE, good over poor", listed, live, relative=near, data=data)

# %% [markdown]
# ## How poor are the poor networks?
#
# *3 minutes.* This table is the only place of the chapter where labels are used, apart from training.

# %%
each = asis.drop_duplicates(["network", "seed"]).set_index(["network", "seed"])
hits = each["accuracy"].groupby(level=0, sort=False).agg(["min", "max"])
told = hits.map("{:.1%}".format).rename(columns="accuracy, {}".format)
sizes = each[["size of relu1", "size of relu2"]]
told.join(sizes.groupby(level=0, sort=False).agg(spread))

# %% [markdown]
# *Size* is the root mean square of the activations: mean and range over the seeds. That of `relu1` falls from *good* to *little data* to *untrained* in every seed; that of `relu2` depends on the seed for *little data*, which may be
# as large as in a good network. The network in class order is a
# special case: its training has driven `relu2` to zero for every image. A block of zeros
# gives one answer to everything. Of seed 0, here and in the table; each value may miss it by twice the range over the seeds of its kind. For
# *little data* that is so wide that next to nothing could miss it, since its seeds differ that much: there, read the figures.

# %% tags=["hide-input"]
first = each.xs(0, level="seed")
listed = {f"accuracy of {kind}": first["accuracy"][kind] for kind in nets}
listed |= {f"relu2 of {kind}": first["size of relu2"][kind] for kind in nets}
live = {f"accuracy of {kind}": facts[kind]["accuracy"] for kind in nets}
for kind, look in seen.items():
    live[f"relu2 of {kind}"] = look.last.square().mean().sqrt().item()
by_kind = each[["accuracy", "size of relu2"]].groupby(level="network")
room = 2 * (by_kind.max() - by_kind.min())
near = {f"accuracy of {kind}": room["accuracy"][kind] for kind in nets}
near |= {f"relu2 of {kind}": room["size of relu2"][kind] for kind in nets}
pk.recheck("accuracy, and size of relu2", listed, live, within=near, data=data)


# %% [markdown]
# ## Is it rank or is it scale?
#
# *10 minutes.* First the paper's curves {cite}`saini2018peek`: RMSE against rank. Bands run from the smallest to the largest value over the seeds.


# %% tags=["hide-input"]
def rank_curves(column, label):
    mean = asis.groupby(["rank", "network"])[column].mean().unstack()
    top = (mean["good"] > mean[POOR].max(axis=1)).sum()
    title = f"{label}: the good networks are on top at {top} of {len(RANKS)} ranks"
    words = {"title": title, "xlabel": "rank", "ylabel": label}
    figure = log_ranks(pk.plots.curves(asis, "rank", column, "network", **words))
    figure.axes[0].set_ylim(0, 1.4 * asis[column].max())
    kinds = ", ".join(f"{kind} {mean[kind].iloc[-1]:.2f}" for kind in KINDS)
    return pk.show(figure, f"{title}. Means at rank {RANKS[-1]}: {kinds}.")


rank_curves("rmse", "RMSE")

# %% tags=["hide-input"]
rank_curves("relative_error", "relative error")

# %% [markdown]
# One division, and the picture is another. The two errors are tied by an identity: RMSE = size × relative error, where size is the root mean square of all the
# data. So the logarithm of the ratio of two RMSEs is a sum of two, and the gap between two networks splits without a rest. If the parts point opposite ways, the larger makes more than 100 % of the gap:
#
# $$\log\frac{\text{RMSE}_1}{\text{RMSE}_2} = \log\frac{\text{size}_1}{\text{size}_2} + \log\frac{\text{relative error}_1}{\text{relative error}_2}$$

# %%
names = {"rmse": "RMSE", "size": "size", "relative_error": "relative error"}
logs = np.log(asis.set_index(["network", "seed", "rank"])[list(names)])
logs = logs.rename(columns=names)
gaps = pd.concat({kind: logs.loc["good"] - logs.loc[kind] for kind in POOR})
gaps = gaps.rename_axis(["network", "seed", "rank"]).reset_index()
rest = gaps["RMSE"] - gaps["size"] - gaps["relative error"]
print(f"the two parts miss the gap by {rest.abs().max():.0e} at most")

# %% tags=["hide-input"]
long = gaps.melt(["network", "seed", "rank"], list(names.values()), "part of", "value")
share = gaps.assign(share=gaps["size"] / gaps["RMSE"])
share = share.groupby(["network", "seed"], sort=False)["share"].mean()  # over ranks
title = (
    f"By kind and seed, size makes {share.min():.0%} to {share.max():.0%} of the gap"
)
with pk.plots.theme():
    figure, ax = pk.plots.canvas(height=3.6)
    how = {"palette": "viridis", "errorbar": ("pi", 100), "ax": ax}
    sns.barplot(long, x="value", y="network", hue="part of", **how)
    ax.axvline(0, color="black", linewidth=1)
    ax.set(title=title, ylabel="", xlabel="log of good over poor; 0: equal")
    ax.get_legend().remove()
    figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize=10)
    sns.despine(ax=ax)
parts = gaps.groupby("network", sort=False)[list(names.values())].mean()
words = "; ".join(
    f"{kind}: RMSE {row['RMSE']:.2f}, size {row['size']:.2f}, relative error {row['relative error']:.2f}"
    for kind, row in parts.iterrows()
)
pk.show(figure, f"{title}. Means over ranks and seeds of log ratios, {words}.")

# %%
share.groupby(level="network", sort=False).agg(lambda x: spread(x, ".0%")).rename(
    "size's share"
)

# %% [markdown]
# All of the gap to the untrained network is size, and to the one in class order a little more than all: there the relative error points the
# other way. That network has the lowest RMSE of all and the *highest* relative error. Its dead layers cost nothing, and what is left are pixels, which few
# components cannot draw well. Against *little data* it depends on the seed: size is none of the gap in one and most of it in another; the rest is relative error. That is not rank alone: the plain fits weigh pixels and layers by their size, so their relative error
# depends on it too.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# Take seed 0 and rank 16, *good* against *untrained*. Which share of the log ratio of their RMSEs is size?
#
# <details><summary>Hint</summary>The log ratio of sizes is that of the RMSEs minus that of the relative errors.</details>

# %%
ends = [seen[kind].plain[16, 0] for kind in ("good", "untrained")]
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
what = ["relative_error", "kkt", "converged"]
plain, unit = asis[["network", *what]], asis[["network", *(f"unit {w}" for w in what)]]
unit = unit.rename(columns=lambda name: name.removeprefix("unit "))
fits = pd.concat([plain.assign(blocks="plain"), unit.assign(blocks="unit norm")])
fits = fits.groupby(["blocks", "network"], sort=False)
kkt = fits.agg({"relative_error": "mean", "kkt": "max", "converged": "mean"})
kkt.style.format({"relative_error": "{:.3f}", "kkt": "{:.4f}", "converged": "{:.0%}"})

# %% [markdown]
# Mean error, largest residual, and the share of fits that stopped by their own rule: little progress, and a residual of at most 0.01. All did. The paper uses multiplicative updates
# {cite}`lee2001algorithms` and does not say when it stops. What would a fixed number of rounds do to the comparison? Our good network and *little data*, blocks of one norm, 50 rounds of `mu` beside `hals` run to
# the end and `auto`, which all scores of this page use.

# %%
WAYS = {
    "mu, 50 rounds": {"solver": "mu", "max_iter": 50, "tol": 0},
    "auto": pk.scores.FIT,
    "hals": {"solver": "hals", "max_iter": 300, "tol": 1e-5},
}
rows = []
for kind in ("good", "little data"):
    look = seen[kind]
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
ratios = ways.pivot(index=["way", "rank"], columns="network", values="relative_error")
ratios = (ratios["good"] / ratios["little data"]).groupby("way").mean()
tops = tops.join(ratios.rename("good over poor"))
tops.style.format({"excess": "{:.2f} %", "kkt": "{:.4f}", "good over poor": "{:.3f}"})

# %% [markdown]
# Largest excess and residual over ranks and networks, and the mean ratio of the two networks' errors. At a fixed budget `mu` is too high by an amount that grows with the rank and is
# *not the same for both networks*, so it shifts the curves against each other. The residual gives it away. Here the shift is small beside the gap (last column); it need not be at higher ranks. Every plain fit
# and every fit of one norm in the table has converged; of the fits to the answers it keeps no residual. (A small residual says that a fit has ended, not that it ended at the lowest minimum: see `hals`.)

# %% [markdown]
# ## Which block is it, and how low could its error be?
#
# *7 minutes.* An error has a floor: no factorization of rank $r$ does better than cutting off the singular values after the $r$-th
# {cite}`eckart1936approximation`. Here are the errors of each block, in the fits of one norm, and its floor.


# %%
columns = {"unit error": "error", "floor": "floor"}
parts = [
    asis[["network", "seed", "rank"]].assign(
        block=name, **{to: asis[f"{of} of {name}"] for of, to in columns.items()}
    )
    for name in ("input", "relu1", "relu2")
]
blocks = pd.concat(parts)

# %% [markdown]
# How such a floor is computed, for `relu2` of our good network, beside its error and the table's. The two may differ by as much as the seeds of the good network:


# %%
def floor(block, rank):
    """Relative error of the best approximation of that rank."""
    energy = pk.spectrum(block).square()
    return (energy[rank:].sum() / energy.sum()).sqrt().item()


listed = blocks[(blocks["block"] == "relu2") & (blocks["network"] == "good")]
listed = listed[listed["rank"] == 16].set_index("seed")[["error", "floor"]]
near = (listed.max() - listed.min()).max()
listed = listed.loc[0]
live = {"error": seen["good"].unit[16, 0].block_errors["relu2"]}
live["floor"] = floor(seen["good"].last, 16)
pk.recheck("relu2 of the good network at rank 16", listed, live, within=near, data=data)

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
entropy = each.filter(like="entropy rank of").rename(columns=lambda name: name[16:])
entropy = entropy.groupby(level=0, sort=False).mean().stack().rename("entropy rank")
entropy = entropy.rename_axis(["network", "block"]).swaplevel()
by_block = at16.join(entropy)
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
SCORES = scale.SCORES  # all that do not look at the weights
LIMIT, LEAST = 0.01, 0.05
ways = {1: "high", -1: "low"}
listed = {n: [s.family, ways[s.better], s.says] for n, s in SCORES.items()}
listed = pd.DataFrame(listed, index=["looks at", "better", "is"]).T
listed.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# And what do we expect? By construction, written down before any measurement, but for one line: that of `answers_alone_area` had been left at the default, and was corrected after a first run.
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
# The table has all scores of all networks, with all images and with 100, and those of the controls. Here are our good network's, beside its row. Each may miss it by twice the range of that score over the good network's seeds.


# %%
def scores_of(part):
    """Scores × (network, seed)."""
    one = part.drop_duplicates(["network", "seed"])
    return one.set_index(["network", "seed"])[list(SCORES)].T


plain = table[table["control"] == "none"]
standing = {
    count: scores_of(part[part["network"].isin(KINDS)])
    for count, part in plain.groupby("images", sort=False)
}
listed, live = standing[MANY]["good", 0], scale.measure(seen["good"])
of_good = standing[MANY]["good"]
near = 2 * (of_good.max(axis=1) - of_good.min(axis=1))
pk.recheck("scores of the good network", listed, live, within=near, data=data)

# %% [markdown]
# ## Who falls for the same function?
#
# *10 minutes.* Three networks of seed 0, and two twins of each; those of the good network are made here. Dead units: a network twice as wide, where every weight that the first does
# not have is zero.


# %%
def padded(model):
    """The same function, with as many units again that are always zero."""
    twin = pk.models.PaperCNN(width=2).requires_grad_(False)
    for new, old in zip(twin.parameters(), model.parameters()):
        new.zero_()[tuple(map(slice, old.shape))] = old
    return twin


for what, twin in (
    ("rescaled", rescaled(nets["good"], 4)),
    ("dead units", padded(nets["good"])),
):
    apart = pk.scores.observe(twin, probe).logits - seen["good"].logits
    print(f"{what}: answers differ by {apart.abs().max():.0e} at most")

# %% [markdown]
# The answers are the same: to the last bit for the rescaled twin, to rounding for the padded one. So are the blocks of one norm. And here is the third control, which breaks the
# function on purpose: it leaves pixels, outputs and every neuron's values alone, and deals these values out to other images, for each neuron in another way. (Spectra are of the *embedding*, what the last linear layer reads. In this network that is `relu2`.)


# %% tags=["hide-input"]
changed = table[(table["seed"] == 0) & table["network"].isin(scale.CONTROLLED)]
FEWER = f"{FEW} images"
values = {
    control: scores_of(part[part["images"] == MANY]).droplevel("seed", axis=1)
    for control, part in changed.groupby("control", sort=False)
}
own = values.pop("none")
values[FEWER] = standing[FEW].xs(0, axis=1, level="seed")[own.columns]
moves = {
    control: (one - own) / own.abs().clip(lower=1e-9) for control, one in values.items()
}
values, change = pd.concat(values, axis=1), pd.concat(moves, axis=1)


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
most = change.loc[exact, "rescaled"].abs().max(axis=None)
print(f"of those that were to stay, none changes by more than {most:.0e}")
moved

# %% [markdown]
# Grey is within 1 %. What was to stay, stays. The two errors of the plain fits move. Now the dead units.

# %% tags=["hide-input"]
moved = movers("dead units")
change_figure("dead units", f"Dead units: {len(moved)} of {len(SCORES)} scores move")

# %%
features = sum(map(len, (seen["good"].inputs | seen["good"].hidden).values()))
more = features + sum(map(len, seen["good"].hidden.values()))  # a dead unit for each
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
mine, target = (seen[kind].plain[16, 0].rmse for kind in ("good", "little data"))
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


twin, one = pk.scores.observe(uneven(nets["good"]), probe), seen["good"]
print(f"answers differ by {(twin.logits - one.logits).abs().max():.0e} at most")
for name in ("last_block_area", "rankme", "stable_rank", "answers_area"):
    before, later = (SCORES[name](look) for look in (one, twin))
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
print("do not see it:", ", ".join(blind))
print("see it, and call it better:", ", ".join(praised))

# %% [markdown]
# The second line deserves a pause. The paper's rule is: more rank, better trained. Here is a block whose neurons fire for random images. It has more rank than any other, and by every score on that line it
# comes from a better network than before. These scores measure how many directions are in use. That a trained network uses more of them than an untrained one is something we *observe*, and not what they measure.
#
# Two on the first line were to move. Why do they not?

# %%
relu2 = seen["good"].last
flat = len(probe) * relu2.mean(dim=1).square().sum() / relu2.square().sum()
good = standing[MANY]["good", 0]
first = 1 / scale.SCORES["stable_rank"](seen["good"])
print(f"relu2: the first singular direction holds {first:.0%} of the energy, ", end="")
print(f"the mean over the images {flat:.0%}")
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
def pairs_right(group, kind):
    """Share of (good, poor) pairs in which the good network scores better."""
    good, bad = (group[k].mul(better, axis=0).to_numpy() for k in ("good", kind))
    share = (good[:, :, None] > bad[:, None, :]).mean(axis=(1, 2))
    return pd.Series(share, group.index)


# %% tags=["hide-input"]
right = pd.DataFrame(
    {
        f"{kind}, {count}": pairs_right(group, kind)
        for kind in POOR
        for count, group in standing.items()
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
title = f"{FEWER}: {len(movers(FEWER))} of {len(SCORES)} scores move"
change_figure(FEWER, title)

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
        FEWER: few.mean(axis=1),
    }
)
shown.columns.tolist()

# %% [markdown]
# ### Exercise 4 ●●○ (10 minutes)
#
# Before you look: write the rule yourself, a function of a table like `shown`, scores × these five columns, that gives the names of
# the scores that stand, joined by blanks. The first three columns are how far a score moves, as a share; the last two are shares of pairs
# that it gets right.
#
# <details><summary>Hint</summary>One comparison for each column, joined by <code>&</code>; <code>" ".join(table.index[…])</code>.
# <code>LIMIT</code> and <code>LEAST</code> are the two limits.</details>

# %%
my_rule = None  # a function of a table
pk.check.left_standing(my_rule, shown, LIMIT, LEAST)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def rule(table):
    same = (table["rescaled"] <= LIMIT) & (table["dead units"] <= LIMIT)
    right = (table["all seeds"] == 1) & (table[FEWER] == 1)
    return " ".join(table.index[same & right & (table["permuted"] > LEAST)])


pk.check.left_standing(rule, shown, LIMIT, LEAST)
print(rule(shown))

# %%
passed = pd.DataFrame(
    {
        "rescaled": shown["rescaled"] <= LIMIT,
        "dead units": shown["dead units"] <= LIMIT,
        "permuted": shown["permuted"] > LEAST,
        "all seeds": shown["all seeds"] == 1,
        FEWER: shown[FEWER] == 1,
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
# ## Two kinds that are not in the rule
#
# *5 minutes.* A rule is as good as the networks in it. Two more kinds, three seeds of each: one is trained in *half* class order and is a little worse than the base. The other has learnt 1,000 images with *random labels* by heart
# {cite}`zhang2017understanding`: it was trained for long, and on test images it knows nothing.

# %%
HARD = ["half order", "random labels"]
good, scored = standing[MANY]["good"], scores_of(unchanged)[HARD]
asked = list(
    dict.fromkeys(["rmse_area", "unit_norm_area", *stand, "answers_area", *OUTPUTS])
)
told = unchanged.drop_duplicates(["network", "seed"]).set_index(["network", "seed"])
both = pd.concat([told[["accuracy"]].T, scores_of(unchanged)]).loc[["accuracy", *asked]]
both = both[["good", *HARD]].T.groupby(level=0, sort=False).agg(["min", "max"])
learnt = told.loc["random labels", "train_accuracy"]
print(f"random labels: {learnt.min():.0%} or more of the training labels learnt")
both.T.unstack().round(3)

# %%
least = good.mul(better, axis=0).min(axis=1)
above = scored.mul(better, axis=0).ge(least, axis=0)  # not below every good network
for kind in HARD:
    names = [f"{name} ({n})" for name, n in above[kind].sum(axis=1).items() if n]
    print(f"{kind}, in so many of {len(SEEDS)} seeds: {', '.join(names) or 'none'}")
below = list(above.index[~above.any(axis=1)])
print("below every good network in all cases:", ", ".join(below))
least = least["answers_area"] - scored.loc["answers_area"].groupby(level=0).max()
print(f"answers_area, half order: by {least['half order']:.4f} at least")

# %% [markdown]
# The one score left, `last_block_area`, puts the random labels above every good network, in all three seeds, and half order above some of them, in two. So do most others for the random labels: to learn 1,000 of them by heart takes many directions.
# Rank in the last layer is no property of good training. It is a property of having learnt to tell many things apart, right or wrong. Below the good ones in all cases are only three scores of the
# outputs, which say how sure the network is, and how evenly; and, for half order by next to nothing, `answers_area`.

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** The logarithm of the ratio of two RMSEs is all *size*. What do you know?
#
# - (a) The two RMSEs are equal.
# - (b) The two relative errors are equal.
# - (c) One network is better.
#
# <details><summary>Answer</summary>
#
# **(b)** RMSE = size × relative error, so the rest of the gap is the relative errors' ratio, here 1. (a) would be no
# gap. (c): size says nothing about answers, as rescaling shows.
#
# </details>
#
# **2.** Two networks are compared after 50 rounds of `mu` each. What do you check first?
#
# - (a) That both took the same time.
# - (b) How far either fit is from an end: its KKT residual, or what more rounds gain.
# - (c) That both started from the same seed.
#
# <details><summary>Answer</summary>
#
# **(b)** An error that still falls says as much about the solver as about the network. (a) is about computers. (c) is
# good practice, and does not make either fit arrive.
#
# </details>
#
# **3.** A score moves when neurons that never fire are added. What does that tell?
#
# - (a) The score is sensitive, which is good.
# - (b) The network has become worse.
# - (c) It depends on something that changes no answer: it is no measure of what a network has learnt.
#
# <details><summary>Answer</summary>
#
# **(c)** The function is the same, so a score of the function must be. (a) forgets to ask: sensitive to what? (b):
# its answers are the same to the last.
#
# </details>
#
# **4.** A score passes all four controls of this page. Is it a measure of good training?
#
# - (a) It has not failed yet: kinds of networks that were not in the rule, such as those with random labels, may
#   still fool it.
# - (b) Yes, that is what controls are for.
# - (c) No, since the limits were chosen by the authors.
#
# <details><summary>Answer</summary>
#
# **(a)** A test can refute. Here the score left standing takes networks that learnt random labels by heart for good
# ones. (b) makes a proof of survival. (c): the limits were fixed beforehand and said; that is how a test must begin.
#
# </details>

# %% [markdown]
# ## We saw
#
# - RMSE = size × relative error. The gap in RMSE to untrained and class-ordered networks is size, all of it; to networks with little data it depends on the seed, from none of it to most.
#   So: scale, for two kinds of three.
# - The RMSE orders all our good and poor networks, and follows any number you multiply the layers by, and any neuron that never fires. Neither changes an answer.
# - A score that divides by the size of each block cannot be moved by rescaling a layer (a factor for each channel still moves it). Of those, the error of the last block alone also sees structure, agrees over seeds and needs few images. It is the one
#   left standing: the last layer is where good and poor networks differ, in its floor as well as in its error.
# - It stands by our rule, and the rule is too kind: the score is wrong about random labels in all of three seeds, and about half class order in two of three. And like most scores of rank it prefers a permuted block to the network's own.
# - A fixed number of rounds of `mu` shifts networks against each other; the KKT residual shows it.
# - One architecture, one data set, three recipes for poor networks, three seeds: a test that a score can fail, and no proof of one that passes.
#
# What comes next: {doc}`14-a-score-without-labels` asks the same of the whole zoo, where scores can be wrong in more ways.
#
# References are in the {doc}`../book/bibliography`.
