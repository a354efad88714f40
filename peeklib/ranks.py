"""Which rank? How well hidden entries are predicted, and what other starts find.

Errors say how many components the data bears out, stability how many can be told apart. Sources
stand at `choose_rank`; how entries are hidden, and what is seen fitted, in `masks`.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from tqdm.auto import tqdm

from .blocks import Stack, as_matrix, check_count, check_seed, full_precision
from .crew import crew
from .explorer import show
from .masks import FOLDS, ROUNDS, feature_means, fit_seen, hidden_error, hide, start
from .nmf import CoupledFactors, checked_stack, rank_sweep
from .plots import canvas, theme
from .solvers import all_or_nothing

IMAGES = 2000  # at most these many take part,
PER_COMPONENT = 20  # or these many for each component of the largest rank
TOGETHER = 500  # components that share a product
EXACT = 0.01  # of the size of the data: a fit that ends after some rounds comes no closer for sure
STABLE = 0.9  # two cosines of 0.95, "can be considered equal" (Lorenzo-Seva & ten Berge 2006)


@dataclass(frozen=True, repr=False, eq=False)
class RankChoice:
    """What `choose_rank` found; it shows itself in a notebook.

    Errors are root mean squares of residuals of the weighted data, as a share of its own root mean
    square: 0 is exact, 1 is no better than zeros. Columns of `table`: `rank`; `held_out_error`, of
    hidden entries, the mean over the masks, and `held_out_sd`, its standard deviation (over n - 1);
    `training_error`, of the seen entries; `stability`, from 0 to 1, the mean over pairs of starts,
    always 1 at rank 1.

    Example:
        >>> import peeklib as pk
        >>> choice = pk.choose_rank({"input": torch.eye(3).repeat(4, 8)}, [2, 3], seeds=(0, 1))
        >>> choice.rank, list(choice.table["rank"])
        (3, [2, 3])
    """

    rank: int  #: the suggestion
    why: str  #: how it was picked, in plain words
    title: str  #: the same in a few words
    table: pd.DataFrame  #: a row for each rank, in rising order
    mean_error: float  #: of hidden entries, where each feature's mean predicts them
    seeds: tuple[int, ...]  #: each of a mask and of a random start

    def __repr__(self):
        return f"RankChoice(rank={self.rank}): {self.why}"

    def _repr_html_(self) -> str:
        picture = show(self.figure(), f"Errors and stability against rank. {self.why}")
        return f"{picture._repr_html_()}<p>{html.escape(self.why)}</p>"

    @theme()
    def figure(self) -> Figure:
        """Both criteria over the rank.

        Returns:
            A figure of two panels: errors of hidden and of seen entries; and stability. A bar
            reaches one standard error of the mean over the masks, `held_out_sd` over the root of
            their number, to either side. The dotted line is the choice.

        Example:
            >>> import peeklib as pk
            >>> choice = pk.choose_rank({"input": torch.eye(3).repeat(4, 8)}, [2, 3], seeds=(0, 1))
            >>> [ax.get_ylabel() for ax in choice.figure().axes]
            ['error (share of the data)', 'stability']
        """
        import seaborn as sns

        figure, (above, below) = canvas(2, 1, height=5.2, title=self.title, sharex=True)
        hidden, seen, stability = sns.color_palette("colorblind", 3)
        _draw_errors(above, self, hidden, seen)
        _draw_stability(below, self.table, stability)
        for ax in (above, below):
            ax.axvline(self.rank, color="black", linestyle=":", linewidth=1)
            sns.despine(ax=ax)
        if len(self.table) <= 10:
            below.set_xticks(self.table["rank"])
        else:
            below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.set_xlabel("rank (components)")
        return figure


def _draw_errors(ax: Axes, choice: RankChoice, hidden, seen) -> None:
    ranks, error = choice.table["rank"], choice.table["held_out_error"]
    bars = choice.table["held_out_sd"] / len(choice.seeds) ** 0.5
    line = {"color": hidden, "marker": "o", "capsize": 3}
    ax.errorbar(ranks, error, bars, label="hidden entries", **line)
    line = {"color": seen, "marker": "s", "linestyle": "--"}
    ax.plot(ranks, choice.table["training_error"], label="seen entries", **line)
    _mark(ax, choice.mean_error, "hidden, if feature means predict")
    ax.set(ylabel="error (share of the data)", ylim=(0, None))
    ax.legend(frameon=False, fontsize=10)


def _draw_stability(ax: Axes, table: pd.DataFrame, colour) -> None:
    ax.plot(table["rank"], table["stability"], color=colour, marker="^")
    _mark(ax, STABLE, "stable above")
    ax.set(ylabel="stability", ylim=(0, 1.1), yticks=[0, 0.5, 1])


def _mark(ax: Axes, height: float, text: str) -> None:
    """A line across the panel, named at its right end."""
    ax.axhline(height, color="gray", linewidth=1)
    style = {"fontsize": 10, "va": "bottom", "ha": "right"}
    ax.text(1, height, text, transform=ax.get_yaxis_transform(), **style)


@full_precision()
def choose_rank(
    blocks: Mapping[str, Any],
    ranks: Iterable[int],
    *,
    weights: Mapping[str, float] | None = None,
    seeds: Iterable[int] = range(5),
    device=None,
    progress: bool = False,
) -> RankChoice:
    """Suggest a rank for `coupled_nmf`, by entries that it has not seen and by other starts.

    Each seed hides another tenth of the entries, for a fit of the others to predict
    (cross-validation by Wold 1978; see Owen & Perry 2009). The suggestion is the smallest rank whose error of
    hidden entries lies within one standard error, over the masks, of the least (Breiman et al.
    1984), or is no more than a hundredth of the data; the smallest of all where no
    rank predicts them better than the mean of each feature.

    Stability does not decide, but `why` tells when it disagrees. It is how alike the components are
    that `rank_sweep` finds in all entries from two of the seeds, on average (after Wu et al. 2016):
    matched one to one, each pair by the product of its cosines in W and in F.

    More than 2000 images are sampled, at random and once: 2000 of them, or 20 for each component of
    the largest rank. Beyond the data that takes the memory of two copies of the sample at most, and
    that of all factors. An interrupt raises KeyboardInterrupt. It is the work of one process, from its
    beginning to its end: it takes neither `group` nor `checkpoint`, as `rank_sweep` does.

    Args:
        blocks: dict of name → matrix, features × images, as for `coupled_nmf`.
        ranks: numbers of components to compare, in any order.
        weights, device: as for `coupled_nmf`.
        seeds: two or more, each of a mask and of a start.
        progress: show progress bars.

    Returns:
        The rank, the reason, and a table and a figure of both criteria.

    Raises:
        TypeError, ValueError, RuntimeError: before any work, for bad blocks, ranks, weights, seeds
            or device, or fewer than 10 features or images.

    Example:
        >>> import peeklib as pk
        >>> generator = torch.Generator().manual_seed(0)
        >>> W, F = (torch.rand(count, 3, generator=generator) ** 3 for count in (40, 60))
        >>> choice = pk.choose_rank({"input": W[:30] @ F.T, "relu": W[30:] @ F.T}, [2, 3, 4])
        >>> choice.rank
        3
    """
    ranks, seeds = _checked_ranks(ranks), _checked_seeds(seeds)
    data = _sample(_checked_data(blocks, ranks, weights, device), max(ranks))
    found = []
    bar = tqdm(total=len(seeds) * ROUNDS, disable=not progress, desc="choose_rank", leave=False)
    with bar, crew(data.device):
        for seed in seeds:
            found.append(_study(data, ranks, seed, bar.update))
            bar.update(ROUNDS * len(found) - bar.n)  # it may have ended early
    table = _table(ranks, found, _stability(data, ranks, seeds, progress))
    mean_error = float(np.mean([trial.mean_error for trial in found]))
    rank, title, why = suggest(table, mean_error, len(seeds), min(data.shape))
    return RankChoice(rank, why, title, table, mean_error, seeds)


def _checked_ranks(ranks) -> list[int]:
    if not isinstance(ranks, Iterable):
        raise TypeError(f"ranks is {ranks!r}; give several, such as range(1, 11)")
    found = sorted({check_count(rank, "rank") for rank in ranks})
    if not found:
        raise ValueError("choose_rank needs at least one rank")
    return found


def _checked_seeds(seeds) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds is {seeds!r}; give two or more, such as range(5)")
    found = tuple(dict.fromkeys(check_seed(seed) for seed in seeds))
    if len(found) < 2:
        raise ValueError(
            f"seeds are {list(found)}; give two or more different ones, as they are compared"
        )
    return found


def _checked_data(blocks, ranks: Iterable[int], weights, device) -> Stack:
    if isinstance(blocks, Mapping):  # entry by entry, so no sparse ones
        blocks = {name: as_matrix(block, name) for name, block in blocks.items()}
    data = checked_stack(blocks, ranks, "auto", weights, device)
    features, images = data.shape
    if min(features, images) < FOLDS:  # too much would be hidden at a time
        raise ValueError(
            f"the blocks have {features} features and {images} images; what is hidden can be "
            f"predicted from {FOLDS} or more of each. With fewer, compare the errors of fits: "
            "pk.rank_sweep(blocks, ranks).table()"
        )
    return data


def _sample(data: Stack, largest: int) -> Stack:
    """Some of the images where there are many."""
    images, most = data.shape[1], max(IMAGES, PER_COMPONENT * largest)
    if images <= most:
        return data
    chosen = torch.randperm(images, generator=torch.Generator().manual_seed(0))[:most]
    return data.take(chosen.sort().values.to(data.device))


@dataclass(frozen=True)
class _Trial:
    """Fits of one mask, by rank."""

    held_out: list[float]
    training: list[float]
    mean_error: float


def _study(data: Stack, ranks: Sequence[int], seed: int, after_round: Callable) -> _Trial:
    """Hide, fit, predict."""
    X = hide(data, seed)
    runs = []
    for batch in _batches(ranks):
        runs += fit_seen(X, [start(X, data, rank, seed) for rank in batch], after_round)
    return _Trial(
        held_out=[hidden_error(X, run.Wt, run.Ft) for run in runs],
        training=[run.history[-1] for run in runs],
        mean_error=hidden_error(X, *feature_means(X)),
    )


def _batches(ranks: Sequence[int]) -> Iterator[list[int]]:
    """Ranks to fit side by side: up to `TOGETHER` components, at least one rank."""
    batch: list[int] = []
    for rank in ranks:
        if batch and sum(batch) + rank > TOGETHER:
            yield batch
            batch = []
        batch.append(rank)
    yield batch


def _stability(
    data: Stack, ranks: Sequence[int], seeds: Sequence[int], progress: bool
) -> list[float]:
    """By rank, how alike the components from two seeds are, on average over the pairs."""
    weights = {name: multiplier**2 for name, multiplier in data.multipliers.items()}
    ask = {"weights": weights, "device": data.device, "progress": progress}
    with all_or_nothing():
        sweep = rank_sweep(data.blocks, ranks, seeds, **ask)
    found = []
    for rank in ranks:
        fits = [_factors(data, sweep[rank, seed]) for seed in seeds]
        alike = [similarity(*pair) for pair in combinations(fits, 2)]
        found.append(float(np.mean(alike)))
    return found


def _factors(data: Stack, fit: CoupledFactors) -> tuple[Tensor, Tensor]:
    """Of the weighted data, rank × features and rank × images."""
    parts = [W.T * data.multipliers[name] for name, W in fit.factors.items()]
    return torch.cat(parts, dim=1), fit.image_factor.T


def similarity(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """How alike two fits of the same rank are, whatever the order and scale of their components.

    Components are matched one to one, so that the sum of their similarities is largest. Of two
    components that is the product of the cosines of their rows in both factors, which is the cosine
    of the matrices that they stand for.

    Args:
        first, second: rank × features and rank × images.

    Returns:
        The mean over the components, from 0 to 1; a component of zeros counts 0.

    Example:
        >>> W, F = torch.eye(2, 5), torch.eye(2, 4)
        >>> similarity((W, F), (3 * W.flip(0), F.flip(0)))
        1.0
    """
    cosines = [_unit(a) @ _unit(b).T for a, b in zip(first, second, strict=True)]
    alike = (cosines[0] * cosines[1]).double().cpu().numpy()
    from scipy.optimize import linear_sum_assignment  # takes long to import, and sets filters

    return float(alike[linear_sum_assignment(alike, maximize=True)].mean())


def _unit(V: Tensor) -> Tensor:
    return torch.nn.functional.normalize(V, dim=1)


def _table(
    ranks: Sequence[int], found: Sequence[_Trial], stability: Sequence[float]
) -> pd.DataFrame:
    rows = []
    for k, rank in enumerate(ranks):
        held_out = np.array([trial.held_out[k] for trial in found])
        row = {
            "rank": rank,
            "held_out_error": held_out.mean(),
            "held_out_sd": held_out.std(ddof=1),
            "training_error": np.mean([trial.training[k] for trial in found]),
            "stability": stability[k],
        }
        rows.append(row)
    return pd.DataFrame(rows)


def suggest(table: pd.DataFrame, mean_error: float, masks: int, most: int) -> tuple[int, str, str]:
    """The rank that a table speaks for, by the rule of `choose_rank`.

    Args:
        table: as `RankChoice` describes it.
        mean_error: of hidden entries, where each feature's mean predicts them.
        masks: over which the errors were averaged.
        most: the largest rank that the data allows.

    Returns:
        The rank; the finding in a few words; and why, whatever the criteria say.

    Example:
        >>> table = pd.DataFrame({"rank": [2, 3], "stability": [1.0, 1.0]})
        >>> table = table.assign(held_out_error=[0.3, 0.2], held_out_sd=0.01)
        >>> suggest(table, mean_error=0.5, masks=5, most=9)[:2]
        (3, 'The error still falls at rank 3')
    """
    errors, stability = _by_rank(table, "held_out_error"), _by_rank(table, "stability")
    best = min(errors, key=lambda rank: errors[rank])
    bound = errors[best] + _by_rank(table, "held_out_sd")[best] / masks**0.5
    rank = next(rank for rank, error in errors.items() if error <= max(bound, EXACT))
    if errors[rank] > EXACT and errors[best] >= mean_error and len(errors) > 1:
        rank = min(errors)
        title = "No rank beats the mean of each feature"
        why = (
            f"No rank predicts hidden entries better ({errors[best]:.3g} at best) than the mean of "
            f"each feature does ({mean_error:.3g}), so there may be nothing to factorize; "
            f"rank {rank} is the smallest asked for."
        )
    else:
        title, why = _held_out_reason(errors, rank, best, most)
    if rank > 1:  # a single component comes back from any start, whatever the data
        why = f"{why} {_stability_reason(stability, rank)}"
    return rank, title, why


def _by_rank(table: pd.DataFrame, column: str) -> dict[int, float]:
    return dict(zip(table["rank"].tolist(), table[column].tolist(), strict=True))


def _held_out_reason(errors: dict[int, float], rank: int, best: int, most: int) -> tuple[str, str]:
    """A title and a sentence on why this is the rank, from errors of hidden entries by rank."""
    error, smallest, largest = f"{errors[rank]:.3g}", min(errors), max(errors)
    if len(errors) == 1:
        return (
            f"Rank {rank}: the only one asked for",
            f"Only rank {rank} was asked for, so there is nothing to compare it with; the error "
            f"of hidden entries is {error}.",
        )
    if errors[rank] <= EXACT:
        title = f"Rank {rank} predicts hidden entries almost exactly"
        why = f"Rank {rank} predicts hidden entries almost exactly (error {error})"
    elif rank == largest:
        title = f"The error still falls at rank {rank}"
        why = f"The error of hidden entries still falls at rank {rank} ({error}), "
        end = "the largest asked for; ask for larger ones."
        return title, why + (end if rank < most else "the largest that these blocks allow.")
    elif rank == best:
        title = f"Rank {rank} predicts hidden entries best"
        why = f"Rank {rank} predicts hidden entries best (error {error})"
    else:
        title = f"Rank {rank} predicts hidden entries as well as any"
        why = (
            f"Rank {rank} is the smallest whose error of hidden entries ({error}) lies within one "
            f"standard error of the least ({errors[best]:.3g} at rank {best})"
        )
    if rank == smallest > 1:
        return title, f"{why}; it is the smallest asked for, so ask for smaller ones."
    return title, f"{why}."


def _stability_reason(stability: dict[int, float], rank: int) -> str:
    """What stability, by rank, adds to that."""
    shown = f"stability {stability[rank]:.2f}"
    if stability[rank] >= STABLE:
        return f"Other starts find the same components ({shown})."
    why = f"But other starts find other components there ({shown}), so do not read single ones"
    stable = [other for other, value in stability.items() if value >= STABLE and other > 1]
    if stable:
        return f"{why}; rank {stable[-1]} is the largest whose components come back."
    return f"{why}; they come back at no rank above 1 that was asked for."
