"""How good is this network? Scores that need images and no labels.

`table(model, images)` gives them all for one network. One by one: `observe(model, images)` records
once what they need; each is then called as `score(seen)` and gives one number. `SCORES` has them by
name, with the direction that counts as better.

Notation, for N images and C classes::

    X  features × N   all blocks below each other: each channel of the pixels, each hidden layer
    A  neurons × N    the last hidden layer, the *last block*
    E  features × N   what the last linear layer reads, the *embedding*: A, or A after pooling
    P  N × C          class probabilities, softmax of the logits
    NMF_r, SVD_r      the fits of rank r without and with signs; NMF_r of X is the coupled one
    σ, σ₁, ‖·‖        singular values, the largest one, the root of the sum of squares
    ⟨·⟩_r             mean over the ranks r in `RANKS`; with it an error becomes an *area*

A block of zeros has error 0 and rank 0. Scores that factorize answers presume that the images show
all classes about equally often: where two of ten make up three fifths (chapter 14), `answers_area`
and `answers_alone_area` lose much of their order, the nuclear norm little.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..nmf import CoupledFactors, Sweep
from ..spectra import eckart_young, effective_rank, spectrum
from ..watch import Preprocess
from .seen import FIT as FIT
from .seen import MEMORY, Seen, observe
from .seen import RANKS as RANKS
from .seen import unit_norm as unit_norm

# What a score may raise; anything else is a mistake of ours and comes through.
NO_VALUE = (
    ImportError,
    ValueError,
    ArithmeticError,
    torch.linalg.LinAlgError,  # pyright: ignore[reportPrivateImportUsage]  # documented as public
)


@dataclass(frozen=True)
class Score:
    """A score and what is known of it; called with a `Seen` it gives a float.

    Example:
        >>> SCORES["prediction_entropy"].better, SCORES["prediction_entropy"].family
        (-1, 'outputs')
    """

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
        """What it is, in one line.

        Returns:
            The first line of the score's own documentation.

        Example:
            >>> SCORES["confidence"].says
            'Largest class probability, mean over the images (Hendrycks & Gimpel 2017).'
        """
        return (self.compute.__doc__ or "").partition("\n")[0]


SCORES: dict[str, Score] = {}


def _score(family: str, *, better: int) -> Callable[[Callable], Callable]:
    """Enter a function into `SCORES`."""

    def register(compute: Callable[[Seen], float]) -> Callable[[Seen], float]:
        SCORES[compute.__name__] = Score(compute, better, family)
        return compute

    return register


def table(
    model: nn.Module,
    images,
    *,
    preprocess: Preprocess | None = None,
    layers: str | Iterable[str] | None = None,
    memory: float = MEMORY,
    progress: bool = False,
) -> pd.DataFrame:
    """Every score of one network.

    Compare networks that saw the same images; scores with a unit, such as RMSE or a norm, only if
    they also have the same layers. Arguments and errors as `observe`; `progress` shows a bar. It
    takes some twenty factorizations: seconds for small networks, a minute for large ones.

    Returns:
        One row for each score, with columns score, family, value, better, says, why.
        `better` is +1 if larger is better, else −1; `says` is what the score is. A score that
        cannot be computed has the value NaN and the reason in `why`, which is empty for the others.

    Example:
        >>> model = nn.Sequential(nn.ReLU(), nn.Flatten())
        >>> rows = table(model, torch.eye(2).reshape(2, 1, 1, 2)).set_index("score")
        >>> round(rows.value["entropy_rank"].item(), 3), rows.family["entropy_rank"]
        (2.0, 'spectrum')
    """
    seen = observe(model, images, preprocess=preprocess, layers=layers, memory=memory)
    return table_of(seen, progress=progress)


def table_of(seen: Seen, *, progress: bool = False) -> pd.DataFrame:
    """Every score of what was observed, as `table`.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(2).reshape(2, 1, 1, 2))
        >>> rows = table_of(seen).set_index("score")
        >>> round(rows.value["confidence"].item(), 3)
        0.731
    """
    rows = []
    for name, score in tqdm(SCORES.items(), "scoring", disable=not progress, leave=False):
        value, why = _value_or_reason(score, seen)
        rows.append(
            {
                "score": name,
                "family": score.family,
                "value": value,
                "better": score.better,
                "says": score.says,
                "why": why,
            }
        )
    return pd.DataFrame(rows)


def _value_or_reason(score: Score, seen: Seen) -> tuple[float, str]:
    """A score's value, or NaN and why there is none: that costs no other score."""
    try:
        value = score(seen)
    except NO_VALUE as error:
        return math.nan, f"{type(error).__name__}: {error}"
    return value, "no number came out" if math.isnan(value) else ""


# Factorization: what a few components leave unexplained


def _mean_over_fits(sweep: Sweep, measure: Callable[[CoupledFactors], float]) -> float:
    return sum(measure(fit) for fit in sweep.fits.values()) / len(sweep.fits)


@_score("factorization", better=+1)
def rmse_area(seen: Seen) -> float:
    """RMSE of the coupled factorization, mean over the ranks (Saini & Papalexakis 2018).

    Larger is better::

        ⟨‖X − NMF_r(X)‖⟩_r / √(entries of X)

    Their figures 3, 6 and 7 show it rank by rank. It grows with the size of the activations.

    Returns:
        0 or more, in the units of pixels and activations.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(rmse_area(seen), 2)
        0.26
    """
    return _mean_over_fits(seen.plain, lambda fit: fit.rmse)


@_score("factorization", better=+1)
def relative_error_area(seen: Seen) -> float:
    """Relative error of the same fits, mean over the ranks: the size of all activations cancels.

    Larger is better::

        ⟨‖X − NMF_r(X)‖⟩_r / ‖X‖

    Returns:
        A share of ‖X‖, from 0 to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(relative_error_area(seen), 2)  # ranks 1, 2, 4 of four orthogonal images
        0.52
    """
    return _mean_over_fits(seen.plain, lambda fit: fit.relative_error)


@_score("factorization", better=+1)
def unit_norm_area(seen: Seen) -> float:
    """Relative error of the coupled factorization of blocks of one norm, mean over the ranks.

    Larger is better. As `relative_error_area`, with every block of X divided by its norm, so that
    each has an equal say.

    Returns:
        A share of the norm of those blocks, from 0 to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(unit_norm_area(seen), 2)  # the two blocks are equal: as above
        0.52
    """
    return _mean_over_fits(seen.unit, lambda fit: fit.relative_error)


@_score("factorization", better=+1)
def last_block_area(seen: Seen) -> float:
    """Relative error of the last block alone in the fits of `unit_norm_area`.

    Larger is better::

        ⟨‖A − NMF_r(A)‖⟩_r / ‖A‖,   NMF_r(A) being the rows of A in the coupled fit

    Returns:
        A share of ‖A‖, from 0 to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(last_block_area(seen), 2)
        0.52
    """
    last = list(seen.hidden)[-1]
    return _mean_over_fits(seen.unit, lambda fit: fit.block_errors[last])


@_score("factorization", better=-1)
def nmf_svd_gap(seen: Seen) -> float:
    """Relative error of NMF of the last block, less that of the SVD, mean over the ranks.

    Smaller is better::

        ⟨‖A − NMF_r(A)‖ − ‖A − SVD_r(A)‖⟩_r / ‖A‖

    The SVD's error is the floor for any factorization (Eckart & Young 1936); what is above it is
    the price of non-negative parts.

    Returns:
        A share of ‖A‖, 0 or more but for rounding.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> abs(nmf_svd_gap(seen)) < 0.01  # the parts of orthogonal images are the images
        True
    """
    if seen.alone is None:
        return 0.0
    values = spectrum(seen.last)
    floor = eckart_young(values, range(len(values) + 1)).tolist()  # at ranks 0, 1, 2 …
    return _mean_over_fits(seen.alone, lambda fit: fit.relative_error - floor[fit.rank])


@_score("factorization", better=+1)
def nmf_robustness(seen: Seen) -> float:
    """Share of predictions that stay when the last block becomes its NMF, mean over the ranks.

    Larger is better. A network that always says the same scores 1.

    A relative of what Collins, Bigdeli & Süsstrunk (2018) do with labels: they factorize one class
    of training images at a time, convolutions by position, and count correct answers. With the
    network's own classes nearly all survive one component; so here all images are factorized
    together, maps flattened.

    Returns:
        A share of the images, from 0 to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(nmf_robustness(seen), 2)  # ranks 1, 2, 4 keep one, two, four answers of four
        0.58
    """
    if seen.alone is None:
        return 1.0
    size = seen.last.square().mean().sqrt()
    decided = seen.logits.argmax(1)

    def survivors(fit: CoupledFactors) -> float:
        logits = seen.logits_given(fit.reconstruct("last") * size)
        return (logits.argmax(1) == decided).double().mean().item()

    return _mean_over_fits(seen.alone, survivors)


@_score("factorization", better=+1)
def answers_area(seen: Seen) -> float:
    """Relative error of the answers as two more blocks of the fit, mean over low ranks.

    Larger is better::

        ½ ⟨‖Pᵀ − NMF_r(Pᵀ)‖ / ‖P‖ + ‖Dᵀ − NMF_r(Dᵀ)‖ / ‖D‖⟩_r

    D, N × C, holds the decisions: 1 for the class decided on, else 0. All blocks have one norm, and
    each of these two weighs as much as all others together. The ranks are those up to half the
    number of classes: so few components cannot tell all classes apart. The error of P is small if
    the network is unsure, that of either if it has given up classes.

    Returns:
        A mean of shares of ‖P‖ and ‖D‖, from 0 to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(answers_area(seen), 1)
        0.6
    """
    return _mean_over_fits(seen.joint, _answers_error)


@_score("factorization", better=+1)
def answers_alone_area(seen: Seen) -> float:
    """Relative error of the answers when they are factorized without pixels and hidden layers.

    Larger is better. What `answers_area` adds to it comes from the other blocks.

    Returns:
        A mean of shares of ‖P‖ and ‖D‖, from 0 to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(answers_alone_area(seen), 1)
        0.6
    """
    return _mean_over_fits(seen.answers_alone, _answers_error)


def _answers_error(fit: CoupledFactors) -> float:
    return (fit.block_errors["probabilities"] + fit.block_errors["decisions"]) / 2


# Spectrum: how many directions are in use


@_score("spectrum", better=+1)
def entropy_rank(seen: Seen) -> float:
    """Entropy rank of the hidden blocks, mean over the layers (Roy & Vetterli 2007).

    Larger is better. Of one block::

        exp(−Σ p log p),   p = σ / Σσ

    Returns:
        A number of directions; each layer gives 1 or more, or 0 if it is zero.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(entropy_rank(seen), 3)  # four images in four directions
        4.0
    """
    return sum(_entropy_rank(block) for block in seen.hidden.values()) / len(seen.hidden)


@_score("spectrum", better=+1)
def rankme(seen: Seen) -> float:
    """RankMe: entropy rank of the embedding (Garrido et al. 2023).

    Larger is better::

        exp(−Σ p log p),   p = σ(E) / Σσ(E)

    Returns:
        A number of directions, from 1 to min(features, N); 0 if the embedding is zero.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(rankme(seen), 3)
        4.0
    """
    return _entropy_rank(seen.spectrum)


def _entropy_rank(block: Tensor) -> float:
    """Of a block or its singular values; 0 if they are zero, where it is not defined."""
    return effective_rank(block) if block.any() else 0.0


@_score("spectrum", better=+1)
def stable_rank(seen: Seen) -> float:
    """Stable rank of the embedding: its squares by the largest of them (Rudelson & Vershynin 2007).

    Larger is better::

        Σσ(E)² / σ₁(E)²

    Returns:
        A number of directions, from 1 to min(features, N); 0 if the embedding is zero.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(stable_rank(seen), 3)
        4.0
    """
    if not seen.embedding.any():
        return 0.0
    return (seen.spectrum.square().sum() / seen.spectrum[0] ** 2).item()


@_score("spectrum", better=+1)
def participation_ratio(seen: Seen) -> float:
    """Participation ratio of the embedding's covariance over the images (Gao et al. 2017).

    Larger is better. With λ the eigenvalues of the covariance of E::

        (Σλ)² / Σλ²

    Returns:
        A number of directions, from 1 to min(features, N − 1); 0 if all images have one embedding.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(participation_ratio(seen), 3)  # taking off the mean takes one direction away
        3.0
    """
    embedding = seen.embedding.double()
    if (embedding == embedding[:, :1]).all():
        return 0.0
    variances = spectrum(embedding - embedding.mean(dim=1, keepdim=True)).square()
    return (variances.sum() ** 2 / variances.square().sum()).item()


# Outputs: how sure the network is, and of how many classes


@_score("outputs", better=+1)
def nuclear_norm(seen: Seen) -> float:
    """Nuclear norm of the class probabilities, 1 for sure and evenly spread (Deng et al. 2023).

    Larger is better::

        Σσ(P) / √(N · min(N, C))

    It falls if the network is unsure, and also if it is sure of few classes only.

    Returns:
        From 1 / √(C · min(N, C)), at a loss throughout, to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(nuclear_norm(seen), 3)  # one class of four for each image, none for certain
        0.475
    """
    images, classes = seen.probabilities.shape
    largest = (min(images, classes) * images) ** 0.5
    return (torch.linalg.svdvals(seen.probabilities).sum() / largest).item()


@_score("outputs", better=+1)
def confidence(seen: Seen) -> float:
    """Largest class probability, mean over the images (Hendrycks & Gimpel 2017).

    Larger is better::

        (1/N) Σ_i max_c P_ic

    Returns:
        A probability, from 1/C to 1.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.eye(4).reshape(4, 1, 2, 2))
        >>> round(confidence(seen), 3)  # softmax of 1, 0, 0, 0
        0.475
    """
    return seen.probabilities.amax(1).mean().item()


@_score("outputs", better=-1)
def prediction_entropy(seen: Seen) -> float:
    """Entropy of the class probabilities in nats, mean over the images (Grandvalet & Bengio 2004).

    Smaller is better::

        −(1/N) Σ_i Σ_c P_ic log P_ic

    Returns:
        Nats, from 0 to log C.

    Example:
        >>> seen = observe(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.ones(4, 1, 2, 2))
        >>> round(prediction_entropy(seen), 3)  # at a loss between four classes: log 4
        1.386
    """
    return torch.special.entr(seen.probabilities).sum(1).mean().item()


# Weights: nothing of the images


@_score("weights", better=-1)
def weight_norm(seen: Seen) -> float:
    """Norm of all weight matrices and kernels together (Neyshabur et al. 2015).

    Smaller is better::

        √(Σ ‖W‖²)

    over all W; biases and other vectors are left out. A small norm bounds the capacity.

    Returns:
        0 or more, in the units of the weights.

    Raises:
        ValueError: for a model without any.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 9))
        >>> _ = nn.init.ones_(model[2].weight)
        >>> weight_norm(observe(model, torch.eye(4).reshape(4, 1, 2, 2)))
        6.0
    """
    matrices = [weight.detach() for weight in seen.model.parameters() if weight.ndim > 1]
    if not matrices:
        raise ValueError("the model has no weight matrix, or keeps it packed, as quantized ones do")
    precise = (weight.to(torch.promote_types(weight.dtype, torch.float32)) for weight in matrices)
    return sum(weight.square().sum().item() for weight in precise) ** 0.5


@_score("weights", better=-1)
def alpha(seen: Seen) -> float:
    """Exponent of the tail of a layer's eigenvalues, mean over layers (Martin & Mahoney 2021).

    Smaller is better. With ρ the density of the eigenvalues λ of a layer's W Wᵀ::

        ρ(λ) ∝ λ^−α in the tail

    WeightWatcher fits it. Small networks are outside what it was made for: a convolution of a few
    channels has a few tens of eigenvalues.

    Returns:
        A number without unit.

    Raises:
        ImportError, ValueError: as `Seen.weightwatcher`.

    Example:
        >>> alpha(observe(torchvision.models.vgg11(), images))  # doctest: +SKIP
    """
    return seen.weightwatcher.alpha.mean()


@_score("weights", better=-1)
def alpha_hat(seen: Seen) -> float:
    """α̂: alpha times the logarithm of the largest eigenvalue (Martin, Peng & Mahoney 2021).

    Smaller is better. Mean over the layers, by WeightWatcher::

        α log₁₀ λ₁

    Returns:
        A number without unit.

    Raises:
        ImportError, ValueError: as `Seen.weightwatcher`.

    Example:
        >>> alpha_hat(observe(torchvision.models.vgg11(), images))  # doctest: +SKIP
    """
    return seen.weightwatcher.alpha_weighted.mean()
