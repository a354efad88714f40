"""Checks of chapter 14, A good score without labels is in the answers."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from ..ranking import environments, kendall, sign_error, within
from .exercise import exercise


@exercise
def kendall_by_hand(answer: float) -> str | None:
    """Chapter 14: τ of a score with the values 3, 4, 1 for networks of accuracy 0.9, 0.8, 0.5.

    Example:
        >>> kendall_by_hand(1.0)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: 1 is not it; write down the three pairs, ...
    """
    expected = kendall([3, 4, 1], [0.9, 0.8, 0.5])[0]
    if abs(answer - expected) < 0.01:
        return None
    if not -1 <= answer <= 1:
        return f"τ lies between −1 and 1; {answer:.3g} does not: divide by the number of pairs"
    if abs(answer - (1 + expected) / 2) < 0.01:
        return f"{answer:.3g} is the share of pairs ordered alike; the others count against them"
    if abs(answer + expected) < 0.01:
        return f"{answer:.3g} has the wrong sign: which pairs count for, and which against?"
    return (
        f"{answer:.3g} is not it; write down the three pairs, and for each whether "
        "score and accuracy order it alike"
    )


@exercise
def worst_environment(
    answer: Callable[[pd.DataFrame, str], str], part: pd.DataFrame, better: dict[str, int]
) -> str | None:
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
        peeklib.course.check.answers.Hint: 'mnist' is no environment; ... as 'cifar10 cnn classes'
    """
    for score in ("nuclear_norm", "rmse_area", "weight_norm"):
        errors = _sign_errors(part, better[score] * part[score].to_numpy())
        found = answer(part, score)
        if found not in errors:
            return (
                f"{found!r} is no environment; join the parts of its key with blanks, such as "
                f"{[*errors][0]!r}"
            )
        error, most, least = errors[found], max(errors.values()), min(errors.values())
        if error == most:
            continue
        if error == least:
            way = "errs least" if better[score] > 0 else "errs least; small is better there"
            return f"{found} is where {score} {way}"
        return f"for {score}, {found} has a sign error of {error:.2f}, and another has more"


def _sign_errors(part: pd.DataFrame, score: np.ndarray) -> dict[str, float]:
    """The sign error of each environment in which some pair counts."""
    errors = {}
    for key, rows in environments(part):
        error = sign_error(score[rows], part["accuracy"].iloc[rows])[0]
        if not math.isnan(error):
            errors[" ".join(key)] = error
    return errors


@exercise
def tau_within(
    answer: Callable[[pd.DataFrame, str], float], part: pd.DataFrame, better: dict[str, int]
) -> str | None:
    """Chapter 14: `answer(part, score)` is τ within each environment, then the mean over them.

    Args:
        answer: gives 1 for a score that orders the networks of every environment right.
        part: a row for each network, with columns `data`, `architecture`, `accuracy` and scores.
        better: score → 1 if large is better, −1 if small is.

    Example:
        >>> import peeklib as pk
        >>> table, better = pk.evidence.table("zoo"), {"nuclear_norm": 1}
        >>> tau_within(lambda part, score: kendall(part[score], part.accuracy)[0], table, better)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: for nuclear_norm this is the τ of all networks at ...
    """
    once = np.ones((1, len(part)))
    for score in ("nuclear_norm", "rmse_area", "weight_norm"):
        found, sign = answer(part, score), better[score]
        expected = within(part, score, once, better=sign)[0]
        pooled = kendall(sign * part[score], part["accuracy"])[0]
        if abs(found - expected) < 0.005:
            continue
        if not -1 <= found <= 1:
            return f"{found:.4g} for {score} is no τ: the mean, not the sum, over environments"
        if abs(found - pooled) < 0.005 or abs(found + pooled) < 0.005:
            return (
                f"for {score} this is the τ of all networks at once; compare within, then average"
            )
        if abs(found + expected) < 0.005:
            return f"for {score} the sign is wrong: is small better there?"
        return f"{found:.3f} for {score} is off; does every environment count once, large or small?"


@exercise
def safest(answer: str, fooled: pd.DataFrame, feared: tuple[str, ...]) -> str | None:
    """Chapter 14: the score whose smallest τ over the feared factors is largest.

    `fooled` has a row for each score and a column for each factor.

    Example:
        >>> fooled = pd.DataFrame({"lr": [0.9, 0.5], "classes": [0.1, 0.4]}, index=["a", "b"])
        >>> safest("b", fooled, ("lr", "classes"))
        ✓ right
    """
    of_these = fooled[list(feared)]
    worst, mean = of_these.min(axis=1), of_these.mean(axis=1)
    if answer not in worst.index:
        return f"there is no score {answer!r}; there are {list(worst.index)}"
    if worst[answer] == worst.max():
        return None
    if mean[answer] == mean.max():
        return f"{answer} is best on average; of which damage does it see least?"
    if (of_these.loc[answer] == of_these.max()).any():
        return f"{answer} is best at one of the damages, and not at the other"
    return f"{answer} falls to τ {worst[answer]:.2f} for one of them, another score less far"
