"""Rank or scale: good and poor networks of the zoo, and how label-free scores react to changes.

`controls(...)` are the twins of a network: three changes of which two keep every answer.
`rows(...)` is all that the table holds of one of them, a row for each rank.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

import peeklib as pk

from ...blocks import check_seed
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
    """How a network of that kind is trained.

    Returns:
        What `zoo.rear` takes.

    Example:
        >>> recipe("untrained").epochs, recipe("good").epochs
        (0, 5)
    """
    return replace(zoo.Recipe(data, "cnn", seed=seed), **KINDS[kind])


def padded(model: nn.Module) -> nn.Module:
    """The same function, with as many units again that are always zero.

    Returns:
        A PaperCNN of twice the width, without gradients.

    Example:
        >>> model = pk.models.PaperCNN(seed=0)
        >>> images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(padded(model)(images), model(images), atol=1e-6)
        True
    """
    twin = pk.models.PaperCNN(width=2).to(next(model.parameters()).device).requires_grad_(False)
    for new, old in zip(twin.parameters(), model.parameters(), strict=True):
        new.zero_()
        corner = tuple(slice(length) for length in old.shape)
        new[corner] = old
    return twin


def shuffle_rows(block: Tensor, generator: torch.Generator) -> Tensor:
    """Each neuron's values in an order of its own over the images.

    Returns:
        neurons × images, as the block.

    Example:
        >>> block = torch.arange(6.0).view(2, 3)
        >>> moved = shuffle_rows(block, torch.Generator().manual_seed(0))
        >>> torch.equal(moved.sort(dim=1).values, block)
        True
    """
    order = torch.rand(block.shape, generator=generator).argsort(dim=1)
    return block.gather(1, order.to(block.device))


def permuted(look: scores.Seen, seed: int = 0) -> scores.Seen:
    """The hidden blocks with what neurons share taken away; pixels and outputs stay.

    Returns:
        A copy with other hidden blocks and embedding, of the same shapes.

    Raises:
        ValueError: if the last linear layer reads something else than the last hidden block.

    Example:
        >>> images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> look = scores.observe(pk.models.PaperCNN(seed=0), images)
        >>> torch.equal(permuted(look).last.sort(dim=1).values, look.last.sort(dim=1).values)
        True
    """
    if not torch.equal(look.embedding, look.last):
        raise ValueError("the embedding is not the last hidden block; permute it as well")
    generator = torch.Generator().manual_seed(check_seed(seed))
    hidden = {name: shuffle_rows(block, generator) for name, block in look.hidden.items()}
    return replace(look, hidden=hidden, embedding=next(reversed(hidden.values())))


def controls(model: nn.Module, images: Tensor) -> dict[str, scores.Seen]:
    """Three changes of a network: two keep its answers, the third its neurons one by one.

    Returns:
        Name → what the scores need.

    Example:
        >>> images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> twins = controls(pk.models.PaperCNN(seed=0), images)
        >>> {name: len(look.last) for name, look in twins.items()}
        {'rescaled': 320, 'dead units': 640, 'permuted': 320}
    """
    return {
        "rescaled": scores.observe(rescale(model, LOUDER), images),
        "dead units": scores.observe(padded(model), images),
        "permuted": permuted(scores.observe(model, images)),
    }


def measure(look: scores.Seen) -> dict[str, float]:
    """Every score that does not look at the weights.

    Returns:
        Name of the score → its value.
    """
    return {name: score(look) for name, score in SCORES.items()}


def floor(block: Tensor) -> dict[int, float]:
    """Relative error of the best approximation of each rank (Eckart & Young 1936).

    Returns:
        Rank → error, 0 … 1; 0 for a block of zeros.

    Example:
        >>> {rank: round(error, 2) for rank, error in floor(torch.eye(16)).items()}
        {1: 0.97, 2: 0.94, 4: 0.87, 8: 0.71, 16: 0.0}
    """
    errors = pk.spectra.eckart_young(pk.spectrum(block), scores.RANKS)
    return dict(zip(scores.RANKS, errors.tolist(), strict=True))


def facts(look: scores.Seen) -> dict:
    """Root mean squares of all the data and of each block, entropy ranks, and every score.

    Returns:
        All of these, by column.
    """
    blocks = look.inputs | look.hidden
    found = {"size": size(torch.cat([*blocks.values()]))}
    for name, block in blocks.items():
        found[f"size of {name}"] = size(block)
        found[f"entropy rank of {name}"] = pk.effective_rank(block) if block.any() else 0.0
    return found | measure(look)


def fits(look: scores.Seen) -> Iterator[dict]:
    """A row for each rank: the plain fit, that of blocks of one norm, and each block's floor.

    Yields:
        One dict for each of `scores.RANKS`.
    """
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
    """A row for each rank, with `which` and the facts repeated.

    Yields:
        One dict for each of `scores.RANKS`.
    """
    known = facts(look)
    for row in fits(look):
        yield {**which, **row, **known}


def rank_or_scale(seeds=range(3)) -> Iterator[dict]:
    """Good and poor networks on MNIST on all probe images and on few; of seed 0, the twins too.

    Yields:
        A row for each network, number of images or twin, and rank.
    """
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
