"""Checks of chapter 9, What one neuron sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import exercise, near, random_tensors

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
    room = 1 / len(variances)  # rounded to a whole neuron either way
    if abs(above - share) < room - 1e-9:
        return None
    if not variances.min() <= answer <= variances.max():
        return f"{answer:.4g} is outside of all variances; they are what is cut, not their places"
    if abs(1 - above - share) <= room:
        return f"{share:.0%} lie below {answer:.4g}; this is the other tail"
    return f"{above:.1%} lie above {answer:.4g}, not {share:.0%}"


@exercise
def normalized(answer: Callable[[Tensor], Tensor]) -> str | None:
    """Chapter 9: `answer(block)` has columns of mean 0 and variance 1; `block` is neurons × images.

    Example:
        >>> normalized(lambda block: block - block.mean(dim=0))
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: a column does not have variance 1; it is the mean of ...
    """
    (block,) = random_tensors((8, 5))
    found = answer(block)
    if found.shape != block.shape:
        return f"return a block of the same shape, {tuple(block.shape)}, not {tuple(found.shape)}"
    means, variances = found.mean(dim=0), found.var(dim=0, correction=0)
    of_rows = found.mean(dim=1).abs().max()
    if means.abs().max() > 1e-4 and of_rows < 1e-4:
        return "the rows have mean 0; the study shifts and scales each image, not each neuron"
    if means.abs().max() > 1e-4:
        return "a column does not have mean 0"
    if (found.var(dim=0) - 1).abs().max() < 1e-3:
        return "the variance is divided by one neuron too few (correction=0)"
    if (variances - 1).abs().max() > 1e-3:
        return (
            "a column does not have variance 1; it is the mean of the squares, once the mean is 0"
        )
    expected = (block - block.mean(dim=0)) / block.std(dim=0, correction=0)
    if not near(found, expected, 1e-3):
        return "these columns are normalized, but they are not those of the block, in their order"
