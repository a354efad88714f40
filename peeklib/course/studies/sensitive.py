"""On what two figures of the paper hang: the rounds of its updates, and the learning rate."""

from collections.abc import Iterator

import peeklib as pk

from . import mnist
from .common import load
from .trainings import shuffled_test, train_and_factorize

ROUNDS = (20, 50, 100, 200)
IMAGES = 2_000  # of the tests
RECIPES = {  # that of the repository which the paper names is "0.1"; the others are near it
    "0.01": {"lr": 0.01, "batch_size": 128},
    "0.01, batches of 64": {"lr": 0.01, "batch_size": 64},
    "0.1": {"lr": 0.1, "batch_size": 128},
}
WITH = {"momentum": 0.9, "weight_decay": 5e-4}  # all of them


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


def rates(seeds=range(1), recipes=tuple(RECIPES), count: int = 1_000) -> Iterator[dict]:
    """Figure 6 at other learning rates: four fractions of CIFAR-10, `count` test images.

    Yields:
        A row for each network and rank.
    """
    data = load("cifar10")
    test = shuffled_test(data, count)
    for recipe in recipes:
        for seed in seeds:
            for fraction in (0.25, 1.0, 0.5, 0.75):
                yield from train_and_factorize(
                    {"recipe": recipe, "fraction": fraction, "images": count},
                    pk.models.CifarAlexNet(3, seed=seed),
                    pk.subset(data, fraction=fraction, seed=seed),
                    test,
                    ranks=mnist.RANKS,
                    seed=seed,
                    **RECIPES[recipe],
                    **WITH,
                )
