"""Figures of the book: off-screen matplotlib figures under one theme, sized to stay legible on a phone.

Every function returns a `Figure`; `pk.show(figure, alt)` puts it on the page. Colour maps are
perceptually uniform and safe for colour-blind readers; groups differ in marker as well as in colour.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .directions import Direction, bottom_images, top_images
from .hooks import to_float
from .nmf import CoupledFactors

WIDTH = 5.5  # inches; a 390 px phone then shows 11 pt text at about 10 px
MAP = "viridis"


@contextmanager
def theme():
    """The book's look, for the figures made inside, whatever the reader has set; global settings are left alone."""
    import seaborn as sns

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {**sns.axes_style("ticks"), **sns.plotting_context("notebook"), "axes.titlesize": 12}
        )
        yield


@theme()
def canvas(
    rows: int = 1, cols: int = 1, *, height: float = 3.6, title: str | None = None, **subplots
):
    """An empty themed figure and its axes, `height` inches high; more arguments go to `Figure.subplots`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, cols, **subplots)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure, axes


@theme()
def curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    group: str,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
) -> Figure:
    """Mean of `y` against `x` for each group, with a band from the smallest to the largest value over seeds.

    Args:
        table: tidy, one row per (x, group, seed).
        x, y, group: its columns.
        title, xlabel, ylabel: what the figure says.
        log: logarithmic y axis.
    """
    import seaborn as sns

    figure, ax = canvas()
    groups = list(pd.unique(table[group]))
    sns.lineplot(
        table,
        x=x,
        y=y,
        hue=group,
        style=group,
        hue_order=groups,
        palette=sns.color_palette(MAP, len(groups) + 1)[
            :-1
        ],  # without the yellow end, too pale on white
        errorbar=("pi", 100),
        markers=table[x].nunique() < 20,
        dashes=table[x].nunique() >= 20,
        ax=ax,
    )
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    if table[x].nunique() < 20:
        ax.set_xticks(sorted(table[x].unique()))
    ax.legend(title=group, frameon=False, fontsize=10)
    sns.despine(ax=ax)
    return figure


@theme()
def scatter(table: pd.DataFrame, x: str, y: str, group: str, *, title: str, xlabel: str) -> Figure:
    """One point for each row, coloured and marked by group; `y` is a share, shown in percent."""
    import seaborn as sns

    figure, ax = canvas()
    groups = list(pd.unique(table[group]))
    palette = sns.color_palette("colorblind", len(groups))
    sns.scatterplot(
        table,
        x=x,
        y=100 * table[y],
        hue=group,
        style=group,
        hue_order=groups,
        palette=palette,
        s=60,
        ax=ax,
    )
    ax.set(title=title, xlabel=xlabel, ylabel=f"{y} (%)")
    ax.legend(frameon=False, fontsize=10)
    sns.despine(ax=ax)
    return figure


@theme()
def image_grid(
    images: Sequence,
    labels: Sequence[str] = (),
    *,
    cols: int = 5,
    title: str,
    cmap: str = "gray",
    shared: bool = False,
) -> Figure:
    """A contact sheet of equally large images, height × width or height × width × 3.

    Zero is black (the lowest colour); images with negative values get a diverging map with zero in the middle.

    Args:
        images: what to show.
        labels: one above each image, if any.
        cols: images in a row.
        title: what the figure says.
        cmap: colour map for grey images without negative values.
        shared: one scale for all, instead of each up to its own largest magnitude.
    """
    stack = np.stack([_numpy(image).astype(float) for image in images])
    peak = np.abs(stack).max(axis=None if shared else tuple(range(1, stack.ndim)), keepdims=True)
    stack = stack / np.where(peak > 0, peak, 1)
    signed = stack.min() < 0
    sheet, corners = _tile(
        stack, min(cols, len(stack)), gap=1 + stack.shape[1] // (6 if labels else 12)
    )
    figure, ax = canvas(height=0.5 + WIDTH * sheet.shape[0] / sheet.shape[1], title=title)
    ax.imshow(
        sheet,
        cmap="RdBu_r" if signed else cmap,
        vmin=-1 if signed else 0,
        vmax=1,
        interpolation="nearest",
    )
    ax.axis("off")
    for (top, left), label in zip(corners, labels, strict=False):
        ax.text(left, top - 0.6, label, fontsize=10, ha="left", va="bottom")
    return figure


@theme()
def contact_sheet(rows: Sequence[Direction], images: Tensor, k: int = 5, *, title: str) -> Figure:
    """For each direction a row of images: the `k` of highest score on the left, the `k` of lowest on the right.

    A single direction gets two lines, one for each end.

    Args:
        rows: directions of these images.
        images: images × channels × height × width, uint8 or in [0, 1].
        k: images at each end.
        title: what the figure says.
    """
    ends = [[top_images(row, k), bottom_images(row, k)] for row in rows]
    labels = [f"{row.name}, {row.layer}".rstrip(", ") for row in rows]
    lines, several = ends, len(rows) > 1
    if several:
        labels[0] += ": highest"
    else:
        lines, labels = [[end] for end in ends[0]], [f"highest, {labels[0]}", "lowest"]
    height, width = images.shape[2:]
    gap, label = max(1, width // 10), 0.4 * width
    step = len(lines[0][0]) * (width + gap) + gap  # from one end to the other
    total = len(lines[0]) * step - 2 * gap
    figure, ax = canvas(
        height=0.6 + WIDTH * len(lines) * (height + label) / (total + gap), title=title
    )
    for y, (line, text) in enumerate(zip(lines, labels, strict=True)):
        top = y * (height + label)
        for x, end in enumerate(
            line
        ):  # one picture for each end: an image each takes six times as long to draw
            strip, _ = _tile(_pictures(images[end.cpu()]), len(end), gap)
            where = (x * step, x * step + strip.shape[1], top + height, top)
            ax.imshow(strip, cmap="gray", vmin=0, vmax=1, extent=where)
        ax.text(0, top - 0.06 * width, text, fontsize=10, va="bottom")
    if several:
        ax.text(step, -0.06 * width, "lowest", fontsize=10, va="bottom")
    ax.set(xlim=(0, total), ylim=(len(lines) * (height + label) - label, -label), aspect="equal")
    ax.axis("off")
    return figure


def _pictures(images: Tensor) -> np.ndarray:
    """Images × channels × height × width as matplotlib wants them: channels last, and none of a grey image."""
    pictures = _numpy(to_float(images).movedim(1, 3))
    return pictures[..., 0] if pictures.shape[3] == 1 else pictures


def _numpy(values) -> np.ndarray:
    """A tensor on any device, or anything array-like, as an array."""
    return torch.as_tensor(values).detach().cpu().numpy()


def _tile(stack: np.ndarray, cols: int, gap: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Images (count × height × width …) side by side in rows on white; and the top left corner of each."""
    count, height, width, *rest = stack.shape
    rows = math.ceil(count / cols)
    sheet = np.full(
        (rows * (height + gap) - gap, cols * (width + gap) - gap, *rest),
        np.nan if not rest else 1.0,
    )
    corners = [(k // cols * (height + gap), k % cols * (width + gap)) for k in range(count)]
    for image, (top, left) in zip(stack, corners, strict=True):
        sheet[top : top + height, left : left + width] = image
    return sheet, corners


@theme()
def latent_images(
    factors: CoupledFactors,
    shape: tuple[int, int],
    *,
    most: int = 20,
    labels: Sequence[str] = (),
    title: str,
) -> Figure:
    """The strongest columns of P as images, each on its own scale from 0.

    Three "input.…" blocks are shown as one colour image.

    Args:
        factors: the fit.
        shape: height, width.
        most: show no more than these many.
        labels: one above each image, if any.
        title: what the figure says.
    """
    images = _pixel_images(factors, slice(most), shape)
    return image_grid(images, labels, title=title)


def _pixel_images(factors: CoupledFactors, columns: slice, shape: tuple[int, int]) -> np.ndarray:
    """Columns of P as images: count × height × width, and × 3 where there are three input blocks."""
    names = [name for name in factors.factors if name.split(".")[0] == "input"]
    if not names:
        raise ValueError(
            f"latent images need an input block, made by `input_blocks`; there are {list(factors.factors)}"
        )
    P = np.stack(
        [_numpy(factors.factors[name][:, columns]) for name in names], axis=-1
    )  # pixels × rank × channels
    images = P.swapaxes(0, 1).reshape(P.shape[1], *shape, len(names))
    return images.squeeze(-1) if len(names) == 1 else images


@theme()
def channel_maps(values, shape: tuple[int, int, int], *, title: str, shared: bool = True) -> Figure:
    """One column of A or O laid out where its neurons sit: a small map for each channel.

    Args:
        values: one for each neuron.
        shape: channels, height, width.
        title: what the figure says.
        shared: one colour scale for all maps.
    """
    return image_grid(_numpy(values).reshape(shape), title=title, cmap=MAP, shared=shared)


@theme()
def journey(
    factors: CoupledFactors,
    layer: str,
    component: int,
    *,
    maps: tuple[int, int, int],
    images,
    labels,
    title: str,
) -> Figure:
    """One component from the pixels into a layer: its latent image, the neurons it drives, the images that load most.

    The bars spread the component's mean loading over the classes of the images. Labels name the bars; no factor
    depends on them.

    Args:
        factors: the fit, with its input blocks.
        layer: the block to look into.
        component: which one, counted from 1, the strongest.
        maps: channels, height and width of the layer.
        images: those of the fit, images × channels × height × width.
        labels: one integer for each image.
        title: what the figure says.

    Raises:
        ValueError: for a component, a layer shape, images or labels that are not those of the fit.
    """
    F, O = (
        _numpy(factors.image_factor),
        _numpy(factors.factors[layer]),
    )  # images × rank, neurons × rank
    labels, k = _numpy(labels), component - 1
    if not 0 <= k < factors.rank:
        raise ValueError(f"component is {component}; this fit has components 1 to {factors.rank}")
    if math.prod(maps) != len(O):
        raise ValueError(
            f"maps {maps} have {math.prod(maps)} neurons, block {layer!r} has {len(O)}"
        )
    if not len(images) == len(labels) == len(F):
        raise ValueError(
            f"{len(images)} images and {len(labels)} labels; the fit is of {len(F)} images"
        )
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    rows = {"height_ratios": [1.7, 2.2, 1.05], "width_ratios": [1, 1.7]}
    axes = figure.subplot_mosaic(
        [["P", "classes"], ["layer", "layer"], ["images", "images"]], **rows
    )
    figure.suptitle(title, fontsize=12)
    latent = _pixel_images(factors, slice(k, k + 1), images.shape[2:])
    _sheet(axes["P"], latent, 1, "gray")
    axes["P"].set_title(f"as pixels: white {latent.max():.2g}", fontsize=10)
    _class_bars(axes["classes"], F[:, k], labels)
    channels = O[:, k].reshape(maps)
    _sheet(axes["layer"], channels, _columns(maps, 2.4), MAP, labels=range(maps[0]))
    axes["layer"].set_title(
        f"loadings in {layer}, channel by channel: dark 0, yellow {channels.max():.2g}",
        fontsize=10,
        pad=18,
    )
    most = np.moveaxis(
        _numpy(images)[(-F[:, k]).argsort(kind="stable")[:6]], 1, -1
    )  # count × height × width × 1 or 3
    _sheet(axes["images"], most.squeeze(-1) if most.shape[-1] == 1 else most, 6, "gray")
    axes["images"].set_title(f"the {len(most)} images that load most", fontsize=10)
    return figure


def _sheet(ax, stack: np.ndarray, cols: int, cmap: str, labels: Sequence = ()) -> None:
    """Non-negative images side by side on one scale from 0."""
    sheet, corners = _tile(stack / (stack.max() or 1), cols, gap=1 + stack.shape[1] // 12)
    ax.imshow(sheet, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")
    for (top, left), label in zip(corners, labels, strict=False):
        ax.text(left - 0.5, top - 0.7, label, fontsize=10, ha="left", va="baseline")


def _columns(maps: tuple[int, int, int], aspect: float) -> int:
    """In how many columns these maps are largest, on a sheet `aspect` times as wide as high."""
    count, height, width = maps
    return max(
        range(1, count + 1),
        key=lambda cols: min(aspect / (cols * width), 1 / (-(-count // cols) * height)),
    )


def _class_bars(ax, loadings: np.ndarray, labels: np.ndarray) -> None:
    """The mean loading of each class as a share of their sum; the dashed line is an even spread."""
    import seaborn as sns

    classes = np.unique(labels)
    means = np.array([loadings[labels == c].mean() for c in classes])
    shares = 100 * means / (means.sum() or 1)
    ax.bar(range(len(classes)), shares, color=sns.color_palette("colorblind")[0])
    ax.axhline(100 / len(classes), color="black", linestyle="--", linewidth=1)
    ax.set_xticks(range(len(classes)), labels=classes)
    top = 50 if shares.max() <= 50 else 100
    ax.set(ylim=(0, top), yticks=[0, top // 2, top])
    ax.tick_params(labelsize=10)
    ax.set_title("share of the loading (%), by class", fontsize=10)
    sns.despine(ax=ax)


@theme()
def neuron_heatmap(O, *, title: str, channels: int | None = None) -> Figure:
    """Loadings of every neuron (rows) on every component (columns).

    Args:
        O: neurons × rank, in units of activation; or a dict of name → such matrices of one layer, which are
            shown side by side on one colour scale.
        title: what the figure says.
        channels: mark where each of these many channels begins.
    """
    import seaborn as sns

    panels = {
        name: _numpy(panel) for name, panel in (O if isinstance(O, Mapping) else {"": O}).items()
    }
    peak = max(panel.max() for panel in panels.values())
    figure, axes = canvas(1, len(panels), height=4.5, title=title, sharey=True, squeeze=False)
    for ax, (name, panel) in zip(axes[0], panels.items(), strict=True):
        last, columns = ax is axes[0, -1], max(1, panel.shape[1] // 10)
        bar = {"cbar": last, "cbar_kws": {"label": "loading (activation)"}}
        sns.heatmap(panel, cmap=MAP, vmin=0, vmax=peak, ax=ax, rasterized=True, **bar)
        size = max(1, len(panel) // (channels or 8))
        rows = range(0, len(panel), size) if channels is None else range(channels)
        ax.set_yticks(np.arange(0, len(panel), size), labels=rows)
        ax.set(title=name)
        ax.set_xticks(
            np.arange(0, panel.shape[1], columns) + 0.5,
            labels=range(1, panel.shape[1] + 1, columns),
        )
    figure.supxlabel("component, strongest first", fontsize=12)
    axes[0, 0].set_ylabel("neuron" if channels is None else "channel, each with its neurons")
    return figure


@theme()
def class_matrix(
    table: pd.DataFrame, *, title: str, xlabel: str, ylabel: str, label: str
) -> Figure:
    """Values from 0 to 1 as a matrix, in percent, such as class × class."""
    import seaborn as sns

    figure, ax = canvas(height=4.4)
    percent = (100 * table).round().astype(int)
    style = {"annot": True, "fmt": "d", "annot_kws": {"fontsize": 10}, "linewidths": 0.5}
    sns.heatmap(
        percent, cmap=MAP, vmin=0, vmax=100, ax=ax, cbar_kws={"label": f"{label} (%)"}, **style
    )
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(rotation=0)
    return figure


@theme()
def overview() -> Figure:
    """The model in one drawing: every block is a tall factor times the same image factor."""
    import seaborn as sns

    figure, ax = canvas(height=4.4)
    ax.set(xlim=(0, 11), ylim=(0.2, 8.6), aspect="equal")
    ax.axis("off")
    blue, orange, green = sns.color_palette("colorblind", 3)
    rows = [
        (5.9, 2.2, blue, "D", "P", "pixels"),
        (2.9, 2.6, orange, "A_0", "O_0", "neurons"),
        (0.8, 1.7, orange, "A_1", "O_1", "neurons"),
    ]

    def box(x, y, w, h, colour, text):
        ax.add_patch(
            Rectangle((x, y), w, h, facecolor=(*colour, 0.25), edgecolor=colour, linewidth=1.5)
        )
        ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=12)

    for y, h, colour, data, factor, side in rows:
        box(0.9, y, 3.4, h, colour, f"${data}$")
        ax.text(0.65, y + h / 2, side, rotation=90, ha="center", va="center", fontsize=10)
        ax.text(4.8, y + h / 2, "≈", ha="center", va="center", fontsize=15)
        box(5.3, y, 0.9, h, colour, f"${factor}$")
    ax.text(2.6, 8.3, "images", ha="center", va="bottom", fontsize=10)
    ax.text(5.75, 8.3, "rank", ha="center", va="bottom", fontsize=10)
    box(7.2, 4.2, 3.4, 0.9, green, "$F^{\\,T}$, shared")
    ax.text(8.9, 5.25, "images", ha="center", va="bottom", fontsize=10)
    ax.text(10.85, 4.65, "rank", rotation=90, ha="center", va="center", fontsize=10)
    for y, h, colour, *_ in rows:
        ax.annotate(
            "",
            (7.15, 4.65),
            (6.25, y + h / 2),
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.5},
        )
    return figure


@theme()
def lines(
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
) -> Figure:
    """One line for each named sequence, against its index."""
    table = pd.concat(
        [
            pd.DataFrame({"x": range(len(y)), "y": np.asarray(y), "": name})
            for name, y in series.items()
        ]
    )
    return curves(table, "x", "y", "", title=title, xlabel=xlabel, ylabel=ylabel, log=log)
