# %% [markdown]
# # Deeper, and in colour
#
# *Five convolutions instead of two, three colours instead of one: does the pattern of the last chapter persist?*
#
# You know {doc}`03-how-much-training`. Allow 55 minutes to read and answer; the chapter runs for less than a minute on
# a laptop CPU.

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
import pandas as pd
import torch

import peeklib as pk

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("cifar10", fallback=True)
data

# %% [markdown]
# Saini and Papalexakis {cite}`saini2018peek` report that their pattern persists on a small AlexNet
# {cite}`krizhevsky2012imagenet`, trained on CIFAR-10 {cite}`krizhevsky2009learning` and on MNIST; their Figure 6 shows CIFAR-10. That
# takes many networks, so numbers of several seeds come from a *table of evidence*: a file of the package, made once (by
# `python book/evidence.py alexnet`) and the same for everybody. In the boxes headed *agrees* or *differs* one of its entries is computed
# again on the machine that ran this page ({doc}`../book/running`).

# %%
table = pk.evidence.table("alexnet")
names = {
    ("cifar10", "tuned"): "CIFAR-10",
    ("mnist", "tuned"): "MNIST",
    ("cifar10", "paper"): "CIFAR-10, slow",
}
table["network"] = [names[key] for key in zip(table.data, table.recipe)]
table["training"] = [f"{fraction:.0%}" for fraction in table.fraction]
LABELS, RANKS = list(table.training.unique()), sorted(table["rank"].unique())
print(
    f"{len(table)} fits of {len(table) // len(RANKS)} networks, {table.seed.nunique()} seeds"
)

# %% [markdown]
# Move the sliders. *In which layers does the error grow with the amount of training data, and in which does it not?
# Is it the same on MNIST?* The network *slow* was trained at the learning rate of chapter 3, which is too low for it. Of the three colours the slider shows green.


# %% tags=["hide-input"]
def rising(part, measure):
    """At how many ranks does the mean over the seeds rise with the data?"""
    means = part.groupby(["rank", "training"], sort=False)[measure].mean().unstack()
    return int((means[LABELS].diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum())


# %% tags=["hide-input"]
def rank_curves(network, measure, label):
    part = table[table.network == network].dropna(axis=1, how="all")
    count = rising(part, measure)
    text = f"{network}: {label} rises with the data at {count} of {len(RANKS)} ranks"
    figure = pk.plots.curves(
        part, "rank", measure, "training", title=text, xlabel="rank", ylabel=label
    )
    return figure, f"{label} against rank for four amounts of training data. {text}."


def draw(network, block):
    pixels = "error of input" if network == "MNIST" else "error of input.green"
    measures = {"all": "relative_error", "pixels": pixels}
    measure = measures.get(block, f"error of {block}")
    return rank_curves(network, measure, f"error of {block}")


BLOCKS = ["all", "pixels", "relu1", "relu2", "relu3", "relu4", "relu5"]
pk.Explorer({"network": list(names.values()), "block": BLOCKS}, draw)

# %% [markdown]
# **You will be able to**
#
# - write a colour image as three blocks, and a component as a colour image;
# - say how much of the paper's pattern persists in a deeper network, layer by layer;
# - check a published table by recomputing one of its cells.
#
# ## What does the network look like?
#
# *5 minutes.* `CifarAlexNet` takes 3×32×32 images through five convolutions, each followed by a ReLU, and three max-pools, to one
# linear layer. A colour image gives three input blocks, $D_0$, $D_1$, $D_2$: one for each colour. All blocks share
# the same image factor, whatever their number.

# %%
chosen = torch.randperm(
    len(data.test.images), generator=torch.Generator().manual_seed(0)
)
chosen = chosen[: 5_000 if full else 500]
test = pk.Split(data.test.images[chosen], data.test.labels[chosen])
untrained = pk.models.CifarAlexNet(3)
blocks = pk.input_blocks(test.images) | pk.record(untrained, test.images)
pd.DataFrame(
    {name: {"rows": len(b), "images": b.shape[1]} for name, b in blocks.items()}
)

# %% [markdown]
# Images of MNIST get a border of two black pixels on each side, so that they are 32×32 too.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# How many features, rows of the stacked matrix, would the same network have for 3×64×64 images? The first
# convolution has stride 4, each of the max-pools halves.
#
# <details><summary>Hint</summary>Every map is twice as high and twice as wide; the number of channels stays.</details>

# %%
my_features = None
pk.check.alexnet_features(my_features)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
features = 4 * sum(len(block) for block in blocks.values())
pk.check.alexnet_features(features)
print(features)

# %% [markdown]
# ## Does one epoch teach it?
#
# *5 minutes.* The paper gives no learning rate and no accuracy for this network. With the recipe of chapter 3 (learning
# rate 0.01, momentum 0.5) one epoch leaves it where it started. So we tried three more settings, momentum 0.9 at the rates 0.01, 0.02
# and 0.05, with one seed on all data, and kept the one with the highest test accuracy, 0.02, before any factorization. The
# verdict below depends on that choice. The table was made on images of CIFAR-10 that had been stored as JPEG. Means
# and ranges over the seeds:

# %%
nets = table.drop_duplicates(["network", "training", "seed"])
accuracy = nets.groupby(["network", "training"], sort=False).accuracy
accuracy.agg(lambda x: f"{x.mean():.1%} ({x.min():.1%} to {x.max():.1%})").unstack()[
    LABELS
]

# %% [markdown]
# On CIFAR-10 a network that has seen a quarter of the data once is still close to guessing, which is 10 %.
#
# ## Does the pattern persist?
#
# *10 minutes.* This is the paper's Figure 6: RMSE against rank on CIFAR-10. Bands run from the smallest to the
# largest value over the seeds.

# %% tags=["hide-input"]
pk.show(*rank_curves("CIFAR-10", "rmse", "RMSE"))

# %% tags=["hide-input"]
pk.show(*rank_curves("CIFAR-10", "relative_error", "relative error"))


# %%
def persists(claim, network):
    part = table[table.network == network]
    measures = {"rmse": "RMSE", "relative_error": "relative error"}
    counts = {m: rising(part, m) for m in measures}
    at30 = part[part["rank"] == 30].groupby("training", sort=False)[list(measures)]
    numbers = "; ".join(
        f"{label} rises at {counts[m]} of {len(RANKS)} ranks, at rank 30 "
        + ", ".join(f"{value:.3f}" for value in at30.mean()[m][LABELS])
        for m, label in measures.items()
    )
    return pk.judge(
        claim,
        [counts[m] == len(RANKS) for m in measures],
        f"mean of {part.seed.nunique()} seeds at {', '.join(LABELS)} of the data: {numbers}",
        chapter="04-deeper-and-in-colour",
        data=None,
    )


persists("figure-6", "CIFAR-10")

# %% tags=["hide-input"]
pk.show(*rank_curves("MNIST", "rmse", "RMSE"))

# %%
persists("alexnet-mnist", "MNIST")

# %% [markdown]
# The paper says that all its observations persist, and shows no spectra of this network. Does the entropy rank of the last layer rise?

# %%
ranks = table.drop_duplicates(["network", "training", "seed"])
ranks = ranks.set_index(["network", "seed", "training"])["entropy rank of relu5"]
ranks = {name: ranks[name].unstack()[LABELS] for name in ("CIFAR-10", "MNIST")}
pk.judge(
    "alexnet-spectra",
    [(part.diff(axis=1).iloc[:, 1:] > 0).all(axis=None) for part in ranks.values()],
    f"entropy rank of relu5 at {', '.join(LABELS)} of the data, mean of {len(ranks['MNIST'])} seeds: "
    + "; ".join(
        f"{name} " + ", ".join(f"{value:.1f}" for value in part.mean())
        for name, part in ranks.items()
    ),
    chapter="04-deeper-and-in-colour",
    data=None,
)

# %% [markdown]
# In every layer, and in the pixels, the error rises at most ranks (see the first slider); in all of them together it does not.
# With a quarter of the data the activations are small, the pixels weigh more, and pixels are explained worst:

# %%
quarter = table[(table.network == "MNIST") & (table["rank"] == 30)]
energy = (quarter.rmse / quarter.relative_error) ** 2
energy.groupby(quarter.training, sort=False).mean().to_frame(
    "mean square of all entries"
).T.round(3)

# %% [markdown]
# And where the network learnt nothing, at the low learning rate?

# %% tags=["hide-input"]
pk.show(*rank_curves("CIFAR-10, slow", "rmse", "RMSE"))

# %% [markdown]
# There the curves lie on top of each other. Its *relative* error, the first slider of this page, even falls with the data.
# The next table shows the same in the dimension of the layers.
#
# ## In which layers?
#
# *5 minutes.* The entropy rank of every layer, mean over the seeds. The last row of each network is the change from the
# least to the most data.

# %% tags=["hide-input"]
LAYERS = [f"relu{k}" for k in range(1, 6)]
columns = {f"entropy rank of {name}": name for name in LAYERS}
by_layer = nets.rename(columns=columns).groupby(["network", "training"], sort=False)
by_layer = by_layer[LAYERS].mean()
change = {
    (network, "change"): by_layer.loc[network].iloc[-1] / by_layer.loc[network].iloc[0]
    - 1
    for network in names.values()
}
both = pd.concat(
    [by_layer.map("{:.0f}".format), pd.DataFrame(change).T.map("{:+.0%}".format)]
)
both.loc[list(names.values())]

# %% [markdown]
# And before any training? A small table, `untrained`, has the same layers of three networks as they start. Nothing is trained there,
# so a machine can differ by rounding only, and 1 % is ample.

# %%
fresh = pk.evidence.table("untrained").pivot(index="seed", columns="layer")
fresh = fresh["entropy rank"][LAYERS]
fresh.mean().map("{:.0f}".format).to_frame("CIFAR-10, untrained").T

# %%
again = {name: pk.effective_rank(blocks[name]) for name in LAYERS[3:]}
pk.recheck("entropy rank, untrained", fresh.loc[0], again, relative=0.01, data=data)

# %% [markdown]
# An untrained network is not of low rank. Beside it, networks that saw a quarter or half of CIFAR-10 have a *lower* rank in
# every layer. From half to three quarters to all of the data the rank rises in every layer; from a quarter to half it does so in `relu1` and
# `relu2`, and falls a little in the layers behind. In the slow network, which has learnt nothing, the rank of
# `relu1` to `relu4` is lower the more steps it took. So "the poorer, the lower the rank" holds for networks that have left the
# start behind, in the deep layers not even for all of those; an untrained network is poorer than all of them, and higher in every layer than those with a quarter or half of the data.
#
# ## Does the table tell the truth?
#
# *5 minutes.* We train one of its networks again, the one that saw half of the data, seed 0, and factorize it
# at three ranks. (All of the table is `python book/evidence.py alexnet`, or `pd.DataFrame(studies.alexnet())` after
# `from peeklib.course import studies`; it took an hour and a half.) Training is chaotic: another processor rounds differently, and after some hundred steps the weights
# differ. So both errors may miss the table by 10 %, which is more than the three seeds differ by, and less than the distance in RMSE
# to the networks with a quarter and three quarters of the data.

# %%
train, rank_sweep = pk.cached(pk.train), pk.cached(pk.rank_sweep)
part = pk.subset(data, fraction=0.5, seed=0)
model = pk.models.CifarAlexNet(3, seed=0)
model = train(model, *part, seed=0, lr=0.02, momentum=0.9).model
blocks = pk.input_blocks(test.images) | pk.record(model, test.images)
SHOWN = (10, 20, 30) if full else (5, 10)
how = {"solver": "auto", "max_iter": 60, "tol": 1e-3}
sweep = rank_sweep(blocks, SHOWN, [0], **how)

# %%
rows = (table.network == "CIFAR-10") & (table.training == "50%") & (table.seed == 0)
listed = table[rows & (table["rank"] == 10)].iloc[0]
now = f"{pk.accuracy(model, *test):.1%}"
print(f"test accuracy: table {listed.accuracy:.1%}, here {now}")
again = {name: getattr(sweep[10, 0], name) for name in ("rmse", "relative_error")}
pk.recheck("half of the data, rank 10", listed, again, relative=0.1, data=data)

# %% [markdown]
# ### Exercise 2 ●●○ (5 minutes)
#
# How narrow may a tolerance be? The other seeds of the table are what honest repetitions give. What is the smallest
# relative tolerance, a share of the listed value, under which the RMSE of every other seed would agree with that of
# seed 0? Is it less than the 10 % above?
#
# <details><summary>Hint</summary><code>seeds.drop(0)</code> leaves the other seeds. The one that misses by most decides.</details>

# %%
same = table[(table.network == "CIFAR-10") & (table.training == "50%")]
seeds = same[same["rank"] == 10].set_index("seed").rmse
my_tolerance = None  # a share, such as 0.1
pk.check.smallest_tolerance(my_tolerance, seeds)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
tolerance = ((seeds.drop(0) - seeds[0]).abs() / seeds[0]).max()
pk.check.smallest_tolerance(tolerance, seeds)
print(f"{tolerance:.1%}")

# %% [markdown]
# Its components, in colour: the three blocks $P_0$, $P_1$, $P_2$ of each, together. *Which of them are colours, and which are
# shapes? What does a higher rank add?*


# %% tags=["hide-input"]
def colours(rank):
    fit = sweep[rank, 0]
    text = f"rank {rank}, relative error {fit.relative_error:.3f}"
    figure = pk.plots.latent_images(fit, (32, 32), title=f"Components: {text}")
    return figure, f"{rank} components as colour images at most, {text}."


pk.Explorer({"rank": SHOWN}, colours)

# %% [markdown]
# ### Exercise 3 ●●○ (10 minutes)
#
# Make the strongest component of the first fit above a colour image yourself: height × width × 3, divided by its largest value.
#
# <details><summary>Hint</summary>Take column 0 of each of the three input blocks, and
# <code>torch.stack(…, dim=-1)</code>. Pixels were flattened row by row.</details>

# %%
fit = sweep[SHOWN[0], 0]
my_image = None
pk.check.colour_image(my_image, fit)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
planes = [fit.factors[f"input.{name}"][:, 0] for name in ("red", "green", "blue")]
image = torch.stack(planes, dim=-1).reshape(32, 32, 3)
image = image / image.max()
pk.check.colour_image(image, fit)

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** Images have three colours. How many image factors does the coupled model have?
#
# - (a) Three, one a colour.
# - (b) One.
# - (c) One for each block, layers included.
#
# <details><summary>Answer</summary>
#
# **(b)** All blocks have the same images, so they share $F$; each *block* has its own tall factor. (a) and (c)
# confuse the two: with a factor $F$ for each block nothing would be coupled.
#
# </details>
#
# **2.** You compute one cell of a published table again, and miss it by a few per cent. What decides whether the two
# agree?
#
# - (a) Whether the miss is smaller than what other seeds of the same recipe differ by.
# - (b) Whether the digits are the same.
# - (c) Whether the order of the table's rows survives.
#
# <details><summary>Answer</summary>
#
# **(a)** Training is chaotic: another processor is as good as another seed, so honest repetitions set the scale. (b)
# asks for more than the table's authors could do on a second machine. (c) is another question, and can hold or fail
# for reasons that have nothing to do with this cell.
#
# </details>
#
# **3.** True or false: if the rank rises with training in every network that has learned something, an untrained
# network has the lowest of all.
#
# - (a) True
# - (b) False
#
# <details><summary>Answer</summary>
#
# **(b)** Nothing carries the order over to a network that was never trained: random weights spread activations over
# many directions, as the table `untrained` of this chapter shows. (a) extends a pattern beyond the networks in which
# it was seen.
#
# </details>
#
# **4.** The error of all blocks together does not rise with the data, though that of each block does. How can that
# be?
#
# - (a) The blocks' shares in the sum change: where activations are small, the badly explained pixels count for more.
# - (b) A mistake: a sum rises if its parts do.
# - (c) The ranks were chosen too low.
#
# <details><summary>Answer</summary>
#
# **(a)** The error of the whole divides by the size of the whole, so it is a *weighted* mean, and training changes
# the weights. (b) is true of sums, not of weighted means. (c): a higher rank lowers all errors and leaves the weights
# as they are.
#
# </details>

# %% [markdown]
# ## We saw
#
# - On CIFAR-10, at the learning rate that we chose, the paper's Figure 6 comes back: RMSE rises with the data at every rank, and
#   so does the relative error. At the learning rate of chapter 3 it does not: nothing is learnt.
# - On MNIST the RMSE rises with the data as long as the accuracy does; where that flattens, so does the RMSE. The relative error does not
#   rise in order.
# - A network that has learnt nothing yet has a higher rank than one that has learnt a little.
#
# References are in the {doc}`../book/bibliography`.
