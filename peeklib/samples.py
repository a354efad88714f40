"""A record of the activations at some sites, within a given memory.

Where a site is too large to be kept whole, a random sample of its positions is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from .sites import Site
from .watch import Preprocess, Sight, forward, unchanged


@dataclass(frozen=True)
class Sample:
    """Which neurons of a site are kept.

    All, or some positions of every feature, or one position of some features.

    Example:
        >>> site = Site("conv", "conv", "Conv2d", "leaf", shape=(8, 3, 3))
        >>> sample = Sample(site, positions=torch.tensor([0, 4]))
        >>> str(sample), sample.neurons
        ('2 of 9 positions', 16)
    """

    site: Site
    features: Tensor | None = None  #: indices, or None for all
    positions: Tensor | None = None  #: indices, the same for every feature, or None for all

    @property
    def shape(self) -> tuple[int, int]:
        """Features and positions kept."""
        features = self.site.features if self.features is None else len(self.features)
        positions = self.site.positions if self.positions is None else len(self.positions)
        return features, positions

    @property
    def neurons(self) -> int:
        """Rows of the block."""
        return prod(self.shape)

    def take(self, tensor: Tensor, images: int) -> Tensor:
        """The neurons kept, from the site's tensor for that many images.

        Returns:
            neurons × images.

        Example:
            >>> site = Site("conv", "conv", "Conv2d", "leaf", shape=(8, 3, 3))
            >>> sample = Sample(site, positions=torch.tensor([0, 4]))
            >>> sample.take(torch.zeros(5, 8, 3, 3), 5).shape
            torch.Size([16, 5])
        """
        t = self.site.arrange(tensor, images)
        if self.features is not None:
            t = t[:, self.features.to(t.device)]
        if self.positions is not None:
            t = t[:, :, self.positions.to(t.device)]
        return t.flatten(1).T

    def place(self, row: int) -> str:
        """Where the neuron of a row stands in its layer.

        Returns:
            Words such as "feature 12 at 3, 5", counted from 0.

        Example:
            >>> site = Site("conv", "conv", "Conv2d", "leaf", shape=(8, 3, 3))
            >>> Sample(site, positions=torch.tensor([0, 4])).place(3)
            'feature 1 at 1, 1'
        """
        feature, position = divmod(row, self.shape[1])
        if self.features is not None:
            feature = int(self.features[feature])
        if self.positions is not None:
            position = int(self.positions[position])
        grid = self.site.shape[1:]
        if not grid:
            return f"neuron {feature}"
        at = ", ".join(str(k) for k in np.unravel_index(position, grid))
        return f"feature {feature} at {at}"

    def __str__(self):
        kept = []
        if self.positions is not None:
            kept.append(f"{self.shape[1]} of {self.site.positions} positions")
        if self.features is not None:
            kept.append(f"{self.shape[0]} of {self.site.features} features")
        return " of ".join(kept) or "all"


# Planning


def plan(
    sites: Sequence[Site], costs: Sequence[float], budget: float, *, seed: int = 0
) -> list[Sample]:
    """What to keep of every site within a budget: small sites whole, the large ones equal shares.

    Positions are drawn at random, the same for every feature, and by `seed` alone: sites with as
    many positions that keep as many keep the same. A site whose share does not hold one position
    of all features gives one of some.

    Args:
        sites: from `choose`.
        costs: bytes for each neuron of each site.
        budget: bytes in all.
        seed: of the draw.

    Returns:
        One sample for each site, in their order.

    Raises:
        ValueError: for a budget that does not hold a neuron of every site.

    Example:
        >>> site = Site("conv", "conv", "Conv2d", "leaf", shape=(8, 3, 3))
        >>> [str(sample) for sample in plan([site, site], costs=[4, 4], budget=200)]
        ['3 of 9 positions', '3 of 9 positions']
    """
    sizes = [cost * prod(site.shape) for site, cost in zip(sites, costs, strict=True)]
    samples = []
    for site, cost, share in zip(sites, costs, _shares(sizes, budget), strict=True):
        samples.append(_drawn(site, int(share // cost), seed))
    return samples


def _shares(sizes: Sequence[float], budget: float) -> list[float]:
    """Nobody gets more than their size, and who gets less gets as much as every other such."""
    shares = [0.0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=sizes.__getitem__)
    for done, k in enumerate(smallest_first):
        shares[k] = min(sizes[k], budget / (len(sizes) - done))
        budget -= shares[k]
    return shares


def _drawn(site: Site, neurons: int, seed: int) -> Sample:
    """A sample of a site with `neurons` rows at most."""
    if neurons < 1:
        raise ValueError(
            f"memory does not hold one neuron of layer {site.name!r}; give more, or fewer images"
        )
    generator = torch.Generator().manual_seed(int(seed))
    features = _some(neurons, site.features, generator)
    positions = _some(max(1, neurons // site.features), site.positions, generator)
    return Sample(site, features, positions)


def _some(count: int, most: int, generator: torch.Generator) -> Tensor | None:
    """`count` indices below `most`, ascending; None for all."""
    if count >= most:
        return None
    return torch.randperm(most, generator=generator)[:count].sort().values


# Recording


def even_batches(images: int, batch_size: int = 32) -> list[slice]:
    """Batches of about equal size, none larger than `batch_size`.

    Returns:
        Slices of `images` in a row.

    Example:
        >>> even_batches(10, 4)
        [slice(0, 4, None), slice(4, 7, None), slice(7, 10, None)]
    """
    count = -(-images // batch_size)
    parts = torch.arange(images).tensor_split(count)
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]


def record_samples(
    model: nn.Module,
    images: Tensor,
    samples: Sequence[Sample],
    *,
    preprocess: Preprocess | None = None,
    batches: Iterable[slice] | None = None,
    device=None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> tuple[dict[str, Tensor], list[str]]:
    """What the samples keep of every image, each copied as soon as it is there.

    Args:
        model, images, preprocess: as for `trace`; the model is left as it was.
        samples: from `plan`.
        batches: which images go through the model together; None: `even_batches`.
        device: where the result lives; None: where the images are.
        dtype: of the result; None: float64 for a site that gives it, else float32.
        seed: of random numbers that the model draws.

    Returns:
        Name → neurons × images, of any sign; and the names of layers that some batch did
        not run, which are left out.

    Raises:
        ValueError: for NaN or infinite values, or a shape that does not go with the sample's site,
            naming the layer.

    Example:
        >>> model, images = nn.Sequential(nn.Conv2d(1, 8, 2), nn.ReLU()), torch.zeros(5, 1, 4, 4)
        >>> site = Site("1", "1", "ReLU", "activation", shape=(8, 3, 3))
        >>> blocks, skipped = record_samples(model, images, [Sample(site)])
        >>> blocks["1"].shape, skipped
        (torch.Size([72, 5]), [])
    """
    if batches is None:
        batches = even_batches(len(images))
    if device is None:
        device = images.device
    every = {sample.site.name: sample for sample in samples}
    blocks = {}
    for name, sample in every.items():
        own = dtype or sample.site.dtype
        blocks[name] = torch.empty(sample.neurons, len(images), device=device, dtype=own)
    skipped: list[str] = []
    with unchanged(model, seed):
        for columns in batches:
            wanted = {name: sample for name, sample in every.items() if name not in skipped}

            def keep(name: str, block: Tensor, columns: slice = columns) -> None:
                blocks[name][:, columns] = block

            ran = record_batch(model, images[columns], wanted, keep, preprocess, columns.start)
            skipped += sorted(wanted.keys() - ran)
    return {name: block for name, block in blocks.items() if name not in skipped}, skipped


def record_batch(
    model: nn.Module,
    images: Tensor,
    samples: Mapping[str, Sample],
    keep: Callable[[str, Tensor], object],
    preprocess: Preprocess | None = None,
    first: int = 0,
) -> set[str]:
    """What the samples keep of one batch, handed on as soon as it is there.

    Args:
        model, images, preprocess: as for `trace`; called `unchanged`.
        samples: by name of their sites.
        keep: takes a name and a block, neurons × images, that the model may overwrite afterwards.
        first: the number of the first image, for messages.

    Returns:
        The names of the layers that ran.

    Raises:
        OSError, ValueError: as `keep` does; as `record_samples`.

    Example:
        >>> site = Site("0", "0", "ReLU", "activation", shape=(2,))
        >>> record_batch(nn.Sequential(nn.ReLU()), torch.ones(1, 2), {"0": Sample(site)}, print)
        0 tensor([[1.],
                [1.]])
        {'0'}
    """
    ran: set[str] = set()
    problems: list[OSError | ValueError] = []  # raised after the pass: they are not the model's

    def see(sight: Sight) -> None:
        name = sight.name
        if name in samples and not problems:
            ran.add(name)
            try:
                keep(name, _taken(samples[name], sight.tensor, len(images), first))
            except (OSError, ValueError) as why:
                problems.append(why)

    forward(model, images, preprocess, see)
    if problems:
        raise problems[0]
    return ran


def _taken(sample: Sample, tensor: Tensor, images: int, first: int) -> Tensor:
    """The neurons kept, neurons × images of the batch, all of them finite."""
    name = sample.site.name
    try:
        block = sample.take(tensor, images)
    except RuntimeError as why:
        raise ValueError(
            f"layer {name!r} gives shape {tuple(tensor.shape)} for {images} images, not one that "
            f"goes with {sample.site.shape} for each image; leave it out"
        ) from why
    bad = ~block.isfinite().all(dim=0)
    if bad.any():
        raise ValueError(
            f"layer {name!r} gives NaN or infinite values "
            f"(first for image {first + int(bad.nonzero()[0])}, "
            f"in {int(bad.sum())} of {images} images of that batch); "
            "look at the weights and at preprocess="
        )
    return block
