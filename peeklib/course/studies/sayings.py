"""What Saini and Papalexakis say in passing of MNIST's digits: round shapes, classes a line apart."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot

import peeklib as pk

from . import mnist
from .common import load
from .neurons import shares

ROUND = {0, 6, 9}
RIDGE = 1e-3  # of the mean square of the features
NETWORKS = (*mnist.FRACTIONS, "ordered", "untrained")


def round_shapes(seeds=range(1)) -> Iterator[dict]:
    """How many components have 0, 6 and 9 as their three top classes; and any other three digits.

    Yields:
        A row for each seed, network and rank.
    """
    data = load("mnist")
    for seed in seeds:
        for setting in NETWORKS:
            one = mnist.case(data, setting, seed)
            for rank in mnist.RANKS:
                row = {"setting": setting, "seed": seed, "rank": rank}
                yield row | three_tops(one.fit(rank).image_factor, data.test.labels)


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
    data = load("mnist")
    for seed in seeds:
        for setting in NETWORKS:
            one = mnist.case(data, setting, seed)
            accuracy = pk.accuracy(one.model, *data.test)
            for layer, block in one.blocks.items():
                found = by_a_line(block, data.test.labels)
                row = {"setting": setting, "seed": seed, "accuracy": accuracy}
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
    X = torch.cat([block, torch.ones(1, block.shape[1])]).double()  # with a constant
    even, odd = X[:, ::2], X[:, 1::2]
    ridge = RIDGE * even.square().mean() * even.shape[1] * torch.eye(len(X), dtype=X.dtype)
    answers = one_hot(labels[::2], 10).double()
    weights = torch.linalg.solve(even @ even.T + ridge, even @ answers)  # features × 10
    return ((weights.T @ odd).argmax(0) == labels[1::2]).double().mean().item()
