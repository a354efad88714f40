"""Build the book into _build/html, or _build/embedded/_build/html under PEEK_PROFILE=embedded.

Executed notebooks are kept in a cache whose folder is named by a hash of everything they depend on besides
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
from pathlib import Path

import torch
import yaml

import peeklib as pk

ROOT = Path(__file__).resolve().parent.parent


def key() -> str:
    """Hash of what the notebooks run with. Finding the data here also downloads it, once for all of them."""
    data = [repr(pk.load_dataset(name, fallback=True)) for name in ("mnist", "cifar10")]
    facts = [sys.version, torch.__version__, torch.cuda.is_available(), *data]
    digest = hashlib.sha256(repr(facts).encode())
    evidence = [*sorted((ROOT / "book/evidence").glob("*.csv")), *sorted((ROOT / "benchmarks/results").glob("*.csv"))]
    for file in [ROOT / "requirements.txt", *evidence, *sorted((ROOT / "peeklib").glob("*.py"))]:
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


def write_config() -> Path:
    """_config.yml with what only this machine knows: where the cache and MathJax are."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"]["cache"] = str(cache())
    mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static"
    config["sphinx"]["config"]["html_static_path"].append(str(mathjax))
    path = ROOT / "_build" / "config.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def main() -> int:
    (ROOT / "_build").mkdir(exist_ok=True)
    if os.environ.get("PEEK_DATA"):  # notebooks run in their own folder
        os.environ["PEEK_DATA"] = str(Path(os.environ["PEEK_DATA"]).expanduser().resolve())
    output = ROOT if pk.profile() == "full" else ROOT / "_build" / "embedded"
    site = output / "_build" / "html"
    shutil.rmtree(site, ignore_errors=True)  # no page of a chapter that is gone
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    options = ["--config", write_config(), "--path-output", output, "--all", "-W", "--keep-going", "-q"]
    done = subprocess.run([jupyter_book, "build", ROOT, *options], env={**os.environ, "TQDM_DISABLE": "1"})
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
