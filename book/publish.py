"""What lies beside the built pages, and the zip to take along.

`python book/publish.py` (`make offline`) packs the site, the wheel, the notebooks (as they are, for students, for who teaches)
and the stand-in data into _build/peek-offline.zip, which opens from a memory stick.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import kit
import nbformat
import sync
from address import ROOT
from PIL import Image

import peeklib as pk
from peeklib import storage
from peeklib.course.data import digits, digits_rgb
from peeklib.course.data.loading import SMALL

STAND_INS = {  # few images each, as in the small version of the book
    "digits": lambda: digits(*SMALL["digits"]),
    "digits-rgb": lambda: digits_rgb(*SMALL["digits-rgb"]),
}
SITE = ROOT / "_build/html"
ZIP = ROOT / "_build/peek-offline.zip"
START = '<!doctype html><meta charset="utf-8"><title>Peek</title><meta http-equiv="refresh" content="0; url=site/index.html">\n'
README = """Peek: a convolutional network through a factorization lens

index.html    opens the book; it needs no network
notebooks/    the chapters, for Jupyter
student/      the same without solutions and verdicts, to hand out; instructor/ with all of it, and notes
data/         the stand-ins for MNIST and CIFAR-10 as images, for your own experiments:
              set PEEK_DATA to this folder, then pk.load_dataset("stand-in-digits")

To run the notebooks, install the package, here, where PyTorch is there already or with a network:

    python -m pip install {wheel}
"""


def finish(site: Path) -> None:
    """Beside the pages: the wheel, notebooks to download, and word that GitHub Pages has nothing to build."""
    (site / ".nojekyll").touch()
    wheel = build_wheel(site)
    home = os.environ.get("PEEK_SITE_URL", "").rstrip("/")
    sources = site / "_sources/notebooks"
    sources.mkdir(parents=True, exist_ok=True)
    for script in sync.scripts():
        notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
        if home:
            sync.install_from(notebook, f"{home}/{wheel.name}")
        nbformat.write(notebook, sources / f"{script.stem}.ipynb")


def build_wheel(folder: Path) -> Path:
    """The package as a wheel in `folder`, made from a copy: setuptools leaves its traces where it works."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "peek"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "peeklib", copy / "peeklib", ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "-w", folder, copy], check=True)
    [wheel] = folder.glob("peeklib-*.whl")
    return wheel


def images_of(data: pk.Dataset, name: str) -> bytes:
    """A data set as a zip of PNG files, as `load_dataset` reads it from PEEK_DATA."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # PNG is compressed already
        for part in ("train", "test"):
            images, labels = getattr(data, part)
            pixels = images.movedim(1, -1).squeeze(-1).numpy()
            for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
                picture = io.BytesIO()
                Image.fromarray(image).save(picture, "png")
                path = f"{name}/{part}/{data.classes[label]}/{number:05d}.png"
                archive.writestr(path, picture.getvalue())
    return packed.getvalue()


def pack() -> Path:
    """The zip, whole or not at all."""
    with storage.written(ZIP) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(SITE.rglob("*")):
            if path.is_file() and path.suffix != ".whl":
                archive.write(path, Path("peek/site") / path.relative_to(SITE))
        for path in sorted((SITE / "_sources/notebooks").glob("*.ipynb")):
            notebook = kit.PAGE.sub(r"(../site/book/\1.html)", path.read_text())
            archive.writestr(f"peek/notebooks/{path.name}", notebook)
        for kind in kit.KINDS:
            for name, text in kit.texts(kind, "../site").items():
                archive.writestr(f"peek/{kind}/{name}", text)
        [wheel] = SITE.glob("*.whl")
        archive.write(wheel, f"peek/{wheel.name}")
        for name, draw in STAND_INS.items():
            named = f"stand-in-{name}"
            archive.writestr(f"peek/data/{named}.zip", images_of(draw(), named))
        archive.writestr("peek/index.html", START)
        archive.writestr("peek/README.txt", README.format(wheel=wheel.name))
    return ZIP


def main() -> int:
    if not (SITE / "index.html").exists():
        print("There is no book to pack yet: run `make book` first.")
        return 1
    print(f"{pack()}: {ZIP.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
