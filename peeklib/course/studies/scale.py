"""Rank or scale: good and poor networks of the zoo, what changes leave alone in them, and how label-free scores react.

`look(kind, seed)` is a network and what the scores need of it; `controls(...)` are its twins: three changes of which two
keep every answer. `rows(...)` is all that the table holds of one of them, a row for each rank.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

import peeklib as pk

from ... import scores, zoo

KINDS = {  # what sets each kind apart from the base of the zoo
    "good": {},
    "little data": {"factor": "images", "images": 500},
    "class order": {"factor": "sorting", "sorting": 0.8},
    "untrained": {"factor": "untrained", "epochs": 0},
    "half order": {"factor": "sorting", "sorting": 0.5},
    "random labels": {"factor": "noise", "images": 1000, "noise": 1.0, "epochs": 60},
}
CONTROLLED = ("good", "little data", "untrained")  # their twins are in the table
FEW = 100  # images, beside all that the zoo probes with
SCORES = {name: score for name, score in scores.SCORES.items() if score.family != "weights"}
rear = pk.cached(zoo.rear)


def recipe(kind: str, seed: int = 0, data: str = "mnist") -> zoo.Recipe:
    """How a network of that kind is trained."""
    return replace(zoo.Recipe(data, "cnn", seed=seed), **KINDS[kind])


def rescaled(model: nn.Module, c: float = 4) -> nn.Module:
    """The same function, with relu1 and relu2 times c."""
    twin = copy.deepcopy(model).requires_grad_(False)
    for layer, behind in ((twin.conv1, twin.conv2), (twin.conv2, twin.fc)):
        layer.weight *= c
        layer.bias *= c
        behind.weight /= c
    return twin


def padded(model: nn.Module) -> nn.Module:
    """The same function, with as many units again that are always zero."""
    twin = pk.models.PaperCNN(width=2).to(next(model.parameters()).device).requires_grad_(False)
    for new, old in zip(twin.parameters(), model.parameters(), strict=True):
        new.zero_()[tuple(map(slice, old.shape))] = old
    return twin


def shuffled(block: Tensor, draw: torch.Generator) -> Tensor:
    """Each neuron's values in an order of its own over the images."""
    order = torch.rand(block.shape, generator=draw).argsort(dim=1)
    return block.gather(1, order.to(block.device))


def permuted(look: scores.Seen, seed: int = 0) -> scores.Seen:
    """The hidden blocks with what neurons share taken away; pixels and outputs stay.

    Raises:
        ValueError: if the last linear layer reads something else than the last hidden block.
    """
    if not torch.equal(look.embedding, look.last):
        raise ValueError("the embedding is not the last hidden block; permute it as well")
    draw = torch.Generator().manual_seed(seed)
    hidden = {name: shuffled(block, draw) for name, block in look.hidden.items()}
    return replace(look, hidden=hidden, embedding=next(reversed(hidden.values())))


def controls(model: nn.Module, images: Tensor) -> dict[str, scores.Seen]:
    """Three changes of a network: the first two keep its answers, the third its neurons one by one."""
    return {
        "rescaled": scores.observe(rescaled(model), images),
        "dead units": scores.observe(padded(model), images),
        "permuted": permuted(scores.observe(model, images)),
    }


def measure(look: scores.Seen) -> dict[str, float]:
    """Every score of this page."""
    return {name: score(look) for name, score in SCORES.items()}


def floor(block: Tensor) -> dict[int, float]:
    """Relative error of the best approximation of each rank (Eckart & Young 1936); 0 for a block of zeros."""
    if not block.any():
        return dict.fromkeys(scores.RANKS, 0.0)
    energy = pk.spectrum(block).square()
    left = 1 - energy.cumsum(0) / energy.sum()
    return {rank: left[rank - 1].clamp(min=0).sqrt().item() for rank in scores.RANKS}


def facts(look: scores.Seen) -> dict:
    """Of all the data and of each block its root mean square, and entropy ranks; and every score."""
    blocks = look.inputs | look.hidden
    found = {"size": torch.cat([*blocks.values()]).square().mean().sqrt().item()}
    for name, block in blocks.items():
        found[f"size of {name}"] = block.square().mean().sqrt().item()
        found[f"entropy rank of {name}"] = pk.effective_rank(block) if block.any() else 0.0
    return found | measure(look)


def fits(look: scores.Seen) -> Iterator[dict]:
    """A row for each rank: the plain fit, that of blocks of one norm, and the floor of each block."""
    floors = {name: floor(block) for name, block in (look.inputs | look.hidden).items()}
    for rank in scores.RANKS:
        plain, unit = look.plain[rank, 0], look.unit[rank, 0]
        yield {
            "rank": rank,
            **{
                what: getattr(plain, what)
                for what in ("rmse", "relative_error", "kkt", "converged")
            },
            **{
                f"unit {what}": getattr(unit, what)
                for what in ("relative_error", "kkt", "converged")
            },
            **{f"unit error of {name}": error for name, error in unit.block_errors.items()},
            **{f"floor of {name}": floors[name][rank] for name in floors},
        }


def rows(look: scores.Seen, **which) -> Iterator[dict]:
    """A row for each rank, with the facts repeated."""
    known = facts(look)
    yield from ({**which, **row, **known} for row in fits(look))


def rank_or_scale(seeds=range(3)) -> Iterator[dict]:
    """Good and poor networks on MNIST with all probe images and with few; of seed 0, their twins too."""
    images = zoo.probe_images("mnist")
    for seed in seeds:
        for kind in KINDS:
            model, known = rear(recipe(kind, seed))
            looks = {
                ("none", count): scores.observe(model, images[:count])
                for count in (len(images), FEW)
            }
            if kind in CONTROLLED and seed == 0:
                looks |= {
                    (name, len(images)): twin for name, twin in controls(model, images).items()
                }
            for (control, count), one in looks.items():
                which = {"network": kind, "seed": seed, "control": control, "images": count}
                yield from rows(one, **which, **known)
