"""What one layer is like, by itself: singular values, directions, and what is below zero.

A: the activations kept of the layer, neurons × images, of any sign.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from ..blocks import energy_of, rows_at_once
from ..directions import Direction, neurons, singular
from ..hooks import split_signs
from ..samples import Sample
from ..spectra import effective_rank, spectrum, triangle
from ..store import Stored

CLIP = 0.05  # a smaller share of a layer's energy below zero is clipped away by "auto"
COUNT = 4  # directions of each kind and layer


@dataclass(frozen=True)
class Study:
    """One layer alone."""

    row: dict  #: of the table of layers
    values: Tensor  #: singular values, in units of activation
    directions: dict[str, list[Direction]]  #: "singular" and "neurons", in units of activation
    blocks: dict[str, Tensor | Stored]  #: non-negative, neurons × images, divided by `rms`
    rms: float  #: root mean square of the layer


def study_layer(sample: Sample, A: Tensor | Stored, negative: str, seed: int) -> Study | None:
    """Look at one layer.

    Args:
        sample: what was kept of the layer.
        A: neurons × images. It is used up: scaled in place to root mean square 1, so that layers
            of any size compute well, and then made into the blocks. One on disk stays as it is.
        negative: "clip", "split" or "auto", see `peek`.
        seed: of the sketch that the singular directions come from.

    Returns:
        What it is like; None if it is zero everywhere, or "clip" leaves nothing of it.

    Example:
        >>> from peeklib.sites import Site
        >>> sample = Sample(Site("relu", "relu", "ReLU", "activation", shape=(2,)))
        >>> study = study_layer(sample, torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), "auto", 0)
        >>> study.values.round(decimals=3), study.blocks["relu"].shape
        (tensor([4., 3.], dtype=torch.float64), torch.Size([2, 3]))
    """
    A, rms = _normalized(A)
    if not rms:
        return None
    below = sum(energy_of(part.clamp(max=0)) for part in _parts(A)) / prod(A.shape)
    treated = _treatment(negative, below)
    if treated == "clip" and below > 1 - 1e-6:
        return None
    values = spectrum(_triangle(A)).cpu()
    directions = _directions(A, sample, seed)
    row = {
        "activation": sample.site.kind,
        "shape": " × ".join(map(str, sample.site.shape)),
        "neurons": sample.site.features * sample.site.positions,
        "kept": str(sample),
        "rows": sample.neurons,
        "below zero": below,
        "negatives": treated,
        "zeros": 1 - sum(int(part.count_nonzero()) for part in _parts(A)) / prod(A.shape),
        "rms": rms,
        "entropy rank": effective_rank(values),
        "largest possible": min(A.shape),
    }
    for kind, found in directions.items():
        directions[kind] = [_scaled(direction, rms) for direction in found]
    blocks = _non_negative(sample.site.name, A, treated)
    return Study(row, values * rms, directions, blocks, rms)


def _normalized(A: Tensor | Stored) -> tuple[Tensor | Stored, float]:
    """A divided by its root mean square, in place if it is in memory; and that, 0 for zeros."""
    low, high = A.aminmax()
    peak = float(max(high, -low))
    if not peak:
        return A, 0.0
    A = _divided(A, peak)  # first, so that no square overflows
    rms = (energy_of(A) / prod(A.shape)) ** 0.5
    return _divided(A, rms), rms * peak


def _divided(A: Tensor | Stored, number: float) -> Tensor | Stored:
    if isinstance(A, Stored):
        return A / number
    A /= number
    return A


def _parts(A: Tensor | Stored) -> Iterable[Tensor]:
    """Some rows of A at a time, or some columns where it is on disk."""
    if isinstance(A, Stored):
        return (chunk.T for _, chunk in A.chunks())
    return A.split(rows_at_once(A))


def _treatment(negative: str, below: float) -> str:
    """What is done with values below zero, which are this share of the layer's squares."""
    if not below:
        return "none"
    if negative != "auto":
        return negative
    return "clip" if below < CLIP else "split"


def _triangle(A: Tensor | Stored) -> Tensor:
    """A smaller matrix with the singular values of A, in float64.

    R of a QR decomposition, some rows at a time.
    """
    if isinstance(A, Stored):
        return triangle(A)
    if len(A) <= A.shape[1]:
        return A.double()
    R = A.new_zeros(0, A.shape[1], dtype=torch.float64)
    for part in A.split(max(8 * A.shape[1], rows_at_once(A))):
        R = torch.linalg.qr(torch.cat([R, part.double()]), mode="r").R
    return R


def _directions(A: Tensor | Stored, sample: Sample, seed: int) -> dict[str, list[Direction]]:
    """Singular directions, and the neurons that vary most.

    These are named by their place in the layer and not in the sample.
    """
    layer = sample.site.name
    found = {"singular": singular(A, min(COUNT, *A.shape), layer=layer, seed=seed), "neurons": []}
    varying = int(_varies(A).sum())
    if varying:
        for direction in neurons(A, min(COUNT, varying), layer=layer):
            name = sample.place(int(direction.vector.argmax()))
            found["neurons"].append(replace(direction, name=name))
    return found


def _varies(A: Tensor | Stored) -> Tensor:
    """Whether a neuron tells any two images apart, one truth value for each."""
    if isinstance(A, Tensor):
        return A.amax(dim=1) > A.amin(dim=1)
    ranges = [chunk.aminmax(dim=1) for _, chunk in A.chunks()]
    low = torch.stack([one.min for one in ranges]).amin(dim=0)
    return torch.stack([one.max for one in ranges]).amax(dim=0) > low


def _scaled(direction: Direction, rms: float) -> Direction:
    """In units of activation again, on the CPU, without a hold on the block it came from."""
    return replace(
        direction,
        vector=direction.vector.cpu(),
        scale=direction.scale * rms,
        scores=direction.scores.clone().cpu() * rms,
    )


def _non_negative(name: str, A: Tensor | Stored, treated: str) -> dict[str, Tensor | Stored]:
    """The blocks of a layer; A becomes one of them."""
    if name.split(".")[0] == "input":
        name = f"layer {name}"  # not to be taken for pixels
    if isinstance(A, Tensor):
        return {**split_signs(name, A, "split" if treated == "split" else "clip")}
    if treated != "split":
        return {name: A.part_above_zero()}
    return {f"{name}+": A.part_above_zero(), f"{name}-": (A * -1).part_above_zero()}
