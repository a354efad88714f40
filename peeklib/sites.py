"""Where the activations of any network are.

A *site* is a place of the forward pass where an activation function gives a tensor, or a module
does (`watch`). Which axis of a tensor counts the images comes from running two images and then
three; which axis counts the features, from the convolution, linear map or normalization that ran
last.

Notation: every site becomes images × features × positions (channels and pixels of a convolution,
features and tokens of a transformer), and its neurons are counted feature by feature, as
`peeklib.record` counts them.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .images import to_float
from .watch import Preprocess, Sight, forward, unchanged

MOST = 8  # layers that "auto" takes


@dataclass(frozen=True)
class Site:
    """A place of the forward pass, and how its tensor becomes images × features × positions.

    Example:
        >>> site = Site("conv", "conv", "Conv2d", "leaf", shape=(8, 3, 3))
        >>> site.features, site.positions
        (8, 9)
    """

    name: str  #: such as "layer1.0.relu:2" (a second call), "conv.relu()" (a function), "head[0]"
    base: str  #: the name without the number of the call or the place in a tuple
    kind: str  #: class of the module, or name of the function
    role: str  #: "activation", "leaf" (a module with weights and no parts) or "module"
    reason: str = ""  #: why it cannot be recorded, if so; then nothing of what follows is known
    shape: tuple[int, ...] = ()  #: of one image: features, then positions
    axis: int = 0  #: of the images
    per_image: int = 1  #: entries of that axis for each image
    images_first: bool = True  #: whether those of one image stand together
    feature_axis: int = 1  #: after that of the images and, if it is several, `per_image`
    signed: bool = False  #: whether there were negative values
    dtype: torch.dtype = torch.float32  #: that its values need: float32, or float64

    @property
    def features(self) -> int:
        """Channels of a convolution, features of a token or vector."""
        return self.shape[0]

    @property
    def positions(self) -> int:
        """Pixels or tokens, 1 for a vector."""
        return prod(self.shape[1:])

    def arrange(self, tensor: Tensor, images: int) -> Tensor:
        """The site's tensor for that many images, with its axes in order.

        Returns:
            images × features × positions, a view where that is possible.

        Example:
            >>> site = Site("norm", "norm", "LayerNorm", "leaf", shape=(8, 7), feature_axis=2)
            >>> site.arrange(torch.zeros(5, 7, 8), 5).shape  # of images × tokens × features
            torch.Size([5, 8, 7])
        """
        t = tensor.movedim(self.axis, 0)
        if self.per_image > 1 and self.images_first:
            t = t.unflatten(0, (images, self.per_image))
        elif self.per_image > 1:
            t = t.unflatten(0, (self.per_image, images)).transpose(0, 1)
        if t.ndim == 1:
            t = t[:, None]
        return t.movedim(self.feature_axis, 1).reshape(images, self.features, self.positions)

    def restore(self, block: Tensor, tensor: Tensor) -> Tensor:
        """A tensor of the site from its block, neurons × images.

        Args:
            block: of all neurons, in the order of `arrange`.
            tensor: one of the site for as many images, whose shape it shall have.

        Example:
            >>> site = Site("norm", "norm", "LayerNorm", "leaf", shape=(8, 7), feature_axis=2)
            >>> tokens = torch.rand(5, 7, 8)
            >>> block = site.arrange(tokens, 5).flatten(1).T
            >>> torch.equal(site.restore(block, tokens), tokens)
            True
        """
        places = torch.arange(tensor.numel(), device=block.device).view(tensor.shape)
        order = self.arrange(places, block.shape[1]).flatten()
        values = block.new_empty(tensor.numel())
        values[order] = block.T.flatten()
        return values.view(tensor.shape)


# Finding


class _Glimpse(NamedTuple):
    """What is remembered of a Sight: no tensor of its size."""

    site: Site  # not laid out
    shape: tuple[int, ...]
    marks: list[Tensor]  # sums of magnitudes, for each entry of each axis
    signed: bool
    dtype: torch.dtype
    feature_axis: int  # of the last map or normalization, as in Sight
    width: int


class _NoLayoutError(Exception):
    """Why a site cannot be recorded."""


def trace(model: nn.Module, images: Tensor, *, preprocess: Preprocess | None = None) -> list[Site]:
    """Every site of the forward pass, found by running two images and then three.

    Args:
        model: left as it was.
        images: images × …, at least one, uint8 (scaled to [0, 1]) or float.
        preprocess: takes a batch of them, as floats on the model's device, and gives what the
            model takes.

    Returns:
        The sites in the order they ran; last those that ran for two images only.

    Raises:
        ValueError: for no images, or a model whose layers nobody can see, because it is scripted.
        Exception: whatever the model or the preprocess raises, with a note.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 2), nn.ReLU())
        >>> [(site.name, site.shape) for site in trace(model, torch.zeros(3, 1, 4, 4))]
        [('0', (8, 3, 3)), ('1', (8, 3, 3)), ('(output)', (8, 3, 3))]
    """
    if not len(images):
        raise ValueError("there are no images to run the model on")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"this {model.original_name} is scripted or traced (TorchScript), and what runs inside "
            "cannot be seen; give the network that it was made from"
        )
    chosen = _three_unlike(images)
    with unchanged(model):
        two = _glimpses(model, images[chosen[:2]], preprocess)
        three = _glimpses(model, images[chosen], preprocess)
    sites = []
    for name, glimpse in three.items():
        try:
            sites.append(_lay_out(two.get(name), glimpse))
        except _NoLayoutError as why:
            sites.append(replace(glimpse.site, reason=str(why)))
    for name, glimpse in two.items():
        if name not in three:
            sites.append(replace(glimpse.site, reason="it runs on some batches only"))
    return sites


def _three_unlike(images: Tensor) -> Tensor:
    """Three of the first 64 images, as different as may be: alike ones hide whose a row is."""
    pixels = to_float(images[:64]).float().flatten(1)
    chosen = [0]
    for _ in range(2):
        distances = torch.cdist(pixels, pixels[chosen]).amin(dim=1)
        chosen.append(int(distances.argmax()))
    return torch.tensor(chosen, device=images.device)


def _glimpses(
    model: nn.Module, images: Tensor, preprocess: Preprocess | None
) -> dict[str, _Glimpse]:
    found: dict[str, _Glimpse] = {}

    def see(sight: Sight) -> None:
        t = sight.tensor
        found[sight.name] = _Glimpse(
            site=Site(sight.name, sight.base, sight.kind, sight.role),
            shape=tuple(t.shape),
            marks=[_magnitudes(t, axis) for axis in range(t.ndim)],
            signed=bool(t.numel() and t.min() < 0),
            dtype=torch.promote_types(t.dtype, torch.float32),
            feature_axis=sight.feature_axis,
            width=sight.width,
        )

    forward(model, images, preprocess, see)
    return found


def _magnitudes(t: Tensor, axis: int) -> Tensor:
    """Sum of magnitudes for each entry of an axis, without a temporary of the tensor's size."""
    others = [a for a in range(t.ndim) if a != axis]
    if not others:
        return t.abs()
    dtype = torch.promote_types(t.dtype, torch.float32)
    return torch.linalg.vector_norm(t, 1, dim=others, dtype=dtype)


def _lay_out(two: _Glimpse | None, three: _Glimpse) -> Site:
    """The site with its axes, from what two images gave and what three gave."""
    if two is None:
        raise _NoLayoutError("it runs on some batches only")
    axis = _image_axis(two.shape, three.shape)
    per_image = three.shape[axis] // 3
    images_first = _images_first(two, three, axis)

    shape = [n for a, n in enumerate(three.shape) if a != axis]  # of one image
    if per_image > 1:
        shape.insert(0, per_image)
    shape = shape or [1]
    feature_axis = _feature_axis([3, *shape], three.feature_axis, three.width)
    features = shape.pop(feature_axis - 1)  # which counts the images, too
    return replace(
        three.site,
        shape=(features, *shape),
        axis=axis,
        per_image=per_image,
        images_first=images_first,
        feature_axis=feature_axis,
        signed=two.signed or three.signed,
        dtype=three.dtype,
    )


def _image_axis(two: tuple[int, ...], three: tuple[int, ...]) -> int:
    """The one axis whose length goes with the number of images."""
    if not prod(three):
        raise _NoLayoutError(f"it is empty: shape {three}")
    if len(two) != len(three):
        raise _NoLayoutError(_both(two, three))
    axes = [a for a in range(len(three)) if two[a] != three[a]]
    if len(axes) != 1 or 2 * three[axes[0]] != 3 * two[axes[0]]:
        raise _NoLayoutError(f"{_both(two, three)}, so no axis counts images")
    return axes[0]


def _both(two: tuple[int, ...], three: tuple[int, ...]) -> str:
    return f"its shape is {two} for two images and {three} for three"


def _images_first(two: _Glimpse, three: _Glimpse, axis: int) -> bool:
    """Whether an axis holds all of the first image, then all of the second, …; or the reverse.

    The first two images are the same in both runs, so their entries agree once they are laid side
    by side.
    """
    per_image = three.shape[axis] // 3
    if per_image == 1:
        return True
    after_two = two.marks[axis]
    after_three = three.marks[axis]
    by_image = after_three[: len(after_two)]
    by_entry = after_three.view(per_image, 3)[:, :2].flatten()
    atol = 1e-5 * float(after_three.abs().max())
    first = torch.allclose(after_two, by_image, rtol=1e-3, atol=atol)
    last = torch.allclose(after_two, by_entry, rtol=1e-3, atol=atol)
    if first == last:
        shapes = _both(two.shape, three.shape)
        raise _NoLayoutError(f"{shapes}, and which rows belong to an image is not clear")
    return first


def _feature_axis(shape: Sequence[int], likely: int, width: int) -> int:
    """Which axis of images × … counts the features.

    The one as long as the last map or normalization made it (`width`), at best where that has its
    features (`likely`); else the second of maps, the last of anything else.
    """
    likely = likely % len(shape)
    same = [a for a in range(1, len(shape)) if shape[a] == width]
    if likely in same:
        return likely
    if len(same) == 1:
        return same[0]
    return 1 if len(shape) >= 4 else len(shape) - 1


# Choosing


def choose(
    sites: Sequence[Site],
    layers: str | Iterable[str],
    most: float = MOST,
    model: nn.Module | None = None,
) -> tuple[list[Site], list[str]]:
    """The sites to record.

    Args:
        sites: from `trace`.
        layers: "auto", or names of sites or modules; a module stands for all of its calls and
            outputs.
        most: sites that "auto" takes, spread evenly, with the last one.
        model: that was traced, to say more about a name that is not there.

    Returns:
        Those sites, in the order they ran, and notes on what that left out.

    Raises:
        TypeError: for layers that are no names.
        ValueError: for a name that is not there (lists those that are), or one that cannot be
            recorded, or no sites.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 8, 2), nn.ReLU())
        >>> chosen, notes = choose(trace(model, torch.zeros(3, 1, 4, 4)), "auto")
        >>> [site.name for site in chosen], notes
        (['1'], [])
    """
    if isinstance(layers, str) and layers == "auto":
        return _spread(sites, most)
    names = layer_names(layers)
    known = {name for site in sites for name in (site.name, site.base)}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(_not_there(unknown, sites, model))
    chosen = [site for site in sites if site.name in names or site.base in names]
    good = [site for site in chosen if not site.reason]
    bases = {site.base for site in good}
    left_out = [site for site in chosen if site.reason]
    if bad := [site for site in left_out if site.name in names or site.base not in bases]:
        reasons = "; ".join(f"{site.name!r}: {site.reason}" for site in bad)
        raise ValueError(f"these layers cannot be recorded: {reasons}; leave them out")
    return good, [f"{site.name} was left out: {site.reason}." for site in left_out]


def layer_names(layers: str | Iterable[str]) -> list[str]:
    """Names of layers, each once, as `choose` knows them.

    Raises:
        TypeError: for anything else than names.
        ValueError: for none.

    Example:
        >>> layer_names(["relu", "_orig_mod.relu", "fc"])  # the second is that of a compiled model
        ['relu', 'fc']
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    if odd := [type(name).__name__ for name in names if not isinstance(name, str)]:
        raise TypeError(f"layers are names, such as those in model.named_modules(), not {odd[0]}")
    if not names:
        raise ValueError("no layers were named; name some, or leave layers= out")
    return list(dict.fromkeys(name.replace("_orig_mod.", "") for name in names))


def _not_there(unknown: list[str], sites: Sequence[Site], model: nn.Module | None) -> str:
    """What is the matter with these names, and which ones there are."""
    modules = {} if model is None else dict(model.named_modules(remove_duplicate=False))
    first = {module: name for name, module in reversed(modules.items())}
    about = []
    for name in unknown:
        if name not in modules:
            near = difflib.get_close_matches(name, [site.name for site in sites], 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            about.append(f"there is no layer {name!r}{hint}")
        elif first[modules[name]] != name:
            about.append(f"{name!r} is another name of {first[modules[name]]!r}; ask for that")
        else:
            about.append(f"{name!r} did not run in the forward pass, or gave no floats")
    functions = [site.name for site in sites if site.role == "activation"]
    others = [site.name for site in sites if site.role != "activation"]
    return f"{'; '.join(about)}. Activations that ran: {functions}; modules that ran: {others}"


def _spread(sites: Sequence[Site], most: float) -> tuple[list[Site], list[str]]:
    """Sites of activations, or if there are none layers with weights; `most` of them at most."""
    notes = []
    what = "places where an activation function is applied"
    found = [site for site in sites if site.role == "activation"]
    usable = [site for site in found if not site.reason]
    if not usable:
        what = "layers with weights"
        leaves = [site for site in sites if site.role == "leaf"]
        usable = [site for site in leaves if not site.reason]
        if not usable:
            raise ValueError(_nothing_to_see(found + leaves))
        found = leaves
        notes.append(
            "No activation function was seen in the forward pass, "
            "so outputs of the layers with weights are shown."
        )
    if len(usable) < len(found):
        bad = [f"{site.name}: {site.reason}" for site in found if site.reason]
        listed = "; ".join(bad[:3]) + (" …" if len(bad) > 3 else "")
        notes.append(f"{len(bad)} of {len(found)} sites were left out ({listed}).")
    if len(usable) <= most:
        return usable, notes
    notes.append(
        f"The network has {len(usable)} {what}; {most} of them, spread evenly over its depth "
        "with the first and the last, are shown. Name others with layers=[…]."
    )
    step = (len(usable) - 1) / (most - 1)
    return [usable[round(k * step)] for k in range(int(most))], notes


def _nothing_to_see(sites: Sequence[Site]) -> str:
    reasons = "; ".join(f"{site.name!r}: {site.reason}" for site in sites[:5])
    return (
        "there is no activation to look at, nor a layer with weights: "
        f"{reasons or 'none ran'}. Name modules in layers="
    )
