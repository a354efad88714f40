"""Results of long computations as files, and back: those of `storage`, with tensors "0", "1", …

Beside the result they hold the key that it belongs to. No file can name a class that is not listed
below: to read one never runs what somebody wrote into it. Of a model it has the state alone.

A tensor is kept as the memory that it lies in, its shape and its strides, because sums over other
strides round differently. So tensors that share memory share it again; everything else that a
result holds twice comes back as two.
"""

import copy
import functools
from typing import Any, BinaryIO

from torch import Tensor, nn

from ..directions import Direction
from ..nmf import CoupledFactors, Sweep
from ..storage import Packer, Unpacker, sealed, unsealed
from ..tensors import CoupledTensors
from .training import Trained


@functools.cache
def records() -> dict[str, type]:
    """Dataclasses and named tuples of this package that a result may hold.

    Returns:
        Name of a class → the class.

    Example:
        >>> records()["Sweep"] is Sweep
        True
    """
    from .data import Dataset, Split  # which keep results themselves

    kinds = (CoupledFactors, CoupledTensors, Dataset, Direction, Split, Sweep, Trained)
    return {kind.__name__: kind for kind in kinds}


def pack(key: str, result, before: nn.Module | None) -> bytes:
    """A result, and the key it belongs to, as the content of a file.

    Args:
        key: text that tells the result from all others.
        result: of the kinds that are known here, floating point numbers to the bit.
        before: the model that the result may hold, in an earlier state; the state alone is kept.

    Returns:
        What `unpack` reads.

    Raises:
        TypeError: for a result that holds something of another kind.

    Example:
        >>> pack("a call", print, before=None)
        Traceback (most recent call last):
        TypeError: a builtins.builtin_function_or_method is of no kind that can be kept
    """
    packer = _Packer(before)
    facts = {"key": key, "result": packer.pack(result)}
    return sealed(facts, {str(number): memory for number, memory in packer.memories.values()})


def unpack(file: BinaryIO, key: str, before: nn.Module | None):
    """The result in a file that `pack` gave the content of, under this key.

    A model in it is a copy of `before` in its new state. Tensors are on the devices they were on.

    Returns:
        Equal to what was packed, floating point numbers to the bit.

    Raises:
        Exception: of any type, for content that is not what `pack` gave.

    Example:
        >>> import io
        >>> import torch
        >>> file = io.BytesIO(pack("a call", {"values": torch.eye(2)}, before=None))
        >>> unpack(file, "a call", before=None)["values"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    facts, memories = unsealed(file)
    if facts["key"] != key:
        raise ValueError("it belongs to another call")
    return _Unpacker(memories, before).unpack(facts["result"])


class _Packer(Packer):
    """Collects the memory of tensors, and the state of models."""

    def __init__(self, before: nn.Module | None):
        self.before = before
        self.memories: dict[tuple, tuple[int, Tensor]] = {}  # by place; their numbers and contents

    def pack(self, value, name: str = ""):
        if isinstance(value, nn.Module):
            return ["model", *self.model(value)]
        return super().pack(value, name)

    def is_record(self, kind: type) -> bool:
        return kind is records().get(kind.__name__)

    def tensor(self, value: Tensor, name: str) -> list:
        if value.requires_grad or value.is_conj() or value.is_neg():
            raise TypeError("a tensor with a gradient, or conjugated lazily, cannot be kept")
        storage = value.untyped_storage()
        place = (str(value.device), storage.data_ptr(), value.dtype)
        if place not in self.memories:
            whole = value.as_strided((storage.nbytes() // value.itemsize,), (1,), 0)
            self.memories[place] = (len(self.memories), whole.cpu())
        number, _ = self.memories[place]
        shape, strides = list(value.shape), list(value.stride())
        return [number, str(value.device), shape, strides, value.storage_offset()]

    def model(self, value: nn.Module) -> list:
        if self.before is None or _layout(self.before) != _layout(value):
            raise TypeError("a model that is no argument in another state cannot be kept")
        training = [name for name, module in value.named_modules() if module.training]
        return [self.pack(dict(value.state_dict())), training]


class _Unpacker(Unpacker):
    """Turns what a `_Packer` gave into values again."""

    def __init__(self, memories: dict[str, Tensor], before: nn.Module | None):
        super().__init__(records())
        self.memories, self.before = memories, before
        self.placed: dict[int, Tensor] = {}

    def unpack(self, packed) -> Any:
        if isinstance(packed, list) and packed[0] == "model":
            return self.model(*packed[1:])
        return super().unpack(packed)

    def tensor(self, parts: list) -> Tensor:
        number, device, shape, strides, offset = parts
        if number not in self.placed:
            # copied to where PyTorch aligns it: that decides rounding too
            self.placed[number] = self.memories[str(number)].to(device, copy=True)
        return self.placed[number].as_strided(shape, strides, offset)

    def model(self, state, training: list[str]) -> nn.Module:
        model = copy.deepcopy(self.before)
        if model is None:
            raise ValueError("it holds a model, and this call has none")
        model.load_state_dict(self.unpack(state))
        for name, module in model.named_modules():
            module.training = name in training
        return model


def _layout(model: nn.Module) -> list:
    """All of a model but the numbers in it."""
    state = model.state_dict().items()
    return [str(model), *((name, part.shape, part.dtype, part.device) for name, part in state)]
