"""What Zhang (2015) looks into: a trained network, images that it gets right, and the ends of its layers.

Convolutions are taken at the end of their pipeline of convolution, ReLU and pooling. Besides `CifarAlexNet` there is
torchvision's AlexNet, close to the study's CaffeNet (which normalizes responses after the first two pools), for a folder
of ImageNet images, where one is.
"""

import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..blocks import pick_device
from ..hooks import home_of, record, visiting
from .cache import cached
from .data import Dataset
from .training import correct, train


class Subject(NamedTuple):
    """A network and images it gets right; shows itself in words.

    All of it is on the CPU. Its methods take a GPU if there is one, and give what they find on the CPU.
    """

    model: nn.Module
    layers: dict[str, str]  #: name on the page → name of the module, in network order
    images: Tensor  #: uint8, images × 3 × height × width
    labels: Tensor  #: one integer for each image
    classes: tuple[str, ...]
    source: str  #: which network and images these are

    def activations(self, layer: str) -> Tensor:
        """Φ of one layer, neurons × images, negative values kept; KeyError for a layer it has not."""
        name = self.layers[layer]
        with _at_work(self.model, self.images):
            return record(self.model, self.images, [name], negative="keep", batch_size=250)[name]

    def shape(self, layer: str) -> tuple[int, ...]:
        """Of one image's activations: channels, height and width, or neurons alone."""
        found = []
        hook = self.model.get_submodule(self.layers[layer]).register_forward_hook(
            lambda *args: found.append(args[2])
        )
        try:
            correct(self.model, self.images[:1], self.labels[:1])
        finally:
            hook.remove()
        return tuple(found[0].shape[1:])

    def __repr__(self):
        return f"{self.source}: {len(self.images):,} images, layers {', '.join(self.layers)}"


def train_cifar(
    model: nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = 4
) -> nn.Module:
    """`model` trained for `epochs` at learning rate 0.02, then for one at 0.002, with momentum 0.9; results are cached.

    Args:
        model: changed in place where nothing was cached; use what is returned.
        images, labels: as for `train`.
        seed: of the order of images.
        epochs: before the last one.
    """
    fit = cached(train)
    model = fit(model, images, labels, seed=seed, epochs=epochs, lr=0.02, momentum=0.9).model
    return fit(model, images, labels, seed=seed + 1000, epochs=1, lr=0.002, momentum=0.9).model


def cifar(
    model: nn.Module, data: Dataset, *, count: int = 6000, only_correct: bool = True, seed: int = 0
) -> Subject:
    """A `CifarAlexNet` and at most `count` random test images, by default of those that it classifies correctly.

    Args:
        model: the network.
        data: its data set.
        count: images at most.
        only_correct: as in the study; False takes any, as for a network that was not trained.
        seed: of the draw.

    Raises:
        ValueError: if no image is classified correctly.
    """
    layers = {name: name for name in ("pool1", "pool2", "relu3", "relu4", "pool5", "fc")}
    return _choose(
        model,
        layers,
        *data.test,
        data.classes,
        f"CifarAlexNet on {data.name}",
        count,
        only_correct,
        seed,
    )


def imagenet(
    folder: str | os.PathLike,
    *,
    count: int = 6000,
    weights="DEFAULT",
    only_correct: bool = True,
    seed: int = 0,
) -> Subject:
    """torchvision's pretrained AlexNet and at most `count` images of a folder `<folder>/<class>/<image>`.

    The class folders are all 1,000 under their WordNet numbers, or some, named as torchvision does ("goldfish").
    The network begins with the normalization it was trained with, so that it takes images from 0 to 1.

    Args:
        folder: of images, such as the validation set sorted by class.
        count: images at most; each takes 150 kB, and its activations in the largest layer 260 kB.
        weights: for torchvision; None starts from random ones, for trying it out.
        only_correct, seed: as for `cifar`.

    Raises:
        FileNotFoundError: without such a folder, or without images in it.
        ValueError: for class folders that it cannot name, or if no image is classified correctly.
    """
    from torchvision import datasets, models, transforms

    known = models.AlexNet_Weights.DEFAULT
    prepare, classes = known.transforms(), tuple(known.meta["categories"])
    look = [transforms.Resize(prepare.resize_size[0]), transforms.CenterCrop(prepare.crop_size[0])]
    files = datasets.ImageFolder(
        Path(folder).expanduser(), transforms.Compose([*look, transforms.PILToTensor()])
    )
    named = _class_numbers(files.classes, classes)
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(files), generator=draw)[
        : 2 * count if only_correct else count
    ].tolist()
    images = torch.stack([files[k][0] for k in chosen])
    labels = torch.tensor([named[files.targets[k]] for k in chosen])
    model = nn.Sequential(
        OrderedDict(
            normalize=transforms.Normalize(prepare.mean, prepare.std),
            net=models.alexnet(weights=weights).eval(),
        )
    )
    ends = {
        "pool1": "features.2",
        "pool2": "features.5",
        "relu3": "features.7",
        "relu4": "features.9",
    }
    ends |= {
        "pool5": "features.12",
        "fc6": "classifier.2",
        "fc7": "classifier.5",
        "fc8": "classifier.6",
    }
    layers = {name: f"net.{module}" for name, module in ends.items()}
    source = f"AlexNet of torchvision, {weights or 'random'} weights, on {Path(folder).name}"
    return _choose(model, layers, images, labels, classes, source, count, only_correct, seed)


def _class_numbers(folders: list[str], classes: tuple[str, ...]) -> list[int]:
    """The class of each folder: by its name, or by its place if all are there under WordNet numbers, which sort so."""
    unknown = [name for name in folders if name not in classes]
    if len(folders) == len(classes) and all(re.fullmatch(r"n\d{8}", name) for name in folders):
        return list(range(len(classes)))
    if unknown:
        raise ValueError(
            f"{len(folders)} class folders, and {unknown[:3]} are no names of classes; give all {len(classes)} by their WordNet "
            f"numbers (n01440764 …), or name each as torchvision does, such as {classes[1]!r}"
        )
    return [classes.index(name) for name in folders]


def _at_work(model: nn.Module, images: Tensor):
    """The model on a GPU for a while, if there is one."""
    return visiting(model, pick_device(None, home_of(model, images.device)))


def _choose(model, layers, images, labels, classes, source, count, only_correct, seed) -> Subject:
    kept = torch.ones(len(labels), dtype=torch.bool)
    if only_correct:
        with _at_work(model, images):
            kept = correct(model, images, labels, batch_size=250)
    kept = kept.nonzero().flatten()
    if not len(kept):
        raise ValueError(
            f"{source}: none of {len(labels)} images is classified correctly; set only_correct=False"
        )
    kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))[:count]]
    return Subject(model, layers, images[kept], labels[kept], classes, source)
