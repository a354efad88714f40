"""Exported programs (`torch.export.save`), read without running anything that lies in the file.

`torch.export.load` unpickles what it cannot read otherwise, evaluates expressions, and builds code
from names. So the archive is looked through first, and refused if anything in it but PyTorch's own
operators could run. PyTorch gets a copy of what was looked through, never the file: an archive can
be made so that two readers find different things in it.

- tensors have to be raw bytes, or open with `torch.load(weights_only=True)`;
- operators have to be PyTorch's, torchvision's or plain arithmetic;
- expressions for sizes may hold known functions and symbols only;
- names have to be names;
- inputs and outputs have to be tuples, lists and dicts of tensors.
"""

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from ..outside import look_into, open_zip, unpack, words

PLAIN = (  # files of the archive that are bytes of tensors, or texts that nobody interprets
    r"[^/]+/(data/(weights/weight_|constants/tensor_)\d+|archive_format|archive_version|byteorder"
    r"|\.data/\w+|extra/[^/]+)|version|extra_files/[^/]+"  # the last two before PyTorch 2.8
)
LIBRARIES = ("aten", "prims", "torchvision", "quantized_decomposed")  # of operators
FILES = ("from_file", "save")  # operators in them that open or write one
CONTROL = (  # operators that call graphs, which are looked through as well
    "cond while_loop scan map_impl associative_scan wrap_with_set_grad_enabled wrap_with_autocast"
).split()
ARITHMETIC = (
    r"_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge"
    r"|and_|or_|not_)|math\.(ceil|floor|trunc|sqrt)|torch\._?sym_\w+"
)
SYMBOL = r"[a-z]+\d+"
KNOWN = frozenset(  # what an expression for a size may name
    "Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs Piecewise ExprCondPair "
    "Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan Eq Ne Lt Le Gt Ge "
    "And Or Not true false True False integer positive negative nonnegative nonzero real finite "
    "precision oo int_oo FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt "
    "CeilDiv PowByNatural FloatPow FloatTrueDiv IntTrueDiv TruncToFloat TruncToInt RoundToInt "
    "RoundDecimal ToFloat Identity IsNonOverlappingAndDenseIndicator".split()
)
CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
TEXTS = ("as_string", "as_strings", "stack_trace")  # never part of code, whatever they hold
ZIP = b"PK\3\4"  # what files begin with that torch.save and torch.export.save write
WRITER = "torch.export.save writes them"
HOW_TO = (
    'torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))'
)


def read_program(path: str | Path) -> nn.Module:
    """The network of an exported program, with its modules under their own names.

    Args:
        path: of a file that `torch.export.save` wrote, from a program for any number of images.

    Returns:
        A module that takes batches of images, on the device that the program was exported on.

    Raises:
        OSError: for a file that is not to be had.
        ValueError: for a file that is no exported program, that is damaged, that holds anything
            that could run besides operators, that PyTorch cannot read, or whose program takes one
            size of batch only.

    Example:
        >>> read_program("model.pt2")  # doctest: +SKIP
    """
    copy = checked_copy(path)
    try:
        program = torch.export.load(copy)
    except Exception as why:  # of any type, for a program of other versions or a damaged one
        raise ValueError(
            f"{path} is damaged, or of a version that PyTorch {torch.__version__} does not read "
            f"({words(why)}); {WRITER}"
        ) from why
    _check_batch(program, path)
    if _in_training(program):
        warnings.warn(
            f"{path} was exported in training mode, with dropout or batch statistics; "
            "call model.eval() before torch.export.export",
            stacklevel=2,
        )
    try:
        return torch.export.unflatten(program)
    except Exception:  # there are programs that it cannot take apart; then layers have no names
        return program.module()


def checked_copy(path: str | Path) -> io.BytesIO:
    """Look through an exported program, and copy what was looked through.

    Returns:
        An archive in memory of the same files, with one directory that all readers find.

    Raises:
        OSError: for a file that is not to be had.
        ValueError: for another kind of file, a damaged archive, one that unpacks to far more than
            it should, or for what could run besides operators.

    Example:
        >>> checked_copy("model.pt2")  # doctest: +SKIP
    """
    copy = io.BytesIO()
    try:
        with open_zip(Path(path)) as folder, zipfile.ZipFile(copy, "w") as checked:
            _copy(folder.archive, checked, path)
    except OSError as why:
        if why.errno:  # of the system, as for a file that is not there
            raise
        raise ValueError(f"{path} is no exported program, or damaged: {why}; {WRITER}") from why
    copy.seek(0)
    return copy


def _copy(archive: zipfile.ZipFile, checked: zipfile.ZipFile, path: str | Path) -> None:
    names = archive.namelist()
    if not any(re.search(r"models/.*\.json$|exported_program\.json$", name) for name in names):
        raise ValueError(f"{path} is no exported program; {WRITER}")
    if len({name.lower() for name in names}) < len(names):  # PyTorch takes a and A for one
        raise ValueError(f"{path} holds two files of one name")
    for entry in archive.infolist():
        name = entry.filename
        content = unpack(archive, entry, f"{name} in {path}")
        try:
            fault = _fault_of_entry(name, content)
        except (ValueError, RecursionError) as why:  # of JSON
            raise ValueError(f"{name} in {path} is damaged ({words(why)}); {WRITER}") from why
        if fault:
            raise ValueError(f"{path} was not read, as it could run code: {fault}")
        checked.writestr(zipfile.ZipInfo(name), content)


def _fault_of_entry(name: str, content: bytes) -> str:
    """What in a file of the archive could run; nothing if all is well."""
    if re.fullmatch(PLAIN, name):
        return ""
    if name.endswith(".json"):
        return next(_faults(json.loads(content.decode())), "")
    if name.endswith(".pt") and (not content or _is_of_tensors(content, name)):
        return ""
    return f"{name} holds more than tensors"


def _is_of_tensors(content: bytes, name: str) -> bool:
    """Whether a file in the archive, perhaps an archive itself, holds tensors only."""
    if content.startswith(ZIP):
        with look_into(io.BytesIO(content), len(content), name):
            pass
    return _holds_tensors_only(io.BytesIO(content))


def _holds_tensors_only(file: Path | io.BytesIO) -> bool:
    try:
        torch.load(file, "cpu", weights_only=True)
    except Exception:  # whatever it meets that it does not know
        return False
    return True


def _faults(value, key: str = "") -> Iterator[str]:
    """Everything below a key of a program's JSON that could run, in words."""
    if isinstance(value, dict):
        if value.get("use_pickle"):
            yield f"{value.get('path_name')} is pickled"
        for inner, part in value.items():
            yield from _faults(inner, "key")
            yield from _faults(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from _faults(part, key)
    elif isinstance(value, str) and not _is_harmless(value, key):
        yield f"{key} {value[:80]!r}"


def _is_harmless(text: str, key: str) -> bool:
    """Whether a text may stand where it does: names and paths get into code as they are."""
    if key in TEXTS:
        return True
    if key in ("target", "as_operator"):
        return _is_operator(text)
    if key == "expr_str":
        return _is_size(text)
    if key in ("in_spec", "out_spec"):
        return _is_structure(text)
    if key in ("name", "as_name"):
        return re.fullmatch(r"\w*", text) is not None
    return re.search(r'["\\\x00-\x1f]', text) is None


def _is_operator(target: str) -> bool:
    if re.fullmatch(ARITHMETIC, target):
        return True
    if not target.startswith("torch.ops."):
        return False
    library, *path = target.split(".")[2:]
    if library == "higher_order":
        return ".".join(path) in CONTROL
    if library not in LIBRARIES or not set(FILES).isdisjoint(path):
        return False
    found = reduce(lambda thing, name: getattr(thing, name, None), [library, *path], torch.ops)
    return isinstance(found, torch._ops.OpOverload)


def _is_structure(text: str) -> bool:
    """Whether inputs or outputs are tensors in plain containers: others import modules."""
    try:
        _, tree = json.loads(text)
        return _is_tree(tree)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _is_tree(tree: dict) -> bool:
    if tree["type"] is None:
        return tree["context"] is None and tree["children_spec"] == []
    if tree["type"] not in CONTAINERS or not _is_context(tree["context"]):
        return False
    return all(_is_tree(child) for child in tree["children_spec"])


def _is_context(text: str) -> bool:
    """JSON of nothing, or of the keys of a dict; where it holds dicts, PyTorch imports modules."""
    keys = json.loads(text)
    return keys is None or (
        isinstance(keys, list) and all(isinstance(key, str | int | float | None) for key in keys)
    )


def _is_size(expression: str) -> bool:
    words = re.findall(r"[^\W\d]\w*", expression)
    known = all(word in KNOWN or re.fullmatch(SYMBOL, word) for word in words)
    return known and re.fullmatch(r"([\w\s()+\-*/,='<>&|~]|(?<=\d)\.)*", expression) is not None


def _check_batch(program: ExportedProgram, path: str | Path) -> None:
    """Any number of images has to be possible in a batch."""
    given = program.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in given]
    if not shapes:
        raise ValueError(f"{path} takes no images")
    images = shapes[0][0]
    if isinstance(images, int):
        raise ValueError(
            f"{path} was exported for batches of {images}; export it for any number of images: "
            f"{HOW_TO}"
        )


def _in_training(program: ExportedProgram) -> bool:
    """Whether dropout or batch normalization was exported as it is in training."""
    places = {"dropout.default": 2, "batch_norm.default": 5}  # of the flag, among the arguments
    for node in program.graph.nodes:
        place = places.get(getattr(node.target, "__name__", ""))
        arguments = tuple(node.args)
        if place is not None and arguments[place : place + 1] == (True,):
            return True
    return False


# Files of all kinds


def read_network(path: str | Path, *, unpickle: bool = False) -> nn.Module:
    """The network in a file, whatever wrote it.

    Args:
        path: of an exported program, or of a pickled module.
        unpickle: read pickles as well, which can run any code that its writer wished.

    Returns:
        The network, on the CPU where it was pickled.

    Raises:
        FileNotFoundError: if there is none.
        OSError: for a damaged archive.
        ValueError: for a pickle that is not wanted, for a file of weights alone, and for what
            `read_program` refuses.

    Example:
        >>> read_network("model.py")
        Traceback (most recent call last):
        ValueError: model.py is Python; give model:function, which is called and returns the network
    """
    path = Path(path)
    if path.suffix == ".py":
        raise ValueError(
            f"{path} is Python; give {path.stem}:function, which is called and returns the network"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; a network is a file, or module:function")
    kind = _kind(path)
    if kind == "program":
        return read_program(path)
    if kind:
        raise ValueError(f"{path} is {kind}; {INSTEAD}")
    return _unpickled(path, unpickle)


INSTEAD = (
    "give an exported program (torch.export.save), or module:function, which makes the network and "
    "loads its weights"
)
KINDS = {  # by suffix, what cannot be looked into
    ".safetensors": "a file of weights, without the network",
    ".onnx": "an ONNX graph, which PyTorch does not run",
    ".h5": "a file of another library",
    ".keras": "a file of another library",
    ".tflite": "a file of another library",
}


def _kind(path: Path) -> str:
    """ "program", or what else it is, in words; nothing for what may be a pickle."""
    if path.suffix in KINDS:
        return KINDS[path.suffix]
    with path.open("rb") as file:
        if file.read(4) != ZIP:
            return ""
    with open_zip(path) as folder:
        names = folder.archive.namelist()
    if any("/code/" in name for name in names):
        return "a TorchScript file, whose code cannot be watched"
    return "" if any(name.endswith("/data.pkl") for name in names) else "program"


def _unpickled(path: Path, allowed: bool) -> nn.Module:
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; save it again")
    if _holds_tensors_only(path):
        raise ValueError(f"{path} holds weights and no network (a state_dict); {INSTEAD}")
    if not allowed:
        raise ValueError(
            f"{path} is a pickle, or nothing known; to read a pickle can run any code that its "
            f"writer wished. {INSTEAD.capitalize()}; or allow it with --unsafe-unpickle"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as why:  # a pickle raises what its writer wished
        raise ValueError(f"{path} cannot be read ({words(why)}); save it again") from why
    if not isinstance(found, nn.Module):
        raise ValueError(f"{path} holds a {type(found).__name__} and no network; {INSTEAD}")
    return found
