"""Higher order: one network's layers factorized as matrices and as tensors, at equal rank or size.

A *model* says in which shape each block is given to `coupled_ntf`: its feature modes; images come
last. `block[:, :n]` are the first n of the test images, the last `NEW` recorded are never in a fit.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import peeklib as pk

from ...blocks import check_seed
from ...tensors import CoupledTensors, coupled_ntf
from .. import zoo

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
SHUFFLES = ("places", "neurons")
rear, factorize = pk.cached(zoo.rear), pk.cached(coupled_ntf)
Blocks = Mapping[str, Tensor]


def shaped(blocks: Blocks, model: str) -> dict[str, Tensor]:
    """The same numbers, each block in the shape that this model wants.

    Returns:
        Name → feature modes × images.

    Example:
        >>> shaped({"relu2": torch.zeros(320, 5)}, "CP")["relu2"].shape
        torch.Size([20, 4, 4, 5])
    """
    return {name: block.unflatten(0, ALL[model][name]) for name, block in blocks.items()}


def length(model: str) -> int:
    """How many numbers a component takes, without its image factor.

    Returns:
        Lengths of all its modes but the images, in all blocks, added up.

    Example:
        >>> [length(model) for model in SHAPES]
        [2544, 974, 118]
    """
    return sum(sum(shape) for shape in ALL[model].values())


def equal_size(model: str, rank: int, count: int = COUNT) -> int:
    """The rank at which `model` holds as many numbers as the matrix model at `rank`.

    Returns:
        A whole number, the closest one.

    Example:
        >>> equal_size("CP", rank=10)
        49
    """
    return round(rank * (length("matrix") + count) / (length(model) + count))


def fit(blocks: Blocks, model: str, rank: int, count: int = COUNT, seed: int = 0) -> CoupledTensors:
    """The factorization of the first `count` images.

    Returns:
        Factors of every mode, with F images × rank.
    """
    few = {name: block[:, :count].contiguous() for name, block in blocks.items()}
    return factorize(shaped(few, model), rank, seed=seed, **FIT)


def new_error(found: CoupledTensors, new: Blocks, model: str) -> float:
    """Relative error of new images, placed in a fit.

    Returns:
        Their distance from the model, as a share of their norm.

    Example:
        >>> blocks = {"relu2": torch.ones(320, 5)}
        >>> found = coupled_ntf(shaped(blocks, "CP"), 1)
        >>> round(new_error(found, {"relu2": torch.full((320, 2), 7.0)}, "CP"), 3)
        0.0
    """
    F = found.transform(shaped(new, model))
    lost = [(new[name] - W @ F.T).square().sum() for name, W in found.factors.items()]
    energy = [block.square().sum() for block in new.values()]
    return (sum(lost, torch.zeros(())) / sum(energy)).sqrt().item()


def shuffled(blocks: Blocks, what: str, seed: int) -> dict[str, Tensor]:
    """Blocks with their "places" shuffled, alike in all channels, or all their "neurons".

    Returns:
        Name → features × images, as before.

    Example:
        >>> block = torch.arange(320.0)[:, None]
        >>> moved = shuffled({"relu2": block}, "places", seed=0)["relu2"]
        >>> torch.equal(moved.view(20, 16).sort().values, block.view(20, 16))  # within its channel
        True
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    found = {}
    for name, block in blocks.items():
        channels, height, width = MAPS[name]
        count = height * width if what == "places" else len(block)
        order = torch.randperm(count, generator=generator).to(block.device)
        if what == "places":
            found[name] = block.unflatten(0, (channels, -1))[:, order].flatten(0, 1)
        else:
            found[name] = block[order]
    return found


def agreement(one: CoupledTensors, other: CoupledTensors) -> float:
    """Mean correlation of the components' columns of F, after the best matching of two fits.

    Returns:
        1 for one fit and itself; components have no order.

    Example:
        >>> X = torch.rand(4, 3, 9, generator=torch.Generator().manual_seed(0))
        >>> found = coupled_ntf({"block": X}, 2)
        >>> round(agreement(found, found), 3)
        1.0
    """
    correlation = np.corrcoef(one.image_factor.T.cpu(), other.image_factor.T.cpu())
    correlation = correlation[: one.rank, one.rank :]  # components of one × of the other
    return float(correlation[linear_sum_assignment(-correlation)].mean())


def settings() -> Iterator[dict]:
    """What is varied: model, shuffle, images, and whether rank or size equals a matrix model's.

    Yields:
        One dict for each, with model, equal, base, images and shuffle.

    Example:
        >>> len(list(settings()))
        46
    """
    plain = {"equal": "size", "base": BASE, "images": COUNT, "shuffle": "none"}
    for equal in ("rank", "size"):
        for model in SHAPES:
            for base in RANKS:
                yield {**plain, "model": model, "equal": equal, "base": base}
            for count in COUNTS:
                if count != COUNT:
                    yield {**plain, "model": model, "equal": equal, "images": count}
        for model in MIXED:
            yield {**plain, "model": model, "equal": equal}
    for model in SHAPES:
        for what in SHUFFLES:
            yield {**plain, "model": model, "shuffle": what}


def rank_of(which: Mapping) -> int:
    """The rank of the fit that a setting asks for.

    Returns:
        That of the matrix model, or the one of equal size.

    Example:
        >>> which = {"model": "CP", "base": 10, "images": 500}
        >>> rank_of(which | {"equal": "rank"}), rank_of(which | {"equal": "size"})
        (10, 49)
    """
    if which["equal"] == "rank":
        return which["base"]
    return equal_size(which["model"], which["base"], which["images"])


def row(blocks: Blocks, which: Mapping, seed: int = 0) -> dict:
    """One setting and one start: errors, also of new images, and how well another start agrees.

    Returns:
        What the table holds of it, by column.
    """
    if which["shuffle"] != "none":
        blocks = shuffled(blocks, which["shuffle"], seed)
    model, rank, count = which["model"], rank_of(which), which["images"]
    found = fit(blocks, model, rank, count, seed)
    again = fit(blocks, model, rank, count, seed + 1)
    new = {name: block[:, -NEW:] for name, block in blocks.items()}
    return {
        **which,
        "seed": seed,
        "rank": found.rank,
        "numbers": found.parameters,
        "relative_error": found.relative_error,
        **{f"error of {name}": error for name, error in found.block_errors.items()},
        "new_error": new_error(found, new, model),
        "agreement": agreement(found, again),
        "iterations": found.iterations,
        "converged": found.converged,
    }


def recorded(data: str = "mnist", images: int = max(COUNTS) + NEW) -> dict[str, Tensor]:
    """The blocks of the zoo's base network, features × the first test images.

    Returns:
        input (784), relu1 (1,440) and relu2 (320) × images.
    """
    model, _ = rear(zoo.Recipe(data, "cnn"))
    shown = zoo.dataset(data).test.images[:images]
    return pk.input_blocks(shown) | pk.record(model, shown)


def higher_order(seeds=range(5)) -> Iterator[dict]:
    """Every setting from every start, of one network on MNIST.

    Yields:
        A row for each start and setting.
    """
    blocks = recorded()
    for seed in seeds:
        for which in settings():
            yield row(blocks, which, seed)


def theirs(block: Tensor, seed: int) -> Iterator[dict]:
    """`relu2`, neurons × images, as a tensor by TensorLy's programs: a CP and a Tucker model.

    Yields:
        A row for either model.
    """
    from tensorly import decomposition  # the book's, not the package's

    array = block.unflatten(0, SHAPES["CP"]["relu2"]).double().cpu().numpy()
    found, errors = decomposition.non_negative_parafac_hals(
        array, BASE, random_state=seed, return_errors=True, **PROGRAMS["CP, TensorLy"]
    )
    numbers = sum(factor.size for factor in found.factors)
    yield program_row("CP", "TensorLy", BASE, numbers, float(errors[-1]))
    found, errors = decomposition.non_negative_tucker_hals(
        array, TUCKER, return_errors=True, **PROGRAMS["Tucker, TensorLy"]
    )
    numbers = found.core.size + sum(factor.size for factor in found.factors)
    yield program_row("Tucker", "TensorLy", BASE, numbers, float(errors[-1]))


def ours(block: Tensor, seed: int, larger: int) -> Iterator[dict]:
    """The same block by our program: as a tensor, at a larger rank too, and as a matrix.

    Yields:
        A row for each of the three.
    """
    X = block.unflatten(0, SHAPES["CP"]["relu2"])
    for model, form, rank in (("CP", X, BASE), ("CP, larger", X, larger), ("matrix", block, BASE)):
        found = coupled_ntf({"block": form}, rank, seed=seed, **PROGRAMS["ours"])
        yield program_row(model, "ours", rank, found.parameters, found.relative_error)


def program_row(model: str, program: str, rank: int, numbers: int, relative_error: float) -> dict:
    """What the table holds of one fit; `numbers` is how many the model has.

    Returns:
        The row, by column.
    """
    return {
        "model": model,
        "program": program,
        "rank": rank,
        "numbers": numbers,
        "relative_error": relative_error,
    }


def libraries(seeds=range(5)) -> Iterator[dict]:
    """`relu2` alone: what TensorLy finds and what we find, from one start.

    Its Tucker model has one start for all seeds, from the SVD; our larger CP model has its size.

    Yields:
        A row for each seed and model.
    """
    block = recorded()["relu2"][:, :COUNT].contiguous()
    for seed in seeds:
        rows = list(theirs(block, seed))
        larger = round(rows[-1]["numbers"] / (sum(SHAPES["CP"]["relu2"]) + COUNT))
        for row in [*rows, *ours(block, seed, larger)]:
            yield {"seed": seed, **row}
