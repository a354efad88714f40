"""Where the activations of any network are, and a record of them within a given memory.

A *site* is a place of the forward pass where an activation function gives a tensor, whether a module calls the
function or the code of a forward does: `torch.overrides.TorchFunctionMode` sees every call, and forward hooks say in
which module it stands. Outputs of modules are sites too. Nothing here knows an architecture. Which axis of a tensor
counts the images comes from running two images and then three; which axis counts the features, from the convolution,
linear map or normalization that ran last.

Notation: every site becomes images × features × positions (channels and pixels of a convolution, features and tokens
of a transformer), and its neurons are counted feature by feature, as `record` counts them.

Gates (sigmoid, softmax) are no sites, nor is what scripted code does inside.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm

from ..hooks import eval_mode, to_float

ACTIVATIONS = frozenset(
    "relu relu6 hardtanh threshold gelu silu hardswish leaky_relu prelu rrelu elu selu celu mish softplus softsign "
    "tanh hardshrink softshrink tanhshrink".split()
)
FEATURE_AXIS = {  # of what these functions return
    **dict.fromkeys(
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split(), 1
    ),
    **dict.fromkeys("batch_norm instance_norm group_norm".split(), 1),
    **dict.fromkeys("linear bilinear layer_norm rms_norm".split(), -1),
}
MOST = 8  # layers that "auto" takes


# Seeing


class Sight(NamedTuple):
    """A tensor just made by an activation function or a module, which later code may overwrite."""

    name: str  # such as "layer1.0.relu:2" or "conv.relu()"
    base: str  # the name without the number of the call or the place in a tuple
    kind: str  # class of the module, else name of the function
    role: str  # "activation", "leaf" (a module with weights and no parts) or "module"
    tensor: Tensor
    feature_axis: int  # in the output of the last map or normalization with as many axes,
    width: int  # and its length there, 0 if there was none


class _Watch(TorchFunctionMode):
    """Calls `see` with a Sight for every activation and every output of a module, in order."""

    def __init__(self, model: nn.Module, see: Callable[[Sight], None]):
        super().__init__()
        self.see = see
        self.paths = {
            module: name.replace("_orig_mod.", "") for name, module in model.named_modules()
        }
        self.stack: list[nn.Module] = []
        self.calls: Counter[str] = Counter()
        self.activations: set[str] = set()  # modules that are an activation and nothing else
        self.seen: set[str] = set()
        self.last: dict[
            int, tuple[int, int]
        ] = {}  # axes of the output of the last map → its feature axis and its length

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(
            *args, **(kwargs or {})
        )  # the mode is off in here, so functions inside functions do not count
        name = getattr(func, "__name__", "").strip("_")
        if isinstance(out, Tensor) and out.ndim:
            if name in ACTIVATIONS:
                self._activation(name, out)
            elif name in FEATURE_AXIS:
                self.last[out.ndim] = (
                    FEATURE_AXIS[name],
                    out.shape[FEATURE_AXIS[name] if out.ndim > 1 else 0],
                )
        return out

    def _activation(self, kind: str, out: Tensor) -> None:
        module = self.stack[-1] if self.stack else None
        path = self.paths.get(module, "")
        if module is not None and type(module).__module__ == "torch.nn.modules.activation" and path:
            self.activations.add(path)  # seen when it leaves, after hooks of its own
        else:
            self._emit(f"{path}.{kind}()".lstrip("."), kind, "activation", out)

    def enter(self, module, inputs) -> None:
        self.stack.append(module)

    def leave(self, module, inputs, output) -> None:
        while self.stack and self.stack.pop() is not module:
            pass
        path = self.paths[module] or "(output)"
        if path in self.activations:
            self._emit(path, type(module).__name__, "activation", output)
        elif output is not None:
            weighs = not list(module.children()) and bool(list(module.parameters(recurse=False)))
            self._emit(path, type(module).__name__, "leaf" if weighs else "module", output)

    def _emit(self, base: str, kind: str, role: str, output) -> None:
        name = base
        while name in self.seen:  # a second call, or another module of that name
            self.calls[base] += 1
            name = f"{base}:{self.calls[base] + 1}"
        self.seen.add(name)
        for where, tensor in _tensors(output):
            if tensor.is_floating_point() and not tensor.is_meta:
                self.see(
                    Sight(
                        name + where,
                        base,
                        kind,
                        role,
                        tensor.detach(),
                        *self.last.get(tensor.ndim, (1, 0)),
                    )
                )


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


@contextmanager
def watching(model: nn.Module, see: Callable[[Sight], None]) -> Iterator[None]:
    """Whatever runs inside is seen; afterwards every hook is gone."""
    watch, handles = _Watch(model, see), []
    try:
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule) or isinstance(
                module, torch.jit.TopLevelTracedModule
            ):
                handles.append(module.register_forward_pre_hook(watch.enter, prepend=True))
                handles.append(module.register_forward_hook(watch.leave, always_call=True))
        with watch:
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def unchanged(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Eval mode, no gradients, nothing compiled and seeded random numbers.

    Afterwards modes, parameters, buffers and all random states are as before; of parameters and buffers a copy is kept.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if any(isinstance(t, nn.parameter.UninitializedTensorMixin) for t in tensors):
        raise ValueError(
            "the model has lazy modules whose shapes are not known yet; run one batch through it first"
        )
    copies = [t.detach().clone() for t in tensors]
    buffers = {module: dict(module._buffers) for module in model.modules()}
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the global state is what we keep)
    eager = (
        torch.compiler.set_stance("force_eager")
        if hasattr(torch.compiler, "set_stance")
        else nullcontext()
    )
    try:
        with (
            torch.random.fork_rng(range(torch.cuda.device_count())),
            torch.no_grad(),
            eval_mode(model),
            eager,
        ):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        for module, own in buffers.items():
            if not isinstance(module, torch.jit.ScriptModule):  # its buffers cannot be replaced
                module._buffers.clear()
                module._buffers.update(own)
        for tensor, copy in zip(tensors, copies, strict=True):
            _give_back(tensor, copy)


@torch.no_grad()
def _give_back(tensor: Tensor, copy: Tensor) -> None:
    """`tensor` with the values, shape and layout of its copy; left alone where they are the same."""
    if tensor.shape != copy.shape or tensor.layout != copy.layout:
        tensor.data = copy
    elif tensor.layout == torch.strided and not torch.equal(tensor, copy):
        tensor.data.copy_(copy)


def forward(
    model: nn.Module,
    images: Tensor,
    preprocess: Callable | None,
    see: Callable[[Sight], None] | None = None,
) -> None:
    """One pass of a batch, images × channels × height × width, on the model's own device and in its own type.

    A preprocess that gives a dict has it passed as named arguments. What it does is not seen.
    """
    weight = next(
        (p for p in model.parameters() if p.is_floating_point()),
        images.new_empty(0, dtype=torch.float32),
    )
    x = to_float(images.to(weight.device, copy=True))  # an in-place first layer writes to it
    try:
        x = x if preprocess is None else preprocess(x)
        with watching(model, see) if see else nullcontext():
            if isinstance(x, Mapping):
                model(**x)
            else:
                model(x.to(weight.device, weight.dtype))
    except Exception as error:
        error.add_note(
            f"peek was running {type(model).__name__} on a batch of shape {tuple(images.shape)}"
            f"{', preprocessed' if preprocess else ''}; check that the model takes it: size, channels, preprocess="
        )
        raise


# Finding


@dataclass(frozen=True)
class Site:
    """A place of the forward pass, and how its tensor becomes images × features × positions."""

    name: str  #: such as "layer1.0.relu:2" (second call of a module), "conv.relu()" (a function called there), "head[0]"
    base: str  #: the name without the number of the call or the place in a tuple
    kind: str  #: class of the module, or name of the function
    role: str  #: "activation", "leaf" (a module with weights and no parts) or "module"
    shape: tuple[int, ...] = ()  #: of one image: features, then positions
    axis: int = 0  #: of the images
    per_image: int = 1  #: entries of that axis for each image
    images_first: bool = True  #: whether those of one image stand together
    feature_axis: int = (
        1  #: once the images' axis is first (and those of one image second, if there are several)
    )
    signed: bool = False  #: whether there were negative values
    reason: str = ""  #: why it cannot be recorded, if so

    @property
    def features(self) -> int:
        """Channels of a convolution, features of a token or vector."""
        return self.shape[0]

    @property
    def positions(self) -> int:
        """Pixels or tokens, 1 for a vector."""
        return prod(self.shape[1:])

    def arrange(self, tensor: Tensor, images: int) -> Tensor:
        """The site's tensor as images × features × positions: a view where that is possible."""
        t = self._unfold(tensor, images)
        return t.movedim(self.feature_axis, 1).reshape(images, self.features, self.positions)

    def _unfold(self, tensor: Tensor, images: int) -> Tensor:
        t = tensor.movedim(self.axis, 0)
        if self.per_image > 1 and self.images_first:
            t = t.unflatten(0, (images, self.per_image))
        elif self.per_image > 1:
            t = t.unflatten(0, (self.per_image, images)).transpose(0, 1)
        return t if t.ndim > 1 else t[:, None]


class _Glimpse(NamedTuple):
    """What is remembered of a Sight: no tensor of its size."""

    sight: Sight  # without its tensor
    shape: tuple[int, ...]
    marks: list[Tensor]  # sums of magnitudes, for each entry of each axis
    signed: bool


def trace(model: nn.Module, images: Tensor, *, preprocess: Callable | None = None) -> list[Site]:
    """Every site of the forward pass in the order they ran, found by running two images and then three.

    Args:
        model: left as it was.
        images: images × …, at least one, uint8 (scaled to [0, 1]) or float.
        preprocess: takes a batch of them, as floats on the model's device, and gives what the model takes.

    Raises:
        ValueError: for no images.
        Exception: whatever the model or the preprocess raises, with a note.
    """
    if not len(images):
        raise ValueError("there are no images to run the model on")
    chosen = _apart(images)
    with unchanged(model):
        two, three = (_glimpses(model, images[chosen[:n]], preprocess) for n in (2, 3))
    once = [
        Site(**_named(two[name].sight), reason="it runs on some batches only")
        for name in two.keys() - three.keys()
    ]
    return [_site(two.get(name), glimpse) for name, glimpse in three.items()] + once


def _apart(images: Tensor) -> Tensor:
    """Three of the first 64 images that differ as much as may be: alike ones do not tell whose a row is."""
    pixels = to_float(images[:64]).float().flatten(1)
    chosen = [0]
    for _ in range(2):
        chosen.append(int(torch.cdist(pixels, pixels[chosen]).amin(dim=1).argmax()))
    return torch.tensor(chosen, device=images.device)


def _glimpses(model, images, preprocess) -> dict[str, _Glimpse]:
    found: dict[str, _Glimpse] = {}

    def see(sight: Sight) -> None:
        t = sight.tensor
        marks = [_sums(t, axis) for axis in range(t.ndim)]
        signed = bool(t.numel() and t.min() < 0)
        found[sight.name] = _Glimpse(sight._replace(tensor=None), tuple(t.shape), marks, signed)

    forward(model, images, preprocess, see)
    return found


def _sums(t: Tensor, axis: int) -> Tensor:
    """Sum of magnitudes for each entry of an axis, without a temporary of the tensor's size."""
    others = [a for a in range(t.ndim) if a != axis]
    return (
        torch.linalg.vector_norm(
            t, 1, dim=others, dtype=torch.promote_types(t.dtype, torch.float32)
        )
        if others
        else t.abs()
    )


def _site(two: _Glimpse | None, three: _Glimpse) -> Site:
    """A site from what two images gave and what three gave."""
    name = _named(three.sight)
    if two is None:
        return Site(**name, reason="it runs on some batches only")
    if not prod(three.shape):
        return Site(**name, reason=f"it is empty: shape {three.shape}")
    shapes = f"its shape is {two.shape} for two images and {three.shape} for three"
    if len(two.shape) != len(three.shape):
        return Site(**name, reason=shapes)
    axes = [a for a, (m, n) in enumerate(zip(two.shape, three.shape, strict=True)) if m != n]
    if len(axes) != 1 or 2 * three.shape[axes[0]] != 3 * two.shape[axes[0]]:
        return Site(**name, reason=f"{shapes}, so no axis counts images")
    [axis] = axes
    per_image = three.shape[axis] // 3
    images_first = _images_first(two.marks[axis], three.marks[axis], per_image)
    if images_first is None:
        return Site(**name, reason=f"{shapes}, and which rows belong to an image is not clear")
    shape = three.shape[axis : axis + 1] + three.shape[:axis] + three.shape[axis + 1 :]
    shape = (3, *([per_image] if per_image > 1 else []), *shape[1:])
    shape = shape if len(shape) > 1 else (3, 1)
    feature_axis = _feature_axis(shape, three.sight.feature_axis, three.sight.width)
    shape = (shape[feature_axis], *shape[1:feature_axis], *shape[feature_axis + 1 :])
    where = {
        "axis": axis,
        "per_image": per_image,
        "images_first": images_first,
        "feature_axis": feature_axis,
    }
    return Site(**name, shape=shape, **where, signed=two.signed or three.signed)


def _named(sight: Sight) -> dict[str, str]:
    return {field: getattr(sight, field) for field in ("name", "base", "kind", "role")}


def _images_first(two: Tensor, three: Tensor, per_image: int) -> bool | None:
    """Whether an axis holds all of the first image, then all of the second, …; None if that or the reverse is not clear.

    The first two images are the same in both runs, so their entries agree once they are laid side by side.
    """
    near = {"rtol": 1e-3, "atol": 1e-5 * float(three.abs().max())}
    if per_image == 1:
        return True
    first = torch.allclose(two, three[: len(two)], **near)
    last = torch.allclose(two, three.view(per_image, 3)[:, :2].flatten(), **near)
    return None if first == last else first


def _feature_axis(shape: tuple[int, ...], likely: int, width: int) -> int:
    """Which axis of images × … counts the features: the one as long as the last map or normalization made it."""
    likely = likely % len(shape)
    same = [a for a in range(1, len(shape)) if shape[a] == width]
    if likely in same or len(same) == 1:
        return likely if likely in same else same[0]
    return 1 if len(shape) >= 4 else len(shape) - 1


def choose(
    sites: Sequence[Site], layers: str | Iterable[str], most: int = MOST
) -> tuple[list[Site], list[str]]:
    """The sites to record, in the order they ran, and notes on what that left out.

    Args:
        sites: from `trace`.
        layers: "auto", or names of sites or modules; a module stands for all of its calls and outputs.
        most: sites that "auto" takes, spread evenly, with the last one.

    Raises:
        ValueError: for a name that is not there (lists those that are), or one that cannot be recorded, or no sites.
    """
    if isinstance(layers, str) and layers == "auto":
        return _auto(sites, most)
    names = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    known = {name for site in sites for name in (site.name, site.base)}
    if not names or (unknown := [name for name in names if name not in known]):
        what = f"unknown layers {unknown}" if names else "no layers were named"
        functions = [site.name for site in sites if site.role == "activation"]
        modules = [site.name for site in sites if site.role != "activation"]
        raise ValueError(f"{what}; activations that ran: {functions}; modules that ran: {modules}")
    chosen = [site for site in sites if site.name in names or site.base in names]
    if lame := [f"{site.name!r}: {site.reason}" for site in chosen if site.reason]:
        raise ValueError(f"these layers cannot be recorded: {'; '.join(lame)}; leave them out")
    return chosen, []


def _auto(sites: Sequence[Site], most: int) -> tuple[list[Site], list[str]]:
    roles = {role: [s for s in sites if s.role == role] for role in ("activation", "leaf")}
    usable = {role: [s for s in found if not s.reason] for role, found in roles.items()}
    role = "activation" if usable["activation"] else "leaf"
    if not usable[role]:
        why = [f"{s.name!r}: {s.reason}" for found in roles.values() for s in found][:5]
        raise ValueError(
            f"there is no activation to look at, nor a layer with weights: {'; '.join(why) or 'none ran'}. "
            "If the model is scripted or compiled, give the original; else name modules in layers="
        )
    found, pool = roles[role], usable[role]
    notes = [] if role == "activation" else [NO_ACTIVATIONS]
    if lame := [s for s in found if s.reason]:
        listed = "; ".join(f"{s.name}: {s.reason}" for s in lame[:3]) + (
            " …" if len(lame) > 3 else ""
        )
        notes.append(f"{len(lame)} of {len(found)} sites were left out ({listed}).")
    if len(pool) > most:
        pool = [pool[round(k * (len(pool) - 1) / (most - 1))] for k in range(most)]
        notes.append(
            f"The network has {len(usable[role])} {WHAT[role]}; {most} of them, spread evenly over its depth with the "
            "first and the last, are shown. Name others with layers=[…]."
        )
    return pool, notes


NO_ACTIVATIONS = "No activation function was seen in the forward pass, so outputs of the layers with weights are shown."
WHAT = {
    "activation": "places where an activation function is applied",
    "leaf": "layers with weights",
}


# Recording


@dataclass(frozen=True)
class Sample:
    """Which neurons of a site are kept: all, or some positions of every feature, or one position of some features."""

    site: Site
    features: Tensor | None = None  #: indices, or None for all
    positions: Tensor | None = None  #: indices, the same for every feature, or None for all

    @property
    def shape(self) -> tuple[int, int]:
        """Features and positions kept."""
        features = self.site.features if self.features is None else len(self.features)
        return features, self.site.positions if self.positions is None else len(self.positions)

    @property
    def neurons(self) -> int:
        """Rows of the block."""
        return prod(self.shape)

    def take(self, tensor: Tensor, images: int) -> Tensor:
        """The neurons kept, neurons × images, of the site's tensor."""
        t = self.site.arrange(tensor, images)
        t = t if self.features is None else t[:, self.features.to(t.device)]
        t = t if self.positions is None else t[:, :, self.positions.to(t.device)]
        return t.flatten(1).T

    def place(self, row: int) -> str:
        """Where the neuron of a row stands in its layer, such as "feature 12 at 3, 5", counted from 0."""
        feature, position = divmod(row, self.shape[1])
        feature = feature if self.features is None else int(self.features[feature])
        position = position if self.positions is None else int(self.positions[position])
        at = (
            ", ".join(map(str, np.unravel_index(position, self.site.shape[1:])))
            if self.site.shape[1:]
            else ""
        )
        return f"feature {feature} at {at}" if at else f"neuron {feature}"

    def __str__(self):
        if self.features is not None:
            return f"1 of {self.site.positions} positions of {self.shape[0]} of {self.site.features} features"
        return (
            "all"
            if self.positions is None
            else f"{self.shape[1]} of {self.site.positions} positions"
        )


def plan(
    sites: Sequence[Site], costs: Sequence[float], budget: float, *, seed: int = 0
) -> list[Sample]:
    """What to keep of every site within a budget: small sites whole, the large ones equal shares.

    Positions are drawn at random, the same for every feature, and by `seed` alone: sites with as many positions that
    keep as many keep the same. A site whose share does not hold one position of all features gives one of some.

    Args:
        sites: from `choose`.
        costs: bytes for each neuron of each site.
        budget: bytes in all.
        seed: of the draw.

    Raises:
        ValueError: for a budget that does not hold a neuron of every site.
    """
    shares = _fill(
        [cost * site.features * site.positions for cost, site in zip(costs, sites, strict=True)],
        budget,
    )
    return [
        _sample(site, int(share // cost), seed)
        for site, cost, share in zip(sites, costs, shares, strict=True)
    ]


def _fill(sizes: Sequence[float], budget: float) -> list[float]:
    """Shares of a budget as water finds them: nobody gets more than their size, and who gets less gets equal parts."""
    shares = [0.0] * len(sizes)
    for done, k in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[k] = min(sizes[k], budget / (len(sizes) - done))
        budget -= shares[k]
    return shares


def _sample(site: Site, neurons: int, seed: int) -> Sample:
    if neurons < 1:
        raise ValueError(
            f"memory does not hold one neuron of layer {site.name!r}; give more, or fewer images"
        )
    positions, features = neurons // site.features, min(neurons, site.features)
    draw = torch.Generator().manual_seed(int(seed))

    def some(count, most):
        return None if count >= most else torch.randperm(most, generator=draw)[:count].sort().values

    return Sample(site, some(features, site.features), some(max(1, positions), site.positions))


def record_samples(
    model: nn.Module,
    images: Tensor,
    samples: Sequence[Sample],
    *,
    preprocess: Callable | None = None,
    batch_size: int = 32,
    device=None,
    seed: int = 0,
    bar: tqdm | None = None,
    notes: list[str] | None = None,
) -> dict[str, Tensor]:
    """What the samples keep of every image: name → neurons × images, float32, of any sign, each copied at once.

    Args:
        model, images, preprocess: as for `trace`; the model is left as it was.
        samples: from `plan`.
        batch_size: images in one pass at most; batches are of about equal size.
        device: where the result lives; None: where the images are.
        seed: of random numbers that the model draws.
        bar: a progress bar to move on by one for each batch.
        notes: then a layer that some batch does not run is left out, with a note here, instead of an error.

    Raises:
        ValueError: for NaN or infinite values, naming the layer and the image, or a layer that does not run alike on
            every batch.
    """
    device = images.device if device is None else torch.device(device)
    out = {s.site.name: torch.empty(s.neurons, len(images), device=device) for s in samples}
    wanted = {s.site.name: s for s in samples}
    with unchanged(model, seed):
        for batch in torch.arange(len(images)).tensor_split(-(-len(images) // batch_size)):
            missing, columns = set(wanted), slice(int(batch[0]), int(batch[-1]) + 1)
            problems: list[ValueError] = []  # raised after the pass: they are not the model's

            def see(sight: Sight, missing=missing, columns=columns, problems=problems) -> None:
                if sight.name in wanted:
                    missing.discard(sight.name)
                    try:
                        _write(out[sight.name], wanted[sight.name], sight.tensor, columns)
                    except ValueError as why:
                        problems.append(why)

            forward(model, images[columns], preprocess, see)
            if problems:
                raise problems[0]
            if missing and (notes is None or len(missing) == len(wanted)):
                raise ValueError(
                    f"layers {sorted(missing)} do not run on every batch; leave them out"
                )
            for name in sorted(missing):
                notes.append(f"{name} does not run on every batch and was left out.")
                del wanted[name], out[name]
            if bar is not None:
                bar.update()
    return out


def _write(out: Tensor, sample: Sample, tensor: Tensor, columns: slice) -> None:
    images = columns.stop - columns.start
    try:
        block = sample.take(tensor, images)
    except RuntimeError as why:
        raise ValueError(
            f"layer {sample.site.name!r} gives shape {tuple(tensor.shape)} for {images} images, not one that goes with "
            f"{sample.site.shape} for each image; leave it out"
        ) from why
    bad = ~block.isfinite().all(dim=0)
    if bad.any():
        raise ValueError(
            f"layer {sample.site.name!r} gives NaN or infinite values (first for image {columns.start + int(bad.nonzero()[0])}, "
            f"in {int(bad.sum())} of {images} images of that batch); look at the weights and at preprocess="
        )
    out[:, columns] = block
