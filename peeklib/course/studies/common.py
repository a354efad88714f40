"""What studies share: how they factorize, data sets that are read once, measures, a rescaling."""

import copy
import functools

from torch import Tensor, nn

import peeklib as pk

FIT = {"solver": "auto", "max_iter": 60, "tol": 1e-3}


@functools.cache
def load(name: str) -> pk.Dataset:
    """A data set, read once."""
    return pk.load_dataset(name)


def entropy_rank(values: Tensor) -> float:
    """Entropy rank of a block or of its singular values; NaN if all are zero: networks can die."""
    return pk.effective_rank(values) if values.any() else float("nan")


def size(block: Tensor) -> float:
    """The root mean square of a block."""
    return block.square().mean().sqrt().item()


def recalls(model: nn.Module, test: pk.Split) -> dict[str, float]:
    """For each class, the share of its test images that the network recognizes."""
    found = {}
    for label in test.labels.unique().tolist():
        own = test.labels == label
        found[f"recall of {label}"] = pk.accuracy(model, test.images[own], test.labels[own])
    return found


def rescale(model: nn.Module, scale: float) -> nn.Module:
    """A PaperCNN with the same answers, both of whose hidden layers are `scale` times as large."""
    twin = copy.deepcopy(model).requires_grad_(False)
    weights = dict(twin.named_parameters())
    for name in ("conv1.weight", "conv1.bias", "conv2.bias"):
        weights[name].mul_(scale)
    weights["fc.weight"].div_(scale)
    return twin
