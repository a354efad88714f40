"""Does a score put networks in the right order? The protocol of the generalization literature.

A table has one row for each network: a score, a `truth` (its accuracy), the columns `GROUP` that
say where it belongs, and `factor`, what sets it apart from the base of its group. Every score is
first turned so that larger is better.

Kendall's τ-b counts those that score and truth put in the same order, less those they put in
opposite ones. A bootstrap draws networks with replacement within each group, and takes the same
draws for all scores, so that two scores can be compared on the same networks. The groups are fixed:
its intervals are about more networks like these, and say nothing of other data sets and
architectures.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..blocks import check_count, check_seed

GROUP = ["data", "architecture"]
# Networks with label noise are another family, with a base of its own.
NOT_A_FACTOR = {"base", "several", "untrained", "noise"}
# Accuracies this close are no order: two standard errors of a difference, for thousands of images.
MARGIN = 0.01


def kendall(score, truth, counts=None) -> np.ndarray:
    """Kendall's τ-b (Kendall 1945); 0 for a score that is the same for all, NaN for such a truth.

    Args:
        score, truth: one value for each network. A missing score ties with nothing: it counts as
            the lowest.
        counts: draws × networks, how often each network counts; None: once.

    Returns:
        One τ for each row of `counts`.

    Example:
        >>> kendall([1, 2, 3, 4], [0.7, 0.8, 0.9, 0.6]).round(2)
        array([0.])
        >>> without_last_or_first = [[1, 1, 1, 0], [0, 1, 1, 1]]
        >>> kendall([1, 2, 3, 4], [0.7, 0.8, 0.9, 0.6], without_last_or_first).round(2)
        array([ 1.  , -0.33])
    """
    S = _signs(score)
    T = _signs(truth)
    counts = _once(S) if counts is None else np.atleast_2d(counts)
    agree = _sum_pairs(counts, S * T)
    own = _sum_pairs(counts, S**2)
    other = _sum_pairs(counts, T**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((own == 0) & (other > 0), 0.0, agree / np.sqrt(own * other))


def spearman(score, truth, counts=None) -> np.ndarray:
    """Spearman's ρ, the correlation of the ranks; arguments and constants as for `kendall`.

    Returns:
        One ρ.

    Raises:
        ValueError: for counts other than one: ranks of repeated networks are not worked out here.

    Example:
        >>> spearman([1, 2, 3, 4], [0.6, 0.7, 0.9, 0.8]).round(2)
        array([0.8])
    """
    from scipy.stats import spearmanr  # takes long to import

    if counts is not None and (np.asarray(counts) != 1).any():
        raise ValueError(
            "ranks of repeated networks are not worked out here; give no counts, or use kendall"
        )
    score = _filled(score)
    truth = _filled(truth)
    if (truth == truth[0]).all():
        return np.array([np.nan])
    if (score == score[0]).all():
        return np.array([0.0])
    return np.array([spearmanr(score, truth)[0]])


def sign_error(score, truth, counts=None, margin: float = MARGIN) -> np.ndarray:
    """Share of pairs put in the wrong order (after Dziugaite et al. 2020, section 3).

    Ties of the score count half, and pairs whose truths differ by less than `margin` do not count.
    0 is perfect, 0.5 chance, 1 upside down. Arguments as for `kendall`.

    Returns:
        One share for each row of `counts`; NaN where no pair counts.

    Example:
        >>> sign_error([1, 2, 3], [0.7, 0.9, 0.8]).round(2)
        array([0.33])
    """
    S = _signs(score)
    T = _signs(truth)
    values = np.asarray(truth, dtype=float)
    T[np.abs(np.subtract.outer(values, values)) < margin] = 0
    counts = _once(S) if counts is None else np.atleast_2d(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1 - _sum_pairs(counts, S * T) / _sum_pairs(counts, T**2)) / 2


def _signs(values) -> np.ndarray:
    """Networks × networks: 1 where the first has the larger value, −1 the smaller one, 0 ties."""
    values = _filled(values)
    return np.greater.outer(values, values).astype(float) - np.less.outer(values, values)


def _filled(values) -> np.ndarray:
    """Values as floats, with those that are missing below all others."""
    values = np.asarray(values, dtype=float)
    lowest = np.min(values[np.isfinite(values)], initial=0)
    return np.where(np.isnan(values), lowest - 1, values)


def _once(networks) -> np.ndarray:
    """Counts, 1 × networks, of which each is one."""
    return np.ones((1, len(networks)))


def _sum_pairs(counts: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Σ_ij c_i c_j M_ij for each row c of counts."""
    return ((counts @ M) * counts).sum(1)


def resample(table: pd.DataFrame, draws: int, seed: int = 0) -> np.ndarray:
    """How often each network is drawn: with replacement, within its group.

    Returns:
        1 + draws × networks; the first row is all ones.

    Example:
        >>> import peeklib as pk
        >>> counts = resample(pk.evidence.table("zoo"), draws=20)
        >>> counts.shape
        (21, 384)
        >>> bool((counts.sum(axis=1) == 384).all())
        True
    """
    check_count(draws, "draws")
    generator = np.random.default_rng(check_seed(seed) % 2**64)
    counts = np.ones((1 + draws, len(table)))
    for _, rows in groups(table):
        even = np.full(len(rows), 1 / len(rows))
        counts[1:, rows] = generator.multinomial(len(rows), even, size=draws)
    return counts


def within(
    table: pd.DataFrame,
    score: str,
    counts: np.ndarray,
    *,
    better: int = 1,
    measure: Callable = kendall,
    truth: str = "accuracy",
) -> np.ndarray:
    """`measure` in each group, then the mean over the groups.

    Args:
        table: one row for each network.
        score: the column that is judged.
        counts: draws × networks, how often each network counts.
        better: +1 if larger is better, −1 if smaller.
        measure: `kendall`, `spearman` or `sign_error`.
        truth: the column to be predicted, larger is better.

    Returns:
        One value for each row of `counts`.

    Example:
        >>> import peeklib as pk
        >>> table = pk.evidence.table("zoo")
        >>> within(table, "accuracy", np.ones((1, len(table))))
        array([1.])
    """
    return _mean(_judge(table, groups(table), score, counts, better, measure, truth))


def granulated(
    table: pd.DataFrame,
    score: str,
    counts: np.ndarray,
    *,
    better: int = 1,
    truth: str = "accuracy",
) -> np.ndarray:
    """Kendall's τ with one factor varied, mean over factors and groups (Jiang et al. 2020, eq. 5).

    Theirs varies each factor around every setting of the others; here around one base for each
    group, and two networks of one level, which differ in their seed alone, are a pair too.
    Arguments as for `within`.

    Returns:
        One τ for each row of `counts`.

    Example:
        >>> import peeklib as pk
        >>> table = pk.evidence.table("zoo")
        >>> granulated(table, "accuracy", np.ones((1, len(table))), better=-1)
        array([-1.])
    """
    return _mean(_judge(table, environments(table), score, counts, better, kendall, truth))


def groups(table: pd.DataFrame) -> list[tuple[tuple, np.ndarray]]:
    """The rows of the networks that share data set and architecture.

    Returns:
        (data set, architecture) and row numbers, for each group.

    Example:
        >>> import peeklib as pk
        >>> key, rows = groups(pk.evidence.table("zoo"))[0]
        >>> key, len(rows)
        (('cifar10', 'cnn'), 48)
    """
    return list(table.groupby(GROUP).indices.items())  # pyright: ignore[reportReturnType] tuples


def environments(table: pd.DataFrame) -> list[tuple[tuple, np.ndarray]]:
    """The rows of the networks that depart in one factor, with those of their base.

    Returns:
        (data set, architecture, factor) and row numbers, for each environment.

    Example:
        >>> import peeklib as pk
        >>> key, rows = environments(pk.evidence.table("zoo"))[0]
        >>> key, len(rows)
        (('cifar10', 'cnn', 'classes'), 7)
    """
    found = []
    factor = table["factor"].to_numpy()
    for key, rows in groups(table):
        for name in sorted(set(factor[rows]) - NOT_A_FACTOR):
            found.append(((*key, name), rows[np.isin(factor[rows], ["base", name])]))
    return found


def leaderboard(
    table: pd.DataFrame,
    directions: dict[str, int],
    *,
    draws: int = 1000,
    seed: int = 0,
    truth: str = "accuracy",
) -> pd.DataFrame:
    """Every score by the whole protocol, best first.

    Args:
        table: one row for each network, see above.
        directions: score → +1 if larger is better, −1 if smaller.
        draws, seed: of the bootstrap.
        truth: the column to be predicted, larger is better.

    Returns:
        A table of score, pooled (Kendall's τ of all networks), spearman (ρ, mean within the
        groups), within (τ, mean within the groups), low and high (95 % bootstrap interval of
        `within`), granulated, sign_error (mean over groups × factors), worst (largest sign_error)
        and worst_where.

    Example:
        >>> import peeklib as pk
        >>> better = {"nuclear_norm": 1, "train_loss": -1}
        >>> board = leaderboard(pk.evidence.table("zoo"), better, draws=20)
        >>> board.score.tolist()
        ['nuclear_norm', 'train_loss']
    """
    counts = resample(table, draws, seed)
    rows = [_row(table, score, better, counts, truth) for score, better in directions.items()]
    return pd.DataFrame(rows).sort_values("within", ascending=False, ignore_index=True)


def _row(table: pd.DataFrame, score: str, better: int, counts: np.ndarray, truth: str) -> dict:
    """What a leaderboard says of one score."""
    once = counts[:1]
    taus = within(table, score, counts, better=better, truth=truth)
    rhos = within(table, score, once, better=better, truth=truth, measure=spearman)
    places = environments(table)
    errors = _judge(table, places, score, once, better, sign_error, truth)
    error_in = {" ".join(key): error[0] for (key, _), error in zip(places, errors, strict=True)}
    worst = max(error_in, key=error_in.__getitem__, default="")
    return {
        "score": score,
        "pooled": kendall(better * table[score], table[truth])[0],
        "spearman": rhos[0],
        "within": taus[0],
        "low": np.nanquantile(taus[1:], 0.025),
        "high": np.nanquantile(taus[1:], 0.975),
        "granulated": granulated(table, score, once, better=better, truth=truth)[0],
        "sign_error": _mean(errors)[0],
        "worst": error_in.get(worst, np.nan),
        "worst_where": worst,
    }


def difference(
    table: pd.DataFrame,
    one: str,
    other: str,
    directions: dict[str, int],
    *,
    statistic: Callable = within,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How far one score is ahead of another, on equal draws of networks.

    Args:
        table: one row for each network.
        one, other: the scores.
        directions: score → +1 if larger is better, −1 if smaller.
        statistic: `within` or `granulated`.
        draws, seed: of the bootstrap.

    Returns:
        The statistic of one less that of the other, and both ends of its 95 % bootstrap interval.

    Example:
        >>> import peeklib as pk
        >>> better = {"accuracy": 1, "train_loss": -1}
        >>> lead, low, high = difference(
        ...     pk.evidence.table("zoo"), "accuracy", "train_loss", better, draws=20
        ... )
        >>> bool(0 < low <= high)
        True
    """
    counts = resample(table, draws, seed)
    ours = statistic(table, one, counts, better=directions[one])
    theirs = statistic(table, other, counts, better=directions[other])
    lead = ours - theirs
    return lead[0], np.nanquantile(lead[1:], 0.025), np.nanquantile(lead[1:], 0.975)


def _judge(
    table: pd.DataFrame,
    places: list[tuple[tuple, np.ndarray]],
    score: str,
    counts: np.ndarray,
    better: int,
    measure: Callable,
    truth: str,
) -> list[np.ndarray]:
    """`measure` in each of some groups or environments: one value for each row of `counts`."""
    values = better * table[score].to_numpy()
    truths = table[truth].to_numpy()
    return [measure(values[rows], truths[rows], counts[:, rows]) for _, rows in places]


def _mean(values: list[np.ndarray]) -> np.ndarray:
    """Mean over what is defined, for each draw; NaN if nothing is."""
    if not values:
        return np.array([np.nan])
    return np.nanmean(np.stack(values), axis=0)
