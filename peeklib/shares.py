"""One fit over several processes, on one machine or many: each has its own images.

Images are the long axis. Each process holds the columns of its images and their rows of F; W, the
stacked P and O, is everywhere. Processes begin with the same W and stay together, since what F tells
W is summed over all of them (an all-reduce of `torch.distributed`: gloo on CPUs, NCCL on GPUs), and
what decides how to go on is what the first process says. In a round of fits with K components
together, on M features, so many bytes go into those sums:

    the data        4 K (M + K) + 8 (fits + K + 2)         F Xᵀ and F Fᵀ; losses, and what is dead
    its sample      4 K (width + K) + 8 (fits + K + 2)     compressed to `width` directions
    near the data   the same, and 8 K                      after a round on the data, + 4 K width

In float64 the first term is twice as large, and a checkpoint adds 16. Each process of a ring of p
puts every byte on the wire 2 (p − 1) / p times. The number of images is not in it.

Nothing is sent where no `group` was asked for, whether or not `torch.distributed` is set up.
"""

import json
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

TOGETHER = 2  # seconds within which signals are one
KINDS = {kind.__name__: kind for kind in (TypeError, ValueError)}  # of errors that all repeat


@dataclass
class Sent:
    """What this process has put into sums and messages."""

    bytes: int = 0
    messages: int = 0


@dataclass
class _Interrupts:
    """Whether somebody pressed Ctrl-C here, and no fit has stopped for it yet."""

    waits: bool = False  # for the end of a round, where there is a checkpoint to write
    pressed: bool = False
    when: float = -math.inf

    def note(self, number, frame) -> None:
        """A signal came; `torchrun` sends one more for each that a terminal sends."""
        now = time.monotonic()
        if now - self.when < TOGETHER:
            return
        if self.pressed:
            signal.default_int_handler(number, frame)
        self.pressed, self.when = True, now


_sent: ContextVar[Sent | None] = ContextVar("sent", default=None)
_interrupts: ContextVar[_Interrupts | None] = ContextVar("interrupts", default=None)


@contextmanager
def counted() -> Iterator[Sent]:
    """Inside, what goes to other processes is counted.

    Example:
        >>> import peeklib as pk
        >>> with counted() as sent:
        ...     fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
        >>> sent  # nobody asked for a group
        Sent(bytes=0, messages=0)
    """
    before = _sent.set(Sent())
    try:
        yield _sent.get() or Sent()
    finally:
        _sent.reset(before)


@dataclass(frozen=True)
class Share:
    """The images of this process among those of all; without a group, it has them all.

    Example:
        >>> share = Share(own=2, images=5, first=3)
        >>> share.here, share.mine(torch.tensor([0, 3, 4]))
        (slice(3, 5, None), tensor([0, 1]))
    """

    own: int  #: images of this process
    images: int  #: of all processes
    first: int = 0  #: the place of its first image among all
    group: Any = None  #: a `torch.distributed.ProcessGroup`; None: there are no other processes

    @classmethod
    def whole(cls, images: int) -> "Share":
        """All images are here."""
        return cls(images, images)

    @classmethod
    def of(cls, group, own: int) -> "Share":
        """In the order of the processes.

        Args:
            group: None, or one that all its processes come here with.
            own: images of this process.
        """
        if group is None:
            return cls.whole(own)
        counts = [int(count) for count in _told(group, str(own))]
        return cls(own, sum(counts), sum(counts[: group.rank()]), group)

    @property
    def here(self) -> slice:
        """The places of its images among all."""
        return slice(self.first, self.first + self.own)

    @property
    def leads(self) -> bool:
        """Whether this is the first of the processes."""
        return self.group is None or self.group.rank() == 0

    def mine(self, images: Tensor) -> Tensor:
        """Which of some images are here, by their places here.

        Args:
            images: places among all, in rising order.
        """
        return images[self._is_here(images)] - self.first

    def among(self, images: Tensor) -> "Share":
        """What the share is of those images alone.

        Args:
            images: places among all, in rising order.

        Example:
            >>> Share(own=2, images=5, first=3).among(torch.tensor([0, 3, 4]))
            Share(own=2, images=3, first=1, group=None)
        """
        before = int((images < self.first).sum())
        return Share(int(self._is_here(images).sum()), len(images), before, self.group)

    def _is_here(self, images: Tensor) -> Tensor:
        return (images >= self.first) & (images < self.first + self.own)

    def total(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts; `part` is used up.

        Raises:
            RuntimeError: if another process is gone.
        """
        if self.group is None:
            return part
        return _reduced(part.contiguous(), self.group)

    def led(self, value: Tensor) -> Tensor:
        """What the first process has: the same to the last bit, where others round otherwise."""
        if self.group is None:
            return value
        return self.total(value.clone() if self.leads else torch.zeros_like(value))

    def spread(self, own: Tensor) -> Tensor:
        """One number for each image of all processes.

        Args:
            own: one for each image that is here.
        """
        if self.group is None:
            return own
        numbers = own.new_zeros(self.images)
        numbers[self.here] = own
        return self.total(numbers)

    def row(self, own: Tensor, image: int) -> Tensor:
        """The row of one image, wherever it is.

        Args:
            own: one row for each image that is here.
            image: its place among all.
        """
        is_here = self.first <= image < self.first + self.own
        return self.total(own[image - self.first] if is_here else own.new_zeros(own.shape[1]))

    def decided(self, numbers: Sequence[float], *, is_end: bool = False) -> list[float]:
        """What the first process has, once all are here; what depends on it is done by all alike.

        Args:
            numbers: of this process.
            is_end: whether this is the end of a round, where a fit with a checkpoint can stop.

        Raises:
            KeyboardInterrupt: in all processes, if somebody interrupted one.
        """
        ours = _interrupts.get() or _Interrupts()
        *numbers, pressed = self._of_first([*numbers], ours.pressed)
        if pressed and (is_end or not ours.waits):
            ours.pressed = False
            raise KeyboardInterrupt
        return numbers

    def _of_first(self, numbers: list[float], pressed: bool) -> list[float]:
        """The numbers of the first process, and how many were interrupted."""
        if self.group is None:
            return [*numbers, pressed]
        sent = torch.zeros(len(numbers) + 1, dtype=torch.float64)
        if self.leads:
            sent[:-1] = torch.tensor(numbers, dtype=torch.float64)
        sent[-1] = pressed
        return _reduced(sent.to(_device(self.group)), self.group).tolist()

    def largest(self, own: Tensor) -> Tensor:
        """The largest entry of each row, over the images of all processes; 0 at least.

        Args:
            own: rows × images that are here.
        """
        found = own.amax(dim=1) if own.shape[1] else own.new_zeros(len(own))
        return found if self.group is None else _reduced(found.clamp_(min=0), self.group, "max")

    def most(self, number: float) -> float:
        """The largest of the processes' numbers, in float64; 0 at least."""
        if self.group is None:
            return number
        found = torch.tensor([[number]], dtype=torch.float64, device=_device(self.group))
        return self.largest(found).item()

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes, in float64."""
        if self.group is None:
            return [*numbers]
        sent = torch.tensor(numbers, dtype=torch.float64, device=_device(self.group))
        return _reduced(sent, self.group).tolist()


def share_of(X) -> Share:
    """That of a stack or what stands for one; a matrix has all its images.

    Example:
        >>> share_of(torch.ones(3, 5))
        Share(own=5, images=5, first=0, group=None)
    """
    return getattr(X, "share", None) or Share.whole(X.shape[1])


def check_group(group) -> None:
    """Whether it is a process group, or None.

    Raises:
        TypeError: for anything else.

    Example:
        >>> check_group("world")
        Traceback (most recent call last):
        TypeError: group is 'world'; give a process group that this process is in, such as torch.distributed.group.WORLD
    """
    if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            f"group is {group!r}; give a process group that this process is in, such as "
            "torch.distributed.group.WORLD"
        )


def warn_if_alone(group) -> None:
    """Warn where `torchrun` started several processes that do not know of each other.

    `torch.distributed.group.WORLD` is None until `init_process_group` was called, and a fit without
    a group is one of this process alone.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if group is None and count not in ("0", "1") and not _is_set_up():
        warnings.warn(
            f"this is one of {count} processes (WORLD_SIZE), and it fits alone: group is None, as "
            "torch.distributed.group.WORLD is too until torch.distributed.init_process_group() "
            "was called; call that first for them to fit together",
            stacklevel=4,  # behind the decorator of who calls this
        )


def _is_set_up() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def all_or_none(group) -> Iterator[None]:
    """Inside, each process checks what it was given; what one refuses, all refuse.

    Raises:
        Exception: that of this process; where there is none, one with the words of another process.

    Example:
        >>> with all_or_none(None):  # alone
        ...     pass
    """
    check_group(group)
    if group is None:
        yield
        return
    try:
        yield
    except Exception as error:
        _told(group, f"{type(error).__name__}: {error}")
        raise
    for process, problem in enumerate(_told(group, "")):
        if problem:
            kind, _, words = problem.partition(": ")
            where = f"process {process} of {group.size()}"
            raise KINDS.get(kind, RuntimeError)(f"in {where}: {words}")


def check_alike(group, facts: Mapping[str, Any]) -> None:
    """Whether all processes were asked for the same.

    Args:
        group: None, or one that all its processes come here with.
        facts: what has to be the same, by its name in an error; of kinds that JSON knows.

    Raises:
        ValueError: in all of them, with the first thing that differs.

    Example:
        >>> check_alike(None, {"rank": 20})
    """
    if group is None:
        return
    told = [json.loads(text) for text in _told(group, as_json(facts))]
    for process, theirs in enumerate(told):
        for name, value in told[0].items():
            if theirs[name] != value:
                _refuse_difference(name, value, process, theirs[name])


def as_json(fact) -> str:
    """A fact as text, the same for numbers of Python and of NumPy.

    Example:
        >>> import numpy as np
        >>> as_json({"rank": np.int64(20)})
        '{"rank": 20}'
    """
    return json.dumps(fact, default=lambda other: getattr(other, "item", other.__str__)())


def _refuse_difference(name: str, first, process: int, other) -> NoReturn:
    raise ValueError(
        f"processes differ in {name}: process 0 has {first}, process {process} has {other}; "
        "each has images of its own, and all the rest is the same"
    )


@contextmanager
def interrupts_kept(group, has_checkpoint: bool) -> Iterator[None]:
    """Inside, Ctrl-C is kept until `Share.decided`, where it stops all processes at one place.

    With a checkpoint that is the end of a round, also of one process: it can be written then, and
    the fit go on from there. With neither, Ctrl-C is what it always is. A second one, some seconds
    later, comes out at once; so does the first, at the end, if nothing was decided any more.
    """
    is_asked = group is not None or has_checkpoint
    ours = is_asked and threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupts = _Interrupts(waits=has_checkpoint)
    before = _interrupts.set(interrupts)
    signal.signal(signal.SIGINT, interrupts.note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _interrupts.reset(before)
    if interrupts.pressed:
        raise KeyboardInterrupt


def check_backend(group, device: torch.device) -> None:
    """Whether the group can send what is on a device.

    Raises:
        ValueError: if it has no means to.
    """
    if group is not None and device.type not in _backends(group):
        raise ValueError(
            f"the data is on {device.type!r}, and the group sends by "
            f"{dist.get_backend_config(group)!r}: give a device that it serves, or a group made "
            'with backend="gloo" for CPUs, "nccl" for GPUs'
        )


def _backends(group) -> list[str]:
    """The kinds of devices that it serves."""
    return [part.partition(":")[0] for part in dist.get_backend_config(group).split(",")]


def _device(group) -> torch.device:
    """Where messages are put together."""
    if "cpu" in _backends(group):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _reduced(tensor: Tensor, group, how: str = "sum") -> Tensor:
    """The sum over all processes, or the largest, in place."""
    _count(tensor)
    with _in_words(group):
        dist.all_reduce(tensor, getattr(dist.ReduceOp, how.upper()), group=group)
    return tensor


def _told(group, text: str) -> list[str]:
    """A text of each process, in their order."""
    device = _device(group)
    own = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
    lengths = _gathered(torch.tensor([len(own)], device=device), group)
    padded = torch.zeros(int(max(lengths)), dtype=torch.uint8)
    padded[: len(own)] = own
    texts = _gathered(padded.to(device), group)
    return [bytes(one.tolist()).rstrip(b"\0").decode() for one in texts]


def _gathered(tensor: Tensor, group) -> list[Tensor]:
    """That of each process, all of one size."""
    _count(tensor)
    parts = [torch.empty_like(tensor) for _ in range(group.size())]
    with _in_words(group):
        dist.all_gather(parts, tensor, group=group)
    return parts


def _count(tensor: Tensor) -> None:
    if sent := _sent.get():
        sent.bytes += tensor.numel() * tensor.element_size()
        sent.messages += 1


@contextmanager
def _in_words(group) -> Iterator[None]:
    """Inside, an error means that the others are not there."""
    try:
        yield
    except RuntimeError as why:
        raise RuntimeError(
            f"process {group.rank()} of {group.size()} has lost another one, which ended or did not "
            "come within the group's timeout; see its own error, and start all of them again "
            "(where checkpoint=path was given, resume=True goes on from the last one). "
            f"torch.distributed says: {why}"
        ) from why
