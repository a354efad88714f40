"""Plots: what they draw, under one theme, whatever the reader has set."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

from peeklib import coupled_nmf, plots, show
from peeklib.directions import Direction, bottom_images, top_images


def block(neurons, images=8):
    return torch.rand(neurons, images, generator=torch.Generator().manual_seed(neurons))


FIT = coupled_nmf({"input": block(6)}, 3, max_iter=3)
DEEP = coupled_nmf({"input": block(6), "relu": block(12)}, 3, max_iter=3)
CLASSES = torch.tensor([0, 1, 4, 4, 1, 0, 0, 1])
TABLE = pd.DataFrame(
    {"rank": [1, 2] * 4, "error": [4.0, 3, 6, 5, 2, 1, 2, 1], "data": list("aaaabbbb")}
)
RECALL = pd.DataFrame([[0, 1.0], [0.254, 1]])
LABELS = {"title": "A finding", "xlabel": "rank", "ylabel": "error (%)"}
TITLE = {"title": "A finding"}
IMAGES = np.arange(12.0).reshape(3, 2, 2)
GREY = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 1, 8, 8) * 10
SCORES = torch.randperm(20, generator=torch.Generator().manual_seed(0)).float()
NEURON = Direction(torch.ones(1), 1.0, "relu", "neuron 0", SCORES)


def journey(component=2, fit=DEEP, **changed):
    images = torch.arange(48).reshape(8, 1, 2, 3)
    given = {"maps": (3, 2, 2), "images": images, "labels": CLASSES, **TITLE}
    return plots.journey(fit, "relu", component, **{**given, **changed})


PLOTS = {
    "curves": lambda: plots.curves(TABLE, "rank", "error", "data", **LABELS),
    "image_grid": lambda: plots.image_grid(IMAGES, ["a", "b", "c"], **TITLE),
    "latent_images": lambda: plots.latent_images(FIT, (2, 3), **TITLE),
    "channel_maps": lambda: plots.channel_maps(torch.arange(12), (3, 2, 2), **TITLE),
    "contact_sheet": lambda: plots.contact_sheet([NEURON, NEURON], GREY, 3, **TITLE),
    "neuron_heatmap": lambda: plots.neuron_heatmap(FIT.factors["input"], **TITLE),
    "lines": lambda: plots.lines({"mu": [3, 2, 1], "hals": [2, 1]}, **LABELS, log=True),
    "class_matrix": lambda: plots.class_matrix(RECALL, **LABELS, label="recall"),
    "scatter": lambda: plots.scatter(TABLE, "error", "rank", "data", **TITLE, xlabel="error (%)"),
    "journey": journey,
    "overview": plots.overview,
}
every_plot = pytest.mark.parametrize("name", PLOTS)


def texts(figure):
    return {text.get_text() for text in figure.findobj(Text)}


@every_plot
def test_a_plot_says_what_it_shows(name):
    figure = PLOTS[name]()
    if name == "overview":
        assert {"images", "rank", "pixels", "neurons"} <= texts(figure)
    else:
        assert "A finding" in texts(figure)
    if name in ("curves", "lines"):
        assert set(LABELS.values()) <= texts(figure)


@every_plot
def test_a_plot_leaves_pyplot_and_global_settings_alone(name):
    figures, settings = plt.get_fignums(), dict(mpl.rcParams)
    show(PLOTS[name](), "a plot")
    assert plt.get_fignums() == figures
    assert dict(mpl.rcParams) == settings


@every_plot
def test_a_plot_looks_the_same_whatever_the_reader_has_set(name):
    uri = show(PLOTS[name](), "a plot").uri
    odd = {"font.size": 30, "savefig.bbox": "tight", "image.aspect": "auto"}
    with plt.style.context("dark_background"), mpl.rc_context(odd):
        assert show(PLOTS[name](), "a plot").uri == uri


@every_plot
@pytest.mark.filterwarnings(
    "error",
    # of matplotlib 3.8's parser
    "ignore::DeprecationWarning:(pyparsing|matplotlib._mathtext|matplotlib._fontconfig)",
)
def test_a_plot_raises_no_warnings(name):
    assert show(PLOTS[name](), "a plot").alt == "a plot"


def sheet(figure):
    return figure.axes[0].images[0]


def test_curves_are_means_with_a_band_from_smallest_to_largest():
    [axes] = PLOTS["curves"]().axes
    means = [line.get_ydata().tolist() for line in axes.lines if len(line.get_ydata())]
    assert means == [[5, 4], [2, 1]]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (3, 6)


def test_groups_differ_in_marker_and_colour():
    [axes] = PLOTS["curves"]().axes
    drawn = [line for line in axes.lines if len(line.get_ydata())]
    assert len({line.get_marker() for line in drawn}) == 2
    assert len({line.get_color() for line in drawn}) == 2


@pytest.mark.parametrize(("log", "scale"), [(True, "log"), (False, "linear")])
def test_lines_are_drawn_against_their_index(log, scale):
    [axes] = plots.lines({"mu": [3, 2, 1], "hals": [2, 1]}, **LABELS, log=log).axes
    drawn = [line.get_xydata().tolist() for line in axes.lines if len(line.get_ydata())]
    assert drawn == [[[0, 3], [1, 2], [2, 1]], [[0, 2], [1, 1]]]
    assert axes.get_yscale() == scale


def tiles(figure, count, height, width, cols=5):
    """The images on a contact sheet, found by where they must lie."""
    data = np.ma.filled(sheet(figure).get_array(), np.nan)
    gap = (data.shape[1] - cols * width) // max(cols - 1, 1)
    corners = [(k // cols * (height + gap), k % cols * (width + gap)) for k in range(count)]
    return np.stack([data[top : top + height, left : left + width] for top, left in corners])


@pytest.mark.parametrize("cols", [2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_a_contact_sheet_shows_every_image_up_to_its_peak(cols, shared):
    figure = plots.image_grid(IMAGES, cols=cols, shared=shared, title="t")
    peak = IMAGES.max() if shared else IMAGES.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(tiles(figure, 3, 2, 2, cols), IMAGES / peak)
    assert sheet(figure).get_clim() == (0, 1)


def test_images_with_negative_values_have_zero_in_the_middle():
    figure = plots.image_grid(IMAGES - 6, cols=3, title="t")
    assert sheet(figure).get_clim() == (-1, 1)
    assert np.sign(tiles(figure, 3, 2, 2, 3)).tolist() == np.sign(IMAGES - 6).tolist()


def test_black_images_stay_black():
    assert not tiles(plots.image_grid(np.zeros((2, 2, 2)), cols=2, title="t"), 2, 2, 2, 2).any()


def test_labels_stand_on_the_sheet_in_order():
    figure = plots.image_grid(IMAGES, ["a", "b", "c"], cols=3, title="t")
    placed = sorted((text.get_position()[0], text.get_text()) for text in figure.axes[0].texts)
    assert [label for _, label in placed] == ["a", "b", "c"]


def test_latent_images_are_the_strongest_columns_of_the_pixel_factor():
    figure = plots.latent_images(FIT, (2, 3), most=2, title="t")
    P = FIT.factors["input"][:, :2].T.reshape(2, 2, 3).numpy()
    expected = P / P.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(tiles(figure, 2, 2, 3, 2), expected, rtol=1e-6)


def test_three_input_blocks_make_colour_images():
    names = ("input.red", "input.green", "input.blue")
    blocks = {name: block(6 + k)[:6] for k, name in enumerate(names)}
    fit = coupled_nmf(blocks, 2, max_iter=2)
    P = np.stack([fit.factors[name].T.reshape(2, 2, 3).numpy() for name in names], axis=-1)
    shown = tiles(plots.latent_images(fit, (2, 3), title="t"), 2, 2, 3, 2)
    np.testing.assert_allclose(shown, P / P.max(axis=(1, 2, 3), keepdims=True), rtol=1e-6)


def test_latent_images_need_an_input_block():
    fit = coupled_nmf({"relu": torch.ones(4, 5)}, 1, max_iter=1)
    with pytest.raises(ValueError, match="input.*relu"):
        plots.latent_images(fit, (2, 2), title="t")


def test_channel_maps_lay_neurons_out_as_the_layer_does():
    shown = tiles(PLOTS["channel_maps"](), 3, 2, 2, 3)
    np.testing.assert_allclose(shown, np.arange(12).reshape(3, 2, 2) / 11)


@pytest.mark.parametrize("count", [1, 2])
def test_a_contact_sheet_shows_the_right_images(count):
    """Image k is flat grey of level k: the sheet shows those of the images at the ends, in order."""
    figure = plots.contact_sheet([NEURON] * count, GREY, 3, title="t")
    shown = []
    for image in figure.axes[0].images:  # a strip of three; white between them is no number
        strip = image.get_array().filled(math.nan)
        strip = strip[:, ~np.isnan(strip).all(axis=0)].reshape(8, 3, 8)
        shown += strip.mean(axis=(0, 2)).tolist()
    order = [*top_images(NEURON, 3), *bottom_images(NEURON, 3)]
    assert shown == pytest.approx([float(k) * 10 / 255 for k in order] * count, abs=1e-6)


def test_the_lines_of_a_contact_sheet_have_their_labels():
    alone = plots.contact_sheet([NEURON], GREY, 3, title="t").axes[0].texts
    assert [text.get_text() for text in alone] == ["highest, neuron 0, relu", "lowest"]
    several = texts(plots.contact_sheet([NEURON, NEURON], GREY, 3, title="t"))
    assert {"neuron 0, relu: highest", "neuron 0, relu", "lowest"} <= several


def panels(figure):
    """What each panel with images shows, without the gaps; and the heights of the bars."""
    pixels, bars, layer, images = figure.axes
    shown = [np.ma.filled(ax.images[0].get_array(), np.nan) for ax in (pixels, layer, images)]
    return *shown, np.array([bar.get_height() for bar in bars.patches])


def test_a_journey_shows_one_component_everywhere():
    pixels, layer, images, _ = panels(journey(2))
    P, O = (DEEP.factors[name][:, 1].numpy() for name in ("input", "relu"))
    np.testing.assert_allclose(pixels, P.reshape(2, 3) / P.max(), rtol=1e-6)
    np.testing.assert_allclose(np.sort(layer[~np.isnan(layer)]), np.sort(O / O.max()), rtol=1e-6)
    np.testing.assert_allclose(layer[:2, :2], O[:4].reshape(2, 2) / O.max(), rtol=1e-6)
    first = int(DEEP.image_factor[:, 1].argmax())
    expected = np.arange(6).reshape(2, 3) + 6 * first
    np.testing.assert_allclose(images[:2, :3] / images[0, 0], expected / (6 * first))


def test_the_bars_of_a_journey_are_shares_of_the_mean_loading():
    means = torch.stack([DEEP.image_factor[CLASSES == c, 1].mean() for c in (0, 1, 4)])
    figure = journey(2)
    *_, bars = panels(figure)
    np.testing.assert_allclose(bars, 100 * means / means.sum(), rtol=1e-5)
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["0", "1", "4"]


def test_a_journey_starts_in_colour_if_the_images_have_it():
    blocks = {name: block(6) for name in ("input.red", "input.green", "input.blue")}
    fit = coupled_nmf({**blocks, "relu": block(12)}, 2, max_iter=2)
    pixels, _, images, _ = panels(journey(1, fit, images=torch.rand(8, 3, 2, 3)))
    assert pixels.shape == (2, 3, 3) and images.shape[2] == 3


def test_labels_change_nothing_but_the_bars_of_a_journey():
    *before, bars = panels(journey(2))
    *after, others = panels(journey(2, labels=CLASSES.flip(0)))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.allclose(bars, others)


@pytest.mark.parametrize(
    ("component", "changed", "words"),
    [
        (0, {}, "component is 0; this fit has components 1 to 3"),
        (4, {}, "component is 4"),
        (1, {"maps": (3, 2, 3)}, r"\(3, 2, 3\) have 18 neurons, block 'relu' has 12"),
        (1, {"labels": CLASSES[:5]}, "8 images, and labels of shape .5,"),
        (1, {"images": torch.rand(5, 1, 2, 2)}, "5 images; the fit is of 8"),
    ],
)
def test_a_journey_says_what_does_not_fit(component, changed, words):
    with pytest.raises(ValueError, match=words):
        journey(component, **changed)


SHEETS = [((10, 12, 12), 5), ((20, 4, 4), 7), ((1, 3, 3), 1), ((64, 8, 8), 13)]


@pytest.mark.parametrize(("maps", "cols"), SHEETS)
def test_maps_fill_their_sheet(maps, cols):
    assert plots._columns(maps, 2.4) == cols


def test_the_heatmap_has_a_row_for_each_neuron():
    O = FIT.factors["input"]
    mesh = plots.neuron_heatmap(O, title="t").axes[0].collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(O.shape), O)
    assert mesh.get_clim()[0] == 0


def test_the_heatmap_can_mark_where_channels_begin():
    axes = plots.neuron_heatmap(torch.rand(12, 2), title="t", channels=3).axes[0]
    assert axes.get_yticks().tolist() == [0, 4, 8]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"]


def test_heatmaps_side_by_side_share_a_scale():
    figure = plots.neuron_heatmap({"low": block(6), "high": 9 * block(7)[:6]}, title="t")
    low, high = (ax.collections[0] for ax in figure.axes[:2])
    assert low.get_clim() == high.get_clim() and {"low", "high"} <= texts(figure)


def test_a_class_matrix_shows_every_value_in_percent():
    assert {"0", "25", "100"} <= texts(PLOTS["class_matrix"]())


def test_a_scatter_has_a_point_for_each_row_in_percent():
    ax = PLOTS["scatter"]().axes[0]
    points = np.concatenate([dots.get_offsets() for dots in ax.collections])
    np.testing.assert_allclose(np.sort(points[:, 1]), np.sort(100 * TABLE["rank"]))


def test_weights_that_want_gradients_can_be_drawn():
    weights = torch.rand(4, 3, requires_grad=True)
    assert "t" in texts(plots.neuron_heatmap(weights, title="t"))
    assert "t" in texts(plots.image_grid([weights], title="t"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
def test_factors_on_a_gpu_can_be_drawn():
    O = torch.rand(4, 3, device="cuda")
    assert "t" in texts(plots.neuron_heatmap(O, title="t"))
    assert "t" in texts(plots.channel_maps(O[:, 0], (1, 2, 2), title="t"))
    assert "t" in texts(plots.image_grid([O], title="t"))
