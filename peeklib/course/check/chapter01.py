"""Checks of chapter 1, A network as matrices."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ...hooks import record
from ..models import PaperCNN
from .exercise import exercise


@exercise
def neuron_counts(answer: dict[str, int]) -> None:
    """Chapter 1: how many neurons `relu1` and `relu2` of PaperCNN would have for 32×32 images.

    Example:
        >>> neuron_counts({"relu1": 1440, "relu2": 320})  # as for 28×28
        Traceback (most recent call last):
        AssertionError: 1440 is not the number of neurons of relu1; ...
    """
    assert isinstance(answer, dict), 'give a dict: {"relu1": …, "relu2": …}'
    convolutions = nn.Sequential(OrderedDict(list(PaperCNN().named_children())[:6]))
    blocks = record(convolutions, torch.zeros(1, 1, 32, 32))
    for name, block in blocks.items():
        assert name in answer, f"there is no entry for {name!r}"
        assert answer[name] == len(block), (
            f"{answer[name]} is not the number of neurons of {name}; a 5×5 convolution without "
            "padding takes 4 off each side, a max-pool halves it, and every channel counts"
        )


@exercise
def neuron_row(answer: int) -> None:
    """Chapter 1: the row of A₀ of channel 3, row 5, column 7 of `relu1` (all from 0).

    Example:
        >>> neuron_row(3 * 5 * 7)
        Traceback (most recent call last):
        AssertionError: row 105 is another neuron; count how many neurons come before: ...
    """
    maps = torch.zeros(10, 12, 12)
    maps[3, 5, 7] = 1
    assert answer == int(maps.flatten().argmax()), (
        f"row {answer} is another neuron; count how many neurons come before: "
        "whole channels, then whole rows, then columns"
    )


@exercise
def silent_neurons(answer: int, block: Tensor) -> None:
    """Chapter 1: how many rows of `block` (neurons × images) are zero for every image.

    Example:
        >>> silent_neurons(1, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        ✓ right
    """
    expected = int((block.amax(dim=1) == 0).sum())
    assert answer == expected, (
        f"{answer} is not the number of neurons that stay at zero for every column of the block"
    )
