"""A pytest plugin beside nbval: a notebook that passes is kept with its outputs, and runs no more.

So the run that tests the notebooks is the run that the embedded book shows:
`pytest -p nbval_shelf --nbval-lax notebooks`.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
import shelf
from nbval.plugin import IPyNbCell


@dataclass
class Run:
    """One notebook's run so far."""

    started: float  #: seconds since the epoch
    key: str  #: of the notebook at that time
    outputs: dict[str, list] = field(default_factory=dict)  #: by cell that passed, in their order


RUN = pytest.StashKey[Run]()


def pytest_collection_modifyitems(config, items):
    """Leave out the notebooks on the shelf; begin with those that took longest."""
    cells = [item for item in items if isinstance(item, IPyNbCell)]
    paths = {item.path for item in cells}
    done = {path for path in paths if shelf.find(path)}
    if done:
        config.hook.pytest_deselected(items=[item for item in cells if item.path in done])
    order = {path: (-shelf.seconds(path), path.name) for path in paths}
    waiting = [item for item in cells if item.path not in done]
    items[:] = sorted(waiting, key=lambda item: order[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Note the outputs of a cell that passed; after its last cell, a notebook goes on the shelf."""
    report = yield
    if isinstance(item, IPyNbCell) and report.when == "call":
        if RUN not in item.parent.stash:
            key = shelf.key(nbformat.read(item.path, as_version=4))
            item.parent.stash[RUN] = Run(call.start, key)
        run = item.parent.stash[RUN]
        if report.passed:
            run.outputs[item.name] = item.test_outputs
        _keep_if_whole(item.path, run)
    return report


def _keep_if_whole(path: Path, run: Run) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if len(run.outputs) < len(code):
        return
    pairs = zip(code, run.outputs.values(), strict=True)
    for number, (cell, outputs) in enumerate(pairs, start=1):
        cell.outputs, cell.execution_count = outputs, number
        for output in outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    shelf.keep(path, run.key, notebook, time.time() - run.started)
