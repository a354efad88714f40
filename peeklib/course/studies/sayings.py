"""What Saini and Papalexakis say in passing of MNIST's digits: round shapes, classes a line apart."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import peeklib as pk

from . import mnist
from .common import FIT, load
from .neurons import shares
from .trainings import shuffled_test

ROUND = {0, 6, 9}
RIDGE = (
    0.1  # of the mean square of the features; least squares fail with as many features as images
)
IMAGES = 2_000  # of the tests
SHAPED = ("100%", "ordered")  # networks whose components are looked at
TAUGHT = (*mnist.FRACTIONS, "untrained")  # networks in which lines are drawn


def blocks_of(setting: str, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Input, relu1 and relu2 of a network for some test images, and their labels.

    Returns:
        Blocks, features × images, and one digit for each image.
    """
    data = load("mnist")
    images, labels = shuffled_test(data, IMAGES)
    model = mnist.network(data, setting, seed)
    return pk.input_blocks(images) | pk.record(model, images), labels


def round_shapes(seeds=range(1)) -> Iterator[dict]:
    """How many components have 0, 6 and 9 as their three top classes; and any other three digits.

    Yields:
        A row for each seed, network and rank.
    """
    for seed in seeds:
        for setting in SHAPED:
            blocks, labels = blocks_of(setting, seed)
            sweep = mnist.rank_sweep(blocks, mnist.RANKS, [seed], **FIT)
            for rank in mnist.RANKS:
                row = {"setting": setting, "seed": seed, "rank": rank}
                yield row | three_tops(sweep[rank, seed].image_factor, labels)


def three_tops(F: Tensor, labels: Tensor) -> dict:
    """Components by their three top classes, those with the largest shares of the loading.

    Returns:
        How many have 0, 6 and 9; how many have a set of three on average over all 120 sets; and how
        many the most frequent set has.

    Example:
        >>> loads = torch.eye(10)[:, :1] + torch.eye(10)[:, 6:7] + torch.eye(10)[:, 9:]
        >>> three_tops(loads, torch.arange(10))
        {'0, 6 and 9': 1, 'of any three': 0.008333333333333333, 'most': 1}
    """
    ranked = shares(F, labels).T.argsort(descending=True)[:, :3]  # components × 3
    sets = [frozenset(classes) for classes in ranked.tolist()]
    return {
        "0, 6 and 9": sets.count(frozenset(ROUND)),
        "of any three": len(sets) / 120,
        "most": max(map(sets.count, sets)),
    }


def separable(seeds=range(1)) -> Iterator[dict]:
    """How well a line tells the digits apart, in the pixels and in both hidden layers.

    Yields:
        A row for each seed, network and block.
    """
    for seed in seeds:
        for setting in TAUGHT:
            blocks, labels = blocks_of(setting, seed)
            for layer, block in blocks.items():
                found = by_a_line(block, labels)
                row = {"setting": setting, "seed": seed}
                yield row | {"layer": layer, "linear accuracy": found}


def by_a_line(block: Tensor, labels: Tensor) -> float:
    """Accuracy of ridge regression on the classes: fitted to even images, tried on odd ones.

    Args:
        block: features × images.
        labels: one digit for each image.

    Returns:
        Between 0 and 1.

    Example:
        >>> labels = torch.arange(10).repeat(4).sort().values
        >>> by_a_line(torch.eye(10)[:, labels], labels)
        1.0
    """
    X = torch.cat([block, torch.ones(1, block.shape[1])])  # with a constant
    even, odd = X[:, ::2], X[:, 1::2]
    ridge = RIDGE * even.square().mean() * even.shape[1] * torch.eye(len(X), dtype=X.dtype)
    answers = one_hot(labels[::2], 10).to(X.dtype)
    weights = torch.linalg.solve(even @ even.T + ridge, even @ answers)  # features × 10
    return ((weights.T @ odd).argmax(0) == labels[1::2]).double().mean().item()
