"""Neurons that a factorization calls unused, switched off; answers from a few components: chapter 16.

A is neurons × images, O neurons × rank. A neuron's *activity* is its mean over the images.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

import peeklib as pk

from ...blocks import check_seed
from ...study.interventions import Intervention
from . import mnist
from .common import FIT, load

RANK = 10  # of the paper's Figure 9
JOINT = 30  # rank of the factorization of several networks together
COUNT = 2_000  # images of that, and those on which neurons are silenced
SETTINGS = ("ordered", "100%")
LAYERS = ("relu1", "relu2")
DRAWS = 3  # of each random set
FEWEST = 5  # neurons of a control that are as active as those chosen
SEEN = (0, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 15_000)  # images, at ten moments
MAPS = {"relu1": (10, 12, 12), "relu2": (20, 4, 4)}  # channels, height, width


def unused(O: Tensor, share: float = 0.01) -> Tensor:
    """Which neurons have no loading above a share of the layer's largest.

    Returns:
        One truth value for each neuron.

    Example:
        >>> unused(torch.tensor([[1.0, 0.0], [0.001, 0.002], [0.0, 0.5]])).tolist()
        [False, True, False]
    """
    return O.amax(1) < share * O.max()


def lower_half(O: Tensor) -> Tensor:
    """Which neurons are the half whose largest loading is lowest.

    Returns:
        One truth value for each neuron.

    Example:
        >>> lower_half(torch.tensor([[1.0, 0.0], [0.1, 0.2]])).tolist()
        [False, True]
    """
    ranks = O.amax(1).argsort(stable=True).argsort()  # 0 for the lowest
    return ranks < len(O) // 2


CHOSEN = {"below 1 %": unused, "lower half": lower_half}


def least(activity: Tensor, among: Tensor, count: int) -> Tensor:
    """The `count` least active neurons of those in `among`; all of these if they are fewer.

    Returns:
        One truth value for each neuron.

    Example:
        >>> least(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([True, False, True]), 1).tolist()
        [False, False, True]
    """
    order = activity.where(among, torch.inf).argsort(stable=True)
    found = torch.zeros_like(among)
    found[order[:count]] = True
    return found & among


def drawn(among: Tensor, count: int, seed: int) -> Tensor:
    """As many neurons at random of those in `among`.

    Returns:
        One truth value for each neuron.

    Example:
        >>> drawn(torch.tensor([True, False, True]), 2, seed=0).tolist()
        [True, False, True]
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    return least(torch.rand(len(among), generator=generator), among, count)


def as_active(activity: Tensor, chosen: Tensor, seed: int) -> Tensor:
    """Other neurons, in random order, until they are as active together as those chosen.

    Returns:
        One truth value for each neuron; none of those chosen.

    Example:
        >>> activity = torch.tensor([1.0, 1.0, 2.0, 2.0])
        >>> int(as_active(activity, torch.tensor([True, True, False, False]), seed=0).sum())
        1
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    order = torch.rand(len(activity), generator=generator).where(~chosen, torch.inf).argsort()
    others = order[: int((~chosen).sum())]
    totals = torch.cat([activity.new_zeros(1), activity[others].cumsum(0)])
    count = int((totals - activity[chosen].sum()).abs().argmin())
    found = torch.zeros_like(chosen)
    found[others[:count]] = True
    return found


def controls(activity: Tensor, chosen: Tensor, seed: int) -> Iterator[tuple[str, list[Tensor]]]:
    """The neurons chosen, and those to compare them with.

    Yields:
        A name, and one set of neurons, or several random ones.

    Example:
        >>> chosen = torch.tensor([True, True, False, False])
        >>> [name for name, sets in controls(torch.arange(4.0), chosen, seed=0)][:2]
        ['by loadings', 'random']
    """
    every, count = torch.ones_like(chosen), int(chosen.sum())
    seeds = range(DRAWS * seed, DRAWS * (seed + 1))
    yield "by loadings", [chosen]
    yield "random", [drawn(every, count, draw) for draw in seeds]
    yield "least active", [least(activity, every, count)]
    yield "least active others", [least(activity, ~chosen, count)]
    yield "others as active in all", [as_active(activity, chosen, draw) for draw in seeds]


def answers_from(model: nn.Module, layer: str, block: Tensor) -> Tensor:
    """The logits of a PaperCNN if one of its layers gave `block`, neurons × images.

    The same as `pk.intervene` gives, in a fraction of the time: what comes before does not run.

    Returns:
        images × classes.

    Example:
        >>> answers_from(pk.models.PaperCNN(seed=0), "relu2", torch.zeros(320, 5)).shape
        torch.Size([5, 10])
    """
    parts = dict(model.named_children())
    after = list(parts).index(layer) + 1
    rest = nn.Sequential(*list(parts.values())[after:])
    with torch.no_grad():
        given = [part.T.unflatten(1, MAPS[layer]) for part in block.split(1_000, dim=1)]
        return torch.cat([rest(part) for part in given])


def exchanged(
    one: mnist.Case, layer: str, block: Tensor, labels: Tensor | None = None
) -> Intervention:
    """What the network answers if a layer gives another block, neurons × images.

    Returns:
        As `pk.intervene` gives it.
    """
    return Intervention(layer, answers_from(one.model, layer, block), own_answers(one), labels)


def silence(
    one: mnist.Case, layer: str, chosen: Tensor, labels: Tensor | None = None
) -> Intervention:
    """What the network answers without the neurons chosen.

    Returns:
        As `pk.intervene` gives it.
    """
    block = one.blocks[layer]
    return exchanged(one, layer, block * ~chosen.to(block.device)[:, None], labels)


def own_answers(one: mnist.Case) -> Tensor:
    """The logits of a network as it is.

    Returns:
        images × classes.
    """
    return answers_from(one.model, "relu2", one.blocks["relu2"])


def effect(one: mnist.Case, layer: str, sets: list[Tensor]) -> dict:
    """What silencing each of some sets of neurons does, as a mean over the sets.

    Returns:
        Number of neurons, their share of the layer's activity, share of answers kept, that of the
        class that keeps fewest, and how far the logits moved.
    """
    activity = one.blocks[layer].mean(1).cpu()
    total = float(activity.sum()) or 1.0  # a network can die
    found = []
    for chosen in sets:
        done = silence(one, layer, chosen)
        row = {
            "neurons": int(chosen.sum()),
            "activity": float(activity[chosen].sum()) / total,
            "kept": done.kept,
            "kept of the worst class": done.recall.after.min(),
            "moved": done.moved,
        }
        found.append(row)
    return {name: sum(row[name] for row in found) / len(found) for name in found[0]}


def silenced_by(one: mnist.Case, layer: str, base: str) -> Iterator[dict]:
    """Neurons of a layer that are chosen in one way silenced, and what to compare with.

    The loadings are those of all test images, what becomes of the answers is of the first 2,000.

    Yields:
        A row for each control, "by loadings" first.
    """
    short, O = replace(one, blocks=few(one)), one.fit(RANK).factors[layer].cpu()
    activity = short.blocks[layer].mean(1).cpu()
    for control, sets in controls(activity, CHOSEN[base](O), one.seed):
        which = {"setting": one.setting, "seed": one.seed, "layer": layer, "base": base}
        yield {**which, "control": control, **effect(short, layer, sets)}


def silenced_in(one: mnist.Case) -> Iterator[dict]:
    """As `silenced_by`, of both layers and both ways of choosing.

    Yields:
        A row for each layer, way of choosing and control.
    """
    for layer in LAYERS:
        for base in CHOSEN:
            yield from silenced_by(one, layer, base)


def silenced(seeds=range(3)) -> Iterator[dict]:
    """Neurons of low loadings silenced, after training class by class and shuffled.

    Yields:
        A row for each seed, network, layer, way of choosing and control.
    """
    for seed in seeds:
        for setting in SETTINGS:
            yield from silenced_in(mnist.case(load("mnist"), setting, seed))


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `silenced` that compare: their controls have neurons enough in every seed.

    As many as were chosen, which the others may be too few for; or, of others that are as active
    together, five: where almost nothing is active, one or none is already more.

    Returns:
        Some of the rows.

    Example:
        >>> keys = {"setting": "ordered", "seed": 0, "layer": "relu2", "base": "below 1 %"}
        >>> rows = [{**keys, "control": "by loadings", "neurons": 178}]
        >>> rows += [{**keys, "control": "least active others", "neurons": 142}]
        >>> compared(pd.DataFrame(rows)).control.tolist()
        ['by loadings']
    """
    keys = ["setting", "layer", "base"]
    chosen = table[table.control == "by loadings"].set_index([*keys, "seed"]).neurons
    needed = table.join(chosen.rename("needed"), on=[*keys, "seed"]).needed
    needed = needed.where(table.control != "others as active in all", FEWEST)
    enough = (table.neurons >= needed).groupby([table[key] for key in [*keys, "control"]])
    return table.loc[enough.transform("all")]


def surviving_in(one: mnist.Case) -> Iterator[dict]:
    """How many of a network's own answers survive if `relu2` is what r components say.

    Beside it: if `relu2` is cut to its r largest singular values, which no factorization of it
    can be closer than; and if every image gets the commonest answer.

    Yields:
        A row for each rank.
    """
    A = one.blocks["relu2"]
    own = own_answers(one)
    U = torch.linalg.eigh((A @ A.T).double()).eigenvectors.flip(1).to(A)  # strongest first
    for rank in mnist.RANKS:
        says = answers_from(one.model, "relu2", one.fit(rank).reconstruct("relu2"))
        cut = answers_from(one.model, "relu2", U[:, :rank] @ (U[:, :rank].T @ A))
        yield {
            "setting": one.setting,
            "seed": one.seed,
            "rank": rank,
            "kept": Intervention("", says, own).kept,
            "kept by singular values": Intervention("", cut, own).kept,
            "commonest answer": own.argmax(1).bincount().max().item() / len(own),
        }


def surviving(seeds=range(3)) -> Iterator[dict]:
    """Answers that survive a factorization at each rank, for Case Study I and the ordered network.

    Yields:
        A row for each seed, network and rank.
    """
    for seed in seeds:
        for setting in (*mnist.FRACTIONS, "ordered"):
            yield from surviving_in(mnist.case(load("mnist"), setting, seed))


def few(one: mnist.Case, count: int = COUNT) -> dict[str, Tensor]:
    """What a network makes of the first test images.

    Returns:
        Its blocks, features × `count` images.
    """
    return {name: block[:, :count].contiguous() for name, block in one.blocks.items()}


def together(networks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The blocks of several networks, for one image factor over all: their pixels once.

    Returns:
        "input", and "<layer> of <network>" for each layer of each.

    Example:
        >>> one = {"input": torch.ones(3, 4), "relu1": torch.ones(2, 4)}
        >>> list(together({"a": one, "b": one}))
        ['input', 'relu1 of a', 'relu1 of b']
    """
    found = {}
    for network, blocks in networks.items():
        for name, block in blocks.items():
            found[name if name == "input" else f"{name} of {network}"] = block
    return found


def part(fit: pk.CoupledFactors, name: str) -> pk.CoupledFactors:
    """What a factorization of several networks says of one of them, under its own names of layers.

    Returns:
        A fit as of that network alone, with the image factor of all.

    Example:
        >>> fit = pk.coupled_nmf({"input": torch.ones(3, 4), "relu1 of a": torch.ones(2, 4)}, 1)
        >>> list(part(fit, "a").factors)
        ['input', 'relu1']
    """
    names = {"input": "input"}
    for block in fit.factors:
        layer, _, network = block.partition(" of ")
        if network == name:
            names[block] = layer
    factors = {new: fit.factors[old] for old, new in names.items()}
    errors = {new: fit.block_errors[old] for old, new in names.items()}
    return replace(fit, factors=factors, block_errors=errors, weights={})


def moments(data: pk.Dataset, seed: int = 0) -> dict[str, mnist.Case]:
    """One network while it trains: as it starts, and after more and more images.

    Returns:
        Images seen, as text → the network then, and its blocks.
    """
    images, labels = pk.subset(data, fraction=mnist.FRACTIONS["25%"], seed=seed)
    model: nn.Module = pk.models.PaperCNN(seed=seed)
    found, seen = {}, 0
    for until in SEEN:
        if seen < min(until, len(labels)):
            new = slice(seen, until)
            model = mnist.train(model, images[new], labels[new], seed=seed, shuffle=False).model
            seen = min(until, len(labels))
        blocks = few_blocks(model, data)
        found[f"{seen:,}"] = mnist.Case("25%", seed, data, copy.deepcopy(model), blocks)
    return found


def few_blocks(model: nn.Module, data: pk.Dataset) -> dict[str, Tensor]:
    """What a network makes of the first test images.

    Returns:
        input, relu1 and relu2, features × images.
    """
    images = data.test.images[:COUNT]
    return pk.input_blocks(images) | pk.record(model, images)


def joint(seeds=range(3)) -> Iterator[dict]:
    """The four networks of Case Study I with one image factor, and each with its own.

    Yields:
        A row for each seed and network: errors of the blocks.
    """
    for seed in seeds:
        blocks = {name: few(mnist.case(load("mnist"), name, seed)) for name in mnist.FRACTIONS}
        fit = mnist.factorize(together(blocks), JOINT, seed=seed, **FIT)
        for name, own in blocks.items():
            alone = mnist.factorize(own, JOINT, seed=seed, **FIT)
            row = {"setting": name, "seed": seed}
            for how, found in (("joint", part(fit, name)), ("separate", alone)):
                for block, error in found.block_errors.items():
                    row[f"{how} error of {block}"] = error
            yield row
