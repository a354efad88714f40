# %% [markdown]
# # How much training?
#
# [![Open in Colab](../book/_static/colab.svg)](https://colab.research.google.com/github/OWNER/peek/blob/main/notebooks/03-how-much-training.ipynb)
#
# *Four networks, alike but for the amount of data they saw: can a factorization rank them without a single label?*

# %% tags=["remove-cell"]
import sys

if (
    "google.colab" in sys.modules
):  # Colab keeps its own torch and numpy; this adds peeklib alone
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/OWNER/peek")  # noqa: F821

# %%
import pandas as pd
from IPython.display import display
from tqdm.auto import tqdm

import peeklib as pk

full = pk.profile() == "full"
data = pk.load_dataset("mnist", fallback=True)
data

# %% [markdown]
# This is Case Study I of Saini and Papalexakis {cite}`saini2018peek`. One function runs one cell of it: train on
# a fraction of the data for one epoch, record the test images, factorize at every rank. The seed draws the subset, the
# initial weights, the order of the images and the start of the factorization. `solver="auto"` is HALS that begins
# on a compressed copy of the data, which is faster, and ends on the data itself.

# %%
FRACTIONS, RANKS, SEEDS = (
    (0.25, 0.5, 0.75, 1.0),
    (10, 20, 30, 40, 50),
    range(5 if full else 1),
)
test_images = data.test.images[: 10_000 if full else 1_000]


def study(fraction, seed):
    model = pk.models.PaperCNN(seed=seed)
    pk.train(model, *pk.subset(data, fraction=fraction, seed=seed), seed=seed)
    blocks = pk.input_blocks(test_images) | pk.record(model, test_images)
    return (
        model,
        blocks,
        pk.rank_sweep(blocks, RANKS, [seed], solver="auto", max_iter=80, tol=5e-4),
    )


# %%
models, sweeps, tables, spectra, scales = {}, {}, [], [], []
cells = [(fraction, seed) for fraction in FRACTIONS for seed in SEEDS]
for fraction, seed in tqdm(cells, desc="training and factorizing"):
    models[fraction, seed], blocks, sweeps[fraction, seed] = study(fraction, seed)
    tables.append(sweeps[fraction, seed].table().assign(data=f"{fraction:.0%}"))
    for name in ("relu1", "relu2"):
        values = pk.spectrum(blocks[name]).cpu()
        spectra.append(
            pd.DataFrame(
                {
                    "index": range(1, len(values) + 1),
                    "value": values,
                    "layer": name,
                    "data": f"{fraction:.0%}",
                    "seed": seed,
                }
            )
        )
        scales.append(
            {
                "layer": name,
                "data": f"{fraction:.0%}",
                "size": blocks[name].square().mean().sqrt().item(),
                "entropy rank": pk.effective_rank(values),
            }
        )
table, spectra, scales = pd.concat(tables), pd.concat(spectra), pd.DataFrame(scales)

# %% [markdown]
# Move the sliders. *At rank 10, do the parts of the 25 % network look different from those of the 100 % network? And
# which of the two has the larger error?*


# %%
def draw(data, rank):
    fit = sweeps[FRACTIONS[LABELS.index(data)], 0][rank, 0]
    text = f"{data} of the data, rank {rank}: RMSE {fit.rmse:.3f}, relative error {fit.relative_error:.3f}"
    return pk.plots.latent_images(
        fit, (28, 28), title=text
    ), f"Columns of P as images; {text}."


LABELS = [f"{fraction:.0%}" for fraction in FRACTIONS]
name = {
    "scrapbook": {"name": "training-explorer", "mime_prefix": ""}
}  # the welcome page shows it too
display(pk.Explorer({"data": LABELS, "rank": RANKS}, draw), metadata=name)

# %% [markdown]
# **You will be able to**
#
# - rerun the first case study of the paper, and say what its figures show and what they do not;
# - read a rank curve and a singular spectrum;
# - tell root mean square error from relative error, and say why the difference matters here;
# - state a result with its spread over seeds.
#
# **Before you start.** {doc}`02-coupled-nmf`. 30 minutes to read; the cell above takes several minutes on a laptop CPU.

# %% [markdown]
# ## How good are the four networks? (3 minutes)
#
# This table is the only place of the chapter where test labels are used.

# %%
paper = dict(zip(LABELS, (0.83, 0.89, 0.93, 0.95)))
scores = pd.DataFrame(
    [
        (LABELS[FRACTIONS.index(fraction)], pk.accuracy(model, *data.test))
        for (fraction, _), model in models.items()
    ],
    columns=["data", "accuracy"],
)
accuracies = scores.groupby("data", sort=False).accuracy.agg(["mean", "min", "max"])
accuracies.insert(0, "paper", pd.Series(paper))
assert accuracies["mean"].is_monotonic_increasing
if data.name == "mnist":
    assert (accuracies["mean"] - accuracies["paper"]).abs().max() < 0.03
accuracies.map("{:.1%}".format)

# %% [markdown]
# ## Does the error grow with training? (5 minutes)
#
# The paper measures the *root mean square error* over all entries of all blocks, its Figure 3. The band runs from the
# smallest to the largest value over the seeds.

# %%
mean = (
    table.groupby(["rank", "data"], sort=False)[["rmse", "relative_error"]]
    .mean()
    .unstack()
)
rises = (mean.rmse[LABELS].diff(axis=1).iloc[:, 1:] > 0).all(
    axis=1
)  # at each rank, from fraction to fraction
assert rises.all()
figure = pk.plots.curves(
    table,
    "rank",
    "rmse",
    "data",
    title=f"More training data, higher mean RMSE at {rises.sum()} of {len(rises)} ranks",
    xlabel="rank",
    ylabel="RMSE",
)
pk.show(
    figure,
    "RMSE against rank for four amounts of training data. All curves fall with the rank; at every rank their means are "
    "in the order of the amount of data, 25 % lowest.",
)

# %% [markdown]
# That is the paper's finding: *the poorer the training, the lower the rank that explains the network*. The network
# trained on a quarter of the data reaches with few components an error for which the others need many more.
#
# But an RMSE has units, here those of activations. A network with larger activations has a larger RMSE even if its
# structure is the same. The *relative* error divides by the size of the data.

# %%
rises = (mean.relative_error[LABELS].diff(axis=1).iloc[:, 1:] > 0).all(axis=1)
assert rises.all()
figure = pk.plots.curves(
    table,
    "rank",
    "relative_error",
    "data",
    title=f"The relative error rises too, at {rises.sum()} of {len(rises)} ranks",
    xlabel="rank",
    ylabel="relative error",
)
pk.show(
    figure,
    "Relative error against rank for four amounts of training data: the means keep the same order at every rank, and "
    "the curves lie closer together than those of the RMSE.",
)

# %%
mean.round(4)

# %% [markdown]
# ## How much of it is size? (5 minutes)
#
# The table gives the root mean square of each layer's activations, and the layer's entropy rank, over the seeds.

# %%
facts = (
    scales.sort_values("layer", kind="stable")
    .groupby(["layer", "data"], sort=False)
    .agg(["mean", "min", "max"])
)
rank = facts["entropy rank"]["mean"]
assert (
    rank["relu2"].is_monotonic_increasing
    and rank["relu1"]["100%"] < rank["relu1"]["25%"]
)
facts.round(2)

# %%
growth = {
    measure: mean[measure][LABELS[-1]] / mean[measure][LABELS[0]] - 1
    for measure in ("rmse", "relative_error")
}
assert (growth["relative_error"] < growth["rmse"]).all()
pd.DataFrame(growth).map("{:+.0%}".format).rename_axis("100 % against 25 %, rank")

# %% [markdown]
# The relative error rises by less than the RMSE: part of the paper's gap is size, part is structure. Look at where
# each comes from. The first layer's activations grow with training while its entropy rank stays or shrinks. The
# last layer's entropy rank grows. So "a poorer network needs a lower rank" is a statement about the *last*
# layer. The error of each block at rank 30 says the same:

# %%
names = [column for column in table if column.startswith("error of")]
table[table["rank"] == 30].groupby("data", sort=False)[names].mean().round(3)

# %% [markdown]
# ## What do the singular values say? (5 minutes)
#
# The paper supports its claim with the spectra of both layers, its Figures 4 and 5, without any factorization.
# The bands run from the smallest to the largest value over the seeds.


# %%
def spectra_figure(layer, title):
    part = spectra[(spectra.layer == layer) & (spectra["index"] <= 100)]
    figure = pk.plots.curves(
        part,
        "index",
        "value",
        "data",
        log=True,
        title=title,
        xlabel="index",
        ylabel="singular value",
    )
    return pk.show(
        figure,
        f"The 100 largest singular values of {layer} for four amounts of training data, on a logarithmic axis.",
    )


spectra_figure("relu1", "relu1, the 100 largest singular values")

# %%
tail = (
    spectra[(spectra["index"] > 20) & (spectra.layer == "relu2")]
    .groupby("data", sort=False)
    .value.sum()
)
assert tail.is_monotonic_increasing
spectra_figure("relu2", "relu2: the less data, the smaller the tail")

# %% [markdown]
# A lower curve may mean no more than smaller activations. To compare shapes, divide each spectrum by its largest value.

# %%
part = spectra[(spectra.layer == "relu2") & (spectra["index"] <= 100)].copy()
part["value"] /= part.groupby(["data", "seed"], sort=False).value.transform("max")
assert (
    part[part["index"] == 50]
    .groupby("data", sort=False)
    .value.mean()
    .is_monotonic_increasing
)
figure = pk.plots.curves(
    part,
    "index",
    "value",
    "data",
    log=True,
    title="relu2: the tail is smaller in proportion, too",
    xlabel="index",
    ylabel="share of the largest",
)
pk.show(
    figure,
    "The singular values of relu2 divided by the largest, on a logarithmic axis: the less data, the steeper the curve.",
)

# %% [markdown]
# ### Exercise 1 ●○○ (5 minutes)
#
# Take the 100 % network of seed 0. Which is the smallest of the five ranks that brings its relative error down to
# what the 25 % network of seed 0 has at rank 10?
#
# <details><summary>Hint</summary><code>sweeps[1.0, 0][rank, 0].relative_error</code> is one of the errors.</details>

# %%
errors = {rank: sweeps[1.0, 0][rank, 0].relative_error for rank in RANKS}
target = sweeps[0.25, 0][10, 0].relative_error
my_rank = None
pk.check.rank_to_reach(my_rank, errors, target)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true}
# @title Solution
reached = min(rank for rank, error in errors.items() if error <= target)
pk.check.rank_to_reach(reached, errors, target)
print(f"rank {reached} instead of 10")

# %% [markdown]
# ### Exercise 2 ●●○ (10 minutes)
#
# No factorization of rank 10 can be better than cutting off the singular values after the tenth (Eckart and Young).
# Compute that floor, a relative error, for the `relu2` block in `blocks` (the last network of the loop above).
# How far above it is the coupled factorization, and why may it be?
#
# <details><summary>Hint</summary>The squared error is the sum of the squares of the singular values left out.</details>

# %%
my_floor = None
pk.check.compressible(my_floor, blocks["relu2"], 10)

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true}
# @title Solution
values = pk.spectrum(blocks["relu2"])
floor = float((values[10:].square().sum() / values.square().sum()).sqrt())
pk.check.compressible(floor, blocks["relu2"], 10)
last = sweeps[FRACTIONS[-1], SEEDS[-1]][10, SEEDS[-1]].block_errors["relu2"]
print(
    f"floor {floor:.3f}, coupled NMF {last:.3f}: it may not subtract, and it shares F with the other blocks"
)

# %% [markdown]
# ### Exercise 3 ●●● (15 minutes)
#
# Multiply all activations of `relu1` and `relu2` by 3, as a rescaled but equivalent network would, and fit again. What
# happens to the RMSE, to the relative error, to the order of the four networks? Then write one sentence that the paper's
# claim should have carried.
#
# <details><summary>Hint</summary>The input block does not scale, so the relative error changes a little as well.</details>

# %% tags=["hide-cell"] cellView="form" jupyter={"source_hidden": true}
# @title Solution
scaled = {name: block * (1 if name == "input" else 3) for name, block in blocks.items()}
for name, what in (("as recorded", blocks), ("layers × 3", scaled)):
    fit = pk.coupled_nmf(what, 10, max_iter=60)
    print(f"{name:12} RMSE {fit.rmse:.3f}, relative error {fit.relative_error:.3f}")

# %% [markdown]
# ## We saw
#
# - On the data named at the top of this page, mean RMSE and mean relative error rise with the amount of training
#   data at all five ranks, with no label used: the paper's finding holds.
# - The RMSE exaggerates it, because activations of the first layer grow as well.
# - The dimension of the *last* layer grows with training, by its spectrum and its entropy rank; that of the first does not.
# - Four networks that differ in one respect are no general test. Whether the error ranks networks that differ in
#   many respects is a question for many more networks.
#
# References are in the {doc}`../book/bibliography`.
