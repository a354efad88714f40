"""The solvers behind `coupled_nmf`: updates, compression, stopping, memory, and defects known elsewhere.

X is features × images; factors lie on their side, rank × features and rank × images, as in `peeklib.solvers`.
"""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch.utils._python_dispatch import TorchDispatchMode

from peeklib import coupled_nmf, nmf, rank_sweep, solvers
from peeklib.blocks import check_blocks, stack

every_solver = pytest.mark.parametrize("solver", ["auto", "hals", "mu"])
WEIGHTS = {"input": 0.3, "relu": 7.0}


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stacked(parts):
    return torch.cat(list(parts.values()))


def product(fit):
    return stacked(fit.factors).double() @ fit.image_factor.double().T


def stack_up(blocks):
    return stack(check_blocks(blocks), None, torch.device("cpu"))


BLOCKS = {"input": rand(15, 40, seed=1), "relu": 3 * rand(10, 40, seed=2)}


@pytest.fixture
def blocks():
    return {name: block.clone() for name, block in BLOCKS.items()}


@pytest.fixture
def large():
    """A stack that is worth compressing at rank 3: sparse planted factors of rank 6, and noise."""
    F, W = (torch.relu(rand(n, 6, seed=n) - 0.5) for n in (120, 110))
    X = W @ F.T + 0.02 * rand(110, 120)
    return {"input": X[:50], "relu": X[50:]}


# One factor, the other one given


def one_by_one(V, B, G):
    """Coordinate descent as the formula says, row by row."""
    V = V.clone()
    for k in range(len(V)):
        if G[k, k] > 0:
            V[k] = (V[k] + (B[k] - G[k] @ V) / G[k, k]).clamp(min=0)
    return V


@pytest.mark.parametrize("rank", [1, 2, 7, 8, 9, 21])
def test_a_sweep_in_blocks_is_coordinate_descent(rank):
    W, X, V = rand(rank, 30), rand(30, 50, seed=1) - 0.3, rand(rank, 50, seed=2)
    expected = one_by_one(one_by_one(V, W @ X, W @ W.T), W @ X, W @ W.T)
    solvers.hals_update(V, W @ X, W @ W.T, [slice(0, rank)], sweeps=2)
    torch.testing.assert_close(V, expected, rtol=1e-10, atol=1e-12)
    assert (V >= 0).all() and (rank == 1 or (V == 0).any())


def test_a_component_without_a_partner_is_left_alone():
    W, V = rand(4, 30), rand(4, 50, seed=2)
    W[2] = 0
    before = V.clone()
    solvers.hals_update(V, W @ rand(30, 50, seed=1), W @ W.T, [slice(0, 4)])
    assert torch.equal(V[2], before[2]) and not torch.equal(V[1], before[1])


@pytest.mark.parametrize("update", [solvers.hals_update, solvers.mu_update])
def test_fits_side_by_side_do_not_see_each_other(update):
    W, X, V = rand(7, 30), rand(30, 50, seed=1), rand(7, 50, seed=2)
    rows, B = [slice(0, 3), slice(3, 7)], W @ X
    G = torch.block_diag(*(W[fit] @ W[fit].T for fit in rows))
    alone = [V[fit].clone() for fit in rows]
    for v, fit in zip(alone, rows, strict=True):
        update(v, B[fit], G[fit, fit], [slice(0, len(v))])
    update(V, B, G, rows)
    torch.testing.assert_close(V, torch.cat(alone))


def test_sweeps_go_on_to_the_non_negative_least_squares_solution():
    """An inner stopping rule that fires too early, or never, would show here."""
    W, X = rand(5, 30), rand(30, 6, seed=1)
    V = torch.zeros(5, 6, dtype=torch.float64)
    solvers.hals_update(V, W @ X, W @ W.T, [slice(0, 5)], sweeps=3000)
    for column, image in zip(V.T, X.T, strict=True):
        expected = torch.from_numpy(nnls(W.T.numpy(), image.numpy())[0])
        torch.testing.assert_close(column, expected, rtol=1e-7, atol=1e-9)


# Where a fit ends


def factors_of(fit):
    return [stacked(fit.factors).T], [fit.image_factor.T]


@pytest.fixture(scope="module")
def settled():
    """Fits at a stationary point, as far as float64 goes."""
    fits = {}
    for solver in ("auto", "hals"):
        fits[solver] = coupled_nmf(BLOCKS, 4, solver=solver, max_iter=700, tol=0)
    assert all(fit.kkt < 1e-4 for fit in fits.values())
    return fits


@pytest.mark.parametrize("solver", ["auto", "hals"])
def test_no_solver_leaves_the_fixed_point_of_another(blocks, settled, solver):
    for other in ("auto", "hals", "mu"):
        after = coupled_nmf(blocks, 4, solver=other, init=settled[solver], max_iter=20, tol=0)
        torch.testing.assert_close(product(after), product(settled[solver]), rtol=1e-3, atol=1e-3)


def test_the_kkt_residual_is_zero_only_where_nothing_moves(blocks, settled):
    data = stack_up(blocks)
    (W,), (F,) = factors_of(settled["hals"])
    assert solvers.kkt_residuals(data, [W], [F])[0] < 1e-4
    assert solvers.kkt_residuals(data, [1.1 * W], [F])[0] > 0.05
    freed = W.clone()
    freed[W == 0] = 0.1 * W.max()  # an entry that should be zero and is not
    assert (W == 0).any() and solvers.kkt_residuals(data, [freed], [F])[0] > 0.01


@pytest.mark.parametrize("power", [-40, 24])
def test_epsilon_is_not_seen_where_the_factors_of_a_component_lie_apart(blocks, power):
    start = coupled_nmf(blocks, 4, max_iter=30)
    sizes = torch.tensor([1, 2.0**power, 1, 1], dtype=torch.float64)
    factors = {name: W * sizes for name, W in start.factors.items()}
    apart = replace(start, factors=factors, image_factor=start.image_factor / sizes)
    fits = [coupled_nmf(blocks, 4, solver="mu", init=init, tol=0) for init in (start, apart)]
    assert fits[1].history == pytest.approx(fits[0].history, rel=1e-6)


@pytest.mark.parametrize("solver", ["auto", "hals"])
def test_rounds_do_not_see_how_components_are_scaled(blocks, solver):
    start = coupled_nmf(blocks, 4, max_iter=2)
    factors = {name: W * 2.0**40 for name, W in start.factors.items()}
    apart = replace(start, factors=factors, image_factor=start.image_factor / 2.0**40)
    fits = [coupled_nmf(blocks, 4, solver=solver, init=init) for init in (start, apart)]
    assert np.array_equal(fits[0].history, fits[1].history) and fits[0].kkt == fits[1].kkt


def test_size_that_wandered_from_one_factor_to_the_other_is_moved_back(blocks):
    data, (W, F) = stack_up(blocks), (rand(2, 25), rand(2, 40))
    for scale in (2.0**-80, 2.0**80):
        group = solvers.Group(data, data.total_energy, [solvers.Run(W * scale, F / scale)])
        dead = group.balance(group.F.square().sum(dim=1), group.W.square().sum(dim=1))
        assert not dead and torch.equal(group.W, W) and torch.equal(group.F, F)


def test_the_kkt_residual_does_not_see_how_components_are_scaled(blocks):
    fit = coupled_nmf(blocks, 4, max_iter=5)
    (W,), (F,) = factors_of(fit)
    scale = torch.tensor([[0.1], [1], [20], [300]], dtype=torch.float64)
    first, scaled = solvers.kkt_residuals(stack_up(blocks), [W, W * scale], [F, F / scale])
    assert first == pytest.approx(scaled) and first == pytest.approx(fit.kkt)


def test_mu_may_be_slow_without_being_done(large):
    mu = coupled_nmf(large, 3, solver="mu", max_iter=40, tol=0)
    hals = coupled_nmf(large, 3, solver="hals", max_iter=40, tol=0)
    assert mu.kkt > 3 * hals.kkt and mu.history[-1] > hals.history[-1]


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_errors_of_a_nearly_perfect_fit_are_right(dtype, solver):
    """‖X‖² − 2⟨…⟩ + ⟨…⟩ would cancel to noise in float32."""
    F, W = torch.relu(rand(60, 2, seed=1) - 0.3), torch.relu(rand(50, 2, seed=2) - 0.3)
    blocks = {"a": (W @ F.T).to(dtype)}
    fit = coupled_nmf(blocks, 2, solver=solver, max_iter=800 if solver == "mu" else 200, tol=0)
    naive = (blocks["a"].double() - product(fit)).norm() / blocks["a"].double().norm()
    close = {torch.float64: 1e-6, torch.float32: 0.02}[dtype]
    assert naive < 1e-3
    assert fit.relative_error == pytest.approx(naive.item(), rel=close, abs=1e-8)


# Components that die


@pytest.mark.parametrize("solver", ["auto", "hals"])
def test_dead_components_are_revived_and_help(blocks, solver):
    whole = coupled_nmf(blocks, 6, solver=solver, max_iter=100)
    half = coupled_nmf(blocks, 3, solver=solver, max_iter=100)
    padded = {name: torch.cat([W, torch.zeros_like(W)], dim=1) for name, W in half.factors.items()}
    F = torch.cat([half.image_factor, torch.zeros_like(half.image_factor)], dim=1)
    start = replace(half, image_factor=F, factors=padded)
    fit = coupled_nmf(blocks, 6, solver=solver, init=start, max_iter=100)
    assert fit.image_factor.any(dim=0).all() and fit.relative_error < 0.95 * half.relative_error
    assert fit.relative_error < 1.1 * whole.relative_error


def test_a_component_with_nothing_left_to_explain_stays_dead():
    F, W = rand(30, 2, seed=1), rand(20, 2, seed=2)
    fit = coupled_nmf({"a": W @ F.T}, 5, solver="hals", max_iter=500)
    assert fit.relative_error < 1e-2 and product(fit).isfinite().all()


# Extrapolation


def test_a_step_that_raises_the_loss_is_undone(blocks):
    data, ends = stack_up(blocks), []
    for beta in (0.3, 50.0):  # sensible, and far too far
        start = solvers.Run(rand(4, 25, seed=1), rand(4, 40, seed=2), pace=solvers.Pace(beta))
        with solvers.side_by_side(data, data.total_energy, [start]) as group:
            solvers.scale(group)
            solvers.iterate(group, "auto", solvers.Stop(200, tol=0), lambda served: None)
        assert torch.tensor(group.runs[0].history).diff().max() <= 1e-12
        ends += group.runs
    sensible, too_far = ends
    assert (torch.tensor(too_far.history).diff() == 0).any()
    assert too_far.loss == pytest.approx(sensible.loss, rel=0.03)


# Steps on one matrix, and from one to the next


def one_group(runs, begin, stop, X, served):
    """The runs after this beginning and rounds of HALS on X; `served` gets how many each round had."""
    with solvers.side_by_side(X, X.total_energy, runs) as group:
        begin(group)
        solvers.iterate(group, "hals", stop, lambda group: served.append(len(group.active)))
    return group.runs


def test_runs_go_on_as_values_and_those_given_stay_as_they_are(blocks):
    data, start = stack_up(blocks), solvers.Run(rand(4, 25, seed=1), rand(4, 40, seed=2))
    before = start.Wt.clone(), start.Ft.clone()
    served = []
    (half,) = one_group([start], solvers.scale, solvers.Stop(6, 0), data, served)
    (rest,) = one_group([half], solvers.measure, solvers.Stop(15, 0), data, served)
    (whole,) = one_group([start], solvers.scale, solvers.Stop(15, 0), data, served)
    assert start.history == [] and torch.equal(start.Wt, before[0])
    assert torch.equal(start.Ft, before[1]) and len(half.history) == 7
    assert torch.equal(rest.Wt, whole.Wt) and torch.equal(rest.Ft, whole.Ft)
    assert rest.history == pytest.approx(whole.history, rel=1e-9) and len(served) == 30
    assert rest.seconds > half.seconds > 0


def test_a_run_at_its_end_leaves_the_others_to_go_on_and_the_order_stays(blocks):
    data = stack_up(blocks)
    runs = [solvers.Run(rand(k, 25, seed=k), rand(k, 40, seed=9)) for k in (3, 1)]
    served = []
    stop = solvers.Stop(300, tol=1e-3, kkt_tol=0.02)
    found = one_group(runs, solvers.scale, stop, data, served)
    assert [len(run.Wt) for run in found] == [3, 1] and all(run.converged for run in found)
    assert served == sorted(served, reverse=True) and set(served) == {1, 2}
    assert [run.history[0] > run.history[-1] for run in found] == [True, True]
    assert len(served) == max(len(run.history) for run in found) - 1


def test_new_images_are_placed_whatever_f_was(large):
    data = stack_up(large)
    begun = solvers.Run(rand(3, 110, seed=1), rand(3, 7, seed=2), history=[0.9])  # of 7 images
    with solvers.side_by_side(data, data.total_energy, [begun]) as group:
        solvers.place_images(group)
    (placed,) = group.runs
    assert placed.Ft.shape == (3, 120) and (placed.Ft >= 0).all() and len(placed.history) == 2
    left = (stacked(large) - placed.Wt.T @ placed.Ft).square().sum().item()
    assert placed.loss == pytest.approx(left, rel=1e-9)
    assert placed.history[1] == pytest.approx((left / data.total_energy) ** 0.5)


def test_an_interrupt_ends_what_is_inside_and_nothing_else(blocks):
    data, start = stack_up(blocks), solvers.Run(rand(4, 25, seed=1), rand(4, 40, seed=2))
    with solvers.side_by_side(data, data.total_energy, [start]) as group:
        solvers.scale(group)
        raise KeyboardInterrupt
    assert group.runs[0].interrupted and not start.interrupted
    assert len(group.runs[0].history) == 1 and not torch.equal(group.runs[0].Ft, start.Ft)
    with pytest.raises(ZeroDivisionError), solvers.side_by_side(data, 1.0, [start]):
        raise ZeroDivisionError


def test_all_or_nothing_lets_an_interrupt_out_however_it_is_nested(blocks, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(solvers.UPDATES, "mu", stop)
    with solvers.all_or_nothing():
        with solvers.all_or_nothing():
            pass
        with pytest.raises(KeyboardInterrupt):
            coupled_nmf(blocks, 2, solver="mu")
        with pytest.raises(KeyboardInterrupt):
            rank_sweep(blocks, [1, 2], solver="mu")
    assert coupled_nmf(blocks, 2, solver="mu").interrupted


# The smaller matrix that "auto" begins with


def test_a_compressed_matrix_multiplies_as_the_dense_one(large):
    X = stacked(large)
    small = solvers.compress(stack_up(large), 20)
    dense = small.Q @ small.B
    torch.testing.assert_close(rand(3, 110) @ small, rand(3, 110) @ dense)
    torch.testing.assert_close(rand(3, 120) @ small.T, rand(3, 120) @ dense.T)
    lost = torch.linalg.svdvals(X)[20:].norm()
    assert lost <= (X - dense).norm() <= 1.1 * lost


def matrices_used(monkeypatch, blocks, **options):
    """Types of the matrices that a fit goes down on, and how many images each has."""
    used = []

    def watched(X, *args):
        used.append((type(X).__name__, X.shape[1]))
        return solvers.side_by_side(X, *args)

    monkeypatch.setattr(nmf, "side_by_side", watched)
    return coupled_nmf(blocks, 3, solver="auto", **options), used


@pytest.mark.parametrize("power", [-99, 83])
def test_a_matrix_of_any_size_is_compressed(power):
    X = torch.outer(torch.arange(1.0, 9), torch.arange(1.0, 12))
    small, other = solvers.compress(X, 2), solvers.compress(X * 2.0**power, 2)
    model = torch.eye(8) @ other / 2.0**power
    torch.testing.assert_close(model, X)
    torch.testing.assert_close(torch.eye(8) @ small, X)


def test_auto_begins_on_a_compressed_stack_and_ends_on_the_stack_itself(large, monkeypatch):
    fit, used = matrices_used(monkeypatch, large)
    assert used == [("LowRank", 120), ("Stack", 120)] and fit.converged


def test_auto_begins_on_a_sample_where_there_are_many_images(large, monkeypatch):
    monkeypatch.setattr(nmf, "SAMPLE", 1)
    monkeypatch.setattr(nmf, "PER_COMPONENT", 20)
    fit, used = matrices_used(monkeypatch, large)
    assert used == [("LowRank", 60), ("Stack", 120)] and fit.converged


def test_products_and_loss_are_exact_where_x_was_seen(large):
    X, W, F = stacked(large), rand(3, 110, seed=5), rand(3, 120, seed=6)
    near = solvers.Nearby.of(solvers.compress(X, 5), W, F, W @ X, F @ X.T)
    torch.testing.assert_close(W @ near, W @ X)
    torch.testing.assert_close(F @ near.T, F @ X.T)
    explained = ((F @ near.T) * W).sum() + near.unseen(F).sum()
    torch.testing.assert_close(explained, ((F @ X.T) * W).sum())


def kinds_of_rounds(monkeypatch, blocks, **options):
    """A fit whose compressed rounds are said to be cheap, and on what each was."""
    kinds, one_round = [], solvers._extrapolated_round

    def watched(group):
        kinds.append(type(group.X).__name__)
        one_round(group)

    monkeypatch.setattr(nmf, "CHEAPER", 0)
    monkeypatch.setattr(solvers, "_extrapolated_round", watched)
    return coupled_nmf(blocks, 3, tol=1e-5, **options), kinds


def test_most_rounds_need_no_product_with_the_data(monkeypatch):
    planted = rand(90, 3, seed=1) @ rand(3, 120, seed=2)
    blocks = {"input": planted + 0.1 * rand(90, 120, seed=3)}
    plain = coupled_nmf(blocks, 3, tol=1e-5)
    fit, kinds = kinds_of_rounds(monkeypatch, blocks)
    assert kinds.count("Nearby") > kinds.count("Stack") and kinds[-1] == "Stack"
    assert fit.converged and fit.history[-1] == pytest.approx(fit.relative_error, rel=1e-9)
    assert fit.relative_error <= 1.001 * plain.relative_error


def test_rounds_that_lead_astray_are_undone_and_not_tried_again(monkeypatch):
    blocks = {"input": (rand(90, 120, seed=1) < 0.05).double()}  # which no few directions hold
    plain = coupled_nmf(blocks, 3, tol=1e-5)
    fit, kinds = kinds_of_rounds(monkeypatch, blocks)
    assert 0 < kinds.count("Nearby") <= 2 * solvers.NEARBY
    assert fit.converged and fit.relative_error <= 1.005 * plain.relative_error


@pytest.mark.parametrize("options", [{"max_iter": 2}, {"init": True}], ids=["no time", "a start"])
def test_auto_leaves_it_where_there_is_nothing_to_gain(large, blocks, monkeypatch, options):
    if "init" in options:
        options = {"init": coupled_nmf(large, 3, max_iter=5)}
    assert matrices_used(monkeypatch, large, **options)[1] == [("Stack", 120)]
    assert matrices_used(monkeypatch, blocks)[1] == [("Stack", 40)]


@pytest.mark.parametrize("sample", [3000, 1])
@pytest.mark.parametrize(
    "options",
    [{}, {"tol": 0, "max_iter": 60}, {"weights": WEIGHTS}],
    ids=["tol", "tol 0", "weights"],
)
def test_auto_ends_as_low_as_hals(large, options, sample, monkeypatch):
    monkeypatch.setattr(nmf, "SAMPLE", sample)
    monkeypatch.setattr(nmf, "PER_COMPONENT", 20)
    auto, hals = (coupled_nmf(large, 3, solver=solver, **options) for solver in ("auto", "hals"))
    assert auto.history[-1] <= 1.01 * hals.history[-1]
    naive = (stacked(large) - product(auto)).square().mean().sqrt().item()
    assert auto.rmse == pytest.approx(naive, rel=1e-6)
    assert all((factor >= 0).all() for factor in (auto.image_factor, *auto.factors.values()))
    goes_on = coupled_nmf(large, 3, init=auto, max_iter=0, weights=options.get("weights"))
    assert auto.history[-1] == pytest.approx(goes_on.history[-1], rel=1e-9)


def test_a_sweep_with_auto_fits_as_well_as_one_by_one(large):
    sweep = rank_sweep(large, [2, 4], solver="auto")
    for (rank, seed), fit in sweep.fits.items():
        alone = coupled_nmf(large, rank, seed=seed, solver="auto")
        assert fit.rmse == pytest.approx(alone.rmse, rel=0.01)


@pytest.mark.parametrize("at", ["sample", "placing", "data"])
def test_an_interrupt_places_every_image_whenever_it_comes(large, monkeypatch, at):
    monkeypatch.setattr(nmf, "SAMPLE", 1)
    monkeypatch.setattr(nmf, "PER_COMPONENT", 20)
    calls, images = [], {"sample": 60, "placing": 120, "data": 120}[at]

    def stops(update):
        def stopping(V, *args, **how):
            update(V, *args, **how)
            calls.append(V.shape[1])
            if calls.count(images) == {"sample": 9, "placing": 1, "data": 4}[at]:
                raise KeyboardInterrupt

        return stopping

    monkeypatch.setitem(solvers.UPDATES, "auto", stops(solvers.UPDATES["auto"]))
    if at == "placing":
        monkeypatch.setattr(solvers, "place", stops(solvers.place))
    fit = coupled_nmf(large, 3, solver="auto", max_iter=100, tol=0)
    assert fit.interrupted and not fit.converged and fit.image_factor.shape == (120, 3)
    assert fit.relative_error < 1.5 * coupled_nmf(large, 3, solver="hals").relative_error


def test_an_interrupt_on_the_sample_says_of_no_fit_that_it_converged(large, monkeypatch):
    calls, update = [], solvers.UPDATES["auto"]

    def stops(*args):
        calls.append(None)
        update(*args)
        if len(calls) == 40:
            raise KeyboardInterrupt

    monkeypatch.setitem(solvers.UPDATES, "auto", stops)
    fits = rank_sweep(large, [1, 5], tol=1e-5).fits.values()
    assert all(fit.interrupted and not fit.converged and fit.kkt >= 0 for fit in fits)


def test_an_interrupt_between_iterations_keeps_the_fits_before_it(large, monkeypatch):
    monkeypatch.setattr(nmf, "_groups", lambda data, pairs: [[pair] for pair in pairs])
    fit, done = nmf._fit, []

    def stops(*args):
        if done:
            raise KeyboardInterrupt
        done.append(None)
        return fit(*args)

    monkeypatch.setattr(nmf, "_fit", stops)
    sweep = rank_sweep(large, [1, 2], max_iter=5)
    assert list(sweep.fits) == [(1, 0)] and sweep.interrupted and "interrupted" in repr(sweep)
    done.clear()
    with pytest.raises(KeyboardInterrupt), solvers.all_or_nothing():
        rank_sweep(large, [1, 2], max_iter=5)


def test_a_sample_without_anything_in_it_is_not_used(monkeypatch):
    monkeypatch.setattr(nmf, "SAMPLE", 1)
    monkeypatch.setattr(nmf, "PER_COMPONENT", 1)
    X = torch.zeros(20, 600)
    X[:, 7] = 1
    assert coupled_nmf({"a": X}, 1).relative_error < 1e-6


# Memory


class Largest(TorchDispatchMode):
    """Watches for the largest tensor that is made while it is on; views make nothing."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if not isinstance(tensor, torch.Tensor):
                continue
            if tensor.untyped_storage().data_ptr() not in given:
                self.entries = max(self.entries, tensor.numel())
        return out


@every_solver
def test_no_fit_makes_anything_as_large_as_the_data(solver, monkeypatch):
    monkeypatch.setattr("peeklib.blocks.CHUNK", 200)
    blocks = {"input": rand(40, 70, seed=1), "relu": rand(50, 70, seed=2)}
    with Largest() as largest:
        coupled_nmf(blocks, 3, solver=solver, max_iter=20)
    assert 3 * 90 <= largest.entries <= solvers.BLOCK * 90 < 90 * 70 / 4


def test_the_watcher_sees_a_large_temporary():
    with Largest() as largest:
        _ = (rand(6, 3) @ rand(3, 5)).T - 1
    assert largest.entries == 30


PEAK = """
import torch
from peeklib import coupled_nmf, rank_sweep

def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) * 1024

def measure(call):
    open("/proc/self/clear_refs", "w").write("5")  # the peak is now what there is
    before = peak()
    call()
    print((peak() - before) / nbytes)

torch.set_num_threads(1)
blocks = {"input": torch.rand(500, 6_000), "relu": torch.rand(750, 6_000)}
nbytes = sum(block.nbytes for block in blocks.values())
how = dict(max_iter=4, tol=0, device="cpu")
coupled_nmf({"a": torch.rand(300, 600)}, 5, max_iter=30)  # whatever loads on first use
measure(lambda: coupled_nmf(blocks, 25, **how))
measure(lambda: rank_sweep(blocks, [10, 25], range(3), **how))
measure(lambda: [block.clone() for block in [*blocks.values()] * 2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux counts it")
def test_peak_memory_stays_below_125_percent_of_the_data(fresh):
    done = fresh(PEAK)
    assert done.returncode == 0, done.stderr
    fit, sweep, two_copies = map(float, done.stdout.split())
    assert 0 < fit <= 1.25
    assert 0 < sweep <= 1.25
    assert 1.9 < two_copies < 2.2, "the measure sees what is made"
