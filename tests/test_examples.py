"""The examples in docstrings run, in every version that the tests run in."""

import doctest
import importlib
from pathlib import Path

import pytest

import peeklib as pk

HOME = Path(pk.__file__).parent
NEEDS_A_GPU = {"gpu"}  # imports Triton
FILES = sorted(path for path in HOME.rglob("*.py") if path.stem not in NEEDS_A_GPU)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_examples_give_what_they_say(path):
    parts = path.relative_to(HOME.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
