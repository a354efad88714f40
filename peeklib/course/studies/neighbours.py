"""Other ways to look at the paper's network, beside the coupled factorization: chapter 12."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import peeklib as pk

from ...blocks import check_seed
from ...spectra import cka, conv_singular_values, svcca
from . import mnist
from .common import FIT, entropy_rank, load

CONTROLS = ("untrained", "shuffled labels")
NETWORKS = (*CONTROLS, *mnist.FRACTIONS)
SIZES = {"conv1": 28, "conv2": 12}  # height and width of the maps that go in
POSITIONS = 16  # of each channel of relu2
LAYERS = ("relu1", "relu2", "fc")
MOVED = 4  # pixels to the right: one position in relu2
COUNTS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)  # of images
METHODS = {"CKA": cka, "SVCCA": svcca}


def strengths(model: nn.Module, layer: str) -> Tensor:
    """Singular values of a convolution.

    Returns:
        height × width × channels, float64, on the CPU.

    Example:
        >>> strengths(pk.models.PaperCNN(seed=0), "conv2").shape  # 10 channels to 20
        torch.Size([12, 12, 10])
    """
    weight = model.get_parameter(f"{layer}.weight")
    return conv_singular_values(weight, (SIZES[layer], SIZES[layer])).cpu()


def by_position(block: Tensor, channels: int) -> Tensor:
    """Neurons × images with every position of a map as an image of its own.

    Returns:
        channels × (positions · images), a view where that can be.

    Example:
        >>> by_position(torch.zeros(320, 5), channels=20).shape  # 16 positions
        torch.Size([20, 80])
    """
    return block.reshape(channels, -1)


def groups(block: Tensor, channels: int, seed: int = 0) -> pk.CoupledFactors:
    """Six groups of channels: one layer, factorized by position.

    Returns:
        O channels × 6 and F (positions · images) × 6.
    """
    return mnist.factorize({"layer": by_position(block, channels)}, 6, seed=seed, **FIT)


def flattened(block: Tensor, seed: int = 0) -> pk.CoupledFactors:
    """Thirty components of one layer, flattened.

    Returns:
        O neurons × 30 and F images × 30.
    """
    return mnist.factorize({"layer": block}, 30, seed=seed, **FIT)


def measure(one: mnist.Case, fit: pk.CoupledFactors, other: Tensor) -> dict:
    """Every measure for one network.

    Args:
        one: the network.
        fit: its coupled factorization.
        other: relu2 of the next seed's 100 % network, neurons × images.

    Returns:
        Name of the measure → its value.
    """
    last = one.blocks["relu2"]
    kernel = strengths(one.model, "conv2")
    return {
        "coupled NMF: RMSE": fit.rmse,
        "coupled NMF: relative error": fit.relative_error,
        "coupled NMF: error of relu2": fit.block_errors["relu2"],
        "relu2: entropy rank": entropy_rank(one.spectrum("relu2")),
        "NMF of relu2, flattened": flattened(last, one.seed).relative_error,
        "NMF of relu2, by position": groups(last, 20, one.seed).relative_error,
        "CKA of relu2": cka(last, other),
        "SVCCA of relu2": svcca(by_position(last, 20), by_position(other, 20)),
        "conv2: largest singular value": kernel.max().item(),
        "conv2: entropy rank": pk.effective_rank(kernel.flatten()),
        "conv1: largest singular value": strengths(one.model, "conv1").max().item(),
    }


def rescale_channels(model: nn.Module, factors: Tensor) -> nn.Module:
    """A PaperCNN with the same answers, with the channels of relu2 times these factors.

    Returns:
        A copy, without gradients.

    Example:
        >>> model = pk.models.PaperCNN(seed=0)
        >>> images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> twin = rescale_channels(model, scales()["each its own"])
        >>> torch.allclose(twin(images), model(images), atol=1e-6)
        True
    """
    twin = copy.deepcopy(model).requires_grad_(False)
    weights = dict(twin.named_parameters())
    factors = factors.to(weights["fc.weight"].device)
    weights["conv2.weight"].mul_(factors[:, None, None, None])
    weights["conv2.bias"].mul_(factors)
    weights["fc.weight"].div_(factors.repeat_interleave(POSITIONS))
    return twin


def scales(seed: int = 0) -> dict[str, Tensor]:
    """What the channels of relu2 are multiplied by: one number for all, or each its own.

    Returns:
        Name → 20 positive factors.

    Example:
        >>> {name: len(factors.unique()) for name, factors in scales().items()}
        {'all × 5': 1, 'each its own': 20}
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    return {
        "all × 5": torch.full((20,), 5.0),
        "each its own": torch.randn(20, generator=generator).exp(),
    }


def rescaled(one: mnist.Case, name: str) -> mnist.Case:
    """The same network with rescaled channels, recorded anew.

    Returns:
        A case with the same answers and pixels, and another relu2.
    """
    model = rescale_channels(one.model, scales(one.seed)[name])
    blocks = {"input": one.blocks["input"], **pk.record(model, one.data.test.images)}
    return mnist.Case(f"{one.setting}, {name}", one.seed, one.data, model, blocks)


def following(seed: int) -> int:
    """The next of the five seeds, in a circle.

    Returns:
        Between 0 and 4.

    Example:
        >>> following(4)
        0
    """
    return (seed + 1) % 5


def neighbours(seeds=range(5)) -> Iterator[dict]:
    """Every measure of every network, in comparison with the 100 % network of the next seed.

    Yields:
        A row for each seed and network.
    """
    data = load("mnist")
    for seed in seeds:
        other = mnist.case(data, "100%", following(seed)).blocks["relu2"]
        for setting in NETWORKS:
            one = mnist.case(data, setting, seed)
            yield {"setting": setting, "seed": seed, **measure(one, one.fit(), other)}


def rescalings(seeds=range(3)) -> Iterator[dict]:
    """Every measure of the 100 % network as it is, and with its channels rescaled.

    Yields:
        A row for each seed and kind of twin.
    """
    data = load("mnist")
    for seed in seeds:
        other = mnist.case(data, "100%", following(seed)).blocks["relu2"]
        one = mnist.case(data, "100%", seed)
        twins = {"as it is": one}
        for name in scales():
            twins[name] = rescaled(one, name)
        for setting, twin in twins.items():
            fit = mnist.factorize(twin.blocks, 30, seed=seed, **FIT)
            yield {"setting": setting, "seed": seed, **measure(twin, fit, other)}


def errors_when_moved(model: nn.Module, images: Tensor, seed: int) -> Iterator[dict]:
    """Relative errors of relu2 under components of these images: on them, and on them moved.

    Yields:
        A row for either method.
    """
    home = pk.record(model, images, ["relu2"])["relu2"]
    away = pk.record(model, images.roll(MOVED, dims=3), ["relu2"])["relu2"]
    fit = flattened(home, seed)
    yield {
        "method": "flattened, rank 30",
        "seed": seed,
        "at home": relative_error(fit, home),
        "moved": relative_error(fit, away),
    }
    fit = groups(home, 20, seed)
    yield {
        "method": "by position, 6 groups",
        "seed": seed,
        "at home": relative_error(fit, by_position(home, 20)),
        "moved": relative_error(fit, by_position(away, 20)),
    }


def relative_error(fit: pk.CoupledFactors, block: Tensor) -> float:
    """Relative error of a block under factors found before.

    Returns:
        0 where the factors rebuild it.

    Example:
        >>> fit = pk.coupled_nmf({"layer": torch.ones(4, 3)}, 1)
        >>> round(relative_error(fit, torch.full((4, 2), 7.0)), 3)
        0.0
    """
    rebuilt = (fit.factors["layer"] @ fit.transform({"layer": block}).T).to(block.device)
    return float((block - rebuilt).norm() / block.norm())


def moved(seeds=range(5)) -> Iterator[dict]:
    """Whether components of a layer serve for images that have moved: flattened, by position.

    Yields:
        A row for each seed and method.
    """
    data = load("mnist")
    for seed in seeds:
        model = mnist.network(data, "100%", seed)
        yield from errors_when_moved(model, data.test.images[:2_000], seed)


def orders(count: int) -> dict[str, Tensor]:
    """So many images in the same order, and shuffled: what is alike then is alike by chance.

    Returns:
        Name → each number below `count`, once.

    Example:
        >>> orders(4)["same"]
        tensor([0, 1, 2, 3])
    """
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return {"same": torch.arange(count), "shuffled": shuffled}


def beside(
    first: nn.Module, second: nn.Module, images: Tensor, method: str, order: Tensor | None = None
) -> dict[str, dict[str, float]]:
    """How like each layer of one network is to each layer of another.

    Args:
        first, second: PaperCNNs.
        images: what both see.
        method: key of `METHODS`.
        order: in which the second sees the images; None: the same.

    Returns:
        Layer of the first → layer of the second → likeness, 0 … 1.

    Example:
        >>> model = pk.models.PaperCNN(seed=0)
        >>> images = torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> round(beside(model, model, images, "CKA")["relu2"]["relu2"], 3)
        1.0
    """
    others = images if order is None else images[order]
    a = pk.record(first, images, LAYERS, negative="keep")
    b = pk.record(second, others, LAYERS, negative="keep")
    alike = METHODS[method]
    return {one: {other: alike(a[one], b[other]) for other in LAYERS} for one in LAYERS}


def twins(seeds=range(5)) -> Iterator[dict]:
    """How alike the layers of two networks are, from this seed and the next, on 1,000 images.

    Yields:
        A row for each seed, method, order and layer of the first.
    """
    data = load("mnist")
    images = data.test.images[:1_000]
    for seed in seeds:
        first = mnist.network(data, "100%", seed)
        second = mnist.network(data, "100%", following(seed))
        for method in METHODS:
            for name, order in orders(1_000).items():
                for layer, alike in beside(first, second, images, method, order).items():
                    yield {"method": method, "order": name, "layer": layer, "seed": seed, **alike}


def floor(a: Tensor, b: Tensor) -> Iterator[dict]:
    """CKA and SVCCA of two blocks for more and more images, in the same order and shuffled.

    Yields:
        A row for each number of images there are, method and order.

    Example:
        >>> a = torch.rand(4, 60, generator=torch.Generator().manual_seed(0))
        >>> row = next(floor(a, a))
        >>> row["method"], row["order"], row["count"], round(row["value"], 3)
        ('CKA', 'same', 50, 1.0)
    """
    for count in COUNTS:
        if count > a.shape[1]:
            break
        for method, alike in METHODS.items():
            for name, order in orders(count).items():
                value = alike(a[:, :count], b[:, order])
                yield {"method": method, "order": name, "count": count, "value": value}


def nulls(seeds=range(5)) -> Iterator[dict]:
    """The floor of relu2 in two networks, from this seed and the next.

    Yields:
        A row for each seed, number of images, method and order.
    """
    data = load("mnist")
    for seed in seeds:
        first = mnist.case(data, "100%", seed).blocks["relu2"]
        second = mnist.case(data, "100%", following(seed)).blocks["relu2"]
        for row in floor(first, second):
            yield {"seed": seed, **row}
