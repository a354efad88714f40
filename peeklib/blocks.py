"""Blocks, and the checks they pass before any work is done.

A *block* is a non-negative matrix with one column per image: `D_c`, pixels × images, for a channel
of the input, or `A_j`, neurons × images, for a layer. Blocks travel as a `dict[str, Tensor]` in
network order. Stacked on top of each other they are `X`, features × images; every fit works on `X`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor

CHUNK = 1024  # images turned to float64 at a time


def as_matrix(block, name: str = "block") -> Tensor:
    """`block` as a finite, non-empty float matrix, features × images, or an error that says what is wrong.

    Raises TypeError for anything but a tensor or array, ValueError for a wrong shape, NaN or infinity.
    """
    if isinstance(block, np.ndarray):
        block = torch.as_tensor(np.ascontiguousarray(block))  # torch takes no negative strides
    if not isinstance(block, Tensor):
        raise TypeError(f"block {name!r} is a {type(block).__name__}; give a tensor or array, features × images")
    if block.ndim != 2:
        raise ValueError(
            f"block {name!r} has shape {tuple(block.shape)}; a block has two axes, features × images: "
            "flatten images or activations to one column each"
        )
    if block.numel() == 0:
        raise ValueError(f"block {name!r} is empty: shape {tuple(block.shape)}; drop it or record some images")
    if block.is_complex():
        raise TypeError(f"block {name!r} is complex; take its magnitude, or real and imaginary parts as two blocks")
    block = block.detach()
    if not block.is_floating_point():
        block = block.float()
    _refuse(~block.isfinite(), name, "NaN or infinite values", "drop the images, or find the layer that diverged")
    return block


def check_blocks(blocks: Mapping) -> dict[str, Tensor]:
    """Every block as a checked, non-negative matrix; all have the same number of images.

    Raises TypeError or ValueError naming the block, the place and a remedy.
    """
    if not isinstance(blocks, Mapping):
        raise TypeError(f"blocks is a {type(blocks).__name__}; give a dict of name → matrix, features × images")
    if not blocks:
        raise ValueError("there are no blocks to factorize; record at least one layer or the input")
    checked = {name: as_matrix(block, name) for name, block in blocks.items()}
    images = {name: block.shape[1] for name, block in checked.items()}
    if len(set(images.values())) > 1:
        raise ValueError(f"blocks differ in their number of images: {images}; record all from the same images")
    for name, block in checked.items():
        _refuse(
            block < 0,
            name,
            "negative values",
            'record it with negative="clip" (drop them) or negative="split" (one block for each sign)',
        )
    return checked


def _refuse(bad: Tensor, name: str, what: str, remedy: str) -> None:
    if bad.any():
        feature, image = bad.nonzero()[0].tolist()
        raise ValueError(
            f"block {name!r} has {what} ({int(bad.sum())} of them, first at row {feature}, image {image}); {remedy}"
        )


def check_weights(blocks: Mapping[str, Tensor], weights: Mapping | None) -> dict[str, float]:
    """One positive weight for each block: all 1 when `weights` is None."""
    if weights is None:
        return dict.fromkeys(blocks, 1.0)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights is a {type(weights).__name__}; give a dict of block name → positive number")
    if set(weights) != set(blocks):
        raise ValueError(f"weights name {sorted(weights)}, blocks are {sorted(blocks)}; give one weight for each block")
    for name, weight in weights.items():
        if not (isinstance(weight, Real) and math.isfinite(weight) and weight > 0):
            raise ValueError(f"weight of block {name!r} is {weight!r}; weights are positive, finite numbers")
    return {name: float(weights[name]) for name in blocks}


@dataclass(frozen=True)
class Stack:
    """All blocks on top of each other, each times the square root of its weight.

    X: features × images; rows[name]: the rows of a block; energy[name]: ‖X[rows]‖² in float64.
    """

    X: Tensor
    rows: dict[str, slice]
    energy: dict[str, float]
    weights: dict[str, float]

    def split(self, W: Tensor) -> dict[str, Tensor]:
        """A stacked factor, features × rank, cut into blocks and freed of the weights."""
        return {name: W[rows] / self.weights[name] ** 0.5 for name, rows in self.rows.items()}


def stack(blocks: Mapping[str, Tensor], weights: Mapping | None, device: torch.device) -> Stack:
    """Stack checked blocks on `device`: in float64 if all of them are, else in float32."""
    weights = check_weights(blocks, weights)
    dtype = torch.float64 if all(b.dtype == torch.float64 for b in blocks.values()) else torch.float32
    edges = np.cumsum([0, *(block.shape[0] for block in blocks.values())]).tolist()
    rows = {name: slice(a, b) for name, a, b in zip(blocks, edges[:-1], edges[1:], strict=True)}
    X = torch.empty(edges[-1], next(iter(blocks.values())).shape[1], dtype=dtype, device=device)
    for name, block in blocks.items():
        X[rows[name]] = block.to(X)
        if weights[name] != 1:
            X[rows[name]] *= weights[name] ** 0.5
    energy = {name: energy_of(X[rows[name]]) for name in rows}
    return Stack(X, rows, energy, weights)


def energy_of(X: Tensor) -> float:
    """‖X‖² summed in float64."""
    return sum(part.double().square().sum().item() for part in X.split(CHUNK, dim=1))


def pick_device(device, fallback: torch.device) -> torch.device:
    """The device asked for; a GPU if there is one and none was asked for; else `fallback`.

    Raises RuntimeError for a CUDA device where PyTorch sees none.
    """
    if device is None:
        return torch.device("cuda") if torch.cuda.is_available() else fallback
    device = torch.device(device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(
            f'device {str(device)!r} was asked for, but PyTorch sees no GPU of that number; use device="cpu" or None'
        )
    return device
