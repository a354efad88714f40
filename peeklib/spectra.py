"""Singular values of a block and how many of them matter; two blocks compared by them; those of a convolution.

X and Y are blocks, features × images, with the same images in the same order. Comparing them centres every feature
over the images first. Sources stand at the functions.
"""

import numpy as np
import torch
from torch import Tensor

from .blocks import as_matrix
from .crew import crew, each, pieces


def spectrum(block: Tensor) -> Tensor:
    """Singular values of a block, largest first, min(features, images) of them, in float64 on its device.

    They come from the triangular factor of a QR decomposition (Chan 1982): several times faster than the long
    side itself, and nothing is squared, so that small singular values keep their accuracy.

    Args:
        block: features × images, of any sign.
    """
    X = as_matrix(block).double()
    with crew(X.device):
        return torch.linalg.svdvals(_triangular(X if len(X) >= X.shape[1] else X.T))


def _triangular(tall: Tensor) -> Tensor:
    """R of a QR decomposition: first of parts of the rows, each by itself, then of their R, one below the other.

    On several threads that is one large step, where LAPACK's own takes thousands (Demmel et al. 2012, section 3).
    """
    parts = pieces(len(tall), 2 * tall.shape[1])
    triangles = [tall] * len(parts)

    def some(chosen: slice) -> None:
        for k in range(len(parts))[chosen]:
            triangles[k] = torch.linalg.qr(tall[parts[k]], mode="r").R

    each(len(parts), some, least=1)
    return triangles[0] if len(parts) == 1 else torch.linalg.qr(torch.cat(triangles), mode="r").R


def effective_rank(block: Tensor) -> float:
    """Entropy rank exp(−Σ p log p) with p = σ / Σσ, between 1 and the rank (Roy & Vetterli 2007).

    Args:
        block: features × images, or its singular values if you have them.

    Raises:
        ValueError: for a block of zeros.
    """
    values = torch.as_tensor(block).double() if block.ndim == 1 else spectrum(block)
    if not ((values >= 0) & values.isfinite()).all():
        raise ValueError("singular values are never negative, infinite or NaN; some of these are")
    if not values.sum():
        raise ValueError("every entry of the block is zero; its entropy rank is not defined")
    p = values / values.sum()
    return torch.special.entr(p).sum().exp().item()


def cka(X: Tensor, Y: Tensor) -> float:
    """Linear centred kernel alignment of two blocks, from 0 to 1 (Kornblith et al. 2019, section 3).

    ‖X Yᵀ‖² / (‖X Xᵀ‖ ‖Y Yᵀ‖) with centred features. It stays the same if either block is rotated or scaled. The same
    sums are taken over images × images where there are fewer images than features. Products have the precision of
    the blocks.

    Args:
        X, Y: features × images; the numbers of features may differ.

    Raises:
        ValueError: for blocks with different numbers of images, or in which all images are alike.
    """
    X, Y = _centred(X, Y)
    if X.shape[1] < max(len(X), len(Y)):
        K, L = X.T @ X, Y.T @ Y  # images × images
        shared, own = (K * L).double().sum(), K.double().norm() * L.double().norm()
    else:
        shared = (X @ Y.T).double().square().sum()
        own = (X @ X.T).double().norm() * (Y @ Y.T).double().norm()
    return min(1.0, (shared / own).item())


def svcca(X: Tensor, Y: Tensor, *, share: float = 0.99) -> float:
    """Mean canonical correlation of the strongest directions of two blocks, from 0 to 1 (Raghu et al. 2017).

    Each centred block is cut to the fewest singular directions that hold `share` of its variance. The mean is over as
    many correlations as the smaller of the two has directions. With `share` 1 it is the mean of plain CCA, the same
    after any invertible map of the features. Few images make unrelated blocks look related: the value of a pair
    whose images are shuffled says how much.

    Args:
        X, Y: features × images; the numbers of features may differ.
        share: of the variance, the sum of squares; above 0, at most 1.

    Raises:
        ValueError: for blocks with different numbers of images, or in which all images are alike, or a bad share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it is above 0 and at most 1")
    U, V = (_directions(block.double(), share) for block in _centred(X, Y))
    return torch.linalg.svdvals(U.T @ V).clamp(max=1).mean().item()


def _centred(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Both blocks with the mean over the images taken off every feature."""
    blocks = {"X": as_matrix(X, "X"), "Y": as_matrix(Y, "Y")}
    images = {name: block.shape[1] for name, block in blocks.items()}
    if len(set(images.values())) > 1:
        raise ValueError(
            f"blocks differ in their number of images: {images}; record both from the same images"
        )
    for name, block in blocks.items():
        if (block == block[:, :1]).all():
            raise ValueError(
                f"block {name!r} is the same for all of its {images[name]} images; there is no variance"
            )
    blocks["Y"] = blocks["Y"].to(blocks["X"].device)
    X, Y = (
        block - block.mean(dim=1, keepdim=True, dtype=torch.float64).to(block.dtype)
        for block in blocks.values()
    )
    return X, Y


def _directions(X: Tensor, share: float) -> Tensor:
    """The fewest right singular vectors with `share` of the squares of X, images × directions; from the smaller Gram.

    Its eigenvalues are squares, and those that are rounding are left out.
    """
    wide = len(X) <= X.shape[1]
    energy, vectors = torch.linalg.eigh(X @ X.T if wide else X.T @ X)
    energy, vectors = energy.flip(0), vectors.flip(1)
    held = energy.clamp(min=0).cumsum(0) / energy.clamp(min=0).sum()
    sound = int((energy > max(X.shape) * torch.finfo(X.dtype).eps * energy[0]).sum())
    kept = slice(min(sound, int((held < share).sum()) + 1))
    return X.T @ (vectors[:, kept] / energy[kept].sqrt()) if wide else vectors[:, kept]


def conv_singular_values(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Singular values of a convolution, height × width × min(out, in), one set for each frequency, in float64.

    A convolution with stride 1 whose image wraps around at its edges is a matrix of one small block, out × in, for
    each frequency: the 2-D Fourier transform of the kernel (Sedghi, Gupta & Long 2019, theorem 6). All of them
    together are the singular values of the whole map. Without padding ("valid") the map leaves out the outputs that wrap
    around: some rows of that matrix, so no singular value of it is larger than the one here of the same rank.

    Args:
        weight: out × in × kernel height × kernel width, such as `model.conv1.weight`.
        size: height and width of the maps that go in.

    Raises:
        ValueError: for a weight of another shape, or a kernel larger than the maps.
    """
    if weight.ndim != 4:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; give out × in × kernel height × kernel width"
        )
    if any(kernel > side for kernel, side in zip(weight.shape[2:], size, strict=True)):
        raise ValueError(
            f"a kernel of {tuple(weight.shape[2:])} is larger than maps of {tuple(size)}"
        )
    frequencies = torch.fft.fft2(
        weight.detach().double(), s=tuple(size)
    )  # out × in × height × width
    return torch.linalg.svdvals(frequencies.permute(2, 3, 0, 1))


def parallel_analysis(block: Tensor, *, permutations: int = 19, seed: int = 0) -> int:
    """How many leading singular values exceed those of chance (Horn 1965).

    Every feature is centred over the images: what all images have in common does not count. Chance is the same block
    with every feature's values permuted over the images, by itself, so that features keep their variances and lose
    what they share. The k-th value is compared with the largest k-th of all permutations (19 of them: the 95 %
    quantile), up to the first that is not larger. With many more images than features this asks which directions
    are above the average, and says little where there are few features.

    Args:
        block: features × images, of any sign.
        permutations: how many.
        seed: of the permutations.
    """
    X = as_matrix(block)
    X = (X - X.mean(dim=1, keepdim=True)).cpu().numpy()
    draw = np.random.default_rng(seed)
    chance = np.max([_gram_spectrum(draw.permuted(X, axis=1)) for _ in range(permutations)], axis=0)
    return int((_gram_spectrum(X) > chance * (1 + 1e-4)).cumprod().sum())


def _gram_spectrum(X: np.ndarray) -> np.ndarray:
    """Squares of the singular values, largest first, in the precision of X: enough to compare the leading ones."""
    return np.linalg.eigvalsh(X @ X.T if len(X) <= X.shape[1] else X.T @ X)[::-1]
