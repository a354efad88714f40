"""Activations on disk: blocks larger than memory, written as a network gives them.

A store is a folder. Each block is a file "0.npy", "1.npy", … of NumPy's own format, images ×
features: what a batch of images gives is appended in one write, and a chunk of images is read in
one. "store.json" has the names. Plain .npy was chosen over safetensors, which has to have the whole
of a block in memory to write it, and zarr, which wrote and read slower, most of all compressed, and needs six
packages more; and plain reads into two buffers over a memory map, whose pages count as memory
used and which nothing reads ahead.

A store that is being written lies beside its place, as ".<name>.peek-part", and is renamed at the
end. It is locked meanwhile: one that nobody holds was interrupted, and the next recording replaces
it.
"""

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import FileIO
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor

from . import __version__

VERSION = 1  # of the folder; a later version may hold what this one cannot read
MARK = "store.json"  # the last file that is written
OURS = re.compile(r"\d+\.npy|store\.json")  # names of files
MEMORY = 8.0  # GB
PARTS = 8  # two chunks, one read while the other is computed with, take a quarter of the memory
DTYPES = {np.dtype("float32"): torch.float32, np.dtype("float64"): torch.float64}

Found = TypeVar("Found")


# Blocks


@dataclass(frozen=True, repr=False, eq=False)
class Stored:
    """A block on disk; products with it read it once, some images at a time.

    `block[:, images]` reads some images, as features × images, and `block[:]` all of it, a tensor;
    `numpy.load(block.path)` opens the whole, as images × features. Other methods are for what
    computes with it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create(f"{folder}/acts") as writer:
        ...         writer.append("relu", torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
        ...     block = open_store(f"{folder}/acts")["relu"]
        ...     block.shape, block[:, [2, 0]], torch.ones(1, 2) @ block
        ((2, 3), tensor([[2., 0.],
                [5., 3.]]), tensor([[3., 5., 7.]]))
    """

    name: str  #: of the layer
    path: Path  #: of the file
    shape: tuple[int, int]  #: features, images
    dtype: torch.dtype  #: in which it is computed with
    bounds: tuple[float, float]  #: its lowest and highest number, as they were recorded
    memory: float  #: GB that computing with it may take, see `open_store`
    in_file: torch.dtype  #: of its numbers there, float32 or float64
    start: int  #: bytes before the first number there
    chosen: Tensor | None = None  #: which images of the file, indices; None: all
    scale: float = 1.0  #: what numbers are multiplied with as they are read,
    above_zero: bool = False  #: and whether those below zero are then set to zero
    device: torch.device = torch.device("cpu")  #: where they are brought to

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self):
        size = f"{self.nbytes / 1e9:.3g} GB"
        return f"Stored({self.name!r}: {self.shape[0]} features × {self.shape[1]} images, {size})"

    @property
    def T(self) -> "_Turned":
        """The block on its side, for products from the left."""
        return _Turned(self)

    @property
    def bytes_per_image(self) -> int:
        """What one image takes in the file."""
        return self.shape[0] * self.in_file.itemsize

    @property
    def nbytes(self) -> int:
        """What the whole takes."""
        return self.bytes_per_image * self.shape[1]

    def fits(self, copies: int) -> bool:
        """Whether so many copies of the whole fit into the memory that there is for it.

        Example:
            >>> float32 = torch.float32
            >>> block = Stored("relu", Path("0.npy"), (3, 10), float32, (-1, 4), 1.0, float32, 128)
            >>> block.fits(copies=2), block.fits(copies=10**8)
            (True, False)
        """
        return copies * self.nbytes <= self.memory * 1e9

    def aminmax(self) -> tuple[Tensor, Tensor]:
        """Its lowest and its highest number, also where only some images are chosen."""
        bounds = torch.tensor(self.bounds, dtype=torch.float64) * self.scale
        if self.above_zero:
            bounds = bounds.clamp(min=0)
        low, high = bounds.sort().values.to(self.dtype)
        return low, high

    def any(self) -> bool:
        """Whether anything in it is not zero."""
        return any(bound.item() for bound in self.aminmax())

    def take(self, images: Tensor) -> "Stored":
        """The block of some images, which are read when they are needed.

        Args:
            images: indices.

        Example:
            >>> float32 = torch.float32
            >>> block = Stored("relu", Path("0.npy"), (3, 10), float32, (-1, 4), 1.0, float32, 128)
            >>> block.take(torch.tensor([5, 2])).shape
            (3, 2)
        """
        images = images.cpu() if self.chosen is None else self.chosen[images.cpu()]
        return replace(self, shape=(self.shape[0], len(images)), chosen=images)

    def to(self, *, dtype: torch.dtype, device: torch.device) -> "Stored":
        """The block, to be read in that precision and brought to that device.

        Example:
            >>> float32 = torch.float32
            >>> block = Stored("relu", Path("0.npy"), (3, 10), float32, (-1, 4), 1.0, float32, 128)
            >>> block.to(dtype=torch.float64, device=torch.device("cpu")).dtype
            torch.float64
        """
        return replace(self, dtype=dtype, device=device)

    def __mul__(self, scale: float) -> "Stored":
        assert scale > 0 or not self.above_zero
        return replace(self, scale=self.scale * scale)

    def part_above_zero(self) -> "Stored":
        """The block with zero for what is below it.

        Example:
            >>> float32 = torch.float32
            >>> block = Stored("relu", Path("0.npy"), (3, 10), float32, (-1, 4), 1.0, float32, 128)
            >>> block.aminmax(), (block * -1).part_above_zero().aminmax()
            ((tensor(-1.), tensor(4.)), (tensor(0.), tensor(1.)))
        """
        return replace(self, above_zero=True)

    def __truediv__(self, scale: float) -> "Stored":
        return self * (1 / scale)

    def as_read(self, rows: Tensor) -> Tensor:
        """What was read from the file, as it is computed with.

        Args:
            rows: images × features; overwritten.

        Returns:
            features × images.
        """
        if self.scale != 1:
            rows *= self.scale
        if self.above_zero:
            rows.clamp_(min=0)
        return rows.to(dtype=self.dtype, device=self.device).T

    def __getitem__(self, chosen) -> Tensor:
        """Some features, or [:, images], or both, in memory."""
        rows, images = chosen if isinstance(chosen, tuple) else (chosen, slice(None))
        features = torch.arange(len(self))[_on_cpu(rows)]
        images = torch.arange(self.shape[1])[_on_cpu(images)]
        part = self.take(torch.atleast_1d(images))
        size = *features.shape, part.shape[1]
        block = torch.empty(size, dtype=self.dtype, device=self.device)
        if images.numel():
            for place, chunk in part.chunks():
                block[..., place] = chunk[rows]
        return block if images.ndim else block[..., 0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The whole of it in memory, for whatever takes arrays."""
        if not self.fits(1):
            raise ValueError(
                f"block {self.name!r}, {self.shape[0]} features × {self.shape[1]} images, takes "
                f"{self.nbytes / 1e9:.3g} GB in memory, and memory is {self.memory:g}; give some "
                "images, block[:, :1000], or open the store with more memory="
            )
        return np.asarray(self[:].numpy(), dtype)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """All of it, some images at a time; see `chunks`.

        Yields:
            Which images, and features × images, in memory that is overwritten once the next is
                asked for.
        """
        for images, [chunk] in chunks([self], images_at_once([self])):
            yield images, chunk

    def by_features(self) -> Iterator[Tensor]:
        """All of it, some features at a time.

        Yields:
            features × images, in memory that is overwritten once the next is asked for.
        """
        features, images = self.shape
        room = int(self.memory * 1e9 / PARTS / (images * self.in_file.itemsize))
        parts = _parts(features, max(1, room))
        size = images, parts[0].stop
        buffers = [torch.empty(size, dtype=self.in_file) for _ in parts[:2]]

        def read(rows: slice, turn: int) -> Tensor:
            return self._read_features(buffers[turn], rows)

        for found in _ahead(read, parts):
            yield self.as_read(found)

    def __rmatmul__(self, V: Tensor) -> Tensor:  # k × features → k × images
        out = V.new_empty(len(V), self.shape[1])
        for images, chunk in self.chunks():
            out[:, images] = V @ chunk
        return out

    def pass_over(self, image_factor: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """The product of the block on its side with what may depend on it, read once.

        Args:
            image_factor: takes some images, features × images, and which these are; gives a matrix
                k × images.

        Returns:
            k × features.
        """
        total = None
        for images, chunk in self.chunks():
            product = image_factor(chunk, images) @ chunk.T
            total = product if total is None else total.add_(product)
        assert total is not None  # there are images
        return total

    def read_into(self, buffer: Tensor, images: slice) -> Tensor:
        """Some images as they are in the file.

        Args:
            buffer: at least as many images × features, of the block's own type.
            images: which, in a row.

        Returns:
            images × features, the beginning of the buffer.

        Raises:
            OSError: if the file has changed or cannot be read.
        """
        count = images.stop - images.start
        found = buffer[:count]
        with self._open() as file:
            for first, last, place in self._runs(images):
                file.seek(self.start + first * self.bytes_per_image)
                _fill(file, found[place : place + last - first].numpy())
        return found

    def _open(self) -> FileIO:
        try:
            return self.path.open("rb", buffering=0)
        except OSError as why:
            what = f"block {self.name!r} cannot be read ({why.strerror}); record the store again"
            raise OSError(why.errno, what, str(self.path)) from why

    def _read_features(self, buffer: Tensor, rows: slice) -> Tensor:
        """Some features, in a row, of all images: one piece of the file for each of these."""
        found = buffer[:, : rows.stop - rows.start]
        images = range(self.shape[1]) if self.chosen is None else self.chosen.tolist()
        skip = self.start + rows.start * self.in_file.itemsize
        with self._open() as file:
            for image, piece in zip(images, found.numpy(), strict=True):
                file.seek(skip + image * self.bytes_per_image)
                _fill(file, piece)
        return found

    def _runs(self, images: slice) -> list[tuple[int, int, int]]:
        """Images of the file that lie in a row: first, last + 1, and where they go."""
        if self.chosen is None:
            return [(images.start, images.stop, 0)]
        wanted = self.chosen[images]
        breaks = (wanted.diff() != 1).nonzero().flatten() + 1
        starts = [0, *breaks.tolist()]
        ends = [*breaks.tolist(), len(wanted)]
        runs = []
        for start, end in zip(starts, ends, strict=True):
            first = int(wanted[start])
            runs.append((first, first + end - start, start))
        return runs


def _on_cpu(chosen):
    return chosen.cpu() if isinstance(chosen, Tensor) else chosen


class _Turned:
    """Images × features of a block."""

    def __init__(self, block: Stored):
        self.T = block

    def __rmatmul__(self, V: Tensor) -> Tensor:  # k × images → k × features
        return self.T.pass_over(lambda _, images: V[:, images])


def _fill(file: FileIO, found: np.ndarray) -> None:
    """Read as many bytes as there is room for."""
    room = found.reshape(-1).view(np.uint8).data
    while len(room):
        count = file.readinto(room)
        if not count:
            raise OSError(f"{file.name!r} ends too early: it was changed; record it again")
        room = room[count:]


def images_at_once(blocks: Sequence[Stored]) -> int:
    """How many images of all these blocks make a chunk.

    Returns:
        1 or more.

    Raises:
        ValueError: for a memory that does not hold two chunks of one image.

    Example:
        >>> float32 = torch.float32
        >>> block = Stored("relu", Path("0.npy"), (3, 10), float32, (-1, 4), 1.0, float32, 128)
        >>> images_at_once([block])  # an eighth of the memory, by 12 bytes
        10416666
    """
    memory = min(block.memory for block in blocks)
    each = sum(block.bytes_per_image for block in blocks)
    count = int(memory * 1e9 / PARTS / each)
    if not count:
        raise ValueError(
            f"an image of {len(blocks)} blocks takes {each / 1e9:.3g} GB and memory is {memory:g}; "
            f"open the store with memory={1.01 * PARTS * each / 1e9:.3g} or more, or give fewer blocks"
        )
    return count


def chunks(blocks: Sequence[Stored], at_once: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """All images of some blocks, chunk by chunk: the next is read while one is computed with.

    Args:
        blocks: of the same images.
        at_once: images in a chunk.

    Yields:
        Which images; of each block features × images, in memory that is overwritten once the next
            is asked for.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create(f"{folder}/acts") as writer:
        ...         writer.append("relu", torch.tensor([[0.0, 1, 2]]))
        ...     blocks = list(open_store(f"{folder}/acts").values())
        ...     [(images, chunk.tolist()) for images, [chunk] in chunks(blocks, at_once=2)]
        [(slice(0, 2, None), [[0.0, 1.0]]), (slice(2, 3, None), [[2.0]])]
    """
    parts = _parts(blocks[0].shape[1], at_once)
    sizes = [(parts[0].stop, len(block)) for block in blocks] if parts else []
    pairs = list(zip(sizes, blocks, strict=False))
    buffers = [[torch.empty(size, dtype=b.in_file) for size, b in pairs] for _ in parts[:2]]

    def read(images: slice, turn: int) -> tuple[slice, list[Tensor]]:
        pairs = zip(blocks, buffers[turn], strict=True)
        return images, [block.read_into(buffer, images) for block, buffer in pairs]

    for images, found in _ahead(read, parts):
        pairs = zip(blocks, found, strict=True)
        yield images, [block.as_read(rows) for block, rows in pairs]


def _parts(count: int, at_once: int) -> list[slice]:
    """range(count) in parts, all but the last of one size."""
    return [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]


def _ahead(read: Callable[[slice, int], Found], parts: Sequence[slice]) -> Iterator[Found]:
    """`read(part, turn)` of each part, by a thread that is one part ahead; turns are 0, 1, 0, …"""
    with ThreadPoolExecutor(1, "peeklib-reader") as reader:
        jobs = ((part, number % 2) for number, part in enumerate(parts))
        coming = [reader.submit(read, *job) for job in islice(jobs, 1)]
        while coming:
            found = coming.pop().result()
            coming = [reader.submit(read, *job) for job in islice(jobs, 1)]
            yield found


def held(blocks: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Blocks, those on disk read at once if all of them fit into a share of their memory.

    Example:
        >>> float32 = torch.float32
        >>> block = Stored("relu", Path("0.npy"), (3, 10), float32, (-1, 4), 1.0, float32, 128)
        >>> held({"relu": block, "input": torch.ones(1, 10)}, share=1e-8)["relu"] is block
        True
    """
    on_disk = [block for block in blocks.values() if isinstance(block, Stored)]
    size = sum(block.nbytes for block in on_disk)
    if any(size > share * block.memory * 1e9 for block in on_disk):
        return dict(blocks)
    return {name: b[:] if isinstance(b, Stored) else b for name, b in blocks.items()}


# Folders


@dataclass(frozen=True, repr=False, eq=False)
class Store(Mapping[str, Stored]):
    """Blocks on disk by name, in the order the layers ran; taken wherever blocks are.

    Example:
        >>> import tempfile
        >>> import peeklib as pk
        >>> from torch import nn
        >>> model, images = nn.Sequential(nn.Flatten(), nn.ReLU()), torch.rand(9, 1, 4, 4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = pk.record(model, images, store=f"{folder}/acts")
        ...     fit = pk.coupled_nmf(pk.input_blocks(images) | store, 2)
        >>> store["1"].shape, fit.image_factor.shape
        ((16, 9), torch.Size([9, 2]))
    """

    path: Path  #: of the folder
    blocks: dict[str, Stored]

    def __getitem__(self, name: str) -> Stored:
        if name not in self.blocks:
            raise KeyError(f"no block {name!r} in {str(self.path)!r}; there are {list(self)}")
        return self.blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """Its blocks and others, of a second store too, as one dict."""
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    @property
    def images(self) -> int:
        """How many were recorded."""
        return next(iter(self.blocks.values())).shape[1]

    @property
    def nbytes(self) -> int:
        """What all blocks take on disk."""
        return sum(block.nbytes for block in self.blocks.values())

    def __repr__(self):
        size = f"{self.nbytes / 1e9:.3g} GB"
        return f"Store({str(self.path)!r}: {list(self)}, {self.images} images, {size})"


def open_store(path: str | os.PathLike, *, memory: float = MEMORY) -> Store:
    """Open what `record(…, store=path)` wrote.

    Args:
        path: of the folder.
        memory: GB (10⁹ bytes) that computing with it may take: chunks of images that are read, the
            next ahead of its turn, and of several fits side by side as many as go in. The factors
            of a single fit, and what comes out, are not counted. Blocks that take less than half of
            it are read once, and kept while they are computed with.

    Returns:
        name → block, which whatever takes blocks takes.

    Raises:
        FileNotFoundError: if there is no such folder.
        TypeError: for a path that is none, or a memory that is no number.
        ValueError: for a folder that is no store, one whose recording did not come to its end, one
            whose files were cut off, or one of a newer peeklib; for a memory that is not positive.

    Example:
        >>> open_store("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: there is no store 'nowhere'
    """
    path = as_folder(path, "path")
    memory = check_memory(memory)
    facts = _facts(path)
    blocks = {}
    for number, fact in enumerate(facts["blocks"]):
        blocks[fact["name"]] = _stored(
            path.absolute() / f"{number}.npy", fact, facts["images"], memory
        )
    return Store(path, blocks)


def as_folder(path: str | os.PathLike, name: str = "store") -> Path:
    """The path of a folder, a "~" at its beginning replaced by the user's own.

    Args:
        path: what was given.
        name: of the argument, for the message.

    Raises:
        TypeError: for what is no path.
        ValueError: for an empty one.

    Example:
        >>> as_folder(5)
        Traceback (most recent call last):
        TypeError: store is 5; give the path of a folder
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} is {path!r}; give the path of a folder")
    if path == "":
        raise ValueError(f"{name} is empty; give the path of a folder, such as 'activations'")
    return Path(path).expanduser()


def check_memory(memory) -> float:
    """GB that may be taken.

    Raises:
        TypeError: for what is no number.
        ValueError: for one that is not above 0.

    Example:
        >>> check_memory("8GB")
        Traceback (most recent call last):
        TypeError: memory is '8GB'; give a number of GB (10⁹ bytes), such as 8.0
    """
    if isinstance(memory, bool) or not isinstance(memory, Real):
        raise TypeError(f"memory is {memory!r}; give a number of GB (10⁹ bytes), such as {MEMORY}")
    size = float(memory)
    if not size > 0:
        raise ValueError(f"memory is {memory} GB; it is above 0")
    return size


def is_store(path: str | os.PathLike) -> bool:
    """Whether a folder is a store that was recorded to its end.

    Example:
        >>> is_store("nowhere")
        False
    """
    return (Path(path) / MARK).is_file()


def _facts(path: Path) -> dict[str, Any]:
    """What stands in the marker of a whole store."""
    if not path.exists():
        left = f"; its recording was interrupted, see {str(_part(path))!r}: record it again"
        raise FileNotFoundError(
            f"there is no store {str(path)!r}{left if _part(path).is_dir() else ''}"
        )
    if not is_store(path):
        what = "was not recorded to its end" if (path / "0.npy").is_file() else "is no store"
        raise ValueError(
            f"{str(path)!r} {what}: it has no {MARK!r}; record(…, store=path) makes a store"
        )
    try:
        facts = json.loads((path / MARK).read_text(encoding="utf-8"))
        if facts["version"] == VERSION and facts["blocks"]:
            return facts
        raise ValueError(
            f"{str(path)!r} is of version {facts['version']}, made by {facts['made_by']}; this is "
            f"peeklib {__version__}, which reads version {VERSION}: install a newer one"
        )
    except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError) as why:
        raise ValueError(f"{str(path / MARK)!r} is damaged; record the store again") from why


def _stored(file: Path, fact: dict[str, Any], images: int, memory: float) -> Stored:
    """A block, if its file is whole."""
    try:
        with file.open("rb") as opened:
            if np.lib.format.read_magic(opened) != (1, 0):
                raise ValueError("its version is another")
            (count, features), by_column, dtype = np.lib.format.read_array_header_1_0(opened)
            start = opened.tell()
        block = Stored(
            name=fact["name"],
            path=file,
            shape=(features, images),
            dtype=DTYPES[dtype],
            bounds=tuple(fact["bounds"]),
            memory=memory,
            in_file=DTYPES[dtype],
            start=start,
        )
        if by_column or count != images or file.stat().st_size != start + block.nbytes:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        return block
    except (OSError, ValueError, LookupError, TypeError) as why:
        raise ValueError(
            f"block {fact.get('name')!r} of the store is not whole: {str(file)!r} is missing, cut "
            f"off or damaged ({why}); record the store again"
        ) from why


# Writing


class Writer:
    """A store on its way to disk."""

    def __init__(self, folder: Path, path: Path):
        self.folder, self.path = folder, path  #: where it is written, and where it will be
        self.blocks: dict[str, dict[str, Any]] = {}

    def append(self, name: str, block: Tensor) -> None:
        """What the next images give.

        Args:
            name: of the block; it may be new in the first batch only.
            block: features × images, finite, float32 or float64; as many features, and as wide
                numbers, as in the first batch.
        """
        rows = block.T.contiguous().cpu()  # images × features
        if name not in self.blocks:
            self._begin(name, rows)
        fact = self.blocks[name]
        with _naming(self.path), self._file(name, "ab") as file:
            file.write(rows.numpy().reshape(-1).view(np.uint8).data)
        low, high = fact["bounds"]
        lowest, highest = (bound.item() for bound in rows.aminmax())
        fact["bounds"] = [min(low, lowest), max(high, highest)]
        fact["images"] += len(rows)

    def _file(self, name: str, mode: str) -> IO[bytes]:
        return (self.folder / f"{self.blocks[name]['number']}.npy").open(mode)

    def _begin(self, name: str, rows: Tensor) -> None:
        dtype = rows.numpy().dtype
        fact = {"number": len(self.blocks), "features": rows.shape[1], "dtype": dtype, "images": 0}
        self.blocks[name] = fact | {"bounds": [math.inf, -math.inf]}
        with self._file(name, "xb") as file:
            self._write_header(file, name)

    def _write_header(self, file: IO[bytes], name: str) -> None:
        """NumPy leaves room in it for as many images as will come."""
        fact = self.blocks[name]
        header = {
            "descr": np.lib.format.dtype_to_descr(fact["dtype"]),
            "fortran_order": False,
            "shape": (fact["images"], fact["features"]),
        }
        np.lib.format.write_array_header_1_0(file, header)

    def finish(self) -> None:
        """Headers, and the marker last; nothing is in the way to the disk any more.

        Raises:
            ValueError: if blocks differ in their images, or there are none.
        """
        counts = {name: fact["images"] for name, fact in self.blocks.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"blocks of a store differ in their images: {counts}")
        for name in self.blocks:
            with _naming(self.path), self._file(name, "r+b") as file:
                self._write_header(file, name)
                _to_disk(file)
        blocks = [{"name": name, "bounds": fact["bounds"]} for name, fact in self.blocks.items()]
        facts = {
            "version": VERSION,
            "made_by": f"peeklib {__version__}",
            "images": next(iter(counts.values())),
            "blocks": blocks,
        }
        with _naming(self.path), (self.folder / MARK).open("xb") as file:
            file.write(json.dumps(facts, allow_nan=False).encode())
            _to_disk(file)


def _to_disk(file: IO[bytes]) -> None:
    """Nothing that a power failure could take remains in memory."""
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def create(path: str | os.PathLike) -> Iterator[Writer]:
    """Inside, a store is written; afterwards it is there, whole, or nothing is.

    Args:
        path: of a folder that is not there, or is empty.

    Yields:
        What takes the blocks, batch by batch.

    Raises:
        FileExistsError: if there is something already, or another process records to it, or where
            it lies meanwhile is something of somebody else's.
        FileNotFoundError: if the folder that it would lie in does not exist.
        OSError: if it cannot be written, such as on a full disk.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with create(f"{folder}/acts") as writer:
        ...         for batch in torch.ones(2, 3, 5):  # 2 batches, features × images
        ...             writer.append("relu", batch)
        ...     open_store(f"{folder}/acts")["relu"].shape
        (3, 10)
    """
    path = Path(path)
    check_free(path)
    part = _part(path)
    _check_ours(part)
    with _naming(path):
        part.mkdir(exist_ok=True)
    with _locked(part, path):
        try:
            _clear(part)  # of a recording that was interrupted
            writer = Writer(part, path)
            yield writer
            writer.finish()
            with _naming(path):
                _rename(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                _clear(part)
                part.rmdir()
            raise


def _part(path: Path) -> Path:
    """Where a store lies while it is written."""
    return path.with_name(f".{path.name}.peek-part")


def _check_ours(part: Path) -> None:
    """Nobody but a recording has put anything there."""
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        raise FileExistsError(f"{str(part)!r} is in the way; move it, or name another path")
    if part.is_dir():
        strange = [file.name for file in part.iterdir() if not OURS.fullmatch(file.name)]
        if strange:
            raise FileExistsError(
                f"{str(part)!r} holds {strange[0]!r}, which no recording wrote there; move it, or "
                "name another path"
            )


def _clear(part: Path) -> None:
    """Remove what a recording wrote."""
    for file in part.iterdir():
        if OURS.fullmatch(file.name):
            file.unlink()


def _rename(part: Path, path: Path) -> None:
    if path.is_dir():  # and empty
        path.rmdir()
    part.rename(path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What the disk refuses inside is said of this path."""
    try:
        yield
    except OSError as why:
        raise OSError(why.errno, f"cannot be recorded: {why.strerror}", str(path)) from why


@contextlib.contextmanager
def _locked(part: Path, path: Path) -> Iterator[None]:
    """Inside, no other process records there; a process that is killed holds nothing any more."""
    try:
        import fcntl
    except ImportError:  # on Windows
        yield
        return
    folder = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _refuse_shared(path)
        except OSError:
            pass  # a file system without locks
        if not part.exists() or not os.path.samestat(os.fstat(folder), part.stat()):
            _refuse_shared(path)  # which has just come to its end
        yield
    finally:
        os.close(folder)


def _refuse_shared(path: Path) -> NoReturn:
    raise FileExistsError(f"another process is recording to {str(path)!r}; name another path")


def check_free(path: Path) -> None:
    """A store can be made there, as far as one can tell beforehand.

    Raises:
        FileExistsError, FileNotFoundError: as `create`.

    Example:
        >>> check_free(Path("nowhere/acts"))
        Traceback (most recent call last):
        FileNotFoundError: there is no folder 'nowhere' to make the store 'acts' in; make it first
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(path.parent)!r} to make the store {path.name!r} in; "
            "make it first"
        )
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if is_store(path):
        raise FileExistsError(
            f"there is a store at {str(path)!r} already; open it: pk.open_store({str(path)!r}), "
            f"delete it: shutil.rmtree({str(path)!r}), or name another path"
        )
    raise FileExistsError(f"{str(path)!r} exists, and is no store; name another path")
