"""A key of code: it changes with everything that decides a result, and with nothing else."""

import ast
import textwrap

import pytest

import peeklib as pk
from peeklib.course import fingerprint as own
from peeklib.course.fingerprint import fingerprint, fingerprint_of

PACKAGE = {
    "pkg": "from .a import top\nfrom . import b, registry\n",
    "pkg.a": '''
        """About a."""
        import math
        from . import b
        from .b import LIMIT as MOST

        def top(x):
            """What it does."""
            return helper(x) + b.other(x) + MOST  # why

        def helper(x):
            from .late import lazy
            return lazy(x)

        def unused(x):
            return b
    ''',
    "pkg.b": """
        LIMIT = 3
        START = LIMIT + 1

        def other(x):
            return Kind().method(x)

        class Kind(str):
            def method(self, x):
                return START

        def alone():
            return 1
    """,
    "pkg.late": "def lazy(x):\n    return x\n",
    "pkg.registry": """
        ALL = {}

        def enter(kind):
            def register(function):
                ALL[function.__name__] = function
                return function
            return register

        @enter("x")
        def first():
            return second()

        def second():
            return 2

        def run():
            return [one() for one in ALL.values()]
    """,
    "pkg.starred": "from .b import *\n\ndef twice():\n    return alone() + alone()\n",
    "pkg.choice": """
        import sys

        try:
            from . import late
        except ImportError:
            late = None

        if sys.platform:
            def chosen():
                return late.lazy(1)
        else:
            class Other:
                inner = 2

        def caller():
            return chosen()

        def bystander():
            return 5
    """,
    "pkg.page": '''
        from pathlib import Path

        SCRIPT = Path(__file__).with_name("page.js").read_text()

        def show(x):
            return SCRIPT + x

        def style():
            return Path(__file__).with_name("page.css").read_text()

        def plain():
            """Without page.js."""
            return 1
    ''',
    "pkg/page.js": "let x = 1",
    "pkg/page.css": "p {}",
}


@pytest.fixture
def package(monkeypatch):
    """A small package in place of peeklib.

    Call it with (names, module, old text, new text) for the hash after that change.
    """

    def hashed(names, module=None, old="", new=""):
        sources = {name: textwrap.dedent(text) for name, text in PACKAGE.items()}
        if module:
            assert old in sources[module]
            sources[module] = sources[module].replace(old, new)
        monkeypatch.setattr(own, "PACKAGE", "pkg")
        monkeypatch.setattr(own, "SOURCES", sources)
        monkeypatch.setattr(own, "MODULES", own._Modules())
        fingerprint.cache_clear()
        own._next.cache_clear()
        return fingerprint_of(names) if "\n" in names else fingerprint(names)

    yield hashed
    monkeypatch.undo()
    fingerprint.cache_clear()
    own._next.cache_clear()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("pkg.a", "helper(x) + b", "helper(x) - b"),
        ("pkg.late", "return x", "return -x"),
        ("pkg.b", "LIMIT = 3", "LIMIT = 4"),
        ("pkg.b", "return START", "return START + 1"),
        ("pkg.b", "Kind(str)", "Kind(int)"),
        ("pkg.b", "START = LIMIT + 1", "START = LIMIT + 2"),
        ("pkg.b", "LIMIT = 3", "print('on import')\nLIMIT = 3"),
    ],
)
def test_what_is_reached_counts(package, module, old, new):
    assert package("pkg.a.top") != package("pkg.a.top", module, old, new)
    assert package("import pkg as p\np.top(1)\n") != package(
        "import pkg as p\np.top(1)\n", module, old, new
    )


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("pkg.a", "# why", "# why not"),
        ("pkg.a", "What it does.", "What it does, in other words."),
        ("pkg.a", "About a.", "More about a."),
        ("pkg.a", "return b\n", "return 2\n"),
        ("pkg.b", "return 1", "return 2"),
        ("pkg.registry", "return 2", "return 3"),
        ("pkg.a", "helper(x) + b", "helper(x)  +  b"),
    ],
)
def test_nothing_else_counts(package, module, old, new):
    assert package("pkg.a.top") == package("pkg.a.top", module, old, new)


def test_a_file_that_is_named_counts_for_who_reaches_its_name(package):
    for name, file, new in (("show", "js", "let x = 2"), ("style", "css", "p { color: red }")):
        change = f"pkg/page.{file}", PACKAGE[f"pkg/page.{file}"], new
        assert package(f"pkg.page.{name}") != package(f"pkg.page.{name}", *change)
        assert package("pkg.page.plain") == package("pkg.page.plain", *change)
    source = "from pkg.page import show\nshow(1)\n"
    assert package(source) != package(source, "pkg/page.js", "let x = 1", "let x = 2")
    assert package(source) == package(source, "pkg/page.css", "p {}", "p { color: red }")


@pytest.mark.parametrize("name", ["pkg.registry.run", "pkg.registry.ALL"])
def test_a_registry_stands_for_all_that_enters_it(package, name):
    assert package(name) != package(name, "pkg.registry", "return 2", "return 3")
    assert package("pkg.registry.second") == package(
        "pkg.registry.second", "pkg.registry", "return second", "return 2 #"
    )


def test_a_module_by_itself_stands_for_all_of_it(package):
    assert package("pkg.a.unused") != package("pkg.a.unused", "pkg.b", "return 1", "return 2")
    source = "from pkg import b\nf(b)\n"
    assert package(source) != package(source, "pkg.b", "return 1", "return 2")
    source = "from pkg import b\nb.other(3)\n"
    assert package(source) == package(source, "pkg.b", "return 1", "return 2")


def test_a_package_by_itself_stands_for_what_it_imports_too(package):
    for module, old, new in [
        ("pkg.a", "helper(x) + b", "helper(x) - b"),
        ("pkg.b", "return 1", "return 2"),
    ]:
        source = "import pkg as p\ngetattr(p, 'top')(1)\n"
        assert package(source) != package(source, module, old, new)


def test_a_star_stands_for_the_whole_module(package):
    source = "from pkg import *\ntop(1)\n"
    assert package(source) != package(source, "pkg.a", "helper(x) + b", "helper(x) - b")
    for name in ("pkg.starred.twice", "pkg.starred.alone"):
        assert package(name) != package(name, "pkg.b", "return 1", "return 2")
    assert package("pkg.starred.twice") == package(
        "pkg.starred.twice", "pkg.late", "return x", "return -x"
    )


@pytest.mark.parametrize("name", ["pkg.choice.chosen", "pkg.choice.caller"])
def test_a_definition_under_a_condition_is_one(package, name):
    assert package(name) != package(name, "pkg.choice", "lazy(1)", "lazy(2)")
    assert package(name) != package(name, "pkg.late", "return x", "return -x")
    assert package(name) == package(name, "pkg.choice", "return 5", "return 6")
    assert package("pkg.choice.Other")


def test_sources_are_all_that_the_code_names(tmp_path, monkeypatch):
    """A stub stands for its module, a file has its path, and none that is named is missing."""
    texts = {"a.py": "1", "b/__init__.py": "2", "b/c.py": "3", "b/c.pyi": "4", "b/d.toml": "5"}
    (tmp_path / "pkg/b").mkdir(parents=True)
    for name, text in (texts | {"b/e.csv": "6"}).items():
        (tmp_path / "pkg" / name).write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(own, "HOME", tmp_path / "pkg")
        assert own.read_sources() == {
            "pkg.a": "1",
            "pkg.b": "2",
            "pkg.b.c": "4",
            "pkg/b/d.toml": "5",
        }
    named = set()
    for path in own.HOME.rglob("*.py"):
        folder = path.parent.relative_to(own.HOME.parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                named.add(f"{folder}/{node.value}")
    there = {path.relative_to(own.HOME.parent).as_posix() for path in own.HOME.rglob("*.*")}
    files = {path for path in named & there if not path.endswith(".py")}
    assert files <= own.SOURCES.keys(), "their type is not among TEXTS"


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match=r"peeklib\.course\.training\.nothing"):
        fingerprint("peeklib.course.training.nothing")


def test_the_package_itself():
    """Training knows no tensors; a registry holds the scores; an exercise has its own hint."""
    reached = own._reach([own._find("peeklib.course.training.train")])
    assert "peeklib.images.to_float" in reached and not any("tensors" in name for name in reached)
    assert {f"peeklib.study.scores.{name}" for name in pk.scores.SCORES} <= own._reach(
        [own._find("peeklib.study.scores.table")]
    )
    assert fingerprint("peeklib.rank_sweep") == fingerprint("peeklib.nmf.rank_sweep")
    assert "peeklib.gpu._sweep_tile" in own._reach([own._find("peeklib.rank_sweep")])
    page = own._take_apart(
        "<source>", "import peeklib as pk\npk.check.stacked(1, 2)", is_package=False
    )
    stacked = "peeklib.course.check.chapter02.stacked"
    assert own._resolve("pk.check.stacked", page, "<source>") == stacked
    assert fingerprint_of(
        "import peeklib as pk\ntrain = pk.cached(pk.train)\ntrain(1)\n"
    ) != fingerprint_of("x = 1\n")
    assert not any("chapter05" in name for name in own._reach([stacked]))
    assert "peeklib.course.check.chapter05.ceiling" in own._reach(["peeklib.course.check"])
