"""Build the book into _build/html, or _build/embedded/_build/html under PEEK_PROFILE=embedded.

Executed notebooks are kept in a cache whose folder is named by a hash of everything they depend on besides
their own cells: the package, the pins, the profile and the data. Warnings and failing cells fail the build.
"""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

import peeklib as pk

ROOT = Path(__file__).resolve().parent.parent


def key() -> str:
    """Hash of the package, the pins, the profile, and the names, sizes and times of the data files."""
    digest = hashlib.sha256(pk.profile().encode())
    for file in [ROOT / "requirements.txt", *sorted((ROOT / "peeklib").glob("*.py"))]:
        digest.update(file.read_bytes())
    if pk.profile() == "full" and os.environ.get("PEEK_DATA"):
        for file in sorted(Path(os.environ["PEEK_DATA"]).rglob("*")):
            stat = file.stat()
            digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def main() -> int:
    output = ROOT if pk.profile() == "full" else ROOT / "_build" / "embedded"
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"]["cache"] = str(ROOT / "_build" / "cache" / key())
    mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static"
    config["sphinx"]["config"]["html_static_path"].append(str(mathjax))
    with_cache = ROOT / "_build" / "config.yml"
    with_cache.parent.mkdir(exist_ok=True)
    with_cache.write_text(yaml.safe_dump(config))
    environment = {**os.environ, "PEEK_PROFILE": pk.profile(), "TQDM_DISABLE": "1"}
    options = ["--config", with_cache, "--path-output", output, "--all", "-W", "--keep-going", "-q"]
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    done = subprocess.run([jupyter_book, "build", ROOT, *options], env=environment)
    if done.returncode:
        return done.returncode
    site = output / "_build" / "html"
    print(f"\nThe book is in {site}/index.html ({pk.profile()} profile). Its pages ran on:")
    for page in sorted((site / "notebooks").glob("*.html")):
        print(f"  {page.stem}: {', '.join(sorted(sources(page.read_text()))) or 'no data set'}")
    return 0


def sources(html: str) -> set[str]:
    """Names of the data sets that a built page says it ran on."""
    return set(re.findall(r'data-source="([^"]+)"', html))


if __name__ == "__main__":
    sys.exit(main())
