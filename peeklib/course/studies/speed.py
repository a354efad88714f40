"""Where solvers end that are left to stop by themselves, on the matrix of the race."""

from collections.abc import Iterator

import peeklib as pk

from .common import load

HOW = {
    "auto": {"max_iter": 400, "tol": 1e-4},
    "hals": {"max_iter": 400, "tol": 1e-4},
    "mu": {"max_iter": 500, "tol": 0},  # it would stop too soon
}


def ends(seeds=range(3)) -> Iterator[dict]:
    """Three solvers from the same random starts, at two ranks: their errors, and how near to an end they are."""
    data = load("mnist")
    model = pk.train(pk.models.PaperCNN(seed=0), *data.train, seed=0).model
    blocks = pk.input_blocks(data.test.images) | pk.record(model, data.test.images)
    for seed in seeds:
        for rank in (10, 50):
            for solver in HOW:
                yield end(blocks, solver, rank, seed)


def end(blocks: dict, solver: str, rank: int, seed: int, **options) -> dict:
    """One row of the table; `options` for a smaller fit."""
    fit = pk.coupled_nmf(blocks, rank, solver=solver, seed=seed, **HOW[solver] | options)
    return {
        "solver": solver,
        "rank": rank,
        "seed": seed,
        "relative_error": fit.relative_error,
        "iterations": fit.iterations,
        "progress": (fit.history[-6] / fit.history[-1] - 1) / 5,  # a round, mean of the last five
        "kkt": fit.kkt,
        "converged": fit.converged,
    }
