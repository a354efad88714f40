"""Checks of chapter 12, What others see."""

from collections.abc import Callable

from torch import Tensor

from ...spectra import cka
from .exercise import exercise, random_tensors


@exercise
def images_needed(answer: int, floor: dict[int, float], limit: float) -> None:
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
    assert enough, f"no number in {sorted(floor)} brings it down to {limit}; choose a larger limit"
    assert answer in enough, (
        f"{answer} is not a number of images at which shuffled blocks are at most {limit:.2f} alike"
    )
    assert answer == min(enough), f"{answer} images will do, and so will fewer"


@exercise
def alignment(answer: Callable[[Tensor, Tensor], float | Tensor]) -> None:
    """Chapter 12: `answer(X, Y)` is the linear CKA of two blocks, features × images.

    Example:
        >>> alignment(lambda X, Y: (X @ Y.T).norm())
        Traceback (most recent call last):
        AssertionError: a number added to a feature changes the result; ...
    """
    X, Y = random_tensors((5, 30), (7, 30))
    value = float(answer(X.clone(), Y.clone()))
    assert abs(value - float(answer(X + 9, Y))) < 1e-4, (
        "a number added to a feature changes the result; "
        "take the mean over the images off every feature"
    )
    expected = cka(X, Y)
    assert abs(value - expected) < 1e-4, (
        f"{value:.4f} is not {expected:.4f} for a small example; "
        "is the square on the numerator, and the product of two norms below?"
    )
