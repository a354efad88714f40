"""The small CaffeNet: its layers are those of CaffeNet; what is measured of places and variances."""

import numpy as np
import pytest
import torch
from torch import nn

import peeklib as pk
from peeklib.course import caffenet
from peeklib.course.caffenet import SmallCaffeNet, train_caffenet
from peeklib.course.studies import caffenet as study
from peeklib.course.studies.sayings import by_a_line, three_tops


@pytest.fixture(scope="module")
def subject():
    images = torch.randint(
        256, (20, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    split = pk.Split(images, torch.arange(20) % 10)
    data = pk.Dataset("noise", split, split, tuple("0123456789"), "made up")
    one = pk.subjects.cifar(SmallCaffeNet(width=0.5), data, only_correct=False)
    return one._replace(layers={layer: layer for layer in study.LAYERS}).recorded()


def test_layers_have_as_many_places_as_caffenet(subject):
    shapes = [subject.shape(layer) for layer in subject.layers]
    assert [shape[1] for shape in shapes if len(shape) == 3] == [27, 13, 13, 13, 6]
    assert shapes[5:] == [(192,), (192,), (10,)]


def test_responses_are_normalized_as_pytorch_does_it():
    x = 3 * torch.rand(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    theirs = nn.LocalResponseNorm(5, alpha=1e-4 * caffenet.GREY**2)(x)
    assert torch.allclose(caffenet._ResponseNorm(8)(x), theirs, atol=1e-6)
    assert not torch.allclose(theirs, x, atol=0.1), "it does something"


def test_training_goes_on_after_the_last_epoch_that_was_kept(monkeypatch, tmp_path, subject):
    monkeypatch.setenv("PEEK_CACHE", str(tmp_path))
    part = subject.images[:8], subject.labels[:8]
    once = train_caffenet(SmallCaffeNet(width=0.5), *part, rates=(0.01,))
    twice = train_caffenet(SmallCaffeNet(width=0.5), *part, rates=(0.01, 0.02))
    assert len(list(tmp_path.glob("train.*"))) == 2, "the first epoch was read"
    assert not torch.equal(once.fc8.weight, twice.fc8.weight)


def test_every_layer_is_measured(subject):
    for layer in ("norm1", "pool5", "relu6"):
        raw, maps = subject.activations(layer), subject.shape(layer)
        found = study.values(raw, maps, subject.labels) | study.variances(raw, subject.labels)
        assert 2 <= found["elbow"] <= 15 and 0 < found["error of 8"] < 1
        assert 0 <= found["below 0.5"] <= 1
        if len(maps) == 3:
            assert 0 < found["places of singular"] <= 1
        if layer in study.AFTER:
            fed = study.feeding(raw, subject, *study.AFTER[layer])
            assert 0.5 < fed["weight of low variance"] < 2


def test_neighbours_that_agree_are_told_from_strangers():
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(3, 4, 1, 50, generator=draw).expand(3, 4, 5, 50)  # along a row all agree
    found = study.between_places(rows.reshape(60, 50), (3, 4, 5))
    assert found["correlation, next"] == pytest.approx(1) and found["overlap, next"] == 1
    assert found["correlation, opposite"] == pytest.approx(1)
    assert abs(found["correlation, other channel"]) < 0.5 > found["overlap, other channel"]


def test_places_and_elbows_of_made_up_directions():
    everywhere = torch.ones(18) / 18**0.5
    assert study.places(everywhere, (2, 3, 3)) == pytest.approx(1)
    assert study.elbow(np.array([8.0, 7.0, 1.0, 0.5, 0.0])) == 3


def test_classes_that_no_line_separates():
    labels = torch.arange(10).repeat(40)
    draw = torch.Generator().manual_seed(0)
    assert by_a_line(torch.rand(5, 400, generator=draw), labels) < 0.3
    assert three_tops(torch.eye(10)[:, [1, 1]] + 0.1, labels[:10])["0, 6 and 9"] == 0
