"""Checks of chapter 2, Coupled NMF."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...solvers import EPS
from .exercise import exercise, random_tensors


@exercise
def stacked(answer: Tensor, blocks: dict[str, Tensor]) -> None:
    """Chapter 2: the single matrix whose ordinary NMF is the coupled NMF with equal weights.

    Args:
        answer: all rows of all blocks × images.
        blocks: each features × images, in network order.

    Example:
        >>> pixels, layer = torch.ones(2, 3), torch.zeros(4, 3)
        >>> stacked(torch.cat([pixels, layer]), {"input": pixels, "relu1": layer})
        ✓ right
    """
    expected = torch.cat(list(blocks.values()))
    assert isinstance(answer, Tensor), "give one tensor"
    assert answer.shape == expected.shape, (
        f"shape {tuple(answer.shape)}; all blocks share the images, so only rows add up"
    )
    assert torch.equal(answer, expected), "the rows are not the blocks' rows in network order"


@exercise
def factor_update(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Chapter 2: `answer(A, O, F)` is the multiplicative update of O.

    A: neurons × images, O: neurons × rank, F: images × rank.

    Example:
        >>> factor_update(lambda A, O, F: O * (A @ F))
        Traceback (most recent call last):
        AssertionError: the result differs from O ∗ (A F) / (O Fᵀ F + ε); ...
    """
    A, O, F = random_tensors((30, 40), (30, 4), (40, 4))
    new = answer(A.clone(), O.clone(), F.clone())
    assert isinstance(new, Tensor) and new.shape == O.shape, "return the new O, neurons × rank"
    assert (new >= 0).all(), "an update that multiplies non-negative numbers cannot go below zero"
    expected = O * (A @ F) / (O @ (F.T @ F) + EPS)
    assert torch.allclose(new, expected, rtol=1e-4), (
        "the result differs from O ∗ (A F) / (O Fᵀ F + ε); is the numerator over the denominator, "
        "and is F transposed once?"
    )


@exercise
def even_weights(answer: dict[str, float], blocks: dict[str, Tensor]) -> None:
    """Chapter 2: weights under which every block has the same weighted energy.

    Example:
        >>> blocks = {"input": torch.ones(1, 6), "relu1": torch.ones(3, 6)}
        >>> even_weights({"input": 3.0, "relu1": 1.0}, blocks)
        ✓ right
    """
    assert set(answer) == set(blocks), f"give one weight for each of {list(blocks)}"
    assert all(0 < weight < float("inf") for weight in answer.values()), (
        "weights are positive, finite numbers"
    )
    energy = {name: block.double().square().sum().item() for name, block in blocks.items()}
    say = {name: answer[name] * energy[name] for name in blocks}
    assert max(say.values()) <= 1.001 * min(say.values()), f"weight × energy differs: {say}"
