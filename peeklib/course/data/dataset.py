"""What a data set is, how it shows itself on a page, and parts of it."""

import html
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...blocks import as_labels, check_seed


class Split(NamedTuple):
    """Images (uint8, images × channels × height × width) and their labels (int64, images).

    Example:
        >>> import torch
        >>> import peeklib as pk
        >>> images = torch.zeros(5, 1, 28, 28, dtype=torch.uint8)
        >>> images, labels = pk.Split(images, labels=torch.arange(5))
    """

    images: Tensor
    labels: Tensor  #: for each image, the place of its class in `Dataset.classes`


@dataclass(frozen=True, repr=False)
class Dataset:
    """Training and test images of one data set, and where they really come from.

    Example:
        >>> import torch
        >>> import peeklib as pk
        >>> some = pk.Split(torch.zeros(5, 1, 28, 28, dtype=torch.uint8), torch.arange(5) % 2)
        >>> pk.Dataset("black", train=some, test=some, classes=("even", "odd"), source="made up")
        black: 5 training and 5 test images, 1×28×28, 2 classes; made up
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str  #: which data this really is, and how it got here
    stand_in_for: str | None = None  #: the data set that was asked for, when this is not it

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.test.images.shape[1:]))
        trained = f"{len(self.train.images):,} training"
        tested = f"{len(self.test.images):,} test images, {shape}"
        text = f"{self.name}: {trained} and {tested}, {len(self.classes)} classes; {self.source}"
        if self.stand_in_for:
            return f"stand-in for {self.stand_in_for}: {text}"
        return text

    def _repr_html_(self) -> str:
        text = html.escape(repr(replace(self, stand_in_for=None)))
        if self.stand_in_for:
            kind = "peek-note peek-stand-in"
            wanted = html.escape(self.stand_in_for)
            told = (
                f"<strong>Stand-in data.</strong> This page asked for {wanted} and ran on {text}. "
                f"The text was written for {wanted}: numbers here differ."
            )
        else:
            kind = "peek-note"
            told = f"<strong>Data.</strong> {text}."
        return f'<p class="{kind}" data-source="{html.escape(self.name)}">{told}</p>'


def subset(
    dataset: Dataset,
    *,
    fraction: float = 1.0,
    classes: Iterable[int] | None = None,
    order: Iterable[int] | None = None,
    seed: int = 0,
) -> Split:
    """A part of the training images: the training sets of the three case studies.

    Args:
        dataset: where from.
        fraction: share of the images, drawn at random; for one seed smaller parts lie in larger
            ones.
        classes: then keep only these labels.
        order: then arrange the images class by class in this order of labels, dropping other
            labels; train with `shuffle=False` to keep it.
        seed: of the draw.

    Returns:
        Copies of the images and labels that are left.

    Raises:
        ValueError: for a fraction outside (0, 1], labels that do not exist, or nothing left.

    Example:
        >>> import torch
        >>> import peeklib as pk
        >>> some = pk.Split(torch.zeros(6, 1, 28, 28, dtype=torch.uint8), torch.arange(6) % 3)
        >>> data = pk.Dataset("black", some, some, classes=("a", "b", "c"), source="made up")
        >>> pk.subset(data, order=(2, 0)).labels
        tensor([2, 2, 0, 0])
        >>> pk.subset(data, fraction=0.5).images.shape
        torch.Size([3, 1, 28, 28])
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it lies in (0, 1]")
    images = dataset.train.images
    labels = as_labels(dataset.train.labels, len(images)).cpu()
    kept = torch.arange(len(labels))
    if fraction < 1:
        generator = torch.Generator().manual_seed(check_seed(seed))
        drawn = torch.randperm(len(labels), generator=generator)
        kept = drawn[: round(fraction * len(labels))].sort().values
    if classes is not None:
        kept = kept[torch.isin(labels[kept], _known(dataset, classes))]
    if order is not None:
        parts = [kept[labels[kept] == label] for label in _known(dataset, order)]
        kept = torch.cat([kept[:0], *parts])
    if not len(kept):
        raise ValueError(
            f"no training images are left with fraction={fraction}, classes={classes}, "
            f"order={order}"
        )
    return Split(images[kept], labels[kept])


def _known(dataset: Dataset, labels: Iterable[int]) -> Tensor:
    """Labels as a tensor, if the data set has each, and each is named once."""
    labels = list(labels)
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels {labels} repeat; name each once")
    if unknown := [label for label in labels if label not in range(len(dataset.classes))]:
        raise ValueError(
            f"no class {unknown}; labels run from 0 to {len(dataset.classes) - 1}: "
            f"{dataset.classes}"
        )
    return torch.tensor(labels)


def channels_first(pixels: Tensor | np.ndarray) -> Tensor:
    """Images as they are in files, with their channels moved from the last axis to the second.

    Args:
        pixels: images × height × width, or images × height × width × channels.

    Returns:
        images × channels × height × width.

    Example:
        >>> channels_first(np.zeros((5, 32, 30, 3))).shape
        torch.Size([5, 3, 32, 30])
        >>> channels_first(np.zeros((5, 32, 30))).shape
        torch.Size([5, 1, 32, 30])
    """
    pixels = torch.as_tensor(pixels)
    # One channel too goes through `permute`: strides other than its own make convolutions round in
    # another way, and networks trained on MNIST are then not those of the evidence.
    pixels = pixels.reshape(*pixels.shape[:3], -1)
    return pixels.permute(0, 3, 1, 2).contiguous()
