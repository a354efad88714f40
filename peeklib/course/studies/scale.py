"""Rank or scale: good and poor networks of the zoo, and how label-free scores react to changes.

`controls(...)` are the twins of a network: three changes of which two keep every answer.
`rows(...)` is all that the table holds of one of them, a row for each rank.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

import peeklib as pk

from ...study import scores
from .. import zoo
from .common import rescale, size

KINDS = {  # what sets each kind apart from the base of the zoo
    "good": {},
    "little data": {"factor": "images", "images": 500},
    "class order": {"factor": "sorting", "sorting": 0.8},
    "untrained": {"factor": "untrained", "epochs": 0},
    "half order": {"factor": "sorting", "sorting": 0.5},
    "random labels": {"factor": "noise", "images": 1000, "noise": 1.0, "epochs": 60},
}
CONTROLLED = ("good", "little data", "untrained")  # their twins are in the table
LOUDER = 4  # times relu1 and relu2 in a rescaled twin: a power of two changes no bit of the answers
FEW = 100  # images, beside all that the zoo probes with
SCORES = {name: score for name, score in scores.SCORES.items() if score.family != "weights"}
rear = pk.cached(zoo.rear)


def recipe(kind: str, seed: int = 0, data: str = "mnist") -> zoo.Recipe:
    """How a network of that kind is trained."""
    return replace(zoo.Recipe(data, "cnn", seed=seed), **KINDS[kind])


def padded(model: nn.Module) -> nn.Module:
    """The same function, with as many units again that are always zero."""
    twin = pk.models.PaperCNN(width=2).to(next(model.parameters()).device).requires_grad_(False)
    for new, old in zip(twin.parameters(), model.parameters(), strict=True):
        new.zero_()
        corner = tuple(slice(length) for length in old.shape)
        new[corner] = old
    return twin


def shuffle_rows(block: Tensor, generator: torch.Generator) -> Tensor:
    """Each neuron's values in an order of its own over the images."""
    order = torch.rand(block.shape, generator=generator).argsort(dim=1)
    return block.gather(1, order.to(block.device))


def permuted(look: scores.Seen, seed: int = 0) -> scores.Seen:
    """The hidden blocks with what neurons share taken away; pixels and outputs stay.

    Raises:
        ValueError: if the last linear layer reads something else than the last hidden block.
    """
    if not torch.equal(look.embedding, look.last):
        raise ValueError("the embedding is not the last hidden block; permute it as well")
    generator = torch.Generator().manual_seed(seed)
    hidden = {name: shuffle_rows(block, generator) for name, block in look.hidden.items()}
    return replace(look, hidden=hidden, embedding=next(reversed(hidden.values())))


def controls(model: nn.Module, images: Tensor) -> dict[str, scores.Seen]:
    """Three changes of a network: two keep its answers, the third its neurons one by one."""
    return {
        "rescaled": scores.observe(rescale(model, LOUDER), images),
        "dead units": scores.observe(padded(model), images),
        "permuted": permuted(scores.observe(model, images)),
    }


def measure(look: scores.Seen) -> dict[str, float]:
    """Every score that does not look at the weights."""
    return {name: score(look) for name, score in SCORES.items()}


def floor(block: Tensor) -> dict[int, float]:
    """Relative error of the best approximation of each rank (Eckart & Young 1936).

    0 for a block of zeros.
    """
    errors = pk.spectra.eckart_young(pk.spectrum(block), scores.RANKS)
    return dict(zip(scores.RANKS, errors.tolist(), strict=True))


def facts(look: scores.Seen) -> dict:
    """Root mean squares of all the data and of each block, entropy ranks, and every score."""
    blocks = look.inputs | look.hidden
    found = {"size": size(torch.cat([*blocks.values()]))}
    for name, block in blocks.items():
        found[f"size of {name}"] = size(block)
        found[f"entropy rank of {name}"] = pk.effective_rank(block) if block.any() else 0.0
    return found | measure(look)


def fits(look: scores.Seen) -> Iterator[dict]:
    """A row for each rank: the plain fit, that of blocks of one norm, and each block's floor."""
    floors = {name: floor(block) for name, block in (look.inputs | look.hidden).items()}
    for rank in scores.RANKS:
        plain, unit = look.plain[rank, 0], look.unit[rank, 0]
        row = {
            "rank": rank,
            "rmse": plain.rmse,
            "relative_error": plain.relative_error,
            "kkt": plain.kkt,
            "converged": plain.converged,
            "unit relative_error": unit.relative_error,
            "unit kkt": unit.kkt,
            "unit converged": unit.converged,
        }
        for name, error in unit.block_errors.items():
            row[f"unit error of {name}"] = error
        for name in floors:
            row[f"floor of {name}"] = floors[name][rank]
        yield row


def rows(look: scores.Seen, **which) -> Iterator[dict]:
    """A row for each rank, with `which` and the facts repeated."""
    known = facts(look)
    for row in fits(look):
        yield {**which, **row, **known}


def rank_or_scale(seeds=range(3)) -> Iterator[dict]:
    """Good and poor networks on MNIST on all probe images and on few; of seed 0, the twins too."""
    images = zoo.probe_images("mnist")
    for seed in seeds:
        for kind in KINDS:
            model, known = rear(recipe(kind, seed))
            looks = {}  # (control, images) → what the scores need
            for count in (len(images), FEW):
                looks["none", count] = scores.observe(model, images[:count])
            if kind in CONTROLLED and seed == 0:
                for name, twin in controls(model, images).items():
                    looks[name, len(images)] = twin
            for (control, count), one in looks.items():
                which = {"network": kind, "seed": seed, "control": control, "images": count}
                yield from rows(one, **which, **known)
