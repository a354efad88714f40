"""Checks of chapter 14, A good score without labels is in the answers."""

from collections.abc import Callable

import pandas as pd

from ..ranking import environments, kendall, sign_error
from .exercise import exercise


@exercise
def kendall_by_hand(answer: float) -> None:
    """Chapter 14: τ of a score with the values 3, 4, 1 for networks of accuracy 0.9, 0.8, 0.5.

    Example:
        >>> kendall_by_hand(1.0)
        Traceback (most recent call last):
        AssertionError: 1.0 is not it; write down the three pairs, ...
    """
    expected = kendall([3, 4, 1], [0.9, 0.8, 0.5])[0]
    assert abs(answer - expected) < 0.01, (
        f"{answer} is not it; write down the three pairs, count those that both order alike, take "
        "off those that they order differently, and divide by the number of pairs"
    )


@exercise
def worst_environment(
    answer: Callable[[pd.DataFrame, str], str], part: pd.DataFrame, better: dict[str, int]
) -> None:
    """Chapter 14: `answer(part, score)` is the environment in which a score errs most, as text.

    Args:
        answer: gives data set, architecture and factor, joined with blanks.
        part: a row for each network.
        better: score → 1 if large is better, −1 if small is.

    Example:
        >>> import peeklib as pk
        >>> table, better = pk.evidence.table("zoo"), {"nuclear_norm": 1}
        >>> worst_environment(lambda part, score: "mnist", table, better)
        Traceback (most recent call last):
        AssertionError: 'mnist' is no environment; ... such as 'cifar10 cnn classes'
    """
    for score in ("nuclear_norm", "rmse_area", "weight_norm"):
        turned = better[score] * part[score]
        errors = {}
        for key, rows in environments(part):
            error = sign_error(turned.iloc[rows], part["accuracy"].iloc[rows])[0]
            errors[" ".join(key)] = error
        found = answer(part, score)
        assert found in errors, (
            f"{found!r} is no environment; join the parts of its key with blanks, such as "
            f"{[*errors][0]!r}"
        )
        assert errors[found] == max(errors.values()), (
            f"for {score}, {found} has a sign error of {errors[found]:.2f}, and another has more; "
            "is a score for which small is better turned round?"
        )
