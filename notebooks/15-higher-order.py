# %% [markdown]
# # Higher order: keep the height, the width and the channels
#
# *Flattening a layer forgets which neurons are neighbours. What does a factorization gain that does not forget, and what does it pay?*
#
# You know {doc}`02-coupled-nmf` and {doc}`07-how-shapes-travel`; symbols are in {doc}`../book/notation`. Allow 90 minutes to read and
# answer; the cells take about half a minute on a laptop CPU.

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
import warnings
from functools import cache

import numpy as np
import pandas as pd
import tensorly.decomposition as theirs
import torch

import peeklib as pk
from peeklib import zoo
from peeklib.course.studies import higher_order as study
from peeklib.tensors import coupled_ntf

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# Saini and Papalexakis flatten every layer: 10 channels of 12 × 12 neurons become a column of 1,440 numbers. They name tensors as the
# next step {cite}`saini2018peek`. This chapter takes it. The network is one of the zoo of {doc}`14-a-score-without-labels`: the paper's
# architecture, trained on 10,000 images for five epochs. Its accuracy
# comes from a *table of evidence*: a file of the package, made once (by `make zoo`; for later sections by `python book/evidence.py higher_order` and `python book/evidence.py libraries`) and the same for everybody. In the boxes
# headed *agrees* or *differs* one of its entries is computed again on the machine that ran this page ({doc}`../book/running`). The network is trained again here; it may miss the table by five times the spread over the table's seeds.

# %%
model, facts = study.rear(zoo.Recipe(data.name, "cnn"))
listed = zoo.find(pk.evidence.table("zoo"), zoo.Recipe("mnist", "cnn")).accuracy
near = {"within": 0.01}
pk.recheck("accuracy", listed, facts["accuracy"], **near, data=data)

# %%
RANKS, BASE = (study.RANKS, study.BASE) if full else ((2, 3), 3)
COUNT = study.COUNT if full else 100  # images in a fit
images, labels = (part[:COUNT] for part in data.test)
blocks = pk.input_blocks(images) | pk.record(model, images)
{name: tuple(block.shape) for name, block in blocks.items()}

# %% [markdown]
# Three models differ in nothing but the shape in which they are given a block. The images stay the last mode. (The input
# has one channel, so *channel × place* leaves it as it is.)

# %%
SHAPES = {
    "matrix": {"input": (784,), "relu1": (1440,), "relu2": (320,)},
    "channel × place": {"input": (784,), "relu1": (10, 144), "relu2": (20, 16)},
    "CP": {"input": (28, 28), "relu1": (10, 12, 12), "relu2": (20, 4, 4)},
}
MODELS = list(SHAPES)


def shaped(blocks, model):
    """The same numbers, each block in the shape that this model wants."""
    shapes = SHAPES[model]
    return {name: block.unflatten(0, shapes[name]) for name, block in blocks.items()}


@cache
def fit(model, rank):
    """From the start of seed 0, kept on disk."""
    return study.factorize(shaped(blocks, model), rank, **study.FIT)


# %% [markdown]
# The fits that you can touch are made here, from one start. Those from several come from the table. A fit made here may miss it by 3 %,
# twice what an error varies by from start to start.

# %%
results = pk.evidence.table("higher_order")  # a row for each setting and start
STARTS = results.seed.nunique()
minutes = pk.evidence.how("higher_order")["minutes"]
print(
    f"MNIST, {len(results)} fits, {STARTS} starts, {minutes:.0f} minutes on a busy machine"
)
print("all of it anew: pd.DataFrame(study.higher_order())")
near = {"relative": 0.03}

# %% [markdown]
# Move the sliders. Each small image is what a component looks like in pixels, for the 20 strongest. *Which model draws, and which one
# lays tiles, patches of rows times columns? What happens to the tiles if there are more of them?*


# %% tags=["hide-input"]
def draw(model, rank):
    found = fit(model, rank)
    error = found.block_errors["input"]
    title = f"{model}, rank {rank}: relative error of the input {error:.2f}"
    figure = pk.plots.latent_images(found, (28, 28), title=title)
    return figure, f"Components in pixels. {title}, {found.parameters:,} numbers."


axes = {"model": MODELS, "rank": range(1, 41)}
start = {"model": "CP", "rank": max(RANKS)}
pk.Explorer(axes, draw, prepared={"rank": RANKS}, start=start)

# %% [markdown]
# **You will be able to**
#
# - write down a coupled tensor factorization, and count its numbers;
# - say where the update of a mode comes from, and code the sums of one mode in a line;
# - compare two models at equal rank and at equal size, and say why these are different questions;
# - test with a permutation whether a model uses the layout of a layer.
#
# ## What is kept, and what is given up?
#
# *7 minutes.* A layer of images is a tensor with four modes: channel $c$, height $h$, width $w$, image $n$. The *CP* model (also PARAFAC)
# {cite}`kolda2009tensor` writes it as
#
# $$A_j[c,h,w,n] \approx \sum_{s=1}^r C_j[c,s]\, H_j[h,s]\, W_j[w,s]\, F[n,s], \qquad C_j, H_j, W_j, F \ge 0 .$$
#
# Coupled means, as before, that all blocks share $F$. Flatten both sides, and it is $A_j \approx O_j F^T$ once more, but a column of
# $O_j$ is no longer free: it is an outer product, one number for each channel times one for each row times one for each column. In the image
# a component is a *tile*, or several in rows and columns; in a layer it is that times a mix of channels. *Channel × place* is half-way: a mix of channels times a map of
# any form, the same map for all of them.
#
# CP is a special case of channel × place, and that of the matrix model: **at equal rank the best matrix model cannot be worse.** What the
# structure saves is numbers.


# %%
def length(model):
    """How many numbers a component takes, without its image factor."""
    return sum(sum(shape) for shape in SHAPES[model].values())


LENGTHS = {model: length(model) for model in MODELS}


def equal_size(model, rank, count=COUNT):
    """The rank at which `model` holds as many numbers as the matrix model at `rank`."""
    return round(rank * (length("matrix") + count) / (length(model) + count))


table = pd.DataFrame({"numbers per component, without F": LENGTHS})
for count in (100, 500, 10_000):
    ranks = {model: equal_size(model, 10, count) for model in MODELS}
    table[f"rank of equal size, {count:,} images"] = ranks
table

# %% [markdown]
# The first column is the dictionary: what a model has to keep to take in new images. The others count $F$ too, which takes a number per
# image and component in every model. The more images, the more $F$ outweighs the dictionary, and the less the structure saves.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# A matrix model has rank 8 and 300 images. How many components may the CP model have at the same size?
#
# <details><summary>Hint</summary>A component of either takes its numbers from the table, and 300 for F.</details>

# %%
my_rank = None
given = LENGTHS["matrix"], LENGTHS["CP"], 8, 300
pk.check.same_size(my_rank, *given)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
enough = 8 * (LENGTHS["matrix"] + 300) / (LENGTHS["CP"] + 300)
pk.check.same_size(round(enough), *given)
print(f"{enough:.1f} components")

# %% [markdown]
# ## How is it found?
#
# *8 minutes.* Hold all factors but one still, and the model is linear in that one: a non-negative least squares problem, as in chapter 2.
# The minimum over $C_j$ solves $G\,C_j^T = B$; HALS {cite}`cichocki2009fast` does it one component at a time, cut off at 0. So it needs $B$ and $G$. For $C_j$, with $T_j[s,c,h,w] = \sum_n A_j[c,h,w,n]\,F[n,s]$,
#
# $$B[s,c] = \sum_{h,w} T_j[s,c,h,w]\, H_j[h,s]\, W_j[w,s] \qquad\text{and}\qquad G = F^T F * H_j^T H_j * W_j^T W_j .$$
#
# $T_j$ is the one product with the data, and $C_j$, $H_j$ and $W_j$ share it {cite}`phan2013fast`. $F$ takes the other one, with the flattened $O_j$. So an
# iteration has two large products, as in the matrix model. `coupled_ntf` does this for tensors of any order; without
# structure it must agree with `coupled_nmf`.

# %%
ours = coupled_ntf(shaped(blocks, "matrix"), BASE, max_iter=20, tol=0)
known = pk.coupled_nmf(blocks, BASE, solver="hals", max_iter=20, tol=0)
print(f"{ours.relative_error:.6f} and {known.relative_error:.6f} after 20 iterations")

# %% [markdown]
# What does an iteration cost? Time as a multiple of the matrix model's at the same rank; the middle of three runs of ten iterations, here and now.

# %%
times = {}
for name in MODELS:
    for what, rank in (("equal rank", BASE), ("equal size", equal_size(name, BASE))):
        how = {"max_iter": 10, "tol": 0}
        runs = [
            coupled_ntf(shaped(blocks, name), rank, **how).seconds for _ in range(3)
        ]
        times[name, what] = sorted(runs)[1]
times = pd.Series(times).unstack(sort=False)
times = times / times.loc["matrix"]
times.round(1)

# %% [markdown]
# The large products are as many in every model; besides $F$, CP has eight small factors where the matrix model has three. At equal size CP pays for its many components.
#
# ### Exercise 2 ●●○ (8 minutes)
#
# Write $B$ for the channels: a function of `T` (rank × channels × height × width), `H` (height × rank) and `W` (width × rank).
#
# <details><summary>Hint</summary><code>torch.einsum</code>, with one letter for each mode and one for the
# component; the component stays.</details>

# %%
my_sum = None
pk.check.summed_along(my_sum)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def summed_along(T, H, W):
    return torch.einsum("schw,hs,ws->sc", T, H, W)


pk.check.summed_along(summed_along)

# %% [markdown]
# ## What can the libraries do?
#
# *5 minutes.* TensorLy {cite}`kossaifi2019tensorly` has non-negative CP of *one* tensor. So here is `relu2` alone, 20 × 4 × 4 × images, by both programs, from one random
# start each; and TensorLy's non-negative *Tucker* model, which has shorter factors and a core tensor
# that joins them.

# %%
X = shaped(blocks, "CP")["relu2"]
warnings.filterwarnings("ignore", module="tensorly")
mine = coupled_ntf({"relu2": X}, BASE, **study.PROGRAMS["ours"])
how = study.PROGRAMS["CP, TensorLy"] | {"random_state": 0, "return_errors": True}
other, errors = theirs.non_negative_parafac_hals(X.double().numpy(), BASE, **how)
live = {"CP, ours": mine.relative_error, "CP, TensorLy": float(errors[-1])}

ranks = list(study.TUCKER) if full else [3, 3, 3, 3]
how = study.PROGRAMS["Tucker, TensorLy"] | {"return_errors": True}
tucker, errors = theirs.non_negative_tucker_hals(X.double().numpy(), ranks, **how)
live["Tucker, TensorLy"] = float(errors[-1])

# %%
programs = pk.evidence.table("libraries")
programs["model, program"] = programs.model + ", " + programs.program
first = programs[programs.seed == 0].set_index("model, program").relative_error
pk.recheck("relative error of relu2 from one start", first, live, **near, data=data)

# %%
of = ["rank", "numbers", "relative_error"]
programs.groupby("model, program", sort=False)[of].min().round(4)

# %% [markdown]
# The best of five starts, from the table: both programs reach the same error. (Tucker's ranks are 8, 3, 3 and 10, from one start.) At about equal size it has a smaller error than CP: its core lets a component be more than one
# product. A coupled Tucker model would be the next to try; we did not.
#
# TensorLy can also couple, after Acar, Kolda and Dunlavy {cite}`acar2011all`: one tensor and one matrix, without the constraint. Here `relu1`, as channel × place, with
# the input.

# %%
A = shaped(blocks, "channel × place")["relu1"].permute(2, 0, 1)
D = blocks["input"].T
tensor, matrix, _ = theirs.coupled_matrix_tensor_3d_factorization(
    A.double().numpy(), D.double().numpy(), BASE, n_iter_max=5, init="svd"
)
named = ["F", "channels", "places", "pixels"]
factors = [*tensor.factors, matrix.factors[1]]
below = {name: (V < 0).mean() for name, V in zip(named, factors)}
print("negative entries:", ", ".join(f"{k} {share:.0%}" for k, share in below.items()))

# %% [markdown]
# A negative activation, or a pixel darker than black, means nothing, so this is another model. MatCoupLy
# {cite}`roald2023matcouply` couples any number of blocks, with constraints, but each block is a matrix: it could fit our matrix model, and not the
# other two. What neither offers (TensorLy 0.10, MatCoupLy 0.2, by their source) is all of it at once: several blocks, of different order,
# non-negative. Hence `coupled_ntf`.

# %% [markdown]
# ## What did we expect?
#
# *3 minutes.* Before the first fit we expected that
#
# 1. at equal rank CP would have the largest error and the matrix model the smallest (it must, up to local minima);
# 2. at equal size the order would depend on the number of images, and go over into that at equal rank as they grow;
# 3. with its pixels and places shuffled CP would be worse, the matrix model the same;
# 4. fitted to few images, the tensor models would do better on *new* images at equal rank, as they have less to overfit with;
# 5. different seeds would agree better on a CP model. CP is unique under mild conditions {cite}`kolda2009tensor`; NMF in general is not.
#
# Which model wins at equal size we did not know.
#
# ## Which model has the smaller error?
#
# *8 minutes.* At equal rank and at equal size, from the table.

# %%
plain = results[(results.images == 500) & (results.shuffle == "none")]
three = plain[plain.model.isin(MODELS)]
errors = three.groupby(["equal", "base", "model"], sort=False)["relative_error"]
spread = (errors.max() / errors.min() - 1).max()
print(f"from start to start an error varies by {spread:.1%} at most")

# %%
SHOWN = ["rank", "numbers", "relative_error"]
SHOWN += [f"error of {name}" for name in blocks]
mean = three[three.base == 10].groupby(["equal", "model"], sort=False)[SHOWN].mean()
mean.astype({"rank": int, "numbers": int}).round(3)

# %% [markdown]
# Relative errors, means over the starts: of all blocks together, and of each. At equal size from one start, here and in the table:

# %% tags=["hide-input"]
once = three[(three.seed == 0) & (three.base == 10) & (three.equal == "size")]
listed = once.set_index("model").relative_error
live = {name: fit(name, equal_size(name, BASE)).relative_error for name in MODELS}
pk.recheck("relative error at equal size", listed, live, **near, data=data)

# %% [markdown]
# Now all of them against size.

# %% tags=["hide-input"]
at = mean["relative_error"]["size"]
title = f"Equal size, 500 images: CP {at['CP']:.3f}, matrix {at['matrix']:.3f}"
shown = three.assign(thousand=three.numbers / 1000)
words = {"title": title, "xlabel": "thousand numbers, F included"}
words |= {"ylabel": "relative error, all blocks"}
figure = pk.plots.curves(shown, "thousand", "relative_error", "model", **words)
ax = figure.axes[0]
ax.set(xscale="log")
ticks = [3, 5, 10, 20, 50]
ax.set_xticks(ticks, labels=ticks)
ax.minorticks_off()
text = "Relative error against the number of numbers, for three models."
pk.show(figure, f"{text} {title}.")

# %% [markdown]
# Two surprises. For a given size CP does best and channel × place, which is closer to the matrix model, does worst. And at equal rank
# CP gives up little more than channel × place does: once channels and places are separated, splitting the places as well costs
# little.
#
# ## Which part of the structure pays?
#
# *5 minutes.* How many of a model's numbers describe the input, and how much does the input count in the error?

# %%
energy = {name: float(block.square().sum()) for name, block in blocks.items()}
counts = energy["input"] / sum(energy.values())
owned = {m: sum(SHAPES[m]["input"]) / LENGTHS[m] for m in MODELS}
owned = ", ".join(f"{m} {share:.0%}" for m, share in owned.items())
print(f"the input is {counts:.0%} of the sum of squares; of the dictionary: {owned}")

# %% [markdown]
# The fit cares little for the input, and channel × place spends most of its dictionary on it. So take the structure apart: tiles for the
# input alone, with free layers; and tiles for the input with channel × place in the layers. All at equal size.

# %%
MIXED = ["tiles, free layers", "tiles, channel × place"]
ten = plain[plain.base == 10].groupby(["equal", "model"], sort=False)[SHOWN].mean()
parts = ten.drop(columns="numbers").loc["size"].loc[[*MODELS, *MIXED]]
parts["at rank of matrix"] = ten["relative_error"]["rank"]
parts.astype({"rank": int}).round(3)

# %% [markdown]
# Tiles for the input alone go more than half the way from the matrix model to CP. They make the input *worse* and free numbers for the
# layers; at the matrix model's own rank (last column) they cost next to nothing. With channel × place in the layers too, next to nothing is left
# between this mixture and CP in the total. So a good part of what CP gains, it gains by sparing numbers where the objective hardly looks. Not all:
# CP has the smallest error of the input as well.
#
# ## What does the same error take?
#
# *3 minutes.* A third way to compare. How many CP components make up for the matrix model's?

# %%
curve = three[three.model == "CP"].groupby("rank")["relative_error"].mean()
goal = parts["relative_error"]["matrix"]
needed = float(np.interp(-goal, -curve.to_numpy(), curve.index))
same = pd.DataFrame({"rank": {"matrix": 10, "CP": needed}})
same["dictionary"] = [10 * LENGTHS["matrix"], needed * LENGTHS["CP"]]
same["numbers per image"] = same["rank"]
same.round(1)

# %% [markdown]
# Interpolated between the ranks we fitted. The dictionary shrinks, the description of an image grows.
#
# ### Exercise 3 ●●○ (7 minutes)
#
# These two models have the same error. At how many images do they hold the same number of numbers? (Take it that the ranks
# do not depend on the number of images.)
#
# <details><summary>Hint</summary>Write down the size of either as a line in the number of images; where do the lines
# meet?</details>

# %%
my_count = None
pair = (10, LENGTHS["matrix"]), (needed, LENGTHS["CP"])
pk.check.break_even(my_count, *pair)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
break_even = (10 * LENGTHS["matrix"] - needed * LENGTHS["CP"]) / (needed - 10)
pk.check.break_even(break_even, *pair)
print(f"{break_even:.0f} images")

# %% [markdown]
# ## Does it matter how many images there are?
#
# *8 minutes.* Fit more and more images, at the size of a matrix model of the same rank throughout. Then place 1,000 new images, which no
# fit has seen, with `transform`. The table has these errors for every fit; here is one of our own.


# %%
def new_error(found, model):
    """Relative error of the new images, placed in a fit."""
    F = found.transform(shaped(new, model))
    lost = [(new[b] - W @ F.T).square().sum() for b, W in found.factors.items()]
    return float((sum(lost) / sum(b.square().sum() for b in new.values())).sqrt())


unseen = data.test.images[2_000:3_000] if full else data.test.images[-100:]
new = pk.input_blocks(unseen) | pk.record(model, unseen)
growing = results[(results.base == 10) & (results.shuffle == "none")]
growing = growing[growing.model.isin(MODELS)]
one = growing[(growing.seed == 0) & (growing.images == 500) & (growing.equal == "rank")]
listed = one.set_index("model").new_error
live = {name: new_error(fit(name, BASE), name) for name in MODELS}
pk.recheck("error of new images at rank 10", listed, live, **near, data=data)

# %% tags=["hide-input"]
part = growing[growing.equal == "size"]
by_count = part.groupby(["images", "model"])["relative_error"].mean().unstack()
ahead = by_count.index[by_count["CP"] < by_count["matrix"]]
where = ", ".join(f"{c:,}" for c in ahead) or "none"
title = f"Equal size: CP ahead at {where} images"
words = {"title": title, "xlabel": "images in the fit"}
words |= {"ylabel": "relative error of these images"}
figure = pk.plots.curves(part, "images", "relative_error", "model", **words)
ax = figure.axes[0]
ax.set(xscale="log")
ax.set_xticks(study.COUNTS, labels=[f"{count:,}" for count in study.COUNTS])
ax.minorticks_off()
text = "Relative error of the fitted images at the size of a rank-10 matrix model."
pk.show(figure, f"{text} {title}.")

# %%
wide = growing.groupby(["equal", "images", "model"], sort=False)
wide = wide[["rank", "relative_error", "new_error"]].mean().sort_index()
wide["shown"] = [f"{f:.3f} → {n:.3f} (rank {r:.0f})" for r, f, n in wide.to_numpy()]
wide["shown"].unstack()[MODELS]

# %% [markdown]
# Error of the fitted images → error of the new ones. Matrix model and CP change places between the two counts next to the one you found in exercise 3; channel × place is last throughout. Equal size is a race that many images
# decide for the matrix model. The other rows hold the rank equal: there the matrix model is ahead on new images too, at every count.
# So the fourth expectation was wrong, and it is worth saying how far: the next table shows by how much the error of new images exceeds that of the fitted ones.

# %%
ratio = growing.new_error / growing.relative_error - 1
gap = growing[growing.equal == "rank"].assign(gap=ratio)
gap = gap.groupby(["images", "model"])["gap"].mean().unstack()[MODELS]
gap.map("{:.1%}".format)

# %% [markdown]
# The tensor models do overfit less, and of the two not always the smaller one least. But at equal rank they fit so much less that they never catch up. At equal size, from few images, CP is well ahead on new
# images, with a reservation: it then describes each of them by many more numbers.
#
# ## Is it the layout?
#
# *7 minutes.* A control. If CP gains because neighbours behave alike, it must lose when there are no neighbours any more. Shuffle the
# places of every block, in the same way in all its channels; or shuffle all neurons of a block among each other. The numbers stay
# the same, and so does every image's norm. A matrix model cannot notice either.

# %%
shuffles = results[(results.base == 10) & (results.images == 500)]
shuffles = shuffles[(shuffles.equal == "size") & shuffles.model.isin(MODELS)]
names = {"none": "as it is", "places": "places shuffled", "neurons": "neurons shuffled"}
control = shuffles.groupby(["model", "shuffle"])["relative_error"].mean().unstack()
control = control.loc[MODELS, list(names)].rename(columns=names)
control.round(3)

# %% [markdown]
# One of them here: the CP model, with the places shuffled.

# %% tags=["hide-input"]
moved = study.shuffled(blocks, "places", 0)
moved = shaped(moved, "CP")
found = study.factorize(moved, equal_size("CP", BASE), **study.FIT)
first = shuffles[(shuffles.seed == 0) & (shuffles.model == "CP")]
listed, live = (
    first.set_index("shuffle").relative_error,
    {"places": found.relative_error},
)
pk.recheck("CP with places shuffled", listed, live, **near, data=data)

# %% tags=["hide-input"]
lost = control.div(control["as it is"], axis=0) - 1
tidy = lost.iloc[:, 1:].mul(100).rename_axis(columns="shuffle").stack()
tidy = tidy.rename("more").reset_index()
tidy["shuffle"] = tidy["shuffle"].str.removesuffix(" shuffled")
cp, still = lost.loc[["CP", "matrix"], "places shuffled"]
title = f"Shuffle the places: CP {cp:+.0%}, matrix model {still:+.1%}"
figure, ax = pk.plots.canvas(height=3, title=title)
for k, (what, group) in enumerate(tidy.groupby("shuffle", sort=False)):
    at = np.arange(len(group)) + 0.4 * k - 0.2
    bars = {"width": 0.38, "label": f"{what} shuffled", "hatch": ["", "//"][k]}
    ax.bar(at, group.more, color=["#4477aa", "#ddaa33"][k], edgecolor="black", **bars)
ax.set_xticks(range(len(MODELS)), labels=MODELS)
ax.set(xlabel="model, all of equal size", ylabel="change of the error (%)")
ax.legend(frameon=False, fontsize=10)
ax.spines[["top", "right"]].set_visible(False)
pk.show(figure, f"Change of the relative error under two shuffles. {title}.")

# %% [markdown]
# CP loses its lead: with shuffled places it falls behind the matrix model of the same size, with as many components as before. Shuffled neurons take the common map of the channels away as well, and channel × place loses, too. The
# models that do not know what was shuffled are not concerned, up to the local minimum they end in. So CP lives on the layout.
#
# ## What do the components look like?
#
# *8 minutes.* Follow one component of each model at equal size, as in chapter 7: what it is in pixels, which classes load on it, where it sits in a layer.
# *Matrix: which channels of `relu1` take the bar of a stroke, and which the stem? Channel × place: what is alike in all channels? CP: can you see the tile?*


# %% tags=["hide-input"]
def follow(model, layer, component):
    rank = equal_size(model, BASE)
    title = f"{model}, rank {rank}: component {component}"
    what = {"maps": study.MAPS[layer], "images": images, "labels": labels}
    found = fit(model, rank)
    figure = pk.plots.journey(found, layer, component, title=title, **what)
    maps = found.factors[layer][:, component - 1].reshape(study.MAPS[layer])
    share = maps.flatten(1).sum(1) / maps.sum()
    alt = f"{title}. In {layer} its strongest channel holds {share.max():.0%} of its loading."
    return figure, alt


axes = {"model": MODELS, "layer": ["relu1", "relu2"], "component": range(1, BASE + 1)}
prepared = {"component": [1, 4] if full else [1, 2]}
pk.Explorer(axes, follow, prepared=prepared, start={"model": "CP"})

# %% [markdown]
# How near was the matrix model to this structure by itself? The largest squared singular value of a column, laid out as a table, over the sum of all:
# 1 if it is an outer product. For comparison the same column with its entries shuffled.

# %%
LAYOUT = {"input": (28, 28), "relu1": (10, 144), "relu2": (20, 16)}


def one_product(columns, shape):
    values = torch.linalg.svdvals(columns.T.unflatten(1, shape)).square()
    return float((values[:, 0] / values.sum(1)).mean())


rows = {}
for name, shape in LAYOUT.items():
    W = fit("matrix", max(RANKS)).factors[name]
    order = torch.randperm(len(W), generator=torch.Generator().manual_seed(0))
    row = {"as": "rows × columns" if name == "input" else "channel × place"}
    rows[name] = row | {
        "share of one product": one_product(W, shape),
        "shuffled": one_product(W[order], shape),
    }
pd.DataFrame(rows).T

# %% [markdown]
# About a half to three quarters: far above chance, far below 1. A free component has neither one map for all channels nor a map that is a tile. The
# structure is an approximation, bought for its size.
#
# Last, do starts agree? Match the components of two starts by the correlation of their columns of $F$, and take the mean; from the table, each start with the next.


# %%
pairs = three[three.base == 10].groupby(["model", "equal"], sort=False)["agreement"]
pairs = pairs.agg(["min", "max"])
told = [f"{low:.2f} to {high:.2f}" for low, high in pairs.to_numpy()]
told = pd.Series(told, pairs.index).unstack(sort=False)
told.rename(columns="equal {}".format)

# %% [markdown]
# CP's starts agree no better than the others': the ranges overlap, at equal rank and at equal size (where CP has more components, so that it is harder to). A possible
# reason: uniqueness concerns the exact decomposition of a tensor that has one, and here half of the norm is left unexplained.

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** A layer has 10 channels of 12 × 12. How many numbers describe one component there, in the matrix model and in
# CP?
#
# - (a) 1,440 and 34
# - (b) 1,440 and 1,440
# - (c) 154 and 34
#
# <details><summary>Answer</summary>
#
# **(a)** A free column has $10 \cdot 12 \cdot 12$ numbers; CP has $10 + 12 + 12$. (b) forgets that an outer product
# is made of its parts. (c) takes channel × place for the matrix model: 154 is $10 + 144$.
#
# </details>
#
# **2.** Why can the best CP model not have a smaller error than the best matrix model of equal *rank*?
#
# - (a) Every CP model is a matrix model whose columns happen to be outer products.
# - (b) CP has worse solvers.
# - (c) It has more numbers.
#
# <details><summary>Answer</summary>
#
# **(a)** The best of all is at least as good as the best of some. (b) may be true of a given fit and is no reason for
# the best ones. (c): it has fewer.
#
# </details>
#
# **3.** Equal rank or equal size: which comparison is the right one?
#
# - (a) Both: they answer different questions.
# - (b) Equal size.
# - (c) Equal rank.
#
# <details><summary>Answer</summary>
#
# **(a)** At equal rank one asks what structure costs; at equal size what it buys. (c) alone forgets that CP holds
# fewer numbers; (b) alone, that $F$ grows with the images in every model.
#
# </details>
#
# **4.** You shuffle the places of every block. Which model must not notice?
#
# - (a) CP
# - (b) Both
# - (c) The matrix model
#
# <details><summary>Answer</summary>
#
# **(c)** It never knew which neurons were neighbours: permuted rows of $A$ are permuted rows of $O$. (a) and so (b):
# an outer product of rows and columns needs the layout, and that CP loses without it is the evidence that it uses it.
#
# </details>

# %% [markdown]
# ## We saw
#
# - Of our five expectations two held: the order at equal rank, and the harm of shuffled places. One held in part: the matrix model overtakes CP as
#   images grow, but up to 2,000 of them CP stays ahead of channel × place. One was wrong (new images at equal rank), and one not borne out (agreement of seeds).
# - What the structure buys is a small dictionary: the error of ten free components with a fraction of their dictionary, and
#   more numbers for each image. It pays from few images, and stops paying near the count of exercise 3.
# - It does not buy better components. At equal rank every structure has a larger error, on new images too, though it overfits less.
#   A free component is a drawing, with a map of its own in each channel; one of CP is a tile.
# - The lead of CP rests on the layout: shuffle the places, and it is gone. A good part of it is the input, which takes many
#   numbers and counts little.
# - One small network, small maps, plain digits, all blocks weighted alike, and one solver, which stops at a local minimum. Digits consist of
#   upright and level strokes more than other images do.
#
# What comes next: {doc}`../book/ledger`, where all claims of the two studies stand side by side. References are in the {doc}`../book/bibliography`.
