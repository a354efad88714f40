"""`python -m peeklib`: a report on a network from the command line.

PyTorch takes seconds to import, so everything that needs it is imported once it is needed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import peeklib as pk

from .names import readable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .pictures import Picture

EPILOG = """\
examples:
  python -m peeklib model.pt2 images/ -o report.html
  python -m peeklib mycode:load images/ --preprocess mycode:normalize --size 64
  python -m peeklib mycode:load images.npy --scores
  python -m peeklib mycode:load images/ --size 256 --channels 3 \\
      --preprocess "torchvision.models:ResNet18_Weights.DEFAULT.transforms()"

mycode.py, in the current folder, for a network of torchvision with its trained weights:
  def load():
      return torchvision.models.resnet18(weights="DEFAULT")

The images are read, cut to --size, and given to --preprocess as one batch of floats in [0, 1].

to write model.pt2:
  program = torch.export.export(model.eval(), (images,),
                                dynamic_shapes=({0: torch.export.Dim("batch")},))
  torch.export.save(program, "model.pt2")

what is safe:
  A .pt2 file is looked through before PyTorch reads it, and refused if it has pickles or anything
  but PyTorch's own operators in it. MODULE:NAME runs that module. A pickle (.pt, .pth, .pkl) can
  run any code that its writer wished, and is refused without --unsafe-unpickle. .npy arrays are
  read without pickles.

exit status: 0 done, 1 failed (one line says why), 2 wrong use, 130 interrupted.
"""
IMAGES_MOST = 500  # as many as chapter 14 takes; more say little more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: those of the command line, without the name of the program; None takes them
            from there.

    Returns:
        The exit status.

    Raises:
        SystemExit: after --help, and for arguments that make no sense.

    Example:
        >>> main(["nothing.pt2", "images"])
        1
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _say(str(message))
        try:
            _run(options)
        except KeyboardInterrupt:
            _say("interrupted")
            return 130
        except Exception as error:
            if options.debug:
                raise
            _say(f"error: {_in_one_line(error)}")
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m peeklib",
        description="Look into a network by factorization: its layers are found, recorded, and "
        "factorized with the images, without labels. The report is one HTML file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="an exported program (.pt2), or MODULE:NAME: a function without arguments that gives "
        "the network, or the network itself; modules of the current folder count",
    )
    add("images", metavar="IMAGES", help="a folder with images, at any depth, or an array in .npy")
    add(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the report (default: report.html, or none with --scores); what was there is replaced",
    )
    add("--scores", action="store_true", help="print the scores without labels")
    add(
        "--preprocess",
        metavar="MODULE:NAME",
        help="what the network expects to be done to a batch of images in [0, 1]; end it in () if "
        "it makes that function",
    )
    add("--size", metavar="N", type=_count, help="cut images square and bring them to N × N")
    add("--channels", type=int, choices=(1, 3), help="make all images grey (1) or colour (3)")
    add(
        "--sample",
        metavar="N",
        type=_count,
        default=IMAGES_MOST,
        help="at most N images, drawn at random (default: %(default)s)",
    )
    add("--layers", metavar="A,B", type=_names, help="names of layers (default: found by itself)")
    add("--ranks", metavar="N,N", type=_counts, help="numbers of components (default: 10,20,…,50)")
    add("--memory", metavar="GB", type=_gigabytes, help="for activations (default: 0.25)")
    add(
        "--store",
        metavar="FOLDER",
        type=Path,
        help="keep all layers whole on disk, in this new folder, however little memory there is",
    )
    add("--device", help="where to factorize, such as cuda (default: a GPU if there is one)")
    add("--seed", type=_whole, default=0, help="of all that is drawn (default: %(default)s)")
    add("--title", help="of the report")
    add("--unsafe-unpickle", action="store_true", help="read MODEL even if it is a pickle")
    add("--debug", action="store_true", help="show where an error came from")
    add("--version", action="version", version=f"peeklib {pk.__version__}")
    return parser


def _count(text: str) -> int:
    count = int(text) if text.strip().isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return count


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as why:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from why


def _gigabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0
    if not 0 < size < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of gigabytes above 0, such as 0.25"
        )
    return size


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name in it")
    return names


# The steps


def _run(options: argparse.Namespace) -> None:
    output = _output(options)
    _check_paths(options, output)
    model = _model(options)
    preprocess = _named(options.preprocess) if options.preprocess else None
    images = _images(options)
    if output:
        report = pk.peek(model, images, preprocess=preprocess, **_settings(options))
        for note in report.notes:
            _say(f"note: {note}")
        _say(f"wrote {report.save(output)}")
    if options.scores:
        if len(images) < 50:
            _say(f"note: {len(images)} images are few for scores; some hundred are better")
        table = pk.scores.table(model, images, preprocess=preprocess, layers=options.layers)
        print(_scores(table))


def _output(options: argparse.Namespace) -> Path | None:
    """Where the report goes, if it is wanted."""
    if options.output is None and options.scores:
        return None
    output = options.output or Path("report.html")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; name a file, such as {output}/report.html")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{output} is no name for a report; call it {output.stem}.html")
    return output


def _check_paths(options: argparse.Namespace, output: Path | None) -> None:
    """Whether they lead somewhere: told at once, before PyTorch is imported and work is done."""
    if ":" not in options.model and not Path(options.model).exists():
        raise FileNotFoundError(
            f"there is no file {options.model}; a network is a file, or module:function"
        )
    if not Path(options.images).exists():
        raise FileNotFoundError(f"there is no folder or array {options.images}")
    if options.store and not output:
        raise ValueError("--store is for the report, and --scores alone makes none; add -o FILE")
    for place in (output, options.store):
        if place and not place.parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder '{place.parent}' to make {place.name} in; make it first"
            )


def _settings(options: argparse.Namespace) -> dict:
    """What was asked for of `peek`; the rest has its own defaults."""
    settings = {
        "layers": options.layers,
        "ranks": options.ranks,
        "memory": options.memory,
        "store": options.store,
        "device": options.device,
        "seed": options.seed,
        "title": options.title or f"A peek into {options.model}",
        "progress": sys.stderr.isatty(),
    }
    return {name: value for name, value in settings.items() if value is not None}


def _scores(table) -> str:
    """The table as text, a line for each score."""
    lines = []
    for row in table.itertuples():
        way = "larger is better" if row.better > 0 else "smaller is better"
        value = f"none: {_short(row.why)}" if row.why else f"{row.value:<12.4g} {way}"
        lines.append(f"{row.score:<20} {value}")
    return "\n".join(lines)


# The network


def _model(options: argparse.Namespace) -> nn.Module:
    from torch import nn

    from .study.programs import read_network

    given = options.model
    if ":" not in given or Path(given).exists():
        return read_network(given, unpickle=options.unsafe_unpickle)
    found = _named(given)
    made = found
    if callable(found) and not isinstance(found, nn.Module):
        made = found()
    if not isinstance(made, nn.Module):
        raise TypeError(f"{given} gives a {type(made).__name__}, not a network (nn.Module)")
    return made


def _named(text: str):
    """What MODULE:NAME names; with () at its end, what that gives."""
    module, _, path = text.removesuffix("()").partition(":")
    if not module or not path:
        raise ValueError(f"{text!r} is not of the form MODULE:NAME")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # where `python -m` looks
    try:
        home = importlib.import_module(module)
    except ModuleNotFoundError as why:
        if why.name != module.partition(".")[0]:
            raise
        raise ModuleNotFoundError(f"there is no module {module!r} here ({here})") from why
    try:
        found = attrgetter(path)(home)
    except AttributeError as why:
        raise AttributeError(f"module {module!r} has no {path!r}") from why
    return found() if text.endswith("()") else found


# The images


def _images(options: argparse.Namespace) -> Tensor:
    path = Path(options.images)
    images = _array(path, options) if path.suffix == ".npy" else _folder(path, options)
    if options.channels is None or images.shape[1] == options.channels:
        return images
    if images.shape[1] == 4:
        images = _opaque(images, path)
        return images if options.channels == 3 else _grey(images)
    grey = _grey(images) if images.shape[1] == 3 else images
    return grey.expand(-1, options.channels, -1, -1).contiguous()


def _grey(images: Tensor) -> Tensor:
    """Brightness as of ITU-R BT.601, which is what Pillow takes."""
    import torch

    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).reshape(1, 3, 1, 1)
    grey = (images * weights).sum(dim=1, keepdim=True)
    return (grey.round() if images.dtype == torch.uint8 else grey).to(images.dtype)


def _folder(folder: Path, options: argparse.Namespace) -> Tensor:
    from tqdm.auto import tqdm

    from . import pictures

    files = [str(file) for file in pictures.files_below(folder) if pictures.is_image(file)]
    if not files:
        pictures.read_folder(folder)  # says what is there instead
    chosen = [Path(files[k]) for k in _drawn(len(files), options)]
    bar = tqdm(chosen, "reading images", leave=False, disable=None)
    found = pictures.read_pictures(bar, fit=lambda picture: _fitted(picture, options.size))
    shapes = {picture.pixels.shape[:2]: picture.name for picture in found}
    if len(shapes) > 1:
        two = list(shapes.items())[:2]
        sizes = " and ".join(f"{high} × {wide} ({name})" for (high, wide), name in two)
        raise ValueError(
            f"images have {len(shapes)} sizes (height × width), such as {sizes}; give --size N"
        )
    images, notes = pictures.combine(found)
    for note in [*notes, *pictures.left_out(pictures.files_below(folder))]:
        _say(f"{folder}: {note}")
    return images


def _drawn(count: int, options: argparse.Namespace) -> list[int]:
    """Which images are taken, in order."""
    import torch

    if count <= options.sample:
        return list(range(count))
    _say(f"{options.sample} of {count} images, drawn with seed {options.seed}")
    draw = torch.Generator().manual_seed(options.seed)
    return torch.randperm(count, generator=draw)[: options.sample].sort().values.tolist()


def _fitted(picture: Picture, size: int | None) -> Picture:
    """The square in the middle, at another size, if one is given."""
    import torch

    if size is None:
        return picture
    height, width = picture.pixels.shape[:2]
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    square = picture.pixels[top : top + side, left : left + side]
    stack = torch.tensor(square.astype("float64")).permute(2, 0, 1)[None]
    how = {"size": (size, size), "mode": "bilinear", "antialias": True}
    resized = torch.nn.functional.interpolate(stack, **how)[0].permute(1, 2, 0).numpy()
    if picture.pixels.dtype.kind in "ui":
        resized = resized.round()
    return picture._replace(pixels=resized.astype(picture.pixels.dtype))


def _array(path: Path, options: argparse.Namespace) -> Tensor:
    """Images in a file of NumPy."""
    import numpy as np

    from .images import as_images
    from .outside import check_plain, words

    if options.size:
        raise ValueError("--size is for folders of images; bring the array to its size before")
    check_plain(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # only what is drawn is read
    except Exception as why:  # of a damaged head NumPy raises anything
        raise ValueError(
            f"{path} cannot be read as an array ({words(why)}); save it with numpy.save"
        ) from why
    if not isinstance(array, np.ndarray):  # an archive of several, whatever it is called
        raise ValueError(f"{path} holds several arrays; save one of them with numpy.save")
    _check_shape(array.shape, path)
    return as_images(np.array(array[_drawn(len(array), options)]))


def _check_shape(shape: tuple[int, ...], path: Path) -> None:
    """Images × height × width, perhaps with channels behind or before the latter two, not both."""
    from .images import CHANNELS

    if len(shape) not in (3, 4):
        raise ValueError(
            f"{path} has shape {shape}; save images × height × width, or images × channels × "
            "height × width"
        )
    if len(shape) == 3 and shape[2] in CHANNELS:
        raise ValueError(
            f"{path} has shape {shape}, which may be one image; save images × channels × height × "
            "width, such as numpy.save(file, array[None]) for one in colour, or array[:, None] for "
            "grey ones"
        )
    if len(shape) == 4 and {shape[1], shape[3]} <= {*CHANNELS} and shape[1:] != (1, 1, 1):
        raise ValueError(
            f"{path} has shape {shape}, where channels may stand second or last; for such narrow "
            "images write a function that makes the report: peeklib.peek(model, tensor), with "
            "images × channels × height × width"
        )


def _opaque(images: Tensor, path: Path) -> Tensor:
    """Images with a fourth channel, which is taken for opacity, as pictures in a folder are."""
    import torch

    from . import pictures

    if images.dtype != torch.uint8:
        raise ValueError(
            f"{path} has four channels of floats; --channels knows what the fourth is in uint8 only, "
            "opacity: save one channel or three"
        )
    if images[:, 3].min() == 255:
        return images[:, :3]
    pixels = images.permute(0, 2, 3, 1).numpy()
    combined, notes = pictures.combine(
        [pictures.Picture(f"image {number}", each) for number, each in enumerate(pixels)]
    )
    for note in notes:
        _say(f"{path}: {note}")
    return combined


# What is said


def _say(text: str) -> None:
    """A line for the terminal; names of files in it cannot control that."""
    line = " ".join(text.splitlines())
    print(f"peeklib: {readable(line, most=len(line) * 10)}", file=sys.stderr)


def _in_one_line(error: BaseException) -> str:
    told = " ".join([str(error), *getattr(error, "__notes__", [])])
    return " ".join(told.split()) or type(error).__name__


def _short(text: str) -> str:
    return readable(" ".join(text.split()), most=100)


if __name__ == "__main__":
    sys.exit(main())
