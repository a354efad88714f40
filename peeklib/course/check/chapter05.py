"""Checks of chapter 5, Which classes?"""

import torch
from torch import Tensor

from .exercise import exercise


@exercise
def ceiling(answer: float, labels: Tensor, classes: tuple[int, ...]) -> None:
    """Chapter 5: the highest accuracy of a network that only answers `classes`.

    Args:
        answer: a share, between 0 and 1.
        labels: one for each image.
        classes: those that it answers.

    Example:
        >>> ceiling(0.75, torch.tensor([0, 1, 1, 2]), classes=(0, 1))
        ✓ right
    """
    expected = torch.isin(labels, torch.tensor(classes)).float().mean().item()
    assert abs(answer - expected) < 5e-4, (
        f"{answer} is off; it is the share, between 0 and 1, of images whose label is one of "
        f"{classes}"
    )


@exercise
def energy_rank(answer: int, values: Tensor, share: float) -> None:
    """Chapter 5: how many singular values hold `share` of the sum of all squares.

    `values` are the singular values, largest first; the largest are counted first.

    Example:
        >>> energy_rank(2, torch.tensor([4.0, 3.0, 1.0]), share=0.9)
        ✓ right
    """
    held = values.double().square().cumsum(0) / values.double().square().sum()
    expected = int((held < share).sum()) + 1
    assert answer == expected, (
        f"{answer} is not the number; square the values, add them up from the largest until "
        f"{share:.0%} of the sum is reached"
    )
