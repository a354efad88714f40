"""The page of reference, made from the stub that lists the public names of peeklib.

`book/build.py` writes it beside the other pages, so no list of functions is kept by hand: here are
only the headings, in reading order. A module that the stub names brings all that is public in it.
"""

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import peeklib as pk

WINGS = {
    "The method": {
        "images": "Images",
        "hooks": "Activations of a network",
        "store": "Activations on disk",
        "sketches": "Activations in passing",
        "nmf": "Coupled factorization",
        "ranks": "Which rank?",
        "estimator": "For scikit-learn",
        "solvers": "Under the hood",
        "tensors": "Tensors",
        "spectra": "Spectra",
        "directions": "Directions",
        "plots": "Figures",
        "explorer": "Sliders",
        "playground": "Draw on it",
    },
    "Any network": {
        "study.analysis": "The whole analysis",
        "study.report": "Its report",
        "study.files": "Saved results",
        "study.scores": "Scores without labels",
        "study.compare": "Networks compared",
        "study.interventions": "Parts switched off",
        "study.attribution": "Votes of components",
    },
    "The course": {
        "course.data": "Data",
        "course.models": "Networks",
        "course.training": "Training",
        "course.subjects": "The networks of chapters 9 and 10",
        "course.zoo": "The zoo of chapter 14",
        "course.ranking": "Scores on trial",
        "course.evidence": "Tables of evidence",
        "course.findings": "Findings shown again",
        "course.ledger": "Claims",
        "course.cache": "Results kept on disk",
        "course.check": "Exercises",
    },
}
INTRODUCTION = "`import peeklib as pk` gives all of this, and loads it when asked for."
INNER = {  # what has no name in `pk`, and is returned by what has, or explained in a chapter
    "solvers": ["hals_update", "mu_update", "compress", "kkt_residuals"],
    "explorer": ["Picture"],
    "course.findings": ["Recheck"],
    "course.ledger": ["Finding", "Claim", "by_seed", "spread"],
}


def page() -> str:
    """The page, in Markdown.

    Raises:
        ValueError: if the stub names a module that has no heading here.
    """
    names = stub()
    headings = {module for topics in WINGS.values() for module in topics}
    if homeless := sorted(names.keys() - headings):
        raise ValueError(f"no heading in {__file__} for what comes from {homeless}")
    lines = ["# peeklib", "", INTRODUCTION]
    for wing, topics in WINGS.items():
        lines += ["", f"## {wing}"]
        for module, topic in topics.items():
            lines += ["", f"### {topic}", "", *section(module, names.get(module, []))]
    return "\n".join(lines) + "\n"


def stub() -> dict[str, list[str]]:
    """Names of the stub by the module they come from; a name that is a module comes from itself."""
    names: dict[str, list[str]] = {}
    for node in ast.parse(Path(pk.__file__).with_suffix(".pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                path = [node.module or ""]
                if inspect.ismodule(getattr(pk, alias.name)):
                    path.append(alias.name)
                names.setdefault(".".join(filter(None, path)), []).append(alias.name)
    return names


def section(module: str, names: list[str]) -> list[str]:
    """What stands below the heading of a module: its docstring, then its names as it orders them."""
    home = importlib.import_module(f"peeklib.{module}")
    short = module.split(".")[-1]
    whole = public(home) if getattr(pk, short, None) is home else []
    lines = ["```{eval-rst}", f".. automodule:: {home.__name__}", "   :no-members:", ""]
    for name, thing in vars(home).items():
        if name in names:
            lines += entry(f"peeklib.{name}", thing)
        elif name in INNER.get(module, []):
            lines += entry(f"{home.__name__}.{name}", thing)
        elif name in whole:
            lines += entry(f"peeklib.{short}.{name}", thing)
    return [*lines, "```"]


def public(module: ModuleType) -> list[str]:
    """What a module lists in `__all__`; if it has none, what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return module.__all__
    defined = []
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", "") == module.__name__ and not name.startswith("_"):
            defined.append(name)
    return defined


def entry(name: str, thing: object) -> list[str]:
    """The directive that writes what the docstring of a class or a function says."""
    if inspect.isclass(thing):
        return [f".. autoclass:: {name}", "   :members:"]
    if callable(thing):
        return [f".. autofunction:: {name}"]
    return [f".. py:data:: {name}", ""]
