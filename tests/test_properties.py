"""What holds for every fit, whatever the shapes, sizes, types and weights: tried on made-up blocks.

A block is drawn as a kind of matrix, a size (a power of ten) and a seed; hypothesis looks for a stack that breaks
a law, and shows it. PROPERTIES=50 tries 50 times as many.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from peeklib import CoupledNMF, choose_rank, coupled_nmf, rank_sweep
from peeklib.solvers import (
    APART,
    Group,
    LowRank,
    Run,
    Stop,
    compress,
    iterate,
    kkt_residuals,
    measure,
)
from peeklib.tensors import coupled_ntf

MANY = int(os.environ.get("PROPERTIES", "1"))
KINDS = ["planted", "uniform", "sparse", "constant", "duplicates", "one entry", "zeros", "faint"]
SOLVERS = ["auto", "hals", "mu"]
TYPES = st.sampled_from([torch.float32, torch.float64])
EXPONENTS = st.integers(-100, 100)  # of two: 1e-30 … 1e30
NONE = st.just(0)


def tries(count):
    return settings(
        max_examples=count * MANY,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def made(kind, shape, seed):
    """A matrix of float64, of a largest entry near 1."""
    rng = np.random.default_rng(seed)
    rows, images = shape
    X = rng.random(shape)
    if kind == "planted":
        X = rng.random((rows, 2)) @ rng.random((2, images))
    elif kind == "sparse":
        X *= rng.random(shape) < 0.15
    elif kind == "constant":
        X[:] = 0.7
    elif kind == "duplicates":
        X[:, images // 2 :] = X[:, :1]
        X[rows // 2 :] = X[:1]
    elif kind == "one entry":
        X[:] = 0
        X[-1, -1] = 1
    elif kind == "zeros":
        X[:] = 0
    elif kind == "faint":
        X *= 10.0 ** rng.integers(-44, 1, size=shape)
    return torch.from_numpy(X)


@st.composite
def stacks(draw, exponents=NONE, most=3):
    """Blocks of float64 with a name each, not all of them zero."""
    images, blocks = draw(st.integers(1, 12)), {}
    for name in "abc"[: draw(st.integers(1, most))]:
        shape = draw(st.integers(1, 8)), images
        block = made(draw(st.sampled_from(KINDS)), shape, draw(st.integers(0, 99)))
        blocks[name] = block * 2.0 ** draw(exponents)
    assume(any(block.max() > 1e-30 * 2.0**-100 for block in blocks.values()))
    return blocks


def cast(blocks, dtype):
    return {name: block.to(dtype) for name, block in blocks.items()}


def times_power(blocks, exponent):
    """Blocks times a power of two, where that rounds nothing."""
    assume(any(block.any() for block in blocks.values()))
    moved = {name: block * 2.0**exponent for name, block in blocks.items()}
    for one in (blocks, moved):
        for name, block in one.items():
            kept = block > torch.finfo(block.dtype).tiny * 2.0**24
            assume(block.isfinite().all() and kept[blocks[name] > 0].all())
    return moved


def same(V, U):
    """Whether two factors are the same to the bit, but for entries with too few digits to tell."""
    return torch.equal(
        *torch.where((V < 1e-24 * V.max()) & (U < 1e-24 * V.max()), 0, torch.stack([V, U]))
    )


def rank_of(blocks, share=0.5):
    features = sum(map(len, blocks.values()))
    most = min(features, next(iter(blocks.values())).shape[1])
    return 1 + round(share * (most - 1))


def norm(X):
    """Of any size."""
    largest = X.abs().max().item()
    return largest * (X / largest).norm().item() if largest else 0.0


def left(blocks, fit):
    """By block ‖A − O Fᵀ‖ and ‖A‖, in float64."""
    found = {}
    for name, block in blocks.items():
        X, O, F = block.double(), fit.factors[name].double(), fit.image_factor.double()
        found[name] = norm(X - O @ F.T), norm(X)
    return found


def root_of_squares(values):
    return norm(torch.tensor(values, dtype=torch.float64))


def sound(fit):
    """Whether all numbers of a fit are finite and no factor is negative."""
    factors = [fit.image_factor, *fit.factors.values()]
    return (
        all(bool((V.isfinite() & (V >= 0)).all()) for V in factors)
        and np.isfinite(fit.history).all()
        and np.isfinite([fit.rmse, fit.relative_error, *fit.block_errors.values()]).all()
        and not np.isnan(fit.kkt)
    )


def agree(blocks, fit, *, close):
    """Whether what a fit says is what its factors give."""
    found = left(blocks, fit)
    for name, (missed, size) in found.items():
        if size:  # of zeros a model is zero, or what rounding leaves
            true = missed / size
            assert fit.block_errors[name] == pytest.approx(true, rel=1e-3, abs=close), name
    missed, sizes = (root_of_squares(values) for values in zip(*found.values(), strict=True))
    assert fit.relative_error == pytest.approx(missed / sizes, rel=1e-3, abs=close)


def move(V, B, G):
    """How far coordinate descent moves V, rank × n, by itself, as a share of it."""
    weight = G.diagonal()[:, None]
    step = V - (V + torch.where(weight > 0, (B - G @ V) / weight, 0)).clamp(min=0)
    size = (weight * V**2).sum()
    return ((weight * step**2).sum() / size).sqrt().item() if size else np.inf


def kkt_of(blocks, fit):
    """The larger move of both factors, in float64."""
    X, W = (torch.cat([V[name].double() for name in blocks]) for V in (blocks, fit.factors))
    F = fit.image_factor.double()
    X, W = X / X.max(), W / X.max()
    return max(move(F.T, W.T @ X, W.T @ W), move(W.T, F.T @ X.T, F.T @ F))


@tries(26)
@given(stacks(EXPONENTS), TYPES, st.sampled_from(SOLVERS), st.sampled_from([0.0, 0.4, 1.0]))
def test_a_result_is_what_it_says(blocks, dtype, solver, share):
    blocks = cast(blocks, dtype)
    assume(any(block.any() for block in blocks.values()))
    fit = coupled_nmf(blocks, rank_of(blocks, share), solver=solver, max_iter=60)
    close = torch.finfo(dtype).eps * 30
    assert sound(fit) and len(fit.history) == fit.iterations + 1
    agree(blocks, fit, close=close)
    assert fit.history[-1] == pytest.approx(fit.relative_error, rel=1e-2, abs=close**0.5)
    assert not (fit.converged and fit.relative_error > 1 + close)
    assert fit.kkt == pytest.approx(kkt_of(blocks, fit), rel=0.02, abs=close**0.5)


@tries(10)
@given(stacks(EXPONENTS), TYPES, st.sampled_from(SOLVERS[:2]), EXPONENTS)
def test_a_power_of_two_changes_no_bit_of_a_fit(blocks, dtype, solver, exponent):
    blocks = cast(blocks, dtype)
    moved = times_power(blocks, exponent)
    options = {"solver": solver, "max_iter": 25}
    first, second = (coupled_nmf(X, rank_of(X), **options) for X in (blocks, moved))
    assert same(first.image_factor, second.image_factor)
    live = first.image_factor.any(dim=0)
    for name, O in first.factors.items():
        assert same(O[:, live], second.factors[name][:, live] / 2.0**exponent)
    assert np.array_equal(first.history, second.history) and first.kkt == second.kkt


@tries(10)
@given(stacks(), TYPES, st.sampled_from(SOLVERS), st.integers(-30, 30))
def test_a_fit_of_c_times_the_data_is_the_fit_of_the_data(blocks, dtype, solver, power):
    blocks, moved = (
        cast(blocks, dtype),
        cast({n: 10.0**power * X for n, X in blocks.items()}, dtype),
    )
    options = {"solver": solver, "max_iter": 25, "tol": 0}
    first, second = (coupled_nmf(X, rank_of(X), **options) for X in (blocks, moved))
    assert second.relative_error == pytest.approx(first.relative_error, rel=0.02, abs=1e-3)
    assert second.rmse == pytest.approx(first.rmse * 10.0**power, rel=0.02, abs=1e-3 * 10.0**power)


@tries(10)
@given(
    stacks(), st.sampled_from(SOLVERS[:2]), st.lists(EXPONENTS, min_size=3, max_size=3), EXPONENTS
)
def test_a_block_in_another_unit_with_the_weight_for_it_is_the_same_block(
    blocks, solver, exponents, common
):
    units = dict(zip(blocks, exponents, strict=False))
    moved = {name: block * 2.0 ** units[name] for name, block in blocks.items()}
    weights = {name: 4.0 ** (common - units[name]) for name in blocks}
    first = coupled_nmf(blocks, rank_of(blocks), solver=solver, max_iter=25)
    second = coupled_nmf(moved, rank_of(moved), solver=solver, max_iter=25, weights=weights)
    assert same(first.image_factor, second.image_factor)
    assert list(first.block_errors.values()) == pytest.approx(list(second.block_errors.values()))


@tries(10)
@given(
    stacks(EXPONENTS),
    TYPES,
    st.sampled_from(SOLVERS),
    st.lists(st.integers(-300, 300), min_size=3, max_size=3),
)
def test_any_weights_give_a_fit(blocks, dtype, solver, powers):
    blocks = cast(blocks, dtype)
    assume(any(block.any() for block in blocks.values()))
    weights = {name: 10.0**power for name, power in zip(blocks, powers, strict=False)}
    fit = coupled_nmf(blocks, rank_of(blocks), solver=solver, max_iter=25, weights=weights)
    assert sound(fit)
    agree(blocks, fit, close=torch.finfo(dtype).eps * 30)


@tries(6)
@given(stacks(), st.sampled_from(SOLVERS), st.floats(1e-300, 1e300))
def test_weights_times_a_constant_change_nothing(blocks, solver, constant):
    options = {"solver": solver, "max_iter": 25, "tol": 0}
    weights = dict.fromkeys(blocks, constant)
    plain = coupled_nmf(blocks, rank_of(blocks), **options)
    weighted = coupled_nmf(blocks, rank_of(blocks), weights=weights, **options)
    assert weighted.relative_error == pytest.approx(plain.relative_error, rel=0.02, abs=1e-3)


@tries(16)
@given(stacks(EXPONENTS), TYPES, st.sampled_from(["hals", "mu"]))
def test_the_error_never_rises(blocks, dtype, solver):
    blocks = cast(blocks, dtype)
    assume(any(block.any() for block in blocks.values()))
    fit = coupled_nmf(blocks, rank_of(blocks), solver=solver, max_iter=60, tol=0)
    rounding = 50 * torch.finfo(dtype).eps * max(1, fit.history[1] ** 2)
    assert (np.diff(fit.history[1:] ** 2) <= rounding).all()
    assert fit.history[1] <= fit.history[0] * (1 + rounding) + rounding**0.5


@tries(10)
@given(stacks(st.integers(-8, 8)), st.integers(-30, 30))
def test_float32_comes_as_far_as_float64(blocks, power):
    blocks = {name: block * 10.0**power for name, block in blocks.items()}
    narrow = cast(blocks, torch.float32)
    assume(any(block.any() for block in narrow.values()))
    start = coupled_nmf(narrow, rank_of(blocks), max_iter=0)
    ours, true = (
        coupled_nmf(X, rank_of(X), solver="hals", init=start, max_iter=30, tol=0)
        for X in (narrow, cast(narrow, torch.float64))
    )
    assert ours.relative_error == pytest.approx(true.relative_error, rel=0.05, abs=2e-3)


@tries(10)
@given(stacks(EXPONENTS), TYPES, st.integers(-60, 60))
def test_new_images_are_placed_whatever_their_size(blocks, dtype, exponent):
    blocks = cast(blocks, dtype)
    new = times_power(blocks, exponent)
    fit = coupled_nmf(blocks, rank_of(blocks), max_iter=25)
    F, moved = fit.transform(blocks), fit.transform(new)
    assert same(F, moved / 2.0**exponent) and F.isfinite().all()
    placed = replace(fit, image_factor=F)
    before, after = (left(blocks, one) for one in (fit, placed))
    missed = [root_of_squares([error for error, _ in found.values()]) for found in (before, after)]
    size = root_of_squares([size for _, size in before.values()])
    assert missed[1] <= 1.02 * missed[0] + 0.01 * size


@tries(10)
@given(stacks(EXPONENTS), EXPONENTS, EXPONENTS, st.sampled_from(SOLVERS))
def test_a_fit_goes_on_from_factors_of_any_size(blocks, of_W, of_F, solver):
    blocks = cast(blocks, torch.float32)
    assume(any(block.max() > 1e-30 for block in blocks.values()))
    start = coupled_nmf(blocks, rank_of(blocks), max_iter=10)
    factors = {name: O.double() * 2.0**of_W for name, O in start.factors.items()}
    begun = replace(start, factors=factors, image_factor=start.image_factor.double() * 2.0**of_F)
    fit = coupled_nmf(blocks, rank_of(blocks), solver=solver, init=begun, max_iter=30, tol=0)
    assert sound(fit)
    agree(blocks, fit, close=1e-5)
    assert fit.relative_error <= 1.02 * start.relative_error + 2e-3


@tries(10)
@given(stacks(EXPONENTS, most=2), TYPES, st.booleans())
def test_a_tensor_fit_is_what_it_says(blocks, dtype, deep):
    blocks = cast(blocks, dtype)
    assume(any(block.any() for block in blocks.values()))
    shapes = {name: (1, len(X), 1, -1) if deep else (len(X), -1) for name, X in blocks.items()}
    tensors = {name: block.reshape(shapes[name]) for name, block in blocks.items()}
    fit = coupled_ntf(tensors, 2, max_iter=40)
    assert sound(replace(fit, kkt=0.0))
    close = torch.finfo(dtype).eps * 30
    agree(blocks, fit, close=close)
    assert fit.history[-1] == pytest.approx(fit.relative_error, rel=1e-2, abs=close**0.5)
    assert (np.diff(fit.history**2) <= 2 * close).all()


@pytest.mark.parametrize("power", [-40, -30, -9, 9, 30, 37])
@pytest.mark.parametrize("shape", [(6, 20), (2, 3, 20)])
def test_a_tensor_fit_does_not_see_the_unit(power, shape):
    X = torch.from_numpy(np.random.default_rng(0).random(shape))
    for dtype in (torch.float32, torch.float64):
        one, other = (coupled_ntf({"a": (u * X).to(dtype)}, 2) for u in (1, 10.0**power))
        assert other.relative_error == pytest.approx(one.relative_error, rel=1e-3)


@pytest.mark.parametrize(
    ("solver", "rank", "rounds"),
    [("auto", 1, 700), ("auto", 3, 700), ("hals", 3, 300), ("mu", 3, 300)],
)
def test_many_rounds_end_where_they_should(solver, rank, rounds):
    X = made("sparse", (8, 10), seed=3).float()
    fit = coupled_nmf({"a": X}, rank, solver=solver, max_iter=rounds * min(MANY, 20), tol=0)
    assert sound(fit) and fit.iterations == rounds * min(MANY, 20)
    assert fit.history[-1] == pytest.approx(fit.relative_error, rel=1e-3)
    assert fit.history[-1] <= fit.history.min() * 1.001 and fit.kkt < 0.01


@pytest.mark.parametrize("solver", ["auto", "hals"])
def test_rounds_bring_factors_that_are_far_apart_to_one_size(solver):
    """Sizes drift from one to the other over thousands of rounds; here they begin far apart."""
    X = made("planted", (8, 10), seed=3).float() + 0.1
    W, F = (made("uniform", (3, n), seed=n).float() for n in (8, 10))
    power = 2.0 ** torch.tensor([[-50.0], [0.0], [50.0]])
    run = Run(W * power, F / power)
    group = Group(LowRank(X, torch.eye(10)), X.square().sum().item(), [run])
    measure(group)
    iterate(group, solver, Stop(max_iter=5, tol=0), after_round=id)
    (run,) = group.runs
    ratio = run.Wt.norm(dim=1) / run.Ft.norm(dim=1)
    assert (ratio < APART).all() and (ratio > 1 / APART).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("power", [-45, -44, -39, -20, 20, 38])
def test_blocks_at_the_ends_of_float32_are_fitted_side_by_side(solver, power):
    X, Y = made("uniform", (9, 25), seed=1), made("planted", (6, 25), seed=2) + 0.1
    blocks = cast({"X": X, "Y": 10.0**power * 2 * Y, "Z": torch.zeros(2, 25)}, torch.float32)
    fit = coupled_nmf(blocks, 3, solver=solver)
    agree(blocks, fit, close=1e-5)
    assert sound(fit) and fit.block_errors["Y"] < 0.9


def as_kinds(X):
    """The same small whole numbers, in many types and layouts."""
    yield from (X.astype(kind) for kind in ("<f4", ">f4", ">f8", "f2", "u1", "i8", ">i2", "g"))
    frozen = X.astype("f4")
    frozen.setflags(write=False)
    yield frozen
    yield X[::-1].copy()[::-1]
    yield X[:, ::-1].copy()[:, ::-1]
    yield np.asfortranarray(X)
    yield np.repeat(X, 2, axis=1)[:, ::2]
    for kind in (torch.bfloat16, torch.float16, torch.uint8, torch.float64):
        yield torch.from_numpy(X.copy()).to(kind)
    yield torch.from_numpy(X.T.copy()).T


def test_types_and_layouts_change_nothing():
    """Every entry is where it was: from one start, rounds lead to one place."""
    X = np.random.default_rng(0).integers(0, 9, (7, 15)).astype("f8")
    start = coupled_nmf({"a": X}, 3, max_iter=0)
    true = coupled_nmf({"a": X}, 3, init=start, solver="hals", max_iter=5)
    for kind in as_kinds(X):
        fit = coupled_nmf({"a": kind}, 3, init=start, solver="hals", max_iter=5)
        for ours, theirs in (
            (fit.image_factor, true.image_factor),
            (fit.factors["a"], true.factors["a"]),
        ):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    assert coupled_nmf({"a": X > 4}, 2).relative_error < 1


@pytest.mark.parametrize("power", [-300, 300])
def test_what_is_built_on_fits_does_not_see_the_unit_either(power):
    rng = np.random.default_rng(0)
    X = rng.random((12, 2)) @ rng.random((2, 20)) + 0.1 * rng.random((12, 20))
    units = 1, 10.0**power
    fits = [CoupledNMF(2, random_state=0, tol=0, max_iter=50).fit(u * X) for u in units]
    F = [fit.transform(u * X) for fit, u in zip(fits, units, strict=True)]
    np.testing.assert_allclose(F[0], F[1], rtol=1e-2, atol=1e-3)
    sweeps = [rank_sweep({"a": u * X}, (1, 2), max_iter=50).table() for u in units]
    np.testing.assert_allclose(sweeps[0].relative_error, sweeps[1].relative_error, atol=1e-4)
    plain, other = (choose_rank({"a": u * X}, [1, 2], seeds=(0, 1)).table for u in units)
    np.testing.assert_allclose(plain, other, rtol=1e-2, atol=1e-3)


@tries(6)
@given(stacks(EXPONENTS, most=1), TYPES, st.integers(1, 6))
def test_compression_of_any_rank_and_size_is_a_projection(blocks, dtype, width):
    (X,) = cast(blocks, dtype).values()
    width = min(width, *X.shape)
    small = compress(X, width)
    unit = torch.eye(width, dtype=dtype)
    torch.testing.assert_close(small.Q.T @ small.Q, unit, atol=1e-4, rtol=0)
    size = X.abs().max()
    assume(size > 1e-30)
    assert ((small.Q.T @ (X / size)) - small.B / size).abs().max() < 1e-4


def test_zeros_are_no_solution_and_nan_is_no_number():
    X, W, F = torch.ones(2, 3), torch.ones(1, 2), torch.ones(1, 3)
    nan = torch.full((1, 3), torch.nan)
    zeros, half, spoilt = kkt_residuals(X, [0 * W, W, W], [0 * F, 0 * F, nan])
    assert zeros == half == np.inf and np.isnan(spoilt)
