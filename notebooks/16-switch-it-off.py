# %% [markdown]
# # Switch it off
#
# *A heatmap says that these neurons are not used. Switch them off and ask the network.*
#
# You know {doc}`03-how-much-training` and {doc}`06-in-what-order`. Allow 65 minutes to read and answer; the chapter runs
# for about a minute on a laptop CPU if you ran chapters 3 to 6 before.

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
from peeklib.course.studies import mnist, switched

data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# Saini and Papalexakis {cite}`saini2018peek` say of a network trained class by class that most of it is *not used*. Chapter 6 counted small
# loadings, as they did. But a small loading says what a neuron *does*, not what it is *for*. So take it away while
# the network runs. Below, neurons of `relu2` are silenced: those with the lowest loadings, or as many at random.
# *Which network can lose half of the layer? And whose answers never change, whatever you take?*

# %% tags=["hide-input"]
SETTINGS = {"shuffled": "100%", "class by class": "ordered"}  # here, and in tables
test_images, test_labels = data.test
ours = {how: mnist.case(data, name, 0) for how, name in SETTINGS.items()}


def fitted(how, rank=switched.RANK):
    return ours[how].fit(rank)


def chosen_neurons(how, percent, by):
    """The neurons to silence, one truth value for each of 320."""
    O = fitted(how).factors["relu2"].cpu()
    count = len(O) * percent // 100
    if by == "at random":
        return switched.drawn(torch.ones(len(O)) > 0, count, seed=0)
    return switched.least(O.amax(1), torch.ones(len(O)) > 0, count)


def draw(network, percent, by):
    silent = chosen_neurons(network, percent, by)
    done = switched.silence(ours[network], "relu2", silent, test_labels)
    title = f"{network}: {percent} % of relu2 silent, {by}"
    figure, (left, right) = pk.plots.canvas(1, 2, height=3.2, title=title)
    left.imshow(~silent.view(20, 16), cmap="gray", vmin=0, vmax=1, aspect="auto")
    left.set(xlabel="place", ylabel="channel", title="black: silent")
    right.bar(done.recall.index - 0.2, done.recall.before, 0.4, label="before")
    right.bar(done.recall.index + 0.2, done.recall.after, 0.4, label="after")
    right.set(xlabel="class", ylim=(0, 1.3), xticks=range(10), title="recall")
    right.legend(ncols=2, loc="upper center")
    alt = (
        f"{title}. {100 * done.kept:.1f} % of its answers are kept, and its logits moved by "
        f"{done.moved:.2g} of how much they differ from image to image."
    )
    return figure, alt


axes = {
    "network": SETTINGS,
    "percent": [10, 25, 50, 75, 90],
    "by": ["lowest loadings", "at random"],
}
prepared = {"percent": [50, 90]}
start = {"network": "class by class", "percent": 50}
pk.Explorer(axes, draw, prepared=prepared, start=start)

# %% [markdown]
# <details><summary>What to see</summary>The network trained class by class says one and the same digit to every image, and goes
# on saying it whichever of these neurons are silent: that no answer changes means nothing here. What its logits do tells more;
# the line under the picture has it. Half of its layer costs the shuffled network fewer answers if the neurons with the
# lowest loadings go than if as many go at random.</details>
#
# **You will be able to**
#
# - silence neurons, or a component, while a network runs, and say what it lost;
# - name the controls without which "nothing changed" means nothing;
# - take an answer apart into what each component says for it, exactly;
# - tell what a rank says about a layer from what it says about the answers.
#
# ## Are the unused neurons unused?
#
# *10 minutes.* `pk.intervene` runs the network with a change, and leaves it as it was. Take the neurons of `relu2` whose
# largest loading is below 1 % of the layer's largest, those of the paper's Figure 9.

# %%
one, fit = ours["class by class"], fitted("class by class")
idle = switched.unused(fit.factors["relu2"].cpu())
what = {"neurons": {"relu2": idle}, "labels": test_labels}
silenced = pk.intervene(one.model, fit, test_images, **what)
silenced

# %% [markdown]
# Every answer stays. But look at the table: it is one digit for all, as chapter 6 found. Would it say another thing
# without *any* neuron?

# %%
nothing = pk.intervene(one.model, fit, test_images, neurons=range(320))
print(f"{nothing.kept:.0%} of the answers are kept without all of relu2")

# %% [markdown]
# If it would not, the biases of the last layer give that answer by themselves. So ask the logits: by how much do they move, as a share of how much they
# differ from image to image (`moved`)? And compare. Three controls have as many neurons: *random* ones; the *least active*, by their mean
# over the images, for which no factorization is needed; and the least active *others*. The fourth has others, drawn until they are
# as active together, however few. Not all can be had: where more than half of a layer is chosen, fewer others are left, and where hardly
# anything is active, a single other neuron is too much. Such controls are left out below (`switched.compared`). Such ablations are as old as the field; Morcos and others {cite}`morcos2018importance` and Bau and others
# {cite}`bau2020understanding` set single units to zero.
#
# The table `silenced` has three seeds, of the first 2,000 test images (`python book/evidence.py silenced surviving joint` makes this chapter's tables anew).
# First, answers: what silences the network trained class by class most, in each seed?

# %%
table = pk.evidence.table("silenced")
ordered = table[(table.setting == "ordered") & (table.layer == "relu2")]
COLUMNS = ["base", "control", "activity", "kept"]
ordered.set_index("seed").sort_values("kept").groupby("seed")[COLUMNS].first()

# %% [markdown]
# In two seeds every answer stays, whatever goes. In the third, all images get another one once nearly all that is active is gone.
# So the answers say little, and only of the extreme. Now how far the logits move, as means:

# %%
here = {name: how for how, name in SETTINGS.items()}
table["training"] = table.setting.replace(here)
SHOWN = ["neurons", "activity", "kept", "moved"]


compared = switched.compared(table)


def means(base, layer):
    part = compared[(compared.base == base) & (compared.layer == layer)]
    return part.groupby(["training", "control"], sort=False)[SHOWN].mean().round(3)


means("below 1 %", "relu2")

# %% [markdown]
# *Neurons* that were silenced, their share of the layer's *activity*, the share of answers *kept*, and how far the logits
# *moved*. Now half of each layer, those with the lowest loadings: "most of the network" is no less than that. The least active others are
# the whole other half then; NaN is a control that could not be had.

# %%
half = {layer: means("lower half", layer).moved.unstack() for layer in switched.LAYERS}
pd.concat(half).round(2)


# %%
def ratio(training, base, layer):
    """How far the logits move, over how far they do for random neurons: one for each seed."""
    rows = table[(table.training == training) & (table.base == base)]
    rows = rows[rows.layer == layer].pivot(
        index="seed", columns="control", values="moved"
    )
    return rows["by loadings"] / rows["random"]


# %% tags=["hide-input"]
few = {layer: ratio("class by class", "below 1 %", layer) for layer in switched.LAYERS}
half = {
    layer: ratio("class by class", "lower half", layer) for layer in switched.LAYERS
}
other = ratio("shuffled", "lower half", "relu2")
CHAPTER = {"chapter": "16-switch-it-off", "data": None}  # judged on tables
pk.judge(
    "figure-9-function",
    [
        few["relu2"].max() < 0.1,
        few["relu1"].max() < 0.1,
        max(part.max() for part in half.values()) < 0.1,
        other.min() > 0.1,
    ],
    f"as a share of what as many random neurons do, logits move by {few['relu2'].max():.3f} at most in relu2 and "
    f"{few['relu1'].max():.3f} in relu1; for the lower half by {half['relu2'].max():.3f} and {half['relu1'].max():.3f}; "
    f"after shuffled training by {other.min():.3f} to {other.max():.3f} ({table.seed.nunique()} seeds)",
    **CHAPTER,
)

# %% tags=["hide-input"]
rows = ordered[(ordered.base == "below 1 %") & (ordered.control == "by loadings")]
rows = rows.set_index("seed")[["neurons", "moved"]]
live = next(switched.silenced_by(one, "relu2", "below 1 %"))
live = {name: live[name] for name in rows}  # of the table's images, too
within = rows.max() - rows.min()
pk.recheck(
    "unused neurons of relu2, seed 0", rows.loc[0], live, within=within, data=data
)

# %% [markdown]
# ### Exercise 1 ●○○ (4 minutes)
#
# Which share of the shuffled network's own answers would be kept if it gave the same answer to every image, the
# best one for this? It is what *kept* has to be compared with.
#
# <details><summary>Hint</summary><code>bincount</code> counts how often each answer is given.</details>

# %%
answers = switched.own_answers(ours["shuffled"]).argmax(1)
my_share = None
pk.check.constant_kept(my_share, answers)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
share = answers.bincount().max() / len(answers)
pk.check.constant_kept(share, answers)
print(f"{share:.3f}; of the other network's answers all of them")

# %% [markdown]
# ## What is a component for?
#
# *7 minutes.* A component $s$, here counted from 0 as columns are, can be taken out, too: from `relu2` of every image its part $O_s F_s^T$ is subtracted, and where that goes
# below zero, zero stays, as no later layer has ever seen less. What the factorization leaves out is left alone. *Which components does only
# one digit need? Is there one that nobody misses?*


# %% tags=["hide-input"]
def draw_component(component):
    one, fit = ours["shuffled"], fitted("shuffled")
    part = fit.factors["relu2"][:, [component]] @ fit.image_factor[:, [component]].T
    without = (one.blocks["relu2"] - part).clamp(min=0)
    done = switched.exchanged(one, "relu2", without, test_labels)
    lost = done.recall.before - done.recall.after
    title = (
        f"without component {component}: {100 * done.kept:.0f} % of the answers kept"
    )
    figure, (left, right) = pk.plots.canvas(1, 2, height=2.8, title=title)
    latent = fit.factors["input"][:, component].reshape(28, 28)
    left.imshow(latent.cpu(), cmap="gray")
    left.axis("off")
    right.bar(lost.index, 100 * lost)
    right.axhline(0, color="black", linewidth=1)
    right.set(xlabel="class", xticks=range(10), title="recall lost (points)")
    worst = int(lost.idxmax())
    alt = f"{title}. Class {worst} loses most, {100 * lost[worst]:.0f} points."
    return figure, alt


axes = {"component": range(switched.RANK)}
pk.Explorer(axes, draw_component, prepared={"component": [0, 3, 5, 9]})

# %% [markdown]
# <details><summary>What to see</summary>Some digits hang on one component: in the network of this page most zeros are lost
# without component 0, most sevens without 1, most ones without 2. Others hang on several, and lose a part by each, such as the
# fives. There is none that nobody misses: component 9 comes nearest, but some twos need it.</details>
#
# `pk.intervene(model, fit, images, component=3)` does the same for any network; that both agree is a law:

# %% tags=["hide-cell"]
one, fit = ours["shuffled"], fitted("shuffled")
third = pk.intervene(one.model, fit, test_images, component=3, labels=test_labels)
part = fit.factors["relu2"][:, [3]] @ fit.image_factor[:, [3]].T
without = switched.exchanged(one, "relu2", (one.blocks["relu2"] - part).clamp(min=0))
assert torch.allclose(third.logits, without.logits, rtol=1e-3, atol=1e-3)
third

# %% [markdown]
# ### Exercise 2 ●○○ (5 minutes)
#
# *Predict from its picture, then run.* Which class loses most recall without component 3?
#
# <details><summary>Hint</summary><code>third.recall</code> has a row for each class.</details>

# %%
my_class = None
pk.check.most_lost(my_class, third.recall)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
lost = third.recall.before - third.recall.after
pk.check.most_lost(int(lost.idxmax()), third.recall)
print(f"class {lost.idxmax()} loses {100 * lost.max():.1f} points")

# %% [markdown]
# ## Why did it say 7?
#
# *8 minutes.* After `relu2` comes one linear layer: logits are $b + L a$ for activations $a$. With $a \approx O f$ every
# component has a *vote* for every class, $V = L O$, and an image's logits are
#
# $$b + V f + L (a - O f) ,$$
#
# the bias, what its components say, and what the factorization leaves out. This is no estimate: it adds up.

# %%
votes = pk.votes(one.model, fit, test_images)
votes.table().round(2)

# %% tags=["hide-cell"]
# The last term by itself, from the weights: it is not what is missing in the sum.
without = one.blocks["relu2"][:, 0] - fit.factors["relu2"] @ fit.image_factor[0]
left_out = one.model.fc.weight.detach() @ without
whole = votes.logits[0] + left_out
assert torch.allclose(whole, votes.own_logits[0], rtol=1e-3, atol=1e-3)

# %% [markdown]
# Below is the first test image of each digit: the image, the components that say most for the answer against the next best, and how its lead comes
# about. *Which digit wins by one component, and which by what no component holds?*


# %% tags=["hide-input"]
def draw_why(digit):
    image = int((test_labels == digit).int().argmax())
    answer = int(votes.own_answers[image])
    said = votes.of(image)
    top = said.index[said[answer].iloc[: fit.rank].argmax()]
    figure = votes.why(image, test_images, most=4)
    return (
        figure,
        f"A {digit}: the answer is {answer}; component {top} says most for it.",
    )


prepared = {"digit": [1, 4, 7, 9]}
pk.Explorer({"digit": range(10)}, draw_why, prepared=prepared, start={"digit": 7})

# %% [markdown]
# <details><summary>What to see</summary>In the network of this page the 1 and the 7 win by one component each, and the other bars are small. The 9
# wins by what is left out: its components cancel, for and against, so they would not have told it from a 4. Most of the others
# have a bit of both.</details>
#
# ### Exercise 3 ●●○ (7 minutes)
#
# Compute the votes from the weights: classes × components.
#
# <details><summary>Hint</summary><code>weight</code> is classes × neurons, <code>O</code> neurons × components.</details>

# %%
weight, O = one.model.fc.weight, fit.factors["relu2"]
my_votes = None
pk.check.votes_by_hand(my_votes, weight, O)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true} mystnb={"code_prompt_show": "Solution", "code_prompt_hide": "Fold the solution"}
# @title Solution
pk.check.votes_by_hand(weight @ O, weight, O)
print((weight @ O)[:, 0].tolist())

# %% [markdown]
# ## How many components do the answers need?
#
# *8 minutes.* Leave the rest out: let `relu2` be what the factorization says, and see how many of the network's own answers survive. The paper's
# sentence of Case Study I, that networks trained on less data are more compressible, was about errors. Is it also true of
# answers? The table `surviving` has the four networks of chapter 3.

# %% tags=["hide-input"]
survive = pk.evidence.table("surviving")
LABELS = list(mnist.FRACTIONS)
study = survive[survive.setting.isin(LABELS)].rename(columns={"setting": "data"})
at10 = study[study["rank"] == 10].groupby("data")["kept"].mean()[LABELS]
text = f"At rank 10, {100 * at10.min():.0f} to {100 * at10.max():.0f} % of the answers survive"
words = {"title": text, "xlabel": "rank", "ylabel": "answers that survive"}
figure = pk.plots.curves(study, "rank", "kept", "data", **words)
pk.show(figure, f"Answers that survive against rank, four amounts of data. {text}.")

# %% tags=["hide-input"]
fell = at10["25%"] - at10["100%"]
pk.judge(
    "compressible-answers",
    [at10.is_monotonic_decreasing, fell >= 0.05],
    "at rank 10 survive, at 25, 50, 75, 100 % of the data, "
    + ", ".join(f"{100 * value:.1f}" for value in at10)
    + f" % of the answers ({study.seed.nunique()} seeds)",
    **CHAPTER,
)

# %%
COLUMNS = ["kept", "kept by singular values", "commonest answer"]
rows = survive[survive["rank"] == 10].groupby("setting", sort=False)[COLUMNS]
rows.mean().round(3)

# %% tags=["hide-input"]
rows = study[(study.data == "100%") & (study["rank"] == 10)].set_index("seed").kept
live = next(switched.surviving_in(one))["kept"]  # the lowest rank comes first
how = {"within": rows.max() - rows.min() + 0.005, "data": data}
pk.recheck("answers kept at rank 10, 100 %, seed 0", rows.loc[0], live, **how)

# %% [markdown]
# Beside it two controls: `relu2` cut to its ten largest singular values, the best that ten numbers for each image can do for
# its error; and one constant answer. The network trained class by class has nothing to lose. At rank 10 the order is the
# paper's, by some points; from rank 20 on there is none. In the errors of chapter 3 it is there at every rank.
#
# ## One shape in many networks
#
# *7 minutes.* Two factorizations name their components as they like: component 3 of one network is not component 3 of another. But the blocks
# of several networks may stand in *one* factorization, with one image factor. Then a component is the same images, and the same shape, in all. What does that cost? The
# four networks of chapter 3 on 2,000 images, at rank 30: the relative error of each block with one image factor for all, over that with each
# network its own.

# %%
joint = pk.evidence.table("joint")
cost = joint[["setting"]].copy()
for block in ("input", *switched.LAYERS):
    apart = joint[f"separate error of {block}"]
    cost[block] = joint[f"joint error of {block}"] / apart
cost.groupby("setting", sort=False).mean().round(3)

# %% [markdown]
# So look at one network at ten moments of its training. *Component* and *images seen*: when does a shape that is there in the pixels
# get neurons of its own? Go to the left end: what do the neurons of a network show that has not learned?

# %% tags=["hide-input"]
moments = switched.moments(data)
blocks = {name: switched.few(one, 1_000) for name, one in moments.items()}
growing = pk.cached(pk.coupled_nmf)(
    switched.together(blocks), 10, max_iter=60, tol=1e-3
)
few_images, few_labels = test_images[:1_000], test_labels[:1_000]


def draw_moment(component, seen):
    title = f"component {component}, {seen} images seen"
    own = switched.part(growing, seen)
    what = {"maps": (20, 4, 4), "images": few_images, "labels": few_labels}
    figure = pk.plots.journey(own, "relu2", component + 1, title=title, **what)
    channels = own.factors["relu2"][:, component].reshape(20, 16).sum(1)
    strongest = int(channels.argmax())
    held = float(channels.max() / channels.sum())
    alt = f"{title}: channel {strongest} of relu2 has {held:.0%} of its loading."
    return figure, alt


axes = {"component": range(10), "seen": list(moments)}
prepared = {"component": [0, 2], "seen": list(moments)[::3]}
pk.Explorer(axes, draw_moment, prepared=prepared, start={"seen": list(moments)[-1]})

# %% [markdown] tags=["questions"]
# ## Check yourself
#
# *5 minutes.* Decide before you unfold an answer.
#
# **1.** You silence half of a layer, and no answer changes. What does that show?
#
# - (a) The half was not used.
# - (b) Nothing yet: a network with one answer for everything keeps it whatever you take.
# - (c) The other half is a complete network.
#
# <details><summary>Answer</summary>
#
# **(b)** Compare with what one constant answer would keep, and look at the logits. (a) may be true, but the same
# would be seen if the half were used. (c) needs the first half to have mattered to begin with.
#
# </details>
#
# **2.** Neurons with low loadings can be silenced without loss. Which control says whether the *factorization* was
# needed to find them?
#
# - (a) As many of those with the lowest mean activity.
# - (b) As many random neurons.
# - (c) As many of those with the highest loadings.
#
# <details><summary>Answer</summary>
#
# **(a)** If the least active ones can go just as well, a mean would have found them. (b) shows only that the choice
# is better than none; (c) shows that some neurons matter.
#
# </details>
#
# **3.** An image's logits are $b + V f + L (a - O f)$. In which networks does that hold exactly?
#
# - (a) Only where the factorization has no error.
# - (b) In every one whose last layer is linear in $a$, for any factorization, good or bad.
# - (c) Only for images that are classified correctly.
#
# <details><summary>Answer</summary>
#
# **(b)** The last term holds what the factorization leaves out, so the sum is $b + L a$ by algebra. (a) forgets this
# term. (c): nobody asked for the label.
#
# </details>
#
# **4.** Ten components explain a layer's values poorly. Do they keep few of the answers?
#
# - (a) Not necessarily: an answer needs only that the largest logit stays the largest.
# - (b) Yes: what is lost is lost.
# - (c) No: answers never depend on a few components.
#
# <details><summary>Answer</summary>
#
# **(a)** Error counts all of a layer's energy alike, and answers need some of it. So a rank says something about
# values, and has to be tested for answers. (b) and (c) turn a question of measurement into a rule.
#
# </details>

# %% [markdown]
# <details><summary>What to see</summary>At the left end every component has neurons already, and nearly all have the most in the same one or two
# channels: random filters pass every shape on, so a picture of a component is no sign of learning. What training changes, after some
# thousand images, is which channels these are and how large the loadings become. A channel of its own no component gets, not
# even at the right end.</details>

# %% [markdown]
# ## We saw
#
# - Neurons with negligible loadings can go, in the network trained class by class, and hardly move a logit: the first part of the
#   claim holds by function. As many random ones move them far.
# - That answers stay proves little in a network with one answer; and the least active neurons, found without any factorization,
#   can go just as well.
# - One layer before the answers, attribution is a product, and adds up.
# - How much of a layer's *values* a few components explain depends on training. Of the *answers* they keep most in all four networks, at
#   rank 10 a little fewer the more data there was, and from rank 20 on in no order.
# - One image factor for four networks adds a few percent to the error of a block at most, and gives a component the same shape in all.
#
# References are in the {doc}`../book/bibliography`.
