"""A page in which somebody's hand is in the loop: draw, and a network and its factorization follow.

A `Playground` holds everything that a browser needs, and nothing else: the weights of a small
network, the factors of a fit, a few images. JavaScript runs the network on what is drawn,
places it among the components by the coordinate descent of `CoupledFactors.transform`, and shows
what the factorization makes of it, without a kernel, a library or a request.

A drawing is prepared as MNIST was (LeCun et al. 1998): scaled to the usual size of what is in the
images, drawn with a soft round pen of their usual width, and centred by mass.

Numbers are kept as 16-bit integers, with a scale for each row (output channel, component): what
that moves, activations and codes, stays within 1e-3 of a row's largest.
"""

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import torch
from torch import Tensor, nn

from . import plots
from .blocks import as_labels, check_count
from .explorer import PLAIN, STYLES, Picture, show
from .hooks import predict, record
from .images import as_images, input_blocks, to_float
from .names import escape, readable
from .nmf import CoupledFactors, Sweep
from .secure import digest, policy
from .steps import Step, layers
from .storage import check_place, write
from .watch import Preprocess, unwrapped


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


# In one function, so that nothing of it is seen by the page around, or by another playground.
PARTS = [_beside("playground.js"), _beside("playground-view.js")]
SCRIPT = "\n".join(["(() => {", '"use strict";', *PARTS, "})();"])
STYLE = _beside("playground.css")
FIGURE = Template(_beside("playground.html"))
PAGE = Template(_beside("playground-page.html"))
PAGE_STYLE = """:root { color-scheme: light dark }
body { max-width: 60rem; margin: 0 auto; padding: 0 1rem; font-family: system-ui, sans-serif }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }"""
PICKS = 10  # images to take, if there are no classes to take one of each
PAD = 336  # pixels of the longer side of the canvas to draw on
STROKES = {  # x, y, x, y, … from 0 to 1, by what they look like
    "0": [[0.5, 0.1, 0.36, 0.17, 0.29, 0.33, 0.28, 0.55, 0.33, 0.78, 0.47, 0.89, 0.62, 0.83]],
    "1": [[0.52, 0.1, 0.5, 0.36, 0.48, 0.62, 0.46, 0.9]],
    "1 with a flag": [[0.34, 0.28, 0.44, 0.2, 0.52, 0.1, 0.51, 0.5, 0.5, 0.9]],
    "2": [[0.3, 0.27, 0.38, 0.14, 0.53, 0.1, 0.66, 0.2, 0.66, 0.36, 0.55, 0.56, 0.4, 0.74]],
    "3": [[0.32, 0.15, 0.5, 0.1, 0.65, 0.2, 0.62, 0.37, 0.46, 0.46, 0.63, 0.53, 0.69, 0.7]],
    "4": [
        [0.37, 0.12, 0.33, 0.33, 0.3, 0.5, 0.5, 0.5, 0.7, 0.48],
        [0.62, 0.15, 0.6, 0.5, 0.57, 0.9],
    ],
    "5": [[0.66, 0.12, 0.4, 0.13, 0.37, 0.42, 0.54, 0.4, 0.67, 0.52, 0.66, 0.74, 0.52, 0.87]],
    "6": [[0.58, 0.1, 0.44, 0.27, 0.35, 0.52, 0.35, 0.75, 0.46, 0.88, 0.6, 0.83, 0.65, 0.69]],
    "7": [[0.28, 0.15, 0.48, 0.15, 0.7, 0.13, 0.6, 0.37, 0.52, 0.62, 0.46, 0.9]],
    "8": [[0.62, 0.2, 0.5, 0.1, 0.37, 0.2, 0.4, 0.35, 0.52, 0.47, 0.65, 0.61, 0.66, 0.78]],
    "9": [[0.65, 0.24, 0.53, 0.12, 0.38, 0.17, 0.33, 0.33, 0.4, 0.46, 0.54, 0.45, 0.64, 0.3]],
}
SOME = 20  # images by which a network and its fit are compared
ROOM = 0.2  # by how much more than the image's a layer's error may grow in other images
SEPARATORS = ":/. "  # between the name of a network and that of its layer
SENTENCE = (
    "This picture stands still. Where scripts run, here is a pad to draw on: the network and the "
    "factorization answer while you draw."
)
NOTE = (
    "Upper pictures: what the network has. Lower ones, framed: what the components predict. A drawing "
    "is scaled, drawn with a soft pen and centred by mass, to be like the images that were "
    "factorized. With the keyboard: arrows move the brush on the pad, space sets it down and lifts "
    "it. All of this runs in your browser; nothing is sent."
)
STROKES["0"][0] += [0.71, 0.66, 0.73, 0.42, 0.68, 0.2, 0.58, 0.11, 0.5, 0.1]
STROKES["2"][0] += [0.28, 0.88, 0.48, 0.88, 0.72, 0.86]
STROKES["3"][0] += [0.6, 0.85, 0.45, 0.9, 0.3, 0.82]
STROKES["5"][0] += [0.31, 0.83]
STROKES["6"][0] += [0.6, 0.55, 0.48, 0.53, 0.36, 0.66]
STROKES["8"][0] += [0.52, 0.9, 0.37, 0.8, 0.37, 0.63, 0.52, 0.47, 0.62, 0.34, 0.62, 0.2]
STROKES["9"][0] += [0.65, 0.24, 0.63, 0.5, 0.6, 0.7, 0.57, 0.9]

Fits = CoupledFactors | Sweep | Sequence[CoupledFactors]


class Playground:
    """Draw an image; see what a small network computes, and what a factorization of it predicts.

    It shows itself in a notebook and in the book. Saved, it is a page that needs nothing else.

    Args:
        model: a chain of convolutions, pools, ReLUs, batch norms and linear layers; or several by
            name, all with the same outputs.
        fit: a factorization of `input_blocks(images) | record(model, images, …)`; or several of
            different ranks, such as a Sweep. For several networks either such a fit for each, by
            name, or one with a shared image factor, whose blocks are called "<network>: <layer>".
            Of a layer with negative="clip", the page too takes what is above zero.
        images: which a reader can take, and learn from: images × channels × height × width, or what
            `as_images` takes. Kept with 8 bits.
        labels: the class of each image, to offer one image of each; names come from `classes`.
        classes: names of the network's outputs; their numbers if None.
        preprocess: the normalization that the network expects, a·x + b for each channel.
        most: images that go into the page, evenly spread over those given.
        start: the network, of several, that is shown first; the first one if None.
        title: of a saved page.

    Raises:
        TypeError: for a network that does something else; it names the module, and what would do.
        ValueError: for fits of other images, layers or networks, which have errors far from those
            of the fit; for a `preprocess` that is no normalization.

    Example:
        >>> import peeklib as pk
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
        >>> images = torch.rand(20, 1, 8, 8)
        >>> fit = pk.coupled_nmf(pk.input_blocks(images) | pk.record(model, images), 2)
        >>> Playground(model, fit, images)
        Playground(1 network, rank 2, 20 images); .save(path) writes a page
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, nn.Module],
        fit: Fits | Mapping[str, Fits],
        images,
        *,
        labels=None,
        classes: Iterable | None = None,
        preprocess: Preprocess | None = None,
        most: int = 300,
        start: str | None = None,
        title: str = "Draw, and watch a network",
    ):
        pictures = as_images(images)
        count = min(len(pictures), check_count(most, "most"))
        kept = torch.linspace(0, len(pictures) - 1, count).long()
        self.images = _as_bytes(pictures[kept.to(pictures.device)].cpu())
        self.labels = None if labels is None else as_labels(labels, len(pictures)).cpu()[kept]
        self.title = title
        self._models = _by_name(model)
        self._start = _place_of(start, list(self._models))
        self._fits = {name: _fits_of(fit, name, self._models) for name in self._models}
        self._sharing = {
            name: [name] if _is_by_name(fit) else list(self._models) for name in self._models
        }
        self._preprocess = preprocess
        self._arrays = _Arrays()
        pixels = to_float(self.images)
        self._networks = [self._network(name, pixels) for name in self._models]
        self.classes = _class_names(classes, _outputs(self._models, self.images, preprocess))

    def _network(self, name: str, pixels: Tensor) -> dict:
        """One network as the page has it: steps, layers, and the factors of every fit."""
        fits = self._fits[name]
        inputs = {block: len(matrix) for block, matrix in input_blocks(self.images).items()}
        blocks = _blocks_of(name, self._sharing[name], fits[0], inputs)
        model, hidden = self._models[name], list(blocks)[len(inputs) :]
        spread = slice(None, None, math.ceil(len(pixels) / SOME))
        chain, found = layers(model, pixels[spread], hidden, preprocess=self._preprocess)
        for one in fits:
            self._check_errors(name, one, self.images[spread])
        hidden.sort(key=lambda layer: found[layer])
        named = [{"name": block, "step": -1, "shape": [size]} for block, size in inputs.items()]
        for layer in hidden:
            out = list(chain[found[layer]].out)
            named.append({"name": readable(layer), "step": found[layer], "shape": out})
        order = [blocks[layer] for layer in [*inputs, *hidden]]
        return {
            "name": readable(name) or "the network",
            "steps": [_as_json(step, self._arrays) for step in chain],
            "layers": named,
            "fits": [_fit_as_json(one, order, self._arrays) for one in fits],
        }

    def _placed(self, name: str, fit: CoupledFactors, images: Tensor) -> tuple[dict, Tensor]:
        """A network's blocks of some images, as the fit calls them; and their codes, images × rank."""
        blocks = input_blocks(images)
        own = _blocks_of(name, self._sharing[name], fit, dict.fromkeys(blocks))
        hidden = [layer for layer in own if layer not in blocks]
        model, preprocess = self._models[name], self._preprocess
        blocks |= record(model, images, hidden, preprocess=preprocess, negative="clip")
        named = {own[layer]: blocks[layer].cpu() for layer in own}
        return named, fit.transform(named).cpu()

    def _check_errors(self, name: str, fit: CoupledFactors, images: Tensor) -> None:
        """Another network of the same shape has other neurons: the fit says little of them.

        The fit may be of other images; then the error of the images grows too.
        """
        blocks, code = self._placed(name, fit, images)
        errors = {
            block: _error(A, fit.factors[block].cpu() @ code.T) for block, A in blocks.items()
        }
        known = {block: fit.block_errors.get(block, math.nan) for block in errors}
        grown = {block: error - known[block] for block, error in errors.items()}
        allowed = ROOM + max(0.0, *(grown[block] for block in input_blocks(images)))
        for block, more in grown.items():
            if more > allowed:
                raise ValueError(
                    f"the fit's error in {readable(block)!r} is {known[block]:.2f}, and "
                    f"{errors[block]:.2f} of these images in {_called(name)}; give the network "
                    "whose layers were fitted, and the preprocess that they were recorded with"
                )

    def picks(self) -> list[int]:
        """Which of the images to offer: the first of each class, or else the first ten.

        Returns:
            Their indices among those kept.

        Example:
            >>> import peeklib as pk
            >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
            >>> images = torch.eye(16).reshape(16, 1, 4, 4)
            >>> fit = pk.coupled_nmf(pk.input_blocks(images) | pk.record(model, images), 2)
            >>> Playground(model, fit, images, labels=[2] * 6 + [0] * 10).picks()
            [6, 0]
        """
        if self.labels is None:
            return list(range(min(PICKS, len(self.images))))
        labels = self.labels.tolist()
        return [labels.index(label) for label in sorted(set(labels))]

    def to_html(self) -> str:
        """It, for a page that has other things too.

        Returns:
            HTML of a `<figure>` that needs no other file. Many may stand on one page, also on one
            under the policy of a saved report.

        Example:
            >>> import peeklib as pk
            >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
            >>> images = torch.eye(16).reshape(16, 1, 4, 4)
            >>> fit = pk.coupled_nmf(pk.input_blocks(images) | pk.record(model, images), 2)
            >>> Playground(model, fit, images).to_html()[:30]
            '<figure class="peek-figure pee'
        """
        data = {
            "shape": list(self.images.shape[1:]),
            "networks": self._networks,
            "start": self._start,
            "arrays": self._arrays.packed,
            "classes": self.classes,
            "images": base64.b64encode(self.images.numpy().tobytes()).decode(),
            "labels": [] if self.labels is None else self.labels.tolist(),
            "picks": self.picks(),
            "strokes": STROKES,
            "pen": _pen(to_float(self.images)),
        }
        high, wide = self.images.shape[2:]
        return FIGURE.substitute(
            plain=PLAIN,
            title=escape(self.title),
            style=STYLE,
            script=SCRIPT,
            still=self._still().img(),
            sentence=SENTENCE,
            note=NOTE,
            padwidth=round(PAD * wide / max(high, wide)),
            padheight=round(PAD * high / max(high, wide)),
            data=json.dumps(data).replace("<", "\\u003c"),
        )

    def _still(self) -> Picture:
        """What stands where no script runs: images, and what components make of them."""
        name = list(self._models)[self._start]
        fit, network = self._fits[name][-1], self._networks[self._start]
        images = self.images[self.picks()]
        _, code = self._placed(name, fit, images)
        inputs = input_blocks(images)
        rebuilt = torch.stack([fit.factors[block].cpu() @ code.T for block in inputs], -1)
        rebuilt = rebuilt.permute(1, 0, 2).reshape(len(images), *images.shape[2:], -1)
        shown = torch.cat([to_float(images).permute(0, 2, 3, 1), rebuilt.clamp(0, 1)])
        columns = len(images)
        title = f"Above: images. Below: what {fit.rank} components make of them"
        if shown.shape[-1] != 3:
            shown = shown[..., 0]
        figure = plots.image_grid(shown, cols=columns, title=title, shared=True)
        return show(figure, f"{title}, in {network['name']}.")

    def html(self) -> str:
        """A page with nothing else on it.

        Returns:
            HTML that needs no other file, and runs or loads nothing else.

        Example:
            >>> import peeklib as pk
            >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
            >>> images = torch.eye(16).reshape(16, 1, 4, 4)
            >>> fit = pk.coupled_nmf(pk.input_blocks(images) | pk.record(model, images), 2)
            >>> "<title>A &amp; B</title>" in Playground(model, fit, images, title="A & B").html()
            True
        """
        rules = {
            "default-src": "'none'",
            "img-src": "data:",
            "script-src": digest(SCRIPT),
            "style-src": " ".join(["'unsafe-hashes'", *map(digest, [PAGE_STYLE, STYLE, *STYLES])]),
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        places = {"policy": policy(rules), "title": escape(self.title), "style": PAGE_STYLE}
        return PAGE.substitute(places, figure=self.to_html())

    def save(self, path: str | os.PathLike) -> Path:
        """Write `html()` as a file, over one that is there.

        Returns:
            The path of the file.

        Raises:
            OSError: if the folder does not exist, or the file cannot be written.

        Example:
            >>> import tempfile
            >>> import peeklib as pk
            >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
            >>> images = torch.eye(16).reshape(16, 1, 4, 4)
            >>> fit = pk.coupled_nmf(pk.input_blocks(images) | pk.record(model, images), 2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Playground(model, fit, images).save(f"{folder}/draw.html").name
            'draw.html'
        """
        path = Path(path)
        check_place(path, "playground.html")
        write(path, self.html().encode("utf-8"))
        return path

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self):
        count = len(self._networks)
        networks = "1 network" if count == 1 else f"{count} networks"
        ranks = ", ".join(str(fit["rank"]) for fit in self._networks[0]["fits"])
        what = f"{networks}, rank {ranks}, {len(self.images)} images"
        return f"Playground({what}); .save(path) writes a page"


class _Arrays:
    """Matrices of the page, each kept once: rows of 16-bit integers with a scale."""

    def __init__(self):
        self.packed: list[dict] = []
        self._known: dict[tuple, int] = {}
        self._owners: list = []  # an id is that of one thing only while the thing lives

    def keep(self, matrix: Tensor, owner: object, part: str) -> int:
        """The place of a matrix, rows × n; the same part of the same owner is the same matrix."""
        key = (id(owner), part)
        if key not in self._known:
            self._known[key] = len(self.packed)
            self._owners.append(owner)
            self.packed.append(packed(matrix))
        return self._known[key]


def packed(matrix: Tensor) -> dict:
    """Rows as 16-bit integers, each with a scale: half a 32,767th of a row's largest is lost at most.

    Returns:
        `rows`, `scale` (a number for each), and `data`, little-endian and base64.

    Example:
        >>> packed(torch.tensor([[0.5, -1.0]]))
        {'rows': 1, 'scale': [3.051850947599719e-05], 'data': 'AEABgA=='}
    """
    matrix = matrix.detach().cpu().double().flatten(1)
    scale = matrix.abs().amax(1) / 32767
    whole = (matrix / torch.where(scale > 0, scale, 1.0)[:, None]).round()
    raw = whole.to(torch.int16).numpy().astype("<i2").tobytes()
    return {
        "rows": len(matrix),
        "scale": scale.tolist(),
        "data": base64.b64encode(raw).decode("ascii"),
    }


def _as_json(step: Step, arrays: _Arrays) -> dict:
    found: dict = {"op": step.op, "into": step.into, "out": step.out, **step.options}
    for name in ("weight", "bias"):
        values = getattr(step, name)
        if values is not None:
            rows = values if name == "weight" and values.ndim > 1 else values[:, None]
            found[name] = arrays.keep(rows, values, name)
    return found


def _fit_as_json(fit: CoupledFactors, blocks: list[str], arrays: _Arrays) -> dict:
    factors = [arrays.keep(fit.factors[block].T, fit, block) for block in blocks]
    weights = [fit.weights.get(block, 1.0) for block in blocks]
    return {"rank": fit.rank, "factors": factors, "weights": weights}


def _by_name(model) -> dict[str, nn.Module]:
    if not isinstance(model, Mapping):
        return {"": unwrapped(model)}
    if not model:
        raise ValueError("there is no network; give one, or a dict of name → network")
    return {str(name): unwrapped(one) for name, one in model.items()}


def _place_of(start: str | None, names: list[str]) -> int:
    if start is not None and start not in names:
        raise ValueError(f"start is {readable(start)!r}; the networks are {names}")
    return 0 if start is None else names.index(start)


def _called(name: str) -> str:
    return f"network {readable(name)!r}" if name else "this network"


def _error(A: Tensor, rebuilt: Tensor) -> float:
    """‖A − rebuilt‖ / ‖A‖; 0 for a block of zeros."""
    size = A.norm()
    return float((A - rebuilt).norm() / size) if size > 0 else 0.0


def _is_by_name(fit) -> bool:
    return isinstance(fit, Mapping) and not isinstance(fit, Sweep)


def _fits_of(fit, name: str, models: Mapping) -> list[CoupledFactors]:
    """The fits of one network, of growing rank."""
    if _is_by_name(fit):
        if name not in fit:
            raise ValueError(
                f"there is no fit for network {readable(name)!r}, only for {list(fit)}"
            )
        fit = fit[name]
    if isinstance(fit, Sweep):
        fit = [fit[key] for key in fit]
    several = [fit] if not isinstance(fit, Sequence) else list(fit)
    if not several or not all(isinstance(one, CoupledFactors) for one in several):
        raise TypeError(f"fit is {readable(fit)}; give what coupled_nmf or rank_sweep returns")
    by_rank = {one.rank: one for one in reversed(several)}  # the first of each rank
    return [by_rank[rank] for rank in sorted(by_rank)]


def _blocks_of(
    name: str, sharing: list[str], fit: CoupledFactors, inputs: Mapping
) -> dict[str, str]:
    """The layers of one network → what the fit calls them: first those of the image.

    Networks that share a fit have their names before those of their layers.
    """
    for block, size in inputs.items():
        if block not in fit.factors:
            raise ValueError(
                f"the fit has no block {block!r}, only {list(fit.factors)}; fit the images too: "
                "input_blocks(images) | record(model, images)"
            )
        if size is not None and len(fit.factors[block]) != size:
            raise ValueError(
                f"block {block!r} was fitted with {len(fit.factors[block])} pixels, these images "
                f"have {size}; give images of the size that was fitted"
            )
    found = {block: block for block in inputs}
    hidden = [block for block in fit.factors if block not in inputs]
    own = {
        block.removeprefix(name).lstrip(SEPARATORS): block
        for block in hidden
        if _owner(block, sharing) == name
    }
    if not own and len(sharing) == 1:
        own = {block: block for block in hidden}
    found |= own
    if len(found) == len(inputs):
        raise ValueError(
            f"the fit has no layer of {_called(name)}, only {list(fit.factors)}; fit "
            "record(model, images) beside the images; of several networks give a fit for each by "
            'name, or call the blocks "<network>: <layer>"'
        )
    return found


def _owner(block: str, names: Iterable[str]) -> str | None:
    """The network whose layer a block is: of "net" and "net.b", "net.b: 2" is of the second."""
    return max((name for name in names if _is_of(block, name)), key=len, default=None)


def _is_of(block: str, name: str) -> bool:
    """Whether a block is called "<network>: <layer>" or the like."""
    return bool(name) and block.startswith(name) and block[len(name) :][:1] in tuple(SEPARATORS)


def _as_bytes(images: Tensor) -> Tensor:
    """Images with 8 bits, images × channels × height × width."""
    input_blocks(images[:0])  # refuses other shapes
    input_blocks(images)  # and values that are none of pictures
    if images.dtype == torch.uint8:
        return images.contiguous()
    return (images * 255).round().to(torch.uint8).contiguous()


def _outputs(models: Mapping[str, nn.Module], images: Tensor, preprocess) -> int:
    """How many classes all the networks tell apart."""
    counts = {}
    for name, model in models.items():
        outputs = predict(model, images[:1], preprocess=preprocess)
        if outputs.ndim != 2:
            shape = "×".join(map(str, outputs.shape[1:]))
            raise TypeError(
                f"the network gives {shape} for each image; a page shows one row of classes"
            )
        counts[readable(name)] = outputs.shape[1]
    if len(set(counts.values())) > 1:
        raise TypeError(f"the networks have different numbers of outputs: {counts}")
    return max(counts.values())


def _class_names(classes: Iterable | None, count: int) -> list[str]:
    names = [str(k) for k in range(count)] if classes is None else [readable(c) for c in classes]
    if len(names) != count:
        raise ValueError(f"there are {len(names)} names of classes, and {count} outputs")
    return names


def _pen(images: Tensor) -> dict:
    """How drawings are made like these images: size of what is in them, width of a line, middle.

    A line of a digit is about 2¼ times as long as the digit is high, which is how its width follows
    from its ink.
    """
    grey = images.mean(1)  # images × height × width
    high, wide = grey.shape[1:]
    lit = grey > 0.3
    sizes = torch.maximum(lit.any(2).sum(1), lit.any(1).sum(1)).float()
    box = float(sizes.median().clamp(min=4))
    radius = float((grey.sum((1, 2)).median() / (4.5 * box)).clamp(0.6, max(high, wide) / 10))
    ink = grey.sum((1, 2)).clamp(min=1e-6)
    x = ((grey.sum(1) * torch.arange(wide)).sum(1) / ink).median()
    y = ((grey.sum(2) * torch.arange(high)).sum(1) / ink).median()
    return {"box": box, "radius": round(radius, 2), "at": [round(float(x), 2), round(float(y), 2)]}
