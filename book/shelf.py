"""Executed notebooks, kept so that nothing runs twice, and nothing that ran is lost.

A notebook's key covers what its outputs depend on: its code cells, the code of peeklib that these reach, the tables of
evidence that they name, versions, profile, GPU and data. Prose may change without a new run.
"""

import ast
import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode

import peeklib as pk
from peeklib.fingerprint import fingerprint_of

ROOT = Path(__file__).resolve().parent.parent
CELL = "\n# a cell\n"
KEPT = 3  # versions of a notebook: the latest, and what it may be compared with or fall back to
EXTRA = ("tensorly", "weightwatcher", "ipykernel")  # what pages use besides peeklib's own dependencies


def shelf() -> Path:
    """The folder of this profile."""
    return ROOT / "_build" / "executed" / pk.profile()


def facts() -> list[str]:
    """What every notebook depends on: versions, profile, GPU, data."""
    names = [requirement.split(">")[0] for requirement in requires("peeklib")] + list(EXTRA)
    packages = [f"{name} {_version(name)}" for name in sorted(names)]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return [platform.python_version(), pk.profile(), gpu, *packages, *_data()]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _data() -> list[str]:
    """Names, sizes and times of the files in PEEK_DATA; the small version reads none."""
    if pk.profile() == "embedded" or not os.environ.get("PEEK_DATA"):
        return []
    files = sorted(path for path in Path(os.environ["PEEK_DATA"]).rglob("*") if path.is_file())
    return [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]


def code_of(notebook: NotebookNode) -> str:
    """The code cells, one below the other, without the lines that only IPython understands."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = CELL.join(cells).split("\n")
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))) + "\n"


def key(notebook: NotebookNode) -> str:
    """Hash of what the outputs of a notebook depend on."""
    source = code_of(notebook)
    parts = [ast.dump(ast.parse(source)), str(source.count(CELL)), fingerprint_of(source), *facts()]
    for name in pk.evidence.names():
        if f'"{name}"' in source:
            parts.append((pk.evidence.FOLDER / f"{name}.csv").read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def find(path: Path) -> NotebookNode | None:
    """The notebook at `path` with the outputs of its last run, if nothing has changed since; else None."""
    notebook = nbformat.read(path, as_version=4)
    kept = shelf() / f"{path.stem}.{key(notebook)}.ipynb"
    if not kept.exists():
        return None
    return with_outputs(notebook, nbformat.read(kept, as_version=4))


def last(path: Path) -> NotebookNode | None:
    """The last version of a notebook that ran, whatever has changed since; None if none ever did."""
    kept = _versions(path.stem)
    return nbformat.read(kept[-1], as_version=4) if kept else None


def keep(path: Path, executed: NotebookNode, seconds: float) -> None:
    """Put a notebook that ran on the shelf, written whole or not at all."""
    executed.metadata["peek"] = {"seconds": round(seconds, 1)}
    kept = shelf() / f"{path.stem}.{key(nbformat.read(path, as_version=4))}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}.part")
    nbformat.write(executed, part)
    part.replace(kept)
    for old in _versions(path.stem)[:-KEPT]:
        old.unlink()


def seconds(path: Path) -> float:
    """How long a notebook took when it ran last; infinity if it never did."""
    kept = _versions(path.stem)
    if not kept:
        return float("inf")
    return json.loads(kept[-1].read_text())["metadata"]["peek"]["seconds"]


def _versions(stem: str) -> list[Path]:
    """Versions on the shelf, the latest at the end."""
    return sorted(shelf().glob(f"{stem}.*.ipynb"), key=lambda path: path.stat().st_mtime_ns)


def with_outputs(notebook: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """`notebook` with the outputs of another run of the same code cells."""
    ran = [cell for cell in executed.cells if cell.cell_type == "code"]
    mine = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, done in zip(mine, ran, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    return notebook
