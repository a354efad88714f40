"""Singular values of a block and what they say; blocks compared by them; those of a convolution.

X and Y are blocks, features × images, with the same images in the same order. Comparing them
centres every feature over the images first. Sources stand at the functions.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .blocks import as_matrix, as_tensor, check_count, check_seed, full_precision, power_near
from .crew import crew, each, pieces
from .store import Stored

COPIES = 6  # of a block, in its own precision, that its decomposition takes at the worst time


@full_precision()
def spectrum(block: Tensor | Stored) -> Tensor:
    """Singular values of a block, largest first.

    They come from the triangular factor of a QR decomposition (Chan 1982): several times faster
    than the long side itself, and nothing is squared, so that small singular values keep their
    accuracy.

    Args:
        block: features × images, of any sign; or of a store on disk, which is read once.

    Returns:
        min(features, images) values, in float64 on the device of the block.

    Raises:
        TypeError, ValueError: for what is no finite matrix, or a block on disk whose triangular
            factor does not fit into its memory.

    Example:
        >>> import peeklib as pk
        >>> pk.spectrum(torch.tensor([[3.0, 0, 0], [0, -4, 0]])).round(decimals=3)
        tensor([4., 3.], dtype=torch.float64)
    """
    if isinstance(block, Stored) and not block.fits(COPIES):
        _check_room(block)
        return torch.linalg.svdvals(triangle(block))
    X = as_matrix(block).double()
    with crew(X.device):
        return torch.linalg.svdvals(_triangular(X if len(X) >= X.shape[1] else X.T))


def _triangular(tall: Tensor) -> Tensor:
    """R of a QR decomposition: first of parts of the rows, each by itself, then of their R.

    On several threads that is one large step, where LAPACK's own takes thousands (Demmel et al.
    2012, section 3).
    """
    parts = pieces(len(tall), 2 * tall.shape[1])
    triangles = [tall] * len(parts)

    def decompose(chosen: slice) -> None:
        for k in range(len(parts))[chosen]:
            triangles[k] = torch.linalg.qr(tall[parts[k]], mode="r").R

    each(len(parts), decompose, least=1)
    if len(parts) == 1:
        return triangles[0]
    return torch.linalg.qr(torch.cat(triangles), mode="r").R


def _check_room(block: Stored) -> None:
    """Whether its memory holds the triangular factor of a block."""
    short = min(block.shape)
    needed = COPIES * 8 * short**2 / 1e9
    if needed > block.memory:
        fewer = math.isqrt(int(block.memory * 1e9 / (COPIES * 8))) or 1
        raise ValueError(
            f"block {block.name!r} is {' × '.join(map(str, block.shape))}: to find all {short} "
            f"singular values takes {needed:.3g} GB, and memory is {block.memory:g}; open the store "
            f"with memory={1.01 * needed:.3g} or more, give fewer images, block[:, :{fewer}], or "
            "take the leading ones from pk.directions.singular"
        )


@full_precision()
def triangle(block: Stored) -> Tensor:
    """R of a QR decomposition of the longer side, read and decomposed part by part.

    Args:
        block: features × images, on disk.

    Returns:
        n × n with the singular values of the block, in float64, where n = min(features, images).
    """
    short = min(block.shape)
    wide = block.shape[1] > len(block)
    parts = (chunk.T for _, chunk in block.chunks()) if wide else block.by_features()
    waiting, rows = [], 0  # as many rows as make a step worth its while
    with crew(block.device):
        for part in parts:
            waiting.append(part.to(torch.float64, copy=True))
            rows += len(part)
            if rows >= 2 * short:
                waiting, rows = [_triangular(torch.cat(waiting))], short
        return _triangular(torch.cat(waiting))


@full_precision()
def eckart_young(values: Tensor, ranks: Iterable[int]) -> Tensor:
    """Relative errors ‖A − B‖ / ‖A‖ of the best approximations B of some ranks, of any sign.

    √(Σ_{k>r} σ_k² / Σ_k σ_k²) for rank r: the floor of every factorization (Eckart & Young 1936).

    Args:
        values: singular values of A, all of them, largest first, such as `spectrum` gives.
        ranks: 0 or more; beyond the number of values nothing is left.

    Returns:
        One number for each rank, in their order, in float64; 0 where A is zero.

    Raises:
        TypeError, ValueError: for ranks that are no whole numbers or negative, or values that are
            no singular values, or not in their order.

    Example:
        >>> eckart_young(torch.tensor([4.0, 3.0]), [0, 1, 2]).round(decimals=3)
        tensor([1.0000, 0.6000, 0.0000], dtype=torch.float64)
    """
    values = as_tensor(values, "values").double()
    possible = (values >= 0) & values.isfinite()
    if values.ndim != 1 or not len(values) or not possible.all() or (values.diff() > 0).any():
        raise ValueError("values are not the singular values of a matrix, largest first")
    chosen = [min(check_count(rank, "rank", least=0), len(values)) for rank in ranks]
    energy = (values / power_near(values)).square()
    left = torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])  # after each rank
    errors = (left / left[0]).sqrt() if left[0] > 0 else left
    return errors[chosen]


@full_precision()
def effective_rank(block: Tensor | Stored) -> float:
    """Entropy rank exp(−Σ p log p) with p = σ / Σσ (Roy & Vetterli 2007).

    Args:
        block: features × images, as for `spectrum`, or its singular values if you have them.

    Returns:
        A number of directions, from 1 to the rank of the block.

    Raises:
        ValueError: for a block of zeros, or values that are no singular values.

    Example:
        >>> import peeklib as pk
        >>> round(pk.effective_rank(torch.eye(7)), 3), round(pk.effective_rank(torch.ones(7, 9)), 3)
        (7.0, 1.0)
    """
    values = _values(block)
    if not ((values >= 0) & values.isfinite()).all():
        raise ValueError("singular values are never negative, infinite or NaN; some of these are")
    if not values.any():
        raise ValueError("every entry of the block is zero; its entropy rank is not defined")
    values = values / power_near(values)
    p = values / values.sum()
    return torch.special.entr(p).sum().exp().item()


def _values(block: Tensor | Stored) -> Tensor:
    """The singular values of a block, or what was given as such."""
    if isinstance(block, Stored):
        return spectrum(block)
    block = as_tensor(block)
    return spectrum(block) if block.ndim != 1 else block.double()


@full_precision()
def cka(X: Tensor, Y: Tensor) -> float:
    """Linear centred kernel alignment of two blocks (Kornblith et al. 2019, sect. 3).

    ‖X Yᵀ‖² / (‖X Xᵀ‖ ‖Y Yᵀ‖) with centred features. It stays the same if either block is rotated or
    scaled. The same sums are taken over images × images where there are fewer images than features.
    Products have the precision of the blocks, whatever their unit.

    Args:
        X, Y: features × images; the numbers of features may differ.

    Returns:
        From 0, if no feature of one is correlated with one of the other, to 1, if one is the other,
        rotated and scaled.

    Raises:
        ValueError: for blocks with different numbers of images, or in which all images are alike.

    Example:
        >>> X = torch.rand(6, 50, generator=torch.Generator().manual_seed(0))
        >>> round(cka(X, 3 * X.flip(0) + 1), 3)
        1.0
    """
    X, Y = _centred(X, Y)
    if X.shape[1] < max(len(X), len(Y)):
        K, L = X.T @ X, Y.T @ Y  # images × images
        shared, own = (K * L).double().sum(), K.double().norm() * L.double().norm()
    else:
        shared = (X @ Y.T).double().square().sum()
        own = (X @ X.T).double().norm() * (Y @ Y.T).double().norm()
    return min(1.0, (shared / own).item())


@full_precision()
def svcca(X: Tensor, Y: Tensor, *, share: float = 0.99) -> float:
    """Mean canonical correlation of two blocks' strongest directions (Raghu et al. 2017).

    Each centred block is cut to the fewest singular directions that hold `share` of its variance.
    The mean is over as many correlations as the smaller of the two has directions. With `share` 1
    it is the mean of plain CCA, the same after any invertible map of the features. Few images make
    unrelated blocks look related: the value of a pair whose images are shuffled says how much.

    Args:
        X, Y: features × images; the numbers of features may differ.
        share: of the variance, the sum of squares; above 0, at most 1.

    Returns:
        From 0 to 1, where the directions of one lie among those of the other.

    Raises:
        ValueError: for blocks with different numbers of images, or in which all images are alike,
            or a bad share.

    Example:
        >>> X = torch.rand(6, 50, generator=torch.Generator().manual_seed(0))
        >>> round(svcca(X, 3 * X.flip(0) + 1), 3)
        1.0
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it is above 0 and at most 1")
    U, V = (_directions(block.double(), share) for block in _centred(X, Y))
    return torch.linalg.svdvals(U.T @ V).clamp(max=1).mean().item()


def _centred(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Both blocks with the mean over the images taken off every feature."""
    X, Y = as_matrix(X, "X"), as_matrix(Y, "Y")
    count = X.shape[1]
    if Y.shape[1] != count:
        raise ValueError(
            f"blocks differ in their number of images: X has {count}, Y has {Y.shape[1]}; "
            "record both from the same images"
        )
    for name, block in (("X", X), ("Y", Y)):
        if (block == block[:, :1]).all():
            raise ValueError(
                f"block {name!r} is the same for all of its {count} images; there is no variance"
            )
    return _without_mean(X), _without_mean(Y.to(X.device))


def _without_mean(X: Tensor) -> Tensor:
    """X in a unit in which products neither overflow nor vanish, and so is what remains of it."""
    X = X / power_near(X)
    X = X - X.mean(dim=1, keepdim=True, dtype=torch.float64).to(X.dtype)
    return X / power_near(X)


def _directions(X: Tensor, share: float) -> Tensor:
    """The fewest right singular vectors with `share` of the squares of X, images × directions.

    They come from the smaller Gram matrix, whose eigenvalues are squares; what is rounding is left
    out.
    """
    wide = len(X) <= X.shape[1]
    energy, vectors = torch.linalg.eigh(X @ X.T if wide else X.T @ X)
    energy, vectors = energy.flip(0), vectors.flip(1)
    held = energy.clamp(min=0).cumsum(0) / energy.clamp(min=0).sum()
    sound = int((energy > max(X.shape) * torch.finfo(X.dtype).eps * energy[0]).sum())
    kept = slice(min(sound, int((held < share).sum()) + 1))
    if wide:
        return X.T @ (vectors[:, kept] / energy[kept].sqrt())
    return vectors[:, kept]


@full_precision()
def conv_singular_values(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Singular values of a convolution with stride 1, one set for each frequency.

    A convolution whose image wraps around at its edges is a matrix of one small block, out × in,
    for each frequency: the 2-D Fourier transform of the kernel (Sedghi, Gupta & Long 2019, theorem
    6). All of them together are the singular values of the whole map. Without padding ("valid") the
    map leaves out the outputs that wrap around: some rows of that matrix, so no singular value of
    it is larger than the one here of the same rank.

    Args:
        weight: out × in × kernel height × kernel width, such as `model.conv1.weight`.
        size: height and width of the maps that go in.

    Returns:
        height × width × min(out, in), in float64.

    Raises:
        ValueError: for a weight of another shape, with NaN, or a kernel larger than the maps.

    Example:
        >>> moves = torch.zeros(1, 1, 3, 3)
        >>> moves[0, 0, 2, 0] = 1  # each image by one pixel, and keeps its length
        >>> conv_singular_values(moves, (4, 4)).unique().round(decimals=6)
        tensor([1.], dtype=torch.float64)
    """
    weight = as_tensor(weight, "weight")
    if weight.ndim != 4:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; give out × in × kernel height × kernel width"
        )
    if any(kernel > side for kernel, side in zip(weight.shape[2:], size, strict=True)):
        raise ValueError(
            f"a kernel of {tuple(weight.shape[2:])} is larger than maps of {tuple(size)}"
        )
    if not weight.isfinite().all():
        raise ValueError("weight has NaN or infinite values; the network diverged")
    frequencies = torch.fft.fft2(weight.double(), s=size)  # out × in × height × width
    return torch.linalg.svdvals(frequencies.permute(2, 3, 0, 1))


@full_precision()
def parallel_analysis(block: Tensor, *, permutations: int = 19, seed: int = 0) -> int:
    """How many leading singular values exceed those of chance (Horn 1965).

    Every feature is centred over the images: what all images have in common does not count. Chance
    is the same block with every feature's values permuted over the images, by itself, so that
    features keep their variances and lose what they share. The k-th value is compared with the
    largest k-th of all permutations (19 of them: the 95 % quantile), up to the first that is not
    larger. With many more images than features this asks which directions are above the average,
    and says little where there are few features.

    Args:
        block: features × images, of any sign.
        permutations: how many.
        seed: of the permutations.

    Returns:
        From 0 to min(features, images).

    Raises:
        TypeError, ValueError: for what is no finite matrix, or no number of permutations.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(9, 80, generator=generator)
        >>> parallel_analysis(noise + 3 * noise[:, :1] * noise[:1])  # one direction was planted
        1
    """
    check_count(permutations, "permutations")
    X = as_matrix(block)
    X = X / power_near(X)
    X = X - X.mean(dim=1, keepdim=True)
    X = (X / power_near(X)).cpu().numpy()
    generator = np.random.default_rng(check_seed(seed) % 2**64)  # NumPy takes no negative one
    permuted = [_gram_spectrum(generator.permuted(X, axis=1)) for _ in range(permutations)]
    above = _gram_spectrum(X) > np.max(permuted, axis=0) * (1 + 1e-4)
    return int(above.cumprod().sum())


def _gram_spectrum(X: np.ndarray) -> np.ndarray:
    """Squares of the singular values, largest first, in the precision of X.

    Enough to compare the leading ones.
    """
    return np.linalg.eigvalsh(X @ X.T if len(X) <= X.shape[1] else X.T @ X)[::-1]
