"""Checks of chapter 8, Fast enough to play with."""

from collections.abc import Callable
from functools import cache

import torch
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


@exercise
def shrink(answer: float, G: Tensor, b: Tensor) -> str | None:
    """Chapter 8: by what a round of MU multiplies a tiny second loading, the first at its best.

    The first loading is then b₁ / G₁₁, and the second so small that it has no say in G v.

    Args:
        answer: a factor.
        G: 2 × 2.
        b: 2 numbers.

    Example:
        >>> shrink(0.5, torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([4.0, 1.0]))
        ✓ right
    """
    first = b[0] / G[0, 0]
    expected = (b[1] / (G[1, 0] * first)).item()

    def is_near(number: float) -> bool:
        return abs(answer - number) < 0.005

    if is_near(expected):
        return None
    if answer <= 0:
        return "MU multiplies by positive numbers only"
    if is_near(1 - expected):
        return f"{answer:.3f} is what a round takes off; which share does it leave?"
    if is_near(1 / expected):
        return f"{answer:.3f} makes it grow; what stands above the line, and what below?"
    if is_near((b[1] / G[1, 1]).item()):
        return f"{answer:.3f} is the best second loading without the first one, not a factor"
    return f"{answer:.3f} is off; write down the second entry of b and of G v, at v₂ = 0"


@exercise
def step_share(answer: Callable[[Tensor, Tensor, Tensor], float]) -> str | None:
    """Chapter 8: `answer(V, B, G)` is how far coordinate descent would move V, as a share of V.

    Every entry alone moves to its best value. Row k counts with weight G_kk in both norms. V and
    B = W X are rank × images, G = W Wᵀ is rank × rank.

    Example:
        >>> step_share(lambda V, B, G: (B - G @ V).norm() / V.norm())
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: at the minimum nothing may move, and yours is ...
    """
    V, best, B, G = _example()
    found, there = answer(V, B, G), answer(best, B, G)
    if found < 0:
        return "a norm is not below zero"
    if there > 1e-4:
        return f"at the minimum nothing may move, and yours is {there:.3g} there; entries stop at 0"
    unit = torch.tensor([0.5, 1, 2, 4]).double()[:, None]
    if abs(answer(V * unit, B / unit, G / unit / unit.T) - found) > 1e-4 * found + 1e-9:
        return "another scale of the components changes it: weigh row k by its entry of G"
    if abs(answer(2 * V, 2 * B, G) - found) > 1e-4 * found + 1e-9:
        return "twice the data, and it is another number: take it as a share of V"
    weight = G.diagonal()[:, None]
    move = V - (V + (B - G @ V) / weight).clamp(min=0)
    expected = ((weight * move.square()).sum() / (weight * V.square()).sum()).sqrt().item()
    if abs(found - expected**2) < 1e-4 * expected**2:
        return "this is the ratio of squares; take the root"
    if abs(found - expected) > 1e-4 * expected:
        return "the share differs; does every entry move alone, from where V is now?"


@cache
def _example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """V to begin with and at the minimum, B and G, in float64."""
    W, X, V = (part.double() for part in random_tensors((4, 9), (9, 12), (4, 12)))
    X[::2] = 0  # so that some entries of the minimum are zero
    best, B, G = V.clone(), W @ X, W @ W.T
    hals_update(best, B, G, [slice(0, 4)], sweeps=500)  # in place
    return V, best, B, G
