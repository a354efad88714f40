"""Running the notebooks before the build: side by side, each once, and a failing cell is not lost."""

import asyncio
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import build  # noqa: E402


def test_every_chapter_runs_and_those_that_read_others_run_later():
    first, second = ([path.stem for path in wave] for wave in build.waves())
    assert sorted(first + second) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert [name[:2] for name in first[:2]] == ["03", "09"]
    assert {name[:2] for name in second} == {"05", "06", "10", "12"}


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of notebooks that note each run in a file."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(build, "ROOT", tmp_path)
    loops, new = [], asyncio.new_event_loop
    # each thread that runs a kernel makes an event loop, with two sockets, that nobody closes
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(new()) or loops[-1])

    def write(**cells):
        files = []
        for name, code in cells.items():
            run = f"open({str(tmp_path / 'runs')!r}, 'a').write('{name} ')\n{code}"
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(run)])
            nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
            files.append(f"      - file: notebooks/{name}")
        (tmp_path / "_toc.yml").write_text("parts:\n  - chapters:\n" + "\n".join(files) + "\n")
        return tmp_path / "runs"

    yield write
    for loop in loops:
        loop.close()


def test_what_ran_is_kept_and_a_failure_is_told(book, tmp_path, capsys):
    runs = book(good="2 + 2", bad="1 / 0", dead="import os; os._exit(1)")
    assert not build.execute(tmp_path / "cache")
    said = capsys.readouterr().out
    assert "bad failed" in said and "ZeroDivisionError" in said and "dead failed" in said
    assert sorted(runs.read_text().split()) == ["bad", "dead", "good"]
    book(good="2 + 2", bad="1 / 1")
    assert build.execute(tmp_path / "cache")
    assert sorted(runs.read_text().split()) == ["bad", "bad", "dead", "good"], "what passed does not run again"


def test_the_second_wave_waits_for_the_first(book, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "READERS", ("la",))
    runs = book(
        later="1",
        slow="import time; time.sleep(2); open(PATH, 'a').write('done ')".replace("PATH", repr(str(tmp_path / "runs"))),
    )
    assert build.execute(tmp_path / "cache")
    assert runs.read_text().split() == ["slow", "done", "later"]
