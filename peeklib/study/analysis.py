"""`peek`: the whole analysis of somebody's own network in one call.

It finds where activations are (`watch`, `sites`), records them (`samples`), looks at each layer
alone (`layer`: singular values, directions and the images that lie farthest along them) and at all
layers together with the pixels (`thumbnails`, `joint`: coupled NMF). No label is used anywhere.
"""

import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import __version__
from ..blocks import check_count, check_seed, pick_device
from ..directions import Direction
from ..images import as_images, check_pictures, reading
from ..nmf import Sweep
from ..samples import Sample, even_batches, plan, record_batch, record_samples
from ..sites import choose, layer_names, trace
from ..solvers import all_or_nothing
from ..store import Stored, as_folder, check_free, check_memory, create, is_store, open_store
from ..watch import Preprocess, unchanged, unwrapped
from .joint import Joint, component_directions, factorize
from .layer import COUNT, Study, study_layer
from .report import Peek, fit_error
from .thumbnails import thumbnails


def peek(
    model: nn.Module,
    images,
    *,
    preprocess: Preprocess | None = None,
    layers: str | Iterable[str] | None = "auto",
    ranks: Iterable[int] = (10, 20, 30, 40, 50),
    negative: str = "auto",
    memory: float = 0.25,
    store: str | os.PathLike | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device=None,
    progress: bool = True,
    title: str | None = None,
) -> Peek:
    """Look into a network: its layers recorded, factorized with the images, and shown.

    The model comes back as it was: modes, hooks, gradients, buffers, device; so do all global
    random states, and all of that after an error or an interrupt too, which leaves no half result.

    Args:
        model: any `nn.Module`, run in eval mode on the device it is on; it takes batches of two
            and of three images.
        images: images × channels × height × width, at least 2, uint8 or floats in [0, 1], as a
            person would see them, or what `as_images` takes. Floats outside [0, 1] are shown
            scaled, with a note.
        preprocess: what the model expects to be done to a batch of float images, such as a
            normalization or torchvision's `weights.transforms()`; called on the model's device.
            If it gives a dict, the model gets that as named arguments.
        layers: "auto" (where an activation function of torch is applied, at most 8 places), or
            names of such places or of modules. Not seen: activations written by hand, such as
            `clamp` or `x * sigmoid(x)`.
        ranks: numbers of components; those larger than the data allows are dropped, with a note.
        negative: of activations below zero, which a non-negative factorization cannot take:
            "clip" sets them to zero, "split" makes two blocks, "auto" clips where they have less
            than 5 % of the layer's squares.
        memory: GB (10⁹ bytes) for recorded activations and input blocks, the second block that
            negative activations may need, and the factorization with its results. A layer whose
            share is too small is kept at some of its positions, drawn at random, and the report
            says so. More memory keeps more neurons and takes proportionally longer. Not counted:
            the images, the forward pass of a batch, a copy of the weights, a few matrices of
            images × images, and the drawing.
        store: of a folder on disk in which all layers are kept whole, however little memory there
            is; it stays, and `open_store` opens it. None: no folder, and large layers are sampled.
        seed: of the positions, the factorizations and all random numbers that the model draws.
        batch_size: images in one forward pass.
        device: where to compute; None takes a GPU if there is one. The model stays where it is;
            what it gives is on the CPU.
        progress: show a progress bar.
        title: of the report.

    Returns:
        What was found, which shows itself in a notebook and saves itself as one HTML file.

    Raises:
        ValueError, TypeError: for images, layers, ranks or settings that do not fit, and for NaN
            or infinite activations, naming the layer.
        Exception: whatever the model or `preprocess` raises, with a note that says on what.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.ReLU())
        >>> images = torch.linspace(0, 1, 8 * 16).view(8, 1, 4, 4)
        >>> found = pk.peek(model, images, ranks=(1, 2), device="cpu", progress=False)
        >>> found.layers[["activation", "shape"]]
          activation      shape
        1       ReLU  1 × 2 × 2
        >>> found.errors.index.tolist()
        ['input pixels', '1']
        >>> found.sweep[2, 0].image_factor.shape
        torch.Size([8, 2])
    """
    model = unwrapped(model)
    images = _pictures(images)
    options = _Options(
        preprocess=preprocess,
        layers=_layers(layers),
        ranks=_checked_ranks(ranks),
        negative=negative,
        memory=check_memory(memory),
        store=None if store is None else as_folder(store),
        seed=check_seed(seed),
        batch_size=check_count(batch_size, "batch_size"),
        device=pick_device(device, images.device),
        progress=progress,
        title=title or f"A peek into {type(model).__name__}",
    )
    with all_or_nothing():
        return _look(model, images, options)


# What was asked for


@dataclass(frozen=True)
class _Options:
    """How to look: the arguments of `peek`, checked."""

    preprocess: Preprocess | None
    layers: str | list[str]
    ranks: list[int]  # ascending
    negative: str
    memory: float  # GB
    store: Path | None
    seed: int
    batch_size: int
    device: torch.device
    progress: bool
    title: str

    def __post_init__(self):
        if self.negative not in ("auto", "clip", "split"):
            raise ValueError(f'negative={self.negative!r}; it is "auto", "clip" or "split"')
        if self.store is not None:
            _check_store(self.store)


def _check_store(path: Path) -> None:
    if is_store(path):
        raise FileExistsError(
            f"there is a store at {str(path)!r} already, and a peek records its own; delete it: "
            f"shutil.rmtree({str(path)!r}), or name another path"
        )
    check_free(path)


def _pictures(images) -> Tensor:
    """images × channels × height × width, two or more."""
    with reading(images):
        images = check_pictures(as_images(images))
    if not images[:1].numel():
        raise ValueError(f"there are no images: their shape is {tuple(images.shape)}")
    if len(images) < 2:
        raise ValueError(
            "there is one image; a factorization needs at least two, "
            "and says more with some hundred"
        )
    return images


def _layers(layers: str | Iterable[str] | None) -> str | list[str]:
    if layers is None or (isinstance(layers, str) and layers == "auto"):
        return "auto"
    return layer_names(layers)


def _checked_ranks(ranks: int | Iterable[int]) -> list[int]:
    """Ascending, each once."""
    listed = list(ranks) if isinstance(ranks, Iterable) else [ranks]
    if not listed:
        raise ValueError("there are no ranks; give one or several, from 1 on")
    return sorted({check_count(rank, "rank") for rank in listed})


# Progress


def _step(bar: tqdm, text: str) -> None:
    bar.update()
    bar.set_description(text)


def _counted(bar: tqdm, batches: Iterable[slice]) -> Iterator[slice]:
    """The batches; the bar moves on when the next is asked for."""
    for batch in batches:
        yield batch
        bar.update()


def _announced(bar: tqdm, samples: Iterable[Sample]) -> Iterator[Sample]:
    for sample in samples:
        bar.set_description(f"looking at {sample.site.name}")
        yield sample


# The steps; each returns notes on what it left out, scaled or decided


def _look(model: nn.Module, images: Tensor, options: _Options) -> Peek:
    """All steps, each announced on the bar."""
    begun = time.perf_counter()
    batches = even_batches(len(images), options.batch_size)
    bar = tqdm(total=len(batches) + 3, disable=not options.progress, leave=False)
    with bar:
        bar.set_description("finding layers")
        pixels, samples, notes = _prepare(model, images, options)
        _step(bar, f"recording {len(samples)} layers")
        record = _record if options.store is None else _record_to_disk
        blocks, skipped = record(model, images, samples, _counted(bar, batches), options)
        studies, dead = _study(_announced(bar, samples), blocks, options)
        _step(bar, f"factorizing at {len(options.ranks)} ranks")
        joint = factorize(
            pixels.to(options.device),
            studies,
            options.ranks,
            seed=options.seed,
            progress=options.progress,
        )
        _step(bar, "putting it together")
    table = pd.DataFrame.from_dict({name: s.row for name, s in studies.items()}, orient="index")
    remarks = _remarks(table, joint.sweep, options.memory)
    return Peek(
        title=options.title,
        layers=table,
        errors=joint.errors,
        scores=_scores(joint, table),
        sweep=joint.sweep,
        spectra={name: study.values for name, study in studies.items()},
        directions=_directions(studies, joint, options.seed),
        notes=notes + skipped + dead + joint.notes + remarks,
        settings=_made_with(model, images, options),
        images=(255 * pixels).round().byte(),
        parts=joint.parts,
        seconds=time.perf_counter() - begun,
    )


def _prepare(
    model: nn.Module, images: Tensor, options: _Options
) -> tuple[Tensor, list[Sample], list[str]]:
    """The pixels as they are shown and factorized; what to keep of which layers."""
    budget = options.memory * 1e9  # bytes
    cost = _bytes_per_row(len(images), options.ranks)
    pixels, about_pixels = thumbnails(images, budget / 4 / cost, options.batch_size)
    if not pixels.any():
        raise ValueError(
            "every image is black, or of one value throughout; there is nothing to look at"
        )
    budget -= cost * pixels[0].numel()

    sites = trace(model, images, preprocess=options.preprocess)
    chosen, about_layers = choose(sites, options.layers, model=model)
    if options.store is not None:
        return pixels, [Sample(site) for site in chosen], about_layers + about_pixels
    costs = []
    for site in chosen:
        may_split = site.signed and options.negative != "clip"
        costs.append(_bytes_per_row(len(images), options.ranks, may_split))
    return pixels, plan(chosen, costs, budget, seed=options.seed), about_layers + about_pixels


def _bytes_per_row(images: int, ranks: Sequence[int], split: bool = False) -> int:
    """What one neuron takes at the worst time: its row, what a factorization works with, factors.

    `rank_sweep` works in the memory that the data takes, or in what its largest fit needs. A layer
    that may be split into two blocks counts twice.
    """
    ranks = [rank for rank in ranks if rank <= images] or [images]
    work = max(images, 10 * max(ranks))
    factors = 2 * sum(ranks)
    directions = 3 * COUNT
    blocks = 2 if split else 1
    return 4 * (blocks * (images + work + factors) + directions)


def _record(
    model: nn.Module,
    images: Tensor,
    samples: Sequence[Sample],
    batches: Iterable[slice],
    options: _Options,
) -> tuple[Mapping[str, Tensor | Stored], list[str]]:
    """Name → neurons × images. A layer that some batch skips is left out, unless it was named."""
    blocks, skipped = record_samples(
        model,
        images,
        samples,
        preprocess=options.preprocess,
        batches=batches,
        device=options.device,
        dtype=torch.float32,
        seed=options.seed,
    )
    if skipped and (options.layers != "auto" or not blocks):
        raise ValueError(f"layers {skipped} do not run on every batch; leave them out")
    return blocks, [f"{name} does not run on every batch and was left out." for name in skipped]


def _record_to_disk(
    model: nn.Module,
    images: Tensor,
    samples: Sequence[Sample],
    batches: Iterable[slice],
    options: _Options,
) -> tuple[Mapping[str, Tensor | Stored], list[str]]:
    """Name → neurons × images, whole, in the store."""
    assert options.store is not None
    named = {sample.site.name: sample for sample in samples}
    with create(options.store) as writer, unchanged(model, options.seed):

        def keep(name: str, block: Tensor) -> None:
            writer.append(name, block.float())

        for batch in batches:
            ran = record_batch(model, images[batch], named, keep, options.preprocess, batch.start)
            if skipped := sorted(named.keys() - ran):
                raise ValueError(f"layers {skipped} do not run on every batch; leave them out")
    found = open_store(options.store, memory=options.memory)
    return {
        name: block.to(dtype=torch.float32, device=options.device) for name, block in found.items()
    }, []


def _study(
    samples: Iterable[Sample], blocks: Mapping[str, Tensor | Stored], options: _Options
) -> tuple[dict[str, Study], list[str]]:
    """Every layer alone, but for the dead ones; the blocks are used up."""
    studies, dead = {}, []
    for sample in samples:
        name = sample.site.name
        if name in blocks:
            study = study_layer(sample, blocks[name], options.negative, options.seed)
            if study is None:
                dead.append(name)
            else:
                studies[name] = study
    if not studies:
        raise ValueError(f"layers {dead} are zero for every image; there is nothing to look at")
    if not dead:
        return studies, []
    note = f"{', '.join(dead)}: zero (or clipped to zero) for every image, and left out."
    return studies, [note]


# Putting it together


def _middle(ranks: Iterable[int]) -> int:
    ranks = sorted(ranks)
    return ranks[len(ranks) // 2]


def _directions(
    studies: Mapping[str, Study], joint: Joint, seed: int
) -> dict[tuple[str, str], list[Direction]]:
    """By layer and method; the components are those of the middle rank."""
    fit = joint.sweep[_middle(joint.errors.columns), seed]
    found = {}
    for name, study in studies.items():
        found[name, "singular"] = study.directions["singular"]
        found[name, "nmf"] = component_directions(fit, name, joint.parts[name], study.rms)
        found[name, "neurons"] = study.directions["neurons"]
    return found


def _remarks(table: pd.DataFrame, sweep: Sweep, memory: float) -> list[str]:
    """Notes on what the table and the sweep show at a glance."""
    notes = []
    sampled = table.index[table.kept != "all"]
    if len(sampled):
        notes.append(
            f"{len(sampled)} of {len(table)} layers are too large to be kept whole within "
            f"memory={memory:g} GB: {', '.join(sampled)}. What the report says of them is about "
            "the neurons kept, a random sample; see the table."
        )
    for treated, words in (("clip", "were set to zero"), ("split", "became a block of their own")):
        signed = table.index[table.negatives == treated]
        if len(signed):
            notes.append(
                f"Activations below zero {words} for the factorization in {', '.join(signed)}. "
                "Singular values, singular directions and single neurons are of the activations "
                "with their signs."
            )
    slow = [rank for (rank, _), fit in sweep.fits.items() if not fit.converged]
    if slow:
        notes.append(
            f"The factorization at ranks {slow} had not converged when it was stopped; "
            "see its KKT residual."
        )
    return notes


def _scores(joint: Joint, table: pd.DataFrame) -> pd.DataFrame:
    """Label-free scores, each with a sentence on how to read it."""
    ranks = sorted(joint.errors.columns)
    middle = _middle(ranks)
    last = table.index[-1]
    own = table.loc[last]
    rows = {
        "area under the error": (
            _mean_over_ranks(joint.errors, ranks),
            f"Mean relative error over ranks {ranks[0]} to {ranks[-1]}, pixels and every layer "
            "with an equal say: 0 if the components say everything, 1 if nothing.",
        ),
        f"error of {last} at rank {middle}": (
            joint.errors.loc[last, middle],
            f"What {middle} components leave unexplained of the last layer shown. Low if few "
            "patterns make it up: it sorts the images into few kinds, or answers much alike to "
            "all.",
        ),
        f"entropy rank of {last}": (
            own["entropy rank"],
            "In how many directions the last layer shown spreads the images: 1 if all lie along "
            "one line.",
        ),
        f"entropy rank of {last}, as a share": (
            own["entropy rank"] / own["largest possible"],
            f"Of the largest possible, {own['largest possible']}. Compare networks on the same "
            "images only.",
        ),
        "largest KKT residual": (
            max(fit.kkt for fit in joint.sweep.fits.values()),
            "How far the factorizations are from a point where no factor wants to move. Above "
            "0.02 take the errors as upper bounds.",
        ),
    }
    return pd.DataFrame(rows, index=["value", "how to read it"]).T.rename_axis("score")


def _mean_over_ranks(errors: pd.DataFrame, ranks: Sequence[int]) -> float:
    """Relative error over all parts, by the trapezoidal rule."""
    overall = [fit_error(errors[rank]) for rank in ranks]
    if len(ranks) == 1:
        return overall[0]
    area = torch.trapezoid(torch.tensor(np.array(overall)), torch.tensor(ranks)).item()
    return area / (ranks[-1] - ranks[0])


def _made_with(model: nn.Module, images: Tensor, options: _Options) -> dict[str, str]:
    shape = " × ".join(map(str, images.shape))
    preprocess = options.preprocess
    return {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "images": f"{shape}, {str(images.dtype).removeprefix('torch.')}",
        "layers": str(options.layers),
        "ranks": str(options.ranks),
        "negative": options.negative,
        "memory": str(options.memory),
        "store": str(options.store),
        "seed": str(options.seed),
        "batch_size": str(options.batch_size),
        # a function by its name, without an address in memory
        "preprocess": getattr(preprocess, "__qualname__", None) or repr(preprocess),
        "device": str(options.device),
        "peeklib": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
