"""The house has three wings, and arrows between them go down only: course → study → method."""

import ast
import sys
from pathlib import Path

import pytest
from forked import anew

import peeklib as pk

HOME = Path(pk.__file__).parent
WINGS = ["method", "study", "course"]  # from the bottom up


def wing(module: str) -> str:
    """Of a module's name inside the package, such as "study.sites"."""
    first = module.partition(".")[0]
    if first in (HOME.name, "__main__"):  # the doors, `import peeklib` and `python -m peeklib`
        return "course"
    return first if first in WINGS else "method"


def imported(path: Path) -> list[str]:
    """Modules of the package that a file imports anywhere in it, by their names inside the package."""
    here = [HOME.name, *path.relative_to(HOME).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            found += [f"{origin}.{alias.name}" for alias in node.names]
    ours = [name for name in found if name.split(".")[0] == HOME.name]
    return [name.removeprefix(f"{HOME.name}.") for name in ours]


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_imports_one_of_a_higher_wing(path):
    mine = wing(".".join(path.relative_to(HOME).with_suffix("").parts))
    upward = [name for name in imported(path) if WINGS.index(wing(name)) > WINGS.index(mine)]
    assert not upward


def load_names_of_the_method():
    import peeklib as pk

    assert [pk.coupled_nmf, pk.record, pk.Explorer, pk.plots]
    above = ("peeklib.study", "peeklib.course")
    assert not [name for name in sys.modules if name.startswith(above)]


def test_a_wing_is_loaded_only_when_it_is_asked_for():
    """The method wing's own names bring in none."""
    anew(load_names_of_the_method)
