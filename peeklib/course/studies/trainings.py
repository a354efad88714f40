"""Beyond the networks of `mnist`: the deeper network on both data sets, and classes in many orders.

What describes a network repeats over the rows of its ranks.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import pad

import peeklib as pk

from ...solvers import all_or_nothing
from .common import FIT, entropy_rank, load, recalls

RECIPES = {"paper": {"lr": 0.01, "momentum": 0.5}, "tuned": {"lr": 0.02, "momentum": 0.9}}
MARGINS = {"mnist": 2, "cifar10": 0}  # pixels added on each side: 28×28 becomes 32×32


def train_and_factorize(
    which: dict, model: nn.Module, part: pk.Split, test: pk.Split, *, ranks, seed: int, **recipe
) -> Iterator[dict]:
    """Train `model` on `part` and factorize what it makes of `test`: one row for each rank.

    Args:
        which: what tells this network from others, repeated in every row.
        model: changed in place.
        part: what it is trained on.
        test: what is recorded.
        ranks: of the coupled factorizations.
        seed: of training, and of the start of each factorization.
        recipe: for `pk.train`.

    Yields:
        One dict for each rank.

    Example:
        >>> part = pk.Split(torch.rand(8, 1, 4, 4), torch.arange(8) % 2)
        >>> model = pk.models.MLP(classes=2, size=4, width=0.1)
        >>> rows = train_and_factorize({}, model, part, part, ranks=(1, 2), seed=0)
        >>> [row["rank"] for row in rows]
        [1, 2]
    """
    pk.train(model, *part, seed=seed, **recipe)
    blocks = pk.input_blocks(test.images) | pk.record(model, test.images)
    facts = {"accuracy": pk.accuracy(model, *test), **recalls(model, test)}
    for name, block in blocks.items():
        facts[f"entropy rank of {name}"] = entropy_rank(block)
    with all_or_nothing():
        table = pk.rank_sweep(blocks, ranks, [seed], **FIT).table()
    for row in table.drop(columns=["seed", "seconds"]).to_dict("records"):
        yield {**which, "seed": seed, **row, **facts}


def shuffled_test(data: pk.Dataset, count: int) -> pk.Split:
    """`count` random test images: files sorted by class would give a few classes only.

    Returns:
        Images and their labels, the same at every call.

    Example:
        >>> some = pk.Split(torch.zeros(9, 1, 2, 2, dtype=torch.uint8), torch.arange(9) // 3)
        >>> black = pk.Dataset("black", some, some, classes=("a", "b", "c"), source="made up")
        >>> shuffled_test(black, 4).images.shape
        torch.Size([4, 1, 2, 2])
    """
    order = torch.randperm(len(data.test.labels), generator=torch.Generator().manual_seed(0))
    chosen = order[:count]
    return pk.Split(data.test.images[chosen], data.test.labels[chosen])


def padded(part: pk.Split, margin: int) -> pk.Split:
    """The same images with so many black pixels more on each side.

    Returns:
        Height and width are 2 · `margin` larger.

    Example:
        >>> padded(pk.Split(torch.ones(3, 1, 28, 28), torch.arange(3)), 2).images.shape
        torch.Size([3, 1, 32, 32])
    """
    return pk.Split(pad(part.images, [margin] * 4), part.labels)


def alexnet(seeds=range(3)) -> Iterator[dict]:
    """Case Study I on the deeper network: four fractions, both data sets, 5,000 test images.

    Yields:
        A row for each network and rank.
    """
    for seed in seeds:
        for name, recipe in (("cifar10", "tuned"), ("mnist", "tuned"), ("cifar10", "paper")):
            data = load(name)
            test = padded(shuffled_test(data, 5_000), MARGINS[name])
            for fraction in (0.25, 0.5, 0.75, 1.0):
                part = pk.subset(data, fraction=fraction, seed=seed)
                yield from train_and_factorize(
                    {"data": name, "recipe": recipe, "fraction": fraction},
                    pk.models.CifarAlexNet(test.images.shape[1], seed=seed),
                    padded(part, MARGINS[name]),
                    test,
                    ranks=(10, 20, 30, 40, 50),
                    seed=seed,
                    **RECIPES[recipe],
                )


def untrained(seeds=range(3)) -> Iterator[dict]:
    """Entropy ranks of the deeper network's layers as it starts, for the images of `alexnet`.

    Yields:
        A row for each seed and layer.
    """
    images, _ = shuffled_test(load("cifar10"), 5_000)
    for seed in seeds:
        blocks = pk.record(pk.models.CifarAlexNet(3, seed=seed), images)
        for layer, block in blocks.items():
            yield {"seed": seed, "layer": layer, "entropy rank": pk.effective_rank(block)}


def orders(seeds=range(3)) -> Iterator[dict]:
    """Case Study III: classes one by one, in eleven orders; and 9 first at other learning rates.

    Yields:
        A row for each network and rank.
    """
    data = load("mnist")
    rotations = [[(first + step) % 10 for step in range(10)] for first in range(10)]
    runs = [(order, 0.01) for order in [*rotations, rotations[0][::-1]]]
    runs += [(rotations[9], lr) for lr in (0.0001, 0.001, 0.1)]
    for seed in seeds:
        for order, lr in runs:
            yield from train_and_factorize(
                {"order": "".join(map(str, order)), "lr": lr},
                pk.models.PaperCNN(seed=seed),
                pk.subset(data, order=order),
                data.test,
                ranks=(10, 30),
                seed=seed,
                shuffle=False,
                lr=lr,
            )
