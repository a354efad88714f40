"""The licences of everything that a lock names, as a table: `python book/licences.py` writes LICENSES.md.

`make lock` runs it. What is installed says itself what its licence is; what other systems need and this one has not keeps
the line that it has, and one that is new has to be written by hand.
"""

import re
import sys
from importlib import metadata

from address import ROOT

PAGE = ROOT / "LICENSES.md"
LOCKS = ("requirements.txt", "requirements/cuda.txt")
PIN = re.compile(r"^([a-z0-9-]+)(?:\[\S+\])?==", re.MULTILINE)
ROW = re.compile(r"^\| ([a-z0-9-]+) \| (.+?) \|", re.MULTILINE)
STRINGS = re.compile(r"GPL|GNU|MPL|Mozilla|EUPL|NVIDIA")  # copyleft or proprietary
HEAD = """\
# Licences

`peeklib` and the book have the MIT licence ([LICENSE](LICENSE)). The wheel holds nothing of others. The built site holds styles and
scripts of its themes, with Font Awesome, and MathJax. The table has what `make setup` installs on some system or other, as each
package says of itself; `make lock` writes it. **Bold** is copyleft or proprietary:

- codespell is a tool for those who change the book. docutils has one file for Emacs under the GPL.
- certifi, hypothesis and tqdm: their own files stay under the MPL, what uses them does not.
- NVIDIA's libraries are what PyTorch's CUDA build on Linux needs, under NVIDIA's terms. `make CPU=1 setup` does without.

Wheels carry libraries that the table does not name: in those of NumPy, SciPy, scikit-learn and PyTorch for Linux are GCC's,
under the GPL with the exception that frees what uses them, and its libquadmath, under the LGPL.

| package | licence |
|---|---|
"""


def pinned() -> list[str]:
    """Names of what the locks pin."""
    return sorted(name for lock in LOCKS for name in PIN.findall((ROOT / lock).read_text()))


def written() -> dict[str, str]:
    """What the page says now."""
    text = PAGE.read_text() if PAGE.exists() else ""
    _, _, text = text.rpartition("|---|---|\n")
    return {name: licence.strip("*") for name, licence in ROW.findall(text)}


def said(name: str) -> str | None:
    """The licence of an installed package, in its own words; None for one that is not installed or says nothing."""
    try:
        about = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        return None
    line = str(about.get("license", "")).strip()
    short = line if len(line) < 40 and line != "UNKNOWN" else ""
    classes = [entry for entry in about.get("classifier", []) if entry.startswith("License")]
    listed = ", ".join(entry.split(" :: ")[-1] for entry in classes)
    return str(about.get("license_expression", "")) or short or listed or None


def row(name: str, licence: str) -> str:
    return f"| {name} | {f'**{licence}**' if STRINGS.search(licence) else licence} |\n"


def main() -> int:
    known = written()
    licences = {name: said(name) or known.get(name, "") for name in pinned()}
    silent = [name for name, licence in licences.items() if not licence]
    if silent:
        print(f"No licence is known of {', '.join(silent)}: write a line for each in {PAGE.name}.")
        return 1
    PAGE.write_text(HEAD + "".join(row(*item) for item in licences.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
