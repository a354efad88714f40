"""Checks of chapter 10, Singular directions, layer by layer."""

import torch

from ...spectra import spectrum
from .exercise import exercise


@exercise
def noise_share(answer: float, shape: tuple[int, int]) -> None:
    """Chapter 10: the largest singular value of white noise of a shape, as a share of its norm.

    Example:
        >>> noise_share(0.245, shape=(20, 2000))
        ✓ right
    """
    values = spectrum(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    expected = (values[0] / values.norm()).item()
    assert abs(answer - expected) < 0.05 * expected, (
        f"{answer} is off; divide the largest singular value by the root of the sum of the squares "
        "of all"
    )
