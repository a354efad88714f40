"""What all checks have in common."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from ...solvers import all_or_nothing

Answer = TypeVar("Answer")
Given = ParamSpec("Given")


def exercise(
    check: Callable[Concatenate[Answer, Given], None],
) -> Callable[Concatenate[Answer | None, Given], None]:
    """Handle an answer that is not there yet, and say when one is right.

    Returns:
        The check, for an answer or None.

    Example:
        >>> @exercise
        ... def half(answer: float, number: float) -> None:
        ...     assert answer == number / 2, "divide by 2"
        >>> half(3.0, 6.0)
        ✓ right
    """

    @functools.wraps(check)
    def run(answer: Answer | None, *args: Given.args, **named: Given.kwargs) -> None:
        if answer is None:
            print("○ not answered yet: put your answer in place of None and run the cell again")
            return
        with all_or_nothing():  # half a fit would make a right answer wrong
            check(answer, *args, **named)
        print("✓ right")

    return run


def random_tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Tensors to try a function on, uniform in [0, 1), the same every time.

    Returns:
        One float32 tensor for each shape.

    Example:
        >>> a, b = random_tensors((2, 3), (4,))
        >>> a.shape, b.shape
        (torch.Size([2, 3]), torch.Size([4]))
        >>> torch.equal(a, random_tensors((2, 3))[0])
        True
    """
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(*shape, generator=generator) for shape in shapes]
