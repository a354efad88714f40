"""Coupled non-negative tensor factorization: one image factor, and layers that keep their layout.

A block is a tensor with images last: channels × height × width × images, pixels × images, or
anything between. With C, H and W for the factors of its other modes, and F shared by all blocks,
the model is a coupled CP decomposition (PARAFAC; Kolda & Bader 2009, section 3),

    X_j[c, h, w, n] ≈ Σ_r C_j[c, r] H_j[h, r] W_j[w, r] F[n, r]          all factors non-negative.

Flattened, each block is ≈ O_j Fᵀ as in `coupled_nmf`, where O_j = C_j ⊙ H_j ⊙ W_j (⊙: Khatri–Rao)
has outer products for columns. Without any structure, in blocks of two modes, it is coupled NMF. As
in `solvers`, factors lie on their side while they are found, rank × length, and so do

    F:    B = Σ_j O_jᵀ X_j         G = Σ_j CᵀC * HᵀH * WᵀW
    C_j:  B = T_j along H and W    G = FᵀF * HᵀH * WᵀW       T_j = Fᵀ X_jᵀ, for H_j and W_j too

so that an iteration takes two products with the data, as many as coupled NMF; the other modes only
see T_j, which has no images (Phan, Tichavský & Cichocki 2013 save products in this way).
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from string import ascii_lowercase
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .blocks import (
    Stack,
    as_tensor,
    check_blocks,
    check_count,
    check_not_zero,
    check_seed,
    device_of,
    full_precision,
    pick_device,
    stack,
)
from .crew import crew
from .nmf import CoupledFactors, block_errors, residuals, whole_errors
from .solvers import Stop, hals_update, is_slow

Modes = dict[str, list[Tensor]]  # by block, for each mode but the images a factor


@dataclass(frozen=True, repr=False, eq=False)
class CoupledTensors(CoupledFactors):
    """A `CoupledFactors` whose columns are outer products.

    `factors[name]` is the Khatri–Rao product of `modes[name]`. Columns of F, and of every mode's
    factor but the first, have root mean square 1; the first carries the units. There is no `kkt`.

    Example:
        >>> maps = torch.rand(4, 5, 6, 9, generator=torch.Generator().manual_seed(0))
        >>> fit = coupled_ntf({"conv": maps}, 3)
        >>> O = khatri_rao([V.T for V in fit.modes["conv"]]).T  # neurons × rank
        >>> fit.factors["conv"].shape, torch.allclose(fit.factors["conv"], O)
        (torch.Size([120, 3]), True)
    """

    #: by block, for each mode but the images a length × rank factor
    modes: Modes = field(default_factory=dict)

    def __repr__(self):
        ours = f"CoupledTensors(parameters={self.parameters}, "
        return super().__repr__().replace("CoupledFactors(", ours)

    @property
    def parameters(self) -> int:
        """How many numbers the factors hold.

        Returns:
            rank · (images + the lengths of all modes).

        Example:
            >>> coupled_ntf({"conv": torch.ones(4, 5, 6, 9)}, 3).parameters  # 3 · (9 + 4 + 5 + 6)
            72
        """
        count = self.image_factor.numel()
        for factors in self.modes.values():
            count += sum(V.numel() for V in factors)
        return count

    def to(self, device) -> Self:
        """The same fit with its factors on `device`.

        Returns:
            A new one with all factors there; `self` stays where it is.

        Example:
            >>> fit = coupled_ntf({"conv": torch.ones(4, 5, 6, 9)}, 1)
            >>> fit.to("meta").modes["conv"][0].device, fit.modes["conv"][0].device
            (device(type='meta'), device(type='cpu'))
        """
        modes = {name: [V.to(device) for V in factors] for name, factors in self.modes.items()}
        return replace(super().to(device), modes=modes)

    def reconstruct(self, name: str, images: int | slice | Sequence[int] = slice(None)) -> Tensor:
        """The model's version of a block.

        Args:
            name: of the block.
            images: which of them, an index or slice; one index gives one image.

        Returns:
            Shaped like the block, images last, in the units of the data.

        Example:
            >>> fit = coupled_ntf({"conv": torch.ones(4, 5, 6, 9)}, 1)
            >>> fit.reconstruct("conv", [0, 3]).shape
            torch.Size([4, 5, 6, 2])
        """
        model = super().reconstruct(name, images)
        return model.unflatten(0, [len(V) for V in self.modes[name]])

    def transform(self, blocks: Mapping[str, Tensor], **options) -> Tensor:
        """Image factor of new images, as `CoupledFactors.transform` finds it.

        Args:
            blocks: shaped like those of the fit; some of them will do.
            options: `max_iter` and `tol`.

        Returns:
            images × rank, without unit, on the device of the first block.

        Raises:
            TypeError, ValueError: as there, and for a block of another shape.

        Example:
            >>> fit = coupled_ntf({"conv": torch.ones(4, 5, 6, 9)}, 1)
            >>> fit.transform({"conv": torch.full((4, 5, 6, 2), 3.0)}).round(decimals=2)
            tensor([[3.],
                    [3.]])
        """
        tensors = _tensors(blocks)
        for name, block in tensors.items():
            fitted = tuple(len(V) for V in self.modes.get(name, ()))
            if fitted and tuple(block.shape[:-1]) != fitted:
                raise ValueError(
                    f"block {name!r} has shape {tuple(block.shape)}; "
                    f"it was fitted as {fitted} × images"
                )
        return super().transform(_flat(tensors), **options)


@full_precision()
def coupled_ntf(
    blocks: Mapping[str, Tensor],
    rank: int,
    *,
    seed: int = 0,
    device=None,
    max_iter: int = 200,
    tol: float = 1e-4,
) -> CoupledTensors:
    """Factorize tensors at once with one shared image factor, a coupled CP decomposition.

    Every mode in turn is a non-negative least squares problem, to which a sweep or two of
    coordinate descent are given (Cichocki & Phan 2009; Kolda & Bader 2009, section 3.4): the loss
    never rises. Factors start uniform in [0, 1], with F scaled to fit best; on blocks of two modes
    it does what `coupled_nmf` does with "hals".

    Args:
        blocks: dict of name → non-negative tensor of two modes or more, images last, all with the
            same images.
        rank: number of components; more than there are images or features is allowed.
        seed: of the random start.
        device: where to compute; None takes a GPU if there is one. The factors come back on the
            first block's device.
        max_iter: iterations at most.
        tol: stop when the last five iterations lowered the relative error by less than `tol` of it
            on average.

    Returns:
        Factors of every mode, errors of the whole and of every block, and how it went.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, for bad blocks, rank, device,
            `max_iter` or `tol`.

    Example:
        >>> maps = torch.rand(4, 5, 6, 9, generator=torch.Generator().manual_seed(0))
        >>> fit = coupled_ntf({"conv": maps, "fc": maps[:, 0, 0]}, 3)
        >>> [tuple(V.shape) for V in fit.modes["conv"]], fit.image_factor.shape
        ([(4, 3), (5, 3), (6, 3)], torch.Size([9, 3]))
        >>> fit.reconstruct("conv").shape, fit.parameters  # of 1,080 + 36
        (torch.Size([4, 5, 6, 9]), 84)
    """
    stop = Stop(max_iter, tol)
    data, shapes = _checked_stack(blocks, rank, device)
    with crew(data.device):
        clock = time.perf_counter()
        modes, Ft = _random_start(data, shapes, rank, seed)
        Ft *= ((_stacked(modes) @ data) * Ft).sum() / (_gram(modes) * (Ft @ Ft.T)).sum()
        history = [_relative(data, _weighted(data, _lost(data, modes, Ft)))]
        while len(history) <= stop.max_iter and not is_slow(history, stop.tol):
            history.append(_relative(data, _round(data, shapes, modes, Ft)))
        seconds = time.perf_counter() - clock
        fit = _result(data, modes, Ft, history, is_slow(history, stop.tol), seconds)
    return fit.to(device_of(blocks))


def _checked_stack(blocks, rank: int, device) -> tuple[Stack, dict[str, tuple[int, ...]]]:
    """The blocks as a stack of matrices, and the shapes of their features."""
    check_count(rank, "rank")
    tensors = _tensors(blocks)
    matrices = check_blocks(_flat(tensors))
    data = stack(matrices, None, pick_device(device, device_of(blocks)))
    check_not_zero(data)
    return data, {name: tuple(block.shape[:-1]) for name, block in tensors.items()}


def _tensors(blocks) -> dict[str, Tensor]:
    """Blocks of whatever kind as tensors, images last."""
    if not isinstance(blocks, Mapping):
        raise TypeError(f"blocks is a {type(blocks).__name__}; give a dict of name → tensor")
    tensors = {name: as_tensor(block, name) for name, block in blocks.items()}
    for name, block in tensors.items():
        if block.ndim < 2:
            raise ValueError(
                f"block {name!r} is of shape {tuple(block.shape)}; "
                "give a tensor of two modes or more, images last"
            )
    return tensors


def _flat(blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks as matrices, features × images: all modes but the images in one."""
    return {name: block.flatten(0, -2) for name, block in blocks.items()}


def khatri_rao(factors: Sequence[Tensor]) -> Tensor:
    """Outer products of the components of some modes, each flattened.

    Args:
        factors: of each mode, rank × length.

    Returns:
        rank × all lengths multiplied, the last mode running fastest.

    Example:
        >>> khatri_rao([torch.tensor([[1, 10]]), torch.tensor([[1, 2, 3]])])
        tensor([[ 1,  2,  3, 10, 20, 30]])
    """
    return reduce(lambda left, right: (left[:, :, None] * right[:, None, :]).flatten(1), factors)


def _stacked(modes: Modes) -> Tensor:
    return torch.cat([khatri_rao(factors) for factors in modes.values()], dim=1)  # rank × features


def _gram(modes: Modes) -> Tensor:
    """WᵀW of the stacked Khatri–Rao products, from small Grams: rank × rank."""
    return reduce(torch.add, [_product(V @ V.T for V in factors) for factors in modes.values()])


def _product(parts: Iterable[Tensor]) -> Tensor:
    """All of them multiplied, entry by entry."""
    return reduce(torch.mul, parts)


def _random_start(
    data: Stack, shapes: dict[str, tuple[int, ...]], rank: int, seed: int
) -> tuple[Modes, Tensor]:
    """Uniform [0, 1] factors of the modes and of the images, drawn as `coupled_nmf` draws them."""
    generator = torch.Generator().manual_seed(check_seed(seed))
    lengths = [n for shape in shapes.values() for n in shape]
    V = torch.rand(rank, sum(lengths), generator=generator, dtype=data.dtype)
    Ft = torch.rand(rank, data.shape[1], generator=generator, dtype=data.dtype)
    parts = iter(V.to(data.device).split(lengths, dim=1))
    modes = {}
    for name, shape in shapes.items():
        modes[name] = [next(parts).contiguous() for _ in shape]
    return modes, Ft.to(data.device)


def _round(data: Stack, shapes: dict[str, tuple[int, ...]], modes: Modes, Ft: Tensor) -> float:
    """F, then every mode of every block, in place; ‖X‖² − 2⟨B, V⟩ + ⟨G, V Vᵀ⟩ afterwards."""
    hals_update(Ft, _stacked(modes) @ data, _gram(modes), [slice(0, len(Ft))])
    T, GF = Ft @ data.T, Ft @ Ft.T
    loss = data.total_energy
    for name, factors in modes.items():
        Tj = T[:, data.rows[name]].unflatten(1, shapes[name])  # rank × channels × height × width
        *others, last = range(len(factors))
        for mode in others:
            _update_mode(mode, factors, Tj, GF)
        B, G = _update_mode(last, factors, Tj, GF)
        V = factors[last]
        loss += ((G.double() * (V @ V.T)).sum() - 2 * (B.double() * V).sum()).item()
    _balance(modes, Ft)
    return loss


def _balance(modes: Modes, Ft: Tensor) -> None:
    """The first mode of a block takes over the size of others, and of F, once that is far from 1.

    In place, by powers of two, which round nothing: their products are the same, and do not vanish.
    """
    of_F = _far_from_one(Ft)
    Ft /= of_F
    for first, *rest in modes.values():
        first *= of_F
        for V in rest:
            size = _far_from_one(V)
            V /= size
            first *= size


def _far_from_one(V: Tensor) -> Tensor:
    """By row, as a column, the power of two near its largest entry; 1 where that is near 1, or 0."""
    size = V.amax(dim=1, keepdim=True)
    far = (size > 0) & ((size < 2.0**-20) | (size > 2.0**20))
    return torch.where(far, size / torch.frexp(size).mantissa, 1.0)


def _update_mode(mode: int, factors: list[Tensor], T: Tensor, GF: Tensor) -> tuple[Tensor, Tensor]:
    """One factor of a block, in place; its B and G, which come from the others alone.

    T: rank × lengths of the modes, GF: rank × rank, the Gram matrix of F.
    """
    others = [other for k, other in enumerate(factors) if k != mode]
    B, G = _along(T, others, mode), _product([GF, *(other @ other.T for other in others)])
    sweeps = 1 if others else 2  # B is new for each mode, and cheap
    hals_update(factors[mode], B, G, [slice(0, len(GF))], sweeps=sweeps)
    return B, G


def _along(T: Tensor, others: list[Tensor], mode: int) -> Tensor:
    """T (rank × …) times the factors of all modes but one: rank × length of that mode."""
    letters = ascii_lowercase[: T.ndim - 1]
    rest = [f"z{letter}" for letter in letters if letter != letters[mode]]
    return torch.einsum(f"{','.join(['z' + letters, *rest])}->z{letters[mode]}", T, *others)


def _lost(data: Stack, modes: Modes, Ft: Tensor) -> dict[str, float]:
    """‖X_j − model‖² of each block, in the square of the unit in which it is kept."""
    return residuals(data, data.split(_stacked(modes).T), Ft)


def _weighted(data: Stack, lost: Mapping[str, float]) -> float:
    """‖X − model‖²."""
    return sum(data.multipliers[name] ** 2 * residual for name, residual in lost.items())


def _relative(data: Stack, loss: float) -> float:
    return math.sqrt(max(0.0, loss) / data.total_energy)


def _result(
    data: Stack, modes: Modes, Ft: Tensor, history: list[float], converged: bool, seconds: float
) -> CoupledTensors:
    lost = _lost(data, modes, Ft)
    rmse, relative_error = whole_errors(data, lost)
    Ft, size = _unit(Ft)
    modes = {name: _first_with_units(factors, size) for name, factors in modes.items()}
    order = _gram(modes).diagonal().argsort(descending=True, stable=True)
    exponent = data.exponent_of(data.split(_stacked(modes).T))
    for name, (first, *rest) in modes.items():
        kept = first / data.multipliers[name]
        modes[name] = [kept * 2.0**exponent * data.units[name], *rest]
    return CoupledTensors(
        image_factor=Ft[order].T * 2.0**-exponent,
        factors={name: khatri_rao(factors)[order].T for name, factors in modes.items()},
        modes={name: [V[order].T for V in factors] for name, factors in modes.items()},
        rmse=rmse,
        relative_error=relative_error,
        block_errors=block_errors(data, lost),
        history=np.array(history),
        converged=converged,
        seconds=seconds,
        weights=data.weights,
    )


def _first_with_units(factors: list[Tensor], size: Tensor) -> list[Tensor]:
    """The same model with factors at root mean square 1, but the first, which gets `size` too."""
    first, *rest = factors
    units = [_unit(V) for V in rest]
    return [first * _product([size, *(scale for _, scale in units)]), *(V for V, _ in units)]


def _unit(V: Tensor) -> tuple[Tensor, Tensor]:
    """Rows at root mean square 1, and what they were divided by, as a column; zero rows stay."""
    scale = V.square().mean(dim=1, keepdim=True).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    return V / scale, scale
