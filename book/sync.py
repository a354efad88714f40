"""Keep notebooks/*.ipynb equal to their jupytext pairs, and the repository's address equal to _config.yml's.

`python book/sync.py` writes; `python book/sync.py --check` only tells what differs, and exits with 1 if anything does.
The .py of a pair is what people edit. `repository.url` in _config.yml is the one place that names the repository.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
METADATA = {
    "accelerator": "GPU",  # what Colab starts
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def addressed(text: str, url: str, branch: str) -> str:
    """`text` with every Colab link, raw file, pip install and git clone pointing at the repository."""
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+(?<!\.git)", url):
        raise ValueError(f"repository.url is {url!r}; write https://github.com/<owner>/<name>")
    slug = url.removeprefix("https://github.com/")
    text = re.sub(
        r"(colab\.research\.google\.com/github)/[\w.-]+/[\w.-]+/blob/[\w.-]+/",
        rf"\1/{slug}/blob/{branch}/",
        text,
    )
    text = re.sub(
        r"(raw\.githubusercontent\.com)/[\w.-]+/[\w.-]+/[\w.-]+/", rf"\1/{slug}/{branch}/", text
    )
    return re.sub(r"(git\+|git clone )https://github\.com/[\w.-]+/[\w.-]+", rf"\1{url}", text)


def paired(source: str) -> nbformat.NotebookNode:
    """The notebook that belongs to a percent script: no outputs, stable cell ids."""
    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    nbformat.validate(notebook)
    return notebook


def cells(notebook) -> list[tuple]:
    """What a pair has to agree on, besides its metadata."""
    return [
        (
            cell.cell_type,
            cell.source,
            dict(cell.metadata),
            cell.get("outputs"),
            cell.get("execution_count"),
        )
        for cell in notebook.cells
    ]


def drift(script: Path) -> str | None:
    """What the .ipynb of a script has that the script has not, in words; None if they agree."""
    pair = script.with_suffix(".ipynb")
    if not pair.exists():
        return f"{pair.name} is missing"
    mine, its = paired(script.read_text()), nbformat.read(pair, as_version=4)
    if mine.metadata != its.metadata:
        return f"{pair.name} has other metadata than a notebook made from {script.name}"
    here, there = cells(mine), cells(its)
    for number, (mine, its) in enumerate(zip(here, there, strict=False)):
        if mine != its:
            return f"{pair.name}: cell {number} differs from {script.name}: {its[1][:60]!r}"
    if len(here) != len(there):
        return f"{pair.name} has {len(there)} cells, {script.name} has {len(here)}"
    return None


def main(check: bool) -> int:
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    problems = []
    scripts = sorted((ROOT / "notebooks").glob("*.py"))
    for file in [*scripts, ROOT / "README.md", *sorted((ROOT / "book").glob("**/*.md"))]:
        text = addressed(file.read_text(), repository["url"], repository["branch"])
        if text != file.read_text():
            problems.append(f"{file.relative_to(ROOT)} names another repository than _config.yml")
            if not check:
                file.write_text(text)
    for orphan in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not orphan.with_suffix(".py").exists():
            problems.append(
                f"{orphan.name} has no .py; write one with `jupytext --to py:percent`, or remove it"
            )
    for script in scripts:
        if problem := drift(script):
            problems.append(problem)
            if not check:
                nbformat.write(paired(script.read_text()), script.with_suffix(".ipynb"))
    for problem in problems:
        print(problem if check else f"mended: {problem}")
    if check and problems:
        print("`make sync` writes each .ipynb from its .py")
    return int(check and bool(problems))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
