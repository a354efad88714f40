"""Fits that go on after the end of their process, from the last state that was written.

A checkpoint is one safetensors file, whole or absent, with the runs as they were after some round:
W, how it is extrapolated, the rows of F of all images, histories and pace. What follows from the data
is made again, its compressed sample above all. Where several processes fit together, the first one
writes for all of them and all read, on a disk that all see; when they go on, there may be fewer or
more of them.
"""

import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from . import storage
from .blocks import Stack, rows_at_once
from .shares import Share, all_or_none, as_json, check_alike
from .solvers import Group, Pace, Run
from .sparse import Sparse
from .store import Stored

SECONDS = 60  # from one checkpoint to the next, at least,
PART = 0.05  # and the part of the time that writing may take
# kinds of results that have a `save`, and what a person calls them
SAVED = {"CoupledFactors": "fit", "CoupledTensors": "fit", "Sweep": "sweep", "Peek": "report"}


@dataclass(frozen=True)
class State:
    """What is in the file: what it is of, and how far that is."""

    asked: dict[str, str]  #: what was asked for, by its name, as JSON
    content: dict[str, int]  #: by block its checksum, of the images of all processes
    done: list[Run]  #: fits that are at their end
    stage: str  #: what the others go down on, "sample" or "data"
    runs: list[Run]  #: those that go on side by side
    ahead: list[Tensor]  #: of each of them where its next round begins, rank × features


class Keeper:
    """Keeps the state of fits in a file, from time to time, and gives it back.

    Args:
        path: of the file; None: nothing is kept.
        resume: go on from the file, if there is one.
        data: what is factorized.
        asked: all else that the result depends on, by its name in an error; of kinds that JSON
            knows.

    Raises:
        FileExistsError: if there is a file, and nobody said to go on from it.
        ValueError: if the file is no checkpoint, or of other fits; if there is no path to resume
            from; for a suffix that other kinds of files have.
        OSError: if the folder does not exist, or the path is a folder.

    Example:
        >>> from peeklib.blocks import stack
        >>> data = stack({"input": torch.ones(6, 8)}, None, torch.device("cpu"))
        >>> Keeper(None, True, data, {})
        Traceback (most recent call last):
        ValueError: resume=True goes on from a checkpoint; give its path as checkpoint="fit.checkpoint.safetensors"
    """

    def __init__(self, path: str | os.PathLike | None, resume: bool, data: Stack, asked: Mapping):
        self.share, self.device = data.share, data.device
        self.done: list[Run] = []  # with the images of all processes
        self.state: State | None = None
        with all_or_none(self.share.group):
            self.path = _file(path, resume)
        if self.path is None:
            return
        facts = {**_facts(data), **asked}
        self.asked = {name: as_json(fact) for name, fact in facts.items()}
        self.content = _content(data)
        with all_or_none(self.share.group):
            self.state = self._read(self.path, resume)
        check_alike(
            self.share.group,
            {"the checkpoint that they see, on a disk of all": _progress(self.state)},
        )
        self.last, self.took = time.perf_counter(), 0.0

    def _read(self, path: Path, resume: bool) -> State | None:
        """What is in the file, once it is known to be of these fits."""
        if not path.exists():
            return None
        if not resume:
            raise FileExistsError(_what_is_there(path))
        if storage.kind_of(path) in SAVED:
            raise ValueError(f"there is no checkpoint to go on from: {_what_is_there(path)}")
        try:
            state = storage.read(path, {kind.__name__: kind for kind in (State, Run, Pace)})
        except ValueError as why:
            raise ValueError(
                f"there is no checkpoint to go on from: {why}; to begin anew, name another path"
            ) from why
        _check_same(path, state, self.asked, self.content)
        return _reopened(state, int(self.asked["max_iter"]))

    @property
    def begun(self) -> tuple[int, int]:
        """How many of the fits the file has at their end, and how many on their way."""
        return (len(self.state.done), len(self.state.runs)) if self.state else (0, 0)

    def finished(self, count: int) -> list[Run] | None:
        """The next fits, if the file has them at their end."""
        if self.state is None or len(self.state.done) < len(self.done) + count:
            return None
        runs = self.state.done[len(self.done) :][:count]
        self.done += runs
        return [_own(run, self.share, self.device) for run in runs]

    def is_at(self, stage: str) -> bool:
        """Whether the fits that come next go on from the file, on that matrix."""
        state = self.state
        if state is None or len(state.done) != len(self.done) or not state.runs:
            return False
        return state.stage == stage

    def restored(self, group: Group, stage: str) -> bool:
        """Give a group the state that the file has of its runs, if it has one."""
        if not self.is_at(stage) or self.state is None:
            return False
        runs = [_own(run, group.share, self.device) for run in self.state.runs]
        group.go_on_from(runs, [Wy.to(self.device) for Wy in self.state.ahead])
        self.state = None
        return True

    def note(self, group: Group, stage: str) -> None:
        """Write how far a group is after a round, if it is time to."""
        if self.path is None:
            return
        wait = max(SECONDS, self.took / PART)
        try:
            (due,) = self.share.decided([time.perf_counter() - self.last >= wait], is_end=True)
        except KeyboardInterrupt:
            self._write_group(group, stage)
            raise
        if due:
            self._write_group(group, stage)

    def _write_group(self, group: Group, stage: str) -> None:
        runs, ahead = group.snapshot()
        self._write(stage, [_whole(run, group.share) for run in runs], ahead)

    def finish(self, runs: Sequence[Run]) -> None:
        """Write that some fits are at their end."""
        if self.path is None:
            return
        self.done += [_whole(run, self.share) for run in runs]
        self._write("data", [], [])

    def _write(self, stage: str, runs: list[Run], ahead: list[Tensor]) -> None:
        started = time.perf_counter()
        if self.share.leads and self.path is not None:
            state = State(self.asked, self.content, self.done, stage, runs, ahead)
            try:
                storage.save(state, self.path)
            except OSError as why:  # a full disk; the file that was there is whole
                warnings.warn(f"the checkpoint is an older one: {why}", stacklevel=2)
        self.last = time.perf_counter()
        self.took = self.last - started


def _file(path: str | os.PathLike | None, resume: bool) -> Path | None:
    if path is None:
        if resume:
            raise ValueError(
                "resume=True goes on from a checkpoint; give its path as "
                'checkpoint="fit.checkpoint.safetensors"'
            )
        return None
    path = Path(path)
    storage.check_place(path, f"fit.checkpoint{storage.SUFFIX}")
    storage.check_suffix(path)
    return path if path.suffix else path.with_name(path.name + storage.SUFFIX)


def _facts(data: Stack) -> dict:
    """What can be said of the data in words."""
    rows = {name: rows.stop - rows.start for name, rows in data.rows.items()}
    numbers = str(data.dtype).removeprefix("torch.")
    facts = {"blocks": rows, "number of images": data.share.images, "type of numbers": numbers}
    sizes = {name: [unit, data.multipliers[name]] for name, unit in data.units.items()}
    return facts | {"weights": data.weights, "units and multipliers": sizes}


def _content(data: Stack) -> dict[str, int]:
    """By block the checksum of the numbers of all images, in the unit in which they are kept."""
    share, own = data.share, torch.zeros(len(data.blocks), dtype=torch.long, device=data.device)
    with all_or_none(share.group):  # it may be read from a disk
        columns = _odd_numbers(share.images, seed=1)[share.here].to(data.device)
        for images, part in data.chunks():
            for place, block in enumerate(part.blocks.values()):
                assert not isinstance(block, Stored)  # it was read
                own[place] += _weighted_sum(block, columns[images])
    return dict(zip(data.blocks, share.total(own).tolist(), strict=True))


def checksum(V: Tensor, share: Share) -> int:
    """A number that other numbers would not have, nor the same ones in another order.

    The bits of each entry, as a whole number, times a random one of its row and one of its image,
    are summed modulo 2⁶⁴. So whatever a change, it shows; and the sum is exact, however images are
    shared out among processes.

    Args:
        V: rows × images that are here.
        share: which of all images these are.

    Example:
        >>> V = torch.tensor([[1.0, 2.0, 3.0]])
        >>> whole = checksum(V, Share.whole(3))
        >>> whole == checksum(V.double(), Share.whole(3)), whole == checksum(V.flip(1), Share.whole(3))
        (True, False)
    """
    columns = _odd_numbers(share.images, seed=1)[share.here].to(V.device)
    return int(share.total(_weighted_sum(V, columns)[None]))


def _weighted_sum(block: Tensor | Sparse, columns: Tensor) -> Tensor:
    by_row = []
    for part in block.split(rows_at_once(block)):
        bits = (part.double() + 0).view(torch.long)  # one zero, where there are two
        by_row.append(((bits ^ (bits >> 32)) * columns).sum(dim=1))  # low bits differ too
    return (torch.cat(by_row) * _odd_numbers(len(block), seed=0).to(columns.device)).sum()


def _odd_numbers(count: int, seed: int) -> Tensor:
    """Random ones of 64 bits."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randint(-(2**62), 2**62, (count,), generator=generator) + 1


def _what_is_there(path: Path) -> str:
    """And what to do, where no checkpoint of this fit was expected."""
    kind, file = storage.kind_of(path), str(path)
    if kind in SAVED:
        return f"{file!r} is a saved {SAVED[kind]}, not a checkpoint; name another path"
    if kind != storage.CHECKPOINT:
        return f"there is a file {file!r} already, and it is no checkpoint; name another path"
    return (
        f"there is a checkpoint {file!r} already; give resume=True to go on from it, or delete it"
    )


def _check_same(
    path: Path, state: State, asked: Mapping[str, str], content: Mapping[str, int]
) -> None:
    other = f"{str(path)!r} is a checkpoint of another fit"
    remedy = "give another path, or delete it"
    for name, value in asked.items():
        found = state.asked.get(name)
        if found != value and not (name == "max_iter" and _may_go_on(state, value)):
            raise ValueError(f"{other}: its {name} is {found}, and here it is {value}; {remedy}")
    for name, number in content.items():
        if state.content.get(name) != number:
            raise ValueError(
                f"{other}: its block {name!r} has other numbers, or the same ones in another "
                "order, as where processes that are more or fewer now were not given contiguous "
                f"parts, images.tensor_split(size)[rank]; {remedy}"
            )


def _may_go_on(state: State, max_iter: str) -> bool:
    """Whether there are more rounds than there were, for one fit; those of a sweep end together."""
    is_one = len(json.loads(state.asked["(rank, seed)"])) == 1
    return is_one and int(max_iter) > int(state.asked["max_iter"])


def _reopened(state: State, max_iter: int) -> State:
    """A fit that had run all its rounds, on its way again if there are more of them now."""
    if len(state.done) != 1 or state.runs:
        return state
    (run,) = state.done
    if run.converged or len(run.history) > max_iter:
        return state
    return replace(state, done=[], stage="data", runs=[run], ahead=[run.Wt])


def _progress(state: State | None) -> list[int] | None:
    """How far the fits are, to see whether two states are the same."""
    return None if state is None else [len(run.history) for run in state.done + state.runs]


def _whole(run: Run, share: Share) -> Run:
    """The run with the images of all processes; only the first one has them."""
    if share.group is None:
        return run
    Ft, near = _gathered(run.Ft, share), run.near
    if near:  # whose first part is of images
        near = [_gathered(near[0], share), *near[1:]]
    return replace(run, Ft=Ft, near=near) if share.leads else run


def _gathered(V: Tensor, share: Share) -> Tensor:
    """One column for each image of all processes."""
    return torch.stack([share.spread(row) for row in V])


def _own(run: Run, share: Share, device: torch.device) -> Run:
    """The run with the images of this process."""
    near = [part.to(device) for part in run.near]
    if near:
        near[0] = near[0][:, share.here].contiguous()
    Ft = run.Ft[:, share.here].contiguous().to(device)
    return replace(run, Wt=run.Wt.to(device), Ft=Ft, near=near)
