"""How the factors of `coupled_nmf` are found: updates, compression, and the descent that all fits share.

X is the stack, features × images. Both factors lie on their side, `Wt` (rank × features) and `Ft`
(rank × images), so that a component is one contiguous row. For ‖X − W Fᵀ‖² each factor needs two small
matrices that come from the other one,

    F:  B = Wᵀ X   (rank × images)      G = Wᵀ W   (rank × rank)
    W:  B = Fᵀ Xᵀ  (rank × features)    G = Fᵀ F   (rank × rank)

and the loss is ‖X‖² − 2⟨B, Wᵀ⟩ + ⟨Fᵀ F, Wᵀ W⟩: no features × images temporary is ever formed. Several fits
run side by side, their components one below the other: one product with X then serves them all, and their
Gram matrices are the blocks on the diagonal of one matrix.
"""

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, product

import torch
from torch import Tensor

from .crew import COLUMNS, SWEEPERS, each, pieces

EPS = 1e-9  # added to the denominator of MU; the paper adds "a small constant" without naming it
START, GROW, GROW_BOUND, SHRINK = 0.3, 1.1, 1.01, 1.5  # the extrapolation, see Ang & Gillis (2019)
BLOCK = 17  # components that one product of a sweep serves
WINDOW = 5  # iterations whose progress decides whether to stop
LOOK = 256  # images among which a dead component finds its new start

Update = Callable[[Tensor, Tensor, Tensor, Sequence[slice]], None]


def mu_update(V: Tensor, B: Tensor, G: Tensor, rows: Sequence[slice]) -> None:
    """The multiplicative rule of Lee & Seung (2001, theorem 1), in place: the loss never rises.

    V, B: total rank × n, G: total rank × total rank; rows: the components of each fit.
    """
    for fit in rows:
        V[fit] *= B[fit] / (G[fit, fit] @ V[fit] + EPS)


def hals_update(V: Tensor, B: Tensor, G: Tensor, rows: Sequence[slice], sweeps: int = 2) -> None:
    """Hierarchical alternating least squares, in place: exact coordinate descent over the rows of V ≥ 0.

    With all other rows fixed, the best row k is max(0, V_k + (B_k − G_k V) / G_kk) (Cichocki & Phan 2009).
    B costs more than a sweep, so it serves for a few `sweeps` (Gillis & Glineur 2012). A component whose partner
    is zero (G_kk = 0) is left alone. Shapes as in `mu_update`.
    """
    if V.is_cuda and (gpu := _gpu()) and gpu.takes(V, rows):
        return gpu.sweep(V, B, G, rows, sweeps)
    scale = _inverse(G.diagonal())[:, None]
    G = G * scale

    tiles = list(product(rows, pieces(V.shape[1], COLUMNS, len(rows))))

    def some(part: slice) -> None:
        for fit, columns in tiles[part]:
            v, b, g = V[fit, columns], B[fit, columns] * scale[fit], G[fit, fit]
            for _ in range(sweeps):
                _sweep(v, b, g)

    each(len(tiles), some, least=len(tiles) / SWEEPERS)


def _inverse(weight: Tensor) -> Tensor:
    """1 / weight, or 0 where that is 0 or too small to divide by."""
    return torch.where(weight > torch.finfo(weight.dtype).tiny, weight, torch.inf).reciprocal()


@functools.cache
def _gpu():
    """The module of the fused kernel, or None where Triton is not installed."""
    try:
        from . import gpu
    except ImportError:
        return None
    return gpu


def _sweep(V: Tensor, B: Tensor, G: Tensor) -> None:
    """One step of coordinate descent for each row, in order, where G_kk = 1.

    The moves of `BLOCK` rows come from one product; each is then corrected for the rows that moved before it.
    """
    moved = V.new_empty(BLOCK, V.shape[1])
    before = [moved[:k].T for k in range(BLOCK)]
    for first in range(0, len(V), BLOCK):
        v, g = V[first : first + BLOCK], G[first : first + BLOCK]
        moves, lowest = (
            torch.addmm(B[first : first + BLOCK], g, V, alpha=-1),
            -v,
        )  # an entry may go to 0, not below
        for k, (move, low, out) in enumerate(zip(moves, lowest, moved, strict=False)):
            if k:
                move = torch.addmv(move, before[k], g[k, first : first + k], alpha=-1)
            torch.maximum(move, low, out=out)
        v += moved[: len(v)]


place = functools.partial(hals_update, sweeps=12)  # from zero, nearly to the end
UPDATES: dict[str, Update] = {"auto": hals_update, "hals": hals_update, "mu": mu_update}


class LowRank:
    """X ≈ Q B, in place of X wherever it stands on the right of a product.

    Q: features × width, B: width × images. A product with rank rows costs rank · width · (features + images)
    instead of rank · features · images.
    """

    def __init__(self, Q: Tensor, B: Tensor):
        self.Q, self.B = Q, B
        self.shape = len(Q), B.shape[1]

    @property
    def T(self):
        return LowRank(self.B.T, self.Q.T)

    def __rmatmul__(self, V: Tensor) -> Tensor:
        return (V @ self.Q) @ self.B

    def columns(self, images: Tensor) -> Tensor:
        """Some columns, as rows: images × features."""
        return (self.Q @ self.B[:, images]).T


def compress(X, width: int, seed: int = 0, *, iterations: int = 1) -> LowRank:
    """X projected on about its leading `width` left singular directions (Halko, Martinsson & Tropp 2011, alg. 4.4).

    A random sketch and, by default, one power iteration: four products with X, shared by every rank and seed fitted
    afterwards. More `iterations` bring the directions closer to the singular ones.
    """
    draw = torch.Generator().manual_seed(seed)
    sketch = torch.randn(width, X.shape[1], generator=draw, dtype=X.dtype).to(X.device)
    Q = _orthonormal(sketch @ X.T)  # width × features
    for _ in range(iterations):
        Q = _orthonormal((Q @ X) @ X.T)
    return LowRank(Q.T, Q @ X)


def _orthonormal(V: Tensor) -> Tensor:
    """Orthonormal rows that span those of V."""
    return torch.linalg.qr(V.T).Q.T


@dataclass
class Run:
    """One fit on its way: its factors on their side, and what it has been through."""

    Wt: Tensor
    Ft: Tensor
    history: list[float] = field(default_factory=list)  # relative errors
    begun: int = 0  # where in `history` the present X took over
    loss: float = math.inf
    kkt: float = math.nan
    done: bool = False
    converged: bool = False
    interrupted: bool = False
    seconds: float = 0.0
    beta: float = START  # how far to extrapolate,
    bound: float = 1.0  # how far at most,
    good: float = START  # and how far the last time that it helped
    revived: int = 0  # components

    def slow(self, tol: float) -> bool:
        """Whether the last iterations on this X brought less than `tol` each, relative to the error."""
        recent = self.history[self.begun :][-WINDOW - 1 :]
        return (
            tol > 0 and len(recent) > WINDOW and recent[0] - recent[-1] <= WINDOW * tol * recent[-1]
        )

    def take(self, loss: float, energy: float, undo: bool) -> bool:
        """Take note of the loss after a step; False if it rose, beyond rounding, so that the step is undone."""
        helped = not undo or loss <= self.loss + torch.finfo(self.Wt.dtype).eps * energy
        if helped:
            self.loss, self.good = loss, self.beta
            self.bound = min(1.0, GROW_BOUND * self.bound)
            self.beta = min(self.bound, GROW * self.beta)
        else:
            self.bound, self.beta = self.good, self.beta / SHRINK
        self.history.append(math.sqrt(self.loss / energy))
        return helped


class Side:
    """Runs side by side: `W` and `F` are the factors they have; extrapolation goes on from `Wy` instead of W."""

    def __init__(self, runs: Sequence[Run]):
        self.W, self.F = torch.cat([run.Wt for run in runs]), torch.cat([run.Ft for run in runs])
        self.Wy = self.W.clone()
        self._arrange(list(runs))

    def _arrange(self, runs: list[Run]) -> None:
        self.runs = runs
        ends = list(accumulate((len(run.Wt) for run in runs), initial=0))
        self.rows = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        ranks = torch.tensor([len(run.Wt) for run in runs], dtype=torch.long)
        self.owner = (
            torch.arange(len(runs)).repeat_interleave(ranks).to(self.W.device)
        )  # the run of each row

    def write_back(self) -> None:
        """Give every run its factors."""
        for run, rows in zip(self.runs, self.rows, strict=True):
            run.Wt, run.Ft = self.W[rows], self.F[rows]

    def drop_done(self) -> None:
        """Go on without the runs that are done."""
        if any(run.done for run in self.runs):
            stay = self.by_row(not run.done for run in self.runs)[:, 0] > 0
            self.write_back()
            self.W, self.F, self.Wy = self.W[stay], self.F[stay], self.Wy[stay]
            self._arrange([run for run in self.runs if not run.done])

    def by_row(self, values: Iterable[float]) -> Tensor:
        """One number of each run, as a column with an entry for each row."""
        return torch.tensor([float(v) for v in values], dtype=self.W.dtype).to(self.W.device)[
            self.owner, None
        ]

    def sums(self, A: Tensor, B: Tensor) -> list[float]:
        """⟨A, B⟩ of each run, in float64."""
        rows = (A.double() * B.double()).sum(dim=1)
        return rows.new_zeros(len(self.runs)).index_add(0, self.owner, rows).tolist()

    def grams(self, V: Tensor) -> Tensor:
        """V Vᵀ of each run on the diagonal, zero elsewhere."""
        if (
            V.is_cuda
        ):  # one launch; the products outside of the diagonal cost less than more launches
            return (V @ V.T) * (self.owner[:, None] == self.owner)
        G = V.new_zeros(len(V), len(V))
        for rows in self.rows:
            G[rows, rows] = V[rows] @ V[rows].T
        return G

    def losses(self, energy: float, B: Tensor, G: Tensor, W: Tensor, H: Tensor) -> list[float]:
        """‖X‖² − 2⟨B, W⟩ + ⟨G, H⟩ of each run."""
        parts = zip(self.sums(B, W), self.sums(G, H), strict=True)
        return [max(energy - 2 * explained + model, 0.0) for explained, model in parts]

    def accept(self, W: Tensor, F: Tensor, beta: Tensor, helped: Sequence[bool]) -> None:
        """Move the runs that a step helped; those go on from a point beyond, the others from where they were."""
        Wy = torch.lerp(self.W, W, 1 + beta).clamp_(min=0)
        if not all(helped):
            yes = self.by_row(helped) > 0
            W, F, Wy = (
                torch.where(yes, *pair) for pair in ((W, self.W), (F, self.F), (Wy, self.W))
            )
        self.W, self.F, self.Wy = W, F, Wy


def descend(
    X,
    energy: float,
    runs: Sequence[Run],
    solver: str,
    *,
    begin: str,
    max_iter: int,
    tol: float,
    kkt_tol: float,
    bar,
) -> None:
    """Iterate all runs on X, in place, until each has converged or has `max_iter` iterations behind it.

    Converged means that the last `WINDOW` iterations lowered the relative error by at most `tol` of it on average,
    and that the KKT residual is at most `kkt_tol`. An interrupted run holds the factors of its last step; its loss is
    infinite if there was none since `begin` was "place".

    X: the stack, or a `LowRank` of it; energy: ‖X‖²; begin: take the factors as "given", "scale" F to fit best, or
    "place" the images anew, whatever F is.
    """
    side, clock = Side(runs), time.perf_counter()
    try:
        _begin(X, energy, side, begin)
        while side.runs:
            for run in side.runs:
                run.done = run.converged or len(run.history) > max_iter
            side.drop_done()
            if side.runs:
                _step(X, energy, side, solver)
                _check(X, side, tol, kkt_tol)
                bar.update(len(side.runs))
            clock = _share_time(side, clock)
    except KeyboardInterrupt:
        for run in side.runs:
            run.interrupted = True
    side.write_back()


def _begin(X, energy: float, side: Side, how: str) -> None:
    """Take note of the loss of the factors as they are, once F is scaled; or of none, if F is to be found."""
    for run in side.runs:
        run.loss, run.done, run.converged, run.begun = math.inf, False, False, len(run.history)
    if how == "place":
        side.F = torch.zeros_like(side.F)
        return
    B, G, H = side.F @ X.T, side.grams(side.F), side.grams(side.W)
    if how == "scale":
        best = side.by_row(
            b / g for b, g in zip(side.sums(B, side.W), side.sums(G, H), strict=True)
        )
        side.F, B, G = side.F * best, B * best, G * best**2
    for run, loss in zip(side.runs, side.losses(energy, B, G, side.W, H), strict=True):
        run.loss = loss
        run.history[-1:] = [math.sqrt(loss / energy)]
        run.begun = len(run.history) - 1


def _step(X, energy: float, side: Side, solver: str) -> None:
    """F, then W. "auto" extrapolates both and undoes what raised the loss (Ang & Gillis 2019)."""
    update, extrapolate, known = UPDATES[solver], solver == "auto", side.runs[0].loss < math.inf
    F, W = (side.F.clone(), side.Wy.clone()) if extrapolate else (side.F, side.W)
    (update if known else place)(F, W @ X, side.grams(W), side.rows)
    if extrapolate:
        beta = side.by_row(run.beta if known else 0 for run in side.runs)
        F = torch.lerp(side.F, F, 1 + beta).clamp_(min=0)
    B, G = F @ X.T, side.grams(F)
    update(W, B, G, side.rows)
    H = side.grams(W)
    losses = side.losses(energy, B, G, W, H)
    helped = [
        run.take(loss, energy, extrapolate) for run, loss in zip(side.runs, losses, strict=True)
    ]
    if extrapolate:
        side.accept(W, F, beta, helped)
    if solver != "mu":
        alive = (_inverse(G.diagonal()) > 0) & (_inverse(H.diagonal()) > 0) | (
            side.by_row(helped)[:, 0] == 0
        )
        _revive(X, energy, side, alive)


def _check(X, side: Side, tol: float, kkt_tol: float) -> None:
    """Find the runs that have converged; one that is slow far from a stationary point is asked again `WINDOW` later."""
    due = [(run, rows) for run, rows in zip(side.runs, side.rows, strict=True) if run.slow(tol)]
    if due and math.isfinite(kkt_tol):
        residuals = kkt_residuals(
            X, [side.W[rows] for _, rows in due], [side.F[rows] for _, rows in due]
        )
        for (run, _), run.kkt in zip(due, residuals, strict=True):
            run.converged, run.begun = run.kkt <= kkt_tol, len(run.history) - 1
    else:
        for run, _ in due:
            run.converged = True


def kkt_residuals(X, Wt: Sequence[Tensor], Ft: Sequence[Tensor]) -> list[float]:
    """How far each fit is from a stationary point, 0 being there; no unit, and blind to the scale of components.

    Exact coordinate descent would move the entries of one factor V by V − max(0, V − ∇/G_kk), each alone; nothing
    moves where the Karush–Kuhn–Tucker conditions hold. The residual is the norm of that move over the norm of V,
    component k weighted by G_kk, for the worse of both factors.
    """
    cuts = [len(W) for W in Wt]
    products = zip((torch.cat(Wt) @ X).split(cuts), (torch.cat(Ft) @ X.T).split(cuts), strict=True)
    return [
        max(_move(F, BF, W @ W.T), _move(W, BW, F @ F.T))
        for W, F, (BF, BW) in zip(Wt, Ft, products, strict=True)
    ]


def _move(V: Tensor, B: Tensor, G: Tensor) -> float:
    weight = G.diagonal()
    step = V - (V + (B - G @ V) * _inverse(weight)[:, None]).clamp_(min=0)
    size = weight @ V.square().sum(dim=1)
    return ((weight @ step.square().sum(dim=1)) / size).sqrt().item() if size > 0 else 0.0


def _revive(X, energy: float, side: Side, alive: Tensor) -> None:
    """Start components that are not alive again, from what the model lacks most in some image."""
    dead = (~alive).nonzero().flatten().tolist()
    for run, rows in zip(side.runs, side.rows, strict=True) if dead else []:
        mine = [k for k in dead if rows.start <= k < rows.stop]
        if not mine or run.revived >= len(run.Wt):  # some have nothing left to explain
            continue
        images = torch.linspace(0, X.shape[1] - 1, min(LOOK, X.shape[1])).long().to(side.F.device)
        lack = (X.columns(images) - side.F[rows][:, images].T @ side.W[rows]).clamp_(
            min=0
        )  # images × features
        size = lack.square().sum(dim=1)
        for k, image in zip(mine, size.argsort(descending=True).tolist(), strict=False):
            if size[image] > 1e-9 * energy / X.shape[1]:
                side.W[k] = side.Wy[k] = lack[image]
                side.F[k] = 0
        run.revived += len(mine)


def _share_time(side: Side, clock: float) -> float:
    """Charge the time since `clock` to the runs that are on their way, by rank."""
    now, total = time.perf_counter(), len(side.W)
    for run in side.runs:
        run.seconds += (now - clock) * len(run.Wt) / total
    return now
