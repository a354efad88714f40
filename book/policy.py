"""What the built pages may load and run: a content-security policy in the head of each.

Nothing from elsewhere. Of scripts, the files of the site, those inline that Sphinx and the theme
write into a page's head, and our sliders. What came out of a notebook stands further down, so a
script that got in there, by the name of a layer or by the words of an error, does not run. Inline
styles are let through: tables of pandas and MathJax bring theirs.

A page that is opened as a file has no origin of its own in some browsers, hence `file:`. That is
wider than the site: markup that got into such a page could load a script from another folder, on
Windows also from a machine in the network that shares one (`file://machine/…`).
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from peeklib import playground, storage
from peeklib import secure as headers
from peeklib.explorer import SCRIPT

OURS = (SCRIPT, playground.SCRIPT)  # of Explorers and Playgrounds
HANDLERS = ("window.print()", "toggleFullScreen()")  # of the theme's buttons
DATA = ("application/json", "application/vnd.jupyter.widget-view+json")  # scripts that are none
SITE = "'self' file:"
CHARSET = re.compile(r'<meta charset="utf-8" ?/?>')


class Inline(HTMLParser):
    """The text of each script that has no file, in the head and below it; how many policies."""

    def __init__(self, page: str):
        super().__init__()
        self.head: list[str] = []
        self.body: list[str] = []
        self.policies = 0
        self._scripts = self.head
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._scripts = self.body
        given = dict(attrs)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policies += 1
        if tag == "script" and "src" not in given and given.get("type") not in DATA:
            self._open = True
            self._scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self._scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = False


def secure(site: Path) -> None:
    """Write its policy into every page of a built site."""
    for path in pages(site):
        page = path.read_text(encoding="utf-8")
        storage.write(path, with_policy(page, path.name).encode())


def pages(site: Path) -> Iterator[Path]:
    """The pages of a site; the theme keeps templates that look like some."""
    for path in sorted(site.rglob("*.html")):
        if "_static" not in path.relative_to(site).parts:
            yield path


def with_policy(page: str, name: str) -> str:
    """A page of the site, whose file is called `name`, with its policy ahead of all that it rules."""
    found = Inline(page)
    scripts = [*OURS, *found.head]
    if name == "search.html":  # it shows nothing of a notebook
        scripts += found.body
    meta = f"\n    {policy(scripts)}"
    charset = CHARSET.search(page)
    place = charset.end() if charset else 0
    return page[:place] + meta + page[place:]


def policy(scripts: list[str]) -> str:
    """The policy of a page with these inline scripts, as an element."""
    allowed = " ".join(dict.fromkeys(map(headers.digest, [*scripts, *HANDLERS])))
    return headers.policy(
        {
            "default-src": "'none'",
            "script-src": f"{SITE} 'unsafe-hashes' {allowed}",
            "style-src": f"{SITE} 'unsafe-inline'",
            "img-src": f"{SITE} data:",
            "font-src": f"{SITE} data:",
            "connect-src": SITE,
            "form-action": SITE,
            "base-uri": "'none'",
        }
    )
