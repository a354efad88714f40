"""A zoo of small networks, trained well and badly on purpose: what label-free scores are judged by.

Three data sets × three architectures make nine environments. In each, networks depart from one base
recipe in one factor at a time, or in several; and a family of their own, on few images for many
epochs, has some of its training labels replaced at random.
"""

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from ..blocks import check_seed
from ..hooks import predict
from . import models
from .cache import gives_model
from .data import Dataset, Split, load_dataset, subset
from .training import accuracy, train

DATA = ("mnist", "digits", "cifar10")
ARCHITECTURES = {"mlp": models.MLP, "cnn": models.PaperCNN, "resnet": models.SmallResNet}
# The base recipe has the defaults of `Recipe`. Each network of the first family departs from it in
# one of these.
FACTORS = {
    "images": (100, 500, 2000),
    "classes": (2, 5),
    "sorting": (0.3, 0.5, 0.8),
    "epochs": (1, 2),
    "lr": (0.0005, 0.004),
    "width": (0.25, 2.0),
    "weight_decay": (0.003, 0.03),
}
NARROW = {"resnet": 0.5}  # 4 channels crash PyTorch 2.15 on the CPU ("double free"), 8 do not
COPIES = {"mlp": 2, "cnn": 2, "resnet": 1}  # seeds for each level of a factor; the last takes long
NOISE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
DEVELOPMENT = {"data": ("mnist", "digits"), "architecture": ("mlp", "cnn")}  # to tune scores on
PROBES = 500  # test images, without labels, that scores are computed from


@dataclass(frozen=True)
class Recipe:
    """How one network of the zoo is trained.

    Example:
        >>> import peeklib as pk
        >>> recipe = pk.zoo.Recipe("mnist", "cnn", factor="images", images=500)
        >>> recipe.name
        'mnist-cnn-images-500-10-0.0-5-0.02-1.0-0.0-0.0-0'
        >>> recipe.half
        'development'
    """

    data: str  #: name of the data set
    architecture: str  #: key of `ARCHITECTURES`
    #: What sets it apart from the base of its environment: "base" (nothing), a key of `FACTORS`,
    #: "several", "untrained", or "noise" (the second family).
    factor: str = "base"
    images: int = 10_000  #: training images, before classes are left out
    classes: int = 10  #: how many classes are trained
    #: 0: shuffled anew each epoch; 1: class after class; between: that far on the way.
    sorting: float = 0.0
    #: Passes, the last fifth at a tenth of the learning rate; 0 leaves the network untrained.
    epochs: int = 5
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
        """Either "development" or "test": there, no score was tuned on data and architecture."""
        tuned = all(getattr(self, key) in values for key, values in DEVELOPMENT.items())
        return "development" if tuned else "test"


def recipes() -> list[Recipe]:
    """The whole zoo, in the order it is trained.

    Returns:
        384 recipes, the costly architecture last.

    Example:
        >>> import peeklib as pk
        >>> len(pk.zoo.recipes())
        384
    """
    found = []
    environments = [(data, architecture) for architecture in ARCHITECTURES for data in DATA]
    for number, (data, architecture) in enumerate(environments):
        found.extend(_environment(data, architecture, number))
    return found


def _environment(data: str, architecture: str, number: int) -> Iterator[Recipe]:
    """The recipes for one data set and architecture; the number is the seed of what is drawn."""
    base = Recipe(data, architecture)
    for seed in range(3):
        yield replace(base, seed=seed)
    yield replace(base, factor="untrained", epochs=0)

    levels_of = _levels(architecture)
    for seed in range(COPIES[architecture]):
        for factor, levels in levels_of.items():
            for level in levels:
                yield replace(base, factor=factor, seed=seed, **{factor: level})

    generator = torch.Generator().manual_seed(number)
    for seed in range(2, 8):
        yield replace(base, factor="several", seed=seed, **_several(levels_of, generator))

    for share in NOISE:
        yield replace(base, factor="noise", images=1000, epochs=60, noise=share)


def _levels(architecture: str) -> dict[str, tuple]:
    """`FACTORS`, with the narrow width that the architecture can have."""
    narrow, *wide = FACTORS["width"]
    return FACTORS | {"width": (NARROW.get(architecture, narrow), *wide)}


def _several(levels_of: dict[str, tuple], generator: torch.Generator) -> dict:
    """A level of each factor, with even chances that it departs from the base."""
    chosen = {}
    for factor, levels in levels_of.items():
        departs = torch.randint(2, (1,), generator=generator)
        which = torch.randint(len(levels), (1,), generator=generator)
        if departs:
            chosen[factor] = levels[which]
    return chosen


@functools.cache
def dataset(name: str) -> Dataset:
    """A data set of the zoo, read once; `digits` is itself, not a stand-in.

    Returns:
        All of its training and test images.

    Example:
        >>> import peeklib as pk
        >>> pk.zoo.dataset("mnist") is pk.zoo.dataset("mnist")  # doctest: +SKIP
        True
    """
    return load_dataset(name)


def probe_images(data: str) -> Tensor:
    """`PROBES` test images of a data set, the same for every network.

    Returns:
        uint8, images × channels × height × width.

    Example:
        >>> import peeklib as pk
        >>> pk.zoo.probe_images("mnist").shape  # doctest: +SKIP
        torch.Size([500, 1, 28, 28])
    """
    images = dataset(data).test.images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:PROBES]]


def build(recipe: Recipe) -> nn.Module:
    """The network of a recipe before training.

    Returns:
        A model with its first weights, on the CPU.

    Example:
        >>> import peeklib as pk
        >>> model = pk.zoo.build(pk.zoo.Recipe("mnist", "mlp", width=0.25))  # doctest: +SKIP
        >>> model.fc1  # doctest: +SKIP
        Linear(in_features=784, out_features=32, bias=True)
    """
    _, channels, size, _ = dataset(recipe.data).train.images.shape
    kind = ARCHITECTURES[recipe.architecture]
    return kind(in_channels=channels, size=size, width=recipe.width, seed=recipe.seed)


def training_set(recipe: Recipe) -> Split:
    """What a recipe trains on, in its order.

    Returns:
        Images (uint8, images × channels × height × width) and labels, noise included.

    Example:
        >>> import peeklib as pk
        >>> recipe = pk.zoo.Recipe("mnist", "cnn", images=500)
        >>> images, labels = pk.zoo.training_set(recipe)  # doctest: +SKIP
        >>> images.shape  # doctest: +SKIP
        torch.Size([500, 1, 28, 28])
    """
    data = dataset(recipe.data)
    count = len(data.classes)
    generator = torch.Generator().manual_seed(check_seed(recipe.seed))
    classes = torch.randperm(count, generator=generator)
    images, labels = subset(
        data,
        fraction=recipe.images / len(data.train.labels),
        classes=classes[: recipe.classes].tolist(),
        seed=recipe.seed,
    )
    chance, place = torch.rand(2, len(labels), generator=generator)
    anything = torch.randint(count, (len(labels),), generator=generator)
    given = torch.where(chance < recipe.noise, anything, labels)
    turn = classes.argsort()[labels] / count  # of each image's class, 0 … 1
    order = ((1 - recipe.sorting) * place + recipe.sorting * turn).argsort(stable=True)
    return Split(images[order], given[order])


@gives_model(build)
def rear(recipe: Recipe) -> tuple[nn.Module, dict]:
    """Train the network of a recipe.

    Returns:
        The network, on the CPU, and what labels say of it: `accuracy` on all test images,
        `train_accuracy` and `train_loss` (mean cross-entropy) on its own training set with the
        labels it was given.

    Example:
        >>> import peeklib as pk
        >>> recipe = pk.zoo.Recipe("mnist", "cnn", images=500)
        >>> model, facts = pk.zoo.rear(recipe)  # doctest: +SKIP
        >>> list(facts)  # doctest: +SKIP
        ['accuracy', 'train_accuracy', 'train_loss']
    """
    model = build(recipe)
    part = training_set(recipe)
    last = recipe.epochs // 5
    for epochs, lr in ((recipe.epochs - last, recipe.lr), (last, recipe.lr / 10)):
        if epochs:
            train(
                model,
                *part,
                seed=recipe.seed,
                epochs=epochs,
                shuffle=recipe.sorting == 0,
                lr=lr,
                momentum=0.9,
                weight_decay=recipe.weight_decay,
            )
    model.eval()
    outputs = predict(model, part.images)
    return model, {
        "accuracy": accuracy(model, *dataset(recipe.data).test),
        "train_accuracy": accuracy(model, *part),
        "train_loss": nn.functional.cross_entropy(outputs, part.labels).item(),
    }


def find(table: pd.DataFrame, recipe: Recipe) -> pd.Series:
    """The row of a recipe in a table that has its fields as columns, such as that of the evidence.

    Returns:
        The row, by column.

    Raises:
        KeyError: if it is not there, or there twice.

    Example:
        >>> import peeklib as pk
        >>> row = pk.zoo.find(pk.evidence.table("zoo"), pk.zoo.Recipe("mnist", "cnn"))
        >>> bool(row.accuracy > 0.9)
        True
    """
    wanted = asdict(recipe)
    rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    if len(rows) != 1:
        raise KeyError(f"the table has {len(rows)} rows for {recipe}")
    return rows.iloc[0]
