"""What the scores look at: one network and one set of images, and factorizations of both.

These are at `RANKS`, evenly spaced in log rank, as far as the blocks allow.
"""

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..hooks import logits_of
from ..images import as_images, check_pictures, input_blocks, reading
from ..nmf import Sweep, rank_sweep
from ..samples import Sample, even_batches, plan, record_samples
from ..sites import choose, trace
from ..solvers import all_or_nothing
from ..spectra import spectrum
from ..watch import Preprocess, Sight, forward, function_name, plain, unchanged, unwrapped
from .thumbnails import thumbnails

RANKS = (1, 2, 4, 8, 16)
FIT: dict[str, Any] = {"solver": "auto", "max_iter": 100, "tol": 1e-4}
BATCH = 500  # images in one forward pass, at most
MEMORY = 0.25  # GB, as of `peek`
WORK = 4  # blocks of a hidden layer in memory at once: as it is, scaled, and being worked on
LINEAR = ("linear", "linear_relu", "linear_dynamic")  # functions whose input is an embedding


@dataclass(frozen=True, repr=False)
class Seen:
    """What the scores are computed from: one network and one set of images. `observe` makes it.

    Example:
        >>> images = torch.eye(4).reshape(4, 1, 2, 2)
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images)
        >>> list(seen.inputs), list(seen.hidden), seen.embedding.shape
        (['input'], ['0'], torch.Size([4, 4]))
    """

    model: nn.Module
    images: Tensor  #: images × channels × height × width
    inputs: dict[str, Tensor]  #: pixels × images, one block for each channel
    hidden: dict[str, Tensor]  #: neurons × images, non-negative, in the order of the layers
    embedding: Tensor  #: features × images: what the last linear layer reads, of any sign
    logits: Tensor  #: images × classes
    preprocess: Preprocess | None = None
    last_sample: Sample | None = None  #: which neurons of the last hidden layer these are
    #: fields that this network does not have, and why: who asks for one gets that as a ValueError
    absent: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in self.absent:
            object.__delattr__(self, name)

    def __getattr__(self, name: str):  # for what is not there only
        absent = self.__dict__.get("absent", {})
        if name in absent:
            raise ValueError(absent[name])
        raise AttributeError(f"Seen has no {name!r}")

    @property
    def last(self) -> Tensor:
        """The last hidden block.

        Returns:
            neurons × images, non-negative.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images[:3]).last.shape
            torch.Size([4, 3])
        """
        return next(reversed(self.hidden.values()))

    @cached_property
    def probabilities(self) -> Tensor:
        """P: softmax of the logits.

        Returns:
            images × classes, in float64.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images[:3])
            >>> seen.probabilities.sum(1).round(decimals=6)
            tensor([1., 1., 1.], dtype=torch.float64)
        """
        return self.logits.double().softmax(1)

    @cached_property
    def spectrum(self) -> Tensor:
        """Singular values of the embedding, largest first.

        Returns:
            min(features, images) values, in float64.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images / 2)
            >>> seen.spectrum.round(decimals=6)
            tensor([0.5000, 0.5000, 0.5000, 0.5000], dtype=torch.float64)
        """
        return spectrum(self.embedding)

    @cached_property
    def plain(self) -> Sweep:
        """The paper's coupled factorization of inputs and hidden blocks.

        Returns:
            A fit at each of `RANKS` that the blocks allow.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images).plain
            Sweep of 3 fits (rank, seed): [(1, 0), (2, 0), (4, 0)]
        """
        return _sweep(self.inputs | self.hidden)

    @cached_property
    def unit(self) -> Sweep:
        """The same, all blocks of one norm: none counts more because its numbers are large.

        Returns:
            A fit at each of `RANKS` that the blocks allow.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images)
            >>> list(seen.unit[4, 0].block_errors)
            ['input', '0']
        """
        return _sweep(unit_norm(self.inputs | self.hidden))

    @cached_property
    def alone(self) -> Sweep | None:
        """NMF of the last block by itself, as block "last" of unit norm.

        Returns:
            A fit at each of `RANKS` that the block allows; None if it is zero.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> observe(nn.Sequential(nn.ReLU(), nn.Flatten()), 0 * images).alone is None
            True
        """
        if not self.last.any():
            return None
        return _sweep(unit_norm({"last": self.last}))

    @cached_property
    def answers(self) -> dict[str, Tensor]:
        """Probabilities, and decisions: 1 for the class decided on, else 0.

        Returns:
            "probabilities" and "decisions", both classes × images.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images[1:3])
            >>> seen.answers["decisions"].T
            tensor([[0., 1., 0., 0.],
                    [0., 0., 1., 0.]])
        """
        classes = self.logits.shape[1]
        decided = nn.functional.one_hot(self.logits.argmax(1), classes)
        return {"probabilities": self.probabilities.T.float(), "decisions": decided.T.float()}

    @cached_property
    def joint(self) -> Sweep:
        """As `unit`, with both blocks of answers, each as heavy as all others together.

        The ranks go up to half the number of classes, with three starts for each: networks that are
        all good differ by less than one start does from another.

        Returns:
            Three fits at each of those ranks.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images).joint
            Sweep of 6 fits (rank, seed): [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
        """
        others = self.inputs | self.hidden
        weights = dict.fromkeys(others, 1.0) | dict.fromkeys(self.answers, float(len(others)))
        return self._sweep_answers(others | self.answers, weights)

    @cached_property
    def answers_alone(self) -> Sweep:
        """As `joint`, without inputs and hidden blocks.

        Returns:
            Three fits at each of the same ranks.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images)
            >>> list(seen.answers_alone[2, 0].factors)
            ['probabilities', 'decisions']
        """
        return self._sweep_answers(self.answers)

    def _sweep_answers(self, blocks, weights: Mapping[str, float] | None = None) -> Sweep:
        half = self.logits.shape[1] // 2
        return _sweep(unit_norm(blocks), most=half, weights=weights, starts=3)

    @cached_property
    def weightwatcher(self) -> pd.DataFrame:
        """WeightWatcher's table.

        Returns:
            One row for each layer with at least 8 eigenvalues whose fit succeeded.

        Raises:
            ImportError: if WeightWatcher is not installed.
            ValueError: if no layer is large enough, or WeightWatcher fails.
        """
        return _weightwatcher_table(self.model)

    def logits_given(self, block: Tensor) -> Tensor:
        """Logits as if the last hidden output were `block`, neurons × images.

        Returns:
            images × classes.

        Raises:
            ValueError: if not all of that output was kept.

        Example:
            >>> images = torch.eye(4).reshape(4, 1, 2, 2)
            >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images)
            >>> torch.equal(seen.logits_given(2 * seen.last), 2 * seen.logits)
            True
        """
        sample = self.last_sample
        if sample is None or str(sample) != "all":
            name = next(reversed(self.hidden))
            raise ValueError(f"layer {name!r} was not kept whole; give more memory=")
        logits = []
        with unchanged(self.model):
            for batch in even_batches(len(self.images), BATCH):
                part = block[:, batch]

                def swap(sight: Sight, part=part) -> Tensor | None:
                    if sight.name == sample.site.name:
                        return sample.site.restore(part, sight.tensor)
                    return None

                output = forward(self.model, self.images[batch], self.preprocess, swap)
                logits.append(logits_of(output, part.shape[1]).to(self.images.device))
        return torch.cat(logits)


def observe(
    model: nn.Module,
    images,
    *,
    preprocess: Preprocess | None = None,
    layers: str | Iterable[str] | None = None,
    memory: float = MEMORY,
) -> Seen:
    """What the scores need of one network and one set of images.

    Args:
        model: any; scores of answers need a classifier that gives logits, images × classes, by
            themselves or as `predict` finds them. It is left as it was.
        images: images × channels × height × width, uint8 or floats in [0, 1], as a person would
            see them, or what `as_images` takes. Those larger than 64 pixels enter the factorization
            as means over areas, and floats outside [0, 1] scaled, with a warning.
        preprocess: what is done to a batch of images, as floats, before the model gets it.
        layers: hidden layers, in order; None takes every place where an activation function is
            applied. What is negative in them is set to zero.
        memory: GB (10⁹ bytes) for hidden layers and their factorizations. Of a layer whose share is
            too small some positions are kept, drawn at random, the same for every network whose
            layers have the same sizes.

    Returns:
        Pixels, hidden layers, embedding and logits of these images, which all scores are of.

    Raises:
        TypeError: for what is no model, or images nobody can read.
        ValueError: for images of another shape, and for named layers that cannot be recorded.
        Exception: whatever the model or the preprocess raises, with a note that says on what.

    Example:
        >>> images = torch.eye(4).reshape(4, 1, 2, 2)  # four images, one pixel of each is white
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), images)  # says which
        >>> seen.hidden["0"].shape, seen.logits.shape
        (torch.Size([4, 4]), torch.Size([4, 4]))
    """
    model = unwrapped(model)
    with reading(images):
        images = check_pictures(as_images(images))
    if not len(images):
        raise ValueError("there are no images")
    if not memory > 0:
        raise ValueError(f"memory is {memory} GB; it is above 0")
    pixels, notes = thumbnails(images, math.inf, BATCH)
    for note in notes:
        warnings.warn(note, stacklevel=2)

    absent: dict[str, str] = {}
    found: dict[str, Any] = dict.fromkeys(("hidden", "embedding", "logits"))
    try:
        found["last_sample"], found["hidden"] = _hidden(model, images, preprocess, layers, memory)
    except ValueError as why:
        if layers is not None:  # a mistake of the caller
            raise
        absent["hidden"] = str(why)
    try:
        found["embedding"], found["logits"] = _embedding_and_logits(model, images, preprocess)
    except ValueError as why:
        absent["logits"] = str(why)
    if found["embedding"] is None:
        if found["hidden"]:
            found["embedding"] = next(reversed(found["hidden"].values()))
        else:
            absent["embedding"] = absent["hidden"]
    inputs = input_blocks(pixels.to(images.device))
    return Seen(model, images, inputs, preprocess=preprocess, absent=absent, **found)


def _hidden(
    model: nn.Module,
    images: Tensor,
    preprocess: Preprocess | None,
    layers: str | Iterable[str] | None,
    memory: float,
) -> tuple[Sample, dict[str, Tensor]]:
    """What was kept of the last hidden layer; and all of them, non-negative, neurons × images."""
    sites = trace(model, images, preprocess=preprocess)
    chosen, notes = choose(sites, "auto" if layers is None else layers, math.inf, model)
    for note in notes:
        warnings.warn(note, stacklevel=3)
    samples = plan(chosen, [WORK * 4 * len(images)] * len(chosen), memory * 1e9)
    batches = even_batches(len(images), BATCH)
    blocks, skipped = record_samples(
        model, images, samples, preprocess=preprocess, batches=batches, dtype=torch.float32
    )
    if skipped:
        raise ValueError(f"layers {skipped} run on some batches only; leave them out")
    return samples[-1], {name: block.clamp_(min=0) for name, block in blocks.items()}


class _Reader(TorchFunctionMode):
    """Keeps what the last linear map of a pass reads, whoever calls it."""

    read: Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function_name(func) in LINEAR:
            self.read = next(iter([*args, *kwargs.values()]))
        return func(*args, **kwargs)


def _embedding_and_logits(
    model: nn.Module, images: Tensor, preprocess: Preprocess | None
) -> tuple[Tensor | None, Tensor]:
    """What the last linear map reads, features × images, and the logits, images × classes.

    The former is None if the last one does not read a vector for each image.
    """
    read: list[Tensor | None] = []
    logits = []
    with unchanged(model):
        for batch in even_batches(len(images), BATCH):
            part = images[batch]
            with _Reader() as reader:
                output = forward(model, part, preprocess)
            logits.append(logits_of(output, len(part)).to(images.device))
            read.append(_vectors(reader.read, len(part)))
    joined = torch.cat(logits)
    if joined.ndim != 2 or joined.shape[1] < 2:
        raise ValueError(
            f"the model gives shape {tuple(joined.shape)}; this needs logits, images × classes"
        )
    if bad := int((~joined.isfinite().all(dim=1)).sum()):
        raise ValueError(f"the logits of {bad} images are NaN or infinite; look at the weights")
    vectors = [part for part in read if part is not None]
    if len(vectors) < len(read):
        return None, joined
    return torch.cat(vectors).T.to(images.device), joined


def _vectors(read: Tensor | None, images: int) -> Tensor | None:
    """images × features, of at least single precision; None if it is anything else."""
    if read is None or read.ndim != 2 or len(read) != images:
        return None
    found = plain(read)
    return found.to(torch.promote_types(found.dtype, torch.float32))


def unit_norm(blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks scaled to one norm, and all together to a root mean square of 1.

    Args:
        blocks: name → matrix, features × images.

    Returns:
        The scaled blocks, by the same names; blocks of zeros stay as they are.

    Example:
        >>> blocks = unit_norm({"small": torch.ones(2, 3), "large": torch.full((2, 3), 100.0)})
        >>> blocks["small"].allclose(blocks["large"])
        True
    """
    entries = sum(block.numel() for block in blocks.values())
    norm = (entries / len(blocks)) ** 0.5
    scaled = {}
    for name, block in blocks.items():
        own = block.norm()
        scaled[name] = block * (norm / own) if own else block
    return scaled


def _sweep(
    blocks: Mapping[str, Tensor],
    *,
    most: float = math.inf,
    weights: Mapping[str, float] | None = None,
    starts: int = 1,
) -> Sweep:
    """Fits at `RANKS`, as far as the blocks and `most` allow."""
    features = sum(len(block) for block in blocks.values())
    images = next(iter(blocks.values())).shape[1]
    ranks = [rank for rank in RANKS if rank <= min(features, images, most)]
    with all_or_nothing():  # no score is of a fit that somebody stopped
        return rank_sweep(blocks, ranks, range(starts), weights=weights, **FIT)


def _weightwatcher_table(model: nn.Module) -> pd.DataFrame:
    try:
        with _silence():
            import weightwatcher
    except ImportError as why:
        raise ImportError(
            "alpha and alpha_hat need WeightWatcher: pip install weightwatcher"
        ) from why
    try:
        with _silence():
            twin = copy.deepcopy(model).cpu()
            layers = weightwatcher.WeightWatcher(model=twin).analyze(min_evals=8)
    except Exception as why:  # anything: it is made for other networks
        raise ValueError(
            f"WeightWatcher cannot analyze this network: {type(why).__name__}: {why}"
        ) from why
    if "alpha" not in layers:
        raise ValueError("WeightWatcher found no layer with at least 8 eigenvalues")
    fitted = layers["alpha"] > 0  # −1 says that the fit failed
    return layers.loc[fitted & np.isfinite(layers["alpha_weighted"])]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """WeightWatcher prints and warns as it goes; its results do not depend on it."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(level)
