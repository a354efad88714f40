"""Pixels and layers factorized together, every part with an equal say.

Notation: a *part* is the pixels or one layer, made of one block or several: the colours of the
pixels, or the positive and the negative side of a layer. The weight of a block is 1/‖part‖², up to
a factor that all share, so the objective is the mean over the parts of

    ‖part − fit of part‖² / ‖part‖²

With equal weights for every entry instead, as in Saini & Papalexakis (2018), whichever layer has
the most neurons or the largest activations decides alone, and both are accidents of an
architecture. Inside a part nothing is reweighted. Each part is also divided by its root mean
square, so that layers of any size compute well: the factors of the sweep are in that unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from ..blocks import energy_of
from ..directions import Direction
from ..images import input_blocks
from ..nmf import CoupledFactors, Sweep, rank_sweep
from ..store import Stored
from .layer import COUNT, Study
from .report import PIXELS


@dataclass(frozen=True)
class Joint:
    """The factorizations of all parts together."""

    sweep: Sweep  #: one fit for each rank, on the CPU
    parts: dict[str, list[str]]  #: the blocks of each part
    errors: pd.DataFrame  #: relative error, 0 … 1, of each part (rows) at each rank (columns)
    notes: list[str]


def factorize(
    pixels: Tensor,
    studies: Mapping[str, Study],
    ranks: Sequence[int],
    *,
    seed: int = 0,
    progress: bool = False,
) -> Joint:
    """Coupled NMF of the pixels and all layers at several ranks.

    Args:
        pixels: images × channels × height × width, in [0, 1], on the device to compute on.
        studies: of the layers, by name.
        ranks: ascending; those that are too large are dropped, with a note.
        seed: of the factorizations.
        progress: show a progress bar.

    Returns:
        The fits, which blocks each part consists of, its errors, and notes on what was dropped.

    Example:
        >>> pixels = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> joint = factorize(pixels, {}, [1, 2, 9])  # 9 is more than four pixels allow
        >>> joint.parts, joint.errors.columns.tolist(), len(joint.notes)
        ({'input pixels': ['input']}, [1, 2], 1)
    """
    blocks, parts = _blocks(pixels, studies)
    ranks, notes = _possible(ranks, features=sum(map(len, blocks.values())), images=len(pixels))
    energy = {name: energy_of(block) for name, block in blocks.items()}
    totals = {part: sum(energy[name] for name in own) for part, own in parts.items()}
    mean = sum(totals.values()) / len(totals)
    weights = {name: mean / totals[part] for part, own in parts.items() for name in own}
    sweep = rank_sweep(
        blocks, ranks, [seed], weights=weights, device=pixels.device, progress=progress
    )
    sweep = replace(sweep, fits={pair: fit.to("cpu") for pair, fit in sweep.fits.items()})
    errors = {}
    for (rank, _), fit in sweep.fits.items():
        errors[rank] = {part: _error(fit, own, energy) for part, own in parts.items()}
    return Joint(sweep, parts, pd.DataFrame(errors).reindex(list(parts)), notes)


def _blocks(
    pixels: Tensor, studies: Mapping[str, Study]
) -> tuple[dict[str, Tensor | Stored], dict[str, list[str]]]:
    """All blocks, each part divided by its root mean square; and the blocks of each part."""
    rms = pixels.double().square().mean().sqrt().item()
    blocks: dict[str, Tensor | Stored] = {}
    for name, block in input_blocks(pixels).items():
        blocks[name] = block / rms
    parts = {PIXELS: list(blocks)}
    for layer, study in studies.items():
        parts[layer] = []
        for name, block in study.blocks.items():
            while name in blocks:  # "x+" may be half of x, or a layer of that name
                name += "'"
            blocks[name] = block
            parts[layer].append(name)
    return blocks, parts


def _possible(ranks: Sequence[int], features: int, images: int) -> tuple[list[int], list[str]]:
    """The ranks that the data allows, or the largest that it does; and a note on the others."""
    most = min(features, images)
    dropped = [rank for rank in ranks if rank > most]
    kept = [rank for rank in ranks if rank <= most] or [most]
    if not dropped:
        return kept, []
    note = (
        f"Ranks {dropped} are more than {images} images and {features} features allow "
        f"and were dropped; {kept} remain."
    )
    return kept, [note]


def _error(fit: CoupledFactors, own: Sequence[str], energy: Mapping[str, float]) -> float:
    """Relative error of a part, from those of its blocks."""
    missed = sum(fit.block_errors[name] ** 2 * energy[name] for name in own)
    return (missed / sum(energy[name] for name in own)) ** 0.5


def component_directions(
    fit: CoupledFactors, layer: str, own: Sequence[str], rms: float
) -> list[Direction]:
    """The components that explain most of a layer; of a split layer, plus side minus minus side.

    Args:
        fit: of all parts.
        layer: what to call the layer.
        own: its blocks, one or two.
        rms: what the layer was divided by.

    Returns:
        The strongest first, `COUNT` at most; scales are in units of activation.

    Example:
        >>> from peeklib import coupled_nmf
        >>> A = torch.outer(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0, 2.0]))  # of norm 15
        >>> [direction] = component_directions(coupled_nmf({"relu": A}, 1), "relu", ["relu"], 2.0)
        >>> round(direction.scale, 2), direction.scores.shape
        (30.0, torch.Size([3]))
    """
    sides = [fit.factors[name] for name in own]
    O = sides[0] if len(sides) == 1 else sides[0] - sides[1]  # neurons × rank
    lengths = O.norm(dim=0)
    squares = torch.stack([side.square().sum(dim=0) for side in sides])  # sides × rank
    strength = squares.sum(dim=0).sqrt() * fit.image_factor.norm(dim=0)
    strongest_first = strength.argsort(descending=True, stable=True).tolist()
    found = []
    for k in [k for k in strongest_first if lengths[k] > 0][:COUNT]:
        vector = O[:, k] / lengths[k]
        scale = strength[k].item() * rms
        found.append(Direction(vector, scale, layer, f"nmf {k + 1}", fit.image_factor[:, k]))
    return found
