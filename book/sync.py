"""Write each notebook from its percent script, and the repository's address wherever it belongs.

`python book/sync.py` writes; `python book/sync.py --check` only tells what differs, and exits with 1 if anything does.
The .py of a pair is what people edit. Its .ipynb has the same cells, but is made to be read outside the book: links and
citations that MyST would resolve are plain Markdown, and a badge opens it in Colab. `address.find` says where this copy
lives; while nobody knows, nothing here names an address. Needs jupytext, PyYAML and pybtex alone.
"""

import functools
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import address
import jupytext
import nbformat
from address import ROOT, Address
from pybtex.database import parse_file

FIRST = re.compile(r'# %% tags=\["remove-cell"\]\n.*?(?=\n# %%)', re.DOTALL)
PIP = re.compile(r'(?<=^PEEKLIB = ")[^"]*', re.MULTILINE)
BIBLIOGRAPHY = re.compile(r"\s*References are in the\s\{doc\}`\.\./book/bibliography`\.")
BRACES = {ord("{"): None, ord("}"): None}
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
LINKS = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
METADATA = {
    "accelerator": "GPU",  # what Colab starts
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def addressed(text: str, home: Address | None) -> str:
    """Prose with every `pip install` and `git clone` of this project pointing at its home, or at none."""
    source = home.pip if home else "."
    clone = f"-b {home.branch} {home.url}" if home else "<address of this repository>"
    text = re.sub(
        r"pip install (\.|git\+https://github\.com/\S+)(?=\s|$)", f"pip install {source}", text
    )
    return re.sub(
        r"git clone (-b \S+ https://github\.com/\S+|<[^>]*>) peek", f"git clone {clone} peek", text
    )


def with_first_cell(script: str, home: Address | None) -> str:
    """A percent script whose first code cell is that of `colab.py`, with the address."""
    cell = (ROOT / "book/colab.py").read_text().rstrip()
    cell = PIP.sub(home.pip if home else "", cell)
    return FIRST.sub(lambda _: f'# %% tags=["remove-cell"]\n{cell}\n', script, count=1)


def home_in(script: str) -> Address | None:
    """The address that a script names in its first cell."""
    found = PIP.search(script)
    if not found or not found[0]:
        return None
    return address.parse(found[0].removeprefix("git+"), "PEEKLIB")


def home() -> Address | None:
    """The address that the notebooks of this copy name."""
    return home_in(scripts()[0].read_text())


def paired(source: str) -> nbformat.NotebookNode:
    """The notebook that belongs to a percent script: no outputs, stable cell ids."""
    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


def outside(script: str, path: str) -> nbformat.NotebookNode:
    """The notebook as it is read outside the book; `path` is its own, in the repository."""
    notebook, home = paired(script), home_in(script)
    works = references(script)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = BIBLIOGRAPHY.sub(lambda _: f"\n\n{works}", cell.source)
            cell.source = plain(prose, Path(path).parent, home)
    if home:
        add_badge(notebook, BADGE, home.colab(path))
    return notebook


def add_badge(notebook: nbformat.NotebookNode, image: str, target: str) -> None:
    """Below the title."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n[![Open in Colab]({image})]({target})\n{rest}"


def references(script: str) -> str:
    """The works that a notebook cites, as a list for its end."""
    keys = ",".join(re.findall(r"\{cite\}`([^`]+)`", script)).replace(" ", "").split(",")
    lines = [f"- {full(bibliography()[key])}" for key in sorted({*keys} - {""})]
    return "\n".join(["**References**", "", *lines])


def plain(text: str, folder: Path, home: Address | None) -> str:
    """Markdown without MyST's roles: cross references become links, citations names and years."""

    def reference(found: re.Match) -> str:
        words, _, target = found[1].rpartition("<")  # "page", or "words <page>"
        path = (ROOT / folder / target.rstrip(">")).resolve().relative_to(ROOT)
        return link(words.strip(), path, folder, home)

    text = re.sub(r"\{doc\}`([^`]+)`", reference, text)
    return re.sub(r"(\S+)\s\{cite\}`([^`]+)`", cited, text)


def link(words: str, target: Path, folder: Path, home: Address | None) -> str:
    """A link to another page of the book: to Colab or GitHub, or to a file of the same copy."""
    notebook = (ROOT / f"{target}.py").exists()
    source = target.with_suffix(".py" if notebook else ".md")
    words = words or title((ROOT / source).read_text())
    file = target.with_suffix(".ipynb" if notebook else ".md").as_posix()
    if home is None:
        return f"[{words}]({Path(os.path.relpath(file, folder)).as_posix()})"
    return f"[{words}]({home.colab(file) if notebook else home.page(file)})"


def title(source: str) -> str:
    """The first heading of a page or a percent script."""
    return re.findall(r"^(?:# )?# (?!%%)(.+)$", source, re.MULTILINE)[0]


def cited(found: re.Match) -> str:
    """Works in parentheses, each with a link where the bibliography has one; the year alone after the authors' names."""
    before, keys = found[1], found[2].split(",")
    entries = bibliography()
    works = [named(entries[key.strip()], before) for key in keys]
    return f"{before} ({'; '.join(works)})"


def full(entry: Any) -> str:
    """A work as its line in a list of references."""
    fields = entry.fields
    title = fields["title"].translate(BRACES)
    where = [
        fields[name].translate(BRACES)
        for name in ("journal", "booktitle", "note")
        if name in fields
    ]
    return f"{named(entry, '')}: *{title}*. {', '.join(where)}".strip(" .") + "."


@functools.cache
def bibliography() -> Mapping[str, Any]:
    return parse_file(str(ROOT / "book/references.bib")).entries


def named(entry: Any, before: str) -> str:
    """A work as "Saini & Papalexakis 2018", or "2018" where `before` is its last author."""
    people, fields = entry.persons["author"], entry.fields
    names = [" ".join(person.last_names).translate(BRACES) for person in people]
    who = " & ".join(names) if len(names) < 3 else f"{names[0]} et al."
    words = fields["year"] if before == names[-1] else f"{who} {fields['year']}"
    for field, start in LINKS.items():
        if field in fields:
            return f"[{words}]({start}{fields[field]})"
    return words


def cells(notebook) -> list[tuple]:
    """What a pair has to agree on, besides its metadata."""
    parts = ("cell_type", "source", "metadata", "outputs", "execution_count")
    return [tuple(cell.get(part) for part in parts) for cell in notebook.cells]


def drift(pair: Path, mine: nbformat.NotebookNode) -> str | None:
    """What the .ipynb of a script has that the script's notebook has not, in words; None if they agree."""
    if not pair.exists():
        return f"{pair.name} is missing"
    try:
        its, script = nbformat.read(pair, as_version=4), pair.with_suffix(".py")
    except Exception as why:  # broken JSON, such as a merge leaves, raises anything
        return f"{pair.name} is no notebook ({type(why).__name__})"
    if mine.metadata != its.metadata:
        return f"{pair.name} has other metadata than a notebook made from {script.name}"
    here, there = cells(mine), cells(its)
    for number, (left, right) in enumerate(zip(here, there, strict=False)):
        if left != right:
            return f"{pair.name}: cell {number} differs from {script.name}: {right[1][:60]!r}"
    if len(here) != len(there):
        return f"{pair.name} has {len(there)} cells, {script.name} has {len(here)}"
    return None


def differing(home: Address | None) -> dict[Path, str]:
    """Scripts and pages whose text is not what it is with this address, and that text."""
    wanted = {}
    for file in [ROOT / "README.md", *sorted((ROOT / "book").glob("**/*.md"))]:
        wanted[file] = addressed(file.read_text(), home)
    for script in scripts():
        wanted[script] = with_first_cell(script.read_text(), home)
    return {file: text for file, text in wanted.items() if text != file.read_text()}


def scripts() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.py"))


def install_from(notebook: nbformat.NotebookNode, source: str) -> None:
    """Let the first code cell of a notebook install peeklib from another place."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source = PIP.sub(source, cell.source)


def write(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all; `peeklib.storage` needs PyTorch."""
    part = path.with_suffix(".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main(check: bool) -> int:
    # A copy that somebody else wrote may name an address that is not this one's: it must only agree with itself.
    lives = home() if check else address.find(ROOT)
    problems = []
    for file, text in differing(lives).items():
        problems.append(
            f"{file.relative_to(ROOT)}: its first cell or address is not that of the others"
        )
        if not check:
            write(file, text)
    for orphan in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not orphan.with_suffix(".py").exists():
            remedy = "write one with `jupytext --to py:percent`, or remove it"
            problems.append(f"{orphan.name} has no .py; {remedy}")
    for script in scripts():
        pair = script.with_suffix(".ipynb")
        notebook = outside(script.read_text(), pair.relative_to(ROOT).as_posix())
        if problem := drift(pair, notebook):
            problems.append(problem)
            if not check:
                write(pair, f"{nbformat.writes(notebook)}\n")
    for problem in problems:
        print(problem if check else f"mended: {problem}")
    if not check:
        print(f"This copy lives at {lives.url}, branch {lives.branch}." if lives else NOWHERE)
    if check and problems:
        print("`make sync` writes each .ipynb from its .py")
    return int(check and bool(problems))


NOWHERE = (
    "No address is known, so there are no badges, and Colab cannot install peeklib: set PEEK_REPOSITORY, a git remote on "
    "GitHub, or `repository` in _config.yml, and run this again."
)

if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
