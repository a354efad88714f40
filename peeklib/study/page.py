"""A report as HTML: templates beside this file, filled with pictures, tables and escaped text.

`report.html` is the saved page, `sections.html` what a notebook shows too, `report.css` the look of
both and `page.css` that of the page around. The saved page has a content-security policy, in which
a browser finds the hashes of our script and styles: it runs nothing else, and loads nothing at all.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

import pandas as pd

from .. import playground
from ..explorer import SCRIPT, STYLES
from ..names import brief, escape
from ..secure import digest, policy


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


PAGE = Template(_beside("report.html"))
SECTIONS = _beside("sections.html")
STYLE = _beside("report.css")
PAGE_STYLE = f"{_beside('page.css')}\n{STYLE}"
# MathJax, which a page around may have, passes over what is in these classes.
FRAGMENT = '<div class="peek-report mathjax_ignore tex2jax_ignore">'
LONG = 1000  # characters of a sentence or an error; more are cut
HEADING = 200


POLICY = policy(
    {
        "default-src": "'none'",
        "img-src": "data:",
        "script-src": " ".join(map(digest, [SCRIPT, playground.SCRIPT])),
        "style-src": " ".join(
            ["'unsafe-hashes'", *map(digest, [PAGE_STYLE, playground.STYLE, *STYLES])]
        ),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
)


def whole_page(title: str, parts: Mapping[str, str]) -> str:
    """The saved file. `parts` fill the places in `sections.html`: HTML, with its text escaped.

    Returns:
        HTML that needs no other file, if the parts do not.

    Example:
        >>> from collections import defaultdict
        >>> "A &amp; B" in whole_page("A & B", defaultdict(str))
        True
    """
    sections = Template(SECTIONS).substitute(parts)
    places = {"title": escape(title), "heading": brief(title, HEADING)}
    return PAGE.substitute(places, policy=POLICY, style=PAGE_STYLE, sections=sections)


def fragment(title: str, parts: Mapping[str, str]) -> str:
    """The same for a notebook, which has a page around it: no body, and headings a level lower.

    Returns:
        HTML of one `<div>`, with its style.

    Example:
        >>> from collections import defaultdict
        >>> "<h2>A &amp; B</h2>" in fragment("A & B", defaultdict(str))
        True
    """
    sections = Template(SECTIONS).substitute(parts)
    sections = sections.replace("<h2>", "<h3>").replace("</h2>", "</h3>")  # no text has tags
    head = f"<style>\n{STYLE}</style>\n<h2>{brief(title, HEADING)}</h2>"
    return f"{FRAGMENT}\n{head}\n{sections}</div>"


def notes_section(notes: Iterable[str]) -> str:
    """The notes as a list under a heading.

    Returns:
        HTML, with the notes escaped; nothing if there are none.

    Example:
        >>> notes_section(["1 < 2"])
        '<section><h2>Notes</h2><ul><li>1 &lt; 2</li></ul></section>'
    """
    items = "".join(f"<li>{brief(note, LONG)}</li>" for note in notes)
    return f"<section><h2>Notes</h2><ul>{items}</ul></section>" if items else ""


def table(rows: pd.DataFrame, caption: str) -> str:
    """A table of texts, in a box of its own that scrolls; columns of numbers stand on the right.

    Returns:
        HTML, with all text escaped.

    Example:
        >>> rows = pd.DataFrame({"error": ["0.5"]}, index=["relu"])
        >>> '<td class="peek-n">0.5</td>' in table(rows, "Errors")
        True
    """
    numeric = [all(_is_number(value) for value in rows[name]) for name in rows]
    corner = rows.index.name or "setting"
    head = ""
    for name in (corner, *rows.columns):
        head += f'<th scope="col" class="peek-short">{brief(name)}</th>'
    body = ""
    for name, values in zip(rows.index, rows.to_numpy(), strict=True):
        body += f'<tr><th scope="row" class="{_class(name)}">{brief(name)}</th>'
        for value, is_numeric in zip(values, numeric, strict=True):
            look = "peek-n" if is_numeric else _class(value)
            body += f'<td class="{look}">{brief(value, LONG)}</td>'
        body += "</tr>\n"
    label = escape(caption)
    return (
        f'<div class="peek-scroll" role="region" aria-label="{label}" tabindex="0"><table>\n'
        f"<caption>{label}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table></div>"
    )


def _class(value: str) -> str:
    """Short texts stand on one line, and long ones are never squeezed."""
    return "peek-short" if len(str(value)) < 30 else "peek-long"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
