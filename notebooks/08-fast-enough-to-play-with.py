# %% [markdown]
# # Fast enough to play with
#
# *A rank should cost a blink. What makes the factorization slow, what makes it fast, and how do other people's packages do?*
#
# You know {doc}`02-coupled-nmf`. Allow 85 minutes to read and answer; the chapter runs for about a minute on a laptop CPU.

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
import time

import numpy as np
import pandas as pd
import torch

import peeklib as pk
from peeklib.course.studies import speed

full = pk.profile() == "full"  # the tests run a small version
data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# Numbers of several runs come from *tables of evidence*: files of the package, made once (by `make bench`, `python book/evidence.py
# ends` and, on a GPU, `benchmarks/gpu.sh`) and the same for everybody. In the box headed *agrees* or *differs* an entry is computed again on the machine
# that ran this page ({doc}`../book/running`).
#
# A race first: rank 50, one machine, one run of `make bench`, and the same random start for every solver that takes one. Each bar
# shows how far a solver is above the lowest error of the whole race (a long run of `peeklib auto`) after the seconds you choose.
# *How long do you have to wait until a solver of another package is within 5 %? Which are not there after 20 seconds?*

# %% tags=["hide-input"]
race = pk.evidence.table("bench-curves")
MATRICES = {"mnist": "MNIST network", "alexnet": "AlexNet"}
race["matrix"] = race.problem.map(MATRICES)
done = race[race.status == "ok"]
runs = done.groupby(["matrix", "solver", "budget"], as_index=False)[
    ["seconds", "relative_error", "lowest"]
].median()
best = runs.groupby("matrix").relative_error.min()
how = pk.evidence.how("bench")
size = done.groupby("matrix")[["features", "images"]].first().astype(int)
for matrix, (features, count) in size.iterrows():
    print(f"{matrix}: {features:,} features × {count:,} images", end="; ")
print(f"{how['machine']['cpu']}, {how['threads']} threads, {how['date']}")


# %% tags=["hide-input"]
def standings(matrix, seconds):
    """Lowest error of each solver by then; NaN if it has not finished a single run."""
    part = runs[runs.matrix == matrix]
    reached = part[part.seconds <= seconds].groupby("solver").relative_error.min()
    return reached.reindex(part.solver.unique()).sort_values(na_position="last")


def draw(matrix, seconds):
    above = standings(matrix, seconds) / best[matrix] - 1
    title = f"{matrix}, rank 50, after {seconds} s"
    figure, ax = pk.plots.canvas(height=4.8, title=title)
    colours = ["C0" if name.startswith("peeklib") else "0.65" for name in above.index]
    ax.barh(above.index, 100 * above.clip(upper=1).fillna(0), color=colours)
    for row, value in enumerate(above):
        late = np.isnan(value)
        words = "nothing yet" if late else f"{value:.1%}"
        ax.text(1 if late else min(100 * value, 100) + 1, row, words, va="center")
    ax.set(xlabel="% above the lowest error of the race", xlim=(0, 118))
    ax.invert_yaxis()
    ahead = [f"{name} {value:.1%}" for name, value in above.dropna().items()]
    waiting = int(above.isna().sum())
    return (
        figure,
        f"{title}: above the lowest error are {', '.join(ahead) or 'none'}; {waiting} have nothing yet.",
    )


SECONDS = (0.5, 1, 2, 5, 10, 20)
axes = {"matrix": list(MATRICES.values()), "seconds": SECONDS}
pk.Explorer(axes, draw, start={"seconds": 1})

# %% [markdown]
# **You will be able to**
#
# - say which product takes the time of a round, and how it grows with images, features and rank;
# - explain in two dimensions why multiplicative updates crawl;
# - write the step of the solver that does not, and name three things that make it faster still;
# - tell a fit that has stopped moving from one that has arrived.
#
# ## Where does the time of a round go?
#
# *5 minutes.* Here is the network of {doc}`03-how-much-training` that saw all of MNIST, its input and both layers: the matrix
# of the race. A round needs the data twice, once in $W^T X$ for the images and once in $F^T X^T$ for the features. All else is smaller:
# the factors have rank rows, not thousands. In code the factors lie on their side, `Wt` (rank × features) and `Ft` (rank × images).

# %%
model = pk.cached(pk.train)(pk.models.PaperCNN(seed=0), *data.train, seed=0).model
images = data.test.images[: 10_000 if full else 500]
blocks = pk.input_blocks(images) | pk.record(model, images)
X = torch.cat(list(blocks.values()))
(features, count), rank = X.shape, 50
Wt, Ft = torch.rand(rank, features), torch.rand(rank, count)


def timed(function, repeats=5):
    """Shortest time of a few calls, in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - started))
    return min(times)


# %% tags=["hide-input"]
B, G = Wt @ X, Wt @ Wt.T  # what an update of F needs: rank × images, rank × rank
cost = {
    "Wᵀ X, the data": (timed(lambda: Wt @ X), 2 * rank * features * count),
    "Wᵀ W": (timed(lambda: Wt @ Wt.T), 2 * rank**2 * features),
    "one sweep of HALS over F": (
        timed(lambda: pk.solvers.hals_update(Ft, B, G, [slice(0, rank)], sweeps=1)),
        2 * rank**2 * count,
    ),
}
pd.DataFrame(
    {
        name: {"ms": ms, "million multiply-adds": flops / 2e6}
        for name, (ms, flops) in cost.items()
    }
).T.round(1)

# %% [markdown]
# (These times were taken while another chapter was being built beside this one; those of the race were not.)
#
# The product with the data does $rmn$ multiply-adds for rank $r$, $m$ features and $n$ images; a sweep over one factor does
# $r^2 n$, or $r^2 m$. The sweep is slower than its count suggests: it goes row by row, and waits for memory where the product
# keeps the processor busy. Still the product costs most. So a good method asks for few products and gets much out of each.
#
# ### Exercise 1 ●○○ (5 minutes)
#
# One round makes two products with the data and, say, one sweep over each factor; leave out the small products $W^T W$ and $F^T F$. How
# many times more multiply-adds do the products take than the sweeps, at rank 50 on this matrix?
#
# <details><summary>Hint</summary>Add up both products, then both sweeps; the rank cancels once.</details>

# %%
my_ratio = None
pk.check.products_over_sweeps(my_ratio, features, count, rank)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
ratio = 2 * features * count / (rank * (features + count))
pk.check.products_over_sweeps(ratio, features, count, rank)
print(f"{ratio:.0f} times")

# %% [markdown]
# ## Why do multiplicative updates crawl?
#
# *7 minutes.* Hold $W$ still, and each image $x$ is a small problem of its own: find loadings $v \ge 0$ with the least
# $\tfrac12 \lVert x - W v \rVert^2 = \tfrac12 v^T G v - b^T v + \text{constant}$, where $G = W^T W$ and $b = W^T x$. Take two loadings,
# so that it fits on a page, and let the best answer have a zero. The paper's rule multiplies: $v \leftarrow v \cdot b / (G v)$. Near
# a zero each round takes off only a few per cent of what is left, so it never gets there. The other rule sets one
# coordinate at a time to its best value; in a narrow valley, as here, that too takes some rounds, but it lands on the zero.

# %%
G2 = torch.tensor([[1.0, 0.9], [0.9, 1.0]])  # two components that are much alike
free = torch.tensor([1.0, -0.15])  # the best answer, if it could be negative
b2 = G2 @ free
ROUNDS = 20
paths = {"multiplicative": [torch.tensor([0.3, 0.9])]}
paths["coordinate descent"] = list(paths["multiplicative"])
for _ in range(ROUNDS):
    v = paths["multiplicative"][-1]
    paths["multiplicative"].append(v * b2 / (G2 @ v))
    v = paths["coordinate descent"][-1].clone()
    for k in range(2):
        v[k] = (v[k] + (b2[k] - G2[k] @ v) / G2[k, k]).clamp(min=0)
    paths["coordinate descent"].append(v)
paths = {name: torch.stack(path) for name, path in paths.items()}

# %% tags=["hide-input"]
slow, exact = paths["multiplicative"], paths["coordinate descent"]
assert (exact[:, 1] == 0).any()
landed = int((exact[:, 1] == 0).int().argmax())
title = f"Zero after {landed} rounds, or {slow[-1, 1]:.2f} after {ROUNDS}"
figure, ax = pk.plots.canvas(title=title)
x, y = torch.meshgrid(
    torch.linspace(0, 1.2, 80), torch.linspace(0, 1, 80), indexing="xy"
)
v = torch.stack([x, y])
height = ((G2 @ v.flatten(1)) * v.flatten(1)).sum(0) / 2 - b2 @ v.flatten(1)
levels = height.min() + torch.logspace(-4, -0.3, 9)
x, y, height = (values.numpy() for values in (x, y, height.reshape(x.shape)))
ax.contour(x, y, height, levels=levels.numpy(), colors="0.8")
for (name, path), mark in zip(paths.items(), "os"):
    ax.plot(*path.T, marker=mark, markersize=4, label=name, clip_on=False)
ax.set(xlabel="first loading", ylabel="second loading", ylim=(0, 1))
ax.legend(frameon=False)
pk.show(
    figure,
    f"Paths of both rules over the contours of the loss. {title}: the multiplicative path bends along the valley and slows "
    "down as the second loading shrinks, coordinate descent reaches the axis.",
)

# %% [markdown]
# ### Exercise 2 ●●○ (5 minutes)
#
# Coordinate descent ends where the second loading is 0 and the first is $b_1 / G_{11}$. Close to that point, by which factor does
# a round of the multiplicative rule multiply the tiny second loading? How many rounds does it take to halve it?
#
# <details><summary>Hint</summary>The rule multiplies $v_2$ by $b_2 / (G v)_2$; put in $v_2 = 0$ where it is added.</details>

# %%
my_factor = None
pk.check.shrink(my_factor, G2, b2)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
there = b2[0] / G2[0, 0]  # the first loading
factor = float(b2[1] / (G2[1, 0] * there))
pk.check.shrink(factor, G2, b2)
print(f"times {factor:.3f}: halved in {np.log(0.5) / np.log(factor):.0f} rounds")

# %% [markdown]
# ## What does the fast one do instead?
#
# *10 minutes.* Coordinate descent over components is HALS {cite}`cichocki2009fast`. Write its step.
#
# ### Exercise 3 ●○○ (5 minutes)
#
# Write a function `my_sweep(V, B, G)` in place of `None`: for each component $k$ in turn, set row $V_k$ to its best value,
# $\max\big(0,\; V_k + (B_k - G_k V) / G_{kk}\big)$. $V$ and $B$ are rank × images, $G$ is rank × rank. Later rows must see what
# earlier rows have become.
#
# <details><summary>Hint</summary>A loop over <code>range(len(V))</code>, a copy of V to write into, and <code>clamp(min=0)</code>.</details>


# %%
my_sweep = None
pk.check.coordinate_sweep(my_sweep)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def sweep(V, B, G):
    V = V.clone()
    for k in range(len(V)):
        V[k] = (V[k] + (B[k] - G[k] @ V) / G[k, k]).clamp(min=0)
    return V


pk.check.coordinate_sweep(sweep)

# %% [markdown]
# `solver="hals"` does this, two sweeps for each product with the data {cite}`gillis2012accelerated`. `solver="auto"`, the default, adds three things.
#
# 1. **Overshoot.** After each round go on a bit further in the direction it went. When that raises the loss, undo the round and
#    overshoot less {cite}`ang2019accelerating`.
# 2. **Begin small.** Fit a sample of 3,000 images first, spread over all of them. Its activations nearly lie in a space of few
#    directions, found by a few products with random numbers {cite}`halko2011finding`; in that space a product is cheap. When this makes
#    little progress, or near the end of the rounds allowed, place all images and go on with the data itself.
# 3. **Share.** All fits of a `rank_sweep` read the data together: one wide product costs less than many narrow ones.
#
# Below, three solvers go on from one and the same start, so that only their rounds differ: `overshooting` is `auto` from a given
# start, where it skips the sample. The fourth is `auto` with all it has, from random factors; the dotted line is where it leaves the
# sample for the data, here because its rounds run out. *In rounds, which of the three things helps? And in seconds?*

# %%
rounds = 60 if full else 20
start = pk.coupled_nmf(blocks, rank, solver="hals", max_iter=1)
how = {"max_iter": rounds, "tol": 0}
same = {
    "mu": pk.coupled_nmf(blocks, rank, solver="mu", init=start, **how),
    "hals": pk.coupled_nmf(blocks, rank, solver="hals", init=start, **how),
    "overshooting": pk.coupled_nmf(blocks, rank, init=start, **how),
    "auto": pk.coupled_nmf(blocks, rank, **how),
}

# %% tags=["hide-input"]
ends = {name: fit.relative_error for name, fit in same.items()}
title = (
    f"After {rounds} rounds: mu {ends['mu']:.3f}, hals {ends['hals']:.3f}, "
    f"overshooting {ends['overshooting']:.3f}"
)
figure = pk.plots.lines(
    {name: fit.history for name, fit in same.items()},
    log=True,
    title=title,
    xlabel="round",
    ylabel="relative error",
)
figure.axes[0].axvline(rounds - 2 - rounds // 16, color="0.4", ls=":", lw=1)
pk.show(
    figure,
    f"Relative error against rounds. {title}; auto ends at {ends['auto']:.3f}. The line of auto begins with errors of the "
    "sample; a dotted line marks where it goes on to the data.",
)

# %% tags=["hide-input"]
pd.DataFrame(
    {
        name: {"relative error": fit.relative_error, "seconds": fit.seconds}
        for name, fit in same.items()
    }
).T.round(3)

# %% tags=["hide-input"]
seconds = {name: fit.seconds for name, fit in same.items()}
for name in ("overshooting", "auto"):
    less = 1 - ends[name] / ends["hals"]
    share = seconds[name] / seconds["hals"]
    print(f"{name}: an error {less:.1%} below that of hals, in {share:.0%} of its time")

# %% [markdown]
# Look for overshooting in the rounds, and for the small beginning in the seconds: its rounds need not be better, they are cheaper.

# %% [markdown]
# ## What does beginning small cost?
#
# *5 minutes.* The answer should be no worse for it. So compare where both end, when each is left to stop by itself, from three
# random starts. These fits are long, so they come from the table `ends`. To make it anew, `python book/evidence.py ends` or
# `pd.DataFrame(speed.ends())`, takes about an hour on a busy core. (`kkt` and `converged` are explained below, under *When is a fit done?*)

# %%
stopped = pk.evidence.table("ends").set_index(["solver", "rank", "seed"])
KEPT = ["relative_error", "iterations", "kkt", "converged"]
pd.concat({name: stopped.loc[name, KEPT] for name in ("hals", "auto")}, axis=1).round(4)

# %% tags=["hide-input"]
apart = stopped.loc["auto"].relative_error / stopped.loc["hals"].relative_error - 1
for chosen, part in apart.groupby("rank"):
    print(f"rank {chosen}: auto ends {part.min():+.2%} to {part.max():+.2%} from hals")

# %% [markdown]
# Two of these fits again, by the function that made the table. Their network was trained on this machine, which rounds in its
# own way, so it is another one, as if from another seed. Five seeds of it differ by this much in the error of rank 10, and so may this run:

# %%
of_seeds = pk.evidence.table("cases").query("setting == '100%' and rank == 10")
room = of_seeds.relative_error.max() / of_seeds.relative_error.min() - 1
short = {} if full else {"max_iter": 60}
again = {}
for solver in ("hals", "auto"):
    row = speed.end(blocks, solver, 10, seed=0, **short)
    again[solver, 10, 0] = row["relative_error"]
pk.recheck(
    "relative error where a solver stops",
    stopped.relative_error,
    again,
    relative=room,
    data=data,
)

# %% [markdown]
# The last rounds of `auto` run on the data itself, so its error is an error of the data, and its KKT residual says how near it
# is to an end there. At the same tolerance `auto` need not end where `hals` does: there are many local minima, and a solver that
# overshoots is further along when its steps get small.
#
# ## How do other people's packages do?
#
# *7 minutes.* The race in full. Every point is a run from scratch with its own budget of rounds; its error is computed by one function, in
# float64, from the factors returned. The dashed lines are where scikit-learn's coordinate descent is
# after 100 rounds, and the paper's updates after 200, or after as many as the race gave them time for.

# %%
KNOWN = ["peeklib auto", "peeklib hals", "peeklib mu", "scikit-learn cd"]
KNOWN += ["torchnmf mu", "nmf-torch hals", "overcomplete hals", "matcouply aoadmm"]


def error_of(matrix, solver, budget):
    at = runs[(runs.matrix == matrix) & (runs.solver == solver)]
    at = at.set_index("budget").relative_error
    return at.get(budget, np.nan)


def seconds_to(matrix, solver, error):
    """Shortest median run of this solver that ends at this error or below."""
    part = runs[(runs.matrix == matrix) & (runs.solver == solver)]
    return part[part.relative_error <= error].seconds.min()


def most(matrix, solver, budget):
    """The largest budget up to this one that the solver was given time for."""
    at = runs[(runs.matrix == matrix) & (runs.solver == solver)].budget
    return int(at[at <= budget].max())


MARKS = {"cd": ("scikit-learn cd", 100), "MU": ("peeklib mu", 200)}
budgets = {
    (m, name): most(m, *MARKS[name]) for m in MATRICES.values() for name in MARKS
}
targets = {
    (m, name): error_of(m, MARKS[name][0], b) for (m, name), b in budgets.items()
}

# %% tags=["hide-input"]
import seaborn as sns


def draw_race(matrix):
    part = runs[(runs.matrix == matrix) & runs.solver.isin(KNOWN)]
    ended = part.groupby("solver").relative_error.min().sort_values()
    title = f"{matrix}: seconds to an error, rank 50"
    figure, ax = pk.plots.canvas(height=4.6, title=title)
    look = {
        "hue": "solver",
        "style": "solver",
        "hue_order": KNOWN,
        "style_order": KNOWN,
    }
    sns.lineplot(
        part, x="seconds", y="relative_error", **look, markers=True, dashes=False, ax=ax
    )
    for name in MARKS:
        ax.axhline(targets[matrix, name], color="0.4", ls="--", lw=1)
    low = part.relative_error.min()
    ax.set(xscale="log", ylabel="relative error", ylim=(0.98 * low, 1.6 * low))
    ax.legend(frameon=False, fontsize=9, ncols=2)
    sns.despine(ax=ax)
    return figure, (
        f"{title}, on a logarithmic axis of time. Lowest of each: "
        + ", ".join(f"{name} {error:.3f}" for name, error in ended.items())
    )


pk.Explorer({"matrix": list(MATRICES.values())}, draw_race)

# %% tags=["hide-input"]
table = pd.DataFrame(
    {
        (m, f"{name} after {budgets[m, name]}"): {
            solver: seconds_to(m, solver, error) for solver in runs.solver.unique()
        }
        for (m, name), error in targets.items()
    }
)
for matrix in MATRICES.values():
    marked = table[matrix, f"cd after {budgets[matrix, 'cd']}"].nsmallest(2)
    first = [f"{solver} ({seconds:.1f} s)" for solver, seconds in marked.items()]
    print(
        f"{matrix}, first at the error of coordinate descent: {', then '.join(first)}"
    )
table.map(lambda s: "never" if np.isnan(s) else f"{s:.1f} s")

# %% [markdown]
# Seconds until a solver ends at that error or below. *Never* means: not within the budgets, or the time that the race allows a run.
# The marks of coordinate descent are near the bottom, those of the updates are not: to reach a loose mark on a large matrix, a package that
# begins at once can be ahead of one that first draws and compresses a sample. Runs of more than 1.5 seconds were made once, so a
# single point may be out of line.
#
# In ratios, for someone who comes from scikit-learn or from the paper, and against the best of the other packages:

# %% tags=["hide-input"]
took = runs.set_index(["matrix", "solver", "budget"]).seconds
rows = {}


def best_other(matrix, name):
    """Seconds of the first solver of another package to reach a mark."""
    others = [solver for solver in table.index if not solver.startswith("peeklib")]
    return table.loc[others, (matrix, f"{name} after {budgets[matrix, name]}")].min()


for (matrix, name), rounds_given in budgets.items():
    theirs = took[matrix, MARKS[name][0], rounds_given]
    sooner = seconds_to(matrix, "peeklib auto", targets[matrix, name])
    rows[f"{matrix}: {MARKS[name][0]}, {rounds_given} rounds"] = {
        "seconds": theirs,
        "auto, seconds to the same error": sooner,
        "times sooner": theirs / sooner,
        "than the best other package": best_other(matrix, name) / sooner,
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# Who took part, and what to know of each: an iteration of one package is not an iteration of another.

# %% tags=["hide-input"]
field = pk.evidence.table("bench-peers")[["name", "package", "status", "remark"]]
lowest = done.groupby("solver").lowest.min()
field["smallest entry"] = field.name.map(lowest).map("{:.0e}".format)
absent = race[race.status.str.startswith("not measured")].solver.unique()
print("Not measured, for want of a GPU:", ", ".join(absent) or "nothing")
with pd.option_context("display.max_colwidth", None):
    display(field.set_index("name"))  # noqa: F821

# %% [markdown]
# ## What does a whole sweep cost?
#
# *3 minutes.* The chapters before ask for five ranks from five seeds: 25 fits of one matrix.

# %% tags=["hide-input"]
many = pk.evidence.table("bench-sweep")
many = many[(many.status == "ok") & ~many.who.str.contains("GPU")]
total = many[many["rank"].isna()].groupby(["who", "setting"]).seconds.sum()
fits = many.dropna(subset="rank").astype({"rank": int})
means = fits.pivot_table("relative_error", ["who", "setting"], "rank")
summary = means.add_prefix("error at rank ").rename_axis(columns=None)
summary.insert(0, "seconds for 25 fits", total)
summary.insert(1, "times sooner than the slowest", (total.max() / total).round(1))
summary = summary.sort_values("seconds for 25 fits").round(4)
off = means.loc[summary.index[0]] / means.xs("scikit-learn cd").iloc[0] - 1
print(
    f"the first row ends {off.min():+.2%} to {off.max():+.2%} from scikit-learn, by rank"
)
summary

# %% [markdown]
# Three things are in these ratios: other rounds, a smaller matrix to begin with, and fits that share products. They also stop
# differently: the first row uses the tolerance of the chapters before and ends near 100 rounds of scikit-learn (how near, says the line above the table);
# the default goes on to lower errors.
#
# ## How does the cost grow?
#
# *5 minutes.* Made-up data this time, so that one size can change while the others stand still. On doubly logarithmic axes a cost
# that grows in proportion has slope 1, as the count $rmn$ of the products does. *Which size costs less than in proportion, for
# nearly all solvers? Which solver pays more?* The table also has the error of each after 20 rounds at the largest size: a round of
# one method is not a round of another.

# %% tags=["hide-input"]
grown = pk.evidence.table("bench-scaling")
grown = grown[grown.status == "ok"]
grown = grown.groupby(
    ["ladder", "solver", "features", "images", "rank"], as_index=False
)
grown = grown[["seconds", "relative_error"]].median()


def slope(part, ladder):
    """Of log seconds against log size, over the upper half of the ladder."""
    part = part.sort_values(ladder).tail(max(2, (len(part) + 1) // 2))
    return np.polyfit(np.log(part[ladder]), np.log(part.seconds), 1)[0]


slopes = pd.DataFrame(
    {
        ladder: {
            solver: slope(part, ladder)
            for solver, part in rows.groupby("solver")
            if len(part) > 1
        }
        for ladder, rows in grown.groupby("ladder")
    }
)
slopes.loc["in proportion"] = 1.0
largest = grown.sort_values(["images", "features", "rank"])
largest = largest.groupby(["ladder", "solver"]).last()
errors = largest.relative_error.unstack("ladder").add_prefix("error, largest ")
slopes.add_prefix("slope in ").join(errors).round(2)


# %% tags=["hide-input"]
def draw_growth(ladder):
    part = grown[(grown.ladder == ladder) & grown.solver.isin(KNOWN)]
    own = slopes.loc["peeklib auto", ladder]
    title = f"20 rounds against {ladder}: auto grows with slope {own:.2f}"
    figure, ax = pk.plots.canvas(height=4.2, title=title)
    order = [name for name in KNOWN if name in set(part.solver)]
    look = {
        "hue": "solver",
        "style": "solver",
        "hue_order": order,
        "style_order": order,
    }
    sns.lineplot(part, x=ladder, y="seconds", **look, markers=True, dashes=False, ax=ax)
    first = part.groupby(ladder).seconds.min()
    ideal = first.iloc[0] * first.index / first.index[0]
    ax.plot(first.index, ideal, color="0.4", ls=":", label="in proportion")
    ax.set(xscale="log", yscale="log", ylabel="seconds")
    ax.legend(frameon=False, fontsize=9, ncols=2)
    sns.despine(ax=ax)
    words = ", ".join(f"{name} {slopes.loc[name, ladder]:.2f}" for name in order)
    return figure, f"{title}. Slopes on doubly logarithmic axes: {words}."


pk.Explorer({"ladder": ["images", "features", "rank"]}, draw_growth)

# %% [markdown]
# <details><summary>An answer</summary>A larger rank costs less than in proportion for most: wide products use the processor better
# than narrow ones. More features do, too, where work on the images' side stays the same. Slopes a little above 1 are those of
# sweeps that run row by row, r² instead of r, and of automatic differentiation, which writes out W H. <code>auto</code> spends most rounds
# on 3,000 images; what grows is its few rounds on the data.</details>
#
# ## When is a fit done?
#
# *5 minutes.* Small steps do not mean that the bottom is near: a slow method takes small steps anywhere. At a minimum
# the Karush–Kuhn–Tucker conditions hold: no entry can move alone, within its bound, and lower the loss. So ask how far one step of coordinate
# descent would move the factors, as a share of them. That is the *KKT residual*; it is 0 where nothing moves, and does not depend on
# how components are scaled. `converged` asks for both: little progress *and* a small residual. Rank 50 in the table `ends`, a mean over its
# three seeds; `mu` was given 500 rounds, whatever its progress.

# %% tags=["hide-input"]
MEASURES = {
    "relative_error": "relative error",
    "progress": "progress, mean of 5 rounds",
    "kkt": "KKT residual",
}
when = stopped.xs(rank, level="rank").groupby("solver")
means = when[list(MEASURES)].mean().rename(columns=MEASURES)
means["converged"] = when.converged.agg(lambda ended: f"{ended.sum()} of {len(ended)}")
means.loc[["mu", "auto"]].T.map(lambda x: x if isinstance(x, str) else f"{x:.2g}")

# %% [markdown]
# By its progress alone the first would count as done: below one part in ten thousand a round, the default tolerance. Its residual says
# that it is not, and the error of the second says so too.

# %% [markdown]
# ### Exercise 4 ●●● (10 minutes)
#
# Write that residual for one factor: a function of `V`, `B` and `G` as in exercise 3. Let every entry *alone* go to its best value,
# $\max(0,\; V_k + (B_k - G_k V)/G_{kk})$, from where $V$ is now. Give the norm of the move as a share of the norm of $V$, where the squares in row $k$
# count $G_{kk}$ times in both norms.
#
# <details><summary>Hint</summary>All rows at once this time: <code>G.diagonal()[:, None]</code> stands beside them. The weights make the number blind to the
# scale of a component.</details>

# %%
my_residual = None  # a function of (V, B, G)
pk.check.step_share(my_residual)


# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
def residual(V, B, G):
    weight = G.diagonal()[:, None]
    move = V - (V + (B - G @ V) / weight).clamp(min=0)
    moved, size = (weight * move.square()).sum(), (weight * V.square()).sum()
    return (moved / size).sqrt()


pk.check.step_share(residual)

# %% [markdown]
# ## Does a rank cost a blink?
#
# *2 minutes.* This is what a slider does when you move it to a rank that nobody prepared, at the tolerance of the chapters before.

# %%
started = time.perf_counter()
fit = pk.coupled_nmf(blocks, 37, max_iter=60, tol=1e-3)
print(
    f"{time.perf_counter() - started:.2f} s on {torch.get_num_threads()} threads: {fit}"
)

# %% [markdown]
# About a second on two cores: slower than a blink, fast enough not to lose the thought.

# %% [markdown]
# ## What is a GPU worth?
#
# *5 minutes.* The same calls on one GPU, and on the processor cores beside it: an epoch of training, recording, single fits, and a
# sweep of ten ranks from ten seeds. Data begins on the CPU and results come back there, as in this book's pages, so the time to
# copy is in it. What a first call has to compile is not. The script stops when its time is up: what it had not reached by then is not in the table. *Which work gains most, which least?*

# %% tags=["hide-input"]
steps = pk.evidence.table("gpu").fillna({"setting": ""})
whole = steps[steps.data == "cpu"]
both = whole.pivot_table("median", ["what", "setting"], "device", sort=False)
both["times sooner"] = both.cpu / both.cuda
labels = [f"{what}\n{how.partition(':')[0]}".strip() for what, how in both.index]
low, high = both["times sooner"].min(), both["times sooner"].max()
title = f"On this GPU {low:.1f} to {high:.0f} times sooner"
figure, ax = pk.plots.canvas(height=5.6, title=title)
ax.hlines(labels, both.cuda, both.cpu, color="0.8", lw=3)
ax.plot(both.cuda, labels, "o", label="GPU")
ax.plot(both.cpu, labels, "s", label="CPU")
ax.set(xscale="log", xlabel="seconds")
ax.tick_params("y", labelsize=9)
ax.invert_yaxis()
ax.legend(frameon=False)
said = "; ".join(
    f"{', '.join(label.splitlines())}: {gpu:.2g} s and {cpu:.2g} s"
    for label, gpu, cpu in zip(labels, both.cuda, both.cpu)
)
pk.show(figure, f"Seconds on the GPU and on the CPU. {title}. {said}.")

# %% tags=["hide-input"]
card = pk.evidence.how("gpu")
version = card["versions"]
print(f"{card['gpu']}, beside {card['cores']} cores of {card['cpu']}, {card['date']};")
print(f"PyTorch {version['torch']}, Triton {version['triton']}; data: {card['data']}")
print("Timings:", card["parts"]["timings"].partition(",")[0])
runs_on = whole[whole.device == "cpu"].set_index(["what", "setting"]).repeats
once = [row[0] for row, repeats in runs_on.items() if repeats == 1]
print("Measured once on the CPU:", ", ".join(sorted(set(once))) or "nothing")
same_error = steps[steps.what.str.startswith("errors of")]
same_error.set_index(["what", "setting"])[["error_difference"]].map("{:.0e}".format)

# %% [markdown]
# Every step is sooner on this card than on these cores. Training, 64 images at a time, gains least; many fits at once gain most. The table
# compares the relative errors of both, as a share: the same seed starts the same fit on both, and rounding alone makes it another one.
#
# What makes a difference on a GPU is the sweep: row after row it is many small steps, each started from Python. There, one
# kernel takes each column through all rows {cite}`tillet2019triton`. Two sweeps over factors that are on the GPU already:

# %% tags=["hide-input"]
sweeps = steps[(steps.what == "HALS, 2 sweeps") & (steps.status == "ok")]
(1000 * sweeps.set_index("setting")[["median"]]).round(2).set_axis(["ms"], axis=1)

# %% [markdown]
# And here, where this page runs, the second of two fits of rank 10:

# %%
for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
    first, second = (pk.coupled_nmf(blocks, 10, device=device) for _ in range(2))
    print(
        f"{device}: {second.seconds:.2f} s, relative error {second.relative_error:.4f}"
    )

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** You double the number of images, and keep features and rank. By how much does the cost of $W^T X$ grow?
#
# - (a) It stays: the factors have few rows.
# - (b) It grows fourfold.
# - (c) It doubles.
#
# <details><summary>Answer</summary>
#
# **(c)** It takes $rmn$ multiply-adds, and $n$ doubled. (b) would be two of the three numbers doubled. (a) is true of
# $W^T W$, where no image enters.
#
# </details>
#
# **2.** Why do multiplicative updates crawl towards a zero?
#
# - (a) The computer's numbers have no exact zero.
# - (b) The loss rises near zero.
# - (c) A step is a share of the entry itself, so it shrinks with it.
#
# <details><summary>Answer</summary>
#
# **(c)** Near the end each round takes off the same *share* of what is left. (a): there is an exact zero, but
# products of positive numbers do not reach it. (b): the loss never rises under these updates.
#
# </details>
#
# **3.** A fit's error changes by less than one part in ten thousand a round. Is it done?
#
# - (a) Yes, by the usual tolerance.
# - (b) No: the error must stop changing altogether.
# - (c) Not necessarily: slow methods take small steps anywhere. Look at the KKT residual.
#
# <details><summary>Answer</summary>
#
# **(c)** At a minimum the residual vanishes, far from it it does not, whatever the step. (a) takes slow for arrived.
# (b) asks for what no iteration does in finite time.
#
# </details>
#
# **4.** True or false: `auto` may end at another error than `hals` at the same tolerance, and both be right.
#
# - (a) True
# - (b) False
#
# <details><summary>Answer</summary>
#
# **(a)** The problem has many local minima, and a rule that stops at small steps stops at different places. (b) would
# follow if there were one minimum, and both had reached it.
#
# </details>

# %% [markdown]
# ## We saw
#
# - Two products with the data make up most of a round. Good methods do more with each.
# - Multiplicative steps shrink with the entry they change, so they crawl towards zeros; coordinate descent lands there.
# - Overshooting with a way back, and a start on a compressed sample, bring the same errors sooner. The last rounds always run on
#   the data itself.
# - In this race, on this machine, no other package reached the error of scikit-learn's coordinate descent sooner than `auto`. At looser
#   marks on the larger matrix, others can be ahead. Other matrices and GPUs may tell another story: `make bench` runs the race
#   again on yours.
# - Progress alone cannot tell slow from done; the KKT residual can.
# - A rank that nobody prepared takes about a second here.
# - On the one GPU measured, training, recording and fits were sooner than on the cores beside it: training least, many fits at once most.
#
# References are in the {doc}`../book/bibliography`.
