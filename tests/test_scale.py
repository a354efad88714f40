"""Rank or scale: changes that keep answers keep them, and what the page says of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from peeklib import evidence, models, scores
from peeklib.course.studies import scale

EXACT = {
    "unit_norm_area",
    "last_block_area",
    "nmf_svd_gap",
    "entropy_rank",
    "rankme",
    "stable_rank",
    "nuclear_norm",
}


@pytest.fixture(scope="module")
def model():
    return models.PaperCNN(seed=0)


@pytest.fixture(scope="module")
def images():
    return torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def own(model, images):
    return scores.observe(model, images)


@pytest.fixture(scope="module")
def twins(model, images):
    return scale.controls(model, images)


def unit(look):
    return scores.unit_norm(look.inputs | look.hidden)


def test_a_power_of_two_changes_no_bit(own, twins):
    twin = twins["rescaled"]
    assert torch.equal(twin.logits, own.logits)
    assert all(torch.equal(block, unit(own)[name]) for name, block in unit(twin).items())
    assert torch.equal(twin.hidden["relu2"], 4 * own.hidden["relu2"])
    for name in ("entropy_rank", "rankme", "stable_rank", "nuclear_norm"):  # exact: not from fits
        assert scale.SCORES[name](twin) == pytest.approx(scale.SCORES[name](own), rel=1e-6), name
    assert twin.plain[4, 0].rmse > 1.2 * own.plain[4, 0].rmse


def test_dead_units_are_dead_and_change_no_answer(own, twins):
    twin = twins["dead units"]
    torch.testing.assert_close(twin.logits, own.logits, atol=1e-5, rtol=1e-5)
    for name, block in own.hidden.items():
        assert len(twin.hidden[name]) == 2 * len(block)
        torch.testing.assert_close(twin.hidden[name][: len(block)], block, atol=1e-5, rtol=1e-5)
        assert not twin.hidden[name][len(block) :].any()


def test_a_permutation_keeps_every_neuron(own, twins):
    twin = twins["permuted"]
    assert torch.equal(twin.logits, own.logits) and torch.equal(twin.embedding, twin.last)
    for name, block in own.hidden.items():
        assert torch.equal(twin.hidden[name].sort(dim=1).values, block.sort(dim=1).values)
        assert not torch.equal(twin.hidden[name], block)


def test_a_network_with_another_embedding_is_not_permuted(images):
    look = scores.observe(models.SmallResNet(in_channels=1, size=28, width=0.5), images)
    with pytest.raises(ValueError, match="embedding"):
        scale.permuted(look)


def test_rows_agree_with_each_other(own):
    table = pd.DataFrame(scale.rows(own, network="fresh"))
    assert list(table["rank"]) == list(scores.RANKS) and set(scale.SCORES) < set(table)
    rmse = table["size"] * table["relative_error"]
    assert list(rmse) == pytest.approx(list(table["rmse"]), rel=1e-4)
    assert table["rmse"].mean() == pytest.approx(table["rmse_area"][0])
    for name in own.inputs | own.hidden:
        assert (table[f"unit error of {name}"] >= table[f"floor of {name}"] - 1e-4).all()


def test_a_dead_layer_has_rows(own):
    dead = {name: torch.zeros_like(block) for name, block in own.hidden.items()}
    look = replace(own, hidden=dead, embedding=dead["relu2"])
    table = pd.DataFrame(scale.rows(look))
    assert (table["floor of relu2"] == 0).all() and (table["size of relu2"] == 0).all()
    assert table.notna().all(axis=None)


@pytest.fixture(scope="module")
def table():
    return evidence.table("rank_or_scale")


@pytest.fixture(scope="module")
def asis(table):
    return table[(table.control == "none") & (table["images"] == table["images"].max())]


def test_the_table_has_every_network_and_twin_once(table):
    key = ["network", "seed", "control", "images", "rank"]
    assert not table.duplicated(key).any() and set(table.network) == set(scale.KINDS)
    plain = table[table.control == "none"].drop_duplicates(key[:-1])
    assert len(plain) == len(scale.KINDS) * table.seed.nunique() * 2
    twins = table[table.control != "none"].drop_duplicates(key[:-1])
    assert len(twins) == 3 * len(scale.CONTROLLED)


def test_the_table_keeps_the_laws(table, asis):
    assert (table["size"] * table.relative_error - table.rmse).abs().max() < 1e-4
    for name in ("input", "relu1", "relu2"):
        assert (table[f"unit error of {name}"] >= table[f"floor of {name}"] - 1e-3).all()
    first = asis[asis.seed == 0].set_index(["network", "rank"])
    scaled = table[table.control == "rescaled"].set_index(["network", "rank"])
    for name in EXACT:
        assert (scaled[name] / first.loc[scaled.index, name] - 1).abs().max() < 1e-4


def test_what_chapter_13_says_holds_for_the_table(table, asis):
    """The page draws numbers from the table; these are the sentences."""
    assert table[["converged", "unit converged"]].all(axis=None)
    assert table[["kkt", "unit kkt"]].max(axis=None) < 0.02
    once = asis.drop_duplicates(["network", "seed"]).set_index(["network", "seed"])
    poor = ["little data", "class order", "untrained"]
    assert once.accuracy["good"].min() > once.accuracy[poor].max()
    means = once.groupby(level=0)[["size of relu1", "size of relu2"]].mean()
    for column in means:
        assert means.loc[["good", "little data", "untrained"], column].is_monotonic_decreasing
    assert (once["size of relu2"]["class order"] < 0.001).all()
    error = asis.groupby(["network", "rank"])[["rmse", "relative_error"]].mean().unstack("network")
    assert (error["rmse"]["class order"] == error["rmse"].min(axis=1)).all()
    highest = error["relative_error"][["good", *poor]].max(axis=1)
    assert (error["relative_error"]["class order"] == highest).all()


def test_shares_of_size_in_chapter_13(asis):
    logs = np.log(asis.set_index(["network", "seed", "rank"])[["rmse", "size"]])
    share = {}
    for kind in ("untrained", "class order", "little data"):
        gap = logs.loc["good"] - logs.loc[kind]
        share[kind] = (gap["size"] / gap["rmse"]).mean()
    assert share["untrained"] > 0.95 and share["class order"] > 1
    assert 0.35 < share["little data"] < 0.6


def test_blocks_of_chapter_13(asis):
    at = asis[asis["rank"] == 16].groupby("network").mean(numeric_only=True)
    ratio = pd.DataFrame()
    for name in ("input", "relu1", "relu2"):
        error = at[f"unit error of {name}"]
        ratio[name] = error["good"] / error
    for kind in ("untrained", "little data"):
        assert ratio.loc[kind].idxmax() == "relu2"
    assert ratio.loc["untrained", "relu2"] > 1.5 and ratio.loc["untrained", "relu1"] < 1.2
    assert at["floor of relu2"]["good"] > 1.3 * at["floor of relu2"]["untrained"]
    assert at["entropy rank of relu1"]["untrained"] > at["entropy rank of relu1"]["good"]


@pytest.fixture(scope="module")
def values(table):
    """(network, seed, control, images) × scores, larger is better."""
    key = ["network", "seed", "control", "images"]
    once = table.drop_duplicates(key).set_index(key)[list(scale.SCORES)]
    return once * pd.Series({name: score.better for name, score in scale.SCORES.items()})


def test_one_score_stands_by_the_rule_of_chapter_13(values):
    own = values.xs(("none", 500), level=["control", "images"])
    few = values.xs(("none", 100), level=["control", "images"])
    change = values.xs((0, 500), level=["seed", "images"]).unstack("control").dropna()
    once = change.xs("none", axis=1, level="control")
    change = change.sub(once, level=0).div(once, level=0).abs()
    apart = change.xs("permuted", axis=1, level="control").loc["good"]
    rest = pd.Series(True, index=values.columns)
    for control in ("rescaled", "dead units"):  # keeps still
        rest &= change.xs(control, axis=1, level="control").max() <= 0.01
    poor = ["little data", "class order", "untrained"]
    for some in (own, few):  # knows good from poor
        rest &= some.loc["good"].min() > some.loc[poor].max()
    assert list(rest.index[rest & (apart > 0.05)]) == ["last_block_area"]
    assert set(rest.index[rest & (apart > 0.01)]) == {"last_block_area", "stable_rank"}
    of_answers = {"answers_alone_area", "nuclear_norm", "confidence", "prediction_entropy"}
    assert set(apart.index[apart == 0]) >= of_answers


def test_who_is_fooled_in_chapter_13(table, values):
    own = values.xs(("none", 500), level=["control", "images"])
    above = own.loc[["half order", "random labels"]] >= own.loc["good"].min()
    fooled = above.groupby(level="network").sum()
    assert fooled.last_block_area.to_dict() == {"half order": 2, "random labels": 3}
    assert fooled.rmse_area["random labels"] == 3
    never = {name for name in fooled if not fooled[name].any()}
    assert never == {"answers_area", "nuclear_norm", "confidence", "prediction_entropy"}
    assert table[table.network == "random labels"].train_accuracy.min() > 0.9
