"""What code of this package a function, or a piece of a notebook, really runs.

It is the key of everything that is kept. Every definition at the top level of a module is a node:
its syntax without comments and docstrings, the text of files that it names, and the names of
other definitions in it. A fingerprint is the hash of all nodes that can be reached from a name.
So a new word in a docstring changes nothing, a change in `tensors` changes nothing for `train`,
and a change of a function that `train` calls does.

Where one cannot tell, more is taken rather than less: a module that is named by itself, or
imported as `*`, stands for all of it and all it imports, code that runs on import belongs to
every name of its module, and whoever reads a registry reads all that registers there.

A file is named by a string, as in `Path(__file__).with_name("explorer.js")`: one of `TEXTS` in the
folder of the module.

A registry is a dict at the top level that a function at the top level of the same module fills by
`registry[…] = …`, as a decorator or by itself. One that is filled by `append`, `setdefault` or
`update`, or from another module, is not seen: a change of what is entered there then changes
nothing for its readers.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .. import AGES

HOME = Path(__file__).parent.parent
PACKAGE = HOME.name
TEXTS = {".css", ".html", ".js", ".toml"}  # files that code may name; tables of evidence are none
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SIMPLE = DEFINITIONS | ast.Assign | ast.AnnAssign | ast.AugAssign  # what does no more than define
ON_IMPORT = "<import>"  # the node of the statements that run on import and define nothing


def read_sources() -> dict[str, str]:
    """All that the package's code is made of.

    Returns:
        Full name of a module → its source, or its stub, where there is one and its names come from;
        path of another file, such as "peeklib/explorer.js" → its text.

    Example:
        >>> sources = read_sources()
        >>> "peeklib.nmf" in sources, "peeklib/course/claims.toml" in sources
        (True, True)
    """
    sources = {}
    for path in sorted(HOME.rglob("*")):
        place = path.relative_to(HOME.parent)
        if path.suffix == ".py":
            stub = path.with_suffix(".pyi")
            code = stub if stub.exists() else path
            name = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
            sources[name] = code.read_text(encoding="utf-8")
        elif path.suffix in TEXTS:
            sources[place.as_posix()] = path.read_text(encoding="utf-8")
    return sources


SOURCES = read_sources()


def check_unchanged() -> None:
    """What runs here is what the files say.

    Raises:
        RuntimeError: if a file of the package changed since it was imported: modules are loaded when they
            are first asked for, so that some of the code that runs may be older and some newer.
    """
    for path, age in AGES.items():
        if path.stat().st_mtime_ns != age:
            raise RuntimeError(f"{path} changed after this program began; start it again")


class Module(NamedTuple):
    """A module taken apart. Names are full ones: "peeklib.nmf.rank_sweep".

    Example:
        >>> module = MODULES["peeklib.course.evidence"]
        >>> "names" in module.uses["peeklib.course.evidence.table"]
        True
    """

    code: dict[str, str]  #: name → its syntax
    uses: dict[str, set[str]]  #: name → names that occur in it
    imports: dict[str, str]  #: name as this module says it → full name, of this package's alone
    stars: set[str]  #: modules of this package of which it imports everything, `*`


@functools.cache
def fingerprint(*names: str) -> str:
    """Hash of all the code of this package that can be reached from these full names.

    Returns:
        SHA-256, as 64 hexadecimal digits.

    Raises:
        KeyError: for a name that no module defines.

    Example:
        >>> fingerprint("peeklib.course.training.train") == fingerprint("peeklib.train")
        True
    """
    return _hash(_reach(_find(name) or _unknown(name) for name in names))


def fingerprint_of(source: str) -> str:
    """Hash of all the code of this package that a piece of Python, such as a notebook, can reach.

    Returns:
        SHA-256, as 64 hexadecimal digits.

    Example:
        >>> fingerprint_of("x = 1") == fingerprint_of("import peeklib as pk\\ny = 2")
        True
        >>> fingerprint_of("x = 1") == fingerprint_of("import peeklib as pk\\npk.train")
        False
    """
    notebook = _take_apart("<source>", source, is_package=False)
    roots = [*notebook.stars]
    for word in set().union(*notebook.uses.values()):
        first, _, rest = word.partition(".")
        name = f"{notebook.imports.get(first, '')}.{rest}"
        if root := _find(name.strip(".")):
            roots.append(root)
    return _hash(_reach(roots))


def _unknown(name: str):
    raise KeyError(f"no module of {PACKAGE} defines {name!r}")


def _hash(names: Iterable[str]) -> str:
    code = {name: MODULES[_home(name)].code[name] for name in names}
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()


def _home(name: str) -> str:
    """The module of a definition."""
    return name.rpartition(".")[0]


def _reach(roots: Iterable[str]) -> set[str]:
    """All definitions that can be reached from these; a root may be a whole module."""
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
    # a name may be imported and defined: try: from . import x; except: x = None
    used.append(_find(module.imports.get(name.removeprefix(f"{home}."), "")))
    return [full for full in used if full] + [f"{home}.{ON_IMPORT}", *module.stars]


def _resolve(word: str, module: Module, home: str) -> str | None:
    """The full name of a dotted word in `module`; None if it is nothing of this package's."""
    first, *rest = word.split(".")
    if f"{home}.{first}" in module.code:
        return f"{home}.{first}"
    if first in module.imports:
        return _find(".".join([module.imports[first], *rest]))
    return f"{home}.{ON_IMPORT}" if module.stars else None  # it leads to all that stars bring


def _find(name: str) -> str | None:
    """The definition, or whole module, that a dotted name leads to, without its attributes."""
    if name in SOURCES:
        return name
    words = name.split(".")
    for cut in range(len(words) - 1, 0, -1):
        home = ".".join(words[:cut])
        if home in SOURCES:
            return _resolve(".".join(words[cut:]), MODULES[home], home)
    return None


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
    on_import = f"{home}.{ON_IMPORT}"
    module = Module({on_import: ""}, {on_import: set()}, imports, stars)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_text(statement):
            continue
        _forget_docstrings(statement)
        code = ast.dump(statement) + "".join(_files(statement, package))
        names = {f"{home}.{name}" for name in _defined(statement)}
        if not names or not isinstance(statement, SIMPLE):
            names.add(on_import)
        for name in names:
            module.code[name] = module.code.get(name, "") + code
            module.uses.setdefault(name, set()).update(_words(statement))
    _enter_registries(module, home, tree)
    return module


def _enter_registries(module: Module, home: str, tree: ast.Module) -> None:
    """Who reads a dict of this module also uses what fills it.

    That is: functions that store into it, and what they decorate.
    """
    fills: dict[str, set[str]] = {}
    for statement in tree.body:
        for registry in _stored_into(statement):
            fills.setdefault(registry, set()).update(_defined(statement))
    for registry, writers in fills.items():
        used = set(writers)
        for statement in tree.body:
            if _decorators(statement) & writers:
                used.update(_defined(statement))
        module.uses.get(f"{home}.{registry}", set()).update(used)


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """What is imported of this package, anywhere in the module: name here → full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] != PACKAGE:
                    continue
                if alias.asname:
                    yield alias.asname, alias.name
                else:
                    yield PACKAGE, PACKAGE
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, package)
            if origin.split(".")[0] == PACKAGE:
                for alias in node.names:
                    yield alias.asname or alias.name, f"{origin}.{alias.name}"


def _origin(node: ast.ImportFrom, package: str) -> str:
    """Full name of the module that names are imported from, by a module in `package`."""
    words = []
    if node.level:
        parents = package.split(".")
        words = parents[: len(parents) - node.level + 1]
    if node.module:
        words.append(node.module)
    return ".".join(words)


def _files(statement: ast.stmt, package: str) -> list[str]:
    """The texts of files in the folder of the module that a statement names."""
    folder = package.replace(".", "/")
    strings = {node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)}
    paths = {f"{folder}/{string}" for string in strings if isinstance(string, str)}
    return [SOURCES[path] for path in sorted(paths & SOURCES.keys())]


def _defined(statement: ast.AST) -> list[str]:
    """The names that a statement at the top level gives a value to.

    It may do so in its body, as `if` and `try` do.
    """
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
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name):
                names.add(node.value.id)
    return names


def _decorators(statement: ast.stmt) -> set[str]:
    names = set()
    for mark in getattr(statement, "decorator_list", []):
        names |= _words(ast.Expr(mark))
    return names


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _forget_docstrings(statement: ast.stmt) -> None:
    """Take the docstrings out of a definition: they change no result."""
    for node in ast.walk(statement):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
