"""Tensors at equal rank and size: pieces of the study, and what chapter 15 says of its tables."""

import numpy as np
import pytest
import torch

from peeklib import evidence
from peeklib.course.studies import higher_order as study
from peeklib.tensors import coupled_ntf


@pytest.fixture(scope="module")
def blocks():
    generator = torch.Generator().manual_seed(0)
    sizes = study.SHAPES["matrix"].items()
    return {name: torch.rand(*shape, 20, generator=generator) for name, shape in sizes}


def test_every_model_holds_the_same_numbers(blocks):
    for model in study.ALL:
        for name, block in study.shaped(blocks, model).items():
            assert torch.equal(block.flatten(0, -2), blocks[name])
    channels = study.shaped(blocks, "channel × place")["relu1"]
    assert torch.equal(channels.unflatten(1, (12, 12)), study.shaped(blocks, "CP")["relu1"])


def test_equal_size_is_as_near_as_a_rank_can_be(blocks):
    for model in study.SHAPES:
        rank = study.equal_size(model, 4, 20)
        size = coupled_ntf(study.shaped(blocks, model), rank, max_iter=1).parameters
        assert size == rank * (study.length(model) + 20)
        assert abs(size - 4 * (study.length("matrix") + 20)) <= (study.length(model) + 20) / 2


def test_a_shuffle_moves_places_alike_in_all_channels(blocks):
    places, neurons = (study.shuffled(blocks, what, 1) for what in study.SHUFFLES)
    for name, block in blocks.items():
        assert torch.equal(places[name].sort(dim=0).values, block.sort(dim=0).values)
        assert torch.equal(neurons[name].sort(dim=0).values, block.sort(dim=0).values)
        channels = study.MAPS[name][0]
        means = [one.unflatten(0, (channels, -1)).mean(dim=1) for one in (places[name], block)]
        torch.testing.assert_close(*means)
    assert not torch.equal(neurons["input"], blocks["input"])


def test_a_fit_agrees_with_itself_in_any_order(blocks):
    found = coupled_ntf(study.shaped(blocks, "matrix"), 3, max_iter=5)
    assert study.agreement(found, found) == pytest.approx(1)
    other = coupled_ntf(study.shaped(blocks, "matrix"), 3, max_iter=5, seed=1)
    assert study.agreement(found, other) == pytest.approx(study.agreement(other, found))


def test_new_images_of_the_fit_have_its_error(blocks):
    found = coupled_ntf(study.shaped(blocks, "CP"), 3, max_iter=100, tol=1e-7)
    assert study.new_error(found, blocks, "CP") == pytest.approx(found.relative_error, rel=0.01)


def test_no_setting_is_there_twice():
    settings = [tuple(which.items()) for which in study.settings()]
    assert len(settings) == len(set(settings))
    assert study.rank_of({"equal": "rank", "base": 7}) == 7


@pytest.fixture(scope="module")
def table():
    return evidence.table("higher_order")


@pytest.fixture(scope="module")
def plain(table):
    return table[table.shuffle == "none"]


def mean(part, column, *by):
    return part.groupby(list(by))[column].mean().unstack()


def test_the_table_has_every_setting(table):
    varied = ["equal", "base", "images", "shuffle", "model"]
    asked = {tuple(which[name] for name in varied) for which in study.settings()}
    held = table[varied].itertuples(index=False, name=None)
    assert set(held) == asked and len(table) == len(asked) * table.seed.nunique()
    assert table.converged.mean() > 0.95


def test_order_at_equal_rank_and_size(plain):
    part = plain[(plain.images == study.COUNT) & plain.model.isin(study.SHAPES)]
    rank = mean(part[part.equal == "rank"], "relative_error", "base", "model")
    size = mean(part[part.equal == "size"], "relative_error", "base", "model")
    assert (rank["matrix"] < rank["channel × place"]).all()
    assert (rank["channel × place"] < rank["CP"]).all()
    assert (size["CP"] < size["matrix"]).all()
    assert (size["matrix"] < size["channel × place"]).all()
    spread = part.groupby(["equal", "base", "model"])["relative_error"].agg(["min", "max"])
    assert (spread["max"] / spread["min"] - 1).max() <= 0.015


def test_what_the_mixtures_say(plain):
    ten = plain[(plain.images == study.COUNT) & (plain.base == 10)]
    size = ten[ten.equal == "size"].groupby("model").mean(numeric_only=True)
    way = size.relative_error["matrix"] - size.relative_error
    assert way["tiles, free layers"] > 0.5 * way["CP"]
    assert abs(way["tiles, channel × place"] / way["CP"] - 1) < 0.15
    assert size["error of input"]["tiles, free layers"] > size["error of input"]["matrix"]
    assert size["error of input"].idxmin() == "CP" and size["error of relu1"].idxmin() != "CP"
    rank = ten[ten.equal == "rank"].groupby("model").relative_error.mean()
    assert rank["tiles, free layers"] < 1.02 * rank["matrix"]


def test_more_images_favour_the_matrix_model(plain):
    part = plain[(plain.base == 10) & plain.model.isin(study.SHAPES)]
    size = mean(part[part.equal == "size"], "relative_error", "images", "model")
    curve = plain[(plain.model == "CP") & (plain.images == study.COUNT)]
    curve = curve.groupby("rank").relative_error.mean()
    needed = np.interp(-size["matrix"][study.COUNT], -curve.to_numpy(), curve.index)
    even = (10 * study.length("matrix") - needed * study.length("CP")) / (needed - 10)
    fewer = [count for count in study.COUNTS if count < even]
    assert list(size.index[size["CP"] < size["matrix"]]) == fewer
    assert (size["channel × place"] > size[["matrix", "CP"]].max(axis=1)).all()
    new = mean(part[part.equal == "rank"], "new_error", "images", "model")
    assert (new.idxmin(axis=1) == "matrix").all()
    more = new / mean(part[part.equal == "rank"], "relative_error", "images", "model") - 1
    assert (more["matrix"] > more[["channel × place", "CP"]].max(axis=1)).all()


def test_only_models_with_a_layout_mind_a_shuffle(table):
    part = table[(table.equal == "size") & (table.base == 10) & (table.images == study.COUNT)]
    error = mean(part[part.model.isin(study.SHAPES)], "relative_error", "model", "shuffle")
    lost = error.div(error["none"], axis=0) - 1
    assert lost.loc["matrix"].abs().max() < 0.01
    assert abs(lost.loc["channel × place", "places"]) < 0.01
    assert lost.loc["channel × place", "neurons"] > 0.05 and lost.loc["CP", "places"] > 0.05
    shuffled = error[["places", "neurons"]]
    assert (shuffled.loc["CP"] > shuffled.loc["matrix"]).all()


def test_starts_of_cp_agree_no_better(plain):
    part = plain[(plain.images == study.COUNT) & (plain.base == 10)]
    part = part[part.model.isin(study.SHAPES)]
    agreement = part.groupby(["equal", "model"])["agreement"].agg(["min", "max", "mean"])
    for equal in ("rank", "size"):
        found = agreement.loc[equal]
        assert found["min"].max() < found["max"].min()
        assert found["mean"]["CP"] < found["mean"]["matrix"]


def test_both_programs_reach_one_error():
    table = evidence.table("libraries")
    best = table.groupby(["model", "program"]).relative_error.min()
    assert best["CP", "ours"] == pytest.approx(best["CP", "TensorLy"], rel=0.01)
    assert best["Tucker", "TensorLy"] < best["CP, larger", "ours"]
    size = table.drop_duplicates("model").set_index("model").numbers
    assert size["CP, larger"] == pytest.approx(size["Tucker"], rel=0.05)
