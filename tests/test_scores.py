"""Scores against values known by heart, what must leave them alone, and networks that are dead."""

import copy
import math
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from peeklib import models, scores
from peeklib.study.scores import SCORES, Score, Seen, observe, table, unit_norm

NEEDS_NO_PACKAGE = {name: one for name, one in SCORES.items() if name not in ("alpha", "alpha_hat")}


@pytest.fixture(scope="module")
def images():
    return torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return models.MLP(size=12, width=0.25)


@pytest.fixture(scope="module")
def seen(model, images):
    return observe(model, images)


def outputs(logits):
    """A `Seen` of which only the logits are used."""
    return Seen(None, None, {}, {}, None, torch.as_tensor(logits, dtype=torch.float32))


def hidden(block):
    """A `Seen` of which only the last block, which is the embedding too, is used."""
    block = torch.as_tensor(block, dtype=torch.float32)
    return Seen(None, None, {}, {"relu": block}, block, None)


def test_what_is_observed(model, images, seen):
    shapes = {name: block.shape for name, block in seen.hidden.items()}
    assert shapes == {"relu1": (32, 60), "relu2": (32, 60)}
    assert seen.inputs["input"].shape == (144, 60) and seen.last is seen.hidden["relu2"]
    with torch.no_grad():
        torch.testing.assert_close(seen.logits, model(images))
    assert seen.probabilities.sum(1).allclose(torch.ones(60, dtype=torch.float64))


def test_the_network_is_left_as_it_was(images):
    model = models.SmallResNet(size=12, width=0.25).train()
    before = copy.deepcopy(model.state_dict())
    table(model, images)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_outputs_that_are_no_logits_cost_the_scores_of_answers_alone(images):
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(144, 1))
    rows = table(model, images).set_index("score")
    assert "(60, 1)" in rows.why["confidence"] and "(60, 1)" in rows.why["answers_area"]
    assert rows.value[["rmse_area", "entropy_rank", "weight_norm"]].notna().all()


def test_hidden_layers_that_nobody_can_see_cost_the_scores_of_them_alone(images):
    rows = table(nn.Sequential(nn.Flatten()), images).set_index("score")
    assert "no activation" in rows.why["rmse_area"] and "no activation" in rows.why["rankme"]
    assert rows.value[["confidence", "nuclear_norm"]].notna().all()


def test_a_last_layer_kept_in_part_has_no_robustness(model, images):
    rows = table(model, images, memory=1e-4).set_index("score")
    assert "memory" in rows.why["nmf_robustness"] and math.isnan(rows.value["nmf_robustness"])
    assert rows.value[["last_block_area", "answers_area"]].notna().all()


def test_a_functional_network_scores_as_one_of_modules(images):
    class Functional(nn.Module):
        def __init__(self, one, two):
            super().__init__()
            self.one, self.two = one, two

        def forward(self, x):
            return self.two(torch.relu(self.one(x.flatten(1))))

    one, two = nn.Linear(144, 8), nn.Linear(8, 3)
    modules = table(nn.Sequential(nn.Flatten(), one, nn.ReLU(), two), images)
    functions = table(Functional(one, two), images)
    assert np.allclose(modules.value, functions.value, rtol=1e-3, equal_nan=True)


def test_every_score_is_documented_and_has_a_direction(seen):
    rows = table(seen.model, seen.images).set_index("score")
    assert list(rows.index) == list(SCORES) and rows.value.map(math.isfinite).all()
    assert set(rows.family) == {"factorization", "spectrum", "outputs", "weights"}
    assert rows.says.str.endswith(".").all() and rows.says.is_unique
    words = {1: "Larger is better", -1: "Smaller is better"}
    for score in SCORES.values():
        assert words[score.better] in score.compute.__doc__, score.name


def test_unit_norm_blocks_have_one_norm_and_root_mean_square_one():
    given = {"a": torch.rand(5, 9), "b": 100 * torch.rand(20, 9)}
    blocks = unit_norm(given)
    assert blocks["a"].norm() == pytest.approx(blocks["b"].norm())
    assert torch.cat(list(blocks.values())).square().mean() == pytest.approx(1)
    assert not unit_norm(given | {"dead": torch.zeros(3, 9)})["dead"].any()


@pytest.mark.parametrize(
    ("name", "sure", "unsure"),
    [("nuclear_norm", 1, 0.1), ("confidence", 1, 0.1), ("prediction_entropy", 0, math.log(10))],
)
def test_outputs_by_heart(name, sure, unsure):
    """50 images, five of each class: certain, and at a loss."""
    assert SCORES[name](outputs(1000 * torch.eye(10).repeat(5, 1))) == pytest.approx(sure, abs=1e-6)
    assert SCORES[name](outputs(torch.zeros(50, 10))) == pytest.approx(unsure, abs=1e-6)


def test_giving_up_classes_costs_nuclear_norm_and_not_confidence():
    few = outputs(1000 * torch.eye(10)[:2].repeat(25, 1))
    assert SCORES["confidence"](few) == pytest.approx(1)
    assert SCORES["nuclear_norm"](few) == pytest.approx(2 * 25**0.5 / (10 * 50) ** 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rankme", 8), ("entropy_rank", 8), ("stable_rank", 8), ("participation_ratio", 7)],
)
def test_ranks_by_heart(name, value):
    """Eight equal singular values; taking off the mean takes one direction away."""
    assert SCORES[name](hidden(torch.eye(8).repeat(1, 5))) == pytest.approx(value, rel=1e-5)


def test_the_gap_between_nmf_and_svd():
    one_part = torch.outer(torch.arange(1.0, 17), torch.arange(1.0, 33))
    assert SCORES["nmf_svd_gap"](hidden(one_part)) == pytest.approx(0, abs=1e-3)
    signed = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)).clamp(min=0)
    assert SCORES["nmf_svd_gap"](hidden(signed)) > 0.01


def test_answers_area_sees_what_the_outputs_can_tell_apart(seen):
    def area(logits):
        return SCORES["answers_area"](replace(seen, logits=logits))

    many, two = 20 * torch.eye(10).repeat(6, 1), 20 * torch.eye(10)[:2].repeat(30, 1)
    constant = torch.zeros(60, 10)
    assert area(many) > area(two) + 0.1 and area(two) > area(constant)


def test_predictions_survive_a_rank_that_tells_them_apart(images):
    """The last layer has one neuron for each answer: rank 1 keeps one answer, rank 2 both."""

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            side = (x.flatten(1)[:, :1] > 0.2).float()  # mostly the first answer
            return self.relu(torch.cat([side, 1 - side], dim=1)) * 3

    seen = observe(Halves(), images)
    common = seen.logits.argmax(1).bincount().max().item() / len(images)
    ranks_1_and_2 = (common + 1) / 2  # two neurons allow no more
    assert SCORES["nmf_robustness"](seen) == pytest.approx(ranks_1_and_2)


def test_a_shared_relu_is_replaced_at_its_last_call(images):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.relu = nn.Linear(144, 8), nn.Linear(8, 5), nn.ReLU()
            self.out = nn.Linear(5, 3)

        def forward(self, x):
            return self.out(self.relu(self.two(self.relu(self.one(x.flatten(1))))))

    torch.manual_seed(0)
    seen = observe(Shared(), images)
    assert list(seen.hidden) == ["relu", "relu:2"]
    assert torch.equal(seen.embedding, seen.hidden["relu:2"])
    changed = seen.logits_given(2 * seen.last)
    torch.testing.assert_close(changed, 2 * seen.logits - seen.model.out.bias.detach())


# what death of the last hidden layer may improve: scores of outputs and weights, and what looks at the rest
BLIND = {
    "nmf_svd_gap",
    "nmf_robustness",
    "unit_norm_area",
    "weight_norm",
    "prediction_entropy",
    "confidence",
    "nuclear_norm",
}
UNCHANGED = (
    "unit_norm_area",
    "last_block_area",
    "rankme",
    "stable_rank",
    "nuclear_norm",
    "answers_area",
)


def test_a_rescaled_layer_is_the_same_function(model, images, seen):
    """relu1 ten times larger, the next weights ten times smaller."""
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.fc1.weight *= 10
        scaled.fc1.bias *= 10
        scaled.fc2.weight /= 10
    other = observe(scaled, images)
    torch.testing.assert_close(other.logits, seen.logits)
    for name in UNCHANGED:
        assert SCORES[name](other) == pytest.approx(SCORES[name](seen), rel=2e-2), name
    assert SCORES["rmse_area"](other) > 2 * SCORES["rmse_area"](seen)


def test_the_embedding_comes_after_pooling(images):
    seen = observe(models.SmallResNet(size=12, width=0.5), images)
    assert seen.embedding.shape == (16, 60) and seen.last.shape == (16 * 9, 60)
    torch.testing.assert_close(seen.embedding, seen.last.reshape(16, 9, 60).mean(dim=1))


def test_a_layer_whose_tail_cannot_be_fitted_does_not_count(images):
    """WeightWatcher says −1 for it, which would be the best there is."""
    model = models.PaperCNN(size=16)
    with torch.no_grad():
        model.fc.weight[:] = torch.outer(torch.ones(10), torch.ones(model.fc.in_features))
    images = torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    layers = observe(model, images).weightwatcher
    assert set(layers["longname"]) == {"conv1", "conv2"} and layers["alpha"].min() > 1


@pytest.mark.parametrize("name", NEEDS_NO_PACKAGE)
def test_a_dead_network_has_a_score(name, images, seen):
    dead = models.MLP(size=12, width=0.25)
    with torch.no_grad():
        dead.fc2.weight.zero_()
        dead.fc2.bias.fill_(-1)
    score = SCORES[name]
    value = score(observe(dead, images))
    assert math.isfinite(value)
    if name not in BLIND:
        assert score.better * value <= score.better * score(seen)


def test_weightwatcher_is_asked_for(monkeypatch, model, images):
    monkeypatch.setitem(sys.modules, "weightwatcher", None)
    with pytest.raises(ImportError, match="pip install weightwatcher"):
        SCORES["alpha"](observe(model, images))


def test_a_score_that_cannot_be_computed_costs_no_other(monkeypatch, model, images):
    whole = table(model, images).set_index("score")
    monkeypatch.setitem(sys.modules, "weightwatcher", None)
    rows = table(model, images).set_index("score")
    lost = ["alpha", "alpha_hat"]
    assert rows.value[lost].isna().all()
    assert rows.why[lost].str.contains("pip install weightwatcher").all()
    others = rows.drop(lost)
    assert (others.why == "").all()
    pd.testing.assert_series_equal(others.value, whole.value.drop(lost))


def test_a_network_too_small_for_weightwatcher_has_its_other_scores(images):
    pytest.importorskip("weightwatcher")
    tiny = nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 3))
    rows = table(tiny, images).set_index("score")
    lost = ["alpha", "alpha_hat"]
    assert rows.why[lost].str.contains("no layer with at least 8 eigenvalues").all()
    assert (rows.why.drop(lost) == "").all() and rows.value.drop(lost).notna().all()


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, torch.linalg.LinAlgError])
def test_what_a_score_may_raise_is_its_reason(monkeypatch, model, images, error):
    def hard(seen):
        """Not for this network."""
        raise error("too small")

    monkeypatch.setattr(scores, "SCORES", {"hard": Score(hard, +1, "outputs")})
    rows = table(model, images)
    assert rows.value.isna().all() and rows.why.tolist() == [f"{error.__name__}: too small"]


@pytest.mark.parametrize("error", [TypeError, KeyError, AttributeError, RuntimeError])
def test_a_mistake_in_a_score_comes_through(monkeypatch, model, images, error):
    def wrong(seen):
        """Not what was meant."""
        raise error("a mistake")

    monkeypatch.setattr(scores, "SCORES", {"wrong": Score(wrong, +1, "outputs")})
    with pytest.raises(error, match="a mistake"):
        table(model, images)


def test_a_score_without_a_number_says_so(monkeypatch, model, images):
    def none(seen):
        """A mean of no layers."""
        return math.nan

    monkeypatch.setattr(scores, "SCORES", {"none": Score(none, +1, "outputs")})
    assert table(model, images).why.tolist() == ["no number came out"]
