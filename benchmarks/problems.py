"""What the benchmark factorizes: activations of two trained networks, and made-up data of any size.

X is features × images, W features × rank, H rank × images.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import peeklib as pk
from peeklib.blocks import Stack, stack
from peeklib.nmf import random_start

SEED = 0  # of every network, of made-up data, and of the starts
CHUNK = 1 << 22  # entries of X that are worked on at a time


@dataclass(frozen=True)
class Problem:
    """One matrix to factorize."""

    name: str
    X: np.ndarray
    data: Stack  #: its blocks, which are rows of X
    remark: str

    @classmethod
    def of(cls, name: str, blocks: dict[str, Tensor], remark: str) -> "Problem":
        X = torch.cat(list(blocks.values()))
        rows = X.split([len(block) for block in blocks.values()])
        return cls(
            name,
            X.numpy(),
            stack(dict(zip(blocks, rows, strict=True)), None, torch.device("cpu")),
            remark,
        )

    def start(self, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The random factors that ours begins from; H times the one number that fits best."""
        Wt, H = random_start(self.data, rank, seed)
        explained = ((Wt @ self.data).double() * H.double()).sum()
        best = explained / ((Wt @ Wt.T).double() * (H @ H.T).double()).sum()
        return Wt.T.contiguous().numpy(), (H * best.float()).numpy()

    def relative_error(self, W, H) -> float:
        """‖X − W H‖ / ‖X‖, exactly."""
        W, H = np.asarray(W, np.float64), np.asarray(H, np.float64)
        if (W.shape[0], H.shape[1]) != self.X.shape:
            raise ValueError(f"factors {W.shape} and {H.shape} are not of a matrix {self.X.shape}")
        step = max(1, CHUNK // self.X.shape[1])
        parts = [slice(first, first + step) for first in range(0, len(self.X), step)]
        lost = sum(np.square(self.X[part] - W[part] @ H).sum() for part in parts)
        return float(
            np.sqrt(lost / sum(np.square(self.X[part], dtype=np.float64).sum() for part in parts))
        )


@functools.cache
def load(name: str) -> pk.Dataset:
    """A data set, read once; no stand-in."""
    try:
        return pk.load_dataset(name)
    except OSError as why:
        sys.exit(f"The benchmark needs the real {name}: {why}")


def mnist() -> Problem:
    data = load("mnist")
    model = pk.cached(pk.train)(pk.models.PaperCNN(seed=SEED), *data.train, seed=SEED).model
    blocks = pk.input_blocks(data.test.images) | pk.record(model, data.test.images)
    return Problem.of(
        "mnist", blocks, f"PaperCNN after one epoch on all training images; {data.source}"
    )


def alexnet() -> Problem:
    data = load("cifar10")
    part = pk.subset(data, fraction=10_000 / len(data.train.labels), seed=SEED)
    model = pk.models.CifarAlexNet(3, seed=SEED)
    model = pk.cached(pk.train)(model, *part, seed=SEED, lr=0.02, momentum=0.9).model
    blocks = pk.input_blocks(data.test.images) | pk.record(model, data.test.images)
    remark = "CifarAlexNet after one epoch on 10,000 training images only, so that training takes about a minute"
    return Problem.of("alexnet", blocks, f"{remark}; {data.source}")


def planted(features: int, images: int, rank: int, name: str = "planted") -> Problem:
    """Uniform factors of that rank, seven in ten entries zero, and noise |N(0, 0.1²)|; two blocks."""
    draw = np.random.default_rng((SEED, features, images, rank))
    W, H = (
        draw.random(shape, np.float32) * (draw.random(shape) < 0.3)
        for shape in ((features, rank), (rank, images))
    )
    X = np.empty((features, images), np.float32)
    step = max(1, CHUNK // images)
    for x, w in (
        (X[first : first + step], W[first : first + step]) for first in range(0, features, step)
    ):
        np.abs(draw.standard_normal(x.shape, np.float32, out=x), out=x)
        x *= 0.1
        x += w @ H
    blocks = dict(
        zip(
            ("input", "relu"),
            torch.from_numpy(X).split([features // 4, features - features // 4]),
            strict=True,
        )
    )
    return Problem.of(name, blocks, "planted sparse factors and noise")


class Size(NamedTuple):
    """What is measured: in full, or by a test."""

    problems: tuple[Callable[[], Problem], ...]  # that of the sweep first
    rank: int
    budgets: tuple[int, ...]
    sweep: tuple[tuple[int, ...], tuple[int, ...], int]  # ranks, seeds, iterations of scikit-learn
    centre: dict[str, int]
    ladders: dict[str, tuple[int, ...]]


FULL = Size(
    problems=(mnist, alexnet),
    rank=50,
    budgets=(2, 5, 10, 20, 50, 100, 200),
    sweep=((10, 20, 30, 40, 50), (0, 1, 2, 3, 4), 100),
    centre={"features": 4_000, "images": 10_000, "rank": 40},
    ladders={
        "images": (1_000, 2_000, 5_000, 10_000, 20_000, 50_000),
        "features": (1_000, 2_000, 4_000, 8_000, 16_000),
        "rank": (10, 20, 40, 70, 100),
    },
)
HEADLINE = FULL._replace(problems=(mnist,), budgets=(10, 20, 30, 40, 50, 100))
SMALL = Size(
    problems=(functools.partial(planted, 200, 300, 5, name="small"),),
    rank=4,
    budgets=(2, 5, 20),
    sweep=((2, 4), (0, 1), 10),
    centre={"features": 80, "images": 100, "rank": 3},
    ladders={"images": (50, 100), "features": (40, 80), "rank": (2, 3)},
)
