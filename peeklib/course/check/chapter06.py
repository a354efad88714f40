"""Checks of chapter 6, In what order?"""

from collections.abc import Callable

import pandas as pd
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


@exercise
def best_known(answer: int, runs: pd.DataFrame) -> str | None:
    """Chapter 6: the digit with the highest mean recall after training in one order.

    `runs` has a column `order`, the same text in each row, and a `recall of` each digit.

    Example:
        >>> runs = pd.DataFrame({"order": ["201"], **{f"recall of {k}": [k / 9] for k in range(3)}})
        >>> best_known(2, runs)
        ✓ right
    """
    order = [int(digit) for digit in runs["order"].iloc[0]]
    recall = {digit: pd.Series(runs[f"recall of {digit}"]).mean() for digit in order}
    if answer not in recall:
        return f"give one digit of {sorted(order)}"
    if recall[answer] == max(recall.values()):
        return None
    if answer == order[0]:
        return f"{answer} came first, and {len(order) - 1} other digits after it"
    if answer == order[-1]:
        return f"{answer} came last, but another is known better"
    return f"{answer} came in between; what does each digit do to the one before?"


@exercise
def chance_overlap(answer: Callable[[int, int, int], float]) -> str | None:
    """Chapter 6: `answer(a, b, n)` is the overlap by chance of sets of a and b among n neurons.

    Random sets share a b / n neurons on average; the overlap is that over those in at least one.

    Example:
        >>> chance_overlap(lambda a, b, n: a * b / n)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: 10 for sets of 20 and 50 among 100 is no share; ...
    """
    for a, b, n in ((20, 50, 100), (3, 8, 40)):
        found, shared = answer(a, b, n), a * b / n
        what = f"{found:.4g} for sets of {a} and {b} among {n}"
        if not 0 <= found <= 1:
            return f"{what} is no share; how many neurons are in at least one of the sets?"
        if abs(found - answer(b, a, n)) > 1e-6:
            return "exchange the two sets, and your function gives another number"
        if abs(answer(n, b, n) - b / n) > 1e-6:
            return "if one set has all the neurons, the other is its share: b of n"
        if abs(found - shared / (a + b - shared)) > 1e-6:
            return f"{what}: count those in both only once among those in at least one"
