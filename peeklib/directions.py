"""Directions among the neurons of a layer, and the images that lie farthest along them.

    Φ  neurons × images: the activations of one layer, as recorded or normalized
    v  neurons: a unit vector; ⟨φ(x), v⟩ is the score of image x, the length of its activations along v

Zhang (2015, *Visualizing neuron role with dimensionality reduction of feature space*) looks at the images of highest and
lowest score along single neurons, random directions (after Szegedy et al. 2014) and left singular vectors. The columns of
a non-negative factorization are directions too, and here all four are of one type; what the `scale` is depends on where it comes from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .blocks import as_matrix, check_count
from .nmf import CoupledFactors, coupled_nmf
from .solvers import compress


@dataclass(frozen=True, repr=False)
class Direction:
    """A unit vector among the neurons of a layer, and the score of every image along it."""

    vector: Tensor  #: v, neurons; of length 1
    scale: float  #: standard deviation of the scores; singular: the singular value; nmf: the norm of the component
    layer: str  #: the layer it belongs to
    name: str  #: what it is, such as "neuron 137" or "singular 1"
    scores: Tensor  #: one for each image: ⟨φ(x), v⟩; of an nmf direction the image's loading

    def __repr__(self):
        return f"Direction({self.name!r}, layer={self.layer!r}, neurons={len(self.vector)}, scale={self.scale:.4g})"


def normalize(activations) -> Tensor:
    """Every image's activations, a column, shifted and scaled to mean 0 and variance 1 over the neurons.

    That is the Φ̃ of Zhang (2015, section 3.3). A column whose neurons all agree becomes zero.

    Args:
        activations: Φ, neurons × images.
    """
    X = as_matrix(activations)
    centred = X - X.mean(dim=0)
    spread = centred.square().mean(dim=0).sqrt()
    return centred / torch.where(spread > 1e-6 * X.abs().amax(dim=0), spread, torch.inf)


def neurons(
    activations,
    count: int = 8,
    *,
    select: str = "variance",
    among: Tensor | None = None,
    layer: str = "",
    seed: int = 0,
) -> list[Direction]:
    """Single neurons: those whose scores vary most, or any that vary, drawn at random.

    Args:
        activations: Φ, neurons × images.
        count: how many.
        select: "variance" takes those of highest variance, strongest first; "random" draws with `seed`.
        among: one truth value for each neuron: which to choose from. Needed after `normalize`, which makes dead neurons
            vary, all alike; then give `raw.std(dim=1) > 0`. None takes all.
        layer: what to call the layer.
        seed: of the draw.

    Raises:
        ValueError: for another `select`, an `among` of another shape, or fewer than `count` neurons that vary.
    """
    if select not in ("variance", "random"):
        raise ValueError(f'select is {select!r}; it is "variance" or "random"')
    X = as_matrix(activations, layer or "activations")
    spread = X.std(dim=1, correction=0)  # neurons
    alive = spread > 0 if among is None else (spread > 0) & _mask(among, X)
    alive = alive.nonzero().flatten()
    check_count(count, "count", len(alive), _in("neurons that vary", layer))
    if select == "variance":
        chosen = alive[spread[alive].argsort(descending=True, stable=True)[:count]]
    else:
        draw = torch.Generator().manual_seed(seed)
        chosen = alive[torch.randperm(len(alive), generator=draw)[:count].to(alive.device)]
    axes = torch.zeros(count, len(X), dtype=X.dtype, device=X.device)
    axes[range(count), chosen] = 1
    return [
        Direction(
            axis, spread[j].item(), layer, f"neuron {j}", X[j].clone()
        )  # a view would hold all of X
        for axis, j in zip(axes, chosen.tolist(), strict=True)
    ]


def random(
    activations, count: int = 8, *, tail: float = 1.0, layer: str = "", seed: int = 0
) -> list[Direction]:
    """Directions drawn evenly from the sphere (Szegedy et al. 2014), those with the widest spread of scores first.

    Args:
        activations: Φ, neurons × images.
        count: how many to keep.
        tail: the share of all drawn that is kept: `count` / `tail` are drawn, and those of highest variance stay. So
            the cut-off lies in the tail of the distribution, as in Zhang (2015, section 3.2); 1 keeps all.
        layer: what to call the layer.
        seed: of the draw.

    Raises:
        ValueError: for a tail outside (0, 1], or a count below 1.
    """
    if not 0 < tail <= 1:
        raise ValueError(f"tail is {tail}; it is a share, above 0 and at most 1")
    X = as_matrix(activations, layer or "activations")
    check_count(count, "count")
    draw = torch.Generator().manual_seed(seed)
    V = torch.randn(math.ceil(count / tail), len(X), generator=draw, dtype=X.dtype).to(X.device)
    V = torch.nn.functional.normalize(V)  # drawn × neurons
    scores = V @ X  # drawn × images
    spread = scores.std(dim=1, correction=0)
    kept = spread.argsort(descending=True, stable=True)[:count].tolist()
    return [
        Direction(V[k].clone(), spread[k].item(), layer, f"random {k + 1}", scores[k].clone())
        for k in kept
    ]


def singular(activations, count: int = 8, *, layer: str = "", seed: int = 0) -> list[Direction]:
    """The leading left singular vectors of Φ, largest singular value (the `scale`) first.

    By subspace iteration from a random sketch (Halko, Martinsson & Tropp 2011, algorithm 4.4), on the activations'
    own device. Signs are chosen so that the longer tail of the scores is on the positive side.

    Args:
        activations: Φ, neurons × images; normalized, to do as Zhang (2015, section 3.3).
        count: how many, at most min(neurons, images).
        layer: what to call the layer.
        seed: of the sketch.

    Raises:
        ValueError: for a count out of range.
    """
    X = as_matrix(activations, layer or "activations")
    check_count(count, "count", min(X.shape), _in("singular values", layer))
    low = compress(X, min(*X.shape, count + 10), seed, iterations=6)
    U, S, Vh = torch.linalg.svd(
        low.B.double(), full_matrices=False
    )  # width × width, width, width × images
    vectors = (low.Q @ U[:, :count].to(X.dtype)).T  # count × neurons
    scores = (S[:count, None] * Vh[:count]).to(X.dtype)
    signs = torch.where(scores.double().pow(3).sum(dim=1, keepdim=True) < 0, -1.0, 1.0).to(X.dtype)
    vectors, scores = signs * vectors, signs * scores
    return [
        Direction(vectors[k], S[k].item(), layer, f"singular {k + 1}", scores[k])
        for k in range(count)
    ]


def nmf(
    activations,
    count: int = 8,
    *,
    fit: CoupledFactors | None = None,
    layer: str = "",
    seed: int = 0,
) -> list[Direction]:
    """Columns of a non-negative factorization of this layer, those that explain most of it first.

    Args:
        activations: Φ, neurons × images, non-negative, not normalized.
        count: how many.
        fit: a coupled factorization of these images that has a block `layer`; None factorizes this layer
            alone with rank `count`.
        layer: what to call the layer.
        seed: of that factorization.

    Raises:
        ValueError: for a fit of other images or neurons or without the layer, or with fewer than `count` components
            that reach the layer.
    """
    X = as_matrix(activations, layer or "activations")
    fit = coupled_nmf({layer: X}, count, seed=seed) if fit is None else fit
    if layer not in fit.factors:
        raise ValueError(f"the fit has no block {layer!r}; it has {list(fit.factors)}")
    O, F = fit.factors[layer].to(X.device), fit.image_factor.to(X.device)
    if (len(O), len(F)) != tuple(X.shape):
        raise ValueError(
            f"layer {layer!r} is {tuple(X.shape)}, the fit is of {len(O)} neurons and {len(F)} images"
        )
    lengths = O.norm(dim=0)  # rank
    check_count(count, "count", int((lengths > 0).sum()), _in("components that reach it", layer))
    order = lengths.argsort(descending=True, stable=True)[:count].tolist()
    norms = lengths * F.norm(dim=0)
    return [
        Direction(O[:, k] / lengths[k], norms[k].item(), layer, f"nmf {k + 1}", F[:, k])
        for k in order
    ]


def _mask(among: Tensor, X: Tensor) -> Tensor:
    if among.dtype != torch.bool or among.shape != X.shape[:1]:
        raise ValueError(
            f"among is {among.dtype} of shape {tuple(among.shape)}; give {len(X)} truth values"
        )
    return among.to(X.device)


def _in(what: str, layer: str) -> str:
    return f"{what} in layer {layer!r}" if layer else what


def top_images(direction: Direction, k: int = 8) -> Tensor:
    """The `k` images of highest score, highest first; of equal ones the earlier."""
    return direction.scores.argsort(descending=True, stable=True)[:k]


def bottom_images(direction: Direction, k: int = 8) -> Tensor:
    """The `k` images of lowest score, lowest first; of equal ones the earlier."""
    return direction.scores.argsort(stable=True)[:k]


def purity(labels: Tensor) -> Tensor:
    """Share of the most frequent label in each row: 1 if all agree.

    Args:
        labels: sets × k, one row of integers for each set of images.
    """
    return _counts(labels).amax(dim=1) / labels.shape[1]


def class_entropy(labels: Tensor) -> Tensor:
    """Entropy, in bits, of the labels in each row: 0 if all agree, log₂ k if all differ; `labels` as for `purity`."""
    return torch.special.entr(_counts(labels) / labels.shape[1]).sum(dim=1) / math.log(2)


def _counts(labels: Tensor) -> Tensor:
    """How often each class occurs in each row: sets × classes."""
    return torch.nn.functional.one_hot(labels.long()).sum(dim=1).double()


def overlap(sets: Sequence[Tensor]) -> float:
    """Mean share of images that two of these sets have in common, over all pairs; all sets are of one size.

    Raises:
        ValueError: for fewer than two sets, or sets of several sizes.
    """
    sizes = {len(one) for one in sets}
    if len(sets) < 2 or len(sizes) != 1:
        raise ValueError(f"{len(sets)} sets of sizes {sorted(sizes)}; give two or more of one size")
    stacked = torch.stack(list(sets))  # sets × k
    shared = (stacked[:, None, :, None] == stacked[None, :, None, :]).sum(
        dim=(2, 3)
    ).double() / stacked.shape[1]
    return shared[*np.triu_indices(len(sets), 1)].mean().item()


def describe(directions: Sequence[Direction], labels: Tensor, k: int = 8) -> dict[str, float]:
    """What the `k` images at each end of these directions have in common, by their labels.

    Args:
        directions: of the same images.
        labels: one integer for each image.
        k: images at each end.

    Returns:
        "purity" and "entropy" (bits) of the top sets, means over the directions; "purity error", the standard error of
        the former; "overlap", as from `overlap`, and "same class", the share of pairs whose most frequent class is the
        same; NaN where there is a single direction. "bottom purity" … are those of the bottom sets.
    """
    found = {}
    for end, pick in (("", top_images), ("bottom ", bottom_images)):
        sets = torch.stack([pick(one, k).cpu() for one in directions])  # directions × k
        several, major = len(sets) > 1, _counts(labels[sets]).argmax(dim=1)
        found[f"{end}purity"] = purity(labels[sets]).mean().item()
        found[f"{end}purity error"] = (
            purity(labels[sets]).std().item() / len(sets) ** 0.5 if several else math.nan
        )
        found[f"{end}entropy"] = class_entropy(labels[sets]).mean().item()
        found[f"{end}overlap"] = overlap(list(sets)) if several else math.nan
        found[f"{end}same class"] = overlap(list(major[:, None])) if several else math.nan
    return found
