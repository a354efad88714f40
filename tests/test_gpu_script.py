"""The script for a machine with a GPU: what it says of parts that break off, kernels that die and folders not named."""

import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import nbformat
import pytest
import torch

from peeklib import solvers

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks/gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, tmp_path, monkeypatch):
    monkeypatch.delenv("PEEK_DATA", raising=False)
    return script.Run(Namespace(out=tmp_path, seconds=600, device="cpu"))


def say(text: str, code: int = 0) -> list[str]:
    return [sys.executable, "-c", f"print({text!r}); raise SystemExit({code})"]


GOOD = 'ROW {"what": "record", "median": 1.0, "status": "ok"}'
BAD = 'ROW {"what": "record", "status": "ValueError: no"}'
SKIPPED = 'ROW {"what": "record", "status": "not run"}'


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        (GOOD, 0, 0),
        (GOOD, 1, 1),
        (BAD, 0, 1),
        (SKIPPED, 0, 1),
        (f"{GOOD}\n{SKIPPED}", 0, 0),
        ("", 0, 1),
        ("", 3, 1),
    ],
)
def test_the_status_tells_whether_all_went_well(script, run, text, code, status):
    run.start(say(text, code), 60, "gpu")
    assert script.summary(run) == status


def test_too_little_time_is_no_failure(script, run):
    run.start(say(GOOD), 60, "gpu")
    sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert run.start(sleeps, 1, "gpu").startswith(script.LATE)
    assert script.tests(run, ("fingerprint",), 1).startswith(script.LATE)
    assert script.summary(run) == 0


def test_a_part_that_cannot_start_is_a_failure(script, run, monkeypatch):
    def part(limit):
        run.start(say(GOOD), limit, "gpu")
        return run.start(["/no/such/program"], limit, "gpu")

    monkeypatch.setattr(script, "arguments", lambda: Namespace(part=None, patience=1))
    monkeypatch.setattr(script, "Run", lambda options: run)
    monkeypatch.setattr(script, "parts", lambda run: {"timings": part})
    assert script.main() == 1


AS_A_PROGRAM = """
import runpy, sys
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_kernel_that_dies_is_a_failure_and_nothing_runs_again(tmp_path, fresh):
    cells = ["open('ran', 'a').write('once ')", "import os; os._exit(1)"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, tmp_path / "01-dies.ipynb")
    options = ["--part", "chapter", "--chapter", tmp_path / "01-dies.ipynb", "--seconds", "300"]
    done = fresh(AS_A_PROGRAM, SCRIPT, *options, path=[SCRIPT.parent], PEEK_PROFILE="embedded")
    row = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("ROW ")).removeprefix(
            "ROW "
        )
    )
    assert (row["status"], row["profile"]) == (
        "failed",
        "embedded, kernel",
    ) and "DeadKernel" in row["error"]
    assert (tmp_path / "ran").read_text() == "once "


def test_the_fused_sweep_is_put_back_after_an_error(script, monkeypatch):
    def fail(*_):
        raise ArithmeticError

    fused = solvers._gpu
    monkeypatch.setattr(solvers, "hals_update", fail)
    with pytest.raises(ArithmeticError):
        script._kernel(script.Table("cpu"), "cpu", torch.float32, 2, 10)
    assert solvers._gpu is fused


def test_the_folder_comes_first():
    done = subprocess.run(
        ["bash", SCRIPT.with_suffix(".sh"), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "OUT_FOLDER --quick" in done.stderr


def test_the_folder_is_meant_from_where_it_is_called(tmp_path):
    told = os.environ | {"PYTHON": "echo"}
    done = subprocess.run(
        ["bash", SCRIPT.with_suffix(".sh"), "found", "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=told,
    )
    assert done.stdout.split() == [str(SCRIPT), "--out", "found", "--quick"]
