"""Saini and Papalexakis's network on MNIST: their three case studies, and what controls for them.

A *setting* says on which images a network was trained, and in what order. `case(data, "25%", 0)` is
one network and all that is found in it; whatever takes long is computed when it is first asked for,
and kept on disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

import peeklib as pk

from ...blocks import check_seed
from ..training import correct
from .common import FIT, entropy_rank, load, size

RANKS = (10, 20, 30, 40, 50)
FRACTIONS = {"25%": 0.25, "50%": 0.5, "75%": 0.75, "100%": 1.0}
CLASSES = {"{0}": [0], "{0–4}": range(5), "{5–9}": range(5, 10)}
ORDER = (9, *range(9))
STUDIES = {  # of the three case studies, and the network that was never trained
    "data": tuple(FRACTIONS),
    "classes": tuple(CLASSES),
    "order": ("ordered",),
    "untrained": ("untrained",),
}
COUNTS = {  # of images of each digit in MNIST
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
ALIKE = {f"as many as {name}": name for name in ("{0}", "{0–4}")}  # as many images, of all classes
CONTROLS = (*ALIKE, "shuffled labels")
AT_30 = (30,)  # the one rank at which controls are factorized
VALUES = 100  # singular values of each spectrum that a table holds
train, rank_sweep, spectrum = pk.cached(pk.train), pk.cached(pk.rank_sweep), pk.cached(pk.spectrum)
factorize = pk.cached(pk.coupled_nmf)


@dataclass(frozen=True)
class Case:
    """One network, what it makes of the test images, and what factorizations find in that."""

    setting: str
    seed: int  #: drew images, initial weights and their order; starts the factorizations
    data: pk.Dataset
    model: nn.Module  #: a PaperCNN
    blocks: dict[str, Tensor]  #: input, relu1 and relu2, features × test images

    @cached_property
    def sweep(self) -> pk.Sweep:
        """The coupled factorizations: at all ranks, or of a control at rank 30.

        Returns:
            Fits by (rank, seed).
        """
        ranks = AT_30 if self.setting in CONTROLS else RANKS
        return rank_sweep(self.blocks, ranks, [self.seed], **FIT)

    def fit(self, rank: int = 30) -> pk.CoupledFactors:
        """The coupled factorization at one rank.

        Returns:
            P 784 × rank, O 1,440 × rank and 320 × rank, F images × rank.
        """
        return self.sweep[rank, self.seed]

    @cached_property
    def even(self) -> pk.CoupledFactors:
        """The factorization of rank 30 with the same say for every block: weights 1 / energy.

        Returns:
            Factors and errors, as from `fit`.
        """
        weights = {}
        for name, block in self.blocks.items():
            energy = float(block.square().sum())
            weights[name] = 1 / energy if energy else 1.0  # a network can die
        return factorize(self.blocks, 30, weights=weights, seed=self.seed, **FIT)

    def spectrum(self, name: str) -> Tensor:
        """The singular values of one block.

        Returns:
            min(features, images) values, largest first, float64, on the CPU.
        """
        return spectrum(self.blocks[name]).cpu()


def case(data: pk.Dataset, setting: str, seed: int) -> Case:
    """The network of one setting, trained, and the test images recorded.

    Returns:
        The network and its blocks, features × test images; no factorization yet.

    Example:
        >>> some = pk.Split(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.arange(3))
        >>> black = pk.Dataset("black", some, some, classes=("0", "1", "2"), source="made up")
        >>> {name: len(block) for name, block in case(black, "untrained", seed=0).blocks.items()}
        {'input': 784, 'relu1': 1440, 'relu2': 320}
    """
    model = network(data, setting, seed)
    images = data.test.images
    blocks = pk.input_blocks(images) | pk.record(model, images)
    return Case(setting, seed, data, model, blocks)


def network(data: pk.Dataset, setting: str, seed: int) -> nn.Module:
    """The network of one setting; the seed draws images, initial weights, and their order.

    Returns:
        A PaperCNN; as it starts, where it is untrained.
    """
    model = pk.models.PaperCNN(seed=seed)
    if setting == "untrained":
        return model
    part = training_images(data, setting, seed)
    return train(model, *part, seed=seed, shuffle=setting != "ordered").model


def training_images(data: pk.Dataset, setting: str, seed: int) -> pk.Split:
    """What the network of a setting is trained on.

    Returns:
        Images (uint8, images × 1 × 28 × 28) and labels, in the order of training.

    Example:
        >>> some = pk.Split(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), torch.arange(10))
        >>> black = pk.Dataset("black", some, some, classes=tuple("0123456789"), source="made up")
        >>> training_images(black, "ordered", seed=0).labels
        tensor([9, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    """
    if setting == "ordered":
        return pk.subset(data, order=ORDER, seed=seed)
    if setting in CLASSES:
        return pk.subset(data, classes=CLASSES[setting], seed=seed)
    if setting in ALIKE:
        classes = torch.tensor(list(CLASSES[ALIKE[setting]]))
        share = torch.isin(data.train.labels, classes).double().mean().item()
        return pk.subset(data, fraction=share, seed=seed)
    if setting == "shuffled labels":
        images, labels = pk.subset(data, fraction=FRACTIONS["25%"], seed=seed)
        order = torch.randperm(
            len(labels), generator=torch.Generator().manual_seed(check_seed(seed))
        )
        return pk.Split(images, labels[order])
    return pk.subset(data, fraction=FRACTIONS[setting], seed=seed)


def facts(one: Case) -> dict:
    """What a network knows, the size of each block, and the entropy rank of the last layer.

    Returns:
        Accuracy, recalls, root mean squares and the entropy rank, by column.
    """
    labels = one.data.test.labels
    hits = correct(one.model, *one.data.test).double()
    found = {"accuracy": hits.mean().item()}
    for label in labels.unique().tolist():
        found[f"recall of {label}"] = hits[labels == label].mean().item()
    for name, block in one.blocks.items():
        found[f"size of {name}"] = size(block)
    found["entropy rank of relu2"] = entropy_rank(one.spectrum("relu2"))
    return found


def deep_facts(one: Case) -> dict:
    """Of each block: its entropy rank, and its error at rank 30 if all blocks have an even say.

    Returns:
        Both for each block, by column.
    """
    found = {}
    for name in one.blocks:
        found[f"entropy rank of {name}"] = entropy_rank(one.spectrum(name))
    for name, error in one.even.block_errors.items():
        found[f"even error of {name}"] = error
    return found


def rows(one: Case, deep: bool = False) -> Iterator[dict]:
    """A row for each rank: the factorization, and the facts.

    Yields:
        One dict for each rank.
    """
    known = facts(one)
    if deep:
        known |= deep_facts(one)
    for row in one.sweep.table().drop(columns=["seed", "seconds"]).to_dict("records"):
        yield {"setting": one.setting, "seed": one.seed, **row, **known}


def studied(seed: int) -> Iterator[tuple[str, Case]]:
    """All networks of the case studies and the untrained one, each with its key of `STUDIES`.

    Yields:
        Key and network, nine in all.
    """
    for study, settings in STUDIES.items():
        for setting in settings:
            yield study, case(load("mnist"), setting, seed)


def cases(seeds=range(5)) -> Iterator[dict]:
    """Every network of the case studies at every rank; of Case Study I more is measured.

    Yields:
        A row for each network and rank.
    """
    for seed in seeds:
        for study, one in studied(seed):
            for row in rows(one, deep=study == "data"):
                yield {"study": study, **row}


def controls(seeds=range(5)) -> Iterator[dict]:
    """The same at rank 30 of networks trained on as many images of all classes, or wrong labels.

    Yields:
        A row for each network.
    """
    for seed in seeds:
        for setting in CONTROLS:
            yield from rows(case(load("mnist"), setting, seed))


def spectra(seeds=range(5)) -> Iterator[dict]:
    """The largest singular values of the last layer, and of the first in Case Study I.

    Columns "1" to "100".

    Yields:
        A row for each network and layer.
    """
    for seed in seeds:
        for study, one in studied(seed):
            layers = ("relu1", "relu2") if study == "data" else ("relu2",)
            for layer in layers:
                row = {"study": study, "setting": one.setting, "seed": seed, "layer": layer}
                values = one.spectrum(layer)[:VALUES].tolist()
                for index, value in enumerate(values, start=1):
                    row[str(index)] = value
                yield row
