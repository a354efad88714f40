"""`peek`: the whole analysis of somebody's own network in one call.

It records the activations (`probe`), looks at each layer alone (singular values, directions and the images that lie
farthest along them) and at all layers together with the pixels (coupled NMF, `nmf`). No label is used anywhere.

Notation: N images; A neurons × images of a layer, of any sign; a *part* is the pixels or one layer, made of one block
or several: the colours of the pixels, or the positive and the negative side of a layer. The weight of a block is
1/‖part‖², up to a factor that all share, so the objective is the mean over the parts of

    ‖part − fit of part‖² / ‖part‖²

and every part has an equal say. With equal weights for every entry instead, as in Saini & Papalexakis (2018), whichever
layer has the most neurons or the largest activations decides alone, and both are accidents of an architecture. Inside a
part nothing is reweighted. Each part is also divided by its root mean square, so that layers of any size compute well:
the factors of the sweep are in that unit, everything else in units of activation.
"""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import directions as along
from ..blocks import check_count, energy_of, pick_device, rows_at_once
from ..hooks import input_blocks, to_float
from ..nmf import CoupledFactors, Sweep, rank_sweep
from ..spectra import effective_rank, spectrum
from .probe import Sample, choose, plan, record_samples, trace
from .report import PIXELS, Peek, fit_error

SIDE = 64  # pixels of the long side of the pictures and the input blocks, at most
CLIP = 0.05  # a smaller share of a layer's energy below zero is clipped away by "auto"
COUNT = 4  # directions of each kind and layer


def peek(
    model: nn.Module,
    images: Tensor,
    *,
    preprocess: Callable | None = None,
    layers: str | Iterable[str] = "auto",
    ranks: Iterable[int] = (10, 20, 30, 40, 50),
    negative: str = "auto",
    memory: float = 0.25,
    seed: int = 0,
    batch_size: int = 32,
    device=None,
    progress: bool = True,
    title: str | None = None,
) -> Peek:
    """Look into a network: record its layers, factorize them together with the images, show what each one sees.

    The model comes back as it was: modes, hooks, gradients, buffers, device; so do all global random states, and all
    of that after an error too.

    Args:
        model: any `nn.Module`, run in eval mode on the device it is on; it takes batches of two and of three images.
        images: images × channels × height × width, at least 2, uint8 or floats in [0, 1], as a person would see
            them. Floats outside [0, 1] are shown scaled, with a note.
        preprocess: what the model expects to be done to a batch of float images, such as a normalization or
            torchvision's `weights.transforms()`; called on the model's device.
        layers: "auto" (where an activation function of torch is applied, at most 8 places), or names of such places or
            of modules. Not seen: activations written by hand, such as `clamp` or `x * sigmoid(x)`.
        ranks: numbers of components; those larger than the data allows are dropped, with a note.
        negative: of activations below zero, which a non-negative factorization cannot take: "clip" sets them to
            zero, "split" makes two blocks, "auto" clips where they have less than 5 % of the layer's squares.
        memory: GB (10⁹ bytes) for recorded activations and input blocks, the second block that negative activations may need, and the
            factorization with its results. A layer whose share is too small is kept at some of its positions, drawn
            at random, and the report says so. More memory keeps more neurons and takes proportionally longer. Not
            counted: the images, the forward pass of a batch, a copy of the weights, a few matrices of images × images, and
            the drawing.
        seed: of the positions, the factorizations and all random numbers that the model draws.
        batch_size: images in one forward pass.
        device: where to compute; None takes a GPU if there is one. The model stays where it is; what it gives is on
            the CPU.
        progress: show a progress bar.
        title: of the report.

    Raises:
        ValueError, TypeError: for images, layers, ranks or settings that do not fit, and for NaN or infinite
            activations, naming the layer.
        Exception: whatever the model or `preprocess` raises, with a note that says on what.
    """
    begun = time.perf_counter()
    model = _bare(model)
    ranks = _check(images, ranks, negative, memory, batch_size)
    device, layers = (
        pick_device(device, images.device),
        layers if isinstance(layers, str) else list(layers),
    )
    settings = {
        "layers": layers,
        "ranks": ranks,
        "negative": negative,
        "memory": memory,
        "seed": seed,
    }
    settings |= {"batch_size": batch_size, "preprocess": _called(preprocess), "device": device}
    with tqdm(
        total=-(-len(images) // batch_size) + 3,
        disable=not progress,
        desc="finding layers",
        leave=False,
    ) as bar:
        pixels, samples, notes = _prepare(model, images, preprocess, settings)
        _step(bar, f"recording {len(samples)} layers")
        how = {
            "preprocess": preprocess,
            "batch_size": batch_size,
            "device": device,
            "seed": seed,
            "bar": bar,
        }
        how["notes"] = notes if layers == "auto" else None
        studies = _study_all(
            samples, record_samples(model, images, samples, **how), negative, seed, bar, notes
        )
        _step(bar, f"factorizing at {len(ranks)} ranks")
        sweep, parts, errors = _factorize(pixels.to(device), studies, ranks, seed, progress, notes)
        _step(bar, "putting it together")
    table = pd.DataFrame.from_dict(
        {name: study.row for name, study in studies.items()}, orient="index"
    )
    _remark(table, memory, sweep, notes)
    return Peek(
        title=title or f"A peek into {type(model).__name__}",
        layers=table,
        errors=errors,
        scores=_scores(errors, table, sweep),
        sweep=sweep,
        spectra={name: study.values for name, study in studies.items()},
        directions=_directions(studies, sweep[_middle(errors.columns), seed], parts),
        notes=notes,
        settings=_made_with(model, images, settings),
        images=(255 * pixels).round().byte(),
        parts=parts,
        seconds=time.perf_counter() - begun,
    )


def _bare(model) -> nn.Module:
    """The model inside what `torch.compile` or DataParallel made of it, with the same weights."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {model!r}; give an nn.Module, such as torchvision.models.resnet18()"
        )
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    return getattr(model, "_orig_mod", model)


def _check(images, ranks, negative, memory, batch_size) -> list[int]:
    """The ranks, sorted, each once; an error for anything that cannot be worked with."""
    to_float(images)
    if images.ndim != 4 or images.shape[1] > 4 >= images.shape[3] or not images[:1].numel():
        raise ValueError(
            f"images have shape {tuple(images.shape)}; give images × channels × height × width"
        )
    if len(images) < 2:
        raise ValueError(
            "there is one image; a factorization needs at least two, and says more with some hundred"
        )
    if negative not in ("auto", "clip", "split"):
        raise ValueError(f'negative={negative!r}; it is "auto", "clip" or "split"')
    check_count(batch_size, "batch_size")
    if not memory > 0:
        raise ValueError(f"memory is {memory} GB; it is above 0")
    ranks = [ranks] if isinstance(ranks, Integral) else list(ranks)
    if not ranks:
        raise ValueError("there are no ranks; give one or several, from 1 on")
    return sorted({check_count(rank, "rank") for rank in ranks})


def _prepare(
    model, images, preprocess, settings: Mapping
) -> tuple[Tensor, list[Sample], list[str]]:
    """The pixels as they are shown and factorized, what to keep of which layers, and notes on both."""
    about_pixels: list[str] = []
    ranks, negative = settings["ranks"], settings["negative"]
    cost = _cost(len(images), ranks, False)
    pixels, budget = _pixels(
        images, settings["batch_size"], settings["memory"] * 1e9, cost, about_pixels
    )
    chosen, notes = choose(trace(model, images, preprocess=preprocess), settings["layers"])
    costs = [_cost(len(images), ranks, negative != "clip" and site.signed) for site in chosen]
    return pixels, plan(chosen, costs, budget, seed=settings["seed"]), notes + about_pixels


def _step(bar: tqdm, text: str, done: int = 1) -> None:
    bar.update(done)
    bar.set_description(text)


def _cost(images: int, ranks: Sequence[int], split: bool) -> int:
    """Bytes that one neuron takes at the worst time: its row, what a factorization works with, and its factors.

    `rank_sweep` works in the memory that the data takes, or in what its largest fit needs.
    """
    ranks = [rank for rank in ranks if rank <= images] or [images]
    work, factors, directions = max(images, 10 * max(ranks)), 2 * sum(ranks), 3 * COUNT
    return 4 * ((1 + split) * (images + work + factors) + directions)


def _pixels(
    images: Tensor, batch_size: int, budget: float, cost: int, notes: list[str]
) -> tuple[Tensor, float]:
    """The images in [0, 1], the long side at most `SIDE` (less where memory is short); and the bytes they leave."""
    low, high = _range(images, batch_size)
    scale = torch.ones_like(high)
    if images.dtype != torch.uint8 and not (low.min() >= 0 and high.max() <= 1):
        notes.append(
            f"The images run from {low.min():.3g} to {high.max():.3g}, not from 0 to 1: pictures and input blocks use "
            "them scaled, channel by channel, from their smallest to their largest value. The model got them as they are."
        )
        scale = torch.where(high > low, high - low, 1)
    else:
        low = torch.zeros_like(low)
    size, most = images.shape[2:], SIDE
    while most > 4 and cost * images.shape[1] * np.prod(_fit_in(size, most)) > budget / 4:
        most //= 2
    small = _fit_in(size, most)
    if small != tuple(size):
        notes.append(
            f"The pixels are shown and factorized at {small[0]} × {small[1]}, means over areas of the {size[0]} × {size[1]} "
            "given. The model got those."
        )
    pixels = torch.cat(
        [
            nn.functional.interpolate(
                (to_float(part).float() - low) / scale, small, mode="area"
            ).cpu()
            for part in images.split(batch_size)
        ]
    ).clamp_(0, 1)
    if not pixels.any():
        raise ValueError(
            "every image is black, or of one value throughout; there is nothing to look at"
        )
    return pixels, budget - cost * pixels[0].numel()


def _range(images: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each channel, channels × 1 × 1."""
    parts = [to_float(part).float() for part in images.split(batch_size)]
    low = torch.stack([part.amin((0, 2, 3)) for part in parts]).amin(0)
    high = torch.stack([part.amax((0, 2, 3)) for part in parts]).amax(0)
    if not (low.isfinite().all() and high.isfinite().all()):
        bad = next(k for k, image in enumerate(images) if not image.isfinite().all())
        raise ValueError(f"images have NaN or infinite values, first in image {bad}; drop it")
    return low[:, None, None], high[:, None, None]


def _fit_in(size: Sequence[int], most: int) -> tuple[int, int]:
    """Height and width with the long side `most` at most."""
    shrink = min(1, most / max(size))
    return tuple(max(1, round(side * shrink)) for side in size)


@dataclass(frozen=True)
class _Study:
    """One layer alone."""

    row: dict  # of the table
    values: Tensor  # singular values
    directions: dict[str, list[along.Direction]]
    blocks: dict[str, Tensor]  # non-negative, in units of the layer's root mean square
    rms: float


def _study(sample: Sample, A: Tensor, negative: str, seed: int) -> _Study | None:
    """What a layer is like; None for one that is zero everywhere, or that "clip" leaves nothing of.

    A is scaled in place to root mean square 1, so that layers of any size compute well, and becomes the blocks.
    """
    name, peak = sample.site.name, float(max(A.max(), -A.min()))
    if not peak:
        return None
    A /= peak
    rms = (energy_of(A) / A.numel()) ** 0.5
    A /= rms
    rms *= peak
    below = (
        sum(part.clamp(max=0).double().square().sum().item() for part in A.split(rows_at_once(A)))
        / A.numel()
    )
    values = spectrum(_triangle(A)).cpu()
    found = {
        "singular": along.singular(A, min(COUNT, *A.shape), layer=name, seed=seed),
        "neurons": _neurons(A, sample),
    }
    found = {method: [_scaled(d, rms) for d in ds] for method, ds in found.items()}
    treated = (
        "none"
        if not below
        else negative
        if negative != "auto"
        else "clip"
        if below < CLIP
        else "split"
    )
    if treated == "clip" and below > 1 - 1e-6:
        return None
    row = {
        "activation": sample.site.kind,
        "shape": " × ".join(map(str, sample.site.shape)),
        "neurons": sample.site.features * sample.site.positions,
        "kept": str(sample),
        "rows": sample.neurons,
        "below zero": below,
        "negatives": treated,
        "zeros": 1 - int(A.count_nonzero()) / A.numel(),
        "rms": rms,
        "entropy rank": effective_rank(values),
        "largest possible": min(A.shape),
    }
    return _Study(row, values * rms, found, _signs(name, A, treated), rms)


def _triangle(A: Tensor) -> Tensor:
    """A smaller matrix with the singular values of A, in float64: R of a QR decomposition, some rows at a time."""
    if len(A) <= A.shape[1]:
        return A.double()
    R = A.new_zeros(0, A.shape[1], dtype=torch.float64)
    for part in A.split(max(8 * A.shape[1], rows_at_once(A))):
        R = torch.linalg.qr(torch.cat([R, part.double()]), mode="r").R
    return R


def _neurons(A: Tensor, sample: Sample) -> list[along.Direction]:
    """The neurons that vary most, named by their place in the layer and not in the sample."""
    varying = int((A.amax(dim=1) > A.amin(dim=1)).sum())
    found = along.neurons(A, min(COUNT, varying), layer=sample.site.name) if varying else []
    return [replace(d, name=sample.place(int(d.vector.argmax()))) for d in found]


def _scaled(direction: along.Direction, rms: float) -> along.Direction:
    """In units of activation again, on the CPU, and without a hold on the block it came from."""
    vector, scores = direction.vector.cpu(), direction.scores.clone().cpu()
    return replace(direction, vector=vector, scale=direction.scale * rms, scores=scores * rms)


def _signs(name: str, A: Tensor, treated: str) -> dict[str, Tensor]:
    key = f"layer {name}" if name.split(".")[0] == "input" else name  # not to be taken for pixels
    if treated == "split":
        below = A.neg().clamp_(min=0)
        return {f"{key}+": A.clamp_(min=0), f"{key}-": below}
    return {key: A.clamp_(min=0)}


def _study_all(samples, record: dict[str, Tensor], negative, seed, bar, notes) -> dict[str, _Study]:
    """Every layer alone, but for the dead ones, which are noted; `record` is used up."""
    studies = {}
    for name, sample in (
        (sample.site.name, sample) for sample in samples if sample.site.name in record
    ):
        _step(bar, f"looking at {name}", 0)
        studies[name] = _study(sample, record.pop(name), negative, seed)
    dead = [name for name, study in studies.items() if study is None]
    if dead:
        notes.append(f"{', '.join(dead)}: zero (or clipped to zero) for every image, and left out.")
    if len(dead) == len(studies):
        raise ValueError(f"layers {dead} are zero for every image; there is nothing to look at")
    return {name: study for name, study in studies.items() if study is not None}


def _factorize(
    pixels, studies, ranks, seed, progress, notes
) -> tuple[Sweep, dict[str, list[str]], pd.DataFrame]:
    """The sweep over the ranks; the blocks of each part; and the relative error, parts × ranks."""
    inputs = input_blocks(pixels)
    rms = pixels.double().square().mean().sqrt().item()
    blocks = {name: block / rms for name, block in inputs.items()}
    parts = {PIXELS: list(inputs)}
    for name, study in studies.items():
        parts[name] = []
        for key, block in study.blocks.items():
            while key in blocks:  # "x+" may be half of x, or a layer of that name
                key += "'"
            blocks[key] = block
            parts[name].append(key)
        study.blocks.clear()
    ranks = _possible(ranks, sum(map(len, blocks.values())), len(pixels), notes)
    energy = {name: energy_of(block) for name, block in blocks.items()}
    sums = {part: sum(energy[name] for name in own) for part, own in parts.items()}
    mean = sum(sums.values()) / len(sums)
    weights = {name: mean / sums[part] for part, own in parts.items() for name in own}
    sweep = rank_sweep(
        blocks, ranks, [seed], weights=weights, device=pixels.device, progress=progress
    )
    sweep = Sweep({pair: fit.to("cpu") for pair, fit in sweep.fits.items()})

    def error(fit: CoupledFactors, part: str) -> float:
        return (
            sum(fit.block_errors[name] ** 2 * energy[name] for name in parts[part]) / sums[part]
        ) ** 0.5

    errors = {
        rank: {part: error(fit, part) for part in parts} for (rank, _), fit in sweep.fits.items()
    }
    return sweep, parts, pd.DataFrame(errors).reindex(list(parts))


def _possible(ranks: list[int], features: int, images: int, notes: list[str]) -> list[int]:
    most = min(features, images)
    kept = [rank for rank in ranks if rank <= most] or [most]
    if kept != ranks:
        dropped = [rank for rank in ranks if rank > most]
        notes.append(
            f"Ranks {dropped} are more than {images} images and {features} features allow and were dropped; {kept} remain."
        )
    return kept


def _directions(
    studies, fit: CoupledFactors, parts
) -> dict[tuple[str, str], list[along.Direction]]:
    found = {}
    for name, study in studies.items():
        nmf = _components(fit, name, parts[name], study.rms)
        found |= {(name, "singular"): study.directions["singular"], (name, "nmf"): nmf}
        found |= {(name, "neurons"): study.directions["neurons"]}
    return found


def _components(
    fit: CoupledFactors, layer: str, own: list[str], rms: float
) -> list[along.Direction]:
    """The components that explain most of a layer, as directions; of a split layer the plus side minus the minus side."""
    sides = [fit.factors[name] for name in own]
    O = sides[0] if len(sides) == 1 else sides[0] - sides[1]  # neurons × rank
    strength = sum(side.square().sum(dim=0) for side in sides).sqrt() * fit.image_factor.norm(
        dim=0
    )  # rank
    lengths = O.norm(dim=0)
    order = [k for k in strength.argsort(descending=True, stable=True).tolist() if lengths[k] > 0][
        :COUNT
    ]
    return [
        along.Direction(
            O[:, k] / lengths[k],
            strength[k].item() * rms,
            layer,
            f"nmf {k + 1}",
            fit.image_factor[:, k],
        )
        for k in order
    ]


def _middle(ranks: Iterable[int]) -> int:
    ranks = sorted(ranks)
    return ranks[len(ranks) // 2]


def _remark(table: pd.DataFrame, memory: float, sweep: Sweep, notes: list[str]) -> None:
    """Notes on what the table and the sweep show at a glance."""
    if len(parted := table.index[table.kept != "all"]):
        notes.append(
            f"{len(parted)} of {len(table)} layers are too large to be kept whole within memory={memory:g} GB: {', '.join(parted)}. "
            "What the report says of them is about the neurons kept, a random sample; see the table."
        )
    for treated, words in (("clip", "were set to zero"), ("split", "became a block of their own")):
        if len(signed := table.index[table.negatives == treated]):
            notes.append(
                f"Activations below zero {words} for the factorization in {', '.join(signed)}. Singular values, singular "
                "directions and single neurons are of the activations with their signs."
            )
    if slow := [rank for (rank, _), fit in sweep.fits.items() if not fit.converged]:
        notes.append(
            f"The factorization at ranks {slow} had not converged when it was stopped; see its KKT residual."
        )


def _scores(errors: pd.DataFrame, table: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """Label-free scores, each with a sentence on how to read it."""
    ranks = sorted(errors.columns)
    overall = np.array([fit_error(errors[rank]) for rank in ranks])
    span = ranks[-1] - ranks[0]
    area = torch.trapezoid(torch.tensor(overall), torch.tensor(ranks)).item()
    area = area / span if span else float(overall[0])
    last, middle = table.index[-1], _middle(ranks)
    own = table.loc[last]
    rows = {
        "area under the error": (
            area,
            f"Mean relative error over ranks {ranks[0]} to {ranks[-1]}, pixels and every layer with an equal say: 0 if the components say everything, 1 if nothing.",
        ),
        f"error of {last} at rank {middle}": (
            errors.loc[last, middle],
            f"What {middle} components leave unexplained of the last layer shown. Low if few patterns make it up: it sorts the images into few kinds, or answers much alike to all.",
        ),
        f"entropy rank of {last}": (
            own["entropy rank"],
            "In how many directions the last layer shown spreads the images: 1 if all lie along one line.",
        ),
        f"entropy rank of {last}, as a share": (
            own["entropy rank"] / own["largest possible"],
            f"Of the largest possible, {own['largest possible']}. Compare networks on the same images only.",
        ),
        "largest KKT residual": (
            max(fit.kkt for fit in sweep.fits.values()),
            "How far the factorizations are from a point where no factor wants to move. Above 0.02 take the errors as upper bounds.",
        ),
    }
    return pd.DataFrame(rows, index=["value", "how to read it"]).T.rename_axis("score")


def _called(function) -> str:
    """A function by its name, without an address in memory; anything else as it shows itself."""
    return getattr(function, "__qualname__", None) or repr(function)


def _made_with(model: nn.Module, images: Tensor, settings: Mapping) -> dict[str, str]:
    sizes = {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "images": f"{' × '.join(map(str, images.shape))}, {str(images.dtype).removeprefix('torch.')}",
    }
    versions = {
        "peeklib": metadata.version("peeklib"),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    versions["python"] = platform.python_version()
    return {name: str(value) for name, value in (sizes | settings | versions).items()}
