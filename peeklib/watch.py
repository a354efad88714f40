"""A forward pass of any model, watched, and the model left as it was.

`torch.overrides.TorchFunctionMode` sees every activation function, whether a module calls it or
the code of a forward does; forward hooks say in which module it stands. Nothing here knows an
architecture. Gates (sigmoid, softmax) are not seen, nor is what scripted code does inside.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .images import to_float

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


Preprocess = Callable[[Tensor], Tensor | Mapping]  # what a model wants done to a batch of images


def unwrapped(model) -> nn.Module:
    """The model inside what `torch.compile` or DataParallel made of it, with the same weights.

    Returns:
        The module whose code runs; of an exported program, the module that it holds.

    Raises:
        TypeError: for anything that is no module; it says what to give.

    Example:
        >>> unwrapped(nn.DataParallel(nn.Flatten()))
        Flatten(start_dim=1, end_dim=-1)
    """
    if type(model).__name__ == "ExportedProgram" and callable(getattr(model, "module", None)):
        model = model.module()
    if not isinstance(model, nn.Module):
        _refuse_model(model)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):  # compiled
        return unwrapped(model._orig_mod)
    return model


def _refuse_model(model) -> NoReturn:
    kind = f"{type(model).__module__}.{type(model).__qualname__}".removeprefix("builtins.")
    if isinstance(model, type):
        kind, remedy = f"the class {model.__name__}", f"give an instance: {model.__name__}(…)"
    elif isinstance(model, Mapping):
        kind = f"{kind} of {len(model)} entries, such as weights are"
        remedy = "build the network, load them into it with load_state_dict, and give the network"
    elif isinstance(getattr(model, "model", None), nn.Module):
        remedy = "its network is in .model: give that"
    else:
        remedy = "give an nn.Module, such as torchvision.models.resnet18()"
    raise TypeError(f"this is no model but {kind}; {remedy}")


class Sight(NamedTuple):
    """A tensor just made by an activation function or a module, which later code may overwrite."""

    name: str  #: such as "layer1.0.relu:2" (a second call), "conv.relu()" (a function), "head[0]"
    base: str  #: the name without the number of the call or the place in a tuple
    kind: str  #: class of the module, or name of the function
    role: str  #: "activation", "leaf" (a module with weights and no parts) or "module"
    tensor: Tensor
    feature_axis: int  #: in the output of the last map or normalization with as many axes,
    width: int  #: and its length there, 0 if there was none


See = Callable[[Sight], Tensor | None]


class _Watch(TorchFunctionMode):
    """Calls `see` with a Sight for every activation and every output of a module, in order.

    What `see` gives, if anything, takes the place of the tensor in the forward pass.
    """

    def __init__(self, model: nn.Module, see: See):
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
            name = function_name(func)
            if name in ACTIVATIONS:
                return self._activated(name, out)
            if name in FEATURE_AXIS:
                axis = FEATURE_AXIS[name] if out.ndim > 1 else 0
                self.last[out.ndim] = (FEATURE_AXIS[name], out.shape[axis])
        return out

    def _activated(self, function: str, out: Tensor) -> Tensor:
        module = self.running[-1] if self.running else self.root
        path = self.paths[module]
        if path and type(module).__module__ == "torch.nn.modules.activation":
            self.activations.add(path)  # seen when it leaves, after hooks of its own
            return out
        return self._emit(f"{path}.{function}()".lstrip("."), function, "activation", out)

    def enter(self, module, inputs) -> None:
        self.running.append(module)

    def leave(self, module, inputs, output):
        while self.running and self.running.pop() is not module:
            pass
        path = self.paths[module] or "(output)"
        if output is None:
            return None
        role = "activation" if path in self.activations else _module_role(module)
        return self._emit(path, type(module).__name__, role, output)

    def _emit(self, base: str, kind: str, role: str, output):
        """The output, or what `see` gave in its place."""
        name = base
        while name in self.names:  # a second call, or another module of that name
            self.calls[base] += 1
            name = f"{base}:{self.calls[base] + 1}"
        self.names.add(name)
        for where, tensor in tensors_of(output):
            seen = plain(tensor)
            if seen.is_floating_point() and not seen.is_meta:
                feature_axis, width = self.last.get(seen.ndim, (1, 0))
                sight = Sight(name + where, base, kind, role, seen, feature_axis, width)
                instead = self.see(sight)
                if instead is not None and output is tensor:
                    output = _like(instead, tensor)
        return output


def plain(tensor: Tensor) -> Tensor:
    """Without gradient, class of its own, quantization, nesting (padded by zeros), sparseness.

    Example:
        >>> plain(torch.eye(2).to_sparse().requires_grad_())
        tensor([[1., 0.],
                [0., 1.]])
    """
    tensor = tensor.detach()
    if type(tensor) is not Tensor:
        tensor = tensor.as_subclass(Tensor)  # which sparse tensors cannot do
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.is_nested:
        return torch.nested.to_padded_tensor(tensor, 0.0)
    if tensor.layout != torch.strided:
        return tensor.to_dense()
    return tensor


def _like(tensor: Tensor, old: Tensor) -> Tensor:
    """A tensor in the type of the one that it replaces."""
    if old.is_quantized:
        scale, zero = old.q_scale(), old.q_zero_point()
        return torch.quantize_per_tensor(tensor.float(), scale, zero, old.dtype)
    return tensor.to(old)


def function_name(func: Callable) -> str:
    """Without what marks it as in-place, or as an operator, such as exported programs call.

    Example:
        >>> function_name(torch.relu_), function_name(torch.ops.aten.relu_.default)
        ('relu', 'relu')
    """
    return getattr(func, "__name__", "").partition(".")[0].strip("_")


def _module_role(module: nn.Module) -> str:
    has_parts = any(True for _ in module.children())
    has_weights = any(True for _ in module.parameters(recurse=False))
    if ".quantized" in type(module).__module__:  # whose weights are packed, no parameters
        has_weights = hasattr(module, "weight")
    return "leaf" if has_weights and not has_parts else "module"


def tensors_of(output, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of what a model or module gives, and where it stands.

    Returns:
        Pairs such as ("[0]", tensor), ("[logits]", tensor), ("[0][1]", tensor); "" for a tensor by
        itself. Fields of a dataclass or a named tuple count as keys.

    Example:
        >>> [where for where, tensor in tensors_of((torch.ones(2), {"h": torch.ones(3)}))]
        ['[0]', '[1][h]']
    """
    if isinstance(output, Tensor):
        yield where, output
    elif isinstance(output, Mapping):
        for key, part in output.items():
            yield from tensors_of(part, f"{where}[{key}]")
    elif isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", range(len(output)))  # of a named tuple
        for name, part in zip(names, output, strict=True):
            yield from tensors_of(part, f"{where}[{name}]")
    elif is_dataclass(output):
        for field in fields(output):
            yield from tensors_of(getattr(output, field.name), f"{where}[{field.name}]")


def _takes_hooks(module: nn.Module) -> bool:
    """Scripted code does not, but for what `torch.jit.trace` gives, at its top."""
    # torch does not list the class among its exports, and it has no other public name
    traced = torch.jit.TopLevelTracedModule  # pyright: ignore[reportPrivateImportUsage]
    return isinstance(module, traced) or not isinstance(module, torch.jit.ScriptModule)


@contextmanager
def watching(model: nn.Module, see: See) -> Iterator[None]:
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
    preprocess: Preprocess | None = None,
    see: See | None = None,
):
    """One pass of a batch, watched if anybody wants to, on the model's own device and in its type.

    Args:
        model: any; it is run as it is, see `unchanged`.
        images: images × …, uint8 (scaled to [0, 1]) or float.
        preprocess: takes them as floats on the model's device; what it does is not seen. If it
            gives a dict, the model gets that as named arguments.
        see: gets every Sight. What it gives, if anything, takes the place of that tensor.

    Returns:
        What the model gives.

    Raises:
        Exception: whatever the model or `preprocess` raises, with a note that says on what.

    Example:
        >>> seen = []
        >>> out = forward(nn.Sequential(nn.ReLU()), torch.zeros(2, 1, 4, 4), see=seen.append)
        >>> seen[0].name, seen[0].role, seen[0].tensor.shape, out.shape
        ('0', 'activation', torch.Size([2, 1, 4, 4]), torch.Size([2, 1, 4, 4]))
    """
    device, dtype = home_of(model, images.device), _float_type(model)
    x = to_float(images.to(device, copy=True))  # an in-place first layer writes to it
    shape = tuple(images.shape)
    if preprocess is not None:
        if not callable(preprocess):
            raise TypeError(
                f"preprocess is {preprocess!r}; give a function of a batch of images, such as "
                "weights.transforms()"
            )
        try:
            x = preprocess(x)
        except Exception as error:
            error.add_note(
                f"preprocess= was given a batch of floats of shape {shape}: "
                "images × channels × height × width, in one tensor"
            )
            raise
    try:
        with nullcontext() if see is None else watching(model, see):
            if isinstance(x, Mapping):
                return model(**{name: _as_input(part, device, dtype) for name, part in x.items()})
            return model(_as_input(x, device, dtype))
    except Exception as error:
        error.add_note(
            f"this came from {type(model).__name__} on a batch of shape "
            f"{shape}{', preprocessed' if preprocess else ''}; "
            "check that the model takes it: size, channels, preprocess="
        )
        raise


def home_of(model: nn.Module, fallback: torch.device) -> torch.device:
    """The device of a model.

    Returns:
        That of its first parameter, or `fallback` if it has none.

    Example:
        >>> home_of(nn.Flatten(), fallback=torch.device("meta"))
        device(type='meta')
    """
    return next((p.device for p in model.parameters()), fallback)


def _float_type(model: nn.Module) -> torch.dtype | None:
    """In what type of float a model computes; None if it has no such parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def _as_input(x, device: torch.device, dtype: torch.dtype | None):
    """What goes into a model, brought to it: whole numbers, such as of words, stay such."""
    if not isinstance(x, Tensor):
        return x
    return x.to(device, dtype if x.is_floating_point() else None)


@contextmanager
def unchanged(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Eval mode, no gradients, nothing compiled, random numbers from `seed`.

    Afterwards modes, buffers, values of parameters and all random states are as before; of
    parameters and buffers a copy is kept.

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
    """Nothing runs compiled, in force from this call on.

    Where nothing was compiled the compiler is not there yet. To import it takes seconds, and leaves
    it broken for good if an interrupt comes meanwhile.
    """
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):  # PyTorch 2.6
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; afterwards each module in the mode it had.

    Example:
        >>> model = nn.Dropout()
        >>> with eval_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:  # not model.eval(): some models do more there than a flag can undo
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


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
    """Afterwards every buffer is the same object as before, and all have the same values."""
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
