# %% [markdown]
# # How shapes travel
#
# *Pick a shape and follow it: how it looks in pixels, which neurons answer to it, and which images have it.*
#
# Draw a digit, or take one. The network of the paper runs on it in this page; below what it computed stands what thirty
# shared components predict, and they answer too. **Can you draw a 1 that the network takes for a 7? Which
# component did you draw into it?** Then choose the `ordered` network: the components stay the same, and what do they do there?

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

# %% tags=["hide-input"]
import pandas as pd
import torch
from IPython.display import display
from torch.nn import functional
from tqdm.auto import tqdm

import peeklib as pk
from peeklib.course.studies import mnist, shapes
from peeklib.course.studies.common import FIT
from peeklib.course.studies.shapes import half, loadings

NETWORKS, FRACTIONS = shapes.NETWORKS, list(mnist.FRACTIONS)
MAPS, RANKS, SEED = shapes.MAPS, mnist.RANKS, 0  # MAPS: channels, height, width
data = pk.load_dataset("mnist", fallback=True)
test_images, test_labels = data.test
cases = {name: mnist.case(data, name, SEED) for name in tqdm(NETWORKS)}

# One image factor for the layers of all six networks: a component is one shape in all of them.
few = slice(0, 2000)
blocks = pk.input_blocks(test_images[few])
for name, one in cases.items():
    for layer in MAPS:
        blocks[f"{name}: {layer}"] = one.blocks[layer][:, few]
joint = pk.cached(pk.coupled_nmf)(blocks, 30, seed=SEED, **FIT)

hands_on = pk.Playground(
    {name: one.model for name, one in cases.items()},
    joint,
    test_images[few],
    labels=test_labels[few],
    classes=data.classes,
    most=150,  # images in the page, which stays small
    start="100%",
)
# The name lets the welcome page show the same.
display(hands_on, metadata={"scrapbook": {"name": "playground", "mime_prefix": ""}})

# %% tags=["hide-input"]
display(data, metadata={"scrapbook": {"name": "playground-data", "mime_prefix": ""}})

# %% [markdown]
# <details><summary>An answer</summary>Draw the 1 with a flag, and make the flag longer: once it is about a quarter of the
# digit's height, the answer tips, while one or two pieces that lie across the top rise. The <code>ordered</code> network,
# which saw the digit 8 last, answers 8 to nearly everything, and so does what the components predict of it.</details>
#
# You know {doc}`03-how-much-training` and {doc}`06-in-what-order`. Allow 40 minutes to read and answer; the chapter runs for
# about a minute on a laptop CPU, less if you ran chapters 3 to 6 before.
#
# Saini and Papalexakis {cite}`saini2018peek` also offer their factorization as a tool to look with: it should show how shapes in
# the input traverse the network. They leave a closer look to future work. Here is one, at the networks of chapters 3 and 6,
# one of each kind, and at one that is not trained at all.
#
# The pictures are those of one seed. What the page says is counted over five, in the tables `travels` and `places`, which
# the same functions made (`python book/evidence.py travels places` makes them anew).


# %%
def fitted(network, rank=30):
    return cases[network].fit(rank)


# %% [markdown]
# A component $s$ has a column in every factor: $P$ says how it looks, $O_j$ which neurons of layer $j$ it drives, $F$ how much
# of it each image has. `loadings(fit, layer)` cuts columns of $O_j$ into channels and positions. `half` and `shares` put
# numbers under the pictures: `half(values)` is how many of the values, the largest first, hold half of their sum.


# %%
def shares(place):
    """How the mean loading of one component is spread over the classes."""
    means = torch.stack([place[test_labels == d].mean() for d in range(10)])
    return means / means.sum()


# %% [markdown]
# Four sliders, four questions.
#
# - *network*: how many channels of `relu2` are not dark at 25 %, at 100 %, and after training class by class? (Component 1 is each
#   network's strongest, not the same shape in each.)
# - *rank*: does a component cover more of the image, or less, if there are more of them?
# - *layer*: can you still see the shape in `relu1`? In `relu2`?
# - *component*: the paper expects shapes that several classes share, such as a round one in 0, 6 and 9. Take the roundest
#   of components 1, 6 and 10 (with a kernel: of all). Which classes share it?
#
# Classes enter nowhere but in the bars: labels name what the factorization found without them. The dashed line is
# an even spread.


# %% tags=["hide-input"]
def draw(network, rank, layer, component):
    fit, title = fitted(network, rank), f"{network}: rank {rank}, component {component}"
    what = {"maps": MAPS[layer], "images": test_images, "labels": test_labels}
    figure = pk.plots.journey(fit, layer, component, title=title, **what)
    channels = loadings(fit, layer)[component - 1].sum(1)
    held = shares(fit.image_factor[:, component - 1].cpu())
    most = [f"{d} ({held[d]:.0%})" for d in held.topk(2).indices.tolist()]
    alt = (
        f"Network {title}. Half of its loading in {layer} lies in {half(channels)} of {len(channels)} channels, "
        f"most in channel {channels.argmax()}. The classes that load most are {' and '.join(most)}."
    )
    return figure, alt


axes = {"network": NETWORKS, "rank": RANKS, "layer": MAPS, "component": range(1, 11)}
prepared = {
    "network": ["25%", "100%", "ordered"],
    "rank": [10, 30],
    "component": [1, 6, 10],
}
start = {"network": "100%", "layer": "relu2"}
pk.Explorer(axes, draw, prepared=prepared, start=start)

# %% [markdown]
# **You will be able to**
#
# - follow one component through a network, and say what each of its columns shows;
# - put a number on *concentrated*, and say what to compare it with;
# - place an image among components by its pixels alone, and say when that fails;
# - test whether a picture of a hidden layer shows a shape of the input, or only seems to.
#
# ## How far does a shape get?
#
# *5 minutes.* A component reaches a layer if it drives neurons there. Does it drive neurons of *its own*? Two numbers: how many
# channels hold half of its loading, and how many positions do. If components did not differ, each would need as
# many as the layer as a whole, that is, as the sum of all components. Compare with that.


# %%
travels = pk.evidence.table("travels").rename(columns={"setting": "network"})
rows = travels[travels["rank"] == 30].set_index(["layer", "network", "seed"])
each = rows.sort_index()  # to look one network up
REACH = [name for name in rows if "channels" in name or "positions" in name]
at_30 = rows[REACH].groupby(["layer", "network"], sort=False).mean()
at_30 = at_30.loc[[(layer, network) for layer in MAPS for network in NETWORKS]]
at_30.round(1)

# %% [markdown]
# At rank 30, means over the seeds: *channels* and *positions* are means over the components. `relu1` has 10 channels of 144 positions, `relu2`
# 20 channels of 16. *Leading channels* counts the different channels that carry most of some component.

# %% tags=["hide-input"]
last, ordered = at_30.loc["relu2"].loc[FRACTIONS], at_30.loc[("relu2", "ordered")]
text = f"Half a component: {last.channels.mean():.1f} channels, ordered {ordered.channels:.1f}"
shown = ["untrained", "25%", "100%", "ordered"]
part = travels[(travels.layer == "relu2") & travels.network.isin(shown)]
labels = {"title": text, "xlabel": "rank", "ylabel": "channels of relu2"}
figure = pk.plots.curves(part, "rank", "channels", "network", **labels)
figure.axes[0].set_ylim(0, 1.6 * part.channels.max())  # room for the legend
what = "Mean number of channels of relu2 that hold half of a component, against rank."
pk.show(figure, f"{what} At rank 30, over the shuffled networks: {text}.")


# %%
def again(table, what, live):
    """One row of a table again; apart means by more than the seeds of this network are."""
    seeds = table[list(live)]
    room = seeds.max() - seeds.min()
    return pk.recheck(
        what, seeds.loc[SEED], live, within=room, relative=0.01, data=data
    )


live = shapes.reach(fitted("100%"), "relu2")
again(each.loc["relu2", "100%"], "reach in relu2 of the 100 % network", live)

# %% [markdown]
# In `relu1`, after training on shuffled images, components do not differ in channels: all or nearly all have the same strongest one, and half
# of the loading takes as many channels as in the layer as a whole. What a component has of its own is its *place*, a
# fraction of the positions. In `relu2` it has a place too, and begins to have channels.
#
# In `relu2` the order of training makes more of a difference than its amount. Trained class by class, the layer carries every
# component through the same few channels, spread over more positions. Chapter 6 looks at that from the side of the
# neurons. The untrained network shows what convolutions do by themselves.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# Which channel of `relu2` carries most of component 3 of the `100%` network at rank 10?
#
# <details><summary>Hint</summary><code>column.reshape(20, 16)</code> has a row for each channel.</details>

# %%
column = fitted("100%", 10).factors["relu2"][:, 2]
my_channel = None
pk.check.leading_channel(my_channel, column, 20)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
carried = column.reshape(20, 16).sum(1)
channel = int(carried.argmax())
pk.check.leading_channel(channel, column, 20)
print(f"channel {channel}, {carried[channel] / carried.sum():.0%} of the loading")

# %% [markdown]
# ## What happens to one image?
#
# *7 minutes.* A row of $F$ is the *place* of an image: how much it has of each component. Columns of $F$ have root mean
# square 1, so a loading of 3 is three times the usual one. With $P$ and $O_j$ fixed, `transform` places any image, and
# some of the blocks will do. So place every test image twice, at rank 30: by its pixels and its activations, and
# by its pixels alone, as if it had never gone through the network.

# %%
# for each network two matrices, images × rank
places = {name: shapes.place(one, one.fit(30)) for name, one in cases.items()}

# %% [markdown]
# The sliders show the first test image of each digit; above placed by pixels and layers, below by pixels alone. *Digit: which one do
# 30 components rebuild worst? Network: where do the two rows disagree, and what does a component with an
# absurdly large loading look like?*


# %% tags=["hide-input"]
def draw_image(network, digit):
    k = (test_labels == digit).int().argmax()
    image, P = pk.to_float(test_images[k, 0]), fitted(network).factors["input"].cpu()
    shown, labels, words = [], [], []
    for how, F in places[network].items():
        top, rebuilt = F[k].topk(3).indices, (P @ F[k]).reshape(28, 28)
        shown += [image, rebuilt, *P[:, top].T.reshape(3, 28, 28)]
        named = [f"{s + 1}: {F[k, s]:.1f}" for s in top.tolist()]
        labels += ["image", "rebuilt", *named]
        error = (image - rebuilt).norm() / image.norm()
        words.append(f"By {how}: {', '.join(named)}, relative error {error:.2f}.")
    title = f"{network}, a {digit}: its strongest components and their loadings"
    figure = pk.plots.image_grid(shown, labels, title=title)
    return figure, f"Network {title}. {' '.join(words)}"


axes = {"network": NETWORKS, "digit": range(10)}
pk.Explorer(axes, draw_image, prepared={"network": ["100%", "ordered"]})

# %% [markdown]
# How often do both places agree on the strongest component? Compare with what chance would give: the second place taken
# from another image, drawn at random. And how well do both explain the layers?


# %%
seeds = pk.evidence.table("places").set_index(["setting", "seed"])
columns = [name for name in seeds if name != "which"]
agree = seeds[columns].groupby("setting").mean().loc[list(NETWORKS)]
agree.round(2)

# %%
live = shapes.agreement(cases["100%"], fitted("100%"), places["100%"])
del live["which"]
again(seeds.loc["100%"], "places in the 100 % network", live)

# %% [markdown]
# *In first 3*: the strongest component by both is among the three strongest by pixels. The next four columns are relative errors
# of a layer. *Faintest P* is the size of the smallest column of $P$ over that of the largest. Means over the seeds.
#
# After training on shuffled images the pixels alone name the same component for about seven images of ten; the activations
# move the other three to another one. In the untrained network they move fewer. Do not read that as a measure of training:
# louder activations have more say in a place, and chapter 3 shows how easily they get louder.
#
# The `ordered` network shows where this fails. It has a component with hardly any pixels, which exists in its layers only.
# Pixels cannot tell how much of it an image has; least squares takes an enormous amount of it to mend a few pixels,
# and the error in the layers grows. Look at it in the first explorer, at rank 30: what does its picture show, and how
# bright is white in it?
#
# ### Exercise 2 ●●○ (5 minutes)
#
# Whose place changes most? In the `100%` network, find the test image for which the two places have the smallest cosine
# similarity, and look at it.
#
# <details><summary>Hint</summary><code>torch.nn.functional.cosine_similarity</code> compares row by row with
# <code>dim=1</code>.</details>

# %%
both, pixels = places["100%"].values()
my_image = None
pk.check.moved_most(my_image, both, pixels)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
alike = functional.cosine_similarity(both, pixels, dim=1)
image = int(alike.argmin())
pk.check.moved_most(image, both, pixels)
P = fitted("100%").factors["input"].cpu()
seen = [pk.to_float(test_images[image, 0]), P @ both[image], P @ pixels[image]]
labels = ["image", "pixels and layers", "pixels alone"]
title = f"Image {image}: similarity {alike[image]:.2f}, median {alike.median():.2f}"
figure = pk.plots.image_grid([x.reshape(28, 28) for x in seen], labels, title=title)
pk.show(
    figure, f"The test image whose place changes most, and how it is rebuilt. {title}."
)

# %% [markdown]
# ### Exercise 3 ●●● (10 minutes)
#
# Draw an image of your own, 28 × 28 numbers from 0 to 1, and place it among the 30 components of the `100%` network by its pixels. Which
# components does it take? What does the network's part of them, $O_j$, then claim about activations that nobody
# has recorded?
#
# <details><summary>Hint</summary>The block has one column: <code>my_drawing.reshape(784, 1)</code>, and
# <code>fitted("100%").transform</code> takes a dict with "input" alone. $O_j$ times its result is the claim.</details>

# %%
my_drawing = torch.zeros(28, 28)
my_place = None
pk.check.placed(my_place, fitted("100%"), my_drawing)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
fit, drawing = fitted("100%"), torch.zeros(28, 28)
drawing[13:16, 5:23] = drawing[5:23, 13:16] = 1  # a cross
place = fit.transform({"input": drawing.reshape(784, 1)}).cpu()[0]
pk.check.placed(place, fit, drawing)
P, top = fit.factors["input"].cpu(), place.topk(3).indices
pictures = [drawing, (P @ place).reshape(28, 28), *P[:, top].T.reshape(3, 28, 28)]
labels = ["drawn", "rebuilt", *(f"{s + 1}: {place[s]:.1f}" for s in top.tolist())]
title = "A cross, and the components that it takes"
pk.show(pk.plots.image_grid(pictures, labels, title=title), f"{title}: {labels[2:]}.")

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
claimed = fit.factors["relu2"].cpu() @ place
title = "What the fit expects of relu2"
figure = pk.plots.channel_maps(claimed, MAPS["relu2"], title=title)
pk.show(figure, f"{title}: 20 maps, one for each channel.")

# %% [markdown]
# ## Do shapes keep their place?
#
# *5 minutes.* In the explorer, a map of `relu1` often looks like the latent image. The eye is generous; so measure. Add up a
# component's maps over the channels, lay the sum over the 28 × 28 pixels that its neurons look at, and
# take the correlation with $P$: with the component's own column, and with all others. The others are what chance
# gives, because all images have a dark border and a bright middle.

# %%
LIKE = ["own", "others", "own is closest"]
alike = rows[LIKE].groupby(["layer", "network"]).mean().unstack("layer")
alike = alike.swaplevel(axis=1).loc[list(NETWORKS), list(MAPS)]
alike.round(2)

# %%
live = shapes.likeness(fitted("100%"), "relu1")
again(each.loc["relu1", "100%"], "likeness in relu1 of the 100 % network", live)

# %% [markdown]
# *Own is closest* counts, of 30 components, those whose map is more like their own column of $P$ than like any other; guessing would
# find one. Means over the seeds.

# %% tags=["hide-input"]
fit, name = fitted("100%"), "100%"
looks = [fit.factors["input"].cpu().T, *(shapes.overlaid(fit, k) for k in MAPS)]
labels = [f"{what} {k}" for what in ("P", "relu1", "relu2") for k in range(1, 6)]
relu1, relu2 = (pd.Series(shapes.likeness(fit, layer)) for layer in MAPS)
title = f"Correlation with P: relu1 {relu1.own:.2f}, relu2 {relu2.own:.2f}"
pictures = [image for row in looks for image in row[:5].reshape(5, 28, 28)]
figure = pk.plots.image_grid(pictures, labels, title=title)
pk.show(
    figure,
    f"The five strongest components of network {name} at rank 30 as pixels, and their maps in relu1 and relu2, laid over "
    f"the pixels. {title}; with other components {relu1.others:.2f} and {relu2.others:.2f}.",
)

# %% [markdown]
# `relu1` does show the shapes: after training on shuffled images, nearly every map is closest to its own column of $P$. But
# part of that is no discovery. A convolution keeps things where they are, and the network that was never trained is well above
# chance too; training on shuffled images adds the rest. In `relu2`, sixteen positions are all that is left. Its maps lie
# above chance on average, but after training on shuffled images most of them are closer to some other column of $P$.
#
# ## We saw
#
# - One shared factor links a picture, the neurons and the images of each component; labels name it afterwards.
# - In `relu1` a component has a place and no channels of its own. In `relu2` it has a bit of both; after training class
#   by class, all components share the same few channels there.
# - Pixels alone name the strongest component as pixels and activations do for about seven images of ten, if the network
#   was trained on shuffled images. They fail where a component has no pixels.
# - Maps of `relu1` show the shape of their component far better than chance, those of `relu2` barely. Part of it is in the
#   convolution, without any training.
# - The tables hold five networks of each kind, with one random start each; the pictures are of one. Change `SEED` to see others.
#
# References are in the {doc}`../book/bibliography`.
