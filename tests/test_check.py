"""Exercise checks: a right answer passes, a wrong one gets a hint and no solution, none is neither."""

import ast
import math
import re
import traceback
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from peeklib import check, coupled_nmf
from peeklib.course.check.answers import Hint, read
from peeklib.course.ranking import kendall
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


def one_permuted(block):
    return torch.cat([permuted_rows(block)[:1], block[1:]])


def half_of_the_images(block):
    return torch.cat([permuted_rows(block[:, :26]), block[:, 26:]], dim=1)


def half_together(block):
    return torch.cat([block[:3].flip(1), permuted_rows(block)[3:]])


def share_of(pick):
    """The share of a label that need not be the most frequent one."""
    return lambda labels: (labels == pick(labels)).float().mean()


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


# three channels of two places; the brightest neuron is in 0, the most in 2, of places first in 1
COLUMN = torch.tensor([5.0, 1.0, 0.0, 0.0, 4.9, 2.0])
BEFORE = torch.tensor([[1.0, 1.0], [3.0, 0.0], [9.0, 8.0], [1.0, 1.0]])
AFTER = torch.tensor([[1.0, 1.0], [0.0, 3.0], [90.0, 9.0], [2.0, 1.0]])
# two components of 2 × 2 pixels, all and the upper row; DRAWING would take the second negatively
ROWS = replace(
    coupled_nmf({"input": torch.ones(4, 3)}, 2, max_iter=1),
    factors={"input": torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])},
)
DRAWING = torch.tensor([[0.25, 0.25], [0.75, 0.75]])
SPREADS = torch.arange(26.0)
# 0.2 less, half of it, and next to nothing
GAINS = pd.DataFrame({5: [0.9, 0.2, 0.5, 0.4], 10: [0.7, 0.1, 0.49, 0.35]}, index=[*"abcd"])
ZEROS = pd.DataFrame({"zeros": [0.2, 0.7, 0.5]}, index=["a", "b", "c"])
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
# new images whose layer the pixels predict badly: a fit of both blocks knows more
PARTS = replace(
    coupled_nmf({"input": torch.ones(2, 3), "relu": torch.ones(2, 3)}, 2, max_iter=1),
    factors={"input": torch.tensor([[1.0, 0.5], [0.5, 1.0]]), "relu": torch.eye(2)},
)
NEW = {
    "input": torch.tensor([[1.0, 2.0], [2.0, 0.1]]),
    "relu": torch.tensor([[2.0, 1.0], [1.0, 3.0]]),
}
RUNS = pd.DataFrame(
    {
        "order": ["2031"] * 2,
        "recall of 0": 0.0,
        "recall of 1": 0.9,
        "recall of 2": 0.1,
        "recall of 3": 0,
    }
)
FOOLED = pd.DataFrame(
    {"lr": [0.9, 0.5, 0.3, 0.45], "classes": [0.3, 0.4, 0.5, 0.36], "width": 1.0}, index=[*"abcd"]
)
ZOO = pd.DataFrame({"data": [*"ddddeee"], "architecture": "a", "accuracy": [1, 2, 3, 4, 5, 6, 7]})
ZOO = ZOO.assign(
    nuclear_norm=[2, 1, 3, 4, 9, 7, 8],
    rmse_area=ZOO.accuracy,
    weight_norm=[-1, -2, -3, -4, 9, 8, 7],  # small is better, in each environment
)


def right_tau(part, score):
    environments = part.groupby(["data", "architecture"])
    taus = [kendall(TURNED[score] * rows[score], rows.accuracy)[0] for _, rows in environments]
    return sum(taus) / len(taus)


def right_residual(V, B, G):
    weight = G.diagonal()[:, None]
    move = V - (V + (B - G @ V) / weight).clamp(min=0)
    return ((weight * move.square()).sum() / (weight * V.square()).sum()).sqrt()


def unweighted_residual(V, B, G):
    move = V - (V + (B - G @ V) / G.diagonal()[:, None]).clamp(min=0)
    return move.norm() / V.norm()


def normal(block, dim=0, correction=0):
    return (block - block.mean(dim, True)) / block.std(dim, keepdim=True, correction=correction)


def lost(fit, by, layer):
    """The relative error of a layer of new images that these blocks place."""
    found = fit.factors[layer] @ fit.transform(by).T
    return ((NEW[layer] - found).norm() / NEW[layer].norm()).item()


def by_chance(a, b, n):
    return a * b / n / (a + b - a * b / n)


def held(block, power=2):
    return block.clamp(max=0).abs().pow(power).sum() / block.abs().pow(power).sum().clamp(min=1e-9)


RECALL = pd.DataFrame({"before": [0.9, 0.3, 0.8, 0.9], "after": [0.4, 0.2, 0.9, 0.8]})
LAST = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, -1.0]])  # classes × neurons
HELD = torch.tensor([[1.0, 0.0], [1.0, 3.0], [2.0, 0.0]])  # neurons × components

# What a page gives to a check, beside the answer.
GIVEN = {
    "silent_neurons": (BLOCK,),
    "stacked": (BLOCKS,),
    "even_weights": (BLOCKS,),
    "rank_to_reach": (ERRORS, 0.3),
    "compressible": (SINGULAR, 1),
    "rescaled": (WIDE, 1.0),
    "colour_image": (COLOURS,),
    "ceiling": (CLASSES, (0, 1)),
    "energy_rank": (torch.tensor([4.0, 3.0, 2.9, 1.0, 0.1]), 0.92),
    "closest_pair": (OVERLAP,),
    "leading_channel": (COLUMN, 3),
    "moved_most": (BEFORE, AFTER),
    "placed": (ROWS, DRAWING),
    "products_over_sweeps": (30, 20, 5),
    "tail_cut": (SPREADS, 0.25),
    "noise_share": ((20, 2000),),
    "most_silent": (ZEROS,),
    "most_gained": (GAINS, (5, 10)),
    "images_needed": (FLOOR, 0.3),
    "size_share": ((16.0, 1.0), (2.0, 1.0)),
    "dead_neurons": (2.0, 1.0, 30),
    "same_size": (2544, 122, 2, 500),
    "break_even": ((2, 2544), (5, 122)),
    "worst_environment": (NETWORKS, TURNED),
    "from_pixels": (PARTS, NEW, "relu"),
    "multiplied": ({"RMSE": 2.0, "relative error": 0.5}, {"RMSE": 6.0, "relative error": 0.501}),
    "spreads_apart": (pd.Series([1.0, 3, 2, 2]), pd.Series([5.0, 7, 6, 6])),
    "smallest_tolerance": (pd.Series([2.0, 2.2, 1.6]),),
    "higher_rank": ({"zeros": torch.ones(4, 4), "digits": torch.eye(4)},),
    "best_known": (RUNS,),
    "shrink": (torch.tensor([[2.0, 1.0], [1.0, 4.0]]), torch.tensor([4.0, 1.4])),
    "along_mean": (torch.tensor([1.0, 0.0]), torch.tensor([[0.3, 0.3], [0.4, 0.4]])),
    "flat_gain": (torch.tensor([[[[3.0, -1.0]]], [[[0.0, 0.0]]], [[[0.0, 1.5]]]]),),
    "safest": (FOOLED, ("lr", "classes")),
    "tau_within": (ZOO, TURNED),
    "constant_kept": (torch.tensor([7, 7, 7, 2, 2, 5, 7, 1]),),
    "most_lost": (RECALL,),
    "votes_by_hand": (LAST, HELD),
}
GIVEN = {name: GIVEN.get(name, ()) for name in check.__all__}
FEATURES = 3 * 64**2 + 64 * 16**2 + 192 * 8**2 + (384 + 256 + 256) * 4**2
IMAGE = torch.tensor([[1 / 3, 2 / 3, 1]]).expand(4, 3).reshape(2, 2, 3)
RIGHT = {
    "neuron_counts": [{"relu1": 1960, "relu2": 500}, {"relu1": 1960.0, "relu2": np.int64(500)}],
    "neuron_row": [499, torch.tensor(499), np.float32(499), 499.0],
    "silent_neurons": [2],
    "factor_update": [right_update, in_place_update],
    "stacked": [torch.cat([BLOCKS["input"], BLOCK]), np.vstack([BLOCKS["input"], BLOCK])],
    "even_weights": [
        {"input": 1, "relu": 5},
        {"relu": torch.tensor(0.1), "input": Fraction(1, 50)},
    ],
    "rank_to_reach": [10],
    "compressible": [0.6, SINGULAR[1, 1] / 5],
    "rescaled": [2.4, np.float64(2.31)],
    "alexnet_features": [FEATURES],
    "colour_image": [IMAGE, IMAGE.double().numpy()],
    "ceiling": [0.75],
    "energy_rank": [3],
    "closest_pair": [(0, 2), [2, 0], torch.tensor([0, 2])],
    "overlap": [jaccard, lambda a, b: (a & b).sum() / (a | b).sum().clamp(min=1)],
    "leading_channel": [2, torch.tensor(2)],
    "moved_most": [1],
    "placed": [torch.tensor([0.5, 0.0]), torch.tensor([[0.5, 0.0]])],
    "products_over_sweeps": [4.8],
    "coordinate_sweep": [right_sweep],
    "set_purity": [
        lambda labels: labels.bincount().max() / len(labels),
        lambda labels: max(labels.tolist().count(x) for x in labels.tolist()) / len(labels),
    ],
    "tail_cut": [19.5],
    "noise_share": [0.245],
    "most_silent": ["b", " b"],
    "most_gained": ["b"],
    "images_needed": [200],
    "alignment": [right_alignment, cka],
    "size_share": [0.75],
    "dead_neurons": [90],
    "permuted_neurons": [
        permuted_rows,
        lambda block: torch.stack([row[torch.randperm(len(row))] for row in block]),
        lambda block: torch.stack([row.roll(k + 3) for k, row in enumerate(block)]),
    ],
    "kendall_by_hand": [1 / 3, Fraction(1, 3), 0.33],
    "worst_environment": [lambda part, score: "d a width"],
    "same_size": [9, 10],
    "summed_along": [lambda t, h, w: torch.einsum("zabc,bz,cz->za", t, h, w)],
    "break_even": [1493, 1492.67],
    "from_pixels": [lost(PARTS, {"input": NEW["input"]}, "relu")],
    "multiplied": [{"RMSE": 3, "relative error": 1}],
    "spreads_apart": [4 / 0.5**0.5],
    "smallest_tolerance": [0.2],
    "higher_rank": ["digits"],
    "best_known": [1],
    "chance_overlap": [by_chance],
    "shrink": [0.7],
    "step_share": [right_residual],
    "normalized": [normal],
    "along_mean": [0.6, -0.6],
    "negative_share": [held],
    "flat_gain": [2.5],
    "safest": ["b"],
    "tau_within": [right_tau],
    "constant_kept": [0.5],
    "most_lost": [0],
    "votes_by_hand": [LAST @ HELD, (LAST @ HELD).numpy()],
}
# Slips that a student may make, by the words that tell them apart.
WRONG = {
    "neuron_counts": {
        "28×28 images": {"relu1": 1440, "relu2": 500},
        "one map of relu2": {"relu1": 1960, "relu2": 25},
        "not the number of neurons of relu2": {"relu1": 1960, "relu2": 400},
        "no entry for 'relu2'": {"relu1": 1960},
        "give one whole number for 'relu2', not None": {"relu1": 1960, "relu2": None},
        "give a dict": 1960,
    },
    "neuron_row": {
        "rows and columns": 3 * 144 + 7 * 12 + 5,
        "channel runs fastest": (5 * 12 + 7) * 10 + 3,
        "count how many": 500,
        "no row": 1440,
    },
    "silent_neurons": {"do fire": 1, "5 entries": 5, "not the number": 4},
    "factor_update": {
        "neurons × rank": lambda a, o, f: right_update(a, o, f).T,
        "below zero": lambda a, o, f: o - (o @ f.T - a) @ f,
        "as it was": lambda a, o, f: o,
        "nothing is left to do": lambda a, o, f: o * (a @ f),
        "another step": lambda a, o, f: o * ((a @ f) / (o @ (f.T @ f))) ** 0.5,
        "returns nothing": lambda a, o, f: None,
        "120 that are NaN": lambda a, o, f: o * torch.nan,
    },
    "stacked": {
        "only rows add up": BLOCK,
        "has a row for each image": torch.cat([BLOCKS["input"], BLOCK]).T,
        "rows of 'input'": torch.cat([BLOCK, BLOCKS["input"]]),
        "give one tensor, not a list": [BLOCKS["input"], BLOCK],
    },
    "even_weights": {
        "no even say: 'input' has more": {"input": 1, "relu": 1},
        "adds up squares": {"input": 5**-0.5, "relu": 1},
        "louder still": {"input": 5, "relu": 1},
        "one weight for each": {"input": 1},
        "'relu' is not": {"input": 1, "relu": 0},
    },
    "rank_to_reach": {
        "not the smallest": 20,
        "error is 0.5000, above 0.3000": 5,
        "none of": 15,
    },
    "compressible": {
        "share of squares": 0.36,
        "leave out": 0.8,
        "values themselves": 3 / 7,
        "between 0 and 1": 3.0,
        "beyond the first 1": 0.5,
    },
    "rescaled": {"not above 1.000": 1, "so will less": 9, "positive": -9, "far off": 1e6},
    "alexnet_features": {
        "pixels alone": 3 * 64**2,
        "neurons alone": FEATURES - 3 * 64**2,
        "for 32×32": FEATURES // 4,
        "twice as wide": FEATURES // 2,
        "not the number of rows": FEATURES - 2 * 64**2,
    },
    "colour_image": {
        "colours come last": IMAGE.movedim(2, 0),
        "not 1": IMAGE * 3,
        "red and blue": IMAGE.flip(2),
        "component 0": IMAGE / IMAGE.amax(dim=(0, 1)),
        "4 pixels": torch.ones(3, 3, 3),
    },
    "ceiling": {
        "between 0 and 1": 75,
        "must be wrong": 0.25,
        "share of classes": 2 / 3,
        "is off": 0.5,
    },
    "energy_rank": {
        "without squares": 4,
        "counted from 0": 2,
        "hold less than 92%": 1,
        "more than it takes": 5,
        "5 values": 6,
    },
    "closest_pair": {
        "two different": (1, 1),
        "smallest": (0, 1),
        "a larger one": (1, 2),
        "from 0 to 2": (0, -1),
    },
    "overlap": {
        "[0, 0, 0, 0, 0, 0]": lambda a, b: (a & b).sum() / (a | b).sum(),
        "exchange": lambda a, b: (a & b).sum() / a.sum(),
        "their overlap is 1": lambda a, b: (a & b).sum() / len(a),
        "active for both": lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()),
        "no neuron is shared": lambda a, b: jaccard(a, b) if (a | b).any() else 1,
    },
    "leading_channel": {"brightest": 0, "by channel": 1, "from 0 to 2": 3},
    "moved_most": {"most alike": 0, "farthest apart": 2, "another one less": 3, "0 to 3": 4},
    "placed": {
        "below zero": torch.tensor([0.5, -0.5]),
        "would count twice": torch.tensor([2.0, 0.5]),
        "closer to the drawing": torch.tensor([0.5, 0.1]),
        "one loading for each": torch.tensor([0.5]),
    },
    "products_over_sweeps": {
        "other way round": 1 / 4.8,
        "rank²": 24,
        "off by two": 2.4,
        "write down": 50,
    },
    "coordinate_sweep": {
        "below zero": lambda v, b, g: torch.linalg.solve(g, b),
        "rows before it": sweep_all_at_once,
        "as it was": lambda v, b, g: v,
        "its own entry of G": lambda v, b, g: (v + b - g @ v).clamp(min=0),
        "rank × images": lambda v, b, g: v.T,
        "returns nothing": lambda v, b, g: None,
    },
    "set_purity": {
        "no share": lambda labels: labels.bincount().max(),
        "most often": lambda labels: labels.unique().numel() / len(labels),
    },
    "tail_cut": {
        "lie above 10, not 25%": 10.0,
        "other tail": 5.5,
        "outside": 100,
    },
    "noise_share": {
        "between 0 and 1": 48.0,
        "of the squares": 0.06,
        "of the sum": 0.055,
        "is off": 0.9,
    },
    "most_silent": {"silent least": "a", "50% of": "c", "no layer 'd'": "d"},
    "most_gained": {
        "largest share": "a",
        "gains least": "c",
        "keeps 87%": "d",
        "no part": "relu",
    },
    "images_needed": {"so will fewer": 500, "0.70 alike": 50, "none of": 100},
    "alignment": {
        "off every feature": lambda x, y: (
            (x @ y.T).norm() ** 2 / ((x @ x.T).norm() * (y @ y.T).norm())
        ),
        "divided by": lambda x, y: ((x - x.mean(1, True)) @ (y - y.mean(1, True)).T).norm(),
        "which norm is squared": lambda x, y: right_alignment(x, y) ** 0.5,
        "perfectly aligned": lambda x, y: torch.tensor(0.5),
        "norm by norm": lambda x, y: 1.0,
    },
    "size_share": {
        "of the relative errors": 0.25,
        "ratio of sizes": math.log(8),
        "per cent": 75,
        "logarithms": 0.5,
    },
    "dead_neurons": {
        "RMSE is 1.0042, still above": 89,
        "with fewer": 91,
        "new": 120,
        "added": -5,
    },
    "permuted_neurons": {
        "same shape": lambda block: block[:, :9],
        "within its row": lambda block: block.flip(0),
        "next to nothing": lambda block: block,
        "neuron 1 has values that did not move": one_permuted,
        "moved together": lambda block: block.flip(1),
        "sorted": lambda block: block.sort(dim=1).values,
    },
    "kendall_by_hand": {
        "ordered alike": 2 / 3,
        "between −1 and 1": 2,
        "wrong sign": -1 / 3,
        "three pairs": 1.0,
    },
    "worst_environment": {
        "errs least": lambda part, score: "d a lr",
        "no environment": lambda part, score: "width",
        "returns a tuple": lambda part, score: ("d", "a", "lr"),
    },
    "same_size": {"leaves out F": 42, "more than 2": 1, "4,976 numbers": 8, "6,842": 11},
    "summed_along": {
        "H has no say": lambda t, h, w: torch.einsum("zabc,cz->za", t, w),
        "W has no say": lambda t, h, w: torch.einsum("zabc,bz->za", t, h),
        "the sums differ": lambda t, h, w: torch.einsum("zabc,by,cz->za", t, h, w),
        "rank × channels": lambda t, h, w: torch.einsum("zabc,bz,cz->az", t, h, w),
    },
    "break_even": {"above zero": -1493, "7,088 numbers, the other 5,610": 1000},
    "from_pixels": {
        "layers may help": lost(PARTS, NEW, "relu"),
        "pixels themselves": lost(PARTS, {"input": NEW["input"]}, "input"),
        "share of squares": lost(PARTS, {"input": NEW["input"]}, "relu") ** 2,
        "beside the norm": 0.9,
    },
    "multiplied": {
        "has no unit": {"RMSE": 3, "relative error": 3},
        "not of their squares": {"RMSE": 9, "relative error": 1},
        "did not come true": {"RMSE": 1, "relative error": 1},
        "is positive": {"RMSE": -3, "relative error": 1},
        "no entry": {"RMSE": 3},
    },
    "spreads_apart": {
        "distance itself": 4,
        "ddof=0": 4 / (2 / 3) ** 0.5,
        "standard errors": 8 / 0.5**0.5,
        "take the root": 8,
        "not below zero": -5.66,
    },
    "smallest_tolerance": {
        "per cent": 20,
        "one seed agrees": 0.1,
        "in the unit": 0.4,
        "too many": 0.3,
        "does not agree": 0.05,
    },
    "higher_rank": {"they are apart": "same", "no: zeros": "zeros", "choose one": "ones"},
    "best_known": {"came first": 2, "in between": 3, "one digit of": 7},
    "chance_overlap": {
        "no share": lambda a, b, n: a * b / n,
        "exchange": lambda a, b, n: b / n,
        "b of n": lambda a, b, n: a * b / n / (a + b),
        "both only once": lambda a, b, n: a * b / n / max(a, b),
    },
    "shrink": {
        "takes off": 0.3,
        "makes it grow": 1 / 0.7,
        "without the first one": 0.35,
        "write down": 0.5,
        "positive": -0.7,
    },
    "step_share": {
        "at the minimum": lambda v, b, g: ((b - g @ v) / g.diagonal()[:, None]).norm() / v.norm(),
        "another scale": unweighted_residual,
        "take the root": lambda v, b, g: right_residual(v, b, g) ** 2,
        "alone": lambda v, b, g: 2 * right_residual(v, b, g),
        "share of V": lambda v, b, g: right_residual(v, b, g) * (v.square().sum(1) @ g.diagonal()),
    },
    "normalized": {
        "the rows": lambda block: normal(block, 1),
        "mean 0": lambda block: block / block.std(0, correction=0),
        "variance 1": lambda block: block - block.mean(0),
        "one neuron too few": lambda block: normal(block, correction=1),
        "not those of the block": lambda block: normal(block).flip(1),
        "same shape": lambda block: normal(block).T,
    },
    "along_mean": {"inner product": 0.3, "share of squares": 0.36, "is off": 0.1, "between": 3},
    "negative_share": {
        "counts entries": lambda block: (block < 0).float().mean(),
        "values themselves": lambda block: held(block, 1),
        "of the positive": lambda block: 1 - held(block),
        "nothing is negative": lambda block: held(block) if block.any() else 1,
        "the share differs": lambda block: held(block) / 2,
        "no share": lambda block: block.clamp(max=0).square().sum(),
    },
    "flat_gain": {
        "whatever the pattern": torch.tensor([3, 1, 1.5]).norm(),
        "more than a flat": 4,
        "is off": 1,
        "below zero": -2.5,
    },
    "safest": {
        "on average": "a",
        "best at one": "c",
        "falls to": "d",
        "no score": "e",
    },
    "tau_within": {
        "at once": lambda part, score: kendall(TURNED[score] * part[score], part.accuracy)[0],
        "the sign is wrong": lambda part, score: right_tau(part, score) * TURNED[score],
        "count once": lambda part, score: 0.9 * right_tau(part, score),
        "not the sum": lambda part, score: 9 * right_tau(part, score),
    },
    "constant_kept": {
        "is no share": 4,
        "equally often": 0.25,
        "no answer is given to": 0.8,
        "keeps more": 0.125,
    },
    "most_lost": {
        "give one class": 7,
        "ends lowest": 1,
        "gained": 2,
        "another one more": 3,
    },
    "votes_by_hand": {
        "classes come first": (LAST @ HELD).T,
        "here 2 × 2": LAST,
        "may be negative": (LAST @ HELD).clamp(min=0),
        "sum over the neurons": 2 * LAST @ HELD,
    },
}
MORE = {
    "set_purity": [
        share_of(lambda labels: labels[0]),
        share_of(lambda labels: labels[-1]),
        share_of(lambda labels: labels.median()),
        share_of(lambda labels: labels.min()),
        share_of(lambda labels: labels.max()),
    ],
    "permuted_neurons": [
        half_together,
        half_of_the_images,
        lambda block: block.sort(1, descending=True).values,
    ],
    "factor_update": [lambda a, o, f: a.zero_() @ f],
    "rescaled": [2.3, 2.5],
}


def short(value):
    return str(value)[:20]


def hint_for(name, answer, given=None):
    """What the check says; it must raise."""
    with pytest.raises(Hint) as raised:
        getattr(check, name)(answer, *(GIVEN[name] if given is None else given))
    return str(raised.value)


@cache
def hints(name):
    return {words: hint_for(name, answer) for words, answer in WRONG[name].items()}


@pytest.mark.parametrize("name", check.__all__)
def test_right_answers_pass_and_are_told_so(capsys, name):
    for answer in RIGHT[name]:
        getattr(check, name)(answer, *GIVEN[name])
        assert capsys.readouterr().out == "✓ right\n", answer


@pytest.mark.parametrize("name", check.__all__)
def test_every_slip_gets_its_own_hint(capsys, name):
    for words, hint in hints(name).items():
        assert words in hint
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name", MORE)
def test_other_wrong_answers_do_not_pass(name):
    for answer in MORE[name]:
        hint_for(name, answer)


@pytest.mark.parametrize("name", check.__all__)
def test_no_answer_yet_is_neither_right_nor_wrong(capsys, name):
    getattr(check, name)(None, *GIVEN[name])
    assert "not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", check.__all__)
def test_two_slips_get_two_hints(name):
    """Of the check itself, not of what reads answers; and two that differ in more than numbers."""
    readers = ("give one", "give a dict", "your function")
    own = [hint for hint in hints(name).values() if not hint.startswith(readers)]
    assert len({re.sub(r"[\d.,]+", "#", hint) for hint in own}) >= 2


CHOICES = {"rank_to_reach", "images_needed"}  # the right one is in a list to choose from


@pytest.mark.parametrize("name", check.__all__)
def test_no_hint_gives_the_answer_away(name):
    right = RIGHT[name][0]
    secrets = right.values() if isinstance(right, dict) else [right]
    secrets = {f"{x:.3g}" for x in secrets if isinstance(x, (int, float)) and x not in (0, 1, 2)}
    for words, hint in hints(name).items():
        said = re.sub(re.escape(words), "", hint).replace(",", "")
        numbers = {f"{float(x):.3g}" for x in re.findall(r"\d+\.?\d*", said)}
        numbers -= {f"{abs(x):.3g}" for x in [WRONG[name][words]] if isinstance(x, (int, float))}
        assert name in CHOICES or not secrets & numbers, hint
        assert not re.search(r"@|\*\*|==|\w\(|\*", hint), f"code in {hint!r}"


def fails(*given):
    return 1 / 0


ODD = [
    "text", "", b"bytes", [1, 1.5, None], [], (), {}, {1, 2}, {"a": 1}, ..., object(), True, 1j,
    math.nan, math.inf, -math.inf, -1, -0.5, -1e300, 1e12, 10**400, -(10**5000),
    np.array(["a", "b"]), np.array([object()]), np.array(math.nan), pd.DataFrame(), pd.Series([1j]),
    torch.zeros(0), torch.zeros(2, 3, 4), torch.zeros(1, 1, 1, 1), torch.tensor([math.nan]),
    torch.tensor(True), torch.ones(2, 2).to_sparse(), torch.tensor(1j), torch.ones(3, device="meta"),
    torch.ones((), device="meta"), torch.Tensor, torch.nn.Linear(2, 2), fails, partial(fails, 1),
    lambda: 1, lambda *given: None, lambda *given: given, lambda *given: math.nan,
    lambda *given: "text", lambda *given: -1e300, lambda *given: torch.zeros(0),
    lambda *given: torch.zeros(2, 9), lambda *given: [None], lambda *given: given[0].nothing,
]  # fmt: skip
NAMES = {
    "neuron_counts": ["relu1", "relu2"],
    "even_weights": ["input", "relu"],
    "multiplied": ["RMSE", "relative error"],
}


@pytest.mark.parametrize("name", check.__all__)
@pytest.mark.filterwarnings("ignore:Sparse.*:UserWarning")
def test_odd_answers_get_hints_and_no_errors(name):
    inside = [dict.fromkeys(NAMES.get(name, "a"), one) for one in (None, -1, math.nan, "1", [2])]
    for answer in ODD + inside:
        hint = hint_for(name, answer)
        assert len(hint.splitlines()) == 1 and 8 < len(hint) < 500, answer


def test_an_error_in_a_function_is_named_with_its_line():
    def mine(A, O, F):
        wide = A @ F
        return wide @ O

    hint = hint_for("factor_update", mine)
    assert "stops with RuntimeError in its line 3, `return wide @ O`: " in hint
    assert "ZeroDivisionError in its line 2, `return 1 / 0`" in hint_for("alignment", fails)
    assert "missing 1 required positional" in hint_for("alignment", lambda x, y, z: x)
    assert "KeyError" in hint_for("worst_environment", lambda part, score: part["nothing"])


def test_functions_get_copies():
    def spoils(part, score):
        part["accuracy"] = 0
        return "d a width"

    given = NETWORKS.copy()
    check.worst_environment(spoils, given, TURNED)
    assert given.equals(NETWORKS)
    check.alignment(lambda x, y: right_alignment(x.sub_(x.mean(1, True)), y))


@pytest.mark.parametrize(
    ("answer", "kind", "expected"),
    [
        (10.0, int, 10),
        (np.int64(3), float, 3.0),
        (torch.tensor(2.5, requires_grad=True), float, 2.5),
        (Fraction(1, 4), float, 0.25),
        ([0, 2.0], tuple[int, int], (0, 2)),
        ({"a": np.float32(2)}, dict[str, int], {"a": 2}),
        (" relu1", str, "relu1"),
    ],
)
def test_answers_are_read_in_many_forms(answer, kind, expected):
    found = read(answer, kind)
    assert found == expected and type(found) is type(expected)


def test_tensors_are_read_from_arrays_tables_and_any_dtype():
    whole = np.arange(6).reshape(2, 3)
    frozen = whole.copy()
    frozen.flags.writeable = False
    many = [whole, frozen, whole[::-1][::-1], pd.DataFrame(whole), torch.tensor(whole)]
    many += [torch.tensor(whole).to_sparse(), torch.tensor(whole).half().requires_grad_()]
    for answer in many:
        found = read(answer, torch.Tensor)
        assert torch.equal(found, torch.arange(6.0).double().reshape(2, 3)), answer


DEGENERATE = [
    ("rank_to_reach", 20, (ERRORS, 0.1), "no rank"),
    ("images_needed", 500, (FLOOR, 0.1), "no number"),
    ("ceiling", 0.5, (torch.zeros(0), (0,)), "no labels"),
    ("energy_rank", 1, (torch.zeros(3), 0.9), "all singular values are zero"),
    ("tail_cut", 1, (torch.zeros(0), 0.1), "no variances"),
    ("size_share", 1, ((2.0, 2.0), (1.0, 2.0)), "no gap"),
    ("break_even", 5, ((2, 9), (2, 5)), "never meet"),
    ("placed", torch.zeros(2), (ROWS, 0 * DRAWING), "all black"),
    ("placed", torch.zeros(2), (ROWS, 9 * DRAWING), "between 0 and 1"),
    ("placed", torch.zeros(2), (ROWS, DRAWING[:1]), "needs 4 numbers"),
    ("placed", torch.zeros(2), (ROWS, [0.5] * 4), "give one tensor, not a list"),
    ("placed", torch.zeros(2), (ROWS, DRAWING / 0), "NaN or infinite"),
    ("compressible", 0.1, (torch.zeros(3, 3), 1), "beyond the first 1"),
    ("most_gained", "b", (pd.DataFrame({1: [0.0, 4], 2: [0.0, 2]}, ["a", "c"]), (1, 2)), "no part"),
]


@pytest.mark.parametrize(("name", "answer", "given", "words"), DEGENERATE, ids=short)
def test_what_cannot_be_answered_is_said(name, answer, given, words):
    assert words in hint_for(name, answer, given)


@pytest.mark.parametrize(
    ("name", "answer", "given"),
    [
        ("compressible", 0.0, (torch.zeros(3, 3), 1)),
        ("compressible", 0.0, (SINGULAR, 2)),
        ("energy_rank", 2, (torch.tensor([4.0, 3.0, 0.0]), 1.0)),
        ("even_weights", {"a": 1, "b": 9}, ({"a": BLOCK, "b": 0 * BLOCK},)),
        ("placed", np.array([0.5, 0.0]), (ROWS, DRAWING.double().numpy())),
        ("dead_neurons", 0, (1.0, 2.0, 30)),
        ("closest_pair", (1, 0), (torch.tensor([[1.0, 0.7], [0.5, 1.0]]),)),
        ("most_gained", "c", (pd.DataFrame({1: [0.0, 4], 2: [0.0, 2]}, ["a", "c"]), (1, 2))),
    ],
    ids=short,
)
def test_zeros_and_ends_can_be_answered(capsys, name, answer, given):
    getattr(check, name)(answer, *given)
    assert "right" in capsys.readouterr().out


def test_an_environment_without_a_pair_does_not_count(capsys):
    alike = NETWORKS.iloc[:2].assign(factor=["base", "epochs"], architecture="b", accuracy=0.5)
    check.worst_environment(lambda part, score: "d a width", pd.concat([alike, NETWORKS]), TURNED)
    assert "right" in capsys.readouterr().out


def test_a_notebook_shows_one_line_and_the_cell_fails(capsys):
    shell = InteractiveShell.instance() if InteractiveShell.initialized() else InteractiveShell()
    shell.user_ns |= {"check": check, "block": BLOCK}
    done = shell.run_cell("check.silent_neurons(1, block)\nprint('not reached')")
    shell.history_manager.end_session()
    assert isinstance(done.error_in_exec, AssertionError)
    assert capsys.readouterr().out == "✗ 1 neurons do fire for some image; how many do not?\n"


def test_a_traceback_shows_no_line_of_a_check():
    def raises(*given):
        raise ValueError("of mine")

    for name, answer in [("silent_neurons", 1), ("alignment", raises), ("stacked", "text")]:
        with pytest.raises(Hint) as raised:
            getattr(check, name)(answer, *GIVEN[name])
        frames = traceback.extract_tb(raised.value.__traceback__)
        told = "".join(traceback.format_exception(raised.value))
        assert [Path(frame.filename).name for frame in frames] == ["test_check.py", "exercise.py"]
        assert frames[-1].line == "raise Hint(hint)" and told.count("Traceback") == 1


def test_python_without_asserts_checks_as_well():
    for file in Path(check.__file__).parent.glob("*.py"):
        assert not any(
            isinstance(node, ast.Assert) for node in ast.walk(ast.parse(file.read_text()))
        )


def test_an_interrupt_is_no_hint():
    def stops(*given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check.overlap(stops)


def test_arguments_can_be_named(capsys):
    check.silent_neurons(2, block=BLOCK)
    assert "right" in capsys.readouterr().out


def test_every_check_is_tested():
    checks = {name for name, value in vars(check).items() if hasattr(value, "__wrapped__")}
    assert checks == set(RIGHT) == set(WRONG) == set(check.__all__)


def test_every_check_says_its_chapter_and_stands_there():
    for name in check.__all__:
        one = getattr(check, name)
        chapter = int(one.__module__.rpartition("chapter")[2])
        assert re.match(rf"Chapters? {chapter}\b", one.__doc__), name


CHAPTERS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def cells_of(chapter):
    return re.split(r"(?m)^# %%", chapter.read_text())


def called(cell):
    return set(re.findall(r"pk\.check\.(\w+)", cell))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=short)
def test_an_exercise_has_minutes_a_hint_a_stub_and_a_solution(chapter):
    cells = cells_of(chapter)
    at = [k for k, cell in enumerate(cells) if "### Exercise" in cell]
    assert len(at) >= 3
    for number, k in enumerate(at, start=1):
        text, stub, solution = cells[k : k + 3]
        assert re.search(rf"### Exercise {number} [●○]{{3}} \(\d+ minutes\)", text)
        assert "<summary>Hint</summary>" in text and "# @title Solution" in solution
        assert re.search(r"= (\(\s+)?None\b", stub) and len(called(stub)) == 1
        assert called(stub) <= called(solution)


def test_every_check_is_on_a_page_and_every_study_has_a_prediction():
    pages = {int(chapter.name[:2]): chapter.read_text() for chapter in CHAPTERS}
    assert set().union(*map(called, pages.values())) == set(check.__all__)
    assert sum(page.count("### Exercise") for page in pages.values()) >= 50
    assert all("*Predict, then run.*" in pages[study] for study in (3, 5, 6))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=short)
def test_a_page_promises_the_minutes_of_its_parts(chapter):
    text = "".join(cell for cell in cells_of(chapter) if cell.startswith(" [markdown]"))
    parts = re.findall(r"\*(\d+) minutes\.\*|### Exercise.*\((\d+) minutes\)", text)
    minutes = sum(int(section or exercise) for section, exercise in parts)
    (promised,) = re.findall(r"Allow (\d+) minutes", text)
    assert 0 <= int(promised) - minutes < 5, f"the parts take {minutes} minutes"
