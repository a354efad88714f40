"""What `peek` found: an object that shows itself in a notebook and saves itself as one HTML file.

The file asks no network for anything: pictures are inside, sliders are the kernel-less face of an
`Explorer`. Its figures are made by `figures`, its HTML by `page`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ..directions import Direction
from ..explorer import Explorer, Picture, show
from ..images import to_float
from ..nmf import Sweep
from . import figures, page

METHODS = {"singular": "singular directions", "nmf": "components", "neurons": "single neurons"}
PIXELS = "input pixels"


@dataclass(frozen=True, repr=False, eq=False)
class Peek:
    """What `peek` found. It shows itself in a notebook; `save` writes it as one HTML file.

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
        return figures.component_images(
            self.sweep[rank, self.seed], self.parts[PIXELS], size, error
        )

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

    def save(self, path: str | Path) -> Path:
        """Write the report as one self-contained HTML file, over one that is there.

        Returns:
            The path of the file.

        Raises:
            FileNotFoundError: if the folder does not exist.
            IsADirectoryError: if the path is a folder.

        Example:
            >>> import peeklib as pk
            >>> from torch import eye, nn
            >>> images = eye(16).reshape(16, 1, 4, 4)
            >>> found = pk.peek(nn.ReLU(), images, ranks=(1,), device="cpu", progress=False)
            >>> found.save("nowhere/report.html")
            Traceback (most recent call last):
            FileNotFoundError: there is no folder 'nowhere' to save the report in; make it first
        """
        path = Path(path)
        if path.is_dir():
            inside = path / "report.html"
            raise IsADirectoryError(
                f"{str(path)!r} is a folder; name a file in it, such as {str(inside)!r}"
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {str(path.parent)!r} to save the report in; make it first"
            )
        path.write_text(page.whole_page(self.title, _page_parts(self)), encoding="utf-8")
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
        "model": page.escape(peek.settings["model"]),
        "parameters": page.escape(peek.settings["parameters"]),
        "images": page.escape(peek.settings["images"]),
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
