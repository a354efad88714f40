"""Which neurons of the paper's network are used, and which digits share them: chapter 6.

F is images × rank, O neurons × rank. `sets` are digits × neurons, true where the neuron is active
for the digit.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

import peeklib as pk

from . import mnist
from .common import FIT, load, recalls, rescale

SETS = [{9}, {1}, {6}, {0}, {3, 8}, {7}, {1, 2}]  # of digits, that the paper's Figure 2 shows
LOUDER = 16  # times, to show what a change of scale does to the RMSE


def shares(F: Tensor, labels: Tensor) -> Tensor:
    """How the mean loading of a component is spread over the ten classes.

    Returns:
        classes × components; a column adds up to 1.

    Example:
        >>> torch.equal(shares(torch.eye(10), torch.arange(10)), torch.eye(10))
        True
    """
    F = F.cpu()
    means = torch.stack([F[labels == digit].mean(0) for digit in range(10)])
    return means / means.sum(0)


def sets_found(F: Tensor, labels: Tensor) -> dict:
    """How many of `SETS` are the top classes of a component; how many one or two classes hold.

    To hold a component is to have half of its loading.

    Returns:
        Both counts, by column.

    Example:
        >>> sets_found(torch.eye(10), torch.arange(10))["held by one or two"]
        10
    """
    ranked = shares(F, labels).T.sort(descending=True)  # components × classes
    tops = []
    for classes in ranked.indices.tolist():
        tops += [set(classes[:1]), set(classes[:2])]
    held = int((ranked.values[:, :2].sum(1) >= 0.5).sum())
    return {"sets found": sum(some in tops for some in SETS), "held by one or two": held}


def usage(O: Tensor) -> dict:
    """Share of negligible neurons, and entropy rank of the loadings.

    Of a negligible neuron the largest loading is below 1 % of the layer's largest.

    Returns:
        Both, by column.

    Example:
        >>> usage(torch.eye(4)[:, :2])["negligible"]  # two neurons of four
        0.5
    """
    O = O.cpu()
    idle = (O.amax(1) < 0.01 * O.max()).float().mean().item()
    return {"negligible": idle, "entropy rank": pk.effective_rank(O)}


def active(block: Tensor, labels: Tensor) -> Tensor:
    """Does the neuron fire for at least half of the digit's images?

    Returns:
        digits × neurons, boolean.

    Example:
        >>> active(torch.arange(10.0)[None], torch.arange(10)).flatten().tolist()
        [False, True, True, True, True, True, True, True, True, True]
    """
    fires = block > 0
    often = [fires[:, labels == digit].float().mean(1) >= 0.5 for digit in range(10)]
    return torch.stack(often)


def shared(sets: Tensor) -> Iterator[dict]:
    """For each pair of digits: neurons active for both, for each, and for any of the ten.

    Yields:
        One dict for each of 45 pairs.

    Example:
        >>> next(shared(torch.ones(10, 3, dtype=torch.bool)))
        {'digit': 1, 'other': 0, 'both': 3, 'of digit': 3, 'of other': 3, 'of any': 3}
    """
    both = (sets.int() @ sets.int().T).tolist()  # digits × digits
    counts = sets.sum(1).tolist()
    of_any = int(sets.any(0).sum())
    for digit in range(10):
        for other in range(digit):
            yield {
                "digit": digit,
                "other": other,
                "both": both[digit][other],
                "of digit": counts[digit],
                "of other": counts[other],
                "of any": of_any,
            }


def step_by_step(data: pk.Dataset, seed: int) -> Iterator[dict]:
    """What a network knows after each class, trained on one class after the other.

    Yields:
        A row for each of ten steps, with the recall of every digit.
    """
    model = pk.models.PaperCNN(seed=seed)
    for digit in mnist.ORDER:
        part = pk.subset(data, order=[digit])
        model = mnist.train(model, *part, seed=seed, shuffle=False).model
        yield {"seed": seed, "digit": digit, **recalls(model, data.test)}


def forgetting(seeds=range(5)) -> Iterator[dict]:
    """Recall of every digit after each step of training class by class.

    Yields:
        A row for each seed and step.
    """
    for seed in seeds:
        yield from step_by_step(load("mnist"), seed)


def loadings(seeds=range(5)) -> Iterator[dict]:
    """What rank 10 shows of classes and of neurons in use; and the RMSE at rank 30.

    The RMSE is also that of a rescaled network, which gives the same answers.

    Yields:
        A row for each seed and network, and one for pixels alone.
    """
    data = load("mnist")
    labels = data.test.labels
    for seed in seeds:
        pixels = mnist.factorize(pk.input_blocks(data.test.images), 10, seed=seed, **FIT)
        yield {"setting": "pixels alone", "seed": seed, **sets_found(pixels.image_factor, labels)}
        for setting in ("untrained", "ordered", "100%"):
            one = mnist.case(data, setting, seed)
            rmse = one.fit(30).rmse
            yield {"setting": setting, "seed": seed, "rmse": rmse, **loaded(one, labels)}
        one = mnist.case(data, "ordered", seed)
        yield {"setting": "ordered, rescaled", "seed": seed, "rmse": rescaled_rmse(one)}


def loaded(one: mnist.Case, labels: Tensor) -> dict:
    """Sets of classes and use of neurons in the factorization of rank 10.

    Returns:
        Counts and shares, by column.
    """
    fit = one.fit(10)
    found = sets_found(fit.image_factor, labels)
    for layer in ("relu1", "relu2"):
        for name, value in usage(fit.factors[layer]).items():
            found[f"{name} of {layer}"] = value
    return found


def rescaled_rmse(one: mnist.Case) -> float:
    """RMSE at rank 30 of the network whose layers were made louder.

    Returns:
        In units of activation.
    """
    louder = pk.record(rescale(one.model, LOUDER), one.data.test.images)
    blocks = {"input": one.blocks["input"], **louder}
    return mnist.factorize(blocks, 30, seed=one.seed, **FIT).rmse


def overlaps(seeds=range(5)) -> Iterator[dict]:
    """Counts of active neurons of relu2 for all pairs of digits; of bright pixels too.

    Yields:
        A row for each seed, network and pair.
    """
    data = load("mnist")
    for seed in seeds:
        blocks = {}
        for setting in ("ordered", "100%", "untrained"):
            blocks[setting] = mnist.case(data, setting, seed).blocks["relu2"]
        other = mnist.case(data, "untrained", seed + 100)
        blocks["untrained, other weights"] = other.blocks["relu2"]
        blocks["pixels"] = (other.blocks["input"] > 0.5).float()
        for setting, block in blocks.items():
            for row in shared(active(block, data.test.labels)):
                yield {"setting": setting, "seed": seed, **row}
