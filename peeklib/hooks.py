"""Activations of a network as matrices, neurons × images, and what the network answers.

`watch` has the forward pass, `sites` where activations are, `samples` the copying.
"""

import errno
import math
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import NoReturn, overload

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .blocks import check_count, pick_device
from .images import (
    as_images,
    check_alike,
    count_of,
    in_batches,
    is_read_by_sample,
    reading,
    to_float,
)
from .samples import Sample, even_batches, record_batch, record_samples
from .sites import Site, choose, trace
from .store import MEMORY, Store, as_folder, check_free, check_memory, create, open_store
from .watch import Preprocess, forward, home_of, tensors_of, unchanged, unwrapped

LOOK = 64  # images among which `trace` finds three that differ
NEGATIVE = ("refuse", "clip", "split", "keep")


def relu_layers(model: nn.Module) -> list[str]:
    """Names of the model's ReLU modules, whose outputs Saini & Papalexakis (2018) call activations.

    Returns:
        In the order of `named_modules`; a function such as `torch.relu` is no module and has none.

    Example:
        >>> relu_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        ['1']
    """
    return [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]


@overload
def record(
    model: nn.Module,
    images,
    layers: str | Iterable[str] | None = None,
    *,
    store: None = None,
    preprocess: Preprocess | None = None,
    negative: str = "refuse",
    memory: float = MEMORY,
    batch_size: int = 500,
    device=None,
    progress: bool = False,
) -> dict[str, Tensor]: ...


@overload
def record(
    model: nn.Module,
    images,
    layers: str | Iterable[str] | None = None,
    *,
    store: str | os.PathLike,
    preprocess: Preprocess | None = None,
    negative: str = "refuse",
    memory: float = MEMORY,
    batch_size: int = 500,
    device=None,
    progress: bool = False,
) -> Store: ...


def record(
    model: nn.Module,
    images,
    layers: str | Iterable[str] | None = None,
    *,
    store: str | os.PathLike | None = None,
    preprocess: Preprocess | None = None,
    negative: str = "refuse",
    memory: float = MEMORY,
    batch_size: int = 500,
    device=None,
    progress: bool = False,
) -> dict[str, Tensor] | Store:
    """The A_j: what layers give for these images, flattened to neurons × images.

    Args:
        model: any, see `watch`; run in eval mode without gradients on its own device and in its
            own type; left as it was, modes, buffers, random states and hooks included.
        images: images × …, uint8 (scaled to [0, 1]) or whatever the model takes; or what
            `as_images` takes.
        layers: names of modules, or of functions, which belong to the module that calls them:
            "block1.relu()", or "relu()" for the network itself, "relu():2" for its second call;
            a name without number stands for all calls. None takes every place where an activation
            function is applied. A name that is not there is an error that lists all.
        store: of a folder on disk to keep the result in, when it is larger than memory; images of a
            data set or loader are then read batch by batch, too. It is there, whole, when this
            returns; an interrupt or error leaves nothing. Without a disk for it, `pk.sketch` keeps
            some of the images' columns and places the others in a second run.
        preprocess: what is done to a batch of images, as floats, before the model gets it; if it
            gives a dict, the model gets that as named arguments.
        negative: what to do with outputs below zero, which a non-negative factorization cannot
            take: "refuse", "clip", "split" or "keep", as in `split_signs`.
        memory: GB (10⁹ bytes) that the result may take; with `store`, that computing with it may
            take, see `open_store`.
        batch_size: images in one forward pass.
        device: where the result lives; None: where the images are. A store is on disk.
        progress: show a progress bar.

    Returns:
        One block for each layer in the order they ran, and for each call of it. A module that runs
        several times in one pass gives "relu", "relu:2", …; one that gives a tuple or dict "rnn[0]",
        "head[logits]", …. Neurons are counted channel by channel, then position by position (pixels
        of a map, tokens). They are copies, float32, or float64 where the model computes in it;
        on disk where a `store` was named.

    Raises:
        TypeError: for what is no model, or images nobody can read.
        FileExistsError, OSError: for a `store` that is there, or cannot be written.
        ValueError: for unknown layers (lists those there are), negative outputs, NaN or infinite
            ones, no images, outputs that do not go with the images, or more than `memory`.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        >>> images = torch.zeros(5, 1, 4, 4)
        >>> record(model, images)["1"].shape  # 2 · 2 · 2 neurons × images
        torch.Size([8, 5])
        >>> list(record(model, images, ["0", "3"], negative="split"))
        ['0+', '0-', '3+', '3-']
    """
    _check_negative(negative)
    check_count(batch_size, "batch_size")
    memory = check_memory(memory)
    if store is not None:
        store = as_folder(store)
        if device is not None:
            raise ValueError(f"device={device!r} is for a result in memory; a store is on disk")
        check_free(store)
        passing = start(unwrapped(model), images, layers, preprocess, batch_size)
        _check_disk(passing.sites, passing.count, store, negative)
        with create(store) as writer:
            passing.run(writer.append, negative=negative, progress=progress)
        return open_store(store, memory=memory)
    with reading(images):
        model, images = unwrapped(model), as_images(images)
    blocks = _record_in_memory(
        model,
        images,
        layers,
        preprocess=preprocess,
        memory=memory,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    signed: dict[str, Tensor] = {}
    for name, block in blocks.items():
        signed |= split_signs(name, block, negative)
    return signed


def _record_in_memory(
    model: nn.Module,
    images: Tensor,
    layers: str | Iterable[str] | None,
    *,
    preprocess: Preprocess | None,
    memory: float,
    batch_size: int,
    device,
    progress: bool,
) -> dict[str, Tensor]:
    """As `record`, of any sign."""
    to_float(images[:0])  # refuses what nobody can scale
    if not len(images):
        raise ValueError("there are no images to record")
    if device is not None:
        device = pick_device(device, images.device)
    chosen = _chosen(model, images, layers, preprocess)
    _check_memory(chosen, len(images), memory)

    batches = even_batches(len(images), batch_size)
    title = f"recording {len(chosen)} layers"
    blocks, skipped = record_samples(
        model,
        images,
        [Sample(site) for site in chosen],
        preprocess=preprocess,
        batches=tqdm(batches, title, disable=not progress, leave=False),
        device=device,
    )
    if skipped:
        _refuse_skipped(skipped)
    return blocks


def _chosen(
    model: nn.Module, images: Tensor, layers: str | Iterable[str] | None, preprocess
) -> list[Site]:
    """The sites asked for, with a warning of what is wrong with the others."""
    sites = trace(model, images, preprocess=preprocess)
    chosen, notes = choose(sites, "auto" if layers is None else layers, math.inf, model)
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return chosen


@dataclass(frozen=True)
class Passing:
    """One run of a network over images of any number, batch by batch; nothing is kept of it.

    Example:
        >>> passing = start(nn.Sequential(nn.ReLU()), torch.ones(3, 2), None, None, batch_size=2)
        >>> passing.run(lambda name, block: print(name, tuple(block.shape)))
        0 (2, 2)
        0 (2, 1)
        3
    """

    model: nn.Module
    sites: list[Site]  #: whose activations are handed on
    batches: Iterator[Tensor]  #: images × …, read when their turn comes
    count: int | None  #: of the images; None where nobody can tell beforehand
    preprocess: Preprocess | None = None

    def run(
        self,
        keep: Callable[[str, Tensor], object],
        after: Callable[[Tensor], object] = id,
        *,
        negative: str = "refuse",
        progress: bool = False,
    ) -> int:
        """Through all images, once.

        Args:
            keep: takes the name of a block and what a batch gave, neurons × images, as soon as it
                is there; it may keep it.
            after: takes the batch of images, once all its blocks have been handed on.
            negative: as for `record`.
            progress: show a progress bar.

        Returns:
            How many images there were.

        Raises:
            OSError, ValueError: as `record_batch`; for a layer that a batch does not run.
        """
        samples = {site.name: Sample(site) for site in self.sites}
        title = f"recording {len(samples)} layers"
        done = 0

        def keep_signs(name: str, block: Tensor) -> None:
            block = block.to(
                samples[name].site.dtype, copy=True
            )  # the model may go on with its own
            for part, rows in split_signs(name, block, negative).items():
                keep(part, rows)

        with (
            tqdm(total=self.count, desc=title, disable=not progress, leave=False) as bar,
            unchanged(self.model),
        ):
            for batch in self.batches:
                ran = record_batch(self.model, batch, samples, keep_signs, self.preprocess, done)
                if skipped := samples.keys() - ran:
                    _refuse_skipped(skipped)
                after(batch)
                done += len(batch)
                bar.update(len(batch))
        return done


def start(
    model: nn.Module,
    images,
    layers: str | Iterable[str] | None,
    preprocess: Preprocess | None,
    batch_size: int,
) -> Passing:
    """A first run of a network, once it is known from the first images where its activations are.

    Args:
        model, images, layers, preprocess, batch_size: as for `record`.

    Raises:
        TypeError, ValueError: as `record`.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> passing = start(model, torch.ones(5, 4), None, None, batch_size=2)
        >>> [site.name for site in passing.sites], passing.count
        (['1'], 5)
    """
    if not is_read_by_sample(images):
        images = as_images(images)
    batches = in_batches(images, batch_size)
    head = _head(batches)
    sites = {site.name: site for site in _chosen(model, torch.cat(head), layers, preprocess)}
    batches = chain(_let_go(head), batches)
    return Passing(model, [*sites.values()], batches, count_of(images), preprocess)


def _head(batches: Iterator[Tensor]) -> list[Tensor]:
    """The first batches, of as many images as `trace` looks at."""
    head: list[Tensor] = []
    for batch in batches:
        to_float(batch[:0])  # refuses what nobody can scale
        head.append(batch)
        check_alike(head[0], batch)
        if sum(map(len, head)) >= LOOK:
            break
    if not head:
        raise ValueError("there are no images to record")
    return head


def _let_go(head: list[Tensor]) -> Iterator[Tensor]:
    """One after the other, none kept."""
    while head:
        yield head.pop(0)


def _check_disk(sites: Collection[Site], images: int | None, path: Path, negative: str) -> None:
    """Whether what is known to come goes onto the disk."""
    if images is None:
        return
    total = sum(_size(site) for site in sites) * images * (2 if negative == "split" else 1)
    free = shutil.disk_usage(path.parent).free
    if total > free:
        raise OSError(
            errno.ENOSPC,
            f"{len(sites)} layers for {images} images take {total / 1e9:.3g} GB, and "
            f"{free / 1e9:.3g} are free; name fewer layers, give fewer images or another disk, or "
            "keep a sketch, which needs none: pk.sketch(model, images, layers)",
            str(path),
        )


def _size(site: Site) -> int:
    """Bytes that an image takes."""
    return prod(site.shape) * site.dtype.itemsize


def _refuse_skipped(skipped: Iterable[str]) -> NoReturn:
    raise ValueError(
        f"layers {sorted(skipped)} run on some batches and not on others; leave them out"
    )


def predict(
    model: nn.Module,
    images,
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 1000,
) -> Tensor:
    """The model's outputs for all images.

    Args:
        model, images, preprocess: as for `record`; but scripted models will do.
        batch_size: images in one forward pass.

    Returns:
        images × …, on the device of the images. Of a model that gives a dict, tuple or dataclass:
        what is called "logits", or else its only tensor, or else the first of a tuple.

    Raises:
        TypeError: for what is no model, or images nobody can read.
        ValueError: for no images, or outputs among which the logits cannot be told.

    Example:
        >>> predict(nn.Flatten(), torch.ones(3, 1, 2, 2)).shape
        torch.Size([3, 4])
    """
    check_count(batch_size, "batch_size")
    model, images = unwrapped(model), as_images(images)
    to_float(images[:0])  # refuses what nobody can scale
    if not len(images):
        raise ValueError("there are no images to run the model on")
    outputs = []
    with unchanged(model):
        for batch in even_batches(len(images), batch_size):
            part = images[batch]
            output = logits_of(forward(model, part, preprocess), len(part))
            outputs.append(output.to(images.device))
    return torch.cat(outputs)


def logits_of(output, images: int) -> Tensor:
    """The logits in whatever a model gives.

    Args:
        output: a tensor, or tensors in dicts, tuples or dataclasses.
        images: how many rows they have.

    Returns:
        images × …; as in `predict`.

    Raises:
        ValueError: if there are none, several that could be, or not one row for each image.

    Example:
        >>> logits_of({"loss": torch.zeros(()), "logits": torch.ones(2, 3)}, 2).shape
        torch.Size([2, 3])
    """
    found = dict(tensors_of(output))
    if "[logits]" in found:
        found = {"": found["[logits]"]}
    elif len(found) > 1 and isinstance(output, (tuple, list)):
        found = dict([next(iter(found.items()))])
    if len(found) != 1:
        raise ValueError(
            f"the model gives a {type(output).__name__} with tensors {list(found)}; wrap it in a "
            "module whose forward gives the logits alone"
        )
    (logits,) = found.values()
    if not logits.ndim or len(logits) != images:
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)} for {images} images; "
            "its first axis is not the images"
        )
    return logits.dequantize() if logits.is_quantized else logits


def split_signs(name: str, block: Tensor, negative: str) -> dict[str, Tensor]:
    """A block as blocks that a non-negative factorization takes, by what is done below zero.

    Args:
        name: of the block.
        block: neurons × images; overwritten by "clip" and "split".
        negative: "refuse" (an error if there are values below zero), "clip" (set them to zero),
            "split" (two blocks: those above zero, and the size of those below), or "keep" (leave
            them, for spectra and the like).

    Returns:
        One block under `name`; for "split" two, "name+" and "name-", whose difference is the block.

    Raises:
        ValueError: for "refuse" and negative values, or another `negative`.

    Example:
        >>> parts = split_signs("conv", torch.tensor([[1.0, -2.0]]), "split")
        >>> {name: part.tolist() for name, part in parts.items()}
        {'conv+': [[1.0, 0.0]], 'conv-': [[0.0, 2.0]]}
    """
    _check_negative(negative)
    if negative == "split":
        mirrored = block.neg().clamp_(min=0)
        return {f"{name}+": block.clamp_(min=0), f"{name}-": mirrored}
    if negative == "clip":
        return {name: block.clamp_(min=0)}
    if negative == "keep":
        return {name: block}
    below = block < 0  # False for a NaN, which the factorization refuses by name
    if below.any():
        raise ValueError(
            f"layer {name!r} has {int(below.sum())} negative activations; a non-negative "
            'factorization needs negative="clip" (set them to zero) or negative="split" (one block '
            "for each sign)"
        )
    return {name: block}


@contextmanager
def visiting(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on `device`; afterwards on the device where it was."""
    home = home_of(model, device)
    try:
        model.to(device)
        yield
    finally:
        model.to(home)


def _check_memory(sites: Sequence[Site], images: int, memory: float) -> None:
    sizes = {site.name: _size(site) * images / 1e9 for site in sites}
    total = sum(sizes.values())
    if total > memory:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueError(
            f"{len(sites)} layers for {images} images take {total:.3g} GB, {largest!r} alone "
            f"{sizes[largest]:.3g}, and memory is {memory:g}; name fewer layers, give fewer images or "
            "more memory=, keep them on disk, store=path, or a sketch of them, pk.sketch, or use "
            "pk.peek, which keeps a sample of large layers"
        )


def _check_negative(negative: str) -> None:
    if negative not in NEGATIVE:
        raise ValueError(f"negative={negative!r}; it is one of {NEGATIVE}")
