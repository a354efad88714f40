"""Results of long computations, kept on disk: a page that runs again reads what it computed first.

The key is a text of all that decides a result: the arguments, the code that the function reaches
in this package (`fingerprint`), versions and GPU. Each result is one file, named by a hash of its
key, so any number of processes, and of versions of this package, can share a folder: who wants the
same result at the same time computes it, and the last one's stays. A file is whole or absent. What
it says is data (`packing`); to read it runs no code.
"""

import contextlib
import functools
import hashlib
import inspect
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor, nn

from ..solvers import all_or_nothing
from ..storage import SUFFIX, write
from ..store import Store, Stored
from . import packing
from .fingerprint import SOURCES, check_unchanged, fingerprint

ROOM = 4  # GB on disk, unless PEEK_CACHE_GB says otherwise; what was used longest ago goes first
FORMAT = 2  # of the files
OURS = re.compile(r"\w+\.[0-9a-f]{64}\.result")  # names of files
UNCOUNTED = {"progress"}  # arguments that decide no result
STAMPED = "stamp"  # an argument that already stands for what lies at a path
PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range),
    *(np.generic, torch.device, torch.dtype),
)
DATA_MAKERS = "scikit-learn", "pillow"  # they draw and decode images
PACKAGES = {"torch", "torchvision", *sys.stdlib_module_names}  # a version stands for their code
BUILDERS: dict[Callable, Callable] = {}  # function → what builds the model in its result
TOLD: set[str] = set()  # what this process has warned of


def cached(function: Callable) -> Callable:
    """`function` with its results kept on disk: one call gives one result, in any process.

    Use what is returned: `train` changes the model it is given when it computes, and leaves it
    alone when the result comes from disk. Results come back on the device they were on.

    Text that is the path of a file or folder counts with what lies there, which is read for it.

    They lie in the folder PEEK_CACHE, else in the user's cache, up to 4 GB, or as many as
    PEEK_CACHE_GB says; what was used longest ago goes first. Where one is damaged, where nothing
    can be read or written, where an argument has code of its own (a model class from a notebook,
    say), or where a result is of a kind that cannot be kept, the call computes, and the first of a
    process says so. Interrupted, it raises: nothing half-done is given or kept.

    Whoever can write to the folder can put wrong numbers there, but no code.

    Args:
        function: of peeklib; its arguments alone decide its result (not so `load_dataset`, which
            reads files).

    Returns:
        A function of the same arguments.

    Raises:
        TypeError: for any other function: the key covers peeklib's code alone.

    Example:
        >>> import torch
        >>> import peeklib as pk
        >>> spectrum = pk.cached(pk.spectrum)
        >>> spectrum(torch.eye(2)).tolist()  # read from disk, if it was ever computed
        [1.0, 1.0]
    """
    if not _is_plain_function(function):
        raise TypeError(
            f"{function!r} is not a function of peeklib; the key covers peeklib's code alone"
        )

    whole = all_or_nothing()(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            check_unchanged()
            key = _key(function, bound.arguments)
            path, room = _path(function, key), _room()
            before = _model_before(function, bound)
        except Exception as why:  # a strange argument raises anything
            _warn_once(f"computed without the cache: {why}")
            return whole(*args, **kwargs)
        try:
            return _read(path, room, key, before)
        except FileNotFoundError:
            pass
        except OSError as why:
            _warn_once(_about(path.parent, "nothing can be read from", why))
        except Exception as why:  # damaged bytes raise anything
            again = f"{function.__name__} runs again, as for every damaged result"
            _warn_once(f"{path} is damaged ({why!r}); {again}", "damaged")
        result = whole(*args, **kwargs)
        if complaint := _keep(path, room, key, result, before):
            _warn_once(complaint)
        return result

    return call


def gives_model(build: Callable) -> Callable:
    """Mark a function whose result holds the model that `build` makes of its arguments, trained.

    Of a model `cached` keeps the state alone, and must know the model that it belongs to.

    Returns:
        A decorator, which gives the function back.

    Example:
        >>> from peeklib.course import zoo
        >>> BUILDERS[zoo.rear] is zoo.build
        True
    """

    def mark(function: Callable) -> Callable:
        BUILDERS[function] = build
        return function

    return mark


def _is_plain_function(function) -> bool:
    """Whether the package has this very function under its name."""
    if not inspect.isfunction(function) or not _is_ours(function):
        return False
    return getattr(sys.modules[function.__module__], function.__name__, None) is function


def _warn_once(message: str, kind: str = "") -> None:
    """Warn, unless this process was told of trouble of this kind; of its own kind is each message."""
    kind = kind or message
    if kind not in TOLD:
        TOLD.add(kind)
        warnings.warn(message, stacklevel=3)


def _about(folder: Path, what: str, why: OSError) -> str:
    """What is wrong with a folder, in the same words each time."""
    reason = os.strerror(why.errno) if why.errno else why
    return f"{what} {folder}: {reason}; name another folder in PEEK_CACHE"


def _path(function: Callable, key: str) -> Path:
    """The file of a result, in the folder of now."""
    named = os.environ.get("PEEK_CACHE")
    folder = Path(named) if named else platformdirs.user_cache_path("peeklib") / "results"
    digest = hashlib.sha256(f"{FORMAT}\n{key}".encode()).hexdigest()
    return folder.expanduser() / f"{function.__name__}.{digest}.result"


def _room() -> float:
    """Bytes that may be kept.

    Raises:
        ValueError: if PEEK_CACHE_GB is no such number.
    """
    given = os.environ.get("PEEK_CACHE_GB") or ROOM
    with contextlib.suppress(ValueError):
        if float(given) >= 0:
            return float(given) * 1e9
    raise ValueError(f"PEEK_CACHE_GB is {given!r}; give a number of GB, such as {ROOM}")


def _model_before(function: Callable, bound: inspect.BoundArguments) -> nn.Module | None:
    """The model that the result may hold, before it was trained: an argument, or built of them."""
    for value in bound.arguments.values():
        if isinstance(value, nn.Module):
            return value
    if function in BUILDERS:
        return BUILDERS[function](*bound.args, **bound.kwargs)
    return None


def _read(path: Path, room: float, key: str, before: nn.Module | None):
    """The result in a file."""
    if not path.is_file():  # a pipe would be waited for without end
        raise FileNotFoundError(path)
    if path.stat().st_size > room:
        raise FileNotFoundError(path)  # whoever allows less has it removed in its turn
    with path.open("rb") as file:
        result = packing.unpack(file, key, before)
    with contextlib.suppress(OSError):
        os.utime(path)  # its last use, which many file systems do not note
    return result


def _keep(path: Path, room: float, key: str, result, before: nn.Module | None) -> str:
    """Put a result into its file; why that failed, or nothing."""
    try:
        check_unchanged()
        _write(path, room, key, result, before)
    except KeyboardInterrupt:  # the result is there, and may have taken long: once more
        with contextlib.suppress(Exception):
            _write(path, room, key, result, before)
        raise
    except OSError as why:
        return _about(path.parent, "nothing can be written to", why)
    except Exception as why:
        return f"a result of {path.name.partition('.')[0]} is not kept: {why}"
    return ""


def _write(path: Path, room: float, key: str, result, before: nn.Module | None) -> None:
    """Put a result into its file, whole or not at all."""
    content = packing.pack(key, result, before)
    if len(content) > room:
        raise ValueError("it is larger than all that is kept may be; PEEK_CACHE_GB can be more")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, content, follow=False)  # somebody else may have put a link there
    _make_room(path.parent, room)


def _make_room(folder: Path, room: float) -> None:
    """Remove what was used longest ago until what is kept has room."""
    results = []
    for entry in os.scandir(folder):
        if OURS.fullmatch(entry.name):
            with contextlib.suppress(OSError):  # another process removed it
                facts = entry.stat(follow_symlinks=False)
                results.append((facts.st_mtime, facts.st_size, entry.path))
    for _, size, path in sorted(results, reverse=True):
        room -= size
        if room < 0:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _key(function: Callable, arguments: dict) -> str:
    """All that decides the result, as text.

    Raises:
        TypeError: for an argument whose value or code it cannot tell.
    """
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    versions |= {name: metadata.version(name) for name in DATA_MAKERS}
    precision = torch.get_float32_matmul_precision()
    lines = [_name(function), str(versions), f"GPU: {_gpu()}, precision of products: {precision}"]
    lines += _precisions()
    for name, value in arguments.items():
        if name not in UNCOUNTED:
            lines.append(f"{name}: {_text(value)}")
            if isinstance(value, str) and STAMPED not in arguments:
                lines += _content(value)
    return "\n".join(lines)


def _precisions() -> list[str]:
    """What decides types of numbers from outside of a call, where it is not as PyTorch begins."""
    lines = []
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            lines.append(f"autocast on {kind}: {torch.get_autocast_dtype(kind)}")
    if torch.get_default_dtype() != torch.float32:
        lines.append(f"default type: {torch.get_default_dtype()}")
    return lines


def _content(path: str) -> list[str]:
    """What lies at a path, by name and hash, if that is a file or folder.

    Raises:
        OSError: if it cannot be read.
    """
    files = [Path(place) for place in (path, path + SUFFIX) if os.path.isfile(place)]
    if os.path.isdir(path):
        files += sorted(file for file in Path(path).rglob("*") if file.is_file())
    return [f"{os.path.relpath(file, path)}: {_hash(file)}" for file in files]


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _text(value) -> str:
    """A value as text, in every process the same: equal text means equal value.

    Raises:
        TypeError: as `_key`.
    """
    kind = type(value)
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        place = (str(value.device), value.requires_grad)
        return f"{_name(kind)}{place} {_text(value.contiguous().numpy(force=True))}"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()  # 0.1 s for 100 MB
        return f"{value.dtype.str}{value.shape} {digest}"
    if isinstance(value, nn.Module):
        # a weight that two layers share has one name here, two equal weights have two
        names = [name for name, _ in value.named_parameters()]
        return f"{_name(kind)} {names} {_text(vars(value))}"
    if isinstance(value, Store | Stored):
        raise TypeError("a store on disk is not read for a key, and so its results are not kept")
    if is_dataclass(value) and not isinstance(value, type):
        return f"{_name(kind)} [] {_text(vars(value))}"
    if isinstance(value, dict):
        return f"{_name(kind)} {_text(list(value.items()))}"
    if isinstance(value, set | frozenset):
        return f"{_name(kind)} [{', '.join(sorted(map(_text, value)))}]"
    if isinstance(value, list | tuple):
        return f"{_name(kind)} [{', '.join(map(_text, value))}]"
    if isinstance(value, type) or inspect.isfunction(value):
        return _name(value)
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no value that the key could hold")


def _is_ours(thing) -> bool:
    return thing.__module__ in SOURCES


def _name(thing) -> str:
    """Full name of a class or function, and what stands for its code.

    That is a fingerprint for code of this package, and the version of any other.
    """
    name = f"{thing.__module__}.{thing.__qualname__}"
    if _is_ours(thing) and "<" not in name:
        with contextlib.suppress(KeyError):  # made by a call: no module has its code
            return f"{name} {fingerprint(name)}"
    package = name.partition(".")[0]
    if package not in PACKAGES or "<" in name:
        raise TypeError(f"{name} has code that the key does not cover")
    return f"{name} {getattr(sys.modules[package], '__version__', '')}".strip()
