# %% [markdown]
# # Coupled NMF
#
# *One small matrix describes every image; pixels and neurons of all layers are read off against it.*
#
# You know {doc}`01-a-network-as-matrices`. Allow 90 minutes; the cells take a minute or two on a laptop CPU.

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
import pandas as pd
import torch

import peeklib as pk
from peeklib.course.studies import speed

data = pk.load_dataset("mnist", fallback=True)
data

# %%
train = pk.cached(pk.train)  # keeps results on disk; take `.model` from what it returns
model = train(pk.models.PaperCNN(seed=0), *data.train, seed=0, progress=True).model
images = data.test.images
blocks = pk.input_blocks(images) | pk.record(model, images)
{name: tuple(block.shape) for name, block in blocks.items()}

# %% [markdown]
# Non-negative matrix factorization (NMF) writes every image as a weighted sum of a few **components**; the **rank** is
# how many. *Relative error* is 0 if nothing is lost and 1 if nothing is explained. Move the rank. *How many components
# does it take before single strokes appear instead of whole digits?* Then change the layer: the same components, seen
# by its neurons. With a kernel every rank from 1 to 60 is fitted
# on the spot; this page carries five of them.

# %%
from functools import cache


@cache
def fit(rank):
    return pk.coupled_nmf(blocks, rank, solver="auto", max_iter=60, tol=1e-3)


# %%
def draw(rank, layer):
    found = fit(rank)
    text = f"rank {rank}, {layer}: relative error {found.block_errors[layer]:.2f}"
    if layer == "input":
        figure = pk.plots.latent_images(found, (28, 28), title=text)
        return figure, f"Columns of P as images; {text}."
    channels = {"relu1": 10, "relu2": 20}[layer]
    figure = pk.plots.neuron_heatmap(
        found.factors[layer], title=text, channels=channels
    )
    return figure, f"Loadings of every neuron; {text}."


pk.Explorer(
    {"rank": range(1, 61), "layer": list(blocks)},
    draw,
    prepared={"rank": [2, 5, 10, 20, 40]},
    start={"rank": 10},
)

# %% [markdown]
# For `input` each small image is one column of $P$ (the 20 strongest are shown). For a layer, each row of the heatmap
# is a neuron, each column a component: how strongly the neuron fires where the component is present. *Which channels
# stay dark whatever the component?*
#
# **You will be able to**
#
# - write down the model and say what each factor means;
# - derive the multiplicative update and code it in five lines;
# - say what is proved about it, and why that does not make it good;
# - fit any number of layers with `pk.coupled_nmf`, and place new images in a fitted model.
#
# Symbols: {doc}`../book/notation`.

# %% [markdown]
# ## What is the model?
#
# *5 minutes.*
#
# Each block is approximated by a tall factor times one and the same wide factor:
#
# $$D_c \approx P_c F^T \qquad\text{and}\qquad A_j \approx O_j F^T, \qquad P_c, O_j, F \ge 0 .$$

# %%
pk.show(
    pk.plots.overview(),
    "The input D and the layers A0 and A1, stacked, each about equal to its own narrow factor "
    "P, O0 and O1 times one wide factor F transposed that all three share.",
)

# %% [markdown]
# Row $k$ of $F$ (images × rank) says how much of each component image $k$ contains. Column $s$ of $P$ shows what
# component $s$ looks like in pixels; column $s$ of $O_j$ says which neurons of layer $j$ light up with it. The factors
# are found by minimising {cite}`saini2018peek`
#
# $$J(P, F, O) = \sum_c \lVert D_c - P_c F^T\rVert_F^2 + \sum_j \lVert A_j - O_j F^T\rVert_F^2 .$$
#
# The paper goes no further than this: nothing pushes components to be sparse, or to match classes. No label occurs.

# %% [markdown]
# ## Is that a new kind of factorization?
#
# *5 minutes.*
#
# Stack the blocks on top of each other, and the factors too:
#
# $$X = \begin{bmatrix} D \\ A_0 \\ A_1 \end{bmatrix}, \quad W = \begin{bmatrix} P \\ O_0 \\ O_1 \end{bmatrix}
# \quad\Longrightarrow\quad J = \lVert X - W F^T \rVert_F^2 .$$
#
# So it is ordinary non-negative matrix factorization of the stack. This is good news: everything known about
# NMF holds, and any NMF program can check ours.
#
# ### Exercise 1 ●○○ (3 minutes)
#
# Build the stacked matrix from `blocks`.
#
# <details><summary>Hint</summary><code>torch.cat</code>; which axis do the blocks share?</details>

# %%
my_stack = None
pk.check.stacked(my_stack, blocks)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
stacked = torch.cat(list(blocks.values()))
pk.check.stacked(stacked, blocks)
print(tuple(stacked.shape), "features × images")

# %% [markdown]
# ## Where does the update come from?
#
# *10 minutes.*
#
# Look at one factor, $O$, and hold $F$ still. The gradient of $\lVert A - O F^T\rVert^2$ is
# $2\,(O F^T F - A F)$: a positive part minus a positive part. Gradient descent with a *different step for every entry*,
#
# $$O \leftarrow O - \eta * (O F^T F - A F), \qquad \eta = \frac{O}{O F^T F},$$
#
# cancels the subtraction (the 2 goes into the step):
#
# $$O \leftarrow O * \frac{A F}{O F^T F + \varepsilon} .$$
#
# Products and quotients of non-negative numbers stay non-negative, so the constraint takes care of itself. Lee
# and Seung {cite}`lee2001algorithms` proved that these *multiplicative updates* (MU) never raise the loss. $P$ follows
# the same rule; $F$, which all blocks share, adds up their numerators and their denominators. The small $\varepsilon$,
# added against $0/0$, is too small to matter for the proof in practice.
#
# Here is the whole method.

# %%
EPS = 1e-9


def update(blocks, factors, F):
    """One round of the paper's updates: F first, then every P and O."""
    top = sum(blocks[b].T @ factors[b] for b in blocks)  # images × rank
    bottom = sum(F @ (factors[b].T @ factors[b]) for b in blocks)  # images × rank
    F = F * top / (bottom + EPS)
    factors = {
        b: factors[b] * (blocks[b] @ F) / (factors[b] @ (F.T @ F) + EPS) for b in blocks
    }
    return factors, F


def loss(blocks, factors, F):
    return sum(float((blocks[b] - factors[b] @ F.T).square().sum()) for b in blocks)


# %% [markdown]
# Run it on the first 500 images from uniform random factors.

# %%
few = {name: block[:, :500].cpu() for name, block in blocks.items()}
draw_from = torch.Generator().manual_seed(0)
W = torch.rand(10, sum(map(len, few.values())), generator=draw_from).T
F = torch.rand(10, 500, generator=draw_from).T
factors = dict(zip(few, W.split([len(block) for block in few.values()])))
losses = [loss(few, factors, F)]
for _ in range(100):
    factors, F = update(few, factors, F)
    losses.append(loss(few, factors, F))

pk.show(
    pk.plots.lines(
        {"J": losses},
        log=True,
        title="The loss never rises",
        xlabel="round of updates",
        ylabel="loss J",
    ),
    "The loss J over 100 rounds of updates on a logarithmic axis: a steep fall in the first rounds, then a slow one.",
)

# %% tags=["remove-cell"]
assert all(after <= before * (1 + 1e-6) for before, after in zip(losses, losses[1:]))

# %% [markdown]
# `pk.coupled_nmf(..., solver="mu")` is the same rule. It draws its start from the same seed in the same order, so the
# two must agree to rounding.

# %%
theirs = pk.coupled_nmf(few, 10, solver="mu", max_iter=100, tol=0, device="cpu")
total = sum(float(block.square().sum()) for block in few.values())
ours = (losses[-1] / total) ** 0.5
print(f"after 100 rounds: {ours:.6f} by hand, {theirs.relative_error:.6f} with peeklib")

# %% tags=["remove-cell"]
assert abs(ours - theirs.relative_error) < 1e-4 * ours

# %% [markdown]
# Boxes like the next one compare a statement of the paper with what we measure; {doc}`../book/ledger` collects them all.
# This first one asks whether the error that `peeklib` reports is the $J$ above, summed entry by entry.

# %% tags=["hide-input"]
residuals = [
    block.double() - theirs.factors[b].double() @ theirs.image_factor.double().T
    for b, block in few.items()
]
entry_by_entry = sum(float(r.square().sum()) for r in residuals)
reported = theirs.rmse**2 * sum(block.numel() for block in few.values())
off = abs(reported / entry_by_entry - 1)
pk.judge(
    "equation-1",
    [off < 1e-6],
    f"reported {reported:.6g}, entry by entry {entry_by_entry:.6g}: off by {off:.0e}",
    chapter="02-coupled-nmf",
    data=data,
)

# %% [markdown]
# ### Exercise 2 ●●○ (10 minutes)
#
# Write the update of one factor $O$ for a given $F$, without looking at the cell above.
#
# <details><summary>Hint</summary>Numerator <code>A @ F</code>. In the denominator multiply <code>F.T @ F</code>
# first: it is rank × rank, so nothing large is ever formed.</details>

# %%
my_update = (
    None  # a function of A (neurons × images), O (neurons × rank), F (images × rank)
)
pk.check.factor_update(my_update)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def solution(A, O, F):
    return O * (A @ F) / (O @ (F.T @ F) + EPS)


pk.check.factor_update(solution)

# %% [markdown]
# ## Is never rising good enough?
#
# *10 minutes.*
#
# A loss that never rises may still crawl. Under the paper's updates the step of an entry is proportional to the entry
# itself, so an entry near zero hardly moves. *Hierarchical alternating least squares* (HALS)
# {cite}`cichocki2009fast` takes one component at a time and asks for its best value outright, the others held still:
#
# $$O_{:s} \leftarrow \max\Big(0,\; O_{:s} + \frac{(A F)_{:s} - O\,(F^T F)_{:s}}{(F^T F)_{ss}}\Big).$$
#
# It needs the same two products, $A F$ and $F^T F$. They cost far more than the step itself, so we take the step
# twice for each product {cite}`gillis2012accelerated`. Both methods now get 200 rounds from the same uniform random
# factors, which HALS first multiplies by the one number that fits best.
#
# Here both run at rank 10. Ranks 30 and 50 take longer, so they come from a *table of evidence*: a file of the package,
# made once by the same function and the same for every reader ({doc}`../book/running`). The box below shows
# by how much HALS ends lower at rank 10, in the table and in this run. Your machine rounds in its own way, so its network
# is another one, as if from another seed; 1.5 percent are tolerated, more than the two starts of the table differ by.
# `pd.DataFrame(speed.duel(blocks, rank=50, seed=1))` computes another two rows.

# %%
table = pk.evidence.table("rounds").set_index(["rank", "seed", "solver"])
live = pd.DataFrame(speed.duel(blocks, rank=10, seed=0)).set_index("solver")
errors = table.relative_error.unstack("solver")
lower = (1 - errors.hals / errors.mu).groupby("rank").mean()
now = 1 - live.relative_error.hals / live.relative_error.mu
pk.recheck(
    "HALS ends lower than MU after 200 rounds at rank 10, by this share",
    1 - errors.hals[10, 0] / errors.mu[10, 0],
    now,
    within=0.015,
    data=data,
)

# %% tags=["hide-input"]
paths = table.query("rank != 30")[[f"after {count}" for count in speed.SHOWN]]
lines = paths.set_axis(speed.SHOWN, axis=1).melt(
    ignore_index=False, var_name="round", value_name="error"
)
lines = lines.reset_index()
lines["run"] = lines["solver"] + ", rank " + lines["rank"].astype(str)
figure = pk.plots.curves(
    lines,
    "round",
    "error",
    "run",
    log=True,
    title="After 200 rounds MU still lags behind",
    xlabel="round",
    ylabel="relative error",
)
figure.axes[0].set_xticks(range(0, 201, 50))
pk.show(
    figure,
    "Relative error against rounds, mean of two starts, for both solvers at ranks 10 and 50 on a logarithmic axis: "
    "HALS falls within a few rounds and flattens; the multiplicative updates fall slowly and end above it.",
)

# %%
means = table.groupby(["rank", "solver"]).mean().unstack("solver")
pd.DataFrame(
    {
        "MU, 200 rounds": means["relative_error", "mu"].map("{:.4f}".format),
        "HALS, 200 rounds": means["relative_error", "hals"].map("{:.4f}".format),
        "HALS is lower by": lower.map("{:.1%}".format),
        "HALS rounds to MU's error": means["rounds to mu's end", "hals"].map(
            "{:.1f}".format
        ),
    }
).T

# %%
rise = table["largest rise"].xs("mu", level="solver").max()
pk.judge(
    "updates",
    [rise < 1e-6, lower.max() < 0.01],
    "largest relative rise in a round "
    + (f"{rise:.0e}; " if rise > 0 else "none; ")
    + ", ".join(f"HALS ends {g:.1%} lower at rank {r}" for r, g in lower.items())
    + f" (one network, mean of {len(errors.loc[10])} starts)",
    chapter="02-coupled-nmf",
    data=None,  # from a table
)

# %% [markdown]
# The table has means over the starts; its last row counts how many rounds HALS took to reach what MU ends with after 200.
# The gap is wider at rank 50 than at rank 10. The consequence for everything that follows: **an error at a fixed number
# of MU rounds mixes two things, how well a rank can explain the data and how far the updates got.** From here on we use
# `solver="auto"`, which is HALS made faster ({doc}`08-fast-enough-to-play-with` says how), and
# {doc}`03-how-much-training` checks how far it got.

# %% [markdown]
# ## How good is it on single images?
#
# *5 minutes.*
#
# The upper row shows test images, the lower row what ten components make of them.

# %%
ten = fit(10)
rebuilt = ten.reconstruct("input", slice(0, 5)).T.reshape(-1, 28, 28).cpu()
pairs = torch.cat([pk.to_float(images[:5, 0]), rebuilt])
pk.show(
    pk.plots.image_grid(
        pairs, title="Above: the image. Below: ten components", shared=True
    ),
    "Five handwritten digits above their rank-ten reconstructions, which are blurred versions of the same digits.",
)

# %% [markdown]
# ## Can the model take new images?
#
# *5 minutes.*
#
# Yes: hold $P$ and $O$ still and solve for the new rows of $F$ alone, a convex problem. Any of the blocks will do.
# Below, $F$ is found from the *pixels alone*, and the model then predicts activations that it was not given for these
# images. For comparison: predicting each neuron's mean. *Which of the three is worst?*

# %%
half = images.shape[0] // 2
learned = pk.coupled_nmf(
    {name: block[:, :half] for name, block in blocks.items()}, 30, max_iter=60, tol=1e-3
)
new = {name: block[:, half:] for name, block in blocks.items()}


def layer_error(F):
    A = new["relu1"].to(F.device)
    return float((A - learned.factors["relu1"] @ F.T).norm() / A.norm())


everything, pixels = (
    layer_error(learned.transform(new)),
    layer_error(learned.transform({"input": new["input"]})),
)
mean = blocks["relu1"][:, :half].mean(dim=1, keepdim=True)
baseline = float((new["relu1"] - mean).norm() / new["relu1"].norm())
print(
    f"relu1 of new images: relative error {everything:.2f} from all blocks, "
    f"{pixels:.2f} from pixels alone, {baseline:.2f} from the mean"
)

# %% [markdown]
# ### Exercise 3 ●●● (10 minutes)
#
# `pk.coupled_nmf(blocks, 10, weights={"input": 10.0, "relu1": 1.0, "relu2": 1.0})` makes the pixels count ten times. Find
# weights under which every block has the same say. Then, in a cell of your own, fit rank 10 without weights, with the ten
# and with yours, and compare `block_errors`: which block pays?
#
# <details><summary>Hint</summary>A block's say is its weight times its energy, the sum of its squares.</details>

# %%
my_weights = None
pk.check.even_weights(my_weights, blocks)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
even = {name: 1 / float(block.square().sum()) for name, block in blocks.items()}
pk.check.even_weights(even, blocks)
choices = {
    "all 1": None,
    "input × 10": {"input": 10.0, "relu1": 1.0, "relu2": 1.0},
    "same say": even,
}
pd.DataFrame(
    {
        name: pk.coupled_nmf(blocks, 10, weights=weights, tol=1e-3).block_errors
        for name, weights in choices.items()
    }
).round(3)

# %% [markdown]
# ### Exercise 4 ●●○ (5 minutes)
#
# The pixels alone placed the new images, and predicted `relu1`. How well do they predict the last layer: what is the
# relative error of `relu2` of the new images, placed by their pixels?
#
# <details><summary>Hint</summary><code>learned.transform({"input": …})</code> gives their rows of $F$, and <code>learned.factors["relu2"]</code> times
# its transpose is the prediction.</details>

# %%
my_prediction = None  # a relative error
pk.check.from_pixels(my_prediction, learned, new, "relu2")

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
placed = learned.transform({"input": new["input"]})
relu2 = new["relu2"].to(placed.device)
predicted = learned.factors["relu2"] @ placed.T
lost = float((relu2 - predicted).norm() / relu2.norm())
pk.check.from_pixels(lost, learned, new, "relu2")
print(f"relative error of relu2 {lost:.2f}")

# %% [markdown]
# ## Which rank?
#
# *5 minutes.*
#
# The error of a fit falls with every component, so it cannot say how many to take. Two other questions can. **Are entries
# predicted that the fit has not seen?** Hide a tenth of all entries, so that no image and no neuron is hidden whole
# {cite}`wold1978cross`, fit the rest, and measure the error on what was hidden {cite}`owen2009bicross`. Components that
# only fit noise make it rise. **Does another start find the same components?** Match those of two fits one to one, and take
# their mean similarity {cite}`wu2016stability`: 1 if both fits agree.
#
# `pk.choose_rank` asks both, five times, with other entries hidden and another start each time. It suggests the
# smallest rank whose error on hidden entries is within one standard error of the least {cite}`breiman1984classification`.
# *Before you run it on our 500 images: where do you expect the error to turn?*

# %%
choice = pk.choose_rank(few, [1, 2, 4, 8, 16, 32], progress=True)
choice

# %% [markdown]
# Look at the gap between the curves above: what is gained on the seen entries alone is fitted, not found. Then compare
# the panels. If the upper one still falls where the lower one lies below its line (two cosines of 0.95, from which on
# components count as equal {cite}`lorenzo2006tucker`), more components predict better, but which ones you get depends on the
# start: good enough to compress, not to read one by one. `choice.why` says in words what decided, and `choice.table` has
# the numbers.
#
# What it does not tell: that there is a *true* rank. Activations are no sum of a few parts plus noise, so their curve need not
# turn at all. And the paper asks something else: it compares networks by their errors at the same fixed ranks. For that,
# no rank has to be the right one.

# %% [markdown]
# ## Can you put a hand into it?
#
# *10 minutes.*
#
# Here are this page's network and its factorization, as numbers in the page. What you draw goes through both. The upper
# pictures are what the network computes; the framed ones below are $P$ and $O$ times the row of $F$ that `transform` would find
# for your drawing. *Take an image, and set its largest component to zero: which picture loses most, and does the answer
# change?*
#
# Then open *Watch it being found*, and press *Run*: both methods of this chapter, from one random start, on 300 images. *How
# many rounds does MU take to get where HALS is after ten? Does MU find parts as clear?*

# %% tags=["hide-input"]
pk.Playground(
    model,
    [fit(10), fit(30)],
    images,
    labels=data.test.labels,
    classes=data.classes,
)

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** What does row 7 of $F$ say?
#
# - (a) How strongly neuron 7 fires.
# - (b) How much of each component image 7 contains.
# - (c) What component 7 looks like.
#
# <details><summary>Answer</summary>
#
# **(b)** $F$ is images × rank. (a) is a row of $O_j$, which is neurons × rank; (c) is a *column* of $P$.
#
# </details>
#
# **2.** What does Lee and Seung's proof say about multiplicative updates?
#
# - (a) They find the best factorization.
# - (b) They never raise the loss.
# - (c) They get close to it within a known number of rounds.
#
# <details><summary>Answer</summary>
#
# **(b)** No more than that. A loss that never rises may still crawl, or stop at a poor place, so (c) does not follow;
# and the problem has many local minima, so (a) is claimed by nobody.
#
# </details>
#
# **3.** True or false: coupled NMF with equal weights finds something that ordinary NMF of the stacked matrix cannot
# find.
#
# - (a) True
# - (b) False
#
# <details><summary>Answer</summary>
#
# **(b)** The two losses are the same sum of squares, entry by entry, so each minimum of one is one of the other. What
# *coupled* adds is the reading: which rows are pixels, which are neurons. (a) would be right for unequal weights, but
# those too are NMF, of a stack with scaled blocks.
#
# </details>
#
# **4.** You place new images in a fitted model with `transform`. What is held still?
#
# - (a) $F$, so that the images stay comparable.
# - (b) Nothing: the model is fitted again with all images.
# - (c) $P$ and $O$; only new rows of $F$ are found.
#
# <details><summary>Answer</summary>
#
# **(c)** New images need rows of their own, and what the components look like must not change. (a) cannot be: $F$ has
# no row for a new image. (b) would give other components, and the old places would no longer mean the same.
#
# </details>

# %% [markdown]
# <details><summary>An answer</summary>The upper pictures stand still, and so does the network's own answer: only what the
# components predict can move. The error below each picture says what it lost; read it before and after. The predicted
# answer turns where that component carried most of what tells your image from its neighbours. For the rounds, follow a
# level line from HALS at ten to the right, until MU meets it: each of its steps only multiplies, so what is nearly zero
# rises slowly, where HALS solves for a whole component at once. Compare the parts at the same error, not in the same
# round: else you compare how far each has come.</details>

# %% [markdown]
# ## We saw
#
# - Coupled NMF with equal weights is NMF of the stacked matrix: one image factor for pixels and neurons alike.
# - The paper's update is gradient descent with a step for each entry; its loss never rises.
# - At the same number of rounds it ends above HALS, by more at rank 50 than at rank 10.
# - A fitted model places new images, from all blocks or from some.
#
# **Next:** {doc}`03-how-much-training` asks the paper's question: does a poorly trained network need a lower rank?
#
# References are in the {doc}`../book/bibliography`.
