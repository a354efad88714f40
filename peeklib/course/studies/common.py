"""What studies share: how they factorize, data sets that are read once, measures, a rescaling."""

import copy
import functools

from torch import Tensor, nn

import peeklib as pk

FIT = {"solver": "auto", "max_iter": 60, "tol": 1e-3}


@functools.cache
def load(name: str) -> pk.Dataset:
    """A data set, read once.

    Returns:
        The same object at every call.
    """
    return pk.load_dataset(name)


def entropy_rank(values: Tensor) -> float:
    """Entropy rank of a block or of its singular values.

    Returns:
        From 1 to the number of singular values; NaN if all are zero: networks can die.

    Example:
        >>> import torch
        >>> round(entropy_rank(torch.eye(3)), 3), entropy_rank(torch.zeros(3, 3))
        (3.0, nan)
    """
    return pk.effective_rank(values) if values.any() else float("nan")


def size(block: Tensor) -> float:
    """The root mean square of a block.

    Returns:
        In the unit of the block.

    Example:
        >>> import torch
        >>> size(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        2.5
    """
    return block.square().mean().sqrt().item()


def recalls(model: nn.Module, test: pk.Split) -> dict[str, float]:
    """For each class, the share of its test images that the network recognizes.

    Returns:
        "recall of <label>" → that share, for each label.

    Example:
        >>> import torch
        >>> recalls(nn.Identity(), pk.Split(torch.eye(3), torch.tensor([0, 1, 1])))
        {'recall of 0': 1.0, 'recall of 1': 0.5}
    """
    found = {}
    for label in test.labels.unique().tolist():
        own = test.labels == label
        found[f"recall of {label}"] = pk.accuracy(model, test.images[own], test.labels[own])
    return found


def rescale(model: nn.Module, scale: float) -> nn.Module:
    """A PaperCNN with the same answers, both of whose hidden layers are `scale` times as large.

    Returns:
        A copy, without gradients.

    Example:
        >>> import torch
        >>> model = pk.models.PaperCNN(seed=0)
        >>> images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(rescale(model, 4.0)(images), model(images))
        True
    """
    twin = copy.deepcopy(model).requires_grad_(False)
    weights = dict(twin.named_parameters())
    for name in ("conv1.weight", "conv1.bias", "conv2.bias"):
        weights[name].mul_(scale)
    weights["fc.weight"].div_(scale)
    return twin
