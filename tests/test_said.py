"""What the chapters' prose says of tables: one that says otherwise asks for new prose."""

import numpy as np
import pytest

from peeklib import evidence
from peeklib.course.studies import switched


def purity_of_eight(table, **where):
    """Mean class purity of eight directions: a row for each kind, a column for each layer."""
    part = table[table["count"] == 8]
    for name, value in where.items():
        part = part[part[name] == value]
    return part.groupby(["activations", "method", "layer"]).purity.mean().unstack("layer")


def test_chapter_2_hals_ends_lower_than_the_papers_updates_by_more_at_higher_ranks():
    rounds = evidence.table("rounds")
    ends = rounds.pivot(index=["rank", "seed"], columns="solver", values="relative_error")
    lower = 1 - ends.hals / ends.mu
    assert 0 < lower[10].mean() < lower[50].mean()
    assert lower[10].max() - lower[10].min() < 0.015 < lower[10].mean(), "what the page tolerates"


def test_chapter_8_no_other_package_reaches_the_error_of_coordinate_descent_sooner():
    race = evidence.table("bench-curves")
    keys = ["problem", "solver", "budget"]
    runs = race[race.status == "ok"].groupby(keys, as_index=False)
    runs = runs[["seconds", "relative_error"]].median()
    for _, part in runs.groupby("problem"):
        known = part[part.solver == "scikit-learn cd"]
        mark = known[known.budget == min(100, known.budget.max())].relative_error.item()
        there = part[part.relative_error <= mark].groupby("solver").seconds.min()
        assert there["peeklib auto"] < there[~there.index.str.startswith("peeklib")].min()


def test_chapter_8_multiplicative_updates_are_slow_far_from_an_end():
    ends = evidence.table("ends").query("rank == 50").set_index(["solver", "seed"])
    crawling, arrived = ends.loc["mu"], ends.loc["auto"]
    assert (crawling.progress < 1e-4).all() and not crawling.converged.any()
    assert arrived.converged.all()
    assert (crawling.kkt > 2 * arrived.kkt).all()
    assert (crawling.relative_error > 1.03 * arrived.relative_error).all()


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
    table = evidence.table("directions")
    right = purity_of_eight(table, setting="trained").loc["normalized", "singular"]
    anyhow = purity_of_eight(table, setting="trained, all images").loc["normalized", "singular"]
    early, late = ["pool1", "pool2"], ["pool5", "fc"]
    assert right[late].mean() > right[early].mean()
    assert anyhow[late].mean() < anyhow[early].mean()


@pytest.mark.parametrize("layer", ["pool2", "relu3", "relu4"])
def test_chapter_10_components_have_the_purest_images(layer):
    purity = purity_of_eight(evidence.table("directions"), setting="trained")
    assert purity[layer].idxmax() == ("raw", "nmf")


def layer_ranks(table):
    """Mean entropy rank over the seeds: a row for each amount of data, a column for each layer."""
    columns = {f"entropy rank of relu{k}": f"relu{k}" for k in range(1, 6)}
    means = table.drop_duplicates(["fraction", "seed"]).groupby("fraction")[list(columns)].mean()
    return means.rename(columns=columns)


def test_chapter_4_ranks_of_layers_fall_first_and_then_rise_with_the_data():
    table = evidence.table("alexnet").query("data == 'cifar10'")
    fresh = evidence.table("untrained").groupby("layer")["entropy rank"].mean()
    tuned, slow = (layer_ranks(table[table.recipe == recipe]) for recipe in ("tuned", "paper"))
    assert (tuned.loc[[0.25, 0.5]] < fresh).all(axis=None)
    assert (tuned.loc[0.5:].diff().iloc[1:] > 0).all(axis=None)
    later = tuned.loc[0.5] - tuned.loc[0.25]
    assert (later[["relu1", "relu2"]] > 0).all() and (later[["relu3", "relu4", "relu5"]] < 0).all()
    assert (slow.diff().iloc[1:][["relu1", "relu2", "relu3", "relu4"]] < 0).all(axis=None)


def test_chapter_9_the_quarter_that_varies_least_is_less_pure_everywhere_but_in_pool1():
    layers = evidence.table("layers").query("setting == 'trained' and layer != 'fc'")
    less = layers["purity of low variance"] < layers["purity of the rest"]
    less = less.groupby(layers.layer).mean()
    assert (less.drop("pool1") == 1).all() and 0 < less["pool1"] < 1


def pool5(count, **where):
    """Rows of trained networks, by method and seed."""
    table = evidence.table("directions").query("layer == 'pool5' and setting == 'trained'")
    table = table[table["count"] == count]
    for name, value in where.items():
        table = table[table[name] == value]
    return table.set_index(["method", "seed"])


def test_chapter_9_raw_activations_share_more_images_at_both_ends():
    raw = pool5(8, activations="raw").loc["neurons of high variance"]
    normalized = pool5(8, activations="normalized").loc["neurons of high variance"]
    assert (raw.overlap > normalized.overlap).all()
    assert (raw["bottom overlap"] > normalized["bottom overlap"]).all()
    assert (normalized["bottom overlap"] > normalized.overlap).all()
    assert (raw.purity < normalized.purity).sum() == 1


def test_chapter_9_one_network_of_five_is_the_exception():
    rows = pool5(50, activations="normalized")
    neurons, anyhow = rows.loc["random neurons"], rows.loc["random"]
    wide = rows.loc["random of high variance"]
    assert (neurons.purity <= anyhow.purity).sum() == 1
    error = (anyhow["purity error"] ** 2 + wide["purity error"] ** 2) ** 0.5
    assert ((wide.purity - anyhow.purity).abs() >= 2 * error).sum() == 1


def rank_or_scale():
    """What networks are as they stand, on all images."""
    table = evidence.table("rank_or_scale")
    return table[(table.control == "none") & (table.images == table.images.max())]


def test_chapter_13_the_share_of_size_depends_on_the_seed_for_little_data():
    logs = np.log(rank_or_scale().set_index(["network", "seed", "rank"])[["rmse", "size"]])
    share = {}
    for kind in ("little data", "class order", "untrained"):
        gap = logs.loc["good"] - logs.loc[kind]
        share[kind] = (gap["size"] / gap.rmse).groupby("seed").mean()
    assert share["little data"].min() < 0.05 and share["little data"].max() > 0.8
    assert (share["class order"] > 1).all() and share["untrained"].between(0.95, 1.05).all()


def test_chapter_13_sizes_of_layers():
    once = rank_or_scale().drop_duplicates(["network", "seed"]).set_index(["network", "seed"])
    first, last = once["size of relu1"], once["size of relu2"]
    assert (first["good"] > first["little data"]).all()
    assert (first["little data"] > first["untrained"]).all()
    assert last["little data"].max() > last["good"].min() > last["little data"].min()
    assert (last["class order"] == 0).all()


def test_chapter_13_the_relative_error_of_plain_fits_moves_with_the_unit():
    table = evidence.table("rank_or_scale")
    table = table.query("network == 'little data' and seed == 0 and images == 500")
    error = table.pivot(index="rank", columns="control", values="relative_error")
    assert (error.rescaled < 0.9 * error.none).all()


def test_chapter_13_fits_of_the_table_end_by_their_own_rule():
    networks = rank_or_scale()
    networks = networks[networks.network.isin(["good", "little data", "class order", "untrained"])]
    assert networks[["converged", "unit converged"]].all(axis=None)
    assert (networks[["kkt", "unit kkt"]] <= 0.01).all(axis=None)


FRACTIONS = ["25%", "50%", "75%", "100%"]
BLOCKS = ("input", "relu1", "relu2")


def case_means(rank=30):
    """Means over the seeds of Case Study I, a row for each network, in the order of their data."""
    rows = evidence.table("cases").query("study == 'data' and rank == @rank")
    return rows.groupby("setting").mean(numeric_only=True).loc[FRACTIONS]


@pytest.mark.parametrize("rank", [10, 20, 30, 40, 50])
@pytest.mark.parametrize("measure", ["rmse", "relative_error"])
def test_chapter_3_errors_rise_with_the_data_at_all_ranks(measure, rank):
    assert case_means(rank)[measure].is_monotonic_increasing


def test_chapter_3_the_last_layer_is_what_grows():
    means = case_means()
    rise = {}
    for name in BLOCKS:
        error = means[f"even error of {name}"]
        rise[name] = error.iloc[-1] / error.iloc[0] - 1
    assert rise["relu2"] > 3 * max(rise["input"], rise["relu1"])
    assert means["entropy rank of relu2"].is_monotonic_increasing
    assert means["entropy rank of relu1"].is_monotonic_decreasing


def test_chapter_3_so_does_the_tail_of_its_spectrum_alone():
    rows = evidence.table("spectra").query("study == 'data'")
    rows = rows.set_index(["layer", "setting", "seed"])
    share = rows[[str(index) for index in range(21, 101)]].mean(axis=1) / rows["1"]
    tail = share.groupby(["layer", "setting"]).mean().unstack()[FRACTIONS]
    change = tail["100%"] / tail["25%"] - 1
    assert tail.loc["relu2"].is_monotonic_increasing and change["relu2"] > 2 * abs(change["relu1"])


def test_chapter_5_only_the_rmse_is_in_the_papers_order():
    means = evidence.table("cases").groupby(["rank", "setting"])[["rmse", "relative_error"]].mean()
    rmse, relative = (means[name].unstack() for name in means)
    halves = ["{0–4}", "{5–9}"]
    assert (rmse["untrained"] < rmse["{0}"]).all()
    assert (rmse["{0}"] < rmse[halves].min(axis=1)).all()
    assert (rmse[halves].max(axis=1) < rmse["100%"]).all()
    assert (relative.idxmax(axis=1) == "untrained").all()
    assert (relative["{0}"] > relative["100%"])[[20, 30, 40, 50]].all()


def test_chapter_5_as_many_images_of_all_classes_differ_in_entropy_rank():
    cases = evidence.table("cases").query("rank == 30").groupby("setting").mean(numeric_only=True)
    controls = evidence.table("controls").groupby("setting").mean(numeric_only=True)
    one = cases.loc["{0}"] / controls.loc["as many as {0}"]
    half = cases.loc["{0–4}"] / controls.loc["as many as {0–4}"]
    assert one.rmse > 0.9 and half.rmse < 0.8 and one.accuracy < 0.25
    assert one["entropy rank of relu2"] < 0.8 and half["entropy rank of relu2"] < 0.8


def test_chapter_6_the_class_just_seen_is_known_best():
    steps = evidence.table("forgetting").set_index(["seed", "digit"])
    seen = [f"recall of {digit}" for digit in steps.index.get_level_values("digit")]
    assert (steps.idxmax(axis=1) == seen).all()


def test_chapter_6_pixels_find_as_many_sets_and_the_last_layer_alone_is_poorer():
    table = evidence.table("loadings").groupby("setting").mean(numeric_only=True)
    assert table["sets found"]["pixels alone"] >= table["sets found"]["ordered"]
    seeds = evidence.table("loadings").set_index(["setting", "seed"])
    ordered, shuffled = seeds.loc["ordered"], seeds.loc["100%"]
    assert (ordered["negligible of relu2"] > shuffled["negligible of relu2"]).all()
    assert (ordered["entropy rank of relu2"] < shuffled["entropy rank of relu2"]).all()
    assert not (ordered["negligible of relu1"] > shuffled["negligible of relu1"]).all()


def travels():
    """Means over the seeds at rank 30, by layer and network."""
    rows = evidence.table("travels").query("rank == 30")
    return rows.groupby(["layer", "setting"]).mean(numeric_only=True)


def test_chapter_7_a_component_has_a_place_in_relu1_and_some_channels_in_relu2():
    rows = travels()
    first, last = rows.loc["relu1"].loc[FRACTIONS], rows.loc["relu2"].loc[FRACTIONS]
    ordered = rows.loc["relu2", "ordered"]
    assert (first.positions < 0.5 * first["positions, whole layer"]).all()
    assert (last.positions < 0.8 * last["positions, whole layer"]).all()
    assert (first.channels > 0.75 * first["channels, whole layer"]).all()
    assert first["leading channels"].max() < 1.5
    for what, way in (("channels", -1), ("positions", 1)):
        assert (way * (ordered[what] - last[what])).min() > last[what].max() - last[what].min()


def test_chapter_7_maps_of_relu1_show_the_shape():
    near, far = travels().loc["relu1"], travels().loc["relu2"]
    assert near["own is closest"][FRACTIONS].min() > 25
    assert far["own is closest"][FRACTIONS].max() < 15
    assert (near.own - near.others)[FRACTIONS].min() > 0.5
    assert near.own[FRACTIONS].min() > near.own[["untrained", "ordered"]].max()


def test_chapter_7_pixels_name_the_component_of_seven_images_in_ten():
    means = evidence.table("places").groupby("setting").mean(numeric_only=True)
    trained = means.loc[FRACTIONS]
    assert trained.agree.between(0.65, 0.75).all() and trained["in first 3"].min() > 0.9
    assert means.agree.min() > 5 * means["by chance"].max()
    assert means.agree["untrained"] > trained.agree.max()
    assert means["faintest P"]["ordered"] < 0.2 < trained["faintest P"].min()
    assert means["relu1, pixels"]["ordered"] > 1 > means["relu1, pixels"]["100%"]


def neighbours():
    table = evidence.table("neighbours").set_index(["setting", "seed"])
    return {name: table[name].unstack("setting") for name in table}


CONTROLS = ["untrained", "shuffled labels"]


def test_chapter_12_what_orders_the_networks_and_knows_the_controls():
    tables = neighbours()
    tables["conv2: entropy rank"] *= -1
    below, order = {}, {}  # in how many of five seeds
    for name, wide in tables.items():
        below[name] = (wide[CONTROLS].max(axis=1) < wide["25%"]).sum()
        order[name] = (wide[FRACTIONS].diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum()
    both = {name for name in tables if below[name] == order[name] == 5}
    sizes = {"conv1: largest singular value", "conv2: largest singular value"}
    assert both == {"coupled NMF: RMSE", "conv2: entropy rank"} | sizes
    assert {name for name in tables if order[name] < 5} == {"CKA of relu2", "SVCCA of relu2"}
    assert {name for name in tables if below[name] == 0} == {
        "coupled NMF: relative error",
        "coupled NMF: error of relu2",
        "relu2: entropy rank",
        "NMF of relu2, flattened",
        "NMF of relu2, by position",
    }


def test_chapter_12_pairs_across_seeds():
    wrong = {}
    for name, sign in {"coupled NMF: RMSE": 1, "conv2: entropy rank": -1}.items():
        wide = sign * neighbours()[name][FRACTIONS].to_numpy()
        pairs = [
            (wide[a, i], wide[b, j])
            for a in range(5)
            for b in range(5)
            if a != b
            for i in range(4)
            for j in range(i)
        ]
        wrong[name] = sum(more <= less for more, less in pairs), len(pairs)
    assert wrong == {"coupled NMF: RMSE": (0, 120), "conv2: entropy rank": (1, 120)}


def test_chapter_12_svcca_knows_training_and_an_untrained_network_has_most_of_cka():
    tables = neighbours()
    svcca, cka = tables["SVCCA of relu2"], tables["CKA of relu2"].mean()
    assert svcca[CONTROLS].max(axis=None) < svcca[FRACTIONS].min(axis=None)
    assert cka["untrained"] > 0.8 * cka["100%"] and cka["75%"] > 0.99 * cka["100%"]
    largest = tables["conv2: largest singular value"]
    assert (largest["shuffled labels"] / largest["untrained"] - 1).abs().max() < 0.01


def test_chapter_12_twins_and_what_is_left_of_chance():
    twins = evidence.table("twins").set_index(["method", "order", "layer"])
    twins = twins[["relu1", "relu2", "fc"]].sort_index()
    right = twins.idxmax(axis=1) == twins.index.get_level_values("layer")
    found = right.groupby(["method", "order"]).sum()
    assert found["CKA", "same"] == 14 and found["SVCCA", "same"] == 0
    nearest = twins.loc["SVCCA", "same"].groupby("layer").mean().idxmax(axis=1)
    assert (nearest[["relu1", "relu2"]] == "fc").all()
    assert twins.loc[("SVCCA", "shuffled", "relu2"), "fc"].max() < 0.4
    assert twins.loc[("SVCCA", "same", "relu2"), "fc"].min() > 0.95
    null = evidence.table("nulls").query("order == 'shuffled'")
    null = null.groupby(["method", "count"]).value.mean()
    assert null["CKA", 500] < 0.05 and null["SVCCA", 500] > 0.3 and null["SVCCA"].min() < 0.1


def test_the_ledger_says_what_more_epochs_take_from_claims_about_a_small_caffenet():
    rows = evidence.table("caffenet").set_index(["setting", "layer"])
    pool5 = {name: rows.loc[name, "pool5"] for name in ("trained", "one epoch")}
    gains = {name: row["purity above 0.5"] - row["purity below 0.5"] for name, row in pool5.items()}
    assert gains["trained"] < 0.05 <= gains["one epoch"]
    assert pool5["one epoch"]["variance and purity above"] < 0.5
    weights = rows["weight of low variance"].unstack("layer")[["pool5", "relu6"]]
    assert (weights.loc[["one epoch", "untrained"]] >= 0.9).all(axis=None)
    assert weights.loc["trained"].min() < 0.9
    alike = rows["correlation, next"].unstack("layer")["norm1"]
    assert alike["untrained"] >= alike["trained"], "neighbours are as much alike untrained"
    shared = pool5["trained"][["overlap, next", "overlap, other channel"]]
    assert shared.iloc[1] < 0.1 < shared.iloc[0] < 0.5


def test_chapter_12_by_position_the_error_stays_when_digits_move():
    means = evidence.table("moved").groupby("method")[["at home", "moved"]].mean()
    growth = means.moved / means["at home"]
    assert growth["flattened, rank 30"] > 1.5 and abs(growth["by position, 6 groups"] - 1) < 0.05


def test_chapter_12_what_rescaled_channels_move():
    names = [name for name in neighbours() if name != "conv1: largest singular value"]
    table = evidence.table("rescalings").set_index(["setting", "seed"])[names]
    means = evidence.table("neighbours").groupby("setting")[names].mean()
    way = (means.loc["100%"] - means.loc["25%"]).abs()
    moved = {}
    for name in ("all × 5", "each its own"):
        moved[name] = ((table.loc[name] - table.loc["as it is"]).abs() / way).mean()
    all_five, each = moved["all × 5"], moved["each its own"]
    still = set(all_five.index[all_five < 0.05])
    moves = {"coupled NMF: RMSE", "coupled NMF: relative error", "coupled NMF: error of relu2"}
    assert still == set(names) - moves - {"conv2: largest singular value"}
    assert each.idxmin() == "NMF of relu2, flattened" and 0.8 < each["CKA of relu2"] < 1.2
    assert (each[["coupled NMF: RMSE", "conv2: entropy rank", "SVCCA of relu2"]] > 1).all()


def test_chapter_16_answers_that_stay_prove_nothing_and_activity_does_as_well_as_loadings():
    table = evidence.table("silenced")
    keys = ["setting", "layer", "base", "seed"]
    moved = table.pivot(index=keys, columns="control", values="moved")
    kept = table.pivot(index=keys, columns="control", values="kept")
    others = kept.columns != "least active others"
    assert (kept.loc["ordered"].loc[:, others] == 1).all(axis=None)
    changed = table[(table.setting == "ordered") & (table.kept < 1)]
    assert set(changed.seed) == {2} and set(changed.layer) == {"relu2"}
    assert len(changed) == 2 and (changed.activity > 0.99).all() and (changed.kept < 0.2).all()
    assert (moved.loc["ordered", "by loadings"] < 0.1 * moved.loc["ordered", "random"]).all()
    alike = moved["by loadings"] / moved["least active"]
    assert alike.loc[["ordered", "100%"]].between(0.5, 2).all()
    half = (moved["by loadings"] / moved["random"]).loc["100%"].loc["relu2"].loc["lower half"]
    assert (half > 0.1).all()


def test_chapter_16_controls_that_cannot_be_drawn_are_no_controls():
    table = switched.compared(evidence.table("silenced"))
    left = table.groupby(["setting", "layer", "base"]).control.unique()
    few = left["ordered", "relu2", "below 1 %"]
    assert list(few) == ["by loadings", "random", "least active"]
    both = {"others as active in all", "least active others"}
    assert both <= set(left["ordered", "relu1", "lower half"])
    assert set(left["ordered", "relu2", "lower half"]) & both == {"least active others"}


def test_chapter_16_one_image_factor_for_four_networks_costs_little():
    joint = evidence.table("joint")
    for block in ("input", "relu1", "relu2"):
        cost = joint[f"joint error of {block}"] / joint[f"separate error of {block}"]
        assert cost.groupby(joint.setting).mean().max() < 1.06


def test_chapter_16_answers_that_survive_fall_with_the_data_at_rank_10_and_at_no_other():
    table = evidence.table("surviving")
    means = table.groupby(["rank", "setting"])["kept"].mean().unstack()
    four = means[["25%", "50%", "75%", "100%"]]
    falls = four.diff(axis=1).iloc[:, 1:].lt(0).all(axis=1)
    assert falls[falls].index.tolist() == [10]
    assert 0.03 < four.loc[10, "25%"] - four.loc[10, "100%"] < 0.05
    assert (table["kept by singular values"] >= table.kept).all()
    assert (table.loc[table.setting == "ordered", "commonest answer"] == 1).all()
