"""Findings, shown again: a number from a table of evidence beside the one that this page has just computed.

A *law* holds on every machine and is asserted. A *finding* is what was measured: it depends on rounding, threads,
processor and versions. So a page draws findings from a table, computes some of them again, and `recheck` shows both. Where
they are apart the page says so and goes on; `make book` lists all that are.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ..data import Dataset, profile

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
    within: float  #: the tolerance, absolute
    relative: float  #: the tolerance, as a share of the table's value
    reason: str = ""  #: why the two are not to be compared; empty if they are

    @property
    def apart(self) -> list[str]:
        """Names of the values that differ by more than the tolerance."""
        return [name for name in self.listed if not self._near(self.listed[name], self.live[name])]

    @property
    def status(self) -> str:
        """ "agrees", "apart", or "not compared"."""
        if self.reason:
            return "not compared"
        return "apart" if self.apart else "agrees"

    def _near(self, listed, live) -> bool:
        if isinstance(listed, str | bool) or isinstance(live, str | bool):
            return listed == live
        room = max(self.within, self.relative * abs(listed))
        return math.isclose(listed, live, rel_tol=0, abs_tol=room) or (math.isnan(listed) and math.isnan(live))

    @property
    def tolerance(self) -> str:
        """The tolerance in words; empty if there are no numbers."""
        if not any(_is_number(value) for value in self.listed.values()):
            return ""
        parts = [f"{self.within:g}"] if self.within else []
        parts += [f"{self.relative:.0%} of the table's"] if self.relative else []
        return "within " + (" or ".join(parts) or "rounding")

    def pairs(self) -> list[str]:
        """Each value in words: "relu2: table 0.52, here 0.53"."""
        heads = {name: f"{name}: " if name else "" for name in self.listed}
        return [
            f"{heads[name]}table {_text(self.listed[name])}, here {_text(self.live[name])}"
            + (", apart" if self.status == "apart" and name in self.apart else "")
            for name in self.listed
        ]

    def __repr__(self):
        return f"{self.what}: {self.status} ({'; '.join(self.pairs())})"

    def _repr_html_(self) -> str:
        verdict = WORDS[self.status].format(why=self.reason)
        head = ", ".join(filter(None, (self.what, self.tolerance)))
        text = f"<strong>{html.escape(verdict)}</strong> {html.escape(head)}: {html.escape('; '.join(self.pairs()))}."
        return (
            f'<p class="peek-note peek-recheck" data-recheck="{self.status}" data-what="{html.escape(repr(self))}">'
            f"{text}</p>"
        )


def recheck(
    what: str, table, live, *, within: float = 0.0, relative: float = 0.0, data: Dataset | None = None
) -> Recheck:
    """A finding of a table of evidence beside what this page has just computed.

    Args:
        what: the finding, in a few words without a full stop: "RMSE at rank 30".
        table: what the table says: a number, a truth value, a word; or several, as a dict or Series by name.
        live: what this run gave, in the same form. If it has fewer names, only those are compared.
        within: the two agree if they differ by at most this much …
        relative: … or by at most this share of the table's value, whichever is more.
        data: what this page ran on; on a stand-in, and in the embedded profile, the two are shown and not compared.

    Raises:
        ValueError: if the live values have names that the table has not, or there is nothing to compare.

    Example:
        >>> recheck("accuracy", 0.95, 0.94, within=0.02)
        accuracy: agrees (table 0.95, here 0.94)
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
    return Recheck(what, {name: listed[name] for name in live}, live, within, relative, reason)


def _named(values) -> dict:
    """One value or several, by name, as plain Python objects."""
    if not isinstance(values, Mapping | pd.Series):
        values = {"": values}
    return {_label(name): value.item() if hasattr(value, "item") else value for name, value in values.items()}


def _label(name) -> str:
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _is_number(value) -> bool:
    return not isinstance(value, str | bool)


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if _is_number(value) else str(value)
