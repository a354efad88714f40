"""Ranking against scipy, counts against repeated rows, the protocol against known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from peeklib.course.ranking import (
    difference,
    environments,
    kendall,
    leaderboard,
    resample,
    sign_error,
    spearman,
    within,
)


def tied(seed, n=40):
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 8, n).astype(float)
    return x, x + draw.normal(size=n).round()


def zoo(groups=3, seed=0):
    """`groups` architectures, each with a base of three networks and others that depart from it."""
    draw, rows = np.random.default_rng(seed), []
    for group in range(groups):
        for factor, many in {"base": 3, "lr": 4, "width": 4, "several": 6}.items():
            rows += many * [{"data": "d", "architecture": f"a{group}", "factor": factor}]
    table = pd.DataFrame(rows)
    table["accuracy"] = draw.permutation(len(table)) / len(table)  # steps of 2 points
    table["perfect"], table["reversed"] = table.accuracy * 3 + 1, -table.accuracy
    table["noise"] = draw.normal(size=len(table))
    return table


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_scipy(seed):
    x, y = tied(seed)
    assert kendall(x, y)[0] == pytest.approx(kendalltau(x, y).statistic)
    assert spearman(x, y)[0] == pytest.approx(spearmanr(x, y).statistic)


@pytest.mark.parametrize("measure", [kendall, sign_error])
def test_a_count_is_a_repeated_network(measure):
    x, y = tied(1)
    counts = np.random.default_rng(2).multinomial(len(x), np.full(len(x), 1 / len(x)), size=3)
    for row, value in zip(counts, measure(x, y, counts), strict=True):
        again = np.repeat(np.arange(len(x)), row)
        assert value == pytest.approx(measure(x[again], y[again])[0])


def test_ranks_of_repeated_networks_are_refused():
    once = np.ones((1, 3))
    assert spearman([1, 2, 3], [1, 3, 2], once) == pytest.approx(spearman([1, 2, 3], [1, 3, 2]))
    with pytest.raises(ValueError, match="repeated networks"):
        spearman([1, 2, 3], [1, 3, 2], 2 * once)


@pytest.mark.parametrize(("draws", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_bootstrap_without_draws_is_refused(draws, error):
    with pytest.raises(error, match=f"draws is {draws}"):
        leaderboard(zoo(), {"noise": 1}, draws=draws)


def test_sign_error_counts_pairs():
    assert sign_error([1, 2, 3], [10, 20, 30])[0] == 0
    assert sign_error([3, 2, 1], [10, 20, 30])[0] == 1
    assert sign_error([2, 1, 3], [10, 20, 30])[0] == pytest.approx(1 / 3)
    assert sign_error([1, 1, 1], [10, 20, 30])[0] == 0.5, "a score that never decides is chance"
    assert sign_error([1, 5, 3], [10, 20, 20])[0] == 0, "networks of equal truth have no order"


def test_a_missing_score_is_the_lowest():
    assert kendall([np.nan, 2, 3], [1, 2, 3])[0] == 1
    assert kendall([np.nan, -2, -3], [3, 2, 1])[0] == pytest.approx(-1 / 3)


@pytest.mark.parametrize("measure", [kendall, spearman])
def test_a_constant_score_is_worth_nothing(measure):
    assert measure([1, 1, 1], [1, 2, 3])[0] == 0 and np.isnan(measure([1, 2, 3], [5, 5, 5])[0])


def test_infinite_scores_have_an_order():
    assert kendall([-np.inf, -np.inf, 1, np.inf], [1, 1, 2, 3])[0] == 1


def test_accuracies_that_are_close_are_no_pair():
    assert sign_error([2, 1, 3], [0.5, 0.505, 0.9])[0] == 0
    assert sign_error([2, 1, 3], [0.5, 0.52, 0.9])[0] == pytest.approx(1 / 3)


def test_networks_are_drawn_within_their_group():
    table = zoo()
    counts = resample(table, 50)
    assert (counts[0] == 1).all() and counts.shape == (51, len(table))
    for rows in table.groupby("architecture").indices.values():
        assert (counts[:, rows].sum(1) == len(rows)).all()
    assert (resample(table, 50) == counts).all() and (resample(table, 50, seed=1) != counts).any()


def test_an_environment_is_a_factor_and_its_base():
    table = zoo(groups=2)
    found = dict(environments(table))
    assert sorted(found) == [
        ("d", "a0", "lr"),
        ("d", "a0", "width"),
        ("d", "a1", "lr"),
        ("d", "a1", "width"),
    ]
    rows = table.iloc[found["d", "a1", "lr"]]
    assert len(rows) == 7
    assert set(rows.factor) == {"base", "lr"} and set(rows.architecture) == {"a1"}


def test_the_leaderboard_knows_perfect_from_reversed():
    table = zoo()
    board = leaderboard(table, {"noise": 1, "perfect": 1, "reversed": 1}, draws=200)
    assert board.score.tolist() == ["perfect", "noise", "reversed"]
    best, noise, worst = (board.loc[place] for place in range(3))
    for column in ("pooled", "spearman", "within", "low", "high", "granulated"):
        assert best[column] == pytest.approx(1), column
    assert best.sign_error == best.worst == 0 and worst.sign_error == worst.worst == 1
    assert worst.within == pytest.approx(-1) and noise.low < 0 < noise.high
    turned = leaderboard(table, {"reversed": -1}, draws=10).iloc[0]
    assert turned.within == pytest.approx(1), "a direction of −1 turns a score round"


def test_the_worst_environment_is_found():
    table = zoo()
    bad = (table.architecture == "a1") & table.factor.isin(["base", "width"])
    table["flawed"] = np.where(bad, -table.accuracy, table.accuracy)
    board = leaderboard(table, {"flawed": 1}, draws=10).iloc[0]
    assert board.worst == 1 and board.worst_where == "d a1 width"


def test_within_ignores_what_groups_differ_in():
    table = zoo()
    offset = table.architecture.map({"a0": 0, "a1": 100, "a2": -100})
    table["shifted"] = table.accuracy + offset
    assert within(table, "shifted", np.ones((1, len(table))))[0] == pytest.approx(1)
    assert leaderboard(table, {"shifted": 1}, draws=10).pooled[0] < 0.6


def test_a_difference_is_taken_on_the_same_networks():
    table = zoo()
    gap, low, high = difference(table, "perfect", "noise", {"perfect": 1, "noise": 1}, draws=200)
    assert low < gap < high and low > 0
    assert difference(table, "noise", "noise", {"noise": 1}, draws=50) == (0, 0, 0)


def test_a_table_without_factors_has_no_environments():
    table = zoo().assign(factor="noise")
    board = leaderboard(table, {"perfect": 1}, draws=10).iloc[0]
    assert board.within == pytest.approx(1) and np.isnan(board.granulated) and np.isnan(board.worst)
