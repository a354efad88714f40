"""Checks of chapter 4, Deeper, and in colour."""

from collections import OrderedDict
from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn

from ...hooks import record
from ...images import input_blocks
from ...nmf import CoupledFactors
from ..models import CifarAlexNet
from .exercise import exercise, near

COLOURS = ("input.red", "input.green", "input.blue")


@exercise
def alexnet_features(answer: int) -> str | None:
    """Chapter 4: features, pixels and neurons, of CifarAlexNet for 3×64×64 images.

    Example:
        >>> alexnet_features(3 * 64 * 64)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: 12288 are the pixels alone; ...
    """
    small, large = _lengths(32), _lengths(64)
    pixels = sum(large[name] for name in COLOURS)
    total, before = sum(large.values()), sum(small.values())
    if answer == total:
        return None
    if answer == pixels:
        return f"{answer} are the pixels alone; the neurons of all five layers are rows, too"
    if answer == total - pixels:
        return f"{answer} are the neurons alone; the pixels of three colours are rows, too"
    if answer == before:
        return f"{answer} are those for 32×32 images"
    if answer == 2 * before:
        return f"{answer} would be for maps twice as high; they are twice as wide as well"
    return (
        f"{answer} is not the number of rows; count three channels of 64×64 pixels, "
        "and the maps of all five layers"
    )


@cache
def _lengths(side: int) -> dict[str, int]:
    """Rows of each block for images of this height and width."""
    convolutions = nn.Sequential(OrderedDict(list(CifarAlexNet().named_children())[:-2]))
    images = torch.zeros(1, 3, side, side)
    blocks = input_blocks(images) | record(convolutions, images)
    return {name: len(block) for name, block in blocks.items()}


@exercise
def colour_image(answer: Tensor, fit: CoupledFactors) -> str | None:
    """Chapter 4: the strongest component as an image, height × width × 3, with largest value 1.

    `fit` has the blocks "input.red", "input.green" and "input.blue".

    Example:
        >>> import peeklib as pk
        >>> fit = pk.coupled_nmf(pk.input_blocks(torch.ones(5, 3, 2, 2)), 1)
        >>> colour_image(torch.ones(3, 2, 2), fit)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: give a tensor, height × width × 3: colours come last
    """
    P = torch.stack([fit.factors[name][:, 0] for name in COLOURS]).cpu()  # colours × pixels
    if answer.ndim != 3 or answer.shape[2] != 3:
        return "give a tensor, height × width × 3: colours come last"
    if answer.shape[0] * answer.shape[1] != P.shape[1]:
        return f"an image has {P.shape[1]} pixels here, and {tuple(answer.shape)} has others"
    if abs(answer.max() - 1) > 1e-5:
        return f"the largest value is {answer.max():.3f}, not 1"
    planes, expected = answer.flatten(0, 1).T, P / P.max()
    if near(planes.flip(0), expected):
        return "red and blue are exchanged"
    if near(answer.transpose(0, 1).flatten(0, 1).T, expected) and not near(planes, expected):
        return "rows and columns are exchanged; pixels were flattened row by row"
    if not near(planes, expected):
        return (
            "the values are not those of component 0; does each colour take its own block, and "
            "does one number divide all three?"
        )


@exercise
def smallest_tolerance(answer: float, values: pd.Series) -> str | None:
    """Chapter 4: the smallest relative tolerance under which all seeds agree with seed 0.

    Args:
        answer: a share, such as 0.1 for 10 %.
        values: a positive number for each seed.

    Example:
        >>> smallest_tolerance(0.2, pd.Series([1.0, 1.1, 0.8]))
        ✓ right
    """
    listed = values[0]
    misses = (values.drop(0) - listed).abs() / listed

    def is_near(number: float) -> bool:
        return abs(answer - number) <= 0.01 * number + 1e-9

    if is_near(misses.max()):
        return None
    if answer < 0:
        return "a tolerance is not below zero: seeds miss on either side"
    if is_near(100 * misses.max()):
        return "write it as a share, not in per cent"
    if is_near(misses.min()):
        return f"under {answer:.4f} one seed agrees; all should"
    if is_near(misses.max() * listed):
        return f"{answer:.4f} is in the unit of the error; divide by what is listed"
    enough = "too many agree with less" if answer > misses.max() else "some seed does not agree"
    return f"under {answer:.4f} {enough}"
