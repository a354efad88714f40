"""Checks of chapter 6, In what order?"""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import exercise


@exercise
def closest_pair(answer: tuple[int, int], overlap: Tensor) -> None:
    """Chapter 6: the two different digits with the largest overlap, of a digits × digits table.

    Example:
        >>> closest_pair((0, 2), torch.tensor([[1.0, 0.2, 0.6], [0.2, 1.0, 0.3], [0.6, 0.3, 1.0]]))
        ✓ right
    """
    a, b = answer
    assert a != b, "a digit shares all neurons with itself; name two different ones"
    rows, columns = torch.tril_indices(len(overlap), len(overlap), -1)
    assert overlap[a, b] == overlap[rows, columns].max(), (
        f"the overlap of {a} and {b} is {overlap[a, b]:.3f}, there is a larger one"
    )


@exercise
def overlap(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Chapter 6: `answer(a, b)` is the Jaccard index of two boolean vectors; 0 for empty ones.

    Example:
        >>> overlap(lambda a, b: (a & b).sum() / a.sum())
        Traceback (most recent call last):
        AssertionError: 0.66... for [1, 1, 0, 0, 1] and [1, 0, 0, 1, 1]: 2 shared, 4 in all
    """
    a = torch.tensor([1, 1, 0, 0, 1]).bool()
    b = torch.tensor([1, 0, 0, 1, 1]).bool()
    found = answer(a, b)
    assert abs(found - 2 / 4) < 1e-6, (
        f"{found} for {a.int().tolist()} and {b.int().tolist()}: 2 shared, 4 in all"
    )
    assert abs(answer(a, ~a)) < 1e-6, "sets without a common neuron have overlap 0"
    nothing = a & ~a
    assert answer(nothing, nothing) == 0, "two empty sets: 0, not NaN"
