"""Coupled non-negative tensor factorization: one image factor, and layers that keep height, width and channels.

A block is a tensor with images last: channels × height × width × images, pixels × images, or anything between. With
C, H and W for the factors of its other modes, and F shared by all blocks, the model is a coupled CP decomposition
(PARAFAC; Kolda & Bader 2009, section 3),

    X_j[c, h, w, n] ≈ Σ_r C_j[c, r] H_j[h, r] W_j[w, r] F[n, r]          all factors non-negative.

Flattened, each block is ≈ O_j Fᵀ as in `coupled_nmf`, where O_j = C_j ⊙ H_j ⊙ W_j (⊙: Khatri–Rao) has outer
products for columns. Without any structure, in blocks of two modes, it is coupled NMF. As in `solvers`, factors lie
on their side while they are found, rank × length, and so do

    F:    B = Σ_j O_jᵀ X_j         G = Σ_j CᵀC * HᵀH * WᵀW
    C_j:  B = T_j along H and W    G = FᵀF * HᵀH * WᵀW       T_j = Fᵀ X_jᵀ, shared by C_j, H_j and W_j

so that an iteration takes two products with the data, as many as coupled NMF; the other modes only see T_j, which has
no images (Phan, Tichavský & Cichocki 2013 save products in this way).
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from string import ascii_lowercase

import numpy as np
import torch
from torch import Tensor

from .blocks import Stack, check_blocks, check_count, device_of, pick_device, stack
from .crew import crew
from .nmf import CoupledFactors, _loss
from .solvers import Run, hals_update


@dataclass(frozen=True, repr=False)
class CoupledTensors(CoupledFactors):
    """A `CoupledFactors` whose columns are outer products: `factors[name]` is the Khatri–Rao product of `modes[name]`.

    Columns of F, and of every mode's factor but the first, have root mean square 1; the first carries the units.
    There is no `kkt`.
    """

    modes: dict[str, list[Tensor]] = field(
        default_factory=dict
    )  #: by block, for each mode a length × rank factor

    def __repr__(self):
        return (
            super()
            .__repr__()
            .replace("CoupledFactors(", f"CoupledTensors(parameters={self.parameters}, ")
        )

    @property
    def parameters(self) -> int:
        """How many numbers the factors hold, the image factor included."""
        return self.image_factor.numel() + sum(
            V.numel() for factors in self.modes.values() for V in factors
        )

    def to(self, device) -> "CoupledTensors":
        """The same fit with its factors on `device`."""
        modes = {name: [V.to(device) for V in factors] for name, factors in self.modes.items()}
        return replace(super().to(device), modes=modes)

    def reconstruct(self, name: str, images=slice(None)) -> Tensor:
        """The model's version of block `name`, shaped like the block, for some images (an index or slice)."""
        return super().reconstruct(name, images).unflatten(0, [len(V) for V in self.modes[name]])

    def transform(self, blocks: Mapping[str, Tensor], **options) -> Tensor:
        """Image factor of new images, as `CoupledFactors.transform` finds it; blocks shaped like those of the fit."""
        for name, block in blocks.items():
            fitted = tuple(len(V) for V in self.modes.get(name, ()))
            if fitted and tuple(block.shape[:-1]) != fitted:
                raise ValueError(
                    f"block {name!r} has shape {tuple(block.shape)}; it was fitted as {fitted} × images"
                )
        return super().transform(_flat(blocks), **options)


def coupled_ntf(
    blocks: Mapping[str, Tensor],
    rank: int,
    *,
    seed: int = 0,
    device=None,
    max_iter: int = 200,
    tol: float = 1e-4,
) -> CoupledTensors:
    """Factorize tensors at once with one shared image factor, by hierarchical alternating least squares.

    Every mode in turn is a non-negative least squares problem, to which a sweep or two of coordinate descent are given
    (Cichocki & Phan 2009; Kolda & Bader 2009, section 3.4): the loss never rises. Factors start uniform in
    [0, 1], with F scaled to fit best; on blocks of two modes it does what `coupled_nmf` does with "hals".

    Args:
        blocks: dict of name → non-negative tensor of two modes or more, images last, all with the same images.
        rank: number of components; more than there are images or features is allowed.
        seed: of the random start.
        device: where to compute; None takes a GPU if there is one. The factors come back on the first block's device.
        max_iter: iterations at most.
        tol: stop when the last five iterations lowered the relative error by less than `tol` of it on average.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, for bad blocks, rank or device.
    """
    data, shapes = _prepare(blocks, rank, max_iter, tol, device)
    with crew(data.device):
        clock, (modes, Ft) = time.perf_counter(), _start(data, shapes, rank, seed)
        Ft *= ((_stacked(modes) @ data) * Ft).sum() / (_gram(modes) * (Ft @ Ft.T)).sum()
        run = Run(Wt=None, Ft=Ft, history=[_relative(data, sum(_lost(data, modes, Ft).values()))])
        while len(run.history) <= max_iter and not run.slow(tol):
            run.history.append(_relative(data, _step(data, shapes, modes, Ft)))
        run.converged, run.seconds = run.slow(tol), time.perf_counter() - clock
        return _result(data, run, modes).to(device_of(blocks))


def _prepare(blocks, rank, max_iter, tol, device) -> tuple[Stack, dict[str, tuple[int, ...]]]:
    """The blocks as a stack of matrices, and the shapes of their features."""
    check_count(rank, "rank")
    if max_iter < 0 or not tol >= 0:
        raise ValueError(f"max_iter is {max_iter} and tol is {tol}; neither can be negative or NaN")
    for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
        if not isinstance(block, Tensor) or block.ndim < 2:
            found = (
                f"of shape {tuple(block.shape)}"
                if isinstance(block, Tensor)
                else f"a {type(block).__name__}"
            )
            raise ValueError(
                f"block {name!r} is {found}; give a tensor of two modes or more, images last"
            )
    matrices = check_blocks(_flat(blocks) if isinstance(blocks, Mapping) else blocks)
    data = stack(matrices, None, pick_device(device, device_of(blocks)))
    if not data.total_energy:
        raise ValueError(f"every entry of {list(blocks)} is zero; there is nothing to factorize")
    return data, {name: tuple(block.shape[:-1]) for name, block in blocks.items()}


def _flat(blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks as matrices, features × images: all modes but the images in one."""
    return {name: block.flatten(0, -2) for name, block in blocks.items()}


def khatri_rao(factors: Sequence[Tensor]) -> Tensor:
    """Outer products of the components of some modes: each rank × length → rank × all lengths multiplied."""
    return reduce(lambda left, right: (left[:, :, None] * right[:, None, :]).flatten(1), factors)


def _stacked(modes: dict[str, list[Tensor]]) -> Tensor:
    return torch.cat([khatri_rao(factors) for factors in modes.values()], dim=1)  # rank × features


def _gram(modes: dict[str, list[Tensor]]) -> Tensor:
    """WᵀW of the stacked Khatri–Rao products, from small Grams."""
    return sum(math.prod(V @ V.T for V in factors) for factors in modes.values())  # rank × rank


def _start(data: Stack, shapes: dict[str, tuple[int, ...]], rank: int, seed: int):
    """Uniform [0, 1] factors, drawn as `coupled_nmf` draws them."""
    draw, lengths = (
        torch.Generator().manual_seed(seed),
        [n for shape in shapes.values() for n in shape],
    )
    V, Ft = (
        torch.rand(rank, n, generator=draw, dtype=data.dtype) for n in (sum(lengths), data.shape[1])
    )
    parts = iter(V.to(data.device).split(lengths, dim=1))
    return {
        name: [next(parts).contiguous() for _ in shape] for name, shape in shapes.items()
    }, Ft.to(data.device)


def _step(
    data: Stack, shapes: dict[str, tuple[int, ...]], modes: dict[str, list[Tensor]], Ft: Tensor
) -> float:
    """F, then every mode of every block, in place; ‖X‖² − 2⟨B, V⟩ + ⟨G, V Vᵀ⟩ afterwards."""
    every, loss = [slice(0, len(Ft))], data.total_energy
    hals_update(Ft, _stacked(modes) @ data, _gram(modes), every)
    T, GF = Ft @ data.T, Ft @ Ft.T
    for name, factors in modes.items():
        Tj = T[:, data.rows[name]].unflatten(1, shapes[name])  # rank × channels × height × width
        for mode, V in enumerate(factors):
            others = [other for k, other in enumerate(factors) if k != mode]
            B, G = (
                _along(Tj, others, mode),
                math.prod((other @ other.T for other in others), start=GF),
            )
            hals_update(
                V, B, G, every, sweeps=1 if others else 2
            )  # B is new for each mode, and cheap
        loss += ((G.double() * (V @ V.T)).sum() - 2 * (B.double() * V).sum()).item()
    return loss


def _along(T: Tensor, others: list[Tensor], mode: int) -> Tensor:
    """T (rank × …) summed over all modes but one, weighted by their factors: rank × length of that mode."""
    letters = ascii_lowercase[: T.ndim - 1]
    rest = [f"z{letter}" for letter in letters if letter != letters[mode]]
    return torch.einsum(f"{','.join(['z' + letters, *rest])}->z{letters[mode]}", T, *others)


def _lost(data: Stack, modes: dict[str, list[Tensor]], Ft: Tensor) -> dict[str, float]:
    return {
        name: _loss(data.blocks[name], khatri_rao(factors).T, Ft) for name, factors in modes.items()
    }


def _relative(data: Stack, loss: float) -> float:
    return math.sqrt(max(0.0, loss) / data.total_energy)


def _result(data: Stack, run: Run, modes: dict[str, list[Tensor]]) -> CoupledTensors:
    lost, energy = _lost(data, modes, run.Ft), data.energy
    Ft, size = _unit(run.Ft)
    for name, (first, *rest) in modes.items():
        units = [_unit(V) for V in rest]
        modes[name] = [
            first * math.prod((scale for _, scale in units), start=size),
            *(V for V, _ in units),
        ]
    order = _gram(modes).diagonal().argsort(descending=True, stable=True)
    return CoupledTensors(
        image_factor=Ft[order].T,
        factors={name: khatri_rao(factors)[order].T for name, factors in modes.items()},
        modes={name: [V[order].T for V in factors] for name, factors in modes.items()},
        rmse=(sum(lost.values()) / math.prod(data.shape)) ** 0.5,
        relative_error=_relative(data, sum(lost.values())),
        block_errors={
            name: (lost[name] / energy[name]) ** 0.5 if energy[name] else float(lost[name] > 0)
            for name in lost
        },
        history=np.array(run.history),
        converged=run.converged,
        seconds=run.seconds,
        weights=data.weights,
    )


def _unit(V: Tensor) -> tuple[Tensor, Tensor]:
    """Rows at root mean square 1, and what they were divided by, as a column; zero rows stay."""
    scale = V.square().mean(dim=1, keepdim=True).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    return V / scale, scale
