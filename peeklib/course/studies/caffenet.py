"""Zhang's claims about places, neighbours and fully connected layers, on a network that has them.

The small AlexNet of `zhang` has none: its last pool has one place. Blocks are A, neurons × images,
normalized unless said otherwise; maps are channels × height × width.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import peeklib as pk

from ..caffenet import SmallCaffeNet, train_caffenet
from ..subjects import Subject
from .common import load
from .trainings import shuffled_test
from .zhang import CUT, rank_correlation

WIDTH = 0.5  # of the network in the table
RATES = (0.02, 0.02, 0.02, 0.02, 0.02, 0.002)  # of learning, an epoch each
TESTS = 4_000  # images, of which those count that the network gets right …
IMAGES = 1_000  # … up to this many
FIRST = 15  # singular values, as in the study's Figure 5
MOST = 40  # singular values that are looked at
LAYERS = ("norm1", "norm2", "relu3", "relu4", "pool5", "relu6", "relu7", "fc8")
AFTER = {"pool5": ("fc6", "relu6"), "relu6": ("fc7", "relu7"), "relu7": ("fc8", "fc8")}


def networks(seed: int) -> Iterator[tuple[dict, Subject]]:
    """CaffeNet in small, trained, also after one epoch, on images that it gets right; untrained, on any.

    Yields:
        Setting, seed and accuracy, by column; and the network with its images.
    """
    data = load("cifar10")
    data = replace(data, test=shuffled_test(data, TESTS))
    for setting, rates in {"trained": RATES, "one epoch": RATES[:1], "untrained": ()}.items():
        model = SmallCaffeNet(width=WIDTH, seed=seed)
        model = train_caffenet(model, *data.train, seed=seed, rates=rates)
        right = setting != "untrained"
        one = pk.subjects.cifar(model, data, count=IMAGES, only_correct=right, seed=seed)
        one = one._replace(layers={layer: layer for layer in LAYERS})
        accuracy = pk.accuracy(model, *data.test)
        which = {"setting": setting, "seed": seed, "accuracy": accuracy}
        yield which, one.recorded()


def caffenet(seeds=range(1)) -> Iterator[dict]:
    """Every layer of the network, by training: singular values, purity, variances, neighbours, places.

    Yields:
        A row for each network and layer.
    """
    for seed in seeds:
        for which, one in networks(seed):
            for layer in one.layers:
                raw, maps = one.activations(layer), one.shape(layer)
                yield {
                    **which,
                    "images": len(one.images),
                    "layer": layer,
                    "neurons": len(raw),
                    **values(raw, maps, one.labels),
                    **variances(raw, one.labels),
                    **(between_places(raw, maps) if len(maps) == 3 and maps[1] > 1 else {}),
                    **(feeding(raw, one, *AFTER[layer]) if layer in AFTER else {}),
                }


def values(raw: Tensor, maps: tuple[int, ...], labels: Tensor) -> dict:
    """The first singular values, as shares of the norm; and the first 8 directions.

    Returns:
        Shares, counts, purity, and over what share of the places directions spread, by column.
    """
    A = pk.directions.normalize(raw)
    norm = A.norm().item()
    found = pk.directions.singular(A, min(MOST, *A.shape))
    sizes = np.array([one.scale for one in found])
    shuffled = torch.from_numpy(np.random.default_rng(0).permuted(A.numpy(), axis=1))
    by_chance = pk.directions.singular(shuffled, 1)[0].scale
    ends = pk.directions.describe(found[:8], labels)
    row = {f"value {k + 1}": size / norm for k, size in enumerate(sizes[:FIRST])}
    row |= {
        "elbow": elbow(sizes[:FIRST]),
        "error of 8": max(0.0, 1 - (sizes[:8] ** 2).sum() / norm**2) ** 0.5,
        "above own cut": int((sizes > CUT * norm).sum()),
        "above chance": int((sizes > by_chance).sum()),
        "purity of singular": ends["purity"],
        "overlap of singular": ends["overlap"],
    }
    if len(maps) == 3 and maps[1] > 1:
        row["places of singular"] = float(np.mean([places(one.vector, maps) for one in found[:8]]))
    return row


def elbow(sizes: np.ndarray) -> int:
    """Which value, counted from 1, lies farthest below the line from the first to the last.

    As Satopää et al. (2011) find the knee of a curve.

    Example:
        >>> elbow(np.array([9.0, 5.0, 1.2, 1.1, 1.0]))
        3
    """
    line = np.linspace(sizes[0], sizes[-1], len(sizes))
    return int((line - sizes).argmax()) + 1


def places(vector: Tensor, maps: tuple[int, ...]) -> float:
    """Over what share of the places a unit vector spreads: exp of the entropy of its energy.

    Example:
        >>> places(torch.tensor([1.0, 0, 0, 0]), (1, 2, 2))
        0.25
    """
    energy = vector.square().reshape(maps[0], -1).sum(dim=0)
    return torch.special.entr(energy).sum().exp().item() / len(energy)


def variances(raw: Tensor, labels: Tensor) -> dict:
    """Variances of neurons that vary, raw and normalized; purity below 0.5 and above.

    Returns:
        Correlations, shares and purities, by column; NaN where there are no such neurons.
    """
    alive = raw.std(dim=1) > 0
    A = pk.directions.normalize(raw)[alive]
    own = A.var(dim=1, correction=0).numpy()
    before = raw[alive].var(dim=1, correction=0).numpy()
    purity = pk.directions.purity(labels[A.topk(8, dim=1).indices]).numpy()
    low = own < 0.5
    related = rank_correlation(own[~low], purity[~low]) if not low.all() else float("nan")
    best = min(50, len(own))
    same = np.intersect1d(np.argsort(own)[-best:], np.argsort(before)[-best:])
    return {
        "neurons that vary": len(own),
        "raw and normalized": rank_correlation(before, own),
        "same of 50": len(same) / best,
        "variation": own.std() / own.mean(),
        "variation, raw": before.std() / before.mean(),
        "below 0.5": low.mean(),
        "purity below 0.5": purity[low].mean() if low.any() else float("nan"),
        "purity above 0.5": purity[~low].mean() if not low.all() else float("nan"),
        "variance and purity above": related,
    }


def between_places(raw: Tensor, maps: tuple[int, ...]) -> dict:
    """How alike neurons are: at next places, at opposite ends, and in other channels.

    Returns:
        Mean correlations of activations, and mean overlaps of the 8 top images, by column.
    """
    scores = normalize(raw - raw.mean(dim=1, keepdim=True), dim=1)  # zero for dead neurons
    grid = scores.reshape(*maps, -1)
    middle = maps[2] // 2
    pairs = {
        "next": (grid[:, :, :-1], grid[:, :, 1:]),
        "opposite": (grid[:, :, :1], grid[:, :, -1:]),
        "other channel": (grid[:, :, middle:], grid.roll(1, dims=0)[:, :, middle:]),
    }
    found = {}
    for name, (one, other) in pairs.items():
        varies = (one.square().sum(-1) > 0) & (other.square().sum(-1) > 0)
        one, other = one[varies], other[varies]  # pairs × images
        found[f"correlation, {name}"] = (one * other).sum(-1).mean().item()
        found[f"overlap, {name}"] = _shared(one, other)
    return found


def _shared(one: Tensor, other: Tensor) -> float:
    """The share of the 8 top images that both have, as a mean over pairs."""
    tops = [block.topk(8, dim=1).indices for block in (one, other)]
    return (tops[0][:, :, None] == tops[1][:, None]).sum((1, 2)).double().mean().item() / 8


def feeding(raw: Tensor, one: Subject, linear: str, following: str) -> dict:
    """How strongly neurons of low variance are connected to those of high variance behind them.

    Returns:
        Mean size of the weights of the quarter of lowest variance, as a share of that of all; its
        correlation with the variance.
    """
    layer = one.model.get_submodule(linear)
    assert isinstance(layer, nn.Linear)
    alive = raw.std(dim=1) > 0
    behind = one.activations(following).var(dim=1)
    high = behind >= behind.quantile(0.75)
    weights = layer.weight.detach()[high][:, alive].abs().mean(dim=0).numpy()
    own = pk.directions.normalize(raw)[alive].var(dim=1).numpy()
    low = own <= np.quantile(own, 0.25)
    return {
        "weight of low variance": weights[low].mean() / weights.mean(),
        "variance and weight": rank_correlation(own, weights),
    }
