"""Label-free scores on images whose classes do not occur equally often: chapter 14.

The zoo's recipes on images that the zoo does not have: `digits-rgb`, which is drawn anywhere.
`rows(...)` is all that the table holds of one network, `tau(...)` what is read from it.

Criterion, written before any of these networks was trained. *Even* images show each class equally
often; *uneven* ones show two of ten classes in three fifths of them. τ is Kendall's, within an
architecture, mean over the draws of images; "leaves out 0" speaks of a 95 % bootstrap interval over
networks.

1. τ of `answers_area` with the accuracy on all test images falls from even images to uneven ones,
   and the interval of the fall leaves out 0.
2. It falls by more than τ of `nuclear_norm`, and the interval of the difference leaves out 0.
3. With the accuracy on those same uneven images, τ of `nuclear_norm` is above that of
   `answers_area`, and the interval of the difference leaves out 0.

A trial with other networks let us expect all three. They are judged on all networks; those without
label noise are shown beside.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import peeklib as pk

from ...study import scores
from .. import zoo
from ..ranking import resample, within

DATA = "digits-rgb"
ARCHITECTURES = ("mlp", "cnn")
KINDS = ("even", "uneven")  # of images
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))  # the two frequent classes, by the draw's seed
SHARE = 0.6  # of uneven images that show one of the two
SCORES = (
    *("answers_area", "answers_alone_area", "nuclear_norm", "confidence", "prediction_entropy"),
    *("rankme", "stable_rank"),
)
HERE = "accuracy here"  # on the images that were scored
rear = pk.cached(zoo.rear)


def recipes() -> list[zoo.Recipe]:
    """The zoo's recipes on MNIST, now on `DATA`: of copies that differ in their seed, the first.

    Returns:
        32 for each architecture.

    Example:
        >>> len(recipes()), recipes()[0].name
        (64, 'digits-rgb-mlp-base-10000-10-0.0-5-0.02-1.0-0.0-0.0-0')
    """
    found = []
    for recipe in zoo.recipes():
        asked = recipe.data == "mnist" and recipe.architecture in ARCHITECTURES
        again = recipe.seed == 1 and recipe.factor != "base"
        if asked and not again:
            found.append(replace(recipe, data=DATA))
    return found


def shares(kind: str, seed: int) -> Tensor:
    """How much of the images each class has.

    Args:
        kind: one of `KINDS`.
        seed: of the draw; it names the pair of frequent classes, if there is one.

    Returns:
        One share for each of ten classes; they add up to 1.

    Example:
        >>> [round(share, 2) for share in shares("uneven", seed=1).tolist()]
        [0.05, 0.05, 0.3, 0.3, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05]
    """
    if kind == "even":
        return torch.full((10,), 0.1)
    pair = list(PAIRS[seed % len(PAIRS)])
    found = torch.full((10,), (1 - SHARE) / 8)
    found[pair] = SHARE / 2
    return found


def draw(labels: Tensor, kind: str, seed: int, count: int = zoo.PROBES) -> Tensor:
    """Random images with these shares of classes, none twice.

    Args:
        labels: those of the images to draw from.
        kind, seed: as in `shares`.
        count: how many images.

    Returns:
        Their numbers, from small to large.

    Raises:
        ValueError: where a class has fewer images than it takes.

    Example:
        >>> labels = torch.arange(1000) % 10
        >>> labels[draw(labels, "uneven", seed=0, count=100)].bincount()
        tensor([30, 30,  5,  5,  5,  5,  5,  5,  5,  5])
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    parts = []
    for label, share in enumerate(shares(kind, seed).tolist()):
        wanted = round(share * count)
        own = order[labels[order] == label]
        if len(own) < wanted:
            raise ValueError(
                f"class {label} has {len(own)} images, {wanted} are to be drawn; lower count={count}"
            )
        parts.append(own[:wanted])
    return torch.cat(parts).sort().values


def rows(
    recipe: zoo.Recipe, seeds: Iterable[int] = range(5), count: int = zoo.PROBES
) -> Iterator[dict]:
    """One network, trained and scored on each draw of images.

    Args:
        recipe: how it is trained.
        seeds: of the draws.
        count: how many images are drawn.

    Yields:
        A row for each seed and kind of images.
    """
    model, known = rear(recipe)
    images, labels = zoo.dataset(recipe.data).test
    facts = asdict(recipe)
    which = {name: facts[name] for name in ("data", "architecture", "factor")}
    for seed in seeds:
        for kind in KINDS:
            chosen = draw(labels, kind, seed, count)
            seen = scores.observe(model, images[chosen])
            yield {
                "network": recipe.name,
                **which,
                "seed": seed,
                "images": kind,
                "accuracy": known["accuracy"],
                HERE: pk.accuracy(model, images[chosen], labels[chosen]),
                **{name: scores.SCORES[name](seen) for name in SCORES},
            }


def uneven(seeds: Iterable[int] = range(5)) -> Iterator[dict]:
    """Every network on evenly and on unevenly drawn test images.

    Yields:
        A row for each network, seed of the draw, and kind of images.
    """
    for recipe in recipes():
        yield from rows(recipe, seeds)


def networks(table: pd.DataFrame, draws: int, seed: int = 0) -> np.ndarray:
    """How often a bootstrap draws each network of a table of `uneven`.

    Returns:
        1 + draws × networks, in the order of the table; in the first row each is there once.
    """
    return resample(table.drop_duplicates("network"), draws, seed)


def tau(
    table: pd.DataFrame, score: str, images: str, counts: np.ndarray, truth: str = "accuracy"
) -> np.ndarray:
    """Kendall's τ of a score and a truth within an architecture, mean over the draws of images.

    Args:
        table: of `uneven`, or those of its networks that are to be judged.
        score: one of `SCORES`, turned so that larger is better.
        images: one of `KINDS`.
        counts: draws × networks, how often each network counts, as `networks` gives.
        truth: "accuracy" on all test images, or `HERE`, on those that were scored.

    Returns:
        One τ for each row of `counts`.

    Example:
        >>> part = pd.DataFrame({"data": "d", "architecture": "a", "images": "even", "seed": 0,
        ...     "network": list("xyz"), "accuracy": [0.1, 0.5, 0.9], "confidence": [1, 3, 2]})
        >>> tau(part, "confidence", "even", networks(part, draws=1)[:1]).round(2)
        array([0.33])
    """
    better = scores.SCORES[score].better
    rows = table.query("images == @images")
    found = []
    for seed in rows.seed.unique():
        part = rows.loc[rows.seed == seed, :]
        found.append(within(part, score, counts, better=better, truth=truth))
    return np.mean(found, axis=0)


def interval(values: np.ndarray) -> dict[str, float]:
    """A statistic with its 95 % bootstrap interval.

    Args:
        values: that of all networks first, then those of the draws.

    Returns:
        "value", "low" and "high".

    Example:
        >>> interval(np.array([0.5, 0.4, 0.6]))["value"]
        0.5
    """
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def criterion(table: pd.DataFrame, draws: int = 1000) -> pd.DataFrame:
    """The three parts of the criterion.

    Args:
        table: as for `tau`.
        draws: of the bootstrap.

    Returns:
        A row for each part: value, low, high, and whether it holds.
    """
    counts = networks(table, draws)

    def fall(score: str) -> np.ndarray:
        return tau(table, score, "even", counts) - tau(table, score, "uneven", counts)

    def same_images(score: str) -> np.ndarray:
        return tau(table, score, "uneven", counts, truth=HERE)

    parts = {
        "answers_area falls by": fall("answers_area"),
        "more than nuclear_norm by": fall("answers_area") - fall("nuclear_norm"),
        "nuclear_norm ahead on the same images by": (
            same_images("nuclear_norm") - same_images("answers_area")
        ),
    }
    found = pd.DataFrame({part: interval(values) for part, values in parts.items()}).T
    return found.assign(holds=found.low > 0)
