"""What was saved, opened: any result that has a `save`.

How a file is made is in `storage`. Which kinds there are can only be said up here, since a `Peek`
is one of them.
"""

import os
from typing import Any

import torch

from .. import storage
from ..blocks import pick_device
from ..directions import Direction
from ..nmf import CoupledFactors, Sweep
from ..store import is_store
from ..tensors import CoupledTensors
from .report import Peek

RESULTS = CoupledFactors, CoupledTensors, Sweep, Peek  # what has a `save`
KINDS = {kind.__name__: kind for kind in (*RESULTS, Direction)}


def load(path: str | os.PathLike, device=None) -> Any:
    """Open what `save` of a fit, a sweep or a `Peek` wrote.

    Files hold numbers and text, no code: to open a stranger's runs nothing of theirs.

    Args:
        path: of the file; ".safetensors" may be left out.
        device: where the factors go, such as "cuda"; None is the CPU, wherever they were. The rest
            of a `Peek` stays on the CPU, where it is drawn.

    Returns:
        A `CoupledFactors`, `CoupledTensors`, `Sweep` or `Peek`, as it was saved: all numbers in it
        to the bit (compare these: `==` of two results asks if they are one object).

    Raises:
        OSError: if there is no file, or it cannot be read.
        ValueError: for a file of another program, a damaged one, or one of a newer peeklib; the
            message says what it is and what to do.
        RuntimeError: for a CUDA device where PyTorch sees none.

    Example:
        >>> import tempfile
        >>> import peeklib as pk
        >>> fit = pk.coupled_nmf({"input": torch.ones(6, 8)}, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load(fit.save(f"{folder}/fit.safetensors"))
        >>> list(again.factors), again.block_errors == fit.block_errors
        (['input'], True)
    """
    cpu = torch.device("cpu")
    target = cpu if device is None else pick_device(device, cpu)
    if is_store(path):
        raise IsADirectoryError(
            f"{str(path)!r} is a store of activations; open it: pk.open_store({str(path)!r})"
        )
    result = storage.read(path, KINDS)
    if not isinstance(result, RESULTS):
        raise ValueError(f"{str(path)!r} holds a {type(result).__name__}, which is no result")
    return result.to(target)
