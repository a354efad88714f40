"""Does a score put networks in the right order? The protocol of the generalization literature, for tables of networks.

A table has one row for each network: a score, a `truth` (its accuracy), the columns `GROUP` that say where it belongs,
and `factor`, what sets it apart from the base of its group. Every score is first turned so that larger is better.

Kendall's τ-b counts those that score and truth put in the same order, less those they put in
opposite ones. A bootstrap draws networks with replacement within each group, and takes the same draws for all scores,
so that two scores can be compared on the same networks. The groups are fixed: its intervals are about more networks like
these, and say nothing of other data sets and architectures.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

GROUP = ["data", "architecture"]
NOT_A_FACTOR = {
    "base",
    "several",
    "untrained",
    "noise",
}  # the last is another family, with a base of its own
MARGIN = 0.01  # accuracies this close are no order: two standard errors of a difference, for thousands of test images


def kendall(score, truth, counts=None) -> np.ndarray:
    """Kendall's τ-b (Kendall 1945); 0 for a score that is the same for all, NaN for such a truth.

    Args:
        score, truth: one value for each network. A missing score ties with nothing: it counts as the lowest.
        counts: draws × networks, how often each network counts; None: once. Gives one τ for each row.
    """
    S, T = (_signs(values) for values in (score, truth))
    counts = np.ones((1, len(S))) if counts is None else np.atleast_2d(counts)
    agree, own, other = (_sum(counts, M) for M in (S * T, S**2, T**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((own == 0) & (other > 0), 0.0, agree / np.sqrt(own * other))


def spearman(score, truth, counts=None) -> np.ndarray:
    """Spearman's ρ, the correlation of the ranks; arguments and constants as `kendall`, but nobody is counted twice."""
    x, y = (pd.Series(_filled(values)).rank().to_numpy() for values in (score, truth))
    if counts is not None and (counts != 1).any():
        raise ValueError(
            "ranks of repeated networks are not worked out here; give no counts, or use kendall"
        )
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.array([0.0 if np.ptp(y) else np.nan])
    return np.array([np.corrcoef(x, y)[0, 1]])


def sign_error(score, truth, counts=None, margin: float = MARGIN) -> np.ndarray:
    """Share of pairs put in the wrong order, ties of the score counting half (after Dziugaite et al. 2020, section 3).

    Pairs whose truths differ by less than `margin` do not count. 0 is perfect, 0.5 chance, 1 upside down.
    """
    S, T = _signs(score), _signs(truth)
    T = np.where(np.abs(np.subtract.outer(*[np.asarray(truth, dtype=float)] * 2)) < margin, 0, T)
    counts = np.ones((1, len(S))) if counts is None else np.atleast_2d(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1 - _sum(counts, S * T) / _sum(counts, T**2)) / 2


def _signs(values) -> np.ndarray:
    values = _filled(values)
    return np.greater.outer(values, values).astype(float) - np.less.outer(values, values)


def _filled(values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    lowest = np.min(values[np.isfinite(values)], initial=0)
    return np.where(np.isnan(values), lowest - 1, values)


def _sum(counts: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Σ_ij c_i c_j M_ij for each row c of counts."""
    return ((counts @ M) * counts).sum(1)


def resample(table: pd.DataFrame, draws: int, seed: int = 0) -> np.ndarray:
    """How often each network is drawn, draws × networks: with replacement, within its group; the first row is all ones."""
    draw, counts = np.random.default_rng(seed), np.ones((draws + 1, len(table)))
    for rows in table.groupby(GROUP).indices.values():
        counts[1:, rows] = draw.multinomial(
            len(rows), np.full(len(rows), 1 / len(rows)), size=draws
        )
    return counts


def within(
    table: pd.DataFrame,
    score: str,
    counts: np.ndarray,
    *,
    better: int = 1,
    measure=kendall,
    truth="accuracy",
):
    """`measure` in each group, then the mean over the groups: one value for each row of `counts`."""
    return _mean(
        _measure(table, rows, score, counts, better, measure, truth) for _, rows in groups(table)
    )


def granulated(
    table: pd.DataFrame, score: str, counts: np.ndarray, *, better: int = 1, truth="accuracy"
):
    """Kendall's τ with one factor varied, mean over factors and groups (Jiang et al. 2020, eq. 5).

    Theirs varies each factor around every setting of the others; here around one base for each group, and two networks
    of one level, which differ in their seed alone, are a pair too.
    """
    return _mean(
        _measure(table, rows, score, counts, better, kendall, truth)
        for _, rows in environments(table)
    )


def groups(table: pd.DataFrame) -> list[tuple[tuple, np.ndarray]]:
    """Data set and architecture, and the rows of the networks that share them."""
    return list(table.groupby(GROUP).indices.items())


def environments(table: pd.DataFrame) -> list[tuple[tuple, np.ndarray]]:
    """Data set, architecture and factor, and the rows of the networks that depart in it, with those of their base."""
    found, factor = [], table["factor"].to_numpy()
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
    truth="accuracy",
):
    """Every score by the whole protocol, best first; `low` and `high` hold the 95 % bootstrap interval of `within`.

    Args:
        table: one row for each network, see above.
        directions: score → +1 if larger is better, −1 if smaller.
        draws, seed: of the bootstrap.
        truth: the column to be predicted, larger is better.

    Returns:
        A table of score, pooled (Kendall's τ of all networks), spearman (ρ, mean within the groups), within (τ, mean
        within the groups), low, high, granulated, sign_error (mean over groups × factors), worst, worst_where.
    """
    counts, once, rows = resample(table, draws, seed), np.ones((1, len(table))), []
    for score, better in directions.items():
        taus = within(table, score, counts, better=better, truth=truth)
        errors = {
            " ".join(key): _measure(table, some, score, once, better, sign_error, truth)[0]
            for key, some in environments(table)
        }
        worst = max(errors, key=errors.get, default="")
        everything = np.arange(len(table))
        rows.append(
            {
                "score": score,
                "pooled": _measure(table, everything, score, once, better, kendall, truth)[0],
                "spearman": within(
                    table, score, once, better=better, measure=spearman, truth=truth
                )[0],
                "within": taus[0],
                "low": np.nanquantile(taus[1:], 0.025),
                "high": np.nanquantile(taus[1:], 0.975),
                "granulated": granulated(table, score, once, better=better, truth=truth)[0],
                "sign_error": _mean(map(np.atleast_1d, errors.values()))[0],
                "worst": errors.get(worst, np.nan),
                "worst_where": worst,
            }
        )
    return pd.DataFrame(rows).sort_values("within", ascending=False, ignore_index=True)


def difference(
    table, one: str, other: str, directions: dict[str, int], *, statistic=within, draws=1000, seed=0
):
    """`within` (or `granulated`) of one score less that of another, and its 95 % bootstrap interval on equal draws."""
    counts = resample(table, draws, seed)
    gap = np.subtract(
        *(statistic(table, score, counts, better=directions[score]) for score in (one, other))
    )
    return gap[0], np.nanquantile(gap[1:], 0.025), np.nanquantile(gap[1:], 0.975)


def _measure(table, rows, score, counts, better, measure, truth) -> np.ndarray:
    part = table.iloc[rows]
    return measure(better * part[score].to_numpy(), part[truth].to_numpy(), counts[:, rows])


def _mean(values: Iterable[np.ndarray]) -> np.ndarray:
    """Mean over what is defined, for each draw; NaN if nothing is."""
    values = list(values)
    return np.nanmean(np.stack(values), axis=0) if values else np.array([np.nan])
