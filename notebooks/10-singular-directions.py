# %% [markdown]
# # Singular directions, layer by layer
#
# *Which few directions carry most of what a layer does, what do images at their ends share, and how do they compare with the
# components of a coupled factorization?*
#
# You know {doc}`02-coupled-nmf` and {doc}`09-what-one-neuron-sees`; symbols are in {doc}`../book/notation`. Allow 85 minutes to read and answer; the chapter runs for about a minute
# on a laptop CPU after chapter 9, six without.

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
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from sklearn.utils.extmath import randomized_svd

import peeklib as pk
from peeklib.course.ledger import by_seed, spread

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("cifar10", fallback=True)
data

# %% [markdown]
# The network and the images are those of {doc}`09-what-one-neuron-sees`: an AlexNet trained for five epochs on CIFAR-10, and 6,000 test images that
# it classifies correctly; or torchvision's, if you name a folder of ImageNet images.

# %%
FOLDER = None  # such as "/content/imagenette2"

if FOLDER:
    disk = TemporaryDirectory()
    subject = pk.subjects.imagenet(FOLDER, store=f"{disk.name}/activations")
else:
    model = pk.models.CifarAlexNet(3, seed=0)
    model = pk.subjects.train_cifar(model, *data.train, seed=0, epochs=4 if full else 1)
    subject = pk.subjects.cifar(model, data, only_correct=full, seed=0).recorded()
LAYERS, labels = list(subject.layers), subject.labels
subject

# %% [markdown]
# Four kinds of directions in every layer: *singular* ones, after Zhang {cite}`zhang2015visualizing`; *nmf* ones, the neurons of a component of the
# coupled factorization, with the images that load on it; single *neurons* of high variance; and *random* ones. **What do the images
# at the ends of the first singular directions share in `pool1`, and what in `pool5`? Which kind is easiest to name?** (Of *nmf* look at the highest only: many
# loadings are zero, and the order of the file decides which of them comes last.)

# %% tags=["hide-input"]
blocks = subject.kept  # in memory, or on disk
hidden = {name: block for name, block in blocks.items() if block.aminmax()[0] >= 0}
step = max(1, subject.images.shape[-1] // 56)  # of large images every fourth pixel
pixels = pk.input_blocks(subject.images[..., ::step, ::step])
how = {"max_iter": 60, "tol": 1e-3}
fit = pk.coupled_nmf(pixels | hidden, 30, **how)

# %% tags=["hide-input"]
SHOWN, KINDS = range(1, 7), ["singular", "nmf", "neuron", "random"]
found, spectra = {}, {}
few = slice(1000 if FOLDER else None)  # images, where all would take hours
for layer in LAYERS:  # one at a time
    raw = subject.activations(layer)
    A, alive = pk.directions.normalize(raw), raw.std(dim=1) > 0
    args = {"count": len(SHOWN), "layer": layer}
    found["singular", layer] = pk.directions.singular(A, **args)
    found["neuron", layer] = pk.directions.neurons(A, among=alive, **args)
    found["random", layer] = pk.directions.random(A, **args)
    if layer in hidden:
        found["nmf", layer] = pk.directions.nmf(raw, fit=fit, **args)
    spectra[layer] = pk.spectrum(A[:, few]).cpu()


# %% tags=["hide-input"]
def draw(kind, layer, which):
    if (kind, layer) not in found:
        figure, _ = pk.plots.canvas(height=0.6, title="no nmf of negative activations")
        figure.axes[0].axis("off")
        return figure, f"{layer} has negative values, which no NMF takes."
    direction = found[kind, layer][which - 1]
    ends = [
        [subject.classes[label] for label in labels[pick(direction, 6)]]
        for pick in (pk.directions.top_images, pk.directions.bottom_images)
    ]
    figure = pk.plots.contact_sheet([direction], subject.images, 6, title=layer)
    text = f"{direction.name} of {layer}: highest {', '.join(ends[0])}; lowest {', '.join(ends[1])}."
    return figure, text


axes = {"kind": KINDS, "layer": LAYERS, "which": SHOWN}
pk.Explorer(axes, draw, prepared={"which": SHOWN[:3]})

# %% [markdown]
# **You will be able to**
#
# - find the singular directions of a layer, and say how much of it they hold;
# - tell whether a singular value is large, which needs more than a cut-off;
# - compare singular directions with the components of a non-negative factorization on the same images;
# - see where in a layer a direction lives, and which directions of the next layer it becomes.
#
# ## Which few directions hold most of a layer?
#
# *10 minutes.* The singular value decomposition writes the normalized activations as $\tilde\Phi = U S V^T$. $S$ is diagonal and holds the singular values
# $\sigma_i$. The columns of $U$ are
# directions among the neurons, orthogonal to each other; column $i$ of $V$, times $\sigma_i$, holds the scores of the images along
# direction $i$. The first $r$ of them give the best approximation of rank $r$. `pk.directions.singular` computes them by
# randomized subspace iteration {cite}`halko2011finding`, on a GPU if the activations are there, with $\sigma_i$ as their `scale`; scikit-learn's is the reference.

# %%
A = pk.directions.normalize(subject.activations("pool5"))
ours = pk.directions.singular(A, 8, layer="pool5")
U, S, _ = randomized_svd(A.cpu().numpy(), 8, random_state=0)
alike = [abs(U[:, k] @ one.vector.cpu().numpy()) for k, one in enumerate(ours)]
scales = np.array([one.scale for one in ours])
pd.DataFrame({"ours": scales, "scikit-learn": S, "|cosine|": alike}).round(4)

# %% tags=["hide-input"]
shares = {name: values[:50] / values.norm() for name, values in spectra.items()}
figure = pk.plots.lines(
    {
        name: share[share > 1e-3] for name, share in shares.items()
    },  # the rest is rounding
    title="How fast singular values fall, layer by layer",
    xlabel="index, from 0",
    ylabel="share of the norm",
    log=True,
)
pk.show(
    figure,
    "The first 50 singular values of each layer as shares of its norm, on a logarithmic axis.",
)

# %% [markdown]
# Normalization takes one dimension from every layer, so `fc`, with ten neurons, has nine. The values of the last two layers fall fastest: there few directions hold most.
#
# The study kept 8 directions of its `pool5` and found an error of 7,050 alarming. It does not give the norm; under its own normalization that is the root of the number of
# entries, $\sqrt{9216 \cdot 6000} = 7436$. So its eight directions held a tenth of the energy. Ours, over five networks:
# numbers of several seeds come from a *table of evidence*: a file of the package, made once (by `python book/evidence.py directions`)
# and the same for everybody. In the boxes headed *agrees* or *differs* one of its entries is computed again on the machine that ran this page ({doc}`../book/running`).

# %%
table = pk.evidence.table("directions")
layers = pk.evidence.table("layers")
CHAPTER = {"chapter": "10-singular-directions", "data": None}
SEEDS = layers.seed.nunique()
HERE = {"layer": "pool5", "setting": "trained"}
NORMAL = {**HERE, "activations": "normalized"}

# %%
error = by_seed(layers, "error of 8", **HERE)
pk.judge(
    "zhang-thorough",
    [error.mean() > 0.9, error.mean() > 0.71],
    f"relative error of rank 8 in pool5 {spread(error)}; mean (range) of {SEEDS} seeds",
    **CHAPTER,
)

# %% [markdown]
# Eight directions are 3 % of the neurons of our `pool5` and 0.09 % of the study's, so the two numbers cannot be compared without care.
#
# The network on this page has the recipe of the table's seed 0. Training is chaotic: on another machine the same recipe is as good as another seed. So what is
# computed again on this page may miss the table by twice the range of its five seeds.

# %%
values = spectra["pool5"]
again = (values[8:].norm() / values.norm()).item()
room = 2 * (error.max() - error.min())
note = pk.recheck("pool5, error of 8", error[0], again, within=room, data=data)
if not FOLDER:  # the table knows nothing of ImageNet
    display(note)  # noqa: F821

# %% [markdown]
# What is the first direction? Normalization works image by image, so every neuron keeps its mean over the images, and the mean image is part of the matrix.
# The cosine of the first singular direction with it, and the error of eight directions with and without it:

# %%
MEAN = ["first along the mean", "error of 8", "error of 8, centred"]
of_settings = layers[layers.setting.isin(["trained", "untrained"])]
of_settings.groupby(["setting", "layer"], sort=False)[MEAN].mean().round(2)

# %% [markdown]
# In the first layers the first direction is the mean: nearly all scores along it are positive, and *lowest* means least typical.

# %% [markdown]
# ### Exercise 1 ●○○ (5 minutes)
#
# What relative error do the first three directions of `relu4` leave? `values` holds all its singular values, largest first.
#
# <details><summary>Hint</summary>What is left are the other values: the root of the sum of their squares, over that of all.</details>

# %%
values = spectra[LAYERS[3]]
my_error = None
pk.check.compressible(my_error, torch.diag(values), 3)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
my_error = (values[3:].norm() / values.norm()).item()
pk.check.compressible(my_error, torch.diag(values), 3)
print(f"{my_error:.3f}")

# %% [markdown]
# ### Exercise 2 ●●○ (5 minutes)
#
# And in `pool5`? Compute the cosine of its first singular direction, `ours[0].vector`, with the mean of the images' columns of `A`. Is the first
# direction of this layer the mean as well?
#
# <details><summary>Hint</summary><code>A.mean(dim=1)</code> has a number for each neuron. A direction has norm 1, the mean has not.</details>

# %%
my_cosine = None
pk.check.along_mean(my_cosine, ours[0].vector, A)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
mean = A.mean(dim=1)
cosine = float(ours[0].vector.to(mean.device) @ mean / mean.norm())
pk.check.along_mean(cosine, ours[0].vector, A)
print(f"|cosine| {abs(cosine):.2f}")

# %% [markdown]
# ## What do the images at the ends share?
#
# *10 minutes.* The study's Figure 6: the images with the highest and lowest scores along the first eight singular directions of `pool5`.

# %%
pk.show(
    pk.plots.contact_sheet(
        ours, subject.images, 5, title="pool5, the first 8 singular directions"
    ),
    "Eight rows of images: the five of highest and the five of lowest score along each direction.",
)

# %% [markdown]
# The study saw such sets span several classes and share something more abstract, yellow or an obelisk's shape, where those of neurons are often of one kind. Do they
# span more classes? The **entropy** of the classes of 8 images is 0 bits if all are of one class, 1 if they are half and half of two, and 3 if all
# differ: high where purity is low.


# %%
def entropy(method, end=""):
    return by_seed(table, f"{end}entropy", method=method, count=8, **NORMAL)


both = (entropy("singular") + entropy("singular", "bottom ")) / 2
high, anyone = entropy("neurons of high variance"), entropy("random neurons")
most = 0.8 * SEEDS
pk.judge(
    "zhang-classes",
    [(both > high).sum() >= most, (both > anyone).sum() >= most],
    f"entropy of the classes (bits) of singular directions {spread(both)}, of neurons of high variance {spread(high)}, of "
    f"random ones {spread(anyone)}",
    **CHAPTER,
)

# %% [markdown]
# Do small singular values mean less? The study found their sets hard to name.

# %%
ρ, chance, first, last = (
    by_seed(layers, column, **HERE)
    for column in (
        "value and purity",
        "value and purity by chance",
        "purity of first 8",
        "purity of 43 to 50",
    )
)
pk.judge(
    "zhang-magnitude",
    [(ρ > chance).sum() >= most, (first > last).all()],
    f"Spearman correlation of singular value and purity over 50 directions {spread(ρ)}, by chance up to "
    f"{chance.mean():.2f}; purity of the first 8 {spread(first)}, of the 43rd to 50th {spread(last)}",
    **CHAPTER,
)

# %% [markdown]
# And do later sets repeat each other?

# %%
LATER = "singular, 9th to 50th"
of_first, of_later = (
    {
        what: by_seed(table, what, method=method, count=count, **NORMAL)
        for what in ("overlap", "same class")
    }
    for method, count in (("singular", 8), (LATER, 42))
)
pk.judge(
    "zhang-later",
    [
        of_later["overlap"].mean() > 2 * of_first["overlap"].mean(),
        (of_later["same class"] > of_first["same class"]).sum() >= most,
    ],
    f"overlap of the first 8 {spread(of_first['overlap'], '.3f')}, of the 9th to 50th {spread(of_later['overlap'], '.3f')}; pairs of the "
    f"same class {spread(of_first['same class'])} and {spread(of_later['same class'])}",
    **CHAPTER,
)

# %% [markdown]
# What do early layers see, and what late ones? *Colour* below is how much the mean colours of 8 top images vary, divided by how much those of all images do: small
# if they are of one colour. It is a mean over the first 8 singular directions, like purity.

# %%
rows = table[(table.method == "singular") & (table["count"] == 8)]
rows = rows[(rows.setting == "trained") & (rows.activations == "normalized")]
by_layer = rows.groupby("layer", sort=False)[["purity", "bottom purity", "colour"]]
by_layer.agg(spread)

# %%
wide = rows.pivot(index="seed", columns="layer", values=["purity", "colour"])
early, late = ["pool1", "pool2"], ["pool5", "fc"]
ends = {
    (measure, when): wide[measure][names].mean(axis=1)
    for measure in ("purity", "colour")
    for when, names in (("early", early), ("late", late))
}
pk.judge(
    "zhang-abstract",
    [
        (ends["purity", "early"] < ends["purity", "late"]).all(),
        (ends["colour", "early"] < ends["colour", "late"]).all(),
    ],
    f"purity of the first two layers {spread(ends['purity', 'early'])}, of the last two {spread(ends['purity', 'late'])}; colour "
    f"{spread(ends['colour', 'early'])} and {spread(ends['colour', 'late'])}",
    **CHAPTER,
)

# %% [markdown]
# Only images that the network gets right are in these tables, and that lifts purity most where the answer is near. With any test images:

# %%
rows = table[(table.method == "singular") & (table["count"] == 8)]
rows = rows[rows.activations == "normalized"]
by_setting = rows.groupby(["setting", "layer"], sort=False)["purity"].mean()
by_setting = by_setting.unstack("layer")
by_setting.round(2)

# %% [markdown]
# So the rise towards the last layers is a rise on images that the network gets right. On any test images purity is highest in the middle, and lower in the last two layers than in the first two.

# %% [markdown]
# ## Have early layers fewer large singular values?
#
# *10 minutes.* So the study reports: one above a cut-off of about 200 in the first layers, at least eight in the last. But a cut-off has a unit, and a matrix
# with more rows has larger singular values, whatever is in it. So we count three times:
#
# 1. above one number for all layers, as the study did: 200 is 2.7 % of the norm of its `pool5`, and we take that of ours;
# 2. above 2.7 % of each layer's own norm;
# 3. above chance: the singular values of the same layer, centred, with every neuron's activations permuted by themselves {cite}`horn1965rationale`.
#
# The first two will turn out to mean little. Watch the column of noise, which counts as 2. does, for white noise of the same shape. Means over five networks:

# %%
CUTS = ["above one cut", "above own cut", "above chance"]
trained = layers[layers.setting == "trained"].groupby("layer", sort=False)
counts = trained[CUTS].agg(lambda column: spread(column, ".0f"))
counts["noise above own cut"] = trained["noise above own cut"].first()
counts["neurons"] = trained.neurons.first()
counts

# %%
wide = layers[layers.setting == "trained"].pivot(
    index="seed", columns="layer", values=CUTS
)
ends = {cut: [wide[cut][names].mean(axis=1) for names in (early, late)] for cut in CUTS}
pk.judge(
    "zhang-large",
    [(first < last).all() for first, last in ends.values()],
    "; ".join(
        f"{cut}: first two layers {spread(first, '.0f')}, last two {spread(last, '.0f')}"
        for cut, (first, last) in ends.items()
    ),
    **CHAPTER,
)

# %% [markdown]
# The third count again, for the network on this page; by chance it may be off by one more than twice the range of the seeds.

# %%
listed = by_seed(layers, "above chance", **HERE)
again = pk.spectra.parallel_analysis(A[:, few])
room = 1 + 2 * (listed.max() - listed.min())
note = pk.recheck("pool5, above chance", listed[0], again, within=room, data=data)
if not FOLDER:
    display(note)  # noqa: F821

# %% [markdown]
# White noise has far more values above the cut-off than our layers: it spreads its norm evenly over all directions, and on matrices as small as ours an even share is more than 2.7 %. So the first two
# counts say how many directions there are, and little else. In the study's `pool5` the cut-off lay above noise, since noise of 9,216 × 6,000 reaches
# $\sqrt{9216} + \sqrt{6000} = 173$. The third count has a limit too: where there are ten neurons it can hardly find more than a few. How many singular values are *large* depends on
# where the line is drawn. What the cut-off costs, in the network on this page:

# %%
kept = {name: int((v > 0.0269 * v.norm()).sum()) for name, v in spectra.items()}
left = {name: v[kept[name] :].norm() / v.norm() for name, v in spectra.items()}
pd.DataFrame({"rank": kept, "error": {n: e.item() for n, e in left.items()}}).round(2)

# %% [markdown]
# A measure that needs no line is the entropy rank, here as a share of the neurons:

# %%
share = trained["entropy rank"].mean() / trained.neurons.first()
share.map("{:.0%}".format).to_frame("entropy rank / neurons").T

# %% [markdown]
# ### Exercise 3 ●●○ (10 minutes)
#
# Where is the line for noise? Draw white noise of the shape of our `relu4`, and give its largest singular value as a share of its norm.
#
# <details><summary>Hint</summary><code>torch.randn(*shape)</code> draws it, <code>pk.spectrum</code> gives its singular values, and
# <code>values.norm()</code> is its norm.</details>

# %%
shape = blocks[LAYERS[3]][:, few].shape
my_share = None
pk.check.noise_share(my_share, shape)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
noise = pk.spectrum(torch.randn(*shape, generator=torch.Generator().manual_seed(1)))
my_share = (noise[0] / noise.norm()).item()
pk.check.noise_share(my_share, shape)
print(
    f"{my_share:.1%}, and by (√neurons + √images) / √entries "
    f"{(shape[0] ** 0.5 + shape[1] ** 0.5) / (shape[0] * shape[1]) ** 0.5:.1%}"
)

# %% [markdown]
# ## And in a network with the study's layers?
#
# *5 minutes.* The small CaffeNet of {doc}`09-what-one-neuron-sees` has 36 places in `pool5`, and fully connected layers behind it (`relu6` and `relu7` are fc6 and fc7). **One
# seed, six epochs.** The study's Figure 5 shows the first fifteen singular values of `pool5`; where is their elbow, the value farthest below the line
# from the first to the last {cite}`satopaa2011finding`?

# %%
caffe = pk.evidence.table("caffenet").set_index(["setting", "layer"])
own = caffe.loc["trained"]
VALUES = [f"value {k}" for k in range(1, 16)]
pools = {name: caffe.loc[name, "pool5"] for name in ("trained", "untrained")}
falls = {name: pool[VALUES].astype(float).to_numpy() for name, pool in pools.items()}
figure = pk.plots.lines(
    falls,
    title="The first fifteen singular values of pool5",
    xlabel="index, from 0",
    ylabel="share of the norm",
)
pk.show(figure, "Two falling lines, of the trained network and of the untrained one.")

# %%
elbows = {name: int(pool["elbow"]) for name, pool in pools.items()}
eighth = {name: values[7] / values[0] for name, values in falls.items()}
pk.judge(
    "zhang-elbow",
    [2 <= elbows["trained"] <= 8, eighth["trained"] < 0.5],
    "; ".join(
        f"{name}: elbow at {elbows[name]}, the eighth is {eighth[name]:.2f} of the first"
        for name in elbows
    ),
    **CHAPTER,
)

# %%
MEASURES = ["purity of singular", "places of singular", "above chance", "error of 8"]
own[MEASURES].astype(float).round(2)

# %%
purity = own["purity of singular"]
untrained = caffe.loc["untrained"]["purity of singular"]
fc, before = ["relu6", "relu7"], ["norm1", "norm2", "relu3", "relu4", "pool5"]
pk.judge(
    "zhang-fully-connected",
    [
        purity[fc].min() > purity[before].max(),
        purity[fc].min() > 0.5,
        (purity[fc] - untrained[fc]).min() >= 0.1,
    ],
    f"purity in fc6 {purity['relu6']:.2f}, in fc7 {purity['relu7']:.2f}, before at most {purity[before].max():.2f}; untrained "
    f"{untrained['relu6']:.2f} and {untrained['relu7']:.2f}; one network",
    **CHAPTER,
)

# %%
share = own["places of singular"].dropna()
pk.judge(
    "zhang-localized",
    [share["pool5"] > share["norm1"], (share.diff().dropna() > 0).all()],
    "share of the places over which the first 8 directions spread: "
    + ", ".join(f"{layer} {value:.2f}" for layer, value in share.items())
    + "; one network",
    **CHAPTER,
)

# %% [markdown]
# ## How do they compare with the components of a coupled factorization?
#
# *10 minutes.* Here the two studies meet: the same images and layers, once by SVD, once by the coupled NMF of chapter 2 at rank 30, whose eight strongest
# components in each layer count as directions. Five networks, top images:

# %%
ROWS = {
    ("normalized", "singular"): "singular",
    ("normalized", "neurons of high variance"): "neurons, high variance",
    ("normalized", "random neurons"): "neurons, random",
    ("normalized", "random"): "random directions",
    ("raw", "neurons of high variance"): "neurons, high variance, raw",
    ("raw", "singular"): "singular, raw",
    ("raw", "nmf"): "coupled NMF, raw",
}
part = table[(table["count"] == 8) & (table.setting == "trained")]
means = part.groupby(["activations", "method", "layer"]).purity.mean()
compared = means.unstack("layer").loc[
    list(ROWS), ["pool1", "pool2", "relu3", "relu4", "pool5"]
]
compared.index = list(ROWS.values())
compared.round(2)

# %%
for layer in compared:
    ranked = compared[layer].sort_values(ascending=False)
    names = [f"{name} {value:.2f}" for name, value in ranked.iloc[:2].items()]
    print(f"{layer}: {', then '.join(names)}")

# %% [markdown]
# An NMF takes raw activations, since normalized ones are negative; compare it with the raw rows. Its components share the images' loadings over all layers: a
# component of `pool2` knows what `pool5` made of its images, so the numbers in its row are not five separate findings, while singular directions and neurons know their own layer alone. Are the two kinds
# the same directions? Normalization removes from an image what all its neurons have in common, so we remove it from the NMF directions too. Then
# their largest cosine with any of 50 singular directions, and the length of what lies in the span of these, at most 1:

# %%
U = torch.stack([d.vector for d in pk.directions.singular(A, min(50, *A.shape))])
rows = []
for one in pk.directions.nmf(blocks["pool5"], 8, fit=fit, layer="pool5"):
    v = one.vector - one.vector.mean()
    cosines = U @ (v / v.norm())
    rows.append((one.name, cosines.abs().max().item(), cosines.norm().item()))
columns = ["direction", "largest cosine", "length within the span"]
pd.DataFrame(rows, columns=columns).set_index("direction").round(2)

# %% [markdown]
# ## Where in the layer does a direction live?
#
# *5 minutes.* A neuron of a convolutional layer has a place. Lay a direction out in channels, and ask over how many places, and how many
# channels, its energy spreads: the exponential of the entropy, as for the entropy rank. One means local, all means global.


# %%
def spread_out(vector, maps):
    """Over how many channels and how many places a unit vector spreads."""
    energy = vector.square().reshape(maps[0], -1)
    return [torch.special.entr(energy.sum(dim=d)).sum().exp().item() for d in (1, 0)]


rows = []
for (kind, layer), some in found.items():
    maps = subject.shape(layer)
    if kind in KINDS[:2] + KINDS[3:] and len(maps) == 3 and maps[1] > 1:
        both = np.mean([spread_out(one.vector, maps) for one in some], axis=0)
        of = f"{maps[0]} channels, {maps[1] * maps[2]} places"
        rows.append((layer, of, kind, *both))
columns = ["layer", "has", "kind", "channels", "places"]
where = pd.DataFrame(rows, columns=columns).set_index(["layer", "has", "kind"])
where.round(1)

# %%
first = LAYERS[0]
maps = subject.shape(first)
for kind in ("singular", "nmf")[: 1 + (first in hidden)]:
    one = found[kind, first][1]
    channels = one.vector.reshape(maps)
    strongest = channels.flatten(1).norm(dim=1).argsort(descending=True)[:10]
    title = f"{one.name} of {first}: its 10 strongest channels"
    picture = pk.plots.channel_maps(channels[strongest], (10, *maps[1:]), title=title)
    text = f"Small maps of {maps[1]} × {maps[2]} places, one for each channel."
    display(pk.show(picture, f"{title}. {text}"))  # noqa: F821

# %% [markdown]
# Blue is negative, red positive; a direction of the NMF has no negative entries.
#
# ### Exercise 4 ●●○ (5 minutes)
#
# Over how many places does not say *where*. At which row and column of its maps does the second singular direction of the first
# layer hold most of its energy, over all channels? Compare with the picture above: why is the darkest dot of one map not enough?
#
# <details><summary>Hint</summary><code>vector.reshape(maps)</code> is channels × rows × columns. Square before you add up, and
# <code>divmod</code> by the width turns a number of a place into row and column.</details>

# %%
vector, maps = found["singular", first][1].vector, subject.shape(first)
my_place = None  # (row, column)
pk.check.strongest_place(my_place, vector, maps)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
energy = vector.reshape(maps).square().sum(dim=0)
place = divmod(int(energy.argmax()), maps[2])
pk.check.strongest_place(place, vector, maps)
print(f"row {place[0]}, column {place[1]}, {energy.max() / energy.sum():.0%} of it")

# %% [markdown]
# ## Which directions of the next layer does it become?
#
# *5 minutes.* Two directions in different layers are alike if their scores over the images correlate. For whole layers there is centred
# kernel alignment {cite}`kornblith2019similarity`: 1 if one layer is a rotation of the other, up to scale, and near 0 if they share nothing.

# %%
some = {name: block[:, few] for name, block in blocks.items()}
lined_up = pd.DataFrame(
    {
        a: {b: pk.spectra.cka(some[a], some[b]) for b in LAYERS[k:]}
        for k, a in enumerate(LAYERS)
    }
)
lined_up.map("{:.2f}".format).replace("nan", "")

# %%
a, b = LAYERS[3], "pool5"
scores = [torch.stack([one.scores for one in found["singular", x]]) for x in (a, b)]
joint = torch.corrcoef(torch.cat(scores))[: len(SHOWN), len(SHOWN) :].abs().cpu()
names = [f"{k}" for k in SHOWN]
pk.show(
    pk.plots.class_matrix(
        pd.DataFrame(joint.numpy(), index=names, columns=names),
        title=f"Singular directions of {a} and {b}",
        xlabel=f"direction of {b}",
        ylabel=f"direction of {a}",
        label="|correlation|",
    ),
    f"A matrix of the correlations of the first {len(SHOWN)} directions of {a} with those of {b}; the largest is {joint.max():.2f}.",
)

# %%
best = joint.max(dim=1)
for k, (value, to) in enumerate(zip(best.values, best.indices)):
    print(
        f"direction {k + 1} of {a}: nearest is {to + 1} of {b}, correlation {value:.2f}"
    )

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** A study counts singular values above 200 in each layer. What is wrong with comparing the counts?
#
# - (a) 200 is too large.
# - (b) A cut-off has the unit of the matrix, and matrices with more rows have larger singular values whatever is in
#   them.
# - (c) One has to count the squares.
#
# <details><summary>Answer</summary>
#
# **(b)** Compare with noise of the same shape instead. (a): any other number has the same fault. (c) changes the
# number and not the fault.
#
# </details>
#
# **2.** The matrix is not centred over the images. What is its first singular direction likely to be, in an early
# layer?
#
# - (a) The mean image.
# - (b) The neuron of highest variance.
# - (c) A random direction.
#
# <details><summary>Answer</summary>
#
# **(a)** All columns share the mean, so it holds much of the energy, and nearly all scores along it have one sign.
# (b) and (c): neither is what all images have in common, and no direction holds more energy than the first.
#
# </details>
#
# **3.** Singular directions and NMF components lie nearly in one span, and are different directions. What
# distinguishes them?
#
# - (a) Singular directions are orthogonal and may subtract; components may not subtract, and need not be orthogonal.
# - (b) Only the order.
# - (c) Components have a smaller error at the same rank.
#
# <details><summary>Answer</summary>
#
# **(a)** One span has many bases. (b): then each component would be a singular direction. (c) is impossible: cutting
# off the singular values has the least error of all of that rank.
#
# </details>
#
# **4.** Direction 2 of one layer correlates with direction 5 of the next, over the images. Are they alike as vectors?
#
# - (a) Yes, by their cosine.
# - (b) Only if both layers have the same number of channels.
# - (c) That cannot be asked: they have different neurons. Their *scores* over the same images are alike.
#
# <details><summary>Answer</summary>
#
# **(c)** Images are what the two layers share. (a) and (b) compare entries of different neurons: even with equal
# numbers entry 3 of one has nothing to do with entry 3 of the other.
#
# </details>

# %% [markdown]
# ## We saw
#
# - The leading singular directions of a trained `pool5` have purer sets of images than later ones. In the
#   first layers their images agree more in colour; in the last ones more in class, but only on images that the network gets right.
# - How many singular values are large depends on the line that is drawn, and on the shape of the matrix: on small layers the study's
#   cut-off lies below white noise.
# - Singular directions and the components of a coupled factorization are different directions in the same span. From `pool2` to `relu4` the components have the purest
#   images of all kinds that we tried; in `pool5` neurons of high variance, raw, do as well.
#
# Next: all of this for a network of your own, {doc}`11-your-own-network`. References are in the {doc}`../book/bibliography`.
