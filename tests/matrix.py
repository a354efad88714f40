"""Unit tests and embedded notebooks in other versions of Python and of what Peek needs.

    python tests/matrix.py [--no-notebooks] [ENVIRONMENT ...]

Each environment of the table below is made under _build/matrix by uv, which shares equal files between them. All are run,
whatever fails; the last lines say what did. Needs the Pythons: on PATH, or where pyenv keeps them.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = "requirements.txt"
ENVIRONMENTS = {  # Python, and the file that fixes the versions
    "py311": ("3.11", PINS),
    "py312": ("3.12", PINS),
    "py313": ("3.13", PINS),
    "colab": ("3.13", "requirements/colab.txt"),
    "lowest": ("3.11", "requirements/lowest.txt"),
}
# The book itself is built with our pins only
BUILDERS = ["tests/test_book.py", "tests/test_build.py", "tests/test_doors.py"]


class Missing(Exception):
    """What this machine lacks for an environment."""


def interpreter(version: str) -> str:
    """A Python of this version that runs; pyenv puts ones on PATH that do not."""
    named = shutil.which(f"python{version}")
    kept = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    for candidate in filter(None, [named, *map(str, kept)]):
        if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    raise Missing(
        f"no Python {version} here: install it, or leave out the environments that need it"
    )


def uv() -> str:
    """The uv beside this Python, or that on PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise Missing("no uv here: `pip install uv`")
    return found


def make(name: str) -> Path:
    """Make or refresh the environment; gives its Python."""
    version, pins = ENVIRONMENTS[name]
    tool = uv()  # before anything is made
    folder = ROOT / "_build" / "matrix" / name
    python = folder / "bin" / "python"
    if pins == PINS:
        call("make", "setup", f"VENV={folder}", f"PYTHON={interpreter(version)}")
        return python
    if not python.exists():
        call(interpreter(version), "-m", "venv", folder)
    install = [tool, "pip", "install", "-q", "--python", python]
    call(*install, "--group", "test", "-e", ".", "-c", pins)
    return python


def call(*command: str | Path, **settings: str) -> None:
    print("$", *command, flush=True)
    environment = {**os.environ, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", **settings}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)


def unit(name: str, python: Path) -> None:
    """The unit tests; where the book cannot be built, without those of its builder."""
    others = ENVIRONMENTS[name][1] != PINS
    ignored = [f"--ignore={path}" for path in BUILDERS if others or "book" in path]
    call(
        python,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "worksteal",
        "-p",
        "no:cacheprovider",
        *ignored,
        "tests",
    )


def notebooks(name: str, python: Path) -> None:
    """All notebooks in their small version."""
    nbval = ["--dist", "loadfile", "--nbval-lax", "--nbval-cell-timeout=1800"]
    call(
        python,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        *nbval,
        "notebooks",
        PEEK_PROFILE="embedded",
    )


def failures(name: str, parts: list) -> list[str]:
    """Names of the parts that fail in this environment, or what is missing for it."""
    try:
        python = make(name)
    except Missing as what:
        return [str(what)]
    except subprocess.CalledProcessError:
        return ["installation"]
    failed = []
    for part in parts:
        try:
            part(name, python)
        except subprocess.CalledProcessError:
            failed.append(part.__name__)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests in other versions.")
    parser.add_argument(
        "environments", nargs="*", default=list(ENVIRONMENTS), metavar="ENVIRONMENT"
    )
    parser.add_argument("--no-notebooks", action="store_true", help="the unit tests only")
    options = parser.parse_args()
    if unknown := set(options.environments) - set(ENVIRONMENTS):
        parser.error(f"no environment {sorted(unknown)}; there are {', '.join(ENVIRONMENTS)}")
    parts = [unit] if options.no_notebooks else [unit, notebooks]
    failed = {name: failures(name, parts) for name in options.environments}
    for name, which in failed.items():
        print(f"{name:8} {'failed: ' + ', '.join(which) if which else 'passed'}")
    return int(any(failed.values()))


if __name__ == "__main__":
    sys.exit(main())
