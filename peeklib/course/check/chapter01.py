"""Checks of chapter 1, A network as matrices."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ...hooks import record
from ..models import PaperCNN
from .exercise import exercise


@exercise
def neuron_counts(answer: dict[str, int]) -> str | None:
    """Chapter 1: how many neurons `relu1` and `relu2` of PaperCNN would have for 32×32 images.

    Example:
        >>> neuron_counts({"relu1": 1440, "relu2": 320})
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: 1440 neurons are in relu1 for 28×28 images; ...
    """
    model = PaperCNN()
    convolutions = nn.Sequential(OrderedDict(list(model.named_children())[:6]))
    small, large = (record(convolutions, torch.zeros(1, 1, side, side)) for side in (28, 32))
    channels = {"relu1": model.conv1.out_channels, "relu2": model.conv2.out_channels}
    for name, block in large.items():
        found = answer.get(name)
        if found is None:
            return f"there is no entry for {name!r}"
        if found == len(block):
            continue
        if found == len(small[name]):
            return f"{found} neurons are in {name} for 28×28 images; these are larger"
        if found * channels[name] == len(block):
            return f"{found} is one map of {name}; every channel has one"
        return (
            f"{found} is not the number of neurons of {name}; a 5×5 convolution without padding "
            "takes 4 off height and width, a max-pool halves them, and every channel counts"
        )


@exercise
def neuron_row(answer: int) -> str | None:
    """Chapter 1: the row of A₀ of channel 3, row 5, column 7 of `relu1` (all from 0).

    Example:
        >>> neuron_row(3 * 5 * 7)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: row 105 is another neuron; count how many come ...
    """
    maps = torch.zeros(10, 12, 12)
    maps[3, 5, 7] = 1
    right, exchanged, last = (
        int(maps.permute(order).flatten().argmax()) for order in ((0, 1, 2), (0, 2, 1), (1, 2, 0))
    )
    if not 0 <= answer < maps.numel():
        return f"there is no row {answer}; relu1 has {maps.numel()} rows, counted from 0"
    if answer == exchanged:
        return f"row {answer} is what you get if rows and columns of a map are exchanged"
    if answer == last:
        return f"row {answer} is what you get if the channel runs fastest; which index does?"
    if answer != right:
        return (
            f"row {answer} is another neuron; count how many come before it: "
            "whole channels, then whole rows, then columns"
        )


@exercise
def silent_neurons(answer: int, block: Tensor) -> str | None:
    """Chapter 1: how many rows of `block` (neurons × images) are zero for every image.

    Example:
        >>> silent_neurons(1, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        ✓ right
    """
    silent = int((block == 0).all(dim=1).sum())
    if answer == silent:
        return None
    if answer == len(block) - silent:
        return f"{answer} neurons do fire for some image; how many do not?"
    if answer == int((block == 0).sum()):
        return f"{answer} entries are zero; a silent neuron is a whole row of them"
    return f"{answer} is not the number of neurons that stay at zero for every column of the block"
