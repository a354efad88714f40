"""Executed notebooks, kept so that nothing runs twice, and nothing that ran is lost.

A notebook's key covers what its outputs depend on: its code cells, the code of peeklib that these
reach, the tables of evidence that they name, versions, profile, GPU and data. Prose may change
without a new run.
"""

import ast
import functools
import hashlib
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode
from sync import PIP

import peeklib as pk
from peeklib import storage
from peeklib.course.fingerprint import SOURCES, fingerprint_of, read_sources

ROOT = Path(__file__).resolve().parent.parent
KEPT = 3  # versions of a notebook: the latest, and what it may be compared with or fall back to
EXTRA = ("tensorly", "weightwatcher", "ipykernel")  # what pages use besides peeklib's dependencies


def shelf() -> Path:
    """The folder of this profile."""
    return ROOT / "_build" / "executed" / pk.profile()


def facts() -> list[str]:
    """What every notebook depends on: versions, profile, GPU, data."""
    names = {requirement.split(">")[0] for requirement in requires("peeklib") or ()}
    packages = [f"{name} {_version(name)}" for name in sorted(names.union(EXTRA))]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return [platform.python_version(), pk.profile(), gpu, *packages, *_data()]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


@functools.cache
def _data() -> list[str]:
    """What the data sets really are here; names, sizes and times of the files in PEEK_DATA.

    The small version reads none. Finding the data sets also downloads them, once for all notebooks.
    """
    if pk.profile() == "embedded":
        return []
    found = [repr(pk.load_dataset(name, fallback=True)) for name in ("mnist", "cifar10")]
    root = Path(os.environ.get("PEEK_DATA") or os.devnull)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            facts = path.stat()
            found.append(f"{path.relative_to(root)} {facts.st_size} {facts.st_mtime_ns}")
    return found


def _syntax(cell: str) -> ast.Module | None:
    """A cell without comments; None if it is not plain Python."""
    try:
        return ast.parse(cell)
    except SyntaxError:
        return None


def _essence(cell: str) -> str:
    """What decides the output of a cell: also a last semicolon, at which IPython shows no value."""
    tree = _syntax(cell)
    if tree is None:
        return cell
    return ast.dump(tree) + ";" * cell.rstrip().endswith(";")


def _plain(cell: str) -> str:
    """A cell without the lines that IPython alone understands; nothing if that is no Python."""
    if _syntax(cell) is None:
        lines = cell.split("\n")
        cell = "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))
    return cell if _syntax(cell) else ""


def key(notebook: NotebookNode) -> str:
    """Hash of what the outputs of a notebook depend on."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    cells = [cell for cell in code if not PIP.search(cell)]  # what Colab installs gives no output
    source = "\n".join(map(_plain, cells)) + "\n"
    parts = [*map(_essence, cells), fingerprint_of(source), *facts()]
    for file in sorted(pk.evidence.FOLDER.glob("*.[cj]s*")):  # the tables, and how they were made
        if f'"{file.stem}"' in source:
            parts.append(file.read_text())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def unchanged(path: Path, before: str) -> bool:
    """Whether a notebook, and the package it ran with, are what they were when it had that key."""
    return read_sources() == SOURCES and key(nbformat.read(path, as_version=4)) == before


def find(path: Path) -> NotebookNode | None:
    """The notebook at `path` with the outputs of its last run; None if anything changed since."""
    notebook = nbformat.read(path, as_version=4)
    kept = shelf() / f"{path.stem}.{key(notebook)}.ipynb"
    if not kept.exists():
        return None
    os.utime(kept)  # the last to be used is the last to go
    return with_outputs(notebook, nbformat.read(kept, as_version=4))


def last(path: Path) -> NotebookNode | None:
    """The last version of a notebook that ran, whatever changed since; None if none ever did."""
    kept = _versions(path.stem)
    return nbformat.read(kept[-1], as_version=4) if kept else None


def keep(path: Path, name: str, executed: NotebookNode, seconds: float) -> bool:
    """Put a notebook that ran on the shelf, written whole or not at all.

    Args:
        path: where the notebook is.
        name: the key that it had before it ran.
        executed: the notebook with its outputs.
        seconds: how long it took.

    Returns:
        False if it, or the package, changed since it had that key; then it is not kept.
    """
    if not unchanged(path, name):
        return False
    executed.metadata["peek"] = {"seconds": round(seconds, 1)}
    kept = shelf() / f"{path.stem}.{name}.ipynb"
    kept.parent.mkdir(parents=True, exist_ok=True)
    storage.write(kept, f"{nbformat.writes(executed)}\n".encode())
    for old in _versions(path.stem)[:-KEPT]:
        old.unlink()
    return True


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


if __name__ == "__main__":  # is there a notebook that has not passed as it is?
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    waiting = [path.stem for path in notebooks if find(path) is None]
    if waiting:
        print(f"To run: {', '.join(waiting)}.", flush=True)
    else:
        print("All notebooks have passed as they are.", flush=True)
    sys.exit(bool(waiting))
