"""The studies behind the tables of evidence: many networks, trained and factorized, one tidy row for each fit.

What describes a network repeats over the rows of its ranks. `book/evidence.py` writes the tables; a chapter calls the
same functions for one network, and shows the result beside the table's.
"""

import functools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import pad

import peeklib as pk

from . import higher_order, mnist, neighbours, neurons, scale, shapes, speed
from .common import FIT, load

RECIPES = {"paper": {"lr": 0.01, "momentum": 0.5}, "tuned": {"lr": 0.02, "momentum": 0.9}}


def measure(
    which: dict, model, part: pk.Split | None, test: pk.Split, *, ranks, seed: int, **recipe
) -> Iterator[dict]:
    """Train `model` on `part`, if any, and factorize what it makes of `test`: one row for each rank."""
    if part is not None:
        pk.train(model, *part, seed=seed, **recipe)
    blocks = pk.input_blocks(test.images) | pk.record(model, test.images)
    facts = {"accuracy": pk.accuracy(model, *test)}
    for label in test.labels.unique().tolist():
        chosen = test.labels == label
        facts[f"recall of {label}"] = pk.accuracy(model, test.images[chosen], test.labels[chosen])
    for name, block in blocks.items():  # a network can die: all its activations are zero then
        facts[f"entropy rank of {name}"] = pk.effective_rank(block) if block.any() else float("nan")
    table = pk.rank_sweep(blocks, ranks, [seed], **FIT).table().drop(columns=["seed", "seconds"])
    for row in table.to_dict("records"):
        yield {**which, "seed": seed, **row, **facts}


def shuffled_test(data: pk.Dataset, count: int) -> pk.Split:
    """`count` test images drawn with one seed: files sorted by class would give a few classes only."""
    chosen = torch.randperm(len(data.test.labels), generator=torch.Generator().manual_seed(0))[
        :count
    ]
    return pk.Split(data.test.images[chosen], data.test.labels[chosen])


def alexnet(seeds=range(3)) -> Iterator[dict]:
    """Case Study I on the deeper network: four fractions, both data sets, 5,000 test images."""
    for seed in seeds:
        for name, recipe in (("cifar10", "tuned"), ("mnist", "tuned"), ("cifar10", "paper")):
            data = load(name)
            border = [2 if name == "mnist" else 0] * 4  # 28×28 to 32×32
            images, labels = shuffled_test(data, 5_000)
            for fraction in (0.25, 0.5, 0.75, 1.0):
                part = pk.subset(data, fraction=fraction, seed=seed)
                yield from measure(
                    {"data": name, "recipe": recipe, "fraction": fraction},
                    pk.models.CifarAlexNet(images.shape[1], seed=seed),
                    pk.Split(pad(part.images, border), part.labels),
                    pk.Split(pad(images, border), labels),
                    ranks=(10, 20, 30, 40, 50),
                    seed=seed,
                    **RECIPES[recipe],
                )


def untrained(seeds=range(3)) -> Iterator[dict]:
    """Entropy ranks of the deeper network's layers as it starts, for the same images of CIFAR-10."""
    images, _ = shuffled_test(load("cifar10"), 5_000)
    for seed in seeds:
        for layer, block in pk.record(pk.models.CifarAlexNet(3, seed=seed), images).items():
            yield {"seed": seed, "layer": layer, "entropy rank": pk.effective_rank(block)}


def orders(seeds=range(3)) -> Iterator[dict]:
    """Case Study III: classes one after the other, in eleven orders; and 9 first at other learning rates."""
    data = load("mnist")
    rotations = [[(first + step) % 10 for step in range(10)] for first in range(10)]
    runs = [(order, 0.01) for order in [*rotations, rotations[0][::-1]]]
    runs += [(rotations[9], lr) for lr in (0.0001, 0.001, 0.1)]
    for seed in seeds:
        for order, lr in runs:
            yield from measure(
                {"order": "".join(map(str, order)), "lr": lr},
                pk.models.PaperCNN(seed=seed),
                pk.subset(data, order=order),
                data.test,
                ranks=(10, 30),
                seed=seed,
                shuffle=False,
                lr=lr,
            )


def subjects(seeds) -> Iterator[tuple[dict, pk.subjects.Subject]]:
    """CifarAlexNets and 6,000 test images: trained as chapter 9 does, on images it gets right and on any; and untrained."""
    data = load("cifar10")
    for seed in seeds:
        fresh = pk.models.CifarAlexNet(3, seed=seed)
        trained = pk.subjects.train_cifar(
            pk.models.CifarAlexNet(3, seed=seed), *data.train, seed=seed
        )
        for setting, model in (
            ("trained", trained),
            ("trained, all images", trained),
            ("untrained", fresh),
        ):
            one = pk.subjects.cifar(model, data, only_correct=setting == "trained", seed=seed)
            facts = {"setting": setting, "seed": seed, "accuracy": pk.accuracy(model, *data.test)}
            yield {**facts, "images": len(one.images)}, one


def directions(seeds=range(5)) -> Iterator[dict]:
    """Zhang's kinds of directions, and those of a coupled NMF: what the images at their ends have in common."""
    for which, one in subjects(seeds):
        pixels = pk.to_float(one.images).mean(dim=(2, 3))  # images × 3
        raw = {layer: one.activations(layer) for layer in one.layers}
        blocks = {layer: A for layer, A in raw.items() if A.min() >= 0}
        fit = pk.coupled_nmf(pk.input_blocks(one.images) | blocks, 30, seed=which["seed"], **FIT)
        for layer, A in raw.items():
            alive = A.std(dim=1) > 0
            normal = kinds(pk.directions.normalize(A), alive, which["seed"], counts=(8, 50))
            found = {("normalized", *key): some for key, some in normal.items()}
            found |= {
                ("raw", *key): some
                for key, some in kinds(A, alive, which["seed"], counts=(8,)).items()
            }
            if layer in blocks:
                found["raw", "nmf", 8] = pk.directions.nmf(A, 8, fit=fit, layer=layer)
            for key, some in found.items():
                colour = [pixels[pk.directions.top_images(d)].var(dim=0).sum().item() for d in some]
                yield {
                    **which,
                    "layer": layer,
                    **dict(zip(("activations", "method", "count"), key, strict=True)),
                    **pk.directions.describe(some, one.labels),
                    "colour": float(np.mean(colour)) / pixels.var(dim=0).sum().item(),
                }


def kinds(A: torch.Tensor, alive: torch.Tensor, seed: int, counts) -> dict[tuple[str, int], list]:
    """Zhang's kinds of directions, as many of each as `counts` says and the layer has."""
    make = {
        "neurons of high variance": lambda n: pk.directions.neurons(A, n, among=alive),
        "random neurons": lambda n: pk.directions.neurons(
            A, n, select="random", among=alive, seed=seed
        ),
        "random": lambda n: pk.directions.random(A, n, seed=1000 + seed),
        "random of high variance": lambda n: pk.directions.random(A, n, tail=n / 1000, seed=seed),
        "singular": lambda n: pk.directions.singular(A, n, seed=seed),
    }
    found = {
        (name, n): made(n) for n in counts for name, made in make.items() if n <= int(alive.sum())
    }
    if ("singular", 50) in found:
        found["singular, 9th to 50th", 42] = found["singular", 50][8:]
    return found


def layers(seeds=range(5)) -> Iterator[dict]:
    """Of every layer: how variance and singular values go with class purity, and how many singular values are large."""
    for which, subject, layer in (
        (*pair, layer) for pair in subjects(seeds) for layer in pair[1].layers
    ):
        raw = subject.activations(layer)
        A = pk.directions.normalize(raw)
        alive = raw.std(dim=1) > 0
        yield {
            **which,
            "layer": layer,
            "neurons": len(A),
            "neurons that vary": int(alive.sum()),
            **large_values(A),
            **neurons_by_variance(A[alive], subject.labels),
            **directions_by_value(A, subject.labels),
        }


def large_values(A: torch.Tensor) -> dict:
    """Singular values above the study's cut-off, above chance, and what the first of them is."""
    share = (
        200 / (9216 * 6000) ** 0.5
    )  # of the norm: the study's cut-off for its pool5, 9,216 neurons × 6,000 images
    values, centred = pk.spectrum(A), pk.spectrum(A - A.mean(dim=1, keepdim=True))
    norm, mean = values.norm().item(), A.mean(dim=1)
    shuffled = torch.from_numpy(np.random.default_rng(0).permuted(A.numpy(), axis=1))
    first = pk.directions.singular(A, 1)[0].vector
    return {
        "above one cut": int(
            (values > share * norm * (256 / len(A)) ** 0.5).sum()
        ),  # 256: the neurons of pool5
        "above own cut": int((values > share * norm).sum()),
        "noise above own cut": noise_above(share, *A.shape),
        "above chance": pk.spectra.parallel_analysis(A),
        "above all of chance": int((values > pk.directions.singular(shuffled, 1)[0].scale).sum()),
        "first along the mean": torch.nn.functional.cosine_similarity(first, mean, dim=0)
        .abs()
        .item(),
        "entropy rank": pk.effective_rank(values),
        "error of 8": (values[8:].norm() / norm).item(),
        "error of 8, centred": (centred[8:].norm() / centred.norm()).item(),
    }


@functools.cache
def noise_above(share: float, neurons: int, images: int) -> int:
    """How many singular values of white noise lie above that share of its norm."""
    noise = pk.directions.normalize(
        torch.randn(neurons, images, generator=torch.Generator().manual_seed(0))
    )
    return int((pk.spectrum(noise) > share * noise.norm()).sum())


def neurons_by_variance(A: torch.Tensor, labels: torch.Tensor) -> dict:
    """Class purity of the top 8 images of every neuron, against its variance."""
    variance = A.var(dim=1, correction=0).numpy()
    purity = pk.directions.purity(labels[A.topk(8, dim=1).indices]).numpy()
    low = variance <= np.quantile(variance, 0.25)
    draw = torch.Generator().manual_seed(0)
    sets = labels[
        torch.randint(len(labels), (50_000, 8), generator=draw)
    ]  # repeats are rare among thousands
    return {
        "purity by chance": pk.directions.purity(sets)
        .reshape(1000, 50)
        .mean(dim=1)
        .quantile(0.999)
        .item(),
        "variance and purity": rank_correlation(variance, purity),
        "variance and purity by chance": chance_correlation(variance, purity, 0.999),
        "purity of low variance": purity[low].mean(),
        "purity of the rest": purity[~low].mean(),
        "variance and purity of the rest": rank_correlation(variance[~low], purity[~low]),
    }


def directions_by_value(A: torch.Tensor, labels: torch.Tensor) -> dict:
    """Class purity, mean of both ends, of the first 50 singular directions, against their singular values."""
    found = pk.directions.singular(A, min(50, len(A)))
    both = [pk.directions.describe([one], labels) for one in found]
    purity = np.array([(one["purity"] + one["bottom purity"]) / 2 for one in both])
    value = np.array([one.scale for one in found])
    return {
        "value and purity": rank_correlation(value, purity),
        "value and purity by chance": chance_correlation(value, purity, 0.99),
        "purity of first 8": purity[:8].mean(),
        "purity of 43 to 50": purity[42:].mean() if len(purity) == 50 else float("nan"),
    }


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's ρ."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # no order to compare
        return float("nan")
    return float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])


def chance_correlation(x: np.ndarray, y: np.ndarray, quantile: float) -> float:
    """That quantile of Spearman's ρ over 1,000 permutations of y."""
    draw = np.random.default_rng(0)
    return float(
        np.quantile([rank_correlation(x, draw.permutation(y)) for _ in range(1000)], quantile)
    )


STUDIES = {
    "alexnet": alexnet,
    "orders": orders,
    "cases": mnist.cases,
    "spectra": mnist.spectra,
    "controls": mnist.controls,
    "forgetting": neurons.forgetting,
    "loadings": neurons.loadings,
    "overlaps": neurons.overlaps,
    "travels": shapes.travels,
    "places": shapes.places,
    "neighbours": neighbours.neighbours,
    "rescalings": neighbours.rescalings,
    "moved": neighbours.moved,
    "twins": neighbours.twins,
    "nulls": neighbours.nulls,
    "directions": directions,
    "layers": layers,
    "untrained": untrained,
    "ends": speed.ends,
    "rounds": speed.rounds,
    "rank_or_scale": scale.rank_or_scale,
    "higher_order": higher_order.higher_order,
    "libraries": higher_order.libraries,
}
FITS = {  # of studies that factorize in another way than FIT, or not at all
    "ends": speed.HOW,
    "rank_or_scale": pk.scores.FIT,
    "higher_order": higher_order.FIT,
    "libraries": higher_order.PROGRAMS,
    "rounds": {"max_iter": speed.ROUNDS, "tol": 0},
    **dict.fromkeys(("spectra", "forgetting", "overlaps", "twins", "nulls", "layers", "untrained")),
}
DATA = {
    "alexnet": ("cifar10", "mnist"),
    "orders": ("mnist",),
    "cases": ("mnist",),
    "controls": ("mnist",),
    "spectra": ("mnist",),
    "rounds": ("mnist",),
    "forgetting": ("mnist",),
    "loadings": ("mnist",),
    "overlaps": ("mnist",),
    "travels": ("mnist",),
    "places": ("mnist",),
    "neighbours": ("mnist",),
    "rescalings": ("mnist",),
    "moved": ("mnist",),
    "twins": ("mnist",),
    "nulls": ("mnist",),
    "rank_or_scale": ("mnist",),
    "higher_order": ("mnist",),
    "libraries": ("mnist",),
    "directions": ("cifar10",),
    "layers": ("cifar10",),
    "ends": ("mnist",),
    "untrained": ("cifar10",),
}
