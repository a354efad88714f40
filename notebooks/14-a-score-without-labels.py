# %% [markdown]
# # A score without labels lies in the answers
#
# [![Open in Colab](../book/_static/colab.svg)](https://colab.research.google.com/github/OWNER/peek/blob/main/notebooks/14-a-score-without-labels.ipynb)
#
# *Hundreds of networks, trained well and badly in seven ways, and eighteen scores that see no label. Which of them puts the networks in the right
# order, and which only seems to?*
#
# You know {doc}`13-rank-or-scale`; symbols are in {doc}`../book/notation`. Allow 60 minutes to read and answer; the chapter runs for about a minute on a
# laptop CPU.

# %% tags=["remove-cell"]
import sys

EVIDENCE = "../book/evidence"
if (
    "google.colab" in sys.modules
):  # Colab keeps its own torch and numpy; this adds peeklib alone
    get_ipython().run_line_magic(  # noqa: F821
        "pip", "install -q git+https://github.com/OWNER/peek weightwatcher"
    )
    EVIDENCE = "https://raw.githubusercontent.com/OWNER/peek/main/book/evidence"

# %%
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display

import peeklib as pk
from peeklib.ranking import GROUP, difference, environments, kendall, leaderboard

full = pk.profile() == "full"  # the tests run a small version
DRAWS = 1000 if full else 50  # of the bootstrap
networks = pd.read_csv(f"{EVIDENCE}/zoo.csv")
BETTER = {name: one.better for name, one in pk.scores.SCORES.items()}
trained = networks[networks.factor != "noise"].reset_index(drop=True)
noisy = networks[networks.factor == "noise"].reset_index(drop=True)
print(f"{len(networks)} networks, {len(noisy)} of them with label noise")

# %% [markdown]
# Each point is a network, drawn at its score and at its accuracy on test images. τ says how well the two agree: 1 for
# the same order, 0 for none, −1 for the opposite. *Choose two scores, then change the slice of the zoo. Which score keeps its order on
# CIFAR-10? Which one turns round under label noise?*

# %% tags=["hide-input"]
SLICES = {"all data": trained, "label noise": noisy}
SLICES |= {name: part for name, part in trained.groupby("data", sort=False)}
SHORT = ["answers_area", "nuclear_norm", "rmse_area", "rankme", "alpha_hat"]


def tau(part, score):
    """Kendall's τ with accuracy, mean over the environments of the part."""
    return leaderboard(
        part.reset_index(drop=True), {score: BETTER[score]}, draws=1
    ).within[0]


def draw(left, right, name):
    part = SLICES[name]
    figure, axes = pk.plots.canvas(1, 2, height=3.6, sharey=True)
    for ax, score in zip(axes, (left, right)):
        sns.scatterplot(part, x=score, y=100 * part.accuracy, hue="architecture", style="architecture", s=22, palette="colorblind", legend=ax is axes[1], ax=ax)  # fmt: skip
        way = "" if BETTER[score] > 0 else " (small is better)"
        ax.set(title=f"{score}\nτ {tau(part, score):.2f}", xlabel="score" + way, ylabel="test accuracy (%)")  # fmt: skip
    axes[1].legend(frameon=False, fontsize=9)
    taus = ", ".join(f"{score}: τ {tau(part, score):.2f}" for score in (left, right))
    return (
        figure,
        f"Score against test accuracy for {len(part)} networks, {name}. {taus}.",
    )


every = list(BETTER)
axes = {"left": SHORT + [s for s in every if s not in SHORT]}
axes |= {"right": SHORT[1:] + [s for s in every if s not in SHORT[1:]]}
pk.Explorer(
    axes | {"slice": list(SLICES)},
    draw,
    prepared={"left": SHORT[:3], "right": SHORT[1:], "slice": list(SLICES)},
)

# %% [markdown]
# **You will be able to**
#
# - compute every score of a network of your own, and say what each looks at;
# - tell a score that orders networks from one that recognizes data sets;
# - read a leaderboard with intervals, and know why the tuned half is not in it;
# - choose a score for the damage you fear.
#
# ## What is in the zoo?
#
# *8 minutes.* Three data sets (MNIST, CIFAR-10, and scikit-learn's digits brought to 28 × 28) and three architectures (two hidden layers; the paper's two convolutions; a
# small residual network with batch normalization {cite}`he2016residual`) make nine *environments*. In each, a base recipe trains on 10,000 images for five
# epochs, and others depart from it in one *factor*: fewer images, fewer classes, images sorted by class, fewer
# epochs, a lower learning rate, another width, weight decay. Some depart in several, one is not trained.
#
# A second family trains on 1,000 images for 60 epochs, with 0 to 100 % of the labels replaced by random ones: networks that memorise. They are judged by themselves.

# %%
first = networks[networks.data == networks.data[0]]
figure, ax = pk.plots.canvas(height=4.2)
order = ["base", *pk.zoo.FACTORS, "several", "untrained", "noise"]
dots = {"order": order, "hue": "architecture", "dodge": True, "palette": "colorblind", "s": 4}  # fmt: skip
sns.stripplot(first, x=100 * first.accuracy, y="factor", ax=ax, **dots)
low, high = first.accuracy.min(), first.accuracy.max()
title = f"{first.data[0]}: accuracies from {low:.0%} to {high:.0%}"
ax.set(title=title, xlabel="test accuracy (%)", ylabel="")
ax.get_legend().remove()
figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize=10)
pk.show(figure, "Test accuracy of the networks of one data set, by factor and architecture.")  # fmt: skip

# %% [markdown]
# The zoo took about an hour and a half of one core to train (`make zoo`), so this page reads a table. Here is one network
# of it, trained again and scored, beside its row of the table. Its accuracy may differ by two points and its scores by 5 %: the order of sums
# differs between machines, and training amplifies it.

# %%
name = pk.load_dataset("mnist", fallback=True).name
recipe = pk.zoo.Recipe(name, "cnn", factor="images", images=2000)
model, facts = pk.zoo.rear(recipe)
images = pk.zoo.probe_images(recipe.data)  # 500 test images, without labels
scores = pk.scores.table(model, images).set_index("score")
row = pk.zoo.find(networks, recipe)
scores["in the table"] = row[scores.index].astype(float)
assert abs(facts["accuracy"] - row.accuracy) < 0.02
stable = scores[scores.family != "weights"]
assert np.allclose(stable.value, stable["in the table"], rtol=0.05, atol=0.005)
print(f"accuracy {facts['accuracy']:.3f}, in the table {row.accuracy:.3f}")
with pd.option_context("display.max_colwidth", None):
    display(scores[["family", "value", "in the table", "better", "says"]].round(3))

# %% [markdown]
# `better` is +1 where the source of a score, or the paper's claim, says that larger is better: RMSE, since *the poorer a network is trained, the lower the
# rank that explains it*. Directions were written down before the zoo was trained, except for `nmf_svd_gap`, where we had no expectation and guessed.
#
# ## Does a score order networks, or does it recognize data sets?
#
# *10 minutes.* Kendall's τ looks at all pairs of networks: the share that score and accuracy order alike, less the share they order
# differently. Over the whole zoo that has a trap. Here is a *score* that cannot tell any two networks of an environment apart: the
# name of the environment, as a number.

# %%
fake = trained.groupby(GROUP).accuracy.transform("mean")
pooled = kendall(fake, trained.accuracy)[0]
print(f"pooled τ of a score that knows the environment only: {pooled:.2f}")

# %% [markdown]
# So we follow the literature on generalization {cite}`jiang2020fantastic,dziugaite2020robust`: τ is taken *within* each environment
# and then averaged; *granulated* τ compares only networks that differ in one factor; the *sign error* is the
# share of wrong pairs for each environment and factor, and its worst case counts, because a mean hides it. Intervals come from a bootstrap over networks, drawn within their environment.
#
# ```{admonition} Exercise 1 ●○○ (5 minutes)
# :class: note
# A score orders three networks of accuracy 0.9, 0.8 and 0.5 as follows: its values are 3, 4 and 1. Compute τ by hand.
# ```

# %%
answer = None  # a number
pk.check.kendall_by_hand(answer)

# %% [markdown]
# ```{admonition} Solution
# :class: dropdown
# Three pairs; the first is turned round, two are right: τ = (2 − 1)/3 = 1/3. `kendall([3, 4, 1], [0.9, 0.8, 0.5])` agrees.
# ```
#
# ## Which scores were tuned, and on what?
#
# *5 minutes.* A score that is tuned on the networks it is judged by proves nothing. So the zoo has two halves. On the *development* half, MNIST and digits with
# the two simple architectures, we looked as often as we liked: about a hundred variants of a score from the network's answers were tried there,
# with other ranks, weights, neighbours, temperatures and blocks, and one was kept, `answers_area`. The *test* half is all that has CIFAR-10 or a residual network. It was
# looked at once, after the scores were fixed.
#
# `answers_area` is the coupled factorization with two more blocks: the class probabilities, and the decisions. Both are non-negative, so they fit in. At ranks
# far below the number of classes, a network that tells all classes apart with certainty has a large error; a network that is unsure everywhere, or has given
# up classes, a small one. That is the paper's claim, at the end of the network where labels live.

# %%
halves = {h: trained[trained.half == h].reset_index(drop=True) for h in ("development", "test")}  # fmt: skip
boards = {h: leaderboard(part, BETTER, draws=DRAWS).set_index("score") for h, part in halves.items()}  # fmt: skip
both = pd.DataFrame({h: board.within for h, board in boards.items()})
both = both.sort_values("test", ascending=False)
figure, ax = pk.plots.canvas(height=5)
tall = both.rename_axis("score").reset_index().melt("score", var_name="half", value_name="tau")  # fmt: skip
sns.scatterplot(tall, x="tau", y="score", hue="half", style="half", palette="colorblind", s=60, ax=ax)  # fmt: skip
ax.axvline(0, color="0.6", linewidth=1)
agree = kendall(both.development, both.test)[0]
words = {"xlabel": "Kendall's τ within environments", "ylabel": ""}
ax.set(title=f"The halves agree on the scores: τ {agree:.2f}", **words)
ax.legend(frameon=False)
pk.show(figure, "Kendall's τ of every score on the development and the test half.")

# %% [markdown]
# ## Who wins on networks nobody tuned on?
#
# *10 minutes.* The leaderboard of the test half. `low` and `high` are the 95 % interval of `within`; `worst_where` names the environment and factor
# with the most wrong pairs.

# %%
board = boards["test"]
display(board.round(2))

# %%
figure, ax = pk.plots.canvas(height=5)
families = pd.Series({name: one.family for name, one in pk.scores.SCORES.items()})
colours = dict(zip(sorted(set(families)), sns.color_palette("colorblind")))
for place, (name, line) in enumerate(board.iterrows()):
    ax.plot([line.low, line.high], [place, place], color=colours[families[name]])
    ax.plot(line.within, place, "o", color=colours[families[name]])
for name, colour in colours.items():
    ax.plot([], [], "o-", color=colour, label=name)
ax.set_yticks(range(len(board)), board.index)
ax.axvline(0, color="0.6", linewidth=1)
ax.invert_yaxis()
best, top = board.index[0], board.iloc[0]
title = f"{best} leads: τ {top.within:.2f} [{top.low:.2f}, {top.high:.2f}]"
ax.set(title=title, xlabel="Kendall's τ within environments")
ax.legend(frameon=False, fontsize=9, loc="lower right")
pk.show(figure, "Kendall's τ of every score on the test half with 95 % intervals.")

# %% [markdown]
# Intervals that overlap do not settle a comparison: the same networks are in both. So we take differences, on the same draws. Our goal, written down before:
# a factorization score with τ of at least 0.7, and better than RankMe, α̂ and the nuclear norm of the probabilities, with intervals that leave out 0.

# %%
RIVALS = ["rankme", "alpha_hat", "nuclear_norm", "answers_alone_area", "confidence"]
OURS = ["answers_area", "rmse_area", "last_block_area"]


def compare(part, one, other):
    gap, low, high = difference(part, one, other, BETTER, draws=DRAWS)
    return {"score": one, "rival": other, "gap": gap, "low": low, "high": high, "settled": low > 0 or high < 0}  # fmt: skip


gaps = pd.DataFrame([compare(halves["test"], a, b) for a in OURS for b in RIVALS])
display(gaps.round(2))
goal = gaps[(gaps.score == "answers_area") & gaps.rival.isin(RIVALS[:3])].set_index("rival")  # fmt: skip
reached = board.within["answers_area"] >= 0.7 and bool((goal.low > 0).all())
print("goal reached" if reached else f"goal missed; ahead for sure of {list(goal.index[goal.low > 0])}")  # fmt: skip

# %% [markdown]
# Five environments make the mean. The intervals are about more networks like these, not about other data sets and architectures, so here is each by
# itself. The strictest is CIFAR-10 with residual networks: neither was in the development half.

# %%
SHOWN = [*OURS, "nuclear_norm", "confidence", "rankme", "alpha_hat"]
each = {
    " ".join(key): leaderboard(
        part.reset_index(drop=True), {s: BETTER[s] for s in SHOWN}, draws=1
    )
    .set_index("score")
    .within  # fmt: skip
    for key, part in halves["test"].groupby(GROUP)
}
pd.DataFrame(each).loc[SHOWN].round(2)

# %% [markdown]
# Two of our seven factors, missing classes and sorted images, make a network give up classes. Scores that presume that all classes occur equally often, as the
# nuclear norm and `answers_area` do, catch that by construction. Without these two factors, and without networks that depart in several:

# %%
even = halves["test"][~halves["test"].factor.isin(["classes", "sorting", "several"])]
even = even.reset_index(drop=True)
gap, low, high = difference(even, "answers_area", "nuclear_norm", BETTER, draws=DRAWS)
print(f"answers_area ahead of nuclear_norm by {gap:.2f} [{low:.2f}, {high:.2f}]")
leaderboard(even, BETTER, draws=DRAWS).head(8)[["score", "within", "low", "high"]].round(2)  # fmt: skip

# %% [markdown]
# ## Which damage fools which score?
#
# *8 minutes.* One factor at a time, over all nine environments: networks that differ only in it and in the seed. *Which score is blind to missing classes? Which
# to sorted images?*

# %%
rows = [
    {
        "score": name,
        "factor": key[-1],
        "tau": kendall(
            BETTER[name] * trained[name].iloc[some], trained.accuracy.iloc[some]
        )[0],
    }
    for key, some in environments(trained)
    for name in board.index
]
fooled = pd.DataFrame(rows).pivot_table(index="score", columns="factor", values="tau")
fooled = fooled.loc[board.index, list(pk.zoo.FACTORS)]
figure, ax = pk.plots.canvas(height=5.6)
sns.heatmap(fooled, cmap="vlag", vmin=-1, vmax=1, annot=True, fmt=".1f", annot_kws={"fontsize": 8}, ax=ax, cbar_kws={"label": "Kendall's τ"})  # fmt: skip
held = fooled.index[(fooled > 0.3).all(axis=1)]
ax.set(title=f"{len(held)} of {len(fooled)} scores stay above 0.3 for every factor", xlabel="what was varied", ylabel="")  # fmt: skip
pk.show(
    figure, "Kendall's τ of every score for every factor, mean over the environments."
)

# %% [markdown]
# ```{admonition} Exercise 2 ●●○ (10 minutes)
# :class: note
# The granulated τ of a score is the mean of the numbers above over factors and environments. Its mean hides the worst. Write a function
# `worst(part, score)` that gives the environment and factor with the largest sign error, as text. `environments(part)` yields pairs of a key and the rows of
# the networks; `peeklib.ranking.sign_error(score, truth)` gives the error, of a score that is turned so that larger is better.
# ```

# %%
worst = None  # a function of (part, score)
pk.check.worst_environment(worst, trained, BETTER)

# %% [markdown]
# ````{admonition} Solution
# :class: dropdown
# ```python
# def worst(part, score):
#     errors = {
#         " ".join(key): sign_error(BETTER[score] * part[score].iloc[rows], part.accuracy.iloc[rows])[0]
#         for key, rows in environments(part)
#     }
#     return max(errors, key=errors.get)
# ```
# ````
#
# ## Does a score notice memorised noise?
#
# *6 minutes.* In the second family most networks fit their training images; what differs is how many of the labels are wrong. Test accuracy falls
# from good to chance. The training loss, which needs labels, is here for reference.

# %%
noisy["train_loss_reference"] = noisy.train_loss
noise_board = leaderboard(noisy, BETTER | {"train_loss_reference": -1}, draws=DRAWS).set_index("score")  # fmt: skip
display(noise_board[["pooled", "within", "low", "high"]].round(2))
fit = noisy[noisy.noise == 1].train_accuracy
print(f"with all labels random, training accuracy is {fit.min():.0%} to {fit.max():.0%}")  # fmt: skip

# %%
some = ["nuclear_norm", "answers_area", "nmf_robustness", "rmse_area", "rankme"]
tall = noisy.melt(["noise", *GROUP], some, var_name="score", value_name="value")
tall["rank"] = tall.groupby([*GROUP, "score"])["value"].rank()
figure, ax = pk.plots.canvas(height=3.8)
how = {"hue": "score", "style": "score", "markers": True, "errorbar": None}
sns.lineplot(tall, x="noise", y="rank", palette="colorblind", ax=ax, **how)
lost = noise_board.within["nuclear_norm"] - noise_board.within["answers_area"]
title = f"Label noise: nuclear_norm is ahead of answers_area by τ {lost:.2f}"
ax.set(title=title, xlabel="share of random labels", ylabel="mean rank of six")
ax.get_legend().remove()
figure.legend(loc="outside lower center", ncol=3, frameon=False, fontsize=10)
pk.show(
    figure, f"Mean rank of five scores in their environment by label noise. {title}."
)

# %% [markdown]
# Here the order is another. Test accuracy falls smoothly with the noise, and so does the certainty of the network on test images: the plain scores of the outputs are right about nearly every pair, and
# better than the training loss. `answers_area` is well behind. Its second block, the decisions, does not see noise: a network that has memorised nonsense still decides, and
# for all classes. And the scores of rank turn round, as {doc}`13-rank-or-scale` found: memorising takes many directions.
#
# ## What should you use?
#
# *3 minutes.* Guidance in three sentences.
#
# 1. To rank networks that may be *under-trained*, with classes that occur about equally often, take `answers_area`, or `answers_alone_area`, which needs the
#    outputs only and is as good.
# 2. If labels may be *noisy*, or you do not know what may be wrong, take the nuclear norm of the probabilities: it is never far behind, and right about noise.
# 3. Do not rank networks by RMSE, by any rank of a hidden layer, or by weights alone, unless they share one architecture and one kind of damage that you have tested.
#
# ## What would a sceptic attack?
#
# *5 minutes.* We would start here.
#
# - *It is not the paper's idea that wins.* The paper's promise is about hidden layers. The winner looks at outputs; with inputs and hidden layers or without them, the difference is not
#   settled. What carries over is the model: non-negative blocks, low rank, error as the score.
# - *Classes occur equally often* in all three data sets. A score that asks whether all classes are used knows that. Without missing and sorted classes the lead over the nuclear norm is
#   not settled either (table above).
# - *The environments are few.* Five of them in the test half, small networks, three easy data sets; intervals are about more networks like these. No network was over-trained without label noise.
# - *One base.* Factors are varied around one recipe, and `images`, `classes` and `epochs` also change the number of steps.
# - *Rivals were not tuned.* Ours was, on the development half. α and α̂ were made for large networks {cite}`martin2021predicting`; RankMe {cite}`garrido2023rankme` for
#   self-supervised ones; `nmf_robustness` is only a relative of what Collins and co-authors do with labels {cite}`collins2018detecting`. Some scores would do better turned round; they are shown as their sources mean them.
# - *The probe images are 500 of the test images* that accuracy is measured on. No label leaks, but chance is shared.

# %%
board = boards["test"]
gap = goal.loc["nuclear_norm"]
alone = gaps[(gaps.score == "answers_area") & (gaps.rival == "answers_alone_area")]
assert reached and gap.low > 0 and not alone.settled.item()
assert noise_board.within["nuclear_norm"] > noise_board.within["answers_area"] + 0.2
assert (noise_board.within[["rankme", "entropy_rank", "last_block_area"]] < 0).all()
print(f"answers_area {board.within['answers_area']:.2f}, nuclear_norm {board.within['nuclear_norm']:.2f}")  # fmt: skip
print(f"ahead by {gap.gap:.2f} [{gap.low:.2f}, {gap.high:.2f}]")

# %% [markdown]
# ## We saw
#
# - A factorization score orders under-trained networks that it was not tuned on with τ of 0.89, better than RankMe, α̂ and the nuclear norm of the probabilities, and the intervals of the
#   differences leave out 0. It factorizes what the network *says*.
# - Hidden layers add nothing that 384 networks could show. The paper's RMSE reaches 0.55 within environments, about as much as RankMe and mean confidence.
# - Under label noise the nuclear norm is right about every pair, our score about five of six, and scores of rank are wrong more often than right.
# - Pooled numbers flatter: a score that knows only the environment has a τ of 0.35.
# - A worst case stays: in one environment and factor, width in residual networks on digits, `answers_area` orders every countable pair wrongly. All of these networks are nearly equally good.
#
# What comes next: {doc}`15-higher-order`. References are in the {doc}`../book/bibliography`.
