"""Checks of chapter 2, Coupled NMF."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...nmf import CoupledFactors
from ...solvers import EPS
from .exercise import exercise, near, random_tensors


@exercise
def stacked(answer: Tensor, blocks: dict[str, Tensor]) -> str | None:
    """Chapter 2: the single matrix whose ordinary NMF is the coupled NMF with equal weights.

    Args:
        answer: all rows of all blocks × images.
        blocks: each features × images, in network order.

    Example:
        >>> pixels, layer = torch.ones(2, 3), torch.zeros(4, 3)
        >>> stacked(torch.cat([pixels, layer]), {"input": pixels, "relu1": layer})
        ✓ right
    """
    lengths = [len(block) for block in blocks.values()]
    images = next(iter(blocks.values())).shape[1]
    shape = tuple(answer.shape)
    if shape == (images, sum(lengths)) and images != sum(lengths):
        return f"shape {shape} has a row for each image; these are columns here"
    if shape != (sum(lengths), images):
        return f"shape {shape}; all blocks share the images, so only rows add up"
    for (name, block), rows in zip(blocks.items(), answer.split(lengths), strict=True):
        if not torch.equal(rows, block.cpu().double()):
            return f"where the rows of {name!r} belong in network order there are others"


@exercise
def factor_update(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str | None:
    """Chapter 2: `answer(A, O, F)` is the multiplicative update of O.

    A: neurons × images, O: neurons × rank, F: images × rank.

    Example:
        >>> factor_update(lambda A, O, F: O * (A @ F))
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: where A is O Fᵀ already, nothing is left to do; ...
    """
    A, O, F = random_tensors((30, 40), (30, 4), (40, 4))
    new = answer(A, O, F)
    if new.shape != O.shape:
        return f"return the new O, neurons × rank, {tuple(O.shape)} here, not {tuple(new.shape)}"
    if (new < 0).any():
        return "an update that multiplies non-negative numbers cannot go below zero"
    if near(new, O):
        return "O stays as it was, though it does not explain A yet"
    if not near(answer(O @ F.T, O, F), O, 1e-3):
        return "where A is O Fᵀ already, nothing is left to do; yours still changes O there"
    if not near(new, O * (A @ F) / (O @ (F.T @ F) + EPS)):
        return (
            "this is another step than the multiplicative one; each entry has a fraction of its "
            "own: what stands above its line, and what below?"
        )


@exercise
def even_weights(answer: dict[str, float], blocks: dict[str, Tensor]) -> str | None:
    """Chapter 2: weights under which every block has the same weighted energy.

    A block of zeros has no say, whatever its weight.

    Example:
        >>> blocks = {"input": torch.ones(1, 6), "relu1": torch.ones(3, 6)}
        >>> even_weights({"input": 3.0, "relu1": 1.0}, blocks)
        ✓ right
    """
    if set(answer) != set(blocks):
        return f"give one weight for each of {list(blocks)}"
    negative = [name for name in blocks if answer[name] <= 0]
    if negative:
        return f"weights are positive numbers; that of {negative[0]!r} is not"
    energy = {name: block.double().square().sum().item() for name, block in blocks.items()}
    loud = [name for name in blocks if energy[name] > 0]
    say = {name: math.log(answer[name]) + math.log(energy[name]) for name in loud}
    if _even(say.values()):
        return None
    if _even(math.log(answer[name]) + math.log(energy[name]) / 2 for name in loud):
        return "these weights even out the norms; the loss adds up squares"
    if _even(math.log(answer[name]) - math.log(energy[name]) for name in loud):
        return "these weights make loud blocks louder still; they should do the opposite"
    most, least = max(say, key=say.__getitem__), min(say, key=say.__getitem__)
    return f"the blocks have no even say: {most!r} has more than {least!r}; of what is a say made?"


def _even(logs) -> bool:
    """Whether numbers are equal up to one in a thousand; of none and of one, yes."""
    logs = list(logs)
    return not logs or max(logs) - min(logs) <= 1e-3


@exercise
def from_pixels(
    answer: float, fit: CoupledFactors, new: dict[str, Tensor], layer: str
) -> str | None:
    """Chapter 2: the relative error of a layer of new images, placed in a fit by their pixels alone.

    Args:
        answer: a relative error.
        fit: has the blocks of `new`.
        new: each features × new images; pixels are "input".
        layer: one of the blocks.

    Example:
        >>> import peeklib as pk
        >>> blocks = {"input": torch.eye(2), "relu1": torch.eye(2)}
        >>> from_pixels(0.0, pk.coupled_nmf(blocks, 2, tol=0), blocks, "relu1")
        ✓ right
    """
    F = fit.transform({"input": new["input"]})
    expected = _lost(new[layer], fit.factors[layer] @ F.T)
    if abs(answer - expected) < 0.005:
        return None
    if answer < 0:
        return "an error is not below zero"
    if abs(answer - _lost(new[layer], fit.factors[layer] @ fit.transform(new).T)) < 0.005:
        return f"{answer:.3f} is the error if the layers may help to place the images"
    if abs(answer - _lost(new["input"], fit.factors["input"] @ F.T)) < 0.005:
        return f"{answer:.3f} is the error of the pixels themselves"
    if abs(answer - expected**2) < 0.005:
        return f"{answer:.3f} is a share of squares; take the root"
    return (
        f"{answer:.3f} is off; how far is the prediction from {layer}, beside the norm of {layer}?"
    )


def _lost(block: Tensor, found: Tensor) -> float:
    block = block.to(found.device)
    return ((block - found).norm() / block.norm()).item()
