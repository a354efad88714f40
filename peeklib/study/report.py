"""What `peek` found, as an object that shows itself in a notebook and saves itself as one self-contained HTML file.

The file asks no network for anything: pictures are inside, sliders are the kernel-less face of an `Explorer`.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import directions as along
from .. import plots
from ..explorer import Explorer, show
from ..hooks import to_float
from ..nmf import CoupledFactors, Sweep

METHODS = {"singular": "singular directions", "nmf": "components", "neurons": "single neurons"}
PIXELS = "input pixels"


@dataclass(frozen=True, repr=False, eq=False)
class Peek:
    """What `peek` found. It shows itself in a notebook; `save` writes it as one HTML file."""

    title: str  #: what the report is called
    layers: (
        pd.DataFrame
    )  #: a row for each layer, in the order they ran: what it is, what was kept, what it is like
    errors: pd.DataFrame  #: relative error, 0 … 1, of each part (rows) at each rank (columns)
    scores: pd.DataFrame  #: label-free scores: value, and how to read it
    sweep: Sweep  #: the coupled factorizations, one for each rank
    spectra: dict[
        str, Tensor
    ]  #: singular values of each layer, of the activations with their signs, largest first
    directions: dict[
        tuple[str, str], list[along.Direction]
    ]  #: by layer and method: "singular", "nmf", "neurons"
    notes: list[str]  #: what was left out, scaled or decided, in plain words
    settings: dict[str, str]  #: how it was made: arguments, versions, sizes
    images: Tensor  #: images × channels × height × width, uint8, as the report shows them
    parts: dict[str, list[str]]  #: the blocks of the sweep that each part consists of
    seconds: float  #: wall time

    @cached_property
    def components(self) -> Explorer:
        """Sliders over the rank: the components as images."""
        return Explorer({"rank": self.errors.columns.tolist()}, self._draw_components)

    @cached_property
    def extremes(self) -> Explorer:
        """Sliders over layer and method: for each direction the images that lie farthest along it."""
        methods = [name for name in METHODS if any(name == method for _, method in self.directions)]
        return Explorer(
            {"layer": self.layers.index.tolist(), "method": methods}, self._draw_extremes
        )

    def _draw_components(self, rank: int) -> tuple[Figure, str]:
        fit = self.sweep[rank, self.seed]
        pictures = _pictures(fit, self.parts[PIXELS], self.images.shape[2:])
        title = (
            f"{rank} components, strongest first"
            if rank <= 20
            else f"The 20 strongest of {rank} components"
        )
        return plots.image_grid(list(pictures[:20]), title=title), (
            f"The pixel side of {min(rank, 20)} components at rank {rank}, as images, each up to its own brightest pixel. "
            f"Relative error {fit_error(self.errors[rank]):.3f}, all parts alike."
        )

    def _draw_extremes(self, layer: str, method: str) -> tuple[Figure, str]:
        found = [replace(d, layer="") for d in self.directions.get((layer, method), [])]
        title = f"{METHODS[method]}, {_short(layer)}"
        if not found:
            return _empty(
                title
            ), f"{layer} has no {METHODS[method]}: no neuron varies, or no component reaches it."
        first = found[0]
        return plots.contact_sheet(found, self.pictures, min(4, len(self.images)), title=title), (
            f"{METHODS[method].capitalize()} of {layer}: for each of {len(found)}, the images of highest score on the left and lowest "
            f"on the right. Along {first.name} the highest is image {int(along.top_images(first, 1))}, "
            f"the lowest image {int(along.bottom_images(first, 1))}."
        )

    @cached_property
    def pictures(self) -> Tensor:
        """`images` as they can be drawn: grey or colour; other numbers of channels are averaged."""
        return (
            self.images
            if self.images.shape[1] in (1, 3)
            else to_float(self.images).mean(1, keepdim=True)
        )

    @property
    def seed(self) -> int:
        """Of the factorizations."""
        return next(iter(self.sweep.fits))[1]

    @cached_property
    def _pictures(self):
        return _error_picture(self), _spectrum_picture(self)

    def _repr_html_(self) -> str:
        return f'<div class="peek-report"><style>{_STYLE}</style><h2>{_escape(self.title)}</h2>{_sections(self, 3)}</div>'

    def __repr__(self):
        return f"Peek({self.title!r}, layers={len(self.layers)}, ranks={self.errors.columns.tolist()}); .save(path) writes a report"

    def save(self, path: str | Path) -> Path:
        """Write the report as one self-contained HTML file, over one that is there, and give its path.

        Raises:
            FileNotFoundError: if the folder does not exist.
            IsADirectoryError: if the path is a folder.
        """
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(
                f"{str(path)!r} is a folder; name a file in it, such as {str(path / 'report.html')!r}"
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {str(path.parent)!r} to save the report in; make it first"
            )
        path.write_text(_page(self), encoding="utf-8")
        return path


def fit_error(errors: Iterable[float]) -> float:
    """Relative error over all parts, each with an equal say: the root of the mean of squares."""
    return float(np.sqrt(np.mean(np.square(list(errors)))))


# Figures


def _short(name: str, most: int = 34) -> str:
    """A name as a figure can show it: not too long, and no mathematics in it."""
    name = name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"
    return name.replace("$", r"\$")


def _empty(title: str) -> Figure:
    figure, ax = plots.canvas(height=1.2, title=title)
    ax.text(0.5, 0.5, "none", ha="center", va="center")
    ax.axis("off")
    return figure


def _pictures(fit: CoupledFactors, names: Sequence[str], size: Sequence[int]) -> np.ndarray:
    """The pixel side of each component: rank × height × width, and × 3 for colour; other channels are averaged."""
    P = (
        torch.stack([fit.factors[name].T.reshape(-1, *size) for name in names], dim=-1)
        .cpu()
        .numpy()
    )
    return P if P.shape[-1] == 3 else P.mean(axis=-1)


@plots.theme()
def _lines(
    series: Mapping[str, pd.Series], *, first: int, title: str, xlabel: str, ylabel: str, log=False
) -> Figure:
    """A line for each part in the order of the network, dark to light and numbered from `first`, with a legend below."""
    figure, ax = plots.canvas(height=3.4 + 0.2 * len(series), title=title)
    colours = plots.mpl.colormaps[plots.MAP](np.linspace(0, 0.85, first + len(series)))
    marks = "osD^vP*Xh"
    for k, (name, line) in enumerate(series.items(), first):
        every = {
            "marker": marks[k % len(marks)],
            "markevery": max(1, len(line) // 8),
            "markersize": 6,
        }
        ax.plot(
            line.index, line.to_numpy(), color=colours[k], label=f"{k}  {_short(name, 44)}", **every
        )
    ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    if not log:
        ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False, fontsize=10)
    return figure


def _error_picture(peek: Peek):
    ends = peek.errors.columns[[0, -1]]
    said = "; ".join(
        f"{name} {peek.errors.loc[name, ends[0]]:.2f} to {peek.errors.loc[name, ends[1]]:.2f}"
        for name in peek.errors.index
    )
    figure = _lines(
        {name: peek.errors.loc[name] for name in peek.errors.index},
        first=0,
        title="What the components leave unexplained",
        xlabel="rank (components)",
        ylabel="relative error",
    )
    figure.axes[0].set_xticks(peek.errors.columns)
    return show(
        figure,
        f"Relative error of each part against rank, from rank {ends[0]} to {ends[1]}: {said}.",
    )


def _spectrum_picture(peek: Peek):
    relative = {
        name: pd.Series((s / s[0]).numpy(), range(1, len(s) + 1))
        for name, s in peek.spectra.items()
    }
    labels = {"title": "How evenly each layer spreads the images", "xlabel": "singular value"}
    shown = {
        name: s.where(s > 1e-5) for name, s in relative.items()
    }  # less is rounding of float32 activations
    figure = _lines(shown, first=1, **labels, ylabel="relative to the first", log=True)
    said = "; ".join(f"{name} {rank:.1f}" for name, rank in peek.layers["entropy rank"].items())
    return show(
        figure,
        f"Singular values of each layer, relative to its largest, on a logarithmic scale. Entropy ranks: {said}.",
    )


# HTML

_STYLE = """
.peek-report{max-width:52rem;margin:0 auto;line-height:1.5;font-family:system-ui,sans-serif;overflow-wrap:anywhere}
.peek-report .peek-scroll{overflow-x:auto;margin:1rem 0}
.peek-report table{border-collapse:collapse;font-size:.875rem}
.peek-report caption{text-align:left;padding:.25rem 0;font-weight:600}
.peek-report th,.peek-report td{padding:.25rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #8886;overflow-wrap:normal}
.peek-report .peek-n{text-align:right;font-variant-numeric:tabular-nums}
.peek-report .peek-n,.peek-report .peek-short{white-space:nowrap}
.peek-report td.peek-long{min-width:15rem}
.peek-report thead th{border-bottom:2px solid #888}
.peek-report .peek-explorer output{overflow-wrap:anywhere;max-width:45%}
"""

_PAGE_STYLE = """
:root{color-scheme:light dark}
body{margin:0;padding:1rem;background:#fff;color:#1b1b1f}
@media (prefers-color-scheme:dark){body{background:#16181d;color:#e6e6ea}}
"""


def _escape(text) -> str:
    return html.escape(str(text))


def _page(peek: Peek) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escape(peek.title)}</title><style>{_PAGE_STYLE}{_STYLE}</style></head>"
        f'<body><div class="peek-report"><header><h1>{_escape(peek.title)}</h1></header>'
        f"<main>{_sections(peek, 2)}</main></div></body></html>\n"
    )


def _sections(peek: Peek, level: int) -> str:
    sections = {
        "What was looked at": _looked_at(peek),
        "Notes": "<ul>" + "".join(f"<li>{_escape(note)}</li>" for note in peek.notes) + "</ul>"
        if peek.notes
        else "",
        "Scores without labels": _table(
            peek.scores.assign(value=peek.scores.value.map("{:.3g}".format)), "Scores"
        ),
        "Error against rank": peek._pictures[0]._repr_html_() + _error_table(peek),
        "Singular values": peek._pictures[1]._repr_html_(),
        "Components as images": COMPONENTS + peek.components.to_html(),
        "Directions and their images": DIRECTIONS + peek.extremes.to_html(),
        "How this was made": _table(
            pd.Series(peek.settings, name="value").to_frame(), "Settings and versions"
        )
        + f"<p>It took {peek.seconds:.0f} seconds.</p>",
    }
    return "".join(
        f"<section><h{level}>{name}</h{level}>{text}</section>"
        for name, text in sections.items()
        if text
    )


COMPONENTS = (
    "<p>Pixels and layers are factorized together: each component is a pattern of pixels, a pattern of neurons in every "
    "layer, and a loading for every image. Here are the patterns of pixels.</p>"
)
DIRECTIONS = (
    "<p>For each direction among the neurons of a layer, the images that lie farthest along it, on either side. If they "
    "have something in common, the direction stands for it.</p>"
)


def _looked_at(peek: Peek) -> str:
    said = {name: _escape(peek.settings[name]) for name in ("model", "parameters", "images")}
    lead = f"<p>{said['model']} with {said['parameters']} parameters, and images of shape {said['images']}.</p>"
    t = peek.layers
    table = pd.DataFrame(
        {
            "activation": t.activation,
            "shape": t["shape"],
            "kept": t.kept,
            "below zero": [
                f"{100 * share:.1f} %, {how}" if share else "none"
                for share, how in zip(t["below zero"], t.negatives, strict=True)
            ],
            "zeros": [f"{100 * share:.0f} %" for share in t.zeros],
            "entropy rank": [
                f"{rank:.1f} of {most}"
                for rank, most in zip(t["entropy rank"], t["largest possible"], strict=True)
            ],
        },
        index=t.index.rename("layer"),
    )
    return lead + _table(table, "Layers, in the order they ran") + LEGEND


LEGEND = (
    "<p>Shape: features (channels), then positions. Kept: how much of it is in this report. Below zero: its share of the "
    "layer's sum of squares, and what was done with it for the factorization. Entropy rank: in how many directions the "
    "activations spread, of the most that the neurons kept and the images allow.</p>"
)


def _error_table(peek: Peek) -> str:
    table = peek.errors.map("{:.3f}".format).rename(columns="rank {}".format).rename_axis("part")
    lead = "<p>Relative error: 0 if the components say everything of a part, 1 if they say nothing. Every part has an equal say.</p>"
    return lead + _table(table, "Relative error at each rank")


def _table(table: pd.DataFrame, caption: str) -> str:
    """A table in a box of its own that scrolls."""
    numbers = [all(map(_is_number, table[name])) for name in table]
    head = "".join(
        f'<th scope="col" class="peek-short">{_escape(name)}</th>'
        for name in (table.index.name or "setting", *table.columns)
    )
    rows = "".join(
        f'<tr><th scope="row"{_style(name)}>{_escape(name)}</th>'
        + "".join(
            f"<td{_style(v, number)}>{_escape(v)}</td>"
            for v, number in zip(row, numbers, strict=True)
        )
        + "</tr>"
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    )
    return (
        f'<div class="peek-scroll" role="region" aria-label="{_escape(caption)}" tabindex="0"><table>'
        f"<caption>{_escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _is_number(value: str) -> bool:
    try:
        return float(value) is not None
    except ValueError:
        return False


def _style(value: str, number: bool = False) -> str:
    """Numbers stand on the right, short texts on one line, and long ones are never squeezed."""
    return f' class="peek-{"n" if number else "short" if len(str(value)) < 30 else "long"}"'
