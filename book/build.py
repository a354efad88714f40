"""Build the book into _build/html, or _build/embedded/_build/html under PEEK_PROFILE=embedded.

Notebooks that are not on the shelf yet run side by side, each on its share of the cores. Then
Sphinx reads them, with their outputs, from a copy of the book under _build. A chapter that fails
costs that chapter: its last version that ran stands in its place, or a plain note, the command
says which and why, and exits with 1.
"""

import asyncio
import html
import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import address
import api
import nbformat
import policy
import publish
import shelf
import sync
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
READERS = ("05", "06", "07", "10", "12", "16")  # they read what those keep, and start after all others
MARK = ":::{admonition} Not up to date\n:class: warning"
# what other pages show of a chapter
SHARED = r'"name": "([\w-]+)"|(?:judge|persists|spectral)\(\s*"([\w-]+)"'


def waves() -> list[list[Path]]:
    """The notebooks in two lists, long ones first; the second reads results of the first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    notebooks = [ROOT / f"{file}.ipynb" for file in files if file.startswith("notebooks/")]
    notebooks.sort(key=lambda path: (path.name[:2] not in LONG, path.name))
    first = [path for path in notebooks if path.name[:2] not in READERS]
    second = [path for path in notebooks if path.name[:2] in READERS]
    return [first, second]


def execute() -> dict[Path, str]:
    """Run every notebook that is not on the shelf; those that failed, and why."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, CORES // WORKERS)))
    failed = {}
    for wave in waves():
        runner = Runner()
        waiting = [path for path in wave if shelf.find(path) is None]
        with ThreadPoolExecutor(WORKERS) as pool:
            running = {pool.submit(runner.run, path): path for path in waiting}
            try:
                for future in as_completed(running):
                    if why := future.result():
                        failed[running[future]] = why
                        print(f"{running[future].stem} failed:\n{why}", flush=True)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                runner.kill_until_done(list(running))
                raise
    return failed


class Runner:
    """Runs notebooks, from several threads, and can end those that run."""

    def __init__(self):
        self.clients: list[NotebookClient] = []

    def run(self, path: Path) -> str:
        """Run one notebook, and keep it; why it failed, or nothing."""
        notebook, started = nbformat.read(path, as_version=4), time.perf_counter()
        key = shelf.key(notebook)
        where = {"metadata": {"path": str(path.parent)}}
        try:
            client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where)
            self.clients.append(client)
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

    def kill_until_done(self, running: list[Future]) -> None:
        """End the kernels that run or are about to start, and with them their notebooks."""
        while not all(future.done() for future in running):
            for client in self.clients:
                process = getattr(getattr(client.km, "provisioner", None), "process", None)
                if process is not None:
                    process.kill()
            time.sleep(0.1)


def stage(folder: Path, failed: dict[Path, str]) -> dict[Path, str]:
    """Copy the book into `folder`, notebooks with their outputs.

    Returns:
        What failed, and why: as given, and notebooks that are not on the shelf as they are now.
    """
    shutil.rmtree(folder, ignore_errors=True)
    no_code = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(ROOT / "book", folder / "book", ignore=no_code)
    (folder / "book" / "api.md").write_text(api.page())
    shutil.copy(ROOT / "_toc.yml", folder)
    (folder / "notebooks").mkdir()
    write_config(folder / "_config.yml")
    reasons = dict(failed)
    for path in chapters():
        notebook = None if path in failed else shelf.find(path)
        if notebook is None:
            reasons.setdefault(path, CHANGED)
        elif not take_prose(notebook, path):
            reasons[path] = f"{path.name} is not what its script says; run `make sync`."
        if path in reasons:
            notebook = in_place_of(path, reasons[path])
        nbformat.write(notebook, folder / "notebooks" / path.name)
    return reasons


def take_prose(notebook: NotebookNode, path: Path) -> bool:
    """Give a notebook the prose of its script, whose cross references are for Sphinx, and a badge.

    Returns:
        False, and nothing is changed, if the two have other code.
    """
    script, home = path.with_suffix(".py"), address.find(ROOT)
    if script.exists():
        pages = sync.paired(script.read_text()).cells
        if code_of(pages) != code_of(notebook.cells):
            return False
        for cell, own in zip(notebook.cells, pages, strict=True):
            cell.source = own.source
    if home:
        sync.add_badge(notebook, "../book/_static/colab.svg", home.colab(f"notebooks/{path.name}"))
    return True


def code_of(cells: list[NotebookNode]) -> list[str]:
    """The source of each cell of code, and an empty one for each of prose."""
    return [cell.source if cell.cell_type == "code" else "" for cell in cells]


def chapters() -> list[Path]:
    """All notebooks of the book."""
    return [path for wave in waves() for path in wave]


def write_config(path: Path) -> None:
    """_config.yml with what this machine knows: where MathJax is, and where this copy lives.

    Nothing is executed again. Buttons that need an address are there if there is one.
    """
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"]["execute_notebooks"] = "off"
    mathjax = importlib.resources.files("sphinx-mathjax-offline") / "static"
    config["sphinx"]["config"]["html_static_path"].append(str(mathjax))
    home = address.find(ROOT)
    if home:
        config["repository"] = {"url": home.url, "branch": home.branch}
        config["launch_buttons"] = {"colab_url": "https://colab.research.google.com"}
        config["html"] |= {"use_repository_button": True, "use_issues_button": True}
    path.write_text(yaml.safe_dump(config))


def in_place_of(path: Path, why: str) -> NotebookNode:
    """What stands where a chapter failed: its last version that ran, or its title, under a note."""
    old = shelf.last(path)
    if old:
        take_prose(old, path)
        cells = [old.cells[0], failure(why, "What follows is its last version that ran.")]
        return nbformat.v4.new_notebook(cells=cells + old.cells[1:], metadata=old.metadata)
    chapter = nbformat.read(path, as_version=4)
    title = chapter.cells[0].source.split("\n")[0]
    source = "\n".join(cell.source for cell in chapter.cells)
    shown = [missing(name) for name in dict.fromkeys(re.findall(SHARED, source))]
    note = failure(why, "There is no earlier version to show.")
    cells = [nbformat.v4.new_markdown_cell(title, id="title"), note, *shown]
    return nbformat.v4.new_notebook(cells=cells, metadata=chapter.metadata)


def failure(why: str, instead: str) -> NotebookNode:
    """A cell that says that a chapter failed, and what stands there instead."""
    reason = why.strip().splitlines()[-1] if why.strip() else "no reason given"
    says = f"**This chapter failed when this book was built.** {instead} It stopped with:"
    text = f"{MARK}\n{says}\n\n    {reason}\n:::"  # indented: no fence that its words could end
    return nbformat.v4.new_markdown_cell(text, id="failed")


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


def report(pages: list[Path]) -> None:
    """Say what each chapter ran on, and which findings are apart from the tables of evidence."""
    apart = []
    for path in sorted(pages):
        text = "\n".join(htmls(nbformat.read(path, as_version=4)))
        print(f"  {path.stem}: {', '.join(sorted(sources(text))) or 'no data set'}")
        for what in re.findall(r'data-recheck="apart" data-what="([^"]+)"', text):
            apart.append(f"  {path.stem}: {html.unescape(what)}")
    if apart:
        print("Findings that are apart from the tables of evidence here; their pages say so:")
        print("\n".join(apart))


def sources(text: str) -> set[str]:
    """Names of the data sets that a page says it ran on."""
    return set(re.findall(r'data-source="([^"]+)"', text))


def write_site(source: Path, output: Path) -> int:
    """Let Sphinx write the pages below `output`, in place of those of before; its exit code.

    Each page then has a policy on what it may run.
    """
    site = output / "_build" / "html"
    before = site.with_name("before")
    shutil.rmtree(before, ignore_errors=True)
    if site.exists():
        site.rename(before)  # no page of a chapter that is gone
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    options = ["--path-output", output, "--all", "-W", "--keep-going", "-q"]
    done = subprocess.run([jupyter_book, "build", source, *options])
    if (site / "index.html").exists():
        policy.secure(site)
        shutil.rmtree(before, ignore_errors=True)
    else:
        print(f"\nSphinx failed; the last book is in {before}")
    return done.returncode


def main() -> int:
    if os.environ.get("PEEK_DATA"):  # notebooks run in their own folder
        os.environ["PEEK_DATA"] = str(Path(os.environ["PEEK_DATA"]).expanduser().resolve())
    os.environ["TQDM_DISABLE"] = "1"
    source = ROOT / "_build" / "source" / pk.profile()
    output = ROOT if pk.profile() == "full" else ROOT / "_build" / "embedded"
    index = output / "_build" / "html" / "index.html"
    failed = stage(source, execute())
    code = write_site(source, output)
    if not index.exists():
        return 1
    if pk.profile() == "full":
        publish.finish(index.parent)
    print(f"\nThe book is in {index} ({pk.profile()} profile). Its pages ran on:")
    report([source / "notebooks" / path.name for path in chapters() if path not in failed])
    home = address.find(ROOT)
    if home and home != sync.home():
        print(
            f"The buttons lead to {home.url}; the notebooks there do not know it yet: `make sync`,"
        )
        print("commit and push.")
    for path, why in failed.items():
        print(f"{path.stem} failed, and its page says so: {why.strip().splitlines()[-1]}")
    return 1 if failed else code


if __name__ == "__main__":
    sys.exit(main())
