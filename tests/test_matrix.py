"""The versions that are declared are the versions that are tested."""

import os
import re
import sys
import tomllib
from pathlib import Path

import matrix

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(path):
    lines = (ROOT / path).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_the_lowest_versions_are_those_declared():
    assert pins("requirements/lowest.txt") == {
        need.replace(">=", "==") for need in PROJECT["project"]["dependencies"]
    }


def test_every_environment_has_its_file_and_the_workflow_runs_it():
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    for name, (python, file) in matrix.ENVIRONMENTS.items():
        assert (ROOT / file).exists()
        assert f'{{env: {name}, python: "{python}"}}' in workflow


def test_no_pin_forces_cuda_on_a_machine_without():
    cuda = ("nvidia-", "cuda-", "triton")
    assert not [pin for pin in pins("requirements.txt") if pin.startswith(cuda)]


def test_what_fails_is_told_and_costs_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(matrix, "make", lambda name: tmp_path)
    ran = []

    def bad(name, python):
        ran.append("bad")
        matrix.call("false")

    def good(name, python):
        ran.append("good")

    assert matrix.failures("colab", [bad, good]) == ["bad"]
    assert ran == ["bad", "good"]


def test_a_python_that_is_not_there_is_named_and_costs_no_other(monkeypatch, tmp_path, capsys):
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    beside = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(
        matrix, "ENVIRONMENTS", {"old": ("3.2", matrix.PINS), "here": (this, matrix.PINS)}
    )
    monkeypatch.setattr(matrix, "uv", lambda: "true")
    monkeypatch.setattr(matrix, "unit", lambda name, python: ran.append(name))
    (tmp_path / "Makefile").write_text("setup:\n")
    monkeypatch.setattr("sys.argv", ["matrix.py", "--no-notebooks"])
    ran = []
    assert matrix.main() == 1
    assert ran == ["here"]
    old, here = capsys.readouterr().out.splitlines()[-2:]
    assert old.startswith("old      failed: no Python 3.2 here") and here.split() == [
        "here",
        "passed",
    ]


def test_a_missing_uv_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert matrix.failures("py311", []) == ["no uv here: `pip install uv`"]


def test_no_chapter_needs_pandas_3():
    """Before it, `agg` of several columns gave a function no arguments of its own: write a lambda."""
    passed_on = re.compile(r"\.agg\([a-z_.]+, (?!axis)[a-z]+=")
    chapters = sorted((ROOT / "notebooks").glob("*.py"))
    assert chapters
    assert not [path.name for path in chapters if passed_on.search(path.read_text())]
