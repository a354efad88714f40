"""Checks of chapter 12, What others see."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...spectra import cka, conv_singular_values
from .exercise import exercise, random_tensors


@exercise
def images_needed(answer: int, floor: dict[int, float], limit: float) -> str | None:
    """Chapter 12: the fewest images for which unrelated blocks are at most `limit` alike.

    Args:
        answer: one of the numbers of images.
        floor: number of images → similarity of blocks whose images were shuffled.
        limit: the largest similarity that will do.

    Example:
        >>> images_needed(200, {50: 0.7, 200: 0.3, 500: 0.2}, limit=0.3)
        ✓ right
    """
    enough = [count for count, value in floor.items() if value <= limit]
    if not enough:
        return f"no number in {sorted(floor)} brings it down to {limit}; choose a larger limit"
    if answer not in floor:
        return f"{answer} is none of the numbers of images, {sorted(floor)}"
    if answer not in enough:
        return f"with {answer} images shuffled blocks are {floor[answer]:.2f} alike, above {limit}"
    if answer != min(enough):
        return f"{answer} images will do, and so will fewer"


@exercise
def alignment(answer: Callable[[Tensor, Tensor], float]) -> str | None:
    """Chapter 12: `answer(X, Y)` is the linear CKA of two blocks, features × images.

    Example:
        >>> alignment(lambda X, Y: (X @ Y.T).norm())
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: a number added to a feature changes the result; ...
    """
    X, Y = random_tensors((5, 30), (7, 30))
    value, expected = answer(X, Y), cka(X, Y)

    def is_near(number: float, other: float = value) -> bool:
        return abs(other - number) < 1e-4

    if not is_near(answer(X + 9, Y)):
        return (
            "a number added to a feature changes the result; "
            "take the mean over the images off every feature"
        )
    if not is_near(answer(3 * X, Y)):
        return "another unit of a block changes the result; what should it be divided by?"
    if not is_near(1, answer(X, X)):
        return "a block and itself are perfectly aligned: 1"
    if is_near(expected**0.5) or is_near(expected**2):
        return "this is the square or the root of what it should be; which norm is squared?"
    if not is_near(expected):
        return "the result is off for two random blocks; compare with the formula, norm by norm"


@exercise
def flat_gain(answer: float, weight: Tensor) -> str | None:
    """Chapter 12: by how much a convolution strengthens a flat pattern at most.

    `weight` is channels out × channels in × height × width; the image wraps around, and each
    channel of a flat pattern has one value everywhere. The norm is over channels and places.

    Example:
        >>> flat_gain(4.0, torch.ones(1, 1, 2, 2))
        ✓ right
    """
    weight = weight.detach().cpu().double()
    total = weight.sum(dim=(2, 3))  # what a flat pattern meets: out × in
    expected = torch.linalg.svdvals(total)[0].item()
    size = (max(8, weight.shape[2]), max(8, weight.shape[3]))

    def is_near(number: float) -> bool:
        return abs(answer - number) < 0.005 * number

    if is_near(expected):
        return None
    if answer < 0:
        return "a gain is not below zero"
    if is_near(total.norm().item()):
        return f"{answer:.4g} adds up all patterns of channels; only the strongest is asked for"
    if is_near(weight.norm().item()):
        return f"{answer:.4g} is the norm of the kernel, whatever the pattern"
    if answer > 1.005 * expected and answer <= conv_singular_values(weight, size).max() * 1.05:
        return (
            f"{answer:.4g} is more than a flat pattern gets; which frequency is that of flat ones?"
        )
    return (
        f"{answer:.4g} is off; under a flat pattern every place of the kernel meets the same values"
    )
