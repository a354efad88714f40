"""Checks of chapter 5, Which classes?"""

import torch
from torch import Tensor

from ...spectra import effective_rank
from .exercise import exercise


@exercise
def ceiling(answer: float, labels: Tensor, classes: tuple[int, ...]) -> str | None:
    """Chapter 5: the highest accuracy of a network that only answers `classes`.

    Args:
        answer: a share, between 0 and 1.
        labels: one for each image.
        classes: those that it answers.

    Example:
        >>> ceiling(0.75, torch.tensor([0, 1, 1, 2]), classes=(0, 1))
        ✓ right
    """
    if not labels.numel():
        return "there are no labels, so there is nothing to be right about"
    expected = torch.isin(labels.cpu(), torch.tensor(classes)).double().mean().item()
    if abs(answer - expected) < 5e-4:
        return None
    if not 0 <= answer <= 1:
        return f"give a share, between 0 and 1, not {answer:g}"
    if abs(answer - (1 - expected)) < 5e-4:
        return f"{answer:.4f} is the share of images about which the network must be wrong"
    if abs(answer - len(classes) / len(labels.unique())) < 5e-4:
        return f"{answer:.4f} is the share of classes; they do not have equally many images"
    return f"{answer:.4f} is off; about which of the images can the network be right?"


@exercise
def energy_rank(answer: int, values: Tensor, share: float) -> str | None:
    """Chapter 5: how many singular values hold `share` of the sum of all squares.

    `values` are the singular values, largest first; the largest are counted first.

    Example:
        >>> energy_rank(2, torch.tensor([4.0, 3.0, 1.0]), share=0.9)
        ✓ right
    """
    if not (values > 0).any():
        return "all singular values are zero, so they hold nothing"
    if _holders(values, share - 1e-7) <= answer <= _holders(values, share + 1e-7):
        return None  # two, where rounding decides
    if not 1 <= answer <= len(values):
        return f"there are {len(values)} values; how many of them does it take?"
    if answer == _holders(values.sqrt(), share):
        return f"{answer} values hold {share:.0%} of the sum of all, without squares"
    if answer == _holders(values, share) - 1:
        return f"is {answer} a place counted from 0, or a number of values?"
    side = "less than" if answer < _holders(values, share) else "more than it takes for"
    return f"the {answer} largest hold {side} {share:.0%} of the sum of squares"


def _holders(values: Tensor, share: float) -> int:
    energy = values.double().square().cumsum(0)
    return int((energy / energy[-1] < min(share, 1 - 1e-12)).sum()) + 1


@exercise
def higher_rank(answer: str, blocks: dict[str, Tensor]) -> str | None:
    """Chapter 5: which of two blocks has the higher entropy rank, or "same" within a tenth.

    Args:
        answer: a name of a block, or "same".
        blocks: two, each neurons × images.

    Example:
        >>> higher_rank("many", {"one": torch.ones(3, 3), "many": torch.eye(3)})
        ✓ right
    """
    ranks = {name: effective_rank(block) for name, block in blocks.items()}
    low, high = sorted(ranks, key=ranks.__getitem__)
    right = "same" if ranks[high] < 1.1 * ranks[low] else high
    if answer == right:
        return None
    if answer not in (*blocks, "same"):
        return f"choose one of {[*blocks, 'same']}"
    if answer == "same":
        return "they are apart: images that have less in common take more directions"
    return f"no: {answer} do not take more directions; what do the images of either have in common?"
