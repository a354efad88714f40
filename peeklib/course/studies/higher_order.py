"""Higher order: one network's layers factorized as matrices and as tensors, at equal rank and at equal size.

A *model* says in which shape each block is given to `coupled_ntf`: its feature modes; images come last. `block[:, :n]` are
the first n of the test images, the last `NEW` recorded are never in a fit.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import peeklib as pk

from ... import zoo
from ...tensors import CoupledTensors, coupled_ntf

SHAPES = {
    "matrix": {"input": (784,), "relu1": (1440,), "relu2": (320,)},
    "channel × place": {"input": (784,), "relu1": (10, 144), "relu2": (20, 16)},
    "CP": {"input": (28, 28), "relu1": (10, 12, 12), "relu2": (20, 4, 4)},
}
TILES = {"input": (28, 28)}
MIXED = {  # the input as in CP, the layers as in another
    "tiles, free layers": SHAPES["matrix"] | TILES,
    "tiles, channel × place": SHAPES["channel × place"] | TILES,
}
ALL = SHAPES | MIXED
MAPS = {"input": (1, 28, 28), "relu1": (10, 12, 12), "relu2": (20, 4, 4)}  # channels, height, width
RANKS, BASE = (5, 10, 15), 10  # of the matrix model
COUNT, COUNTS, NEW = 500, (200, 500, 1_000, 2_000), 1_000  # images in a fit, and new ones
TUCKER = (8, 3, 3, BASE)  # the ranks of a Tucker model of relu2
FIT = {"max_iter": 200, "tol": 1e-4}
PROGRAMS = {  # the settings of `libraries`
    "ours": {"max_iter": 200, "tol": 1e-5},
    "CP, TensorLy": {"n_iter_max": 200, "tol": 1e-6, "init": "random"},
    "Tucker, TensorLy": {"n_iter_max": 50, "init": "svd"},
}
PROGRAM_COLUMNS = ("model", "program", "rank", "numbers", "relative_error")
SHUFFLES = ("places", "neurons")
rear, factorize = pk.cached(zoo.rear), pk.cached(coupled_ntf)
Blocks = Mapping[str, Tensor]


def shaped(blocks: Blocks, model: str) -> dict[str, Tensor]:
    """The same numbers, each block in the shape that this model wants."""
    return {name: block.unflatten(0, ALL[model][name]) for name, block in blocks.items()}


def length(model: str) -> int:
    """How many numbers a component takes, without its image factor."""
    return sum(sum(shape) for shape in ALL[model].values())


def equal_size(model: str, rank: int, count: int = COUNT) -> int:
    """The rank at which `model` holds as many numbers as the matrix model at `rank`, for so many images."""
    return round(rank * (length("matrix") + count) / (length(model) + count))


def fit(blocks: Blocks, model: str, rank: int, count: int = COUNT, seed: int = 0) -> CoupledTensors:
    """The factorization of the first `count` images."""
    few = {name: block[:, :count].contiguous() for name, block in blocks.items()}
    return factorize(shaped(few, model), rank, seed=seed, **FIT)


def new_error(found: CoupledTensors, new: Blocks, model: str) -> float:
    """Relative error of new images, placed in a fit."""
    F = found.transform(shaped(new, model))
    lost = sum((new[name] - W @ F.T).square().sum() for name, W in found.factors.items())
    return (lost / sum(block.square().sum() for block in new.values())).sqrt().item()


def shuffled(blocks: Blocks, what: str, seed: int) -> dict[str, Tensor]:
    """Blocks with their "places" shuffled, alike in all channels, or all their "neurons" among each other."""
    draw, out = torch.Generator().manual_seed(seed), {}
    for name, block in blocks.items():
        channels, height, width = MAPS[name]
        if what == "places":
            order = torch.randperm(height * width, generator=draw)
            out[name] = block.unflatten(0, (channels, -1))[:, order.to(block.device)].flatten(0, 1)
        else:
            out[name] = block[torch.randperm(len(block), generator=draw).to(block.device)]
    return out


def agreement(one: CoupledTensors, other: CoupledTensors) -> float:
    """Mean correlation of the components' columns of F, after the best matching of two fits of one rank."""
    both = [found.image_factor.T.cpu() for found in (one, other)]
    r = np.corrcoef(*both)[: one.rank, one.rank :]
    return float(r[linear_sum_assignment(-r)].mean())


def settings() -> Iterator[dict]:
    """What is varied: model, its shuffle, the images, and whether rank or size equals that of a matrix model."""
    plain = {"equal": "size", "base": BASE, "images": COUNT, "shuffle": "none"}
    for equal in ("rank", "size"):
        for model in SHAPES:
            yield from ({**plain, "model": model, "equal": equal, "base": base} for base in RANKS)
            counts = [count for count in COUNTS if count != COUNT]
            yield from (
                {**plain, "model": model, "equal": equal, "images": count} for count in counts
            )
        yield from ({**plain, "model": model, "equal": equal} for model in MIXED)
    for model in SHAPES:
        yield from ({**plain, "model": model, "shuffle": what} for what in SHUFFLES)


def rank_of(which: Mapping) -> int:
    """The rank of the fit that a setting asks for."""
    if which["equal"] == "rank":
        return which["base"]
    return equal_size(which["model"], which["base"], which["images"])


def row(blocks: Blocks, which: Mapping, seed: int = 0) -> dict:
    """One setting and one start: errors, of the fit and of new images, and how well the next start agrees."""
    known = blocks if which["shuffle"] == "none" else shuffled(blocks, which["shuffle"], seed)
    how = known, which["model"], rank_of(which), which["images"]
    found, new = fit(*how, seed), {name: block[:, -NEW:] for name, block in known.items()}
    return {
        **which,
        "seed": seed,
        "rank": found.rank,
        "numbers": found.parameters,
        "relative_error": found.relative_error,
        **{f"error of {name}": error for name, error in found.block_errors.items()},
        "new_error": new_error(found, new, which["model"]),
        "agreement": agreement(found, fit(*how, seed + 1)),
        "iterations": found.iterations,
        "converged": found.converged,
    }


def recorded(data: str = "mnist", images: int = max(COUNTS) + NEW) -> dict[str, Tensor]:
    """The blocks of the zoo's base network, features × the first test images."""
    model, _ = rear(zoo.Recipe(data, "cnn"))
    shown = zoo.dataset(data).test.images[:images]
    return pk.input_blocks(shown) | pk.record(model, shown)


def higher_order(seeds=range(5)) -> Iterator[dict]:
    """Every setting from every start, of one network on MNIST."""
    blocks = recorded()
    for seed in seeds:
        for which in settings():
            yield row(blocks, which, seed)


def one_tensor(matrix: Tensor, seed: int) -> Iterator[tuple]:
    """`relu2`, as a tensor and as a matrix, by our program and by TensorLy's, from one start: see `PROGRAM_COLUMNS`."""
    import tensorly.decomposition as theirs  # the book's, not the package's

    X = matrix.unflatten(0, SHAPES["CP"]["relu2"])
    array, how = X.double().cpu().numpy(), {"return_errors": True}
    found, lost = theirs.non_negative_parafac_hals(
        array, BASE, random_state=seed, **PROGRAMS["CP, TensorLy"], **how
    )
    yield "CP", "TensorLy", BASE, sum(factor.size for factor in found.factors), float(lost[-1])
    found, lost = theirs.non_negative_tucker_hals(
        array, TUCKER, **PROGRAMS["Tucker, TensorLy"], **how
    )
    size = found.core.size + sum(factor.size for factor in found.factors)
    yield "Tucker", "TensorLy", BASE, size, float(lost[-1])
    larger = round(size / sum(X.shape))  # CP of the size of Tucker
    for model, block, rank in (
        ("CP", X, BASE),
        ("CP, larger", X, larger),
        ("matrix", matrix, BASE),
    ):
        found = coupled_ntf({"block": block}, rank, seed=seed, **PROGRAMS["ours"])
        yield model, "ours", rank, found.parameters, found.relative_error


def libraries(seeds=range(5)) -> Iterator[dict]:
    """`relu2` alone: what TensorLy finds and what we find. Its Tucker model has one start, from the SVD."""
    block = recorded()["relu2"][:, :COUNT].contiguous()
    for seed in seeds:
        for found in one_tensor(block, seed):
            yield {"seed": seed, **dict(zip(PROGRAM_COLUMNS, found, strict=True))}
