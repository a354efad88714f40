"""How good is this network? Scores that need images and no labels.

`seen = observe(model, images)` records once what the scores need; each score is then called as `score(seen)` and gives
one number. `SCORES` names them all, with the direction that counts as better; `table` gives all of them for one network.

σ are singular values; P the class probabilities, images × classes. An *area* is the mean of an error over `RANKS`,
evenly spaced in log rank. The *last* block is the last hidden layer, the *embedding* what the last linear layer reads: the
same in plain networks, and another thing where pooling comes between. A block of zeros has error 0 and rank 0.

Scores of outputs, `answers_area` included, presume that the images show all classes about equally often.
"""

import contextlib
import copy
import io
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..hooks import input_blocks, predict, record
from ..nmf import CoupledFactors, Sweep, rank_sweep
from ..spectra import effective_rank, spectrum

NO_VALUE = (
    ImportError,
    ValueError,
    ArithmeticError,
    torch.linalg.LinAlgError,
)  # what a score may raise; not our errors
RANKS = (1, 2, 4, 8, 16)
FIT = {"solver": "auto", "max_iter": 100, "tol": 1e-4}
BATCH = 500  # images in one forward pass


@dataclass(frozen=True)
class Seen:
    """What the scores are computed from: one network and one set of images."""

    model: nn.Module
    images: Tensor  #: images × channels × height × width
    inputs: dict[str, Tensor]  #: pixels × images, one block for each channel
    hidden: dict[str, Tensor]  #: neurons × images, non-negative, in the order of the layers
    embedding: Tensor  #: features × images: what the last linear layer reads, of any sign
    logits: Tensor  #: images × classes

    @property
    def last(self) -> Tensor:
        """The last hidden block."""
        return next(reversed(self.hidden.values()))

    @cached_property
    def probabilities(self) -> Tensor:
        """P: softmax of the logits, images × classes, in float64."""
        return self.logits.double().softmax(1)

    @cached_property
    def spectrum(self) -> Tensor:
        """Singular values of the embedding."""
        return spectrum(self.embedding)

    @cached_property
    def plain(self) -> Sweep:
        """The paper's coupled factorization of inputs and hidden blocks."""
        return _sweep(self.inputs | self.hidden)

    @cached_property
    def unit(self) -> Sweep:
        """The same with all blocks brought to one norm, so that none counts more because its numbers are large."""
        return _sweep(unit_norm(self.inputs | self.hidden))

    @cached_property
    def alone(self) -> Sweep | None:
        """NMF of the last block by itself; None if it is zero."""
        return _sweep(unit_norm({"last": self.last})) if self.last.any() else None

    @cached_property
    def answers(self) -> dict[str, Tensor]:
        """What the network says, classes × images: how sure it is of each class, and which one it decides for."""
        decided = nn.functional.one_hot(self.logits.argmax(1), self.logits.shape[1])
        return {"probabilities": self.probabilities.T.float(), "decisions": decided.T.float()}

    @cached_property
    def joint(self) -> Sweep:
        """As `unit`, with both blocks of answers, each as heavy as all others together, at up to half the classes' number.

        Three starts for each rank: networks that are all good differ by less than one start does from another.
        """
        others = self.inputs | self.hidden
        weights = dict.fromkeys(others, 1.0) | dict.fromkeys(self.answers, float(len(others)))
        return _sweep(
            unit_norm(others | self.answers),
            limit=self.logits.shape[1] // 2,
            weights=weights,
            seeds=3,
        )

    @cached_property
    def weightwatcher(self) -> pd.DataFrame:
        """WeightWatcher's table of the layers with at least 8 eigenvalues whose fit succeeded; a failed one says −1.

        Raises ImportError if WeightWatcher is not installed, ValueError if no layer is large enough or it fails.
        """
        try:
            with _silence():
                import weightwatcher
        except ImportError as why:
            raise ImportError(
                "alpha and alpha_hat need WeightWatcher: pip install weightwatcher"
            ) from why
        model = copy.deepcopy(self.model).cpu()
        try:
            with _silence():
                layers = weightwatcher.WeightWatcher(model=model).analyze(min_evals=8)
        except Exception as why:  # anything: it is made for other networks
            raise ValueError(
                f"WeightWatcher cannot analyze this network: {type(why).__name__}: {why}"
            ) from why
        if "alpha" not in layers:
            raise ValueError("WeightWatcher found no layer with at least 8 eigenvalues")
        return layers[(layers["alpha"] > 0) & np.isfinite(layers["alpha_weighted"])]


@contextlib.contextmanager
def _silence():
    """WeightWatcher prints and warns as it goes; its results do not depend on it."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(level)


def observe(model: nn.Module, images: Tensor, *, layers: Iterable[str] | None = None) -> Seen:
    """Record what the scores need.

    Args:
        model: a classifier that gives logits, images × classes; left as it was.
        images: images × channels × height × width, uint8 or floats in [0, 1]; all scores are of these images.
        layers: hidden layers, in order; None takes every ReLU. What is negative in them is set to zero.

    Raises:
        ValueError: as `record` and `input_blocks`, or for outputs that are no logits.
    """
    hidden, (embedding, logits) = (
        record(model, images, layers, negative="clip"),
        _outputs(model, images),
    )
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)}; scores need logits, images × classes"
        )
    embedding = next(reversed(hidden.values())) if embedding is None else embedding
    return Seen(model, images, input_blocks(images), hidden, embedding, logits)


def _outputs(model: nn.Module, images: Tensor) -> tuple[Tensor | None, Tensor]:
    """What the last linear layer reads, features × images (None if there is no such layer), and the logits."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    read = []
    handles = [
        one.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].detach()))
        for one in linear
    ]
    try:
        logits = predict(model, images, batch_size=BATCH)
    finally:
        for handle in handles:
            handle.remove()
    plain = read and all(part.ndim == 2 for part in read) and sum(map(len, read)) == len(images)
    return torch.cat(read).T.to(images.device) if plain else None, logits


def unit_norm(blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks scaled to have one norm, and all together a root mean square of 1. Blocks of zeros stay as they are."""
    norm = (sum(block.numel() for block in blocks.values()) / len(blocks)) ** 0.5
    return {
        name: block * (norm / own) if (own := block.norm()) else block
        for name, block in blocks.items()
    }


def _sweep(
    blocks: Mapping[str, Tensor], *, limit: float = math.inf, weights=None, seeds: int = 1
) -> Sweep:
    """Fits at `RANKS`, as far as the blocks and the limit allow."""
    features, images = sum(map(len, blocks.values())), next(iter(blocks.values())).shape[1]
    ranks = [rank for rank in RANKS if rank <= min(features, images, limit)]
    return rank_sweep(blocks, ranks, range(seeds), weights=weights, **FIT)


@dataclass(frozen=True)
class Score:
    """A score and what is known of it; called with a `Seen` it gives a float."""

    compute: Callable[[Seen], float]
    better: int  #: +1 where a larger value counts as better, −1 where a smaller one does
    family: str  #: "factorization", "spectrum", "outputs" or "weights": what it looks at

    def __call__(self, seen: Seen) -> float:
        return float(self.compute(seen))

    @property
    def name(self) -> str:
        return self.compute.__name__

    @property
    def says(self) -> str:
        """What it is, in one line."""
        return self.compute.__doc__.split("\n")[0]


SCORES: dict[str, Score] = {}


def _score(family: str, better: int) -> Callable[[Callable], Callable]:
    def register(compute: Callable[[Seen], float]) -> Callable[[Seen], float]:
        SCORES[compute.__name__] = Score(compute, better, family)
        return compute

    return register


def table(model: nn.Module, images: Tensor, *, layers: Iterable[str] | None = None) -> pd.DataFrame:
    """Every score of one network, one row for each: score, family, value, better (+1: the larger), says, why.

    A score that cannot be computed has the value NaN, and `why` gives the reason; `why` is empty for the others.

    Compare networks that saw the same images; scores with a unit, such as RMSE or a norm, only if they also have the same
    layers. Arguments and errors as `observe`.
    """
    seen = observe(model, images, layers=layers)
    return pd.DataFrame(_row(name, one, seen) for name, one in SCORES.items())


def _row(name: str, one: Score, seen: Seen) -> dict:
    """A score's row in `table`; a reason in place of a value costs no other score."""
    value, why = math.nan, ""
    try:
        value = one(seen)
    except NO_VALUE as error:
        why = f"{type(error).__name__}: {error}"
    if math.isnan(value) and not why:
        why = "no number came out"
    return {
        "score": name,
        "family": one.family,
        "value": value,
        "better": one.better,
        "says": one.says,
        "why": why,
    }


def _area(sweep: Sweep, error: Callable) -> float:
    return sum(error(fit) for fit in sweep.fits.values()) / len(sweep.fits)


@_score("factorization", better=+1)
def rmse_area(seen: Seen) -> float:
    """RMSE of the coupled factorization, mean over the ranks (Saini & Papalexakis 2018, their figures 2 to 4)."""
    return _area(seen.plain, lambda fit: fit.rmse)


@_score("factorization", better=+1)
def relative_error_area(seen: Seen) -> float:
    """The same fits, their error divided by the norm of the data: the size of activations cancels."""
    return _area(seen.plain, lambda fit: fit.relative_error)


@_score("factorization", better=+1)
def unit_norm_area(seen: Seen) -> float:
    """Relative error of the coupled factorization of blocks brought to one norm, mean over the ranks."""
    return _area(seen.unit, lambda fit: fit.relative_error)


@_score("factorization", better=+1)
def last_block_area(seen: Seen) -> float:
    """Relative error of the last block alone in the fits of `unit_norm_area`."""
    last = next(reversed(seen.hidden))
    return _area(seen.unit, lambda fit: fit.block_errors[last])


@_score("factorization", better=-1)
def nmf_svd_gap(seen: Seen) -> float:
    """How far NMF of the last block stays above the SVD of equal rank, mean over the ranks, in relative error.

    The SVD's error is the floor for any factorization (Eckart & Young 1936); what is above it is the price of
    non-negative parts.
    """
    if seen.alone is None:
        return 0.0
    energy = spectrum(seen.last).square()
    floor = (1 - energy.cumsum(0) / energy.sum()).clamp(min=0).sqrt()
    gaps = [
        fit.relative_error - floor[rank - 1].item() for (rank, _), fit in seen.alone.fits.items()
    ]
    return sum(gaps) / len(gaps)


@_score("factorization", better=+1)
def nmf_robustness(seen: Seen) -> float:
    """Share of predictions that survive when the last block is replaced by its NMF, mean over the ranks.

    A relative of what Collins, Bigdeli & Süsstrunk (2018) do with labels: they factorize one class of training images at a
    time, convolutions by position, and count correct answers. With the network's own classes nearly all survive one
    component; so here all images are factorized together, maps flattened. A network that always says the same scores 1.
    """
    if seen.alone is None:
        return 1.0
    name, size = next(reversed(seen.hidden)), seen.last.square().mean().sqrt()
    said = seen.logits.argmax(1)
    blocks = [fit.reconstruct("last") * size for fit in seen.alone.fits.values()]
    kept = [
        (_replaced(seen, name, block, seen.images).argmax(1) == said).double().mean()
        for block in blocks
    ]
    return (sum(kept) / len(kept)).item()


def _replaced(seen: Seen, name: str, block: Tensor, images: Tensor) -> Tensor:
    """Logits of images when the last hidden output, `name`, is `block`, neurons × images, instead."""
    module, _, call = name.partition(":")  # "relu:2" is the second and last call of relu
    parts, calls = iter(block.T.split(BATCH)), itertools.count(1)

    def swap(module, inputs, output):
        return (
            next(parts).reshape(output.shape).to(output)
            if next(calls) % int(call or 1) == 0
            else output
        )

    handle = seen.model.get_submodule(module).register_forward_hook(swap)
    try:
        return _outputs(seen.model, images)[1]
    finally:
        handle.remove()


@_score("factorization", better=+1)
def answers_area(seen: Seen) -> float:
    """Relative error of the network's answers as two more blocks of the coupled factorization, mean over low ranks.

    The blocks are the class probabilities and the decisions, 1 for the class decided on and else 0; the ranks are those
    up to half the number of classes. So few components cannot tell all classes apart. The error of the first block is
    small if the network is unsure, that of either if it has given up classes.
    """
    return _area(seen.joint, _answers_error)


@_score("factorization", better=+1)
def answers_alone_area(seen: Seen) -> float:
    """The same error when the answers are factorized without inputs and hidden layers: the others add the difference."""
    return _area(
        _sweep(unit_norm(seen.answers), limit=seen.logits.shape[1] // 2, seeds=3), _answers_error
    )


def _answers_error(fit: CoupledFactors) -> float:
    return (fit.block_errors["probabilities"] + fit.block_errors["decisions"]) / 2


@_score("spectrum", better=+1)
def entropy_rank(seen: Seen) -> float:
    """Entropy rank of the hidden blocks, mean over the layers (Roy & Vetterli 2007)."""
    return sum(
        effective_rank(block) if block.any() else 0.0 for block in seen.hidden.values()
    ) / len(seen.hidden)


@_score("spectrum", better=+1)
def rankme(seen: Seen) -> float:
    """RankMe: entropy rank of the embedding (Garrido et al. 2023)."""
    return effective_rank(seen.spectrum) if seen.embedding.any() else 0.0


@_score("spectrum", better=+1)
def stable_rank(seen: Seen) -> float:
    """Σσ² / σ₁² of the embedding (Rudelson & Vershynin 2007)."""
    return (
        (seen.spectrum.square().sum() / seen.spectrum[0] ** 2).item()
        if seen.embedding.any()
        else 0.0
    )


@_score("spectrum", better=+1)
def participation_ratio(seen: Seen) -> float:
    """(Σλ)² / Σλ² of the eigenvalues λ of the embedding's covariance over the images (Gao et al. 2017)."""
    embedding = seen.embedding.double()
    if (embedding == embedding[:, :1]).all():
        return 0.0
    variances = spectrum(embedding - embedding.mean(dim=1, keepdim=True)).square()
    return (variances.sum() ** 2 / variances.square().sum()).item()


@_score("outputs", better=+1)
def nuclear_norm(seen: Seen) -> float:
    """Nuclear norm of the class probabilities, 1 for confident and evenly spread ones (Deng et al. 2023)."""
    images, classes = seen.probabilities.shape
    return (
        torch.linalg.svdvals(seen.probabilities).sum() / (min(images, classes) * images) ** 0.5
    ).item()


@_score("outputs", better=+1)
def confidence(seen: Seen) -> float:
    """Largest class probability, mean over the images (Hendrycks & Gimpel 2017)."""
    return seen.probabilities.amax(1).mean().item()


@_score("outputs", better=-1)
def prediction_entropy(seen: Seen) -> float:
    """Entropy of the class probabilities in nats, mean over the images."""
    return torch.special.entr(seen.probabilities).sum(1).mean().item()


@_score("weights", better=-1)
def weight_norm(seen: Seen) -> float:
    """Norm of all weight matrices and kernels together; a small one bounds the capacity (Neyshabur et al. 2015)."""
    return sum(p.square().sum().item() for p in seen.model.parameters() if p.ndim > 1) ** 0.5


@_score("weights", better=-1)
def alpha(seen: Seen) -> float:
    """Exponent of the tail of the layers' eigenvalues, mean over the layers (Martin & Mahoney 2021; WeightWatcher).

    Small networks are outside what it was made for: a convolution of a few channels has a few tens of eigenvalues.
    """
    return seen.weightwatcher["alpha"].mean()


@_score("weights", better=-1)
def alpha_hat(seen: Seen) -> float:
    """The same weighted by the logarithm of the largest eigenvalue, α̂ (Martin, Peng & Mahoney 2021; WeightWatcher)."""
    return seen.weightwatcher["alpha_weighted"].mean()
