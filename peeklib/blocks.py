"""Blocks, and the checks they pass before any work is done.

A *block* is a non-negative matrix with one column per image: `D_c`, pixels × images, for a channel
of the input, or `A_j`, neurons × images, for a layer. Blocks travel as a `dict[str, Tensor]` in
network order. Stacked on top of each other they are `X`, features × images; every fit works on `X`,
which is never written out: a product with the stack is made of products with its blocks.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype
from torch import Tensor

from .crew import each, enough
from .shares import Share, all_or_none
from .sparse import Sparse, entries, is_sparse
from .store import Stored, chunks, held, images_at_once

CHUNK = 1 << 17  # entries of a block that are worked on at a time where a temporary is needed
SAMPLED, WHOLE = 1 / 4, 1 / 2  # of the memory that blocks on disk may take, to be held in it
ORDINARY = -10, 20  # binary logarithms of the root mean square of an X that is used as it is
FAINTEST = 2.0**-27  # of ‖X‖: a share of it whose square float64 does not see beside 1
Block = Tensor | Sparse | Stored
WIDE = {"g": np.float64, "G": np.complex128}  # types that PyTorch has not → the nearest


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, PyTorch computes as it does where nobody has set anything.

    No autocast (a sum of squares in bfloat16 has two digits), no gradients, no inference mode
    (which other threads would not be in), and new tensors on the CPU, where generators are.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16), full_precision():
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    with ExitStack() as inside:
        inside.enter_context(torch.inference_mode(False))
        inside.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                inside.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            inside.enter_context(torch.device("cpu"))
        yield


def as_matrix(block, name: str = "block") -> Tensor:
    """A finite, non-empty float matrix, features × images, or an error that says what is wrong.

    Args:
        block: what `as_tensor` takes, of any sign.
        name: what to call it in an error.

    Returns:
        The block without its gradient, where it was; a tensor of float32 or float64 is not copied.

    Raises:
        TypeError: for what is no dense array of real numbers.
        ValueError: for a wrong shape, NaN, infinity or masked entries.

    Example:
        >>> as_matrix(torch.tensor([[1, 2], [3, -4]]))
        tensor([[ 1.,  2.],
                [ 3., -4.]])
    """
    block = as_tensor(block, name)
    _check_axes(block, name)
    _check_finite(block, name)
    return block


def as_block(block, name: str = "block") -> Block:
    """As `as_matrix`, for what takes a sparse block as it is.

    Args:
        block: what `as_tensor` takes, a sparse matrix of SciPy or PyTorch, or one of a store on
            disk; of any sign.
        name: what to call it in an error.

    Returns:
        A tensor where it was, a sparse block on the CPU, or the stored one.

    Raises:
        TypeError, ValueError: as `as_matrix`.

    Example:
        >>> as_block(torch.eye(3).to_sparse()).shape
        (3, 3)
    """
    if isinstance(block, Stored):
        return block  # which was checked when it was recorded
    if not is_sparse(block):
        return as_matrix(block, name)
    _check_axes(block, name)
    values, places = entries(block)
    found = Sparse.of(as_tensor(values, name), places, block.shape)
    _check_finite(found, name)
    return found


def _check_axes(block, name: str) -> None:
    shape = tuple(block.shape)
    if len(shape) != 2:
        raise ValueError(
            f"block {name!r} has shape {shape}; "
            "a block has two axes, features × images: "
            "flatten images or activations to one column each"
        )
    if not all(shape):
        raise ValueError(f"block {name!r} is empty: shape {shape}; drop it or record some images")


def _check_finite(block: Tensor | Sparse, name: str) -> None:
    lowest, highest = block.aminmax()  # a NaN anywhere makes both NaN
    if not (lowest.isfinite() and highest.isfinite()):
        remedy = "drop the images, or find the layer that diverged"
        bad = _places(block, lambda values: ~values.isfinite())
        _refuse(bad, name, "NaN or infinite values", remedy)


def _places(block: Tensor | Sparse, is_bad: Callable[[Tensor], Tensor]) -> Tensor:
    """Row and image of each bad value, bad values × 2."""
    return is_bad(block).nonzero() if isinstance(block, Tensor) else block.places(is_bad)


def as_tensor(block, name: str = "block") -> Tensor:
    """Real numbers, however they are kept, in a type that can be computed with.

    Args:
        block: a tensor, an array, a table (`pandas.DataFrame`), or anything that NumPy reads as an
            array.
        name: what to call it in an error.

    Returns:
        Numbers without a gradient, where they were: float32 and float64 as they are; half precision
        and less as float32; whole numbers as float32 too, or float64 where float32 cannot tell them
        apart (beyond 2²⁴).

    Raises:
        TypeError: for other kinds of values, or of containers: sparse, quantized, nested, a list.
        ValueError: for masked entries, or a tensor without values.

    Example:
        >>> as_tensor(np.array([[1, 2]])), as_tensor(torch.ones(1, 2, dtype=torch.float16))
        (tensor([[1., 2.]]), tensor([[1., 1.]]))
    """
    if not isinstance(block, Tensor):
        block = _from_array(_as_array(block, name), name)
    _check_tensor(block, name)
    block = block.detach()
    if block.dtype in (torch.float32, torch.float64):
        return block
    floats = block.float()
    if block.is_floating_point() or block.itemsize < 4 or not block.numel():
        return floats
    return block.double() if floats.abs().max() >= 2**24 else floats


def _as_array(block, name: str) -> np.ndarray:
    """What is no tensor as an array, of any type and shape."""
    if is_sparse(block):
        _refuse_sparse(name, block.shape, "toarray")
    if isinstance(block, pd.DataFrame):
        return _values(block, name)
    if isinstance(block, Mapping):
        kind = type(block).__name__
        raise TypeError(
            f"block {name!r} is a {kind} of blocks {list(block)}; give one of them, such as "
            f"{kind.lower()}[{next(iter(block), '…')!r}]"
        )
    if not hasattr(block, "__array__"):
        raise TypeError(
            f"block {name!r} is a {type(block).__name__}; give a tensor or array, features × images"
        )
    masked = np.ma.getmaskarray(block) if np.ma.is_masked(block) else np.zeros(1)
    if masked.any():
        remedy = "fill them (`.filled(0)`) or drop their images"
        places = torch.from_numpy(np.atleast_2d(masked)).nonzero()
        _refuse(places, name, "masked entries", remedy)
    return np.asarray(block)


def _values(table: pd.DataFrame, name: str) -> np.ndarray:
    """The numbers of a table, a missing one as NaN."""
    words = [column for column, kind in table.dtypes.items() if not is_numeric_dtype(kind)]
    if words:
        raise TypeError(
            f"block {name!r} is a table, and its columns {words[:5]} hold no numbers; drop them, "
            "and give one column for each image"
        )
    if all(isinstance(kind, np.dtype) for kind in table.dtypes):
        return table.to_numpy()
    return table.to_numpy(dtype=np.float64, na_value=np.nan)  # of types that pandas adds


def _from_array(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"block {name!r} is an array of {array.dtype}; give numbers, such as array.astype(float)"
        )
    kind = WIDE.get(array.dtype.char, array.dtype.newbyteorder("="))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        array = np.ascontiguousarray(array, kind)  # torch takes no negative strides
    with warnings.catch_warnings():  # of an array that cannot be written to; nobody does
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.as_tensor(array)


def _check_tensor(block: Tensor, name: str) -> None:
    """Whether a tensor holds real numbers in rows and columns."""
    if block.is_nested:
        raise TypeError(f"block {name!r} is a nested tensor; pad its parts to one length")
    if block.is_quantized:
        raise TypeError(f"block {name!r} is quantized; give block.dequantize()")
    if block.layout != torch.strided:
        _refuse_sparse(name, block.shape, "to_dense")
    if block.is_meta:
        raise ValueError(f"block {name!r} is on the meta device, where tensors have no values")
    if block.is_complex():
        raise TypeError(
            f"block {name!r} is complex; take its magnitude, "
            "or real and imaginary parts as two blocks"
        )


def _refuse_sparse(name: str, shape: Sequence[int], method: str) -> NoReturn:
    size = 4 * math.prod(shape) / 1e6
    raise TypeError(
        f"block {name!r} is sparse, {' × '.join(map(str, shape))}; every entry is computed with: "
        f"give block.{method}(), which takes {size:,.1f} MB in float32"
    )


def power_near(block: Block) -> float:
    """The power of two next above the largest entry; 1 for zeros.

    To divide by it and to multiply by it again rounds nothing, and squares of what is between can
    be summed, be the block in units of 10²⁰ or 10⁻²⁵.

    Args:
        block: finite, of any sign; float32 or float64.

    Returns:
        2⁻¹²⁰ … 2¹²⁰ in float32, and as far as it is safe in float64.

    Example:
        >>> power_near(torch.tensor([[3.0, -5.0]]))
        8.0
    """
    lowest, highest = block.aminmax()
    most = _exponent(torch.finfo(block.dtype).max) - 8
    return 2.0 ** _within(_exponent(max(-lowest.item(), highest.item())), most)


def check_count(value, name: str, most: float = math.inf, of: str = "", *, least: int = 1) -> int:
    """A count or a rank from `least` to `most`; the one check of them all.

    Args:
        value: what was given.
        name: what it is, for the message.
        most: the largest that can be.
        of: what there are `most` of.
        least: the smallest that can be.

    Returns:
        The number as an int, whatever type of whole number it had.

    Raises:
        TypeError: for anything but a whole number.
        ValueError: for one out of range.

    Example:
        >>> check_count(11, "rank", 10, "images")
        Traceback (most recent call last):
        ValueError: rank is 11; there are 10 images, so it lies between 1 and 10
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; it is a whole number")
    count = int(value)
    if count < least and most == math.inf:
        raise ValueError(f"{name} is {count}; it is at least {least}")
    if not least <= count <= most:
        raise ValueError(
            f"{name} is {count}; there are {most} {of}, so it lies between {least} and {most}"
        )
    return count


def check_seed(seed) -> int:
    """A seed as PyTorch's generators take it, of whatever type of whole number.

    Raises:
        TypeError: for anything but a whole number.
        ValueError: for one outside −2⁶³ … 2⁶⁴ − 1.

    Example:
        >>> check_seed(np.int64(3))
        3
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed is {seed!r}; it is a whole number")
    number = int(seed)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"seed is {number}; it lies between -2**63 and 2**64 - 1")
    return number


def as_labels(labels, count: int) -> Tensor:
    """One integer for each image, from what labels come as.

    Args:
        labels: whole numbers from 0 on, as a tensor, array, list or column of a table, of `count`
            entries or of the shape `count` × 1.
        count: of images.

    Returns:
        `count` integers (int64), where the labels were.

    Raises:
        TypeError: for labels that are no numbers.
        ValueError: for another shape, none, or numbers that are negative or not whole.

    Example:
        >>> as_labels(np.array([[2.0], [0.0]]), 2)  # a column of a CSV file
        tensor([2, 0])
    """
    if not isinstance(labels, Tensor):
        try:
            labels = torch.as_tensor(np.array(labels, order="C", ndmin=1))
        except (TypeError, ValueError) as why:
            raise TypeError(
                f"labels are a {type(labels).__name__} of no numbers; give for each image which of "
                "the network's outputs stands for its class: [classes.index(name) for name in names]"
            ) from why
    labels = labels.detach()
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not count or tuple(labels.shape) != (count,):
        raise ValueError(
            f"there are {count} images, and labels of shape {tuple(labels.shape)}; "
            "give one label for each image (for one-hot labels, their argmax(1))"
        )
    if labels.is_complex() or (labels.is_floating_point() and (labels % 1 != 0).any()):
        raise ValueError("labels are not whole numbers; give the number of a class for each image")
    if labels.min() < 0:
        raise ValueError(f"label {labels.min().item():g} is negative; labels count classes from 0")
    return labels.long()


def check_blocks(blocks: Mapping) -> dict[str, Block]:
    """Blocks that can be factorized together: finite, non-negative, of the same images.

    Returns:
        name → float matrix, features × images, in the order given; those that are sparse stay so.

    Raises:
        TypeError, ValueError: for blocks that cannot be factorized together; the message names the
            block, the place and a remedy.

    Example:
        >>> checked = check_blocks({"input": torch.ones(3, 6), "relu": torch.ones(4, 6).int()})
        >>> list(checked), checked["relu"].dtype
        (['input', 'relu'], torch.float32)
    """
    if not isinstance(blocks, Mapping):
        raise TypeError(f"blocks is a {type(blocks).__name__}; give {_instead(blocks)}")
    if not blocks:
        raise ValueError("there are no blocks to factorize; record at least one layer or the input")
    checked = {name: as_block(block, name) for name, block in blocks.items()}
    images = {name: block.shape[1] for name, block in checked.items()}
    if len(set(images.values())) > 1:
        raise ValueError(
            f"blocks differ in their number of images: {images}; record all from the same images"
        )
    for name, block in checked.items():
        lowest = block.aminmax()[0].item()
        if lowest < 0:
            remedy = (
                'record it with negative="clip" (set them to zero) '
                'or negative="split" (two blocks, one for each sign)'
            )
            if isinstance(block, Stored):
                raise ValueError(f"block {name!r} on disk goes down to {lowest:.3g}; {remedy}")
            bad = _places(block, lambda values: values < 0)
            _refuse(bad, name, "negative values", remedy)
    return checked


def _refuse(places: Tensor, name: str, what: str, remedy: str) -> NoReturn:
    feature, image = places[0].tolist()
    raise ValueError(
        f"block {name!r} has {what} "
        f"({len(places)} of them, first at row {feature}, image {image}); {remedy}"
    )


def _instead(blocks) -> str:
    """What to give for what is no dict of blocks."""
    if isinstance(blocks, Stored):
        return f"it with its name, {{{blocks.name!r}: block}}"
    if isinstance(blocks, str | os.PathLike):
        return f"what was recorded there, pk.open_store({str(blocks)!r})"
    return "a dict of name → matrix, features × images"


def check_weights(blocks: Mapping, weights: Mapping | None) -> dict[str, float]:
    """One positive weight for each block: all 1 when `weights` is None.

    Returns:
        name → weight, without unit, in the order of the blocks.

    Raises:
        TypeError, ValueError: for weights that are no numbers, not positive, or not those of the
            blocks.

    Example:
        >>> blocks = {"input": torch.ones(3, 6), "relu": torch.ones(4, 6)}
        >>> check_weights(blocks, {"relu": 2, "input": 1})
        {'input': 1.0, 'relu': 2.0}
    """
    if weights is None:
        return dict.fromkeys(blocks, 1.0)
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"weights is a {type(weights).__name__}; give a dict of block name → positive number"
        )
    if set(weights) != set(blocks):
        raise ValueError(
            f"weights name {sorted(weights)}, blocks are {sorted(blocks)}; "
            "give one weight for each block"
        )
    for name, weight in weights.items():
        if not (isinstance(weight, Real) and 0 < _float(weight) < math.inf):
            raise ValueError(
                f"weight of block {name!r} is {weight!r:.60}; weights are positive, finite numbers"
            )
    return {name: float(weights[name]) for name in blocks}


def _float(number: Real) -> float:
    """It, or infinity for a whole number too large for a float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Stack:
    """X: all blocks on top of each other, each times the square root of its weight.

    It multiplies from the right, `V @ X` and `V @ X.T`, block by block, so that the data is not
    copied; where blocks are on disk, some images at a time, so that it is never all in memory.
    Every size is computed with alike. Where the root mean square of X would lie outside
    `ORDINARY`, X is a power of two times that, with a root mean square near 1. A block whose share
    of X is too small to be seen in float64 counts as if it were `FAINTEST` of it, which changes
    nothing for the others. A block of very large or small numbers is kept in a unit of its own.

    Example:
        >>> X = stack({"input": torch.ones(3, 6)}, {"input": 4}, torch.device("cpu"))
        >>> torch.ones(1, 3) @ X  # the block counts twice: the root of its weight
        tensor([[6., 6., 6., 6., 6., 6.]])
        >>> X = stack({"input": torch.full((3, 6), 1e-30)}, None, torch.device("cpu"))
        >>> X.units["input"] == 2**-99, round(X.total_energy)  # of 18 entries near 1
        (True, 29)
    """

    blocks: dict[str, Block]  #: features × images, without weights, each in its unit
    rows: dict[str, slice]  #: of each block in X
    energy: dict[str, float]  #: ‖block‖² of all images, in the square of its unit, in float64
    weights: dict[str, float]  #: as they were given
    units: dict[str, float]  #: a power of two; 1 where numbers are of ordinary size
    multipliers: dict[str, float]  #: of each block, as it is kept, in X
    share: Share  #: of all images; with other processes, these are some of them

    @classmethod
    def of(cls, X: Tensor) -> "Stack":
        """X itself, as one block of that name, whatever its size.

        Example:
            >>> Stack.of(torch.ones(3, 6)).total_energy
            18.0
        """
        one = {"X": 1.0}
        rows, energy = {"X": slice(0, len(X))}, {"X": energy_of(X)}
        return cls({"X": X}, rows, energy, one, one, one, Share.whole(X.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Features, images; of the images, those that are here."""
        blocks = list(self.blocks.values())
        return sum(map(len, blocks)), blocks[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of all blocks."""
        return next(iter(self.blocks.values())).dtype

    @property
    def device(self) -> torch.device:
        """Of all blocks."""
        return next(iter(self.blocks.values())).device

    @property
    def total_energy(self) -> float:
        """‖X‖², in which weights are included."""
        return sum(self.multipliers[name] ** 2 * energy for name, energy in self.energy.items())

    @property
    def T(self) -> "_Turned":
        """Xᵀ, for products from the left."""
        return _Turned(self)

    @property
    def on_disk(self) -> dict[str, Stored]:
        """The blocks that are read as they are needed."""
        return {name: block for name, block in self.blocks.items() if isinstance(block, Stored)}

    @property
    def at_once(self) -> int:
        """How many images are in memory at a time: all, unless there are blocks on disk."""
        on_disk = list(self.on_disk.values())
        return min(images_at_once(on_disk), self.shape[1]) if on_disk else self.shape[1]

    @property
    def room(self) -> int:
        """How many numbers work on the stack may hold: as many as it has, or half the memory."""
        memory = [block.memory for block in self.on_disk.values()]
        if not memory:
            return self.shape[0] * self.share.images
        return int(min(memory) * 1e9 / 2 / self.dtype.itemsize)

    def chunks(self) -> Iterator[tuple[slice, "Stack"]]:
        """X in one piece; or where there are blocks on disk, read some images at a time.

        Yields:
            Which images, and the stack of them, whose blocks are overwritten once the next is asked
            for.

        Example:
            >>> X = stack({"input": torch.ones(3, 6)}, None, torch.device("cpu"))
            >>> [(images, part is X) for images, part in X.chunks()]
            [(slice(0, 6, None), True)]
        """
        on_disk = self.on_disk
        if not on_disk:
            yield slice(0, self.shape[1]), self
            return
        for images, found in chunks(list(on_disk.values()), self.at_once):
            read = dict(zip(on_disk, found, strict=True))
            parts = {}
            for name, block in self.blocks.items():
                parts[name] = read[name] if isinstance(block, Stored) else block[:, images]
            yield images, replace(self, blocks=parts)

    def pass_over(self, image_factor: Callable[["Stack", slice], Tensor]) -> Tensor:
        """F Xᵀ, for an F that may depend on X, in one pass over the data.

        Args:
            image_factor: takes a part of X, and which images that is; gives the columns of F for
                them, k × images.

        Returns:
            k × features.

        Example:
            >>> X = stack({"input": torch.ones(3, 6)}, None, torch.device("cpu"))
            >>> X.pass_over(lambda part, images: torch.ones(1, 3) @ part)
            tensor([[18., 18., 18.]])
        """
        total = None
        for images, part in self.chunks():
            product = part._onto_features(image_factor(part, images))
            total = product if total is None else total.add_(product)
        assert total is not None  # there are images
        return self.share.total(total)

    def _onto_features(self, V: Tensor) -> Tensor:  # k × images → k × features
        out = V.new_empty(len(V), self.shape[0])

        def multiply(features: slice) -> None:
            for name, rows in self.rows.items():
                start, stop = max(rows.start, features.start), min(rows.stop, features.stop)
                if start < stop:
                    block = self.blocks[name][start - rows.start : stop - rows.start]
                    product = block.times(V) if isinstance(block, Sparse) else V @ block.T
                    torch.mul(product, self.multipliers[name], out=out[:, start:stop])

        each(self.shape[0], multiply, least=enough(V.numel()))
        return out

    def __rmatmul__(self, V: Tensor) -> Tensor:  # k × features → k × images
        if self.on_disk:
            out = V.new_empty(len(V), self.shape[1])
            for images, part in self.chunks():
                out[:, images] = V @ part
            return out
        out = V.new_zeros(len(V), self.shape[1])
        dense = {name: block for name, block in self.blocks.items() if isinstance(block, Tensor)}

        def multiply(images: slice) -> None:
            for name, block in dense.items():
                part = V[:, self.rows[name]]
                out[:, images].addmm_(part, block[:, images], alpha=self.multipliers[name])

        each(self.shape[1], multiply, least=enough(V.numel()))
        for name, block in self.blocks.items():
            if isinstance(block, Sparse):
                out.add_(V[:, self.rows[name]] @ block, alpha=self.multipliers[name])
        return out

    def columns(self, images: Tensor) -> Tensor:
        """Some columns of X that are here, weights included, as rows.

        Returns:
            chosen images × features.

        Example:
            >>> X = stack({"input": torch.arange(6.0).reshape(2, 3)}, None, torch.device("cpu"))
            >>> X.columns(torch.tensor([2, 0]))
            tensor([[2., 5.],
                    [0., 3.]])
        """
        parts = []
        for name, block in self.blocks.items():
            part = block[:, images]
            columns = part.dense() if isinstance(part, Sparse) else part
            parts.append(columns.T * self.multipliers[name])
        return torch.cat(parts, dim=1)

    def take(self, images: Tensor) -> "Stack":
        """The stack of some images, by their places among those of all processes.

        Returns:
            A copy of their columns, in the order asked for, multiplied as here; where that leaves
            their root mean square outside `ORDINARY`, times a power of two.

        Example:
            >>> X = stack({"input": torch.arange(6.0).reshape(2, 3)}, None, torch.device("cpu"))
            >>> X.take(torch.tensor([2, 0])).blocks["input"]
            tensor([[2., 0.],
                    [5., 3.]])
        """
        own, share = self.share.mine(images), self.share.among(images)
        taken = {}
        for name, block in self.blocks.items():
            taken[name] = block.take(own) if isinstance(block, Stored) else block[:, own]
        taken = held(taken, SAMPLED)
        energies = share.sums([energy_of(block) for block in taken.values()])
        energy = dict(zip(taken, energies, strict=True))
        some = replace(self, blocks=taken, energy=energy, share=share)
        if not some.total_energy:
            return some
        count = len(images) * self.shape[0]
        power = 2.0 ** _shift(math.log2(some.total_energy / count) / 2)
        multipliers = {name: power * number for name, number in self.multipliers.items()}
        return replace(some, multipliers=multipliers)

    def split(self, W: Tensor) -> dict[str, Tensor]:
        """A stacked factor, features × rank, cut into those of the blocks.

        Returns:
            By block its rows, in the unit in which the block is kept, features of the block × rank.

        Example:
            >>> blocks = {"input": torch.ones(3, 6), "relu": torch.ones(4, 6)}
            >>> parts = stack(blocks, None, torch.device("cpu")).split(torch.ones(7, 2))
            >>> parts["input"].shape, parts["relu"].shape
            (torch.Size([3, 2]), torch.Size([4, 2]))
        """
        return {name: W[rows] / self.multipliers[name] for name, rows in self.rows.items()}

    def join(self, factors: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """The factors of blocks as one of X, whatever sizes meet.

        Args:
            factors: by block, in the unit of the data, features × rank.

        Returns:
            The factor, features × rank, in float64, in a unit that is a power of two, so that its
            largest entry is near 1; and the exponent of that.

        Example:
            >>> X = stack({"input": torch.ones(3, 6)}, {"input": 4}, torch.device("cpu"))
            >>> W, exponent = X.join({"input": torch.ones(3, 1)})
            >>> W.T * 2**exponent
            tensor([[2., 2., 2.]], dtype=torch.float64)
        """
        parts, exponents = [], []
        for name in self.rows:
            size = power_near(factors[name])
            share, exponent = math.frexp(self.multipliers[name])
            parts.append(factors[name].to(self.device).double() / size * share)
            exponents.append(exponent + _exponent(size) - _exponent(self.units[name]))
        own = [n for part, n in zip(parts, exponents, strict=True) if part.any()]
        top = max(own, default=0)
        scaled = [part * 2.0 ** min(n - top, 0) for part, n in zip(parts, exponents, strict=True)]
        return torch.cat(scaled), top

    def exponent_of(self, factors: Mapping[str, Tensor]) -> int:
        """Which power of two factors take over from F, so that all can be held.

        Args:
            factors: as from `split`, for an F whose entries are near 1.

        Returns:
            0, but for numbers at an end of what their type holds.

        Example:
            >>> X = stack({"input": torch.full((3, 6), 1e-40)}, None, torch.device("cpu"))
            >>> X.exponent_of({"input": torch.ones(3, 2)})  # 10⁻⁴⁰ has few digits
            7
        """
        limits, sizes = torch.finfo(self.dtype), []
        for name, W in factors.items():
            if W.any():
                sizes.append(_exponent(W.max().item()) + _exponent(self.units[name]) - 1)
        if not sizes:
            return 0
        missing = _exponent(limits.tiny) + 1 - min(sizes)
        return min(max(0, missing), _exponent(limits.max) - max(sizes))


def times_two_to(V: Tensor, exponent: int) -> Tensor:
    """V times a power of two that may be larger or smaller than its type can hold.

    Example:
        >>> times_two_to(torch.tensor([2.0**-100]), 200) == 2.0**100
        tensor([True])
    """
    most = _exponent(torch.finfo(V.dtype).max) - 8
    while exponent:
        step = _within(exponent, most)
        V, exponent = V * 2.0**step, exponent - step
    return V


class _Turned:
    """Xᵀ of a stack."""

    def __init__(self, stack: Stack):
        self.T = stack

    def __rmatmul__(self, V: Tensor) -> Tensor:  # k × images → k × features
        return self.T.pass_over(lambda _, images: V[:, images])


def stack(
    blocks: Mapping[str, Block],
    weights: Mapping | None,
    device: torch.device,
    *,
    faint: float = FAINTEST,
    share: Share | None = None,
) -> Stack:
    """One matrix on `device`, features × images, in float64 if all blocks are, else in float32.

    In float64 too where the sizes of blocks lie so far apart that float32 cannot hold all of their
    factors. A block that is there already, in that type and of ordinary size, is used as it is; one
    of extreme size is copied. Blocks on disk are read if half of their memory holds them, or else
    stay there. Where one is sparse, all are on the CPU.

    Args:
        blocks: that have passed `check_blocks`.
        weights: dict of name → positive number; None: all 1.
        device: where to compute.
        faint: the least share of ‖X‖ that a block counts for, unless it is zero.
        share: which images these are; None: all that there are.

    Returns:
        The blocks, their weights, and where each lies in X.

    Example:
        >>> blocks = {"input": torch.ones(3, 6), "relu": torch.ones(4, 6)}
        >>> X = stack(blocks, None, torch.device("cpu"))
        >>> X.shape, X.rows["relu"], (torch.ones(2, 7) @ X).shape
        ((7, 6), slice(3, 7, None), torch.Size([2, 6]))
    """
    weights = check_weights(blocks, weights)
    with all_or_none(share.group if share else None):
        blocks = held(blocks, WHOLE)
    if any(isinstance(block, Sparse) for block in blocks.values()):
        device = torch.device("cpu")
    share, kept = share or Share.whole(next(iter(blocks.values())).shape[1]), {}
    for name, block in blocks.items():
        kept[name] = _Kept.of(block.to(device=device, dtype=block.dtype), share)
    dtype = _common_type(list(kept.values()))
    kept = {name: own.to(dtype) for name, own in kept.items()}
    units, multipliers = _in_proportion(kept, weights, faint)
    return Stack(
        blocks={name: own.block for name, own in kept.items()},
        rows=_rows(blocks),
        energy={name: own.energy for name, own in kept.items()},
        weights=weights,
        units=units,
        multipliers=multipliers,
        share=share,
    )


@dataclass(frozen=True)
class _Kept:
    """A block in a unit in which its squares can be summed."""

    block: Block
    unit: float
    energy: float
    share: Share

    @classmethod
    def of(cls, block: Block, share: Share) -> "_Kept":
        """As it is, or else a copy that is not far from 1."""
        energy = _energy_of_all(block, share)
        if 2.0**-80 < energy < 2.0**80:
            return cls(block, 1.0, energy, share)
        unit = _power_near_all(block, share)
        if unit != 1:
            block = block * (1 / unit)
            rest = min(1.0, _power_near_all(block, share))  # of the smallest numbers there are
            block, unit = block * (1 / rest), unit * rest
        return cls(block, unit, _energy_of_all(block, share), share)

    @property
    def count(self) -> int:
        """Of entries, of all images."""
        return len(self.block) * self.share.images

    @property
    def norm(self) -> float:
        """The binary logarithm of ‖block‖ in the unit of the data; −∞ for zeros."""
        if not self.energy:
            return -math.inf
        return math.log2(self.energy) / 2 + math.log2(self.unit)

    @property
    def mean(self) -> float:
        """Likewise of the root mean square."""
        return self.norm - math.log2(self.count) / 2

    def to(self, dtype: torch.dtype) -> "_Kept":
        if dtype == self.block.dtype:
            return self
        block = self.block.to(dtype=dtype, device=self.block.device)
        return _Kept(block, self.unit, _energy_of_all(block, self.share), self.share)


def _energy_of_all(block: Block, share: Share) -> float:
    """`energy_of` the images of all processes; where one cannot read its own, all raise."""
    with all_or_none(share.group):
        own = energy_of(block)
    return share.sums([own])[0]


def _power_near_all(block: Block, share: Share) -> float:
    """`power_near` the entries of all processes."""
    return share.most(power_near(block) if block.any() else 0.0) or 1.0


def _common_type(kept: Sequence[_Kept]) -> torch.dtype:
    """The type in which all blocks, and factors of theirs, can be held."""
    if all(own.block.dtype == torch.float64 for own in kept):
        return torch.float64
    sizes = [own.mean for own in kept if own.energy] or [0.0]
    held = min(sizes) >= -150 and max(sizes) <= 128 and max(sizes) - min(sizes) <= 200
    return torch.float32 if held else torch.float64


def _in_proportion(
    kept: Mapping[str, _Kept], weights: Mapping[str, float], faint: float
) -> tuple[dict[str, float], dict[str, float]]:
    """By block its unit and its multiplier in X; see `Stack`."""
    sizes = {name: own.norm + math.log2(weights[name]) / 2 for name, own in kept.items()}
    loudest = max(sizes, key=lambda name: sizes[name])
    if sizes[loudest] == -math.inf:  # all are zero
        return dict.fromkeys(kept, 1.0), {name: weights[name] ** 0.5 for name in kept}
    share = sum(4.0 ** (size - sizes[loudest]) for size in sizes.values())
    whole = sizes[loudest] + math.log2(share) / 2  # of ‖X‖ the binary logarithm
    mean = whole - math.log2(sum(own.count for own in kept.values())) / 2
    shift = _shift(mean)
    least = whole + math.log2(faint) if faint else -math.inf
    units, multipliers = {}, {}
    for name, own in kept.items():
        lift = math.ceil(max(0, least - sizes[name] - 1e-6)) if own.energy else 0
        root, exponent = math.frexp(weights[name] ** 0.5)
        exponent += shift + lift
        units[name] = own.unit if own.energy else 2.0 ** -_within(exponent)
        multipliers[name] = math.ldexp(root, exponent + _exponent(units[name]) - 1)
    if faint:  # zeros stay zero whatever they are multiplied with
        for name, own in kept.items():
            if not own.energy:
                units[name], multipliers[name] = units[loudest], multipliers[loudest]
    return units, multipliers


def _shift(mean: float) -> int:
    """The exponent of what X is multiplied with, by the binary logarithm of its root mean square."""
    return 0 if ORDINARY[0] <= mean <= ORDINARY[1] else -round(mean)


def _exponent(number: float) -> int:
    """n, where 2ⁿ is the power of two next above it."""
    return math.frexp(number)[1]


def _within(exponent: int, most: int = 1000) -> int:
    """−most … most, so that a power of two and its inverse can be written."""
    return max(-most, min(exponent, most))


def _rows(blocks: Mapping[str, Block]) -> dict[str, slice]:
    """Of each block in the stack."""
    rows, first = {}, 0
    for name, block in blocks.items():
        rows[name] = slice(first, first + len(block))
        first += len(block)
    return rows


def check_not_zero(data: Stack) -> None:
    """Whether there is anything to factorize.

    Raises:
        ValueError: for zeros.

    Example:
        >>> check_not_zero(stack({"relu": torch.zeros(4, 6)}, None, torch.device("cpu")))
        Traceback (most recent call last):
        ValueError: every entry of ['relu'] is zero; there is nothing to factorize
    """
    if not any(data.energy.values()):
        raise ValueError(
            f"every entry of {list(data.blocks)} is zero; there is nothing to factorize"
        )


def energy_of(block: Block) -> float:
    """‖block‖² of a matrix, summed in float64, some rows at a time.

    Returns:
        In the square of the block's unit.

    Example:
        >>> energy_of(torch.tensor([[3.0, 4.0]]))
        25.0
    """
    if isinstance(block, Stored):
        energy = sum(energy_of(chunk.T) for _, chunk in block.chunks())
        if math.isnan(energy):
            raise ValueError(
                f"block {block.name!r} has NaN, unlike when it was recorded: {block.path}"
            )
        return energy
    return sum(_energy_of(part) for part in block.split(rows_at_once(block)))


def _energy_of(part: Tensor) -> float:
    return part.to(torch.float64, copy=True).square_().sum().item()


def rows_at_once(block: Block) -> int:
    """How many rows of a block make about `CHUNK` entries.

    Returns:
        1 or more.

    Example:
        >>> rows_at_once(torch.ones(1, 512)), rows_at_once(torch.ones(1, 2 * CHUNK))
        (256, 1)
    """
    return max(1, CHUNK // max(1, block.shape[1]))


def device_of(blocks: Mapping) -> torch.device:
    """The device of the first block, where results come back to.

    Returns:
        That of a tensor; the CPU for an array.

    Example:
        >>> device_of({"input": np.ones((3, 6)), "relu": torch.ones(4, 6)})
        device(type='cpu')
    """
    first = next(iter(blocks.values()))
    return first.device if isinstance(first, Tensor) else torch.device("cpu")


def pick_device(device, fallback: torch.device) -> torch.device:
    """Where to compute: the device asked for, or else a GPU if there is one.

    Returns:
        That device; `fallback` if none was asked for and there is no GPU.

    Raises:
        RuntimeError: for a CUDA device where PyTorch sees none.

    Example:
        >>> pick_device("cpu", fallback=torch.device("meta"))
        device(type='cpu')
    """
    if device is None:
        return torch.device("cuda") if torch.cuda.is_available() else fallback
    device = torch.device(device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(
            f"device {str(device)!r} was asked for, but PyTorch sees no GPU of that number; "
            'use device="cpu" or None'
        )
    return device
