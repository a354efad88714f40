# %% [markdown]
# # Your own network
#
# *One call on a network that nobody here designed: which layers it found, how few components explain them, what their directions
# respond to, and what it had to leave out.*
#
# You know {doc}`02-coupled-nmf`; {doc}`09-what-one-neuron-sees` helps; symbols are in {doc}`../book/notation`. Allow 55 minutes to read and answer; the chapter runs for about three
# minutes on a laptop CPU.

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
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import torch
import torchvision

import peeklib as pk

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("cifar10", fallback=True)
data

# %% [markdown]
# Three architectures of torchvision, made by others for ImageNet: a residual network, one for phones with signed activations, and
# one with very few parameters. Each is trained for one epoch on a part of CIFAR-10, at the small size of its images: enough to
# leave the start, far from good. If you can download weights, set `PRETRAINED`: then they are those of ImageNet, and the images
# are enlarged to what the networks expect.

# %%
PRETRAINED = False
NAMES = ["resnet18", "mobilenet_v3_small", "squeezenet1_1"]
draw = torch.Generator().manual_seed(0)
chosen = torch.randperm(len(data.test.images), generator=draw)[: 300 if full else 40]
images = data.test.images[chosen]
some = pk.Split(images, data.test.labels[chosen])
part = pk.subset(data, fraction=0.1, seed=0)


def untrained(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchvision.models.get_model(name, num_classes=10)


def network(name):
    """A network, and what it expects to be done to images from 0 to 1."""
    if PRETRAINED:
        weights = torchvision.models.get_model_weights(name).DEFAULT
        return torchvision.models.get_model(name, weights=weights), weights.transforms()
    return pk.cached(pk.train)(untrained(name), *part, seed=0, lr=0.01).model, None


# %%
how = {"ranks": (5, 10, 20, 40) if full else (2, 5), "progress": False}
models, reports = {}, {}
for name in NAMES:
    models[name], preprocess = network(name)
    reports[name] = pk.peek(models[name], images, preprocess=preprocess, **how)
seconds = {name: round(report.seconds, 1) for name, report in reports.items()}
print(f"seconds for each report: {seconds}")

# %% [markdown]
# This is all of it for the first network, as a reader of the file would see it, with its sliders. **Which layer do few components explain
# best, and which worst? In which layer do the directions begin to sort images by what is in them?**

# %%
reports["resnet18"]

# %% [markdown]
# **You will be able to**
#
# - run `pk.peek` on a network of yours, and hand the report on as one file;
# - say what it measured, on which part of each layer, and what it did with negative activations;
# - compare two states of a network, without labels, and know what such a comparison is worth.
#
# ## What did it look at?
#
# *5 minutes.* `peek` runs two images, then three, and notes every place where an activation function is applied, as a module or as a function inside
# another module. At most eight of them are shown, spread over the depth. *Kept* is how much of a layer is in the report, *zeros* the share of its activations that are exactly
# zero; in a name, `:2` is the second time that the network calls this module. The second network has signed activations:

# %%
columns = ["activation", "shape", "kept", "below zero", "negatives", "zeros"]
reports["mobilenet_v3_small"].layers[columns].round(3)

# %% [markdown]
# *Below zero* is the share of a layer's sum of squares that negative values hold. Where it is under 5 % they are set to zero for the factorization;
# else the negative side becomes a block of its own. The notes say so, and all else that was left out:

# %%
for name, report in reports.items():
    print(name, *(f"- {note}" for note in report.notes), sep="\n")

# %% [markdown]
# ### Exercise 1 ●○○ (5 minutes)
#
# Which layer of `squeezenet1_1` is silent most, so that the largest share of its activations is zero? Give its name.
#
# <details><summary>Hint</summary><code>report.layers</code> is a table with a row for each layer.</details>

# %%
report = reports["squeezenet1_1"]
my_layer = None
pk.check.most_silent(my_layer, report.layers)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
most_silent = report.layers["zeros"].idxmax()
pk.check.most_silent(most_silent, report.layers)
print(most_silent)

# %% [markdown]
# ### Exercise 2 ●●○ (5 minutes)
#
# Write what the report calls *below zero*: a function from a block to the share of its sum of squares that negative values hold. Give 0
# for a block of zeros.
#
# <details><summary>Hint</summary><code>block.clamp(max=0)</code> keeps the negative values.</details>

# %%
my_share = None  # a function of a block
pk.check.negative_share(my_share)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def below_zero(block):
    whole = block.square().sum().item()
    return block.clamp(max=0).square().sum().item() / whole if whole else 0


pk.check.negative_share(below_zero)
hardswish = torch.nn.functional.hardswish(torch.linspace(-4, 4, 101))
print(f"hardswish of numbers from -4 to 4: {below_zero(hardswish):.1%}")

# %% [markdown]
# ## How do the three compare?
#
# *5 minutes.* The factorization gives pixels and every layer an equal say, whatever their size. The error of each part at the third rank, against its
# depth; the pixels are at depth 0.

# %% tags=["hide-input"]
rank = how["ranks"][-2]
rows = [
    {"network": name, "depth": depth / (len(report.errors) - 1), "error": error}
    for name, report in reports.items()
    for depth, error in enumerate(report.errors[rank])
]
depths = pd.DataFrame(rows).assign(seed=0)
lowest = depths.loc[depths.error.idxmin()]
title = f"Explained best at rank {rank}: {lowest.network}, depth {lowest.depth:.1f}"
figure = pk.plots.curves(
    depths,
    "depth",
    "error",
    "network",
    title=title,
    xlabel="depth (0 pixels, 1 last layer)",
    ylabel=f"relative error at rank {rank}",
)
pk.show(figure, f"Relative error against depth for three networks. {title}.")

# %% [markdown]
# ## What does training change?
#
# *10 minutes.* The same network before its epoch, and after: the same images, the same call. No label is used.

# %%
before = pk.peek(untrained("resnet18"), images, preprocess=preprocess, **how)
pair = {"before": before, "after": reports["resnet18"]}
scores = pd.DataFrame({when: report.scores["value"] for when, report in pair.items()})
if not PRETRAINED:
    answers = {"before": untrained("resnet18").eval(), "after": models["resnet18"]}
    scores.loc["accuracy on these images (uses labels)"] = {
        when: pk.accuracy(model, *some) for when, model in answers.items()
    }
scores.astype(float).round(3)

# %% [markdown]
# Look at the last layer: its error, and its entropy rank. And part by part, at the third rank:

# %%
both = pd.concat({when: report.errors[rank] for when, report in pair.items()}, axis=1)
both["change"] = both["after"] - both["before"]
both.round(3)

# %% [markdown]
# One pair is an observation and no test. Chapters 3 to 6 say how far differences between networks can be trusted over many of them. Here pixels and layers have an equal say and no unit, so what is
# left to doubt is chance: other images, another seed.
#
# ### Exercise 3 ●●○ (10 minutes)
#
# Which part of `resnet18` gains most from a doubling of the rank, from 10 to 20: whose error falls most, as a share of what it was?
# (On stand-in data, from 2 to 5.)
#
# <details><summary>Hint</summary><code>report.errors</code> has a row for each part and a column for each rank. Divide the two columns.</details>

# %%
errors = reports["resnet18"].errors
my_part = None
pk.check.most_gained(my_part, errors, how["ranks"][-3:-1] if full else how["ranks"])

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
ranks = how["ranks"][-3:-1] if full else how["ranks"]
most_gained = (errors[ranks[1]] / errors[ranks[0]]).idxmin()
pk.check.most_gained(most_gained, errors, ranks)
print(most_gained)

# %% [markdown]
# ## Which of several is best?
#
# *5 minutes.* `pk.compare` takes any number of networks, or states of one, and orders them by the scores of {doc}`14-a-score-without-labels`. Here are both states of
# the smallest of the three, on more images and with one layer.

# %%
name = "squeezenet1_1"
states = {"before": untrained(name), "after": models[name]}
many = data.test.images[: 500 if full else 100]
seen = {"layers": ["features.12"], "preprocess": preprocess}
with warnings.catch_warnings(action="ignore"):  # what it warns of stands in the result
    compared = pk.compare(states, many, **seen, progress=False)
compared

# %% [markdown]
# The figure has the two scores that chapter 14 found worth trusting. Both presume that the images show all classes about equally often. If the networks' own
# decisions speak against it, the result begins with a warning: *are these images uneven, or has a network that saw one epoch not learned all classes yet?* The
# decisions alone cannot tell.
#
# While a network trains, `pk.Checkpoints` computes the scores after each epoch and keeps numbers only, so that no checkpoint has to be stored:
#
# ```python
# watch = pk.Checkpoints(images)
# for epoch in range(10):
#     train_one_epoch(model)
#     watch(f"epoch {epoch}", model)
# watch.comparison()
# ```

# %% [markdown]
# ## And yours?
#
# *5 minutes.* Four lines. Give a few hundred images, as a person would see them, from 0 to 1; what the model expects beyond that goes into `preprocess`. The
# report is one file that needs no network; send it to somebody.
#
# ```python
# weights = torchvision.models.ResNet18_Weights.DEFAULT
# model = torchvision.models.resnet18(weights=weights)
# report = pk.peek(model, images, preprocess=weights.transforms(), memory=1.0)
# report.save("report.html")
# ```
#
# - `layers=[…]` names the places yourself; an unknown name gets you a list of all.
# - `memory` bounds, in gigabytes, what is kept. Layers too large for their share are kept at some of their positions, drawn at random.
# - The model comes back as it was: its modes, hooks, gradients and buffers, and all random states.
# - Compare reports only on the same images, at the same settings.
# - Without Python: `python -m peeklib model.pt2 images/ -o report.html`, for a program that `torch.export.save` wrote. `python -m peeklib --help` says
#   what else it takes, and what it will not run of a stranger's file.

# %%
with tempfile.TemporaryDirectory() as folder:
    file = reports["squeezenet1_1"].save(Path(folder) / "report.html")
    print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** A layer has signed activations. What does `pk.peek` do with them?
#
# - (a) It sets small negative parts to zero, makes large ones a block of their own, and says so in the notes.
# - (b) It drops the layer.
# - (c) It adds a constant until all are positive.
#
# <details><summary>Answer</summary>
#
# **(a)** The notes say which of the two was done. (b) would lose layers of whole families of networks. (c) would put
# a constant pattern into every image, which then takes a component.
#
# </details>
#
# **2.** You compare one network before and after its epoch, on the same images. What is that worth?
#
# - (a) It is one observation; other seeds and other images are needed for a claim.
# - (b) It proves what training does.
# - (c) Nothing, since no labels were used.
#
# <details><summary>Answer</summary>
#
# **(a)** A pair differs by training *and* by chance. (b) forgets chance. (c): labels are not what is missing;
# repetitions are.
#
# </details>
#
# **3.** Two reports were made on different images. May you compare their errors?
#
# - (a) No: error and rank belong to the matrix, and the images are half of it.
# - (b) Yes, relative errors have no unit.
# - (c) Yes, if there are equally many images.
#
# <details><summary>Answer</summary>
#
# **(a)** Show images that are all alike, and any network looks simple. (b) is right about the unit and misses the
# images. (c) makes shapes equal, not contents.
#
# </details>

# %% [markdown]
# ## We saw
#
# - One call finds the layers of networks of three kinds, says which part of each it kept, and treats negative activations in a stated way.
# - The same number of components explains the layers of the three networks differently well, and one epoch of training changes how well
#   each layer is explained.
#
# Next: other ways to look into the same networks, {doc}`12-neighbours`. References are in the {doc}`../book/bibliography`.
