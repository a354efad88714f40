# %% [markdown]
# # Which classes?
#
# *A network that has only ever seen zeros, one that knows half of the digits, one that knows all: what does the factorization
# see of that, and does it see the classes, or only how long the network was trained?*
#
# You know {doc}`03-how-much-training`. Allow 45 minutes to read and answer; the chapter runs for about a minute on
# a laptop CPU, less if you ran chapter 3 before.

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
from tqdm.auto import tqdm

import peeklib as pk
from peeklib.course.studies import mnist

data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# This is Case Study II of Saini and Papalexakis {cite}`saini2018peek`: the same network and recipe, but the training images
# are of one class, of five, or of all ten; the test images are always of all ten. We add a network that is
# not trained at all, the poorest training there is.
#
# As in chapter 3, this page trains the networks of seed 0, and draws its conclusions from five seeds: from the tables
# `cases`, `spectra` and `controls`, made by the same functions. `python book/evidence.py cases spectra controls` makes
# them anew. What chapter 3 computed is on disk, and not computed again.

# %%
SETS = {  # the name on this page, and the setting of the table
    "none": "untrained",
    "{0}": "{0}",
    "{0–4}": "{0–4}",
    "{5–9}": "{5–9}",
    "{0–9}": "100%",
}
RANKS, NAMES = mnist.RANKS, list(SETS)
CHAPTER = {"chapter": "05-which-classes", "data": None}  # judged on the table


def listed(name):
    """A table, its settings under this page's names, and in their order."""
    rows = pk.evidence.table(name).copy()  # many columns, in one piece
    named = rows.setting.map({setting: name for name, setting in SETS.items()})
    rows = rows.assign(classes=named).dropna(subset="classes")
    return rows.sort_values("classes", key=lambda x: x.map(NAMES.index), kind="stable")


table = listed("cases")
facts = table[table["rank"] == 30]  # one row for each network
SEEDS = range(table.seed.nunique())
at30 = facts.set_index(["classes", "seed"])
controls = pk.evidence.table("controls").set_index(["setting", "seed"])

# %%
ours = {
    name: mnist.case(data, setting, seed=0)
    for name, setting in tqdm(SETS.items(), desc="training")
}
sweeps = {name: one.sweep for name, one in tqdm(ours.items(), desc="factorizing")}
spectra = {name: one.spectrum("relu2") for name, one in ours.items()}

# %% [markdown]
# Move the sliders. *The components come from the same test images each time. What changes in them between a network
# that knows only zeros and one that knows all digits?* Look at the pictures, then at the error in the title.


# %% tags=["hide-input"]
def draw(name, rank):
    fit = sweeps[name][rank, 0]
    text = f"trained on {name}, rank {rank}: RMSE {fit.rmse:.3f}"
    figure = pk.plots.latent_images(fit, (28, 28), title=text)
    return figure, f"Components as images, {text}."


pk.Explorer({"classes": list(SETS), "rank": RANKS}, draw)

# %% [markdown]
# **You will be able to**
#
# - rerun the second case study, and say which part of its result comes from the classes;
# - name the accuracy that a network can reach at best if it knows some of the classes;
# - use an untrained network, and one trained on as many images of all classes, as controls.
#
# ## How good can they be?
#
# *5 minutes.* A network trained on zeros says "zero" to everything. It is right for each zero of the test set,
# and wrong otherwise.

# %%
trained = NAMES[1:]
accuracies = facts.groupby("classes", sort=False).accuracy.agg(["mean", "min", "max"])
paper = pd.Series((0.09, 0.50, 0.47, 0.93), trained)
accuracies.insert(0, "paper", paper)
accuracies.map("{:.1%}".format).replace("nan%", "")


# %%
def again(what, column, live):
    """This page's networks beside those of seed 0; apart means by more than the seeds are."""
    seeds = at30[column].unstack()
    room = seeds.max(axis=1) - seeds.min(axis=1)
    return pk.recheck(what, seeds[0], live, within=room, relative=0.01, data=data)


live = {name: pk.accuracy(one.model, *data.test) for name, one in ours.items()}
again("accuracy, seed 0", "accuracy", live)

# %%
spread = ", ".join(
    f"{name} {row['mean']:.1%} ({row['min']:.1%} to {row['max']:.1%})"
    for name, row in accuracies.loc[trained].iterrows()
)
close = (accuracies["mean"] - paper).loc[trained].abs().max() < 0.03
pk.judge(
    "accuracy-classes",
    [close],
    f"mean (range) of {len(SEEDS)} seeds: {spread}",
    **CHAPTER,
)

# %% [markdown]
# The first note sets this page's networks beside those of the table with the same seed, as in chapter 3.
# Boxes like the other one compare a claim of the paper with what we found; {doc}`../book/ledger` collects them all.
#
# The paper explains the gap between its 50 and 47 % by the numbers of training images. Is it that? Here are
# the numbers, and the accuracies on test images of a network's own classes alone.


# %% tags=["hide-input"]
counts = pd.DataFrame(mnist.COUNTS)  # images of each class of MNIST
rows = {}
for name in ("{0–4}", "{5–9}"):
    own = [*mnist.CLASSES[name]]
    recall = at30.loc[name, [f"recall of {digit}" for digit in own]].mean()
    right = (recall.to_numpy() * counts.test[own]).sum()
    rows[name] = {
        "training images": counts.train[own].sum(),
        "share of test images": counts.test[own].sum() / counts.test.sum(),
        "accuracy on these": right / counts.test[own].sum(),
    }
halves = pd.DataFrame.from_dict(rows, orient="index")
halves.round(3)

# %%
low, high = halves.loc["{0–4}"], halves.loc["{5–9}"]
gap = low["accuracy on these"] - high["accuracy on these"]
pk.judge(
    "class-counts",
    [low["training images"] > high["training images"], abs(gap) < 0.005],
    f"accuracies on their own classes {low['accuracy on these']:.1%} and {high['accuracy on these']:.1%}; "
    f"shares of the test images {low['share of test images']:.1%} and {high['share of test images']:.1%}",
    **CHAPTER,
)

# %% [markdown]
# The shares are ceilings: a network that never answers "7" is wrong about every 7. They alone make a gap of nearly three points. On
# their own classes the half with more training images does not do better; the accuracies by seed say why:

# %%
by_seed = at30.accuracy.unstack("classes")[trained]
by_seed.map("{:.1%}".format)

# %% [markdown]
# ### Exercise 1 ●○○ (5 minutes)
#
# What is the highest test accuracy that a network can reach if it only ever answers 0, 1 or 7?
#
# <details><summary>Hint</summary>It can be right about every test image of these classes, and about no other.
# <code>data.test.labels</code> holds the labels.</details>

# %%
my_ceiling = None
pk.check.ceiling(my_ceiling, data.test.labels, (0, 1, 7))

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
labels = data.test.labels
ceiling = ((labels == 0) | (labels == 1) | (labels == 7)).float().mean().item()
pk.check.ceiling(ceiling, labels, (0, 1, 7))
print(f"{ceiling:.1%}")

# %% [markdown]
# ## Does the error grow with the classes?
#
# *5 minutes.* The paper's Figure 7, with the network that was not trained added. The band runs from the smallest to
# the largest value over the seeds.


# %%
def in_order(wide):
    """Is {0} below both halves, and are these below {0–9}? One answer for each row."""
    low = wide[["{0–4}", "{5–9}"]].min(axis=1)
    high = wide[["{0–4}", "{5–9}"]].max(axis=1)
    return (wide["{0}"] < low) & (high < wide["{0–9}"])


def by_classes(measure, *rows):
    return table.groupby([*rows, "classes"], sort=False)[measure].mean().unstack()


# %% tags=["hide-input"]
def rank_curves(measure, label):
    ranks = int(in_order(by_classes(measure, "rank")).sum())
    text = f"Mean {label} in the paper's order at {ranks} of {len(RANKS)} ranks"
    figure = pk.plots.curves(
        table, "rank", measure, "classes", title=text, xlabel="rank", ylabel=label
    )
    return pk.show(figure, f"{label} against rank by training classes. {text}.")


rank_curves("rmse", "RMSE")

# %% tags=["hide-input"]
live = {name: one.fit(30).rmse for name, one in ours.items()}
again("RMSE at rank 30, seed 0", "rmse", live)

# %% tags=["hide-input"]
rank_curves("relative_error", "relative error")

# %%
rmse, relative = (by_classes(m, "rank") for m in ("rmse", "relative_error"))
seeds = in_order(by_classes("rmse", "rank", "seed")).groupby("rank").sum()
pk.judge(
    "figure-7",
    [
        in_order(rmse).all(),
        in_order(relative).all(),
        (seeds >= 0.8 * len(SEEDS)).all(),
    ],
    "RMSE at rank 30: "
    + ", ".join(f"{name} {value:.3f}" for name, value in rmse.loc[30].items())
    + "; relative error: "
    + ", ".join(f"{name} {value:.3f}" for name, value in relative.loc[30].items())
    + f"; in order in at least {seeds.min()} of {len(SEEDS)} seeds at every rank",
    **CHAPTER,
)

# %% [markdown]
# ## Fewer classes, or fewer images?
#
# *5 minutes.* Five classes are also half of the images, and one class a tenth: fewer update steps. So train on as many images
# *of all classes*, drawn at random, and compare. If the pairs agree, the factorization sees the number of steps;
# if not, it sees the classes.

# %%
MEASURES = ["accuracy", "rmse", "relative_error", "entropy rank of relu2"]
pairs = pd.concat(
    {
        ("{0}", "these classes"): at30.loc["{0}"],
        ("{0}", "as many of all"): controls.loc["as many as {0}"],
        ("{0–4}", "these classes"): at30.loc["{0–4}"],
        ("{0–4}", "as many of all"): controls.loc["as many as {0–4}"],
    },
    names=["images of", "trained on"],
)[MEASURES].rename(columns={"rmse": "RMSE", "relative_error": "relative error"})
by_pair = pairs.groupby(["images of", "trained on"], sort=False)
by_pair.agg(lambda x: f"{x.mean():.3f} ± {x.std(ddof=0):.3f}")

# %% [markdown]
# The errors are at rank 30, the entropy rank is that of `relu2`; mean ± standard deviation over the seeds. This page trains none of the networks
# on all classes; `mnist.case(data, "as many as {0}", seed=0)` makes one of them.

# %%
both = by_pair[["RMSE", "entropy rank of relu2"]].mean()
ratio = both.xs("these classes", level=1) / both.xs("as many of all", level=1)
ratio.map("{:.0%}".format)

# %% [markdown]
# The table divides what the classes gave by what as many images of all gave. A network that saw one class and one that saw ten
# have nearly the same RMSE, though one of them knows five times as much. With half of the images, the RMSE does tell them apart. The entropy rank of the
# last layer tells them apart in both cases.
#
# ## What do the singular values say?
#
# *5 minutes.* The paper's Figure 8 shows the top quarter of the singular values of the last layer: 80 of 320. First as
# they are, for this page's networks; then divided by the largest, so that a larger activation is not taken for a richer one.


# %% tags=["hide-input"]
def spectra_figure(values, title, ylabel):
    curves = {name: values(spectrum)[:80] for name, spectrum in spectra.items()}
    figure = pk.plots.lines(
        curves, title=title, xlabel="index", ylabel=ylabel, log=True
    )
    what = "The 80 largest singular values of relu2 by training classes, seed 0"
    return pk.show(figure, f"{what}, on a logarithmic axis. {title}.")


spectra_figure(lambda s: s, "relu2, the 80 largest singular values", "singular value")

# %% tags=["hide-input"]
spectra_figure(lambda s: s / s[0], "relu2, relative to the largest", "share of largest")

# %%
values = listed("spectra").query("layer == 'relu2'").set_index(["classes", "seed"])
values = values[[str(index) for index in range(1, 81)]]
means = pd.DataFrame(
    {
        "head": values.mean(axis=1),
        "tail": values.iloc[:, 20:].mean(axis=1) / values["1"],
        "entropy rank": at30["entropy rank of relu2"],
    }
)
means = means.groupby("classes", sort=False).mean().loc[NAMES].T
orders = in_order(means)
means.round(3)

# %%
pk.judge(
    "figure-8",
    [orders["head"], orders["tail"]],
    "; ".join(
        f"{what}: " + ", ".join(f"{name} {means.loc[row, name]:.3g}" for name in means)
        for row, what in (("head", "mean of 80"), ("tail", "21st to 80th over first"))
    ),
    **CHAPTER,
)

# %% [markdown]
# ### Exercise 2 ●○○ (5 minutes)
#
# *Predict, then run.* Show the network that knows {0–9} nothing but the zeros among the test images; then as many images of
# all digits. For which of the two has `relu2` the higher entropy rank, or are they the `"same"` within a tenth? Whose property is an entropy rank,
# then: the network's, or that of the images as well?
#
# <details><summary>Hint</summary>How many different things are there to tell apart?</details>

# %%
my_guess = None  # "zeros", "all digits" or "same"
seen = ours["{0–9}"].blocks["relu2"].cpu()
zeros = seen[:, data.test.labels == 0]
shown = {"zeros": zeros, "all digits": seen[:, : zeros.shape[1]]}
pk.check.higher_rank(my_guess, shown)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
pk.check.higher_rank("all digits", shown)
for name, block in shown.items():
    print(f"{name}: entropy rank {pk.effective_rank(block):.1f}")
print("It measures both: compare networks on the same images only.")

# %% [markdown]
# ### Exercise 3 ●●○ (10 minutes)
#
# How many singular values does `relu2` need for 95 % of its energy, the sum of the squares of all of them? Answer for the
# network that knows {0–9}. Then compare with the one that knows only {0}: which of the two is a better measure of what a
# network knows, this number or the entropy rank?
#
# <details><summary>Hint</summary><code>values.square().cumsum(0)</code> adds the squares up from the largest.</details>

# %%
values = spectra["{0–9}"]
my_number = None
pk.check.energy_rank(my_number, values, 0.95)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
for name, values in spectra.items():
    held = values.square().cumsum(0) / values.square().sum()
    number = int((held < 0.95).sum()) + 1
    pk.check.energy_rank(number, values, 0.95)
    print(f"{name}: {number} values, entropy rank {pk.effective_rank(values):.1f}")
print("Neither is safe: both place the network that was not trained at the top.")

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** A network only ever answers 3 or 5. What is the highest accuracy it can have on a test set?
#
# - (a) Two tenths, whatever the test set.
# - (b) One half.
# - (c) The share of threes and fives among the test images.
#
# <details><summary>Answer</summary>
#
# **(c)** It can be right about all of these, and about nothing else. (b) would be it if half of the images showed a 3
# or a 5. (a) presumes that all ten classes are equally frequent.
#
# </details>
#
# **2.** A network saw one class, which is a tenth of the images. Which network tells you whether its low error comes
# from the *class*?
#
# - (a) One trained on all images.
# - (b) One trained on another single class.
# - (c) One trained on as many images of all classes.
#
# <details><summary>Answer</summary>
#
# **(c)** It takes the same number of steps, so what differs is the classes. (a) changes both the classes and the
# number of steps. (b) keeps both as they are; it shows whether it matters *which* class, another question.
#
# </details>
#
# **3.** Why put an untrained network beside the others, though the paper has none?
#
# - (a) Because its error is zero.
# - (b) To have a network of the right accuracy.
# - (c) As the poorest training there is, a measure of training must place it at the poor end.
#
# <details><summary>Answer</summary>
#
# **(c)** If a score puts it at the good end, the score measures something besides training. (b): its accuracy is
# about chance, which is the point and not a fit. (a): its activations are as hard to factorize as any.
#
# </details>
#
# **4.** True or false: an entropy rank is a property of a network.
#
# - (a) True
# - (b) False
#
# <details><summary>Answer</summary>
#
# **(b)** It is one of a matrix, neurons × *images*. Show the same network other images, and you get another rank, as
# exercise 2 does. So (a) forgets half of the matrix, and ranks on different images cannot be compared.
#
# </details>

# %% [markdown]
# ## We saw
#
# - The RMSE stands in the paper's order at all ranks. The relative error does not: from rank 20 on the network that knows
#   only zeros has a larger one than the network that knows everything, and the untrained network has the largest.
# - The ceilings of the two halves differ by nearly three points. What they learnt of their own classes differs by about as much the other
#   way, mostly through one seed.
# - As many images of all classes give a network of nearly the RMSE of zeros alone, but a much higher entropy rank in its last layer.
# - An untrained network has the lowest RMSE and the highest entropy rank of all five: by RMSE it
#   stands below the paper's order, by entropy rank above it.
#
# References are in the {doc}`../book/bibliography`.
