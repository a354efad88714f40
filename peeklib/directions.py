"""Directions among the neurons of a layer, and the images that lie farthest along them.

    Φ  neurons × images: the activations of one layer, as recorded or normalized
    v  neurons: a unit vector; ⟨φ(x), v⟩ is the score of image x, how far it lies along v

Zhang (2015, *Visualizing neuron role with dimensionality reduction of feature space*) looks at the
images of highest and lowest score along single neurons, random directions (after Szegedy et al.
2014) and left singular vectors. The columns of a non-negative factorization are directions too, and
here all four are of one type; what the `scale` is depends on where it comes from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import as_labels, as_matrix, check_count, check_seed, full_precision, power_near
from .nmf import CoupledFactors, coupled_nmf
from .solvers import all_or_nothing, compress
from .store import Stored

COPIES = 4  # of a block that is held, in all


@dataclass(frozen=True, repr=False)
class Direction:
    """A unit vector among the neurons of a layer, and the score of every image along it.

    Example:
        >>> Direction(torch.tensor([0.6, 0.8]), 2.5, "relu1", "singular 1", torch.zeros(4))
        Direction('singular 1', layer='relu1', neurons=2, scale=2.5)
    """

    vector: Tensor  #: v, neurons; of length 1
    #: standard deviation of the scores; singular: the singular value; nmf: norm of the component
    scale: float
    layer: str  #: the layer it belongs to
    name: str  #: what it is, such as "neuron 137" or "singular 1"
    scores: Tensor  #: one for each image: ⟨φ(x), v⟩; of an nmf direction the image's loading

    def __repr__(self):
        size = f"neurons={len(self.vector)}, scale={self.scale:.4g}"
        return f"Direction({self.name!r}, layer={self.layer!r}, {size})"


@full_precision()
def normalize(activations) -> Tensor:
    """Every image's activations, shifted and scaled to mean 0 and variance 1 over the neurons.

    That is the Φ̃ of Zhang (2015, section 3.3). An image whose neurons all agree becomes zero.

    Args:
        activations: Φ, neurons × images.

    Returns:
        Φ̃, neurons × images.

    Example:
        >>> normalize(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """
    X = as_matrix(activations)
    X = X / power_near(X)  # squares of it neither overflow nor vanish
    rounding = 1e-6 * X.abs().amax(dim=0)
    X -= X.mean(dim=0)  # in place, as below: a layer may fill a third of the memory
    spread = X.square().mean(dim=0).sqrt()
    X /= torch.where(spread > rounding, spread, torch.inf)
    return X


@full_precision()
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
        select: "variance" takes those of highest variance, strongest first; "random" draws with
            `seed`.
        among: one truth value for each neuron: which to choose from. Needed after `normalize`,
            which makes dead neurons vary, all alike; then give `raw.std(dim=1) > 0`. None takes
            all.
        layer: what to call the layer; a block of a store has its name already.
        seed: of the draw.

    Returns:
        `count` directions, whose `scale` is a standard deviation, in the units of Φ.

    Raises:
        ValueError: for another `select`, an `among` of another shape, or fewer than `count` neurons
            that vary.

    Example:
        >>> [neuron] = neurons(torch.tensor([[0.0, 0.0, 0.0], [5.0, 1.0, 3.0]]), 1)
        >>> neuron.name, neuron.vector.tolist(), neuron.scores.tolist()
        ('neuron 1', [0.0, 1.0], [5.0, 1.0, 3.0])
    """
    if select not in ("variance", "random"):
        raise ValueError(f'select is {select!r}; it is "variance" or "random"')
    layer = layer or _name_of(activations)
    X = _matrix(activations, layer)
    size = power_near(X)
    spread = _spread(X / size)  # neurons, in units of `size`
    varies = spread > 0
    if among is not None:
        varies &= _checked_among(among, X)
    alive = varies.nonzero().flatten()
    check_count(count, "count", len(alive), _in_layer("neurons that vary", layer))
    if select == "variance":
        order = spread[alive].argsort(descending=True, stable=True)
    else:
        generator = torch.Generator().manual_seed(check_seed(seed))
        order = torch.randperm(len(alive), generator=generator).to(alive.device)
    found = []
    chosen = alive[order[:count]]
    for neuron, scores in zip(chosen.tolist(), X[chosen], strict=True):
        axis = torch.zeros(len(X), dtype=X.dtype, device=X.device)
        axis[neuron] = 1
        scores = scores.clone()  # a view would hold those of all
        scale = size * spread[neuron].item()
        found.append(Direction(axis, scale, layer, f"neuron {neuron}", scores))
    return found


@full_precision()
def random(
    activations, count: int = 8, *, tail: float = 1.0, layer: str = "", seed: int = 0
) -> list[Direction]:
    """Directions drawn evenly from the sphere (Szegedy et al. 2014), widest spread of scores first.

    Args:
        activations: Φ, neurons × images.
        count: how many to keep.
        tail: the share of all drawn that is kept: `count` / `tail` are drawn, and those of highest
            variance stay. So the cut-off lies in the tail of the distribution, as in Zhang (2015,
            section 3.2); 1 keeps all.
        layer: what to call the layer; a block of a store has its name already.
        seed: of the draw.

    Returns:
        `count` directions, whose `scale` is a standard deviation, in the units of Φ.

    Raises:
        ValueError: for a tail outside (0, 1], or a count below 1.

    Example:
        >>> Φ = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
        >>> first, second = random(Φ, 2, seed=0)
        >>> first.scale >= second.scale, torch.allclose(first.scores, first.vector @ Φ)
        (True, True)
    """
    if not 0 < tail <= 1:
        raise ValueError(f"tail is {tail}; it is a share, above 0 and at most 1")
    layer = layer or _name_of(activations)
    X = _matrix(activations, layer)
    check_count(count, "count")
    generator = torch.Generator().manual_seed(check_seed(seed))
    V = torch.randn(math.ceil(count / tail), len(X), generator=generator, dtype=X.dtype)
    V = torch.nn.functional.normalize(V.to(X.device))  # drawn × neurons
    size = power_near(X)
    scores = V @ (X / size)  # drawn × images, in units of `size`
    spread = scores.std(dim=1, correction=0)
    found = []
    for k in spread.argsort(descending=True, stable=True)[:count].tolist():
        name, scale = f"random {k + 1}", size * spread[k].item()
        found.append(Direction(V[k].clone(), scale, layer, name, size * scores[k]))
    return found


@full_precision()
def singular(activations, count: int = 8, *, layer: str = "", seed: int = 0) -> list[Direction]:
    """The leading left singular vectors of Φ, largest singular value (the `scale`) first.

    By subspace iteration from a random sketch (Halko, Martinsson & Tropp 2011, algorithm 4.4), on
    the activations' own device. Signs are chosen so that the longer tail of the scores is on the
    positive side.

    Args:
        activations: Φ, neurons × images; normalized, to do as Zhang (2015, section 3.3).
        count: how many, at most min(neurons, images).
        layer: what to call the layer; a block of a store has its name already.
        seed: of the sketch.

    Returns:
        `count` orthonormal directions; the norm of the scores is the `scale`, in the units of Φ.

    Raises:
        ValueError: for a count out of range.

    Example:
        >>> Φ = torch.diag(torch.tensor([1.0, 3.0, 2.0]))
        >>> [round(direction.scale, 4) for direction in singular(Φ, 2)]
        [3.0, 2.0]
    """
    layer = layer or _name_of(activations)
    X = _matrix(activations, layer)
    check_count(count, "count", min(X.shape), _in_layer("singular values", layer))
    size = power_near(X)
    sketch = compress(X / size, min(*X.shape, count + 10), seed, iterations=6)  # X ≈ Q B
    U, S, Vh = torch.linalg.svd(sketch.B.double(), full_matrices=False)
    vectors = (sketch.Q @ U[:, :count].to(X.dtype)).T  # count × neurons
    scores = (S[:count, None] * Vh[:count]).to(X.dtype)  # count × images, in units of `size`
    skew = scores.double().pow(3).sum(dim=1, keepdim=True)
    signs = torch.where(skew < 0, -1.0, 1.0).to(X.dtype)
    vectors *= signs
    scores *= signs * size
    found = []
    for k in range(count):
        name, scale = f"singular {k + 1}", size * S[k].item()
        found.append(Direction(vectors[k], scale, layer, name, scores[k]))
    return found


@full_precision()
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
        fit: a coupled factorization of these images that has a block `layer`; None factorizes this
            layer alone with rank `count`.
        layer: what to call the layer; a block of a store has its name already.
        seed: of that factorization.

    Returns:
        `count` directions; the `scale`, the norm of O_k F_kᵀ, is in units of activation.

    Raises:
        ValueError: for a fit of other images or neurons or without the layer, or with fewer than
            `count` components that reach the layer.

    Example:
        >>> Φ = torch.outer(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0, 2.0]))
        >>> [direction] = nmf(Φ, 1)
        >>> [round(entry, 3) for entry in direction.vector.tolist()], round(direction.scale, 3)
        ([0.6, 0.8], 15.0)
    """
    layer = layer or _name_of(activations)
    X = _matrix(activations, layer)
    if fit is None:
        with all_or_nothing():
            fit = coupled_nmf({layer: X}, count, seed=seed)
    if layer not in fit.factors:
        raise ValueError(f"the fit has no block {layer!r}; it has {list(fit.factors)}")
    O = fit.factors[layer].to(X.device)  # neurons × rank
    F = fit.image_factor.to(X.device)  # images × rank
    if (len(O), len(F)) != tuple(X.shape):
        raise ValueError(
            f"layer {layer!r} is {tuple(X.shape)}, "
            f"the fit is of {len(O)} neurons and {len(F)} images"
        )
    lengths = O.norm(dim=0)  # rank
    reaching = int((lengths > 0).sum())
    check_count(count, "count", reaching, _in_layer("components that reach it", layer))
    norms = lengths * F.norm(dim=0)
    found = []
    for k in lengths.argsort(descending=True, stable=True)[:count].tolist():
        v = O[:, k] / lengths[k]
        found.append(Direction(v, norms[k].item(), layer, f"nmf {k + 1}", F[:, k]))
    return found


def _name_of(activations) -> str:
    """That of a block of a store, which knows its layer."""
    return activations.name if isinstance(activations, Stored) else ""


def _matrix(activations, layer: str) -> Tensor | Stored:
    """Φ, neurons × images; of a store on disk as it is, unless it can be held."""
    if isinstance(activations, Stored) and not activations.fits(COPIES):
        return activations
    return as_matrix(activations, layer or "activations")


def _spread(X: Tensor | Stored) -> Tensor:
    """Standard deviation of each neuron's scores."""
    if isinstance(X, Tensor):
        return X.std(dim=1, correction=0)
    seen, mean = 0, torch.zeros(len(X), 1, dtype=torch.float64)
    squares = torch.zeros(len(X), dtype=torch.float64)  # of what is beside the mean
    for _, chunk in X.chunks():  # as Chan, Golub & LeVeque (1979) add up parts
        count = chunk.shape[1]
        own = chunk.mean(dim=1, keepdim=True, dtype=torch.float64)
        squares += (chunk - own).square().sum(dim=1)
        squares += (own - mean)[:, 0].square() * (seen * count / (seen + count))
        mean += (own - mean) * (count / (seen + count))
        seen += count
    return (squares / seen).sqrt().to(X.dtype)


def _checked_among(among: Tensor, X: Tensor | Stored) -> Tensor:
    if among.dtype != torch.bool or tuple(among.shape) != (len(X),):
        shape = tuple(among.shape)
        raise ValueError(f"among is {among.dtype} of shape {shape}; give {len(X)} truth values")
    return among.to(X.device)


def _in_layer(what: str, layer: str) -> str:
    if not layer:
        return what
    return f"{what} in layer {layer!r}"


def top_images(direction: Direction, k: int = 8) -> Tensor:
    """The `k` images of highest score, highest first; of equal ones the earlier.

    Returns:
        Their indices, `k` of them or as many as there are.

    Example:
        >>> scores = torch.tensor([0.0, 3.0, 0.0, 5.0])
        >>> top_images(Direction(torch.ones(1), 1.0, "relu1", "neuron 0", scores), 2)
        tensor([3, 1])
    """
    return direction.scores.argsort(descending=True, stable=True)[:k]


def bottom_images(direction: Direction, k: int = 8) -> Tensor:
    """The `k` images of lowest score, lowest first; of equal ones the earlier.

    Returns:
        Their indices, `k` of them or as many as there are.

    Example:
        >>> scores = torch.tensor([0.0, 3.0, 0.0, 5.0])
        >>> bottom_images(Direction(torch.ones(1), 1.0, "relu1", "neuron 0", scores), 2)
        tensor([0, 2])
    """
    return direction.scores.argsort(stable=True)[:k]


def purity(labels) -> Tensor:
    """Share of the most frequent label in each row: 1 if all agree.

    Args:
        labels: sets × k, one row of integers from 0 on for each set of images.

    Returns:
        One share for each set.

    Example:
        >>> purity(torch.tensor([[1, 1, 1, 1], [5, 5, 2, 2]])).tolist()
        [1.0, 0.5]
    """
    counts = _counts(labels)
    return counts.amax(dim=1) / counts.sum(dim=1)


def class_entropy(labels) -> Tensor:
    """Entropy, in bits, of the labels in each row: 0 if all agree, log₂ k if all differ.

    Args:
        labels: sets × k, one row of integers from 0 on for each set of images.

    Returns:
        One entropy for each set.

    Example:
        >>> class_entropy(torch.tensor([[1, 1, 1, 1], [5, 5, 2, 2]])).round(decimals=3).tolist()
        [0.0, 1.0]
    """
    counts = _counts(labels)
    return torch.special.entr(counts / counts.sum(dim=1, keepdim=True)).sum(dim=1) / math.log(2)


def _counts(labels) -> Tensor:
    """How often each class occurs in each row: sets × classes."""
    return torch.nn.functional.one_hot(torch.as_tensor(labels).long()).sum(dim=1).double()


def overlap(sets: Sequence[Tensor]) -> float:
    """Mean share of images that two of these sets have in common, over all pairs.

    Args:
        sets: the indices of images, the same number in each set.

    Returns:
        From 0, if no two sets have an image in common, to 1, if all are the same.

    Raises:
        ValueError: for fewer than two sets, or sets of several sizes.

    Example:
        >>> overlap([torch.tensor([3, 1]), torch.tensor([7, 3])])
        0.5
    """
    sizes = {len(one) for one in sets}
    if len(sets) < 2 or len(sizes) != 1:
        raise ValueError(f"{len(sets)} sets of sizes {sorted(sizes)}; give two or more of one size")
    members = torch.stack(list(sets))  # sets × k
    same = members[:, None, :, None] == members[None, :, None, :]  # sets × sets × k × k
    shared = same.sum(dim=(2, 3)).double() / members.shape[1]  # sets × sets
    first, second = torch.triu_indices(len(sets), len(sets), offset=1)
    return shared[first, second].mean().item()


def describe(directions: Sequence[Direction], labels, k: int = 8) -> dict[str, float]:
    """What the `k` images at each end of these directions have in common, by their labels.

    Args:
        directions: of the same images.
        labels: one integer for each image, as a tensor, array, list or column.
        k: images at each end.

    Returns:
        "purity" and "entropy" (bits) of the top sets, means over the directions; "purity error",
        the standard error of the former; "overlap", as from `overlap`, and "same class", the share
        of pairs whose most frequent class is the same; NaN where there is a single direction.
        "bottom purity" … are those of the bottom sets.

    Raises:
        TypeError, ValueError: for labels that are no whole numbers, or not one for each image.

    Example:
        >>> rising = Direction(torch.ones(1), 1.0, "relu1", "neuron 0", torch.arange(4.0))
        >>> found = describe([rising, rising], torch.tensor([0, 1, 7, 7]), k=2)
        >>> found["purity"], found["bottom purity"], found["overlap"]
        (1.0, 0.5, 1.0)
    """
    labels = as_labels(labels, len(directions[0].scores)).cpu()
    tops = torch.stack([top_images(one, k).cpu() for one in directions])  # directions × k
    bottoms = torch.stack([bottom_images(one, k).cpu() for one in directions])
    found = _in_common(tops, labels)
    for what, value in _in_common(bottoms, labels).items():
        found[f"bottom {what}"] = value
    return found


def _in_common(sets: Tensor, labels: Tensor) -> dict[str, float]:
    """`describe`, of one end: sets × k indices of images."""
    classes = labels[sets]
    shares = purity(classes)
    found = {
        "purity": shares.mean().item(),
        "purity error": math.nan,
        "entropy": class_entropy(classes).mean().item(),
        "overlap": math.nan,
        "same class": math.nan,
    }
    if len(sets) > 1:
        major = _counts(classes).argmax(dim=1)
        found["purity error"] = shares.std().item() / len(sets) ** 0.5
        found["overlap"] = overlap(list(sets))
        found["same class"] = overlap(list(major[:, None]))
    return found
