"""Checks of chapter 15, Higher order."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...tensors import khatri_rao
from .exercise import exercise, random_tensors


@exercise
def same_size(answer: int, matrix: int, tensor: int, rank: int, images: int) -> None:
    """Chapter 15: the rank at which a tensor model holds as many numbers as a matrix model.

    Args:
        answer: the rank of the tensor model.
        matrix, tensor: numbers that one component takes, without its image factor.
        rank: of the matrix model.
        images: how many there are in the fit.

    Example:
        >>> same_size(10, matrix=2544, tensor=122, rank=2, images=500)
        ✓ right
    """
    numbers = rank * (matrix + images)
    expected = numbers / (tensor + images)
    assert abs(answer - expected) <= 1, (
        f"with {answer} components the tensor model holds {answer * (tensor + images):,.0f} "
        f"numbers, the other one {numbers:,}; "
        "each component has a column in every factor, F included"
    )


@exercise
def summed_along(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Chapter 15: `answer(T, H, W)` sums T along H and W: rank × channels.

    T is rank × channels × height × width, H height × rank, W width × rank.

    Example:
        >>> summed_along(lambda T, H, W: T.sum(dim=(2, 3)))
        Traceback (most recent call last):
        AssertionError: the result differs; weight every place by H at its row and W at its ...
    """
    T, H, W = random_tensors((3, 5, 4, 2), (4, 3), (2, 3))
    result = answer(T.clone(), H.clone(), W.clone())
    assert isinstance(result, Tensor) and result.shape == (3, 5), "return a tensor, rank × channels"
    places = khatri_rao([H.T, W.T])  # rank × (height · width)
    expected = (T.flatten(2) * places[:, None]).sum(2)
    assert torch.allclose(result, expected, atol=1e-5), (
        "the result differs; weight every place by H at its row and W at its column, "
        "each component with its own"
    )


@exercise
def break_even(answer: float, matrix: tuple[float, int], tensor: tuple[float, int]) -> None:
    """Chapter 15: at how many images a matrix and a tensor model hold as many numbers.

    `matrix` and `tensor` are each (rank, numbers that one component takes without F).

    Example:
        >>> break_even(1493, matrix=(2, 2544), tensor=(5, 122))
        ✓ right
    """
    (rank, length), (more, short) = matrix, tensor
    expected = (rank * length - more * short) / (more - rank)
    assert abs(answer - expected) <= 0.02 * expected, (
        f"at {answer:,.0f} images one model holds {rank * (length + answer):,.0f} numbers, "
        f"the other {more * (short + answer):,.0f}; ask where these are equal"
    )
