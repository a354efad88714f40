"""Names that strangers chose: nothing in one can run, break a page or a figure, or make it too wide."""

import io
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import MagicMock

import chromium
import pandas as pd
import pytest
import torch
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import nn

import peeklib as pk
from peeklib import names, plots
from peeklib.__main__ import main
from peeklib.course.data.dataset import Dataset
from peeklib.course.findings import Recheck
from peeklib.course.ledger import Finding
from peeklib.study import figures
from peeklib.study.compare import Comparison

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import build  # noqa: E402

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "--><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</textarea></noscript></table><script>alert(1)</script>",
    "\u2028</script\t><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=//evil.example/x.png>',
    "<svg/onload=alert(1)>",
    "<svg><a xlink:href=javascript:alert(1)><text>x</text></a></svg>",
    "<math><mglyph><style><!--</style><img title='--><img src onerror=alert(1)>'>",
    "' onmouseover='alert(1)' x='",
    '" autofocus onfocus="alert(1)" x="',
    "` onclick=`alert(1)",
    "</figure><video src=x onerror=alert(1)></video>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data='data:text/html,<script>alert(1)</script>'>",
    "</div><form action=//evil.example><button>go</button>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import '//evil.example/x.css'</style>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "</h2><h2>two</h2>",
    "$title ${sections} $style {{7*7}} {%raw%} %s {0}",
    r"\(\href{javascript:alert(1)}{x}\) $\href{javascript:alert(1)}{x}$",
    "&lt;script&gt;alert(1)&#60;/script&#62;&amp",
    "a\0<b>\r\n<i>\x1b]0;title\x07\x85",
    "\ud800<b>\udfff",
    "\u202e<b>evil\u2066\u200b\u200f",
]
WEBP = io.BytesIO()
Image.new("RGB", (300, 200), "white").save(WEBP, "webp")


class Page(HTMLParser):
    """Elements with the names of their attributes; the values that could name other files."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.values, self.told, self.alts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, [name for name, _ in attrs]))
        places = ("src", "href", "style", "id", "action")
        self.values += [value for name, value in attrs if name in places]
        self.alts += [value for name, value in attrs if name == "alt"]

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}", []))

    def handle_comment(self, data):
        self.elements.append(("comment", []))

    def handle_data(self, data):
        self.told.append(data)


@pytest.fixture(scope="module")
def found():
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    return pk.peek(net, images, ranks=(1,), device="cpu", progress=False)


def called(found, *given):
    """The same report, if every name in it were one of these; of the first layer's neurons only."""
    [layer] = found.layers.index
    rows = [layer] * len(given)
    direction = found.directions[layer, "neurons"][0]
    part = found.errors.loc[[layer]]
    scores = found.scores.iloc[[0] * len(given)]
    return replace(
        found,
        title=" ".join(given),
        layers=found.layers.loc[rows].set_axis(given).assign(kept=given, activation=given),
        errors=pd.concat([part] * len(given)).set_axis(given),
        scores=scores.set_axis(given).assign(**{"how to read it": given}),
        spectra=dict.fromkeys(given, found.spectra[layer]),
        directions={(one, "neurons"): [replace(direction, name=one, layer=one)] for one in given},
        notes=list(given),
        settings={**found.settings, "model": given[0], **dict(zip(given, given, strict=True))},
    )


def draw(*values):
    """A picture, with the values in its alt text."""
    return Figure(figsize=(0.2, 0.2)), f"alt of {' '.join(map(str, values))}"


def pages(found, name, folder):
    """HTML of every kind that shows a name."""
    report = called(found, name)
    yield report.save(folder / "report.html").read_text(encoding="utf-8")
    yield report._repr_html_()
    scores = {score: [0.9, 0.5] for score in ("answers_area", "nuclear_norm")}
    compared = Comparison(pd.DataFrame({**scores, "why": ["", name]}, [name, "other"]), [name])
    yield compared._repr_html_()
    yield compared.table._repr_html_()
    explorer = pk.Explorer({name: [name, "other"]}, draw)
    yield explorer.to_html()
    yield explorer.widget.children[-1].value
    yield explorer._computing((name,))
    yield pk.show(*draw(name))._repr_html_()
    yield Recheck(name, {name: name}, {name: 1}, {name: 0.0}, reason=name)._repr_html_()
    yield Finding("updates", (True, True), name, name, stand_in=name).to_html()
    split = pk.Split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1))
    yield Dataset(name, split, split, (name,), name, stand_in_for=name)._repr_html_()


def save_blank(file, **_):
    """What a figure does instead of drawing itself."""
    file.write(WEBP.getvalue())


def no_canvas(rows=1, cols=1, **_):
    """A figure and axes that take everything."""
    figure = MagicMock(axes=[MagicMock() for _ in range(rows * cols)])
    figure.savefig = save_blank
    return figure, figure.axes if rows * cols > 1 else figure.axes[0]


@contextmanager
def no_drawing():
    """Figures are not made: all pictures look the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "canvas", no_canvas)
        patch.setattr(Figure, "savefig", lambda self, file, **_: save_blank(file))
        yield


@pytest.fixture
def undrawn():
    with no_drawing():
        yield


@pytest.fixture(scope="module")
def harmless(found, tmp_path_factory):
    """What these pages are made of."""
    with no_drawing():
        folder = tmp_path_factory.mktemp("harmless")
        return [Page(text) for text in pages(found, "relu", folder)]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_page_has_no_element_and_no_attribute_that_came_with_a_name(
    name, found, undrawn, harmless, tmp_path
):
    for text, expected in zip(pages(found, name, tmp_path), harmless, strict=True):
        parsed = Page(text)
        assert parsed.elements == expected.elements
        values = "\n".join(parsed.values).replace(names.shown(name), "relu").replace(name, "relu")
        assert values == "\n".join(expected.values)


def test_a_page_says_names_as_they_are(found, undrawn, tmp_path):
    for text in pages(found, PAYLOADS[0], tmp_path):
        parsed = Page(text)
        assert PAYLOADS[0] in " ".join([*parsed.told, *parsed.alts])


# In a browser


@pytest.fixture(scope="module")
def browser():
    if chromium.MISSING and not os.environ.get("CI"):
        pytest.skip(chromium.MISSING[0])
    assert not chromium.MISSING, chromium.MISSING
    with chromium.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    """opened(html or report, width) shows it, as a file; at the end nothing may have gone wrong."""
    contexts, wrong = [], []

    def open_page(given, width=1280):
        path = tmp_path / "page.html"
        if isinstance(given, str):
            path.write_text(given, encoding="utf-8")
        else:
            given.save(path)
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        wrong.append(chromium.watched(page, (path.as_uri(),)))
        page.goto(path.as_uri(), wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not sum(wrong, []), "\n".join(sum(wrong, []))


OURS = {
    *("html", "head", "meta", "title", "style", "body", "div", "header", "h1", "main", "section"),
    *("h2", "p", "bdi", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li", "span"),
    *("figure", "label", "input", "output", "img", "figcaption", "script"),
}


def test_a_report_full_of_such_names_runs_and_asks_for_nothing(found, undrawn, opened):
    page = opened(called(found, *PAYLOADS))
    tags = page.evaluate("[...document.querySelectorAll('*')].map(one => one.localName)")
    assert set(tags) <= OURS and tags.count("script") == 4
    handlers = "[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames())"
    assert not [name for name in page.evaluate(handlers) if name.startswith("on")]
    slider = page.locator("input[type=range]").nth(1)
    for _ in PAYLOADS[1:]:
        slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == PAYLOADS[-1]
    page.mouse.move(100, 100)


def test_a_reports_policy_stops_what_got_in(found, undrawn, browser, tmp_path):
    """As if a name were not escaped: nothing runs, nothing is asked for; ours goes on."""
    path = found.save(tmp_path / "report.html")
    evil = (
        "<script>window.hit = 1</script><img src=x: onerror='window.hit = 1'>"
        "<img src=https://evil.example/a.png><link rel=stylesheet href=https://evil.example/a.css>"
        "<style>main { display: none }</style><iframe src=https://evil.example></iframe>"
        "<form action=https://evil.example><button>go</button></form><a href='javascript:hit = 1'>x</a>"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<main>", f"{evil}<main>"), encoding="utf-8")
    page = browser.new_page()
    stopped = chromium.stopped(page)
    page.goto(path.as_uri(), wait_until="networkidle")
    for tag in ("a", "button"):
        page.evaluate("tag => document.querySelector(tag).click()", tag)
    assert page.evaluate("window.hit") is None and page.url == path.as_uri()
    assert len(stopped) == 2 and {*stopped.values()} == {"csp"}, stopped
    assert page.locator("main").is_visible() and page.locator("input:enabled").count() == 3
    page.close()


SIZE = "(({scrollWidth, clientWidth, scrollHeight}) => [scrollWidth, clientWidth, scrollHeight])"
LONG = [
    "x" * 10_000,
    "wide words " * 900,
    "模型" * 5_000,
    "e\u0301\u0335" * 3_000,
    "\u202eعربى" * 2_000,
]


@pytest.mark.parametrize("width", [1280, 390])
def test_very_long_names_do_not_break_a_page(found, undrawn, opened, width):
    page = opened(called(found, *LONG), width)
    scroll, client, height = page.evaluate(f"{SIZE}(document.documentElement)")
    assert scroll <= client and height < 60_000
    for slider in page.locator("input[type=range]").all():
        assert slider.bounding_box()["width"] > 100
        assert slider.bounding_box()["y"] < slider.locator("..").bounding_box()["y"] + 200
    titles = page.evaluate("[...document.querySelectorAll('[title]')].map(one => one.title)")
    assert set(LONG) <= set(titles)


@pytest.mark.parametrize("width", [1280, 390])
def test_very_long_names_do_not_break_an_explorer_or_a_comparison(undrawn, opened, width):
    explorer = pk.Explorer({name: [name, "other"] for name in LONG[:3]}, draw)
    table = pd.DataFrame({"answers_area": 0.5, "nuclear_norm": 0.5, "why": LONG}, LONG)
    parts = [
        explorer.to_html(),
        Comparison(table, LONG)._repr_html_(),
        explorer._computing(LONG[:3]),
    ]
    page = opened("<!doctype html><body>" + "".join(parts), width)
    scroll, client, _ = page.evaluate(f"{SIZE}(document.documentElement)")
    assert scroll <= client
    for slider in page.locator("input[type=range]").all():
        assert slider.bounding_box()["width"] > 100
    slider = page.locator("input[type=range]").first
    output = page.locator("output").first
    before = output.inner_text()
    slider.press("End")
    slider.press("Home")
    assert output.inner_text() == before and len(before) == 80, "both cut alike"
    assert output.get_attribute("title") == LONG[0]


# Figures

ODD = [
    *PAYLOADS,
    *LONG,
    *("_hidden", "$", "$x$", r"\$x$", r"a$\frac$b", r"$\alpha", "two\nlines", "\t", "", " "),
    *("\u200b", "\u202eمرحبا", "שלום", "👩\u200d💻", "模型", "𒐫" * 9, "a\ufffe", "\r\n\r\n"),
]


def drawn_with(found, given):
    """Each function that draws names, with these."""
    layers = pd.concat([found.layers] * len(given)).set_axis(given)
    [values] = found.spectra.values()
    direction = found.directions[found.layers.index[0], "neurons"][0]
    rows = [replace(direction, name=name, layer=name) for name in given]
    yield figures.error_curves(pd.DataFrame({1: 0.5, 2: 0.4}, given))[0]
    yield figures.spectrum_curves(dict.fromkeys(given, values), layers)[0]
    for name in given[:3]:
        yield figures.extreme_images([], found.images, layer=name, method="neurons")[0]
    words = {"title": "Two", "xlabel": "x", "ylabel": "y"}
    yield plots.lines(dict.fromkeys(given, [1, 2]), **words)
    points = pd.DataFrame({"x": 1, "share": 0.1, "group": given})
    yield plots.scatter(points, "x", "share", "group", title="Two", xlabel="x")
    yield plots.image_grid(torch.ones(len(given), 2, 2), given, title="One")
    yield plots.contact_sheet(rows, found.images, 2, title="One")
    yield plots.neuron_heatmap(dict.fromkeys(given[-3:], torch.rand(4, 2)), title="One")
    yield plots.class_matrix(pd.DataFrame({given[0]: 0.5}, given), label="recall", **words)
    scores = {"answers_area": 0.5, "nuclear_norm": 0.5, "why": ""}
    yield Comparison(pd.DataFrame(scores, given), []).figure()


def test_figures_show_names_as_they_are_and_no_mathematics(found):
    """Text that they cannot show would raise while they are drawn, and characters warn."""
    with warnings.catch_warnings(action="error"):
        for figure in drawn_with(found, ODD):
            texts = [text.get_text() for text in figure.findobj(match=Text)]
            assert not any(map(is_math_text, texts))
            assert all(len(text) < 120 for text in texts)


def test_figures_of_odd_names_are_drawn_without_a_word(found):
    with warnings.catch_warnings(action="error"):
        for figure in drawn_with(found, [ODD[30], *LONG[2:], *ODD[-5:]]):
            figure.savefig(io.BytesIO(), dpi=20)


def test_a_group_with_an_underscore_is_in_the_legend():
    figure = plots.lines({"_hidden": [1, 2]}, title="", xlabel="x", ylabel="y")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["_hidden"]


@pytest.mark.parametrize("reason", ["```", ":::", "<img src=x>", "{{ x }}", "    # a", "\x0b```\n"])
def test_why_a_chapter_failed_stays_inside_its_note(reason):
    from markdown_it import MarkdownIt

    source = build.failure(f"Error\n{reason}", "There is none.").source
    inside = source.partition("\n\n")[2].removesuffix("\n:::")
    [token] = MarkdownIt().parse(inside)
    assert token.type == "code_block"


def test_a_name_cannot_control_the_terminal(capsys):
    assert main(["nowhere\x1b]0;title\x07\x9b31m\ud800.pt2", "images\x1b[2J\nmore"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.rstrip("\n").isprintable()


@pytest.mark.parametrize("most", range(1, 9))
def test_a_cut_name_is_as_long_as_it_may_be(most):
    assert len(names.cut("x" * 50, most)) == most == len(names.readable("\n" * 50, most))
    assert names.cut("x" * most, most) == "x" * most
