"""The studies of the paper's network: what it is trained on, and what rescaling must not move."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import peeklib as pk
from peeklib.course.studies import common, mnist, neighbours, neurons, shapes, uneven


@pytest.fixture(scope="module")
def data():
    whole = pk.load_dataset("digits")
    few = pk.Split(whole.test.images[:200], whole.test.labels[:200])
    return replace(whole, train=pk.subset(whole, fraction=0.02, seed=0), test=few)


def test_a_setting_says_what_is_trained_on(data):
    labels = {
        name: mnist.training_images(data, name, 0).labels
        for name in ("25%", "100%", "{0–4}", "ordered")
    }
    assert len(labels["25%"]) * 4 == len(labels["100%"]) == len(data.train.labels)
    assert set(labels["{0–4}"].tolist()) == set(range(5))
    seen = labels["ordered"].unique_consecutive()
    assert seen.tolist() == [digit for digit in mnist.ORDER if digit in labels["100%"]]


def test_controls_have_as_many_images_and_labels_that_mean_nothing(data):
    few, alike = (mnist.training_images(data, name, 0) for name in ("{0–4}", "as many as {0–4}"))
    assert len(few.labels) == len(alike.labels) and set(alike.labels.tolist()) == set(range(10))
    true, shuffled = (mnist.training_images(data, name, 0) for name in ("25%", "shuffled labels"))
    assert torch.equal(true.images, shuffled.images)
    assert not torch.equal(true.labels, shuffled.labels)
    assert torch.equal(true.labels.sort().values, shuffled.labels.sort().values)


def test_mnist_has_as_many_images_as_it_says():
    assert sum(mnist.COUNTS["train"]) == 60_000 and sum(mnist.COUNTS["test"]) == 10_000


def test_an_even_say_weighs_blocks_by_their_energy_and_a_dead_one_too(data):
    one = mnist.case(data, "untrained", 0)
    energy = {name: float(block.square().sum()) for name, block in one.blocks.items()}
    assert one.even.weights == pytest.approx({name: 1 / value for name, value in energy.items()})
    dead = replace(one, blocks={**one.blocks, "relu2": torch.zeros_like(one.blocks["relu2"])})
    found = mnist.facts(dead) | mnist.deep_facts(dead)
    assert found["size of relu2"] == 0
    assert math.isnan(found["entropy rank of relu2"])


def test_a_row_for_each_rank_and_the_same_facts(data):
    rows = list(mnist.rows(mnist.case(data, "untrained", 1)))
    assert [row["rank"] for row in rows] == list(mnist.RANKS)
    assert len({row["accuracy"] for row in rows}) == 1
    (control,) = mnist.rows(mnist.case(data, "shuffled labels", 1))
    assert control["rank"] == 30


FACTORS = torch.linspace(0.1, 1.1, 20)


@pytest.mark.parametrize(
    "rescale",
    [lambda m: common.rescale(m, 16), lambda m: neighbours.rescale_channels(m, FACTORS)],
)
def test_rescaled_networks_give_the_same_answers(data, rescale):
    model = pk.models.PaperCNN(seed=0).double()
    x = pk.to_float(data.test.images).double()
    with torch.no_grad():
        torch.testing.assert_close(rescale(model).double()(x), model(x))


def test_rescaling_moves_the_layers(data):
    model = pk.models.PaperCNN(seed=0)
    before, after = (pk.record(m, data.test.images) for m in (model, common.rescale(model, 16)))
    for layer in before:
        torch.testing.assert_close(after[layer], 16 * before[layer], rtol=1e-4, atol=1e-4)


def test_shared_neurons_are_counted():
    sets = torch.zeros(10, 6, dtype=torch.bool)
    sets[1, :3], sets[0, 2:4] = True, True
    row = next(neurons.shared(sets))
    assert row == {"digit": 1, "other": 0, "both": 1, "of digit": 3, "of other": 2, "of any": 4}


def test_half_of_a_sum():
    assert shapes.half(torch.tensor([1.0, 5.0, 1.0, 1.0])) == 1
    assert shapes.half(torch.ones(4)) == 2


def test_a_position_is_a_column():
    block = torch.arange(24.0).reshape(8, 3)  # 2 channels × 4 positions, 3 images
    moved = neighbours.by_position(block, 2)
    assert moved.shape == (2, 12) and torch.equal(moved[0], block[:4].flatten())


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_make_up_three_fifths_of_uneven_images(seed):
    labels = torch.arange(2_000) % 10
    even, other = (uneven.draw(labels, kind, seed) for kind in uneven.KINDS)
    assert labels[even].bincount().tolist() == [50] * 10
    counts = labels[other].bincount()
    assert len(other.unique()) == 500 and counts[list(uneven.PAIRS[seed])].tolist() == [150, 150]
    assert Counter(counts.tolist()) == {150: 2, 25: 8}
    assert torch.equal(other, uneven.draw(labels, "uneven", seed))


def test_every_class_is_frequent_once():
    assert sorted(sum(uneven.PAIRS, ())) == list(range(10))


def test_too_few_images_of_a_class_to_draw_from():
    with pytest.raises(ValueError, match=r"class 0 has 20 images, 150 .* lower count"):
        uneven.draw(torch.arange(200) % 10, "uneven", seed=0)


def test_uneven_networks_are_the_zoos_on_other_images():
    found = uneven.recipes()
    assert len({recipe.name for recipe in found}) == len(found) == 64
    assert {recipe.data for recipe in found} == {"digits-rgb"}
    assert {recipe.factor for recipe in found} >= {*pk.zoo.FACTORS, "noise", "untrained"}


def test_a_network_is_scored_on_even_and_on_uneven_images():
    recipe = pk.zoo.Recipe("digits-rgb", "mlp", factor="untrained", epochs=0)
    first, second = uneven.rows(recipe, seeds=[0], count=100)
    assert (first["images"], second["images"]) == uneven.KINDS
    assert first["accuracy"] == second["accuracy"]
    assert not {*uneven.SCORES, uneven.HERE} - first.keys()
    assert first["confidence"] != second["confidence"]


@pytest.fixture
def networks():
    """Six networks, whose answers_area is right on even images and turned round on uneven ones."""
    truth = np.linspace(0.2, 0.9, 6)
    common = {"data": "d", "architecture": "a", "network": list("uvwxyz"), "accuracy": truth}
    common |= {uneven.HERE: truth, "nuclear_norm": truth}
    parts = []
    for seed in (0, 1):
        for images, way in (("even", 1), ("uneven", -1)):
            mine = {"seed": seed, "images": images, "answers_area": way * truth}
            parts.append(pd.DataFrame(common | mine))
    return pd.concat(parts, ignore_index=True)


def test_a_score_that_turns_round_meets_the_criterion(networks):
    found = uneven.criterion(networks, draws=50)
    assert found.value.tolist() == pytest.approx([2, 2, 2]) and found.holds.all()


def test_a_score_that_does_not_care_fails_it(networks):
    found = uneven.criterion(networks.assign(answers_area=networks.accuracy), draws=50)
    assert found.value.tolist() == pytest.approx([0, 0, 0]) and not found.holds.any()


def test_smaller_is_better_is_turned_round(networks):
    one = networks.assign(prediction_entropy=-networks.accuracy)
    counts = uneven.networks(one, draws=1)[:1]
    assert uneven.tau(one, "prediction_entropy", "even", counts) == pytest.approx([1])
