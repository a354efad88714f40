"""Directions: unit vectors of one type, against scikit-learn and by hand; their ends' images."""

import math

import pytest
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

import peeklib as pk
from peeklib import directions, solvers


def activations(neurons=40, images=200, seed=0):
    """Of low rank plus noise, non-negative; neuron 3 is dead."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.rand(neurons, 5, generator=generator) ** 3
    right = torch.rand(5, images, generator=generator) ** 3
    X = left @ right + 0.01 * torch.rand(neurons, images, generator=generator)
    X[3] = 0
    return X


PHI = activations()
KINDS = {
    "neurons": lambda: directions.neurons(PHI, 6, layer="relu"),
    "random neurons": lambda: directions.neurons(PHI, 6, select="random", layer="relu"),
    "random": lambda: directions.random(PHI, 6, layer="relu"),
    "singular": lambda: directions.singular(PHI, 6, layer="relu"),
    "nmf": lambda: directions.nmf(PHI, 4, layer="relu"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_unit_vectors_of_one_type_strongest_first(kind):
    found = KINDS[kind]()
    assert all(isinstance(one, directions.Direction) and one.layer == "relu" for one in found)
    lengths = torch.stack([one.vector.norm() for one in found])
    assert torch.allclose(lengths, torch.ones(len(found)), atol=1e-5)
    assert len({one.name for one in found}) == len(found)
    if kind != "random neurons":
        scales = [one.scale for one in found]
        assert scales == sorted(scales, reverse=True) and scales[-1] > 0


@pytest.mark.parametrize("kind", ["neurons", "random neurons", "random", "singular"])
def test_scores_are_lengths_along_the_vector(kind):
    for one in KINDS[kind]():
        assert torch.allclose(one.scores, one.vector @ PHI, atol=1e-4)


def test_normalize_gives_every_image_mean_zero_and_variance_one():
    X = directions.normalize(PHI)
    assert torch.allclose(X.mean(dim=0), torch.zeros(200), atol=1e-6)
    assert torch.allclose(X.var(dim=0, correction=0), torch.ones(200), atol=1e-4)
    constant = directions.normalize(torch.tensor([[1.0, 0.1], [2.0, 0.1], [4.0, 0.1]]))
    assert torch.equal(constant[:, 1], torch.zeros(3)) and constant[:, 0].isfinite().all()


def test_neurons_are_those_of_largest_variance_and_never_dead():
    best = PHI.var(dim=1).argsort(descending=True)[:6].tolist()
    assert [one.name for one in directions.neurons(PHI, 6)] == [f"neuron {j}" for j in best]
    every = directions.neurons(PHI, 39, select="random")
    assert "neuron 3" not in {one.name for one in every} and len(every) == 39
    again = directions.neurons(PHI, 39, select="random")
    other = directions.neurons(PHI, 39, select="random", seed=1)
    assert [one.name for one in every] == [one.name for one in again] != [one.name for one in other]


def test_singular_agrees_with_scikit_learn():
    X = directions.normalize(PHI)
    U, S, Vt = randomized_svd(X.numpy(), 6, random_state=0)
    for k, one in enumerate(directions.singular(X, 6)):
        assert one.scale == pytest.approx(S[k], rel=1e-4)
        sign = math.copysign(1, float(U[:, k] @ one.vector.numpy()))
        assert torch.allclose(one.scores, torch.tensor(sign * S[k] * Vt[k]), atol=2e-3 * one.scale)


def test_singular_is_accurate_where_values_decay_slowly():
    X = torch.randn(120, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = torch.linalg.svdvals(X)[:5]
    found = torch.tensor([one.scale for one in directions.singular(X, 5)])
    assert torch.allclose(found.double(), exact, rtol=0.03)  # white noise, the hardest case
    signs = torch.stack([one.scores.pow(3).sum() for one in directions.singular(X, 5)])
    assert (signs >= 0).all()


def test_singular_takes_as_many_as_there_are():
    assert len(directions.singular(PHI[:4, :7], 4)) == 4
    with pytest.raises(ValueError, match=r"count is 5; there are 4 singular values"):
        directions.singular(PHI[:4, :7], 5)


def test_the_tail_keeps_the_random_directions_of_highest_variance():
    every, tail = directions.random(PHI, 200), directions.random(PHI, 10, tail=0.05)
    assert [one.name for one in tail] == [one.name for one in every[:10]]
    assert all(torch.equal(a.vector, b.vector) for a, b in zip(tail, every, strict=False))
    assert tail[-1].scale > directions.random(PHI, 10)[-1].scale


def test_nmf_takes_the_components_of_a_coupled_fit_in_the_order_of_the_layer():
    other = torch.rand(30, 200, generator=torch.Generator().manual_seed(5))
    fit = pk.coupled_nmf({"input": other, "relu": PHI}, 6)
    found = directions.nmf(PHI, 4, fit=fit, layer="relu")
    part = [torch.outer(one.vector * one.scale / one.scores.norm(), one.scores) for one in found]
    numbers = [int(one.name.split()[1]) - 1 for one in found]
    for k, matrix in zip(numbers, part, strict=True):
        exact = torch.outer(fit.factors["relu"][:, k], fit.image_factor[:, k])
        assert torch.allclose(matrix, exact, atol=1e-4)
    norms = fit.factors["relu"].norm(dim=0)
    assert numbers == norms.argsort(descending=True)[:4].tolist()


def test_an_interrupted_factorization_gives_no_directions(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(solvers.UPDATES, "auto", stop)
    with pytest.raises(KeyboardInterrupt):
        directions.nmf(PHI, 1)


@pytest.mark.parametrize("scale", [1e20, 1e-25])
@pytest.mark.parametrize("kind", ["neurons", "random", "singular"])
def test_directions_do_not_depend_on_the_unit_of_the_activations(kind, scale):
    find = getattr(directions, kind)
    for plain, scaled in zip(find(PHI, 3), find(PHI * scale, 3), strict=True):
        assert torch.allclose(scaled.vector, plain.vector, atol=1e-4)
        assert scaled.scale == pytest.approx(plain.scale * scale, rel=1e-5)
        assert torch.allclose(scaled.scores / scale, plain.scores, atol=1e-4)
    assert torch.allclose(directions.normalize(PHI * scale), directions.normalize(PHI), atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["neurons", "random", "singular", "nmf"])
def test_activations_of_half_precision_are_computed_with_in_float32(kind, precision):
    [found] = getattr(directions, kind)(PHI.to(precision), 1)
    assert found.vector.dtype == torch.float32 and found.vector.isfinite().all()


def test_top_and_bottom_images_and_ties():
    one = directions.Direction(torch.ones(1), 1.0, "", "n", torch.tensor([0.0, 3.0, 0.0, 5.0, 3.0]))
    assert directions.top_images(one, 3).tolist() == [3, 1, 4]
    assert directions.bottom_images(one, 3).tolist() == [0, 2, 1]


def test_purity_entropy_and_overlap_by_hand():
    labels = torch.tensor([[1, 1, 1, 1], [0, 1, 2, 3], [5, 5, 2, 2]])
    assert directions.purity(labels).tolist() == [1, 0.25, 0.5]
    assert directions.class_entropy(labels).tolist() == pytest.approx([0, 2, 1])
    sets = [torch.tensor([1, 2]), torch.tensor([2, 3]), torch.tensor([1, 2])]
    assert directions.overlap(sets) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="two or more of one size"):
        directions.overlap([torch.tensor([1, 2]), torch.tensor([1])])


def test_describe_counts_what_sets_have_in_common():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    rising = torch.arange(6.0)
    same = [directions.Direction(torch.ones(1), 1.0, "", f"{k}", rising) for k in range(2)]
    found = directions.describe(same, labels, k=2)
    for what in ("purity", "overlap", "bottom overlap", "same class"):
        assert found[what] == 1
    assert found["entropy"] == found["purity error"] == 0
    flipped = directions.Direction(torch.ones(1), 1.0, "", "f", -rising)
    assert directions.describe([same[0], flipped], labels, k=2)["overlap"] == 0
    assert math.isnan(directions.describe(same[:1], labels, k=2)["overlap"])


@pytest.mark.parametrize("form", [Tensor.numpy, Tensor.tolist, lambda labels: labels[:, None]])
def test_labels_of_any_form_describe_alike(form):
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    found = directions.singular(torch.rand(4, 6), 2)
    assert directions.describe(found, form(labels), 3) == directions.describe(found, labels, 3)
    assert directions.purity([[0, 0, 1, 1]]).tolist() == [0.5]


def test_a_label_for_each_image_is_needed():
    found = directions.singular(torch.rand(4, 6), 2)
    with pytest.raises(ValueError, match="6 images, and labels of shape .5,"):
        directions.describe(found, range(5), 3)


FIT = pk.coupled_nmf({"a": PHI}, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: directions.neurons(PHI, 40), r"count is 40; there are 39 neurons that vary"),
        (lambda: directions.neurons(PHI, 2, select="best"), "select is 'best'"),
        (lambda: directions.random(PHI, 3, tail=0), "tail is 0"),
        (lambda: directions.random(PHI, 0), "count is 0"),
        (lambda: directions.nmf(PHI, 2, fit=FIT, layer="b"), "no block 'b'"),
        (lambda: directions.nmf(PHI[:5], 2, fit=FIT, layer="a"), "40 neurons and 200 images"),
        (lambda: directions.singular(PHI / 0 * 0, 2, layer="conv"), "'conv' has NaN"),
    ],
)
def test_bad_requests_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()
