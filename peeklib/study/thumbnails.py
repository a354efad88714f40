"""The images as a report shows them and as they are factorized: in [0, 1], and small."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..images import to_float

SIDE = 64  # pixels of the long side, at most


def thumbnails(images: Tensor, room: float, batch_size: int) -> tuple[Tensor, list[str]]:
    """Images in [0, 1], the long side at most `SIDE`.

    Args:
        images: images × channels × height × width, uint8 or float. Floats outside [0, 1] are
            scaled, channel by channel, from their smallest to their largest value.
        room: values for each image at most; the long side is halved until they fit, or is 4.
        batch_size: images worked on at a time.

    Returns:
        images × channels × height × width, float32 on the CPU; and notes on what was done.

    Raises:
        ValueError: for NaN or infinite values.

    Example:
        >>> pixels, notes = thumbnails(torch.ones(3, 1, 128, 32), room=10_000, batch_size=2)
        >>> pixels.shape, len(notes)
        (torch.Size([3, 1, 64, 16]), 1)
    """
    low, high = _channel_ranges(images, batch_size)
    span = torch.where(high > low, high - low, 1)
    notes = []
    if images.dtype == torch.uint8 or (low.min() >= 0 and high.max() <= 1):
        low = torch.zeros_like(low)
        span = torch.ones_like(span)
    else:
        notes.append(
            f"The images run from {low.min():.3g} to {high.max():.3g}, not from 0 to 1: pictures "
            "and input blocks use them scaled, channel by channel, from their smallest to their "
            "largest value. The model, or what preprocess= names, got them as they are: if they were "
            "normalized already, it should not do so again."
        )
    height, width = images.shape[2:]
    size = _small_size(images.shape, room)
    if size != (height, width):
        notes.append(
            f"The pixels are shown and factorized at {size[0]} × {size[1]}, means over areas of "
            f"the {height} × {width} given. The model got those."
        )
    parts = []
    for batch in images.split(batch_size):
        scaled = (to_float(batch).float() - low) / span
        parts.append(nn.functional.interpolate(scaled, size, mode="area").cpu())
    return torch.cat(parts).clamp_(0, 1), notes


def _channel_ranges(images: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each channel, channels × 1 × 1."""
    lows, highs = [], []
    for batch in images.split(batch_size):
        pixels = to_float(batch).float()
        lows.append(pixels.amin((0, 2, 3)))
        highs.append(pixels.amax((0, 2, 3)))
    low = torch.stack(lows).amin(0)
    high = torch.stack(highs).amax(0)
    if not (low.isfinite().all() and high.isfinite().all()):
        bad = next(k for k, image in enumerate(images) if not image.isfinite().all())
        raise ValueError(f"images have NaN or infinite values, first in image {bad}; drop it")
    return low[:, None, None], high[:, None, None]


def _small_size(shape: Sequence[int], room: float) -> tuple[int, int]:
    """Height and width for images of this shape."""
    _, channels, height, width = shape
    side = SIDE
    while True:
        shrink = min(1, side / max(height, width))
        small = max(1, round(height * shrink)), max(1, round(width * shrink))
        if side <= 4 or channels * small[0] * small[1] <= room:
            return small
        side //= 2
