"""Findings, shown again: a number from a table of evidence beside the one that this page has just computed.

A *law* holds on every machine and is asserted. A *finding* is what was measured: it depends on rounding, threads,
processor and versions. So a page draws findings from a table, computes some of them again, and `recheck` shows both. Where
they are apart the page says so and goes on; `make book` lists all that are.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import pandas as pd

from ..explorer import profile
from .data import Dataset

WORDS = {
    "agrees": "This run agrees with the table.",
    "apart": "This run differs from the table: the text was written for the table, so read the live figures with care.",
    "not compared": "Not compared with the table: {why}.",
}


@dataclass(frozen=True, repr=False)
class Recheck:
    """A finding of a table beside this run's; shows itself as a note, and nothing stops if they are apart."""

    what: str  #: the finding, in words
    listed: dict  #: what the table says, by name
    live: dict  #: what this run gave, under the same names
    room: dict[str, float]  #: by how much the two may differ, by name
    reason: str = ""  #: why the two are not to be compared; empty if they are

    @property
    def apart(self) -> list[str]:
        """Names of the values that differ by more than the tolerance."""
        return [
            name
            for name in self.listed
            if not _near(self.listed[name], self.live[name], self.room[name])
        ]

    @property
    def status(self) -> str:
        """ "agrees", "apart", or "not compared"."""
        if self.reason:
            return "not compared"
        return "apart" if self.apart else "agrees"

    def pairs(self) -> list[str]:
        """Each value in words: "relu2: table 0.52 ± 0.02, here 0.53"."""
        words = []
        for name, listed in self.listed.items():
            head = f"{name}: " if name else ""
            room = f" ± {self.room[name]:.2g}" if _is_number(listed) and self.room[name] else ""
            mark = ", apart" if self.status == "apart" and name in self.apart else ""
            words.append(f"{head}table {_text(listed)}{room}, here {_text(self.live[name])}{mark}")
        return words

    def __repr__(self):
        return f"{self.what}: {self.status} ({'; '.join(self.pairs())})"

    def _repr_html_(self) -> str:
        verdict = WORDS[self.status].format(why=self.reason)
        values = "; ".join(self.pairs())
        text = f"<strong>{html.escape(verdict)}</strong> {html.escape(self.what)}: {html.escape(values)}."
        return (
            f'<p class="peek-note peek-recheck" data-recheck="{self.status}" data-what="{html.escape(repr(self))}">'
            f"{text}</p>"
        )


def recheck(
    what: str, table, live, *, within=0.0, relative=0.0, data: Dataset | None = None
) -> Recheck:
    """A finding of a table of evidence beside what this page has just computed.

    Args:
        what: the finding, in a few words without a full stop: "RMSE at rank 30".
        table: what the table says: a number, a truth value, a word; or several, as a dict or Series by name.
        live: what this run gave, in the same form. If it has fewer names, only those are compared.
        within: the two agree if they differ by at most this much; one number, or a dict or Series by name …
        relative: … or by at most this share of the table's value, whichever is more; in the same form.
        data: what this page ran on; on a stand-in, and in the embedded profile, the two are shown and not compared.

    Raises:
        ValueError: if the live values have names that the table has not, or there is nothing to compare, or a name
            has no tolerance, or a negative one.
        TypeError: for values that are no numbers, truth values or words.

    Example:
        >>> recheck("accuracy", 0.95, 0.94, within=0.02)
        accuracy: agrees (table 0.95 ± 0.02, here 0.94)
        >>> recheck("in order", True, False).status
        'apart'
    """
    listed, live = _named(table), _named(live)
    missing = [name for name in live if name not in listed]
    if missing or not live:
        raise ValueError(f"live values {missing or 'are none'}; the table has {list(listed)}")
    reason = ""
    if data is not None and data.stand_in_for:
        reason = f"this page ran on {data.name}, the table on {data.stand_in_for}"
    elif profile() == "embedded":
        reason = "this page ran in its small version"
    listed = {name: listed[name] for name in live}
    within, relative = (_for_each(live, tolerance) for tolerance in (within, relative))
    room = {name: max(within[name], relative[name] * _size(listed[name])) for name in live}
    return Recheck(what, listed, live, room, reason)


def _for_each(names, tolerance) -> dict[str, float]:
    """The tolerance of each name. Raises ValueError if some have none."""
    if not isinstance(tolerance, Mapping | pd.Series):
        tolerance = dict.fromkeys(names, float(tolerance))
    found = _named(tolerance)
    if not all(room >= 0 for room in found.values()):
        raise ValueError(f"tolerances are {found}; none can be negative or NaN")
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"no tolerance for {missing}; there are some for {list(found)}")
    return found


def _size(value) -> float:
    return abs(value) if _is_number(value) and math.isfinite(value) else 0.0


def _near(listed, live, room: float) -> bool:
    if not (_is_number(listed) and _is_number(live)):
        return listed == live
    return math.isclose(listed, live, rel_tol=0, abs_tol=room) or (
        math.isnan(listed) and math.isnan(live)
    )


def _named(values) -> dict:
    """One value or several, by name, as plain Python objects. Raises TypeError, ValueError for other things."""
    if not isinstance(values, Mapping | pd.Series):
        values = {"": values}
    found = {
        _label(name): value.item() if getattr(value, "ndim", 1) == 0 else value
        for name, value in values.items()
    }
    if len(found) < len(values):
        raise ValueError(
            f"names occur twice in {list(map(_label, values.keys()))}; give each value a name of its own"
        )
    for name, value in found.items():
        if not isinstance(value, Real | str):
            raise TypeError(
                f"{name or 'the value'} is a {type(value).__name__}; give numbers, truth values or words"
            )
    return found


def _label(name) -> str:
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _is_number(value) -> bool:
    return not isinstance(value, str | bool)


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if _is_number(value) else str(value)
