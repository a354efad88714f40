"""What Zhang (2015) looks into: a trained network, images that it gets right, its layers' ends.

Convolutions are taken at the end of their pipeline of convolution, ReLU and pooling. Besides
`CifarAlexNet` there is torchvision's AlexNet, close to the study's CaffeNet (which normalizes
responses after the first two pools), for a folder of ImageNet images, where one is.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..blocks import check_count, check_seed, pick_device
from ..hooks import predict, record, visiting
from ..store import Stored
from ..watch import home_of
from .cache import cached
from .data import Dataset, Split
from .imagenet import find_images, in_random_order
from .training import correct, train

BATCH = 250  # images in one forward pass
ROOM = 6.0  # GB for computing with what is on disk, of Colab's 12
ALEXNET = {  # name on the page → module of torchvision's AlexNet
    "pool1": "features.2",
    "pool2": "features.5",
    "relu3": "features.7",
    "relu4": "features.9",
    "pool5": "features.12",
    "fc6": "classifier.2",
    "fc7": "classifier.5",
    "fc8": "classifier.6",
}


class Subject(NamedTuple):
    """A network and images it gets right; shows itself in words.

    All of it is on the CPU. Its methods take a GPU if there is one, and give what they find on the
    CPU.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> black = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
        >>> Subject(model, {"fc": "1"}, black, torch.zeros(4), ("a",), "a line on black")
        a line on black: 4 images, layers fc
    """

    model: nn.Module
    layers: dict[str, str]  #: name on the page → name of the module, in network order
    images: Tensor  #: uint8, images × 3 × height × width
    labels: Tensor  #: one integer for each image
    classes: tuple[str, ...]
    source: str  #: which network and images these are
    kept: Mapping[str, Tensor | Stored] | None = None  #: activations, by layer, if `recorded`

    def activations(self, layer: str) -> Tensor:
        """Φ of one layer, neurons × images, negative values kept.

        Returns:
            In units of activation, on the CPU.

        Raises:
            KeyError: for a layer it has not.

        Example:
            >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
            >>> black = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
            >>> subject = Subject(model, {"fc": "1"}, black, torch.zeros(4), ("a",), "a line")
            >>> subject.activations("fc").shape
            torch.Size([5, 4])
        """
        name = self.layers[layer]
        if self.kept is not None:
            return self.kept[layer][:]
        with _at_work(self.model, self.images):
            blocks = record(self.model, self.images, [name], negative="keep", batch_size=BATCH)
        return blocks[name]

    def recorded(self, store: str | os.PathLike | None = None) -> "Subject":
        """The same with the activations of all layers, found in one pass, for `activations` to give.

        Args:
            store: a folder on disk to keep them in, one that is not there yet; None keeps them in
                memory. A factorization takes what is in `kept` as its blocks.

        Raises:
            FileExistsError, OSError: for a folder that is there, or cannot be written.
            ValueError: for more than 8 GB in memory.

        Example:
            >>> import tempfile
            >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
            >>> black = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
            >>> subject = Subject(model, {"fc": "1"}, black, torch.zeros(4), ("a",), "a line")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     subject.recorded(f"{folder}/acts").activations("fc").shape
            torch.Size([5, 4])
        """
        how = {"negative": "keep", "batch_size": BATCH}
        names = list(self.layers.values())
        with _at_work(self.model, self.images):
            if store is None:
                found = record(self.model, self.images, names, **how)
            else:
                found = record(self.model, self.images, names, store=store, memory=ROOM, **how)
        return self._replace(kept={layer: found[name] for layer, name in self.layers.items()})

    def shape(self, layer: str) -> tuple[int, ...]:
        """Shape of one image's activations in a layer.

        Returns:
            (channels, height, width), or (neurons,).

        Raises:
            KeyError: for a layer it has not.

        Example:
            >>> model = nn.Conv2d(3, 8, 2)
            >>> black = torch.zeros(4, 3, 6, 5, dtype=torch.uint8)
            >>> Subject(model, {"conv": ""}, black, torch.zeros(4), ("a",), "edges").shape("conv")
            (8, 5, 4)
        """
        found = []
        module = self.model.get_submodule(self.layers[layer])
        hook = module.register_forward_hook(lambda module, inputs, output: found.append(output))
        try:
            predict(self.model, self.images[:1])
        finally:
            hook.remove()
        return tuple(found[0].shape[1:])

    def __repr__(self) -> str:
        return f"{self.source}: {len(self.images):,} images, layers {', '.join(self.layers)}"


def train_cifar(
    model: nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = 4
) -> nn.Module:
    """Train a `CifarAlexNet` with momentum 0.9, and keep the result on disk.

    For `epochs` at learning rate 0.02, then for one at 0.002.

    Args:
        model: changed in place where nothing was kept; use what is returned.
        images, labels: as for `train`.
        seed: of the order of images.
        epochs: before the last one.

    Returns:
        The trained network.

    Example:
        >>> import peeklib as pk
        >>> data = pk.load_dataset("cifar10")  # doctest: +SKIP
        >>> model = pk.models.CifarAlexNet(in_channels=3, seed=0)
        >>> model = pk.subjects.train_cifar(model, *data.train)  # doctest: +SKIP
    """
    fit = cached(train)
    model = fit(model, images, labels, seed=seed, epochs=epochs, lr=0.02, momentum=0.9).model
    return fit(model, images, labels, seed=seed + 1000, epochs=1, lr=0.002, momentum=0.9).model


def cifar(
    model: nn.Module, data: Dataset, *, count: int = 6000, only_correct: bool = True, seed: int = 0
) -> Subject:
    """A `CifarAlexNet` and random test images, by default of those that it classifies correctly.

    Args:
        model: the network.
        data: its data set.
        count: images at most.
        only_correct: as in the study; False takes any, as for a network that was not trained.
        seed: of the draw.

    Returns:
        The network, its images (uint8, images × 3 × height × width) and six layers.

    Raises:
        TypeError: for a count that is no whole number.
        ValueError: for one below 1, or if no image is classified correctly.

    Example:
        >>> import peeklib as pk
        >>> import torch
        >>> some = pk.Split(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), torch.arange(5))
        >>> black = pk.Dataset("black", some, some, classes=tuple("abcde"), source="made up")
        >>> subject = pk.subjects.cifar(pk.models.CifarAlexNet(3), black, only_correct=False)
        >>> subject
        CifarAlexNet on black: 5 images, layers pool1, pool2, relu3, relu4, pool5, fc
        >>> subject.shape("pool1")
        (64, 4, 4)
        >>> subject.activations("pool1").shape
        torch.Size([1024, 5])
    """
    check_count(count, "count")
    chosen = _choose(model, data.test, count, only_correct, seed)
    layers = {name: name for name in ("pool1", "pool2", "relu3", "relu4", "pool5", "fc")}
    return Subject(model, layers, *chosen, data.classes, f"CifarAlexNet on {data.name}")


def imagenet(
    folder: str | os.PathLike,
    *,
    count: int = 6000,
    weights="DEFAULT",
    only_correct: bool = True,
    store: str | os.PathLike | None = None,
    seed: int = 0,
) -> Subject:
    """torchvision's pretrained AlexNet and images of a folder `<folder>/<class>/<image>`.

    The folders of classes have WordNet numbers (n01440764) or the names that torchvision gives them
    ("goldfish"): all 1,000 or some, as in Imagenette. They may lie in folders of splits, of which
    `val` is read if it is there, else `test`, else `train`. The network begins with the
    normalization it was trained with, so that it takes images from 0 to 1.

    Args:
        folder: of images, such as ImageNet's validation set sorted by class, or Imagenette.
        count: images at most; each takes 150 kB, and its activations in the largest layer 260 kB.
        weights: for torchvision; None starts from random ones, for trying it out.
        only_correct, seed: as for `cifar`. Images are read, at random, until there are enough.
        store: of a folder on disk, for the activations of all layers: 800 kB an image. They are
            then found in one pass, and not again for each layer.

    Returns:
        The network, its images (uint8, images × 3 × 224 × 224) and eight layers.

    Raises:
        FileNotFoundError: without such a folder, or without images in it or in a class.
        FileExistsError: for a store that is there.
        TypeError: for a count that is no whole number.
        ValueError: for one below 1, class folders that it cannot name, files that are no images,
            or if no image is classified correctly.

    Example:
        >>> import peeklib as pk
        >>> subject = pk.subjects.imagenet("~/imagenette2/val", count=1000)  # doctest: +SKIP
    """
    from torchvision import models, transforms

    check_count(count, "count")
    prepare = models.AlexNet_Weights.DEFAULT.transforms()
    classes = tuple(models.AlexNet_Weights.DEFAULT.meta["categories"])
    files = find_images(folder, classes)
    size, cut = prepare.resize_size[0], prepare.crop_size[0]
    look = transforms.Compose(
        [transforms.Resize(size), transforms.CenterCrop(cut), transforms.PILToTensor()]
    )
    model = nn.Sequential(
        OrderedDict(
            normalize=transforms.Normalize(prepare.mean, prepare.std),
            net=models.alexnet(weights=weights).eval(),
        )
    )
    read = in_random_order(files, look, seed=seed, batch=BATCH)
    chosen = _first(model, read, min(count, len(files.files)), only_correct)
    layers = {name: f"net.{module}" for name, module in ALEXNET.items()}
    source = f"AlexNet of torchvision, {weights or 'random'} weights, on {Path(folder).name}"
    subject = Subject(model, layers, *chosen, classes, source)
    return subject if store is None else subject.recorded(store)


def _first(model: nn.Module, read: Iterable[Split], count: int, only_correct: bool) -> Split:
    """The first `count` images, of those that the model gets right or of all."""
    images = torch.empty(0, dtype=torch.uint8)
    labels = torch.empty(count, dtype=torch.int64)
    found = seen = 0
    for part in read:
        seen += len(part.labels)
        right = torch.ones(len(part.labels), dtype=torch.bool)
        if only_correct:
            with _at_work(model, part.images):
                right = correct(model, *part, batch_size=BATCH)
        if not len(images):
            images = torch.empty(count, *part.images.shape[1:], dtype=torch.uint8)
        kept = right.nonzero().flatten()[: count - found]
        images[found : found + len(kept)] = part.images[kept]
        labels[found : found + len(kept)] = part.labels[kept]
        found += len(kept)
        if found == count:
            break
    if not found:
        raise _none_right(seen)
    return Split(images[:found], labels[:found])


def _at_work(model: nn.Module, images: Tensor) -> AbstractContextManager[None]:
    """The model on a GPU for a while, if there is one."""
    return visiting(model, pick_device(None, home_of(model, images.device)))


def _choose(model: nn.Module, known: Split, count: int, only_correct: bool, seed: int) -> Split:
    """At most `count` random images, of those that the model gets right or of all."""
    images, labels = known
    kept = torch.arange(len(labels))
    if only_correct:
        with _at_work(model, images):
            kept = kept[correct(model, images, labels, batch_size=BATCH)]
    if not len(kept):
        raise _none_right(len(labels))
    generator = torch.Generator().manual_seed(check_seed(seed))
    kept = kept[torch.randperm(len(kept), generator=generator)[:count]]
    return Split(images[kept], labels[kept])


def _none_right(count: int) -> ValueError:
    return ValueError(f"none of {count} images is classified correctly; set only_correct=False")
