"""Build the book into _build/html, or _build/embedded/_build/html under PEEK_PROFILE=embedded.

Notebooks run two at a time, each on its share of the cores, before Sphinx starts. Executed ones are kept in a cache whose folder is named by a hash of everything they depend on besides
their own cells: the package, the pins, the interpreter, the profile, the data and the evidence. Warnings and failing cells
fail the build.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import traceback
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import torch
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution

import peeklib as pk

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
LONG, READERS = (
    ("03", "09"),
    ("05", "06", "10", "12"),
)  # chapters that train for long, and those that read what they kept


def key() -> str:
    """Hash of what the notebooks run with. Finding the data here also downloads it, once for all of them."""
    data = [repr(pk.load_dataset(name, fallback=True)) for name in ("mnist", "cifar10")]
    facts = [sys.version, torch.__version__, torch.cuda.is_available(), *data]
    digest = hashlib.sha256(repr(facts).encode())
    evidence = sorted((ROOT / "peeklib/course/evidence").glob("*.csv"))
    for file in [ROOT / "requirements.txt", *evidence, *sorted((ROOT / "peeklib").rglob("*.py"))]:
        digest.update(file.read_bytes())
    if pk.profile() == "full" and "PEEK_DATA" in os.environ:
        for file in sorted(Path(os.environ["PEEK_DATA"]).rglob("*")):
            stat = file.stat()
            digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}".encode())
    return f"{pk.profile()}-{digest.hexdigest()[:16]}"


def cache() -> Path:
    """The cache folder of these facts; those that this profile left behind under other facts are removed."""
    here = ROOT / "_build" / "cache" / key()
    for other in here.parent.glob(f"{pk.profile()}-*"):
        if other != here:
            shutil.rmtree(other)
    return here


def write_config(folder: Path) -> Path:
    """_config.yml with what only this machine knows: where the cache and MathJax are."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"]["cache"] = str(folder)
    mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static"
    config["sphinx"]["config"]["html_static_path"].append(str(mathjax))
    path = ROOT / "_build" / "config.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def waves() -> list[list[Path]]:
    """The notebooks of the book, those that read others' results in the second of two lists; long ones first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    notebooks = [ROOT / f"{file}.ipynb" for file in files if file.startswith("notebooks/")]
    notebooks.sort(key=lambda path: (path.name[:2] not in LONG, path.name))
    return [[path for path in notebooks if (path.name[:2] in READERS) == late] for late in (False, True)]


def execute(folder: Path) -> bool:
    """Run what is not in the cache there yet, side by side; True if nothing failed."""
    shelf = get_cache(str(folder))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
    return all([run(wave, shelf) for wave in waves()])


def run(wave: list[Path], shelf) -> bool:
    """Run and keep these notebooks; one that fails is told and does not stop the others."""
    waiting = {}
    for path in wave:
        notebook = nbformat.read(path, as_version=4)
        try:
            shelf.match_cache_notebook(notebook)
        except KeyError:
            waiting[path] = notebook
    failed = []
    with ThreadPoolExecutor(WORKERS) as pool:
        how = {"cwd": str(ROOT / "notebooks"), "timeout": None, "allow_errors": False}
        running = {pool.submit(single_nb_execution, notebook, **how): path for path, notebook in waiting.items()}
        try:
            for future in as_completed(running):
                if not keep(running[future], future, shelf):
                    failed.append(running[future])
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return not failed


def keep(path: Path, future: Future, shelf) -> bool:
    """Put a notebook that ran into the cache, or say why it failed."""
    try:
        result = future.result()
        failure = result.exc_string
    except Exception:  # a kernel that died
        failure = traceback.format_exc()
    if failure:
        print(f"{path.stem} failed:\n{failure}", flush=True)
        return False
    bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})
    shelf.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    print(f"{path.stem}: {result.time:.0f} s", flush=True)
    return True


def main() -> int:
    (ROOT / "_build").mkdir(exist_ok=True)
    if os.environ.get("PEEK_DATA"):  # notebooks run in their own folder
        os.environ["PEEK_DATA"] = str(Path(os.environ["PEEK_DATA"]).expanduser().resolve())
    output = ROOT if pk.profile() == "full" else ROOT / "_build" / "embedded"
    site = output / "_build" / "html"
    shutil.rmtree(site, ignore_errors=True)  # no page of a chapter that is gone
    os.environ["TQDM_DISABLE"] = "1"
    folder = cache()
    config = write_config(folder)
    if not execute(folder):
        return 1
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    options = ["--config", config, "--path-output", output, "--all", "-W", "--keep-going", "-q"]
    done = subprocess.run([jupyter_book, "build", ROOT, *options])
    if done.returncode:
        return done.returncode
    print(f"\nThe book is in {site}/index.html ({pk.profile()} profile). Its pages ran on:")
    for page in sorted((site / "notebooks").glob("*.html")):
        print(f"  {page.stem}: {', '.join(sorted(sources(page.read_text()))) or 'no data set'}")
    return 0


def sources(html: str) -> set[str]:
    """Names of the data sets that a built page says it ran on."""
    return set(re.findall(r'data-source="([^"]+)"', html))


if __name__ == "__main__":
    sys.exit(main())
