"""Heavy evidence: the tables of `peeklib.course.evidence`, made anew.

`python book/evidence.py [study …]` (`make evidence`) runs the studies of `peeklib.course.studies`
that are named, or all of them. A study writes `<study>.csv`, and `<study>.json`, which says how the
table was made.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import peeklib as pk
from peeklib import storage
from peeklib.course.studies import STUDIES
from peeklib.course.studies.common import load
from peeklib.solvers import all_or_nothing

HERE = pk.evidence.FOLDER


def commit() -> str:
    """The code that runs."""
    folder = str(Path(__file__).parent)
    git = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def sidecar(study: str, code: str, table: pd.DataFrame, seconds: float) -> dict:
    """How a table was made: that of a study, or of the zoo, which says for itself how it fits."""
    device = f"cpu, {torch.get_num_threads()} of {os.cpu_count()} cores"
    data = STUDIES[study].data if study in STUDIES else pk.zoo.DATA
    return {
        "command": f"python book/evidence.py {study}",
        "commit": code,
        "seeds": sorted(map(int, table["seed"].unique())),
        "fit": STUDIES[study].fit if study in STUDIES else None,
        "pins": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "device": "cuda" if torch.cuda.is_available() else device,
        "data": {name: load(name).source for name in data},
        "date": time.strftime("%Y-%m-%d"),
        "minutes": round(seconds / 60, 1),
    }


def keep(study: str, table: pd.DataFrame, how: dict) -> None:
    """A table and its sidecar, put in place when both are written.

    A kill in between leaves the table alone: no sidecar says how another table was made.
    """
    said = HERE / f"{study}.json"
    with storage.written(said) as words, storage.written(HERE / f"{study}.csv") as rows:
        words.write(f"{json.dumps(how, indent=1, ensure_ascii=False)}\n".encode())
        rows.write(table.to_csv(index=False, float_format="%.5g").encode())
        for file in (words, rows):  # a full disk is noticed before anything is replaced
            file.flush()
            os.fsync(file.fileno())
        said.unlink(missing_ok=True)


@all_or_nothing()
def run(study: str, code: str) -> None:
    """One study into its two files; until the last network is there, into a table `<study>.part`."""
    rows, started = [], time.perf_counter()
    part, table = HERE / f"{study}.part", pd.DataFrame()
    for row in STUDIES[study].rows():
        rows.append(row)
        print(f"{study}: {list(row.values())[:8]}", flush=True)
        table = pd.DataFrame(rows)
        storage.write(part, table.to_csv(index=False, float_format="%.5g").encode())
    keep(study, table, sidecar(study, code, table, time.perf_counter() - started))
    part.unlink(missing_ok=True)


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(STUDIES)
    if unknown:
        sys.exit(f"no study {sorted(unknown)}; there are {list(STUDIES)}")
    code = commit()  # once: a table that is new makes the tree dirty
    for study in sys.argv[1:] or STUDIES:
        run(study, code)
