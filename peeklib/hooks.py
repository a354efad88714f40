"""Activations of a network as matrices, neurons × images, through forward hooks.

Every hook is removed, and every module's mode restored, whatever happens in between.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .blocks import check_count, pick_device

NEGATIVE = ("refuse", "clip", "split", "keep")
INPUT_NAMES = {1: ["input"], 3: ["input.red", "input.green", "input.blue"]}


def to_float(images: Tensor) -> Tensor:
    """Images as networks here take them: uint8 becomes float32 in [0, 1], floats pass through.

    Returns:
        A tensor of the same shape and device; floats are not copied.

    Raises:
        TypeError: for anything else.

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    kind = type(images).__name__
    if isinstance(images, Tensor):
        if images.is_floating_point():
            return images
        if images.dtype == torch.uint8:
            return images.float() / 255
        kind = f"{images.dtype} tensor"
    raise TypeError(
        f"images are a {kind}; give a uint8 tensor (0 to 255) or a float one, "
        "such as data.test.images"
    )


def input_blocks(images: Tensor) -> dict[str, Tensor]:
    """The D_c: for each channel of the images one block, pixels × images.

    Args:
        images: images × channels × height × width, as a person would see them, before any
            normalization: uint8 (scaled to [0, 1]) or floats in [0, 1].

    Returns:
        Blocks named "input" for one channel, "input.red" … for three, "input.0" … otherwise.

    Raises:
        ValueError: for another shape, or values outside [0, 1].

    Example:
        >>> blocks = input_blocks(torch.zeros(5, 3, 8, 8))
        >>> {name: tuple(block.shape) for name, block in blocks.items()}
        {'input.red': (64, 5), 'input.green': (64, 5), 'input.blue': (64, 5)}
    """
    pixels = to_float(images)
    if pixels.ndim != 4 or pixels.shape[1] > 4 >= pixels.shape[3]:  # the latter: channels last
        raise ValueError(
            f"images have shape {tuple(pixels.shape)}; give images × channels × height × width"
        )
    if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):  # a NaN fails both
        raise ValueError(
            f"images run from {pixels.min():.2g} to {pixels.max():.2g}; undo the normalization, "
            "or give uint8, so that they lie in [0, 1]"
        )
    channels = pixels.shape[1]
    names = INPUT_NAMES.get(channels, [f"input.{channel}" for channel in range(channels)])
    return {name: pixels[:, k].flatten(1).T.contiguous() for k, name in enumerate(names)}


def relu_layers(model: nn.Module) -> list[str]:
    """Names of the model's ReLU modules, whose outputs Saini & Papalexakis (2018) call activations.

    Returns:
        In the order of `named_modules`; a function such as `torch.relu` is no module and has none.

    Example:
        >>> relu_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        ['1']
    """
    return [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]


def record(
    model: nn.Module,
    images: Tensor,
    layers: Iterable[str] | None = None,
    *,
    negative: str = "refuse",
    batch_size: int = 500,
    device=None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """The A_j: outputs of the named modules, flattened to neurons × images.

    Args:
        model: run in eval mode without gradients on its own device; left as it was, mode and hooks
            included.
        images: images × …, uint8 (scaled to [0, 1]) or whatever the model takes.
        layers: names from `model.named_modules()`; None takes every ReLU.
        negative: what to do with outputs below zero, which a non-negative factorization cannot
            take: "refuse", "clip", "split" or "keep", as in `split_signs`.
        batch_size: images in one forward pass.
        device: where the result lives; None: where the images are.
        progress: show a progress bar.

    Returns:
        One block for each layer in the order they ran, and for each call of it. A module that runs
        several times in one pass gives "relu", "relu:2", …. They are copies: an in-place module
        that follows does not alter them.

    Raises:
        ValueError: for unknown layers (lists those there are), negative outputs, no images, or an
            output whose first axis is not the images.
        TypeError: for an output that is no tensor.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        >>> images = torch.zeros(5, 1, 4, 4)
        >>> record(model, images)["1"].shape  # 2 · 2 · 2 neurons × images
        torch.Size([8, 5])
        >>> list(record(model, images, ["0", "3"], negative="split"))
        ['0+', '0-', '3+', '3-']
    """
    _check_negative(negative)
    if not len(to_float(images)):
        raise ValueError("there are no images to record")
    names = _known_layers(model, layers)
    check_count(batch_size, "batch_size")
    home = home_of(model, images.device)
    device = images.device if device is None else pick_device(device, home)

    blocks: dict[str, Tensor] = {}
    start = 0
    parts = images.split(batch_size)
    title = f"recording {len(names)} layers"
    with torch.no_grad(), eval_mode(model):
        for part in tqdm(parts, title, disable=not progress, leave=False):
            stop = start + len(part)
            outputs = _outputs(model, _as_input(part, home), names)
            if start == 0:
                blocks = _empty_blocks(outputs, len(images), device)
            if unsteady := sorted(outputs.keys() ^ blocks.keys()):
                raise ValueError(
                    f"layers {unsteady} run on some batches and not on others; leave them out"
                )
            for name, output in outputs.items():
                blocks[name][:, start:stop] = output.flatten(1).T
            start = stop
    if missing := [name for name in names if name not in blocks]:
        raise ValueError(f"layers {missing} did not run in the forward pass; leave them out")

    signed: dict[str, Tensor] = {}
    for name, block in blocks.items():
        signed |= split_signs(name, block, negative)
    return signed


def predict(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """The model's outputs for all images.

    Args:
        model: run in eval mode without gradients on its own device; left as it was.
        images: images × …, at least one, uint8 (scaled to [0, 1]) or whatever the model takes.
        batch_size: images in one forward pass.

    Returns:
        images × …, on the device of the images.

    Example:
        >>> predict(nn.Flatten(), torch.ones(3, 1, 2, 2)).shape
        torch.Size([3, 4])
    """
    home = home_of(model, images.device)
    outputs = []
    with torch.no_grad(), eval_mode(model):
        for part in images.split(batch_size):
            outputs.append(model(_as_input(part, home)).to(images.device))
    return torch.cat(outputs)


def split_signs(name: str, block: Tensor, negative: str) -> dict[str, Tensor]:
    """A block as blocks that a non-negative factorization takes, by what is done below zero.

    Args:
        name: of the block.
        block: neurons × images; overwritten by "clip" and "split".
        negative: "refuse" (an error if there are values below zero), "clip" (set them to zero),
            "split" (two blocks: those above zero, and the size of those below), or "keep" (leave
            them, for spectra and the like).

    Returns:
        One block under `name`; for "split" two, "name+" and "name-", whose difference is the block.

    Raises:
        ValueError: for "refuse" and negative values, or another `negative`.

    Example:
        >>> parts = split_signs("conv", torch.tensor([[1.0, -2.0]]), "split")
        >>> {name: part.tolist() for name, part in parts.items()}
        {'conv+': [[1.0, 0.0]], 'conv-': [[0.0, 2.0]]}
    """
    _check_negative(negative)
    if negative == "split":
        mirrored = block.neg().clamp_(min=0)
        return {f"{name}+": block.clamp_(min=0), f"{name}-": mirrored}
    if negative == "clip":
        return {name: block.clamp_(min=0)}
    if negative == "keep":
        return {name: block}
    below = block < 0  # False for a NaN, which the factorization refuses by name
    if below.any():
        raise ValueError(
            f"layer {name!r} has {int(below.sum())} negative activations; a non-negative "
            'factorization needs negative="clip" (set them to zero) or negative="split" (one block '
            "for each sign)"
        )
    return {name: block}


def home_of(model: nn.Module, fallback: torch.device) -> torch.device:
    """The device of a model.

    Returns:
        That of its first parameter, or `fallback` if it has none.

    Example:
        >>> home_of(nn.Flatten(), fallback=torch.device("meta"))
        device(type='meta')
    """
    return next((p.device for p in model.parameters()), fallback)


@contextmanager
def visiting(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on `device`; afterwards on the device where it was."""
    home = home_of(model, device)
    try:
        model.to(device)
        yield
    finally:
        model.to(home)


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


def _check_negative(negative: str) -> None:
    if negative not in NEGATIVE:
        raise ValueError(f"negative={negative!r}; it is one of {NEGATIVE}")


def _known_layers(model: nn.Module, layers: Iterable[str] | None) -> list[str]:
    """The names asked for, each once, or of all ReLUs; an error for one the model does not have."""
    if layers is None:
        names = relu_layers(model)
    elif isinstance(layers, str):
        names = [layers]
    else:
        names = list(dict.fromkeys(layers))
    if odd := [type(name).__name__ for name in names if not isinstance(name, str)]:
        raise TypeError(
            f"layers are names, not {odd[0]}; record takes images and layer names, no labels"
        )
    known = [name for name, _ in model.named_modules() if name]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown layers {unknown}; this model has {known}")
    if not names:
        raise ValueError(
            "no layers to record: none was named, or the model has no nn.ReLU module (it may call "
            f'torch.relu); name some of {known}, with negative="clip" if they come before a ReLU'
        )
    return names


def _as_input(images: Tensor, device: torch.device) -> Tensor:
    """Images as floats on a model's device; a copy, as an in-place first layer writes to it."""
    return to_float(images.to(device, copy=True))


def _outputs(model: nn.Module, batch: Tensor, layers: list[str]) -> dict[str, Tensor]:
    """One forward pass; a copy of each named module's output, in the order they ran."""
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(layer: str, module, inputs, output) -> None:
        calls[layer] += 1
        name = layer
        if calls[layer] > 1:
            name = f"{layer}:{calls[layer]}"
        _check_output(name, output, len(batch))
        outputs[name] = output.detach().clone()

    with ExitStack() as hooks:
        for layer in layers:
            module = model.get_submodule(layer)
            hooks.enter_context(module.register_forward_hook(partial(keep, layer)))
        model(batch)
    return outputs


def _empty_blocks(outputs: dict[str, Tensor], count: int, device) -> dict[str, Tensor]:
    """Room for `count` images: a block, neurons × images, for each output of the first batch."""
    blocks = {}
    for name, output in outputs.items():
        neurons = output[0].numel()
        blocks[name] = output.new_empty(neurons, count, device=device)
    return blocks


def _check_output(name: str, output, count: int) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"layer {name!r} returns a {type(output).__name__}, not a tensor; "
            "record a module inside it"
        )
    if output.ndim < 2 or len(output) != count:
        raise ValueError(
            f"layer {name!r} gives shape {tuple(output.shape)} for {count} images; "
            "its first axis is not the images, so it cannot be a block"
        )
