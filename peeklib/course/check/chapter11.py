"""Checks of chapter 11, Your own network."""

import pandas as pd

from .exercise import exercise


@exercise
def most_silent(answer: str, layers: pd.DataFrame) -> str | None:
    """Chapter 11: the layer with the largest share of zeros, of a report's table of layers.

    Example:
        >>> most_silent("relu2", pd.DataFrame({"zeros": [0.2, 0.7]}, index=["relu1", "relu2"]))
        ✓ right
    """
    zeros = pd.Series(layers["zeros"])
    if answer not in zeros.index:
        return f"there is no layer {answer!r}; there are {list(zeros.index)}"
    if zeros[answer] == zeros.max():
        return None
    if zeros[answer] == zeros.min():
        return f"{answer} is the layer that is silent least"
    return f"{zeros[answer]:.0%} of the activations of {answer} are zero, of another layer more"


@exercise
def most_gained(answer: str, errors: pd.DataFrame, ranks: tuple[int, int]) -> str | None:
    """Chapter 11: the part whose error falls by the largest share from one rank to another.

    `errors` has a row for each part and a column for each rank.

    Example:
        >>> errors = pd.DataFrame({5: [0.9, 0.2], 10: [0.7, 0.1]}, index=["input", "relu1"])
        >>> most_gained("relu1", errors, ranks=(5, 10))
        ✓ right
    """
    first, second = ranks
    left = pd.Series(errors[second] / errors[first])  # NaN for a part that never had an error
    fallen = pd.Series(errors[first] - errors[second])
    if answer not in left.index:
        return f"there is no part {answer!r}; there are {list(left.index)}"
    if left[answer] == left.min():
        return None
    if fallen[answer] == fallen.max():
        return f"the error of {answer} falls by most, but not by the largest share of what it was"
    if left[answer] == left.max():
        return f"{answer} is the part that gains least"
    return f"{answer} keeps {left[answer]:.0%} of its error, another part less"
