"""MNIST and CIFAR-10 from servers that others keep: the first with the right files, or an error.

A server may be silent, send a byte now and then, a page in the place of a file, or bytes without
end. None is waited for longer than `PATIENCE` for each `SLOWEST` · `PATIENCE` bytes, whatever it
does, and the next one is asked. A file counts when its checksum is right.
"""

import contextlib
import shutil
import threading
import time
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from ...outside import words
from .originals import Original

TIMEOUT = 5  # seconds to wait for a server's next word
PATIENCE = 8  # seconds in which a server must have been
SLOWEST = 10_000  # bytes in a second, or faster
MOST = 2**28  # bytes of a file, more than any of these has
PIECE = 2**16  # bytes at a time
PART = ".download-"  # how folders are called that files are unpacked in
LEFT = 24 * 3600  # seconds after which nobody works on in one


def download(original: Original, root: Path) -> None:
    """Unpack a data set into `root`, from the first server with archives of the right checksums.

    Its files are put there when all is well: an interrupt leaves none of them cut short.

    Args:
        original: of `ORIGINALS`.
        root: a folder, made if need be.

    Raises:
        ConnectionError: if none has them; it names each server and what went wrong there.
        OSError: if `root` cannot be made.

    Example:
        >>> download(ORIGINALS["mnist"], Path("data"))  # doctest: +SKIP
    """
    from torchvision import datasets

    servers = original.mirrors or getattr(datasets, original.kind).mirrors
    root.mkdir(parents=True, exist_ok=True)
    _tidy(root)
    failures = []
    for server in servers:
        try:
            with TemporaryDirectory(prefix=PART, dir=root, ignore_cleanup_errors=True) as place:
                _unpack_all(original, server, Path(place))
                _move(original, Path(place), root)
            return
        except (OSError, RuntimeError, ValueError, HTTPException) as why:
            # no answer, or not the true file
            failures.append(f"{urlsplit(server).netloc}: {words(why)}")
    raise ConnectionError(f"{original.kind} could not be had ({'; '.join(failures)})")


def _tidy(root: Path) -> None:
    """Remove what killed downloads left."""
    for place in root.glob(f"{PART}*"):
        with contextlib.suppress(OSError):  # a dead link, or another process was quicker
            if place.stat().st_mtime < time.time() - LEFT:
                shutil.rmtree(place, ignore_errors=True)


def _unpack_all(original: Original, server: str, root: Path) -> None:
    """Everything from one server."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, extract_archive

    kind = getattr(datasets, original.kind)
    each_file = hasattr(kind, "resources")  # is packed, as of MNIST; of CIFAR-10 the folder
    archives = kind.resources if each_file else [(kind.filename, kind.tgz_md5)]
    place = root / original.folder if each_file else root
    place.mkdir(parents=True, exist_ok=True)
    for name, md5 in archives:
        packed = place / name
        _fetch(server + name, packed)
        if not check_integrity(str(packed), md5):
            with packed.open("rb") as file:
                start = file.read(8)
            raise ValueError(f"{name} is corrupted, or something else: it begins with {start!r}")
        extract_archive(str(packed), str(place))  # known to the bit, so that it leads nowhere else


def _move(original: Original, place: Path, root: Path) -> None:
    """Put files that are whole where they are looked for."""
    (root / original.folder).mkdir(parents=True, exist_ok=True)
    for file in original.files:
        (place / original.folder / file).replace(root / original.folder / file)


def _fetch(url: str, path: Path) -> None:
    """Download a file, unless the server is silent, very slow or without end."""
    transfer = _Transfer(url, path)
    transfer.start()
    before = 0
    try:
        while transfer.is_alive():
            transfer.join(PATIENCE)
            came = transfer.got - before
            if transfer.is_alive() and came < SLOWEST * PATIENCE:
                raise TimeoutError(f"only {came:,} bytes came in {PATIENCE} s")
            before += came
    finally:
        transfer.is_wanted = False
    if transfer.failure:
        raise transfer.failure


class _Transfer(threading.Thread):
    """A download that can be left alone: a socket's time-out is for each byte, even of a header."""

    def __init__(self, url: str, path: Path):
        super().__init__(daemon=True)
        self.request = Request(url, headers={"User-Agent": "peeklib"})
        self.path = path
        self.got = 0  #: bytes
        self.is_wanted = True
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._copy()
        except Exception as why:  # the thread that waits tells of it
            self.failure = why

    def _copy(self) -> None:
        with urlopen(self.request, timeout=TIMEOUT) as answer, self.path.open("wb") as file:
            size = answer.length
            with tqdm(total=size, unit="B", unit_scale=True, leave=False) as progress:
                while self.is_wanted and (part := answer.read1(PIECE)):  # what has come
                    file.write(part)
                    progress.update(len(part))
                    self.got += len(part)
                    if self.got > MOST:
                        raise ValueError(f"more than {MOST:,} bytes came")
        if size is not None and self.got < size:
            raise ConnectionError(f"only {self.got:,} of {size:,} bytes came")
