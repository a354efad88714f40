# %% [markdown]
# # What others see
#
# [![Open in Colab](../book/_static/colab.svg)](https://colab.research.google.com/github/OWNER/peek/blob/main/notebooks/12-neighbours.ipynb)
#
# *The coupled factorization is one way to look into a network. What do its neighbours see in the same networks, and which of them
# tells best how much a network was trained?*
#
# You know {doc}`03-how-much-training`; symbols are in {doc}`../book/notation`. Allow 60 minutes to read and answer; the chapter runs for about two minutes on a
# laptop CPU if you ran chapter 3 before, and for six if not.

# %% tags=["remove-cell"]
import sys

if (
    "google.colab" in sys.modules
):  # Colab keeps its own torch and numpy; this adds peeklib alone
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/OWNER/peek")  # noqa: F821

# %%
import copy
from dataclasses import replace
from functools import cache
from itertools import combinations, permutations

import pandas as pd
import torch
from IPython.display import display
from torch import nn
from tqdm.auto import tqdm

import peeklib as pk
from peeklib.spectra import cka, conv_singular_values, svcca

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
if not full:  # fewer images to train on, too
    data = replace(data, train=pk.Split(*pk.subset(data, fraction=0.1, seed=0)))
data

# %% [markdown]
# The networks are those of chapter 3: trained for one epoch on 25, 50, 75 and 100 % of the images. We add two controls for each seed.
# One is not trained. The other is trained on the images of the 25 % network, in as many steps, but its labels are
# *shuffled*: there is nothing to learn. `pk.cached` keeps results on disk, so that what chapter 3 computed is
# not computed again.

# %%
FRACTIONS = 0.25, 0.5, 0.75, 1.0
RANKS = (10, 20, 30, 40, 50) if full else (30,)
SEEDS = range(5 if full else 2)
HOW = {"solver": "auto", "max_iter": 60, "tol": 1e-3}
LABELS, CONTROLS = [f"{f:.0%}" for f in FRACTIONS], ["untrained", "shuffled"]
test_images = data.test.images[: 10_000 if full else 500]
train, rank_sweep = pk.cached(pk.train), pk.cached(pk.rank_sweep)
factorize, spectrum = pk.cached(pk.coupled_nmf), pk.cached(pk.spectrum)


def network(name, seed):
    model = pk.models.PaperCNN(seed=seed)
    if name == "untrained":
        return model
    fraction = 0.25 if name == "shuffled" else FRACTIONS[LABELS.index(name)]
    images, labels = pk.subset(data, fraction=fraction, seed=seed)
    if name == "shuffled":
        draw = torch.Generator().manual_seed(seed)
        labels = labels[torch.randperm(len(labels), generator=draw)]
    return train(model, images, labels, seed=seed).model


cells = [(name, seed) for name in CONTROLS + LABELS for seed in SEEDS]
models = {cell: network(*cell) for cell in tqdm(cells, desc="training")}

# %% [markdown]
# Move the sliders. Each picture is made of weights alone; no image went through the network. It shows by how much a
# convolution can strengthen a pattern, for every spatial frequency: flat patterns in the middle, fine ones at the
# border. *From which picture on could you tell that a network has learnt something? Which two look alike?*

# %% tags=["hide-input"]
SIZES = {"conv1": 28, "conv2": 12}  # height and width of the maps that go in


def strengths(name, seed, layer):
    weight = models[name, seed].get_submodule(layer).weight
    return conv_singular_values(weight, (SIZES[layer], SIZES[layer]))


def draw(layer, name):
    values = strengths(name, 0, layer).amax(2)  # height × width
    peak = max(strengths(other, 0, layer).max() for other in LABELS)
    end, half = SIZES[layer] / 2, 0.5
    title = f"{layer}, {name}: largest singular value {values.max():.2f}"
    figure, ax = pk.plots.canvas(height=4, title=title)
    ends = (-end - half, end - half)
    where = {"extent": 2 * ends, "cmap": pk.plots.MAP, "origin": "lower"}
    shown = ax.imshow(torch.fft.fftshift(values), vmin=0, vmax=peak, **where)
    figure.colorbar(shown, ax=ax, label="largest singular value")
    ax.set(xlabel="horizontal waves per map", ylabel="vertical waves per map")
    return figure, f"Largest singular value for every frequency. {title}."


pk.Explorer({"layer": list(SIZES), "network": CONTROLS + LABELS}, draw)

# %% [markdown]
# **You will be able to**
#
# - read the singular values of a convolution off its kernel, without images;
# - factorize one layer by position instead of by image, and say what that gains;
# - compare two layers by CKA and by SVCCA, and know what either gives for layers that have nothing in common;
# - choose among these methods by what they need and what they cannot see.
#
# We listed the measures, one or two for each method, before we looked at a result, with two exceptions. Whether the entropy rank
# of a convolution would rise or fall we left open, and of the ranks 6 and 30 for a flattened layer we kept 30, the rank of the coupled
# factorization; both gave the same order. The two controls came later.

# %% [markdown]
# ## What do the weights say without an image?
#
# *10 minutes.* A convolution is a linear map: a large matrix, made of few numbers. If the image wrapped around at its edges, the Fourier
# transform would split that matrix into one small block for each frequency, channels out × channels in
# {cite}`sedghi2019singular`. So: a 2-D FFT of the kernel, filled up with zeros, and an SVD of each block.

# %%
conv2 = models["100%", 0].conv2
blocks_of = torch.fft.fft2(conv2.weight.detach().double(), s=(12, 12))
values = torch.linalg.svdvals(blocks_of.permute(2, 3, 0, 1))  # 12 × 12 × 10
assert torch.equal(values, conv_singular_values(conv2.weight, (12, 12)))

# %% [markdown]
# Our convolutions do not wrap around. They leave out the outputs at the border ("valid"), which are rows of the
# matrix, so every singular value of ours is at most the one of the same rank with wrapping. How much do we lose? Here
# is either matrix in full, column by column: the answer to an image with a single one.


# %%
def matrix(weight, size, wrap):
    """The convolution as a matrix, out × in."""
    ones = torch.eye(weight.shape[1] * size * size).unflatten(1, (-1, size, size))
    if wrap:
        ones = nn.functional.pad(ones, (0, 4, 0, 4), mode="circular")
    return nn.functional.conv2d(ones, weight.detach()).flatten(1).T


rows = {}
for layer, size in SIZES.items():
    weight = models["100%", 0].get_submodule(layer).weight
    fourier = conv_singular_values(weight, (size, size)).flatten().sort().values.flip(0)
    wraps, valid = (pk.spectrum(matrix(weight, size, wrap)) for wrap in (True, False))
    assert torch.allclose(fourier, wraps[: len(fourier)], atol=1e-4)
    rows[layer] = {"by Fourier": fourier[0], "wrapped": wraps[0], "valid": valid[0]}
    assert (valid <= fourier[: len(valid)] + 1e-4).all()
pd.DataFrame(rows).T.astype(float).round(3).rename_axis("largest singular value")

# %% [markdown]
# The first two columns agree: the Fourier way is exact for a convolution that wraps. The last is what our network does; the
# others are an upper bound for it. Now the largest singular value of all networks. The band runs from the smallest to the largest
# value over the seeds.

# %% tags=["hide-input"]
largest = pd.DataFrame(
    [
        {"network": n, "seed": s, "layer": k, "value": float(strengths(n, s, k).max())}
        for n, s in cells
        for k in SIZES
    ]
)
wide = largest.pivot(index=["layer", "seed"], columns="network", values="value")
ordered = (wide[LABELS].diff(axis=1).iloc[:, 1:] > 0).all(axis=1).groupby("layer").sum()
apart = (wide[CONTROLS].max(axis=1) < wide[LABELS[0]]).groupby("layer").sum()
stray = (wide["shuffled"] / wide["untrained"] - 1).abs().max()
if data.name == "mnist":
    assert (ordered == len(SEEDS)).all() and (apart == len(SEEDS)).all()
    assert stray < 0.05
title = f"Both rise with the data in {ordered.min()} of {len(SEEDS)} seeds"
words = {"title": title, "xlabel": "network", "ylabel": "largest singular value"}
figure = pk.plots.curves(largest, "network", "value", "layer", **words)
text = f"Largest singular value of conv1 and conv2 in six networks. {title}. "
pk.show(
    figure,
    f"{text}Shuffled labels change it by at most {stray:.0%} of the untrained one.",
)

# %% [markdown]
# *What this sees that the others do not:* what is in the weights, before any image chose what to use of it. It tells learning from
# steps (whether better than the mere distance of the weights from their start, we did not test): with shuffled labels the weights took just as many steps, and their largest singular values stayed where they were.
#
# *What it cannot see:* the biases, the ReLUs, which patterns occur in images, and what the layers do together.

# %% [markdown]
# ## One layer alone: by image, or by position?
#
# *10 minutes.* Olah et al. factorize one layer at a time, and they take every *position* of a map for a row, its channels for columns
# {cite}`olah2018building`. In our orientation: channels × (images · positions), 20 × 160,000 for `relu2`, where this
# book has neurons × images, 320 × 10,000. The block needs no more than another shape. Their notebook asks for 6 components, "groups" of channels.


# %%
def by_position(block, channels):
    """Neurons × images as channels × (positions · images)."""
    return block.reshape(channels, -1)


def groups(block, channels, seed=0):
    return pk.coupled_nmf({"layer": by_position(block, channels)}, 6, seed=seed, **HOW)


moved = test_images[:2_000].roll(4, dims=3)  # four pixels to the right
layers = {"at home": pk.record(models["100%", 0], test_images[:2_000])}
layers["moved"] = pk.record(models["100%", 0], moved)

# %% tags=["hide-input"]
fit = groups(layers["at home"]["relu1"], 10)
pictures, image = [], 0
for where, shown in (("at home", test_images), ("moved", moved)):
    block = by_position(layers[where]["relu1"][:, [image]], 10)
    maps = fit.transform({"layer": block}).T.reshape(-1, 12, 12)
    pictures += [nn.functional.adaptive_avg_pool2d(pk.to_float(shown[image]), 12)[0]]
    pictures += [*(maps / maps.amax())]
far = pk.plots.image_grid(
    pictures,
    2 * ["image", *(f"group {k}" for k in range(1, 7))],
    cols=7,
    title="relu1 by position: the groups move with the digit",
    shared=True,
)
pk.show(
    far,
    "Two rows: an image and the maps of its six channel groups; the same digit four pixels to the right. The maps move "
    "with it.",
)

# %% [markdown]
# A group is a mixture of channels, and its loadings are a map of where in the image it is at work. A component of the
# flattened layer is one fixed pattern over all positions. Test it: find components on test images, then move the
# images by four pixels, which is one position in `relu2`. How well do the *old* components explain the moved images?


# %%
def error(fit, block):
    """Relative error of a block under factors found before."""
    rebuilt = fit.factors["layer"] @ fit.transform({"layer": block}).T
    return float((block - rebuilt).norm() / block.norm())


rows = {}
for seed in SEEDS:
    home, away = (
        pk.record(models["100%", seed], images, ["relu2"])["relu2"]
        for images in (test_images[:2_000], moved)
    )
    flat = pk.coupled_nmf({"layer": home}, 30, seed=seed, **HOW)
    spots = groups(home, 20, seed)
    rows["flattened, rank 30", seed] = error(flat, home), error(flat, away)
    pairs = error(spots, by_position(home, 20)), error(spots, by_position(away, 20))
    rows["by position, 6 groups", seed] = pairs
shift = pd.DataFrame(rows, index=["at home", "moved"]).T
shift = shift.groupby(level=0, sort=False)
if data.name == "mnist":
    growth = shift["moved"].min() / shift["at home"].max()
    assert growth["flattened, rank 30"] > 1.4 and growth["by position, 6 groups"] < 1.3
shift.agg(lambda x: f"{x.mean():.3f} ± {x.std(ddof=0):.3f}")

# %% [markdown]
# *What this sees that the others do not:* the same thing at another place, and where it is. By position the error stays; flattened, it
# grows by more than half. Six groups of 20 channels explain `relu2` about as well as 30 components of 320 neurons do, though with more numbers for each image: 6 × 16
# loadings against 30.
#
# *What it cannot see:* what goes together at different places, such as the two ends of a stroke, and what goes together in different layers. Positions of
# `relu1` and of `relu2` are different rows, so the layers have no factor to share, and there are no pixels to draw a component with.

# %% [markdown]
# ## Are these two the same layer?
#
# *10 minutes.* All of the above looks at one network. Two networks have no neurons in common, so their factors cannot be
# laid side by side. But both saw the same images. *CKA* compares which images a layer finds alike
# {cite}`kornblith2019similarity`: for centred blocks $X$ and $Y$ it is
#
# $$\mathrm{CKA}(X, Y) = \frac{\lVert X Y^T \rVert_F^2}{\lVert X X^T \rVert_F\, \lVert Y Y^T \rVert_F}$$
#
# *SVCCA* cuts either block to the singular directions that hold 99 % of its variance. Then it looks for the direction in the one and the direction in the other whose scores
# over the images correlate most, for the next pair uncorrelated with the first, and so on; and takes the mean of these canonical correlations {cite}`raghu2017svcca`. Both are 1 for equal blocks. The test of CKA's authors: of all layers of a second
# network, is a layer most like its own twin? Here are both hidden layers and the output `fc`, each network beside that of the next
# seed. Layers of different shape are flattened, as either paper does; 1,000 images, for speed.

# %%
LAYERS = ["relu1", "relu2", "fc"]
some = test_images[: 1_000 if full else 300]


def next_to(seed):
    return models["100%", (seed + 1) % len(SEEDS)]


def beside(measure, seed, order=slice(None)):
    """A measure for each layer of a network and each of the next seed's, for `some` images."""
    kept = {"layers": LAYERS, "negative": "keep"}
    a = pk.record(models["100%", seed], some, **kept)
    b = pk.record(next_to(seed), some[order], **kept)
    return pd.DataFrame({y: {x: measure(a[x], b[y]) for x in a} for y in b})


grids = {"CKA": [beside(cka, seed) for seed in SEEDS]}
grids["SVCCA"] = [beside(svcca, seed) for seed in SEEDS[:2]]
order = torch.randperm(len(some), generator=torch.Generator().manual_seed(0))
nothing = {"CKA": beside(cka, 0, order), "SVCCA": beside(svcca, 0, order)}

# %% tags=["hide-input"]
found = {}
names = {"xlabel": "layer of the next seed's network", "ylabel": "layer"}
for name, tables in grids.items():
    right = sum(int((grid.idxmax(axis=1) == grid.index).sum()) for grid in tables)
    found[name] = right, len(LAYERS) * len(tables)
    mean = sum(tables) / len(tables)
    title = f"{name} finds the twin of {right} of {found[name][1]} layers"
    figure = pk.plots.class_matrix(mean, title=title, label=name, **names)
    values = [f"{x} and {y} {mean.loc[x, y]:.0%}" for x in LAYERS for y in LAYERS]
    display(pk.show(figure, f"{title}. Mean over the seeds: {'; '.join(values)}."))

# %%
if data.name == "mnist":
    assert found["CKA"][0] > 0.9 * found["CKA"][1] and found["SVCCA"][0] == 0
    assert sum(grids["SVCCA"]).loc["relu2", "fc"] / 2 > 0.95
    assert nothing["SVCCA"].loc["relu2", "fc"] < 0.4
floors = pd.concat(nothing, axis=1)
floors.round(2)

# %% [markdown]
# SVCCA ran for two of the seeds, since it takes longer. It calls `fc` the nearest to everything. Chance does not explain that: with the images
# shuffled, in the table, `relu2` with `fc` is far lower. The mean is over the directions of the *smaller* layer, and `fc` has ten. They lie
# almost entirely within `relu2` of another network.
#
# *What CKA sees that the others do not:* which layer corresponds to which, without matching neurons. *What it cannot see:* directions
# that carry little variance.
#
# *What SVCCA sees that the others do not:* that a small layer is contained in a large one: the outputs of one network can be
# read off `relu2` of another. *What it cannot see:* size. A weak direction counts as much as a strong one.

# %% [markdown]
# ## How alike are layers that have nothing in common?
#
# *5 minutes.* The table above is far from zero in places. Here is `relu2` of two networks, flattened, for more and more images: in the
# same order, and with those of the second shuffled.


# %% tags=["hide-input"]
@cache
def relu2(name, seed):
    return pk.record(models[name, seed], test_images, ["relu2"])["relu2"]


counts = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000]
rows = []
for count in [c for c in counts if c <= len(test_images)]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    a, b = (relu2("100%", seed)[:, :count] for seed in (0, 1))
    for name, measure in (("CKA", cka), ("SVCCA", svcca)):
        rows += [(count, name, "same", measure(a, b))]
        rows += [(count, name, "shuffled", measure(a, b[:, order]))]
nulls = pd.DataFrame(rows, columns=["images", "method", "order", "value"])
nulls["images are"] = nulls.method + ", " + nulls.order
null = nulls[nulls.order == "shuffled"]
null = null.pivot(index="images", columns="method", values="value")
if data.name == "mnist" and full:
    assert null.loc[500, "CKA"] < 0.05 and null.loc[500, "SVCCA"] > 0.3

# %% tags=["hide-input"]
at = min(1_000, len(test_images))
levels = ", ".join(f"{name} {value:.2f}" for name, value in null.loc[at].items())
title = f"Shuffled, {at} images: {levels}"
words = {"title": title, "xlabel": "images", "ylabel": "similarity"}
figure = pk.plots.curves(nulls, "images", "value", "images are", **words)
ticks = [50, 200, 1_000, 5_000]
figure.axes[0].set(xscale="log", ylim=(-0.02, 1.02))
figure.axes[0].set_xticks(ticks, labels=ticks)
figure.axes[0].minorticks_off()
text = "CKA and SVCCA of relu2 in two networks against the number of images, in the same order and shuffled."
pk.show(figure, f"{text} {title}.")

# %% [markdown]
# CKA finds nothing in shuffled images after a few hundred; SVCCA takes thousands, and its value for the true order still falls. It needs many
# images for each direction. *By position* there are many: that is how its authors compare the same layer of two
# networks, and how we do it below.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# You want the SVCCA of two unrelated layers like these, flattened, to be at most `limit`. Which is the smallest number of images
# in `floor` that will do?
#
# <details><summary>Hint</summary><code>floor</code> holds the value for shuffled images at each number of images.</details>

# %%
floor = null["SVCCA"].to_dict()
limit = 0.3 if full and data.name == "mnist" else max(floor.values())
my_count = None
pk.check.images_needed(my_count, floor, limit)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
enough = min(count for count, value in floor.items() if value <= limit)
pk.check.images_needed(enough, floor, limit)
print(f"{enough} images, for {len(relu2('100%', 0))} neurons")

# %% [markdown]
# ### Exercise 2 ●●○ (10 minutes)
#
# Write linear CKA yourself: a function of two blocks, features × images, by the formula above.
#
# <details><summary>Hint</summary>Centre first: <code>X - X.mean(dim=1, keepdim=True)</code> takes the mean over
# the images off every feature. <code>.norm()</code> of a matrix is its Frobenius norm.</details>

# %%
my_cka = None
pk.check.alignment(my_cka)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def alignment(X, Y):
    X, Y = X - X.mean(dim=1, keepdim=True), Y - Y.mean(dim=1, keepdim=True)
    return (X @ Y.T).norm() ** 2 / ((X @ X.T).norm() * (Y @ Y.T).norm())


pk.check.alignment(alignment)

# %% [markdown]
# ## Who puts the four networks in order?
#
# *10 minutes.* Now every measure for every network, on the same images. Those of the coupled factorization come from chapter 3's fits at
# rank 30. CKA and SVCCA compare a network with the 100 % network of the *next* seed.


# %%
def measure(model, seed, fit=None):
    """Every measure of this chapter for one network; `fit` makes the coupled factorization."""
    blocks = pk.input_blocks(test_images) | pk.record(model, test_images)
    fit = fit(blocks) if fit else factorize(blocks, 30, seed=seed, **HOW)
    last, other = blocks["relu2"], relu2("100%", (seed + 1) % len(SEEDS))
    single = pk.coupled_nmf({"layer": last}, 30, seed=seed, **HOW)
    kernel = conv_singular_values(model.conv2.weight, (12, 12))
    return {
        "coupled NMF: RMSE": fit.rmse,
        "coupled NMF: relative error": fit.relative_error,
        "coupled NMF: error of relu2": fit.block_errors["relu2"],
        "relu2: entropy rank": pk.effective_rank(spectrum(last)),
        "NMF of relu2, flattened": single.relative_error,
        "NMF of relu2, by position": groups(last, 20, seed).relative_error,
        "CKA of relu2": cka(last, other),
        "SVCCA of relu2": svcca(by_position(last, 20), by_position(other, 20)),
        "conv2: largest singular value": float(kernel.max()),
        "conv2: entropy rank": pk.effective_rank(kernel.flatten()),
    }


def known(seed):
    """What chapter 3 computed, at rank 30."""
    return lambda blocks: rank_sweep(blocks, RANKS, [seed], **HOW)[30, seed]


# %%
ways = {(name, seed): known(seed) if name in LABELS else None for name, seed in cells}
bar = tqdm(ways.items(), desc="measuring")
results = {cell: measure(models[cell], cell[1], fit) for cell, fit in bar}
results = pd.DataFrame(results).T.rename_axis(["network", "seed"])
means = results.groupby("network", sort=False).mean().T
means.map("{:.4g}".format)

# %% [markdown]
# Means over the seeds. Three questions to each row. In how many seeds do the four networks stand in the order of their data? Chance would give one
# seed in 24. Of two networks from *different* seeds, which share no initial weights, how often does the one with more data stand
# higher? Chance is a half. And in how many seeds do both controls stand below the 25 % network? The entropy rank of `conv2` falls, so there "higher" is lower.

# %%
FALLS = ["conv2: entropy rank"]


def standing(values):
    wide = values.unstack("network") * (-1 if values.name in FALLS else 1)
    rising = (wide[LABELS].diff(axis=1).iloc[:, 1:] > 0).all(axis=1)
    pairs = [
        wide.loc[a, less] < wide.loc[b, more]
        for a, b in permutations(SEEDS, 2)
        for less, more in combinations(LABELS, 2)
    ]
    below = wide[CONTROLS].max(axis=1) < wide[LABELS[0]]
    return rising.sum(), sum(pairs) / len(pairs), below.sum()


# %%
columns = ["in order", "pairs right", "controls below"]
score = pd.DataFrame([standing(results[name]) for name in results], columns=columns)
score.index = results.columns
if data.name == "mnist" and full:
    best = score.loc[["coupled NMF: RMSE", "conv2: entropy rank"]]
    assert (best == [len(SEEDS), 1, len(SEEDS)]).all(axis=None)
    assert (score["controls below"].iloc[1:6] == 0).all()
    assert (score["in order"].loc[["CKA of relu2", "SVCCA of relu2"]] < 3).all()
    assert (
        results["SVCCA of relu2"][CONTROLS].max()
        < results["SVCCA of relu2"][LABELS].min()
    )
    assert score["in order"].iloc[:6].min() == len(SEEDS)
    assert means.loc["CKA of relu2", "untrained"] > 0.7
score.assign(**{"pairs right": score["pairs right"].map("{:.0%}".format)})

# %% [markdown]
# Two rows are without fault: the RMSE of the coupled factorization, and the entropy rank of the second convolution. The latter needs neither an image nor a
# factorization. For this question it does as well as our method, at next to no cost.
#
# The other errors, of the coupled factorization and of one layer, order the four networks too, but put the controls on top: they cannot tell a network that
# knows nothing from one that knows much. NMF of `relu2` alone loses nothing against the coupled one here. The pixels and the first layer
# add no order; they add what the components look like.
#
# CKA and SVCCA do not order the networks. By CKA, three quarters of the data bring `relu2` as close to a finished network as all of it. An untrained network already has most of the CKA of a trained one: the architecture and the pixels
# decide which images are alike. This is a stronger null than shuffled images. SVCCA by position sees something else: every trained network lies
# above every control of any seed, and how much it was trained leaves no trace.
#
# ## What can be moved at will?
#
# *5 minutes.* Multiply channels of `relu2` by positive numbers, divide the weights behind them by the same numbers, and every answer stays the same.
# A measure of what a network has learnt should stay too. We try it on the 100 % network of seed 0: all channels times 5, and each times a
# number of its own.


# %%
def rescale(model, factors):
    """The same answers, with the channels of relu2 times these factors."""
    twin = copy.deepcopy(model).requires_grad_(False)
    twin.conv2.weight *= factors[:, None, None, None]
    twin.conv2.bias *= factors
    twin.fc.weight /= factors.repeat_interleave(16)
    return twin


original, few = models["100%", 0], pk.to_float(test_images[:500])
draw = torch.Generator().manual_seed(0)
scales = {"all × 5": torch.full((20,), 5.0)}
scales["each its own"] = torch.randn(20, generator=draw).exp()
twins = {name: rescale(original, factors) for name, factors in scales.items()}
for twin in twins.values():
    assert torch.allclose(original(few), twin(few), atol=1e-3)
after = pd.DataFrame({name: measure(twin, 0) for name, twin in twins.items()})
print("each its own: {:.2f} to {:.2f}".format(*scales["each its own"].aminmax()))

# %% [markdown]
# How much is a change? As a share of the way from the 25 % to the 100 % network, in the means above; below 100 % it is less than
# training on four times the data makes.

# %%
way = (means["100%"] - means["25%"]).abs()
shares = after.sub(results.loc["100%", 0], axis=0).abs().div(way, axis=0)
if data.name == "mnist" and full:
    fixed = shares["all × 5"] < 0.05
    assert not fixed["coupled NMF: RMSE"] and not fixed["conv2: largest singular value"]
    assert fixed[results.columns[3:8]].all() and fixed["conv2: entropy rank"]
    steady = shares["each its own"] < 0.5
    assert steady["CKA of relu2"] and steady["NMF of relu2, flattened"]
    assert (shares["each its own"][["coupled NMF: RMSE", *FALLS]] > 1).all()
shares.map("{:.0%}".format)

# %% [markdown]
# The RMSE and the largest singular value move with the units. The entropy rank of the convolution does not, until each channel gets a
# unit of its own. CKA and the NMF of one flattened layer move least. SVCCA should not move at all: canonical
# correlations stay the same under any invertible map. It is the cut at 99 % that moves, because it keeps strong channels. (Its share is large
# also because its way is short.) Without the cut:

# %%
whole, other = relu2("100%", 0), relu2("100%", 1)
channel = scales["each its own"].repeat_interleave(16)[:, None]
for share in (0.99, 1):
    pair = [
        svcca(by_position(block, 20), by_position(other, 20), share=share)
        for block in (whole, whole * channel)
    ]
    print(f"share {share}: {pair[0]:.3f}, rescaled {pair[1]:.3f}")
assert abs(pair[0] - pair[1]) < 1e-3

# %% [markdown]
# ## What needs what?
#
# *3 minutes.* No method here needs labels. *Rescaled* is how far the measure moves, as a share of the way from 25 to 100 % of the data, when each channel gets a number of its own:
# small is good. The last column is what the sections above found missing.

# %% tags=["hide-input"]
TRAINING = "an untrained network from a well-trained one"
PLAIN = "images, biases, ReLUs, other layers"
ABOUT = [  # needs; cannot see
    ("images", "a change of pattern from a change of scale"),
    ("images", TRAINING),
    ("images", TRAINING),
    ("images", f"{TRAINING}; pixels, other layers"),
    ("images", f"{TRAINING}; pixels, other layers; a shape elsewhere"),
    ("images", f"{TRAINING}; pixels, other layers; whole shapes"),
    ("images, second network", "weak directions; how much training"),
    ("many images, second network", "size; how much training"),
    ("weights", f"{PLAIN}; a change of pattern from a change of scale"),
    ("weights", PLAIN),
]
about = pd.DataFrame(ABOUT, index=score.index, columns=["needs", "cannot see"])
told = score.join(shares["each its own"].rename("rescaled"))
for name in ("pairs right", "rescaled"):
    told[name] = told[name].map("{:.0%}".format)
with pd.option_context("display.max_colwidth", None):
    display(about[["needs"]].join(told).join(about["cannot see"]))

# %% [markdown]
# ## We saw
#
# - The singular values of the convolutions need no image. The entropy rank of the second one orders the four networks in all seeds and all
#   pairs of seeds, and puts untrained networks and shuffled labels below them. Of our measures only the RMSE does as well. Rescaled
#   channels move both without changing an answer; a rescaled layer moves only the RMSE.
# - NMF of one layer orders the four networks as well as the coupled one. By position it sees the same thing at another place; flattened,
#   its error grows by more than half when the digits move by four pixels.
# - CKA finds the twin of nearly every layer in another network, SVCCA that the outputs lie within its hidden layers. Neither orders the four networks.
# - A null decides what a number means. For CKA it is the untrained network, not shuffled images; for SVCCA also the number of
#   images.
# - Four amounts of data, one recipe, one epoch, and ten measures: the order may be another for longer training or other networks. What the coupled
#   factorization alone gives is the component: pixels, neurons of every layer, and images in one.
#
# References are in the {doc}`../book/bibliography`.
