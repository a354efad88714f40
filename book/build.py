"""Build the book into _build/html, or _build/embedded/_build/html under PEEK_PROFILE=embedded.

Notebooks that are not on the shelf yet run side by side, each on its share of the cores. Then Sphinx reads them, with their
outputs, from a copy of the book under _build. A chapter that fails costs that chapter: its last version that ran stands in
its place, or a plain note, the command says which and why, and exits with 1.
"""

import asyncio
import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import api
import nbformat
import shelf
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

import peeklib as pk

ROOT = Path(__file__).resolve().parent.parent
CHANGED = "The notebook or the package changed while it ran; build the book again."
CORES = os.cpu_count() or 1
WORKERS = min(4, CORES)
LONG = ("03", "09")  # chapters that train for long: they start first
READERS = (
    "05",
    "06",
    "07",
    "10",
    "12",
)  # chapters that read what those keep: they start when all others have


def waves() -> list[list[Path]]:
    """The notebooks of the book, those that read others' results in the second of two lists; long ones first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    notebooks = [ROOT / f"{file}.ipynb" for file in files if file.startswith("notebooks/")]
    notebooks.sort(key=lambda path: (path.name[:2] not in LONG, path.name))
    return [
        [path for path in notebooks if (path.name[:2] in READERS) == late] for late in (False, True)
    ]


def execute() -> dict[Path, str]:
    """Run every notebook that is not on the shelf; those that failed, and why."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, CORES // WORKERS)))
    failed, clients = {}, []
    for wave in waves():
        waiting = [path for path in wave if shelf.find(path) is None]
        with ThreadPoolExecutor(WORKERS) as pool:
            running = {pool.submit(run, path, clients): path for path in waiting}
            try:
                for future in as_completed(running):
                    if why := future.result():
                        failed[running[future]] = why
                        print(f"{running[future].stem} failed:\n{why}", flush=True)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                while not all(
                    future.done() for future in running
                ):  # some kernels may be about to start
                    kill(clients)
                    time.sleep(0.1)
                raise
    return failed


def kill(clients: list[NotebookClient]) -> None:
    """End the kernels that run, and with them the notebooks that wait for them."""
    for client in clients:
        process = getattr(getattr(client.km, "provisioner", None), "process", None)
        if process is not None:
            process.kill()


def run(path: Path, clients: list[NotebookClient]) -> str:
    """Run one notebook, its client added to `clients`, and keep it; why it failed, or nothing."""
    notebook, started = nbformat.read(path, as_version=4), time.perf_counter()
    key = shelf.key(notebook)
    where = {"metadata": {"path": str(path.parent)}}
    try:
        client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where)
        clients.append(client)
        asyncio.run(client.async_execute())  # `execute` would leave its event loop open
    except CellExecutionError as why:
        return str(why)
    except Exception as why:  # a kernel that died
        return f"{type(why).__name__}: {why}"
    seconds = time.perf_counter() - started
    if not shelf.keep(path, key, notebook, seconds):
        return CHANGED
    print(f"{path.stem}: {seconds:.0f} s", flush=True)
    return ""


def stage(folder: Path, failed: dict[Path, str]) -> list[Path]:
    """Copy the book into `folder`, notebooks with their outputs; returns these."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    (folder / "book" / "api.md").write_text(api.page())
    shutil.copy(ROOT / "_toc.yml", folder)
    (folder / "notebooks").mkdir()
    write_config(folder / "_config.yml")
    staged = []
    for path in [path for wave in waves() for path in wave]:
        if path not in failed and shelf.find(path) is None:
            failed[path] = CHANGED
        notebook = in_place_of(path, failed[path]) if path in failed else shelf.find(path)
        staged.append(folder / "notebooks" / path.name)
        nbformat.write(notebook, staged[-1])
    return staged


def write_config(path: Path) -> None:
    """_config.yml with what only this machine knows: where MathJax is. Nothing is executed any more."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"
    mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static"
    config["sphinx"]["config"]["html_static_path"].append(str(mathjax))
    path.write_text(yaml.safe_dump(config))


def in_place_of(path: Path, why: str) -> NotebookNode:
    """What stands where a chapter failed: its last version that ran, or its title, with a note on top."""
    reason = why.strip().splitlines()[-1] if why.strip() else "no reason given"
    old = shelf.last(path)
    says = (
        "What follows is its last version that ran."
        if old
        else "There is no earlier version to show."
    )
    text = f"{MARK}\n**This chapter failed when this book was built.** {says} It stopped with:\n\n```\n{reason}\n```\n:::"
    note = nbformat.v4.new_markdown_cell(text, id="failed")
    if old:
        return nbformat.v4.new_notebook(
            cells=[old.cells[0], note, *old.cells[1:]], metadata=old.metadata
        )
    chapter = nbformat.read(path, as_version=4)
    title = chapter.cells[0].source.split("\n")[0]
    source = "\n".join(cell.source for cell in chapter.cells)
    shown = [missing(name) for name in dict.fromkeys(re.findall(SHARED, source))]
    cells = [nbformat.v4.new_markdown_cell(title, id="title"), note, *shown]
    return nbformat.v4.new_notebook(cells=cells, metadata=chapter.metadata)


MARK = ":::{admonition} Not up to date\n:class: warning"
SHARED = r'"name": "([\w-]+)"|(?:judge|persists|spectral)\(\s*"([\w-]+)"'  # what other pages show of a chapter


def missing(name: tuple[str, str]) -> NotebookNode:
    """A cell whose output stands for one that another page shows."""
    label = name[0] or f"claim-{name[1]}"
    data = {
        "text/html": f"<p>{label}: the chapter that shows this failed.</p>",
        "text/plain": f"{label}: missing",
    }
    about = {"scrapbook": {"name": label, "mime_prefix": ""}}
    output = nbformat.v4.new_output("display_data", data, metadata=about)
    return nbformat.v4.new_code_cell(id=label, outputs=[output], metadata={"tags": ["remove-cell"]})


def htmls(notebook: NotebookNode) -> Iterator[str]:
    """The HTML outputs of a notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield output.get("data", {}).get("text/html", "")


def report(staged: list[Path]) -> None:
    """Say what each chapter ran on, and which findings are apart from the tables of evidence."""
    apart = []
    for path in sorted(staged):
        text = "\n".join(htmls(nbformat.read(path, as_version=4)))
        print(f"  {path.stem}: {', '.join(sorted(sources(text))) or 'no data set'}")
        found = re.findall(r'data-recheck="apart" data-what="([^"]+)"', text)
        apart += [f"  {path.stem}: {html.unescape(what)}" for what in found]
    if apart:
        print("Findings that are apart from the tables of evidence here; their pages say so:")
        print("\n".join(apart))


def sources(text: str) -> set[str]:
    """Names of the data sets that a page says it ran on."""
    return set(re.findall(r'data-source="([^"]+)"', text))


def main() -> int:
    if os.environ.get("PEEK_DATA"):  # notebooks run in their own folder
        os.environ["PEEK_DATA"] = str(Path(os.environ["PEEK_DATA"]).expanduser().resolve())
    os.environ["TQDM_DISABLE"] = "1"
    output = ROOT if pk.profile() == "full" else ROOT / "_build" / "embedded"
    site = output / "_build" / "html"
    failed = execute()
    source = ROOT / "_build" / "source" / pk.profile()
    staged = stage(source, failed)
    before = site.with_name("before")
    shutil.rmtree(before, ignore_errors=True)
    if site.exists():
        site.rename(before)  # no page of a chapter that is gone
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    done = subprocess.run(
        [
            jupyter_book,
            "build",
            source,
            "--path-output",
            output,
            "--all",
            "-W",
            "--keep-going",
            "-q",
        ]
    )
    if not (site / "index.html").exists():
        print(f"\nSphinx failed; the last book is in {before}")
        return 1
    shutil.rmtree(before, ignore_errors=True)
    print(f"\nThe book is in {site}/index.html ({pk.profile()} profile). Its pages ran on:")
    report([path for path in staged if path.stem not in {other.stem for other in failed}])
    for path, why in failed.items():
        print(f"{path.stem} failed, and its page says so: {why.strip().splitlines()[-1]}")
    return 1 if failed else done.returncode


if __name__ == "__main__":
    sys.exit(main())
