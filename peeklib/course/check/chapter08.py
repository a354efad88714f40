"""Checks of chapter 8, Fast enough to play with."""

from collections.abc import Callable

from torch import Tensor

from ...solvers import hals_update
from .exercise import exercise, near, random_tensors


@exercise
def products_over_sweeps(answer: float, features: int, images: int, rank: int) -> str | None:
    """Chapter 8: multiply-adds of two products with the data over those of one sweep a factor.

    Example:
        >>> products_over_sweeps(4.8, features=30, images=20, rank=5)
        ✓ right
    """
    products = 2 * rank * features * images
    sweeps = rank**2 * (features + images)
    expected = products / sweeps

    def is_near(number: float) -> bool:
        return abs(answer - number) <= 0.05 * number

    if is_near(expected):
        return None
    if is_near(1 / expected):
        return f"{answer:.3g} is the other way round: sweeps over products"
    if is_near(rank * expected):
        return f"{answer:.3g} takes a sweep for cheaper than it is: it has rank² in it"
    if is_near(expected / 2) or is_near(2 * expected):
        return f"{answer:.3g} is off by two; a round has two products and two sweeps"
    return f"{answer:.3g} is off; write down both products, then the sweep over either factor"


@exercise
def coordinate_sweep(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str | None:
    """Chapter 8: `answer(V, B, G)` is one sweep of coordinate descent over the rows of V.

    V and B = W X are rank × images, G = W Wᵀ is rank × rank.

    Example:
        >>> coordinate_sweep(lambda V, B, G: B - G @ V)  # the negative gradient, not a step
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: an entry is below zero; take the larger of it and 0
    """
    W, X, V = random_tensors((4, 9), (9, 12), (4, 12))
    X[::2] = 0  # so that some entries end at zero
    B, G = W @ X, W @ W.T
    new = answer(V, B, G)
    expected = V.clone()
    hals_update(expected, B, G, [slice(0, 4)], sweeps=1)  # in place
    if new.shape != V.shape:
        return f"return the new V, rank × images, {tuple(V.shape)} here, not {tuple(new.shape)}"
    if (new < 0).any():
        return "an entry is below zero; take the larger of it and 0"
    if near(new, expected):
        return None
    if near(new, (V + (B - G @ V) / G.diagonal()[:, None]).clamp(min=0)):
        return "all rows moved at once; each should see what the rows before it have become"
    if near(new, V):
        return "V stays as it was, though it is not the best yet"
    return "a row does not end at its best value; is its step divided by its own entry of G?"
