# %% [markdown]
# # A network as matrices
#
# *Ten thousand images, and what every hidden layer makes of them: three matrices with one column for each image.*

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

# %% [markdown]
# The next two cells load handwritten digits and train a small network on them; the sections below explain. You have met
# convolutions and matrices before. Allow 45 minutes; everything runs on a laptop CPU in about a minute.

# %%
import peeklib as pk

data = pk.load_dataset("mnist", fallback=True)
data

# %%
model = pk.models.PaperCNN(seed=0)
pk.train(model, *data.train, seed=0, progress=True)
print(
    f"{pk.accuracy(model, *data.test):.1%} of the test images are classified correctly"
)

# %% [markdown]
# Move the sliders. *At which layer can you no longer tell which digit went in?*

# %%
stages = {
    "input": (1, 28, 28),
    "conv1": (10, 24, 24),
    "pool1": (10, 12, 12),
    "relu1": (10, 12, 12),
    "conv2": (20, 8, 8),
    "pool2": (20, 4, 4),
    "relu2": (20, 4, 4),
}  # channels, height, width
some = data.test.images[:6]
seen = pk.input_blocks(some) | pk.record(model, some, list(stages)[1:], negative="keep")


def draw(layer, image):
    column, shape = seen[layer][:, image], stages[layer]
    text = f"{layer}: {shape[0]} × {shape[1]} × {shape[2]}, values {column.min():.1f} to {column.max():.1f}"
    figure = pk.plots.channel_maps(column, shape, title=text, shared=False)
    return figure, f"Image {image} at {text}; one map for each channel."


pk.Explorer({"layer": list(stages), "image": range(len(some))}, draw)

# %% [markdown]
# Each small map is one channel, on its own scale. Red is positive, blue is negative, white is zero in the signed
# layers (`conv`, `pool`); in the others zero is dark. Up to `relu1` most maps still show the digit's outline; from `conv2`
# on, a map is a few pixels wide and says only *where* its pattern was found.
#
# **You will be able to**
#
# - read any layer of a network as a matrix, neurons × images, and find a neuron's row;
# - write a forward hook by hand, and say what `pk.record` adds to it;
# - tell from the matrix which neurons never fire and how sparse a layer is;
# - say why a factorization that allows no negative numbers starts *after* the ReLU.
#
# The symbols are collected in {doc}`../book/notation`.

# %% [markdown]
# ## What does one layer give?
#
# *5 minutes.*
#
# PyTorch calls a function of yours whenever a module has run, if you register it as a *forward hook*. Here is
# one by hand on `relu1`, the first ReLU.

# %%
caught = {}


def hook(module, inputs, output):
    caught["relu1"] = output.detach().clone()


handle = model.relu1.register_forward_hook(hook)
model(pk.to_float(data.test.images[:5]).to(next(model.parameters()).device))
handle.remove()
caught["relu1"].shape

# %% [markdown]
# Five images, ten channels, twelve rows, twelve columns. Two lines of that cell are easy to forget: `clone`,
# because a later in-place operation may overwrite the output, and `remove`, because a hook left behind keeps
# running, and keeps its memory, for as long as the model lives. `pk.record` does both whatever happens, puts the
# model into evaluation mode while it runs, and works in batches.

# %% [markdown]
# ## From images to a matrix D
#
# *5 minutes.*
#
# Saini and Papalexakis {cite}`saini2018peek` write the images as a matrix $D$, pixels × images: image $k$,
# flattened, is column $k$. A colour image would give one matrix for each channel.

# %%
images = data.test.images
blocks = pk.input_blocks(images)
D = blocks["input"]
print(
    f"D: {D.shape[0]} pixels × {D.shape[1]:,} images, "
    f"values {D.min():.0f} to {D.max():.0f}"
)
same = D[:, 3].reshape(28, 28).cpu() == pk.to_float(images[3, 0])
print(f"column 3 is image 3, pixel by pixel: {bool(same.all())}")

# %% [markdown]
# ## From activations to matrices A
#
# *5 minutes.*
#
# A layer's output is flattened the same way. The paper calls the output of each ReLU the activations of its
# layer, so its network has two: $A_0$ after the first convolution and $A_1$ after the second.

# %%
blocks |= pk.record(model, images)
for name, block in blocks.items():
    print(f"{name:6}  {block.shape[0]:5,} rows × {block.shape[1]:,} images")

# %% [markdown]
# All three matrices have the same columns, in the same order: the same images. That is the whole reason why they
# can be factorized together in the next chapter.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# Without running the network: how many neurons would `relu1` and `relu2` have if the images were 32×32 instead of
# 28×28? `PaperCNN` is a 5×5 convolution to 10 channels, a 2×2 max-pool, a ReLU, a 5×5 convolution to 20 channels, a
# 2×2 max-pool, a ReLU; no padding.
#
# <details><summary>Hint</summary>A 5×5 window fits into 28 pixels at 24 places, and into 32 at 28.</details>

# %%
my_counts = None  # {"relu1": …, "relu2": …}
pk.check.neuron_counts(my_counts)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
pk.check.neuron_counts({"relu1": 10 * 14 * 14, "relu2": 20 * 5 * 5})  # 32→28→14→10→5

# %% [markdown]
# ### Exercise 2 ●●○ (5 minutes)
#
# Which row of $A_0$ holds the neuron in channel 3, row 5, column 7 of `relu1`? All counts start at zero.
#
# <details><summary>Hint</summary>Flattening lets the last index run fastest.</details>

# %%
my_row = None
pk.check.neuron_row(my_row)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
pk.check.neuron_row(3 * 12 * 12 + 5 * 12 + 7)

# %% [markdown]
# ## What is in these matrices?
#
# *5 minutes.*
#
# Before any factorization, some plain facts. *Sparsity* is the share of entries that are exactly zero. *Entropy
# rank* {cite}`roy2007effective` turns the singular values into one number: $n$ equal ones give $n$, a single one
# gives 1.

# %%
import pandas as pd

pd.DataFrame(
    {
        name: {
            "rows": f"{len(block):,}",
            "sparsity": f"{(block == 0).double().mean():.0%}",
            "mean": f"{block.mean():.2f}",
            "largest": f"{block.max():.1f}",
            "entropy rank": f"{pk.effective_rank(block):.0f}",
        }
        for name, block in blocks.items()
    }
).T

# %% [markdown]
# Note how the layers differ in the *size* of their values: a layer with larger values counts for more in any error
# that adds squares. Chapter 3 comes back to this.
#
# The singular values of a block say how many directions it uses. Squared and divided by their sum, they are shares
# of the block's energy.

# %% tags=["hide-input"]
energy = {
    name: pk.spectrum(block).square().cpu().numpy() for name, block in blocks.items()
}
kept = {
    name: [0, *values.cumsum()[:100] / values.sum()] for name, values in energy.items()
}
least = min(curve[10] for curve in kept.values())
figure = pk.plots.lines(
    kept,
    title=f"Ten directions hold at least {least:.0%} of each block's energy",
    xlabel="number of singular directions",
    ylabel="share of energy",
)
pk.show(
    figure,
    f"Share of energy against number of singular directions for each block; ten hold at least {least:.0%}.",
)

# %% [markdown]
# ### Exercise 3 ●●○ (5 minutes)
#
# A neuron that gives zero for every image is *silent*: no factorization can say anything about it. How many
# silent neurons does `relu1` have on these images?
#
# <details><summary>Hint</summary>The largest entry of its row is zero: <code>block.amax(dim=1)</code>.</details>

# %%
my_silent = None
pk.check.silent_neurons(my_silent, blocks["relu1"])

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
silent = int((blocks["relu1"].amax(dim=1) == 0).sum())
pk.check.silent_neurons(silent, blocks["relu1"])
print(f"{silent} of {len(blocks['relu1'])} neurons of relu1 are silent")

# %% [markdown]
# ## Why after the ReLU?
#
# *3 minutes.*
#
# Non-negative factorization builds every column as a *sum* of parts, with nothing subtracted. A convolution's raw
# output has negative values, and `pk.record` refuses to pass them on quietly.

# %%
try:
    pk.record(model, images[:100], ["conv1"])
except ValueError as error:
    print(error)

# %% [markdown]
# Clipping is what the ReLU would do. Splitting keeps everything, at the price of two blocks for one layer.

# %%
signed = pk.record(model, images[:100], ["conv1"], negative="keep")["conv1"]
parts = pk.record(model, images[:100], ["conv1"], negative="split")
whole = bool((parts["conv1+"] - parts["conv1-"] == signed).all())
print(f"{' − '.join(parts)} is what was recorded: {whole}")

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** You leave out `hook.remove()` after writing a hook by hand. What happens?
#
# - (a) Nothing: PyTorch removes a hook after the first run.
# - (b) The network gives other answers from then on.
# - (c) The hook runs at every later call, and what it stores stays in memory.
#
# <details><summary>Answer</summary>
#
# **(c)** A hook stays for as long as the model lives; `pk.record` removes its own even if the run stops with an
# error. (a) is what one might wish: PyTorch cannot know that you are done. (b) would need a hook that *returns*
# something else; one that only looks changes no answer.
#
# </details>
#
# **2.** What do the rows and columns of $A_0$ and $A_1$ have in common?
#
# - (a) Neither; they only have one network in common.
# - (b) The rows: the same neurons.
# - (c) The columns: the same images in the same order.
#
# <details><summary>Answer</summary>
#
# **(c)** That is what lets them share a factor. (b) fails at a glance: the two layers have different numbers of
# neurons, and row 5 of one has nothing to do with row 5 of the other. (a) overlooks that every image went through
# both layers.
#
# </details>
#
# **3.** True or false: a neuron with a sparsity of 90 % is silent.
#
# - (a) True
# - (b) False
#
# <details><summary>Answer</summary>
#
# **(b)** It is zero for nine images of ten and fires for the tenth: that may be the most telling neuron of the layer.
# *Silent* asks for every image. (a) takes a mean for a maximum.
#
# </details>
#
# **4.** Why does the factorization start after the ReLU and not at the convolution's raw output?
#
# - (a) Raw outputs are too large.
# - (b) A convolution's output has no matrix form.
# - (c) It builds columns by adding up non-negative parts, and no such sum is negative.
#
# <details><summary>Answer</summary>
#
# **(c)** Raw outputs have negative entries, which a sum of non-negative numbers cannot reach. (a) has it wrong: size
# could be divided away. (b) too: any output can be flattened, as every layer here is.
#
# </details>

# %% [markdown]
# ## We saw
#
# - A layer is a matrix: one row for each neuron, one column for each image. Flattening loses no number, only the
#   reminder of where a neuron sat.
# - The input and both layers share their columns.
# - After the ReLU all entries are non-negative, and many are exactly zero.
#
# **Next:** {doc}`02-coupled-nmf` writes all three matrices as products with one shared factor.
#
# References are in the {doc}`../book/bibliography`.
