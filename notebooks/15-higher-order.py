# %% [markdown]
# # Higher order: keep the height, the width and the channels
#
# [![Open in Colab](../book/_static/colab.svg)](https://colab.research.google.com/github/OWNER/peek/blob/main/notebooks/15-higher-order.ipynb)
#
# *Flattening a layer forgets which neurons are neighbours. What does a factorization gain that does not forget, and what does it pay?*
#
# You know {doc}`02-coupled-nmf` and {doc}`07-how-shapes-travel`; symbols are in {doc}`../book/notation`. Allow 80 minutes to read and
# answer; the cells take about a minute and a half on a laptop CPU.

# %% tags=["remove-cell"]
import sys

if (
    "google.colab" in sys.modules
):  # Colab keeps its own torch and numpy; this adds peeklib and tensorly
    get_ipython().run_line_magic(  # noqa: F821
        "pip", "install -q git+https://github.com/OWNER/peek tensorly"
    )

# %%
import warnings
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import tensorly.decomposition as theirs
import torch
from scipy.optimize import linear_sum_assignment
from tqdm.auto import tqdm

import peeklib as pk
from peeklib import zoo
from peeklib.tensors import coupled_ntf

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
recipe = zoo.Recipe(data.name, "cnn")
told = full and data.name == "mnist"  # what the text says is asserted there
data

# %% [markdown]
# Saini and Papalexakis flatten every layer: 10 channels of 12 × 12 neurons become a column of 1,440 numbers. They name tensors as the
# next step {cite}`saini2018peek`. This chapter takes it. The network is one of the zoo of {doc}`14-a-score-without-labels`: the paper's
# architecture, trained on 10,000 images for five epochs. It is trained again here, beside what its table says of it.

# %%
model, facts = zoo.rear(recipe)
listed = zoo.find(pk.evidence.table("zoo"), recipe)
assert abs(facts["accuracy"] - listed.accuracy) < 0.01
print(f"accuracy {facts['accuracy']:.3f}, in the table {listed.accuracy:.3f}")

# %%
COUNT, NEW = (500, 1_000) if full else (100, 200)  # images to fit, and new ones
COUNTS = (200, 500, 1_000, 2_000) if full else (40, 100)
RANKS, BASE = ((5, 10, 15), 10) if full else ((2, 3), 3)
SEEDS = range(3 if full else 2)
images, labels = (part[: max(COUNTS) + NEW] for part in data.test)
blocks = pk.input_blocks(images) | pk.record(model, images)
new = {name: block[:, -NEW:] for name, block in blocks.items()}
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
MODELS, factorize = list(SHAPES), pk.cached(coupled_ntf)


def shaped(blocks, model):
    """The same numbers, each block in the shape that this model wants."""
    shapes = SHAPES[model]
    return {name: block.unflatten(0, shapes[name]) for name, block in blocks.items()}


@cache
def fit(model, rank, count=COUNT, seed=0):
    few = {name: block[:, :count].contiguous() for name, block in blocks.items()}
    return factorize(shaped(few, model), rank, seed=seed)


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
for count in (100, COUNT, 10_000):
    ranks = {model: equal_size(model, BASE, count) for model in MODELS}
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
few = {name: block[:, :COUNT].contiguous() for name, block in blocks.items()}
ours = coupled_ntf(shaped(few, "matrix"), BASE, max_iter=20, tol=0)
known = pk.coupled_nmf(few, BASE, solver="hals", max_iter=20, tol=0)
assert np.allclose(ours.history, known.history, rtol=1e-5)
print(f"{ours.relative_error:.6f} and {known.relative_error:.6f} after 20 iterations")

# %% [markdown]
# What does an iteration cost? Time as a multiple of the matrix model's at the same rank; the middle of three runs of ten iterations, here and now.

# %%
times = {}
for name in MODELS:
    for what, rank in (("equal rank", BASE), ("equal size", equal_size(name, BASE))):
        how = {"max_iter": 10, "tol": 0}
        runs = [coupled_ntf(shaped(few, name), rank, **how).seconds for _ in range(3)]
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
# *5 minutes.* TensorLy {cite}`kossaifi2019tensorly` has non-negative CP of *one* tensor. So here is `relu2` alone, 20 × 4 × 4 × images, by both programs, from random
# starts, the best of all seeds; and TensorLy's non-negative *Tucker* model, which has shorter factors and a core tensor
# that joins them.

# %%
X, rows = shaped(few, "CP")["relu2"], []
how = {"n_iter_max": 200, "tol": 1e-6, "init": "random", "return_errors": True}
warnings.filterwarnings("ignore", module="tensorly")
for seed in SEEDS:
    mine = coupled_ntf({"relu2": X}, BASE, seed=seed, tol=1e-5)
    X_ = X.double().numpy()
    other, errors = theirs.non_negative_parafac_hals(X_, BASE, random_state=seed, **how)
    size = sum(factor.size for factor in other.factors)
    rows += [("CP, ours", BASE, mine.parameters, mine.relative_error)]
    rows += [("CP, TensorLy", BASE, size, float(errors[-1]))]
how = {"n_iter_max": 100 if full else 20, "init": "svd", "return_errors": True}
tucker, errors = theirs.non_negative_tucker_hals(X_, [8, 3, 3, BASE], **how)
size = tucker.core.size + sum(factor.size for factor in tucker.factors)
rows += [("Tucker, TensorLy", BASE, size, float(errors[-1]))]

# %%
rank = round(size / (sum(SHAPES["CP"]["relu2"]) + COUNT))  # of the size of Tucker
for seed in SEEDS:
    more = coupled_ntf({"relu2": X}, rank, seed=seed, tol=1e-5)
    rows += [("CP, ours, larger", rank, more.parameters, more.relative_error)]
    flat = coupled_ntf({"relu2": few["relu2"]}, BASE, seed=seed, tol=1e-5)
    rows += [("matrix, ours", BASE, flat.parameters, flat.relative_error)]
columns = ["model, program", "rank", "numbers", "relative error"]
alone = pd.DataFrame(rows, columns=columns).groupby(columns[0], sort=False).min()
pair = alone["relative error"].loc[["CP, ours", "CP, TensorLy"]]
assert pair.iloc[0] < 1.01 * pair.iloc[1]
if told:
    assert pair.iloc[0] > 0.99 * pair.iloc[1]
    gain = alone["relative error"]
    assert gain["Tucker, TensorLy"] < gain["CP, ours, larger"]
alone.round(4)

# %% [markdown]
# Both programs reach the same error. (Tucker's ranks are 8, 3, 3 and 10, from one start.) At about equal size it has a smaller error than CP: its core lets a component be more than one
# product. A coupled Tucker model would be the next to try; we did not.
#
# TensorLy can also couple, after Acar, Kolda and Dunlavy {cite}`acar2011all`: one tensor and one matrix, without the constraint. Here `relu1`, as channel × place, with
# the input.

# %%
A, D = shaped(few, "channel × place")["relu1"].permute(2, 0, 1), few["input"].T
tensor, matrix, _ = theirs.coupled_matrix_tensor_3d_factorization(
    A.double().numpy(),
    D.double().numpy(),
    BASE,
    n_iter_max=15 if full else 5,
    init="svd",
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
# *8 minutes.* At equal rank and at equal size, all seeds in full.

# %%
rows, sizes = [], {}
for rank in RANKS:
    for name in MODELS:
        for what, r in (("rank", rank), ("size", equal_size(name, rank))):
            for seed in SEEDS:
                found = fit(name, r, seed=seed)
                row = {"equal": what, "base": rank, "model": name, "seed": seed}
                row |= {"rank": r, "numbers": found.parameters}
                rows.append(row | {"all": found.relative_error} | found.block_errors)
results = pd.DataFrame(rows)
errors = results.groupby(["equal", "base", "model"], sort=False)["all"]
spread = (errors.max() / errors.min() - 1).max()
print(f"from seed to seed an error varies by {spread:.1%} at most")

# %%
blockwise = results[results.base == BASE].drop(columns=["base", "seed"])
mean = blockwise.groupby(["equal", "model"], sort=False).mean()
mean.astype({"rank": int, "numbers": int}).round(3)

# %% [markdown]
# Relative errors, means over the seeds: of all blocks together, and of each. Now all of them against size.

# %% tags=["hide-input"]
at = mean["all"]["size"]
title = f"Equal size, {COUNT} images: CP {at['CP']:.3f}, matrix {at['matrix']:.3f}"
shown = results.assign(thousand=results.numbers / 1000)
words = {"title": title, "xlabel": "thousand numbers, F included"}
words |= {"ylabel": "relative error, all blocks"}
figure = pk.plots.curves(shown, "thousand", "all", "model", **words)
ax = figure.axes[0]
ax.set(xscale="log")
ticks = [3, 5, 10, 20, 50] if full else [2, 5, 10, 20]
ax.set_xticks(ticks, labels=ticks)
ax.minorticks_off()
text = "Relative error against the number of numbers, for three models."
pk.show(figure, f"{text} {title}.")

# %% tags=["hide-input"]
if told:
    by_rank = errors.mean()["rank"].unstack()
    assert (by_rank["matrix"] < by_rank["channel × place"]).all()
    assert (by_rank["channel × place"] < by_rank["CP"]).all()
    by_size = errors.mean()["size"].unstack()
    assert (by_size["CP"] < by_size["matrix"]).all()
    assert (by_size["channel × place"] > by_size["matrix"]).all()

# %% [markdown]
# Two surprises. For a given size CP does best and channel × place, which is closer to the matrix model, does worst. And at equal rank
# CP gives up little more than channel × place does: once channels and places are separated, splitting the places as well costs
# little.
#
# ## Which part of the structure pays?
#
# *5 minutes.* How many of a model's numbers describe the input, and how much does the input count in the error?

# %%
energy = {name: float(block.square().sum()) for name, block in few.items()}
counts = energy["input"] / sum(energy.values())
owned = {m: sum(SHAPES[m]["input"]) / LENGTHS[m] for m in MODELS}
owned = ", ".join(f"{m} {share:.0%}" for m, share in owned.items())
print(f"the input is {counts:.0%} of the sum of squares; of the dictionary: {owned}")

# %% [markdown]
# The fit cares little for the input, and channel × place spends most of its dictionary on it. So take the structure apart: tiles for the
# input alone, with free layers; and tiles for the input with channel × place in the layers. All at equal size.

# %%
tiles = {"input": (28, 28)}
MIXED = {
    "tiles, free layers": SHAPES["matrix"] | tiles,
    "tiles, channel × place": SHAPES["channel × place"] | tiles,
}
SHAPES |= MIXED
rows = []
for name in [*MODELS, *MIXED]:
    for seed in SEEDS:
        found = fit(name, equal_size(name, BASE), seed=seed)
        row = {"model": name, "rank": found.rank, "all": found.relative_error}
        same = fit(name, BASE, seed=seed).relative_error
        rows.append(row | found.block_errors | {"at rank of matrix": same})
parts = pd.DataFrame(rows).groupby("model", sort=False).mean()
parts.astype({"rank": int}).round(3)

# %%
goal = parts["all"]["matrix"]
if told:
    way = parts["all"]["matrix"] - parts["all"]
    assert way["tiles, free layers"] > 0.5 * way["CP"]
    assert abs(way["tiles, channel × place"] / way["CP"] - 1) < 0.15
    assert parts["input"].idxmin() == "CP" and parts["relu1"].idxmin() != "CP"
    assert parts["at rank of matrix"]["tiles, free layers"] < 1.02 * goal

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
curve = results[results.model == "CP"].groupby("rank")["all"].mean()
needed = float(np.interp(-goal, -curve.to_numpy(), curve.index))
same = pd.DataFrame({"rank": {"matrix": BASE, "CP": needed}})
same["dictionary"] = [BASE * LENGTHS["matrix"], needed * LENGTHS["CP"]]
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
pair = (BASE, LENGTHS["matrix"]), (needed, LENGTHS["CP"])
pk.check.break_even(my_count, *pair)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
break_even = (BASE * LENGTHS["matrix"] - needed * LENGTHS["CP"]) / (needed - BASE)
pk.check.break_even(break_even, *pair)
print(f"{break_even:.0f} images")

# %% [markdown]
# ## Does it matter how many images there are?
#
# *8 minutes.* Fit more and more images, at the size of a matrix model of the same rank throughout. Then place a set of new images, which no
# fit has seen, with `transform`.


# %%
def new_error(found, model):
    """Relative error of the new images, placed in a fit."""
    F = found.transform(shaped(new, model))
    lost = [(new[b] - W @ F.T).square().sum() for b, W in found.factors.items()]
    return float((sum(lost) / sum(b.square().sum() for b in new.values())).sqrt())


rows = []
for count, name, seed in tqdm(
    [(c, m, s) for c in COUNTS for m in MODELS for s in SEEDS]
):
    for what, rank in (("size", equal_size(name, BASE, count)), ("rank", BASE)):
        found = fit(name, rank, count, seed)
        row = {"equal": what, "images": count, "model": name, "rank": rank}
        row |= {"fitted": found.relative_error, "new": new_error(found, name)}
        rows.append(row)
growing = pd.DataFrame(rows)

# %% tags=["hide-input"]
part = growing[growing.equal == "size"]
by_count = part.groupby(["images", "model"])["fitted"].mean().unstack()
ahead = by_count.index[by_count["CP"] < by_count["matrix"]]
where = ", ".join(f"{c:,}" for c in ahead) or "none"
title = f"Equal size: CP ahead at {where} images"
words = {"title": title, "xlabel": "images in the fit"}
words |= {"ylabel": "relative error of these images"}
figure = pk.plots.curves(part, "images", "fitted", "model", **words)
ax = figure.axes[0]
ax.set(xscale="log")
ax.set_xticks(COUNTS, labels=[f"{count:,}" for count in COUNTS])
ax.minorticks_off()
text = f"Relative error of the fitted images at the size of a rank-{BASE} matrix model."
pk.show(figure, f"{text} {title}.")

# %%
if told:
    assert list(ahead) == [c for c in COUNTS if c < break_even]
    assert (by_count["channel × place"] > by_count["matrix"]).all()
wide = growing.groupby(["equal", "images", "model"], sort=False)
wide = wide[["rank", "fitted", "new"]].mean()
wide["shown"] = [f"{f:.3f} → {n:.3f} (rank {r:.0f})" for r, f, n in wide.to_numpy()]
wide["shown"].unstack()

# %% [markdown]
# Error of the fitted images → error of the new ones. Matrix model and CP change places between the two counts next to the one you found in exercise 3; channel × place is last throughout. Equal size is a race that many images
# decide for the matrix model. The other rows hold the rank equal: there the matrix model is ahead on new images too, at every count.
# So the fourth expectation was wrong, and it is worth saying how far: the next table shows by how much the error of new images exceeds that of the fitted ones.

# %%
gap = growing[growing.equal == "rank"].assign(gap=growing.new / growing.fitted - 1)
gap = gap.groupby(["images", "model"], sort=False)["gap"].mean().unstack()
at_rank = growing[growing.equal == "rank"].groupby(["images", "model"])["new"].mean()
if told:
    assert (gap.loc[200, "matrix"] > gap.loc[200, ["channel × place", "CP"]]).all()
    assert (at_rank.unstack().idxmin(axis=1) == "matrix").all()
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
MAPS = {"input": (1, 28, 28), "relu1": (10, 12, 12), "relu2": (20, 4, 4)}


def shuffled(blocks, what, seed):
    draw, out = torch.Generator().manual_seed(seed), {}
    for name, block in blocks.items():
        if what == "places":
            channels, height, width = MAPS[name]
            order = torch.randperm(height * width, generator=draw)
            out[name] = block.unflatten(0, (channels, -1))[:, order].flatten(0, 1)
        else:
            out[name] = block[torch.randperm(len(block), generator=draw)]
    return out


# %%
rows = []
for name, seed in tqdm([(name, seed) for name in MODELS for seed in SEEDS]):
    rank = equal_size(name, BASE)
    row = {"model": name, "as it is": fit(name, rank, seed=seed).relative_error}
    for what in ("places", "neurons"):
        moved = shaped(shuffled(few, what, seed), name)
        found = factorize(moved, rank, seed=seed)
        row[f"{what} shuffled"] = found.relative_error
    rows.append(row)
control = pd.DataFrame(rows).groupby("model", sort=False).mean()
control.round(3)

# %% tags=["hide-input"]
lost = control.div(control["as it is"], axis=0) - 1
if told:
    assert lost.loc["matrix"].abs().max() < 0.01
    assert abs(lost.loc["channel × place", "places shuffled"]) < 0.01
    assert lost.loc["channel × place", "neurons shuffled"] > 0.05
    assert lost.loc["CP", "places shuffled"] > 0.05
    assert (control.loc["CP"].iloc[1:] > control.loc["matrix"].iloc[1:]).all()
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
    what = {"maps": MAPS[layer], "images": images[:COUNT], "labels": labels[:COUNT]}
    found = fit(model, rank)
    figure = pk.plots.journey(found, layer, component, title=title, **what)
    maps = found.factors[layer][:, component - 1].reshape(MAPS[layer])
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
# Between a half and three quarters: far above chance, far below 1. A free component has neither one map for all channels nor a map that is a tile. The
# structure is an approximation, bought for its size.
#
# Last, do seeds agree? Match the components of two seeds by the correlation of their columns of $F$, and take the mean.


# %%
def agreement(a, b):
    r = np.corrcoef(a.image_factor.T, b.image_factor.T)[: a.rank, a.rank :]
    return r[linear_sum_assignment(-r)].mean()


rows = {}
for name in MODELS:
    for what, rank in (("equal rank", BASE), ("equal size", equal_size(name, BASE))):
        pairs = combinations([fit(name, rank, seed=seed) for seed in SEEDS], 2)
        values = [agreement(a, b) for a, b in pairs]
        rows[name, what] = f"{min(values):.2f} to {max(values):.2f}"
pd.Series(rows).unstack(sort=False)

# %% [markdown]
# CP's seeds agree no better than the others': the ranges overlap at equal rank, and at equal size CP agrees less (with more components it is also harder to). A possible
# reason: uniqueness concerns the exact decomposition of a tensor that has one, and here half of the norm is left unexplained.
#
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
