"""Checks of chapter 10, Singular directions, layer by layer."""

import torch

from ...spectra import spectrum
from .exercise import exercise


@exercise
def noise_share(answer: float, shape: tuple[int, int]) -> str | None:
    """Chapter 10: the largest singular value of white noise of a shape, as a share of its norm.

    Example:
        >>> noise_share(0.245, shape=(20, 2000))
        ✓ right
    """
    values = spectrum(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    expected = (values[0] / values.norm()).item()

    def is_near(number: float) -> bool:
        return abs(answer - number) < 0.05 * number

    if is_near(expected):
        return None
    if not 0 < answer <= 1:
        return f"give a share, between 0 and 1, not {answer:.6g}"
    if is_near(expected**2):
        return f"{answer:.4f} is the share of the squares; the norm is their root"
    if is_near((values[0] / values.sum()).item()):
        return f"{answer:.4f} is a share of the sum; the norm is another thing"
    return f"{answer:.4f} is off; is the noise normal, with mean 0, and of the layer's shape?"
