"""Coupled non-negative matrix factorization: one image factor, shared by every block.

Saini & Papalexakis (2018) minimise, over element-wise non-negative P, O and F,

    J = Σ_c ‖D_c − P_c Fᵀ‖² + Σ_j ‖A_j − O_j Fᵀ‖²                                      (their eq. 1)

    D_c  pixels × images    P_c  pixels × rank       F  images × rank, shared
    A_j  neurons × images   O_j  neurons × rank

Stack the D_c and A_j into X (features × images) and the P_c and O_j into W (features × rank), and J
is ‖X − W Fᵀ‖²: ordinary NMF. Block weights multiply rows of X by their square root.

The way of a fit: a random start, scaled once; rounds on a sample of the images, where that pays; all
images placed among what was found there; rounds on all the data until `solvers.Stop` says so; and a
result that is checked against the blocks as given. Rounds and updates are in `solvers`, what several
processes do together in `shares`, and how a fit goes on after a stop in `checkpoints`.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from . import storage
from .blocks import (
    Block,
    Stack,
    check_blocks,
    check_count,
    check_not_zero,
    check_seed,
    check_weights,
    device_of,
    full_precision,
    pick_device,
    power_near,
    rows_at_once,
    stack,
    times_two_to,
)
from .checkpoints import Keeper, checksum
from .crew import crew, each, enough
from .shares import (
    Share,
    all_or_none,
    check_alike,
    check_backend,
    interrupts_kept,
    warn_if_alone,
)
from .solvers import (
    APART,
    UPDATES,
    Group,
    LowRank,
    Nearby,
    Run,
    Stop,
    compress,
    hals_update,
    is_all_or_nothing,
    iterate,
    kkt_residuals,
    measure,
    place,
    place_images,
    scale,
    side_by_side,
)
from .sparse import Sparse

SAMPLE = 3000  # images that "auto" begins with,
PER_COMPONENT = 60  # and at least how many for each component
CHEAPER = 8  # times cheaper is a product with the compressed data, where rounds are made on it
KKT_TOL = 0.02  # the largest KKT residual at which a fit has converged; 100 `tol` if that is less


@dataclass(frozen=True, repr=False, eq=False)
class CoupledFactors:
    """Blocks ≈ factors[name] @ image_factor.T, all factors non-negative.

    The columns of F have root mean square 1, so `factors` carry the units of the data (grey level,
    activation); at the very ends of what their type holds (below 10⁻³⁷ and above 10³⁸ in float32),
    F has a power of two of that size. Components are ordered from strong to weak. Errors are of the data as given,
    whatever the weights: squares of residuals in the data's own precision, summed in float64. The
    factors are on the device of the first block, wherever they were computed.

    Example:
        >>> import peeklib as pk
        >>> pixels = torch.outer(torch.arange(1.0, 7), torch.arange(1.0, 9))  # of rank 1
        >>> fit = pk.coupled_nmf({"input": pixels, "relu": 2 * pixels[:4]}, 1)
        >>> fit.image_factor.shape, fit.factors["input"].shape, fit.factors["relu"].shape
        (torch.Size([8, 1]), torch.Size([6, 1]), torch.Size([4, 1]))
        >>> fit.rank, fit.converged, fit.relative_error < 1e-3
        (1, True, True)
    """

    image_factor: Tensor  #: F, images × rank
    factors: dict[str, Tensor]  #: P_c pixels × rank, O_j neurons × rank, by block
    rmse: float  #: root mean square residual over every entry of every block
    relative_error: float  #: ‖X − W Fᵀ‖ / ‖X‖ over all blocks
    block_errors: dict[str, float]  #: ‖A − O Fᵀ‖ / ‖A‖ of each block
    #: relative error of the (weighted) objective at the start and after each iteration; under
    #: "auto" an estimate but for the iterations on the data itself, of which the last is one
    history: np.ndarray
    converged: bool  #: True if it stopped by `tol`, with little progress and a small `kkt`
    seconds: float  #: wall time of the iterations; of a sweep, its share of them
    weights: dict[str, float] = field(default_factory=dict)  #: of each block in the objective
    interrupted: bool = False  #: True if an interrupt ended it
    #: KKT residual: how far one coordinate step would move the factors, 0 if stationary
    kkt: float = math.nan
    #: images of all processes of the group, of which `image_factor` has some; 0: it has all
    all_images: int = 0

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.image_factor.shape[1]

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return max(0, len(self.history) - 1)

    def to(self, device) -> Self:
        """The same fit with its factors on `device`.

        Returns:
            A new one with all factors there; `self` stays where it is.

        Example:
            >>> import peeklib as pk
            >>> fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
            >>> fit.to("meta").image_factor.device, fit.image_factor.device
            (device(type='meta'), device(type='cpu'))
        """
        factors = {name: W.to(device) for name, W in self.factors.items()}
        return replace(self, image_factor=self.image_factor.to(device), factors=factors)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the fit as one safetensors file, over one that is there; `pk.load` opens it.

        Whatever opens such files finds in it the tensors "image_factor", "factors/<block>" and
        "history", of tensor fits "modes/<block>/<mode>" too, and the rest as JSON in its metadata.

        Args:
            path: of the file; one without a suffix gets ".safetensors".

        Returns:
            The path of the file.

        Raises:
            OSError: if the folder does not exist, the path is a folder, or it cannot be written.
            ValueError: for a suffix that other kinds of files have, such as ".html" or ".npz".

        Example:
            >>> import tempfile
            >>> import peeklib as pk
            >>> fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = fit.save(f"{folder}/fit")
            ...     again = pk.load(path)
            >>> path.name, torch.equal(again.image_factor, fit.image_factor)
            ('fit.safetensors', True)
        """
        return storage.save(self, path)

    def __repr__(self):
        ended = ", interrupted=True" if self.interrupted else ""
        images = len(self.image_factor)
        others = f" of {self.all_images}" if self.all_images > images else ""
        return (
            f"CoupledFactors(rank={self.rank}, images={images}{others}, "
            f"blocks={list(self.factors)}, rmse={self.rmse:{_digits(self.rmse)}}, "
            f"relative_error={self.relative_error:.4f}, iterations={self.iterations}, "
            f"converged={self.converged}{ended})"
        )

    @full_precision()
    def reconstruct(self, name: str, images: int | slice | Sequence[int] = slice(None)) -> Tensor:
        """The model's version of a block.

        Args:
            name: of the block.
            images: which of them, an index or slice; one index gives one column.

        Returns:
            features × images, in the units of the data.

        Raises:
            KeyError: for a block that was not fitted.

        Example:
            >>> import peeklib as pk
            >>> fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
            >>> fit.reconstruct("input", [0, 3]).shape
            torch.Size([6, 2])
        """
        if name not in self.factors:
            raise KeyError(f"no block {name!r}; there are {list(self.factors)}")
        return self.factors[name] @ torch.atleast_2d(self.image_factor[images]).T

    @full_precision()
    def transform(
        self, blocks: Mapping[str, Any], *, max_iter: int = 500, tol: float = 1e-6
    ) -> Tensor:
        """Image factor of new images under the factors found here.

        Solves min ‖X − W Fᵀ‖² over F ≥ 0, a convex problem, by coordinate descent, on a GPU if
        there is one.

        Args:
            blocks: the same features, new images. Some of the blocks will do: the pixels alone,
                say, place an image that never went through the network.
            max_iter: sweeps at most.
            tol: stop when no entry moves by more than `tol` times the largest one.

        Returns:
            images × rank, without unit, on the device of the first block.

        Raises:
            TypeError, ValueError: for bad blocks, blocks that were not fitted, or have another
                number of rows; for a bad `max_iter` or `tol`; for images of a size that the factor
                cannot be written for in their type.

        Example:
            >>> import peeklib as pk
            >>> fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
            >>> fit.transform({"input": torch.tensor([[2.0, 3.0]]).expand(6, 2)}).round(decimals=2)
            tensor([[2.],
                    [3.]])
        """
        stop = Stop(max_iter, tol)
        checked = check_blocks(blocks)
        for name, block in checked.items():
            if name not in self.factors:
                raise ValueError(
                    f"block {name!r} was not fitted; the fitted blocks are {list(self.factors)}"
                )
            if len(block) != len(self.factors[name]):
                raise ValueError(
                    f"block {name!r} has {len(block)} rows, "
                    f"it was fitted with {len(self.factors[name])}"
                )
        home = device_of(blocks)
        weights = {name: self.weights[name] for name in checked}
        new = stack(checked, weights, pick_device(None, home), faint=0)
        W, exponent = new.join(self.factors)
        Wt = W.T.to(new.dtype).contiguous()
        Ft = Wt.new_zeros(self.rank, new.shape[1])
        with crew(new.device):
            B, G = Wt @ new, Wt @ Wt.T
            for _ in range(stop.max_iter):
                before = Ft.clone()
                hals_update(Ft, B, G, [slice(0, self.rank)], sweeps=1)
                if (Ft - before).abs().max() <= stop.tol * Ft.max():
                    break
        return _in_unit(Ft, -exponent).T.to(home)


def _digits(size: float) -> str:
    """How to write a number of any size, in few digits."""
    return ".4f" if 1e-3 <= size < 1e6 or not size else ".3g"


def _in_unit(Ft: Tensor, exponent: int) -> Tensor:
    """The image factor times a power of two."""
    F = times_two_to(Ft.double(), exponent).to(Ft.dtype)
    if not F.isfinite().all() or (Ft.any() and not F.any()):
        far = "large" if exponent > 0 else "small"
        raise ValueError(
            f"the images are so {far} beside those that were fitted that their factor, around "
            f"2^{exponent}, cannot be written in {str(F.dtype)[6:]}; give them in another unit"
        )
    return F


@full_precision()
def coupled_nmf(
    blocks: Mapping[str, Any],
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
    group=None,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
) -> CoupledFactors:
    """Factorize all blocks at once with one shared image factor (Saini & Papalexakis 2018, eq. 1).

    Any size of numbers will do: c times the data has the fit of the data, with c times the factors,
    and so it is with c times all weights. A block that is too small to matter beside others gets
    the factor that fits best to their F. All is computed in float64 if all blocks are in it, or
    differ in size by more than 10⁶⁰; else in float32.

    An interrupt (Ctrl-C, the stop button) returns the factors found so far, with `converged` False;
    one in the passes that measure the end leaves the errors that are not known yet NaN. With a
    checkpoint the round is ended and written first, and a second interrupt, after two seconds,
    comes out at once.

    Args:
        blocks: dict of name → matrix, features × images, non-negative, all with the same images;
            tensors, arrays or tables of any type of real number, or sparse matrices (of SciPy or
            PyTorch), which are never written out, and computed with on the CPU; or a store on disk,
            larger than memory, which one iteration in ten reads, once.
        rank: number of components, from 1 to min(stacked features, images).
        solver: "auto", "hals" or "mu". "mu" is the paper's update. "hals" is hierarchical
            alternating least squares. "auto" is HALS made faster: it extrapolates, undoing what
            raised the loss, and begins on a compressed sample of the images where that pays. All
            start from uniform [0, 1] factors, which the latter two scale once to fit the data best.
            Then it makes most rounds on the compressed data, where these cost far less, corrected
            by what the others see in the data itself, which undo those that did not help. Under "auto" `history` begins with errors of the sample.
        weights: dict of name → positive number that multiplies the block's term of the objective;
            None: all 1.
        seed: of the random start.
        init: start from these factors instead of random ones, as they are; of extreme size (2⁵⁰
            beside the data), they are scaled to fit first, and components whose factors lie
            further apart than 2³⁰ get two of one size.
        device: where to compute; None takes a GPU if there is one. The factors come back on the
            first block's device.
        max_iter: iterations at most.
        tol: stop when the last five iterations lowered the relative error by less than `tol` of it
            on average and the KKT residual is at most min(100 `tol`, 0.02); 0 runs all `max_iter`
            iterations.
        progress: show a progress bar.
        group: a process group of `torch.distributed`, such as `torch.distributed.group.WORLD` after
            `init_process_group`: its processes fit together, and each gives the same but blocks of
            its own images, one or more. None: this process fits alone, and nothing is sent.
        checkpoint: a file, in which the state of the fit is kept, about once a minute and at the
            end; other processes of the group have to see it. It is no saved fit, and has a name of
            its own, such as "fit.checkpoint.safetensors". None: nothing is written.
        resume: go on from the checkpoint, if it is there. The fit then ends as if it had never
            been stopped. Blocks, with their images in the same order, and all that was asked for
            have to be the same; `max_iter` may be larger, and a fit that ran all its rounds goes on.
            For another `tol` or solver, begin a new fit with `init`.

    Returns:
        Factors, errors of the whole and of every block, and how it went. With a group,
        `image_factor` has the rows of this process's images; all the rest is of all images, and the
        same everywhere.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, for bad blocks, rank, solver, weights,
            device, `max_iter` or `tol`; the message names the block, the place and a remedy. With a
            group, all processes raise what one has to refuse; a RuntimeError later where one is
            gone.
        FileExistsError, ValueError: for a checkpoint that is there without `resume`, or is of other
            blocks, or of a fit that was asked for something else.

    Example:
        >>> import peeklib as pk
        >>> generator = torch.Generator().manual_seed(0)
        >>> shown = torch.rand(30, 20, generator=generator)  # pixels × images
        >>> fit = pk.coupled_nmf({"input": shown, "relu": shown[:9].sqrt()}, 4)
        >>> fit.image_factor.shape, list(fit.factors), fit.relative_error < 0.4
        (torch.Size([20, 4]), ['input', 'relu'], True)
    """
    warn_if_alone(group)
    with interrupts_kept(group, checkpoint is not None):
        with all_or_none(group):
            stop, seed = _stop(max_iter, tol), check_seed(seed)
        asked = _asked(solver, [(rank, seed)], stop, init)
        alike = asked | {"checkpoint": str(checkpoint), "resume": resume}
        data = checked_stack(blocks, [rank], solver, weights, device, group, alike)
        if init is not None:
            asked["start"] = _checked_start(data, rank, init)
        keeper = Keeper(checkpoint, resume, data, asked)
        if init is None:
            run, begin = Run(*random_start(data, rank, seed)), _first_step(solver)
        else:
            run, begin = _given_start(data, init)
        with crew(data.device):
            sample = _sample(data, rank, stop) if solver == "auto" and init is None else None
            (fit,) = _fit(data, sample, [run], solver, begin, stop, progress, keeper)
    return fit.to(device_of(blocks))


def _asked(solver: str, pairs: list[tuple[int, int]], stop: Stop, init=None) -> dict[str, Any]:
    """What makes a fit of these blocks the fit that it is, by its name in an error."""
    begin = "random" if init is None else "given"
    asked = {"solver": solver, "(rank, seed)": pairs, "start": begin}
    return asked | {"max_iter": stop.max_iter, "tol": stop.tol}


def _stop(max_iter: int, tol: float) -> Stop:
    """When a fit has converged."""
    stop = Stop(max_iter, tol)  # which checks `tol` before it is reckoned with
    return replace(stop, kkt_tol=min(KKT_TOL, 100 * tol))


def checked_stack(
    blocks,
    ranks: Iterable[int],
    solver: str,
    weights,
    device,
    group=None,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Stack:
    """The data on the device where it is factorized, once all that is asked for can be done.

    Args:
        blocks, solver, weights, device, group: as for `coupled_nmf`.
        ranks: all that will be fitted.
        asked: what else has to be the same in all processes of the group, by its name in an error.

    Raises:
        TypeError, ValueError, RuntimeError: as `coupled_nmf`.

    Example:
        >>> checked_stack({"input": torch.ones(6, 8)}, [2, 7], "auto", None, "cpu")
        Traceback (most recent call last):
        ValueError: rank is 7; there are 6 features, so it lies between 1 and 6
    """
    with all_or_none(group):
        if solver not in UPDATES:
            raise ValueError(f"unknown solver {solver!r}; there are {sorted(UPDATES)}")
        own = check_blocks(blocks)
        weights = check_weights(own, weights)
        device = pick_device(device, device_of(blocks))
        is_sparse = any(isinstance(block, Sparse) for block in own.values())
        check_backend(group, torch.device("cpu") if is_sparse else device)
    kinds = [[name, len(block), str(block.dtype)] for name, block in own.items()]  # in this order
    check_alike(group, {"blocks": kinds, "weights": weights, **asked})
    share = Share.of(group, next(iter(own.values())).shape[1])
    features = sum(len(block) for block in own.values())
    fewer = "images" if share.images < features else "features"
    for rank in ranks:
        check_count(rank, "rank", min(features, share.images), fewer)
    data = stack(own, weights, device, share=share)
    check_not_zero(data)
    return data


@dataclass(frozen=True)
class _Sample:
    """What "auto" begins on: a matrix of some of the images, or of all, compressed if that pays."""

    images: Tensor | None  #: indices of those that are here; None: all
    X: Stack | LowRank
    energy: float
    stop: Stop

    def on(self, data: Stack) -> LowRank | None:
        """All images in the directions of the sample, where rounds on them cost far less."""
        features, images = data.shape[0], data.share.images
        if not isinstance(self.X, LowRank):
            return None
        if CHEAPER * self.X.Q.shape[1] * (features + images) > features * images:
            return None
        if self.images is None:
            return self.X
        return LowRank(self.X.Q, self.X.Q.T.contiguous() @ data, data.share)


def _sample(data: Stack, rank: int, stop: Stop) -> _Sample | None:
    """One image in every few, drawn at random, and compressed; None if nothing would be gained.

    `SAMPLE` images spread over the whole determine W nearly as well as all do.
    """
    early = stop.max_iter - 2 - stop.max_iter // 16  # the last iterations are for the data itself
    if early <= 0:
        return None
    features, count, width = data.shape[0], data.share.images, int(1.5 * rank) + 10
    stride = count // max(SAMPLE, PER_COMPONENT * rank)
    if stride > 1:
        generator = torch.Generator().manual_seed(0)
        first = torch.arange(count // stride) * stride
        images = (first + torch.randint(stride, first.shape, generator=generator)).to(data.device)
        sample = data.take(images)
    else:
        images, sample = None, data
    # a product with the compressed sample costs half as much at most
    taken = sample.share.images
    pays = 2 * width * (features + taken) <= features * taken
    if not sample.total_energy or (images is None and not pays):
        return None
    X = compress(sample, width) if pays else sample
    own = None if images is None else data.share.mine(images)
    return _Sample(own, X, sample.total_energy, Stop(early, 3 * stop.tol))


AfterRound = Callable[[Group], object]


def _fit(
    data: Stack,
    sample: _Sample | None,
    runs: list[Run],
    solver: str,
    begin: Callable[[Group], None],
    stop: Stop,
    progress: bool,
    keeper: Keeper,
) -> list[CoupledFactors]:
    """The runs to their end: on the sample first, if there is one, then on the data."""
    if found := keeper.finished(len(runs)):
        return [_result(data, run) for run in found]
    title = f"{solver}, {len(runs)} fits" if len(runs) > 1 else f"{solver}, rank {len(runs[0].Wt)}"
    rounds = stop.max_iter * len(runs)
    hidden = not progress or not data.share.leads
    with tqdm(total=rounds, disable=hidden, desc=title, leave=False) as bar:

        def after_round(group: Group) -> None:
            bar.update(len(group.active))
            if not isinstance(group.X, Nearby):  # from where only the next round may go on
                keeper.note(group, "sample" if sample and group.X is sample.X else "data")

        if sample:
            runs = _descend_by_sample(data, sample, runs, stop, after_round, keeper)
        else:
            with side_by_side(data, data.total_energy, runs) as group:
                if not keeper.restored(group, "data"):
                    begin(group)
                iterate(group, solver, stop, after_round)
            runs = group.runs
    if not any(run.interrupted for run in runs):
        keeper.finish(runs)
    return [_result(data, run) for run in runs]


def _descend_by_sample(
    data: Stack,
    sample: _Sample,
    runs: list[Run],
    stop: Stop,
    after_round: AfterRound,
    keeper: Keeper,
) -> list[Run]:
    """Most of the way on the sample; then all images are placed, and the end is on the data."""
    if not keeper.is_at("data"):
        runs = _descend_on_sample(sample, runs, after_round, keeper)
    if any(run.interrupted for run in runs):
        # those that were done with the sample have not converged on the data either
        runs = [replace(run.afresh(), interrupted=True) for run in runs]
        return [_with_all_images(data, run) for run in runs]
    with side_by_side(data, data.total_energy, runs, sample.on(data)) as group:
        if keeper.restored(group, "data"):
            pass
        elif sample.images is None:
            measure(group)
        else:
            place_images(group)
            after_round(group)
        iterate(group, "auto", stop, after_round)
    return [_with_all_images(data, run) for run in group.runs]


def _descend_on_sample(
    sample: _Sample, runs: list[Run], after_round: AfterRound, keeper: Keeper
) -> list[Run]:
    if sample.images is not None:
        runs = [Run(run.Wt, run.Ft[:, sample.images]) for run in runs]
    with side_by_side(sample.X, sample.energy, runs) as group:
        if not keeper.restored(group, "sample"):
            scale(group)
        iterate(group, "auto", sample.stop, after_round)
    return group.runs


def _with_all_images(data: Stack, run: Run) -> Run:
    """The run with all images placed, where an interrupt left it with those of the sample."""
    if run.Ft.shape[1] == data.shape[1]:
        return run
    Ft = run.Wt.new_zeros(len(run.Wt), data.shape[1])
    place(Ft, run.Wt @ data, run.Wt @ run.Wt.T, [slice(0, len(run.Wt))])
    return replace(run, Ft=Ft)


def random_start(data: Stack, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform [0, 1] factors, the same on every device.

    Returns:
        rank × features and rank × images.

    Example:
        >>> data = stack({"input": torch.ones(6, 8)}, None, torch.device("cpu"))
        >>> [tuple(factor.shape) for factor in random_start(data, 2, seed=0)]
        [(2, 6), (2, 8)]
    """
    generator, share = torch.Generator().manual_seed(check_seed(seed)), data.share
    Wt = torch.rand(rank, data.shape[0], generator=generator, dtype=data.dtype)
    Ft = Wt.new_empty(rank, share.own)
    for row in Ft:  # of all images, in the order in which the whole would be drawn
        row[:] = torch.rand(share.images, generator=generator, dtype=data.dtype)[share.here]
    return Wt.to(data.device), Ft.to(data.device)


def _first_step(solver: str) -> Callable[[Group], None]:
    """How a random start begins: the paper's update takes it as it is."""
    return measure if solver == "mu" else scale


def _checked_start(data: Stack, rank: int, init: CoupledFactors) -> dict[str, Any]:
    """By what another start would be known, once the factors of an earlier fit can be one."""
    with all_or_none(data.share.group):
        _check_start(data, rank, init)
    components = Share.whole(rank)
    sums = {f"factor of {name!r}": checksum(W, components) for name, W in init.factors.items()}
    check_alike(data.share.group, {f"init's {name} (its checksum)": n for name, n in sums.items()})
    F = init.image_factor.T.to(data.device)
    return {"checksums of init": sums | {"image factor": checksum(F, data.share)}}


def _check_start(data: Stack, rank: int, init: CoupledFactors) -> None:
    """Whether the factors of an earlier fit can be those of this one."""
    shapes = {name: (rows.stop - rows.start, rank) for name, rows in data.rows.items()}
    found = {name: tuple(W.shape) for name, W in init.factors.items()}
    if found != shapes or tuple(init.image_factor.shape) != (data.shape[1], rank):
        raise ValueError(
            f"init has factors {found} for {len(init.image_factor)} images; "
            f"these blocks need {shapes}"
        )
    for factor in (init.image_factor, *init.factors.values()):
        if not ((factor >= 0) & factor.isfinite()).all():
            raise ValueError(
                "init has negative, NaN or infinite entries; start from non-negative factors"
            )


def _given_start(data: Stack, init: CoupledFactors) -> tuple[Run, Callable[[Group], None]]:
    """The factors of an earlier fit, and how to begin with them.

    They are joined in float64, as they may be of any size beside the data.
    """
    W, exponent = data.join(init.factors)
    Wt, Ft = W.T, init.image_factor.T.to(data.device).double()
    of_F = data.share.largest(Ft)
    whole, Ft, of_F = _even(times_two_to(Wt, exponent), Ft, of_F)
    (extreme,) = data.share.decided([_is_extreme(whole.amax(dim=1), of_F)])
    begin = scale if extreme else measure
    if extreme:
        Wt, Ft = _comparable(Wt, Ft, of_F[:, None])
    else:
        Wt = whole
    return Run(Wt.to(data.dtype).contiguous(), Ft.to(data.dtype).contiguous()), begin


def _even(W: Tensor, F: Tensor, of_F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same model; of components whose factors lie far apart, both have one size.

    Where one is 2⁻³⁰ of the other, MU sees its ε beside Gram matrices of the smaller one. A power
    of two is moved, so that nothing is rounded.

    of_F: the largest entry of each component, over the images of all processes.
    """
    apart = of_F.log2() - W.amax(dim=1).log2()  # −∞, ∞ or NaN where one is zero
    far = apart.isfinite() & (apart.abs() > math.log2(APART))
    power = torch.where(far, torch.exp2((apart / 2).round()), 1.0)
    return W * power[:, None], F / power[:, None], of_F / power


def _is_extreme(W: Tensor, F: Tensor) -> bool:
    """Whether squares of factors or of their product may not be held, by components' largest entries."""
    sizes = torch.cat([W, F, W * F])
    return bool(((sizes > 2.0**50) | ((sizes > 0) & (sizes < 2.0**-60))).any())


def _comparable(Wt: Tensor, Ft: Tensor, of_F: Tensor) -> tuple[Tensor, Tensor]:
    """The same components, all together times some number, largest entries 1 or less.

    of_F: the largest entry of each component, over the images of all processes, as a column.
    """
    of_W = Wt.amax(dim=1, keepdim=True)
    size = of_W.log2() + of_F.log2()
    power = torch.exp2(size - size.max())
    return (Wt / of_W).nan_to_num(0), (Ft / of_F * power).nan_to_num(0)


def _result(data: Stack, run: Run) -> CoupledFactors:
    share, Wt = data.share, data.share.led(run.Wt)
    mean = run.Ft.square().mean(dim=1) * (share.own / share.images)
    size = share.total(mean).sqrt()  # rank
    order = (Wt.square().sum(dim=1) * size**2).argsort(descending=True, stable=True)
    order = share.led(order)
    size = torch.where(size > 0, size, 1.0)
    kept = data.split((Wt * size[:, None])[order].T)
    Ft = (run.Ft / size[:, None])[order]
    run, lost = _measured(data, replace(run, Wt=Wt), kept, Ft)
    rmse, relative_error = whole_errors(data, lost)
    exponent = data.exponent_of(kept)
    return CoupledFactors(
        image_factor=(Ft * 2.0**-exponent).T,
        factors={name: W * 2.0**exponent * data.units[name] for name, W in kept.items()},
        rmse=rmse,
        relative_error=relative_error,
        block_errors=block_errors(data, lost),
        history=np.array(run.history),
        converged=run.converged,
        seconds=run.seconds,
        weights=data.weights,
        interrupted=run.interrupted,
        kkt=run.kkt,
        all_images=share.images if share.group else 0,
    )


def _measured(
    data: Stack, run: Run, kept: Mapping[str, Tensor], Ft: Tensor
) -> tuple[Run, dict[str, float]]:
    """The run with its KKT residual, and the `residuals`; NaN for what an interrupt came before."""
    kkt, lost = run.kkt if run.converged else math.nan, dict.fromkeys(kept, math.nan)
    try:
        if not run.converged:
            (kkt,) = kkt_residuals(data, [run.Wt], [run.Ft])
        lost = residuals(data, kept, Ft)
        data.share.decided([], is_end=True)
    except KeyboardInterrupt:
        if is_all_or_nothing():
            raise
        run = replace(run, interrupted=True, converged=False)
    return replace(run, kkt=kkt), lost


def whole_errors(data: Stack, lost: Mapping[str, float]) -> tuple[float, float]:
    """Errors over all blocks, whatever their weights.

    Args:
        data: what was factorized.
        lost: the `residuals`.

    Returns:
        The root mean square residual in the unit of the data, and ‖residual‖ / ‖data‖.

    Example:
        >>> data = stack({"input": torch.ones(6, 8)}, None, torch.device("cpu"))
        >>> whole_errors(data, {"input": 12.0})
        (0.5, 0.5)
    """
    largest = max(data.units[name] for name, energy in data.energy.items() if energy)
    left = energy = 0.0
    for name, residual in lost.items():
        share = data.units[name] / largest
        left += share * share * residual
        energy += share * share * data.energy[name]
    entries = data.shape[0] * data.share.images
    return largest * (left / entries) ** 0.5, (left / energy) ** 0.5


def residuals(data: Stack, factors: Mapping[str, Tensor], Ft: Tensor) -> dict[str, float]:
    """‖A − O Fᵀ‖² of each block, whatever its weight.

    Args:
        data: what was factorized.
        factors: by block, features × rank, in the unit in which the block is kept.
        Ft: rank × images.

    Returns:
        By block, in the square of that unit, summed in float64.

    Example:
        >>> data = stack({"input": torch.ones(6, 8)}, None, torch.device("cpu"))
        >>> residuals(data, {"input": torch.ones(6, 1)}, torch.full((1, 8), 3.0))
        {'input': 192.0}
    """
    own = dict.fromkeys(factors, 0.0)
    for images, part in data.chunks():
        for name, W in factors.items():
            block, F = part.blocks[name], Ft[:, images]
            if name in data.on_disk and isinstance(
                block, Tensor
            ):  # images first, as they were read
                own[name] += _residual(block.T, F.T, W.T)
            else:
                own[name] += _residual(block, W, F)
    return dict(zip(own, data.share.sums([*own.values()]), strict=True))


def _residual(block: Block, W: Tensor, Ft: Tensor) -> float:
    """‖block − W Fᵀ‖², some rows at a time, summed in float64.

    Squares are taken in a unit in which they do not vanish: a layer may be small beside others.
    """
    by_row = W.new_empty(len(block), dtype=torch.float64)
    at_once, size = rows_at_once(block), power_near(block)

    def sum_rows(rows: slice) -> None:
        parts = (A[rows].split(at_once) for A in (block, W, by_row))
        for x, w, out in zip(*parts, strict=True):
            out[:] = torch.addmm(x, w, Ft, alpha=-1).div_(size).square_().sum(dim=1)

    each(len(block), sum_rows, least=enough(Ft.numel()))
    return by_row.sum().item() * size**2


def block_errors(data: Stack, lost: Mapping[str, float]) -> dict[str, float]:
    """‖A − O Fᵀ‖ / ‖A‖ of each block.

    Args:
        data: what was factorized.
        lost: the `residuals`.

    Returns:
        Of a block of zeros 0, or 1 if its model is not zero.

    Example:
        >>> data = stack({"input": torch.ones(6, 8)}, None, torch.device("cpu"))
        >>> block_errors(data, {"input": 12.0})
        {'input': 0.5}
    """
    errors = {}
    for name, residual in lost.items():
        energy = data.energy[name]
        is_wrong = residual if math.isnan(residual) else float(residual > 0)
        errors[name] = (residual / energy) ** 0.5 if energy else is_wrong
    return errors


@dataclass(frozen=True, repr=False)
class Sweep:
    """Every (rank, seed) of a `rank_sweep`: `sweep[20, 0]` is one fit, `.table()` all of them.

    Example:
        >>> import peeklib as pk
        >>> sweep = pk.rank_sweep({"input": torch.ones(6, 8)}, ranks=[1, 2])
        >>> sweep, sweep[2, 0].rank
        (Sweep of 2 fits (rank, seed): [(1, 0), (2, 0)], 2)
    """

    #: by (rank, seed), in the order they were asked for
    fits: dict[tuple[int, int], CoupledFactors]
    #: True if an interrupt ended it: fits are missing or not at their end
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.fits)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.fits)

    def __getitem__(self, key: tuple[int, int]) -> CoupledFactors:
        if key not in self.fits:
            raise KeyError(f"no fit for (rank, seed) = {key}; there are {list(self.fits)}")
        return self.fits[key]

    def __repr__(self):
        ended = ", interrupted" if self.interrupted else ""
        return f"Sweep of {len(self.fits)} fits (rank, seed): {list(self.fits)}{ended}"

    def to(self, device) -> Self:
        """The same sweep with all factors on `device`.

        Returns:
            A new one; `self` stays where it is.

        Example:
            >>> import peeklib as pk
            >>> sweep = pk.rank_sweep({"input": torch.ones(6, 8)}, ranks=[1, 2])
            >>> sweep.to("meta")[2, 0].image_factor.device
            device(type='meta')
        """
        return replace(self, fits={pair: fit.to(device) for pair, fit in self.fits.items()})

    def save(self, path: str | os.PathLike) -> Path:
        """Write all fits as one safetensors file, over one that is there; `pk.load` opens it.

        Tensors in it are called "fits/<rank>,<seed>/image_factor", and so on, as in a fit's file.

        Args:
            path: of the file; one without a suffix gets ".safetensors".

        Returns:
            The path of the file.

        Raises:
            OSError: if the folder does not exist, the path is a folder, or it cannot be written.
            ValueError: for a suffix that other kinds of files have, such as ".html" or ".npz".

        Example:
            >>> import tempfile
            >>> import peeklib as pk
            >>> sweep = pk.rank_sweep({"input": torch.ones(6, 8)}, ranks=[1, 2])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     pk.load(sweep.save(f"{folder}/sweep.safetensors"))
            Sweep of 2 fits (rank, seed): [(1, 0), (2, 0)]
        """
        return storage.save(self, path)

    def table(self) -> pd.DataFrame:
        """One row per fit.

        Returns:
            Columns rank, seed, rmse, relative_error, `error of <block>` …, iterations, kkt,
            converged and seconds.

        Example:
            >>> import peeklib as pk
            >>> pk.rank_sweep({"input": torch.ones(6, 8)}, [1, 2]).table()["rank"].tolist()
            [1, 2]
        """
        rows = []
        for (rank, seed), fit in self.fits.items():
            row = {
                "rank": rank,
                "seed": seed,
                "rmse": fit.rmse,
                "relative_error": fit.relative_error,
            }
            row |= {f"error of {name}": error for name, error in fit.block_errors.items()}
            row |= {
                "iterations": fit.iterations,
                "kkt": fit.kkt,
                "converged": fit.converged,
                "seconds": fit.seconds,
            }
            rows.append(row)
        return pd.DataFrame(rows)


@full_precision()
def rank_sweep(
    blocks: Mapping[str, Any],
    ranks: Iterable[int],
    seeds: Iterable[int] = (0,),
    *,
    solver: str = "auto",
    weights: Mapping[str, float] | None = None,
    device=None,
    max_iter: int = 200,
    tol: float = 1e-4,
    progress: bool = False,
    group=None,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
) -> Sweep:
    """`coupled_nmf` for every rank and seed, side by side: all share the products with the data.

    "auto" draws and compresses its sample once, for the largest rank, so its fits differ a little
    from those of `coupled_nmf`. As many fits run at a time as work in the memory that the data
    takes, or of a store in half of its memory. An interrupt returns the fits so far, and the sweep says so in `interrupted`.

    Args:
        blocks: dict of name → matrix, features × images, as for `coupled_nmf`.
        ranks: numbers of components to fit.
        seeds: random starts to fit each rank from.
        solver, weights, device, max_iter, tol, progress, group, checkpoint, resume: as for
            `coupled_nmf`; to go on from a checkpoint, ranks, seeds and `max_iter` have to be the same.

    Returns:
        The fits by (rank, seed), and a table of them.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, as `coupled_nmf`.

    Example:
        >>> import peeklib as pk
        >>> generator = torch.Generator().manual_seed(0)
        >>> shown = torch.rand(30, 20, generator=generator)  # pixels × images
        >>> sweep = pk.rank_sweep({"input": shown}, ranks=[1, 5], seeds=[0, 1])
        >>> sweep
        Sweep of 4 fits (rank, seed): [(1, 0), (1, 1), (5, 0), (5, 1)]
        >>> sweep[5, 0].rmse < sweep[1, 0].rmse
        True
    """
    warn_if_alone(group)
    with interrupts_kept(group, checkpoint is not None):
        with all_or_none(group):
            pairs, stop = _pairs(ranks, seeds), _stop(max_iter, tol)
        asked = _asked(solver, pairs, stop)
        alike = asked | {"checkpoint": str(checkpoint), "resume": resume}
        ranks = [rank for rank, _ in pairs]
        data = checked_stack(blocks, ranks, solver, weights, device, group, alike)
        keeper = Keeper(checkpoint, resume, data, asked)
        fits = _fit_all(data, pairs, solver, stop, progress, keeper)
    home, missing = device_of(blocks), len(fits) < len(set(pairs))
    interrupted = missing or any(fit.interrupted for fit in fits.values())
    return Sweep({pair: fit.to(home) for pair, fit in fits.items()}, interrupted)


def _pairs(ranks: Iterable[int], seeds: Iterable[int]) -> list[tuple[int, int]]:
    """Every rank with every seed."""
    ranks = _several(ranks, "ranks", "(10, 20)")
    seeds = map(check_seed, _several(seeds, "seeds", "(0, 1)"))
    pairs = list(product(ranks, seeds))
    if not pairs:
        raise ValueError("rank_sweep needs at least one rank and one seed")
    return pairs


def _fit_all(
    data: Stack,
    pairs: list[tuple[int, int]],
    solver: str,
    stop: Stop,
    progress: bool,
    keeper: Keeper,
) -> dict[tuple[int, int], CoupledFactors]:
    """The fits by (rank, seed), some at a time; those so far after an interrupt."""
    pairs = [(int(rank), seed) for rank, seed in pairs]  # of any type of whole number
    largest, fits = max(rank for rank, _ in pairs), {}
    try:
        with crew(data.device):
            sample = _sample(data, largest, stop) if solver == "auto" else None
            for some in _groups_from(keeper.begun, data, pairs):
                runs = [Run(*random_start(data, rank, seed)) for rank, seed in some]
                found = _fit(
                    data, sample, runs, solver, _first_step(solver), stop, progress, keeper
                )
                fits |= dict(zip(some, found, strict=True))
                if any(fit.interrupted for fit in found):
                    break
    except KeyboardInterrupt:  # between the iterations
        if is_all_or_nothing() or not fits:
            raise
    return fits


def _several(values, name: str, example: str) -> list:
    """Ranks or seeds as a list, from any collection of them."""
    try:
        iter(values)
    except TypeError as why:
        raise TypeError(
            f"{name} is {values!r}; give several, such as {example}, or use coupled_nmf"
        ) from why
    return list(values)


def _groups_from(
    begun: tuple[int, int], data: Stack, pairs: list[tuple[int, int]]
) -> list[list[tuple[int, int]]]:
    """The fits that a checkpoint has at their end, those that it has on their way, and the rest."""
    ended, going = begun
    first = [pairs[:ended], pairs[ended:][:going]]
    groups = [*first, *_groups(data, pairs[ended + going :])]
    return [some for some in groups if some]


def _groups(data: Stack, pairs: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Fits to go side by side: as many as work in the memory there is, at least one."""
    features, images = data.shape[0], data.share.images
    row = 10 * features + 5 * images  # numbers that one component needs in passing
    room, groups = data.room // row, [[]]
    for pair in pairs:
        if groups[-1] and sum(rank for rank, _ in groups[-1]) + pair[0] > room:
            groups.append([])
        groups[-1].append(pair)
    return groups
