"""What the chapters' prose says of tables of evidence: a table that is made anew and says otherwise asks for new prose."""

import pytest

from peeklib import evidence


def purity_of_eight(table, **where):
    """Mean class purity of eight directions: a row for each kind, a column for each layer."""
    part = table[table["count"] == 8]
    for name, value in where.items():
        part = part[part[name] == value]
    return part.groupby(["activations", "method", "layer"]).purity.mean().unstack("layer")


def test_chapter_8_no_other_package_reaches_the_error_of_coordinate_descent_sooner():
    race = evidence.table("bench-curves")
    keys = ["problem", "solver", "budget"]
    runs = race[race.status == "ok"].groupby(keys, as_index=False)[["seconds", "relative_error"]].median()
    for _, part in runs.groupby("problem"):
        known = part[part.solver == "scikit-learn cd"]
        mark = known[known.budget == min(100, known.budget.max())].relative_error.item()
        there = part[part.relative_error <= mark].groupby("solver").seconds.min()
        assert there["peeklib auto"] < there[~there.index.str.startswith("peeklib")].min()


def test_chapter_8_multiplicative_updates_are_slow_far_from_an_end():
    ends = evidence.table("ends").query("rank == 50").set_index(["solver", "seed"])
    crawling, arrived = ends.loc["mu"], ends.loc["auto"]
    assert (crawling.progress < 1e-4).all() and not crawling.converged.any() and arrived.converged.all()
    assert (crawling.kkt > 2 * arrived.kkt).all() and (crawling.relative_error > 1.03 * arrived.relative_error).all()


def test_chapter_8_a_gpu_is_sooner_at_everything_least_at_training_and_most_at_many_fits():
    steps = evidence.table("gpu").fillna({"setting": ""})
    seconds = steps[steps.data == "cpu"].pivot_table("median", ["what", "setting"], "device")
    gain = (seconds.cpu / seconds.cuda).groupby("what")
    assert gain.min().min() > 1 and gain.min().idxmin() == "train one epoch"
    fits = [name for name in gain.groups if name != "sweep of 100 fits"]
    assert gain.min()["sweep of 100 fits"] > gain.max()[fits].max()
    assert steps[steps.what.str.startswith("errors of")].error_difference.abs().max() < 1e-3


def test_chapter_9_variance_says_something_in_the_layers_before_pool5():
    layers = evidence.table("layers")
    means = layers[layers.setting == "trained"].groupby("layer").mean(numeric_only=True)
    related = means["variance and purity"] > means["variance and purity by chance"]
    assert related[["relu3", "relu4"]].all() and not related["pool5"]


def test_chapter_10_purity_rises_with_depth_only_on_images_that_the_network_gets_right():
    table, early, late = evidence.table("directions"), ["pool1", "pool2"], ["pool5", "fc"]
    of = {
        setting: purity_of_eight(table, setting=setting).loc["normalized", "singular"]
        for setting in ("trained", "trained, all images")
    }
    assert of["trained"][late].mean() > of["trained"][early].mean()
    assert of["trained, all images"][late].mean() < of["trained, all images"][early].mean()


@pytest.mark.parametrize("layer", ["pool2", "relu3", "relu4"])
def test_chapter_10_components_have_the_purest_images(layer):
    assert purity_of_eight(evidence.table("directions"), setting="trained")[layer].idxmax() == ("raw", "nmf")
