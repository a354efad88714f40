"""On what the paper's Figure 3 may hang: the number of rounds of its updates, which it does not give."""

from collections.abc import Iterator

import peeklib as pk

from . import mnist
from .common import load
from .trainings import shuffled_test

ROUNDS = (20, 50, 100, 200)
IMAGES = 2_000  # of the tests


def few_rounds(seeds=range(1)) -> Iterator[dict]:
    """Case Study I by the paper's own updates, stopped after so many rounds; 2,000 test images.

    Yields:
        A row for each seed, network, rank and number of rounds.
    """
    data = load("mnist")
    images = shuffled_test(data, IMAGES).images
    for seed in seeds:
        for setting in mnist.FRACTIONS:
            blocks = pk.input_blocks(images)
            blocks |= pk.record(mnist.network(data, setting, seed), images)
            for row in stopped(blocks, seed):
                yield {"setting": setting, "seed": seed, **row}


def stopped(blocks: dict, seed: int, ranks=mnist.RANKS) -> Iterator[dict]:
    """Errors of the paper's updates after each of `ROUNDS`.

    Yields:
        A row for each rank and number of rounds.

    Example:
        >>> import torch
        >>> [row["rounds"] for row in stopped({"input": torch.rand(5, 9)}, 0, ranks=(2,))]
        [20, 50, 100, 200]
    """
    how = {"solver": "mu", "max_iter": ROUNDS[-1], "tol": 0}
    sweep = mnist.rank_sweep(blocks, ranks, [seed], **how)
    for rank in ranks:
        fit = sweep[rank, seed]
        for rounds in ROUNDS:
            error = float(fit.history[rounds])
            rmse = fit.rmse * error / fit.relative_error
            yield {"rank": rank, "rounds": rounds, "rmse": rmse, "relative_error": error}
