"""Data sets that need no network: scikit-learn's digits, distorted, on black or on photographs."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from ...blocks import check_count, check_seed
from .dataset import Dataset, Split, channels_first

CLASSES = tuple("0123456789")
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # how bright colours look (ITU-R BT.601)
CONTRAST = 0.4  # luma, 0 … 1, by which a digit in `digits_rgb` differs from its patch


def digits(train: int = 60_000, test: int = 5_000, seed: int = 0) -> Dataset:
    """A stand-in for MNIST: scikit-learn's 8×8 digits as 1×28×28 images.

    The 1,797 originals (Alpaydin & Kaynak 1998) are split first, four fifths to training; then they
    are drawn at random under rotations (±15°), scalings, shears and shifts. Same seed, same images.

    Args:
        train, test: how many images.
        seed: of all that is drawn.

    Returns:
        Images (uint8, images × 1 × 28 × 28) and labels, 0 to 9, for training and tests.

    Example:
        >>> digits(train=3, test=2).train.images.shape
        torch.Size([3, 1, 28, 28])
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    train_split, test_split = _warped_digits(train, test, 28, generator)
    source = "scikit-learn's 8×8 digits, enlarged and distorted by seeded affine maps"
    return Dataset("digits", train_split, test_split, CLASSES, source)


def digits_rgb(train: int = 20_000, test: int = 2_000, seed: int = 0) -> Dataset:
    """A stand-in for CIFAR-10: the digits on photographs, as 3×32×32 images.

    Digits as in `digits`, each in a random colour over a random patch of scikit-learn's two
    photographs: of their left three fifths for training, of the rest for tests.

    Args:
        train, test: how many images.
        seed: of all that is drawn.

    Returns:
        Images (uint8, images × 3 × 32 × 32) and labels, 0 to 9, for training and tests.

    Example:
        >>> digits_rgb(train=3, test=2).train.images.shape
        torch.Size([3, 3, 32, 32])
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    photographs = _photographs()
    cut = photographs.shape[3] * 3 // 5
    train_masks, test_masks = _warped_digits(train, test, 32, generator)
    train_images = _paint(train_masks.images, photographs[..., :cut], generator)
    test_images = _paint(test_masks.images, photographs[..., cut:], generator)
    return Dataset(
        "digits-rgb",
        Split(train_images, train_masks.labels),
        Split(test_images, test_masks.labels),
        CLASSES,
        "scikit-learn's 8×8 digits, enlarged and distorted, in random colours over patches of its "
        "photographs (by danielbuechele and vultilion, CC BY 2.0)",
    )


def _warped_digits(
    train: int, test: int, size: int, generator: torch.Generator
) -> tuple[Split, Split]:
    """Training and test images (× 1 × size × size) of different originals."""
    from sklearn.datasets import load_digits

    check_count(train, "train")
    check_count(test, "test")
    values, numbers = load_digits(return_X_y=True)  # images × 64, 0 … 16
    pixels = torch.from_numpy(values).float().view(-1, 1, 8, 8) / 16
    labels = torch.from_numpy(numbers).long()
    order = torch.randperm(len(pixels), generator=generator)
    cut = len(pixels) * 4 // 5

    def warped(originals: Tensor, count: int) -> Split:
        chosen = originals[torch.randint(len(originals), (count,), generator=generator)]
        return Split(_warp(pixels[chosen], size, generator), labels[chosen])

    return warped(order[:cut], train), warped(order[cut:], test)


def _warp(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Each image (images × 1 × 8 × 8, 0 … 1) under its own affine map, size × size, as uint8."""
    # rotation in degrees, zoom out, shear, shift x, shift y
    low = torch.tensor([-15.0, 1.15, -0.2, -0.15, -0.15])
    high = torch.tensor([15.0, 1.5, 0.2, 0.15, 0.15])
    drawn = torch.rand(len(images), 5, generator=generator)
    angle, zoom, shear, dx, dy = (low + (high - low) * drawn).T
    cos = torch.cos(angle.deg2rad())
    sin = torch.sin(angle.deg2rad())
    maps = [zoom * cos, zoom * (shear - sin), dx, zoom * sin, zoom * cos, dy]
    theta = torch.stack(maps, dim=1).view(-1, 2, 3)
    grid = affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    warped = grid_sample(images, grid, mode="bicubic", align_corners=False)
    return (warped.clamp(0, 1) * 255).round().to(torch.uint8)


def _photographs() -> Tensor:
    """scikit-learn's photographs of a temple and a flower, halved: 2 × 3 × 213 × 320, 0 … 1."""
    from sklearn.datasets import load_sample_images

    images = np.stack(load_sample_images().images)  # 2 × 427 × 640 × 3
    return avg_pool2d(channels_first(images) / 255, 2)


def _paint(masks: Tensor, photographs: Tensor, generator: torch.Generator) -> Tensor:
    """Each mask (uint8, images × 1 × size × size) in its own colour over a patch, as uint8.

    Patches of the photographs keep half their contrast, so that a digit stays legible on any.
    """
    size = masks.shape[-1]
    # photographs × 3 × tops × lefts × size × size, a view
    windows = photographs.unfold(2, size, 1).unfold(3, size, 1)
    which, top, left = (
        torch.randint(windows.shape[axis], (len(masks),), generator=generator) for axis in (0, 2, 3)
    )
    patches = windows[which, :, top, left]
    means = patches.mean((2, 3), keepdim=True)
    patches = patches.add_(means).div_(2)
    colours = _legible(torch.rand(means.shape, generator=generator), means)
    return patches.lerp_(colours, masks / 255).mul_(255).round_().to(torch.uint8)


def _legible(colours: Tensor, grounds: Tensor) -> Tensor:
    """Colours mixed with white over dark grounds, with black over light ones.

    As much as it takes for their luma to differ by CONTRAST from that of the ground. Both are
    images × 3 × 1 × 1, 0 … 1.
    """
    luma = (LUMA * colours).sum(1, keepdim=True)
    ground = (LUMA * grounds).sum(1, keepdim=True)
    towards = (ground < 0.5).float()  # 1: white, 0: black
    goal = ground + CONTRAST * (2 * towards - 1)
    share = ((goal - luma) / (towards - luma)).clamp(0, 1)  # luma is linear
    return torch.lerp(colours, towards, share)
