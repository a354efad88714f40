"""A block with few entries that are not zero, kept as those alone (compressed rows, of SciPy).

A factorization needs little of a block: products with it, and some rows or images of it at a time.
Those are all that there is here, and at no time is the whole block written out. Each entry takes
twice the memory that it takes in a dense block, and a product is computed on one thread: memory is
saved where more than half of a block is zero, and time where more than nine tenths are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def is_sparse(block) -> bool:
    """Whether a block is a sparse matrix or array of SciPy, or a sparse tensor of PyTorch.

    Example:
        >>> is_sparse(torch.eye(3).to_sparse()), is_sparse(torch.eye(3))
        (True, False)
    """
    if isinstance(block, Tensor):
        return block.layout in LAYOUTS and block.dense_dim() == 0
    return hasattr(block, "tocsr")


def entries(block) -> tuple[object, tuple[np.ndarray, np.ndarray]]:
    """The entries of what `is_sparse`, in no order.

    Returns:
        Their values, and the row and image of each.

    Example:
        >>> values, (rows, images) = entries(torch.tensor([[0.0, 0], [0, 5]]).to_sparse())
        >>> values, rows, images
        (tensor([5.]), array([1]), array([1]))
    """
    if isinstance(block, Tensor):
        block = block.detach().to_sparse_coo().coalesce()
        rows, images = block.indices().cpu().numpy()
        return block.values().cpu(), (rows, images)
    block = block.tocoo()
    return block.data, (block.row, block.col)


@dataclass(frozen=True)
class Sparse:
    """A sparse block, on the CPU; in what is the same, it looks like a tensor.

    Example:
        >>> block = Sparse.of(torch.tensor([5.0]), ([1], [1]), shape=(2, 3))
        >>> torch.ones(1, 2) @ block
        tensor([[0., 5., 0.]])
    """

    matrix: Any  #: a `scipy.sparse.csr_array`, features × images, of floats

    @classmethod
    def of(cls, values: Tensor, places, shape: tuple[int, int]) -> "Sparse":
        """From entries, features × images; what is at one place is added.

        Example:
            >>> len(Sparse.of(torch.tensor([5.0]), ([1], [1]), shape=(2, 3)))
            2
        """
        from scipy.sparse import csr_array  # takes long to import

        return cls(csr_array((values.numpy(), places), shape=shape))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Features, images."""
        features, images = self.matrix.shape
        return features, images

    @property
    def values(self) -> Tensor:
        """The entries that are kept, row by row."""
        return torch.from_numpy(self.matrix.data)

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def to(self, *, dtype: torch.dtype, device: torch.device) -> "Sparse":
        """In another precision, the same if it has it; it stays on the CPU.

        Example:
            >>> block = Sparse.of(torch.tensor([5.0]), ([1], [1]), shape=(2, 3))
            >>> block.to(dtype=torch.float64, device=torch.device("cpu")).dtype
            torch.float64
        """
        return self if dtype == self.dtype else Sparse(self.matrix.astype(str(dtype)[6:]))

    def __mul__(self, number: float) -> "Sparse":
        return Sparse(self.matrix * number)

    def any(self) -> bool:
        """Whether anything in it is not zero."""
        return bool(self.values.any())

    def aminmax(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest of its values and zero; NaN where one is NaN."""
        return torch.cat([self.values, self.values.new_zeros(1)]).aminmax()

    def places(self, is_bad: Callable[[Tensor], Tensor]) -> Tensor:
        """Where values are bad.

        Returns:
            Row and image of each, bad values × 2.

        Example:
            >>> block = Sparse.of(torch.tensor([5.0, -1]), ([0, 1], [1, 2]), shape=(2, 3))
            >>> block.places(lambda values: values < 0)
            tensor([[1, 2]])
        """
        _, (rows, images) = entries(self.matrix)
        bad = is_bad(self.values).numpy()
        return torch.from_numpy(np.stack([rows[bad], images[bad]], axis=1)).long()

    def __rmatmul__(self, V: Tensor) -> Tensor:  # k × features → k × images
        return torch.from_numpy(self.matrix.T @ V.T.numpy()).T

    def times(self, V: Tensor) -> Tensor:
        """The product with the images of each row of V.

        Args:
            V: k × images.

        Returns:
            k × features.

        Example:
            >>> block = Sparse.of(torch.tensor([5.0]), ([1], [1]), shape=(2, 3))
            >>> block.times(torch.ones(1, 3))
            tensor([[0., 5.]])
        """
        return torch.from_numpy(self.matrix @ V.T.numpy()).T

    def __getitem__(self, chosen) -> "Sparse":
        """Some rows, or [:, images]."""
        if isinstance(chosen, tuple):
            images = chosen[1]
            chosen = slice(None), images.numpy() if isinstance(images, Tensor) else images
        return Sparse(self.matrix[chosen])

    def dense(self) -> Tensor:
        """Written out; for parts of a block.

        Example:
            >>> Sparse.of(torch.tensor([5.0]), ([1], [1]), shape=(2, 3)).dense()
            tensor([[0., 0., 0.],
                    [0., 5., 0.]])
        """
        return torch.from_numpy(self.matrix.toarray())

    def split(self, count: int) -> Iterator[Tensor]:
        """Parts of `count` rows, in order, each written out.

        Example:
            >>> block = Sparse.of(torch.tensor([5.0]), ([1], [1]), shape=(3, 2))
            >>> [part.tolist() for part in block.split(2)]
            [[[0.0, 0.0], [0.0, 5.0]], [[0.0, 0.0]]]
        """
        for first in range(0, len(self), count):
            yield self[first : first + count].dense()
