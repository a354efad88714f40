"""Data sets of image files, `<name>/{train,test}/<class>/*.png|jpg`, in a folder or in a zip.

`zipfile.Path` has what is used here of `pathlib.Path`, so that both are read in one way.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..cache import cached
from .dataset import Dataset, Split, channels_first

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
AnyPath = Path | zipfile.Path


def find_image_files(name: str, root: Path, place: str) -> Dataset | None:
    """The data set in the folder `<name>` of `root`, else in a zip `<name>*.zip`.

    A zip is decoded once: the result is kept on disk until the file changes.

    Args:
        name: of the data set.
        root: where to look.
        place: `root` in words, for `Dataset.source`.

    Returns:
        Images as uint8, images × channels × height × width; None where there is neither.

    Raises:
        FileNotFoundError: for training or test images that are missing.
        OSError: for a damaged zip.
        ValueError: for images that cannot be read, or differ in shape or classes.

    Example:
        >>> find_image_files("cats", Path("no such folder"), "a folder") is None
        True
    """
    if (root / name / "train").is_dir():
        return _read(name, root / name, place)
    for file in sorted(root.glob(f"{name}*.zip")):
        stat = file.stat()
        stamp = stat.st_size, stat.st_mtime_ns
        if found := cached(_read_zip)(str(file), name, place, stamp=stamp):
            return found
    return None


def _read_zip(path: str, name: str, place: str, *, stamp: tuple[int, int]) -> Dataset | None:
    """The data set in a zip, if it is there; by its `stamp`, a kept result knows the file again."""
    file = Path(path)
    if not zipfile.is_zipfile(file):
        raise OSError(f"{file} is no zip file, or cut short; replace or delete it")
    with zipfile.ZipFile(file) as archive:
        folder = zipfile.Path(archive, f"{name}/")
        if not (folder / "train").is_dir():
            return None
        return _read(name, folder, f"{file.name} in {place}")


def _read(name: str, folder: AnyPath, place: str) -> Dataset:
    """The images in `folder/{train,test}/<class>`. Classes sort alphabetically."""
    train_files = _files(folder / "train")
    test_files = _files(folder / "test")
    classes = sorted({label for label, _ in train_files})
    if unknown := sorted({label for label, _ in test_files} - set(classes)):
        raise ValueError(
            f"{folder / 'test'} has classes {unknown} that {folder / 'train'} does not have"
        )
    train = _read_split(folder / "train", train_files, classes)
    test = _read_split(folder / "test", test_files, classes)
    train_shape = tuple(train.images.shape[1:])
    test_shape = tuple(test.images.shape[1:])
    if train_shape != test_shape:
        raise ValueError(
            f"{folder / 'test'}, classes {classes}: channels, height and width are {test_shape}, "
            f"those of the training images {train_shape}; make them equal"
        )
    suffixes = {file.suffix.lower() for _, file in train_files + test_files}
    formats = sorted({FORMATS[suffix] for suffix in suffixes if suffix in FORMATS})
    source = f"{' and '.join(formats)} files, from {place}"
    return Dataset(name, train, test, tuple(classes), source)


def _files(split: AnyPath) -> list[tuple[str, AnyPath]]:
    """Class and file, for each `<class>/<file>` of a split in alphabetical order, images or not."""
    found = []
    if split.is_dir():
        for folder in _sorted(split):
            if folder.is_dir():
                found += [(folder.name, file) for file in _sorted(folder)]
    return found


def _sorted(folder: AnyPath) -> list[AnyPath]:
    return sorted(folder.iterdir(), key=lambda path: path.name)


def _read_split(split: AnyPath, files: list[tuple[str, AnyPath]], classes: list[str]) -> Split:
    """The images among `files`, which all have one shape."""
    images = []
    labels = []
    for label, file in files:
        if file.suffix.lower() not in FORMATS:
            continue
        image = _decode(file)
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"{file} has shape {image.shape}, the images before it {images[0].shape}; "
                "make them equal"
            )
        images.append(image)
        labels.append(classes.index(label))
    if not images:
        raise FileNotFoundError(f"{split} has no PNG or JPEG images in folders named {classes}")
    return Split(channels_first(np.stack(images)), torch.tensor(labels))


def _decode(file: AnyPath) -> np.ndarray:
    """Height × width × channels, one channel for grey files, else three."""
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            if image.mode.startswith("I"):  # 16 bits
                return np.atleast_3d((np.asarray(image) >> 8).astype(np.uint8))
            mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
            return np.atleast_3d(np.asarray(image.convert(mode)))
    except (OSError, SyntaxError, zipfile.BadZipFile) as why:
        raise ValueError(f"{file} cannot be read as an image; replace or delete it") from why
