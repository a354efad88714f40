"""Pictures and sliders: what a page without a kernel gets, and what the widget does."""

import html
import json
import re
import signal
from html.parser import HTMLParser
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from IPython.utils.dir2 import get_real_method
from matplotlib.figure import Figure

from peeklib import Explorer, coupled_nmf, show, solvers

LIVE = "application/vnd.jupyter.widget-view+json"
NASTY = """</script><script>alert("x")</script> & 'q' <b>"""


def draw_nothing(*values):
    """The smallest figure there is, with the values in its alt text."""
    return Figure(figsize=(0.2, 0.2)), f"alt of {values}"


def draw_nasty(value):
    return Figure(figsize=(0.2, 0.2)), NASTY


def alt_of(*values):
    """The alt text of `draw_nothing`, as HTML."""
    return html.escape(f"alt of {values}")


class Counted:
    """A draw function that remembers what it was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, *values):
        self.calls.append(values)
        return draw_nothing(*values)


class Page(HTMLParser):
    """The elements of a page: (tag, attributes), and the text inside them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def frames_of(page):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.S)[1])


# Pictures


def test_a_picture_is_a_webp_inside_the_page():
    [image] = Page(show(*draw_nothing(1))._repr_html_()).all("img")
    assert image["src"].startswith("data:image/webp;base64,UklGR")  # RIFF
    assert image["alt"] == "alt of (1,)"


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_picture_needs_alt_text(alt):
    with pytest.raises(ValueError, match="alt text"):
        show(Figure(), alt)


def test_alt_text_is_escaped():
    page = Page(show(*draw_nasty(1))._repr_html_())
    assert [tag for tag, _ in page.elements] == ["figure", "img"]
    assert page.all("img")[0]["alt"] == NASTY


# Without a kernel


def test_the_bundle_has_the_live_face_only_where_that_has_more_to_show():
    whole = Explorer({"rank": [2, 5]}, draw_nothing)
    bundle = whole._repr_mimebundle_(include=None, exclude=None)
    assert bundle == {"text/plain": "Explorer over rank (2 values)", "text/html": whole.to_html()}
    explorer = Explorer({"rank": [2, 5]}, draw_nothing, prepared={"rank": [2]})
    bundle = explorer._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "text/html", LIVE}
    assert bundle[LIVE]["model_id"] == explorer.widget.model_id


@pytest.mark.parametrize(
    ("prepared", "somebody", "outputs"),
    [([2], True, 2), ([2], False, 1), ([2, 5], True, 1), ([2, 5], False, 1)],
)
def test_the_live_face_is_an_output_of_its_own_if_somebody_can_move_it(
    prepared, somebody, outputs, monkeypatch
):
    """A saved notebook cannot show an output that has both; a builder cannot move anything."""
    shown = []
    kernel = SimpleNamespace(_allow_stdin=somebody)
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=kernel))
    monkeypatch.setattr("IPython.display.display", lambda output, **_: shown.append(output))
    explorer = Explorer({"rank": [2, 5]}, draw_nothing, prepared={"rank": prepared})
    if outputs == 1:
        assert get_real_method(explorer, "_ipython_display_") is None
        assert set(explorer._repr_mimebundle_()) == {"text/plain", "text/html"}
        return
    get_real_method(explorer, "_ipython_display_")()
    assert set(shown[0]) == {"text/plain", "text/html"} and shown[1] is explorer.widget
    [figure] = Page(shown[0]["text/html"]).all("figure")
    assert figure["id"] in explorer.widget._dom_classes, "each hides the other by this name"


def test_ranges_and_frames_match_what_is_prepared():
    axes = {"rank": [2, 5, 9], "layer": ["a", "b"], "seed": range(4)}
    prepared = {"rank": [5, 9], "seed": [3, 1]}
    page = Explorer(axes, draw_nothing, prepared=prepared, start={"seed": 1}).to_html()
    ranges, frames = Page(page).all("input"), frames_of(page)
    assert [(r["type"], r["min"], r["max"], r["value"]) for r in ranges] == [
        ("range", "0", "1", "0"),
        ("range", "0", "1", "0"),
        ("range", "0", "1", "1"),
    ]
    assert frames["labels"] == [["5", "9"], ["a", "b"], ["3", "1"]]
    alts = [f"alt of {(rank, layer, seed)}" for rank in (5, 9) for layer in "ab" for seed in (3, 1)]
    assert [alt for _, alt in frames["frames"]] == alts


def test_the_page_starts_where_it_is_told():
    page = Page(Explorer({"rank": [2, 5]}, draw_nothing, start={"rank": 5}).to_html())
    assert page.all("img")[0]["alt"] == "alt of (5,)" and "alt of (5,)" in page.texts
    assert page.all("input")[0]["aria-valuetext"] == "5"


def test_only_prepared_values_are_drawn_and_each_once():
    draw = Counted()
    explorer = Explorer({"rank": [1, 2, 3, 4]}, draw, prepared={"rank": [2, 3]})
    assert explorer.to_html() == explorer.to_html()
    assert draw.calls == [(2,), (3,)]


def test_values_reach_draw_as_they_are():
    draw = Counted()
    Explorer({"layer": [None, "relu"], "size": np.array([0.5])}, draw).to_html()
    assert draw.calls == [(None, 0.5), ("relu", 0.5)]


def test_a_page_refers_to_nothing_outside_itself():
    explorer = Explorer({"rank": [1, 2]}, draw_nothing)
    page = re.sub(r"data:image/webp;base64,[\w+/=]+", "", explorer.to_html())
    assert "http" not in page and "//" not in page
    assert not {"link", "iframe", "object"} & {tag for tag, _ in Page(page).elements}
    assert not [attrs for attrs in Page(page).all("script") if "src" in attrs]


def test_names_values_and_alt_text_are_escaped_on_the_page():
    page = Explorer({NASTY: [NASTY, 2]}, draw_nasty).to_html()
    parsed, frames = Page(page), frames_of(page)
    assert not parsed.all("b") and len(parsed.all("script")) == 2
    assert parsed.all("img")[0]["alt"] == NASTY
    assert parsed.all("input")[0]["aria-valuetext"] == NASTY
    assert frames["labels"] == [[NASTY, "2"]] and frames["frames"][0][1] == NASTY
    quoted = json.dumps(NASTY).replace("<", "\\u003c")
    assert "alert(" not in "".join(parsed.texts).replace(NASTY, "").replace(quoted, "")


# With a kernel


def parts(explorer):
    *sliders, view = explorer.widget.children
    return sliders, view


def test_moving_a_slider_changes_the_picture():
    explorer = Explorer({"rank": [2, 5], "layer": "ab"}, draw_nothing, start={"layer": "b"})
    (rank, layer), view = parts(explorer)
    assert alt_of(2, "b") in view.value
    rank.value = 5
    assert alt_of(5, "b") in view.value and alt_of(2, "b") not in view.value
    layer.value = "a"
    assert alt_of(5, "a") in view.value and "data:image/webp" in view.value


def test_in_the_small_version_the_ends_and_the_start_are_prepared(monkeypatch):
    monkeypatch.setenv("PEEK_PROFILE", "embedded")
    draw = Counted()
    axes = {"rank": range(9), "seed": [0, 1]}
    explorer = Explorer(axes, draw, prepared={"rank": range(1, 7)}, start={"rank": 3})
    assert frames_of(explorer.to_html())["labels"] == [["1", "3", "6"], ["0", "1"]]
    others = [(2, 0), (4, 0), (5, 0)]  # drawn once, to see that they can be
    assert sorted(draw.calls) == sorted([*product((1, 3, 6), (0, 1)), *others])


def test_a_value_that_was_not_prepared_is_drawn_when_asked_for_and_kept():
    draw = Counted()
    explorer = Explorer({"rank": [1, 2, 3]}, draw, prepared={"rank": [2]})
    [slider], view = parts(explorer)
    explorer.to_html()
    assert draw.calls == [(2,)] and [value for _, value in slider.options] == [1, 2, 3]
    for value in (3, 2, 3, 2):
        slider.value = value
    assert draw.calls == [(2,), (3,)] and "alt of (2,)" in view.value


def test_the_widget_says_what_it_is_computing():
    views, seen = [], []

    def draw(value):
        seen.extend(view.value for view in views)
        return draw_nothing(value)

    [slider], view = parts(Explorer({NASTY: [1, 2]}, draw))
    views.append(view)
    slider.value = 2
    assert len(seen) == 1 and f"computing {html.escape(NASTY)} 2 …" in seen[0]
    assert alt_of(1) in seen[0], "the page must not jump: the last picture stays"


@pytest.mark.parametrize("swallowed", [True, False])
def test_what_was_interrupted_is_not_kept(swallowed, interruptible):
    """Long computations catch an interrupt and give what they have."""
    stops = [True]

    def draw(value):
        try:
            if value == 2 and stops.pop():
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not swallowed:
                raise
        return draw_nothing(value)

    [slider], view = parts(Explorer({"rank": [1, 2]}, draw))
    slider.value = 2
    assert "Interrupted" in view.value
    slider.value, stops[:] = 1, [False]
    assert "Interrupted" not in view.value
    slider.value = 2
    assert "Interrupted" not in view.value and alt_of(2) in view.value
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("value", [1, 2])  # of the small version 2 is left out, and only tried
def test_an_interrupt_while_frames_are_prepared_comes_out(interruptible, monkeypatch, value):
    monkeypatch.setenv("PEEK_PROFILE", "embedded")
    monkeypatch.setitem(solvers.UPDATES, "mu", lambda *_: signal.raise_signal(signal.SIGINT))

    def draw(chosen):
        if chosen == value:
            coupled_nmf({"input": torch.ones(3, 4)}, 1, solver="mu")
        return draw_nothing(chosen)

    with pytest.raises(KeyboardInterrupt):
        Explorer({"rank": [1, 2, 3]}, draw).to_html()


def fragile(value):
    if value == 2:
        raise ZeroDivisionError(NASTY)
    return draw_nothing(value)


def test_an_error_while_drawing_shows_where_the_picture_would_be():
    [slider], view = parts(Explorer({"rank": [1, 2, 3]}, fragile))
    slider.value = 2
    assert view.value == f"<pre>{html.escape(f'ZeroDivisionError: {NASTY}')}</pre>"
    slider.value = 3
    assert "alt of (3,)" in view.value and "ZeroDivision" not in view.value


def test_missing_alt_text_shows_as_an_error_too():
    _, view = parts(Explorer({"rank": [1]}, lambda value: (Figure(), "")))
    assert "ValueError: a picture needs alt text" in view.value


def test_alt_text_is_escaped_in_the_widget():
    _, view = parts(Explorer({"rank": [1]}, draw_nasty))
    page = Page(view.value)
    assert [tag for tag, _ in page.elements] == ["img", "p"]
    assert page.all("img")[0]["alt"] == NASTY == "".join(page.texts)


def test_the_widget_is_made_once():
    explorer = Explorer({"rank": [1]}, draw_nothing)
    assert explorer.widget is explorer.widget


@pytest.mark.parametrize("start", [None, 0])
def test_any_value_can_come_first(start):
    [slider], view = parts(Explorer({"layer": [start, "relu"]}, draw_nothing))
    assert slider.value is start and alt_of(start) in view.value


# Errors


@pytest.mark.parametrize(
    ("axes", "start", "prepared", "words"),
    [
        ({}, {}, {}, "every axis needs a value"),
        ({"rank": []}, {}, {}, "every axis needs a value.*rank"),
        ({"rank": [1]}, {}, {"seed": [1]}, "prepared names an axis 'seed'.*rank"),
        ({"rank": [1]}, {}, {"rank": [1, 7]}, r"prepared has \[7\] on axis 'rank'.*\[1\]"),
        ({"rank": [1]}, {}, {"rank": []}, "prepared has no values on axis 'rank'"),
        ({"rank": [1]}, {"seed": 1}, {}, "start names an axis 'seed'.*rank"),
        ({"rank": [1]}, {"rank": 7}, {}, r"start has \[7\] on axis 'rank'"),
        ({"rank": [1, 2]}, {"rank": 2}, {"rank": [1]}, r"start has \[2\] on axis 'rank'.*\[1\]"),
    ],
)
def test_wrong_axes_are_named(axes, start, prepared, words):
    with pytest.raises(ValueError, match=words):
        Explorer(axes, draw_nothing, start=start, prepared=prepared)
