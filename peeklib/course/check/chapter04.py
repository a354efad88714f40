"""Checks of chapter 4, Deeper, and in colour."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ...hooks import record
from ...images import input_blocks
from ...nmf import CoupledFactors
from ..models import CifarAlexNet
from .exercise import exercise


@exercise
def alexnet_features(answer: int) -> None:
    """Chapter 4: features, pixels and neurons, of CifarAlexNet for 3×64×64 images.

    Example:
        >>> alexnet_features(3 * 64 * 64)  # pixels alone
        Traceback (most recent call last):
        AssertionError: 12288 is not the number of rows; ...
    """
    convolutions = nn.Sequential(OrderedDict(list(CifarAlexNet().named_children())[:-2]))
    images = torch.zeros(1, 3, 64, 64)
    blocks = input_blocks(images) | record(convolutions, images)
    assert answer == sum(map(len, blocks.values())), (
        f"{answer} is not the number of rows; count three channels of 64×64 pixels, "
        "and the maps of all five layers"
    )


@exercise
def colour_image(answer: Tensor, fit: CoupledFactors) -> None:
    """Chapter 4: the strongest component as an image, height × width × 3, with largest value 1.

    `fit` has the blocks "input.red", "input.green" and "input.blue".

    Example:
        >>> import peeklib as pk
        >>> fit = pk.coupled_nmf(pk.input_blocks(torch.ones(5, 3, 2, 2)), 1)
        >>> colour_image(torch.ones(3, 2, 2), fit)
        Traceback (most recent call last):
        AssertionError: give a tensor, height × width × 3: colours come last
    """
    assert isinstance(answer, Tensor) and answer.ndim == 3 and answer.shape[2] == 3, (
        "give a tensor, height × width × 3: colours come last"
    )
    assert abs(answer.max() - 1) < 1e-5, f"the largest value is {answer.max():.3f}; divide by it"
    colours = ("input.red", "input.green", "input.blue")
    P = torch.stack([fit.factors[name][:, 0] for name in colours]).cpu()  # colours × pixels
    assert torch.allclose(answer.cpu().flatten(0, 1).T, P / P.max(), atol=1e-5), (
        "the values are not those of component 0; are rows and columns, or the colours, exchanged?"
    )
