"""The address of a copy of the book, and what stands in its notebooks: no link leads nowhere, whoever forks it."""

import re
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import nbformat
import pytest
import torch

from peeklib import load_dataset
from peeklib.course.data import digits

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import address  # noqa: E402
import publish  # noqa: E402
import sync  # noqa: E402
from address import Address  # noqa: E402

VARIABLES = ("PEEK_REPOSITORY", "GITHUB_REPOSITORY", "GITHUB_REF_NAME", "GITHUB_BASE_REF")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the book's sources with a git of its own; call it with a remote and a branch."""
    for name in ("book", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "_config.yml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(sync, "ROOT", tmp_path)

    def remote(url, branch="main"):
        git(tmp_path, "init", "-q", "-b", branch)
        git(tmp_path, "remote", "add", "origin", url)
        return tmp_path

    return remote


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Of all chapters these: each is written in the same way, and takes a tenth of a second."""
    scripts = sorted((ROOT / "notebooks").glob("*.py"))[:3]
    mine = [tmp_path / "notebooks" / path.name for path in scripts]
    monkeypatch.setattr(sync, "scripts", lambda: mine)
    return [path.with_suffix(".ipynb") for path in mine]


def git(folder, *command):
    subprocess.run(["git", "-C", folder, *command], check=True)


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/ada/my.book.git",
        "https://github.com/ada/my.book",
        "https://ada:secret@github.com/ada/my.book.git",
        "git@github.com:ada/my.book.git",
        "ssh://git@github.com/ada/my.book",
    ],
)
def test_gits_remote_is_the_address_and_keeps_no_password(copy, remote):
    assert address.find(copy(remote, "course/2027")) == Address("ada/my.book", "course/2027")


@pytest.mark.parametrize(
    "remote", ["https://gitlab.com/ada/book.git", "/srv/git/book", "git@github.com.evil.org:a/b"]
)
def test_a_remote_elsewhere_is_no_address(copy, remote):
    assert address.find(copy(remote)) is None


def test_a_branch_that_follows_another_takes_its_remote_and_name(copy):
    folder = copy("https://github.com/up/stream.git", "work")
    git(folder, "remote", "add", "fork", "https://github.com/ada/fork.git")
    git(folder, "config", "branch.work.remote", "fork")
    git(folder, "config", "branch.work.merge", "refs/heads/main")
    assert address.find(folder) == Address("ada/fork", "main")


def test_what_is_said_aloud_counts_first(copy, monkeypatch):
    folder = copy("https://github.com/ada/remote.git")
    config = folder / "_config.yml"
    config.write_text(config.read_text() + "\nrepository: {url: 'https://github.com/ada/config'}\n")
    assert address.find(folder).slug == "ada/remote"
    shutil.rmtree(folder / ".git")
    assert address.find(folder) == Address("ada/config", "main")
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/runner")
    monkeypatch.setenv("GITHUB_REF_NAME", "12/merge")
    monkeypatch.setenv("GITHUB_BASE_REF", "next")
    assert address.find(folder) == Address("ada/runner", "next")
    monkeypatch.setenv("PEEK_REPOSITORY", "https://github.com/ada/said@talk")
    assert address.find(folder) == Address("ada/said", "talk")
    monkeypatch.setenv("PEEK_REPOSITORY", "not an address")
    with pytest.raises(ValueError, match="PEEK_REPOSITORY is 'not an address'"):
        address.find(folder)


def test_a_fork_is_written_everywhere_with_its_branch_and_forgotten_again(copy, few, capsys):
    folder = copy("git@github.com:ada/fork.git", "course")
    before = {path: path.read_text() for path in sorted(folder.rglob("*.[mi]*[db]"))}
    assert sync.main(check=False) == 0 and "ada/fork, branch course" in capsys.readouterr().out
    pip = "git+https://github.com/ada/fork@course"
    for path in few:
        notebook = nbformat.read(path, as_version=4)
        assert f'PEEKLIB = "{pip}"' in notebook.cells[1].source
        opened = (
            f"https://colab.research.google.com/github/ada/fork/blob/course/notebooks/{path.name}"
        )
        assert f"]({opened})" in notebook.cells[0].source
        assert notebook.cells[0].source.startswith("# ")
    assert f"pip install {pip}" in (folder / "README.md").read_text()
    assert (
        "git clone -b course https://github.com/ada/fork peek"
        in (folder / "book/running.md").read_text()
    )
    assert sync.main(check=True) == 0

    git(folder, "remote", "remove", "origin")
    assert sync.main(check=True) == 0  # whoever copies it is not told off for having no remote
    assert sync.main(check=False) == 0 and "No address is known" in capsys.readouterr().out
    assert {path: path.read_text() for path in before} == before


@pytest.mark.parametrize("broken", ["<<<<<<< HEAD\n", '{"cells": 3}', "", "[]"])
def test_a_notebook_that_a_merge_broke_is_named_and_written_anew(copy, few, broken, capsys):
    copy("/srv/git/book")
    pair = few[1]
    whole = pair.read_text()
    pair.write_text(broken)
    assert sync.main(check=True) == 1 and pair.name in capsys.readouterr().out
    assert sync.main(check=False) == 0 and pair.read_text() == whole


def test_while_no_address_is_known_nothing_names_one(copy):
    folder = copy("/srv/git/book")
    assert sync.main(check=False) == 0
    files = [
        folder / "README.md",
        folder / "_config.yml",
        *folder.rglob("book/*.md"),
        *folder.glob("notebooks/*.*"),
    ]
    for path in files:
        text = path.read_text()
        assert "OWNER" not in text and "colab-badge" not in text, path.name
        assert not re.search(r"git\+https://github\.com", text), path.name


@pytest.mark.parametrize(
    "script", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem
)
@pytest.mark.parametrize("known", [False, True])
def test_outside_the_book_a_notebook_reads_as_plain_markdown(script, known):
    source = sync.with_first_cell(
        script.read_text(), Address("ada/fork", "main") if known else None
    )
    text = text_of(sync.outside(source, f"notebooks/{script.stem}.ipynb"))
    assert not re.search(r"\{(doc|cite|ref|numref|term)[\w:]*\}", text)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    there = [link for link in links if not link.startswith("https://")]
    assert not known or not there
    assert all((script.parent / link).exists() for link in there)
    for link in links:
        inside = re.search(r"ada/fork/blob/main/(.+)", link)
        assert not inside or (ROOT / inside[1]).exists()


def test_citations_say_who_and_when():
    folder = Path("notebooks")
    say = sync.plain
    assert say("By Zhang {cite}`zhang2015visualizing`.", folder, None) == "By Zhang (2015)."
    linked = "[Saini & Papalexakis 2018](https://arxiv.org/abs/1806.02012)"
    assert say("A step {cite}`saini2018peek`.", folder, None) == f"A step ({linked})."
    several = say("both {cite}`olah2018building, kolda2009tensor`", folder, None)
    assert "Olah et al. 2018" in several and several.endswith("; Kolda & Bader 2009)")


def first_cell(home):
    """The code of a notebook's first cell."""
    source = '# %% tags=["remove-cell"]\nold\n\n# %%\nrest'
    script = sync.with_first_cell(source, home)
    return sync.paired(script).cells[0].source


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


def test_elsewhere_than_on_colab_the_first_cell_installs_nothing(monkeypatch):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    exec(first_cell(Address("ada/fork", "main")), {})
    assert not ran


def test_on_colab_the_first_cell_installs_from_this_copy(colab, monkeypatch):
    ran = []
    done = types.SimpleNamespace(returncode=0)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command) or done)
    exec(first_cell(Address("ada/fork", "talk")), {})
    assert ran == [
        [sys.executable, "-m", "pip", "install", "-q", "git+https://github.com/ada/fork@talk"]
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("/nowhere/peeklib.whl", "/nowhere/peeklib.whl"),
        ("git+file:///nowhere/book@main", "does not appear to be a git repository"),
    ],
)
def test_a_failed_installation_stops_with_one_sentence_that_says_why(colab, source, why):
    with pytest.raises(Exception, match="could not be installed from") as stop:
        exec(sync.PIP.sub(source, first_cell(None)), {})
    [sentence] = stop.value._render_traceback_()
    assert why in sentence.partition(":")[2] and "\n" not in sentence


@pytest.mark.parametrize("place", ["colab", "elsewhere"])
def test_without_peeklib_or_an_address_the_first_cell_says_what_to_do(place, request, monkeypatch):
    if place == "colab":
        request.getfixturevalue("colab")
    exec(first_cell(None), {})  # it is installed here
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Exception, match="peeklib is not installed here") as stop:
        exec(first_cell(None), {})
    assert len(stop.value._render_traceback_()) == 1


@pytest.mark.parametrize(
    "given",
    [
        "ada/fork@talk",
        "https://github.com/ada/fork@talk",
        "https://github.com/ada/fork/tree/talk/",
        "git@github.com:ada/fork.git@talk",
        "github.com/ada/fork@talk",
    ],
)
def test_an_address_may_be_written_in_many_ways(given, monkeypatch):
    monkeypatch.setenv("PEEK_REPOSITORY", given)
    assert address.find() == Address("ada/fork", "talk")


def test_a_branch_that_no_link_can_hold_is_no_address(copy, monkeypatch):
    assert address.find(copy("https://github.com/ada/book", "fix#12")) is None
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/runner")
    monkeypatch.setenv("GITHUB_REF_NAME", "fix#12")
    assert address.of_runner() is None


def test_a_branch_that_follows_one_of_this_copy_is_at_origin(copy):
    folder = copy("https://github.com/ada/book", "topic")
    git(folder, "config", "branch.topic.remote", ".")
    git(folder, "config", "branch.topic.merge", "refs/heads/main")
    assert address.find(folder) == Address("ada/book", "topic")


def test_the_zip_opens_anywhere(tmp_path, monkeypatch):
    """All that its notebooks link to is inside."""
    site = tmp_path / "html"
    for page in ("notation", "running", "ledger"):
        (site / "book").mkdir(parents=True, exist_ok=True)
        (site / "book" / f"{page}.html").touch()
    monkeypatch.setattr(publish, "SITE", site)
    monkeypatch.setattr(publish, "ZIP", tmp_path / "peek.zip")
    monkeypatch.setattr(publish, "STAND_INS", {"digits": lambda: digits(20, 10)})
    monkeypatch.setenv("PEEK_SITE_URL", "https://ada.github.io/fork/")
    publish.finish(site)
    assert (site / ".nojekyll").exists()
    publish.pack().rename(tmp_path / "moved.zip")
    with zipfile.ZipFile(tmp_path / "moved.zip") as archive:
        archive.extractall(tmp_path / "stick")
    folder = tmp_path / "stick/peek"
    [wheel] = folder.glob("peeklib-*.whl")
    for path in folder.glob("notebooks/*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        assert f'PEEKLIB = "https://ada.github.io/fork/{wheel.name}"' in notebook.cells[1].source
        for link in re.findall(r"\]\(([^)\s]+)\)", text_of(notebook)):
            assert link.startswith("https://") or (path.parent / link).exists(), (path.name, link)
    monkeypatch.setenv("PEEK_DATA", str(folder / "data"))
    data, drawn = load_dataset("stand-in-digits"), digits(20, 10)
    by_class = drawn.train.labels.argsort(stable=True)
    assert torch.equal(data.train.images, drawn.train.images[by_class])


def test_writing_an_address_needs_no_torch():
    code = "import sys; sys.path.insert(0, 'book'); import sync; print({'torch', 'peeklib'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
