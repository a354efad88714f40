"""Findings, shown again: a number from a table beside the one that this page has just computed.

A *law* holds on every machine and is asserted. A *finding* is what was measured: it depends on
rounding, threads, processor and versions. So a page draws findings from a table, computes some of
them again, and `recheck` shows both. Where they are apart the page says so and goes on; `make book`
lists all that are.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import pandas as pd

from ..explorer import profile
from .data import Dataset

VERDICTS = {
    "agrees": "This run agrees with the table.",
    "apart": (
        "This run differs from the table: the text was written for the table, "
        "so read the live figures with care."
    ),
    "not compared": "Not compared with the table: {why}.",
}


@dataclass(frozen=True, repr=False)
class Recheck:
    """A finding of a table beside this run's; shows itself as a note, also where they are apart.

    Example:
        >>> listed, live = {"relu1": 0.3, "relu2": 0.1}, {"relu1": 0.3, "relu2": 0.2}
        >>> found = Recheck("error", listed, live, room={"relu1": 0.01, "relu2": 0.01})
        >>> found.status, found.apart
        ('apart', ['relu2'])
    """

    what: str  #: the finding, in words
    listed: dict  #: what the table says, by name
    live: dict  #: what this run gave, under the same names
    room: dict[str, float]  #: by how much the two may differ, by name
    reason: str = ""  #: why the two are not to be compared; empty if they are

    @property
    def apart(self) -> list[str]:
        """Names of the values that differ by more than the tolerance.

        Returns:
            Empty if none does.
        """
        return [name for name in self.listed if not self._agree(name)]

    def _agree(self, name: str) -> bool:
        listed, live = self.listed[name], self.live[name]
        if not (_is_number(listed) and _is_number(live)):
            return listed == live
        if math.isnan(listed) and math.isnan(live):
            return True
        return math.isclose(listed, live, rel_tol=0, abs_tol=self.room[name])

    @property
    def status(self) -> str:
        """How the two compare, in a word or two.

        Returns:
            "agrees", "apart", or "not compared" where there is a reason.
        """
        if self.reason:
            return "not compared"
        return "apart" if self.apart else "agrees"

    def pairs(self) -> list[str]:
        """Each value in words.

        Returns:
            One text for each, such as "relu2: table 0.52 ± 0.02, here 0.53".

        Example:
            >>> Recheck("images", {"": 6000}, {"": 6000}, room={"": 0.0}).pairs()
            ['table 6,000, here 6,000']
        """
        return [self._pair(name) for name in self.listed]

    def _pair(self, name: str) -> str:
        words = f"table {_in_words(self.listed[name])}"
        if _is_number(self.listed[name]) and self.room[name]:
            words += f" ± {self.room[name]:.2g}"
        words += f", here {_in_words(self.live[name])}"
        if self.status == "apart" and name in self.apart:
            words += ", apart"
        return f"{name}: {words}" if name else words

    def __repr__(self):
        return f"{self.what}: {self.status} ({'; '.join(self.pairs())})"

    def _repr_html_(self) -> str:
        verdict = html.escape(VERDICTS[self.status].format(why=self.reason))
        what = html.escape(self.what)
        values = html.escape("; ".join(self.pairs()))
        data = f'data-recheck="{self.status}" data-what="{html.escape(repr(self))}"'
        note = f"<strong>{verdict}</strong> {what}: {values}."
        return f'<p class="peek-note peek-recheck" {data}>{note}</p>'


def recheck(
    what: str, table, live, *, within=0.0, relative=0.0, data: Dataset | None = None
) -> Recheck:
    """A finding of a table of evidence beside what this page has just computed.

    Args:
        what: the finding, in a few words without a full stop: "RMSE at rank 30".
        table: what the table says: a number, a truth value, a word; or several, as a dict or Series
            by name.
        live: what this run gave, in the same form. If it has fewer names, only those are compared.
        within: the two agree if they differ by at most this much; one number, or a dict or Series
            by name …
        relative: … or by at most this share of the table's value, whichever is more; in the same
            form.
        data: what this page ran on; on a stand-in, and in the embedded profile, the two are shown
            and not compared.

    Returns:
        What shows itself as a note on the page, with its `status`.

    Raises:
        ValueError: if the live values have names that the table has not, or there is nothing to
            compare, or a name has no tolerance, or a negative one.
        TypeError: for values that are no numbers, truth values or words.

    Example:
        >>> import peeklib as pk
        >>> pk.recheck("accuracy", 0.95, 0.94, within=0.02).pairs()
        ['table 0.95 ± 0.02, here 0.94']
        >>> pk.recheck("error", {"relu1": 0.3, "relu2": 0.1}, {"relu1": 0.3, "relu2": 0.2}).apart
        ['relu2']
    """
    in_table = _by_name(table)
    here = _by_name(live)
    missing = [name for name in here if name not in in_table]
    if missing or not here:
        raise ValueError(f"live values {missing or 'are none'}; the table has {list(in_table)}")
    listed = {name: in_table[name] for name in here}
    absolute = _tolerances(within, here)
    share = _tolerances(relative, here)
    room = {}
    for name, value in listed.items():
        size = abs(value) if _is_number(value) and math.isfinite(value) else 0.0
        room[name] = max(absolute[name], share[name] * size)
    return Recheck(what, listed, here, room, _why_not_compared(data))


def _why_not_compared(data: Dataset | None) -> str:
    if data is not None and data.stand_in_for:
        return f"this page ran on {data.name}, the table on {data.stand_in_for}"
    if profile() == "embedded":
        return "this page ran in its small version"
    return ""


def _tolerances(tolerance, names) -> dict[str, float]:
    """The tolerance of each name. Raises ValueError if some have none."""
    if not isinstance(tolerance, Mapping | pd.Series):
        tolerance = dict.fromkeys(names, float(tolerance))
    found = _by_name(tolerance)
    if not all(room >= 0 for room in found.values()):
        raise ValueError(f"tolerances are {found}; none can be negative or NaN")
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"no tolerance for {missing}; there are some for {list(found)}")
    return found


def _by_name(values) -> dict:
    """One value or several, by name, as plain Python objects.

    Raises:
        ValueError: for names that occur twice.
        TypeError: for other things than numbers, truth values and words.
    """
    if not isinstance(values, Mapping | pd.Series):
        values = {"": values}
    found = {}
    for key, value in values.items():
        name = ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)
        if name in found:
            raise ValueError(f"names occur twice, {name!r} does; give each value a name of its own")
        if getattr(value, "ndim", 1) == 0:
            value = value.item()
        if not isinstance(value, Real | str):
            kind = type(value).__name__
            raise TypeError(
                f"{name or 'the value'} is a {kind}; give numbers, truth values or words"
            )
        found[name] = value
    return found


def _is_number(value) -> bool:
    return not isinstance(value, str | bool)


def _in_words(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if _is_number(value) else str(value)
