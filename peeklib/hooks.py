"""Activations of a network as matrices, neurons × images, through forward hooks.

Every hook is removed, and every module's mode restored, whatever happens in between.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .blocks import check_count, pick_device

NEGATIVE = ("refuse", "clip", "split", "keep")


def to_float(images: Tensor) -> Tensor:
    """Images as networks here take them: uint8 becomes float32 in [0, 1], floats pass through.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        return images.float() / 255
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = f"{images.dtype} tensor" if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images are a {kind}; give a uint8 tensor (0 to 255) or a float one, such as data.test.images"
        )
    return images


def input_blocks(images: Tensor) -> dict[str, Tensor]:
    """The D_c: one block, pixels × images, for each channel of `images` (images × channels × height × width).

    Named "input" for one channel, "input.red" … for three, "input.0" … otherwise. Give the images as a person
    would see them, before any normalization.

    Raises:
        ValueError: for another shape, or values outside [0, 1] (uint8 is scaled).
    """
    pixels = to_float(images)
    if images.ndim != 4 or images.shape[1] > 4 >= images.shape[3]:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; give images × channels × height × width"
        )
    if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"images run from {pixels.min():.2g} to {pixels.max():.2g}; undo the normalization, or give uint8, "
            "so that they lie in [0, 1]"
        )
    channels = images.shape[1]
    names = {1: ["input"], 3: ["input.red", "input.green", "input.blue"]}
    names = names.get(channels, [f"input.{c}" for c in range(channels)])
    return {name: pixels[:, c].flatten(1).T.contiguous() for c, name in enumerate(names)}


def relu_layers(model: nn.Module) -> list[str]:
    """Names of the model's ReLU modules, whose outputs are what Saini & Papalexakis call activations."""
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
    """The A_j: outputs of the named modules, flattened, as a dict of neurons × images in the order they ran.

    A module that runs several times in one pass gives one block per call: "relu", "relu:2", …. Outputs are
    copied at once, so an in-place module that follows does not alter them.

    Args:
        model: run in eval mode without gradients on its own device; left as it was, mode and hooks included.
        images: images × …, uint8 (scaled to [0, 1]) or whatever the model takes.
        layers: names from `model.named_modules()`; None takes every ReLU.
        negative: what to do with outputs below zero, which a non-negative factorization cannot take:
            "refuse" (an error that names the layer), "clip" (to zero), "split" (two blocks, "name+" and
            "name-"), or "keep" (for spectra and the like).
        batch_size: images in one forward pass.
        device: where the result lives; None: where the images are.
        progress: show a progress bar.

    Raises:
        ValueError: for unknown layers (lists those there are), negative outputs, no images, or an output whose
            first axis is not the images.
        TypeError: for an output that is no tensor.
    """
    layers = _check(model, images, layers, negative)
    check_count(batch_size, "batch_size")
    home = home_of(model, images.device)
    device = images.device if device is None else pick_device(device, home)
    out: dict[str, Tensor] = {}
    starts = range(0, len(images), batch_size)
    with torch.no_grad(), eval_mode(model):
        for start in tqdm(
            starts, disable=not progress, desc=f"recording {len(layers)} layers", leave=False
        ):
            batch = to_float(
                images[start : start + batch_size].to(home, copy=True)
            )  # an in-place first layer writes to it
            outputs = _outputs(model, batch, layers)
            if start and (unsteady := sorted(outputs.keys() ^ out.keys())):
                raise ValueError(
                    f"layers {unsteady} run on some batches and not on others; leave them out"
                )
            for name, activation in outputs.items():
                _refuse_shape(name, activation, len(batch))
                if not start:
                    neurons = activation[0].numel()
                    out[name] = activation.new_empty(neurons, len(images), device=device)
                out[name][:, start : start + len(batch)] = activation.flatten(1).T
    if missing := [name for name in layers if name not in out]:
        raise ValueError(f"layers {missing} did not run in the forward pass; leave them out")
    return {
        key: block
        for name, block in out.items()
        for key, block in _signs(name, block, negative).items()
    }


def _check(model, images, layers, negative) -> list[str]:
    if negative not in NEGATIVE:
        raise ValueError(f"negative={negative!r}; it is one of {NEGATIVE}")
    if not len(to_float(images)):
        raise ValueError("there are no images to record")
    known = [name for name, _ in model.named_modules() if name]
    if isinstance(layers, str):
        layers = [layers]
    layers = relu_layers(model) if layers is None else list(dict.fromkeys(layers))
    if odd := [type(name).__name__ for name in layers if not isinstance(name, str)]:
        raise TypeError(
            f"layers are names, not {odd[0]}; record takes images and layer names, no labels"
        )
    if unknown := [name for name in layers if name not in known]:
        raise ValueError(f"unknown layers {unknown}; this model has {known}")
    if not layers:
        raise ValueError(
            f"no layers to record: none was named, or the model has no nn.ReLU module (it may call torch.relu); "
            f'name some of {known}, with negative="clip" if they come before a ReLU'
        )
    return layers


def predict(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """The model's outputs for all images, images × …, on the device of the images.

    Args:
        model: run in eval mode without gradients on its own device; left as it was.
        images: images × …, at least one, uint8 (scaled to [0, 1]) or whatever the model takes.
        batch_size: images in one forward pass.

    Example:
        >>> predict(nn.Flatten(), torch.ones(3, 1, 2, 2)).shape
        torch.Size([3, 4])
    """
    home = home_of(model, images.device)
    outputs = []
    with torch.no_grad(), eval_mode(model):
        for batch in images.split(batch_size):
            pixels = to_float(batch.to(home, copy=True))  # an in-place first layer writes to it
            outputs.append(model(pixels).to(images.device))
    return torch.cat(outputs)


def home_of(model: nn.Module, fallback: torch.device) -> torch.device:
    """The device of a model: that of its first parameter, or `fallback` if it has none."""
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
    """The model in eval mode; afterwards each module in the mode it had."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:  # not model.eval(): some models do more there than a flag can undo
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _outputs(model: nn.Module, batch: Tensor, layers: list[str]) -> dict[str, Tensor]:
    """One forward pass; a copy of each named module's output, in the order they ran."""
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(name):
        def hook(module, inputs, output):
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} returns a {type(output).__name__}, not a tensor; record a module inside it"
                )
            calls[name] += 1
            found[name if calls[name] == 1 else f"{name}:{calls[name]}"] = output.detach().clone()

        return hook

    handles = []
    try:
        for name in layers:
            handles.append(model.get_submodule(name).register_forward_hook(keep(name)))
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _refuse_shape(name: str, activation: Tensor, images: int) -> None:
    if activation.ndim < 2 or len(activation) != images:
        raise ValueError(
            f"layer {name!r} gives shape {tuple(activation.shape)} for {images} images; "
            "its first axis is not the images, so it cannot be a block"
        )


def _signs(name: str, block: Tensor, negative: str) -> dict[str, Tensor]:
    if negative == "keep" or (negative != "split" and block.numel() and block.min() >= 0):
        return {name: block}
    if negative == "refuse":
        raise ValueError(
            f"layer {name!r} has {int((block < 0).sum())} negative activations; a non-negative factorization needs "
            'negative="clip" (set them to zero) or negative="split" (one block for each sign)'
        )
    if negative == "clip":
        return {name: block.clamp_(min=0)}
    return {f"{name}+": block.clamp(min=0), f"{name}-": (-block).clamp(min=0)}
