"""A zoo of small networks, trained well and badly on purpose: what label-free scores are judged by.

Three data sets × three architectures make nine environments. In each, networks depart from one base recipe in one
factor at a time, or in several; and a family of their own, on few images for many epochs, has some of its training
labels replaced at random.
"""

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from ..hooks import predict
from . import models
from .cache import gives_model
from .data import Dataset, Split, load_dataset, subset
from .training import accuracy, train

DATA = ("mnist", "digits", "cifar10")
ARCHITECTURES = {"mlp": models.MLP, "cnn": models.PaperCNN, "resnet": models.SmallResNet}
FACTORS = {  # the base recipe has the defaults of `Recipe`; each network of the first family departs in one of these
    "images": (100, 500, 2000),
    "classes": (2, 5),
    "sorting": (0.3, 0.5, 0.8),
    "epochs": (1, 2),
    "lr": (0.0005, 0.004),
    "width": (0.25, 2.0),
    "weight_decay": (0.003, 0.03),
}
NARROW = {"resnet": 0.5}  # 4 channels crash PyTorch 2.15 on the CPU ("double free"), 8 do not
COPIES = {
    "mlp": 2,
    "cnn": 2,
    "resnet": 1,
}  # seeds for each level of a factor; residual networks take longest
NOISE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
DEVELOPMENT = {
    "data": ("mnist", "digits"),
    "architecture": ("mlp", "cnn"),
}  # where scores may be tuned
PROBES = 500  # test images, without labels, that scores are computed from


@dataclass(frozen=True)
class Recipe:
    """How one network of the zoo is trained; `factor` says what sets it apart from the base of its environment."""

    data: str  #: name of the data set
    architecture: str  #: key of `ARCHITECTURES`
    factor: str = (
        "base"  #: "base", a key of `FACTORS`, "several", "untrained", or "noise": the second family
    )
    images: int = 10_000  #: training images, before classes are left out
    classes: int = 10  #: how many classes are trained
    sorting: float = (
        0.0  #: 0: shuffled anew each epoch; 1: class after class; between: that far on the way
    )
    epochs: int = 5  #: passes, the last fifth of them at a tenth of the learning rate; 0 leaves the network untrained
    lr: float = 0.02  #: learning rate of SGD with momentum 0.9 and batches of 64
    width: float = 1.0  #: multiplies the channels or hidden neurons
    weight_decay: float = 0.0  #: of SGD
    noise: float = 0.0  #: share of the training labels replaced by random ones
    seed: int = 0  #: of weights, images, classes, noise and order

    @property
    def name(self) -> str:
        """All of it in one word, fit for a file name."""
        return "-".join(str(value) for value in asdict(self).values())

    @property
    def half(self) -> str:
        """Either "development", or "test": no score was tuned on its data set and architecture together."""
        return (
            "development"
            if all(getattr(self, key) in some for key, some in DEVELOPMENT.items())
            else "test"
        )


def recipes() -> list[Recipe]:
    """The whole zoo, in the order it is trained: the costly architecture last."""
    environments = [(data, architecture) for architecture in ARCHITECTURES for data in DATA]
    return [
        recipe for number, pair in enumerate(environments) for recipe in _environment(*pair, number)
    ]


def _environment(data: str, architecture: str, number: int) -> Iterator[Recipe]:
    base = Recipe(data, architecture)
    yield from (replace(base, seed=seed) for seed in range(3))
    yield replace(base, factor="untrained", epochs=0)
    for seed in range(COPIES[architecture]):
        for factor, levels in _levels(architecture).items():
            yield from (
                replace(base, factor=factor, seed=seed, **{factor: level}) for level in levels
            )
    draw = torch.Generator().manual_seed(number)
    for seed in range(2, 8):
        yield replace(base, factor="several", seed=seed, **_several(_levels(architecture), draw))
    few = replace(base, factor="noise", images=1000, epochs=60)
    yield from (replace(few, noise=share) for share in NOISE)


def _levels(architecture: str) -> dict[str, tuple]:
    """`FACTORS`, with the narrow width that the architecture can have."""
    narrow, *wide = FACTORS["width"]
    return FACTORS | {"width": (NARROW.get(architecture, narrow), *wide)}


def _several(levels_of: dict[str, tuple], draw: torch.Generator) -> dict:
    """A level of each factor, with even chances that it departs from the base."""
    chosen = {}
    for factor, levels in levels_of.items():
        departs, which = (
            torch.randint(2, (1,), generator=draw),
            torch.randint(len(levels), (1,), generator=draw),
        )
        if departs:
            chosen[factor] = levels[which]
    return chosen


@functools.cache
def dataset(name: str) -> Dataset:
    """A data set of the zoo, read once; `digits` is itself, not a stand-in."""
    return load_dataset(name)


def probe_images(data: str) -> Tensor:
    """`PROBES` test images, the same for every network, uint8."""
    images = dataset(data).test.images
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:PROBES]]


def build(recipe: Recipe) -> nn.Module:
    """The network of a recipe before training."""
    _, channels, size, _ = dataset(recipe.data).train.images.shape
    kind = ARCHITECTURES[recipe.architecture]
    return kind(in_channels=channels, size=size, width=recipe.width, seed=recipe.seed)


def training_set(recipe: Recipe) -> Split:
    """The images and labels that a recipe trains on, in their order, noise included."""
    data, draw = dataset(recipe.data), torch.Generator().manual_seed(recipe.seed)
    classes = torch.randperm(len(data.classes), generator=draw)
    fraction = recipe.images / len(data.train.labels)
    images, labels = subset(
        data, fraction=fraction, classes=classes[: recipe.classes].tolist(), seed=recipe.seed
    )
    wrong, place = torch.rand(2, len(labels), generator=draw)
    anything = torch.randint(len(data.classes), (len(labels),), generator=draw)
    turn = classes.argsort()[labels] / len(classes)  # of each image's class, 0 … 1
    order = ((1 - recipe.sorting) * place + recipe.sorting * turn).argsort(stable=True)
    return Split(images[order], torch.where(wrong < recipe.noise, anything, labels)[order])


@gives_model(build)
def rear(recipe: Recipe) -> tuple[nn.Module, dict]:
    """Train the network of a recipe: the network, on the CPU, and what labels say of it.

    The facts: `accuracy` on all test images, `train_accuracy` and `train_loss` (mean cross-entropy) on its own
    training set with the labels it was given.
    """
    model, part = build(recipe), training_set(recipe)
    last = recipe.epochs // 5
    for epochs, lr in ((recipe.epochs - last, recipe.lr), (last, recipe.lr / 10)):
        if epochs:
            how = {"epochs": epochs, "lr": lr, "momentum": 0.9, "weight_decay": recipe.weight_decay}
            train(model, *part, seed=recipe.seed, shuffle=not recipe.sorting, **how)
    model.eval()
    return model, {
        "accuracy": accuracy(model, *dataset(recipe.data).test),
        "train_accuracy": accuracy(model, *part),
        "train_loss": _loss(model, *part),
    }


def find(table: pd.DataFrame, recipe: Recipe) -> pd.Series:
    """The row of a recipe in a table that has its fields as columns, such as `evidence.table("zoo")`.

    Raises:
        KeyError: if it is not there, or there twice.
    """
    wanted = asdict(recipe)
    rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    if len(rows) != 1:
        raise KeyError(f"the table has {len(rows)} rows for {recipe}")
    return rows.iloc[0]


def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return nn.functional.cross_entropy(predict(model, images), labels).item()
