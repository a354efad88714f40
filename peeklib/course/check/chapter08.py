"""Checks of chapter 8, Fast enough to play with."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...solvers import hals_update
from .exercise import exercise, random_tensors


@exercise
def products_over_sweeps(answer: float, features: int, images: int, rank: int) -> None:
    """Chapter 8: multiply-adds of two products with the data over those of one sweep a factor.

    Example:
        >>> products_over_sweeps(4.8, features=30, images=20, rank=5)
        ✓ right
    """
    products = 2 * rank * features * images
    sweeps = rank**2 * (features + images)
    expected = products / sweeps
    assert abs(answer - expected) <= 0.05 * expected, (
        f"{answer} is off; a product takes rank · features · images, a sweep rank² times the "
        "length of its factor, and there are two of each"
    )


@exercise
def coordinate_sweep(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Chapter 8: `answer(V, B, G)` is one sweep of coordinate descent over the rows of V.

    V and B = W X are rank × images, G = W Wᵀ is rank × rank.

    Example:
        >>> coordinate_sweep(lambda V, B, G: B - G @ V)  # the negative gradient, not a step
        Traceback (most recent call last):
        AssertionError: an entry is below zero; take the larger of it and 0
    """
    W, X, V = random_tensors((4, 9), (9, 12), (4, 12))
    X[::2] = 0  # so that some entries end at zero
    new = answer(V.clone(), W @ X, W @ W.T)
    expected = V.clone()
    hals_update(expected, W @ X, W @ W.T, [slice(0, 4)], sweeps=1)  # in place
    assert isinstance(new, Tensor) and new.shape == V.shape, "return the new V, rank × images"
    assert (new >= 0).all(), "an entry is below zero; take the larger of it and 0"
    assert torch.allclose(new, expected, atol=1e-5), (
        "the result differs; does every row use what the rows before it have become, "
        "and the diagonal of G below?"
    )
