"""Images in whatever form they come, and as blocks.

All of the package works on one form: a tensor, images × channels × height × width, uint8 (0 to 255)
or floats. `as_images` makes it from arrays, pictures, data sets and loaders.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from .store import MEMORY, Store, as_folder, check_memory, create, open_store

CHANNELS = (1, 3, 4)  # of grey, colour, and colour with a fourth
INPUT_NAMES = {1: ["input"], 3: ["input.red", "input.green", "input.blue"]}
KEYS = (
    "image",
    "images",
    "img",
    "pixel_values",
    "x",
    "input",
    "inputs",
)  # of a sample that is a dict
MOST = 8e9  # bytes that are read from a data set
MANY = 2000  # images of 4 MB each are as many
AT_ONCE = 500  # images
SIZES = re.compile("Sizes of tensors must match|expects each tensor to be equal size")  # PyTorch's


def as_images(images) -> Tensor:
    """Images as a tensor, from what they come as.

    Args:
        images: any of

            - a tensor, images × …, which is taken as it is (bytes without an axis of channels, as
              MNIST has them, get one);
            - an array: images × height × width, or with 1, 3 or 4 channels behind or in front of
              height and width;
            - a list of PIL images, arrays or tensors of one size;
            - a folder, with images of one size in it or in folders below;
            - a `torch.utils.data.Dataset` or `DataLoader`, read once from its beginning to its end,
              in the order of the data set even where the loader shuffles. Of a sample that is a
              tuple the first entry counts, of one that is a dict the entry called "image",
              "pixel_values" or the like. Labels are not used, with a warning.

    Returns:
        images × channels × height × width (or whatever axes the tensors have), uint8 or float.
        There is a warning where floats look like bytes that nobody has divided by 255.

    Raises:
        TypeError: for what no images can be made of.
        ValueError: for sizes that differ, an array whose axes could mean either, a loader that
            draws its images in a way of its own, or a data set that does not fit into 8 GB.

    Example:
        >>> as_images(np.zeros((5, 28, 28), dtype="uint8")).shape
        torch.Size([5, 1, 28, 28])
        >>> as_images(np.zeros((5, 32, 32, 3))).shape
        torch.Size([5, 3, 32, 32])
        >>> as_images(torch.utils.data.TensorDataset(torch.zeros(5, 3, 8, 8))).shape
        torch.Size([5, 3, 8, 8])
    """
    found = _as_tensor(images)
    _warn_of_bytes(found)
    return found


@contextmanager
def reading(images=None) -> Iterator[None]:
    """Inside, images are read; what cannot be is refused in words, and as soon as one can tell.

    Args:
        images: those that shall be in memory all at once; None: they are read batch by batch.

    Raises:
        ValueError: for images that differ in size, or a data set that is too large.

    Example:
        >>> loader = DataLoader([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)], batch_size=1)
        >>> with reading(loader):
        ...     as_images(loader).shape
        torch.Size([2, 3, 8, 8])
    """
    _check_room(images)
    try:
        yield
    except RuntimeError as why:
        if not SIZES.search(str(why)):
            raise
        _refuse_sizes(f" ({why})")


def check_alike(first: Tensor, batch: Tensor) -> None:
    """Images of a batch are as those of the first one.

    Raises:
        ValueError: if they differ in their size, or their channels.

    Example:
        >>> check_alike(torch.zeros(2, 3, 8, 8), torch.zeros(5, 3, 8, 8))
    """
    if batch.shape[1:] != first.shape[1:]:
        _refuse_sizes(f": there are {_size(first[0])} and {_size(batch[0])}")


def _refuse_sizes(how: str) -> NoReturn:
    raise ValueError(
        f"images differ in size{how}; bring them to one as they are read, such as by "
        "torchvision.transforms.Resize((224, 224)) in the data set"
    )


def _check_room(images) -> None:
    """Whether a large data set can be read, as one tells from its first sample."""
    source: Any = images
    if isinstance(images, DataLoader) and images.collate_fn is default_collate:
        source = images.dataset
    if isinstance(source, (DataLoader, IterableDataset)) or not is_read_by_sample(source):
        return
    count = count_of(images)
    if count is None or count < MANY:
        return
    size = _bytes(_image_of(source[0])) * count
    if size > MOST:
        raise ValueError(
            f"the data set is too large to be read: {count:,} images take {size / 1e9:.3g} GB, and "
            f"{MOST / 1e9:.0f} are the most; take some of them: torch.utils.data.Subset(dataset, "
            "range(1000)), or let record(…, store=path) and input_blocks(…, store=path) read them "
            "batch by batch"
        )


def _warn_of_bytes(found: Tensor) -> None:
    """Whether floats look like bytes that nobody has divided by 255."""
    if found.is_floating_point() and found.ndim == 4 and found.shape[1] in CHANNELS:
        low, high = found.aminmax() if found.numel() else (found.sum(), found.sum())
        if low >= 0 and 2 < high <= 255:
            warnings.warn(
                f"images are floats from {low:.3g} to {high:.3g}, and the network gets them so; if "
                "they were bytes, divide by 255 or give uint8",
                stacklevel=4,
            )


def in_batches(images, batch_size: int) -> Iterator[Tensor]:
    """Images in batches, none of them read from a data set or loader before it is asked for.

    Args:
        images: what `as_images` takes.
        batch_size: images in a batch at most; a loader has its own.

    Yields:
        images × …, as `as_images` gives them. Those of a loader or data set may differ in size from
        batch to batch.

    Raises:
        TypeError, ValueError: as `as_images`, but for the size of a data set.

    Example:
        >>> images = torch.utils.data.TensorDataset(torch.zeros(5, 3, 8, 8))
        >>> [len(batch) for batch in in_batches(images, 2)]
        [2, 2, 1]
    """
    with reading():
        for number, batch in enumerate(_batches(images, batch_size)):
            if not number:
                _warn_of_bytes(batch)
            yield batch


def _batches(images, batch_size: int) -> Iterator[Tensor]:
    if isinstance(images, DataLoader):
        for batch in _images_of(_in_order(images)):
            yield _as_tensor(batch)
    elif is_read_by_sample(images):
        ordered = isinstance(images, IterableDataset)
        samples = _images_of(images if ordered else (images[k] for k in range(len(images))))
        while several := list(islice(samples, batch_size)):
            yield _from_list(several)
    else:
        found = _as_tensor(images)
        yield from found.tensor_split(-(-len(found) // batch_size)) if len(found) else ()


def is_read_by_sample(images) -> bool:
    """Whether images are a data set or a loader, which need not be in memory all at once.

    Example:
        >>> is_read_by_sample(torch.zeros(5, 3, 8, 8)), is_read_by_sample(DataLoader([1]))
        (False, True)
    """
    in_memory = Tensor, np.ndarray, list, str, os.PathLike
    if isinstance(images, in_memory):
        return False
    return isinstance(images, (DataLoader, IterableDataset)) or _is_dataset(images)


def _as_tensor(images) -> Tensor:
    if isinstance(images, Tensor):
        if images.layout != torch.strided:
            raise TypeError("images are a sparse tensor; give images.to_dense()")
        images = images.detach().as_subclass(Tensor)
        if images.dtype == torch.uint8 and images.ndim == 3:
            _check_one_channel(images)
            return images[:, None]
        return images
    if isinstance(images, np.ndarray):
        return _from_array(images)
    if isinstance(images, list):
        return _from_list(images)
    if isinstance(images, (str, os.PathLike)):
        from .pictures import read_folder

        return read_folder(images)[0]
    if isinstance(images, DataLoader):
        return torch.cat([_as_tensor(batch) for batch in _read(_in_order(images))])
    if isinstance(images, IterableDataset):
        return _from_list(_read(images))
    if _is_dataset(images):
        return _from_list(_read(images[k] for k in range(len(images))))
    _refuse(images)


def count_of(images) -> int | None:
    """How many images a tensor, data set or loader has; None where nobody can tell beforehand.

    Example:
        >>> count_of(torch.zeros(5, 3, 8, 8)), count_of(DataLoader(range(7), batch_size=2))
        (5, 7)
    """
    source: Any = images
    if isinstance(images, DataLoader):
        is_stream = isinstance(images.dataset, IterableDataset)
        source = images.dataset if is_stream else _in_order(images).sampler
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None


def to_float(images: Tensor) -> Tensor:
    """Images as networks here take them: uint8 becomes float32 in [0, 1], floats pass through.

    Returns:
        A tensor of the same shape and device; floats are not copied.

    Raises:
        TypeError: for anything else.

    Example:
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    if isinstance(images, Tensor):
        if images.is_floating_point():
            return images
        if images.dtype == torch.uint8:
            return images.float() / 255
    _refuse(images)


@overload
def input_blocks(images, *, store: None = None, memory: float = MEMORY) -> dict[str, Tensor]: ...


@overload
def input_blocks(images, *, store: str | os.PathLike, memory: float = MEMORY) -> Store: ...


def input_blocks(
    images, *, store: str | os.PathLike | None = None, memory: float = MEMORY
) -> dict[str, Tensor] | Store:
    """The D_c: for each channel of the images one block, pixels × images.

    Args:
        images: images × channels × height × width, as a person would see them, before any
            normalization: uint8 (scaled to [0, 1]) or floats in [0, 1]; or what `as_images` takes.
        store: of a folder on disk to keep the blocks in, as that of `record`; images of a data set
            or loader are then read batch by batch. With that of a `record` it makes one set of
            blocks, `input_blocks(…) | record(…)`.
        memory: with `store`, GB (10⁹ bytes) that computing with it may take, see `open_store`.

    Returns:
        Blocks named "input" for one channel, "input.red" … for three, "input.0" … otherwise.

    Raises:
        TypeError, ValueError: for another shape, or values outside [0, 1].
        FileExistsError, OSError: for a `store` that is there, or cannot be written.

    Example:
        >>> blocks = input_blocks(torch.zeros(5, 3, 8, 8))
        >>> {name: tuple(block.shape) for name, block in blocks.items()}
        {'input.red': (64, 5), 'input.green': (64, 5), 'input.blue': (64, 5)}
    """
    if store is None:
        with reading(images):
            images = as_images(images)
        return _pixels(images)
    folder, memory = as_folder(store), check_memory(memory)
    _write_pixels(images, folder)
    return open_store(folder, memory=memory)


def _write_pixels(images, folder: Path) -> None:
    first = None
    with create(folder) as writer:
        for batch in in_batches(images, AT_ONCE):
            first = batch[:1] if first is None else first
            check_alike(first, batch)
            for name, block in _pixels(batch).items():
                writer.append(name, block.to(_type_on_disk(first)))
        if first is None:
            raise ValueError("there are no images")


def _type_on_disk(images: Tensor) -> torch.dtype:
    return torch.float64 if images.dtype == torch.float64 else torch.float32


def _pixels(images: Tensor) -> dict[str, Tensor]:
    """As `input_blocks`."""
    pixels = to_float(check_pictures(images))
    if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):  # a NaN fails both
        remedy = "give them as they were before normalization, and that as preprocess="
        if 2 < pixels.max() <= 255 and pixels.min() >= 0:
            remedy = "divide them by 255, or give uint8"
        raise ValueError(
            f"images run from {pixels.min():.3g} to {pixels.max():.3g}, not from 0 to 1; {remedy}"
        )
    channels = pixels.shape[1]
    names = INPUT_NAMES.get(channels, [f"input.{channel}" for channel in range(channels)])
    return {name: pixels[:, k].flatten(1).T.contiguous() for k, name in enumerate(names)}


def check_pictures(images: Tensor) -> Tensor:
    """Images that can be looked at, as they are.

    Raises:
        TypeError: for images that are neither bytes nor floats.
        ValueError: for another shape than images × channels × height × width.

    Example:
        >>> check_pictures(torch.zeros(5, 8, 3))
        Traceback (most recent call last):
        ValueError: images have shape (5, 8, 3); give images × channels × height × width
    """
    to_float(images[:0])
    if images.ndim != 4 or images.shape[1] > 4 >= images.shape[3]:  # the latter: channels last
        last = images.ndim == 4 and images.shape[3] in CHANNELS
        hint = ": images.permute(0, 3, 1, 2)" if last else ""
        raise ValueError(
            f"images have shape {tuple(images.shape)}; give images × channels × height × width{hint}"
        )
    return images


# Arrays


def _from_array(images: np.ndarray) -> Tensor:
    if isinstance(images, np.ma.MaskedArray):
        raise TypeError("images are a masked array; fill it in: images.filled(0)")
    if images.dtype.kind not in "fu" or images.dtype.kind == "u" and images.dtype.itemsize > 1:
        raise TypeError(
            f"images are a {images.dtype} array; give uint8 (0 to 255), images.astype('uint8'), "
            "or floats in [0, 1]"
        )
    if images.ndim == 3:
        _check_one_channel(images)
        images = images[:, None]
    elif images.ndim == 4:
        images = _channels_first(images)
    native = images.dtype.newbyteorder("=")  # torch takes no other, nor negative strides
    return torch.from_numpy(np.array(images, dtype=native, order="C"))


def _check_one_channel(images: Tensor | np.ndarray) -> None:
    """Three axes are images × height × width, unless the first or last may be the channels."""
    if images.shape[0] in (3, 4) or images.shape[2] in CHANNELS:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; if that is one image, give images[None], "
            "else images[:, None]"
        )


def _channels_first(images: np.ndarray) -> np.ndarray:
    """images × channels × height × width, from that or from images × height × width × channels."""
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if first and last and images.shape[1:] != (1, 1, 1):
        raise ValueError(
            f"images have shape {images.shape}, where the second axis or the last may be channels; "
            "give a tensor, images × channels × height × width: torch.from_numpy(images), with "
            ".permute(0, 3, 1, 2) if they are last"
        )
    return np.moveaxis(images, 3, 1) if last else images


# Pictures and samples


def _from_list(images: Sequence) -> Tensor:
    if not len(images):
        raise ValueError("there are no images")
    pillow = sys.modules.get("PIL.Image")  # who has a PIL image has imported it
    if pillow is not None and all(isinstance(image, pillow.Image) for image in images):
        return _from_pillow(images)
    return torch.stack(_alike([_picture(image) for image in images]))


def _from_pillow(images: Sequence) -> Tensor:
    from .pictures import combine, open_picture

    opened = [open_picture(image, f"image {number}") for number, image in enumerate(images)]
    combined, notes = combine(opened)
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return combined


def _picture(image) -> Tensor:
    """One image, channels × height × width (or whatever axes a tensor has)."""
    if isinstance(image, Tensor):
        image = image.detach().as_subclass(Tensor)
        return image[None] if image.dtype == torch.uint8 and image.ndim == 2 else image
    if isinstance(image, np.ndarray):
        return _from_array(image[None])[0]
    _refuse(image, "each image is")


def _alike(pictures: list[Tensor]) -> list[Tensor]:
    """Pictures of one size and one number of channels: grey ones among coloured get three."""
    channels = {len(picture) for picture in pictures if picture.ndim == 3}
    if channels == {1, 3}:
        pictures = [p.expand(3, *p.shape[1:]) if len(p) == 1 else p for p in pictures]
    for number, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            raise ValueError(
                f"images differ in size: image 0 is {_size(pictures[0])}, image {number} is "
                f"{_size(picture)}; bring them to one, such as "
                "[image.resize((224, 224)) for image in images]"
            )
    return pictures


def _size(picture: Tensor) -> str:
    return " × ".join(map(str, picture.shape))


def _in_order(loader: DataLoader) -> DataLoader:
    """A loader of the same data set from its beginning to its end."""
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    plain = loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler
    if isinstance(loader.dataset, IterableDataset) or (
        plain and type(sampler) is SequentialSampler
    ):
        return loader
    if not plain or type(sampler) is not RandomSampler:
        raise ValueError(
            f"this DataLoader draws its images by a {type(sampler).__name__}; give the images "
            "themselves: torch.utils.data.Subset(dataset, indices)"
        )
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size or 32,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )


def _read(samples: Iterable) -> list:
    """What the samples of a data set (or batches of them) hold of images."""
    images, size = [], 0
    for image in _images_of(samples):
        images.append(image)
        size += _bytes(image)
        if size > MOST:
            raise ValueError(
                f"the data set is too large to be read: {MOST / 1e9:.0f} GB after {len(images)} "
                "samples; take some of it: torch.utils.data.Subset(dataset, range(1000)), or let "
                "record(…, store=path) read it batch by batch"
            )
    if not images:
        raise ValueError("there are no images: the data set is empty")
    return images


def _images_of(samples: Iterable) -> Iterator:
    """The image, or batch of images, in each sample; there is one warning if there is more."""
    told = False
    for sample in samples:
        image = _image_of(sample)
        if not told and image is not sample and len(sample) > 1:
            told = True
            warnings.warn(
                "only the images of the data set are used; what comes with them, such as labels, "
                "is not",
                stacklevel=5,
            )
        yield image


def _bytes(image) -> int:
    if hasattr(image, "nbytes"):
        return image.nbytes
    width, height = getattr(image, "size", (0, 0))  # of a PIL image
    return 3 * width * height


def _is_dataset(images) -> bool:
    """Of PyTorch, or of another library and made like one: a length, and samples by number."""
    if isinstance(images, Dataset):
        return True
    other = (str, bytes, tuple, Mapping)
    like_one = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    return like_one and not isinstance(images, other) and not hasattr(images, "iloc")


def _image_of(sample):
    """The image, or batch of images, in a sample of a data set."""
    if isinstance(sample, Mapping):
        for key in KEYS:
            if key in sample:
                return sample[key]
        raise TypeError(
            f"samples of the data set are dicts of {list(sample)}, none of which is called "
            f"{KEYS[0]!r}; give the images: [sample[…] for sample in dataset]"
        )
    if isinstance(sample, (tuple, list)) and sample:
        return sample[0]
    return sample


def _refuse(images, what: str = "images are") -> NoReturn:
    kind = type(images).__name__
    if isinstance(images, Tensor):
        kind = f"{images.dtype} tensor"
    elif hasattr(images, "images"):
        kind += " (its images are in .images)"
    raise TypeError(
        f"{what} a {kind}; give a uint8 tensor (0 to 255) or a float one, an array, "
        "a list of PIL images, a folder, a Dataset or a DataLoader"
    )
