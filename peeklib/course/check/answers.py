"""What a student gives, read as what a check asks for.

A check says by the annotation of its first parameter what it wants, and gets that: a plain `int`,
`float` or `str`, a finite float64 tensor on the CPU, a dict or tuple of these, or a function that is
safe to call. `Unread` is for all else, in words for the student.
"""

import copy
import linecache
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

LARGEST = 1e15  # beyond it a float no longer tells whole numbers apart
SMALL = 10  # a tensor with as many numbers is shown in a hint


class Hint(AssertionError):
    """What is wrong with an answer, in one line: all that a notebook shows of it.

    Example:
        >>> Hint("give one number,\\n not a list")._render_traceback_()
        ['✗ give one number, not a list']
    """

    def __init__(self, text: str):
        super().__init__(" ".join(text.split()))

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback."""
        return [f"✗ {self}"]


class Unread(Exception):
    """An answer is of another kind than what was asked for."""

    def __init__(self, wanted: str, found: str):
        self.wanted, self.found = wanted, found
        super().__init__(f"give {wanted}, not {found}")


def read(answer: Any, kind: Any) -> Any:
    """An answer as the kind of thing that an annotation asks for.

    Args:
        answer: anything.
        kind: `int`, `float`, `str`, `Tensor`, or dict, tuple or Callable of these.

    Raises:
        Hint: it cannot be read so.

    Example:
        >>> read(torch.tensor(10.0), int), read([0, 2], tuple[int, int])
        (10, (0, 2))
        >>> read([10], int)
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: give one whole number, not a list
    """
    try:
        return _READERS[get_origin(kind) or kind](answer, *get_args(kind))
    except Unread as odd:
        said = str(odd)
    raise Hint(said)


def describe(value: Any) -> str:
    """A few words for what somebody gave.

    Example:
        >>> describe("relu1"), describe(torch.zeros(2, 3)), describe({})
        ('a text', 'a tensor of shape (2, 3)', 'a dict')
    """
    if value is None or isinstance(value, bool):
        return str(value)
    if callable(value):
        return "a function"
    if isinstance(value, (Tensor, np.ndarray)):
        name = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{name} of {f'shape {tuple(value.shape)}' if value.ndim else value.dtype}"
    if isinstance(value, (Real, str)):
        return "a text" if isinstance(value, str) else "a number"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _number(answer: Any, wanted: str = "one number") -> float:
    plain = _item(answer)
    if isinstance(plain, bool) or not isinstance(plain, Real):
        raise Unread(wanted, describe(answer))
    try:
        value = float(plain)
    except OverflowError:  # a whole number of hundreds of digits
        value = 2 * LARGEST
    if not math.isfinite(value):
        raise Unread(f"{wanted} that is finite", str(value))
    if abs(value) > LARGEST:
        raise Unread(f"{wanted} of a usual size", "one so large")
    return value


def _item(answer: Any) -> Any:
    """The number in a tensor or array without axes; anything else as it is."""
    if not isinstance(answer, (Tensor, np.ndarray)) or answer.ndim:
        return answer
    try:
        return answer.item()
    except RuntimeError:  # a device without memory
        return answer


def _whole(answer: Any) -> int:
    value = _number(answer, "one whole number")
    if value != int(value):
        raise Unread("one whole number", f"{value:.6g}")
    return int(value)


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise Unread("a text, in quotes", describe(answer))
    return answer.strip()


def _tensor(answer: Any) -> Tensor:
    if not hasattr(answer, "__array__"):  # arrays and tables have it, too
        raise Unread("one tensor", describe(answer))
    try:
        values = _on_cpu(answer)
    except (TypeError, ValueError, RuntimeError):  # texts in it; no memory behind it
        raise Unread("a tensor of numbers", describe(answer)) from None
    if values.is_complex():
        raise Unread("a tensor of real numbers", "one of complex ones")
    odd = int((~values.isfinite()).sum())
    if odd:
        raise Unread("a tensor of finite numbers", f"one with {odd} that are NaN or infinite")
    return values


def _on_cpu(answer: Any) -> Tensor:
    if isinstance(answer, Tensor):
        values = answer.detach().cpu().to_dense()
    else:
        values = torch.as_tensor(np.array(answer, order="C"))  # a copy: it may be read-only
    return values if values.is_complex() else values.double()


def _dict(answer: Any, names: type, kind: type) -> dict[Any, Any]:
    if not isinstance(answer, Mapping):
        raise Unread("a dict, {name: …}", describe(answer))
    return {name: _part(value, kind, f"for {name!r}") for name, value in answer.items()}


def _tuple(answer: Any, *kinds: type) -> tuple[Any, ...]:
    if isinstance(answer, (Tensor, np.ndarray)) and answer.ndim == 1:
        answer = _tensor(answer).tolist()
    if not isinstance(answer, (tuple, list)):
        raise Unread(f"{len(kinds)} numbers in brackets", describe(answer))
    if len(answer) != len(kinds):
        raise Unread(f"{len(kinds)} numbers in brackets", f"{len(answer)}")
    places = zip(answer, kinds, range(1, len(kinds) + 1), strict=True)
    return tuple(_part(value, kind, f"in place {place}") for value, kind, place in places)


def _part(value: Any, kind: type, where: str) -> Any:
    try:
        return _READERS[kind](value)
    except Unread as odd:
        raise Unread(f"{odd.wanted} {where}", odd.found) from None


def _function(answer: Any, given: list[type], gives: type) -> "Tried":
    if not callable(answer):
        count = "one argument" if len(given) == 1 else f"{len(given)} arguments"
        raise Unread(f"a function of {count}, by its name alone", describe(answer))
    return Tried(answer, gives)


@dataclass(frozen=True)
class Tried:
    """A student's function: it gets copies, and whatever goes wrong in it is a hint.

    Attributes:
        function: as it was given.
        gives: what it should return.

    Example:
        >>> half = Tried(lambda x: x / 2, float)
        >>> half(torch.tensor(3.0))
        1.5
        >>> half("3")
        Traceback (most recent call last):
        peeklib.course.check.answers.Hint: your function stops with TypeError in its line 1, ...
    """

    function: Callable[..., Any]
    gives: type

    def __call__(self, *given: Any) -> Any:
        """What it returns, read.

        Raises:
            Hint: it stops with an error, or returns something else.
        """
        try:
            found = self.function(*copy.deepcopy(given))
        except Exception as error:
            said = f"your function stops with {_told(self.function, error)}"
        else:
            try:
                return _READERS[self.gives](found)
            except Unread as odd:
                said = _returned(odd, found, given)
        raise Hint(said)


def _returned(odd: Unread, found: Any, given: tuple[Any, ...]) -> str:
    if found is None:
        return f"your function returns nothing, not {odd.wanted}; does it end with `return …`?"
    return f"your function returns {odd.found}, not {odd.wanted}{_shown(given)}"


def _shown(given: tuple[Any, ...]) -> str:
    """The arguments, if they are few numbers."""
    tensors = [x for x in given if isinstance(x, Tensor)]
    if not tensors or len(tensors) < len(given) or sum(x.numel() for x in tensors) > 2 * SMALL:
        return ""
    return ", for " + " and ".join(str(x.int().tolist()) for x in tensors)


def _told(function: Callable[..., Any], error: Exception) -> str:
    """Which error, and in which line of the function."""
    name, said = type(error).__name__, " ".join(str(error).split())
    return f"{name}{_where(function, error)}: {said[:200]}"


def _where(function: Callable[..., Any], error: Exception) -> str:
    code = getattr(function, "__code__", None)  # programs in C have none
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code is code]
    if code is None or not lines:
        return ""
    text = linecache.getline(code.co_filename, lines[-1]).strip()
    return f" in its line {lines[-1] - code.co_firstlineno + 1}, `{text}`"


_READERS: dict[Any, Callable[..., Any]] = {
    int: _whole,
    float: _number,
    str: _text,
    Tensor: _tensor,
    dict: _dict,
    tuple: _tuple,
    Callable: _function,
}
