"""Checks of chapter 13, Is it rank or is it scale?"""

import math
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from .exercise import exercise, random_tensors

LEFT = 0.2  # share of 50 images; one of them stays by chance, eleven once in a hundred million
APART = 0.7  # correlation; of two random orders of 50 images 0.14 is a standard deviation


@exercise
def size_share(
    answer: float, rmse: tuple[float, float], relative: tuple[float, float]
) -> str | None:
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
    gap, rest = math.log(rmse[0] / rmse[1]), math.log(relative[0] / relative[1])
    if gap == 0:
        return "the two RMSEs are equal: there is no gap to be split"

    def is_near(number: float) -> bool:
        return abs(answer - number) < 0.005

    if is_near(1 - rest / gap):
        return None
    if is_near(rest / gap):
        return f"{answer:.3f} is the share of the relative errors; the rest is size"
    if is_near(gap - rest):
        return f"{answer:.3f} is the log ratio of sizes; which share of the gap is it?"
    if abs(answer) > 5:
        return f"{answer:.3g} is no share: write it as a number near 0 to 1, not in per cent"
    return f"{answer:.3f} is off; a ratio splits into a sum only once you take logarithms"


@exercise
def dead_neurons(answer: int, rmse: float, target: float, features: int) -> str | None:
    """Chapter 13: the fewest rows of zeros that bring the RMSE of `features` rows to `target`.

    Example:
        >>> dead_neurons(90, rmse=2.0, target=1.0, features=30)
        ✓ right
    """
    if answer < 0:
        return "neurons are added, not taken away: give 0 or more"
    more = max(0.0, features * ((rmse / target) ** 2 - 1))
    if answer in (math.ceil(more), math.ceil(more - 1e-6)):  # rounding may add one
        return None
    if answer == math.ceil(more) + features:
        return f"{answer} are all rows of that block; how many of them are new?"
    reached = rmse * (features / (features + answer)) ** 0.5
    if answer < more:
        return f"with {answer} more rows the RMSE is {reached:.4f}, still above {target:.4f}"
    return f"with {answer} more rows the RMSE gets there, but so it does with fewer"


@exercise
def permuted_neurons(answer: Callable[[Tensor], Tensor]) -> str | None:
    """Chapter 13: `answer(block)` has each neuron's values in an order of its own over the images.

    `block` is neurons × images.

    Example:
        >>> permuted_neurons(lambda block: block.flip(1))
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: neurons 0 and 1 moved together: they still fire for ...
    """
    (block,) = random_tensors((6, 50))
    new, block = answer(block), block.double()
    if new.shape != block.shape:
        return f"return a block of the same shape, {tuple(block.shape)}, not {tuple(new.shape)}"
    if not torch.equal(new.sort(dim=1).values, block.sort(dim=1).values):
        return "some neuron does not have its own values any more; move them within its row"
    order = _orders(block, new)
    still = (order == torch.arange(50)).double().mean(dim=1)
    if still.min() > 0.9:
        return "nothing, or next to nothing, has moved"
    if still.max() > LEFT:
        return f"neuron {int(still.argmax())} has values that did not move; all of them should"
    together = (order[:, None] == order).double().mean(dim=2).fill_diagonal_(0)
    if together.max() > LEFT:
        a, b = divmod(int(together.argmax()), len(block))
        return (
            f"neurons {a} and {b} moved together: they still fire for the same images; "
            "each neuron needs an order of its own"
        )
    if torch.corrcoef(new).fill_diagonal_(0).abs().max() > APART:
        return "the values are sorted: now neurons agree more than before; take a random order"


@exercise
def left_standing(
    answer: Callable[[pd.DataFrame], str], shown: pd.DataFrame, limit: float, least: float
) -> str | None:
    """Chapter 13: `answer(table)` has the names of the scores that stand, joined by blanks.

    Args:
        answer: a function of a table like `shown`.
        shown: scores × controls: moved by rescaling, by dead units and by a permutation, then shares of
            pairs that are right, on many images and on few.
        limit: the most that a score may move for the same function.
        least: a permutation must move it by more.

    Example:
        >>> table = pd.DataFrame(columns=["rescaled", "dead units", "permuted", "all seeds", "few"])
        >>> left_standing(lambda table: "a b", table, 0.01, 0.05)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: there is no score 'a' in the table; ...
    """
    rows = {
        "s1": (0.0, limit, 2 * least, 1.0, 1.0),
        "s2": (2 * limit, 0.0, 2 * least, 1.0, 1.0),
        "s3": (0.0, 2 * limit, 2 * least, 1.0, 1.0),
        "s4": (0.0, 0.0, least, 1.0, 1.0),
        "s5": (0.0, 0.0, 2 * least, 0.99, 1.0),
        "s6": (0.0, 0.0, 2 * least, 1.0, 0.99),
    }
    table = pd.DataFrame(rows, index=shown.columns).T
    names = answer(table).split()
    for name in names:
        if name not in rows:
            return f"there is no score {name!r} in the table; join the names with blanks"
        if name != "s1":
            return f"you keep a score that {_FALLS[name]}"
    if names:
        return None
    return f"you keep none; one that moves by {limit:.0%}, no more, and is right always stands"


_FALLS = {
    "s2": "moves when layers are rescaled, though no answer changes",
    "s3": "moves when dead units are added, though no answer changes",
    "s4": "a permutation moves by the limit; it has to move by more to show that it sees structure",
    "s5": "is wrong about some pairs of networks: most pairs are not all",
    "s6": "needs many images: on few it is wrong about some pairs",
}


def _orders(block: Tensor, new: Tensor) -> Tensor:
    """For each neuron, from which image each of the new values came: neurons × images."""
    return block.argsort(dim=1).gather(1, new.argsort(dim=1).argsort(dim=1))
