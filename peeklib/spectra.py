"""Singular values of a block, and how many of them matter."""

import torch
from torch import Tensor

from .blocks import as_matrix


def spectrum(block: Tensor) -> Tensor:
    """Singular values of a block, largest first, min(features, images) of them, in float64 on its device.

    They come from the triangular factor of a QR decomposition (Chan 1982): several times faster than the long
    side itself, and nothing is squared, so that small singular values keep their accuracy.

    Args:
        block: features × images, of any sign.
    """
    X = as_matrix(block).double()
    tall = X if len(X) >= X.shape[1] else X.T
    return torch.linalg.svdvals(torch.linalg.qr(tall, mode="r").R)


def effective_rank(block: Tensor) -> float:
    """Entropy rank exp(−Σ p log p) with p = σ / Σσ, between 1 and the rank (Roy & Vetterli 2007).

    Args:
        block: features × images, or its singular values if you have them.

    Raises:
        ValueError: for a block of zeros.
    """
    values = torch.as_tensor(block).double() if block.ndim == 1 else spectrum(block)
    if not ((values >= 0) & values.isfinite()).all():
        raise ValueError("singular values are never negative, infinite or NaN; some of these are")
    if not values.sum():
        raise ValueError("every entry of the block is zero; its entropy rank is not defined")
    p = values / values.sum()
    return torch.special.entr(p).sum().exp().item()
