"""Figures of the book: off-screen matplotlib figures under one theme, legible on a phone.

Every function returns a `Figure`; `pk.show(figure, alt)` puts it on the page. Colour maps are
perceptually uniform and safe for colour-blind readers; groups differ in marker as well as in
colour. Titles and axis labels may have mathematics between dollar signs; names of layers, groups
and images stand as they are. Seaborn takes a second to import, so the functions that use it do so
themselves.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .blocks import as_labels
from .directions import Direction, bottom_images, top_images
from .images import to_float
from .names import literal
from .nmf import CoupledFactors

WIDTH = 5.5  # inches; a 390 px phone then shows 11 pt text at about 10 px
MAP = "viridis"


@contextmanager
def theme() -> Iterator[None]:
    """The book's look for figures made inside, whatever the reader has set.

    Yields:
        Nothing; afterwards the reader's settings are back.

    Example:
        >>> with theme():
        ...     mpl.rcParams["axes.titlesize"]
        12.0
    """
    import seaborn as sns

    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_style("ticks")
        sns.set_context("notebook")
        mpl.rcParams["axes.titlesize"] = 12
        yield


@theme()
def canvas(
    rows: int = 1, cols: int = 1, *, height: float = 3.6, title: str | None = None, **subplots
) -> tuple[Figure, Any]:
    """An empty themed figure and its axes.

    Args:
        rows, cols: of axes.
        height: in inches.
        title: of the whole figure.
        subplots: more arguments for `Figure.subplots`.

    Returns:
        The figure; its axes, or an array of them where there are several.

    Example:
        >>> figure, axes = canvas(1, 2, height=3, sharey=True)
        >>> figure.get_size_inches().tolist(), axes.shape
        ([5.5, 3.0], (2,))
    """
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
    """Mean of `y` against `x` for each group, in a band from the smallest to the largest value.

    Args:
        table: tidy, one row per (x, group, seed).
        x, y, group: its columns.
        title, xlabel, ylabel: what the figure says.
        log: logarithmic y axis.

    Returns:
        A figure of one panel, with the groups in its legend.

    Example:
        >>> table = pd.DataFrame({"rank": [1, 2], "error": [0.5, 0.3], "data": "digits"})
        >>> words = {"title": "More is better", "xlabel": "rank", "ylabel": "error"}
        >>> figure = curves(table, "rank", "error", "data", **words)
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [0.5, 0.3]
    """
    import seaborn as sns

    figure, ax = canvas()
    groups = list(dict.fromkeys(table[group]))
    places = sorted(set(table[x]))
    few = len(places) < 20
    sns.lineplot(
        table,
        x=x,
        y=y,
        hue=group,
        style=group,
        hue_order=groups,
        # without the yellow end, too pale on white
        palette=sns.color_palette(MAP, len(groups) + 1)[:-1],
        errorbar=("pi", 100),
        markers=few,
        dashes=not few,
        ax=ax,
    )
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if log:
        ax.set_yscale("log")
    if few:
        ax.set_xticks(places)
    _legend(ax, groups, title=literal(group))
    sns.despine(ax=ax)
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
    """One line for each named sequence, against its index.

    Returns:
        A figure of one panel, with the names in its legend.

    Example:
        >>> figure = lines({"mu": [3, 2, 1]}, title="It falls", xlabel="round", ylabel="loss")
        >>> [int(x) for x in figure.axes[0].lines[0].get_xdata()]
        [0, 1, 2]
    """
    tables = []
    for name, values in series.items():
        tables.append(pd.DataFrame({"x": range(len(values)), "y": np.asarray(values), "": name}))
    table = pd.concat(tables)
    return curves(table, "x", "y", "", title=title, xlabel=xlabel, ylabel=ylabel, log=log)


@theme()
def scatter(table: pd.DataFrame, x: str, y: str, group: str, *, title: str, xlabel: str) -> Figure:
    """One point for each row, coloured and marked by group.

    Args:
        table: tidy, one row per point.
        x, y, group: its columns; `y` is a share, shown in percent.
        title, xlabel: what the figure says.

    Returns:
        A figure of one panel, with the groups in its legend.

    Example:
        >>> table = pd.DataFrame({"error": [0.5], "recall": [0.9], "data": ["digits"]})
        >>> figure = scatter(table, "error", "recall", "data", title="High", xlabel="error")
        >>> figure.axes[0].get_ylabel()
        'recall (%)'
    """
    import seaborn as sns

    figure, ax = canvas()
    groups = list(dict.fromkeys(table[group]))
    sns.scatterplot(
        table,
        x=x,
        y=100 * table[y],
        hue=group,
        style=group,
        hue_order=groups,
        palette=sns.color_palette("colorblind", len(groups)),
        s=60,
        ax=ax,
    )
    ax.set(title=title, xlabel=xlabel, ylabel=f"{y} (%)")
    _legend(ax, groups)
    sns.despine(ax=ax)
    return figure


@theme()
def image_grid(
    images: Iterable,
    labels: Sequence[str] = (),
    *,
    cols: int = 5,
    title: str,
    cmap: str = "gray",
    shared: bool = False,
) -> Figure:
    """A contact sheet of equally large images.

    Zero is black (the lowest colour); images with negative values get a diverging map with zero in
    the middle.

    Args:
        images: what to show, each height × width or height × width × 3, of any scale.
        labels: one above each image, if any.
        cols: images in a row.
        title: what the figure says.
        cmap: colour map for grey images without negative values.
        shared: one scale for all, instead of each up to its own largest magnitude.

    Returns:
        A figure of one panel, as high as its rows need.

    Example:
        >>> figure = image_grid(torch.ones(3, 8, 8), ["a", "b", "c"], title="Three squares")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['a', 'b', 'c']
    """
    stack = np.stack([_numpy(image).astype(float) for image in images])
    own = None if shared else tuple(range(1, stack.ndim))
    peak = np.abs(stack).max(axis=own, keepdims=True)
    stack = stack / np.where(peak > 0, peak, 1)
    low = 0
    if stack.min() < 0:
        cmap, low = "RdBu_r", -1
    share = 6 if labels else 12  # of an image's height, between the rows
    gap = 1 + stack.shape[1] // share
    sheet, corners = _tile(stack, min(cols, len(stack)), gap)
    figure, ax = canvas(height=0.5 + WIDTH * sheet.shape[0] / sheet.shape[1], title=title)
    ax.imshow(sheet, cmap=cmap, vmin=low, vmax=1, interpolation="nearest")
    ax.axis("off")
    for (top, left), label in zip(corners, labels, strict=False):
        ax.text(left, top - 0.6, literal(label), fontsize=10, ha="left", va="bottom")
    return figure


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

    Returns:
        A figure as from `image_grid`, the strongest component first.

    Raises:
        ValueError: for a fit without an input block.

    Example:
        >>> from peeklib import coupled_nmf
        >>> fit = coupled_nmf({"input": torch.ones(6, 4)}, 1, max_iter=1)
        >>> latent_images(fit, (2, 3), title="One")._suptitle.get_text()
        'One'
    """
    return image_grid(_pixel_images(factors, slice(most), shape), labels, title=title)


@theme()
def channel_maps(values, shape: tuple[int, int, int], *, title: str, shared: bool = True) -> Figure:
    """One column of A or O laid out where its neurons sit: a small map for each channel.

    Args:
        values: one for each neuron.
        shape: channels, height, width.
        title: what the figure says.
        shared: one colour scale for all maps.

    Returns:
        A figure as from `image_grid`, channel 0 first.

    Example:
        >>> figure = channel_maps(torch.arange(8), (2, 2, 2), title="Two channels")
        >>> figure.axes[0].images[0].get_clim()
        (0.0, 1.0)
    """
    return image_grid(_numpy(values).reshape(shape), title=title, cmap=MAP, shared=shared)


@theme()
def contact_sheet(rows: Sequence[Direction], images: Tensor, k: int = 5, *, title: str) -> Figure:
    """The images that lie farthest along each direction.

    Each direction gets a line: highest scores on the left, lowest on the right. A single one gets
    two lines, one for each end.

    Args:
        rows: directions of these images.
        images: images × channels × height × width, uint8 or in [0, 1].
        k: images at each end.
        title: what the figure says.

    Returns:
        A figure of one panel, as high as its lines need.

    Example:
        >>> one = Direction(torch.ones(1), 1.0, "relu1", "neuron 0", torch.arange(6.0))
        >>> figure = contact_sheet([one], torch.zeros(6, 1, 8, 8), 2, title="One neuron")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['highest, neuron 0, relu1', 'lowest']
    """
    highest = [top_images(row, k) for row in rows]
    lowest = [bottom_images(row, k) for row in rows]
    names = [literal(f"{row.name}, {row.layer}".rstrip(", ")) for row in rows]
    if len(rows) == 1:
        strips = [highest, lowest]  # lines × strips of images, here one to a line
        labels = [f"highest, {names[0]}", "lowest"]
    else:
        strips = list(zip(highest, lowest, strict=True))
        labels = [f"{names[0]}: highest", *names[1:]]

    # All lengths are in pixels of the images.
    height, width = images.shape[2:]
    gap = max(1, width // 10)
    above = 0.4 * width  # for the label of a line
    line_height = height + above
    step = len(highest[0]) * (width + gap) + gap  # from the left strip to the right one
    right = len(strips[0]) * step - 2 * gap
    bottom = len(strips) * line_height - above

    inches = 0.6 + WIDTH * len(strips) * line_height / (right + gap)
    figure, ax = canvas(height=inches, title=title)
    for number, (line, label) in enumerate(zip(strips, labels, strict=True)):
        top = number * line_height
        ax.text(0, top - 0.06 * width, label, fontsize=10, va="bottom")
        for place, chosen in enumerate(line):
            # One picture for each strip: one for each image takes six times as long to draw.
            pictures = _channels_last(_numpy(to_float(images[chosen.cpu()])))
            strip, _ = _tile(pictures, len(pictures), gap)
            left = place * step
            extent = (left, left + strip.shape[1], top + height, top)
            ax.imshow(strip, cmap="gray", vmin=0, vmax=1, extent=extent)
    if len(rows) > 1:
        ax.text(step, -0.06 * width, "lowest", fontsize=10, va="bottom")
    ax.set(xlim=(0, right), ylim=(bottom, -above), aspect="equal")
    ax.axis("off")
    return figure


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
    """One component from the pixels into a layer.

    Its latent image, the neurons it drives, the images that load most; and bars that spread its
    mean loading over the classes of the images. Labels name the bars; no factor depends on them.

    Args:
        factors: the fit, with its input blocks.
        layer: the block to look into.
        component: which one, counted from 1, the strongest.
        maps: channels, height and width of the layer.
        images: those of the fit, images × channels × height × width.
        labels: one integer for each image, as a tensor, array, list or column.
        title: what the figure says.

    Returns:
        A figure of four panels, for the latent image, the classes, the neurons and the images.

    Raises:
        ValueError: for a component, a layer shape, images or labels that are not those of the fit.

    Example:
        >>> from peeklib import coupled_nmf
        >>> images, labels = torch.ones(4, 1, 2, 2), torch.tensor([0, 0, 1, 1])
        >>> fit = coupled_nmf({"input": torch.ones(4, 4), "relu": torch.ones(3, 4)}, 1, max_iter=1)
        >>> given = {"maps": (3, 1, 1), "images": images, "labels": labels}
        >>> figure = journey(fit, "relu", 1, **given, title="All alike")
        >>> [tick.get_text() for tick in figure.axes[1].get_xticklabels()]  # one bar for each class
        ['0', '1']
    """
    F = _numpy(factors.image_factor)  # images × rank
    O = _numpy(factors.factors[layer])  # neurons × rank
    images = _numpy(images)
    labels = _numpy(as_labels(labels, len(F)))
    if not 1 <= component <= factors.rank:
        raise ValueError(f"component is {component}; this fit has components 1 to {factors.rank}")
    if math.prod(maps) != len(O):
        raise ValueError(
            f"maps {maps} have {math.prod(maps)} neurons, block {layer!r} has {len(O)}"
        )
    if len(images) != len(F):
        raise ValueError(f"there are {len(images)} images; the fit is of {len(F)}")
    k = component - 1
    loadings = F[:, k]
    latent = _pixel_images(factors, slice(k, k + 1), images.shape[2:])
    channels = O[:, k].reshape(maps)
    strongest = np.argsort(-loadings, kind="stable")[:6]

    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    axes = figure.subplot_mosaic(
        [["P", "classes"], ["layer", "layer"], ["images", "images"]],
        height_ratios=[1.7, 2.2, 1.05],
        width_ratios=[1, 1.7],
    )
    _sheet(axes["P"], latent, 1, "gray")
    axes["P"].set_title(f"as pixels: white {latent.max():.2g}", fontsize=10)
    _class_bars(axes["classes"], loadings, labels)
    _sheet(axes["layer"], channels, _columns(maps, 2.4), MAP, labels=range(maps[0]))
    legend = (
        f"loadings in {literal(layer, 20)}, channel by channel: dark 0, yellow {channels.max():.2g}"
    )
    axes["layer"].set_title(legend, fontsize=10, pad=18)
    _sheet(axes["images"], _channels_last(images[strongest]), 6, "gray")
    axes["images"].set_title(f"the {len(strongest)} images that load most", fontsize=10)
    return figure


@theme()
def neuron_heatmap(O, *, title: str, channels: int | None = None) -> Figure:
    """Loadings of every neuron (rows) on every component (columns).

    Args:
        O: neurons × rank, in units of activation; or a dict of name → such matrices of one layer,
            which are shown side by side on one colour scale.
        title: what the figure says.
        channels: mark where each of these many channels begins.

    Returns:
        A figure with a panel for each matrix, and one colour bar.

    Example:
        >>> figure = neuron_heatmap(torch.rand(12, 2), title="Loadings", channels=3)
        >>> figure.axes[0].get_yticks().tolist()
        [0, 4, 8]
    """
    import seaborn as sns

    named = O if isinstance(O, Mapping) else {"": O}
    panels = {name: _numpy(panel) for name, panel in named.items()}
    peak = max(panel.max() for panel in panels.values())
    figure, axes = canvas(1, len(panels), height=4.5, title=title, sharey=True, squeeze=False)
    for ax, (name, panel) in zip(axes[0], panels.items(), strict=True):
        sns.heatmap(
            panel,
            cmap=MAP,
            vmin=0,
            vmax=peak,
            cbar=ax is axes[0, -1],
            cbar_kws={"label": "loading (activation)"},
            rasterized=True,
            ax=ax,
        )
        neurons, rank = panel.shape
        if channels is None:
            step = max(1, neurons // 8)
            numbers = range(0, neurons, step)
        else:
            step = max(1, neurons // channels)
            numbers = range(channels)
        ax.set_yticks(np.arange(0, neurons, step), labels=numbers)
        step = max(1, rank // 10)
        ax.set_xticks(np.arange(0, rank, step) + 0.5, labels=range(1, rank + 1, step))
        ax.set(title=literal(name, max(8, 60 // len(panels))))
    figure.supxlabel("component, strongest first", fontsize=12)
    axes[0, 0].set_ylabel("neuron" if channels is None else "channel, each with its neurons")
    return figure


@theme()
def class_matrix(
    table: pd.DataFrame, *, title: str, xlabel: str, ylabel: str, label: str
) -> Figure:
    """Values from 0 to 1 as a matrix, in percent, such as class × class.

    Args:
        table: rows × columns, named by its index and columns.
        title, xlabel, ylabel: what the figure says.
        label: of the colour bar.

    Returns:
        A figure of one panel and a colour bar from 0 to 100.

    Example:
        >>> words = {"title": "Recall", "xlabel": "fit on", "ylabel": "tried on", "label": "recall"}
        >>> figure = class_matrix(pd.DataFrame([[1.0, 0.254]]), **words)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['100', '25']
    """
    import seaborn as sns

    figure, ax = canvas(height=4.4)
    wide = max(8, 60 // table.shape[1])  # characters; they stand side by side
    percent = (100 * table).round().astype(int)
    sns.heatmap(
        percent.rename(index=partial(literal, most=22), columns=partial(literal, most=wide)),
        cmap=MAP,
        vmin=0,
        vmax=100,
        cbar_kws={"label": f"{label} (%)"},
        annot=True,
        fmt="d",
        annot_kws={"fontsize": 10},
        linewidths=0.5,
        ax=ax,
    )
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(rotation=0)
    return figure


@theme()
def overview() -> Figure:
    """The model in one drawing: every block is a tall factor times the same image factor.

    Returns:
        A figure of one panel, with boxes for the blocks and their factors.

    Example:
        >>> "$F^{\\\\,T}$, shared" in [text.get_text() for text in overview().axes[0].texts]
        True
    """
    import seaborn as sns

    figure, ax = canvas(height=4.4)
    ax.set(xlim=(0, 11), ylim=(0.2, 8.6), aspect="equal")
    ax.axis("off")
    blue, orange, green = sns.color_palette("colorblind", 3)
    centred = {"ha": "center", "va": "center"}

    def box(x, y, width, height, colour, text):
        edge = {"edgecolor": colour, "linewidth": 1.5}
        ax.add_patch(Rectangle((x, y), width, height, facecolor=(*colour, 0.25), **edge))
        ax.text(x + width / 2, y + height / 2, text, fontsize=12, **centred)

    blocks = [
        (5.9, 2.2, blue, "D", "P", "pixels"),
        (2.9, 2.6, orange, "A_0", "O_0", "neurons"),
        (0.8, 1.7, orange, "A_1", "O_1", "neurons"),
    ]
    for y, height, colour, data, factor, side in blocks:
        middle = y + height / 2
        box(0.9, y, 3.4, height, colour, f"${data}$")
        ax.text(0.65, middle, side, rotation=90, fontsize=10, **centred)
        ax.text(4.8, middle, "≈", fontsize=15, **centred)
        box(5.3, y, 0.9, height, colour, f"${factor}$")
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.5}
        ax.annotate("", (7.15, 4.65), (6.25, middle), arrowprops=arrow)
    ax.text(2.6, 8.3, "images", ha="center", va="bottom", fontsize=10)
    ax.text(5.75, 8.3, "rank", ha="center", va="bottom", fontsize=10)
    box(7.2, 4.2, 3.4, 0.9, green, "$F^{\\,T}$, shared")
    ax.text(8.9, 5.25, "images", ha="center", va="bottom", fontsize=10)
    ax.text(10.85, 4.65, "rank", rotation=90, fontsize=10, **centred)
    return figure


def _legend(ax: Axes, groups: Iterable, title: str | None = None) -> None:
    """The legend of what seaborn drew, with every group, under its name as it stands.

    Names go in afterwards, because matplotlib leaves out those that begin with "_".
    """
    drawn = {line.get_label(): line for line in ax.lines}
    named = [str(group) for group in groups if str(group) in drawn]
    places = map(str, range(len(named)))
    handles = [drawn[name] for name in named]
    legend = ax.legend(handles, places, title=title, frameon=False, fontsize=10)
    for text, name in zip(legend.get_texts(), named, strict=True):
        text.set_text(literal(name))


def _numpy(values) -> np.ndarray:
    """A tensor on any device, or anything array-like, as an array."""
    return torch.as_tensor(values).detach().cpu().numpy()


def _channels_last(images: np.ndarray) -> np.ndarray:
    """Images × channels × height × width as matplotlib wants them: channels last, none if grey."""
    images = np.moveaxis(images, 1, -1)
    return images[..., 0] if images.shape[-1] == 1 else images


def _pixel_images(factors: CoupledFactors, columns: slice, shape: Sequence[int]) -> np.ndarray:
    """Columns of P as images: count × height × width, and × 3 of three input blocks."""
    names = [name for name in factors.factors if name.split(".")[0] == "input"]
    if not names:
        raise ValueError(
            "latent images need an input block, made by `input_blocks`; "
            f"there are {list(factors.factors)}"
        )
    parts = [_numpy(factors.factors[name][:, columns]).T for name in names]  # count × pixels
    P = np.stack(parts, axis=1)  # count × channels × pixels
    return _channels_last(P.reshape(*P.shape[:2], *shape))


def _tile(stack: np.ndarray, cols: int, gap: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Images (count × height × width …) in rows on white; and the top left corner of each."""
    count, height, width, *colours = stack.shape
    rows = math.ceil(count / cols)
    white = 1.0 if colours else np.nan  # a NaN has no colour: the paper shows
    size = rows * (height + gap) - gap, cols * (width + gap) - gap
    sheet = np.full((*size, *colours), white)
    corners = []
    for k, image in enumerate(stack):
        top = k // cols * (height + gap)
        left = k % cols * (width + gap)
        sheet[top : top + height, left : left + width] = image
        corners.append((top, left))
    return sheet, corners


def _sheet(ax: Axes, stack: np.ndarray, cols: int, cmap: str, labels: Iterable = ()) -> None:
    """Non-negative images side by side on one scale from 0."""
    sheet, corners = _tile(stack / (stack.max() or 1), cols, gap=1 + stack.shape[1] // 12)
    ax.imshow(sheet, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")
    for (top, left), label in zip(corners, labels, strict=False):
        ax.text(left - 0.5, top - 0.7, label, fontsize=10, ha="left", va="baseline")


def _columns(maps: tuple[int, int, int], aspect: float) -> int:
    """In how many columns these maps are largest, on a sheet `aspect` times as wide as high."""
    count, height, width = maps

    def scale(cols: int) -> float:
        rows = math.ceil(count / cols)
        return min(aspect / (cols * width), 1 / (rows * height))

    return max(range(1, count + 1), key=scale)


def _class_bars(ax: Axes, loadings: np.ndarray, labels: np.ndarray) -> None:
    """The mean loading of each class as a share of their sum; the dashed line is an even spread."""
    import seaborn as sns

    classes = np.unique(labels)
    means = np.array([loadings[labels == label].mean() for label in classes])
    shares = 100 * means / (means.sum() or 1)
    ax.bar(range(len(classes)), shares, color=sns.color_palette("colorblind")[0])
    ax.axhline(100 / len(classes), color="black", linestyle="--", linewidth=1)
    ax.set_xticks(range(len(classes)), labels=classes)
    top = 50 if shares.max() <= 50 else 100
    ax.set(ylim=(0, top), yticks=[0, top // 2, top])
    ax.tick_params(labelsize=10)
    ax.set_title("share of the loading (%), by class", fontsize=10)
    sns.despine(ax=ax)
