"""A small network as a list of steps that any language can run: what a page computes by itself.

`torch.fx` follows one call of the network. Each step takes the output of the step before it, so the
network is a chain: convolutions, pools, ReLUs, batch norms and linear layers, as modules or as
functions. Whatever else it does is refused by name. What the steps give is read off the traced
network itself, so every layer of a fit is found by its values, whatever it is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from .blocks import full_precision
from .hooks import record
from .names import readable
from .watch import Preprocess, eval_mode, unwrapped

WORKS = (
    "convolutions, max and average pools, ReLUs, batch norms and linear layers, one after another"
)
PASSED = (nn.Dropout, nn.Dropout2d, nn.Identity)
LAST = (nn.Softmax, nn.LogSoftmax)
OPERATORS = {  # functions and methods → the kind of module that does the same
    functional.relu: "relu",
    torch.relu: "relu",
    "relu": "relu",
    "relu_": "relu",
    functional.max_pool2d: "max",
    torch.max_pool2d: "max",
    functional.avg_pool2d: "avg",
    torch.flatten: "flat",
    "flatten": "flat",
    "view": "flat",
    "reshape": "flat",
    torch.reshape: "flat",
    functional.dropout: "drop",
    functional.dropout2d: "drop",
    "contiguous": "pass",
    functional.softmax: "last",
    torch.softmax: "last",
    "softmax": "last",
    functional.log_softmax: "last",
    torch.log_softmax: "last",
    "log_softmax": "last",
}


@dataclass(frozen=True)
class Step:
    """One operation on one image, channels × height × width or features.

    Example:
        >>> steps(nn.Sequential(nn.Linear(2, 3)), torch.zeros(1, 2))[0].out
        (3,)
    """

    op: str  #: "conv", "max", "avg", "relu", "linear", "affine" (a·x + b by channel)
    into: tuple[int, ...]  #: shape of what it takes
    out: tuple[int, ...]  #: shape of what it gives
    options: dict[str, Any] = field(default_factory=dict)  #: kernel, stride, … as height, width
    weight: Tensor | None = None
    bias: Tensor | None = None
    name: str = ""  #: of the module, or of the function


class _Watched(fx.Interpreter):
    """Runs a traced network, and keeps what every node gives."""

    def __init__(self, traced: fx.GraphModule):
        super().__init__(traced, garbage_collect_values=False)
        self.given: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        self.given[n] = out.clone() if isinstance(out, Tensor) else out  # a ReLU may be in place
        return out


def steps(model: nn.Module, images: Tensor, *, preprocess: Preprocess | None = None) -> list[Step]:
    """The steps of a network, in the order in which they run.

    Args:
        model: any chain of the kinds of layers above; run in eval mode, and left as it was.
        images: floats in [0, 1], images × …; one will do.
        preprocess: a normalization, x·a + b for each channel.

    Returns:
        The steps, up to the logits: a softmax at the end is left out.

    Raises:
        TypeError: for what is no model, or does something else; it names the module.
        ValueError: for a `preprocess` that is no normalization.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        >>> [step.op for step in steps(model, torch.zeros(1, 1, 4, 4))]
        ['conv', 'relu', 'linear']
    """
    return [step for step, _ in _chain(model, images, preprocess)]


def layers(
    model: nn.Module, images: Tensor, names: list[str], *, preprocess: Preprocess | None = None
) -> tuple[list[Step], dict[str, int]]:
    """The steps of a network, and which of them gives each layer that `record` calls by name.

    Returns:
        The steps; name → index of its step.

    Raises:
        TypeError: as `steps`.
        ValueError: for a layer that is the output of no step.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
        >>> layers(model, torch.rand(5, 1, 2, 2), ["2"])[1]
        {'2': 1}
    """
    chain = _chain(model, images, preprocess)
    blocks = record(model, images, names, preprocess=preprocess, negative="keep")
    found = {}
    for name in names:
        if name not in blocks:
            raise ValueError(
                f"layer {readable(name)!r} of the fit is none of this network's outputs "
                f"{list(blocks)}; give the network whose layers were fitted"
            )
        found[name] = _step_of(name, blocks[name].T, chain)
    return [step for step, _ in chain], found


def _step_of(name: str, block: Tensor, chain: list[tuple[Step, Tensor]]) -> int:
    """The step whose output a recorded block is: by its name, or else by its values."""
    near = 1e-5 * float(block.abs().max())  # small activations differ by little
    same = []
    for index, (_, out) in enumerate(chain):
        out = out.flatten(1)
        if out.shape == block.shape and torch.allclose(out, block.to(out), rtol=1e-3, atol=near):
            same.append(index)
    if not same:
        raise ValueError(
            f"layer {readable(name)!r} is no output of a step of this network, or was fitted in "
            "parts (negative='split'); fit the outputs of ReLUs, as record(model, images) does"
        )
    named = [index for index in same if chain[index][0].name == name]
    return (named or same)[0]


@full_precision()
def _chain(
    model: nn.Module, images: Tensor, preprocess: Preprocess | None
) -> list[tuple[Step, Tensor]]:
    """Each step with what it gives for these images."""
    model = unwrapped(model)
    first = _normalization(images, preprocess)
    if first is not None:
        images = images * first.weight[:, None, None] + first.bias[:, None, None]  # pyright: ignore[reportOptionalSubscript] - both are set
    with torch.no_grad(), eval_mode(model):
        traced = _traced(model)
        watched = _Watched(traced)
        parameter = next(model.parameters(), images)
        watched.run(images.to(parameter))
    chain = [(first, images)] if first is not None else []
    before: fx.Node | None = None
    for node in traced.graph.nodes:
        if node.op == "placeholder" and before is None:
            before = node
        elif node.op == "output":
            _check_end(node, before)
        elif isinstance(watched.given.get(node), Tensor) and node.op != "get_attr":
            _check_chain(node, before, watched, model)
            out = watched.given[node].float().cpu()
            step = _step(node, watched.given[before], out, model)  # pyright: ignore[reportArgumentType] - a placeholder comes first
            before = node
            if step is not None:
                chain.append((step, out))
    return chain


def _traced(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.symbolic_trace(model)
    except Exception as why:
        said = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
        raise TypeError(
            f"{type(model).__name__} cannot be followed by torch.fx ({readable(said, 200)}); a page runs "
            f"networks that always do the same, such as nn.Sequential of {WORKS}"
        ) from why


def _refuse(where: str, what: str, instead: str = "") -> NoReturn:
    raise TypeError(f"{where} {what}; a page runs {instead or WORKS}")


def _where(node: fx.Node, model: nn.Module) -> str:
    """How an error calls a node: by its module, or by its function and what calls that."""
    if node.op == "call_module":
        kind = type(model.get_submodule(str(node.target))).__name__
        return f"module {readable(node.target)!r} ({kind})"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    stack = node.meta.get("nn_module_stack") or {}
    inside = [str(path) for path, _ in stack.values() if path] if stack else []
    home = f"module {readable(inside[-1])!r}" if inside else type(model).__name__
    return f"{readable(name)}() in {home}"


def _check_chain(node: fx.Node, before: fx.Node | None, watched: _Watched, model) -> None:
    """Every node takes the one before it, and no other tensor; sizes may be asked for."""
    taken = [one for one in node.all_input_nodes if isinstance(watched.given[one], Tensor)]
    if taken != [before]:
        _refuse(_where(node, model), "does not take the output of the step before it alone")


def _check_end(node: fx.Node, before: fx.Node | None) -> None:
    if node.args[0] is not before:
        _refuse("the network", "gives something else than the output of its last step")


def _check_softmax(node: fx.Node, where: str, model: nn.Module) -> None:
    """Left out at the end, since a page has its own; before that it would be missed."""
    is_one = OPERATORS.get(node.target) == "last"
    if node.op == "call_module":
        is_one = isinstance(model.get_submodule(str(node.target)), LAST)
    if is_one and any(user.op != "output" for user in node.users):
        _refuse(where, "is not the last step", "a softmax at the end alone")


def _check_dropout(node: fx.Node, where: str) -> None:
    """PyTorch's function drops in eval mode too, unless it is told."""
    told = dict(zip(("input", "p", "training"), node.args, strict=False)) | node.kwargs
    if told.get("training", True):
        _refuse(where, "drops in eval mode too", "dropout(x, training=self.training)")


def _step(node: fx.Node, x: Tensor, out: Tensor, model: nn.Module) -> Step | None:
    """What a node does, as a step; None if nothing changes but the shape."""
    where = _where(node, model)
    _check_softmax(node, where, model)
    shapes = {"into": tuple(x.shape[1:]), "out": tuple(out.shape[1:]), "name": str(node.target)}
    if node.op == "call_module":
        return _module_step(model.get_submodule(str(node.target)), where, shapes)
    kind = OPERATORS.get(node.target)
    if kind is None:
        _refuse(where, "is an operation that a page does not know")
    if kind == "drop":
        _check_dropout(node, where)
    if kind in ("pass", "drop", "last"):
        return None
    if kind == "flat":
        return _flat(where, shapes)
    if kind == "relu":
        return Step("relu", **shapes)
    return _function_pool(kind, node, where, shapes)


def _function_pool(kind: str, node: fx.Node, where: str, shapes: Mapping) -> Step:
    """A pool that is called as a function: the module that does the same knows its defaults."""
    module = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
    named = {k: v for k, v in node.kwargs.items() if k not in ("input", "self")}
    return _pool(module(*node.args[1:], **named), where, shapes)  # pyright: ignore[reportArgumentType] - as the network calls it


def _module_step(module: nn.Module, where: str, shapes: Mapping) -> Step | None:
    if isinstance(module, PASSED + LAST):
        return None
    if isinstance(module, nn.Flatten):
        return _flat(where, shapes)
    maker = MAKERS.get(type(module))
    if maker is None:
        _refuse(where, "is a kind of layer that a page does not know")
    return maker(module, where, shapes)


def _flat(where: str, shapes: Mapping) -> None:
    """A change of shape, which moves no number: it has to keep each image apart."""
    features = 1
    for size in shapes["into"]:
        features *= size
    if shapes["out"] != (features,):
        given = "×".join(map(str, shapes["out"]))
        _refuse(where, f"gives {given} for each image and not {features} features")


def _relu(module: nn.ReLU, where: str, shapes: Mapping) -> Step:
    return Step("relu", **shapes)


def _conv(module: nn.Conv2d, where: str, shapes: Mapping) -> Step:
    if module.padding_mode != "zeros":
        _refuse(where, f"pads with {module.padding_mode!r}", "convolutions that pad with zeros")
    pad = _pair(module.padding)
    if module.padding == "same":  # the odd one of an even kernel goes to the end
        pad = tuple(
            d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True)
        )
    if module.padding == "valid":
        pad = (0, 0)
    options = {
        "kernel": module.kernel_size,
        "stride": module.stride,
        "pad": pad,
        "dilation": module.dilation,
        "groups": module.groups,
    }
    return Step("conv", **shapes, options=options, weight=module.weight, bias=module.bias)


def _pool(module, where: str, shapes: Mapping) -> Step:
    if isinstance(module, nn.AvgPool2d) and (module.ceil_mode or module.divisor_override):
        _refuse(where, "has a ceil_mode or divisor_override", "average pools without")
    if getattr(module, "return_indices", False):
        _refuse(where, "returns indices", "max pools that return values alone")
    options = {
        "kernel": _pair(module.kernel_size),
        "stride": _pair(module.stride or module.kernel_size),
        "pad": _pair(module.padding),
        "dilation": _pair(getattr(module, "dilation", 1)),
        "border": getattr(module, "count_include_pad", False),
    }
    return Step("max" if isinstance(module, nn.MaxPool2d) else "avg", **shapes, options=options)


def _adaptive(module: nn.AdaptiveAvgPool2d, where: str, shapes: Mapping) -> Step:
    """An average pool whose windows follow from the shapes, if they do not overlap."""
    high, wide = shapes["into"][-2:]
    rows, columns = shapes["out"][-2:]
    if high % rows or wide % columns:
        whole = "adaptive pools whose output divides their input"
        _refuse(where, f"makes {rows}×{columns} of {high}×{wide}", whole)
    kernel = (high // rows, wide // columns)
    return _pool(nn.AvgPool2d(kernel), where, shapes)


def _linear(module: nn.Linear, where: str, shapes: Mapping) -> Step:
    if len(shapes["into"]) != 1:
        _refuse(where, "works on maps", "linear layers after nn.Flatten")
    return Step("linear", **shapes, weight=module.weight, bias=module.bias)


def _norm(module: nn.BatchNorm2d | nn.BatchNorm1d, where: str, shapes: Mapping) -> Step:
    if module.running_mean is None or module.running_var is None:
        _refuse(where, "keeps no running mean", "batch norms that keep one")
    ones = torch.ones_like(module.running_mean)
    gain = module.weight if module.weight is not None else ones
    shift = module.bias if module.bias is not None else 0 * ones
    a = gain / (module.running_var + module.eps).sqrt()
    b = shift - a * module.running_mean
    return Step("affine", **shapes, weight=a.detach(), bias=b.detach())


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


MAKERS: dict[type, Callable[[Any, str, Mapping], Step | None]] = {
    nn.Conv2d: _conv,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.ReLU: _relu,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    nn.BatchNorm1d: _norm,
}


def _normalization(images: Tensor, preprocess: Preprocess | None) -> Step | None:
    """A `preprocess` as a·x + b by channel, found by asking it."""
    if preprocess is None:
        return None
    shape = tuple(images.shape[1:])
    black = preprocess(torch.zeros(1, *shape))
    white = preprocess(torch.ones(1, *shape))
    made = preprocess(images)
    if not all(isinstance(one, Tensor) for one in (black, white, made)):
        raise ValueError("preprocess gives no tensor; a page runs a normalization, a·x + b")
    b = black[0].flatten(1)[:, 0]  # pyright: ignore[reportArgumentType] - a tensor, see above
    a = white[0].flatten(1)[:, 0] - b  # pyright: ignore[reportArgumentType] - a tensor, see above
    again = images * a[:, None, None] + b[:, None, None]
    if made.shape != again.shape or not torch.allclose(made, again, rtol=1e-4, atol=1e-5):  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue] - a tensor, see above
        raise ValueError(
            "preprocess does more than a·x + b for each channel, which is all that a page does to "
            "its images; resize or crop them beforehand, and give the normalization alone"
        )
    return Step("affine", shape, shape, weight=a, bias=b, name="preprocess")
