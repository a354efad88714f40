"""What one layer is like, by itself: singular values, directions, and what is below zero.

A: the activations kept of the layer, neurons × images, of any sign.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..blocks import energy_of, rows_at_once
from ..directions import Direction, neurons, singular
from ..hooks import split_signs
from ..samples import Sample
from ..spectra import effective_rank, spectrum

CLIP = 0.05  # a smaller share of a layer's energy below zero is clipped away by "auto"
COUNT = 4  # directions of each kind and layer


@dataclass(frozen=True)
class Study:
    """One layer alone."""

    row: dict  #: of the table of layers
    values: Tensor  #: singular values, in units of activation
    directions: dict[str, list[Direction]]  #: "singular" and "neurons", in units of activation
    blocks: dict[str, Tensor]  #: non-negative, neurons × images, divided by `rms`
    rms: float  #: root mean square of the layer


def study_layer(sample: Sample, A: Tensor, negative: str, seed: int) -> Study | None:
    """Look at one layer.

    Args:
        sample: what was kept of the layer.
        A: neurons × images. It is used up: scaled in place to root mean square 1, so that layers
            of any size compute well, and then made into the blocks.
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
    rms = _normalize_(A)
    if not rms:
        return None
    below = sum(energy_of(part.clamp(max=0)) for part in A.split(rows_at_once(A))) / A.numel()
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
        "zeros": 1 - int(A.count_nonzero()) / A.numel(),
        "rms": rms,
        "entropy rank": effective_rank(values),
        "largest possible": min(A.shape),
    }
    for kind, found in directions.items():
        directions[kind] = [_scaled(direction, rms) for direction in found]
    blocks = _non_negative(sample.site.name, A, treated)
    return Study(row, values * rms, directions, blocks, rms)


def _normalize_(A: Tensor) -> float:
    """Divide A by its root mean square, in place, and give that; 0 for an A of zeros."""
    peak = float(max(A.max(), -A.min()))
    if not peak:
        return 0.0
    A /= peak  # first, so that no square overflows
    rms = (energy_of(A) / A.numel()) ** 0.5
    A /= rms
    return rms * peak


def _treatment(negative: str, below: float) -> str:
    """What is done with values below zero, which are this share of the layer's squares."""
    if not below:
        return "none"
    if negative != "auto":
        return negative
    return "clip" if below < CLIP else "split"


def _triangle(A: Tensor) -> Tensor:
    """A smaller matrix with the singular values of A, in float64.

    R of a QR decomposition, some rows at a time.
    """
    if len(A) <= A.shape[1]:
        return A.double()
    R = A.new_zeros(0, A.shape[1], dtype=torch.float64)
    for part in A.split(max(8 * A.shape[1], rows_at_once(A))):
        R = torch.linalg.qr(torch.cat([R, part.double()]), mode="r").R
    return R


def _directions(A: Tensor, sample: Sample, seed: int) -> dict[str, list[Direction]]:
    """Singular directions, and the neurons that vary most.

    These are named by their place in the layer and not in the sample.
    """
    layer = sample.site.name
    found = {"singular": singular(A, min(COUNT, *A.shape), layer=layer, seed=seed), "neurons": []}
    varying = int((A.amax(dim=1) > A.amin(dim=1)).sum())
    if varying:
        for direction in neurons(A, min(COUNT, varying), layer=layer):
            name = sample.place(int(direction.vector.argmax()))
            found["neurons"].append(replace(direction, name=name))
    return found


def _scaled(direction: Direction, rms: float) -> Direction:
    """In units of activation again, on the CPU, without a hold on the block it came from."""
    return replace(
        direction,
        vector=direction.vector.cpu(),
        scale=direction.scale * rms,
        scores=direction.scores.clone().cpu() * rms,
    )


def _non_negative(name: str, A: Tensor, treated: str) -> dict[str, Tensor]:
    """The blocks of a layer; A becomes one of them."""
    if name.split(".")[0] == "input":
        name = f"layer {name}"  # not to be taken for pixels
    return split_signs(name, A, "split" if treated == "split" else "clip")
