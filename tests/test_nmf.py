"""Coupled NMF against scikit-learn, SciPy, planted factors and the naive formulas.

X is features × images, F images × rank, W features × rank, as in `peeklib.nmf`.
"""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linear_sum_assignment, nnls
from sklearn.decomposition import NMF

from peeklib import CoupledFactors, coupled_nmf, nmf, rank_sweep, solvers

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
WEIGHTS = {"input": 0.3, "relu": 7.0}
every_solver = pytest.mark.parametrize("solver", ["auto", "hals", "mu"])
with_and_without_weights = pytest.mark.parametrize(
    "weights", [None, WEIGHTS], ids=["plain", "weighted"]
)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def blocks():
    """Two blocks of 40 images, far from low rank."""
    return {"input": rand(15, 40, seed=1), "relu": 3 * rand(10, 40, seed=2)}


@pytest.fixture
def holey():
    """Blocks with exact zeros, a zero row, a zero column (the same image everywhere) and a zero block."""
    A, D = (torch.relu(rand(n, 20, seed=n, dtype=torch.float32) - 0.5) for n in (12, 9))
    D[4], A[0] = 0, 0
    D[:, 7], A[:, 7] = 0, 0
    return {"input": D, "dead": torch.zeros(5, 20), "relu": A}


def start_for(blocks, rank, seed=3):
    """A random start that both libraries can be given."""
    images = next(iter(blocks.values())).shape[1]
    factors = {
        name: rand(len(block), rank, seed=seed + k)
        for k, (name, block) in enumerate(blocks.items())
    }
    unknown = {"rmse": 0.0, "relative_error": 0.0, "block_errors": {}, "history": np.zeros(1)}
    return CoupledFactors(
        rand(images, rank, seed=seed + 99), factors, **unknown, converged=False, seconds=0.0
    )


def stacked(factors):
    return torch.cat(list(factors.values()))


def product(fit):
    """W Fᵀ, which knows nothing of the scale and order of components."""
    return stacked(fit.factors).double() @ fit.image_factor.double().T


def sklearn_product(X, start, solver, iterations):
    """scikit-learn on Xᵀ, so that its W is our F and is updated first."""
    model = NMF(start.rank, solver=solver, init="custom", max_iter=iterations, tol=0)
    F = model.fit_transform(
        X.T.numpy(), W=start.image_factor.numpy().copy(), H=stacked(start.factors).T.numpy().copy()
    )
    return torch.from_numpy(F @ model.components_).T


def naive_rmse(blocks, fit):
    return (stacked(blocks).cpu().double() - product(fit).cpu()).square().mean().sqrt().item()


# Against other people's code


def test_mu_follows_sklearn_from_the_same_start(blocks):
    X, start = stacked(blocks), start_for(blocks, 4)
    ours = product(coupled_nmf(blocks, 4, solver="mu", init=start, max_iter=100, tol=0))
    theirs = sklearn_product(X, start, "mu", 100)
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()
    assert (X - ours).norm().item() == pytest.approx((X - theirs).norm().item(), rel=1e-4)


def test_hals_reaches_the_loss_of_sklearn_cd(blocks):
    X, start = stacked(blocks), start_for(blocks, 4)
    theirs = sklearn_product(X, start, "cd", 100)
    for solver in ("hals", "auto"):
        ours = product(coupled_nmf(blocks, 4, solver=solver, init=start, max_iter=100, tol=0))
        assert (X - ours).square().sum() <= 1.01 * (X - theirs).square().sum()


def matched_cosines(found, planted):
    """Cosine of every planted column with the found column that stands for it."""
    found, planted = (M / M.norm(dim=0) for M in (found.double(), planted))
    cosine = (found.T @ planted).numpy()
    return cosine[linear_sum_assignment(cosine, maximize=True)]


@every_solver
def test_planted_sparse_factors_come_back(solver):
    F = torch.relu(rand(80, 3, seed=1) - 0.5)
    W = torch.relu(rand(50, 3, seed=2) - 0.5)
    X = W @ F.T
    fit = coupled_nmf({"a": X[:30], "b": X[30:]}, 3, solver=solver, max_iter=500, tol=0)
    assert matched_cosines(fit.image_factor, F).min() > 0.95
    assert matched_cosines(fit.factors["a"], W[:30]).min() > 0.95
    assert matched_cosines(fit.factors["b"], W[30:]).min() > 0.95


# What every fit promises


@every_solver
@pytest.mark.parametrize("iterations", [1, 60])
def test_factors_are_never_negative_whatever_is_zero(holey, solver, iterations):
    fit = coupled_nmf(holey, 5, solver=solver, max_iter=iterations, tol=0)
    for factor in (fit.image_factor, *fit.factors.values()):
        assert factor.isfinite().all() and (factor >= 0).all()


@every_solver
@pytest.mark.parametrize("everywhere", [False, True], ids=["half dead", "dead"])
def test_a_component_that_starts_at_zero_does_no_harm(blocks, solver, everywhere):
    start = start_for(blocks, 4)
    start.image_factor[:, 0] = 0
    for factor in start.factors.values() if everywhere else []:
        factor[:, 0] = 0
    fit = coupled_nmf(blocks, 4, solver=solver, init=start, max_iter=20)
    assert product(fit).isfinite().all() and fit.history[-1] < fit.history[0]
    if solver != "mu":  # which can move nothing that is zero
        assert fit.image_factor.any(dim=0).all()


@every_solver
def test_what_is_zero_in_the_data_is_zero_in_the_model(holey, solver):
    fit = coupled_nmf(holey, 5, solver=solver, max_iter=60, tol=0)
    assert not fit.factors["dead"].any() and fit.block_errors["dead"] == 0
    assert not fit.factors["input"][4].any()
    assert not fit.image_factor[7].any()


@every_solver
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@with_and_without_weights
def test_the_loss_never_rises(blocks, solver, dtype, rounding, weights):
    blocks = {name: block.to(dtype) for name, block in blocks.items()}
    fit = coupled_nmf(blocks, 4, solver=solver, weights=weights, max_iter=150, tol=0)
    assert len(fit.history) == 151
    assert np.diff(fit.history).max() <= rounding
    assert fit.history[-1] < fit.history[0]


@every_solver
@with_and_without_weights
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_errors_equal_the_naive_ones(blocks, solver, weights, dtype):
    blocks = {name: block.to(dtype) for name, block in blocks.items()}
    fit = coupled_nmf(blocks, 4, solver=solver, weights=weights, max_iter=20)
    X = stacked(blocks).double()
    residual = X - product(fit)
    assert fit.rmse == pytest.approx(residual.square().mean().sqrt().item(), rel=1e-6)
    assert fit.relative_error == pytest.approx((residual.norm() / X.norm()).item(), rel=1e-6)
    for name, block in blocks.items():
        lost = block.double() - fit.factors[name].double() @ fit.image_factor.double().T
        assert fit.block_errors[name] == pytest.approx(
            (lost.norm() / block.double().norm()).item(), rel=1e-6
        )


def test_errors_do_not_depend_on_the_chunks_they_are_summed_in(blocks, monkeypatch):
    whole = coupled_nmf(blocks, 4, max_iter=5)
    monkeypatch.setattr("peeklib.blocks.CHUNK", 90)
    chunked = coupled_nmf(blocks, 4, max_iter=5)
    assert chunked.rmse == pytest.approx(whole.rmse, rel=1e-12)
    assert chunked.block_errors == pytest.approx(whole.block_errors, rel=1e-12)


@every_solver
def test_history_ends_at_the_weighted_error(blocks, solver):
    fit = coupled_nmf(blocks, 4, solver=solver, weights=WEIGHTS, max_iter=10, tol=0)
    scale = torch.cat(
        [torch.full((len(block), 1), WEIGHTS[name] ** 0.5) for name, block in blocks.items()]
    )
    X = stacked(blocks)
    expected = (scale * (X - product(fit))).norm() / (scale * X).norm()
    assert fit.history[-1] == pytest.approx(expected.item(), rel=1e-9)


@every_solver
def test_weights_scale_the_rows_of_plain_nmf(blocks, solver):
    weighted = coupled_nmf(blocks, 4, solver=solver, weights=WEIGHTS, max_iter=30)
    rows = torch.cat([block * WEIGHTS[name] ** 0.5 for name, block in blocks.items()])
    plain = coupled_nmf({"all": rows}, 4, solver=solver, max_iter=30)
    unscaled = torch.cat([weighted.factors[name] * WEIGHTS[name] ** 0.5 for name in blocks])
    torch.testing.assert_close(weighted.image_factor, plain.image_factor)
    torch.testing.assert_close(unscaled, plain.factors["all"])


@every_solver
def test_cutting_a_block_in_two_changes_nothing(blocks, solver):
    whole = coupled_nmf(blocks, 4, solver=solver, max_iter=30)
    cut = {"top": blocks["input"][:6], "bottom": blocks["input"][6:], "relu": blocks["relu"]}
    torch.testing.assert_close(
        coupled_nmf(cut, 4, solver=solver, max_iter=30).image_factor, whole.image_factor
    )


def test_mu_starts_from_uniform_factors_and_hals_scales_them_once(blocks):
    faint = {name: block / 1000 for name, block in blocks.items()}
    start = {solver: coupled_nmf(faint, 4, solver=solver, max_iter=0) for solver in ("mu", "hals")}
    assert product(start["mu"]).mean() == pytest.approx(4 * 0.5 * 0.5, rel=0.1)
    M, X = product(start["hals"]), stacked(faint)
    better = ((X - M) * M).sum() / (M * M).sum()
    assert better.item() == pytest.approx(0, abs=1e-9)  # no other scale is better
    torch.testing.assert_close(M / M.norm(), product(start["mu"]) / product(start["mu"]).norm())


def test_components_have_unit_image_loadings_and_fall_in_strength(blocks):
    fit = coupled_nmf(blocks, 4, weights=WEIGHTS)
    torch.testing.assert_close(
        fit.image_factor.square().mean(dim=0), torch.ones(4, dtype=torch.float64)
    )
    strength = [WEIGHTS[name] * W.square().sum(dim=0) for name, W in fit.factors.items()]
    assert (torch.stack(strength).sum(dim=0).diff() <= 0).all()


@every_solver
def test_same_seed_same_bits(blocks, solver):
    options = {"solver": solver, "max_iter": 20}
    first, again, other = (coupled_nmf(blocks, 4, seed=seed, **options) for seed in (5, 5, 6))
    assert torch.equal(first.image_factor, again.image_factor)
    assert all(torch.equal(first.factors[name], again.factors[name]) for name in blocks)
    assert np.array_equal(first.history, again.history)
    assert not torch.equal(first.image_factor, other.image_factor)


def test_the_global_random_state_is_left_alone(blocks):
    before = torch.get_rng_state()
    coupled_nmf(blocks, 4, max_iter=2)
    assert torch.equal(torch.get_rng_state(), before)


@every_solver
def test_what_the_caller_gave_is_not_modified(blocks, solver):
    start = start_for(blocks, 4)
    given = blocks | {"F": start.image_factor}
    given |= {f"W {name}": W for name, W in start.factors.items()}
    copies = {name: tensor.clone() for name, tensor in given.items()}
    coupled_nmf(blocks, 4, solver=solver, init=start, weights=WEIGHTS, max_iter=3)
    alone = {"input": blocks["input"]}  # nothing to stack
    coupled_nmf(alone, 4, solver=solver, max_iter=3)
    fit = coupled_nmf(blocks, 4, solver=solver, max_iter=3)
    kept = fit.image_factor.clone()
    coupled_nmf(blocks, 4, solver=solver, init=fit, max_iter=3)
    assert torch.equal(fit.image_factor, kept)
    assert all(torch.equal(given[name], copy) for name, copy in copies.items())


def test_a_fit_can_go_on_where_another_stopped(blocks):
    # mu does not mind the order of components
    options = {"solver": "mu", "weights": WEIGHTS, "tol": 0}
    half = coupled_nmf(blocks, 4, max_iter=10, **options)
    rest = coupled_nmf(blocks, 4, max_iter=10, init=half, **options)
    whole = coupled_nmf(blocks, 4, max_iter=20, **options)
    torch.testing.assert_close(product(rest), product(whole))
    assert rest.history == pytest.approx(whole.history[10:])


def test_float64_blocks_compute_in_float64_and_mixed_ones_in_float32(blocks):
    assert coupled_nmf(blocks, 2, max_iter=2).image_factor.dtype == torch.float64
    mixed = coupled_nmf({**blocks, "relu": blocks["relu"].float()}, 2, max_iter=2)
    factors = [mixed.image_factor, *mixed.factors.values()]
    assert {factor.dtype for factor in factors} == {torch.float32}


def test_arrays_and_integers_are_blocks_too(blocks):
    counts = (blocks["input"] * 9).round().to(torch.uint8)
    from_array = coupled_nmf({"input": counts.numpy()}, 3, max_iter=5)
    from_floats = coupled_nmf({"input": counts.float()}, 3, max_iter=5)
    assert torch.equal(from_array.image_factor, from_floats.image_factor)


def test_reconstruct_is_the_model_of_the_asked_images(blocks):
    fit = coupled_nmf(blocks, 4, max_iter=5)
    whole = fit.factors["relu"] @ fit.image_factor.T
    torch.testing.assert_close(fit.reconstruct("relu"), whole)
    torch.testing.assert_close(fit.reconstruct("relu", slice(3, 6)), whole[:, 3:6])
    torch.testing.assert_close(fit.reconstruct("relu", [8, 2]), whole[:, [8, 2]])


@pytest.mark.filterwarnings("error")
def test_reconstruct_one_image(blocks):
    fit = coupled_nmf(blocks, 4, max_iter=5)
    torch.testing.assert_close(fit.reconstruct("relu", 3).flatten(), fit.reconstruct("relu")[:, 3])


def test_reconstruct_names_the_blocks_there_are(blocks):
    with pytest.raises(KeyError, match="'conv'.*'input'.*'relu'"):
        coupled_nmf(blocks, 2, max_iter=1).reconstruct("conv")


# Stopping


@every_solver
def test_converged_means_slow_and_stationary(blocks, solver):
    stopped = coupled_nmf(blocks, 4, solver=solver, max_iter=5000, tol=1e-4)
    steps = -np.diff(stopped.history) / stopped.history[1:]
    assert stopped.converged and stopped.iterations < 5000
    assert steps[-solvers.WINDOW :].sum() < solvers.WINDOW * 1.01e-4
    assert stopped.kkt <= 0.01
    assert not coupled_nmf(blocks, 4, solver=solver, max_iter=3, tol=1e-9).converged
    assert not coupled_nmf(blocks, 4, solver=solver, max_iter=300, tol=0).converged


def test_slow_alone_is_not_converged(blocks, monkeypatch):
    monkeypatch.setattr(nmf, "KKT_TOL", 1e-9)
    stopped = coupled_nmf(blocks, 4, max_iter=60, tol=1e-2)
    assert stopped.iterations == 60 and not stopped.converged and stopped.kkt > 1e-11


def test_a_perfect_fit_has_converged():
    fit = coupled_nmf({"ones": torch.ones(6, 9, dtype=torch.float64)}, 1, max_iter=100)
    assert fit.converged and fit.iterations < 50 and fit.relative_error < 1e-4


@every_solver
def test_the_kkt_residual_is_reported_however_it_ended(blocks, solver):
    rough, fine = (coupled_nmf(blocks, 4, solver=solver, max_iter=n, tol=0) for n in (2, 300))
    assert 0 < fine.kkt < 0.1 * rough.kkt


@pytest.mark.parametrize("iterations", [0, 3])
@every_solver
def test_an_interrupt_returns_the_factors_so_far(blocks, monkeypatch, iterations, solver):
    stopping = interrupted_after(2 * iterations, solvers.UPDATES[solver])
    monkeypatch.setitem(solvers.UPDATES, solver, stopping)
    try:
        fit = coupled_nmf(blocks, 4, solver=solver, tol=0)
    except KeyboardInterrupt:  # would end the whole test run
        pytest.fail("the interrupt came out")
    assert fit.iterations == iterations and fit.interrupted and not fit.converged
    assert product(fit).isfinite().all() and (fit.image_factor >= 0).all()
    assert fit.rmse == pytest.approx(naive_rmse(blocks, fit))


def test_only_an_interrupted_fit_says_so(blocks):
    assert not coupled_nmf(blocks, 4, max_iter=3, tol=0).interrupted
    assert not coupled_nmf(blocks, 4).interrupted


def interrupted_after(count, update):
    """An update during which the reader presses stop, the time after `count`."""
    calls = []

    def interrupted(*args):
        calls.append(len(calls))
        update(*args)
        if len(calls) == count + 1:
            raise KeyboardInterrupt

    return interrupted


# New images


@with_and_without_weights
@pytest.mark.parametrize(
    "names", [["input", "relu"], ["relu", "input"], ["input"], ["relu"]], ids="+".join
)
def test_transform_is_the_non_negative_least_squares_solution(blocks, weights, names):
    fit = coupled_nmf(blocks, 4, weights=weights, max_iter=50)
    found = fit.transform({name: blocks[name] for name in names}, max_iter=20_000, tol=1e-12)
    scale = dict.fromkeys(names, 1.0) if weights is None else weights
    W, X = (
        torch.cat([part[name] * scale[name] ** 0.5 for name in names]).numpy()
        for part in (fit.factors, blocks)
    )
    expected = np.stack([nnls(W, image)[0] for image in X.T])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6 * expected.max())


def test_transform_fits_the_training_images_no_worse_than_the_fit(blocks):
    fit = coupled_nmf(blocks, 4)
    X, W = stacked(blocks), stacked(fit.factors)
    assert (X - W @ fit.transform(blocks).T).norm() <= (X - product(fit)).norm() * (1 + 1e-9)


def test_transform_works_image_by_image(blocks):
    fit = coupled_nmf(blocks, 4)
    image = {name: block[:, 5:6] for name, block in blocks.items()}
    one, all_of_them = (fit.transform(X, tol=1e-12, max_iter=20_000) for X in (image, blocks))
    torch.testing.assert_close(one, all_of_them[5:6])


def test_transform_of_a_black_image_is_zero(blocks):
    fit = coupled_nmf(blocks, 4, max_iter=5)
    found = fit.transform({"input": torch.zeros(15, 2)})
    assert found.shape == (2, 4) and not found.any()


@pytest.mark.parametrize(
    "options", [{"max_iter": -1}, {"max_iter": 1.0}, {"tol": -1.0}, {"tol": None}]
)
def test_transform_refuses_what_cannot_end_it(blocks, options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        coupled_nmf(blocks, 2, max_iter=2).transform(blocks, **options)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"conv": torch.ones(3, 2)}, "'conv'.*'input'.*'relu'"),
        ({"relu": torch.ones(3, 2)}, "'relu' has 3 rows.*10"),
    ],
)
def test_transform_refuses_other_blocks(blocks, new, words):
    with pytest.raises(ValueError, match=words):
        coupled_nmf(blocks, 2, max_iter=2).transform(new)


# Devices


@pytest.mark.parametrize("home", DEVICES)
@pytest.mark.parametrize("device", DEVICES)
@every_solver
def test_factors_come_back_where_the_blocks_are(blocks, home, device, solver):
    blocks = {name: block.to(home) for name, block in blocks.items()}
    fit = coupled_nmf(blocks, 4, solver=solver, device=device, max_iter=20)
    assert {factor.device.type for factor in (fit.image_factor, *fit.factors.values())} == {home}
    assert fit.transform({"input": blocks["input"]}).device.type == home
    assert fit.rmse == pytest.approx(naive_rmse(blocks, fit), rel=1e-6)


@every_solver
def test_the_solver_runs_on_the_device_asked_for(blocks, solver, monkeypatch):
    """On "meta", which has shapes and no numbers: the first number that is asked for is refused."""
    monkeypatch.setattr(nmf, "pick_device", lambda device, fallback: torch.device(device))
    with pytest.raises(RuntimeError, match="meta"):
        coupled_nmf(blocks, 4, solver=solver, device="meta")


def test_factors_can_be_sent_elsewhere(blocks):
    fit = coupled_nmf(blocks, 4, max_iter=5).to("meta")
    assert {factor.device.type for factor in (fit.image_factor, *fit.factors.values())} == {"meta"}


@needs_gpu
@every_solver
def test_cpu_equals_gpu(blocks, solver):
    options = {"solver": solver, "max_iter": 50, "tol": 0}
    here, there = (coupled_nmf(blocks, 4, device=place, **options) for place in ("cpu", "cuda"))
    torch.testing.assert_close(there.image_factor.cpu(), here.image_factor, rtol=1e-6, atol=1e-8)
    assert there.rmse == pytest.approx(here.rmse, rel=1e-8)


# Sweeps


@pytest.fixture
def together(monkeypatch):
    """All fits of a sweep in one group, and in `sizes` how many of them each round still served."""
    sizes, one_round = [], solvers._round

    def watched(group, solver):
        sizes.append(len(group.active))
        one_round(group, solver)

    monkeypatch.setattr(nmf, "_groups", lambda data, pairs: [pairs])
    monkeypatch.setattr(solvers, "_round", watched)
    return sizes


@every_solver
def test_a_sweep_is_one_fit_for_every_rank_and_seed(blocks, solver, together):
    options = {"solver": solver, "weights": WEIGHTS, "max_iter": 8, "tol": 1e-6}
    sweep = rank_sweep(blocks, [2, 5], seeds=[0, 3], **options)
    assert together == [4] * 8
    assert list(sweep.fits) == [(2, 0), (2, 3), (5, 0), (5, 3)]
    for (rank, seed), fit in sweep.fits.items():
        alone = coupled_nmf(blocks, rank, seed=seed, **options)
        torch.testing.assert_close(sweep[rank, seed].image_factor, alone.image_factor)
        assert fit.rmse == pytest.approx(alone.rmse, rel=1e-9)
        assert fit.history == pytest.approx(alone.history, rel=1e-9)


@every_solver
def test_a_fit_that_has_converged_leaves_the_others_to_go_on(blocks, solver, together):
    options = {"solver": solver, "max_iter": 3000, "tol": 1e-4}
    sweep = rank_sweep(blocks, [1, 6], **options)
    assert {1, 2} == set(together) and sweep.table().converged.all()
    for (rank, seed), fit in sweep.fits.items():
        alone = coupled_nmf(blocks, rank, seed=seed, **options)
        assert fit.iterations == alone.iterations
        assert fit.relative_error == pytest.approx(alone.relative_error, rel=1e-6)


def test_fits_side_by_side_take_no_more_memory_than_the_data(blocks):
    data = nmf.stack(blocks, None, torch.device("cpu"))
    pairs = [(rank, seed) for rank in (1, 2, 3) for seed in (0, 1)]
    groups = nmf._groups(data, pairs)
    assert sum(groups, []) == pairs and [] not in groups
    room = 25 * 40 // (10 * 25 + 5 * 40)
    assert all(sum(rank for rank, _ in group) <= max(room, group[0][0]) for group in groups)


def test_the_table_is_tidy(blocks):
    sweep = rank_sweep(blocks, [2, 5], seeds=[0, 3], max_iter=8)
    table = sweep.table()
    assert list(zip(table["rank"], table["seed"], strict=True)) == list(sweep.fits)
    errors = [fit.block_errors["relu"] for fit in sweep.fits.values()]
    assert table["error of relu"].tolist() == errors
    assert list(table.columns) == [
        *("rank", "seed", "rmse", "relative_error", "error of input", "error of relu"),
        *("iterations", "kkt", "converged", "seconds"),
    ]
    assert all(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes)


def test_a_missing_fit_names_those_there_are(blocks):
    with pytest.raises(KeyError, match=r"\(9, 0\).*\(2, 0\)"):
        rank_sweep(blocks, [2], max_iter=1)[9, 0]


@pytest.mark.parametrize(("ranks", "seeds"), [([], [0]), ([2], [])])
def test_a_sweep_over_nothing_is_an_error(blocks, ranks, seeds):
    with pytest.raises(ValueError, match="at least one rank and one seed"):
        rank_sweep(blocks, ranks, seeds)


def test_a_sweep_checks_every_rank_before_any_work(blocks, monkeypatch):
    monkeypatch.setattr(nmf, "_fit", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match="rank is 99"):
        rank_sweep(blocks, [2, 99])


@pytest.mark.parametrize("number", [3, None, np.array(3), torch.tensor(3)])
def test_ranks_and_seeds_are_several(blocks, number):
    with pytest.raises(
        TypeError, match=r"ranks is .*give several, such as \(10, 20\).*coupled_nmf"
    ):
        rank_sweep(blocks, number)
    with pytest.raises(TypeError, match=r"seeds is .*give several, such as \(0, 1\)"):
        rank_sweep(blocks, [2], number)


def test_one_interrupt_ends_the_whole_sweep_and_keeps_its_fits(blocks, monkeypatch):
    monkeypatch.setattr(nmf, "_groups", lambda data, pairs: [[pair] for pair in pairs])
    monkeypatch.setitem(solvers.UPDATES, "hals", interrupted_after(12, solvers.UPDATES["hals"]))
    sweep = rank_sweep(blocks, [1, 2, 3], solver="hals", max_iter=4, tol=0)
    stopped = {rank: fit.interrupted for (rank, _), fit in sweep.fits.items()}
    assert stopped == {1: False, 2: True} and sweep.interrupted
    assert sweep[2, 0].iterations == 2


def test_seeds_and_ranks_are_whole_numbers_of_any_type(blocks):
    sweep = rank_sweep(blocks, np.arange(1, 3), np.arange(2), max_iter=2)
    assert repr(list(sweep.fits)) == "[(1, 0), (1, 1), (2, 0), (2, 1)]"
    fit = coupled_nmf(blocks, np.int64(2), seed=np.uint8(1), max_iter=2)
    assert torch.equal(fit.image_factor, coupled_nmf(blocks, 2, seed=1, max_iter=2).image_factor)
    for seed in (0.5, "0", None):
        with pytest.raises(TypeError, match="seed"):
            coupled_nmf(blocks, 2, seed=seed)


# What was set for the whole program


@contextmanager
def default_dtype(kind):
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "default float64": lambda: default_dtype(torch.float64),
    "default float16": lambda: default_dtype(torch.float16),
    "default device": lambda: default_device("meta"),
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("solver", solvers.UPDATES)
def test_a_fit_is_the_same_whatever_is_set_for_the_program(blocks, setting, solver):
    blocks = {name: block.float() for name, block in blocks.items()}

    def find():
        fit = coupled_nmf(blocks, 3, solver=solver, max_iter=6)
        sweep = rank_sweep(blocks, [3], solver=solver, max_iter=6)
        return [
            fit.image_factor,
            fit.transform(blocks),
            fit.reconstruct(next(iter(blocks))),
            sweep[3, 0].image_factor,
        ]

    expected = find()
    with setting():
        found = find()
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
        assert not ours.is_inference()


def test_tensors_made_in_inference_mode_are_blocks(blocks):
    with torch.inference_mode():
        made = {name: block.clone() for name, block in blocks.items()}
    fit = coupled_nmf(made, 3, max_iter=6)
    assert torch.equal(fit.image_factor, coupled_nmf(blocks, 3, max_iter=6).image_factor)


def test_the_error_of_a_faint_block_beside_others_is_not_lost():
    X, Y = (rand(n, 30, seed=n, dtype=torch.float32) for n in (20, 10))
    faint, fainter = (
        coupled_nmf({"X": X, "Y": Y * scale}, 3, solver="hals", tol=0).block_errors["Y"]
        for scale in (1e-6, 1e-25)
    )
    assert fainter == pytest.approx(faint, rel=1e-3) and faint > 0.1


@pytest.mark.parametrize(("size", "shown"), [(1, "rmse=0."), (1e-30, "e-31, "), (1e30, "e+29, ")])
def test_an_error_is_shown_whatever_its_size(size, shown):
    X = size * rand(9, 30, seed=1)
    assert shown in repr(coupled_nmf({"X": X}, 2, max_iter=3))


# Bad input


def spoilt(value, at=(2, 1)):
    block = torch.ones(4, 6)
    block[at] = value
    return {"input": torch.ones(3, 6), "relu": block}


GOOD = {"input": torch.ones(3, 6), "relu": torch.ones(4, 6)}
BAD_BLOCKS = {
    "NaN": (spoilt(torch.nan), ValueError, ["'relu'", "NaN", "row 2", "image 1", "drop"]),
    "inf": (spoilt(torch.inf), ValueError, ["'relu'", "infinite", "row 2", "image 1", "drop"]),
    "negative": (
        spoilt(-1e-3),
        ValueError,
        ["'relu'", "negative", "row 2", "image 1", '"clip"', '"split"'],
    ),
    "image counts": (
        {"input": torch.ones(3, 6), "relu": torch.ones(4, 5)},
        ValueError,
        ["'input': 6", "'relu': 5"],
    ),
    "empty block": (
        {**GOOD, "relu": torch.ones(0, 6)},
        ValueError,
        ["'relu'", "empty", "(0, 6)", "drop"],
    ),
    "no images": ({"relu": torch.ones(4, 0)}, ValueError, ["'relu'", "empty", "(4, 0)", "record"]),
    "no blocks": ({}, ValueError, ["no blocks", "record"]),
    "a list": ([torch.ones(3, 6)], TypeError, ["list", "dict"]),
    "a bare tensor": (torch.ones(3, 6), TypeError, ["Tensor", "dict"]),
    "a nested list": ({**GOOD, "relu": [[1.0, 2.0]]}, TypeError, ["'relu'", "list", "tensor"]),
    "one axis": (
        {**GOOD, "relu": torch.ones(6)},
        ValueError,
        ["'relu'", "(6,)", "two axes", "flatten"],
    ),
    "four axes": (
        {**GOOD, "relu": torch.ones(6, 1, 2, 2)},
        ValueError,
        ["'relu'", "(6, 1, 2, 2)", "flatten"],
    ),
    "complex": ({**GOOD, "relu": torch.ones(4, 6) * 1j}, TypeError, ["'relu'", "complex"]),
    "all zero": ({"relu": torch.zeros(4, 6)}, ValueError, ["'relu'", "zero"]),
}
BAD_OPTIONS = {
    "rank 0": ({"rank": 0}, ValueError, ["rank is 0", "6 images", "between 1 and 6"]),
    "rank too large": ({"rank": 7}, ValueError, ["rank is 7", "6 images", "between 1 and 6"]),
    "rank 2.5": ({"rank": 2.5}, TypeError, ["2.5", "whole number"]),
    "rank True": ({"rank": True}, TypeError, ["True", "whole number"]),
    "solver": ({"solver": "adam"}, ValueError, ["'adam'", "'hals'", "'mu'"]),
    "weight missing": (
        {"weights": {"relu": 1}},
        ValueError,
        ["relu", "input", "one weight for each"],
    ),
    "weight extra": (
        {"weights": {**WEIGHTS, "fc": 1}},
        ValueError,
        ["'fc'", "one weight for each"],
    ),
    "weight 0": ({"weights": {**WEIGHTS, "relu": 0}}, ValueError, ["'relu'", "is 0", "positive"]),
    "weight negative": (
        {"weights": {**WEIGHTS, "relu": -2}},
        ValueError,
        ["'relu'", "-2", "positive"],
    ),
    "weight NaN": (
        {"weights": {**WEIGHTS, "relu": float("nan")}},
        ValueError,
        ["'relu'", "nan", "finite"],
    ),
    "weights a list": ({"weights": [1, 2]}, TypeError, ["list", "dict"]),
    "max_iter negative": ({"max_iter": -1}, ValueError, ["max_iter is -1", "at least 0"]),
    "max_iter 2.5": ({"max_iter": 2.5}, TypeError, ["max_iter is 2.5", "whole number"]),
    "tol negative": ({"tol": -1e-4}, ValueError, ["tol is -0.0001"]),
    "max_iter None": ({"max_iter": None}, TypeError, ["max_iter is None", "whole number"]),
    "tol None": ({"tol": None}, TypeError, ["tol is None", "number"]),
    "tol a word": ({"tol": "auto"}, TypeError, ["tol is 'auto'", "number"]),
    "tol NaN": ({"tol": float("nan")}, ValueError, ["tol is nan"]),
    "init of another rank": (
        {"init": start_for(GOOD, 3)},
        ValueError,
        ["init", "(4, 3)", "(4, 2)"],
    ),
    "init of other images": (
        {"init": start_for({k: b[:, :5] for k, b in GOOD.items()}, 2)},
        ValueError,
        ["init", "5 images"],
    ),
}


def assert_refused(kind, words, blocks, rank=2, **options):
    with pytest.raises(kind) as caught:
        coupled_nmf(blocks, rank, **options)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.parametrize(("blocks", "kind", "words"), BAD_BLOCKS.values(), ids=BAD_BLOCKS.keys())
def test_bad_blocks_are_named_and_placed(blocks, kind, words):
    assert_refused(kind, words, blocks)


@pytest.mark.parametrize(("options", "kind", "words"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_bad_options_are_named(options, kind, words):
    assert_refused(kind, words, GOOD, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    assert_refused(RuntimeError, ["'cuda'", "no GPU", 'device="cpu"'], GOOD, device="cuda")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1.0])
def test_a_start_that_no_fit_could_have_given_is_refused(blocks, value):
    start = start_for(blocks, 4)
    start.image_factor[3, 2] = value
    with pytest.raises(ValueError, match="init"):
        coupled_nmf(blocks, 4, init=start, max_iter=2)


def test_a_sweep_has_a_length_and_its_pairs_and_fits_can_be_told_apart():
    sweep = rank_sweep({"input": torch.ones(6, 8)}, [1, 2])
    assert len(sweep) == 2 and list(sweep) == [(1, 0), (2, 0)]
    assert sweep[1, 0] == sweep[1, 0] and sweep[1, 0] != sweep[2, 0]
