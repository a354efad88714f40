"""Names of layers, classes and files: other people's text, as pages and figures can show it.

Any string can be such a name, of any length, with markup, mathematics, line breaks, or characters
that no font has and no file can hold. Where a character cannot be shown it is written as Python
writes it, such as `\\u202e`.
"""

import functools
import html
import re

# Controls but for tab and line feed, halves of pairs, and what is no character at all.
UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def cut(text: str, most: int) -> str:
    """A text of `most` characters or fewer; of a longer one both ends, where names differ.

    Returns:
        The text, or its ends and an ellipsis.

    Example:
        >>> cut("features.denseblock4.relu2", 15)
        'feature…4.relu2'
    """
    if len(text) <= most:
        return text
    end = most // 2
    return f"{text[: most - end - 1]}…{text[len(text) - end :]}"


def readable(name, most: int = 60) -> str:
    """A name inside a sentence: on one line, cut if it is long, with nothing invisible in it.

    Returns:
        Characters that Python calls printable.

    Example:
        >>> readable("two\\nlines"), readable("fc\\u200b")
        ('two\\\\nlines', 'fc\\\\u200b')
    """
    shown = [char if char.isprintable() else _escaped(char) for char in str(name)]
    return cut("".join(shown), most)


def literal(name, most: int = 44) -> str:
    """A name in a figure: as `readable`, of characters that the font has, and no mathematics.

    Returns:
        What matplotlib shows as it stands: dollar signs have a backslash before them.

    Example:
        >>> print(literal("$x$"), literal("\\u5377"))
        \\$x\\$ \\u5377
    """
    known = _characters()
    drawn = [char if ord(char) in known else _escaped(char) for char in readable(name, most)]
    return cut("".join(drawn), most).replace("$", r"\$")


@functools.cache
def _characters() -> frozenset[int]:
    """Those of the font that matplotlib brings along, and falls back on."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return frozenset(font.get_charmap())


def shown(text) -> str:
    """Anything as text that can be printed, and that a file in UTF-8 and a page of HTML can hold.

    Names of files may hold bytes that are no characters.

    Returns:
        Its `str`, with escapes for other characters.

    Example:
        >>> shown("a\\0b")
        'a\\\\x00b'
    """
    return UNFIT.sub(lambda found: _escaped(found[0]), str(text))


def escape(text) -> str:
    """Anything as HTML that shows its text.

    Returns:
        Its `str`, fit for an element and for an attribute in quotes.

    Example:
        >>> escape('1 < "2"')
        '1 &lt; &quot;2&quot;'
    """
    return html.escape(shown(text))


def brief(text, most: int = 100) -> str:
    """Anything as HTML that shows its text, cut if it is long; a tooltip has the whole.

    Returns:
        HTML: text, or a `<span>`.

    Example:
        >>> brief("one, two, three", most=9)
        '<span title="one, two, three">one,…hree</span>'
    """
    if len(str(text)) <= most:
        return escape(text)
    return f'<span title="{escape(text)}">{escape(cut(str(text), most))}</span>'


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
