"""What all checks have in common."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

Answer = TypeVar("Answer")
Given = ParamSpec("Given")


def exercise(
    check: Callable[Concatenate[Answer, Given], None],
) -> Callable[Concatenate[Answer | None, Given], None]:
    """Handle an answer that is not there yet, and say when one is right."""

    @functools.wraps(check)
    def run(answer: Answer | None, *args: Given.args, **named: Given.kwargs) -> None:
        if answer is None:
            print("○ not answered yet: put your answer in place of None and run the cell again")
            return
        check(answer, *args, **named)
        print("✓ right")

    return run


def random_tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Tensors to try a function on: of these shapes, uniform in [0, 1), the same every time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(*shape, generator=generator) for shape in shapes]
