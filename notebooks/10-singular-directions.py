# %% [markdown]
# # Singular directions, layer by layer
#
# [![Open in Colab](../book/_static/colab.svg)](https://colab.research.google.com/github/OWNER/peek/blob/main/notebooks/10-singular-directions.ipynb)
#
# *Which few directions carry most of what a layer does, what do images at their ends share, and how do they compare with the
# components of a coupled factorization?*
#
# You know {doc}`02-coupled-nmf` and {doc}`09-what-one-neuron-sees`. Allow 50 minutes to read and answer; the chapter runs for about a minute
# on a laptop CPU after chapter 9, six without.

# %% tags=["remove-cell"]
import sys

EVIDENCE = "../book/evidence"
if (
    "google.colab" in sys.modules
):  # Colab keeps its own torch and numpy; this adds peeklib alone
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/OWNER/peek")  # noqa: F821
    EVIDENCE = "https://raw.githubusercontent.com/OWNER/peek/main/book/evidence"

# %%
import numpy as np
import pandas as pd
import torch
from sklearn.utils.extmath import randomized_svd

import peeklib as pk

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("cifar10", fallback=True)
data

# %% [markdown]
# The network and the images are those of {doc}`09-what-one-neuron-sees`: an AlexNet trained for five epochs on CIFAR-10, and 6,000 test images that
# it classifies correctly; or torchvision's, if you name a folder of ImageNet images.

# %%
FOLDER = None  # such as "/content/imagenet/val"

if FOLDER:
    subject = pk.subjects.imagenet(FOLDER, count=2000)  # 6,000 need 40 GB
else:
    part = pk.subset(data, fraction=1.0 if full else 0.05, seed=0)
    model = pk.models.CifarAlexNet(3, seed=0)
    model = pk.subjects.train_cifar(model, *part, seed=0, epochs=4 if full else 1)
    subject = pk.subjects.cifar(model, data, only_correct=full, seed=0)
LAYERS, labels = list(subject.layers), subject.labels
subject

# %% [markdown]
# Four kinds of directions in every layer: *singular* ones, after Zhang {cite}`zhang2015visualizing`; *nmf* ones, the neurons of a component of the
# coupled factorization, with the images that load on it; single *neurons* of high variance; and *random* ones. **What do the images
# at the ends of the first singular directions share in `pool1`, and what in `pool5`? Which kind is easiest to name?**

# %% tags=["hide-input"]
blocks = {name: subject.activations(name) for name in LAYERS}
hidden = {name: block for name, block in blocks.items() if block.min() >= 0}
how = {"max_iter": 60, "tol": 1e-3}
fit = pk.coupled_nmf(pk.input_blocks(subject.images) | hidden, 30, **how)

# %% tags=["hide-input"]
SHOWN, KINDS = range(1, 7), ["singular", "nmf", "neuron", "random"]
found, spectra = {}, {}
for layer, raw in blocks.items():
    A, args = pk.directions.normalize(raw), {"count": len(SHOWN), "layer": layer}
    found["singular", layer] = pk.directions.singular(A, **args)
    found["neuron", layer] = pk.directions.neurons(A, **args)
    found["random", layer] = pk.directions.random(A, **args)
    if layer in hidden:
        found["nmf", layer] = pk.directions.nmf(raw, fit=fit, **args)
    spectra[layer] = pk.spectrum(A).cpu()


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
# *10 minutes.* The singular value decomposition writes the normalized activations as $\tilde\Phi = U S V^T$. The columns of $U$ are
# directions among the neurons, orthogonal to each other; column $j$ of $V$, times $\sigma_j$, holds the scores of the images along
# direction $j$. The first $s$ of them give the best approximation of rank $s$. `pk.directions.singular` computes them by
# randomized subspace iteration {cite}`halko2011finding`, on a GPU if the activations are there; scikit-learn's is the reference.

# %%
A = pk.directions.normalize(blocks["pool5"])
ours = pk.directions.singular(A, 8, layer="pool5")
U, S, _ = randomized_svd(A.cpu().numpy(), 8, random_state=0)
alike = [abs(U[:, k] @ one.vector.cpu().numpy()) for k, one in enumerate(ours)]
scales = np.array([one.scale for one in ours])
assert np.allclose(scales, S, rtol=1e-3)
pd.DataFrame({"ours": scales, "scikit-learn": S, "|cosine|": alike}).round(4)

# %% tags=["hide-input"]
shares = {name: values[:50] / values.norm() for name, values in spectra.items()}
figure = pk.plots.lines(
    shares,
    title="Singular values of the normalized activations",
    xlabel="index",
    ylabel="share of the norm",
    log=True,
)
pk.show(
    figure,
    "The first 50 singular values of each layer as shares of its norm, on a logarithmic axis.",
)

# %% [markdown]
# The study kept 8 directions of its `pool5` and found an error of 7,050 alarming. It tells its size only beside the whole: with 9,216 neurons,
# 6,000 images and variance 1 the norm is $\sqrt{9216 \cdot 6000} = 7436$. So its eight directions held a tenth of the energy. Ours:

# %%
table = pd.read_csv(f"{EVIDENCE}/directions.csv")
layers = pd.read_csv(f"{EVIDENCE}/layers.csv")
CHAPTER = {"chapter": "10-singular-directions", "data": None}
SEEDS = layers.seed.nunique()


def of_layer(column, layer="pool5"):
    rows = layers[(layers.layer == layer) & (layers.setting == "trained")]
    return rows.set_index("seed")[column].sort_index()


def spread(values, form=".2f"):
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"


error = of_layer("error of 8")
again = (spectra["pool5"][8:].norm() / spectra["pool5"].norm()).item()
if data.name == "cifar10" and not FOLDER:
    assert abs(again - error[0]) < 0.06  # the table tells the truth
pk.judge(
    "zhang-thorough",
    [error.mean() > 0.9, error.mean() > 0.71],
    f"relative error of rank 8 in pool5 {spread(error)}; mean (range) of {SEEDS} seeds",
    **CHAPTER,
)

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
# It saw such sets span several classes and share something more abstract, yellow or an obelisk's shape, where those of neurons are often of one kind.
# And it found sets of small singular values hard to name. Purity and entropy of classes, over five networks:


# %%
def measured(measure, method, layer="pool5", count=8):
    rows = table[(table.method == method) & (table.layer == layer)]
    rows = rows[(rows["count"] == count) & (rows.setting == "trained")]
    rows = rows[rows.activations == ("raw" if method == "nmf" else "normalized")]
    return rows.set_index("seed")[measure].sort_index()


both = [measured(f"{end}entropy", "singular") for end in ("", "bottom ")]
both = (both[0] + both[1]) / 2
high = measured("entropy", "neurons of high variance")
anyone = measured("entropy", "random neurons")
most = 0.8 * SEEDS
pk.judge(
    "zhang-classes",
    [(both > high).sum() >= most, (both > anyone).sum() >= most],
    f"entropy of the classes (bits) of singular directions {spread(both)}, of neurons of high variance {spread(high)}, of "
    f"random ones {spread(anyone)}",
    **CHAPTER,
)

# %%
ρ, chance = of_layer("value and purity"), of_layer("value and purity by chance")
first, last = of_layer("purity of first 8"), of_layer("purity of 43 to 50")
pk.judge(
    "zhang-magnitude",
    [(ρ > chance).sum() >= most, (first > last).all()],
    f"Spearman correlation of singular value and purity over 50 directions {spread(ρ)}, by chance up to "
    f"{chance.mean():.2f}; purity of the first 8 {spread(first)}, of the 43rd to 50th {spread(last)}",
    **CHAPTER,
)

# %% [markdown]
# *Colour* below is how much the mean colours of 8 top images vary, divided by how much those of all images do: small
# if they are of one colour. It is a mean over the first 8 singular directions, like purity.

# %%
rows = table[(table.method == "singular") & (table["count"] == 8)]
rows = rows[(rows.setting == "trained") & (rows.activations == "normalized")]
by_layer = rows.groupby("layer", sort=False)[["purity", "bottom purity", "colour"]]
by_layer.agg(spread)

# %%
wide = rows.pivot(index="seed", columns="layer", values=["purity", "colour"])
early, late = LAYERS[:2], LAYERS[-2:]
if FOLDER:  # the table is about CifarAlexNet
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
# ## Have early layers fewer large singular values?
#
# *10 minutes.* So the study reports: one above a cut-off of about 200 in the first layers, at least eight in the last. But a cut-off has a unit. A matrix
# with more rows has larger singular values, whatever is in it. So we ask three times: above one cut-off for all layers, as the study did (200 is
# 2.7 % of the norm of its `pool5`); above 2.7 % of each layer's own norm; and above chance, which means above the
# singular values of the same layer when every neuron's activations are permuted by themselves {cite}`horn1965rationale`.

# %%
CUTS = ["above one cut", "above own cut", "above chance"]
trained = layers[layers.setting == "trained"].groupby("layer", sort=False)
counts = trained[CUTS].agg(spread, form=".0f")
counts["neurons"] = trained.neurons.first()
counts

# %%
wide = layers[layers.setting == "trained"].pivot(
    index="seed", columns="layer", values=CUTS
)
fewer = [wide[cut][early].mean(axis=1) < wide[cut][late].mean(axis=1) for cut in CUTS]
if data.name == "cifar10" and not FOLDER:
    live = pk.spectra.above_chance(A)
    assert abs(live - of_layer("above chance")[0]) <= 3
pk.judge(
    "zhang-large",
    [one.all() for one in fewer],
    "; ".join(
        f"{cut}: first two layers {spread(wide[cut][early].mean(axis=1), '.0f')}, "
        f"last two {spread(wide[cut][late].mean(axis=1), '.0f')}"
        for cut in CUTS
    ),
    **CHAPTER,
)

# %% [markdown]
# What a cut-off costs, in this network: how many directions lie above 2.7 % of a layer's norm, and the relative error of keeping just these.

# %%
kept = {name: int((v > 0.027 * v.norm()).sum()) for name, v in spectra.items()}
left = {name: v[kept[name] :].norm() / v.norm() for name, v in spectra.items()}
pd.DataFrame({"rank": kept, "error": {n: e.item() for n, e in left.items()}}).round(2)

# %% [markdown]
# All three counts say the opposite: the first layers have more large singular values than the last. As shares of what a layer could have, ten
# neurons at most ten, the order is another one; the entropy rank as a share of the neurons:

# %%
share = trained["entropy rank"].mean() / trained.neurons.first()
share.map("{:.0%}".format).to_frame("entropy rank / neurons").T

# %% [markdown]
# ### Exercise 2 ●●○ (10 minutes)
#
# How many singular values of `relu4` lie above 2.7 % of its norm, and how many above 2.7 % of the norm of a matrix of as many random
# numbers of variance 1, which is the root of their count? Give both numbers as a pair.
#
# <details><summary>Hint</summary>A normalized layer has variance 1 too; compare the two norms before you
# compute.</details>

# %%
relu4 = spectra[LAYERS[3]]
entries = blocks[LAYERS[3]].numel()
my_pair = None
pk.check.large_values(my_pair, relu4, entries, 0.027)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
own = int((relu4 > 0.027 * relu4.norm()).sum())
of_random = int((relu4 > 0.027 * entries**0.5).sum())
pk.check.large_values((own, of_random), relu4, entries, 0.027)
print(own, of_random)

# %% [markdown]
# ## How do they compare with the components of a coupled factorization?
#
# *10 minutes.* Here the two studies meet: the same images and layers, once by SVD, once by the coupled NMF of chapter 2 at rank 30, whose eight strongest
# components in each layer count as directions. Five networks, top images:

# %%
ROWS = {
    "singular": "singular",
    "nmf": "coupled NMF",
    "neurons of high variance": "neurons",
    "random": "random",
}
part = table[(table["count"] == 8) & (table.setting == "trained")]
part = part[(part.activations == "normalized") | (part.method == "nmf")]
part = part[part.method.isin(ROWS)].replace({"method": ROWS})
compared = part.groupby(["layer", "method"], sort=False)["purity"].agg(spread)
compared.unstack("layer").fillna("–")

# %% [markdown]
# The components of the coupled factorization are the purest everywhere from `pool2` to `pool5`. They share the images' loadings over all layers, so a
# component of `pool2` knows what `pool5` made of its images; singular directions know their own layer alone. Are the two kinds
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
    picture = pk.plots.channel_maps(
        one.vector, maps, title=f"{one.name} of {first}, channel by channel"
    )
    text = f"{maps[0]} small maps of {maps[1]} × {maps[2]} places, one a channel."
    display(pk.show(picture, f"{one.name} of {first}: {text}"))  # noqa: F821

# %% [markdown]
# ## Which directions of the next layer does it become?
#
# *5 minutes.* Two directions in different layers are alike if their scores over the images correlate. For whole layers there is centred
# kernel alignment {cite}`kornblith2019similarity`: 1 if one layer is a rotation of the other, near 0 if they share nothing.

# %%
lined_up = pd.DataFrame(
    {
        a: {b: pk.spectra.cka(blocks[a], blocks[b]) for b in LAYERS[k:]}
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

# %% [markdown]
# ## We saw
#
# - The leading singular directions of a trained layer are easier to name than later ones, and of the later layers easier than of the first. In the
#   first layers their images agree more in colour.
# - The early layers have more large singular values, not fewer, whichever cut-off we take; and eight directions hold most of our
#   `pool5`, where they held a tenth of the study's.
# - On the same images the components of the coupled factorization have purer top images than singular directions, neurons and random directions in the
#   middle layers.
#
# Next: all of this for a network of your own, {doc}`11-your-own-network`. References are in the {doc}`../book/bibliography`.
