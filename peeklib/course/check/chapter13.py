"""Checks of chapter 13, Is it rank or is it scale?"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import exercise, random_tensors


@exercise
def size_share(answer: float, rmse: tuple[float, float], relative: tuple[float, float]) -> None:
    """Chapter 13: how much of the logarithm of a ratio of RMSEs is due to size.

    That is, the share that is not the logarithm of the ratio of relative errors.

    Args:
        answer: a share.
        rmse: of one network and of another.
        relative: their relative errors.

    Example:
        >>> size_share(0.75, rmse=(16.0, 1.0), relative=(2.0, 1.0))
        ✓ right
    """
    expected = 1 - math.log(relative[0] / relative[1]) / math.log(rmse[0] / rmse[1])
    assert abs(answer - expected) < 0.005, (
        f"{answer} is off; the logarithm of the ratio of sizes is that of the RMSE minus that of "
        "the relative errors: divide it by that of the RMSE"
    )


@exercise
def dead_neurons(answer: int, rmse: float, target: float, features: int) -> None:
    """Chapter 13: the fewest rows of zeros that bring the RMSE of `features` rows to `target`.

    Example:
        >>> dead_neurons(90, rmse=2.0, target=1.0, features=30)
        ✓ right
    """
    expected = max(0, math.ceil(features * ((rmse / target) ** 2 - 1)))
    reached = rmse * (features / (features + answer)) ** 0.5
    assert abs(answer - expected) <= 1, (
        f"with {answer} more rows the RMSE is {reached:.4f}, and {target:.4f} is asked for with as "
        "few as possible; rows of zeros add no error, they add entries to divide by"
    )


@exercise
def permuted_neurons(answer: Callable[[Tensor], Tensor]) -> None:
    """Chapter 13: `answer(block)` has each neuron's values in an order of its own over the images.

    `block` is neurons × images.

    Example:
        >>> permuted_neurons(lambda block: block.flip(1))
        Traceback (most recent call last):
        AssertionError: all neurons moved together: these are the same images in another order; ...
    """
    (block,) = random_tensors((6, 50))
    new = answer(block.clone())
    assert isinstance(new, Tensor) and new.shape == block.shape, "return a block of the same shape"
    assert torch.equal(new.sort(dim=1).values, block.sort(dim=1).values), (
        "some neuron does not have its own values any more; move them within its row"
    )
    assert not torch.equal(new, block), "nothing has moved"
    images = {tuple(column) for column in block.T.tolist()}
    assert not images.issuperset(map(tuple, new.T.tolist())), (
        "all neurons moved together: these are the same images in another order; "
        "each neuron needs an order of its own"
    )
