"""Data sets of image files, `<name>/{train,test}/<class>/…`, in a folder or in a zip."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from ...names import shown
from ...outside import open_zip
from ...pictures import (
    AnyPath,
    combine,
    contents,
    files_below,
    is_image,
    left_out,
    read_pictures,
    readable,
    visible,
)
from ..cache import cached
from .dataset import Dataset, Split


def find_image_files(name: str, root: Path, place: str) -> Dataset | None:
    """The data set in the folder `<name>` of `root`, else in a zip `<name>.zip` or `<name>-….zip`.

    A zip is decoded once: the result is kept on disk until the file changes.

    Args:
        name: of the data set.
        root: where to look.
        place: `root` in words, for `Dataset.source`.

    Returns:
        Images as uint8, images × channels × height × width; None where there is neither.

    Raises:
        FileNotFoundError: for a split or a class without images.
        OSError: for a file or zip that is damaged, or unpacks to far more than it should.
        ValueError: for images that cannot be read, differ in shape or classes, or hold far more
            pixels than they should.

    Example:
        >>> find_image_files("cats", Path("no such folder"), "a folder") is None
        True
    """
    if (root / name / "train").is_dir():
        return _read(name, root / name, place)
    for file in sorted(root.glob("*.zip")):
        if not file.name.startswith(name) or file.name[len(name)].isalnum():  # cifar100 is another
            continue
        stat = file.stat()
        stamp = stat.st_size, stat.st_mtime_ns
        if found := cached(_read_zip)(str(file), name, place, stamp=stamp):
            return found
    return None


def _read_zip(path: str, name: str, place: str, *, stamp: tuple[int, int]) -> Dataset | None:
    """The data set in a zip, if it is there; by its `stamp`, a kept result knows the file again."""
    file = Path(path)
    with open_zip(file) as archive:
        for folder in (archive / name, archive / file.stem, archive):
            if (folder / "train").is_dir():
                return _read(name, folder, f"{shown(file.name)} in {place}")
    return None


def _read(name: str, folder: AnyPath, place: str) -> Dataset:
    """The images in `folder/{train,test}/<class>`. Classes sort alphabetically."""
    train = _classes(folder, "train")
    test = _classes(folder, "test")
    if unknown := sorted(set(test) - set(train)):
        raise ValueError(
            f"{folder / 'test'} has classes {unknown} that {folder / 'train'} does not have; "
            f"it has {sorted(train)}"
        )
    numbers = {label: number for number, label in enumerate(sorted(train))}
    train_labels, train_files = _images(train, numbers)
    test_labels, test_files = _images(test, numbers)
    pictures = read_pictures(train_files + test_files)
    # Together, so that what is done to training images is done to test images too.
    pixels, notes = combine(pictures)
    notes += left_out(file for files in [*train.values(), *test.values()] for file in files)
    if untested := sorted(set(train) - set(test)):
        notes.append(f"no test images of the classes {untested}")
    for note in notes:
        warnings.warn(f"{folder}: {note}", stacklevel=2)
    formats = " and ".join(sorted({picture.format for picture in pictures}))
    return Dataset(
        name,
        Split(pixels[: len(train_files)], train_labels),
        Split(pixels[len(train_files) :], test_labels),
        tuple(map(shown, numbers)),
        "; ".join([f"{formats} files, from {place}", *notes]),
    )


def _classes(folder: AnyPath, part: str) -> dict[str, list[AnyPath]]:
    """The files of each class of `folder/part`, in any depth, images or not.

    Raises:
        FileNotFoundError: where there are no folders of classes, or no image in one of them.
    """
    split = folder / part
    if not split.is_dir():
        there = [path.name for path in visible(folder)]
        raise FileNotFoundError(f"{folder} has no folder {part!r}, only {there}")
    found = {path.name: files_below(path) for path in visible(split) if path.is_dir()}
    if not found:
        raise FileNotFoundError(
            f"{split} has no folders, one for each class: {contents(files_below(split))}"
        )
    if empty := [label for label, files in found.items() if not any(map(is_image, files))]:
        first = empty[0]
        raise FileNotFoundError(
            f"classes {empty} have no images: in {shown(split / first)} {contents(found[first])}; "
            f"{readable()}. Add some, or remove the folder"
        )
    return found


def _images(
    classes: dict[str, list[AnyPath]], numbers: dict[str, int]
) -> tuple[Tensor, list[AnyPath]]:
    """The labels and files of images, class by class."""
    labels = []
    files = []
    for label, number in numbers.items():
        images = [file for file in classes.get(label, []) if is_image(file)]
        files += images
        labels += [number] * len(images)
    return torch.tensor(labels), files
