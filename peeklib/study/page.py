"""A report as HTML: templates beside this file, filled with pictures, tables and escaped text.

`report.html` is the saved page, `sections.html` what a notebook shows too, `report.css` the look.
"""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

import pandas as pd

PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
SECTIONS = Path(__file__).with_name("sections.html").read_text(encoding="utf-8")
STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


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
    return PAGE.substitute(title=escape(title), style=STYLE, sections=sections)


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
    head = f"<style>\n{STYLE}</style>\n<h2>{escape(title)}</h2>"
    return f'<div class="peek-report">\n{head}\n{sections}</div>'


def escape(text) -> str:
    """Anything as text that HTML shows as it is.

    Returns:
        Its `str` in HTML.

    Example:
        >>> escape("1 < 2")
        '1 &lt; 2'
    """
    return html.escape(str(text))


def notes_section(notes: Iterable[str]) -> str:
    """The notes as a list under a heading.

    Returns:
        HTML, with the notes escaped; nothing if there are none.

    Example:
        >>> notes_section(["1 < 2"])
        '<section><h2>Notes</h2><ul><li>1 &lt; 2</li></ul></section>'
    """
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
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
        head += f'<th scope="col" class="peek-short">{escape(name)}</th>'
    body = ""
    for name, values in zip(rows.index, rows.to_numpy(), strict=True):
        body += f'<tr><th scope="row" class="{_class(name)}">{escape(name)}</th>'
        for value, is_numeric in zip(values, numeric, strict=True):
            look = "peek-n" if is_numeric else _class(value)
            body += f'<td class="{look}">{escape(value)}</td>'
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
