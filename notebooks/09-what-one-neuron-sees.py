# %% [markdown]
# # What one neuron sees
#
# *Take one neuron, or any direction among the neurons, and look at the images that lie farthest along it: do they have
# something in common, and is a single neuron special?*
#
# You know {doc}`01-a-network-as-matrices` and the AlexNet of {doc}`04-deeper-and-in-colour`; symbols are in
# {doc}`../book/notation`. Allow 80 minutes to read and answer; the chapter trains a network for several minutes on a
# laptop CPU.

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
from sklearn.cluster import AgglomerativeClustering

import peeklib as pk
from peeklib.course.ledger import by_seed, spread

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("cifar10", fallback=True)
data

# %% [markdown]
# Zhang {cite}`zhang2015visualizing` took a network trained on ImageNet, kept 6,000 images that it classifies correctly, and looked
# for each layer at those with the highest and lowest activations. We do the same with the AlexNet of
# {doc}`04-deeper-and-in-colour`, trained on CIFAR-10 for four epochs and one more at a tenth of the learning rate, and its
# test images. Convolutions are taken at the end of their pipeline of convolution, ReLU and pooling.
#
# Have you a folder of ImageNet images, or of a part of them, such as Imagenette? Write its path in `FOLDER`: then this chapter and
# the next look at torchvision's pretrained AlexNet, all eight layers and 6,000 images, as the study did: one layer at a time, with 5 GB of activations
# on disk. Tables and verdicts remain those of the small networks.

# %%
FOLDER = None  # such as "/content/imagenette2"

if FOLDER:
    disk = TemporaryDirectory()
    subject = pk.subjects.imagenet(FOLDER, store=f"{disk.name}/activations")
else:
    model = pk.models.CifarAlexNet(3, seed=0)
    model = pk.subjects.train_cifar(model, *data.train, seed=0, epochs=4 if full else 1)
    print(f"test accuracy {pk.accuracy(model, *data.test):.1%}")
    subject = pk.subjects.cifar(model, data, only_correct=full, seed=0).recorded()
subject

# %% [markdown]
# Every choice of the sliders shows one direction: *highest* are the images with the largest scores along it, *lowest* those with the
# smallest, the most extreme one first. **Which of these directions could you give a name? Look at `pool1` first, then at `pool5`, then at random directions.**

# %% tags=["hide-input"]
LAYERS, SHOWN = list(subject.layers), range(1, 6)
MAKE = {
    "neuron, high variance": {"make": pk.directions.neurons},
    "neuron, random": {"make": pk.directions.neurons, "select": "random"},
    "random direction": {"make": pk.directions.random},
}
found = {}
for layer in LAYERS:  # one at a time: that of a large network takes a gigabyte
    raw = subject.activations(layer)
    A, alive = pk.directions.normalize(raw), raw.std(dim=1) > 0
    for kind, how in MAKE.items():
        how = {**how, "layer": layer}
        if "neuron" in kind:
            how["among"] = alive
        found[kind, layer] = how.pop("make")(A, len(SHOWN), **how)


# %% tags=["hide-input"]
def draw(kind, layer, which):
    direction = found[kind, layer][which - 1]
    ends = [
        [subject.classes[label] for label in subject.labels[pick(direction, 6)]]
        for pick in (pk.directions.top_images, pk.directions.bottom_images)
    ]
    figure = pk.plots.contact_sheet([direction], subject.images, 6, title=kind)
    text = f"{direction.name} of {layer}: highest {', '.join(ends[0])}; lowest {', '.join(ends[1])}."
    return figure, text


axes = {"kind": list(MAKE), "layer": LAYERS, "which": SHOWN}
pk.Explorer(axes, draw, prepared={"which": SHOWN[:3]})

# %% [markdown]
# **You will be able to**
#
# - find the images that drive a neuron, or any direction, most;
# - measure whether such images have more in common than random ones;
# - say whether the variance of a neuron tells how readable it is, and whether neurons repeat each other;
# - recognize what normalization alone can do to the low end.
#
# ## Which images excite a neuron?
#
# *10 minutes.* The activations of a layer are a matrix $\Phi$, neurons × images: a block of chapter 1, though layers without
# a ReLU may be negative.
#
# - Before anything else the study shifts and scales every *column*, all neurons for one image, to mean 0 and variance 1.
#   The result is $\tilde\Phi$, and $\tilde\varphi(x)$ is its column for image $x$.
# - A *direction* is a unit vector $v$ among the neurons, and $\langle \tilde\varphi(x), v\rangle$ is the *score* of image $x$.
# - For a single neuron $v$ is an axis, and the scores are a row of $\tilde\Phi$.
# - A neuron that is zero for every image gets varying scores from the normalization alone, so we choose among those that
#   are *alive*, which vary before it.
#
# Our `pool5` has 256 neurons, one for each channel.

# %%
raw, labels = subject.activations("pool5"), subject.labels
A, alive = pk.directions.normalize(raw), raw.std(dim=1) > 0
how = {"among": alive, "layer": "pool5"}
neurons = pk.directions.neurons(A, 8, **how)  # of highest variance
neurons[0]  # its scale is the standard deviation of its scores

# %%
pk.show(
    pk.plots.contact_sheet(
        neurons, subject.images, 5, title="pool5, the 8 neurons of highest variance"
    ),
    "Eight rows of images: the five with the highest score and the five with the lowest for each of eight neurons of pool5.",
)

# %%
some = pk.directions.neurons(A, 8, select="random", **how)
pk.show(
    pk.plots.contact_sheet(
        some, subject.images, 5, title="pool5, 8 neurons drawn at random"
    ),
    "The same for eight neurons of pool5 drawn at random.",
)

# %% [markdown]
# Most rows on the left are of one kind. On the right a few images end many rows; why, comes below.
#
# The study judged by eye. Eyes find patterns in noise too, so we count. **Class purity** is the share of the most frequent
# class among the 8 top images: 1 if they are all of one class. It is a poor judge, blind to colours and shapes that
# classes share, but a fair one. Eight random images of ten classes have a purity of 0.30 on average.

# %%
draws = torch.Generator().manual_seed(0)
random_sets = torch.randint(len(labels), (50 * 1000, 8), generator=draws)
chance = pk.directions.purity(labels[random_sets]).reshape(1000, 50).mean(dim=1)
live = {
    select: pk.directions.describe(
        pk.directions.neurons(A, 50, select=select, **how), labels
    )
    for select in ("variance", "random")
}
purities = {f"50 neurons by {name}": one["purity"] for name, one in live.items()}
purities["50 sets of random images"] = chance.mean().item()
purities["what 999 of 1,000 such draws stay below"] = chance.quantile(0.999).item()
pd.Series(purities, name="class purity").to_frame().round(3)

# %% [markdown]
# One network proves little, so numbers of several seeds come from a *table of evidence*: a file of the package, made once (by `python book/evidence.py
# directions`) and the same for everybody. It holds five networks, and five untrained ones; its images of CIFAR-10 had been stored as JPEG. In the box headed *agrees* or *differs* one of
# its entries is computed again on the machine that ran this page ({doc}`../book/running`). Chance is again the level that 999 of 1,000 draws of random images stay below.

# %%
table = pk.evidence.table("directions")
layers = pk.evidence.table("layers")
CHAPTER = {"chapter": "09-what-one-neuron-sees", "data": None}
SEEDS = table.seed.nunique()
HERE = {"layer": "pool5", "setting": "trained"}
NORMAL = {**HERE, "activations": "normalized"}
high, anyone = "neurons of high variance", "random neurons"

# %%
purity = {
    method: by_seed(table, "purity", method=method, count=50, **NORMAL)
    for method in (high, anyone)
}
level = by_seed(layers, "purity by chance", **HERE)
fresh = {"layer": "pool5", "setting": "untrained"}
without = by_seed(
    table, "purity", method=high, count=50, activations="normalized", **fresh
)
pk.judge(
    "zhang-readable",
    [
        (purity[high] > level).all(),
        (purity[anyone] > level).all(),
        (without <= by_seed(layers, "purity by chance", **fresh)).all(),
    ],
    f"purity of high-variance neurons {spread(purity[high])}, of random ones {spread(purity[anyone])}, of those of an "
    f"untrained network {spread(without)}, chance {level.mean():.2f}; mean (range) of {SEEDS} seeds",
    **CHAPTER,
)

# %% [markdown]
# Images that the network gets right are images that it sorts well, so choosing them lifts the purity by itself. The same networks on any test images, right or
# wrong, and untrained ones:

# %%
rows = table[(table["count"] == 50) & (table.activations == "normalized")]
rows = rows[(rows.layer == "pool5") & rows.method.isin(purity)]
by_setting = rows.groupby(["setting", "method"], sort=False)["purity"].agg(spread)
accuracies = table.groupby("setting", sort=False).accuracy.mean()
print(", ".join(f"{name}: accuracy {a:.1%}" for name, a in accuracies.items()))
by_setting.unstack("method")

# %% [markdown]
# Does the table tell the truth? Its seed 0 was trained as the network above. Training is chaotic, so on another machine that is one more
# network of the same kind, and its 50 neurons another draw: they may miss the table by three standard errors of such a mean.

# %%
listed, error = (
    by_seed(table, column, method=high, count=50, **NORMAL)[0]
    for column in ("purity", "purity error")
)
again = live["variance"]["purity"]
note = pk.recheck(
    "pool5, purity of 50 neurons", listed, again, within=3 * error, data=data
)
if not FOLDER:  # the table knows nothing of ImageNet
    display(note)  # noqa: F821

# %% [markdown]
# ### Exercise 1 ●○○ (5 minutes)
#
# Write the normalization of the study: a function from a block, neurons × images, to a block of the same shape in which every
# *column* has mean 0 and variance 1. What does it make of a neuron that is always 0?
#
# <details><summary>Hint</summary><code>block.mean(dim=0)</code> takes the mean of every column; <code>correction=0</code> divides a variance by the
# number of neurons.</details>

# %%
my_normal = None  # a function of a block
pk.check.normalized(my_normal)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def normalized(block):
    return (block - block.mean(dim=0)) / block.std(dim=0, correction=0)


pk.check.normalized(normalized)
dead = normalized(torch.tensor([[0.0, 0.0], [1.0, 5.0], [2.0, 1.0]]))[0]
print(
    f"a neuron that is always 0 gets {dead.tolist()}: lowest where others are highest"
)

# %% [markdown]
# ### Exercise 2 ●○○ (5 minutes)
#
# Write the class purity of one set of images: a function from a tensor of labels to a number.
#
# <details><summary>Hint</summary><code>torch.bincount</code> counts how often each label occurs.</details>

# %%
my_purity = None
pk.check.set_purity(my_purity)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def set_purity(labels):
    return labels.bincount().max().item() / len(labels)


pk.check.set_purity(set_purity)

# %% [markdown]
# ## Is a neuron that varies more easier to read?
#
# *5 minutes.* The study's Figure 1 is the histogram of the variances; it suspected the salient neurons in its upper tail. Here it is, and
# below it what the study could not draw: purity against variance, a point for each neuron of `pool5`.

# %% tags=["hide-input"]
variance = A[alive].var(dim=1, correction=0).cpu()
tops = A[alive].topk(8, dim=1).indices.cpu()
of_neurons = pk.directions.purity(labels[tops])
figure, axes = pk.plots.canvas(2, height=5, sharex=True)
axes[0].hist(variance, bins=40, color="C0")
axes[0].set(
    ylabel="neurons",
    title="pool5: how much its neurons vary, and how pure their images are",
)
jitter = torch.rand(len(of_neurons), generator=draws) * 0.06 - 0.03  # ties lie apart
axes[1].scatter(variance, of_neurons + jitter, s=10, color="C0")
ends = (variance.min().item(), variance.max().item())
axes[1].axhline(chance.mean(), color="black", linestyle="--", linewidth=1)
axes[1].set(xlabel="variance of a neuron", ylabel="class purity of its top 8")
text = f"{len(tops)} neurons with variances from {ends[0]:.2g} to {ends[1]:.2g}; the dashed line is the purity of random images."
pk.show(figure, f"A histogram of variances over a scatter of purity: {text}")

# %%
ρ, by_chance, low, rest, upper = (
    by_seed(layers, column, **HERE)
    for column in (
        "variance and purity",
        "variance and purity by chance",
        "purity of low variance",
        "purity of the rest",
        "variance and purity of the rest",
    )
)
pk.judge(
    "zhang-variance",
    [(ρ > by_chance).all(), (low < rest).all(), (upper < 0.5).all()],
    f"Spearman correlation {spread(ρ)}, by chance up to {by_chance.mean():.2f}; purity of the quarter of lowest "
    f"variance {spread(low)}, of the rest {spread(rest)}; correlation within the rest {spread(upper)}",
    **CHAPTER,
)

# %% [markdown]
# Spearman's correlation is that of the ranks; *by chance* is what 999 of 1,000 permutations of one of the two stay below. And in the other layers? A row for each layer, with
# the range over the seeds.

# %% tags=["hide-input"]
trained = layers[layers.setting == "trained"].groupby("layer", sort=False)
columns = ["variance and purity", "purity of low variance", "purity of the rest"]
shown = trained[columns].agg(spread)
shown["chance"] = trained["variance and purity by chance"].mean().map("{:.2f}".format)
shown.drop(index="fc")  # ten neurons, all of purity 1

# %%
means = trained[["variance and purity", "variance and purity by chance"]].mean()
related = means.iloc[:, 0] > means.iloc[:, 1]
print("on average above chance in", ", ".join(means.index[related]))

# %% [markdown]
# As a correlation there is next to nothing in it in `pool1` and `pool5`, and something in the three layers between. The quarter of neurons that varies least is less pure than the rest in
# every one of the five networks, and in every layer but `pool1`, where it goes either way. Within the rest variance tells little more.
#
# ## Do neurons repeat each other?
#
# *10 minutes.* The study saw near-identical sets of images again and again, above all at the low end, and called the single
# neurons redundant. **Overlap** is the share of images that the sets of two directions have in common, as a mean over
# all pairs. Two random sets of 8 of 6,000 images share about 0.001. Sets may look alike without sharing an image, so *same class* says for how many pairs of sets
# the most frequent class is the same: a tenth of them, if classes fell at random. Means over five networks, for eight neurons of `pool5` each:

# %%
METHODS = [high, anyone, "random", "singular"]
rows = table[(table["count"] == 8) & table.method.isin(METHODS[:2])]
rows = rows[(rows.layer == "pool5") & (rows.setting == "trained")]
columns = ["same class", "overlap", "bottom overlap"]
rows.groupby(["activations", "method"], sort=False)[columns].mean().round(3)

# %% [markdown]
# The box compares with random directions, of the next section, and with singular ones, of {doc}`10-singular-directions`.

# %%
top = {
    method: by_seed(table, "overlap", method=method, count=8, **NORMAL)
    for method in METHODS
}
bottom = by_seed(table, "bottom overlap", method=high, count=8, **NORMAL)
pk.judge(
    "zhang-redundant",
    [
        top[high].mean() > top["random"].mean(),
        top["singular"].mean() < top[high].mean() / 2,
        (bottom > top[high]).all(),
    ],
    f"overlap of 8 neurons {spread(top[high], '.3f')}, of 8 random directions {spread(top['random'], '.3f')}, of 8 "
    f"singular directions {spread(top['singular'], '.3f')}; at the low end of the neurons {spread(bottom, '.3f')}",
    **CHAPTER,
)

# %% [markdown]
# The first two parts of our criterion were posed too weakly: a single shared image decides them. At the top, the eight neurons of highest variance share almost no
# image if activations are normalized, and more if they are raw. Mind that our `pool5` has one neuron for each channel, where the study's had 36, one for each place, and
# neighbours look at nearly the same pixels. Does it matter, then, whether activations are normalized? The study saw little difference:

# %%
RAW = {**HERE, "activations": "raw"}
change = {
    what: by_seed(table, what, method=high, count=8, **RAW)
    - by_seed(table, what, method=high, count=8, **NORMAL)
    for what in ("purity", "overlap")
}
pk.judge(
    "zhang-raw",
    [abs(change["purity"].mean()) < 0.1, abs(change["overlap"].mean()) < 0.05],
    f"raw minus normalized, 8 neurons of highest variance in pool5: purity {spread(change['purity'])}, overlap "
    f"{spread(change['overlap'])}",
    **CHAPTER,
)

# %% [markdown]
# So purity cannot tell the two apart: it goes up in most networks and down in one. What is shared can: in every network the top sets of raw activations have more images in common.
#
# The low end is another matter. After a ReLU most activations are zero. Let an image have mean $m$ and standard deviation
# $d$ over the neurons of the layer: *every* silent neuron gets the same score for it, $-m/d$. So the lowest scores of two
# neurons tend to belong to the same images, those with the largest $m/d$ among the ones that leave both silent. With raw
# activations all silent images tie at zero, and the order of the file decides; their bottom sets share even more
# (`bottom overlap` in the table above).

# %%
silent = []
for neuron in neurons:
    row = raw[neuron.vector.argmax()]
    silent.append((row[pk.directions.bottom_images(neuron)] == 0).float().mean().item())
print(f"images at the low end that leave the neuron silent: {np.mean(silent):.0%}")

# %% [markdown]
# Which images leave a neuron silent depends on its weights; which of those come last, normalization decides alone, or the order of the file.
#
# ## Is a neuron better than any other direction?
#
# *10 minutes.* Images along random directions were found {cite}`szegedy2014intriguing` as easy to
# name as those of neurons. The study tried directions with and without a cut-off on the variance of their scores. It took
# the cut-off, 850, from the tail of the distribution; we draw 1,000 unit vectors and take the 50 of highest variance.

# %%
many = pk.directions.random(A, 1000, layer="pool5")
tail = pk.directions.random(A, 50, tail=0.05, layer="pool5")
variances = torch.tensor([one.scale**2 for one in many])
cut = tail[-1].scale ** 2

# %% tags=["hide-input"]
figure, ax = pk.plots.canvas(
    height=3, title="pool5: variances of 1,000 random directions"
)
ax.hist(variances, bins=40, color="C0")
ax.axvline(cut, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="variance of the scores", ylabel="directions")
pk.show(
    figure,
    f"A histogram from {variances.min():.2f} to {variances.max():.2f}; 5 % lie above the dashed line, {cut:.2f}.",
)

# %% [markdown]
# The study's cut-off of 850 cannot be compared with ours: its vectors were evidently not of length 1.
#
# <details><summary>How we know</summary>It does not say how it drew them. If each of 9,216 entries is uniform between 0 and 1, and the columns
# of the matrix have mean 0 and variance 1, the variance of the scores is at most 768 on average, a twelfth for each entry, and 850 lies in the tail. A vector of length 1
# gives about 1.</details>

# %%
pk.show(
    pk.plots.contact_sheet(
        tail[:8], subject.images, 5, title="pool5, 8 random directions of high variance"
    ),
    "Eight rows of images, for the random directions of highest variance.",
)

# %%
pair = [
    table[table.method == method] for method in ("random", "random of high variance")
]
anyhow, wide = (by_seed(rows, "purity", count=50, **NORMAL) for rows in pair)
errors = [by_seed(rows, "purity error", count=50, **NORMAL) for rows in pair]
error = (errors[0] ** 2 + errors[1] ** 2) ** 0.5  # of the difference
pk.judge(
    "zhang-random",
    [
        (anyhow < purity[anyone]).all(),
        ((wide - anyhow).abs() < 2 * error).sum() >= 0.8 * SEEDS,
    ],
    f"purity of random directions {spread(anyhow)}, of those of high variance {spread(wide)}, of random neurons "
    f"{spread(purity[anyone])}; the second minus the first {spread(wide - anyhow)}, with a standard error of {error.mean():.2f}",
    **CHAPTER,
)

# %% [markdown]
# In all networks but one, random neurons have purer images than random directions; both are far purer than chance. A cut-off
# on the variance changes the purity of a single network no more than chance can, again in all but one; over the five
# it helped a little.
#
# ### Exercise 3 ●●○ (10 minutes)
#
# Which cut-off would let one random direction in *a hundred* pass? `variances` holds those of the 1,000 above.
#
# <details><summary>Hint</summary>A share of 0.99 lies below it: <code>torch.quantile</code>.</details>

# %%
my_cut = None
pk.check.tail_cut(my_cut, variances, 0.01)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
tail_cut = variances.quantile(0.99).item()
pk.check.tail_cut(tail_cut, variances, 0.01)
print(f"{tail_cut:.3f}")

# %% [markdown]
# ## What do groups of neurons see?
#
# *10 minutes.* Among the things that the study leaves to others is clustering. If a layer holds many local features, each
# computed by several neurons, agglomerative clustering should find them: start with every neuron by itself, and join the two
# groups whose activations correlate most, until ten are left. A group is a direction too: the mean of its neurons.

# %%
live_rows = alive.nonzero().flatten()
Z = torch.nn.functional.normalize(A[live_rows] - A[live_rows].mean(dim=1, keepdim=True))
distance = (1 - Z @ Z.T).clamp(min=0).cpu().numpy()  # neurons × neurons
settings = {"n_clusters": 10, "metric": "precomputed", "linkage": "average"}
group = AgglomerativeClustering(**settings).fit_predict(distance)


def group_direction(members, name):
    v = torch.zeros(len(A), device=A.device)
    v[live_rows[members]] = len(members) ** -0.5
    scores = v @ A
    return pk.directions.Direction(v, scores.std().item(), "pool5", name, scores)


def groups(assignment):
    found = [np.flatnonzero(assignment == g) for g in range(10)]
    return [
        group_direction(m, f"group of {len(m)}") for m in sorted(found, key=len)[::-1]
    ]


# %% tags=["hide-input"]
clusters = groups(group)
pk.show(
    pk.plots.contact_sheet(
        clusters,
        subject.images,
        5,
        title="pool5: ten groups of neurons that go together",
    ),
    "Ten rows of images, one for each group of neurons: "
    + ", ".join(c.name for c in clusters)
    + ".",
)

# %% [markdown]
# The control: ten groups of the same sizes with neurons drawn at random.

# %%
shuffled = [groups(np.random.default_rng(k).permutation(group)) for k in range(20)]
by_group = {
    "clusters": [pk.directions.describe(clusters, labels)],
    "random groups, 20 draws": [
        pk.directions.describe(one, labels) for one in shuffled
    ],
    "the ten neurons of highest variance": [
        pk.directions.describe(pk.directions.neurons(A, 10), labels)
    ],
}
rows = {name: pd.DataFrame(many).mean() for name, many in by_group.items()}
gain = rows["clusters"]["purity"] - rows["random groups, 20 draws"]["purity"]
print(f"purity of the clusters minus that of random groups: {gain:+.3f}")
pd.DataFrame(rows).T[["purity", "entropy", "overlap", "same class"]].round(3)

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** You look at the images that drive a neuron most, among those that the network classifies *correctly*. What
# does this choice do to their class purity?
#
# - (a) It lifts it by itself.
# - (b) Nothing, it is the same for all neurons.
# - (c) It lowers it.
#
# <details><summary>Answer</summary>
#
# **(a)** Images that the network gets right are images that it sorts well, most of all near the answer. So any test
# images are needed beside them. (b): the same choice for all can still lift all. (c) has no reason for it.
#
# </details>
#
# **2.** Eight top images of a neuron are half of one class. Is that a finding?
#
# - (a) Only beside the purity of sets of eight random images.
# - (b) Yes: more than one in ten.
# - (c) No: only all eight would be.
#
# <details><summary>Answer</summary>
#
# **(a)** The *largest* of ten counts among eight images is well above one in ten by chance. (b) compares a maximum
# with a mean; (c) asks for certainty where a level of chance would do.
#
# </details>
#
# **3.** The lowest images of two neurons that are silent most of the time are nearly the same. What do you suspect
# first?
#
# - (a) The two neurons compute the same.
# - (b) The images are damaged.
# - (c) Normalization: all silent neurons get one and the same score for an image.
#
# <details><summary>Answer</summary>
#
# **(c)** An image with mean $m$ and deviation $d$ gives $-m/d$ to every silent neuron, so the same images come last.
# (a) would show at the high end too. (b) is not needed for it.
#
# </details>
#
# **4.** Neurons of higher variance correlate weakly with purer sets. Which sentence is safe?
#
# - (a) Variance causes readability.
# - (b) Variance tells something about purity in some layers, little in others; purity is one measure of readability.
# - (c) Salient neurons are the readable ones, as suspected.
#
# <details><summary>Answer</summary>
#
# **(b)** It says what was measured, and where. (a) turns a correlation into a cause; (c) turns a weak one, in some of
# the layers, into a rule for all, and purity into readability.
#
# </details>

# %% [markdown]
# ## And in a network with the study's layers?
#
# *10 minutes.* Our `pool5` has one place; the study's had 36 for each channel, and many of its remarks are about places. So here is CaffeNet in small:
# its eight layers with response normalization and dropout, 55 × 55 places in the first and 6 × 6 in `pool5`, but few channels. The table `caffenet` has one such network
# (`peeklib.course.caffenet`): trained for six epochs, which is little, and as it was after one, and untrained, with 1,000 images each. **One seed: what it shows may be that seed's.**

# %%
PAIRS = ["next", "opposite", "other channel"]
ONE = "one network"
caffe = pk.evidence.table("caffenet")
print(caffe.groupby("setting").accuracy.first().map("{:.0%}".format))
ours = caffe[caffe.setting == "trained"].set_index("layer")
early = caffe[caffe.setting == "one epoch"].set_index("layer")
columns = [f"{what}, {pair}" for what in ("correlation", "overlap") for pair in PAIRS]
ours[columns].dropna().round(2)

# %% [markdown]
# *Next* are neighbouring places of one channel, *opposite* those at the two ends of a row, *other channel* two channels at one place.

# %%
first, pool5 = ours.loc["norm1"], ours.loc["pool5"]
near, far = first["correlation, next"], first["correlation, opposite"]
deep = pool5["correlation, next"]
pk.judge(
    "zhang-adjacent",
    [near > 0.5, near - far >= 0.2, deep < near],
    f"correlation of neighbours in the first layer {near:.2f}, of opposite ends {far:.2f}; of neighbours in pool5 {deep:.2f}; {ONE}",
    **CHAPTER,
)

# %%
near, apart = pool5["overlap, next"], pool5["overlap, other channel"]
pk.judge(
    "zhang-places",
    [near > 10 * apart, near > 0.5],
    f"share of the top 8 images that two neighbours have in common {near:.2f}, two channels {apart:.3f}; {ONE}",
    **CHAPTER,
)

# %% [markdown]
# An untrained network has such neighbours too: they see nearly the same pixels.

# %%
fresh_net = caffe[caffe.setting == "untrained"].set_index("layer")
fresh_net[columns].dropna().round(2)

# %% [markdown]
# How are variances distributed, and is 0.5 a threshold? *Variation* is their standard deviation over the neurons, divided by their mean.

# %%
SPREAD = ["variation", "variation, raw", "raw and normalized", "same of 50"]
LIMIT = ["below 0.5", "purity below 0.5", "purity above 0.5"]
ours[SPREAD + LIMIT].astype(float).round(2)

# %%
change = pool5["variation, raw"] / pool5["variation"] - 1
pk.judge(
    "zhang-distribution",
    [
        pool5["raw and normalized"] >= 0.9,
        pool5["same of 50"] >= 0.5,
        abs(change) < 0.2,
    ],
    f"in pool5 Spearman correlation {pool5['raw and normalized']:.2f}, {pool5['same of 50']:.0%} of the 50 the same, variation raw "
    f"{pool5['variation, raw']:.2f} and normalized {pool5['variation']:.2f}; {ONE}",
    **CHAPTER,
)

# %%
below, above = pool5["purity below 0.5"], pool5["purity above 0.5"]
pk.judge(
    "zhang-threshold",
    [above - below >= 0.05, pool5["variance and purity above"] < 0.5],
    f"{pool5['below 0.5']:.0%} of the neurons of pool5 lie below 0.5, purity {below:.2f}, above it {above:.2f}; correlation above it "
    f"{pool5['variance and purity above']:.2f}; after one epoch, purity {early.loc['pool5', 'purity below 0.5']:.2f} and "
    f"{early.loc['pool5', 'purity above 0.5']:.2f}; {ONE}",
    **CHAPTER,
)

# %% [markdown]
# A neuron of low variance may still feed one that varies much, the study suspects. So we compare its weights to those neurons with the weights of all.

# %%
weights, before = ours["weight of low variance"], early["weight of low variance"]
pk.judge(
    "zhang-feeding",
    [weights[layer] >= 0.9 for layer in ("pool5", "relu6")],
    f"weights of the quarter of low variance, as a share of the mean, from pool5 {weights['pool5']:.2f}, from fc6 {weights['relu6']:.2f}; "
    f"after one epoch {before['pool5']:.2f} and {before['relu6']:.2f}; {ONE}",
    **CHAPTER,
)

# %% [markdown]
# ## We saw
#
# - Images at the top of a neuron of a trained `pool5` are mostly of one class; part of that comes from looking only at images that the network gets right. In an
#   untrained network they have a little more in common than random images.
# - Is a single neuron special? A little: its images are of one class more often than those of a random direction, in most networks and not in all. But random directions, too, are far purer than chance.
# - How much a neuron varies tells something about that in the three layers between `pool1` and `pool5`, and next to nothing in these two. The quarter that varies least is less pure, in every layer but
#   `pool1`.
# - Top sets of neurons of high variance share hardly an image. At the low end they share more: normalization gives all silent
#   neurons the same score for an image, and raw activations, where silent images tie at zero, share more still.
# - Neurons that go together can be grouped. Whether the groups have purer images than groups of the same sizes made at random is in the last
#   table, for the one network of this page.
#
# Next: directions that are neither single neurons nor random, {doc}`10-singular-directions`. References are in the
# {doc}`../book/bibliography`.
