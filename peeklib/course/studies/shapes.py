"""How a component goes through the layers of the paper's network: what chapter 7 measures.

A component s has a column in every factor: P pixels × rank, O neurons × rank, F images × rank.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

import peeklib as pk

from . import mnist
from .common import load

MAPS = {"relu1": (10, 12, 12), "relu2": (20, 4, 4)}  # channels, height, width
UNDER = {"relu1": (2, 2), "relu2": (4, 6)}  # pixels a step, pixels to the border
NETWORKS = ("untrained", *mnist.FRACTIONS, "ordered")


def loadings(fit: pk.CoupledFactors, layer: str) -> Tensor:
    """Each component's column of O, by channel and position.

    Returns:
        rank × channels × positions, on the CPU.

    Example:
        >>> fit = pk.coupled_nmf({"relu2": torch.ones(320, 3)}, 2)
        >>> loadings(fit, "relu2").shape
        torch.Size([2, 20, 16])
    """
    channels, height, width = MAPS[layer]
    return fit.factors[layer].cpu().T.reshape(-1, channels, height * width)


def half(values: Tensor) -> int:
    """How many of these values, the largest first, hold half of their sum.

    Returns:
        At least 1.

    Example:
        >>> half(torch.tensor([1.0, 5.0, 4.0])), half(torch.ones(8))
        (1, 4)
    """
    held = values.sort(descending=True).values.cumsum(0)
    return int((held < held[-1] / 2).sum()) + 1


def reach(fit: pk.CoupledFactors, layer: str) -> dict:
    """How many channels, and positions, hold half of a component on average, and of their sum.

    Returns:
        Five counts, the first and third of them means, by column.

    Example:
        >>> block = torch.zeros(320, 3)
        >>> block[:16] = 1  # one channel, all its positions
        >>> found = reach(pk.coupled_nmf({"relu2": block}, 1), "relu2")
        >>> found["channels"], found["leading channels"]
        (1.0, 1)
    """
    each = loadings(fit, layer)
    channels, positions = each.sum(2), each.sum(1)  # components × …
    return {
        "channels": sum(map(half, channels)) / fit.rank,
        "channels, whole layer": half(channels.sum(0)),
        "positions": sum(map(half, positions)) / fit.rank,
        "positions, whole layer": half(positions.sum(0)),
        "leading channels": channels.argmax(1).unique().numel(),
    }


def place(one: mnist.Case, fit: pk.CoupledFactors) -> dict[str, Tensor]:
    """Every image twice: by its pixels and activations, and by its pixels alone.

    Returns:
        Name → images × rank, on the CPU.
    """
    return {
        "pixels and layers": fit.transform(one.blocks).cpu(),
        "pixels alone": fit.transform({"input": one.blocks["input"]}).cpu(),
    }


def share(hits: Tensor) -> float:
    """The share that is true.

    Returns:
        0 … 1.

    Example:
        >>> share(torch.tensor([True, False]))
        0.5
    """
    return hits.float().mean().item()


def agreement(one: mnist.Case, fit: pk.CoupledFactors, places: dict[str, Tensor]) -> dict:
    """How often both places name one strongest component, and how well they explain layers.

    `places` as `place` gives them. For chance, each image is compared with another one.

    Returns:
        Shares and relative errors, by column; and the component with the faintest P, from 1.
    """
    both, pixels = places["pixels and layers"], places["pixels alone"]
    first = both.argmax(1)
    other = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))]
    found = {
        "agree": share(pixels.argmax(1) == first),
        "by chance": share(other.argmax(1) == first),
        "in first 3": share((pixels.topk(3).indices == first[:, None]).any(1)),
    }
    for layer in MAPS:
        A, O = one.blocks[layer].cpu(), fit.factors[layer].cpu()
        for how, F in (("both", both), ("pixels", pixels)):
            found[f"{layer}, {how}"] = ((A - O @ F.T).norm() / A.norm()).item()
    P = fit.factors["input"].norm(dim=0)
    return {**found, "faintest P": (P.min() / P.max()).item(), "which": P.argmin().item() + 1}


def overlaid(fit: pk.CoupledFactors, layer: str) -> Tensor:
    """The loading in a layer, summed over channels, where its neurons look.

    Returns:
        rank × pixels, on the CPU.

    Example:
        >>> overlaid(pk.coupled_nmf({"relu2": torch.ones(320, 3)}, 2), "relu2").shape
        torch.Size([2, 784])
    """
    step, border = UNDER[layer]
    maps = loadings(fit, layer).sum(1).reshape(-1, 1, *MAPS[layer][1:])
    large = functional.interpolate(maps, scale_factor=step)
    return functional.pad(large, [border] * 4).flatten(1)


def likeness(fit: pk.CoupledFactors, layer: str) -> dict:
    """Correlation of a component's map with its own column of P and with the others.

    And how often its own is closest.

    Returns:
        Two mean correlations and a count, by column.

    Example:
        >>> blocks = {"input": torch.ones(784, 3), "relu2": torch.ones(320, 3)}
        >>> list(likeness(pk.coupled_nmf(blocks, 2), "relu2"))
        ['own', 'others', 'own is closest']
    """
    rank = fit.rank
    rows = torch.cat([overlaid(fit, layer), fit.factors["input"].cpu().T])  # 2 · rank × pixels
    table = torch.corrcoef(rows)[:rank, rank:].nan_to_num()  # maps × columns of P
    itself = torch.eye(rank, dtype=torch.bool)
    return {
        "own": table[itself].mean().item(),
        "others": table[~itself].mean().item(),
        "own is closest": int((table.argmax(1) == torch.arange(rank)).sum()),
    }


def travels(seeds=range(5)) -> Iterator[dict]:
    """How far components reach, at every rank; and how much of them is where it was, at rank 30.

    Yields:
        A row for each seed, network, layer and rank.
    """
    for seed in seeds:
        for setting in NETWORKS:
            one = mnist.case(load("mnist"), setting, seed)
            for layer in MAPS:
                for rank in mnist.RANKS:
                    row = {"setting": setting, "seed": seed, "layer": layer, "rank": rank}
                    row |= reach(one.fit(rank), layer)
                    if rank == 30:
                        row |= likeness(one.fit(rank), layer)
                    yield row


def places(seeds=range(5)) -> Iterator[dict]:
    """Whether the pixels alone place an image where pixels and layers do, at rank 30.

    Yields:
        A row for each seed and network.
    """
    for seed in seeds:
        for setting in NETWORKS:
            one = mnist.case(load("mnist"), setting, seed)
            fit = one.fit(30)
            yield {"setting": setting, "seed": seed, **agreement(one, fit, place(one, fit))}
