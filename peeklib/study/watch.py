"""A forward pass of any model, watched, and the model left as it was.

`torch.overrides.TorchFunctionMode` sees every activation function, whether a module calls it or
the code of a forward does; forward hooks say in which module it stands. Nothing here knows an
architecture. Gates (sigmoid, softmax) are not seen, nor is what scripted code does inside.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..hooks import eval_mode, to_float

ACTIVATIONS = frozenset(
    "relu relu6 hardtanh threshold gelu silu hardswish leaky_relu prelu rrelu elu selu celu mish "
    "softplus softsign tanh hardshrink softshrink tanhshrink".split()
)
CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split()
FEATURE_AXIS = {  # of what these functions return
    **dict.fromkeys(CONVOLUTIONS, 1),
    **dict.fromkeys("batch_norm instance_norm group_norm".split(), 1),
    **dict.fromkeys("linear bilinear layer_norm rms_norm".split(), -1),
}


class Sight(NamedTuple):
    """A tensor just made by an activation function or a module, which later code may overwrite."""

    name: str  #: such as "layer1.0.relu:2" (a second call), "conv.relu()" (a function), "head[0]"
    base: str  #: the name without the number of the call or the place in a tuple
    kind: str  #: class of the module, or name of the function
    role: str  #: "activation", "leaf" (a module with weights and no parts) or "module"
    tensor: Tensor
    feature_axis: int  #: in the output of the last map or normalization with as many axes,
    width: int  #: and its length there, 0 if there was none


class _Watch(TorchFunctionMode):
    """Calls `see` with a Sight for every activation and every output of a module, in order."""

    def __init__(self, model: nn.Module, see: Callable[[Sight], None]):
        super().__init__()
        self.see = see
        self.root = model
        self.paths: dict[nn.Module, str] = {}
        for name, module in model.named_modules():
            self.paths[module] = name.replace("_orig_mod.", "")  # which torch.compile puts in
        self.running: list[nn.Module] = []  # the modules we are in, the innermost last
        self.calls: Counter[str] = Counter()
        self.names: set[str] = set()
        self.activations: set[str] = set()  # modules that are an activation and nothing else
        self.last: dict[int, tuple[int, int]] = {}  # by number of axes: feature_axis, width

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # The mode is off in here, so functions inside functions do not count.
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.ndim:
            name = _function_name(func)
            if name in ACTIVATIONS:
                self._activated(name, out)
            elif name in FEATURE_AXIS:
                axis = FEATURE_AXIS[name] if out.ndim > 1 else 0
                self.last[out.ndim] = (FEATURE_AXIS[name], out.shape[axis])
        return out

    def _activated(self, function: str, out: Tensor) -> None:
        module = self.running[-1] if self.running else self.root
        path = self.paths[module]
        if path and type(module).__module__ == "torch.nn.modules.activation":
            self.activations.add(path)  # seen when it leaves, after hooks of its own
        else:
            self._emit(f"{path}.{function}()".lstrip("."), function, "activation", out)

    def enter(self, module, inputs) -> None:
        self.running.append(module)

    def leave(self, module, inputs, output) -> None:
        while self.running and self.running.pop() is not module:
            pass
        path = self.paths[module] or "(output)"
        if path in self.activations:
            self._emit(path, type(module).__name__, "activation", output)
        elif output is not None:
            self._emit(path, type(module).__name__, _module_role(module), output)

    def _emit(self, base: str, kind: str, role: str, output) -> None:
        name = base
        while name in self.names:  # a second call, or another module of that name
            self.calls[base] += 1
            name = f"{base}:{self.calls[base] + 1}"
        self.names.add(name)
        for where, tensor in _tensors(output):
            if tensor.is_floating_point() and not tensor.is_meta:
                feature_axis, width = self.last.get(tensor.ndim, (1, 0))
                tensor = tensor.detach()
                self.see(Sight(name + where, base, kind, role, tensor, feature_axis, width))


def _function_name(func: Callable) -> str:
    """Without what marks it as in-place, or as an operator: relu_ and relu_.default are relu.

    Operators are what exported programs call.
    """
    return getattr(func, "__name__", "").partition(".")[0].strip("_")


def _module_role(module: nn.Module) -> str:
    has_parts = any(True for _ in module.children())
    has_weights = any(True for _ in module.parameters(recurse=False))
    return "leaf" if has_weights and not has_parts else "module"


def _tensors(output, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in tuples, lists and dicts, and where it stands: "[0]", "[key]", "[0][1]"."""
    if isinstance(output, Tensor):
        yield where, output
    elif isinstance(output, Mapping):
        for key, part in output.items():
            yield from _tensors(part, f"{where}[{key}]")
    elif isinstance(output, (tuple, list)):
        for k, part in enumerate(output):
            yield from _tensors(part, f"{where}[{k}]")


def _takes_hooks(module: nn.Module) -> bool:
    """Scripted code does not, but for what `torch.jit.trace` gives, at its top."""
    # torch does not list the class among its exports, and it has no other public name
    traced = torch.jit.TopLevelTracedModule  # pyright: ignore[reportPrivateImportUsage]
    return isinstance(module, traced) or not isinstance(module, torch.jit.ScriptModule)


@contextmanager
def watching(model: nn.Module, see: Callable[[Sight], None]) -> Iterator[None]:
    """Every activation and output of a module goes to `see`; afterwards every hook is gone.

    Example:
        >>> model, names = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), []
        >>> with watching(model, lambda sight: names.append(sight.name)):
        ...     _ = model(torch.zeros(2, 4))
        >>> names
        ['0', '1', '(output)']
    """
    watch = _Watch(model, see)
    handles = []
    try:
        for module in model.modules():
            if _takes_hooks(module):
                handles.append(module.register_forward_pre_hook(watch.enter, prepend=True))
                handles.append(module.register_forward_hook(watch.leave, always_call=True))
        with watch:
            yield
    finally:
        for handle in handles:
            handle.remove()


def forward(
    model: nn.Module,
    images: Tensor,
    preprocess: Callable | None,
    see: Callable[[Sight], None],
) -> None:
    """One watched pass of a batch, on the model's own device and in its own type.

    Args:
        model: any; it is run as it is, see `unchanged`.
        images: images × channels × height × width, uint8 (scaled to [0, 1]) or float.
        preprocess: takes them as floats on the model's device; what it does is not seen. If it
            gives a dict, the model gets that as named arguments.
        see: gets every Sight.

    Raises:
        Exception: whatever the model or `preprocess` raises, with a note that says on what.

    Example:
        >>> seen = []
        >>> forward(nn.Sequential(nn.ReLU()), torch.zeros(2, 1, 4, 4), None, seen.append)
        >>> seen[0].name, seen[0].role, seen[0].tensor.shape
        ('0', 'activation', torch.Size([2, 1, 4, 4]))
    """
    device, dtype = images.device, torch.float32
    for parameter in model.parameters():
        if parameter.is_floating_point():
            device, dtype = parameter.device, parameter.dtype
            break
    x = to_float(images.to(device, copy=True))  # an in-place first layer writes to it
    try:
        if preprocess is not None:
            x = preprocess(x)
        with watching(model, see):
            if isinstance(x, Mapping):
                model(**x)
            else:
                model(x.to(device, dtype))
    except Exception as error:
        shape = f"{tuple(images.shape)}{', preprocessed' if preprocess else ''}"
        error.add_note(
            f"peek was running {type(model).__name__} on a batch of shape {shape}; "
            "check that the model takes it: size, channels, preprocess="
        )
        raise


@contextmanager
def unchanged(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Eval mode, no gradients, nothing compiled, random numbers from `seed`.

    Afterwards modes, parameters, buffers and all random states are as before; of parameters and
    buffers a copy is kept.

    Raises:
        ValueError: for a model with lazy modules that never ran.

    Example:
        >>> model = nn.Dropout()
        >>> with unchanged(model):
        ...     model.training, torch.is_grad_enabled()
        (False, False)
        >>> model.training
        True
    """
    with _same_tensors(model), _same_random_states(), torch.no_grad(), eval_mode(model), _eager():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield


def _eager() -> AbstractContextManager:
    if hasattr(torch.compiler, "set_stance"):  # from PyTorch 2.6 on; in force from this call on
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


@contextmanager
def _same_random_states() -> Iterator[None]:
    """Whatever is drawn inside, the global random states are as before."""
    python = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _same_tensors(model: nn.Module) -> Iterator[None]:
    """Afterwards every parameter and buffer is the same object as before, with the same values."""
    tensors = [*model.parameters(), *model.buffers()]
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise ValueError(
            "the model has lazy modules whose shapes are not known yet; "
            "run one batch through it first"
        )
    copies = [tensor.detach().clone() for tensor in tensors]
    buffers = {module: dict(module._buffers) for module in model.modules()}
    try:
        yield
    finally:
        for module, own in buffers.items():
            if not isinstance(module, torch.jit.ScriptModule):  # its buffers cannot be replaced
                module._buffers.clear()
                module._buffers.update(own)
        for tensor, copy in zip(tensors, copies, strict=True):
            _give_back(tensor, copy)


@torch.no_grad()
def _give_back(tensor: Tensor, copy: Tensor) -> None:
    """`tensor` with the values, shape and layout of its copy; left alone if they are the same."""
    if tensor.shape != copy.shape or tensor.layout != copy.layout:
        tensor.data = copy
    elif tensor.layout == torch.strided and not torch.equal(tensor, copy):
        tensor.data.copy_(copy)
