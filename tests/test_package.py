"""What is handed over: the wheel, its page of reference, and papers that agree with the code."""

import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from forked import anew

import peeklib as pk

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import api  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAPERS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
BUILD = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"


def tracked(*places: str) -> set[str]:
    """Files that git follows, in the commit to be."""
    command = ["git", "ls-files", "-z", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {file for file in done.stdout.split("\0") if file and (ROOT / file).exists()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the tracked files, built without network, from a copy: a build leaves files."""
    source = tmp_path_factory.mktemp("source")
    for file in tracked("peeklib", "pyproject.toml", "README.md", "LICENSE"):
        target = source / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target)
    command = [sys.executable, "-c", BUILD]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return source / done.stdout.splitlines()[-1]


def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {file for file in archive.namelist() if ".dist-info/" not in file}
    assert inside == tracked("peeklib")
    for file in ("__init__.pyi", "py.typed", "study/scores.py", "course/evidence/cases.csv"):
        assert f"peeklib/{file}" in inside


def load_all_names(folder):
    sys.path.insert(0, str(folder))
    import peeklib

    assert Path(peeklib.__file__).parent == folder / "peeklib"
    for name in peeklib.__all__:
        getattr(peeklib, name)
    assert len(peeklib.evidence.table("cases"))


def test_all_names_come_out_of_an_unpacked_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    anew(load_all_names, tmp_path)


def test_the_page_of_reference_has_every_public_name():
    written = set(re.findall(r":: (peeklib[\w.]*)", api.page()))
    for name in pk.__all__:
        thing = getattr(pk, name)
        assert (thing.__name__ if inspect.ismodule(thing) else f"peeklib.{name}") in written
    assert {f"peeklib.scores.{name}" for name in pk.scores.SCORES} < written
    for module, names in api.INNER.items():
        assert {f"peeklib.{module}.{name}" for name in names} < written


def test_a_public_module_without_a_heading_is_named(monkeypatch):
    monkeypatch.delitem(api.WINGS, "Any network")
    with pytest.raises(ValueError, match=r"study\.scores"):
        api.page()


def test_the_version_is_the_same_wherever_it_stands():
    citation = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.M)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert citation and newest
    assert PROJECT["project"]["version"] == pk.__version__ == citation[1] == newest[1]


def test_the_readme_names_every_module():
    missing, readme = [], (ROOT / "README.md").read_text()
    for wing in ("peeklib", "peeklib/study", "peeklib/course"):
        for module in pkgutil.iter_modules([str(ROOT / wing)]):
            if not re.search(rf"`([a-z]+/)*{module.name}/?`", readme):
                missing.append(f"{wing}/{module.name}")
    assert not missing


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_names_files_and_commands_that_exist(paper):
    text = (ROOT / paper).read_text()
    commands = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    links = re.findall(r"\]\((?!http|#)([^)#]+)", text)
    assert not [link for link in links if not (ROOT / link).exists()]
    assert set(re.findall(r"\bmake ([a-z]+)\b", text)) <= commands
