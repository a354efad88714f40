"""Other ways to look at the paper's network, beside the coupled factorization: what chapter 12 measures."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import peeklib as pk

from ...spectra import cka, conv_singular_values, svcca
from . import mnist
from .common import FIT, load

CONTROLS = ("untrained", "shuffled labels")
NETWORKS = (*CONTROLS, *mnist.FRACTIONS)
SIZES = {"conv1": 28, "conv2": 12}  # height and width of the maps that go in
CHANNELS = {"relu1": 10, "relu2": 20}
LAYERS = ("relu1", "relu2", "fc")
MOVED = 4  # pixels to the right: one position in relu2
COUNTS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)  # of images
METHODS = {"CKA": cka, "SVCCA": svcca}


def strengths(model: nn.Module, layer: str) -> Tensor:
    """Singular values of a convolution, height × width × channels, on the CPU."""
    return conv_singular_values(
        model.get_submodule(layer).weight, (SIZES[layer], SIZES[layer])
    ).cpu()


def by_position(block: Tensor, channels: int) -> Tensor:
    """Neurons × images as channels × (positions · images)."""
    return block.reshape(channels, -1)


def groups(block: Tensor, channels: int, seed: int = 0) -> pk.CoupledFactors:
    """Six groups of channels: one layer, factorized by position."""
    return mnist.factorize({"layer": by_position(block, channels)}, 6, seed=seed, **FIT)


def flattened(block: Tensor, seed: int = 0) -> pk.CoupledFactors:
    """Thirty components of one layer, flattened."""
    return mnist.factorize({"layer": block}, 30, seed=seed, **FIT)


def measure(one: mnist.Case, fit: pk.CoupledFactors, other: Tensor) -> dict:
    """Every measure for one network: `fit` is its coupled factorization, `other` relu2 of the next seed's 100 % network."""
    last, kernel = one.blocks["relu2"], strengths(one.model, "conv2")
    return {
        "coupled NMF: RMSE": fit.rmse,
        "coupled NMF: relative error": fit.relative_error,
        "coupled NMF: error of relu2": fit.block_errors["relu2"],
        "relu2: entropy rank": mnist.entropy_rank(one.spectrum("relu2")),
        "NMF of relu2, flattened": flattened(last, one.seed).relative_error,
        "NMF of relu2, by position": groups(last, 20, one.seed).relative_error,
        "CKA of relu2": cka(last, other),
        "SVCCA of relu2": svcca(by_position(last, 20), by_position(other, 20)),
        "conv2: largest singular value": kernel.max().item(),
        "conv2: entropy rank": pk.effective_rank(kernel.flatten()),
        "conv1: largest singular value": strengths(one.model, "conv1").max().item(),
    }


def rescale(model: nn.Module, factors: Tensor) -> nn.Module:
    """A network with the same answers, with the channels of relu2 times these factors."""
    twin = copy.deepcopy(model).requires_grad_(False)
    factors = factors.to(twin.fc.weight.device)
    twin.conv2.weight *= factors[:, None, None, None]
    twin.conv2.bias *= factors
    twin.fc.weight /= factors.repeat_interleave(16)
    return twin


def scales(seed: int = 0) -> dict[str, Tensor]:
    """What the channels of relu2 are multiplied by: all by the same, or each by a number of its own."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "all × 5": torch.full((20,), 5.0),
        "each its own": torch.randn(20, generator=draw).exp(),
    }


def rescaled(one: mnist.Case, name: str) -> mnist.Case:
    """The same network with rescaled channels, recorded anew."""
    model = rescale(one.model, scales(one.seed)[name])
    blocks = {"input": one.blocks["input"]} | pk.record(model, one.data.test.images)
    return mnist.Case(f"{one.setting}, {name}", one.seed, one.data, model, blocks)


def following(seed: int) -> int:
    """The next of the five seeds, in a circle."""
    return (seed + 1) % 5


def neighbours(seeds=range(5)) -> Iterator[dict]:
    """Every measure of every network, in comparison with the 100 % network of the next seed."""
    data = load("mnist")
    for seed in seeds:
        other = mnist.case(data, "100%", following(seed)).blocks["relu2"]
        for setting in NETWORKS:
            one = mnist.case(data, setting, seed)
            yield {"setting": setting, "seed": seed, **measure(one, one.fit(), other)}


def rescalings(seeds=range(3)) -> Iterator[dict]:
    """Every measure of the 100 % network as it is, and with its channels rescaled."""
    data = load("mnist")
    for seed in seeds:
        other = mnist.case(data, "100%", following(seed)).blocks["relu2"]
        one = mnist.case(data, "100%", seed)
        for setting, twin in {
            "as it is": one,
            **{name: rescaled(one, name) for name in scales()},
        }.items():
            fit = mnist.factorize(twin.blocks, 30, seed=seed, **FIT)
            yield {"setting": setting, "seed": seed, **measure(twin, fit, other)}


def errors_when_moved(model: nn.Module, images: Tensor, seed: int) -> Iterator[dict]:
    """Relative errors of relu2 on images, and on the same moved aside, under components of the images as they were."""
    home, away = (
        pk.record(model, x, ["relu2"])["relu2"] for x in (images, images.roll(MOVED, dims=3))
    )
    fits = {
        "flattened, rank 30": flattened(home, seed),
        "by position, 6 groups": groups(home, 20, seed),
    }
    for (method, fit), shape in zip(fits.items(), ((320, -1), (20, -1)), strict=True):
        errors = {
            what: error(fit, x.reshape(shape)) for what, x in (("at home", home), ("moved", away))
        }
        yield {"method": method, "seed": seed, **errors}


def error(fit: pk.CoupledFactors, block: Tensor) -> float:
    """Relative error of a block under factors found before."""
    rebuilt = (fit.factors["layer"] @ fit.transform({"layer": block}).T).to(block.device)
    return float((block - rebuilt).norm() / block.norm())


def moved(seeds=range(5)) -> Iterator[dict]:
    """Whether components of a layer serve for images that have moved: flattened, and by position."""
    data = load("mnist")
    for seed in seeds:
        yield from errors_when_moved(
            mnist.network(data, "100%", seed), data.test.images[:2_000], seed
        )


def beside(
    first: nn.Module, second: nn.Module, images: Tensor, method: str, order=slice(None)
) -> dict:
    """Of two networks: for each layer of the first, by name, its likeness to each layer of the second."""
    kept = {"layers": LAYERS, "negative": "keep"}
    a, b = pk.record(first, images, **kept), pk.record(second, images[order], **kept)
    return {x: {y: METHODS[method](a[x], b[y]) for y in LAYERS} for x in LAYERS}


def twins(seeds=range(5)) -> Iterator[dict]:
    """How alike the layers of two networks are, from this seed and the next, on 1,000 images in this order and shuffled."""
    data = load("mnist")
    images = data.test.images[:1_000]
    orders = {
        "same": slice(None),
        "shuffled": torch.randperm(1_000, generator=torch.Generator().manual_seed(0)),
    }
    for seed in seeds:
        pair = [mnist.network(data, "100%", s) for s in (seed, following(seed))]
        for method in METHODS:
            for order, arranged in orders.items():
                for layer, alike in beside(*pair, images, method, arranged).items():
                    yield {"method": method, "order": order, "layer": layer, "seed": seed, **alike}


def floor(a: Tensor, b: Tensor) -> Iterator[dict]:
    """CKA and SVCCA of two blocks for more and more images, in the same order and with those of the second shuffled."""
    for count in [count for count in COUNTS if count <= a.shape[1]]:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        for method, alike in METHODS.items():
            for name, arranged in (("same", torch.arange(count)), ("shuffled", order)):
                yield {
                    "method": method,
                    "order": name,
                    "count": count,
                    "value": alike(a[:, :count], b[:, arranged]),
                }


def nulls(seeds=range(5)) -> Iterator[dict]:
    """The floor of relu2 in two networks, from this seed and the next."""
    data = load("mnist")
    for seed in seeds:
        pair = [mnist.case(data, "100%", s).blocks["relu2"] for s in (seed, following(seed))]
        yield from ({"seed": seed, **row} for row in floor(*pair))
