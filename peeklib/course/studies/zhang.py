"""Zhang's directions and layers on a smaller network: what chapters 9 and 10 measure.

Blocks are A, neurons × images; a direction has one number for each neuron.
"""

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import peeklib as pk

from ...solvers import all_or_nothing
from .common import FIT, load

NEURONS, IMAGES = 9216, 6000  # of the study's pool5
CUT = 200 / (NEURONS * IMAGES) ** 0.5  # the study's cut-off for singular values, of the norm
OWN_NEURONS = 256  # of our pool5
CHANCE = (1000, 50)  # draws of so many random sets, to see how pure they are by chance
Found = dict[tuple[str, int], list]  # (method, how many were asked for) → directions


def subjects(seeds) -> Iterator[tuple[dict, pk.subjects.Subject]]:
    """CifarAlexNets and 6,000 test images, with what describes them.

    Trained as chapter 9 does, on images that the network gets right and on any; and untrained.

    Yields:
        Setting, seed, accuracy and images, by column; and the network with its images.
    """
    data = load("cifar10")
    for seed in seeds:
        fresh = pk.models.CifarAlexNet(3, seed=seed)
        model = pk.models.CifarAlexNet(3, seed=seed)
        trained = pk.subjects.train_cifar(model, *data.train, seed=seed)
        settings = {"trained": trained, "trained, all images": trained, "untrained": fresh}
        for setting, model in settings.items():
            one = pk.subjects.cifar(model, data, only_correct=setting == "trained", seed=seed)
            accuracy = pk.accuracy(model, *data.test)
            facts = {"setting": setting, "seed": seed, "accuracy": accuracy}
            yield {**facts, "images": len(one.images)}, one


def directions(seeds=range(5)) -> Iterator[dict]:
    """Kinds of directions, and those of a coupled NMF: what the images at their ends share.

    Yields:
        A row for each network, layer and kind of directions.
    """
    for which, one in subjects(seeds):
        pixels = pk.to_float(one.images).mean(dim=(2, 3))  # images × 3
        of_any = pixels.var(dim=0).sum().item()
        for layer, activations, method, count, some in found_in(one, which["seed"]):
            yield {
                **which,
                "layer": layer,
                "activations": activations,
                "method": method,
                "count": count,
                **pk.directions.describe(some, one.labels),
                "colour": colour_variance(some, pixels) / of_any,
            }


def found_in(one: pk.subjects.Subject, seed: int) -> Iterator[tuple[str, str, str, int, list]]:
    """The directions of every kind in every layer: layer, activations, method, count, directions.

    Activations are "normalized" or "raw".

    Yields:
        All five, the directions as a list, for each kind of them.
    """
    raw = {layer: one.activations(layer) for layer in one.layers}
    blocks = {layer: A for layer, A in raw.items() if A.min() >= 0}
    with all_or_nothing():
        fit = pk.coupled_nmf(pk.input_blocks(one.images) | blocks, 30, seed=seed, **FIT)
    for layer, A in raw.items():
        alive = A.std(dim=1) > 0
        normalized = pk.directions.normalize(A)
        for (method, count), some in kinds(normalized, alive, seed, counts=(8, 50)).items():
            yield layer, "normalized", method, count, some
        for (method, count), some in kinds(A, alive, seed, counts=(8,)).items():
            yield layer, "raw", method, count, some
        if layer in blocks:
            yield layer, "raw", "nmf", 8, pk.directions.nmf(A, 8, fit=fit, layer=layer)


def kinds(A: Tensor, alive: Tensor, seed: int, counts: tuple[int, ...]) -> Found:
    """Zhang's kinds of directions, as many of each as `counts` says and the layer has.

    Args:
        A: activations.
        alive: for each neuron, whether it varies.
        seed: of what is random.
        counts: how many to find of each kind.

    Returns:
        (method, count) → directions.

    Example:
        >>> A = torch.rand(9, 20, generator=torch.Generator().manual_seed(0))
        >>> [method for method, _ in kinds(A, A.std(dim=1) > 0, seed=0, counts=(2,))][:2]
        ['neurons of high variance', 'random neurons']
    """
    found: Found = {}
    for n in counts:
        if n > int(alive.sum()):
            continue
        found |= {
            ("neurons of high variance", n): pk.directions.neurons(A, n, among=alive),
            ("random neurons", n): pk.directions.neurons(
                A, n, select="random", among=alive, seed=seed
            ),
            ("random", n): pk.directions.random(A, n, seed=1000 + seed),
            ("random of high variance", n): pk.directions.random(A, n, tail=n / 1000, seed=seed),
            ("singular", n): pk.directions.singular(A, n, seed=seed),
        }
    if ("singular", 50) in found:
        found["singular, 9th to 50th", 42] = found["singular", 50][8:]
    return found


def colour_variance(some: list, pixels: Tensor) -> float:
    """How much the mean colours (images × 3) of a direction's top images vary, mean over `some`.

    Returns:
        In squared units of `pixels`.

    Example:
        >>> A = torch.rand(9, 20, generator=torch.Generator().manual_seed(0))
        >>> colour_variance(pk.directions.random(A, 2), pixels=torch.ones(20, 3))  # all white
        0.0
    """
    each = []
    for direction in some:
        top = pk.directions.top_images(direction)
        each.append(pixels[top].var(dim=0).sum().item())
    return float(np.mean(each))


def layers(seeds=range(5)) -> Iterator[dict]:
    """Of every layer: how variance and singular values go with purity, and how many are large.

    Yields:
        A row for each network and layer.
    """
    for which, one in subjects(seeds):
        for layer in one.layers:
            raw = one.activations(layer)
            A = pk.directions.normalize(raw)
            alive = raw.std(dim=1) > 0
            yield {
                **which,
                "layer": layer,
                "neurons": len(A),
                "neurons that vary": int(alive.sum()),
                **large_values(A),
                **neurons_by_variance(A[alive], one.labels),
                **directions_by_value(A, one.labels),
            }


def large_values(A: Tensor) -> dict:
    """Singular values above the study's cut-off, above chance, and what the first of them is.

    Returns:
        Counts, shares and the entropy rank, by column.

    Example:
        >>> A = torch.outer(torch.tensor([1.0, 2.0, 3.0]), torch.arange(30.0))  # one direction
        >>> round(large_values(A)["first along the mean"], 3)
        1.0
    """
    mean = A.mean(dim=1)
    values, centred = pk.spectrum(A), pk.spectrum(A - mean[:, None])
    norm = values.norm().item()
    one_cut = CUT * norm * (OWN_NEURONS / len(A)) ** 0.5
    shuffled = torch.from_numpy(np.random.default_rng(0).permuted(A.numpy(), axis=1))
    first = pk.directions.singular(A, 1)[0].vector
    by_chance = pk.directions.singular(shuffled, 1)[0].scale
    return {
        "above one cut": int((values > one_cut).sum()),
        "above own cut": int((values > CUT * norm).sum()),
        "noise above own cut": noise_above_cut(*A.shape),
        "above chance": pk.spectra.parallel_analysis(A),
        "above all of chance": int((values > by_chance).sum()),
        "first along the mean": cosine_similarity(first, mean, dim=0).abs().item(),
        "entropy rank": pk.effective_rank(values),
        "error of 8": (values[8:].norm() / norm).item(),
        "error of 8, centred": (centred[8:].norm() / centred.norm()).item(),
    }


@functools.cache
def noise_above_cut(neurons: int, images: int) -> int:
    """How many singular values of white noise lie above the study's share of its norm.

    Returns:
        At most the number of neurons.

    Example:
        >>> noise_above_cut(4, 100)  # normalized, it has rank 3
        3
    """
    noise = torch.randn(neurons, images, generator=torch.Generator().manual_seed(0))
    noise = pk.directions.normalize(noise)
    return int((pk.spectrum(noise) > CUT * noise.norm()).sum())


def neurons_by_variance(A: Tensor, labels: Tensor) -> dict:
    """Class purity of the top 8 images of every neuron, against its variance.

    Returns:
        Mean purities and rank correlations, by column.
    """
    variance = A.var(dim=1, correction=0).numpy()
    purity = pk.directions.purity(labels[A.topk(8, dim=1).indices]).numpy()
    low = variance <= np.quantile(variance, 0.25)
    draws, sets = CHANCE
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(len(labels), (draws * sets, 8), generator=generator)  # few repeats
    by_chance = pk.directions.purity(labels[images]).reshape(draws, sets).mean(dim=1)
    return {
        "purity by chance": by_chance.quantile(0.999).item(),
        "variance and purity": rank_correlation(variance, purity),
        "variance and purity by chance": chance_correlation(variance, purity, 0.999),
        "purity of low variance": purity[low].mean(),
        "purity of the rest": purity[~low].mean(),
        "variance and purity of the rest": rank_correlation(variance[~low], purity[~low]),
    }


def directions_by_value(A: Tensor, labels: Tensor) -> dict:
    """Class purity, mean of both ends, of the first 50 singular directions, by their values.

    Returns:
        Mean purities and rank correlations, by column.
    """
    found = pk.directions.singular(A, min(50, len(A)))
    both_ends = []
    for direction in found:
        one = pk.directions.describe([direction], labels)
        both_ends.append((one["purity"] + one["bottom purity"]) / 2)
    purity = np.array(both_ends)
    value = np.array([direction.scale for direction in found])
    return {
        "value and purity": rank_correlation(value, purity),
        "value and purity by chance": chance_correlation(value, purity, 0.99),
        "purity of first 8": purity[:8].mean(),
        "purity of 43 to 50": purity[42:].mean() if len(purity) == 50 else float("nan"),
    }


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's ρ.

    Returns:
        −1 … 1; NaN where either is constant and there is no order to compare.

    Example:
        >>> x = np.array([1, 2, 3])
        >>> rank_correlation(x, x**2), rank_correlation(x, np.ones(3))
        (1.0, nan)
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(pk.ranking.spearman(x, y)[0])


def chance_correlation(x: np.ndarray, y: np.ndarray, quantile: float) -> float:
    """That quantile of Spearman's ρ over 1,000 permutations of y.

    Returns:
        Between −1 and 1; NaN where either is constant.

    Example:
        >>> chance_correlation(np.arange(9), np.ones(9), quantile=0.99)
        nan
    """
    generator = np.random.default_rng(0)
    found = [rank_correlation(x, generator.permutation(y)) for _ in range(1000)]
    return float(np.quantile(found, quantile))
