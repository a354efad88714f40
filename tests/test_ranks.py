"""Which rank? Planted ones come back, nothing hidden is seen, and the reason says what the criteria say."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import peeklib as pk
from peeklib import masks, ranks, solvers
from peeklib.blocks import stack

CPU = torch.device("cpu")


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def planted(rank, features=(30, 20), images=60, noise=0.0, seed=0):
    """Blocks of that rank and of root mean square 1, each entry off by the share `noise` or less."""
    F = rand(images, rank, seed=seed) ** 3
    blocks = {}
    for k, count in enumerate(features):
        X = rand(count, rank, seed=100 * seed + k + 1) ** 3 @ F.T
        X = X * (1 + noise * (2 * rand(count, images, seed=100 * seed + 50 + k) - 1))
        blocks[f"block {k}"] = X / X.square().mean().sqrt()
    return blocks


def masked(blocks, seed=0, weights=None):
    data = stack(blocks, weights, CPU)
    return masks.hide(data, seed), data


# What is hidden


@pytest.mark.parametrize("features", [(30, 20), (2,), (3, 1), (13, 4)])
@pytest.mark.parametrize("images", [2, 7, 43])
def test_seen_and_hidden_entries_are_those_of_the_data(features, images):
    blocks = {str(k): 1 + rand(count, images, seed=k) for k, count in enumerate(features)}
    weights = {name: 1.0 + k for k, name in enumerate(blocks)}
    X, data = masked(blocks, weights=weights)
    whole = X.seen.blocks["X"].clone()
    groups, height, width = X.hidden.shape
    tiles = whole.view(groups, height, groups, width).diagonal(dim1=0, dim2=2)
    assert not tiles.any()
    tiles.copy_(X.hidden.permute(1, 2, 0))
    expected = torch.cat([block * weights[name] ** 0.5 for name, block in blocks.items()])
    torch.testing.assert_close(whole[X.features[:, None], X.images], expected)
    assert whole.count_nonzero() == expected.numel()


@pytest.mark.parametrize("shape", [(2, 2), (3, 50), (50, 3), (10, 10), (57, 83)])
def test_every_feature_and_image_is_seen_somewhere_and_hidden_somewhere(shape):
    X, _ = masked({"input": torch.ones(shape)})
    seen = X.seen.blocks["X"][X.features[:, None], X.images]
    for axis, count in enumerate(reversed(shape)):
        share = (1 - seen).sum(dim=1 - axis) / count
        assert ((share > 0) & (share < 1)).all()
    assert (1 - seen).mean() == pytest.approx(1 / min(10, *shape), rel=0.2)


def test_blocks_lose_the_same_share_in_every_image():
    X, data = masked({"large": torch.ones(200, 30), "small": torch.ones(20, 30)})
    seen = X.seen.blocks["X"][X.features[:, None], X.images]
    for rows in data.rows.values():
        hidden = 1 - seen[rows]
        assert hidden.mean(dim=0) == pytest.approx(0.1)


def test_another_seed_hides_other_entries_and_the_same_one_the_same():
    blocks = {"input": rand(40, 30)}
    first, again, other = (masked(blocks, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.hidden, again.hidden) and torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_the_error_of_the_feature_means_is_that_of_the_entries_that_are_seen():
    X, _ = masked({"input": rand(7, 9)})
    entries, seen = X.seen.blocks["X"], X.seen.blocks["X"] > 0
    lost, groups = 0.0, len(X.hidden)
    for g, tile in enumerate(X.hidden):
        rows = entries.view(groups, len(tile), -1)[g]
        mean = rows.sum(dim=1) / seen.view(groups, len(tile), -1)[g].sum(dim=1)
        lost += ((tile - mean[:, None]) * (tile > 0)).square().sum().item()
    expected = (lost / X.hidden_energy) ** 0.5
    assert masks.hidden_error(X, *masks.feature_means(X)) == pytest.approx(expected, rel=1e-5)


# The masked fit


def fitted(X, data, ranks):
    return masks.fit_seen(X, [masks.start(X, data, rank, seed=0) for rank in ranks], list)


def test_a_fit_does_not_see_what_is_hidden():
    blocks = planted(3, noise=0.3)
    X, data = masked(blocks)
    changed = {name: block.clone() for name, block in blocks.items()}
    groups, height, width = X.hidden.shape
    group_of_row, group_of_column = X.features // height, X.images // width
    for name, rows in data.rows.items():
        changed[name][group_of_row[rows, None] == group_of_column] += 5
    other, _ = masked(changed)
    assert torch.equal(X.seen.blocks["X"], other.seen.blocks["X"])
    starts = [masks.start(X, data, rank, seed=0) for rank in (2, 4)]
    for a, b in zip(
        masks.fit_seen(X, starts, list), masks.fit_seen(other, starts, list), strict=True
    ):
        assert torch.equal(a.Wt, b.Wt) and torch.equal(a.Ft, b.Ft)
    assert masks.hidden_error(X, a.Wt, a.Ft) < masks.hidden_error(other, b.Wt, b.Ft)


def test_the_error_of_seen_entries_never_rises_and_is_the_sum_over_them():
    X, data = masked(planted(3, noise=0.5))
    for run in fitted(X, data, [1, 3, 6]):
        history = np.array(run.history)
        assert (np.diff(history) <= 0).all()
        mask = X.seen.blocks["X"] > 0
        lost = ((X.seen.blocks["X"] - run.Wt.T @ run.Ft) * mask).double().square().sum().item()
        assert history[-1] == pytest.approx((lost / X.seen_energy) ** 0.5, rel=1e-4)
        assert (run.Wt >= 0).all() and (run.Ft >= 0).all()


def test_a_fit_comes_as_far_as_the_multiplicative_updates_with_an_explicit_mask():
    X, data = masked(planted(4, noise=0.5))
    entries = X.seen.blocks["X"].double()
    mask = (entries > 0).double()
    for run in fitted(X, data, [1, 2, 4]):
        first = masks.start(X, data, len(run.Wt), seed=0)
        W, F = first.Wt.T.double(), first.Ft.double()
        for _ in range(500):
            F = F * (W.T @ entries) / (W.T @ (mask * (W @ F)) + 1e-12)
            W = W * (entries @ F.T) / ((mask * (W @ F)) @ F.T + 1e-12)
        plain = (mask * (entries - W @ F)).norm().item() / X.seen_energy**0.5
        assert run.history[-1] < 1.01 * plain


def test_fits_of_several_ranks_do_not_depend_on_each_other():
    X, data = masked(planted(3, noise=0.2))
    (alone,), together = fitted(X, data, [3]), fitted(X, data, [1, 3, 5])
    assert alone.history[-1] == pytest.approx(together[1].history[-1], rel=1e-3)


# The choice


@pytest.fixture
def few_rounds(monkeypatch):
    """Where nobody asks how far the masked fits come."""
    monkeypatch.setattr(masks, "ROUNDS", 8)


@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_planted_rank_comes_back(rank, noise):
    choice = pk.choose_rank(planted(rank, noise=noise, seed=rank), range(1, 7), seeds=range(3))
    assert choice.rank == rank
    chosen = choice.table.set_index("rank").loc[rank]
    assert chosen["stability"] > 0.9
    assert (chosen["held_out_error"] < 0.01) == (noise == 0)


def test_weights_bring_a_block_of_small_numbers_into_play():
    shared = planted(2, features=(30,), noise=0.5)["block 0"]
    blocks = {"large": 1000 * shared[:15, :1] @ torch.ones(1, 60), "small": shared}
    weights = {name: 1 / block.square().mean().item() for name, block in blocks.items()}
    ask = {"ranks": range(1, 5), "seeds": range(3)}
    assert pk.choose_rank(blocks, **ask).rank == 1
    assert pk.choose_rank(blocks, weights=weights, **ask).rank > 1


def test_noise_has_no_rank():
    choice = pk.choose_rank({"input": rand(40, 60)}, range(1, 5), seeds=range(3))
    assert choice.rank == 1
    assert "nothing to factorize" in choice.why


def test_a_block_of_zeros_changes_nothing():
    blocks = planted(3, noise=0.5)
    more = blocks | {"dead layer": torch.zeros(10, 60)}
    assert pk.choose_rank(more, [2, 3, 4], seeds=range(2)).rank == 3


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("shape", [(10, 10), (10, 30), (30, 10)])
def test_the_smallest_data_gets_numbers_too(shape):
    choice = pk.choose_rank({"input": rand(*shape)}, [1, 2], seeds=range(2))
    assert choice.table.notna().all(axis=None)


@pytest.mark.usefixtures("few_rounds")
def test_one_entry_that_is_not_zero_may_be_hidden():
    block = torch.zeros(10, 10)
    block[1, 2] = 1
    choice = pk.choose_rank({"input": block}, [1, 2])
    assert choice.table.notna().all(axis=None)


@pytest.mark.usefixtures("few_rounds")
def test_the_table_has_a_row_for_each_rank_in_rising_order():
    blocks = planted(2, noise=0.2)
    given = {name: block.clone() for name, block in blocks.items()}
    choice = pk.choose_rank(blocks, iter([4, np.int64(1), 2, 4]), seeds=(3, 7))
    assert choice.table["rank"].tolist() == [1, 2, 4]
    assert choice.table.columns[1:].tolist() == [
        "held_out_error",
        "held_out_sd",
        "training_error",
        "stability",
    ]
    assert choice.seeds == (3, 7)
    assert all(torch.equal(block, given[name]) for name, block in blocks.items())


@pytest.mark.usefixtures("few_rounds")
def test_the_same_seeds_give_the_same_numbers_and_spare_the_callers():
    blocks = planted(2, noise=0.2)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    first, again = (pk.choose_rank(blocks, [1, 2], seeds=[0, 1]) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, again.table)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("few_rounds")
def test_many_images_are_sampled(monkeypatch):
    seen = []
    monkeypatch.setattr(ranks, "IMAGES", 30)
    monkeypatch.setattr(
        ranks, "hide", lambda data, seed: seen.append(data) or masks.hide(data, seed)
    )
    pk.choose_rank(planted(2, images=70), [1, 2], seeds=[0, 1])
    assert [data.shape for data in seen] == [(50, 40)] * 2  # 20 for each component
    assert torch.equal(seen[0].blocks["block 0"], seen[1].blocks["block 0"])


@pytest.mark.usefixtures("few_rounds")
def test_fits_that_do_not_go_side_by_side_give_the_same(monkeypatch):
    blocks = planted(2, noise=0.3)
    together = pk.choose_rank(blocks, [1, 2, 3], seeds=[0, 1]).table
    monkeypatch.setattr(ranks, "TOGETHER", 3)
    apart = pk.choose_rank(blocks, [1, 2, 3], seeds=[0, 1]).table
    pd.testing.assert_frame_equal(together, apart, rtol=1e-2)


def pressed(*_):
    raise KeyboardInterrupt


def test_an_interrupt_of_the_masked_fits_comes_out(monkeypatch):
    monkeypatch.setattr(masks, "hals_update", pressed)
    with pytest.raises(KeyboardInterrupt):
        pk.choose_rank(planted(2), [1, 2])


def test_an_interrupt_of_the_fits_from_other_starts_comes_out(monkeypatch):
    monkeypatch.setitem(solvers.UPDATES, "auto", pressed)
    with pytest.raises(KeyboardInterrupt):
        pk.choose_rank(planted(2), [1, 2])


# Stability


def test_order_and_scale_of_components_do_not_count():
    W, F = rand(4, 20), rand(4, 30, seed=1)
    order = torch.tensor([2, 0, 3, 1])
    scale = torch.tensor([1.0, 2, 3, 4])[:, None]
    assert ranks.similarity((W, F), (scale * W[order], F[order])) == pytest.approx(1)


def test_a_component_of_zeros_is_like_no_other():
    W, F = torch.eye(2, 6), torch.eye(2, 5)
    dead = W * torch.tensor([[1.0], [0.0]])
    assert ranks.similarity((W, F), (dead, F)) == pytest.approx(0.5)


def test_components_that_share_only_one_factor_are_not_alike():
    F = torch.ones(2, 5)
    assert ranks.similarity((torch.eye(4)[:2], F), (torch.eye(4)[2:], F)) == 0


def test_stability_is_that_of_the_fits_that_a_user_gets():
    blocks, weights = planted(2, noise=0.5), {"block 0": 1.0, "block 1": 9.0}
    ask = {"ranks": [3, 4], "seeds": [0, 5], "weights": weights}
    sweep = pk.rank_sweep(blocks, **ask)
    expected = []
    for rank in ask["ranks"]:
        first, second = (sweep[rank, seed] for seed in ask["seeds"])
        pairs = [
            (torch.cat([fit.factors["block 0"], 3 * fit.factors["block 1"]]).T, fit.image_factor.T)
            for fit in (first, second)
        ]
        expected.append(ranks.similarity(*pairs))
    found = pk.choose_rank(blocks, **ask).table["stability"].tolist()
    assert found == pytest.approx(expected, rel=1e-3)
    assert min(found) < 0.99


# The reason


def table(errors, sd=0.02, stability=1.0):
    """Of ranks 2, 3 … with these errors of hidden entries."""
    rows = {"rank": range(2, 2 + len(errors)), "held_out_error": errors}
    return pd.DataFrame(rows).assign(held_out_sd=sd, training_error=0.1, stability=stability)


@pytest.mark.parametrize(
    ("errors", "rank", "words"),
    [
        ([0.5, 0.3, 0.4], 3, "Rank 3 predicts hidden entries best (error 0.3)"),
        ([0.5, 0.305, 0.3], 3, "one standard error of the least (0.3 at rank 4)"),
        ([0.5, 0.4, 0.3], 4, "still falls at rank 4 (0.3), the largest asked for; ask for larger"),
        ([0.3, 0.4, 0.5], 2, "the smallest asked for, so ask for smaller"),
        ([0.5, 0.006, 0.001], 3, "almost exactly (error 0.006)"),
        ([0.99, 0.97, 0.95], 2, "may be nothing to factorize; rank 2 is the smallest asked for"),
        ([0.3], 2, "Only rank 2 was asked for"),
    ],
)
def test_the_reason_says_what_decided(errors, rank, words):
    found, title, why = ranks.suggest(table(errors), mean_error=0.9, masks=4, most=99)
    assert found == rank
    assert words in why
    assert len(title) < 50  # one line of a figure


def test_where_no_larger_rank_is_possible_none_is_asked_for():
    _, _, why = ranks.suggest(table([0.5, 0.4]), mean_error=0.9, masks=4, most=3)
    assert "ask for" not in why.replace("asked for", "") and "that these blocks allow" in why


@pytest.mark.parametrize(
    ("stability", "words"),
    [
        ([1.0, 0.95, 0.2], "find the same components (stability 0.95)"),
        (
            [1.0, 0.5, 0.2],
            "other components there (stability 0.50), so do not read single ones; rank 2",
        ),
        ([0.6, 0.5, 0.2], "they come back at no rank above 1 that was asked for"),
    ],
)
def test_the_reason_says_whether_the_components_come_back(stability, words):
    rank, _, why = ranks.suggest(table([0.5, 0.3, 0.4], stability=stability), 0.9, 4, 99)
    assert rank == 3
    assert words in why


def test_nothing_is_made_of_the_stability_of_one_component():
    rows = table([0.5, 0.6]).assign(rank=[1, 2], stability=[1.0, 0.4])
    _, _, why = ranks.suggest(rows, 0.9, 4, 99)
    assert "start" not in why
    rows = table([0.6, 0.5]).assign(rank=[1, 2], stability=[1.0, 0.4])
    _, _, why = ranks.suggest(rows, 0.9, 4, 99)
    assert "at no rank above 1" in why


def test_constant_data_is_of_rank_one_though_means_predict_it_too():
    choice = pk.choose_rank({"input": torch.ones(20, 30)}, [1, 2, 3], seeds=[0, 1])
    assert choice.rank == 1
    assert "almost exactly" in choice.why


# Shown


@pytest.fixture(scope="module")
def choice():
    return pk.choose_rank(planted(2, noise=0.3), range(1, 4), seeds=[0, 1])


def test_the_figure_has_both_criteria_over_the_rank(choice):
    figure = choice.figure()
    assert isinstance(figure, Figure)
    above, below = figure.axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == [
        "seen entries",
        "hidden entries",
    ]
    assert below.get_xlabel() == "rank (components)" and below.get_ylabel() == "stability"
    assert below.get_xticks().tolist() == [1, 2, 3]
    assert figure.get_suptitle() == choice.title == "Rank 2 predicts hidden entries best"


def test_a_figure_of_many_ranks_has_few_ticks(choice):
    many = pd.concat([choice.table.assign(rank=rank).iloc[:1] for rank in range(1, 61)])
    figure = ranks.RankChoice(3, "", "many", many, 0.5, (0, 1)).figure()
    assert len(figure.axes[1].get_xticks()) < 15


def test_it_shows_itself_with_its_reason(choice):
    shown = choice._repr_html_()
    assert "<img" in shown and f"<p>{choice.why}</p>" in shown
    assert repr(choice).startswith("RankChoice(rank=2): Rank 2 predicts")


# Bad input, before any work


@pytest.fixture
def no_work(monkeypatch):
    def worked(*_):
        pytest.fail("it began to work")

    monkeypatch.setattr(ranks, "hide", worked)


GOOD = {"input": torch.ones(8, 11), "relu": torch.ones(4, 11)}


@pytest.mark.parametrize(
    ("blocks", "asked", "options", "words"),
    [
        (GOOD, [], {}, "at least one rank"),
        (GOOD, [1, 0], {}, "rank is 0"),
        (GOOD, [12], {}, "rank is 12; there are 11 images"),
        (GOOD, [1], {"seeds": [4]}, "two or more different"),
        (GOOD, [1], {"seeds": [4, 4]}, "two or more different"),
        (GOOD, [1], {"seeds": [0, 2**70]}, "seed is"),
        (GOOD, [1], {"weights": {"input": 1}}, "weights name"),
        ({"input": -torch.ones(6, 8)}, [1], {}, "block 'input' has negative values"),
        ({"input": torch.full((6, 8), torch.nan)}, [1], {}, "NaN"),
        ({"input": torch.zeros(6, 8)}, [1], {}, "zero"),
        ({"input": torch.ones(1, 8)}, [1], {}, "1 features and 8 images"),
        ({"input": torch.ones(9, 30)}, [1], {}, r"10 or more .*rank_sweep\(blocks, ranks\)"),
        ({"input": torch.ones(30, 9)}, [1], {}, r"10 or more .*rank_sweep\(blocks, ranks\)"),
        ({}, [1], {}, "no blocks"),
    ],
)
def test_a_bad_value_is_named(no_work, blocks, asked, options, words):
    with pytest.raises(ValueError, match=words):
        pk.choose_rank(blocks, asked, **options)


@pytest.mark.parametrize(
    ("asked", "options", "words"),
    [
        (5, {}, r"ranks is 5; give several"),
        ("12", {}, "rank is '1'"),
        ([2.0], {}, "rank is 2.0"),
        ([True], {}, "rank is True"),
        ([1], {"seeds": 3}, "seeds is 3; give two or more"),
        ([1], {"seeds": [0, 1.5]}, "seed is 1.5"),
    ],
)
def test_what_is_no_whole_number_is_named(no_work, asked, options, words):
    with pytest.raises(TypeError, match=words):
        pk.choose_rank(GOOD, asked, **options)
