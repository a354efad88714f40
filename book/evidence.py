"""Heavy evidence: the tables of `peeklib.course.evidence`, made anew.

`python book/evidence.py [study …]` (`make evidence`) runs the studies of `peeklib.course.studies` that are named, or all
of them. A study writes `<study>.csv`, and `<study>.json`, which says how the table was made.
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
from peeklib.course.studies import DATA, FIT, FITS, STUDIES, load

HERE = pk.evidence.FOLDER


def commit() -> str:
    """The code that runs."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def sidecar(study: str, code: str, table: pd.DataFrame, seconds: float) -> dict:
    """How a table was made."""
    return {
        "command": f"python book/evidence.py {study}",
        "commit": code,
        "seeds": sorted(map(int, table["seed"].unique())),
        "fit": FITS.get(study, FIT),
        "pins": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "device": "cuda"
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "data": {name: load(name).source for name in (DATA | {"zoo": pk.zoo.DATA})[study]},
        "date": time.strftime("%Y-%m-%d"),
        "minutes": round(seconds / 60, 1),
    }


def run(study: str, code: str) -> None:
    """One study into its two files, both put in place at the end; a table without its last network stays a `.part`."""
    rows, started = [], time.perf_counter()
    part, how = HERE / f"{study}.part", HERE / f"{study}.json.part"
    for row in STUDIES[study]():
        rows.append(row)
        print(f"{study}: {list(row.values())[:8]}", flush=True)
        table = pd.DataFrame(rows)
        table.to_csv(part, index=False, float_format="%.5g")
    said = sidecar(study, code, table, time.perf_counter() - started)
    how.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
    how.replace(HERE / f"{study}.json")
    part.replace(HERE / f"{study}.csv")


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(STUDIES)
    if unknown:
        sys.exit(f"no study {sorted(unknown)}; there are {list(STUDIES)}")
    code = commit()  # once: a table that is new makes the tree dirty
    for study in sys.argv[1:] or STUDIES:
        run(study, code)
