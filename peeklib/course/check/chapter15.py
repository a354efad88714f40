"""Checks of chapter 15, Higher order."""

from collections.abc import Callable

from torch import Tensor

from ...tensors import khatri_rao
from .exercise import exercise, near, random_tensors


@exercise
def same_size(answer: int, matrix: int, tensor: int, rank: int, images: int) -> str | None:
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
    if abs(answer - numbers / (tensor + images)) < 1:  # rounded either way
        return None
    if abs(answer - rank * matrix / tensor) < 1:
        return f"{answer} leaves out F, which has a column for each component, too"
    if answer <= rank:
        return f"a component of the tensor model is smaller: more than {rank} fit in"
    return (
        f"with {answer} components the tensor model holds {answer * (tensor + images):,.0f} "
        f"numbers, the other one {numbers:,}"
    )


@exercise
def summed_along(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str | None:
    """Chapter 15: `answer(T, H, W)` sums T along H and W: rank × channels.

    T is rank × channels × height × width, H height × rank, W width × rank.

    Example:
        >>> summed_along(lambda T, H, W: T.sum(dim=(2, 3)))
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: H has no say in your sums; ...
    """
    T, H, W = random_tensors((3, 5, 4, 2), (4, 3), (2, 3))
    result = answer(T, H, W)
    if tuple(result.shape) != (3, 5):
        return f"return a tensor, rank × channels, (3, 5) here, not {tuple(result.shape)}"
    for name, other in {"H": (T, 2 * H, W), "W": (T, H, 2 * W)}.items():
        if near(answer(*other), result):
            return f"{name} has no say in your sums; it weighs the places of a map"
    places = khatri_rao([H.T, W.T])  # rank × (height · width)
    if not near(result, (T.flatten(2) * places[:, None]).sum(2)):
        return (
            "the sums differ; weigh every place by H at its row and W at its column, "
            "each component with its own"
        )


@exercise
def break_even(answer: float, matrix: tuple[float, int], tensor: tuple[float, int]) -> str | None:
    """Chapter 15: at how many images a matrix and a tensor model hold as many numbers.

    `matrix` and `tensor` are each (rank, numbers that one component takes without F).

    Example:
        >>> break_even(1493, matrix=(2, 2544), tensor=(5, 122))
        ✓ right
    """
    (rank, length), (more, short) = matrix, tensor
    if more == rank:
        return "models of one rank take as many numbers for each image: their sizes never meet"
    expected = (rank * length - more * short) / (more - rank)
    if abs(answer - expected) <= 0.02 * abs(expected):
        return None
    if answer <= 0:
        return "a number of images is above zero; which model grows faster with it?"
    return (
        f"at {answer:,.0f} images one model holds {rank * (length + answer):,.0f} numbers, "
        f"the other {more * (short + answer):,.0f}"
    )
