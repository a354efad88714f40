"""Image data sets: from a folder, the user's cache, a download, or embedded stand-ins.

Images are uint8 tensors, images × channels × height × width; labels are int64, one for each image.

`PEEK_DATA` names a folder with data already there, in torchvision's layout (`MNIST/raw/…`) or as image files
`<name>/{train,test}/<class>/*.png|jpg`, in folders or in a zip `<name>*.zip`. `PEEK_PROFILE` is "full" (the
book) or "embedded" (tests: minutes, no network; callers that allow a stand-in get it).
"""

import html
import io
import os
import socket
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor

STAND_INS = {"mnist": "digits"}
TIMEOUT = 5  # seconds to wait for a server
MNIST_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}


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
        return f'<p class="{kind}" data-source="{html.escape(self.name)}">{note}{html.escape(text)}.</p>'


def profile() -> str:
    """ "full" or "embedded", from PEEK_PROFILE; "full" if it is not set."""
    name = os.environ.get("PEEK_PROFILE", "full")
    if name not in ("full", "embedded"):
        raise ValueError(f'PEEK_PROFILE is {name!r}; it is "full" or "embedded"')
    return name


def load_dataset(name: str, *, fallback: bool = False) -> Dataset:
    """A data set by name: "mnist", "digits", or any name with an image folder under PEEK_DATA.

    Looked for in the folder PEEK_DATA, in the user's cache, then (mnist) downloaded with checksums from
    torchvision's mirrors, waiting at most 5 s for each.

    Args:
        name: which one.
        fallback: where all that fails, and always under the embedded profile, give the embedded stand-in,
            which says so on the page.

    Raises:
        FileNotFoundError: if PEEK_DATA is no folder, or there is nothing by that name.
        ConnectionError: if the download fails.
    """
    if name == "digits":
        return digits()
    stand_in = STAND_INS.get(name) if fallback else None
    if stand_in and profile() == "embedded":
        return replace(load_dataset(stand_in), stand_in_for=name)
    try:
        return _find(name)
    except (ConnectionError, FileNotFoundError) as why:
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
    if name != "mnist":
        raise FileNotFoundError(
            f"no data set {name!r}: there are 'mnist' and 'digits', and any <name>/{{train,test}}/<class>/ "
            "of images (or its zip) in the folder that PEEK_DATA names"
        )
    return _mnist(cache, "a download, checksums verified", download=True)


def _read(root: Path, name: str, place: str) -> Dataset | None:
    """The data set if `root` has it in any of the known forms."""
    if name == "mnist" and all((root / "MNIST" / "raw" / file).exists() for file in MNIST_FILES):
        return _mnist(root, place)
    if (root / name / "train").is_dir():
        return _image_folder(root / name, name, place)
    for archive in sorted(filter(zipfile.is_zipfile, root.glob(f"{name}*.zip"))):
        inside = zipfile.Path(archive) / name
        if (inside / "train").is_dir():
            return _image_folder(inside, name, f"{archive.name} in {place}")
    return None


def _mnist(root: Path, place: str, download: bool = False) -> Dataset:
    from torchvision.datasets import MNIST

    try:
        with _timeout(TIMEOUT):
            train, test = (MNIST(root, train=train, download=download) for train in (True, False))
    except (OSError, RuntimeError, ValueError) as why:  # no mirror answers, or a file is cut short
        raise ConnectionError(f"MNIST could not be had: {' '.join(str(why).split()) or type(why).__name__}") from why
    splits = (Split(d.data.unsqueeze(1), d.targets) for d in (train, test))
    return Dataset("mnist", *splits, tuple("0123456789"), f"the original IDX files, from {place}")


@contextmanager
def _timeout(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _image_folder(root, name: str, place: str) -> Dataset:
    """Read `<root>/{train,test}/<class>/*`; root is a Path or a zipfile.Path. Classes sort alphabetically."""
    classes = tuple(sorted(folder.name for folder in (root / "train").iterdir() if folder.is_dir()))
    suffixes: set[str] = set()
    train, test = (_read_split(root / split, classes, suffixes) for split in ("train", "test"))
    if unknown := {folder.name for folder in (root / "test").iterdir() if folder.is_dir()} - set(classes):
        raise ValueError(f"{root / 'test'} has classes {sorted(unknown)} that {root / 'train'} does not have")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{root / 'test'}, classes {list(classes)}: channels, height and width are {tuple(test.images.shape[1:])}, "
            f"those of the training images {tuple(train.images.shape[1:])}; make them equal"
        )
    kinds = " and ".join(sorted({"PNG" if s == ".png" else "JPEG" for s in suffixes}))
    return Dataset(name, train, test, classes, f"{kinds} files, from {place}")


def _read_split(folder, classes: tuple[str, ...], suffixes: set[str]) -> Split:
    images, labels = [], []
    for label, klass in enumerate(classes):
        if not (folder / klass).is_dir():
            continue
        for file in sorted((folder / klass).iterdir(), key=lambda f: f.name):
            suffix = Path(file.name).suffix.lower()
            if suffix not in IMAGE_SUFFIXES:
                continue
            suffixes.add(suffix)
            image = _pixels(file)
            if images and image.shape != images[0].shape:
                raise ValueError(
                    f"{file} has shape {image.shape}, the images before it {images[0].shape}; make them equal"
                )
            images.append(image)
            labels.append(label)
    if not images:
        raise FileNotFoundError(f"{folder} has no PNG or JPEG images in folders named {list(classes)}")
    pixels = torch.from_numpy(np.stack(images))
    return Split(pixels.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


def _pixels(file) -> np.ndarray:
    """Height × width × channels, one channel for grey files, else three."""
    with Image.open(io.BytesIO(file.read_bytes())) as image:
        if image.mode.startswith("I"):  # 16 bits
            return np.atleast_3d((np.asarray(image) >> 8).astype(np.uint8))
        grey = image.mode in ("1", "L", "LA")
        return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))


def digits(train: int = 60_000, test: int = 5_000, seed: int = 0) -> Dataset:
    """A stand-in for MNIST that needs no network: scikit-learn's 8×8 digits as `train` and `test` 28×28 images.

    The 1,797 originals (Alpaydin & Kaynak 1998) are split first, four fifths to training; then they are drawn
    at random under rotations (±15°), scalings, shears and shifts. Same seed, same images.
    """
    from sklearn.datasets import load_digits

    originals = load_digits()
    pixels = torch.from_numpy(originals.images).float()[:, None] / 16  # images × 1 × 8 × 8
    labels = torch.from_numpy(originals.target).long()
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pixels), generator=draw)
    cut = len(pixels) * 4 // 5
    splits = []
    for pool, count in ((order[:cut], train), (order[cut:], test)):
        pick = pool[torch.randint(len(pool), (count,), generator=draw)]
        splits.append(Split(_warp(pixels[pick], draw), labels[pick]))
    source = "scikit-learn's 8×8 digits, enlarged and distorted by seeded affine maps"
    return Dataset("digits", *splits, tuple("0123456789"), source)


def _warp(images: Tensor, draw: torch.Generator, size: int = 28) -> Tensor:
    """Each image (images × 1 × 8 × 8, 0 … 1) under its own affine map on a size × size canvas, as uint8."""
    low = torch.tensor([-15.0, 1.15, -0.2, -0.15, -0.15])  # rotation°, zoom out, shear, shift x, shift y
    high = torch.tensor([15.0, 1.5, 0.2, 0.15, 0.15])
    angle, zoom, shear, dx, dy = (low + (high - low) * torch.rand(len(images), 5, generator=draw)).T
    cos, sin = torch.cos(angle.deg2rad()), torch.sin(angle.deg2rad())
    theta = torch.stack([zoom * cos, zoom * (shear - sin), dx, zoom * sin, zoom * cos, dy], 1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    warped = torch.nn.functional.grid_sample(images, grid, mode="bicubic", align_corners=False)
    return (warped.clamp(0, 1) * 255).round().to(torch.uint8)


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
        kept = torch.randperm(len(labels), generator=draw)[: round(fraction * len(labels))].sort().values
    if classes is not None:
        kept = kept[torch.isin(labels[kept], _known(dataset, classes))]
    if order is not None:
        order = _known(dataset, order)
        kept = torch.cat([kept[:0], *(kept[labels[kept] == label] for label in order)])
    if not len(kept):
        raise ValueError(f"no training images are left with fraction={fraction}, classes={classes}, order={order}")
    return Split(images[kept], labels[kept])


def _known(dataset: Dataset, labels: Iterable[int]) -> Tensor:
    labels = list(labels)
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels {labels} repeat; name each once")
    if unknown := [label for label in labels if label not in range(len(dataset.classes))]:
        raise ValueError(f"no class {unknown}; labels run from 0 to {len(dataset.classes) - 1}: {dataset.classes}")
    return torch.tensor(labels)
