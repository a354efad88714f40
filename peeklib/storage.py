"""Results as files that open anywhere: numbers as safetensors, all around them as JSON.

    tensors     "image_factor", "factors/conv1", …: named by their place in the result
    metadata    "peeklib": JSON of version, made_by, result, checksum (of all the rest)

JSON knows None, truth values, finite numbers, text and lists. Anything else is a list that begins
with its kind: ["tuple", 1, 2], ["tensor", "image_factor", [1, 0]], ["Sweep", {"fits": …}]. Kinds
are those below and the classes that a reader is given, and no file can name another: to read one
never runs what somebody wrote into it.

Files that `save` wrote are for people; those of `peeklib.course.packing` are results of a cache, in
the same form.

Whatever this package writes, it writes through `written`: a file is whole or not there.
"""

import contextlib
import errno
import hashlib
import inspect
import json
import math
import os
import re
import secrets
import stat
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from . import __version__

MARK, VERSION = "peeklib", 1  # of the files; a later version may hold what this one cannot read
SUFFIX = ".safetensors"
CHECKPOINT = "State"  # the kind of those; see `checkpoints`
PLAIN = (type(None), bool, int, float, str)  # as they are in JSON
CONTAINERS = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
LABELS = ("object", "str", "string")  # types of columns and indices that are no numbers
PART = re.compile(r"\.peek-[0-9a-f]{16}\.part")  # names of files that are not whole yet
LEFT = 3600  # seconds after which nobody writes on at one
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a disk says when it fails
LONGEST = 100_000_000  # bytes of metadata that safetensors reads
DAMAGED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
SAVED = "pk.load opens what `.save(path)` of a fit, a sweep or a Peek wrote"
OTHERS = (".html", ".htm", ".pt", ".pth", ".pkl", ".npz", ".json", ".csv")  # other kinds of files
NUMBERS = {float: Real, int: Integral, bool: (bool, np.bool_)}  # fields may hold NumPy's
SIGNS = {  # how other files begin, in small letters; what they are, and what to do
    b"\x80": "a pickle, and to open one can run code; open it with what wrote it, if you trust it",
    b"\x93numpy": "an array of NumPy; open it with numpy.load(path)",
    b"\x89hdf": "an HDF5 file; open it with h5py",
    b"<": "a page for a browser; `report.save('report.safetensors')` writes what pk.load opens",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with `git lfs pull`",
}


# Files


def save(result, path: str | os.PathLike) -> Path:
    """Write a result as a file that `read` opens: whole, or not at all.

    Args:
        result: a dataclass of this package, of the kinds that are known here.
        path: of the file; one without a suffix gets ".safetensors". A file there is replaced.

    Returns:
        The path of the file.

    Raises:
        OSError: if the folder does not exist, the path is a folder, or it cannot be written.
        TypeError: for a result that holds something of another kind.
        ValueError: for a suffix that other kinds of files have, such as ".html" or ".npz".

    Example:
        >>> save(print, "nowhere/print.safetensors")
        Traceback (most recent call last):
        FileNotFoundError: there is no folder 'nowhere' to save 'print.safetensors' in; make it first
    """
    path = Path(path)
    check_place(path, f"result{SUFFIX}")
    if not path.suffix:
        path = path.with_name(path.name + SUFFIX)
    check_suffix(path)
    packer = _ByName()
    facts = {"result": packer.pack(result)}
    write(path, sealed(facts, packer.tensors))
    return path


def read(path: str | os.PathLike, kinds: Mapping[str, type]) -> Any:
    """The result that `save` wrote, its tensors on the CPU.

    Args:
        path: of the file; one without a suffix is also looked for with ".safetensors".
        kinds: name → class, the dataclasses that the file may hold.

    Returns:
        Equal to what was saved, numbers to the bit. Tensors lie in memory in the order of axes that
        they had, since sums over another order round differently. Fields that the file does not
        have take their defaults.

    Raises:
        FileNotFoundError, IsADirectoryError: if there is no file.
        ValueError: for a file that `save` did not write, that was damaged, that is of a newer
            version, or that holds something of another kind.

    Example:
        >>> read("nowhere.safetensors", kinds={})
        Traceback (most recent call last):
        FileNotFoundError: there is no file 'nowhere.safetensors'
    """
    path = _found(Path(path))
    try:
        with path.open("rb") as file:
            facts, tensors = unsealed(file)
        if facts["result"][0] == CHECKPOINT and CHECKPOINT not in kinds:
            raise _Foreign(
                "a checkpoint, of a fit that may not be at its end; give coupled_nmf or rank_sweep "
                f"what it was begun with, checkpoint={str(path)!r} and resume=True"
            )
        return _FromNames(kinds, tensors).unpack(facts["result"])
    except _Foreign as why:
        raise ValueError(f"{str(path)!r} is {why}") from why
    except DAMAGED as why:
        what = f"{type(why).__name__}: {why}"
        raise ValueError(f"{str(path)!r} is damaged ({what}); copy or save it again") from why


def kind_of(path: Path) -> str:
    """The kind of result that `save` wrote, as the beginning of the file says.

    Returns:
        The name of its class; "" for any other file, and where there is none.

    Example:
        >>> import tempfile
        >>> import peeklib as pk
        >>> fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kind_of(fit.save(f"{folder}/fit")), kind_of(Path(folder, "other"))
        ('CoupledFactors', '')
    """
    try:
        with path.open("rb") as file:
            return str(json.loads(_metadata(file))["result"][0])
    except (OSError, *DAMAGED):
        return ""


def sealed(facts: Mapping, tensors: dict[str, Tensor]) -> bytes:
    """Facts and tensors as the content of a file.

    Args:
        facts: what JSON knows, by name.
        tensors: by name, each contiguous, on the CPU, with memory of its own.

    Returns:
        A safetensors file: the same bytes for the same facts and tensors.

    Raises:
        ValueError: for numbers that are not finite among the facts.

    Example:
        >>> import io
        >>> content = sealed({"key": "a"}, {"weights": torch.eye(2)})
        >>> facts, tensors = unsealed(io.BytesIO(content))
        >>> facts["key"], tensors["weights"].tolist()
        ('a', [[1.0, 0.0], [0.0, 1.0]])
    """
    facts = {"version": VERSION, "made_by": f"peeklib {__version__}", **facts}
    facts["checksum"] = _checksum(facts, tensors)
    metadata = {MARK: json.dumps(facts, allow_nan=False)}  # of one entry: more have no order
    return safetensors.torch.save(tensors, metadata)


def unsealed(file: BinaryIO) -> tuple[dict, dict[str, Tensor]]:
    """The facts and tensors that `sealed` gave the content of.

    The tensors of another program's file, however large, are not read.

    Returns:
        Them, the facts with version and made_by.

    Raises:
        Exception: of a type in `DAMAGED`, for anything else; a ValueError for another program's
            file, one that was cut off, one of another version, or one with a wrong checksum.

    Example:
        >>> import io
        >>> unsealed(io.BytesIO(b""))
        Traceback (most recent call last):
        peeklib.storage._Foreign: an empty file; save the result again
    """
    facts = json.loads(_metadata(file))
    if facts["version"] != VERSION:
        raise _Foreign(
            f"of version {facts['version']}, made by {facts.get('made_by')}; this is "
            f"peeklib {__version__}, which reads version {VERSION}: install a newer one"
        )
    file.seek(0)
    try:
        tensors = safetensors.torch.load(file.read())
    except (SafetensorError, AttributeError, LookupError) as why:  # the latter: types torch lacks
        raise _Foreign(_description(file)) from why
    if facts.pop("checksum") != _checksum(facts, tensors):
        raise ValueError("its checksum is wrong")
    return facts, tensors


def _metadata(file: BinaryIO) -> str:
    """Ours, from the header of a safetensors file."""
    try:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length) if length <= LONGEST else "")
        metadata = header.get("__metadata__") or {}
    except (AttributeError, RecursionError, ValueError) as why:
        raise _Foreign(_description(file)) from why
    if MARK not in metadata:
        raise _Foreign(
            "a safetensors file of another program; "
            f"open it with safetensors.torch.load_file(path). {SAVED}"
        )
    return metadata[MARK]


class _Foreign(ValueError):
    """What a file is that cannot be read, in words that go on after "the file is"."""


def check_place(path: Path, example: str) -> None:
    """A file can be put there, as far as one can tell beforehand.

    Args:
        path: of the file.
        example: a name for the file, to say where the path is a folder.

    Raises:
        IsADirectoryError: if the path is a folder.
        FileNotFoundError: if its folder does not exist.

    Example:
        >>> check_place(Path("."), "fit.safetensors")
        Traceback (most recent call last):
        IsADirectoryError: '.' is a folder; name a file in it, such as 'fit.safetensors'
    """
    if path.is_dir():
        inside = str(path / example)
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file in it, such as {inside!r}")
    if not path.parent.is_dir():
        folder = str(path.parent)
        raise FileNotFoundError(
            f"there is no folder {folder!r} to save {path.name!r} in; make it first"
        )


def check_suffix(path: Path) -> None:
    """Other programs, and people, would take the file for what its name says.

    Raises:
        ValueError: for a suffix that other kinds of files have.

    Example:
        >>> check_suffix(Path("fit.pt"))
        Traceback (most recent call last):
        ValueError: 'fit.pt' would not be a file of that kind: this writes safetensors; call it 'fit.safetensors'
    """
    if path.suffix.lower() in OTHERS:
        ours = path.with_suffix(SUFFIX).name
        raise ValueError(
            f"{path.name!r} would not be a file of that kind: this writes safetensors; "
            f"call it {ours!r}"
        )


def write(path: str | os.PathLike, content: bytes, *, follow: bool = True) -> None:
    """Put a file in place, whole or not at all, as `written` does.

    Args:
        path: of the file.
        content: all of it.
        follow: as for `written`.

    Raises:
        OSError: if it cannot be written; the message names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder, "a.txt"), b"text")
        ...     [(file.name, file.read_text()) for file in Path(folder).iterdir()]
        [('a.txt', 'text')]
    """
    with written(path, follow=follow) as file:
        file.write(content)


@contextlib.contextmanager
def written(path: str | os.PathLike, *, follow: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place when the block ends: it is there whole, or not.

    It is written beside its place, brought to the disk and renamed. An error, an interrupt, a full
    disk or a kill leaves what was there. What a killed process left beside it goes with a later
    file in that folder, after an hour.

    Args:
        path: of the file. One that is there is replaced and keeps its permissions.
        follow: where a link is there, write what it leads to, and into a pipe or a device write at
            once; False takes the place of either.

    Yields:
        A binary file.

    Raises:
        OSError: if it cannot be written, or the file that is there is write-protected; the message
            names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with written(Path(folder, "a.txt")) as file:
        ...         before = Path(folder, "a.txt").exists()
        ...         count = file.write(b"text")
        ...     before, Path(folder, "a.txt").read_text()
        (False, 'text')
    """
    if follow and Path(path).exists() and not Path(path).is_file():
        with open(path, "wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path) if follow else path)
    part = target.with_name(f".peek-{secrets.token_hex(8)}.part")
    _forget_parts(target.parent)
    try:
        with _begun(part, target) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as why:
        nameless = why.filename is None and why.errno in FULL  # as writing to a full disk raises it
        if nameless or why.filename in (str(part), str(target)):
            raise OSError(why.errno, f"cannot be saved: {why.strerror}", str(path)) from why
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _begun(part: Path, target: Path) -> BinaryIO:
    """A new file, with the permissions of the one whose place it will take."""
    if not target.exists():
        return part.open("xb")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    file = open(part, "xb", opener=partial(os.open, mode=0o600))
    with contextlib.suppress(OSError):  # some disks have no permissions
        part.chmod(stat.S_IMODE(target.stat().st_mode))
    return file


def _forget_parts(folder: Path) -> None:
    """Remove what killed processes left."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not PART.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):  # another process removed it
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - LEFT:
                    os.unlink(entry.path)


def _found(path: Path) -> Path:
    """The file of that name, or of that name with our suffix."""
    completed = path if path.suffix or not path.name else path.with_name(path.name + SUFFIX)
    for file in (path, completed):
        if file.is_file():  # a pipe would be waited for without end
            return file
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name the file in it")
    either = " or ".join(dict.fromkeys([repr(str(path)), repr(str(completed))]))
    raise FileNotFoundError(f"there is no file {either}")


def _description(file: BinaryIO) -> str:
    """What a file is that is no whole safetensors file, and what to do."""
    file.seek(0)
    start = file.read(64)
    if not start:
        return "an empty file; save the result again"
    if start.startswith(b"PK"):
        return _description_of_archive(file)
    if int.from_bytes(start[:8], "little") <= LONGEST and start[8:9] == b"{":
        return "a safetensors file that was cut off or damaged; copy or save it again"
    for sign, words in SIGNS.items():
        if start.lstrip().lower().startswith(sign):
            return words
    return f"no file of peeklib; {SAVED}"


def _description_of_archive(file: BinaryIO) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            inside = archive.namelist()
    except zipfile.BadZipFile:
        return "a ZIP archive, as torch.save and NumPy write, that was cut off; copy it again"
    if any(name.endswith("data.pkl") for name in inside):
        return "a file of torch.save; open it with torch.load(path, weights_only=True)"
    if any(name.endswith(".npy") for name in inside):
        return "an archive of NumPy; open it with numpy.load(path)"
    return f"a ZIP archive; {SAVED}"


def _checksum(facts: Mapping, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the facts and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# Values as JSON


class Packer:
    """Turns values into what JSON knows; a subclass says where their tensors go.

    Example:
        >>> Packer().pack({"ranks": (1, 2)})
        ['dict', ['ranks', ['tuple', 1, 2]]]
    """

    def pack(self, value, name: str = ""):
        """A value as JSON.

        Args:
            value: of a kind that is known here.
            name: its place in the result, such as "factors/conv1".

        Returns:
            What `json.dumps` takes.

        Raises:
            TypeError: for a value of another kind.

        Example:
            >>> Packer().pack([range(3), None])
            ['list', ['range', 0, 3, 1], None]
        """
        kind = type(value)
        if kind is float and not math.isfinite(value):
            return ["float", str(value)]
        if kind in PLAIN:
            return value
        if kind is Tensor:
            return ["tensor", *self.tensor(value, name)]
        if kind is np.ndarray:
            return ["array", *self.array(value, name)]
        if kind is dict:
            return ["dict", *self._items(value, name)]
        if kind is range:
            return ["range", value.start, value.stop, value.step]
        if kind is CONTAINERS.get(kind.__name__):
            parts = (self.pack(part, _inside(name, place)) for place, part in enumerate(value))
            return [kind.__name__, *parts]
        if self.is_record(kind):
            parts = _fields(value).items()
            return [
                kind.__name__,
                {key: self.pack(part, _inside(name, key)) for key, part in parts},
            ]
        if kind is pd.DataFrame:
            return ["table", *self._table(value, name)]
        if isinstance(value, np.generic) and _is_number(value.dtype):
            return ["number", value.dtype.name, self.pack(value.item())]
        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} is of no kind that can be kept")

    def is_record(self, kind: type) -> bool:
        """Whether a class is packed as its name and its fields: dataclasses of this package.

        Example:
            >>> from peeklib import Sweep
            >>> Packer().is_record(Sweep), Packer().is_record(dict)
            (True, False)
        """
        return is_dataclass(kind) and kind.__module__.startswith(f"{__package__}.")

    def tensor(self, value: Tensor, name: str) -> list:
        """What `Unpacker.tensor` needs to give the tensor back; each subclass has its own."""
        raise NotImplementedError

    def array(self, value: np.ndarray, name: str) -> list:
        """An array, as a tensor."""
        return self.tensor(torch.from_numpy(value.copy(order="K")), name)

    def _items(self, value: dict, name: str) -> list:
        """Pairs of a key and what it leads to."""
        pairs = []
        for key, part in value.items():
            inside = _inside(name, key)
            pairs.append([self.pack(key, inside), self.pack(part, inside)])
        return pairs

    def _table(self, value: pd.DataFrame, name: str) -> list:
        """Its index, its columns' names and its columns."""
        columns = []
        for place, label in enumerate(value.columns):
            columns.append(self._column(value.iloc[:, place], _inside(name, label)))
        rows = self._index(value.index, _inside(name, "index"))
        return [rows, self._index(value.columns, _inside(name, "columns")), *columns]

    def _index(self, value: pd.Index, name: str) -> list:
        """Its values, their type if they are no numbers, and its name."""
        if type(value) is pd.RangeIndex:
            content = self.pack(range(value.start, value.stop, value.step))
            return [content, None, self.pack(value.name)]
        if type(value) is not pd.Index:
            raise TypeError(f"a table with a {type(value).__name__} cannot be kept")
        return [*self._column(value, name), self.pack(value.name)]

    def _column(self, value: pd.Series | pd.Index, name: str) -> list:
        """The values, and their type if they are no numbers."""
        if isinstance(value.dtype, np.dtype) and value.dtype.kind in "biuf":
            return [self.pack(value.to_numpy(), name), None]
        if str(value.dtype) in LABELS:
            return [self.pack(list(value), name), str(value.dtype)]
        raise TypeError(f"a table with values of type {value.dtype} cannot be kept")


class Unpacker:
    """Turns what a `Packer` gave into values again.

    Args:
        kinds: name → class, the dataclasses and named tuples that may be made.

    Example:
        >>> Unpacker({}).unpack(["dict", ["ranks", ["tuple", 1, 2]]])
        {'ranks': (1, 2)}
    """

    def __init__(self, kinds: Mapping[str, type]):
        self.kinds = kinds

    def unpack(self, packed) -> Any:
        """The value.

        Raises:
            Exception: of any type, for what no `Packer` gave.

        Example:
            >>> Unpacker({}).unpack(["os.system", "ls"])
            Traceback (most recent call last):
            ValueError: 'os.system' is no kind that may be in it
        """
        if not isinstance(packed, list):
            return packed
        kind, *parts = packed
        if kind == "float":
            return float(*parts)
        if kind == "number":
            return self._number(*parts)
        if kind == "tensor":
            return self.tensor(parts)
        if kind == "array":
            return self.tensor(parts).numpy()
        if kind == "dict":
            return {self.unpack(key): self.unpack(part) for key, part in parts}
        if kind == "range":
            return range(*parts)
        if kind == "table":
            return self._table(*parts)
        if kind in CONTAINERS:
            return CONTAINERS[kind](map(self.unpack, parts))
        if kind not in self.kinds:
            raise ValueError(f"{kind!r} is no kind that may be in it")
        (content,) = parts
        return self.kinds[kind](**{name: self.unpack(part) for name, part in content.items()})

    def tensor(self, parts: list) -> Tensor:
        """The tensor of which `Packer.tensor` gave the parts."""
        raise NotImplementedError

    def _number(self, dtype: str, value) -> np.generic:
        if not _is_number(np.dtype(dtype)):
            raise ValueError(f"{dtype!r} is no type of numbers")
        return np.dtype(dtype).type(self.unpack(value))

    def _table(self, index, names, *columns) -> pd.DataFrame:
        """The table of which `Packer._table` gave the parts."""
        rows = self._index(*index)
        content = {}
        for place, (values, dtype) in enumerate(columns):
            content[place] = pd.Series(self.unpack(values), rows, _label(dtype))
        table = pd.DataFrame(content, rows)
        table.columns = self._index(*names)
        return table

    def _index(self, values, dtype: str | None, name) -> pd.Index:
        """The index of which `Packer._index` gave the parts."""
        return pd.Index(self.unpack(values), dtype=_label(dtype), name=self.unpack(name))


def _inside(name: str, key) -> str:
    """The place of a part: its key below the place of the whole."""
    step = ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return f"{name}/{step}" if name else step


def _fields(record) -> dict:
    names = [field.name for field in fields(record)] if is_dataclass(record) else record._fields
    return {name: getattr(record, name) for name in names}


def _check_fields(value) -> None:
    """Every field of a dataclass holds what its annotation says."""
    if is_dataclass(value):
        for name, kind in get_type_hints(type(value)).items():
            if not _is_of(getattr(value, name), kind):
                wanted = inspect.formatannotation(kind)
                raise TypeError(f"{name} of a {type(value).__name__} is no {wanted}")


def _is_of(value, kind) -> bool:
    """Whether a value is of an annotated type, with all its parts."""
    origin, parts = get_origin(kind), get_args(kind)
    if not isinstance(value, origin or NUMBERS.get(kind, kind)):
        return False
    if origin is dict:
        return all(_is_of(entry, tuple[parts]) for entry in value.items())
    if origin is tuple:
        return len(value) == len(parts) and all(map(_is_of, value, parts))
    return origin is None or all(_is_of(part, *parts) for part in value)


def _label(dtype: str | None) -> str | None:
    if dtype is not None and dtype not in LABELS:
        raise ValueError(f"{dtype!r} is no type of labels")
    return dtype


class _ByName(Packer):
    """Collects tensors under their places; JSON gets a name and the order of axes in memory."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}

    def pack(self, value, name: str = ""):
        if isinstance(value, str):  # NumPy has a text of its own
            return str.__str__(value)
        packed = super().pack(value, name)
        _check_fields(value)  # or what is written could not be read
        return packed

    def tensor(self, value: Tensor, name: str) -> list:
        name = self._free(name.encode("utf-8", "backslashreplace").decode())
        self.tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        axes = range(value.ndim)
        return [name, sorted(axes, key=value.stride, reverse=True)]

    def _free(self, name: str) -> str:
        """The name, or one like it that no tensor has."""
        while name in self.tensors:
            name += "'"
        return name


class _FromNames(Unpacker):
    """Gives tensors of their own to what `_ByName` packed."""

    def __init__(self, kinds: Mapping[str, type], tensors: Mapping[str, Tensor]):
        super().__init__(kinds)
        self.tensors = tensors

    def unpack(self, packed) -> Any:
        value = super().unpack(packed)
        _check_fields(value)
        return value

    def tensor(self, parts: list) -> Tensor:
        name, order = parts
        kept = self.tensors[name]
        axes = range(kept.ndim)
        if sorted(order) != list(axes):
            raise ValueError(f"{order} is no order of axes")
        laid = kept.permute(*order).clone(memory_format=torch.contiguous_format)
        return laid.permute(*sorted(axes, key=order.__getitem__))


def _is_number(dtype: np.dtype) -> bool:
    """Whether Python's numbers hold its values to the bit."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8
