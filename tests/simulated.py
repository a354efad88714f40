"""A CUDA device that is not there, to find out on any machine whether code mixes devices.

While `Simulation()` is entered, tensors can be sent to "cuda", say that they are there, and refuse what a GPU refuses.
Their numbers stay where they are: all that is kept is a list of the memory that counts as the GPU's. Views share memory,
so they are where their base is, and autograd runs undisturbed, since all tensors are ordinary ones to it. Every call of
PyTorch from Python passes through `__torch_function__`, in which arguments are checked and results assigned.

Kept of the real thing: an operation with a GPU tensor takes no CPU tensor, but for tensors without a dimension, indices of
a GPU tensor, and copies; a CPU tensor takes no indices from the GPU; NumPy sees no GPU tensor; a generator of the
CPU draws on the CPU. Not seen: what a compiled part of PyTorch does among its own tensors, saved files (which come
back on the CPU), and rounding.

`python tests/simulated.py NOTEBOOK` runs a notebook there, cell by cell to its end, and prints what failed.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda}
NAMED = {Tensor.cpu: "cpu", Tensor.cuda: "cuda"}
FREE = {
    Tensor.copy_,
    Tensor.data.__set__,
    Tensor.grad.__set__,
    torch._has_compatible_shallow_copy_type,
}
FLAGS = {
    Tensor.device.__get__: (CUDA, CPU),
    Tensor.is_cuda.__get__: (True, False),
    Tensor.is_cpu.__get__: (False, True),
    Tensor.get_device: (0, -1),
}
ARRAYS = {Tensor.numpy, Tensor.__array__}
CARD = {  # what PyTorch says of the cards it sees
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda *_: "simulated",
    "synchronize": lambda *_: None,
    "empty_cache": lambda: None,
    "get_rng_state": lambda *_: torch.get_rng_state(),
    "set_rng_state": lambda *_: None,
    "_lazy_init": lambda: None,
}


class Simulation(TorchFunctionMode):
    """Entered, there is a GPU; left, there is none again."""

    def __init__(self):
        super().__init__()
        self.memory: dict[
            int, StorageWeakRef
        ] = {}  # a weak reference keeps the number from being given again

    def __enter__(self):
        with contextlib.suppress(
            ImportError
        ):  # it asks for a GPU when it is imported: before there seems to be one
            import weightwatcher  # noqa: F401
        self.before = {name: getattr(torch.cuda, name) for name in CARD}
        for name, answer in CARD.items():
            setattr(torch.cuda, name, answer)
        return super().__enter__()

    def __exit__(self, *error):
        for name, answer in self.before.items():
            setattr(torch.cuda, name, answer)
        return super().__exit__(*error)

    def there(self, tensor: Tensor) -> bool:
        """Whether a tensor counts as the GPU's."""
        return tensor.untyped_storage()._cdata in self.memory

    def send(self, tensor: Tensor) -> Tensor:
        """The tensor, whose memory is the GPU's from now on."""
        storage = tensor.untyped_storage()
        self.memory[storage._cdata] = StorageWeakRef(storage)
        if len(self.memory) > 100_000:
            self.memory = {key: ref for key, ref in self.memory.items() if not ref.expired()}
        return tensor

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in FLAGS:
            return FLAGS[func][0 if self.there(args[0]) else 1]
        if func in MOVES:
            return self.move(func, *args, **kwargs)
        if func in ARRAYS and self.there(args[0]) and not kwargs.get("force"):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first."
            )
        inputs = list(tensors((args, kwargs)))
        on_gpu = any(map(self.there, inputs))
        if on_gpu and func not in FREE:
            self.check(func, args, inputs)
        if (wanted := kwargs.get("device")) is not None:
            on_gpu, kwargs["device"] = is_gpu(wanted), CPU
            self.check_generator(on_gpu, kwargs.get("generator"))
        result = func(*args, **kwargs)
        if on_gpu and func not in FREE:
            for tensor in tensors(result):
                self.send(tensor)
        return result

    def move(
        self, func, tensor: Tensor, *args, dtype=None, device=None, other=None, copy=False, **_
    ) -> Tensor:
        """`to`, `cpu` and `cuda`: a copy if the device is another one, so that its memory is another too."""
        here = goal = self.there(tensor)
        goals = NAMED.get(func), device, other, dtype, *args
        for one in goals:
            if isinstance(one, Tensor):
                goal, dtype = self.there(one), one.dtype
            elif isinstance(one, torch.dtype):
                dtype = one
            elif isinstance(one, str | int | torch.device) and not isinstance(one, bool):
                goal = is_gpu(one)
        moved = tensor.to(dtype or tensor.dtype, copy=copy)
        if goal != here and moved.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
            moved = moved.clone()
        return self.send(moved) if goal else moved

    def check(self, func, args, inputs: list[Tensor]) -> None:
        """What a GPU refuses when one of its tensors takes part."""
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            if not self.there(args[0]) and any(map(self.there, tensors(args[1]))):
                raise RuntimeError(
                    "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
                )
            if func is Tensor.__getitem__ or not any(
                isinstance(part, Tensor | list) for part in parts(args[1])
            ):
                return  # what is assigned to a slice is copied
            inputs = [args[0], *tensors(args[2:])]
        if any(map(self.there, inputs)) and any(t.dim() and not self.there(t) for t in inputs):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"(when calling {getattr(func, '__name__', func)})"
            )

    def check_generator(self, on_gpu: bool, generator) -> None:
        if on_gpu and generator is not None and generator.device.type == "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def tensors(values) -> Iterator[Tensor]:
    """All tensors among values, in lists and dicts too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))


def parts(index) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def is_gpu(device) -> bool:
    """Whether "cuda", 0, torch.device("cpu") … is a GPU."""
    return isinstance(device, int) or torch.device(device).type == "cuda"


def run_notebook(path: Path) -> int:
    """Run a notebook on the simulated GPU, whatever fails; how many cells did."""
    import os

    import nbformat
    from IPython.core.interactiveshell import InteractiveShell

    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    os.chdir(path.parent)
    shell, failed = InteractiveShell.instance(), 0
    with Simulation():
        for number, cell in enumerate(cells):
            done = shell.run_cell(cell.source)
            failed += not done.success
            if not done.success:
                print(
                    f"FAILED {path.name}, code cell {number}: {done.error_before_exec or done.error_in_exec!r}"
                )
    return failed


if __name__ == "__main__":
    sys.exit(min(1, run_notebook(Path(sys.argv[1]).resolve())))
