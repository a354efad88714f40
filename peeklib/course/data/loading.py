"""Where a data set is looked for by its name, and what stands in for one that is not to be had."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import platformdirs

from ...explorer import profile
from ..cache import cached
from .dataset import Dataset
from .downloads import download
from .image_files import find_image_files
from .near_misses import near_miss
from .originals import ORIGINALS, read_original
from .stand_ins import digits, digits_rgb

STAND_INS = {"mnist": "digits", "cifar10": "digits-rgb"}
SMALL = {"digits": (5_000, 1_000), "digits-rgb": (2_000, 600)}  # images, in the embedded profile


def load_dataset(name: str, *, fallback: bool = False) -> Dataset:
    """A data set by name: "mnist", "cifar10", "digits", "digits-rgb", or any of image files.

    Looked for in the folder that PEEK_DATA names, then in the user's cache: in torchvision's layout
    (`MNIST/raw/…`, `cifar-10-batches-py/…`) or as image files `<name>/{train,test}/<class>/…` of
    any format that Pillow reads, in folders or in a zip `<name>.zip` or `<name>-….zip`. Else mnist
    and cifar10 are downloaded from the first mirror whose files have the right checksums; one that
    sends less than 10 kB/s for 8 s is left for the next.

    Files are checked, and nothing in them is run: of CIFAR-10 only the original ones are opened;
    IDX files in the place of MNIST's that fit each other are read, and `Dataset.source` says that
    they are others. Damaged files are errors, as are archives and images that unpack to far more
    than they should.

    Image files become bytes, grey if all are, else RGB; what that took (transparency laid on white
    or black, 16 bits scaled to 8, the first of several frames taken) is told in a warning and in
    `Dataset.source`. Hidden files and folders are passed over.

    Args:
        name: which one.
        fallback: where all that fails, and always if PEEK_PROFILE is "embedded", give the stand-in
            that needs no network ("digits" for mnist, "digits-rgb" for cifar10), which says so on
            the page; under that profile with few images. What was there and could not be read is
            told in a warning too.

    Returns:
        Training and test images, uint8, with their labels; and where they come from.

    Raises:
        TypeError: for a name that is no text.
        FileNotFoundError: if PEEK_DATA is no folder, there is nothing by that name, or a class has
            no images.
        ConnectionError: if the download fails.
        OSError: if MNIST, CIFAR-10 or a zip is there but damaged; the message names the file.
        ValueError: for image files that cannot be read, or differ in shape or classes.

    Example:
        >>> import peeklib as pk
        >>> pk.load_dataset("digits")  # doctest: +SKIP
        digits: 60,000 training and 5,000 test images, 1×28×28, 10 classes; scikit-learn's 8×8 …
        >>> pk.load_dataset("moons")
        Traceback (most recent call last):
        FileNotFoundError: no data set 'moons': there are 'mnist', 'cifar10', 'digits', ...
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}; data sets have names such as 'mnist'")
    made = {"digits": digits, "digits-rgb": digits_rgb}
    if name in made:
        return cached(made[name])()
    stand_in = STAND_INS.get(name) if fallback else None
    if stand_in and profile() == "embedded":
        train, test = SMALL[stand_in]
        return replace(cached(made[stand_in])(train, test), stand_in_for=name)
    folder = _data_folder()
    try:
        return _find(name, folder)
    except (OSError, ValueError) as why:
        if not stand_in:
            raise
        if not isinstance(why, ConnectionError):
            warnings.warn(f"{stand_in} stand in for {name}: {why}", stacklevel=2)
        data = load_dataset(stand_in)
        return replace(data, stand_in_for=name, source=f"{data.source} ({why})")


def _data_folder() -> Path | None:
    """The folder that PEEK_DATA names, if it does."""
    named = os.environ.get("PEEK_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"PEEK_DATA is {named!r}, which is not a folder")
    return folder


def _find(name: str, folder: Path | None) -> Dataset:
    """The data set from the first place that has it, or a download into the user's cache."""
    cache = platformdirs.user_cache_path("peeklib")
    for root, place in ((folder, "the folder PEEK_DATA"), (cache, "the user's cache")):
        if root is not None and (found := _read(name, root, place)):
            return found
    near = near_miss(name, folder) if folder else ""
    if name not in ORIGINALS:
        known = ", ".join(repr(one) for one in [*ORIGINALS, *STAND_INS.values()])
        raise FileNotFoundError(
            f"no data set {name!r}: there are {known}, and any <name>/{{train,test}}/<class>/ of "
            f"images (or its zip) in the folder that PEEK_DATA names. {near}".removesuffix(". ")
        )
    if near:
        warnings.warn(f"{near}; a download is tried", stacklevel=3)
    try:
        download(ORIGINALS[name], cache)
    except ConnectionError as why:
        raise ConnectionError(f"{near}; {why}" if near else why) from why
    return read_original(name, cache, "a download, checksums verified")


def _read(name: str, root: Path, place: str) -> Dataset | None:
    """The data set if `root` has it in any of the known forms."""
    if name in ORIGINALS and ORIGINALS[name].is_in(root):
        return read_original(name, root, place)
    return find_image_files(name, root, place)
