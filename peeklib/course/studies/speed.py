"""Where solvers end on the matrix of the race: left to stop by themselves, or after 200 rounds."""

from collections.abc import Iterator

import peeklib as pk

from ...solvers import all_or_nothing
from . import mnist
from .common import load

HOW = {
    "auto": {"max_iter": 400, "tol": 1e-4},
    "hals": {"max_iter": 400, "tol": 1e-4},
    "mu": {"max_iter": 500, "tol": 0},  # it would stop too soon
}
ROUNDS = 200
SHOWN = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)  # rounds with an error in a table


def ends(seeds=range(3)) -> Iterator[dict]:
    """Three solvers from the same random starts, at two ranks: where and how they end.

    Yields:
        A row for each seed, rank and solver.
    """
    data = load("mnist")
    model = pk.train(pk.models.PaperCNN(seed=0), *data.train, seed=0).model
    blocks = pk.input_blocks(data.test.images) | pk.record(model, data.test.images)
    for seed in seeds:
        for rank in (10, 50):
            for solver in HOW:
                yield end(blocks, solver, rank, seed)


def end(blocks: dict, solver: str, rank: int, seed: int, **options) -> dict:
    """One row of the table; `options` for a smaller fit.

    Returns:
        Where and how one fit ends, by column.

    Example:
        >>> import torch
        >>> block = torch.rand(8, 9, generator=torch.Generator().manual_seed(0))
        >>> end({"block": block}, "hals", rank=2, seed=0, max_iter=10, tol=0)["iterations"]
        10
    """
    with all_or_nothing():
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


def rounds(seeds=range(2)) -> Iterator[dict]:
    """The paper's updates and HALS, 200 rounds each from the same random starts, at three ranks.

    Yields:
        A row for each seed, rank and solver.
    """
    data = load("mnist")
    model = mnist.network(data, "100%", 0)
    blocks = pk.input_blocks(data.test.images) | pk.record(model, data.test.images)
    for seed in seeds:
        for rank in (10, 30, 50):
            yield from duel(blocks, rank, seed)


def duel(blocks: dict, rank: int, seed: int) -> Iterator[dict]:
    """A row for either solver: its errors on the way, and its rounds to what "mu" ends with.

    Also its largest relative rise from one round to the next.

    Yields:
        One dict for each solver.
    """
    fits = {}
    with all_or_nothing():
        for solver in ("mu", "hals"):
            fits[solver] = pk.coupled_nmf(
                blocks, rank, solver=solver, seed=seed, max_iter=ROUNDS, tol=0
            )
    goal = fits["mu"].history[-1]
    for solver, fit in fits.items():
        path = fit.history
        row = {
            "solver": solver,
            "rank": rank,
            "seed": seed,
            "relative_error": fit.relative_error,
            "largest rise": float((path[1:] / path[:-1]).max()) - 1,
            "rounds to mu's end": int((path > goal).sum()),
        }
        for count in SHOWN:
            row[f"after {count}"] = float(path[count])
        yield row
