"""What `peek` found: an object that shows itself in a notebook and saves itself as one HTML file.

The file asks no network for anything: pictures are inside, sliders are the kernel-less face of an
`Explorer`. Its figures are made by `figures`, its HTML by `page`. What it shows can be saved as
data too, by `storage`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from .. import storage
from ..directions import Direction
from ..explorer import Explorer, Picture, show
from ..images import to_float
from ..names import brief
from ..nmf import Sweep
from . import figures, page

METHODS = {"singular": "singular directions", "nmf": "components", "neurons": "single neurons"}
PIXELS = "input pixels"
PAGES, DATA = (".html", ".htm"), (storage.SUFFIX, ".peek")  # how files are called


@dataclass(frozen=True, repr=False, eq=False)
class Peek:
    """What `peek` found. It shows itself in a notebook; `save` writes it as one HTML file, or as data.

    Example:
        >>> import peeklib as pk
        >>> from torch import eye, nn
        >>> images = eye(16).reshape(16, 1, 4, 4)
        >>> net = nn.Sequential(nn.ReLU(), nn.Flatten())
        >>> pk.peek(net, images, ranks=(2,), device="cpu", progress=False)
        Peek('A peek into Sequential', layers=1, ranks=[2]); .save(path) writes a report
    """

    title: str  #: what the report is called
    layers: pd.DataFrame  #: a row for each layer, in order: its kind, what was kept, its numbers
    errors: pd.DataFrame  #: relative error, 0 … 1, of each part (rows) at each rank (columns)
    scores: pd.DataFrame  #: label-free scores: value, and how to read it
    sweep: Sweep  #: the coupled factorizations, one for each rank
    spectra: dict[str, Tensor]  #: singular values of each layer, signs kept, largest first
    #: by layer and method: "singular", "nmf" or "neurons"
    directions: dict[tuple[str, str], list[Direction]]
    notes: list[str]  #: what was left out, scaled or decided, in plain words
    settings: dict[str, str]  #: how it was made: arguments, versions, sizes
    images: Tensor  #: images × channels × height × width, uint8, as the report shows them
    parts: dict[str, list[str]]  #: the blocks of the sweep that each part consists of
    seconds: float  #: wall time

    @cached_property
    def components(self) -> Explorer:
        """The components as images.

        Returns:
            One slider, over the ranks.

        Example:
            >>> import peeklib as pk
            >>> from torch import eye, nn
            >>> images = eye(16).reshape(16, 1, 4, 4)
            >>> pk.peek(nn.ReLU(), images, ranks=(1, 2), device="cpu", progress=False).components
            Explorer over rank (2 values)
        """
        return Explorer({"rank": self.errors.columns.tolist()}, self._draw_components)

    def _draw_components(self, rank: int) -> tuple[Figure, str]:
        size = self.images.shape[2:]
        error = fit_error(self.errors[rank])
        fit = self.sweep[rank, self.seed].to("cpu")
        return figures.component_images(fit, self.parts[PIXELS], size, error)

    @cached_property
    def extremes(self) -> Explorer:
        """The images that lie farthest along each direction.

        Returns:
            Two sliders, over the layers and over the methods.

        Example:
            >>> import peeklib as pk
            >>> from torch import eye, nn
            >>> images = eye(16).reshape(16, 1, 4, 4)
            >>> pk.peek(nn.ReLU(), images, ranks=(1, 2), device="cpu", progress=False).extremes
            Explorer over layer (1 values), method (3 values)
        """
        present = {method for _, method in self.directions}
        methods = [method for method in METHODS if method in present]
        axes = {"layer": self.layers.index.tolist(), "method": methods}
        return Explorer(axes, self._draw_extremes)

    def _draw_extremes(self, layer: str, method: str) -> tuple[Figure, str]:
        found = self.directions.get((layer, method), [])
        return figures.extreme_images(found, self.pictures, layer=layer, method=METHODS[method])

    @cached_property
    def pictures(self) -> Tensor:
        """`images` as they can be drawn: grey or colour.

        Returns:
            images × 1 or 3 × height × width; other numbers of channels are averaged, which gives
            floats in [0, 1].

        Example:
            >>> import peeklib as pk
            >>> from torch import eye, nn
            >>> images = eye(16).reshape(8, 2, 4, 4)
            >>> pk.peek(nn.ReLU(), images, ranks=(1,), device="cpu", progress=False).pictures.shape
            torch.Size([8, 1, 4, 4])
        """
        if self.images.shape[1] in (1, 3):
            return self.images
        return to_float(self.images).mean(1, keepdim=True)

    @property
    def seed(self) -> int:
        """Of the factorizations."""
        return next(iter(self.sweep.fits))[1]

    @cached_property
    def _error_curves(self) -> Picture:
        return show(*figures.error_curves(self.errors))

    @cached_property
    def _spectrum_curves(self) -> Picture:
        return show(*figures.spectrum_curves(self.spectra, self.layers))

    def _repr_html_(self) -> str:
        return page.fragment(self.title, _page_parts(self))

    def __repr__(self):
        ranks = self.errors.columns.tolist()
        size = f"layers={len(self.layers)}, ranks={ranks}"
        return f"Peek({self.title!r}, {size}); .save(path) writes a report"

    def to(self, device) -> Self:
        """The same with its factorizations on `device`; what else it holds is drawn on the CPU.

        Returns:
            A new one; `self` stays where it is.

        Example:
            >>> import peeklib as pk
            >>> from torch import eye, nn
            >>> images = eye(16).reshape(16, 1, 4, 4)
            >>> found = pk.peek(nn.ReLU(), images, ranks=(1,), device="cpu", progress=False)
            >>> found.to("meta").sweep[1, 0].image_factor.device
            device(type='meta')
        """
        return replace(self, sweep=self.sweep.to(device))

    def save(self, path: str | os.PathLike) -> Path:
        """Write one file, over one that is there: the report, or its data. The suffix says which.

        ".html" and ".htm" give the report, one page that needs no other file. ".safetensors" and
        ".peek" give all that it is made of, in the safetensors format: `pk.load` opens that as a
        `Peek`, which shows itself and can save the report again. Tensors in it are called "images",
        "spectra/<layer>", "sweep/fits/<rank>,<seed>/image_factor", and so on.

        Returns:
            The path of the file.

        Raises:
            ValueError: for another suffix.
            OSError: if the folder does not exist, the path is a folder, or it cannot be written.

        Example:
            >>> import tempfile
            >>> import peeklib as pk
            >>> from torch import eye, nn
            >>> images = eye(16).reshape(16, 1, 4, 4)
            >>> found = pk.peek(nn.ReLU(), images, ranks=(1,), device="cpu", progress=False)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     pk.load(found.save(f"{folder}/report.safetensors"))
            Peek('A peek into ReLU', layers=1, ranks=[1]); .save(path) writes a report
            >>> found.save("nowhere/report.html")
            Traceback (most recent call last):
            FileNotFoundError: there is no folder 'nowhere' to save 'report.html' in; make it first
        """
        path = Path(path)
        storage.check_place(path, "report.html")
        suffix = path.suffix.lower()
        if suffix in DATA:
            return storage.save(self, path)
        if suffix not in PAGES:
            raise ValueError(
                f"{path.name!r} does not say what to save; call it {path.stem + '.html'!r} for a "
                f"report to read, or {path.stem + storage.SUFFIX!r} for data that pk.load opens"
            )
        report = page.whole_page(self.title, _page_parts(self))
        storage.write(path, report.encode("utf-8"))
        return path


def fit_error(errors: Iterable[float]) -> float:
    """Relative error over all parts, each with an equal say.

    Returns:
        A share, from 0 to 1, the root of the mean of squares.

    Example:
        >>> round(fit_error([0.1, 0.7]), 3)
        0.5
    """
    return float(np.sqrt(np.mean(np.square(list(errors)))))


def _page_parts(peek: Peek) -> dict[str, str]:
    """What fills the places in `sections.html`."""
    scores = peek.scores.assign(value=peek.scores.value.map("{:.3g}".format))
    errors = peek.errors.map("{:.3f}".format)
    errors = errors.rename(columns="rank {}".format).rename_axis("part")
    settings = pd.Series(peek.settings, name="value").to_frame()
    return {
        "model": brief(peek.settings["model"]),
        "parameters": brief(peek.settings["parameters"]),
        "images": brief(peek.settings["images"]),
        "layers": page.table(_layer_texts(peek.layers), "Layers, in the order they ran"),
        "notes": page.notes_section(peek.notes),
        "scores": page.table(scores, "Scores"),
        "error_curves": peek._error_curves._repr_html_(),
        "errors": page.table(errors, "Relative error at each rank"),
        "spectrum_curves": peek._spectrum_curves._repr_html_(),
        "components": peek.components.to_html(),
        "extremes": peek.extremes.to_html(),
        "settings": page.table(settings, "Settings and versions"),
        "seconds": f"{peek.seconds:.0f}",
    }


def _layer_texts(layers: pd.DataFrame) -> pd.DataFrame:
    """The table of layers as the report words it."""
    ranks = layers["entropy rank"]
    texts = {
        "activation": layers["activation"],
        "shape": layers["shape"],
        "kept": layers["kept"],
        "below zero": list(map(_below_zero, layers["below zero"], layers["negatives"])),
        "zeros": [f"{100 * share:.0f} %" for share in layers["zeros"]],
        "entropy rank": list(map("{:.1f} of {}".format, ranks, layers["largest possible"])),
    }
    return pd.DataFrame(texts, index=layers.index.rename("layer"))


def _below_zero(share: float, treated: str) -> str:
    return f"{100 * share:.1f} %, {treated}" if share else "none"
