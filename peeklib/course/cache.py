"""Results of long computations, kept on disk: a page that runs again reads what it computed the first time.

joblib.Memory does the keeping. The key is a text made here, of all that decides a result: the arguments, the code that
the function reaches in this package (`fingerprint`), versions and GPU. joblib's own hash will not do: equal tensors differ
in it, and so does one tensor in two processes, but dicts in another order do not.
"""

import contextlib
import functools
import hashlib
import inspect
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import platformdirs
import torch
from joblib import Memory
from torch import Tensor, nn

from ..nmf import Sweep
from .fingerprint import SOURCES, fingerprint

LIMIT = 4 * 2**30  # bytes on disk; what was used longest ago goes first
UNCOUNTED = {"progress"}  # arguments that decide no result
PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    np.generic,
    torch.device,
    torch.dtype,
)
DATA_MAKERS = "scikit-learn", "pillow"  # they draw and decode images
PACKAGES = {"torch", "torchvision", *sys.stdlib_module_names}  # a version stands for their code


def cached(function: Callable) -> Callable:
    """`function` with its results kept on disk: the same call gives the same result, now or in another process.

    Use what is returned: `train` changes the model it is given when it computes, and leaves it alone when the
    result comes from disk. Results come back on the device they were on.

    They lie in the folder PEEK_CACHE, else in the user's cache, up to 4 GB. A damaged one is computed anew, with a
    warning. Where the folder cannot be written, or an argument has code of its own (a model class from a notebook,
    say), the call says so once and computes. A fit that was interrupted is returned and not kept.

    Args:
        function: of peeklib; its arguments alone decide its result (not so `load_dataset`, which reads files).

    Raises:
        TypeError: for any other function: the key covers peeklib's code alone.
    """
    home = sys.modules.get(getattr(function, "__module__", None))
    if (
        not inspect.isfunction(function)
        or not _is_ours(function)
        or vars(home).get(function.__name__) is not function
    ):
        raise TypeError(
            f"{function!r} is not a function of peeklib; the key covers peeklib's code alone"
        )

    @functools.wraps(function)
    def call(*args, **kwargs):
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            key, folder = _key(function, bound.arguments), _folder()
        except (TypeError, OSError) as why:
            _warn_once(f"computed without the cache: {why}")
            return function(*args, **kwargs)
        return _recall(function, bound, key, folder)

    return call


def _folder() -> Path:
    """The folder of results, there and writable; else OSError."""
    folder = Path(
        os.environ.get("PEEK_CACHE") or platformdirs.user_cache_path("peeklib") / "results"
    ).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as why:
        raise OSError(
            f"nothing can be written to {folder} ({why}); name another folder in PEEK_CACHE"
        ) from why
    return folder


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def _recall(function: Callable, bound: inspect.BoundArguments, key: str, folder: Path):
    """The result under `key` in `folder`; computed and stored if it is not there, or damaged."""
    fresh = []

    def compute(key):
        fresh.append(function(*bound.args, **bound.kwargs))
        if not _is_whole(fresh[0], bound.arguments):
            raise KeyboardInterrupt
        return fresh[0]

    # joblib files results under these names. A new function each time: those it knows make it overlook a new folder.
    compute.__module__, compute.__qualname__ = function.__module__, function.__name__
    compute.__name__ = function.__name__
    memory = Memory(folder, verbose=0)
    shelf = memory.cache(compute)
    try:
        entry = shelf.call_and_shelve(key)
        if not fresh:
            path = folder / entry.func_id / entry.args_id
            try:
                return _load(entry, path)
            except Exception as why:  # damaged bytes raise anything
                warnings.warn(
                    f"{path} is damaged ({why!r}); {function.__name__} runs again", stacklevel=3
                )
                shelf.call(key)
    except KeyboardInterrupt:
        if not fresh:
            raise
    else:
        memory.reduce_size(LIMIT)
    return fresh[0]


def _load(entry, path: Path):
    if not entry.metadata:  # joblib writes it last, and would do without
        raise FileNotFoundError("metadata.json is missing or unreadable")
    os.utime(path / "output.pkl")  # its last use, which many file systems do not note
    return entry.get()


def _is_whole(result, arguments: dict) -> bool:
    """False if Ctrl-C cut it short: `coupled_nmf` and `rank_sweep` then return what they have."""
    if not isinstance(result, Sweep):
        return not getattr(result, "interrupted", False)
    asked = len(set(arguments["ranks"])) * len(set(arguments["seeds"]))
    return len(result.fits) == asked and not any(fit.interrupted for fit in result.fits.values())


def _key(function: Callable, arguments: dict) -> str:
    """All that decides the result, as text. Raises TypeError for an argument whose value or code it cannot tell."""
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    versions |= {name: metadata.version(name) for name in DATA_MAKERS}
    lines = [_name(function), str(versions)]
    lines.append(f"GPU: {_gpu()}, precision of products: {torch.get_float32_matmul_precision()}")
    return "\n".join(
        lines + [f"{k}: {_text(value)}" for k, value in arguments.items() if k not in UNCOUNTED]
    )


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _text(value) -> str:
    """A value as text, in every process the same: equal text means equal value. Raises TypeError as `_key`."""
    kind = type(value)
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        return f"{_name(kind)}{(str(value.device), value.requires_grad)} {_text(value.contiguous().numpy(force=True))}"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        digest = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()  # 0.1 s for 100 MB
        return f"{value.dtype.str}{value.shape} {digest}"
    if isinstance(value, nn.Module) or (is_dataclass(value) and not isinstance(value, type)):
        # a weight that two layers share has one name here, two equal weights have two
        names = (
            [name for name, _ in value.named_parameters()] if isinstance(value, nn.Module) else []
        )
        return f"{_name(kind)} {names} {_text(vars(value))}"
    if isinstance(value, dict):
        return f"{_name(kind)} {_text(list(value.items()))}"
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_text(part) for part in value]
        return f"{_name(kind)} [{', '.join(sorted(parts) if isinstance(value, set | frozenset) else parts)}]"
    if isinstance(value, type) or inspect.isfunction(value):
        return _name(value)
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no value that the key could hold")


def _is_ours(thing) -> bool:
    return thing.__module__ in SOURCES


def _name(thing) -> str:
    """Full name of a class or function, and what stands for its code: a fingerprint, or the version of its package."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if _is_ours(thing) and "<" not in name:
        with contextlib.suppress(KeyError):  # made by a call: no module has its code
            return f"{name} {fingerprint(name)}"
    package = name.partition(".")[0]
    if package not in PACKAGES or "<" in name:
        raise TypeError(f"{name} has code that the key does not cover")
    return f"{name} {getattr(sys.modules[package], '__version__', '')}".strip()
