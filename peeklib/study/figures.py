"""The figures of a report: each function gives a figure and, in words, what it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..directions import Direction, bottom_images, top_images
from ..names import literal, readable
from ..nmf import CoupledFactors

MARKERS = "osD^vP*Xh"
MOST = 20  # components in one picture
ROUNDING = 1e-5  # of the first singular value; what is smaller is rounding of float32


def error_curves(errors: pd.DataFrame) -> tuple[Figure, str]:
    """Relative error of each part, a row of `errors`, against rank, its columns.

    Returns:
        The figure; its alt text, with the error of each part at both ends.

    Example:
        >>> errors = pd.DataFrame({1: [0.5], 2: [0.25]}, index=["input pixels"])
        >>> error_curves(errors)[1]
        'Relative error of each part against rank, from rank 1 to 2: input pixels 0.50 to 0.25.'
    """
    figure = _curves(
        {part: errors.loc[part] for part in errors.index},
        first=0,
        title="What the components leave unexplained",
        xlabel="rank (components)",
        ylabel="relative error",
    )
    figure.axes[0].set_xticks(errors.columns)
    low, high = errors.columns[[0, -1]]
    ends = zip(errors.index, errors[low], errors[high], strict=True)
    said = "; ".join(f"{readable(part)} {left:.2f} to {right:.2f}" for part, left, right in ends)
    alt = f"Relative error of each part against rank, from rank {low} to {high}: {said}."
    return figure, alt


def spectrum_curves(spectra: Mapping[str, Tensor], layers: pd.DataFrame) -> tuple[Figure, str]:
    """Singular values of each layer, relative to its largest; `layers` has their entropy ranks.

    Returns:
        The figure; its alt text, with the entropy rank of each layer.

    Example:
        >>> layers = pd.DataFrame({"entropy rank": [1.98]}, index=["relu"])
        >>> figure, alt = spectrum_curves({"relu": torch.tensor([4.0, 3.0])}, layers)
        >>> alt.split(". ")[1]
        'Entropy ranks: relu 2.0.'
    """
    curves = {}
    for layer, values in spectra.items():
        relative = pd.Series((values / values[0]).numpy(), range(1, len(values) + 1))
        curves[layer] = relative.where(relative > ROUNDING)
    figure = _curves(
        curves,
        first=1,
        title="How evenly each layer spreads the images",
        xlabel="singular value",
        ylabel="relative to the first",
        log=True,
    )
    said = "; ".join(
        f"{readable(layer)} {rank:.1f}" for layer, rank in layers["entropy rank"].items()
    )
    alt = (
        "Singular values of each layer, relative to its largest, on a logarithmic scale. "
        f"Entropy ranks: {said}."
    )
    return figure, alt


def component_images(
    fit: CoupledFactors, channels: Sequence[str], size: Sequence[int], error: float
) -> tuple[Figure, str]:
    """The pixel side of the strongest components.

    Args:
        fit: factors with the pixels among their blocks.
        channels: the blocks of the pixels.
        size: height and width of the images.
        error: relative error of the fit.

    Returns:
        The figure, of `MOST` components or fewer; its alt text, with the error.

    Example:
        >>> from peeklib import coupled_nmf
        >>> fit = coupled_nmf({"input": torch.ones(6, 4)}, 1)
        >>> component_images(fit, ["input"], size=(2, 3), error=0.0)[0]._suptitle.get_text()
        '1 components, strongest first'
    """
    shown = min(fit.rank, MOST)
    title = f"{fit.rank} components, strongest first"
    if fit.rank > MOST:
        title = f"The {MOST} strongest of {fit.rank} components"
    figure = plots.image_grid(list(_component_pixels(fit, channels, size)[:shown]), title=title)
    alt = (
        f"The pixel side of {shown} components at rank {fit.rank}, as images, each up to its own "
        f"brightest pixel. Relative error {error:.3f}, all parts alike."
    )
    return figure, alt


def extreme_images(
    directions: Sequence[Direction], images: Tensor, *, layer: str, method: str
) -> tuple[Figure, str]:
    """For each direction of a layer the images of highest and of lowest score.

    Args:
        directions: of one layer and one method, with a score for each image; may be none.
        images: images × channels × height × width, grey or colour.
        layer: its name.
        method: what such directions are called, in the plural.

    Returns:
        The figure, which says "none" if there are none; its alt text, with the images of the first.

    Example:
        >>> one = Direction(torch.ones(1), 1.0, "relu", "neuron 0", torch.arange(6.0))
        >>> images = torch.zeros(6, 1, 8, 8)
        >>> figure, alt = extreme_images([one], images, layer="relu", method="single neurons")
        >>> alt.split(". ")[-1]
        'Along neuron 0 the highest is image 5, the lowest image 0.'
    """
    title = f"{method}, {literal(layer, 34)}"
    if not directions:
        alt = f"{readable(layer)} has no {method}: no neuron varies, or no component reaches it."
        return _empty(title), alt
    rows = [replace(direction, layer="") for direction in directions]  # it is in the title
    figure = plots.contact_sheet(rows, images, min(4, len(images)), title=title)
    first = rows[0]
    highest, lowest = top_images(first, 1).item(), bottom_images(first, 1).item()
    alt = (
        f"{method.capitalize()} of {readable(layer)}: for each of {len(rows)}, the images of highest score "
        f"on the left and lowest on the right. Along {readable(first.name)} the highest is image {highest}, "
        f"the lowest image {lowest}."
    )
    return figure, alt


def _empty(title: str) -> Figure:
    figure, _ = plots.canvas(height=1.2, title=title)
    [ax] = figure.axes
    ax.text(0.5, 0.5, "none", ha="center", va="center")
    ax.axis("off")
    return figure


def _component_pixels(
    fit: CoupledFactors, channels: Sequence[str], size: Sequence[int]
) -> np.ndarray:
    """Rank × height × width, and × 3 for colour; other numbers of channels are averaged."""
    images = [fit.factors[name].T.reshape(-1, *size) for name in channels]
    stack = torch.stack(images, dim=-1).cpu().numpy()
    return stack if len(channels) == 3 else stack.mean(axis=-1)


@plots.theme()
def _curves(
    series: Mapping[str, pd.Series],
    *,
    first: int,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
) -> Figure:
    """A line for each part in the order of the network, dark to light, numbered from `first`."""
    figure, _ = plots.canvas(height=3.4 + 0.2 * len(series), title=title)
    [ax] = figure.axes
    colours = mpl.colormaps[plots.MAP](np.linspace(0, 0.85, first + len(series)))
    for number, (name, line) in enumerate(series.items(), first):
        ax.plot(
            line.index,
            line.to_numpy(),
            color=colours[number],
            label=f"{number}  {literal(name, 44)}",
            marker=MARKERS[number % len(MARKERS)],
            markevery=max(1, len(line) // 8),
            markersize=6,
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False, fontsize=10)
    return figure
