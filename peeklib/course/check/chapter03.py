"""Checks of chapter 3, How much training?"""

import math

import pandas as pd
from torch import Tensor

from ...nmf import coupled_nmf
from ...spectra import eckart_young, spectrum
from .exercise import exercise

RANGE = 1e-3, 1e3  # of a factor that is tried


@exercise
def rank_to_reach(answer: int, errors: dict[int, float], target: float) -> str | None:
    """Chapter 3: the smallest rank whose relative error is at most `target`.

    Args:
        answer: one of the ranks.
        errors: rank → relative error.
        target: the largest error that will do.

    Example:
        >>> rank_to_reach(10, {5: 0.5, 10: 0.3, 20: 0.2}, target=0.4)
        ✓ right
    """
    reached = [rank for rank, error in errors.items() if error <= target]
    if not reached:
        return f"no rank in {sorted(errors)} reaches {target}; choose a larger target"
    if answer not in errors:
        return f"rank {answer} is none of {sorted(errors)}"
    if answer not in reached:
        return f"at rank {answer} the relative error is {errors[answer]:.4f}, above {target:.4f}"
    if answer != min(reached):
        return f"rank {answer} will do, but it is not the smallest that will"


@exercise
def compressible(answer: float, block: Tensor, rank: int) -> str | None:
    """Chapters 3 and 10: the relative error of the best approximation of a block at this rank.

    The approximation may be of any sign (Eckart & Young 1936).

    Example:
        >>> import torch
        >>> compressible(0.6, torch.diag(torch.tensor([4.0, 3.0])), rank=1)
        ✓ right
    """
    values = spectrum(block)
    lost = eckart_young(values, [rank]).item()
    total = values.sum().item()

    def is_near(number: float) -> bool:
        return abs(answer - number) < 1e-3 * number + 1e-6

    if is_near(lost):
        return None
    if not 0 <= answer <= 1:
        return f"a relative error lies between 0 and 1; {answer:.6g} does not"
    if is_near(lost**2):
        return f"{answer:.4f} is a share of squares; an error has the unit of the data"
    if is_near(1 - lost**2) or is_near((1 - lost**2) ** 0.5):
        return f"{answer:.4f} is of what the first {rank} hold; the error is of what they leave out"
    if total > 0 and is_near(values[rank:].sum().item() / total):
        return f"{answer:.4f} is a share of the values themselves; an error adds up squares"
    return (
        f"{answer:.4f} is off; compare the squares of the values beyond the first {rank} "
        "with those of all, and mind the unit"
    )


@exercise
def rescaled(answer: float, blocks: dict[str, Tensor], target: float) -> str | None:
    """Chapter 3: the smallest factor for all layers that lifts the RMSE at rank 10 above `target`.

    Args:
        answer: what every layer, but not the input, is multiplied by, to two digits.
        blocks: each features × images; those of the input have names that begin with "input".
        target: an RMSE.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> blocks = {"input": torch.zeros(1, 30), "relu1": torch.rand(30, 30, generator=generator)}
        >>> rescaled(100.0, blocks, target=1.0)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: times 100 will do, and so will less; ...
    """
    if answer <= 0:
        return "give a positive number; activations after a ReLU are not negative"
    if not RANGE[0] <= answer <= RANGE[1]:
        return f"times {answer:g} is far off; compare the two RMSEs to see how far they are apart"
    reached = _rmse_of_louder(blocks, answer)
    if reached <= target:
        return f"times {answer:g} the RMSE is {reached:.3f}, not above {target:.3f}"
    step = 10.0 ** (math.floor(math.log10(answer)) - 1)  # one less in the second digit
    if _rmse_of_louder(blocks, answer - step) > target:
        return f"times {answer:g} will do, and so will less; look for the smallest, to two digits"


def _rmse_of_louder(blocks: dict[str, Tensor], factor: float) -> float:
    louder = {}
    for name, block in blocks.items():
        louder[name] = block if name.startswith("input") else block * factor
    return coupled_nmf(louder, 10, max_iter=60, tol=1e-3).rmse


@exercise
def multiplied(
    answer: dict[str, float], before: dict[str, float], after: dict[str, float]
) -> str | None:
    """Chapter 3: by what each measure is multiplied if all data are multiplied by a number.

    Args:
        answer: name → factor, 1 where nothing changes.
        before, after: name → measure.

    Example:
        >>> multiplied({"RMSE": 2, "relative error": 1}, {"RMSE": 1, "relative error": 0.3},
        ...     {"RMSE": 2, "relative error": 0.3})
        ✓ right
    """
    for name in before:
        if name not in answer:
            return f"there is no entry for {name!r}"
        ratio = after[name] / before[name]
        if abs(answer[name] - ratio) <= 0.02 * ratio:
            continue
        if answer[name] <= 0:
            return f"the {name} stays positive, so its factor is positive"
        if abs(ratio - 1) < 0.02:
            return f"the {name} has no unit: what is it divided by?"
        if abs(answer[name] - ratio**2) <= 0.05 * ratio**2:
            return f"the {name} is a root, with the unit of the data, not of their squares"
        return f"the {name} has the unit of the data; your prediction for it did not come true"


@exercise
def spreads_apart(answer: float, first: pd.Series, second: pd.Series) -> str | None:
    """Chapter 3: the distance of two means over the seeds, in standard deviations.

    The deviation is the root of the mean of both variances, each over the number of seeds.

    Example:
        >>> spreads_apart(4.0, pd.Series([1.0, 3.0]), pd.Series([5.0, 7.0]))
        ✓ right
    """
    gap = abs(second.mean() - first.mean())
    spread = ((first.var(ddof=0) + second.var(ddof=0)) / 2) ** 0.5

    def is_near(number: float) -> bool:
        return abs(answer - number) <= 0.02 * number

    if is_near(gap / spread):
        return None
    if answer < 0:
        return "a distance is not below zero: leave the sign away"
    if is_near(gap):
        return f"{answer:.4f} is the distance itself; how many deviations is that?"
    if is_near(gap / ((first.var() + second.var()) / 2) ** 0.5):
        return f"{answer:.3g} takes variances over one seed less; the table above does not (ddof=0)"
    if is_near(gap / spread * len(first) ** 0.5):
        return f"{answer:.3g} is in standard errors of a mean; here single seeds are to be compared"
    return (
        f"{answer:.3g} is off; mean the two variances, take the root, and divide the distance by it"
    )
