"""Exercise checks: a right answer passes, a wrong one fails with a hint, none is neither."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from peeklib import check, coupled_nmf
from peeklib.solvers import EPS
from peeklib.spectra import cka

BLOCK = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
BLOCKS = {"input": torch.tensor([[1.0, 2.0]]), "relu": BLOCK}
ERRORS = {5: 0.5, 10: 0.3, 20: 0.2}
SINGULAR = torch.diag(torch.tensor([4.0, 3.0, 0.0]))


def right_update(A, O, F):
    return O * (A @ F) / (O @ (F.T @ F) + EPS)


def in_place_update(A, O, F):
    O *= (A @ F) / (O @ F.T @ F + 1e-9)
    return O


def right_sweep(V, B, G):
    V = V.clone()
    for k in range(len(V)):
        V[k] = (V[k] + (B[k] - G[k] @ V) / G[k, k]).clamp(min=0)
    return V


def sweep_all_at_once(V, B, G):
    return (V + (B - G @ V) / G.diagonal()[:, None]).clamp(min=0)


FLOOR = {50: 0.7, 200: 0.3, 500: 0.2}


def right_alignment(X, Y):
    X, Y = X - X.mean(dim=1, keepdim=True), Y - Y.mean(dim=1, keepdim=True)
    return (X @ Y.T).square().sum() / ((X @ X.T).norm() * (Y @ Y.T).norm())


def permuted_rows(block):
    generator = torch.Generator().manual_seed(1)
    return block.gather(1, torch.rand(block.shape, generator=generator).argsort(dim=1))


# NMF of rank 10 leaves about 0.4 of `relu` on its own scale: between a third of 1 and 1
WIDE = {
    "input": torch.zeros(1, 60),
    "relu": torch.rand(60, 60, generator=torch.Generator().manual_seed(0)) * 2,
}
OVERLAP = torch.tensor([[1.0, 0.2, 0.6], [0.2, 1.0, 0.3], [0.6, 0.3, 1.0]])
PIXELS = {
    "input.red": torch.tensor([[1.0, 9.0]] * 4),
    "input.green": torch.tensor([[2.0, 9.0]] * 4),
    "input.blue": torch.tensor([[3.0, 9.0]] * 4),
}
COLOURS = SimpleNamespace(factors=PIXELS)
CLASSES = torch.tensor([0, 1, 1, 2])


def jaccard(a, b):
    return (a & b).sum().item() / max((a | b).sum().item(), 1)


COLUMN = torch.tensor([5.0, 0.0, 3.0, 3.0])  # the brightest neuron is not in the strongest channel
PLACES = torch.tensor([[1.0, 1.0], [3.0, 0.0]])
# two components of 2 × 2 pixels, all and the upper row; DRAWING would take the second negatively
ROWS = replace(
    coupled_nmf({"input": torch.ones(4, 3)}, 2, max_iter=1),
    factors={"input": torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])},
)
DRAWING = torch.tensor([[0.25, 0.25], [0.75, 0.75]])
SPREADS = torch.arange(26.0)
GAINS = pd.DataFrame({5: [0.9, 0.2], 10: [0.7, 0.1]}, index=["a", "b"])  # 0.2 less, and half
NORMS = torch.tensor([6, 5, 2, 1, 3, 4])  # err in width
NETWORKS = pd.DataFrame(
    {
        "data": "d",
        "architecture": "a",
        "factor": ["base", "base", "lr", "lr", "width", "width"],
        "accuracy": [0.9, 0.8, 0.5, 0.4, 0.7, 0.6],
        "nuclear_norm": NORMS,
        "rmse_area": NORMS,
        "weight_norm": -NORMS,
    }
)
TURNED = {"nuclear_norm": 1, "rmse_area": 1, "weight_norm": -1}
RIGHT = [
    ("neuron_counts", {"relu1": 1960, "relu2": 500}, ()),
    ("neuron_row", 3 * 144 + 5 * 12 + 7, ()),
    ("neuron_row", torch.tensor(499), ()),
    ("silent_neurons", 2, (BLOCK,)),
    ("factor_update", right_update, ()),
    ("factor_update", in_place_update, ()),
    ("stacked", torch.cat([BLOCKS["input"], BLOCK]), (BLOCKS,)),
    ("even_weights", {"input": 1, "relu": 5}, (BLOCKS,)),
    ("rank_to_reach", 10, (ERRORS, 0.3)),
    ("compressible", 0.6, (SINGULAR, 1)),
    ("compressible", 0.0, (SINGULAR, 2)),
    ("rescaled", 3, (WIDE, 1.0)),
    ("alexnet_features", 3 * 64**2 + 64 * 16**2 + 192 * 8**2 + (384 + 256 + 256) * 4**2, ()),
    ("colour_image", torch.tensor([1 / 3, 2 / 3, 1]).expand(2, 2, 3), (COLOURS,)),
    ("ceiling", 0.75, (CLASSES, (0, 1))),
    ("energy_rank", 1, (torch.tensor([4.0, 3.0, 0.0]), 0.6)),
    ("energy_rank", 2, (torch.tensor([4.0, 3.0, 0.0]), 0.7)),
    ("closest_pair", (0, 2), (OVERLAP,)),
    ("closest_pair", (2, 0), (OVERLAP,)),
    ("overlap", jaccard, ()),
    ("leading_channel", 1, (COLUMN, 2)),
    ("leading_channel", torch.tensor(1), (COLUMN, 2)),
    ("moved_most", 1, (PLACES, PLACES.flip(1))),
    ("placed", torch.tensor([0.5, 0.0]), (ROWS, DRAWING)),
    ("placed", torch.tensor([[0.5, 0.0]]), (ROWS, DRAWING)),
    ("products_over_sweeps", 4.8, (30, 20, 5)),
    ("coordinate_sweep", right_sweep, ()),
    ("set_purity", lambda labels: labels.bincount().max() / len(labels), ()),
    ("tail_cut", 19.5, (SPREADS, 0.25)),
    ("noise_share", 0.245, ((20, 2000),)),
    ("most_silent", "b", (pd.DataFrame({"zeros": [0.2, 0.7]}, index=["a", "b"]),)),
    ("most_gained", "b", (GAINS, (5, 10))),
    ("images_needed", 200, (FLOOR, 0.3)),
    ("alignment", right_alignment, ()),
    ("alignment", cka, ()),
    ("size_share", 0.75, ((16.0, 1.0), (2.0, 1.0))),
    ("dead_neurons", 90, (2.0, 1.0, 30)),
    ("permuted_neurons", permuted_rows, ()),
    ("same_size", 10, (2544, 122, 2, 500)),
    ("summed_along", lambda t, h, w: torch.einsum("zabc,bz,cz->za", t, h, w), ()),
    ("break_even", 1493, ((2, 2544), (5, 122))),
    ("kendall_by_hand", 1 / 3, ()),
    ("worst_environment", lambda part, score: "d a width", (NETWORKS, TURNED)),
]
WRONG = [
    ("neuron_counts", {"relu1": 1960, "relu2": 400}, (), "not the number of neurons of relu2"),
    ("neuron_counts", {"relu1": 1440, "relu2": 500}, (), "relu1"),
    ("neuron_counts", {"relu1": 1960}, (), "'relu2'"),
    ("neuron_counts", 1440, (), "dict"),
    ("neuron_row", 500, (), "row 500"),
    ("neuron_row", 7 * 120 + 5 * 10 + 3, (), "channels"),
    ("silent_neurons", 1, (BLOCK,), "1 is not"),
    ("factor_update", lambda a, o, f: None, (), "return the new O"),
    ("factor_update", lambda a, o, f: right_update(a, o, f).T, (), "neurons × rank"),
    ("factor_update", lambda a, o, f: o, (), "differs"),
    (
        "factor_update",
        lambda a, o, f: o * (a @ f) / (o.sum() * (f.T @ f).sum() + EPS),
        (),
        "differs",
    ),
    ("factor_update", lambda a, o, f: o - (o @ f.T - a) @ f, (), "below zero"),
    ("factor_update", lambda a, o, f: o * torch.nan, (), "below zero"),
    ("factor_update", lambda a, o, f: a.zero_() @ f, (), "differs"),
    ("stacked", BLOCK, (BLOCKS,), "only rows add up"),
    ("stacked", torch.cat([BLOCK, BLOCKS["input"]]), (BLOCKS,), "network order"),
    ("stacked", [BLOCKS["input"], BLOCK], (BLOCKS,), "one tensor"),
    ("even_weights", {"input": 1, "relu": 1}, (BLOCKS,), "differs"),
    ("even_weights", {"input": 1}, (BLOCKS,), "one weight for each"),
    ("even_weights", {"input": 0, "relu": 0}, (BLOCKS,), "positive"),
    ("rank_to_reach", 20, (ERRORS, 0.3), "rank 20 is not the smallest"),
    ("rank_to_reach", 5, (ERRORS, 0.3), "rank 5"),
    ("rank_to_reach", 20, (ERRORS, 0.1), "no rank"),
    ("compressible", 0.36, (SINGULAR, 1), "root"),
    ("compressible", 1e-3, (SINGULAR, 2), "is off"),
    ("compressible", float("nan"), (SINGULAR, 1), "is off"),
    ("rescaled", 1, (WIDE, 1.0), "not above 1.000"),
    ("rescaled", -9, (WIDE, 1.0), "positive"),
    ("alexnet_features", 13_824, (), "13824 is not"),
    ("colour_image", torch.ones(3, 2, 2), (COLOURS,), "colours come last"),
    ("colour_image", torch.tensor([1.0, 2, 3]).expand(2, 2, 3), (COLOURS,), "divide"),
    ("colour_image", torch.tensor([1, 2 / 3, 1 / 3]).expand(2, 2, 3), (COLOURS,), "exchanged"),
    ("ceiling", 75, (CLASSES, (0, 1)), "between 0 and 1"),
    ("ceiling", 0.5, (CLASSES, (0, 1)), "off"),
    ("energy_rank", 3, (torch.tensor([4.0, 3.0, 0.0]), 0.7), "not the number"),
    ("closest_pair", (1, 1), (OVERLAP,), "two different"),
    ("closest_pair", (0, 1), (OVERLAP,), "a larger one"),
    ("overlap", lambda a, b: (a & b).sum() / (a | b).sum(), (), "NaN"),
    ("overlap", lambda a, b: (a & b).sum() / len(a), (), "2 shared"),
    ("overlap", lambda a, b: 0.5, (), "without a common"),
    ("kendall_by_hand", 2 / 3, (), "take off those"),
    ("worst_environment", lambda part, score: "d a lr", (NETWORKS, TURNED), "another has more"),
    (
        "worst_environment",
        lambda part, score: ("d", "a", "lr"),
        (NETWORKS, TURNED),
        "is no environment",
    ),
    ("leading_channel", 0, (COLUMN, 2), "channel 0 carries 45%"),
    ("leading_channel", 2, (COLUMN, 2), "0 to 1"),
    ("moved_most", 0, (PLACES, PLACES.flip(1)), "image 0 has a similarity of 1.00"),
    ("moved_most", 2, (PLACES, PLACES.flip(1)), "0 to 1"),
    ("placed", torch.tensor([0.5, -0.5]), (ROWS, DRAWING), "without negative"),
    ("placed", torch.tensor([0.5]), (ROWS, DRAWING), "one loading for each of 2"),
    ("placed", [0.5, 0.0], (ROWS, DRAWING), "one loading"),
    ("placed", torch.zeros(2), (ROWS, 0 * DRAWING), "all black"),
    ("placed", torch.zeros(2), (ROWS, 9 * DRAWING), "between 0 and 1"),
    ("placed", torch.zeros(2), (ROWS, DRAWING[:1]), "needs 4 numbers"),
    ("products_over_sweeps", 2.4, (30, 20, 5), "two of each"),
    ("products_over_sweeps", 24, (30, 20, 5), "rank²"),
    ("coordinate_sweep", lambda v, b, g: None, (), "return the new V"),
    ("coordinate_sweep", lambda v, b, g: torch.linalg.solve(g, b), (), "below zero"),
    ("coordinate_sweep", sweep_all_at_once, (), "rows before it"),
    ("set_purity", lambda labels: labels.bincount().max(), (), "share of 0.75"),
    ("set_purity", lambda labels: labels.unique().numel() / len(labels), (), "for .3, 1, 3, 3."),
    ("tail_cut", 10.0, (SPREADS, 0.25), "lie above 10.0, not 25%"),
    ("noise_share", 48.0, ((20, 2000),), "divide the largest"),
    ("most_silent", "a", (pd.DataFrame({"zeros": [0.2, 0.7]}, index=["a", "b"]),), "20% of"),
    ("most_silent", "c", (pd.DataFrame({"zeros": [0.2, 0.7]}, index=["a", "b"]),), "no layer 'c'"),
    ("most_gained", "a", (GAINS, (5, 10)), "divide, do not subtract"),
    ("most_gained", "relu", (GAINS, (5, 10)), "no part"),
    ("images_needed", 500, (FLOOR, 0.3), "so will fewer"),
    ("images_needed", 50, (FLOOR, 0.3), "50 is not"),
    ("images_needed", 500, (FLOOR, 0.1), "no number"),
    (
        "alignment",
        lambda x, y: (x @ y.T).norm() ** 2 / ((x @ x.T).norm() * (y @ y.T).norm()),
        (),
        "off every feature",
    ),
    ("alignment", lambda x, y: right_alignment(x, y) ** 0.5, (), "square"),
    ("alignment", lambda x, y: torch.tensor(0.5), (), "small example"),
    ("size_share", 0.25, ((16.0, 1.0), (2.0, 1.0)), "minus that"),
    ("dead_neurons", 30, (2.0, 1.0, 30), "the RMSE is 1.4142"),
    ("dead_neurons", 120, (2.0, 1.0, 30), "as few as possible"),
    ("permuted_neurons", lambda block: block[:, :9], (), "same shape"),
    ("permuted_neurons", lambda block: block.flip(0), (), "within its row"),
    ("permuted_neurons", lambda block: block, (), "nothing has moved"),
    ("permuted_neurons", lambda block: block.flip(1), (), "moved together"),
    ("same_size", 42, (2544, 122, 2, 500), "F included"),
    ("summed_along", lambda t, h, w: t.sum((2, 3)), (), "differs"),
    ("summed_along", lambda t, h, w: torch.einsum("zabc,bz,cz->a", t, h, w), (), "rank × channels"),
    ("break_even", 1000, ((2, 2544), (5, 122)), "7,088 numbers, the other 5,610"),
]


def short(value):
    return str(value)[:20]


@pytest.mark.parametrize(("name", "answer", "given"), RIGHT, ids=short)
def test_a_right_answer_passes_and_is_told_so(capsys, name, answer, given):
    getattr(check, name)(answer, *given)
    assert capsys.readouterr().out == "✓ right\n"


@pytest.mark.parametrize(("name", "answer", "given", "hint"), WRONG, ids=short)
def test_a_wrong_answer_fails_with_a_hint(capsys, name, answer, given, hint):
    with pytest.raises(AssertionError, match=hint):
        getattr(check, name)(answer, *given)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("name", "given"), {name: given for name, _, given in RIGHT}.items())
def test_no_answer_yet_is_neither_right_nor_wrong(capsys, name, given):
    getattr(check, name)(None, *given)
    assert "not answered yet" in capsys.readouterr().out


def test_arguments_can_be_named(capsys):
    check.silent_neurons(2, block=BLOCK)
    assert "right" in capsys.readouterr().out


def test_every_check_is_tested():
    checks = {name for name, value in vars(check).items() if hasattr(value, "__wrapped__")}
    assert checks == {name for name, *_ in RIGHT} == {name for name, *_ in WRONG}
    assert checks == set(check.__all__)


def test_every_check_says_its_chapter_and_stands_there():
    for name in check.__all__:
        one = getattr(check, name)
        chapter = int(one.__module__.rpartition("chapter")[2])
        assert re.match(rf"Chapters? {chapter}\b", one.__doc__), name
