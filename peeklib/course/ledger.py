"""How a chapter reports what it found about a claim of the two studies.

The claims are those of Saini & Papalexakis (2018), and of Zhang (2015), whose names begin with
"zhang-"; they stand in `claims.toml`, each with the parts of our criterion. A chapter measures,
hands in one truth value for each part, and gets a `Finding`, which shows itself. The page `ledger`
collects the findings.
"""

import html
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .data import Dataset


class Claim(NamedTuple):
    """One accuracy, figure or sentence of a study, and the parts of our criterion.

    Example:
        >>> CLAIMS["updates"].where, len(CLAIMS["updates"].parts)
        ('section 2.1, update rules', 2)
    """

    where: str  #: the place in the study
    says: str  #: what it claims, paraphrased
    parts: tuple[str, ...]  #: what has to hold


def _read_claims() -> dict[str, Claim]:
    text = Path(__file__).with_name("claims.toml").read_text(encoding="utf-8")
    claims = {}
    for name, entry in tomllib.loads(text).items():
        claims[name] = Claim(entry["where"], entry["says"], tuple(entry["parts"]))
    return claims


CLAIMS = _read_claims()
STYLES = {"reproduced": "yes", "partly": "partly", "not reproduced": "no"}  # `data-verdict` in CSS


@dataclass(frozen=True, repr=False)
class Finding:
    """What a chapter found about one claim; shows itself as a box of HTML.

    Example:
        >>> Finding("updates", (True, True), "It fell.", "02-coupled-nmf", stand_in="digits")
        updates: no verdict on digits. It fell.
    """

    name: str  #: key of `CLAIMS`
    holds: tuple[bool, ...]  #: whether each part of the criterion holds, in order
    measured: str  #: the numbers behind that, in words
    chapter: str  #: the notebook, without its suffix
    stand_in: str | None = None  #: the data it ran on, where that is not the study's

    @property
    def verdict(self) -> str:
        """What we say of the claim.

        On stand-in data there is no verdict, and this says so.

        Returns:
            "reproduced" if all parts hold, "not reproduced" if none does, else "partly".

        Example:
            >>> Finding("updates", (True, False), "It fell.", "02-coupled-nmf").verdict
            'partly'
        """
        if self.stand_in:
            return f"no verdict on {self.stand_in}"
        if all(self.holds):
            return "reproduced"
        if any(self.holds):
            return "partly"
        return "not reproduced"

    def __repr__(self):
        return f"{self.name}: {self.verdict}. {self.measured}"

    def _repr_mimebundle_(self, **_):
        """HTML, under a name by which another page can show it too."""
        data = {"text/plain": repr(self), "text/html": self.to_html()}
        return data, {"scrapbook": {"name": f"claim-{self.name}", "mime_prefix": ""}}

    def to_html(self) -> str:
        """The box that a page shows, as text of HTML.

        Returns:
            A definition list: the claim, our criterion by parts, our measurement, the verdict.

        Example:
            >>> finding = Finding("updates", (True, False), "x < y", "02-coupled-nmf")
            >>> "x &lt; y" in finding.to_html()
            True
        """
        claim = CLAIMS[self.name]
        parts = ""
        for part, held in zip(claim.parts, self.holds, strict=True):
            parts += f"<li>{'✓' if held else '✗'} {html.escape(part)}</li>"
        target = html.escape(f"../notebooks/{self.chapter}.html#claim-{self.name}")
        rows = {
            f"The study says ({claim.where})": html.escape(claim.says),
            "Our criterion": f"<ul>{parts}</ul>",
            "We measure": html.escape(self.measured),
            "Verdict": f'<a href="{target}">{html.escape(self.verdict)}</a>',
        }
        cells = ""
        for head, text in rows.items():
            cells += f"<div><dt>{html.escape(head)}</dt><dd>{text}</dd></div>"
        style = STYLES.get(self.verdict, "none")
        attributes = f'class="peek-claim" data-verdict="{style}" id="claim-{self.name}"'
        return f"<dl {attributes}>{cells}</dl>"


def judge(
    name: str, holds: Sequence[bool], measured: str, *, chapter: str, data: Dataset | None
) -> Finding:
    """The finding for one claim.

    Args:
        name: key of `CLAIMS`.
        holds: whether each part of its criterion holds, in order.
        measured: the numbers behind that, with their spread, in words.
        chapter: name of the notebook, without its suffix.
        data: what was measured on; a stand-in gets no verdict. None if the numbers come from a
            table of evidence.

    Returns:
        What shows itself as a box on the page, with its `verdict`.

    Raises:
        KeyError: for an unknown claim.
        ValueError: for another number of parts than the criterion has.

    Example:
        >>> import peeklib as pk
        >>> holds = [True, False]
        >>> pk.judge("updates", holds, "It fell.", chapter="02-coupled-nmf", data=None)
        updates: partly. It fell.
    """
    if name not in CLAIMS:
        raise KeyError(f"no claim {name!r}; there are {list(CLAIMS)}")
    parts = CLAIMS[name].parts
    held = tuple(map(bool, holds))
    if len(held) != len(parts):
        raise ValueError(f"claim {name!r} has {len(parts)} parts, not {len(held)}: {parts}")
    stand_in = data.name if data is not None and data.stand_in_for else None
    return Finding(name, held, measured, chapter, stand_in)


def by_seed(table: pd.DataFrame, column: str, **where) -> pd.Series:
    """One column of a table of evidence, a value for each seed.

    Args:
        table: with a column `seed`.
        column: which one.
        where: the rows to take: those in which other columns have these values.

    Returns:
        The values by seed, in its order.

    Raises:
        ValueError: if that leaves no row, or several of one seed.

    Example:
        >>> table = pd.DataFrame({"seed": [1, 0, 1], "rank": [5, 5, 9], "rmse": [0.3, 0.2, 0.1]})
        >>> by_seed(table, "rmse", rank=5).to_dict()
        {0: 0.2, 1: 0.3}
    """
    for name, value in where.items():
        table = table.loc[table[name] == value]
    found = pd.Series(table.set_index("seed")[column]).sort_index()
    if found.empty or not found.index.is_unique:
        seeds = found.index.nunique()
        raise ValueError(f"{where} leaves {len(found)} rows for {seeds} seeds; name one for each")
    return found


def spread(values: pd.Series, form: str = ".2f") -> str:
    """Mean and range in words; `form` is the format of each number.

    Returns:
        Such as '0.85 (0.80 to 0.90)'.

    Example:
        >>> spread(pd.Series([0.8, 0.9]))
        '0.85 (0.80 to 0.90)'
    """
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"
