# %% [markdown]
# # What others see
#
# *The coupled factorization is one way to look into a network. What do its neighbours see in the same networks, and which of them
# tells best how much a network was trained?*
#
# You know {doc}`03-how-much-training`; symbols are in {doc}`../book/notation`. Allow 80 minutes to read and answer; the chapter runs for about a minute on a
# laptop CPU, less if you ran chapter 3 before.

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
from itertools import combinations, permutations

import pandas as pd
import torch
from IPython.display import display
from torch import nn
from tqdm.auto import tqdm

import peeklib as pk
from peeklib.course.studies import mnist, neighbours
from peeklib.course.studies.neighbours import SIZES, by_position, groups, strengths
from peeklib.spectra import conv_singular_values, svcca

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# The networks are those of chapter 3: trained for one epoch on 25, 50, 75 and 100 % of the images. We add two controls for each seed.
# One is not trained. The other is trained on the images of the 25 % network, in as many steps, but its labels are
# *shuffled*: there is nothing to learn.
#
# As before, this page trains the networks of seed 0, and one more to compare with. What it says rests on five seeds: the tables
# `neighbours`, `moved`, `twins`, `nulls` and `rescalings` were made by the functions that this page calls
# (`python book/evidence.py neighbours` and so on makes them anew). What chapter 3 computed is on disk, and not computed again.

# %%
LABELS, CONTROLS = list(mnist.FRACTIONS), list(neighbours.CONTROLS)
NETWORKS = CONTROLS + LABELS
test_images = data.test.images
models = {
    name: mnist.network(data, name, seed=0) for name in tqdm(NETWORKS, desc="training")
}
second = mnist.network(data, "100%", seed=1)  # to compare with
table = pk.evidence.table("neighbours").set_index(["setting", "seed"])
table = table.rename_axis(["network", "seed"])
SEEDS = range(table.index.get_level_values("seed").nunique())


def near(values, by="network"):
    """How we compare with seed 0: as far as the seeds are apart, and 1 %, are near."""
    seeds = values.groupby(by)
    return {"within": seeds.max() - seeds.min(), "relative": 0.01, "data": data}


# %% [markdown]
# Move the sliders. Each picture is made of weights alone; no image went through the network. It shows by how much a
# convolution can strengthen a pattern, for every spatial frequency: flat patterns in the middle, fine ones at the
# border. *From which picture on could you tell that a network has learnt something? Which two look alike?*


# %% tags=["hide-input"]
def draw(layer, name):
    values = strengths(models[name], layer).amax(2)  # height × width
    peak = max(strengths(models[other], layer).max() for other in LABELS)
    end, half = SIZES[layer] / 2, 0.5
    title = f"{layer}, {name}: largest singular value {values.max():.2f}"
    figure, ax = pk.plots.canvas(height=4, title=title)
    ends = (-end - half, end - half)
    where = {"extent": 2 * ends, "cmap": pk.plots.MAP, "origin": "lower"}
    shown = ax.imshow(torch.fft.fftshift(values), vmin=0, vmax=peak, **where)
    figure.colorbar(shown, ax=ax, label="largest singular value")
    ax.set(xlabel="horizontal waves per map", ylabel="vertical waves per map")
    return figure, f"Largest singular value for every frequency. {title}."


pk.Explorer({"layer": list(SIZES), "network": NETWORKS}, draw)

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
weight = models["100%"].conv2.weight.detach().cpu()
blocks_of = torch.fft.fft2(weight.double(), s=(12, 12))
values = torch.linalg.svdvals(blocks_of.permute(2, 3, 0, 1))  # 12 × 12 × 10
print(f"from {values.min():.3f} to {values.max():.3f}")

# %% [markdown]
# `conv_singular_values(weight, (12, 12))` does the same.
#
# Our convolutions do not wrap around. They leave out the outputs at the border ("valid"), which are rows of the
# matrix, so every singular value of ours is at most the one of the same rank with wrapping. How much do we lose? Here
# is either matrix in full, column by column: the answer to an image with a single one.


# %%
def matrix(weight, size, wrap):
    """The convolution as a matrix, out × in."""
    weight = weight.detach()
    ones = torch.eye(weight.shape[1] * size * size).unflatten(1, (-1, size, size))
    if wrap:
        ones = nn.functional.pad(ones, (0, 4, 0, 4), mode="circular")
    return nn.functional.conv2d(ones, weight).flatten(1).T


found = {}
for layer, size in SIZES.items():
    weight = models["100%"].get_submodule(layer).weight.cpu()
    fourier = conv_singular_values(weight, (size, size)).flatten().sort().values.flip(0)
    wraps, valid = (pk.spectrum(matrix(weight, size, wrap)) for wrap in (True, False))
    found[layer] = {"by Fourier": fourier, "wrapped": wraps, "valid": valid}
largest = pd.DataFrame(
    {k: {how: v[0] for how, v in of.items()} for k, of in found.items()}
)
largest.T.astype(float).round(3).rename_axis("largest singular value")

# %% [markdown]
# The first two columns agree: the Fourier way is exact for a convolution that wraps. The last is what our network does; the
# others are an upper bound for it. Now the largest singular value of all networks. The band runs from the smallest to the largest
# value over the seeds.

# %% tags=["hide-input"]
largest = pd.concat(
    {layer: table[f"{layer}: largest singular value"] for layer in SIZES},
    names=["layer"],
)
wide = largest.unstack("network")
ordered = (wide[LABELS].diff(axis=1).iloc[:, 1:] > 0).all(axis=1).groupby("layer").sum()
stray = (wide["shuffled labels"] / wide["untrained"] - 1).abs().max()
title = f"Both rise with the data in {ordered.min()} of {len(SEEDS)} seeds"
words = {"title": title, "xlabel": "network", "ylabel": "largest singular value"}
shown = largest.rename("value").reset_index()
figure = pk.plots.curves(shown, "network", "value", "layer", **words)
text = f"Largest singular value of conv1 and conv2 in six networks. {title}. "
pk.show(
    figure,
    f"{text}Shuffled labels change it by at most {stray:.0%} of the untrained one.",
)

# %% tags=["hide-input"]
column = table["conv2: largest singular value"]
live = {name: strengths(model, "conv2").max() for name, model in models.items()}
what = "largest singular value of conv2, seed 0"
pk.recheck(what, column.xs(0, level="seed"), live, **near(column))

# %% [markdown]
# *What this sees that the others do not:* what is in the weights, before any image chose what to use of it. It tells learning from
# steps (whether better than the mere distance of the weights from their start, we did not test): with shuffled labels the weights took just as many steps, and their largest singular values stayed where they were.
#
# *What it cannot see:* the biases, the ReLUs, which patterns occur in images, and what the layers do together.

# %% [markdown]
# ### Exercise 1 ●●○ (5 minutes)
#
# By how much can `conv2` of the 100 % network strengthen a *flat* pattern, the same value at every place of a channel, if the
# image wraps around? Compare with the largest singular value: which patterns does the layer prefer?
#
# <details><summary>Hint</summary>Flat is frequency 0. There every place of the kernel meets the same values, so add the kernel up over its places;
# <code>torch.linalg.svdvals</code> does the rest.</details>

# %%
kernel = models["100%"].conv2.weight.detach().cpu()  # out × in × 5 × 5
my_gain = None
pk.check.flat_gain(my_gain, kernel)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
flat = float(torch.linalg.svdvals(kernel.sum(dim=(2, 3)))[0])
pk.check.flat_gain(flat, kernel)
most = float(conv_singular_values(kernel, (12, 12)).max())
print(f"flat patterns {flat:.2f}, the strongest of all {most:.2f}")

# %% [markdown]
# ## One layer alone: by image, or by position?
#
# *10 minutes.* Olah et al. factorize one layer at a time, and they take every *position* of a map for a row, its channels for columns
# {cite}`olah2018building`. In our orientation: channels × (images · positions), 20 × 160,000 for `relu2`, where this
# book has neurons × images, 320 × 10,000. The block needs no more than another shape. Their notebook asks for 6 components, "groups" of channels.


# %%
# "by_position" gives a block another shape, channels × (positions · images);
# "groups" makes a factorization of rank 6 of it.
home = pk.record(models["100%"], test_images[:2_000])
print(tuple(home["relu2"].shape), tuple(by_position(home["relu2"], 20).shape))

moved = test_images[:2_000].roll(4, dims=3)  # four pixels to the right
layers = {"at home": home, "moved": pk.record(models["100%"], moved)}

# %% tags=["hide-input"]
fit = groups(layers["at home"]["relu1"], 10)
pictures, image = [], 0
for where, shown in (("at home", test_images), ("moved", moved)):
    block = by_position(layers[where]["relu1"][:, [image]], 10)
    maps = fit.transform({"layer": block}).cpu().T.reshape(-1, 12, 12)
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
# images by four pixels, which is one position in `relu2`. How well do the *old* components explain the moved images? Over the seeds of the table:

# %%
seeds = pk.evidence.table("moved").set_index(["method", "seed"])
shift = seeds.groupby("method", sort=False)
shift.agg(lambda x: f"{x.mean():.3f} ± {x.std(ddof=0):.3f}")

# %%
live = neighbours.errors_when_moved(models["100%"], test_images[:2_000], seed=0)
live = pd.DataFrame(live).set_index("method")
what = "relative error on moved images, seed 0"
table_moved = seeds.moved
pk.recheck(
    what, table_moved.xs(0, level="seed"), live.moved, **near(table_moved, "method")
)

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
LAYERS = list(neighbours.LAYERS)
some = test_images[: 1_000 if full else 300]


all_pairs = pk.evidence.table("twins").set_index(["method", "order", "layer", "seed"])
same, shuffled = (all_pairs.xs(order, level="order") for order in ("same", "shuffled"))

# %% tags=["hide-input"]
found = {}
names = {"xlabel": "layer of the next seed's network", "ylabel": "layer"}
for name in neighbours.METHODS:
    grid = same.loc[name]  # layers and seeds × layers
    twin = grid.index.get_level_values("layer")
    right, count = (grid.idxmax(axis=1) == twin).sum(), len(grid)
    found[name] = right, count
    mean = grid.groupby("layer").mean().loc[LAYERS, LAYERS]
    title = f"{name} finds the twin of {right} of {count} layers"
    figure = pk.plots.class_matrix(mean, title=title, label=name, **names)
    values = [f"{x} and {y} {mean.loc[x, y]:.0%}" for x in LAYERS for y in LAYERS]
    display(pk.show(figure, f"{title}. Mean over the seeds: {'; '.join(values)}."))

# %%
floors = shuffled.groupby(["method", "layer"]).mean().unstack("method")
floors = floors.swaplevel(axis=1).sort_index(axis=1).loc[LAYERS]
floors.round(2)

# %%
likeness = neighbours.beside(models["100%"], second, some, "CKA")
live = {layer: likeness[layer][layer] for layer in LAYERS}
own = pd.concat(
    {layer: same.loc["CKA"].loc[layer, layer] for layer in LAYERS}, names=["layer"]
)
what = "CKA of a layer and its twin, seeds 0 and 1"
pk.recheck(what, own.xs(0, level="seed"), live, **near(own, "layer"))

# %% [markdown]
# The table is over five pairs of seeds, too. SVCCA calls `fc` the nearest to either hidden layer. Chance does not explain that: with the images
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
nulls = pk.evidence.table("nulls").rename(columns={"count": "images"})
nulls["images are"] = nulls.method + ", " + nulls.order
null = nulls[nulls.order == "shuffled"].groupby(["images", "method"]).value.mean()
null = null.unstack("method")

# %% tags=["hide-input"]
at = 1_000
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

# %% tags=["hide-input"]
few = 500
relu2 = {
    "ours": pk.record(models["100%"], test_images, ["relu2"])["relu2"],
    "second": pk.record(second, test_images, ["relu2"])["relu2"],
}
live = pd.DataFrame(neighbours.floor(*(block[:, :few] for block in relu2.values())))
live = live[live.order == "shuffled"].query("count == @few").set_index("method").value
at_few = nulls[(nulls.images == few) & (nulls.order == "shuffled")]
at_few = at_few.set_index(["method", "seed"]).value
what = f"{few} shuffled images, seeds 0 and 1"
pk.recheck(what, at_few.xs(0, level="seed"), live, **near(at_few, "method"))

# %% [markdown]
# CKA finds nothing in shuffled images after a few hundred; SVCCA takes thousands, and its value for the true order still falls. It needs many
# images for each direction. *By position* there are many: that is how its authors compare the same layer of two
# networks, and how we do it below.
#
# ### Exercise 2 ●○○ (5 minutes)
#
# You want the SVCCA of two unrelated layers like these, flattened, to be at most `limit`. Which is the smallest number of images
# in `floor` that will do?
#
# <details><summary>Hint</summary><code>floor</code> holds the value for shuffled images at each number of images.</details>

# %%
floor = null["SVCCA"].to_dict()
limit = 0.3
my_count = None
pk.check.images_needed(my_count, floor, limit)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
enough = min(count for count, value in floor.items() if value <= limit)
pk.check.images_needed(enough, floor, limit)
print(f"{enough} images, for {len(relu2['ours'])} neurons")

# %% [markdown]
# ### Exercise 3 ●●○ (10 minutes)
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
# rank 30. CKA and SVCCA compare a network with the 100 % network of the *next* seed. Ten measures, thirty networks: the table `neighbours`.

# %%
MEASURES = [name for name in table if name != "conv1: largest singular value"]
results = table[MEASURES]
means = results.groupby("network", sort=False).mean().T
means.map("{:.4g}".format)

# %% [markdown]
# One row of it here again, that of the 100 % network of seed 0:

# %%
one = mnist.case(data, "100%", seed=0)
live = neighbours.measure(one, one.fit(30), relu2["second"])
seeds = results.loc["100%"]
how = {"within": seeds.max() - seeds.min(), "relative": 0.01, "data": data}
live = {name: live[name] for name in MEASURES}
pk.recheck("all measures of the 100 % network, seed 0", seeds.loc[0], live, **how)

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
score.assign(**{"pairs right": score["pairs right"].map("{:.0%}".format)})

# %% [markdown]
# One row is without fault, the RMSE of the coupled factorization; the entropy rank of the second convolution has one pair of 120 wrong. The latter needs neither an image nor a
# factorization. For this question it does nearly as well as our method, at next to no cost.
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
# A measure of what a network has learnt should stay too. We try it on the 100 % network of three seeds: all channels times 5, and each times a
# number of its own.

# %%
scales = neighbours.scales(seed=0)
twin = neighbours.rescaled(one, "each its own")
print("each its own: {:.2f} to {:.2f}".format(*scales["each its own"].aminmax()))

# %% [markdown]
# How much is a change? As a share of the way from the 25 % to the 100 % network, in the means above; below 100 % it is less than
# training on four times the data makes. Means over the seeds of the table `rescalings`.

# %%
after = pk.evidence.table("rescalings").set_index(["setting", "seed"])[MEASURES]
way = (means["100%"] - means["25%"]).abs()
change = (
    after.drop("as it is", level="setting")
    .sub(after.loc["as it is"], level="seed")
    .abs()
    / way
)
shares = change.groupby("setting", sort=False).mean().T
shares.map("{:.0%}".format)

# %%
fit = pk.cached(pk.coupled_nmf)(twin.blocks, 30, seed=0, **mnist.FIT)
live = neighbours.measure(twin, fit, relu2["second"])
seeds = after.loc["each its own"]
live = {name: live[name] for name in MEASURES}
how["within"] = seeds.max() - seeds.min()
pk.recheck("each channel its own, seed 0", seeds.loc[0], live, **how)

# %% [markdown]
# The RMSE and the largest singular value move with the units. The entropy rank of the convolution does not, until each channel gets a
# unit of its own. The NMF of one flattened layer moves least. CKA moves about as far as four times the data move it, which is not far. SVCCA should not move at all: canonical
# correlations stay the same under any invertible map. It is the cut at 99 % that moves, because it keeps strong channels. (Its share is large
# also because its way is short.) Without the cut:

# %%
whole, other = relu2["ours"].cpu(), relu2["second"].cpu()
channel = scales["each its own"].repeat_interleave(16)[:, None]
for share in (0.99, 1):
    pair = [
        svcca(by_position(block, 20), by_position(other, 20), share=share)
        for block in (whole, whole * channel)
    ]
    print(f"share {share}: {pair[0]:.3f}, rescaled {pair[1]:.3f}")

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

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** What do the singular values of a convolution need?
#
# - (a) Its kernel, and the size of the map if it wraps around.
# - (b) Some images.
# - (c) The labels of the training set.
#
# <details><summary>Answer</summary>
#
# **(a)** They are properties of the weights. (b) and (c): no image goes through the network, which is their strength,
# and their blindness to which patterns occur.
#
# </details>
#
# **2.** One layer is factorized by *position*. What is gained, and what is lost?
#
# - (a) The image factor is shared with other layers; positions are lost.
# - (b) Smaller errors; nothing is lost.
# - (c) The same thing is recognized at another place; what goes together at different places is not seen.
#
# <details><summary>Answer</summary>
#
# **(c)** Each position is a column of its own. (b): the comparison has another number of numbers for each image. (a)
# is turned round: positions of different layers are different things, so there is nothing to share.
#
# </details>
#
# **3.** SVCCA of two layers is 0.5. Are they alike?
#
# - (a) Half alike.
# - (b) Compare it with its value for shuffled images, at this number of images.
# - (c) Yes: it lies far from 0.
#
# <details><summary>Answer</summary>
#
# **(b)** With few images for each direction, directions correlate by chance. (a) reads a mean of correlations as a
# share; (c) presumes that unrelated layers give 0.
#
# </details>
#
# **4.** You want to know which layer of one network corresponds to which of another. Which method is built for that?
#
# - (a) Coupled NMF of each network by itself
# - (b) CKA
# - (c) Singular values of the weights
#
# <details><summary>Answer</summary>
#
# **(b)** It compares which *images* the layers find alike, without matching neurons. (a): each fit has components of
# its own, so the factors cannot be laid side by side. (c) describes one layer, and pairs of layers not at all.
#
# </details>

# %% [markdown]
# ## We saw
#
# - The singular values of the convolutions need no image. The entropy rank of the second one orders the four networks in all seeds and in all but
#   one of 120 pairs across seeds, and puts untrained networks and shuffled labels below them. Of our measures only the RMSE does better. Rescaled
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
