"""Coupled NTF against coupled NMF, tensorly, planted factors and the naive formulas; images are the last mode."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from tensorly.decomposition import non_negative_parafac_hals

from peeklib import coupled_nmf
from peeklib.tensors import coupled_ntf, khatri_rao


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def blocks():
    """Four modes, three, and a fully connected layer; far from low rank."""
    return {
        "conv": 3 * rand(4, 5, 6, 30, seed=1),
        "input": rand(7, 8, 30, seed=2),
        "fc": 2 * rand(9, 30, seed=3),
    }


def planted(shape, rank, seed):
    """Sparse non-negative factors of the features, and the Khatri–Rao product of them, features × rank."""
    factors = []
    for k, length in enumerate(shape):
        factors.append((rand(rank, length, seed=seed + k) - 0.4).clamp(min=0) + 0.01)
    return factors, khatri_rao(factors).T


def outer(modes, F):
    """The model entry by entry, from its definition."""
    letters = "abcdef"[: len(modes)]
    return torch.einsum(f"{','.join(f'{x}r' for x in letters)},nr->{letters}n", *modes, F)


def test_without_structure_it_is_coupled_nmf(blocks):
    matrices = {name: block.flatten(0, -2) for name, block in blocks.items()}
    ours = coupled_ntf(matrices, 5, max_iter=50, tol=0)
    theirs = coupled_nmf(matrices, 5, solver="hals", max_iter=50, tol=0)
    assert ours.history == pytest.approx(theirs.history, rel=1e-9)
    assert ours.rmse == pytest.approx(theirs.rmse, rel=1e-9)
    for name, W in theirs.factors.items():
        assert torch.allclose(ours.factors[name], W, atol=1e-6)
        assert torch.equal(ours.factors[name], ours.modes[name][0])


def test_a_mode_of_length_one_changes_nothing(blocks):
    plain = coupled_ntf({"fc": blocks["fc"]}, 3, max_iter=400, tol=1e-7)
    padded = coupled_ntf({"fc": blocks["fc"][:, None, None]}, 3, max_iter=400, tol=1e-7)
    assert padded.relative_error == pytest.approx(plain.relative_error, rel=0.02)


def test_one_block_is_as_good_as_tensorly():
    X = torch.relu(rand(6, 5, 4, 40, seed=5) - 0.3)
    options = {"n_iter_max": 100, "init": "random", "tol": 1e-9, "return_errors": True}
    ours, theirs = [], []
    for seed in range(3):
        _, errors = non_negative_parafac_hals(X.numpy(), 4, random_state=seed, **options)
        theirs.append(float(errors[-1]))
        fit = coupled_ntf({"x": X}, 4, seed=seed, max_iter=100, tol=1e-7)
        ours.append(fit.relative_error)
    assert min(ours) < 1.01 * min(theirs)


def test_planted_factors_come_back():
    F = (rand(60, 3, seed=9) - 0.3).clamp(min=0)
    truth = {"conv": planted((6, 7, 8), 3, 10), "fc": planted((12,), 3, 20)}
    data = {"conv": (truth["conv"][1] @ F.T).unflatten(0, (6, 7, 8)), "fc": truth["fc"][1] @ F.T}
    fits = [coupled_ntf(data, 3, seed=seed, max_iter=200, tol=1e-8) for seed in range(2)]
    fit = min(fits, key=lambda f: f.rmse)
    assert fit.relative_error < 0.01
    cosines = torch.nn.functional.cosine_similarity(fit.image_factor.T[:, None], F.T, dim=2)
    rows, columns = linear_sum_assignment(-cosines.numpy())
    assert cosines[rows, columns].min() > 0.99
    for found, true in zip(fit.modes["conv"], truth["conv"][0], strict=True):
        assert torch.nn.functional.cosine_similarity(found.T[rows], true[columns]).min() > 0.99


def test_the_loss_never_rises_and_is_that_of_the_naive_formula(blocks):
    fit = coupled_ntf(blocks, 6, max_iter=60, tol=0)
    assert (np.diff(fit.history) <= 1e-9).all() and fit.iterations == 60
    lost = energy = 0.0
    for name, block in blocks.items():
        residual = block - outer(fit.modes[name], fit.image_factor)
        lost += residual.square().sum().item()
        energy += block.square().sum().item()
    assert fit.relative_error == pytest.approx((lost / energy) ** 0.5, rel=1e-9)
    assert fit.history[-1] == pytest.approx(fit.relative_error, rel=1e-9)


def test_a_result_says_what_it_holds(blocks):
    fit = coupled_ntf(blocks, 6)
    assert fit.parameters == 6 * (4 + 5 + 6 + 7 + 8 + 9 + 30)
    assert f"CoupledTensors(parameters={fit.parameters}, rank=6" in repr(fit)
    for name, block in blocks.items():
        model = outer(fit.modes[name], fit.image_factor)
        assert torch.allclose(fit.reconstruct(name), model) and model.shape == block.shape
        assert torch.allclose(fit.reconstruct(name, slice(2, 4)), model[..., 2:4])
        assert all((V >= 0).all() for V in fit.modes[name])
    assert torch.allclose(fit.image_factor.square().mean(0), torch.ones(6, dtype=torch.float64))
    sizes = torch.cat(list(fit.factors.values())).square().sum(0)
    assert (sizes.diff() <= 1e-9).all()  # strongest first


def test_new_images_are_placed_as_the_old_ones(blocks):
    fit = coupled_ntf(blocks, 4, max_iter=500, tol=1e-7)
    assert torch.allclose(fit.transform(blocks), fit.image_factor, atol=0.02)
    assert fit.transform({"input": blocks["input"][..., :3]}).shape == (3, 4)
    with pytest.raises(ValueError, match="fitted as"):
        fit.transform({"input": blocks["input"].transpose(0, 1)})
    with pytest.raises(ValueError, match="was not fitted"):
        fit.transform({"relu": blocks["input"]})


def test_zeros_stay_and_nothing_is_negative():
    X = torch.relu(rand(5, 4, 3, 20, seed=4, dtype=torch.float32) - 0.5)
    X[2], X[..., 7] = 0, 0
    fit = coupled_ntf({"x": X, "dead": torch.zeros(3, 2, 20)}, 30)  # more components than images
    assert fit.image_factor.isfinite().all() and (fit.image_factor >= 0).all()
    for V in (*fit.modes["x"], *fit.modes["dead"]):
        assert V.isfinite().all() and (V >= 0).all()
    assert fit.factors["dead"].abs().max() == 0 and fit.block_errors["dead"] == 0
    assert fit.image_factor[7].abs().max() < 1e-4


def test_seeds_repeat(blocks):
    first, again, other = (coupled_ntf(blocks, 3, seed=seed, max_iter=5) for seed in (1, 1, 2))
    assert torch.equal(first.image_factor, again.image_factor)
    assert not torch.allclose(first.image_factor, other.image_factor)


@pytest.mark.parametrize(
    ("change", "rank", "options", "message"),
    [
        ({"fc": rand(9)}, 2, {}, "'fc' is of shape .9,.; give a tensor of two modes or more"),
        ({"fc": [1, 2]}, 2, {}, "'fc' is a list"),
        ({"fc": rand(9, 29)}, 2, {}, "number of images"),
        ({"fc": -rand(9, 30)}, 2, {}, "negative values"),
        ({"fc": torch.full((2, 2, 30), torch.nan)}, 2, {}, "NaN"),
        ({}, 0, {}, "at least 1"),
        ({}, 2.5, {}, "whole number"),
        ({}, 2, {"max_iter": -1}, "max_iter is -1"),
        ({}, 2, {"max_iter": 2.5}, "max_iter is 2.5; it is a whole number"),
        ({}, 2, {"tol": float("nan")}, "tol is nan"),
    ],
)
def test_bad_input_is_named(blocks, change, rank, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        coupled_ntf({**blocks, **change}, rank, **options)


def test_arrays_and_half_precision_are_blocks_too(blocks):
    arrays = {name: block.numpy() for name, block in blocks.items()}
    fit = coupled_ntf(arrays, 2, max_iter=3)
    assert torch.equal(fit.image_factor, coupled_ntf(blocks, 2, max_iter=3).image_factor)
    assert torch.equal(fit.transform(arrays), fit.transform(blocks))
    half = {name: block.half() for name, block in blocks.items()}
    assert coupled_ntf(half, 2, max_iter=3).image_factor.dtype == torch.float32


def test_no_blocks_and_no_data():
    with pytest.raises(TypeError, match="dict"):
        coupled_ntf(rand(3, 4), 2)
    with pytest.raises(ValueError, match="no blocks"):
        coupled_ntf({}, 2)
    with pytest.raises(ValueError, match="is zero"):
        coupled_ntf({"x": torch.zeros(2, 3, 4)}, 2)
