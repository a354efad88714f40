"""Files of strangers, and damaged ones: read within bounds, archives looked through beforehand.

A name may lead to a pipe that nobody writes to, or to a device without end. A zip file of some
kilobytes may unpack to petabytes, lead out of its folder, or hold two files of one name, of which
every reader takes another. All of that is an `OSError` that names the file and what is wrong.
"""

import contextlib
import math
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from .names import shown

MOST = 2**30  # bytes of a file that is read as a whole
FREE = 2**28  # bytes that any archive may unpack to, however small it is
RATIO = 200  # of more bytes to those of the archive: what is measured shrinks less, bombs more
DEEPEST = 32  # folders in each other
ENCRYPTED = 1  # a flag of entries
PIECE = 2**12  # packed bytes at a time: of one kind or another they unpack to 100 MB at most


def read_plain(file: Path, most: float = MOST) -> bytes:
    """All of a file.

    Raises:
        OSError: if there is none, it is larger, or no file: a folder, a pipe, a device.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("text")
        ...     read_plain(Path(folder, "a.txt"))
        b'text'
    """
    size = check_plain(file)
    if size > most:
        raise OSError(_too_large(shown(file), size, most))
    with file.open("rb") as stream:
        return stream.read(size)


def check_plain(path: Path) -> int:
    """Whether a path leads to a file: to open anything else may take for ever.

    Returns:
        Its size in bytes.

    Raises:
        OSError: if it does not.

    Example:
        >>> check_plain(Path("."))
        Traceback (most recent call last):
        IsADirectoryError: . is a folder and no file
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(f"{shown(path)} is a folder and no file")
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(f"{shown(path)} is a device or a pipe and no file")
    return facts.st_size


def _too_large(name: str, size: int, most: float) -> str:
    return f"{name} has {size:,} bytes; at most {most:,} are read"


def words(why: BaseException) -> str:
    """What an error says, on one line.

    Example:
        >>> words(ValueError("too\\nlarge")), words(EOFError())
        ('too large', 'EOFError')
    """
    return " ".join(str(why).split()) or type(why).__name__


# Archives


class Packed:
    """A file or folder in a zip archive, with what is used of `pathlib.Path`.

    `zipfile.Path` asks all names for each folder, and on some it never ends.

    Example:
        >>> import io
        >>> archive = zipfile.ZipFile(io.BytesIO(), "w")
        >>> archive.writestr("a/b.txt", "text")
        >>> [file] = (Packed(archive, "some.zip", _tree(archive)) / "a").iterdir()
        >>> print(file, file.read_bytes())
        some.zip/a/b.txt b'text'
    """

    def __init__(self, archive: zipfile.ZipFile, path: str, inside: dict | zipfile.ZipInfo | None):
        self.archive = archive
        self.path = PurePosixPath(path)  #: of the archive, and in it
        self.inside = inside  #: of a folder, by name; of a file, its entry; None: there is nothing

    def __str__(self) -> str:
        return shown(self.path)

    def __truediv__(self, name: str) -> Self:
        """What a folder has by that name, if anything."""
        inside = self.inside.get(name) if isinstance(self.inside, dict) else None
        return type(self)(self.archive, f"{self.path}/{name}", inside)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def suffix(self) -> str:
        """The end of its name, from the last dot."""
        return self.path.suffix

    def is_dir(self) -> bool:
        """Whether it is a folder, with anything in it or not."""
        return isinstance(self.inside, dict)

    def iterdir(self) -> Iterator[Self]:
        """What is in a folder."""
        names = self.inside if isinstance(self.inside, dict) else ()
        return (self / name for name in names)

    def read_bytes(self, most: float = MOST) -> bytes:
        """All of a file; an `OSError` if it is larger."""
        if not isinstance(self.inside, zipfile.ZipInfo):
            raise FileNotFoundError(f"there is no file {self}")
        return unpack(self.archive, self.inside, str(self), most)


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[Packed]:
    """A zip archive as a folder, if nothing about its directory is odd.

    Raises:
        OSError: for another kind of file, a damaged one, or one that no honest program writes.

    Example:
        >>> with open_zip(Path("nothing.zip")):
        ...     pass
        Traceback (most recent call last):
        FileNotFoundError: ...nothing.zip...
    """
    size = check_plain(path)
    with path.open("rb") as file, look_into(file, size, str(path)) as folder:
        yield folder


@contextlib.contextmanager
def look_into(file: BinaryIO, size: int, name: str) -> Iterator[Packed]:
    """As `open_zip`, of an archive that is open.

    Args:
        file: which is not closed.
        size: in bytes.
        name: for errors.

    Example:
        >>> import io
        >>> with look_into(io.BytesIO(), 0, "some.zip"):
        ...     pass
        Traceback (most recent call last):
        OSError: some.zip is no zip file, or cut short or damaged (File is not a zip file); ...
    """
    try:
        archive = zipfile.ZipFile(file)
    except Exception as why:  # damaged bytes raise anything
        told = f"{shown(name)} is no zip file, or cut short or damaged"
        raise OSError(f"{told} ({words(why)}); replace or delete it") from why
    with archive:
        try:
            _check_room(archive, size)
            tree = _tree(archive)
        except ValueError as why:
            raise OSError(f"{shown(name)} was not read: {why}") from why
        yield Packed(archive, name, tree)


def unpack(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, most: float = math.inf
) -> bytes:
    """All of a file in an archive.

    Args:
        archive: that `open_zip` looked through.
        entry: of its directory.
        name: of the file, for errors.
        most: bytes that it may have.

    Returns:
        As many bytes as the directory says, with their checksum compared.

    Raises:
        OSError: if it is larger, damaged, encrypted, or packed in a way that Python does not know.

    Example:
        >>> import io
        >>> archive = zipfile.ZipFile(io.BytesIO(), "w")
        >>> archive.writestr("b.txt", "text")
        >>> unpack(archive, archive.getinfo("b.txt"), "b.txt")
        b'text'
    """
    if entry.file_size > most:
        raise OSError(_too_large(name, entry.file_size, most))
    if entry.flag_bits & ENCRYPTED:
        raise OSError(f"{name} is encrypted; pack the zip file anew, without a password")
    try:
        with archive.open(entry) as stream:
            content = b"".join(iter(lambda: stream.read(PIECE), b""))
        if len(content) < entry.file_size:
            raise EOFError(f"it ends after {len(content):,} of {entry.file_size:,} bytes")
        return content
    except Exception as why:  # damaged bytes raise anything
        raise OSError(f"{name} cannot be unpacked ({words(why)}); pack the zip file anew") from why


def _check_room(archive: zipfile.ZipFile, size: int) -> None:
    """What an archive of `size` bytes unpacks to stays within bounds."""
    entries = archive.infolist()
    packed = sum(entry.compress_size for entry in entries)
    unpacked = sum(entry.file_size for entry in entries)
    if packed > size:
        raise ValueError(f"its files of {packed:,} bytes overlap in {size:,}, as in a zip bomb")
    if unpacked > max(FREE, RATIO * size):
        raise ValueError(
            f"its {size:,} bytes unpack to {unpacked:,}, as of a zip bomb; if you trust it, unpack it"
        )


def _tree(archive: zipfile.ZipFile) -> dict:
    """Name → what is in the folder of that name, or the entry of the file."""
    root = {}
    for entry in archive.infolist():
        path = entry.filename.replace("\\", "/")  # as some programs of Windows have it
        *above, name = path.removesuffix("/").split("/")
        if len(above) > DEEPEST or {"", ".."} & {*above, name}:
            raise ValueError(
                f"a file in it is called {_short(entry)}, which leads out of its folder, or nowhere"
            )
        folder = root
        for part in above:
            folder = folder.setdefault(part, {})
            if not isinstance(folder, dict):
                raise ValueError(f"it holds a file and a folder of one name, of {_short(entry)}")
        if name in folder and not (entry.is_dir() and isinstance(folder[name], dict)):
            raise ValueError(f"it holds two files of one name, {_short(entry)}; pack it anew")
        if name not in folder:
            folder[name] = {} if entry.is_dir() else entry
    return root


def _short(entry: zipfile.ZipInfo) -> str:
    name = entry.filename
    return repr(name if len(name) < 100 else f"{name[:99]}…")
