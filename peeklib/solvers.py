"""How the factors of `coupled_nmf` are found: updates, compression, and rounds that fits share.

X is the stack, features × images. Both factors lie on their side, `Wt` (rank × features) and `Ft`
(rank × images), so that a component is one contiguous row. For ‖X − W Fᵀ‖² each factor needs two
small matrices that come from the other one,

    F:  B = Wᵀ X   (rank × images)      G = Wᵀ W   (rank × rank)
    W:  B = Fᵀ Xᵀ  (rank × features)    G = Fᵀ F   (rank × rank)

and the loss is ‖X‖² − 2⟨B, Wᵀ⟩ + ⟨Fᵀ F, Wᵀ W⟩: no features × images temporary is ever formed.
Several fits run side by side, their components one below the other: one product with X then serves
them all, and their Gram matrices are the blocks on the diagonal of one matrix.

A fit goes through plain steps on one matrix after another, `with side_by_side(X, energy, runs) as
group`: first `scale`, `measure` or `place_images`, then `iterate`. What comes out, `group.runs`,
goes into the next.

Where several processes fit together, F and X are those of the images of this one (its `share`), and
whatever is a sum over images is a sum over all processes.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import accumulate, product
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .blocks import Stack, check_count, check_seed, rows_at_once, stack
from .crew import COLUMNS, SWEEPERS, each, pieces
from .shares import Share, share_of

EPS = 1e-9  # added to the denominator of MU; the paper adds "a small constant" without naming it
START, GROW, GROW_BOUND, SHRINK = 0.3, 1.1, 1.01, 1.5  # the extrapolation, see Ang & Gillis (2019)
BLOCK = 17  # components that one product of a sweep serves
NEARBY = 9  # rounds on what is known of X near the factors, after each round on X itself
WINDOW = 5  # rounds whose progress decides whether to stop
APART = 2.0**30  # so many times larger than the other a factor of a component may become
LOOK = 256  # images among which a dead component finds its new start

Update = Callable[[Tensor, Tensor, Tensor, Sequence[slice]], None]


def mu_update(V: Tensor, B: Tensor, G: Tensor, rows: Sequence[slice]) -> None:
    """The multiplicative rule of Lee & Seung (2001, theorem 1), in place: the loss never rises.

    `EPS` in the denominator is no part of the theorem. It is not seen while denominators are far
    above 10⁻⁹, which `blocks.Stack` sees to: an X whose root mean square lies below 2⁻¹⁰ or above
    2²⁰ is scaled to 1, all others are taken to the letter.

    Args:
        V: the factor, total rank × n.
        B: the other factor times the data, total rank × n.
        G: the Gram matrix of the other factor, total rank × total rank.
        rows: the components of each fit; several fits lie one below the other.

    Example:
        >>> W, V = torch.ones(1, 2), torch.ones(1, 3)  # rank × features, rank × images
        >>> X = torch.tensor([[1.0, 2, 3], [3, 2, 1]])  # features × images
        >>> mu_update(V, W @ X, W @ W.T, [slice(0, 1)])
        >>> V.round(decimals=3)
        tensor([[2., 2., 2.]])
    """
    for own in rows:
        V[own] *= B[own] / (G[own, own] @ V[own] + EPS)


def hals_update(V: Tensor, B: Tensor, G: Tensor, rows: Sequence[slice], sweeps: int = 2) -> None:
    """Hierarchical alternating least squares, in place: coordinate descent over the rows of V ≥ 0.

    With all other rows fixed, the best row k is max(0, V_k + (B_k − G_k V) / G_kk) (Cichocki & Phan
    2009). B costs more than a sweep, so it serves for a few `sweeps` (Gillis & Glineur 2012). A
    component whose partner is zero (G_kk = 0) is left alone.

    Args:
        V: the factor, total rank × n.
        B: the other factor times the data, total rank × n.
        G: the Gram matrix of the other factor, total rank × total rank.
        rows: the components of each fit; several fits lie one below the other.
        sweeps: how often all rows are updated.

    Example:
        >>> W, V = torch.ones(1, 2), torch.zeros(1, 3)  # rank × features, rank × images
        >>> X = torch.tensor([[1.0, 2, 3], [3, 2, -9]])  # features × images
        >>> hals_update(V, W @ X, W @ W.T, [slice(0, 1)])
        >>> V  # least squares, but never below zero
        tensor([[2., 2., 0.]])
    """
    gpu = _gpu() if V.is_cuda else None
    if gpu and V.numel() and gpu.takes(V, rows):
        gpu.sweep(V, B, G, rows, sweeps)
        return
    scale = _inverse(G.diagonal())[:, None]
    G = G * scale

    tiles = list(product(rows, pieces(V.shape[1], COLUMNS, len(rows))))

    def sweep_tiles(part: slice) -> None:
        for own, columns in tiles[part]:
            v, b, g = V[own, columns], B[own, columns] * scale[own], G[own, own]
            for _ in range(sweeps):
                _sweep(v, b, g)

    each(len(tiles), sweep_tiles, least=len(tiles) / SWEEPERS)


def _inverse(weight: Tensor) -> Tensor:
    """1 / weight, or 0 where that is 0 or too small to divide by."""
    return torch.where(weight > torch.finfo(weight.dtype).tiny, weight, torch.inf).reciprocal()


@cache
def _gpu():
    """The module of the fused kernel, or None where Triton is not installed."""
    try:
        from . import gpu
    except ImportError:
        return None
    return gpu


def _sweep(V: Tensor, B: Tensor, G: Tensor) -> None:
    """One step of coordinate descent for each row, in order, where G_kk = 1.

    The moves of `BLOCK` rows come from one product; each is then corrected for the rows that moved
    before it.
    """
    moved = V.new_empty(BLOCK, V.shape[1])
    before = [moved[:k].T for k in range(BLOCK)]
    for first in range(0, len(V), BLOCK):
        block = slice(first, first + BLOCK)
        v, g = V[block], G[block]
        moves = torch.addmm(B[block], g, V, alpha=-1)
        lowest = -v  # an entry may go to 0, not below
        for k, (move, low, out) in enumerate(zip(moves, lowest, moved, strict=False)):
            if k:
                move = torch.addmv(move, before[k], g[k, first : first + k], alpha=-1)
            torch.maximum(move, low, out=out)
        v += moved[: len(v)]


place = partial(hals_update, sweeps=12)  # from zero, nearly to the end
UPDATES: dict[str, Update] = {"auto": hals_update, "hals": hals_update, "mu": mu_update}


class LowRank:
    """X ≈ Q B, in place of X wherever it stands on the right of a product.

    Q: features × width, B: width × images. A product with rank rows costs
    rank · width · (features + images) instead of rank · features · images.

    Example:
        >>> X = LowRank(torch.ones(4, 2), torch.ones(2, 6))  # of rank 1
        >>> X.shape, torch.ones(1, 4) @ X
        ((4, 6), tensor([[8., 8., 8., 8., 8., 8.]]))
    """

    def __init__(self, Q: Tensor, B: Tensor, share: Share | None = None):
        self.Q, self.B = Q, B
        self.shape = len(Q), B.shape[1]
        self.share = share or Share.whole(B.shape[1])

    @property
    def T(self) -> "_Turned":
        """Xᵀ."""
        return _Turned(self)

    def __rmatmul__(self, V: Tensor) -> Tensor:
        return (V @ self.Q) @ self.B

    @property
    def at_once(self) -> int:
        """How many images are in memory: all."""
        return self.shape[1]

    def pass_over(self, image_factor: Callable[["LowRank", slice], Tensor]) -> Tensor:
        """F Xᵀ for an F that may depend on X, as of a `Stack`.

        Example:
            >>> X = LowRank(torch.ones(4, 2), torch.ones(2, 6))
            >>> X.pass_over(lambda part, images: torch.ones(1, 4) @ part)
            tensor([[96., 96., 96., 96.]])
        """
        return image_factor(self, slice(0, self.shape[1])) @ self.T

    def columns(self, images: Tensor) -> Tensor:
        """Some columns, as rows.

        Returns:
            chosen images × features.

        Example:
            >>> X = LowRank(torch.eye(4, 2), torch.ones(2, 6))
            >>> X.columns(torch.tensor([5]))
            tensor([[1., 1., 0., 0.]])
        """
        return (self.Q @ self.B[:, images]).T


class _Turned:
    """Xᵀ of a `LowRank`."""

    def __init__(self, X: LowRank):
        self.T = X

    def __rmatmul__(self, V: Tensor) -> Tensor:  # k × images → k × features
        return self.T.share.total(V @ self.T.B.T) @ self.T.Q.T


@dataclass(frozen=True)
class Nearby:
    """In place of X for factors near some W₀ and F₀, whose products with X are known.

    With a compressed X ≈ Q B,

        Wᵀ X  ≈  W₀ᵀ X + (W − W₀)ᵀ Q B        Fᵀ Xᵀ  ≈  F₀ᵀ Xᵀ + (F − F₀)ᵀ (Q B)ᵀ

    Both belong to one loss, which is that of X but for 2⟨X − Q B, (W − W₀) (F − F₀)ᵀ⟩: correct to
    the first order at W₀ and F₀, so that what is stationary there is so on X.

    Example:
        >>> small = LowRank(torch.ones(3, 1), torch.ones(1, 4))
        >>> X = Nearby.of(small, torch.ones(1, 3), torch.ones(1, 4), torch.zeros(1, 4), torch.zeros(1, 3))
        >>> torch.ones(1, 3) @ X, torch.full((1, 3), 2.0) @ X
        (tensor([[0., 0., 0., 0.]]), tensor([[3., 3., 3., 3.]]))
    """

    small: LowRank  #: Q B
    of_F: Tensor  #: W₀ᵀ (X − Q B), total rank × images
    of_W: Tensor  #: F₀ᵀ (X − Q B)ᵀ, total rank × features
    both: Tensor  #: of each component its part of ⟨W₀ F₀ᵀ, X − Q B⟩

    @classmethod
    def of(cls, small: LowRank, W: Tensor, F: Tensor, WX: Tensor, FX: Tensor) -> "Nearby":
        """From the factors, on their side, and their products with X; `WX` is used up."""
        of_W = FX - F @ small.T
        return cls(small, WX.sub_(W @ small), of_W, _products(of_W, W))

    @property
    def T(self) -> "_TurnedNearby":
        """Xᵀ."""
        return _TurnedNearby(self)

    def __rmatmul__(self, V: Tensor) -> Tensor:
        return (V @ self.small).add_(self.of_F)

    def pass_over(self, image_factor: Callable[["Nearby", slice], Tensor]) -> Tensor:
        """F Xᵀ for an F that may depend on X, as of a `Stack`."""
        return image_factor(self, slice(0, self.small.shape[1])) @ self.T

    def unseen(self, F: Tensor) -> Tensor:
        """What ⟨F Xᵀ, W⟩ leaves out of ⟨X, W Fᵀ⟩, of each component."""
        return self.small.share.total(_products(self.of_F, F)) - self.both

    def rows(self, some) -> "Nearby":
        """That of some components."""
        return Nearby(self.small, self.of_F[some], self.of_W[some], self.both[some])

    def scale(self, k: int, power: float) -> None:
        """Follow a component whose W was multiplied with a number, and its F divided by it."""
        self.of_F[k] *= power
        self.of_W[k] /= power

    def forget(self, k: int) -> None:
        """A component is elsewhere now."""
        for known in (self.of_F, self.of_W, self.both):
            known[k] = 0


class _TurnedNearby:
    """Xᵀ of a `Nearby`."""

    def __init__(self, X: Nearby):
        self.T = X

    def __rmatmul__(self, V: Tensor) -> Tensor:  # total rank × images → total rank × features
        return (V @ self.T.small.T).add_(self.T.of_W)


def _products(A: Tensor, B: Tensor) -> Tensor:
    """⟨A_k, B_k⟩ of each row, summed in float64; on the CPU some rows at a time, in its cache."""
    at_once = len(A) if A.is_cuda else rows_at_once(A)
    parts = zip(A.split(max(1, at_once)), B.split(max(1, at_once)), strict=True)
    return torch.cat([a.to(torch.float64, copy=True).mul_(b).sum(dim=1) for a, b in parts])


Matrix = Stack | LowRank | Nearby  # what a fit goes down on


def compress(X, width: int, seed: int = 0, *, iterations: int = 1) -> LowRank:
    """X projected on about its leading `width` left singular directions.

    A random sketch and, by default, one power iteration (Halko, Martinsson & Tropp 2011, alg. 4.4):
    four products with X, shared by every rank and seed fitted afterwards.

    Args:
        X: a matrix, a `Stack` or a block on disk, features × images.
        width: how many directions.
        seed: of the sketch.
        iterations: more of them bring the directions closer to the singular ones.

    Returns:
        Q B ≈ X, with Q features × width, orthonormal, and B width × images.

    Example:
        >>> X = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 9))  # of rank 1
        >>> small = compress(X, 2)
        >>> small.Q.shape, small.B.shape, torch.allclose(small.Q @ small.B, X, atol=1e-4)
        (torch.Size([5, 2]), torch.Size([2, 8]), True)
    """
    generator, share = torch.Generator().manual_seed(check_seed(seed)), share_of(X)
    sketch = torch.randn(width, share.images, generator=generator, dtype=X.dtype)[:, share.here]
    near_one = stack({"X": X}, None, X.device) if isinstance(X, Tensor) else X
    Q = _orthonormal(sketch.to(X.device) @ near_one.T)  # width × features
    for _ in range(iterations):
        Q = _orthonormal(_pass_over(near_one, partial(_project, Q)))
    Q = share.led(Q)
    return LowRank(Q.T, Q @ X, share)


def _project(Q: Tensor, part, _: slice) -> Tensor:
    """Some images, k × images."""
    return Q @ part


def _pass_over(X, image_factor: Callable[[Any, slice], Tensor]) -> Tensor:
    """F Xᵀ for an F that may depend on X: of a matrix, or of what knows how to read itself once."""
    if isinstance(X, Tensor):
        return image_factor(X, slice(0, X.shape[1])) @ X.T
    return X.pass_over(image_factor)


def _orthonormal(V: Tensor) -> Tensor:
    """Orthonormal rows that span those of V."""
    return torch.linalg.qr(V.T).Q.T


@dataclass(frozen=True)
class Stop:
    """When a fit has come to its end.

    Raises:
        TypeError, ValueError: for a `max_iter` or `tol` that cannot be.

    Example:
        >>> Stop(-1, 1e-4)
        Traceback (most recent call last):
        ValueError: max_iter is -1; it is at least 0
    """

    max_iter: int  #: rounds at most
    tol: float  #: see `is_slow`; 0 runs all rounds
    kkt_tol: float | None = None  #: the largest KKT residual of a slow fit; None: none is asked for

    def __post_init__(self):
        check_count(self.max_iter, "max_iter", least=0)
        if not isinstance(self.tol, Real):
            raise TypeError(f"tol is {self.tol!r}; it is a number, such as 1e-4")
        if not self.tol >= 0:
            raise ValueError(f"tol is {self.tol}; it can be neither negative nor NaN")


def is_slow(errors: Sequence[float], tol: float) -> bool:
    """Whether the last `WINDOW` rounds lowered the error by `tol` of it or less, on average.

    Args:
        errors: after each round, the latest last.
        tol: 0 is never slow.

    Returns:
        False while there are too few errors to tell.

    Example:
        >>> is_slow([1.0] * 6, tol=1e-4), is_slow([1.0] * 5, tol=1e-4)
        (True, False)
    """
    if tol == 0 or len(errors) <= WINDOW:
        return False
    return errors[-WINDOW - 1] - errors[-1] <= WINDOW * tol * errors[-1]


@dataclass(frozen=True)
class Pace:
    """How far a fit extrapolates (Ang & Gillis 2019, algorithm 3)."""

    beta: float = START  #: now,
    bound: float = 1.0  #: at most,
    good: float = START  #: and the last time that it helped

    def faster(self) -> "Pace":
        """After a round that helped."""
        bound = min(1.0, GROW_BOUND * self.bound)
        return Pace(min(bound, GROW * self.beta), bound, self.beta)

    def slower(self) -> "Pace":
        """After a round that was undone."""
        return Pace(self.beta / SHRINK, self.good, self.good)


@dataclass
class Run:
    """One fit on its way down on one matrix, and what it has been through."""

    Wt: Tensor  #: rank × features
    Ft: Tensor  #: rank × images
    history: list[float] = field(default_factory=list)  #: relative errors, on all matrices so far
    seconds: float = 0.0
    pace: Pace = Pace()
    revived: int = 0  #: components that died and were started again
    loss: float = math.inf  #: ‖X − W Fᵀ‖² of these factors; until it is known, any round is better
    recent: list[float] = field(default_factory=list)  #: errors among which to look for progress
    kkt: float = math.nan  #: residual when it was last asked for
    converged: bool = False
    interrupted: bool = False
    nearby: bool = True  #: False once rounds on `Nearby` had to be undone
    near: list[Tensor] = field(default_factory=list)  #: in a checkpoint, what `Nearby` has of it

    def afresh(self) -> "Run":
        """This fit as it begins on a matrix: with nothing that was said of another one."""
        return Run(self.Wt, self.Ft, [*self.history], self.seconds, self.pace, self.revived)

    def start_from(self, loss: float, energy: float) -> None:
        """Take note of the loss before the first round, instead of that on another matrix."""
        error = math.sqrt(loss / energy)
        self.loss = loss
        self.history = [*self.history[:-1], error]
        self.recent = [error]

    def go_on(self, loss: float, energy: float) -> None:
        """Take note of the loss after a round."""
        error = math.sqrt(loss / energy)
        self.loss = loss
        self.history.append(error)
        self.recent.append(error)


class Group:
    """Runs side by side on X, their factors one below the other.

    W is total rank × features, F total rank × images; a round of "auto" begins at Wy instead of W.
    All `runs` stay in the order given; the `active` ones are not at their end, and own the rows of
    W and F.

    Example:
        >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
        >>> group = Group(X, 12.0, [Run(torch.ones(k, 3), torch.ones(k, 4)) for k in (1, 2)])
        >>> group.W.shape, group.rows
        (torch.Size([3, 3]), [slice(0, 1, None), slice(1, 3, None)])
    """

    def __init__(self, X: Matrix, energy: float, runs: Iterable[Run], small: LowRank | None = None):
        self.X, self.energy, self.share, self.small = X, energy, share_of(X), small
        self.near: Nearby | None = None  # of the last round on X, if there is a `small` one
        self.back: tuple[Tensor, Tensor] | None = None  # factors to go back to, if not W and F
        self.runs = [run.afresh() for run in runs]
        self.W = torch.cat([run.Wt for run in self.runs])
        self.F = torch.cat([run.Ft for run in self.runs])
        self.Wy = self.W.clone()
        self._arrange(self.runs)
        self.clock = time.perf_counter()

    def _arrange(self, active: list[Run]) -> None:
        self.active = active
        ranks = [len(run.Wt) for run in active]
        ends = list(accumulate(ranks, initial=0))
        self.rows = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        owner = torch.arange(len(active)).repeat_interleave(torch.tensor(ranks, dtype=torch.long))
        self.owner = owner.to(self.W.device)  # the run of each row

    def write_back(self) -> None:
        """Give every active run its factors."""
        for run, rows in zip(self.active, self.rows, strict=True):
            run.Wt, run.Ft = self.W[rows], self.F[rows]

    def snapshot(self) -> tuple[list[Run], list[Tensor]]:
        """The runs as they are after a round, and of each where the next one begins.

        Returns:
            Those of `runs`, and of each rank × features.
        """
        self.write_back()
        rows = {id(run): rows for run, rows in zip(self.active, self.rows, strict=True)}
        runs, begins = [], []
        for run in self.runs:
            own = rows.get(id(run))
            begins.append(run.Wt if own is None else self.Wy[own])
            near = self.near.rows(own) if self.near and own is not None else None
            runs.append(replace(run, near=[near.of_F, near.of_W, near.both] if near else []))
        return runs, begins

    def go_on_from(self, runs: Sequence[Run], ahead: Sequence[Tensor]) -> None:
        """Begin with what `snapshot` gave, instead of what was there.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> first, again = (
            ...     Group(X, 12.0, [Run(torch.ones(1, 3), torch.ones(1, 4))]) for _ in range(2)
            ... )
            >>> measure(first)
            >>> again.go_on_from(*first.snapshot())
            >>> again.runs[0].history
            [0.0]
        """
        self.runs = [*runs]
        self.W, self.F = (torch.cat([getattr(run, name) for run in runs]) for name in ("Wt", "Ft"))
        self.Wy = torch.cat([*ahead])
        self._arrange(self.runs)
        if self.small and all(run.near for run in runs):
            parts = zip(*(run.near for run in runs), strict=True)
            self.near = Nearby(self.small, *(torch.cat(part) for part in parts))

    def keep(self, going: Sequence[bool]) -> None:
        """Go on with some of the active runs; the others have their last factors.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(k, 3), torch.ones(k, 4)) for k in (1, 2)])
            >>> group.keep([False, True])
            >>> group.W.shape, len(group.active), len(group.runs)
            (torch.Size([2, 3]), 1, 2)
        """
        if all(going):
            return
        self.write_back()
        stay = self.by_row(going)[:, 0] > 0
        self.W, self.F, self.Wy = self.W[stay], self.F[stay], self.Wy[stay]
        self.near = self.near and self.near.rows(stay)
        self._arrange([run for run, goes in zip(self.active, going, strict=True) if goes])

    def charge_time(self) -> None:
        """Charge the time since the last call to the active runs, by rank."""
        now = time.perf_counter()
        for run in self.active:
            run.seconds += (now - self.clock) * len(run.Wt) / len(self.W)
        self.clock = now

    def by_row(self, values: Iterable[float]) -> Tensor:
        """One number of each active run, for each of its rows.

        Returns:
            total rank × 1.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(k, 3), torch.ones(k, 4)) for k in (1, 2)])
            >>> group.by_row([5, 7]).flatten()
            tensor([5., 7., 7.])
        """
        column = torch.tensor([float(v) for v in values], dtype=self.W.dtype).to(self.W.device)
        return column[self.owner, None]

    def sums(self, A: Tensor, B: Tensor) -> list[float]:
        """⟨A, B⟩ of each active run, of matrices total rank × n.

        Returns:
            One number for each, summed in float64.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(k, 3), torch.ones(k, 4)) for k in (1, 2)])
            >>> group.sums(group.W, group.W)
            [3.0, 6.0]
        """
        return self.of_runs(_products(A, B))

    def of_runs(self, rows: Tensor) -> list[float]:
        """The sum over each active run of one number for each of its rows."""
        return rows.new_zeros(len(self.active)).index_add(0, self.owner, rows).tolist()

    def see(self, F: Tensor, WX: list[Tensor], FX: Tensor) -> None:
        """Take note of products with X: those of Wy, with its images in order, and of F."""
        if self.small and not isinstance(self.X, Nearby):
            whole = WX[0] if len(WX) == 1 else torch.cat(WX, dim=1)
            self.near = Nearby.of(self.small, self.Wy, F, whole, FX)
        WX.clear()

    def grams(self, V: Tensor) -> Tensor:
        """V Vᵀ of each active run on the diagonal, zero elsewhere.

        Returns:
            total rank × total rank.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(k, 3), torch.ones(k, 4)) for k in (1, 2)])
            >>> group.grams(group.W).tolist()
            [[3.0, 0.0, 0.0], [0.0, 3.0, 3.0], [0.0, 3.0, 3.0]]
        """
        if V.is_cuda:  # one launch; products beside the diagonal cost less than more launches
            return (V @ V.T) * (self.owner[:, None] == self.owner)
        G = V.new_zeros(len(V), len(V))
        for rows in self.rows:
            G[rows, rows] = V[rows] @ V[rows].T
        return G

    def grams_of_images(self, F: Tensor) -> Tensor:
        """F Fᵀ of each active run on the diagonal, over the images of all processes.

        Returns:
            total rank × total rank.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(1, 3), torch.ones(1, 4))])
            >>> group.grams_of_images(group.F)
            tensor([[4.]])
        """
        return self.share.total(self.grams(F))

    def losses(
        self, B: Tensor, G: Tensor, W: Tensor, H: Tensor, unseen: Tensor | None = None
    ) -> list[float]:
        """‖X‖² − 2⟨B, W⟩ + ⟨G, H⟩ of each active run; B and G come from F, H is the Gram of W.

        Args:
            B, G, W, H: of all components.
            unseen: of each component what ⟨B, W⟩ does not have, where X is `Nearby`.

        Returns:
            One number for each, 0 or more, in the square of the data's unit.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(k, 3), torch.ones(k, 4)) for k in (1, 2)])
            >>> W, F = group.W, group.F
            >>> group.losses(F @ X.T, group.grams(F), W, group.grams(W))
            [0.0, 12.0]
        """
        explained = _products(B, W) if unseen is None else _products(B, W) + unseen
        parts = zip(self.of_runs(explained), self.sums(G, H), strict=True)
        losses = [max(self.energy - 2 * explained + model, 0.0) for explained, model in parts]
        return self.share.decided(losses)

    def accept(self, W: Tensor, F: Tensor, beta: Tensor, helped: Sequence[bool]) -> None:
        """Move the runs that a round helped; the others go on from where they were.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.ones(1, 3), torch.ones(1, 4))])
            >>> group.accept(2 * group.W, group.F, group.by_row([0.5]), helped=[True])
            >>> group.W, group.Wy  # half of the step farther
            (tensor([[2., 2., 2.]]), tensor([[2.5000, 2.5000, 2.5000]]))
        """
        Wy = torch.lerp(self.W, W, 1 + beta).clamp_(min=0)
        if not all(helped):
            yes, (old_W, old_F) = self.by_row(helped) > 0, self.back or (self.W, self.F)
            Wy = torch.where(yes, Wy, old_W)
            W = torch.where(yes, W, old_W)
            F = torch.where(yes, F, old_F)
        self.W, self.F, self.Wy, self.back = W, F, Wy, None

    def balance(self, of_F: Tensor, of_W: Tensor, moved: Tensor | None = None) -> list[int]:
        """Give both factors of a component one size, where they have drifted far apart.

        Only their product counts, and extrapolation takes size from one to the other, round by
        round, up to where squares vanish. A power of two is moved, so that nothing is rounded.

        Args:
            of_F, of_W: by component ‖F_k‖² and ‖W_k‖², total rank.
            moved: which components to look at; None: all.

        Returns:
            Components where there is nothing to balance: one factor is zero, or their product
            vanishes.

        Example:
            >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
            >>> group = Group(X, 12.0, [Run(torch.full((1, 3), 2.0**40), torch.ones(1, 4))])
            >>> group.balance(torch.tensor([4.0]), torch.tensor([3 * 2.0**80]))
            []
            >>> group.W[0, 0] == group.F[0, 0] == 2**20
            tensor(True)
        """
        ratio = of_W / of_F
        far = ~((ratio > APART**-2) & (ratio < APART**2))  # NaN too
        if moved is not None:
            far &= moved
        places = [k for k, is_far in enumerate(self.share.decided(far.tolist())) if is_far]
        return [k for k in places if not self._balance(k)]

    def _balance(self, k: int) -> bool:
        of_F = self.share.largest(self.F[k : k + 1]).item()
        of_W, of_F = self.share.decided([self.W[k].max().item(), of_F])
        if not of_W * of_F > torch.finfo(self.W.dtype).tiny ** 0.5:
            return False
        power = 2.0 ** round((math.log2(of_F) - math.log2(of_W)) / 2)
        self.W[k] *= power
        self.Wy[k] *= power
        self.F[k] /= power
        if self.near:
            self.near.scale(k, power)
        return True


_all_or_nothing: ContextVar[bool] = ContextVar("all_or_nothing", default=False)


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Inside, an interrupt (Ctrl-C, the stop button) comes out of a fit as KeyboardInterrupt.

    Outside, `coupled_nmf` and `rank_sweep` return the factors so far, for a person to look at.
    Where their result goes into another number, or is kept, nobody would see that it is half done.

    Example:
        >>> import peeklib as pk
        >>> with all_or_nothing():  # a whole fit, or none
        ...     errors = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1).block_errors
        >>> round(errors["input"], 3)
        0.0
    """
    before = _all_or_nothing.set(True)
    try:
        yield
    finally:
        _all_or_nothing.reset(before)


def is_all_or_nothing() -> bool:
    """Whether an interrupt now comes out of a fit, instead of ending it early.

    Example:
        >>> with all_or_nothing():
        ...     is_all_or_nothing()
        True
        >>> is_all_or_nothing()
        False
    """
    return _all_or_nothing.get()


@contextmanager
def side_by_side(
    X: Matrix, energy: float, runs: Iterable[Run], small: LowRank | None = None
) -> Iterator[Group]:
    """Inside, copies of the runs go on together, on X; afterwards they have their factors.

    An interrupt ends what is inside, and nothing else: the runs that were not at their end say that
    they were interrupted, and have the factors of their last round. Within `all_or_nothing` it
    comes out.

    Args:
        X: features × images.
        energy: ‖X‖²; of the matrix that was compressed where X is a `LowRank`.
        runs: their Ft may have other images if `place_images` comes first.
        small: X compressed, where "auto" may do most of its rounds.

    Yields:
        Them as a group; its `runs` are the copies, in the order given.

    Example:
        >>> run = Run(torch.ones(1, 3), torch.ones(1, 4))
        >>> X = LowRank(torch.ones(3, 1), torch.full((1, 4), 2.0))
        >>> with side_by_side(X, 48.0, [run]) as group:
        ...     scale(group)
        >>> group.runs[0].Ft, run.Ft
        (tensor([[2., 2., 2., 2.]]), tensor([[1., 1., 1., 1.]]))
    """
    group = Group(X, energy, runs, small)
    try:
        yield group
    except KeyboardInterrupt:
        if is_all_or_nothing():
            raise
        for run in group.active:
            run.interrupted = True
    group.write_back()


def measure(group: Group) -> None:
    """Begin with the factors as they are.

    Example:
        >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
        >>> group = Group(X, 12.0, [Run(torch.ones(2, 3), torch.ones(2, 4))])
        >>> measure(group)
        >>> group.runs[0].history  # the model is twice the data
        [1.0]
    """
    B, G, H = group.F @ group.X.T, group.grams_of_images(group.F), group.grams(group.W)
    _start_from(group, B, G, H)


def scale(group: Group) -> None:
    """Begin with F times the number that fits best, another one for each run.

    Example:
        >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
        >>> group = Group(X, 12.0, [Run(torch.ones(2, 3), torch.ones(2, 4))])
        >>> scale(group)
        >>> group.F.unique(), group.runs[0].history
        (tensor([0.5000]), [0.0])
    """
    B, G, H = group.F @ group.X.T, group.grams_of_images(group.F), group.grams(group.W)
    parts = zip(group.sums(B, group.W), group.sums(G, H), strict=True)
    best = group.by_row(explained / model if model else 1 for explained, model in parts)
    group.F = group.F * best
    _start_from(group, B * best, G * best**2, H)


def _start_from(group: Group, B: Tensor, G: Tensor, H: Tensor) -> None:
    for run, loss in zip(group.active, group.losses(B, G, group.W, H), strict=True):
        run.start_from(loss, group.energy)


def place_images(group: Group) -> None:
    """Begin with images that F does not know: a first round of "auto" places them from zero.

    Example:
        >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
        >>> group = Group(X, 12.0, [Run(torch.ones(1, 3), torch.ones(1, 2))])
        >>> place_images(group)  # the fit had two images, the data has four
        >>> group.F.round(decimals=3)
        tensor([[1., 1., 1., 1.]])
    """
    F = group.W.new_zeros(len(group.W), group.share.own)
    G, products = group.grams(group.W), []

    def place_part(part: Matrix, images: slice) -> Tensor:
        products.append(group.W @ part)
        place(F[:, images], products[-1], G, group.rows)
        return F[:, images]

    B = group.X.pass_over(place_part)
    group.see(F, products, B)
    _move_to(group, F, B, beta=group.by_row(0 for _ in group.active))


def iterate(group: Group, solver: str, stop: Stop, after_round: Callable[[Group], object]) -> None:
    """Rounds, until each run is slow and near a stationary point, or has `stop.max_iter` behind it.

    Args:
        group: its runs have begun.
        solver: a key of `UPDATES`.
        stop: `max_iter` counts the rounds on earlier matrices too.
        after_round: called with the group, whose active runs the round served.

    Example:
        >>> X = LowRank(torch.ones(3, 1), torch.ones(1, 4))
        >>> group = Group(X, 12.0, [Run(torch.ones(2, 3), torch.ones(2, 4))])
        >>> measure(group)
        >>> iterate(group, "hals", Stop(max_iter=9, tol=0), after_round=id)
        >>> len(group.runs[0].history)  # the start, and nine rounds
        10
    """
    while True:
        group.keep(
            [not run.converged and len(run.history) <= stop.max_iter for run in group.active]
        )
        if not group.active:
            return
        if group.near and all(run.nearby for run in group.active):
            _go_on_nearby(group, stop, after_round)
        _round(group, solver)
        _find_converged(group, stop)
        group.charge_time()
        after_round(group)


def _round(group: Group, solver: str) -> None:
    """F, then W."""
    if solver == "auto":
        _extrapolated_round(group)
        return
    update, H = UPDATES[solver], group.grams(group.W)

    def update_part(part: Matrix, images: slice) -> Tensor:
        F = group.F[:, images]
        update(F, group.W @ part, H, group.rows)
        return F

    B = group.X.pass_over(update_part)
    G = group.grams_of_images(group.F)
    update(group.W, B, G, group.rows)
    H = group.grams(group.W)
    for run, loss in zip(group.active, group.losses(B, G, group.W, H), strict=True):
        run.go_on(loss, group.energy)
    if solver != "mu":  # which keeps them balanced, and can move nothing that is zero
        _mend(group, G, H)


def _go_on_nearby(group: Group, stop: Stop, after_round: Callable[[Group], object]) -> None:
    """Rounds of "auto" on `Nearby`; the next one, on X, sees whether they helped or undoes them."""
    left = min(stop.max_iter - len(run.history) for run in group.active)  # but for that one
    X, back, losses = group.X, (group.W, group.F), [run.loss for run in group.active]
    assert group.near
    group.X = group.near
    for _ in range(min(NEARBY, left)):
        _extrapolated_round(group)
        group.charge_time()
        after_round(group)
    group.X, group.near, group.back = X, None, back
    for run, loss in zip(group.active, losses, strict=True):
        run.loss = loss
        run.recent = [math.sqrt(loss / group.energy)] * WINDOW  # progress is measured on X


def _extrapolated_round(group: Group) -> None:
    """A round of "auto": the images of a part of X are moved, and their share for W is summed."""
    beta = group.by_row(run.pace.beta for run in group.active)
    F, G, products = group.F.clone(), group.grams(group.Wy), []

    def move_part(part: Matrix, images: slice) -> Tensor:
        found, product = F[:, images], group.Wy @ part
        products.append(product)
        UPDATES["auto"](found, product, G, group.rows)
        return torch.lerp(group.F[:, images], found, 1 + beta, out=found).clamp_(min=0)

    B = group.X.pass_over(move_part)
    group.see(F, products, B)
    _move_to(group, F, B, beta)


def _move_to(group: Group, F: Tensor, B: Tensor, beta: Tensor) -> None:
    """The rest of a round of "auto": find W for this F, extrapolate, and undo what raised the loss.

    B: F Xᵀ. beta: how far beyond W the next round begins, a column with an entry for each row.
    """
    W = group.Wy.clone()
    G = group.grams_of_images(F)
    UPDATES["auto"](W, B, G, group.rows)
    H = group.grams(W)
    unseen = group.X.unseen(F) if isinstance(group.X, Nearby) else None
    losses = group.losses(B, G, W, H, unseen)
    helped = [
        _helped(run, loss, group.energy) for run, loss in zip(group.active, losses, strict=True)
    ]
    if group.back:
        _judge_nearby(group, helped)
    group.accept(W, F, beta, helped)
    moved = group.by_row(helped)[:, 0] > 0
    _mend(group, G, H, moved)


def _judge_nearby(group: Group, helped: Sequence[bool]) -> None:
    """Runs whose rounds on `Nearby` had to be undone do all others on X."""
    for run, has_helped in zip(group.active, helped, strict=True):
        if not has_helped:
            run.nearby, run.recent = False, run.recent[-1:]


def _helped(run: Run, loss: float, energy: float) -> bool:
    """Whether the loss did not rise, beyond rounding; the run takes note of it and of its pace."""
    helped = loss <= run.loss + torch.finfo(run.Wt.dtype).eps * energy
    if helped:
        run.pace = run.pace.faster()
        run.go_on(loss, energy)
    else:
        run.pace = run.pace.slower()
        run.go_on(run.loss, energy)
    return helped


def _find_converged(group: Group, stop: Stop) -> None:
    """Mark the runs that have converged; those that are only slow are asked again later."""
    progress = zip(group.active, group.rows, strict=True)
    slow = [(run, rows) for run, rows in progress if is_slow(run.recent, stop.tol)]
    if not slow:
        return
    if stop.kkt_tol is None:
        for run, _ in slow:
            run.converged = True
        return
    Wt, Ft = [group.W[rows] for _, rows in slow], [group.F[rows] for _, rows in slow]
    for (run, _), kkt in zip(slow, kkt_residuals(group.X, Wt, Ft), strict=True):
        run.kkt = kkt
        run.converged = kkt <= stop.kkt_tol
        run.recent = run.recent[-1:]


def kkt_residuals(X, Wt: list[Tensor], Ft: list[Tensor]) -> list[float]:
    """How far each fit is from a stationary point, 0 being there; blind to the scale of components.

    Exact coordinate descent would move the entries of one factor V by V − max(0, V − ∇/G_kk), each
    alone; nothing moves where the Karush–Kuhn–Tucker conditions hold. The residual is the norm of
    that move over the norm of V, component k weighted by G_kk, for the worse of both factors.

    Args:
        X: a matrix or a `Stack`, features × images.
        Wt: of each fit its rank × features factor.
        Ft: of each fit its rank × images factor.

    Returns:
        One number for each fit; infinity for a model of zeros, which no step can change.

    Example:
        >>> W, F = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0]])
        >>> there, beside = kkt_residuals(W.T @ F, [W, W], [F, 1.1 * F])
        >>> there, round(beside, 2)
        (0.0, 0.09)
    """
    share = share_of(X)
    pairs = [_balanced(*pair, share) for pair in zip(Wt, Ft, strict=True)]
    Wt, Ft = [W for W, _ in pairs], [F for _, F in pairs]
    cuts = [len(W) for W in Wt]
    W, F, parts = torch.cat(Wt), torch.cat(Ft), []

    def multiply(part, images: slice) -> Tensor:
        parts.append(W @ part)
        return F[:, images]

    of_W = _pass_over(X, multiply).split(cuts)
    of_F = torch.cat(parts, dim=1).split(cuts)
    residuals = []
    for W, F, BF, BW in zip(Wt, Ft, of_F, of_W, strict=True):
        of_images = _ratio(share.total(_moved(F, BF, W @ W.T)))
        of_features = _ratio(_moved(W, BW, share.total(F @ F.T)))
        unknown = math.isnan(of_images) or math.isnan(of_features)
        residuals.append(math.nan if unknown else max(of_images, of_features))
    return share.decided(residuals)


def _balanced(W: Tensor, F: Tensor, share: Share) -> tuple[Tensor, Tensor]:
    """The same model, both factors of each component of one size."""
    ratio = share.largest(F).sqrt() / W.amax(dim=1).sqrt()
    power = ratio / torch.frexp(ratio).mantissa  # of two, so that nothing is rounded
    power = torch.where(power.isfinite() & (power > 0), power, 1.0)
    power = share.led(power)[:, None]
    return W * power, F / power


def _moved(V: Tensor, B: Tensor, G: Tensor) -> Tensor:
    """The squared norms of the move of coordinate descent, and of V."""
    weight = G.diagonal()
    step = V - (V + (B - G @ V) * _inverse(weight)[:, None]).clamp_(min=0)
    return torch.stack([weight @ A.square().sum(dim=1) for A in (step, V)])


def _ratio(squares: Tensor) -> float:
    """The norm of the move over that of what moves."""
    move, size = squares
    return math.inf if size == 0 else (move / size).sqrt().item()


def _mend(group: Group, G: Tensor, H: Tensor, moved: Tensor | None = None) -> None:
    """Balance components, and start dead ones again.

    Args:
        group: its runs, after a round.
        G, H: the Gram matrices of F and W after the round.
        moved: which components are those of runs that the round helped; None: all.
    """
    dead = group.balance(G.diagonal(), H.diagonal(), moved)
    if dead and not isinstance(group.X, Nearby):  # which does not know what they miss
        _revive(group, dead)


def _revive(group: Group, dead: Sequence[int]) -> None:
    """Start components that are dead again, from what the model lacks most in some image."""
    X, share, count = group.X, group.share, group.share.images
    assert not isinstance(X, Nearby)  # which has no columns
    (room,) = share.decided([X.at_once if X.at_once < X.shape[1] else count])
    chosen = (
        torch.linspace(0, count - 1, min(LOOK, int(room)), dtype=torch.float32)
        .long()
        .to(group.F.device)
    )
    mine, looked = share.mine(chosen), share.among(chosen)
    for run, rows in zip(group.active, group.rows, strict=True):
        own = [k for k in dead if rows.start <= k < rows.stop]
        if not own or run.revived >= len(run.Wt):  # some have nothing left to explain
            continue
        model = group.F[rows][:, mine].T @ group.W[rows]
        lack = (X.columns(mine) - model).clamp_(min=0)  # chosen images × features
        size = looked.spread(lack.square().sum(dim=1))
        for k, image in zip(own, size.argsort(descending=True).tolist(), strict=False):
            if size[image] > 1e-9 * group.energy / count:
                group.W[k] = group.Wy[k] = looked.row(lack, image)
                group.F[k] = 0
                if group.near:
                    group.near.forget(k)
        run.revived += len(own)
