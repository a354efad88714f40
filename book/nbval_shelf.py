"""A pytest plugin beside nbval: a notebook that passes is kept with its outputs, and one that has passed is not run again.

So the run that tests the notebooks is the run that the embedded book shows: `pytest -p nbval_shelf --nbval-lax notebooks`.
"""

import time
from pathlib import Path

import nbformat
import pytest
import shelf
from nbval.plugin import IPyNbCell

passed = pytest.StashKey[dict]()


def pytest_collection_modifyitems(config, items):
    """Leave out the notebooks on the shelf; begin with those that took longest."""
    cells = [item for item in items if isinstance(item, IPyNbCell)]
    paths = {item.path for item in cells}
    done = {path for path in paths if shelf.find(path)}
    if done:
        config.hook.pytest_deselected(items=[item for item in cells if item.path in done])
    first = {path: (-shelf.seconds(path), path.name) for path in paths}
    items[:] = sorted(
        (item for item in cells if item.path not in done), key=lambda item: first[item.path]
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Take note of the outputs of a cell that passed; after its last cell, a notebook goes on the shelf."""
    report = yield
    if isinstance(item, IPyNbCell) and report.when == "call":
        cells = item.parent.stash.setdefault(passed, {})
        if not cells:
            cells["started"] = call.start
            cells["key"] = shelf.key(nbformat.read(item.path, as_version=4))
        if report.passed:
            cells[item.name] = item.test_outputs
        _keep_if_whole(item.path, cells)
    return report


def _keep_if_whole(path: Path, cells: dict) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if len(cells) - 2 < len(code):
        return
    outputs = (
        found for name, found in cells.items() if name not in ("started", "key")
    )  # in the order of the cells
    for number, (cell, found) in enumerate(zip(code, outputs, strict=True), start=1):
        cell.outputs, cell.execution_count = found, number
        for output in found:
            if output.output_type == "execute_result":
                output.execution_count = number
    shelf.keep(path, cells["key"], notebook, time.time() - cells["started"])
