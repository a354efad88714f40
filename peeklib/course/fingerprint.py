"""What code of this package a function, or a piece of a notebook, really runs: the key of everything that is kept.

Every definition at the top level of a module is a node: its syntax without comments and docstrings, and the names of other
definitions in it. A fingerprint is the hash of all nodes that can be reached from a name. So a new word in a docstring
changes nothing, a change in `tensors` changes nothing for `train`, and a change of a function that `train` calls does.

Where one cannot tell, more is taken rather than less: a module that is named by itself, or imported as `*`, stands for
all of it and all it imports, code that runs on import belongs to every name of its module, and whoever reads a registry
reads all that registers there.

A registry is a dict at the top level that a function at the top level of the same module fills by `registry[…] = …`, as
a decorator or by itself. One that is filled by `append`, `setdefault` or `update`, or from another module, is not seen:
a change of what is entered there then changes nothing for its readers.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).parent.parent
PACKAGE = HOME.name
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SIMPLE = DEFINITIONS | ast.Assign | ast.AnnAssign | ast.AugAssign  # what does no more than define
ON_IMPORT = "<import>"  # the node of the statements that run on import and define nothing


def read_sources() -> dict[str, str]:
    """The source of every module, by its full name; of one with a stub, the stub, where its names come from."""
    sources = {}
    for path in sorted(HOME.rglob("*.py")):
        words = (PACKAGE, *path.relative_to(HOME).with_suffix("").parts)
        stub = path.with_suffix(".pyi")
        code = stub if stub.exists() else path
        sources[".".join(words).removesuffix(".__init__")] = code.read_text()
    return sources


SOURCES = read_sources()  # on import: later a file may change, and the code that runs does not


class Module(NamedTuple):
    """A module taken apart. Names are full ones: "peeklib.nmf.rank_sweep"."""

    code: dict[str, str]  #: name → its syntax
    uses: dict[str, set[str]]  #: name → names that occur in it
    imports: dict[
        str, str
    ]  #: name as this module says it → full name, of things of this package alone
    stars: set[str]  #: modules of this package of which it imports everything, `*`


@functools.cache
def fingerprint(*names: str) -> str:
    """Hash of all the code of this package that can be reached from these full names.

    Raises:
        KeyError: for a name that no module defines.

    Example:
        >>> fingerprint("peeklib.course.training.train") == fingerprint("peeklib.train")
        True
    """
    return _hash(_reach(_find(name) or _unknown(name) for name in names))


def fingerprint_of(source: str) -> str:
    """Hash of all the code of this package that can be reached from a piece of Python, such as a notebook's cells."""
    notebook = _take_apart("<source>", source, is_package=False)
    words = {word for used in notebook.uses.values() for word in used}
    imported = (
        notebook.imports.get(word.partition(".")[0], "") + "." + word.partition(".")[2]
        for word in words
    )
    roots = [full for name in imported if (full := _find(name.strip(".")))]
    return _hash(_reach([*roots, *notebook.stars]))


def _unknown(name: str):
    raise KeyError(f"no module of {PACKAGE} defines {name!r}")


def _hash(names: Iterable[str]) -> str:
    code = {name: MODULES[_home(name)].code[name] for name in names}
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()


def _home(name: str) -> str:
    """The module of a definition."""
    return name.rpartition(".")[0]


def _reach(roots: Iterable[str]) -> set[str]:
    """All definitions that can be reached from these, or from the whole module where a root is one."""
    found, waiting = set(), list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _whole(name) if name in SOURCES else _next(name)
    return found - set(SOURCES)


def _whole(home: str) -> list[str]:
    """All that a module defines and imports: any of it may be asked for by `getattr`."""
    module = MODULES[home]
    imported = (_find(name) for name in module.imports.values())
    return [*module.code, *(full for full in imported if full)]


@functools.cache
def _next(name: str) -> list[str]:
    """The definitions that one uses, and what its module runs on import."""
    home = _home(name)
    module = MODULES[home]
    used = [_resolve(word, module, home) for word in module.uses[name]]
    used.append(
        _find(module.imports.get(name.removeprefix(f"{home}."), ""))
    )  # try: from . import x; except: x = None
    return [full for full in used if full] + [f"{home}.{ON_IMPORT}", *module.stars]


def _resolve(word: str, module: Module, home: str) -> str | None:
    """The full name of a dotted word as `module` says it; None if it is nothing of this package's."""
    first, *rest = word.split(".")
    if f"{home}.{first}" in module.code:
        return f"{home}.{first}"
    if first not in module.imports:
        return (
            f"{home}.{ON_IMPORT}" if module.stars else None
        )  # which leads to all that the stars bring
    return _find(".".join([module.imports[first], *rest]))


def _find(name: str) -> str | None:
    """The definition, or whole module, that a dotted name leads to; further attributes are left out."""
    words = name.split(".")
    for cut in range(len(words), 0, -1):
        home = ".".join(words[:cut])
        if home in SOURCES:
            break
    else:
        return None
    return _resolve(".".join(words[cut:]), MODULES[home], home) if words[cut:] else home


class _Modules(dict):
    """Modules, taken apart when first asked for."""

    def __missing__(self, name: str) -> Module:
        is_package = any(other.startswith(f"{name}.") for other in SOURCES)
        self[name] = _take_apart(name, SOURCES[name], is_package)
        return self[name]


MODULES = _Modules()


def _take_apart(home: str, source: str, is_package: bool) -> Module:
    tree = ast.parse(source)
    package = home if is_package else _home(home)
    pairs = list(_imports(tree, package))
    stars = {full.removesuffix(".*") for name, full in pairs if name == "*"}
    imports = {name: full for name, full in pairs if name != "*"}
    module = Module({f"{home}.{ON_IMPORT}": ""}, {f"{home}.{ON_IMPORT}": set()}, imports, stars)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_text(statement):
            continue
        _forget_docstrings(statement)
        names = set(_defined(statement))
        for name in names if names and isinstance(statement, SIMPLE) else names | {ON_IMPORT}:
            full = f"{home}.{name}"
            module.code[full] = module.code.get(full, "") + ast.dump(statement)
            module.uses.setdefault(full, set()).update(_words(statement))
    _enter_registries(module, home, tree)
    return module


def _enter_registries(module: Module, home: str, tree: ast.Module) -> None:
    """Who reads a dict of this module also uses what fills it: functions that store into it, and what they decorate."""
    fills = {}
    for statement in tree.body:
        for registry in _stored_into(statement):
            fills.setdefault(registry, set()).update(_defined(statement))
    for registry, writers in fills.items():
        decorated = {
            name
            for statement in tree.body
            if _decorators(statement) & writers
            for name in _defined(statement)
        }
        module.uses.get(f"{home}.{registry}", set()).update(writers | decorated)


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """What is imported of this package, anywhere in the module: name here → full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield (alias.asname, alias.name) if alias.asname else (PACKAGE, PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            parent = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            origin = ".".join([*parent, *([node.module] if node.module else [])])
            if origin.split(".")[0] == PACKAGE:
                for alias in node.names:
                    yield alias.asname or alias.name, f"{origin}.{alias.name}"


def _defined(statement: ast.AST) -> list[str]:
    """The names that a statement at the top level gives a value to, itself or in its body, as `if` and `try` do."""
    if isinstance(statement, DEFINITIONS):
        return [statement.name]
    if isinstance(statement, ast.Name):
        return [statement.id] if isinstance(statement.ctx, ast.Store) else []
    return [name for part in ast.iter_child_nodes(statement) for name in _defined(part)]


def _words(statement: ast.stmt) -> set[str]:
    """Names and dotted names in a statement, the longest there are."""
    words, inner = set(), set()
    for node in ast.walk(statement):  # outer nodes first
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            parts = []
            while isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
                inner.add(id(node))
            if isinstance(node, ast.Name):
                words.add(".".join([node.id, *reversed(parts)]))
    return words


def _stored_into(statement: ast.stmt) -> set[str]:
    """Names x of which a definition changes an entry, x[…] = …"""
    if not isinstance(statement, ast.FunctionDef):
        return set()
    entries = (node for node in ast.walk(statement) if isinstance(node, ast.Subscript))
    return {
        e.value.id
        for e in entries
        if isinstance(e.ctx, ast.Store) and isinstance(e.value, ast.Name)
    }


def _decorators(statement: ast.stmt) -> set[str]:
    marks = getattr(statement, "decorator_list", [])
    return {word for mark in marks for word in _words(ast.Expr(mark))}


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _forget_docstrings(statement: ast.stmt) -> None:
    """Take the docstrings out of a definition: they change no result."""
    for node in ast.walk(statement):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
