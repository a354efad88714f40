"""Checks of chapter 9, What one neuron sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import exercise

# The most frequent label is never the first, the last, the least, the largest or the median one.
SETS = [[4, 1, 1, 1, 0, 6, 8, 9, 7], [5, 8, 2, 8, 9, 8, 3, 1], [3, 0, 9, 5], [7, 7], [6]]


@exercise
def set_purity(answer: Callable[[Tensor], float]) -> str | None:
    """Chapter 9: `answer(labels)` is the share of the most frequent label.

    Example:
        >>> set_purity(lambda labels: 1.0)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: 1 for [4, 1, 1, 1, 0, 6, 8, 9, 7]; which label ...
    """
    for labels in SETS:
        found = answer(torch.tensor(labels))
        if not 0 <= found <= 1 + 1e-6:
            return f"{found:.4g} for {labels} is no share; it lies between 0 and 1"
        most = max(labels, key=labels.count)
        if abs(found - labels.count(most) / len(labels)) > 1e-6:
            return (
                f"{found:.4g} for {labels}; which label is there most often, "
                "and what share of the set is it?"
            )


@exercise
def tail_cut(answer: float, variances: Tensor, share: float) -> str | None:
    """Chapter 9: the cut-off above which `share` of the variances lie.

    Example:
        >>> tail_cut(7.5, torch.arange(10.0), share=0.2)
        ✓ right
    """
    if not len(variances):
        return "there are no variances to be cut"
    above = (variances > answer).double().mean().item()
    room = 1 / len(variances) + 1e-6  # one neuron more or less
    if abs(above - share) <= room:
        return None
    if not variances.min() <= answer <= variances.max():
        return f"{answer:.4g} is outside of all variances; they are what is cut, not their places"
    if abs(1 - above - share) <= room:
        return f"{share:.0%} lie below {answer:.4g}; this is the other tail"
    return f"{above:.1%} lie above {answer:.4g}, not {share:.0%}"
