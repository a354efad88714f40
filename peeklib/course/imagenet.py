"""Folders of images that are laid out as ImageNet is: one folder a class, by WordNet number or name.

Parts of ImageNet are taken too, such as Imagenette (ten classes) and Tiny ImageNet; with a folder
for each split, or without; in any depth.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..blocks import check_seed
from ..names import shown
from ..pictures import contents, files_below, is_image, visible
from .data import Split

SPLITS = (
    "val",
    "validation",
    "valid",
    "test",
    "train",
    "training",
)  # what is read, the first there
WORDNET = re.compile(r"n\d{8}")


def _numbers() -> tuple[str, ...]:
    text = Path(__file__).with_name("imagenet.toml").read_text(encoding="utf-8")
    return tuple(f"n{number}" for number in tomllib.loads(text)["numbers"].split())


NUMBERS = _numbers()  # WordNet's, of the 1,000 classes, in the order of a network's outputs


class Folder(NamedTuple):
    """The files of images in a folder, and the class of each.

    Example:
        >>> Folder([Path("val/n01443537/1.JPEG")], torch.tensor([1]))[1]
        tensor([1])
    """

    files: list[Path]
    labels: Tensor  #: one integer for each file


def find_images(folder: str | os.PathLike, classes: tuple[str, ...]) -> Folder:
    """The images of a folder with one folder for each class, or with splits of such folders.

    Of several splits the first of `SPLITS` that has folders is read: images that the network was not
    trained on, where they are sorted by class.
    Where a folder has but one folder, and that is no class, what is in there is read.

    Args:
        folder: `<folder>/<class>/…`, `<folder>/val/<class>/…`, with images of any format that
            Pillow reads, in any depth.
        classes: names of the 1,000 classes, in order.

    Returns:
        Files and labels, class by class, in alphabetical order.

    Raises:
        FileNotFoundError: without such a folder, or without images in it or in a class.
        ValueError: for class folders with neither a WordNet number of one of the classes nor a name.

    Example:
        >>> find_images("no such folder", ("tench", "goldfish"))
        Traceback (most recent call last):
        FileNotFoundError: there is no folder no such folder
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    root = _with_classes(root, classes)
    found = {path.name: list(filter(is_image, files_below(path))) for path in _folders(root)}
    if not found:
        raise FileNotFoundError(
            f"{shown(root)} has no folders, one for each class: {contents(files_below(root))}"
        )
    if empty := [name for name, files in found.items() if not files]:
        raise FileNotFoundError(
            f"{shown(root)}: classes {empty[:3]} have no images; add some, or remove these folders"
        )
    numbers = class_numbers(list(found), classes)
    files: list[Path] = []
    labels: list[int] = []
    for number, own in zip(numbers, found.values(), strict=True):
        files += own
        labels += [number] * len(own)
    return Folder(files, torch.tensor(labels))


def _with_classes(root: Path, classes: tuple[str, ...]) -> Path:
    """The folder that has the folders of classes: this one, a split of it, or the only one in it."""
    inside = {path.name: path for path in _folders(root)}
    for split in SPLITS:
        if _folders(inside.get(split, root / split)):
            return _with_classes(inside[split], classes)
    if len(inside) == 1:
        [(name, path)] = inside.items()
        if not WORDNET.fullmatch(name) and name not in classes and _folders(path):
            return _with_classes(path, classes)
    return root


def _folders(root: Path) -> list[Path]:
    return [path for path in visible(root) if path.is_dir()]


def class_numbers(folders: list[str], classes: tuple[str, ...]) -> list[int]:
    """The class of each folder, by its WordNet number or by its name.

    Args:
        folders: their names.
        classes: names of the classes, in order.

    Returns:
        The place of each among the classes.

    Raises:
        ValueError: for a folder that is neither; all have to be of one kind.

    Example:
        >>> class_numbers(["n01440764", "n03888257"], ("tench", "goldfish"))
        [0, 701]
    """
    known = NUMBERS if all(map(WORDNET.fullmatch, folders)) else classes
    if unknown := [name for name in folders if name not in known]:
        what = "WordNet numbers of ImageNet's 1,000" if known is NUMBERS else "names of"
        raise ValueError(
            f"{len(folders)} class folders, and {unknown[:3]} are no {what} classes; remove them, "
            f"name all by WordNet numbers such as 'n01440764', or all as torchvision does, such as "
            f"{classes[1]!r}"
        )
    number_of = {name: number for number, name in reversed(list(enumerate(known)))}
    return [number_of[name] for name in folders]


def in_random_order(
    folder: Folder, look: Callable[[Image.Image], Tensor], *, seed: int, batch: int
) -> Iterator[Split]:
    """Images and labels, some at a time, so that no more than those are in memory.

    Args:
        folder: from `find_images`.
        look: makes a tensor of a picture: channels × height × width, all of one shape.
        seed: of the order.
        batch: how many at a time.

    Yields:
        At most `batch` images with their labels.

    Raises:
        ValueError: for a file that is no image.
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    order = torch.randperm(len(folder.files), generator=generator)
    for some in order.split(batch):
        images = [_read(folder.files[k], look) for k in some.tolist()]
        yield Split(torch.stack(images), folder.labels[some])


def _read(file: Path, look: Callable[[Image.Image], Tensor]) -> Tensor:
    try:
        with Image.open(file) as picture:
            return look(picture.convert("RGB"))
    except OSError as why:
        raise ValueError(f"{shown(file)} cannot be read: {why}; remove it") from why
