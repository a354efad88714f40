"""Tables of what many networks and many seeds gave, the same for every reader.

Each is a CSV file beside this one, in tidy form, with a JSON file that says how it was made.
"""

import json
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The tables there are.

    Returns:
        What `table` takes, in alphabetical order.

    Example:
        >>> "cases" in names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def table(name: str) -> pd.DataFrame:
    """A table of evidence, such as "cases".

    What a row stands for, and its columns, are described where it is made.

    Returns:
        Its rows, as in the CSV file; `order` stays text, for its zeros in front.

    Raises:
        KeyError: for an unknown name; lists those there are.

    Example:
        >>> table("cases").study.unique().tolist()
        ['data', 'classes', 'order', 'untrained']
    """
    if name not in names():
        raise KeyError(f"no table {name!r}; there are {names()}")
    return pd.read_csv(FOLDER / f"{name}.csv", dtype={"order": str})


def how(name: str) -> dict:
    """How a table was made: command, commit, versions ("pins"), device, data, date.

    Of a study also its seeds and minutes: wall time on a machine that did other things too.

    Returns:
        What the JSON file says, by name.

    Raises:
        KeyError: for an unknown name; lists those there are.

    Example:
        >>> how("cases")["seeds"]
        [0, 1, 2, 3, 4]
    """
    known = sorted(path.stem for path in FOLDER.glob("*.json"))
    if name not in known:
        name = name.partition("-")[0]  # "bench-curves" and others are of one run
    if name not in known:
        raise KeyError(f"no table {name!r} says how it was made; there are {known}")
    return json.loads((FOLDER / f"{name}.json").read_text())
