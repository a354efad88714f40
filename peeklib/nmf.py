"""Coupled non-negative matrix factorization: one image factor, shared by every block.

Saini & Papalexakis (2018) minimise, over element-wise non-negative P, O and F,

    J = Σ_c ‖D_c − P_c Fᵀ‖² + Σ_j ‖A_j − O_j Fᵀ‖²                                      (their eq. 1)

    D_c  pixels × images    P_c  pixels × rank       F  images × rank, shared
    A_j  neurons × images   O_j  neurons × rank

Stack the D_c and A_j into X (features × images) and the P_c and O_j into W (features × rank), and J is
‖X − W Fᵀ‖²: ordinary NMF. Block weights multiply rows of X by their square root.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .blocks import Stack, check_blocks, check_count, device_of, pick_device, rows_at_once, stack
from .crew import crew, each, enough
from .solvers import UPDATES, LowRank, Run, compress, descend, hals_update, kkt_residuals, place

SAMPLE, PER_COMPONENT = (
    3000,
    60,
)  # images that "auto" begins with, and at least how many for each component
KKT_TOL = 0.02  # the largest KKT residual at which a fit has converged; 100 `tol` if that is less


@dataclass(frozen=True, repr=False)
class CoupledFactors:
    """Blocks ≈ factors[name] @ image_factor.T, all factors non-negative.

    The columns of F have root mean square 1, so `factors` carry the units of the data (grey level,
    activation); components are ordered from strong to weak. Errors are of the data as given, whatever
    the weights: squares of residuals in the data's own precision, summed in float64.
    The factors are on the device of the first block, wherever they were computed.
    """

    image_factor: Tensor  #: F, images × rank
    factors: dict[str, Tensor]  #: P_c pixels × rank, O_j neurons × rank, by block
    rmse: float  #: root mean square residual over every entry of every block
    relative_error: float  #: ‖X − W Fᵀ‖ / ‖X‖ over all blocks
    block_errors: dict[str, float]  #: ‖A − O Fᵀ‖ / ‖A‖ of each block
    history: (
        np.ndarray
    )  #: relative error of the (weighted) objective at the start and after each iteration
    converged: bool  #: True if it stopped by `tol`, with little progress and a small `kkt`
    seconds: float  #: wall time of the iterations; of a sweep, its share of them
    weights: dict[str, float] = field(default_factory=dict)  #: of each block in the objective
    interrupted: bool = False  #: True if an interrupt ended it
    kkt: float = float(
        "nan"
    )  #: KKT residual: how far one coordinate step would move the factors, 0 if stationary

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.image_factor.shape[1]

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return max(0, len(self.history) - 1)

    def to(self, device) -> "CoupledFactors":
        """The same fit with its factors on `device`."""
        factors = {name: W.to(device) for name, W in self.factors.items()}
        return replace(self, image_factor=self.image_factor.to(device), factors=factors)

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

    def transform(
        self, blocks: Mapping[str, Tensor], *, max_iter: int = 500, tol: float = 1e-6
    ) -> Tensor:
        """Image factor, images × rank, of new images under the factors found here; on the device of the first block.

        Solves min ‖X − W Fᵀ‖² over F ≥ 0, a convex problem, by coordinate descent, on a GPU if there is one.

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
                raise ValueError(
                    f"block {name!r} was not fitted; the fitted blocks are {list(self.factors)}"
                )
            if len(block) != len(self.factors[name]):
                raise ValueError(
                    f"block {name!r} has {len(block)} rows, it was fitted with {len(self.factors[name])}"
                )
        home = device_of(blocks)
        new = stack(blocks, {name: self.weights[name] for name in blocks}, pick_device(None, home))
        Wt = torch.cat([self.factors[name].T * self.weights[name] ** 0.5 for name in blocks], dim=1)
        Wt = Wt.to(dtype=new.dtype, device=new.device)
        Ft = Wt.new_zeros(self.rank, new.shape[1])
        with crew(new.device):
            B, G = Wt @ new, Wt @ Wt.T
            for _ in range(max_iter):
                before = Ft.clone()
                hals_update(Ft, B, G, [slice(0, self.rank)], sweeps=1)
                if (Ft - before).abs().max() <= tol * Ft.max():
                    break
        return Ft.T.to(home)


def coupled_nmf(
    blocks: Mapping[str, Tensor],
    rank: int,
    *,
    solver: str = "auto",
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
        solver: "auto", "hals" or "mu". "mu" is the paper's update. "hals" is hierarchical alternating least
            squares. "auto" is HALS made faster: it extrapolates, undoing what raised the loss, and begins on a
            compressed sample of the images where that pays. All start from uniform [0, 1] factors, which the
            latter two scale once to fit the data best. Under "auto" `history` begins with errors of the sample.
        weights: dict of name → positive number that multiplies the block's term of the objective; None: all 1.
        seed: of the random start.
        init: start from these factors instead of random ones.
        device: where to compute; None takes a GPU if there is one. The factors come back on the first block's device.
        max_iter: iterations at most.
        tol: stop when the last five iterations lowered the relative error by less than `tol` of it on average
            and the KKT residual is at most min(100 `tol`, 0.02); 0 runs all `max_iter` iterations.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, for bad blocks, rank, solver, weights or device;
            the message names the block, the place and a remedy.
    """
    data = _prepare(blocks, [rank], solver, weights, device, max_iter, tol)
    with crew(data.device):
        small = _small(data, rank) if solver == "auto" and init is None else None
        found = _fit(data, small, [(rank, seed)], solver, init, max_iter, tol, progress)
    return found[rank, seed].to(device_of(blocks))


def _prepare(blocks, ranks, solver, weights, device, max_iter, tol) -> Stack:
    if solver not in UPDATES:
        raise ValueError(f"unknown solver {solver!r}; there are {sorted(UPDATES)}")
    blocks = check_blocks(blocks)
    first = next(iter(blocks.values()))
    features, images = sum(len(block) for block in blocks.values()), first.shape[1]
    for rank in ranks:
        check_count(
            rank, "rank", min(features, images), "images" if images < features else "features"
        )
    if max_iter < 0 or not tol >= 0:
        raise ValueError(f"max_iter is {max_iter} and tol is {tol}; neither can be negative or NaN")
    data = stack(blocks, weights, pick_device(device, device_of(blocks)))
    size = (sum(data.energy.values()) / (features * images)) ** 0.5
    if not size:
        raise ValueError(f"every entry of {list(blocks)} is zero; there is nothing to factorize")
    if not 1e-9 < size < 1e9:
        raise ValueError(
            f"the root mean square of {list(blocks)} is {size:.1g}, too far from 1 to compute with; rescale them"
        )
    return data


@dataclass(frozen=True)
class _Small:
    """What "auto" begins on: some of the images, or all if that is None, and their matrix, compressed if that pays."""

    images: Tensor | None
    X: Stack | LowRank
    energy: float


def _small(data: Stack, rank: int) -> _Small | None:
    """One image in every few, drawn at random, compressed to more than the rank; None if nothing would be gained.

    `SAMPLE` images spread over the whole determine W nearly as well as all do.
    """
    count, width = data.shape[1], int(1.5 * rank) + 10
    stride = count // max(SAMPLE, PER_COMPONENT * rank)
    images = None
    if stride > 1:
        draw = torch.Generator().manual_seed(0)
        images = torch.arange(count // stride) * stride
        images = (images + torch.randint(stride, images.shape, generator=draw)).to(data.device)
    sample = data if images is None else data.take(images)
    pays = (
        2 * width * sum(sample.shape) <= sample.shape[0] * sample.shape[1]
    )  # a product costs half as much at most
    if not sample.total_energy or (images is None and not pays):
        return None
    return _Small(images, compress(sample, width) if pays else sample, sample.total_energy)


def _fit(data: Stack, small: _Small | None, pairs, solver, init, max_iter, tol, progress) -> dict:
    """(rank, seed) → CoupledFactors, found side by side: on `small` first, if there is one, then on the data."""
    runs = [
        Run(*(_start(data, *pair) if init is None else _warm_start(data, pair[0], init)))
        for pair in pairs
    ]
    begin = "given" if solver == "mu" or init else "scale"
    _descend(data, small, runs, solver, begin, max_iter, tol, progress)
    return {pair: _result(data, run) for pair, run in zip(pairs, runs, strict=True)}


def _descend(
    data: Stack, small: _Small | None, runs: list[Run], solver, begin, max_iter, tol, progress
) -> None:
    """Iterate on `small` first, if there is one, then on the data."""
    early = max_iter - 2 - max_iter // 16  # the last iterations are for the data itself
    title = f"rank {len(runs[0].Wt)}" if len(runs) == 1 else f"{len(runs)} fits"
    with tqdm(
        total=max_iter * len(runs), disable=not progress, desc=f"{solver}, {title}", leave=False
    ) as bar:
        if small and early > 0:
            for run in runs:
                run.Ft = run.Ft if small.images is None else run.Ft[:, small.images]
            how = {"begin": begin, "max_iter": early, "tol": 3 * tol, "kkt_tol": np.inf, "bar": bar}
            descend(small.X, small.energy, runs, solver, **how)
            begin = "given" if small.images is None else "place"
        stopped = any(run.interrupted for run in runs)
        for run in runs:
            run.interrupted, run.converged = stopped, False
            if begin == "place":
                run.Ft, run.loss = run.Ft.new_zeros(len(run.Ft), data.shape[1]), np.inf
        if not stopped:
            how = {
                "begin": begin,
                "max_iter": max_iter,
                "tol": tol,
                "kkt_tol": min(KKT_TOL, 100 * tol),
                "bar": bar,
            }
            descend(data, data.total_energy, runs, solver, **how)
    for run in runs:
        if (
            begin == "place" and run.loss == np.inf
        ):  # interrupted before the first step on the data was done
            place(run.Ft.zero_(), run.Wt @ data, run.Wt @ run.Wt.T, [slice(0, len(run.Wt))])


def _start(data: Stack, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform [0, 1] factors, the same on every device."""
    draw = torch.Generator().manual_seed(seed)
    Wt, Ft = (torch.rand(rank, n, generator=draw, dtype=data.dtype) for n in data.shape)
    return Wt.to(data.device), Ft.to(data.device)


def _warm_start(data: Stack, rank: int, init: CoupledFactors) -> tuple[Tensor, Tensor]:
    shapes = {name: (rows.stop - rows.start, rank) for name, rows in data.rows.items()}
    found = {name: tuple(W.shape) for name, W in init.factors.items()}
    if found != shapes or tuple(init.image_factor.shape) != (data.shape[1], rank):
        raise ValueError(
            f"init has factors {found} for {len(init.image_factor)} images; these blocks need {shapes}"
        )
    if not all(
        ((W >= 0) & W.isfinite()).all() for W in (init.image_factor, *init.factors.values())
    ):
        raise ValueError(
            "init has negative, NaN or infinite entries; start from non-negative factors"
        )
    W = torch.cat([init.factors[name] * data.weights[name] ** 0.5 for name in data.rows])
    where = {"dtype": data.dtype, "device": data.device}
    return W.T.to(**where).contiguous(), init.image_factor.T.to(**where).contiguous()


def _result(data: Stack, run: Run) -> CoupledFactors:
    kkt = run.kkt if run.converged else kkt_residuals(data, [run.Wt], [run.Ft])[0]
    scale = run.Ft.square().mean(dim=1).sqrt()  # rank
    scale = torch.where(scale > 0, scale, 1.0)
    order = (run.Wt.square().sum(dim=1) * scale**2).argsort(descending=True, stable=True)
    Wt, Ft = (run.Wt * scale[:, None])[order], (run.Ft / scale[:, None])[order]
    factors, energy = data.split(Wt.T), data.energy
    lost = {name: _loss(data.blocks[name], W, Ft) for name, W in factors.items()}
    return CoupledFactors(
        image_factor=Ft.T,
        factors=factors,
        rmse=(sum(lost.values()) / (data.shape[0] * data.shape[1])) ** 0.5,
        relative_error=(sum(lost.values()) / sum(energy.values())) ** 0.5,
        block_errors={
            name: (lost[name] / energy[name]) ** 0.5 if energy[name] else float(lost[name] > 0)
            for name in lost
        },
        history=np.array(run.history),
        converged=run.converged,
        seconds=run.seconds,
        weights=data.weights,
        interrupted=run.interrupted,
        kkt=kkt,
    )


def _loss(block: Tensor, W: Tensor, Ft: Tensor) -> float:
    """‖block − W Fᵀ‖², some rows at a time, summed in float64."""
    by_row = W.new_empty(len(block), dtype=torch.float64)
    at_once = rows_at_once(block)

    def some(rows: slice) -> None:
        for x, w, out in zip(*(A[rows].split(at_once) for A in (block, W, by_row)), strict=True):
            out[:] = torch.addmm(x, w, Ft, alpha=-1).square_().sum(dim=1)

    each(len(block), some, least=enough(Ft.numel()))
    return by_row.sum().item()


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
        """One row per fit: rank, seed, rmse, relative_error, `error of <block>` …, iterations, kkt, converged, seconds."""
        return pd.DataFrame(
            {
                "rank": rank,
                "seed": seed,
                "rmse": fit.rmse,
                "relative_error": fit.relative_error,
                **{f"error of {name}": error for name, error in fit.block_errors.items()},
                "iterations": fit.iterations,
                "kkt": fit.kkt,
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
    solver: str = "auto",
    weights: Mapping[str, float] | None = None,
    device=None,
    max_iter: int = 200,
    tol: float = 1e-4,
    progress: bool = False,
) -> Sweep:
    """`coupled_nmf` for every rank and seed, side by side: all of them share the products with the data.

    "auto" draws and compresses its sample once, for the largest rank, so its fits differ a little from those of
    `coupled_nmf`. As many fits run at a time as work in the
    memory that the data takes. An interrupt returns the fits so far.

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
    fits = {}
    try:
        with crew(data.device):
            small = _small(data, max(rank for rank, _ in pairs)) if solver == "auto" else None
            for group in _groups(data, pairs):
                found = _fit(data, small, group, solver, None, max_iter, tol, progress)
                fits |= {pair: fit.to(device_of(blocks)) for pair, fit in found.items()}
                if any(fits[pair].interrupted for pair in group):
                    break
    except KeyboardInterrupt:  # between the iterations
        if not fits:
            raise
    return Sweep(fits)


def _groups(data: Stack, pairs: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Fits to go side by side: as many as work in the memory that X takes, at least one."""
    features, images = data.shape
    row = 10 * features + 5 * images  # numbers that one component needs in passing
    room, groups = features * images // row, [[]]
    for pair in pairs:
        if groups[-1] and sum(rank for rank, _ in groups[-1]) + pair[0] > room:
            groups.append([])
        groups[-1].append(pair)
    return groups
