# %% [markdown]
# # In what order?
#
# *Show a network all nines, then all zeros, then all ones. What does it know at the end, which neurons does it use, and
# is it what the paper says?*
#
# You know {doc}`03-how-much-training`. Allow 70 minutes to read and answer; the chapter runs for about a minute on
# a laptop CPU.

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
from peeklib.course.studies import mnist, neurons

data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# This is Case Study III of Saini and Papalexakis {cite}`saini2018peek`. The usual recipe shuffles the images. Here they come
# class by class instead: first all nines, then 0, 1, … 8. Beside it, the same network on the same images, shuffled: the
# 100 % network of chapter 3.
#
# As there, this page trains the two networks of seed 0, and what it says rests on five seeds: on the tables `cases`,
# `forgetting`, `loadings` and `overlaps`. `python book/evidence.py cases forgetting loadings overlaps` makes them anew.

# %%
RANKS = mnist.RANKS
CHAPTER = {"chapter": "06-in-what-order", "data": None}  # judged on tables
SETTINGS = {"shuffled": "100%", "ordered": "ordered"}  # here, and in the tables
test_images, test_labels = data.test
ours = {how: mnist.case(data, name, 0) for how, name in SETTINGS.items()}


def fitted(how, rank=10):
    return ours[how].fit(rank)


def listed(name, **where):
    """A table of evidence under this page's names, a row for each network."""
    rows = pk.evidence.table(name)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    here = {setting: how for how, setting in SETTINGS.items()}
    return rows.assign(training=rows.setting.replace(here))


cases = listed("cases", rank=30).set_index(["training", "seed"])
SEEDS = sorted(cases.loc["ordered"].index)
most = 0.8 * len(SEEDS)

# %% [markdown]
# Each picture shows the loadings of all neurons of a layer: left after shuffled training, right after ordered
# training, on one colour scale. *Which half is darker in `relu2`, and which in `relu1`?* Whether dark means
# unused, a later section counts.


# %% tags=["hide-input"]
def draw(layer, rank):
    loadings = {
        how: fitted(how, rank).factors[layer] for how in ("shuffled", "ordered")
    }
    title = f"{layer}: loadings of every neuron at rank {rank}"
    channels = {"relu1": 10, "relu2": 20}[layer]
    figure = pk.plots.neuron_heatmap(loadings, title=title, channels=channels)
    return figure, f"{title}, shuffled and ordered training side by side."


pk.Explorer({"layer": ["relu2", "relu1"], "rank": RANKS}, draw)

# %% [markdown]
# **You will be able to**
#
# - say what a network knows after each class, and what becomes of the classes before;
# - read a heatmap of neurons × components, and put a number on "not used";
# - compare the sets of neurons that two digits excite with what chance would give;
# - tell which part of the paper's claim is left after three case studies.
#
# ## What does it know in the end?
#
# *5 minutes.* The paper reports an accuracy of 9 %, and that the network recognizes most of the nines, the class that it
# saw *first*. Labels of the test images answer that.


# %%
recall = {digit: f"recall of {digit}" for digit in range(10)}
known = cases.loc[list(SETTINGS), list(recall.values())]
known = known.rename(columns={column: digit for digit, column in recall.items()})
known.groupby("training", sort=False).mean().map("{:.0%}".format)

# %%
reached, nines, eights = (
    cases.loc["ordered", column] for column in ("accuracy", recall[9], recall[8])
)
pk.judge(
    "accuracy-order",
    [abs(reached.mean() - 0.09) < 0.03, nines.mean() > 0.5],
    f"accuracy {reached.min():.1%} to {reached.max():.1%}, recall of the nines {nines.min():.0%} to {nines.max():.0%}, "
    f"of the eights, which came last, {eights.min():.0%} to {eights.max():.0%} ({len(SEEDS)} seeds)",
    **CHAPTER,
)


# %%
def again(what, column, live):
    """Both networks of this page beside those of seed 0; apart means by more than the seeds are."""
    seeds = cases.loc[list(SETTINGS), column].groupby("training")
    how = {"within": seeds.max() - seeds.min(), "relative": 0.01, "data": data}
    return pk.recheck(what, cases[column].xs(0, level="seed"), live, **how)


live = {how: pk.accuracy(one.model, *data.test) for how, one in ours.items()}
again("accuracy, seed 0", "accuracy", live)

# %% [markdown]
# Our network ends up with the *last* class alone. To see how, stop after each class and ask. The table `forgetting` did
# so in every seed; this is the mean.

# %% tags=["hide-input"]
steps = pk.evidence.table("forgetting").set_index(["seed", "digit"])
steps.columns = list(recall)
latest = int((steps.idxmax(axis=1) == steps.index.get_level_values("digit")).sum())
text = f"The class just seen is the best known after {latest} of {len(steps)} steps"
words = {"xlabel": "recall of this digit", "ylabel": "after training on this digit"}
mean = steps.groupby("digit", sort=False).mean()
figure = pk.plots.class_matrix(mean, title=text, label="recall", **words)
what = "Mean recall of every digit after each step of training class by class, 9 first."
pk.show(figure, f"{what} {text}.")

# %% [markdown]
# Each class wipes out the one before: the network learns to say one digit to everything. That is cheap to learn:
# the biases of the last layer would be enough. This is the simplest form of *catastrophic forgetting*
# {cite}`mccloskey1989catastrophic`.
#
# Is that an accident of our order, seed or learning rate? The table `orders` holds eleven orders (each digit
# first, and one order backwards) with three seeds, and 9 first at three more learning rates; `make evidence` made it.

# %% [markdown]
# ### Exercise 1 ●○○ (3 minutes)
#
# *Predict, then run.* Three networks of that table were trained backwards: 9, 8, 7, … 0. Which digit will they know best, on average?
#
# <details><summary>Hint</summary>What did each class do to the one before?</details>

# %%
my_digit = None
backwards = pk.evidence.table("orders").query("order == '9876543210' and rank == 10")
pk.check.best_known(my_digit, backwards)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
best = backwards[list(recall.values())].mean().to_numpy().argmax()
pk.check.best_known(int(best), backwards)
print(f"best known: {best}, the last of {backwards.order.iloc[0]}")

# %%
orders = pk.evidence.table("orders")
orders = orders[orders["rank"] == 10]
orders["best"] = orders[list(recall.values())].to_numpy().argmax(axis=1)
orders["first"] = orders.best == orders.order.str[0].astype(int)
orders["last"] = orders.best == orders.order.str[-1].astype(int)
summary = orders.groupby("lr").agg(
    runs=("seed", "size"),
    accuracy=("accuracy", "mean"),
    first=("first", "sum"),
    last=("last", "sum"),
)
summary.columns = ["runs", "mean accuracy", "first class best", "last class best"]
summary.round(3)

# %%
runs = orders[orders.lr == 0.01]
print(
    f"class seen first known best in {runs['first'].sum()}, last in {runs['last'].sum()} of {len(runs)} runs"
)

# %%
pk.judge(
    "first-class",
    [runs["first"].mean() > 0.5],
    f"over {runs.order.nunique()} orders with {runs.seed.nunique()} seeds, the best known class was the first in "
    f"{runs['first'].sum()} and the last in {runs['last'].sum()} of {len(runs)} runs",
    chapter="06-in-what-order",
    data=None,
)

# %% [markdown]
# At the lowest learning rate the networks have hardly learned: accuracies lie below 20 %, they answer with one or two
# classes, and the one they recognize best is neither the first nor the last. One seed of three recognizes most nines
# there, as close as we came to the paper; rates between 0.0001 and 0.001 we did not try. A network that says "9" to everything, as the paper describes it, is what we get when 9 comes
# *last*. We cannot know what happened there; a list of files sorted the other way would do it.
#
# ## What do the components show?
#
# *5 minutes.* The paper's Figure 2 shows components and the classes that load on them; it does not say of which rank, so we take 10, as in its Figure 9. Labels
# are used to name the components, never to find them. Above each component stand one class if it holds half of the loading, else the
# two largest, and the share of the loading that they hold.


# %% tags=["hide-input"]
def named(column):
    """One class if it holds half of the loading, else the two largest."""
    top = column.argsort(descending=True).tolist()
    top = top[:1] if column[top[0]] > 0.5 else top[:2]
    return f"{', '.join(map(str, top))}: {column[top].sum():.0%}"


fit = fitted("ordered")
names = [named(column) for column in neurons.shares(fit.image_factor, test_labels).T]
title = "Rank 10, ordered: components and their top classes"
figure = pk.plots.latent_images(fit, (28, 28), labels=names, title=title)
pk.show(figure, f"{title}: {'; '.join(names)}.")

# %% [markdown]
# How many of the paper's seven sets of classes (9; 1; 6; 0; 3 and 8; 7; 1 and 2) are the top classes of some component? How many of ten components do one or two
# classes hold, that is, have half of the loading? `neurons.sets_found` counts; the table `loadings` has the counts of every seed.

# %%
loadings = listed("loadings").set_index(["training", "seed"])
COUNTS = ["sets found", "held by one or two"]
found = loadings.loc["ordered", COUNTS]
sets, held = (found[name] for name in COUNTS)
pk.judge(
    "figure-2",
    (found.mean() >= 5).tolist(),
    f"{sets.mean():.1f} of the 7 sets ({sets.min():.0f} to {sets.max():.0f}); "
    f"one or two classes hold half of the loading of {held.mean():.1f} components "
    f"({held.min():.0f} to {held.max():.0f})",
    **CHAPTER,
)

# %% [markdown]
# Is that the network, or the digits? The same count for a factorization of the *pixels alone*, and for a network that
# was not trained. Means over the seeds:

# %%
controls = loadings.loc[["ordered", "pixels alone", "untrained"], COUNTS]
controls.groupby("training", sort=False).mean()

# %% [markdown]
# The paper's example of what a component might stand for: round shapes, for 0, 6 and 9. The table `round_shapes` has two networks of one seed at five ranks, with 2,000 test images:

# %%
rounds = pk.evidence.table("round_shapes")
best = rounds[rounds.setting == "100%"].set_index("rank")["0, 6 and 9"]
pk.judge(
    "round-shapes",
    [
        (best > 0).sum() >= 3,
        rounds["0, 6 and 9"].sum() > rounds["of any three"].sum(),
    ],
    "components with 0, 6 and 9 on top, trained on all data: "
    + ", ".join(f"{count} of {rank}" for rank, count in best.items())
    + f"; of all networks {rounds['0, 6 and 9'].sum()}, of the average three digits {rounds['of any three'].sum():.1f}",
    **CHAPTER,
)

# %% [markdown]
# Pixels alone find as many of the sets. The components show digits because the images are digits.
#
# ## How much of the network is used?
#
# *10 minutes.* "By a quick glance" at such heatmaps the paper finds most of the network unused. Two numbers say it
# without a glance: the share of neurons whose largest loading is below 1 % of the layer's largest, and the
# *entropy rank* of the loading matrix $O_j$ (chapter 1), the number of directions that it really has.


# %%
NUMBERS = ["negligible", "entropy rank"]
used = pd.concat(
    {
        layer: loadings.loc[
            list(SETTINGS), [f"{name} of {layer}" for name in NUMBERS]
        ].set_axis(NUMBERS, axis=1)
        for layer in ("relu1", "relu2")
    },
    names=["layer"],
)
numbers = used.groupby(["layer", "training"], sort=False)
numbers.agg(lambda x: f"{x.mean():.3f} ± {x.std(ddof=0):.3f}")


# %%
seeds = used.xs("ordered", level="training").unstack("layer")
live = {
    (name, layer): value
    for layer in ("relu1", "relu2")
    for name, value in neurons.usage(fitted("ordered").factors[layer]).items()
}
what = "use of the neurons after ordered training, seed 0"
how = {"within": seeds.max() - seeds.min(), "relative": 0.01, "data": data}
pk.recheck(what, seeds.loc[0], live, **how)


# %%
def against(column, layer, sign):
    """In how many seeds the ordered network has more (sign 1) or less (-1) than the shuffled one."""
    part = used[column].xs(layer, level="layer").unstack("training")
    return int((sign * (part["ordered"] - part["shuffled"]) > 0).sum())


layers = ["relu1", "relu2"]
idle = [against("negligible", layer, 1) for layer in layers]
flat = [against("entropy rank", layer, -1) for layer in layers]
unused = used.negligible.xs("ordered", level="training").groupby("layer").mean()
pk.judge(
    "figure-9",
    [min(idle) >= most, min(flat) >= most, unused.min() > 0.5],
    f"relu1 and relu2: more negligible neurons in {idle[0]} and {idle[1]} of {len(SEEDS)} seeds, lower entropy rank "
    f"in {flat[0]} and {flat[1]}; negligible after ordered training {unused.iloc[0]:.0%} and {unused.iloc[1]:.0%}",
    **CHAPTER,
)

# %% [markdown]
# ## Which digits share neurons?
#
# *10 minutes.* The paper names digits whose neurons in the last layer are the same, or different. Say that a neuron is *active*
# for a digit if it fires for at least half of its images. The overlap of two digits is the number of neurons that are
# active for both, over the number active for either (the Jaccard index).


# %% [markdown]
# To compare with, *chance* is the overlap to expect of random sets of the same sizes, among the neurons active for any digit. From four
# counts for each pair follows all we need.


# %%
def measures(counts):
    """Overlap, that of chance, and the share of the first digit's neurons that the other uses too."""
    a, b, both = counts["of digit"], counts["of other"], counts["both"]
    lucky = a * b / counts["of any"]
    return pd.DataFrame(
        {
            "overlap": (both / (a + b - both)).fillna(0),
            "chance": (lucky / (a + b - lucky)).fillna(0),
            "also": (both / a).fillna(0),
            "also, the other way": (both / b).fillna(0),
        }
    )


PAIR, KEYS = ["digit", "other"], ["training", "seed", "digit", "other"]
table = measures(listed("overlaps").set_index(KEYS))
ours_active = {
    how: neurons.active(one.blocks["relu2"], test_labels) for how, one in ours.items()
}
live = {
    how: measures(pd.DataFrame(neurons.shared(active)).set_index(PAIR))
    for how, active in ours_active.items()
}

# %%
ends = table.overlap.loc["ordered"].groupby("seed").agg(["min", "max"])
here = live["ordered"].overlap.agg(["min", "max"])
what = "least and largest overlap of 45 after ordered training, seed 0"
how = {"within": ends.max() - ends.min(), "relative": 0.01, "data": data}
pk.recheck(what, ends.loc[0], here, **how)


# %% tags=["hide-input"]
def square(values):
    """Digits × digits from the values of 45 pairs."""
    full_table = torch.eye(10, dtype=torch.float64)
    for (a, b), value in values.items():
        full_table[a, b] = full_table[b, a] = value
    return full_table


example = live["ordered"]
ratio = example.overlap / example.chance
text = f"Overlaps of two digits run from {example.overlap.min():.0%} to {example.overlap.max():.0%}"
words = {"xlabel": "digit", "ylabel": "digit", "label": "overlap"}
grid = pd.DataFrame(square(example.overlap).numpy())
figure = pk.plots.class_matrix(grid, title=text, **words)
pk.show(
    figure,
    f"{text}: active neurons of relu2, ordered training, seed 0. They are {ratio.min():.2f} to "
    f"{ratio.max():.2f} times those of random sets.",
)


# %%
def of(how):
    """The 45 pairs of all seeds after one kind of training, with the median of each seed."""
    rows = table.loc[how]
    median = rows.overlap.groupby("seed").median()
    return rows.join(median.rename("median"), on="seed")


def place(a, b, how="ordered"):
    """Over the seeds: is the overlap of a and b above the median of all pairs? Above that of random sets?"""
    high, low = max(a, b), min(a, b)
    rows = of(how).xs((high, low), level=PAIR)
    facts = {
        "above median": (rows.overlap > rows["median"]).sum(),
        "above chance": (rows.overlap > rows.chance).sum(),
    }
    also = rows["also" if a == high else "also, the other way"].mean()
    return {**facts, "overlap": rows.overlap.mean(), "also": also}


NAMED = [(9, 1), (9, 6), (1, 7), (1, 9), (7, 2), (0, 3), (0, 8)]
how = ("ordered", "shuffled")
places = {h: pd.DataFrame({pair: place(*pair, h) for pair in NAMED}).T for h in how}
pd.concat(places, axis=1).round(2)

# %% [markdown]
# *Above median* and *above chance* count seeds. *Also* is the share of the first digit's neurons that are active for the second
# too, which is closer to the paper's words; it is high for all pairs. Chance is a low bar, because many neurons are active for every
# digit. The median of all pairs asks whether *these* digits share more than others do.

# %%
above = {pair: place(*pair)["above median"] for pair in NAMED}
lucky = {pair: place(*pair)["above chance"] for pair in NAMED}


def count(*chosen):
    text = "; ".join(
        f"{a} and {b}: above the median in {above[a, b]}, above chance in {lucky[a, b]}"
        for a, b in chosen
    )
    return f"{text} (of {len(SEEDS)} seeds)"


pk.judge(
    "shared-9-1-6",
    [above[9, 1] >= most, above[9, 6] >= most],
    count((9, 1), (9, 6)),
    **CHAPTER,
)

# %%
pk.judge(
    "shared-1-7-9-2",
    [above[1, 7] >= most, above[7, 2] >= most],
    count((1, 7), (1, 9), (7, 2)),
    **CHAPTER,
)


# %%
rows = of("ordered")
both = pd.concat({other: rows.xs((other, 0), level=PAIR) for other in (3, 8)})
below = (both.overlap < both["median"]).groupby("seed").all()
unlucky = (both.overlap <= both.chance).groupby("seed").all()
pk.judge(
    "apart-0-3-8",
    [below.sum() >= most, unlucky.sum() >= most],
    count((0, 3), (0, 8)),
    **CHAPTER,
)

# %% [markdown]
# Is it the network that makes digits share neurons, or do they look alike to begin with? Compare the 45 overlaps, by their rank
# correlation, with three others: those in the same network *before training*, those in an untrained network with
# *other* weights, and those of the *pixels* that are bright in at least half of a digit's images.


# %%
overlaps = table.overlap.unstack(PAIR)  # networks × pairs
others = {
    "same weights": "untrained",
    "other weights": "untrained, other weights",
    "pixels": "pixels",
}
alike = {
    (how, what): overlaps.loc[how].corrwith(
        overlaps.loc[other], axis=1, method="spearman"
    )
    for how in SETTINGS
    for what, other in others.items()
}
alike = pd.concat(alike, names=["training", "compared with"])
alike = alike.groupby(["training", "compared with"], sort=False)
alike.agg(["mean", "min", "max"]).round(2)

# %% [markdown]
# Other weights predict the overlaps as well as the network's own; pixels do, a little less. What comes back here is the shapes of the
# digits.
#
# ### Exercise 2 ●○○ (5 minutes)
#
# Which two digits have the largest *overlap* of neurons after *shuffled* training, seed 0?
#
# <details><summary>Hint</summary>The overlap of a digit with itself is 1: leave the diagonal out.</details>

# %%
shuffled = square(live["shuffled"].overlap)
my_pair = None  # (digit, digit)
pk.check.closest_pair(my_pair, shuffled)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
away = shuffled - 2 * torch.eye(10, dtype=shuffled.dtype)
pair = divmod(int(away.argmax()), 10)
pk.check.closest_pair(pair, shuffled)
print(pair, f"overlap {shuffled[pair]:.0%}")

# %% [markdown]
# ### Exercise 3 ●●○ (10 minutes)
#
# Write the overlap of two sets of neurons yourself, for boolean vectors of any length. What should it be if
# both are empty?
#
# <details><summary>Hint</summary><code>&</code> and <code>|</code> work on boolean tensors. The check wants 0 for two
# empty sets: no neuron is shared.</details>

# %%
my_overlap = None
pk.check.overlap(my_overlap)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def jaccard(a, b):
    return (a & b).sum().item() / max((a | b).sum().item(), 1)


pk.check.overlap(jaccard)

# %% [markdown]
# ### Exercise 4 ●●○ (5 minutes)
#
# What is the overlap of two random sets? Write a function of `a` and `b`, the numbers of neurons in the two sets, and `n`, the
# number of neurons that both are drawn from. Take for the number of shared neurons what it is on average.
#
# <details><summary>Hint</summary>A random set of $a$ among $n$ holds a share $a/n$ of any other set.</details>

# %%
my_chance = None  # a function of (a, b, n)
pk.check.chance_overlap(my_chance)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def by_chance(a, b, n):
    both = a * b / n
    return both / (a + b - both)


pk.check.chance_overlap(by_chance)
print(f"sets of 200 and 220 among 320: {by_chance(200, 220, 320):.0%} by chance")

# %% [markdown]
# ## What is left of the claim?
#
# *10 minutes.* The paper's headline: the rank of the factorization tells how well a network is trained, without labels.
# Here are all networks of its three case studies on MNIST, and an untrained one, five seeds each: accuracy against
# error at rank 30. The table `cases` comes from `make evidence`. The correlations leave the untrained network out, which is
# ours and not the paper's. *data*, *classes* and *order* are Case Studies I, II and III; the network of all classes is the one of all data,
# and counts once.

# %%
networks = pk.evidence.table("cases").query("rank == 30")
paper = networks[networks.study != "untrained"]
MEASURES = ["rmse", "relative_error", "error of relu2", "entropy rank of relu2"]


def correlations(table):
    return table[["accuracy", *MEASURES]].corr("spearman").loc["accuracy", MEASURES]


rho = correlations(paper)
means = paper.groupby(["study", "setting"]).mean(numeric_only=True)
pd.DataFrame(
    {
        "all networks": rho,
        "means of the settings": correlations(means),
        "Case I only": correlations(paper[paper.study == "data"]),
        "Case II only": correlations(paper[paper.study == "classes"]),
        "with untrained": correlations(networks),
    }
).round(2)

# %% [markdown]
# Each column holds rank correlations with accuracy. The settings are few, so the correlation over all networks is mostly
# one of eight settings. The last two rows are measures of the last layer alone; nobody announced them before, we
# picked them after seeing chapters 3 and 5. Does the table still hold? Two of its entries, computed again:

# %%
live = {how: fitted(how, rank=30).rmse for how in SETTINGS}
again("RMSE at rank 30, seed 0", "rmse", live)


# %% tags=["hide-input"]
def scatter(measure, label):
    text = f"{label}: rank correlation {rho[measure]:+.2f}"
    figure = pk.plots.scatter(
        networks, measure, "accuracy", "study", title=text, xlabel=label
    )
    return pk.show(
        figure, f"Accuracy against {label} of {len(networks)} networks. {text}."
    )


scatter("rmse", "RMSE at rank 30")

# %% tags=["hide-input"]
scatter("relative_error", "relative error at rank 30")

# %% tags=["hide-input"]
scatter("entropy rank of relu2", "entropy rank of relu2")

# %% [markdown]
# A measure of training should not change if no answer does. Here algebra decides: with ReLUs, multiply the weights and biases of the
# first layer and the biases of the second by a number, and divide the last weights by it: both layers are multiplied, and
# every answer stays as it is. A large enough number lifts the RMSE above any other; we take 16.

# %%
loudest = neurons.LOUDER
names = {"ordered": "ordered", "ordered, rescaled": "same, rescaled"}
names |= {"shuffled": "shuffled"}
rmse = loadings.rmse.loc[list(names)].groupby("training", sort=False).mean()
rmse.rename(names).to_frame("mean RMSE, rank 30").round(3)

# %%
live = neurons.rescaled_rmse(ours["ordered"])
seeds = loadings.rmse.loc["ordered, rescaled"]
what = f"RMSE of the ordered network times {loudest}, seed 0"
pk.recheck(what, seeds[0], live, within=seeds.max() - seeds.min(), data=data)

# %%
ordered, rescaled, shuffled = rmse
pk.judge(
    "headline",
    [
        rho["rmse"] >= 0.8,
        rho["relative_error"] >= 0.8,
        (rescaled < shuffled) == (ordered < shuffled),
    ],
    f"rank correlation of accuracy with RMSE {rho['rmse']:.2f}, with relative error {rho['relative_error']:.2f}, over "
    f"{len(paper)} networks; rescaled without changing an answer, the mean RMSE of the ordered networks goes from "
    f"{ordered:.3f} to {rescaled:.3f}, that of the shuffled ones is {shuffled:.3f}",
    **CHAPTER,
)

# %% [markdown]
# And the relative error of everything? The next table splits the energy of the blocks, their sum of squares, and the
# squared error over the blocks.

# %% tags=["hide-input"]
NEURONS = pd.Series({"input": 784, "relu1": 1440, "relu2": 320})
both = cases.loc[list(SETTINGS)]
size, error = (
    both[[f"{what} of {name}" for name in NEURONS.index]].set_axis(
        NEURONS.index, axis=1
    )
    for what in ("size", "error")
)
energy = size**2 * NEURONS
totals = {"energy": energy, "squared error": energy * error**2}
totals = {what: x.div(x.sum(axis=1), axis=0) for what, x in totals.items()}
totals = pd.concat(totals, names=["share of"])
totals = totals.groupby(["share of", "training"], sort=False).mean()
totals.map("{:.0%}".format)

# %% [markdown]
# So there is something in the claim, and it is narrower than the paper's. Over these networks the RMSE follows the accuracy, but it
# carries the unit of the activations, which can be set at will. The relative error of everything does not follow it:
# in the ordered network most of the error is that of the pixels, which are harder to explain than activations. Without a unit, and
# with nothing but the last layer, its entropy rank and its relative error follow the accuracy about as well as the
# RMSE; but they take an untrained network for a good one.

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** A network has an accuracy of about a tenth on ten equally frequent classes. What does it know?
#
# - (a) Nothing: it guesses at random.
# - (b) One class, which it always answers.
# - (c) That cannot be said from the accuracy; one needs the recall of each class.
#
# <details><summary>Answer</summary>
#
# **(c)** Both (a) and (b) give a tenth: a coin with ten sides and a network with one answer are right equally often.
# The recalls tell them apart.
#
# </details>
#
# **2.** Two digits share most of their active neurons. When is that worth a sentence?
#
# - (a) If the overlap is above a half.
# - (b) If it is above that of random sets of the same sizes, and above that in networks which were not trained.
# - (c) Always: shared neurons are shared features.
#
# <details><summary>Answer</summary>
#
# **(b)** Large sets overlap by chance, and shapes that look alike excite the same neurons even with random weights.
# (a) is a line without a comparison; (c) mistakes any overlap for a finding.
#
# </details>
#
# **3.** A row of the heatmap $O_1$ is dark. What does that say by itself?
#
# - (a) The neuron is dead.
# - (b) The network would give the same answers without it.
# - (c) The neuron's loadings are small beside the brightest of the picture.
#
# <details><summary>Answer</summary>
#
# **(c)** Colour is relative to the largest loading on the scale. (a) needs zeros for every image. (b) needs an
# intervention, and waits for chapter 16: small and useless are two things.
#
# </details>
#
# **4.** What is left of the paper's claim after three case studies?
#
# - (a) In these networks the RMSE follows accuracy, but it carries a unit that can be set at will; the last layer's
#   measures have none, and are fooled by an untrained network.
# - (b) Nothing: the RMSE has nothing to do with accuracy.
# - (c) All of it: the relative error of everything confirms it.
#
# <details><summary>Answer</summary>
#
# **(a)** That is narrower than the claim, and more than nothing. (b) overlooks the correlation over the settings. (c)
# is turned round: the relative error of all blocks together does not follow the accuracy.
#
# </details>

# %% [markdown]
# ## We saw
#
# - Trained class by class, the network ends up knowing the last class, whatever the order: the paper's network, which
#   knew the first, is not what this recipe gives.
# - In the last layer its loadings are poorer than after shuffled training, by two numbers and in every seed; in the first layer
#   they are not.
# - Digits share most of their active neurons, and which pairs share more is much the same in untrained networks, whatever their
#   weights.
# - RMSE follows accuracy over the networks of the three studies, and can be set at will; the relative error of everything
#   does not follow it. Error and entropy rank of the last layer do, until an untrained network comes along.
#
# References are in the {doc}`../book/bibliography`.
