"""Images in files, as Pillow reads them, brought to bytes: grey or RGB, upright, without transparency.

What is decided here is decided for all images of a set at once, so that equal pixels stay equal:

- Transparency is laid on white or black, whichever the visible pixels stand out from.
- Grey images with more than 8 bits are divided by the largest number of the bits that are used.
- Grey images among coloured ones get three channels; images of several sizes are refused.

Of several frames the first counts. Whatever a reader may want to know of that comes as notes.

A damaged image is an error, as far as its format lets one see: PNG has checksums, and JPEG an end.
Of BMP, TIFF without compression, or WebP, zeros in the place of pixels are pixels.

`outside.Packed` has what is used here of `pathlib.Path`, so that both are read in one way.
"""

import functools
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from .names import shown
from .outside import Packed, read_plain, words

AnyPath = TypeVar("AnyPath", Path, Packed)
LARGEST = 2**28  # bytes of a file; of more pixels Pillow warns
MOST = 8 * 10**9  # bytes of pixels of all images, as `images` has it
FREE = 2**29  # bytes of pixels that any files may hold, however small they are
RATIO = 500  # of more pixels to bytes in files: photographs and drawings have less, bombs more
# What Pillow opens with the help of other programs, or only looks at from outside.
UNFIT = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Pictures that Pillow may be unable to read: to leave them out is worth a note.
OTHERS = {".avif", ".cr2", ".dcm", ".dng", ".eps", ".heic", ".heif", ".jxl", ".nef", ".svg"}
# Names that systems and programs leave in folders, besides those with a dot in front.
LEFTOVERS = {
    *("__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "desktop.ini"),
}
SCANS = 100  # of a progressive JPEG, each over all pixels; most have ten
# In JPEG, what begins a part; within coded pixels these bytes stand for other things.
JPEG_PART = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


class Picture(NamedTuple):
    """One image as it was found.

    Example:
        >>> picture = open_picture(Image.new("LA", (4, 3)), "a.png")
        >>> picture.pixels.shape, picture.pixels.dtype
        ((3, 4, 2), dtype('uint8'))
    """

    name: str  #: what errors and notes call it
    pixels: np.ndarray  #: height × width × 1 grey, 2 grey and alpha, 3 RGB, or 4 RGB and alpha
    format: str = ""  #: as Pillow calls it: "PNG"
    more_frames: bool = False  #: than this one
    halved: bool = False  #: Pillow took the upper 8 of the 16 bits of a colour


# Folders


def read_folder(folder: str | os.PathLike) -> tuple[Tensor, list[str]]:
    """All images in a folder and its subfolders, in alphabetical order.

    Hidden files and what systems leave behind (`.ipynb_checkpoints`, `__MACOSX`, `Thumbs.db`, …)
    are passed over. Whatever is changed or left out is told in a warning.

    Args:
        folder: with files of any format that Pillow decodes by itself, in any depth.

    Returns:
        uint8, images × channels (1 or 3) × height × width; and each image's path below `folder`.

    Raises:
        FileNotFoundError, NotADirectoryError: where there is no folder, or no image in it.
        ValueError: for an image that cannot be read, or has another size than the first.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("RGB", (4, 3)).save(Path(folder, "red.png"))
        ...     images, names = read_folder(folder)
        >>> images.shape, names
        (torch.Size([1, 3, 3, 4]), ['red.png'])
    """
    root = Path(folder).expanduser()
    if root.is_file():
        raise NotADirectoryError(f"{root} is a file; give the folder that it is in")
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    files = files_below(root)
    images = [file for file in files if is_image(file)]
    if not images:
        raise FileNotFoundError(f"{root} has no images: {contents(files)}; {readable()}")
    pixels, notes = combine(read_pictures(images))
    for note in [*notes, *left_out(files)]:
        warnings.warn(f"{shown(root)}: {note}", stacklevel=2)
    return pixels, [file.relative_to(root).as_posix() for file in images]


def files_below(folder: AnyPath) -> list[AnyPath]:
    """The files in a folder and its subfolders, but for hidden ones and leftovers, in order.

    Example:
        >>> files_below(Path("no such folder"))
        []
    """
    return list(_files(folder))


def is_image(file: AnyPath) -> bool:
    """Whether a file has a suffix of images that Pillow reads.

    Example:
        >>> is_image(Path("a.PNG")), is_image(Path("a.txt"))
        (True, False)
    """
    return _suffix(file) in _suffixes()


def visible(folder: AnyPath) -> list[AnyPath]:
    """What is in a folder, in alphabetical order, but for hidden things and leftovers.

    A link to a folder that it lies in is left out too.

    Example:
        >>> visible(Path("no such folder"))
        []
    """
    if not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    wanted = (path for path in paths if path.name.casefold() not in LEFTOVERS)
    return sorted((path for path in wanted if not _leads_up(path)), key=lambda path: path.name)


def contents(files: Iterable[AnyPath]) -> str:
    """What there is instead of images, in words, for errors.

    Example:
        >>> contents([Path("a.txt"), Path("b.txt")])
        'there are 2 .txt'
    """
    counts = Counter(_suffix(file) or "without a suffix" for file in files)
    if not counts:
        return "it is empty"
    found = [f"{count} {suffix}" for suffix, count in counts.most_common(5)]
    return f"there are {', '.join(found)}"


def readable() -> str:
    """What counts as an image, in words, for errors.

    Example:
        >>> readable().startswith("files of images end in")
        True
    """
    common = [".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".pgm", ".ppm"]
    return f"files of images end in {', '.join(s for s in common if s in _suffixes())} or the like"


def left_out(files: Iterable[AnyPath]) -> list[str]:
    """A note on pictures of formats that are not read, if there are any.

    Example:
        >>> left_out([Path("a.png"), Path("b.heic")])
        ['left out 1 .heic, which Pillow does not read here']
    """
    unread = OTHERS - _suffixes()
    counts = Counter(_suffix(file) for file in files if _suffix(file) in unread)
    if not counts:
        return []
    found = [f"{count} {suffix}" for suffix, count in counts.items()]
    return [f"left out {', '.join(found)}, which Pillow does not read here"]


def _files(folder: AnyPath) -> Iterator[AnyPath]:
    """All files below a folder; links that lead in a circle are followed once."""
    waiting = [(folder, frozenset())]
    while waiting:
        path, above = waiting.pop()
        if path.is_dir():
            here = path.resolve() if isinstance(path, Path) else path
            if here not in above:
                waiting += [(inner, above | {here}) for inner in reversed(visible(path))]
        elif path is not folder:
            yield path


def _leads_up(path: Path | Packed) -> bool:
    """Whether it is a link to a folder that it lies in."""
    if not isinstance(path, Path) or not path.is_symlink() or not path.is_dir():
        return False
    return path.parent.resolve().is_relative_to(path.resolve())


def _suffix(file: AnyPath) -> str:
    return file.suffix.lower()


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow decodes by itself."""
    Image.init()
    return tuple(name for name in Image.ID if name not in UNFIT)


@functools.cache
def _suffixes() -> frozenset[str]:
    formats = _formats()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in formats)


# One image


def read_pictures(
    files: Iterable[AnyPath], fit: Callable[[Picture], Picture] = lambda picture: picture
) -> list[Picture]:
    """The first image in each file.

    Args:
        files: in any format that Pillow decodes by itself, whatever their suffixes say.
        fit: what is done to each before the next is read.

    Returns:
        In the order of the files.

    Raises:
        OSError, ValueError: as `read_picture`; and where the pixels take more than 8 GB, or so much
            more than the files that they look like a decompression bomb.

    Example:
        >>> read_pictures([])
        []
    """
    pictures = []
    pixels = packed = 0
    for file in files:
        content = _content(file)
        packed += len(content)
        name = shown(file)
        with _opened(content, name) as image:
            _check_room(pixels + image.width * image.height, packed, name)  # at the least
            pictures.append(fit(open_picture(image, name)))
        pixels += pictures[-1].pixels.nbytes
        _check_room(pixels, packed, name)
    return pictures


def _check_room(pixels: int, packed: int, name: str) -> None:
    """Pixels take no more bytes than anyone needs, and not too much more than their files."""
    if pixels > min(MOST, max(FREE, RATIO * packed)):
        raise ValueError(
            f"the images up to {name} have {packed:,} bytes in files and {pixels:,} or more as "
            "pixels: too much, or a decompression bomb; take fewer or smaller ones"
        )


def read_picture(file: AnyPath) -> Picture:
    """The first image in a file, whatever its suffix says of its format.

    Raises:
        OSError: for a file that is not to be had, or cannot be unpacked from a zip.
        ValueError: for one that holds no image, or a damaged one.
    """
    with _opened(_content(file), shown(file)) as image:
        return open_picture(image, shown(file))


def _content(file: AnyPath) -> bytes:
    return file.read_bytes(LARGEST) if isinstance(file, Packed) else read_plain(file, LARGEST)


def _opened(content: bytes, name: str) -> Image.Image:
    try:
        _check_whole(content)
        return Image.open(io.BytesIO(content), formats=_formats())
    except Image.UnidentifiedImageError as why:
        what = "it is empty" if not content else f"it begins with {content[:8]!r}"
        raise ValueError(
            f"{name} cannot be read as an image ({what}); replace or delete it"
        ) from why
    except Exception as why:  # Pillow's plugins raise errors of any kind
        raise _unreadable(name, why) from why


def _check_whole(content: bytes) -> None:
    """What decoding passes over: the checksums of PNG, and whether JPEG comes to its end."""
    if content.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
    if content.startswith(b"\xff\xd8\xff"):
        _check_parts(content)


def _check_parts(jpeg: bytes) -> None:
    """Part follows part up to the last, "end of image", and not too often over all pixels."""
    place = 2
    scans = 0
    while part := JPEG_PART.search(jpeg, place):
        if part[1] == b"\xd9":
            break
        scans += part[1] == b"\xda"
        place = part.end()
        place += int.from_bytes(jpeg[place : place + 2], "big")  # its length
    else:
        raise EOFError("its end is missing")
    if scans > SCANS:
        raise ValueError(f"it goes over all pixels {scans} times, as a bomb does")


def open_picture(image: Image.Image, name: str) -> Picture:
    """Pillow's image, decoded.

    Raises:
        ValueError: for one that cannot be decoded.
    """
    form = image.format or ""
    try:
        halved = any(";16" in str(part) for tile in getattr(image, "tile", []) for part in tile)
        more = form not in ("MPO", "PSD") and getattr(image, "is_animated", False)
        pixels = _pixels(_upright(image))
    except Exception as why:  # Pillow's plugins raise errors of any kind
        raise _unreadable(name, why) from why
    return Picture(name, pixels, form, bool(more), halved and pixels.dtype == np.uint8)


def _unreadable(name: str, why: Exception) -> ValueError:
    return ValueError(f"{name} cannot be read as an image ({words(why)}); replace or delete it")


def _upright(image: Image.Image) -> Image.Image:
    """As cameras say that they were held; others as they are, without the copy that Pillow makes."""
    image.load()  # what says so may come behind the pixels
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _pixels(image: Image.Image) -> np.ndarray:
    """Height × width × channels, with an alpha channel only where something is transparent."""
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits
        pixels = np.asarray(image)
        return np.atleast_3d(pixels.astype(pixels.dtype.newbyteorder("=")))
    grey = image.mode in ("1", "L", "LA", "La")
    if _may_be_transparent(image):
        pixels = np.asarray(image.convert("LA" if grey else "RGBA"))
        return pixels if pixels[..., -1].min() < 255 else pixels[..., :-1]
    wanted = "L" if grey else "RGB"
    return np.atleast_3d(np.asarray(image if image.mode == wanted else image.convert(wanted)))


def _may_be_transparent(image: Image.Image) -> bool:
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return image.mode[-1] in "Aa" or palette.endswith("A") or "transparency" in image.info


# A set of images


def combine(pictures: Sequence[Picture]) -> tuple[Tensor, list[str]]:
    """Images of one size as one tensor.

    Args:
        pictures: at least one.

    Returns:
        uint8, images × channels × height × width, with one channel if all are grey, else three; and
        notes on what was changed.

    Raises:
        ValueError: for images of several sizes or depths, or pixels that cannot be brought to bytes.

    Example:
        >>> pictures = [Picture(str(bits), np.full((1, 1, 1), 2**bits - 1)) for bits in (12, 10)]
        >>> images, notes = combine(pictures)
        >>> images.flatten().tolist(), notes
        ([255, 64], ['pixels run from 1023 to 4095: divided by 4095, to lie between black and white'])
    """
    for picture in pictures:
        _check_alike(picture, pictures[0])
    notes = []
    clear = [picture for picture in pictures if _has_alpha(picture)]
    ground = _ground(clear)
    if clear:
        notes.append(f"{_names(clear)} in part transparent: laid on {_colour(ground)}")
    if more := [picture for picture in pictures if picture.more_frames]:
        notes.append(f"{_names(more)} of several frames: the first counts")
    white = _white(pictures, notes)
    channels = 1 if all(picture.pixels.shape[2] < 3 for picture in pictures) else 3
    images = np.empty((len(pictures), channels, *pictures[0].pixels.shape[:2]), np.uint8)
    for image, picture in zip(images, pictures, strict=True):  # one by one, to save room
        image[:] = _to_bytes(_opaque(picture.pixels, ground), white).transpose(2, 0, 1)
    if images.max() < 128 and any(picture.halved for picture in pictures):
        notes.append(
            f"of 16 bits for each colour Pillow reads the upper 8, which run to {images.max()} of "
            "255: such dark images are better saved with 8 bits"
        )
    return torch.from_numpy(images), notes


def _check_alike(picture: Picture, first: Picture) -> None:
    """Size and depth are those of the first."""
    here = picture.pixels
    there = first.pixels
    if here.shape[:2] != there.shape[:2]:
        height, width = there.shape[:2]
        raise ValueError(
            f"{picture.name} has {here.shape[0]} × {here.shape[1]} pixels (height × width), "
            f"{first.name} has {height} × {width}; bring all to one size, such as "
            f"PIL.ImageOps.fit(image, ({width}, {height}))"
        )
    if here.dtype != there.dtype:
        raise ValueError(
            f"{picture.name} holds pixels as {here.dtype}, {first.name} as {there.dtype}, so that "
            "one would look darker than the other; save all with 8 bits"
        )


def _white(pictures: Sequence[Picture], notes: list[str]) -> int:
    """The number that stands for white in all of them."""
    depth = pictures[0].pixels.dtype
    if depth == np.uint8:
        return 255
    for picture in pictures:
        if not (np.isfinite(picture.pixels).all() and picture.pixels.min() >= 0):
            raise ValueError(
                f"{picture.name} has pixels that are negative or not finite; shift all images by "
                "the same amount, and save them with 8 bits"
            )
    lowest = min(picture.pixels.min() for picture in pictures)
    highest = max(picture.pixels.max() for picture in pictures)
    white = _top(float(highest), depth)
    if white < 2**16 - 1 or depth != np.uint16:
        notes.append(
            f"pixels run from {lowest:g} to {highest:g}: divided by {white}, to lie between "
            "black and white"
        )
    return white


def _top(largest: float, depth: np.dtype) -> int:
    """What becomes white: 1 for fractions, else the largest number of as many bits as are used."""
    if depth.kind == "f" and largest <= 1:
        return 1
    return 2 ** max(8, int(np.ceil(largest)).bit_length()) - 1


def _to_bytes(pixels: np.ndarray, white: int) -> np.ndarray:
    """Pixels from 0 to 255; those that have 8 bits are that already."""
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels * (255 / white)).round().astype(np.uint8)


def _has_alpha(picture: Picture) -> bool:
    return picture.pixels.shape[2] in (2, 4)


def _ground(pictures: Iterable[Picture]) -> int:
    """0 (black) if what one sees of transparent images is light, else 255 (white)."""
    light = 0.0
    seen = 0.0
    for picture in pictures:
        alpha = picture.pixels[..., -1].astype(float)
        light += (picture.pixels[..., :-1].mean(axis=2) * alpha).sum()
        seen += alpha.sum()
    return 0 if light > 127.5 * seen else 255


def _colour(ground: int) -> str:
    return "white" if ground else "black"


def _opaque(pixels: np.ndarray, ground: int) -> np.ndarray:
    """Pixels without alpha, where there was any laid on a grey of that brightness."""
    if pixels.shape[2] in (1, 3):
        return pixels
    alpha = pixels[..., -1:].astype(np.uint16)
    mixed = pixels[..., :-1] * alpha + ground * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _names(pictures: Sequence[Picture]) -> str:
    """The first of them, and how many more, with a verb."""
    if len(pictures) == 1:
        return f"{pictures[0].name} is"
    return f"{len(pictures)} images ({pictures[0].name} and others) are"
