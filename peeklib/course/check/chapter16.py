"""Checks of chapter 16, Switch it off."""

import pandas as pd
from torch import Tensor

from .exercise import exercise, near


@exercise
def constant_kept(answer: float, answers: Tensor) -> str | None:
    """Chapter 16: the largest share of these answers that one and the same answer can keep.

    Example:
        >>> import torch
        >>> constant_kept(0.5, torch.tensor([3, 1, 3, 2]))
        ✓ right
    """
    counts = answers.bincount() / len(answers)
    if not 0 <= answer <= 1:
        return f"{answer:.4g} is no share; it lies between 0 and 1"
    if abs(answer - counts.max()) < 5e-3:
        return None
    if abs(answer - 1 / int((counts > 0).sum())) < 5e-3:
        return "that would be it if all answers were given equally often; count them"
    if answer > counts.max():
        return f"no answer is given to {answer:.1%} of the images"
    return f"another answer than the one of {answer:.1%} of the images keeps more"


@exercise
def most_lost(answer: int, recall: pd.DataFrame) -> str | None:
    """Chapter 16: the class whose recall falls most, of a table with columns before and after.

    Example:
        >>> recall = pd.DataFrame({"before": [0.9, 0.8], "after": [0.8, 0.5]})
        >>> most_lost(1, recall)
        ✓ right
    """
    after: dict[int, float] = recall["after"].to_dict()
    lost = {label: share - after[label] for label, share in recall["before"].to_dict().items()}
    if answer not in lost:
        return f"give one class of {list(lost)}"
    if lost[answer] == max(lost.values()):
        return None
    if after[answer] == min(after.values()):
        return f"class {answer} ends lowest, but another one fell further"
    if lost[answer] < 0:
        return f"class {answer} gained; which one lost most?"
    return f"class {answer} lost {100 * lost[answer]:.1f} points, another one more"


@exercise
def votes_by_hand(answer: Tensor, weight: Tensor, loadings: Tensor) -> str | None:
    """Chapter 16: L O, classes × components, of the last layer's weights and the loadings.

    Example:
        >>> import torch
        >>> votes_by_hand(torch.ones(2, 3), torch.ones(2, 1), torch.ones(1, 3))
        ✓ right
    """
    expected = (weight @ loadings).detach()
    if answer.shape == expected.shape and near(answer, expected):
        return None
    if answer.shape == expected.T.shape and near(answer.T, expected):
        return "that is components × classes; the classes come first"
    if answer.shape != expected.shape:
        shape = " × ".join(map(str, expected.shape))
        return f"give classes × components, here {shape}; neurons are summed over"
    if near(answer, expected.clamp(min=0)):
        return "a vote may be negative: a component can speak against a class"
    return "sum over the neurons, each by its weight for the class times its loading"
