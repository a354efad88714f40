"""Checks of chapter 9, What one neuron sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import exercise


@exercise
def set_purity(answer: Callable[[Tensor], float]) -> None:
    """Chapter 9: `answer(labels)` is the share of the most frequent label.

    Example:
        >>> set_purity(lambda labels: 1.0)
        Traceback (most recent call last):
        AssertionError: 1.0 for [3, 1, 3, 3]: the most frequent label has a share of 0.75
    """
    for labels in ([3, 1, 3, 3], [0, 1, 2, 9], [7, 7]):
        expected = max(map(labels.count, labels)) / len(labels)
        found = float(answer(torch.tensor(labels)))
        assert abs(found - expected) < 1e-6, (
            f"{found} for {labels}: the most frequent label has a share of {expected}"
        )


@exercise
def tail_cut(answer: float, variances: Tensor, share: float) -> None:
    """Chapter 9: the cut-off above which `share` of the variances lie.

    Example:
        >>> tail_cut(7.5, torch.arange(10.0), share=0.2)
        ✓ right
    """
    above = (variances > answer).float().mean().item()
    assert abs(above - share) <= 1 / len(variances) + 1e-6, (
        f"{above:.1%} lie above {answer}, not {share:.0%}"
    )
