"""Which neurons of the paper's network are used, and which digits share them: what chapter 6 counts.

F is images × rank, O neurons × rank. `sets` are digits × neurons, true where the neuron is active for the digit.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import peeklib as pk

from . import mnist
from .common import FIT, load

SETS = [{9}, {1}, {6}, {0}, {3, 8}, {7}, {1, 2}]  # of digits, that the paper's Figure 2 shows
LOUDER = 16


def shares(F: Tensor, labels: Tensor) -> Tensor:
    """Classes × components: how the mean loading of a component is spread over the ten classes."""
    F = F.cpu()
    means = torch.stack([F[labels == digit].mean(0) for digit in range(10)])
    return means / means.sum(0)


def sets_found(F: Tensor, labels: Tensor) -> dict:
    """How many sets of the paper are the top classes of some component; how many components one or two classes hold."""
    ranked = shares(F, labels).T.sort(descending=True)  # components × classes
    tops = [{*row[:1]} for row in ranked.indices.tolist()]
    tops += [{*row[:2]} for row in ranked.indices.tolist()]
    held = int((ranked.values[:, :2].sum(1) >= 0.5).sum())
    return {"sets found": sum(some in tops for some in SETS), "held by one or two": held}


def usage(O: Tensor) -> dict:
    """Share of neurons whose largest loading is below 1 % of the layer's largest; entropy rank of the loadings."""
    O = O.cpu()
    idle = (O.amax(1) < 0.01 * O.max()).float().mean().item()
    return {"negligible": idle, "entropy rank": pk.effective_rank(O)}


def active(block: Tensor, labels: Tensor) -> Tensor:
    """Digits × neurons: does the neuron fire for at least half of the digit's images?"""
    fires = block > 0
    return torch.stack([fires[:, labels == digit].float().mean(1) >= 0.5 for digit in range(10)])


def shared(sets: Tensor) -> Iterator[dict]:
    """For each pair of digits: how many neurons are active for both, for each, and for any of the ten."""
    both, size = (sets.int() @ sets.int().T).tolist(), sets.sum(1).tolist()
    for digit in range(10):
        for other in range(digit):
            counts = {"both": both[digit][other], "of digit": size[digit], "of other": size[other]}
            yield {"digit": digit, "other": other, **counts, "of any": int(sets.any(0).sum())}


def rescale(model: nn.Module, scale: float) -> nn.Module:
    """A network with the same answers, both of whose hidden layers are `scale` times as large."""
    loud = copy.deepcopy(model).requires_grad_(False)
    for weights in (loud.conv1.weight, loud.conv1.bias, loud.conv2.bias):
        weights *= scale
    loud.fc.weight /= scale
    return loud


def recalls(model: nn.Module, test: pk.Split) -> dict:
    """For each digit, the share of its test images that the network recognizes."""
    chosen = {digit: test.labels == digit for digit in range(10)}
    return {
        f"recall of {digit}": pk.accuracy(model, test.images[own], test.labels[own])
        for digit, own in chosen.items()
    }


def step_by_step(data: pk.Dataset, seed: int) -> Iterator[dict]:
    """What a network knows after each class, trained on one class after the other."""
    model = pk.models.PaperCNN(seed=seed)
    for digit in mnist.ORDER:
        model = mnist.train(model, *pk.subset(data, order=[digit]), seed=seed, shuffle=False).model
        yield {"seed": seed, "digit": digit, **recalls(model, data.test)}


def forgetting(seeds=range(5)) -> Iterator[dict]:
    """Recall of every digit after each step of training class by class."""
    for seed in seeds:
        yield from step_by_step(load("mnist"), seed)


def loadings(seeds=range(5)) -> Iterator[dict]:
    """What rank 10 shows of classes and of neurons in use; and the RMSE at rank 30, which rescaling moves."""
    data = load("mnist")
    labels = data.test.labels
    for seed in seeds:
        pixels = mnist.factorize(pk.input_blocks(data.test.images), 10, seed=seed, **FIT)
        yield {"setting": "pixels alone", "seed": seed, **sets_found(pixels.image_factor, labels)}
        for setting in ("untrained", "ordered", "100%"):
            one = mnist.case(data, setting, seed)
            yield {
                "setting": setting,
                "seed": seed,
                "rmse": one.fit(30).rmse,
                **loaded(one, labels),
            }
        one = mnist.case(data, "ordered", seed)
        yield {"setting": "ordered, rescaled", "seed": seed, "rmse": rescaled_rmse(one)}


def loaded(one: mnist.Case, labels: Tensor) -> dict:
    """Sets of classes and use of neurons in the factorization of rank 10."""
    found = sets_found(one.fit(10).image_factor, labels)
    for layer in ("relu1", "relu2"):
        found |= {
            f"{name} of {layer}": value for name, value in usage(one.fit(10).factors[layer]).items()
        }
    return found


def rescaled_rmse(one: mnist.Case) -> float:
    """RMSE at rank 30 of the network whose layers were made louder."""
    blocks = {"input": one.blocks["input"]} | pk.record(
        rescale(one.model, LOUDER), one.data.test.images
    )
    return mnist.factorize(blocks, 30, seed=one.seed, **FIT).rmse


def overlaps(seeds=range(5)) -> Iterator[dict]:
    """Counts of active neurons of relu2 for all pairs of digits, of bright pixels too, and before any training."""
    data = load("mnist")
    labels = data.test.labels
    for seed in seeds:
        blocks = {
            name: mnist.case(data, name, seed).blocks["relu2"]
            for name in ("ordered", "100%", "untrained")
        }
        blocks["untrained, other weights"] = mnist.case(data, "untrained", seed + 100).blocks[
            "relu2"
        ]
        blocks["pixels"] = (pk.input_blocks(data.test.images)["input"] > 0.5).float()
        for setting, block in blocks.items():
            yield from (
                {"setting": setting, "seed": seed, **row} for row in shared(active(block, labels))
            )
