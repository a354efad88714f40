"""The built pages in a real browser, with no network: every slider moved, every width and theme looked at.

Needs a built book and Chromium. `make test` builds the embedded one, and visits its pages of prose and a few chapters that have
between them all kinds of things; with PEEK_SITE, the folder of another site, every page of that is visited. With PEEK_SHOTS, a folder,
a screenshot of each page lands there in both widths and themes.
"""

import functools
import http.server
import os
import sys
import threading
from pathlib import Path

import chromium
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import policy  # noqa: E402

SITE = Path(os.environ.get("PEEK_SITE", ROOT / "_build/embedded/_build/html"))
PAGES = sorted(
    str(p.relative_to(SITE))
    for part in ("book", "notebooks")
    for p in (SITE / part).rglob("*.html")
)
FEW = ("02-coupled-nmf", "07-how-shapes-travel", "11-your-own-network")
VISITED = [
    page
    for page in PAGES
    if "PEEK_SITE" in os.environ or page.startswith("book/") or Path(page).stem in FEW
]
SHOTS = os.environ.get("PEEK_SHOTS")
MISSING = [
    *(["no built book: run `make test`, which builds one"] if not PAGES else []),
    *chromium.MISSING,
]
PICTURES = """Promise.all([...document.querySelectorAll(".peek-figure img")].map(async e => {
    await e.decode();
    return {
        alt: e.alt.trim(),
        filter: getComputedStyle(e).filter,
        pixels: e.naturalWidth,
        fits: e.getBoundingClientRect().width <= innerWidth,
    };
}))"""
pytestmark = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("CI"), reason="; ".join(MISSING)
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def address():
    """The site served on this machine."""
    assert not MISSING, MISSING
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(address):
    with chromium.chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, address):
    """visit(page, width) opens a page; at the end nothing may have left the site or failed."""
    contexts, wrong = [], []

    def open_page(path, width=1280, javascript=True, base=address):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            has_touch=width < 500,
            java_script_enabled=javascript,
        )
        contexts.append(context)
        page = context.new_page()
        wrong.append(chromium.watched(page, (base,)))
        page.goto(f"{base}/{path}", wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not sum(wrong, []), "\n".join(sum(wrong, []))


def test_every_page_of_the_toc_is_built():
    built = {Path(page).stem for page in PAGES}
    toc = [
        line.split("/")[-1].strip()
        for line in (ROOT / "_toc.yml").read_text().splitlines()
        if "/" in line
    ]
    assert built >= set(toc)


def test_the_pages_that_are_visited_are_built():
    assert {Path(page).stem for page in PAGES} >= set(FEW)


@pytest.mark.parametrize("path", VISITED)
def test_a_page_and_its_sliders(visit, path):
    page = visit(path)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.wait_for_function(
                "theme => document.documentElement.dataset.theme === theme", arg=theme
            )
            if SHOTS:
                page.screenshot(
                    path=Path(SHOTS) / f"{Path(path).stem}-{width}-{theme}.png", full_page=True
                )
            scroll, client = page.evaluate(
                "(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(document.documentElement)"
            )
            assert scroll <= client, (width, theme)
            for picture in page.evaluate(PICTURES):
                assert picture["alt"], picture
                assert picture["filter"] == "none", "the theme's filter falsifies colour maps"
                assert picture["pixels"] > 100 and picture["fits"], (width, picture)
    assert page.locator("mjx-merror, .MathJax_Error").count() == 0
    if path.startswith("notebooks"):
        data_are_named(page)
    explorers = page.locator(".peek-explorer").all()
    assert explorers or Path(path).stem not in FEW
    for figure in explorers:
        sliders_work_by_keyboard(page, figure)
    assert path in page.url, "arrow keys must move the slider, not the reader"


def data_are_named(page):
    note = page.locator("[data-source]").first
    assert note.is_visible()
    stands_in = "peek-stand-in" in note.get_attribute("class")
    assert stands_in == (note.get_attribute("data-source") not in ("mnist", "cifar10"))
    assert stands_in == ("Stand-in" in note.inner_text())


def sliders_work_by_keyboard(page, figure):
    """Picture, alt text and value change from end to end."""
    image = figure.locator("img")
    for slider in figure.locator("input[type=range]").all():
        slider.focus()
        seen = []
        for key, end in (("Home", "min"), ("End", "max")):
            page.keyboard.press(key)
            assert slider.input_value() == slider.get_attribute(end)
            seen.append(
                (
                    image.get_attribute("src"),
                    image.get_attribute("alt"),
                    slider.get_attribute("aria-valuetext"),
                )
            )
            assert figure.locator("figcaption").inner_text() == image.get_attribute("alt")
        assert all(low != high for low, high in zip(*seen, strict=True)), (
            "picture, alt text and value must change"
        )
        page.keyboard.press("ArrowLeft")
        assert int(slider.input_value()) == int(slider.get_attribute("max")) - 1


def test_sliders_move_by_touch(visit):
    page = visit("notebooks/02-coupled-nmf.html", 390)
    slider = page.locator(".peek-explorer input[type=range]").first
    slider.scroll_into_view_if_needed()
    before, box = (
        page.locator(".peek-explorer img").first.get_attribute("src"),
        slider.bounding_box(),
    )
    page.touchscreen.tap(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    assert slider.input_value() == slider.get_attribute("max")
    assert page.locator(".peek-explorer img").first.get_attribute("src") != before


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)])
def test_welcome_opens_with_a_pad_to_draw_on(visit, width, height):
    page = visit("book/welcome.html", width)
    page.set_viewport_size({"width": width, "height": height})
    for what in (".peek-pad", ".peek-table"):
        box = page.locator(what).bounding_box()
        assert box["y"] + box["height"] < height, "drawing and answer are on the first screen"


def test_first_picture_shows_without_script(visit):
    page = visit("notebooks/02-coupled-nmf.html", javascript=False)
    assert page.locator(".peek-explorer img").first.is_visible()
    assert page.locator(".peek-explorer input").first.is_disabled()


def test_maths_is_typeset_without_network(visit):
    page = visit("notebooks/02-coupled-nmf.html")
    page.wait_for_selector("mjx-container svg")
    assert page.locator("mjx-container svg").count() > 10


def test_solutions_are_folded(visit):
    page = visit("notebooks/02-coupled-nmf.html")
    folded = page.locator("details.hide")
    assert folded.count() >= 3
    assert not any(folded.nth(k).get_attribute("open") for k in range(folded.count()))


def test_the_ledger_counts_its_claims_and_shows_those_chosen(visit):
    page = visit("book/ledger.html", 390)
    claims, counts = page.locator("dl.peek-claim"), page.locator("#ledger-summary td:last-child")
    counts.first.wait_for()
    assert sum(map(int, counts.all_inner_texts())) == claims.count() > 0
    page.select_option("#ledger-summary select[name=study]", "zhang")
    ids = claims.locator("visible=true").evaluate_all("boxes => boxes.map(box => box.id)")
    assert ids
    assert all(name.startswith("claim-zhang-") for name in ids)
    shown = page.locator("#ledger-summary output")
    assert shown.inner_text() == f"{len(ids)} of {claims.count()} claims shown"


# Under the policy

BASES = ["served", "file"]


@pytest.fixture(params=BASES)
def base(request, address):
    """Where the site is: served, or opened from a disk."""
    return address if request.param == "served" else SITE.resolve().as_uri()


def test_every_page_has_a_policy_and_no_script_that_it_forbids():
    for path in policy.pages(SITE):
        text = path.read_text(encoding="utf-8")
        found = policy.Inline(text)
        assert found.policies == 1, path.name
        assert path.name == "search.html" or {*found.body} <= {*policy.OURS}, path.name


def test_the_themes_buttons_work(visit, base):
    page = visit("notebooks/02-coupled-nmf.html", base=base)
    page.evaluate("window.print = () => { window.printed = true }")
    themes = []
    for _ in range(3):
        page.locator(".theme-switch-button").first.click()
        themes.append(page.evaluate("document.documentElement.dataset.mode"))
    assert {*themes} == {"light", "dark", "auto"}
    page.locator("button.copybtn").first.click(force=True)
    page.locator("button.copybtn.success").first.wait_for(state="attached")
    page.locator("details.hide summary").first.click()
    assert page.locator("details.hide").first.get_attribute("open") is not None
    page.locator("[onclick='window.print()']").evaluate("button => button.click()")
    assert page.evaluate("window.printed")
    page.locator("[onclick='toggleFullScreen()']").click()
    page.wait_for_function("document.fullscreenElement !== null")


def test_the_menu_opens_on_a_phone(visit, base):
    page = visit("book/notation.html", 390, base=base)
    page.locator(".primary-toggle").first.click()
    link = page.locator("#pst-primary-sidebar-modal a, #pst-primary-sidebar a").get_by_text(
        "ledger"
    )
    link.first.click()
    page.wait_for_url("**/ledger.html")
    assert page.locator("article h1").inner_text().startswith("The ledger")


def test_a_search_from_any_page_finds_pages(visit):
    page = visit("book/notation.html")
    page.locator(".search-button__button").first.click()
    page.locator("#pst-search-dialog input").fill("symbol")
    page.keyboard.press("Enter")
    page.locator("#search-results li a").first.wait_for()
    assert "search.html?q=symbol" in page.url


def test_what_got_into_a_page_does_not_run(browser, base):
    """An output of a notebook with markup that a name brought."""
    evil = (
        "<script>window.hit = 1</script><img src='data:,x' onerror='window.hit = 1'>"
        "<script src=https://evil.example/a.js></script><img src=https://evil.example/a.png>"
        "<link rel=stylesheet href=https://evil.example/a.css>"
        "<iframe src=https://evil.example></iframe><object data=https://evil.example></object>"
        "<base href=https://evil.example>"
    )
    page = browser.new_page()
    address = f"{base}/notebooks/02-coupled-nmf.html"
    text = (SITE / "notebooks/02-coupled-nmf.html").read_text(encoding="utf-8")
    place = text.index("<article")
    whole = text[:place] + evil + text[place:]
    page.route(address, lambda route: route.fulfill(body=whole, content_type="text/html"))
    stopped = chromium.stopped(page)
    page.goto(address, wait_until="networkidle")
    page.evaluate("fetch('https://evil.example').catch(() => {})")
    page.evaluate("setTimeout('window.hit = 1')")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    assert len(stopped) >= 3 and {*stopped.values()} == {"csp"}, stopped
    assert page.locator(".peek-explorer input:enabled").count()
    page.close()
