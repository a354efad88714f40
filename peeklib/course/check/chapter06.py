"""Checks of chapter 6, In what order?"""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import exercise


@exercise
def closest_pair(answer: tuple[int, int], overlap: Tensor) -> str | None:
    """Chapter 6: the two different digits with the largest overlap, of a digits × digits table.

    Example:
        >>> closest_pair((2, 0), torch.tensor([[1.0, 0.2, 0.6], [0.2, 1.0, 0.3], [0.6, 0.3, 1.0]]))
        ✓ right
    """
    first, second = sorted(answer)
    if first < 0 or second >= len(overlap):
        return f"give two digits from 0 to {len(overlap) - 1}"
    if first == second:
        return "a digit shares all neurons with itself; name two different ones"
    rows, columns = torch.tril_indices(len(overlap), len(overlap), -1)
    found, pairs = overlap[second, first], overlap[rows, columns]
    if found == pairs.max():
        return None
    if found == pairs.min():
        return f"the overlap of {first} and {second} is the smallest of all"
    return f"the overlap of {first} and {second} is {found:.3f}, there is a larger one"


@exercise
def overlap(answer: Callable[[Tensor, Tensor], float]) -> str | None:
    """Chapter 6: `answer(a, b)` is the Jaccard index of two boolean vectors; 0 for empty ones.

    Example:
        >>> overlap(lambda a, b: (a & b).sum() / a.sum())
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: exchange the two sets, and your function gives ...
    """
    a = torch.tensor([1, 1, 0, 0, 1, 1]).bool()
    b = torch.tensor([1, 0, 0, 1, 0, 0]).bool()
    found, nothing = answer(a, b), torch.zeros(6).bool()
    if abs(found - answer(b, a)) > 1e-6:
        return "exchange the two sets, and your function gives another number"
    if abs(answer(a, a) - 1) > 1e-6:
        return "a set and itself share all their neurons: their overlap is 1"
    if abs(found - (a & b).sum() / (a | b).sum()) > 1e-6:
        return (
            f"{found:.4g} for {a.int().tolist()} and {b.int().tolist()}: which neurons are active "
            "for both, and which for at least one?"
        )
    if abs(answer(b, ~a & ~b)) > 1e-6:
        return "sets without a common neuron have overlap 0"
    if answer(nothing, nothing) != 0:
        return "two empty sets: 0, since no neuron is shared"
