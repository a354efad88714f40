"""Coupled non-negative matrix factorization: one image factor, shared by every block.

Saini & Papalexakis (2018) minimise, over element-wise non-negative P, O and F,

    J = Σ_c ‖D_c − P_c Fᵀ‖² + Σ_j ‖A_j − O_j Fᵀ‖²                                      (their eq. 1)

    D_c  pixels × images    P_c  pixels × rank       F  images × rank, shared
    A_j  neurons × images   O_j  neurons × rank

Stack the D_c and A_j into X (features × images) and the P_c and O_j into W (features × rank), and J is
‖X − W Fᵀ‖²: ordinary NMF. Block weights multiply rows of X by their square root. Inside this module both
factors lie on their side, `Wt` (rank × features) and `Ft` (rank × images), so that a component is one
contiguous row.

No features × images temporary is ever formed: with B = Fᵀ Xᵀ (rank × features), G = Fᵀ F and H = Wᵀ W
(rank × rank), the loss is ‖X‖² − 2⟨B, Wᵀ⟩ + ⟨G, H⟩, summed in float64.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .blocks import CHUNK, Stack, check_blocks, pick_device, stack

EPS = 1e-9  # added to every denominator; the paper adds "a small constant" without naming it


def mu_step(X: Tensor, Wt: Tensor, Ft: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's multiplicative updates, F first, then every P and O; in place.

    The rules of Lee & Seung (2001, theorem 1) on the stacked matrix: the loss never rises.
    Returns B = Fᵀ Xᵀ (rank × features) and G = Fᵀ F (rank × rank), from which the loss is cheap.
    """
    Ft *= (Wt @ X) / ((Wt @ Wt.T) @ Ft + EPS)
    B, G = Ft @ X.T, Ft @ Ft.T
    Wt *= B / (G @ Wt + EPS)
    return B, G


def hals_step(X: Tensor, Wt: Tensor, Ft: Tensor, inner: int = 2) -> tuple[Tensor, Tensor]:
    """Hierarchical alternating least squares: F, then every P and O; in place. Returns B and G as `mu_step`.

    The products with X cost far more than a sweep, so each is used for `inner` sweeps
    (Gillis & Glineur 2012).
    """
    _sweep(Ft, Wt @ X, Wt @ Wt.T, inner)
    B, G = Ft @ X.T, Ft @ Ft.T
    _sweep(Wt, B, G, inner)
    return B, G


def _sweep(V: Tensor, B: Tensor, G: Tensor, repeats: int) -> None:
    """Exact coordinate descent over the rows of V for ‖·‖² with V ≥ 0 (Cichocki & Phan 2009).

    V, B: rank × n, G: rank × rank. With all other rows fixed, the best row k is
    max(0, V_k + (B_k − G_k V) / G_kk). A component whose partner is zero (G_kk = 0) is left alone.
    """
    scale = torch.where(G.diagonal() > 0, G.diagonal(), torch.inf).reciprocal()
    G, B = G * scale[:, None], B * scale[:, None]
    for _ in range(repeats):
        for k in range(len(V)):
            V[k].add_(torch.addmv(B[k], V.T, G[k], alpha=-1)).clamp_(min=0)


SOLVERS = {"auto": hals_step, "hals": hals_step, "mu": mu_step}


class LowRank:
    """X ≈ Q B, in place of X wherever it stands on the right of a product.

    Q: features × width, B: width × images. A product with rank rows costs rank · width · (features + images)
    instead of rank · features · images.
    """

    def __init__(self, Q: Tensor, B: Tensor):
        self.Q, self.B = Q, B

    @property
    def T(self):
        return LowRank(self.B.T, self.Q.T)

    def __rmatmul__(self, V: Tensor) -> Tensor:
        return (V @ self.Q) @ self.B


def compress(X: Tensor, width: int, seed: int = 0) -> LowRank:
    """X projected on about its leading `width` left singular directions (Halko, Martinsson & Tropp 2011, alg. 4.4).

    A random sketch and one power iteration: four products with X, shared by every rank and seed fitted afterwards.
    """
    draw = torch.Generator().manual_seed(seed)
    sketch = torch.randn(X.shape[1], width, generator=draw, dtype=X.dtype).to(X.device)
    Q = torch.linalg.qr(X @ sketch).Q
    Q = torch.linalg.qr(X @ torch.linalg.qr(X.T @ Q).Q).Q
    return LowRank(Q, Q.T @ X)


@dataclass(frozen=True, repr=False)
class CoupledFactors:
    """Blocks ≈ factors[name] @ image_factor.T, all factors non-negative.

    The columns of F have root mean square 1, so `factors` carry the units of the data (grey level,
    activation); components are ordered from strong to weak. Errors are of the data as given, whatever
    the weights, and computed in float64.
    """

    image_factor: Tensor  #: F, images × rank
    factors: dict[str, Tensor]  #: P_c pixels × rank, O_j neurons × rank, by block
    rmse: float  #: root mean square residual over every entry of every block
    relative_error: float  #: ‖X − W Fᵀ‖ / ‖X‖ over all blocks
    block_errors: dict[str, float]  #: ‖A − O Fᵀ‖ / ‖A‖ of each block
    history: np.ndarray  #: relative error of the (weighted) objective at the start and after each iteration
    converged: bool  #: True if it stopped by `tol`; False if it ran out of iterations or was interrupted
    seconds: float  #: wall time of the iterations, without the compression that "auto" shares over a sweep
    weights: dict[str, float] = field(default_factory=dict)  #: of each block in the objective
    interrupted: bool = False  #: True if an interrupt ended it

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.image_factor.shape[1]

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return len(self.history) - 1

    def __repr__(self):
        return (
            f"CoupledFactors(rank={self.rank}, images={len(self.image_factor)}, blocks={list(self.factors)}, "
            f"rmse={self.rmse:.4f}, relative_error={self.relative_error:.4f}, iterations={self.iterations}, "
            f"converged={self.converged})"
        )

    def reconstruct(self, name: str, images=slice(None)) -> Tensor:
        """The model's version of block `name`, features × images, for some images (an index or slice)."""
        if name not in self.factors:
            raise KeyError(f"no block {name!r}; there are {list(self.factors)}")
        return self.factors[name] @ torch.atleast_2d(self.image_factor[images]).T

    def transform(self, blocks: Mapping[str, Tensor], *, max_iter: int = 500, tol: float = 1e-6) -> Tensor:
        """Image factor, images × rank, of new images under the factors found here.

        Solves min ‖X − W Fᵀ‖² over F ≥ 0, a convex problem, by coordinate descent.

        Args:
            blocks: the same features, new images. Some of the blocks will do: the pixels alone, say, place
                an image that never went through the network.
            max_iter: sweeps at most.
            tol: stop when no entry moves by more than `tol` times the largest one.

        Raises:
            ValueError: for blocks that were not fitted, or have another number of rows.
        """
        blocks = check_blocks(blocks)
        for name, block in blocks.items():
            if name not in self.factors:
                raise ValueError(f"block {name!r} was not fitted; the fitted blocks are {list(self.factors)}")
            if len(block) != len(self.factors[name]):
                raise ValueError(f"block {name!r} has {len(block)} rows, it was fitted with {len(self.factors[name])}")
        new = stack(blocks, {name: self.weights[name] for name in blocks}, self.image_factor.device)
        Wt = torch.cat([self.factors[name].T * self.weights[name] ** 0.5 for name in blocks], dim=1).to(new.X)
        Ft = new.X.new_zeros(self.rank, new.X.shape[1])
        B, G = Wt @ new.X, Wt @ Wt.T
        for _ in range(max_iter):
            before = Ft.clone()
            _sweep(Ft, B, G, 1)
            if (Ft - before).abs().max() <= tol * Ft.max():
                break
        return Ft.T


def coupled_nmf(
    blocks: Mapping[str, Tensor],
    rank: int,
    *,
    solver: str = "hals",
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    init: CoupledFactors | None = None,
    device=None,
    max_iter: int = 200,
    tol: float = 1e-4,
    progress: bool = False,
) -> CoupledFactors:
    """Factorize all blocks at once with one shared image factor (Saini & Papalexakis 2018, eq. 1).

    An interrupt (Ctrl-C, the stop button) returns the factors found so far, with `converged` False.

    Args:
        blocks: dict of name → matrix, features × images, non-negative, all with the same images.
        rank: number of components, from 1 to min(stacked features, images).
        solver: "hals" (fast); "auto", which runs HALS on a compressed stack first and on the stack itself
            to the end (faster on large stacks); or "mu", the paper's updates. All start from uniform [0, 1]
            factors, which HALS scales once to fit the data best. Under "auto" `history` begins with errors of
            the compressed stack.
        weights: dict of name → positive number that multiplies the block's term of the objective; None: all 1.
        seed: of the random start.
        init: start from these factors instead of random ones.
        device: where to compute; None takes a GPU if there is one.
        max_iter: iterations at most.
        tol: stop when an iteration lowers the relative error by less than `tol` times its value; 0 runs all
            `max_iter` iterations.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, for bad blocks, rank, solver, weights or device;
            the message names the block, the place and a remedy.
    """
    data = _prepare(blocks, [rank], solver, weights, device, max_iter, tol)
    small = _compressed(data, rank) if solver == "auto" else None
    return _fit(data, rank, solver, seed, init, max_iter, tol, progress, small)


def _prepare(blocks, ranks, solver, weights, device, max_iter, tol) -> Stack:
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; there are {sorted(SOLVERS)}")
    blocks = check_blocks(blocks)
    first = next(iter(blocks.values()))
    features, images = sum(len(block) for block in blocks.values()), first.shape[1]
    for rank in ranks:
        if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)):
            raise TypeError(f"rank is {rank!r}; it is a whole number")
        if not 1 <= rank <= min(features, images):
            raise ValueError(
                f"rank {rank} is out of range: the stacked matrix is {features} features × {images} images, "
                f"so a rank lies between 1 and {min(features, images)}"
            )
    if max_iter < 0 or not tol >= 0:
        raise ValueError(f"max_iter is {max_iter} and tol is {tol}; neither can be negative or NaN")
    data = stack(blocks, weights, pick_device(device, first.device))
    size = (sum(data.energy[name] / data.weights[name] for name in blocks) / data.X.numel()) ** 0.5
    if not size:
        raise ValueError(f"every entry of {list(blocks)} is zero; there is nothing to factorize")
    if not 1e-9 < size < 1e9:
        raise ValueError(
            f"the root mean square of {list(blocks)} is {size:.1g}, too far from 1 to compute with; rescale them"
        )
    return data


def _compressed(data: Stack, rank: int) -> LowRank | None:
    """The stack compressed to twice the rank, where that makes a product at least twice as cheap."""
    features, images = data.X.shape
    width = 2 * rank + 10
    return compress(data.X, width) if 2 * width * (features + images) < features * images else None


def _fit(data: Stack, rank, solver, seed, init, max_iter, tol, progress=False, small=None) -> CoupledFactors:
    """The loop that all solvers share: on `small` first, if there is one, then on the stack itself."""
    X, energy = data.X, sum(data.energy.values())
    Wt, Ft = _start(data, rank, seed) if init is None else _warm_start(data, rank, init)
    if solver != "mu" and init is None:
        Ft *= _best_scale(X, Wt, Ft)
    history, converged, interrupted = [_relative(energy, Ft @ X.T, Ft @ Ft.T, Wt)], False, False
    stages, moved, started = [X] if small is None else [small, X], -2, time.perf_counter()
    try:
        for done in tqdm(range(max_iter), disable=not progress, desc=f"{solver}, rank {rank}", leave=False):
            B, G = SOLVERS[solver](stages[0], Wt, Ft)
            history.append(_relative(energy, B, G, Wt))
            settled = tol and history[-2] - history[-1] < tol * history[-2]
            if len(stages) == 2 and (settled or done + 2 > 0.75 * max_iter):  # the last quarter is for X itself
                stages.pop(0)
                moved = done
            elif settled and done > moved + 1:  # the first step on X follows an error of another matrix
                converged = True
                break
    except KeyboardInterrupt:
        interrupted = True  # the factors are valid after every row of every sweep
    seconds = time.perf_counter() - started
    return _result(data, Wt, Ft, np.array(history), converged=converged, interrupted=interrupted, seconds=seconds)


def _start(data: Stack, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform [0, 1] factors, the same on every device."""
    features, images = data.X.shape
    draw = torch.Generator().manual_seed(seed)
    Wt = torch.rand(rank, features, generator=draw, dtype=data.X.dtype).to(data.X.device)
    return Wt, torch.rand(rank, images, generator=draw, dtype=data.X.dtype).to(data.X.device)


def _warm_start(data: Stack, rank: int, init: CoupledFactors) -> tuple[Tensor, Tensor]:
    shapes = {name: (rows.stop - rows.start, rank) for name, rows in data.rows.items()}
    found = {name: tuple(W.shape) for name, W in init.factors.items()}
    if found != shapes or tuple(init.image_factor.shape) != (data.X.shape[1], rank):
        raise ValueError(f"init has factors {found} for {len(init.image_factor)} images; these blocks need {shapes}")
    if not all(((W >= 0) & W.isfinite()).all() for W in (init.image_factor, *init.factors.values())):
        raise ValueError("init has negative, NaN or infinite entries; start from non-negative factors")
    W = torch.cat([init.factors[name] * data.weights[name] ** 0.5 for name in data.rows])
    return W.T.to(data.X).contiguous().clone(), init.image_factor.T.to(data.X).contiguous().clone()


def _best_scale(X: Tensor, Wt: Tensor, Ft: Tensor) -> float:
    """The s that minimises ‖X − s W Fᵀ‖²."""
    return (_inner(Wt @ X, Ft) / _inner(Wt @ Wt.T, Ft @ Ft.T)).item()


def _inner(A: Tensor, B: Tensor) -> Tensor:
    """⟨A, B⟩ in float64."""
    return (A.double() * B.double()).sum()


def _relative(energy: float, B: Tensor, G: Tensor, Wt: Tensor) -> float:
    loss = energy - 2 * _inner(B, Wt) + _inner(G, Wt @ Wt.T)
    return (loss.clamp(min=0) / energy).sqrt().item()


def _result(data: Stack, Wt, Ft, history, **how) -> CoupledFactors:
    scale = Ft.square().mean(dim=1).sqrt()  # rank
    scale = torch.where(scale > 0, scale, 1.0)
    Wt, Ft = Wt * scale[:, None], Ft / scale[:, None]
    order = Wt.square().sum(dim=1).argsort(descending=True, stable=True)
    Wt, Ft = Wt[order], Ft[order]
    lost = _block_losses(data, Wt, Ft)
    energy = {name: data.energy[name] / data.weights[name] for name in lost}
    return CoupledFactors(
        image_factor=Ft.T,
        factors=data.split(Wt.T),
        rmse=(sum(lost.values()) / data.X.numel()) ** 0.5,
        relative_error=(sum(lost.values()) / sum(energy.values())) ** 0.5,
        block_errors={
            name: (lost[name] / energy[name]) ** 0.5 if energy[name] else float(lost[name] > 0) for name in lost
        },
        history=history,
        weights=data.weights,
        **how,
    )


def _block_losses(data: Stack, Wt: Tensor, Ft: Tensor) -> dict[str, float]:
    """‖A − O Fᵀ‖² of every block without its weight, in float64, some images at a time."""
    Wt, Ft = Wt.double(), Ft.double()
    B = sum(f @ x.double().T for f, x in zip(Ft.split(CHUNK, 1), data.X.split(CHUNK, 1), strict=True))
    G = Ft @ Ft.T
    losses = {}
    for name, rows in data.rows.items():
        W = Wt[:, rows]
        loss = data.energy[name] - 2 * _inner(B[:, rows], W) + _inner(G, W @ W.T)
        losses[name] = max(loss.item(), 0.0) / data.weights[name]
    return losses


@dataclass(frozen=True, repr=False)
class Sweep:
    """Every (rank, seed) of a `rank_sweep`: `sweep[20, 0]` is one fit, `.table()` all of them."""

    fits: dict[tuple[int, int], CoupledFactors]

    def __getitem__(self, key: tuple[int, int]) -> CoupledFactors:
        if key not in self.fits:
            raise KeyError(f"no fit for (rank, seed) = {key}; there are {list(self.fits)}")
        return self.fits[key]

    def __repr__(self):
        return f"Sweep of {len(self.fits)} fits (rank, seed): {list(self.fits)}"

    def table(self) -> pd.DataFrame:
        """One row per fit: rank, seed, rmse, relative_error, `error of <block>` …, iterations, converged, seconds."""
        return pd.DataFrame(
            {
                "rank": rank,
                "seed": seed,
                "rmse": fit.rmse,
                "relative_error": fit.relative_error,
                **{f"error of {name}": error for name, error in fit.block_errors.items()},
                "iterations": fit.iterations,
                "converged": fit.converged,
                "seconds": fit.seconds,
            }
            for (rank, seed), fit in self.fits.items()
        )


def rank_sweep(
    blocks: Mapping[str, Tensor],
    ranks: Iterable[int],
    seeds: Iterable[int] = (0,),
    *,
    solver: str = "hals",
    weights: Mapping[str, float] | None = None,
    device=None,
    max_iter: int = 200,
    tol: float = 1e-4,
    progress: bool = False,
) -> Sweep:
    """`coupled_nmf` for every rank and seed; the blocks are checked, stacked and compressed once.

    An interrupt returns the fits so far. With solver="auto" the compression is made once, for the largest rank.

    Args:
        blocks: dict of name → matrix, features × images, as for `coupled_nmf`.
        ranks: numbers of components to fit.
        seeds: random starts to fit each rank from.
        solver, weights, device, max_iter, tol, progress: as for `coupled_nmf`.
    """
    pairs = list(product(ranks, seeds))
    if not pairs:
        raise ValueError("rank_sweep needs at least one rank and one seed")
    data = _prepare(blocks, [rank for rank, _ in pairs], solver, weights, device, max_iter, tol)
    small = _compressed(data, max(rank for rank, _ in pairs)) if solver == "auto" else None
    bar = tqdm(pairs, disable=not progress, desc="rank sweep", leave=False)
    fits = {}
    try:
        for rank, seed in bar:
            fits[rank, seed] = fit = _fit(data, rank, solver, seed, None, max_iter, tol, small=small)
            if fit.interrupted:
                break
    except KeyboardInterrupt:  # outside of a fit's own loop
        if not fits:
            raise
    return Sweep(fits)
