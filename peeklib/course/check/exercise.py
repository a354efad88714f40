"""What all checks have in common."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, get_type_hints

import torch
from torch import Tensor

from ...solvers import all_or_nothing
from .answers import Hint, read

Given = ParamSpec("Given")


def exercise(
    check: Callable[Concatenate[Any, Given], str | None],
) -> Callable[Concatenate[Any, Given], None]:
    """Read an answer and say whether it is right.

    The check returns a hint, or None for a right answer. It gets what the annotation of its first
    parameter asks for; an answer that cannot be read so is a hint, too.

    Returns:
        A function of any answer, or of None for none yet. It raises `Hint` for a wrong one; nothing of
        the check, which knows what is right, is in the traceback.

    Example:
        >>> @exercise
        ... def half(answer: float, number: float) -> str | None:
        ...     return None if answer == number / 2 else f"{answer} and {answer} are not {number}"
        >>> half(torch.tensor(3), 6.0)
        ✓ right
        >>> half("three", 6.0)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: give one number, not a text
    """
    kind = next(iter(get_type_hints(check).values()))  # of the first parameter

    @functools.wraps(check)
    def run(answer: Any, *args: Given.args, **named: Given.kwargs) -> None:
        if answer is None:
            print("○ not answered yet: put your answer in place of None and run the cell again")
            return
        try:
            with all_or_nothing():  # half a fit would make a right answer wrong
                hint = check(read(answer, kind), *args, **named)
        except Hint as raised:
            hint = str(raised)
        if hint is not None:
            raise Hint(hint)
        print("✓ right")

    return run


def random_tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Tensors to try a function on, uniform in [0, 1), the same every time.

    Their seed is one that nobody chooses: an answer that draws its own numbers may begin at 0 or 42.

    Returns:
        One float32 tensor for each shape.

    Example:
        >>> a, b = random_tensors((2, 3), (4,))
        >>> a.shape, b.shape
        (torch.Size([2, 3]), torch.Size([4]))
        >>> torch.equal(a, random_tensors((2, 3))[0])
        True
    """
    generator = torch.Generator().manual_seed(971_582_146)
    return [torch.rand(*shape, generator=generator) for shape in shapes]


def near(found: Tensor, expected: Tensor, within: float = 1e-4) -> bool:
    """Whether a tensor is another, but for a share of the largest entry.

    Example:
        >>> near(torch.tensor([1.0, 2.00001]).double(), torch.tensor([1.0, 2.0]))
        True
    """
    expected = expected.cpu().double()
    return bool((found - expected).abs().max() <= within * expected.abs().max())
