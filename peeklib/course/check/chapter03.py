"""Checks of chapter 3, How much training?"""

from torch import Tensor

from ...nmf import coupled_nmf
from ...spectra import eckart_young, spectrum
from .exercise import exercise


@exercise
def rank_to_reach(answer: int, errors: dict[int, float], target: float) -> None:
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
    assert reached, f"no rank in {sorted(errors)} reaches {target}; choose a larger target"
    assert answer == min(reached), (
        f"rank {answer} is not the smallest with a relative error of at most {target}"
    )


@exercise
def compressible(answer: float, block: Tensor, rank: int) -> None:
    """Chapters 3 and 10: the relative error of the best approximation of a block at this rank.

    The approximation may be of any sign (Eckart & Young 1936).

    Example:
        >>> import torch
        >>> compressible(0.6, torch.diag(torch.tensor([4.0, 3.0])), rank=1)
        ✓ right
    """
    expected = eckart_young(spectrum(block), [rank]).item()
    assert abs(answer - expected) < 1e-3 * max(expected, 1e-12), (
        f"{answer:.4f} is off; square the singular values beyond the first {rank}, add, "
        "divide by the sum of all, take the root"
    )


@exercise
def rescaled(answer: float, blocks: dict[str, Tensor], target: float) -> None:
    """Chapter 3: the factor for all layers that lifts the RMSE at rank 10 above `target`.

    Args:
        answer: what every layer, but not the input, is multiplied by.
        blocks: each features × images; those of the input have names that begin with "input".
        target: an RMSE.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> blocks = {"input": torch.zeros(1, 30), "relu1": torch.rand(30, 30, generator=generator)}
        >>> rescaled(100.0, blocks, target=1.0)
        ✓ right
    """
    assert isinstance(answer, (int, float)) and answer > 0, "give one positive number"
    louder = {}
    for name, block in blocks.items():
        louder[name] = block if name.startswith("input") else block * answer
    rmse = coupled_nmf(louder, 10, max_iter=60, tol=1e-3).rmse
    assert rmse > target, f"times {answer} the RMSE is {rmse:.3f}, not above {target:.3f}"
