"""Checks of chapter 11, Your own network."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from .exercise import exercise


@exercise
def most_silent(answer: str, layers: pd.DataFrame) -> str | None:
    """Chapter 11: the layer with the largest share of zeros, of a report's table of layers.

    Example:
        >>> most_silent("relu2", pd.DataFrame({"zeros": [0.2, 0.7]}, index=["relu1", "relu2"]))
        ✓ right
    """
    zeros = pd.Series(layers["zeros"])
    if answer not in zeros.index:
        return f"there is no layer {answer!r}; there are {list(zeros.index)}"
    if zeros[answer] == zeros.max():
        return None
    if zeros[answer] == zeros.min():
        return f"{answer} is the layer that is silent least"
    return f"{zeros[answer]:.0%} of the activations of {answer} are zero, of another layer more"


@exercise
def most_gained(answer: str, errors: pd.DataFrame, ranks: tuple[int, int]) -> str | None:
    """Chapter 11: the part whose error falls by the largest share from one rank to another.

    `errors` has a row for each part and a column for each rank.

    Example:
        >>> errors = pd.DataFrame({5: [0.9, 0.2], 10: [0.7, 0.1]}, index=["input", "relu1"])
        >>> most_gained("relu1", errors, ranks=(5, 10))
        ✓ right
    """
    first, second = ranks
    left = pd.Series(errors[second] / errors[first])  # NaN for a part that never had an error
    fallen = pd.Series(errors[first] - errors[second])
    if answer not in left.index:
        return f"there is no part {answer!r}; there are {list(left.index)}"
    if left[answer] == left.min():
        return None
    if fallen[answer] == fallen.max():
        return f"the error of {answer} falls by most, but not by the largest share of what it was"
    if left[answer] == left.max():
        return f"{answer} is the part that gains least"
    return f"{answer} keeps {left[answer]:.0%} of its error, another part less"


@exercise
def negative_share(answer: Callable[[Tensor], float]) -> str | None:
    """Chapter 11: `answer(block)` is the share of the sum of squares that negative values hold.

    Example:
        >>> negative_share(lambda block: (block < 0).float().mean())
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: your function counts entries; large ones should ...
    """
    block = torch.tensor([[3.0, -1.0, 0.0, -2.0], [0.0, 5.0, -4.0, 3.0]])
    found = answer(block)
    held = block.clamp(max=0).square().sum() / block.square().sum()
    if not 0 <= found <= 1:
        return f"{found:.4g} is no share; it lies between 0 and 1"
    if abs(found - (block < 0).double().mean()) < 1e-5:
        return "your function counts entries; large ones should count for more"
    if abs(found - block.clamp(max=0).sum() / -block.abs().sum()) < 1e-5:
        return "your function adds up the values themselves; a sum of squares was asked for"
    if abs(found - (1 - held)) < 1e-5:
        return "this is the share of the positive values"
    if abs(found - held) > 1e-5:
        return "the share differs; square the negative entries, add, and divide by all squares"
    if answer(0 * block) != 0:
        return "in a block of zeros nothing is negative: 0"
