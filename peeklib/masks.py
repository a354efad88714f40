"""Entries that a fit does not see: a tenth of them is hidden, and predicted from the others.

X is the stack of all blocks, features × images, each block times the square root of its weight; the
model is W Fᵀ. Features and images are dealt at random into `FOLDS` groups each, and the images of
group g hide the features of group g; here with three groups, · hidden and x seen:

                  images
                  0  1  2
    features  0   ·  x  x        This is the diagonal pattern of Wold (1978), shuffled. Each row
              1   x  ·  x        and each column loses the same share, and none is hidden whole.
              2   x  x  ·

A round fills in what is hidden by the model so far, and then goes down as if all had been seen, by
the updates of `solvers` (expectation and maximization, Srebro & Jaakkola 2003): the loss of the
seen entries never rises. The pattern makes that cheap. Hidden entries of group g add (W_gᵀ W_g) F_gᵀ
to the product Wᵀ X of the seen ones; all ranks share that product, and no model is ever written out.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Stack
from .nmf import random_start
from .solvers import Group, Run, hals_update, is_slow

FOLDS = 10  # groups of features and of images: one entry in ten is hidden
ROUNDS, TOL = 100, 2e-4  # of a fit: errors of hidden entries settle long before the factors do


@dataclass(frozen=True)
class Masked:
    """X, dealt into groups, its rows and columns by group; a group is filled up with zeros.

    Example:
        >>> data = Stack.of(torch.ones(3, 6))
        >>> X = hide(data, seed=0)
        >>> X.seen.blocks["X"].int()  # three groups, of one feature and two images each
        tensor([[0, 0, 1, 1, 1, 1],
                [1, 1, 0, 0, 1, 1],
                [1, 1, 1, 1, 0, 0]], dtype=torch.int32)
    """

    seen: Stack  #: one block, groups · features of each × groups · images of each; hidden: 0
    hidden: Tensor  #: groups × features of each × images of each
    features: Tensor  #: the row of each feature
    images: Tensor  #: the column of each image
    hidden_energy: float  #: ‖hidden‖², if X were as large there as it is on the whole
    seen_energy: float  #: ‖seen‖² likewise

    @property
    def matrix(self) -> Tensor:
        """`seen`, as a tensor.

        Returns:
            Rows × columns.
        """
        block = self.seen.blocks["X"]
        assert isinstance(block, Tensor)  # it is none of the sparse ones
        return block


def hide(data: Stack, seed: int) -> Masked:
    """Hide one entry in `FOLDS`, or in as many as there are features or images.

    Args:
        data: two or more features and images.
        seed: of the groups.

    Returns:
        A copy of all entries, weights included: those to fit, and those to predict.

    Example:
        >>> data = Stack.of(torch.ones(30, 50))
        >>> X = hide(data, seed=0)
        >>> X.hidden.shape, X.seen.total_energy
        (torch.Size([10, 3, 5]), 1350.0)
    """
    generator = torch.Generator().manual_seed(seed)
    groups = min(FOLDS, *data.shape)
    sizes = [len(block) for block in data.blocks.values()]
    features, height = _deal(sizes, groups, generator)
    images, width = _deal([data.shape[1]], groups, generator)
    features, images = features.to(data.device), images.to(data.device)
    X = torch.zeros(groups * height, groups * width, dtype=data.dtype, device=data.device)
    for name, rows in data.rows.items():
        block = data.blocks[name]
        assert isinstance(block, Tensor)  # sparse ones are refused
        X[features[rows, None], images] = block * data.multipliers[name]
    tiles = X.view(groups, height, groups, width).diagonal(dim1=0, dim2=2)
    hidden = tiles.permute(2, 0, 1).clone()
    tiles.zero_()
    entries = (features // height).bincount() @ (images // width).bincount()
    share = entries.item() / math.prod(data.shape)
    energy = data.total_energy
    seen = Stack.of(X)
    return Masked(seen, hidden, features, images, share * energy, (1 - share) * energy)


def _deal(sizes: Iterable[int], groups: int, generator: torch.Generator) -> tuple[Tensor, int]:
    """A place for each of some things, shuffled within their kinds, dealt to the groups in turn.

    Returns:
        Places, those of a group in a row; and how many places a group has.
    """
    order, first = [], 0
    for size in sizes:
        order.append(first + torch.randperm(size, generator=generator))
        first += size
    turn = torch.arange(first)
    size = math.ceil(first / groups)
    place = torch.empty_like(turn)
    place[torch.cat(order)] = turn % groups * size + turn // groups
    return place, size


def start(X: Masked, data: Stack, rank: int, seed: int) -> Run:
    """The random start of `coupled_nmf`, with a model as large as the data on average.

    Args:
        X: what will be fitted,
        data: and what it was made from.
        rank: number of components.
        seed: of the start.

    Returns:
        A run on X, of factors that are zero where its groups are filled up.

    Example:
        >>> data = Stack.of(torch.ones(3, 7))
        >>> start(hide(data, seed=0), data, rank=2, seed=0).Ft.count_nonzero(dim=1)
        tensor([7, 7])
    """
    W, F = random_start(data, rank, seed)
    rows, columns = X.seen.shape
    Wt, Ft = W.new_zeros(rank, rows), F.new_zeros(rank, columns)
    mean = W.mean() * F.mean() * rank  # of the model
    Wt[:, X.features] = W
    Ft[:, X.images] = F * (X.matrix.mean() / mean)
    return Run(Wt, Ft)


def feature_means(X: Masked) -> tuple[Tensor, Tensor]:
    """The mean of each feature over its seen entries: what a prediction has to beat.

    Returns:
        A model of rank 1, 1 × rows of X and 1 × its columns.

    Example:
        >>> data = Stack.of(torch.ones(3, 6))
        >>> [V.unique() for V in feature_means(hide(data, seed=0))]
        [tensor([1.]), tensor([1.])]
    """
    groups = len(X.hidden)
    Ft = X.hidden.new_zeros(1, X.seen.shape[1])
    Ft[:, X.images] = 1
    own = _tiles(Ft, groups).sum(dim=2)  # groups × 1: images that hide a feature
    count = (Ft.sum() - own).repeat_interleave(X.hidden.shape[1], dim=0)
    return (X.matrix.sum(dim=1, keepdim=True) / count).T, Ft


def hidden_error(X: Masked, Wt: Tensor, Ft: Tensor) -> float:
    """How far a model is from the hidden entries.

    Args:
        X: what was fitted.
        Wt, Ft: the model, rank × rows of X and rank × its columns.

    Returns:
        The root mean square of their residuals over that of the data.

    Example:
        >>> data = Stack.of(torch.ones(3, 6))
        >>> hidden_error(hide(data, seed=0), torch.ones(1, 3), torch.ones(1, 6))
        0.0
    """
    model = _tiles(Wt, len(X.hidden)).mT @ _tiles(Ft, len(X.hidden))
    lost = (X.hidden - model).square().sum(dim=2).double().sum().item()
    return math.sqrt(lost / X.hidden_energy)


def fit_seen(X: Masked, runs: list[Run], after_round: Callable[[], object]) -> list[Run]:
    """Fit the seen entries alone, by coordinate descent that extrapolates (Ang & Gillis 2019).

    Args:
        X: what to fit.
        runs: where to start, all zero where X is filled up.
        after_round: called with nothing.

    Returns:
        Their factors after `ROUNDS` rounds, or once an error falls by no more than `TOL` of itself
        a round; and their errors of the seen entries, as from `hidden_error`.

    Example:
        >>> data = Stack.of(torch.eye(2).repeat(4, 5))
        >>> X = hide(data, seed=0)
        >>> (run,) = fit_seen(X, [start(X, data, rank=2, seed=0)], after_round=list)
        >>> hidden_error(X, run.Wt, run.Ft) < 0.01 < hidden_error(X, *feature_means(X))
        True
    """
    group = Group(X.seen, X.seen.total_energy, runs)
    for _ in range(ROUNDS):
        _round(group, X)
        after_round()
        group.keep([not is_slow(run.recent, TOL) for run in group.active])
        if not group.active:
            break
    group.write_back()
    return group.runs


def _round(group: Group, X: Masked) -> None:
    """F, then W, each beyond where it came to; what raised the loss is undone."""
    F, W = group.F.clone(), group.Wy.clone()
    groups = len(X.hidden)
    _update(F, group.Wy, group.Wy @ group.X, group.rows, groups)
    beta = group.by_row(run.pace.beta for run in group.active)
    F = torch.lerp(group.F, F, 1 + beta).clamp_(min=0)
    B = F @ group.X.T
    _update(W, F, B, group.rows, groups)
    helped = []
    for run, loss in zip(group.active, _losses(group, B, W, F, groups), strict=True):
        helped.append(loss <= run.loss)
        run.pace = run.pace.faster() if helped[-1] else run.pace.slower()
        run.go_on(min(loss, run.loss), X.seen_energy)
    group.accept(W, F, beta, helped)
    group.balance(group.F.square().sum(dim=1), group.W.square().sum(dim=1))


def _update(V: Tensor, U: Tensor, B: Tensor, rows: Sequence[slice], groups: int) -> None:
    """Coordinate descent for V, in place, on the data filled in by the model so far.

    B: the other factor U times the seen data, total rank × n.
    """
    B, G = B.clone(), U.new_zeros(len(U), len(U))
    for own in rows:
        grams = _grams(U[own], groups)
        G[own, own] = grams.sum(dim=0)
        B[own] += (grams @ _tiles(V[own], groups)).transpose(0, 1).flatten(1)
    hals_update(V, B, G, rows)


def _losses(group: Group, B: Tensor, W: Tensor, F: Tensor, groups: int) -> list[float]:
    """‖X − W Fᵀ‖² of the seen entries for each active run; B: F times the seen data."""
    losses = []
    for own, explained in zip(group.rows, group.sums(B, W), strict=True):
        of_F, of_W = _grams(F[own], groups).double(), _grams(W[own], groups).double()
        model = ((of_F.sum(dim=0) - of_F) * of_W).sum().item()  # a group does not see its own
        losses.append(max(group.energy - 2 * explained + model, 0.0))
    return losses


def _tiles(V: Tensor, groups: int) -> Tensor:
    """A factor by group: groups × rank × places of each."""
    return V.unflatten(1, (groups, -1)).transpose(0, 1)


def _grams(V: Tensor, groups: int) -> Tensor:
    """Gram matrices of a factor by group: groups × rank × rank."""
    tiles = _tiles(V, groups)
    return tiles @ tiles.mT
