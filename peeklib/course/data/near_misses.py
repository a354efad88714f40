"""Data sets that are nearly there: in another folder, under another name, still packed."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ...names import shown
from ...outside import open_zip
from ...pictures import visible
from .originals import ORIGINALS

MOST = 2000  # paths to look at
OTHER_NAMES = {"mnist": ("digit-recognizer", "train.csv")}  # Kaggle's


def near_miss(name: str, root: Path) -> str:
    """What looks like a data set and is not read, and what to do about it.

    Args:
        name: of the data set.
        root: the folder PEEK_DATA, in which it was not found.

    Returns:
        Two sentences; nothing if there is nothing like it.

    Example:
        >>> near_miss("mnist", Path("no such folder"))
        ''
    """
    here = root.resolve()
    paths = list(islice(_below(here, depth=3 if name in ORIGINALS else 1), MOST))
    for folder in (here.parent, here.parent.parent, *paths):
        if _is_in(name, folder):
            return f"{name} is not in {root} but in {folder}. Let PEEK_DATA name that folder"
    if found := _alike(name, paths):
        seen = "; ".join(map(_described, found[:3]))
        return f"{root} has what looks like {name} and is not read: {seen}. {_wanted(name, root)}"
    return ""


def _is_in(name: str, folder: Path) -> bool:
    if name in ORIGINALS and ORIGINALS[name].is_in(folder):
        return True
    return (folder / name / "train").is_dir()


def _alike(name: str, paths: list[Path]) -> list[Path]:
    """Those that are called like the data set or its files; of a folder and what is in it, the latter."""
    names = [name, *OTHER_NAMES.get(name, ())]
    if name in ORIGINALS:
        names += ORIGINALS[name].files
    beginnings = tuple(filter(None, map(_plain, names)))
    found = [path for path in paths if _plain(path.name).startswith(beginnings)]
    around = {folder for path in found for folder in path.parents}
    return [path for path in found if path not in around]


def _below(root: Path, depth: int) -> Iterator[Path]:
    """What is in a folder and so many folders below, nearest first."""
    waiting = deque([(root, 0)])
    while waiting:
        folder, level = waiting.popleft()
        try:
            inside = visible(folder)
        except OSError:  # not ours to read
            continue
        yield from inside
        if level < depth:
            waiting.extend((path, level + 1) for path in inside if not path.is_symlink())


def _plain(name: str) -> str:
    """A name without what is often changed in it: case, dots, dashes."""
    return "".join(filter(str.isalnum, name.casefold()))


def _described(path: Path) -> str:
    """A path, and what it holds, in words."""
    inside = _inside(path)
    if inside is None:
        return shown(path)
    if not inside:
        return f"{shown(path)}, which is empty"
    more = ", …" if len(inside) > 4 else ""
    return f"{shown(path)} with {', '.join(inside[:4])}{more}"


def _inside(path: Path) -> list[str] | None:
    """The names in a folder or a zip, if it is one that can be read."""
    try:
        if path.is_dir():
            return [shown(one.name) for one in visible(path)]
        with open_zip(path) as archive:
            return [shown(one.name) for one in visible(archive)]
    except OSError:
        return None


def _wanted(name: str, root: Path) -> str:
    """What would be read."""
    if name not in ORIGINALS:
        layout = root / name / "{train,test}" / "<class>"
        return f"Images are read from {layout}, or from a zip with {name}/train and {name}/test"
    original = ORIGINALS[name]
    files = ", ".join(original.files[:2])
    return (
        f"It is read from {root / original.folder}, unpacked, in files named {files} and so on, as "
        f"torchvision's datasets.{original.kind} has them"
    )
