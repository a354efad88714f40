"""Few, large steps on all cores, and PyTorch on one thread inside each of them.

PyTorch by itself splits every small product over its threads, which wait for each other after each.
Where a core is shared with another program, a thread that is waited for is often not running, and a
fit of ten thousand small steps takes ten times as long or more. Here a step is cut into one part
for each core; the parts run in threads of our own, sleep until they are needed, and meet a few
times in a round.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar

import torch

SWEEPERS = 4  # threads that sweep; more would wait for Python's lock, which every small step takes
WORK = 10**7  # multiplications that are worth a part of their own
COLUMNS = 2048  # of a sweep; with fewer, starting its small steps takes longer than the steps

_crew: ContextVar[tuple[Executor, int] | None] = ContextVar("crew", default=None)


@contextmanager
def threads_of_pytorch(threads: int) -> Iterator[None]:
    """Inside, PyTorch splits its work over that many threads; afterwards all is as before.

    Example:
        >>> with threads_of_pytorch(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def crew(device: torch.device) -> Iterator[None]:
    """Inside, `each` works on as many threads as PyTorch had, and PyTorch itself on one.

    Afterwards all is as before. A thread that somebody starts while a crew is at work takes over
    PyTorch's one thread, and keeps it. A crew changes nothing on a GPU, where PyTorch has one
    thread anyway, or inside another crew.

    Example:
        >>> with crew(torch.device("cpu")):
        ...     torch.get_num_threads()
        1
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    with (
        threads_of_pytorch(1),
        ThreadPoolExecutor(threads, "peeklib", torch.set_num_threads, (1,)) as pool,
    ):
        before = _crew.set((pool, threads))
        try:
            yield
        finally:
            _crew.reset(before)


def each(count: int, task: Callable[[slice], object], *, least: float) -> None:
    """Do `task` on parts of range(count), side by side; come back when all are done.

    Args:
        count: how many things there are to do.
        task: takes a part, a slice; the parts cover the range.
        least: of a part.

    Example:
        >>> squares = torch.zeros(5, dtype=torch.int)
        >>> def square(part):
        ...     squares[part] = torch.arange(5, dtype=torch.int)[part] ** 2
        >>> with crew(torch.device("cpu")):
        ...     each(5, square, least=2)
        >>> squares.tolist()
        [0, 1, 4, 9, 16]
    """
    held, parts = _crew.get(), pieces(count, least)
    if held is None or len(parts) == 1:
        task(parts[0])
        return
    pool, _ = held
    running = []
    try:
        for part in parts:
            running.append(pool.submit(task, part))
        for done in running:
            done.result()
    finally:
        wait(running)  # after an interrupt too: nobody writes to the factors any more


def pieces(count: int, least: float, already: int = 1) -> list[slice]:
    """range(count) in equal parts, one for each thread of the crew.

    Args:
        count: what is cut.
        least: of a part.
        already: how many such ranges there are, which share the threads.

    Returns:
        Slices that cover it, in order; a single one without a crew.

    Example:
        >>> pieces(10, least=2)
        [slice(0, 10, None)]
    """
    _, threads = _crew.get() or (None, 1)
    parts = max(1, min(math.ceil(threads / already), int(count // max(1, least))))
    ends = [count * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def enough(work: int) -> int:
    """How many columns make a part of a product in which each takes that many multiplications.

    Returns:
        1 or more.

    Example:
        >>> enough(2 * 10**6)
        5
    """
    return math.ceil(WORK / max(1, work))
