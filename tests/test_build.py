"""The book: a notebook runs once, prose costs no run, a chapter that fails costs that chapter."""

import ast
import os
import signal
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import build  # noqa: E402
import shelf  # noqa: E402


def test_every_chapter_runs_and_those_that_read_others_run_later():
    first, second = ([path.stem for path in wave] for wave in build.waves())
    assert sorted(first + second) == sorted(
        path.stem for path in (ROOT / "notebooks").glob("*.ipynb")
    )
    assert {name[:2] for name in first[:2]} == set(build.LONG) and {
        name[:2] for name in second
    } == set(build.READERS)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of notebooks that note each run in a file; call it with name=(cells of code)."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text((ROOT / "_config.yml").read_text())
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(shelf, "ROOT", tmp_path)
    monkeypatch.setenv("PEEK_PROFILE", "embedded")

    def write(prose="", **chapters):
        for name, codes in chapters.items():
            run = f"open({str(tmp_path / 'runs')!r}, 'a').write('{name} ')"
            cells = [
                new_markdown_cell(f"# The {name} chapter\n{prose}"),
                *map(new_code_cell, [run, *codes]),
            ]
            nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
        files = [
            f"      - file: notebooks/{path.stem}"
            for path in sorted((tmp_path / "notebooks").iterdir())
        ]
        (tmp_path / "_toc.yml").write_text("parts:\n  - chapters:\n" + "\n".join(files) + "\n")
        return tmp_path / "runs"

    return write


class Here:
    """Runs a notebook in this process, where a kernel would take seconds to start."""

    km = None

    def __init__(self, notebook, **_):
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    async def async_execute(self):
        names = {}
        for cell in self.cells:
            *body, last = ast.parse(cell.source).body
            exec(compile(ast.Module(body, []), "cell", "exec"), names)
            if not isinstance(last, ast.Expr):
                exec(compile(ast.Module([last], []), "cell", "exec"), names)
                continue
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
            data = {"text/plain": repr(value)}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = value._repr_html_()
            cell.outputs = [new_output("execute_result", data, execution_count=1)]


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setattr(build, "NotebookClient", Here)


def staged(tmp_path, failed):
    """The notebooks that Sphinx reads, by name."""
    build.stage(tmp_path / "source", failed)
    pages = (tmp_path / "source/notebooks").iterdir()
    return {path.stem: nbformat.read(path, as_version=4) for path in pages}


def shown(notebook):
    return [
        output.get("data", {}).get("text/plain")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]


def test_what_ran_is_kept_and_a_failure_costs_its_chapter_alone(
    book, tmp_path, capsys, monkeypatch
):
    runs = book(good=["2 + 2"], bad=["1 / 0"], dead=["import os; os._exit(1)"])
    failed = build.execute()
    assert {path.stem for path in failed} == {"bad", "dead"}
    assert "bad failed" in capsys.readouterr().out
    assert sorted(runs.read_text().split()) == ["bad", "dead", "good"]
    pages = staged(tmp_path, failed)
    assert shown(pages["good"]) == ["5", "4"]  # the length of the note, and the sum
    assert [cell.source for cell in pages["bad"].cells][0] == "# The bad chapter"
    assert (
        "no earlier version" in pages["bad"].cells[1].source
        and "ZeroDivisionError" in pages["bad"].cells[1].source
    )
    assert "DeadKernelError" in pages["dead"].cells[1].source

    monkeypatch.setattr(build, "NotebookClient", Here)
    book(bad=["1 / 1"], dead=["1"], torn=["x = ("])
    assert {path.stem for path in build.execute()} == {"torn"}
    assert runs.read_text().split().count("good") == 1, "what passed does not run again"
    book(bad=["1 / 1 + 'x'"], torn=["x = 1"])
    failed = build.execute()
    assert {path.stem for path in failed} == {"bad"}
    old = staged(tmp_path, failed)["bad"]
    assert "last version that ran" in old.cells[1].source and "TypeError" in old.cells[1].source
    assert "1.0" in shown(old), "the outputs of that version"


@pytest.mark.usefixtures("without_kernels")
def test_prose_may_change_without_a_run_and_code_may_not(book, tmp_path):
    runs = book(one=["x = 1", "x + 1"])
    assert not build.execute()
    book(prose="In other words.", one=["x = 1  # a comment", "x + 1"])
    assert not build.execute() and runs.read_text().split() == ["one"]
    page = staged(tmp_path, {})["one"]
    assert "In other words." in page.cells[0].source and "2" in shown(page)
    book(one=["x = 1\nx + 1"])
    assert not build.execute() and runs.read_text().split() == ["one", "one"], (
        "other cells, the same code"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["x = 1", "x + 1\ny = 2"], ["x = 1\nx + 1", "y = 2"]),
        (["x"], ["x;"]),
        (["x = (\n    a\n    % 1\n)"], ["x = (\n    a\n    % 2\n)"]),
        (["%time f()"], ["%time g()"]),
        (["x = ("], ["y = ("]),
    ],
)
def test_cells_that_may_show_other_things_have_other_keys(one, other):
    keys = {
        shelf.key(new_notebook(cells=list(map(new_code_cell, codes)))) for codes in (one, other)
    }
    assert len(keys) == 2


@pytest.mark.usefixtures("without_kernels")
def test_what_changed_while_it_ran_is_not_kept(book, tmp_path):
    path = tmp_path / "notebooks/one.ipynb"
    change = "p.write_text(p.read_text().replace('1 + 1', '1 + 2'))"
    edit = f"import pathlib; p = pathlib.Path({str(path)!r}); {change}"
    book(one=[edit, "1 + 1"])
    failed = build.execute()
    assert failed == {path: build.CHANGED} and shelf.find(path) is None


def test_a_notebook_is_keyed_by_what_it_uses(monkeypatch, tmp_path):
    page = new_notebook(cells=[new_code_cell('import peeklib as pk\npk.evidence.table("cases")')])
    other = new_notebook(cells=[new_code_cell("import peeklib as pk\npk.spectrum(x)")])
    keys = shelf.key(page), shelf.key(other)
    for table in shelf.pk.evidence.FOLDER.glob("*.csv"):
        (tmp_path / table.name).write_text(
            table.read_text() + ("\n" if table.stem == "cases" else "")
        )
    monkeypatch.setattr(shelf.pk.evidence, "FOLDER", tmp_path)
    assert shelf.key(page) != keys[0] and shelf.key(other) == keys[1]
    monkeypatch.setattr(shelf, "_version", lambda name: "99")
    assert shelf.key(other) != keys[1]


def script_of(tmp_path, name, *codes, prose):
    """The percent script of a chapter that `book` wrote: its first cells of code are the same."""
    notebook = nbformat.read(tmp_path / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [cell.source for cell in notebook.cells[1:]]
    parts = [
        f"# %% [markdown]\n# # {name}\n# {prose}",
        *(f"# %%\n{code}" for code in (*cells, *codes)),
    ]
    (tmp_path / "notebooks" / f"{name}.py").write_text("\n\n".join(parts) + "\n")


@pytest.mark.usefixtures("without_kernels")
def test_a_page_has_the_prose_of_its_script(book, tmp_path):
    book(good=["1 + 1"])
    script_of(tmp_path, "good", prose="See {doc}`other`.")
    assert not build.execute()
    assert "{doc}`other`" in staged(tmp_path, {})["good"].cells[0].source


@pytest.mark.usefixtures("without_kernels")
def test_a_script_with_other_code_costs_its_chapter_and_says_what_to_do(book, tmp_path):
    """Its outputs would stand under code that never ran."""
    book(good=["1 + 1"], other=["2 + 2"])
    script_of(tmp_path, "good", "3 + 3", prose="More code.")
    script_of(tmp_path, "other", prose="Fine.")
    assert not build.execute()
    failed = build.stage(tmp_path / "source", {})
    assert [path.stem for path in failed] == ["good"] and "make sync" in next(iter(failed.values()))
    pages = tmp_path / "source/notebooks"
    good = nbformat.read(pages / "good.ipynb", as_version=4)
    assert "3 + 3" not in "".join(cell.source for cell in good.cells)
    assert "failed" in good.cells[1].source


def test_an_interrupt_ends_what_runs(book, tmp_path, monkeypatch, interruptible):
    """The kernel is in the middle of a cell; the notebook that waits does not begin."""
    monkeypatch.setattr(build, "WORKERS", 1)
    path = repr(str(tmp_path / "pid"))
    runs = book(
        first=[
            f"import os; open({path}, 'w').write(str(os.getpid()))",
            "import time; time.sleep(600)",
        ],
        next=[],
    )

    def interrupt():
        end = time.monotonic() + 300
        while (
            not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
            and time.monotonic() < end
        ):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt, daemon=True)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        build.execute()
    waiting.join()
    assert runs.read_text().split() == ["first"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.usefixtures("without_kernels")
def test_the_second_wave_waits_for_the_first(book, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "READERS", ("la",))
    path = repr(str(tmp_path / "runs"))
    runs = book(
        later=["1"], slow=[f"import time; time.sleep(0.5); open({path}, 'a').write('done ')"]
    )
    assert not build.execute()
    assert runs.read_text().split() == ["slow", "done", "later"]


@pytest.mark.usefixtures("without_kernels")
def test_what_other_pages_show_of_a_failed_chapter_has_a_place(book, tmp_path):
    book(bad=['pk.judge("figure-3", [1])', 'name = {"scrapbook": {"name": "explorer-x"}}'])
    page = staged(tmp_path, build.execute())["bad"]
    labels = [o.metadata.scrapbook.name for cell in page.cells for o in cell.get("outputs", [])]
    assert labels == ["claim-figure-3", "explorer-x"]


@pytest.mark.usefixtures("without_kernels")
def test_findings_apart_are_listed(book, tmp_path, capsys, monkeypatch):
    book(one=["import peeklib as pk\npk.recheck('accuracy', 0.9, 0.5)"])
    monkeypatch.setenv("PEEK_PROFILE", "full")
    monkeypatch.setattr(shelf, "_data", lambda: [])
    assert not build.execute()
    assert build.stage(tmp_path / "source", {}) == {}
    build.report([tmp_path / "source/notebooks/one.ipynb"])
    said = capsys.readouterr().out
    assert "one: accuracy: apart (table 0.9, here 0.5" in said


TWICE = """
import shutil, sys
import pytest
options, mended, bad = sys.argv[3:], *sys.argv[1:3]
codes = [pytest.main(options)]
shutil.copy(mended, bad)
print(*codes, pytest.main(options))
"""


def test_a_tested_notebook_is_an_executed_one(book, tmp_path, fresh):
    """The run that tests the notebooks is the run that the book shows; nothing runs twice."""
    bad, mended = tmp_path / "notebooks/bad.ipynb", tmp_path / "mended.ipynb"
    book(bad=["1 / 1"])
    bad.replace(mended)
    runs = book(good=["2 + 2"], bad=["1 / 0"])
    (tmp_path / "conftest.py").write_text(
        f"import shelf, pathlib\nshelf.ROOT = pathlib.Path({str(tmp_path)!r})\n"
    )
    plugins = ["-p", "nbval.plugin", "-p", "nbval_shelf", "-p", "no:cacheprovider"]
    done = fresh(
        TWICE,
        *(mended, bad, *plugins, "--nbval-lax", tmp_path / "notebooks"),
        path=[ROOT / "book"],
        folder=tmp_path,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # they take seconds to import
    )
    lines = done.stdout.splitlines()
    first, second = (line for line in lines if " passed" in line and " in " in line)
    assert "1 failed, 3 passed" in first, done.stdout + done.stderr
    assert "2 passed, 2 deselected" in second, "what passed is not run again"
    assert lines[-1] == "1 0"
    assert sorted(runs.read_text().split()) == ["bad", "bad", "good"]
    assert shown(shelf.find(tmp_path / "notebooks/good.ipynb")) == ["5", "4"] and shelf.find(bad)
    book(bad=["1 / 0"])
    assert shelf.find(bad) is None
