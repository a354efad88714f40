"""What every component says for every class: attribution that is exact.

    A  neurons × images: the layer that the answers are read from; O, F of its block, A ≈ O Fᵀ
    V  classes × rank, the votes: what component k adds to each logit of an image that has 1 of it
    b  classes: the logits where that layer is silent

Where logits are linear in a layer, logits(A) = b + L A, an image's logits are the sum of what its
components say and of what the factorization leaves out, with V = L O:

    logits = b + V F[image] + L (A − O F[image])

This is the direct attribution of logits (Elhage et al. 2021, *A mathematical framework for
transformer circuits*) with components in place of parts of the network; Olah et al. (2018, *The
building blocks of interpretability*) draw it for non-negative factors of a layer.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..blocks import check_count, full_precision
from ..hooks import logits_of
from ..images import as_images
from ..names import escape, literal, readable
from ..nmf import CoupledFactors
from ..plots import WIDTH, _pixel_images, theme
from ..sites import Site
from ..watch import Preprocess, Sight, forward, unchanged
from .interventions import Stage, as_logits

MIXES = 8  # of components, to see whether logits are linear in the layer
SHOWN = 16  # images, to see whether the logits depend on anything else
WITHIN = 1e-3  # of the largest logit, that they may miss it by rounding …
ROUNDINGS = 4  # … or as many of those of the type that the network computes in
REST, BIAS = "left out", "bias"


@dataclass(frozen=True, repr=False, eq=False)
class Votes:
    """What each component says for each class; shows itself as a table, classes × components.

    Example:
        >>> import peeklib as pk
        >>> fit = pk.coupled_nmf({"relu": torch.ones(3, 4)}, 1)
        >>> found = Votes("relu", fit, torch.tensor([[1.0], [2.0]]), torch.zeros(2), torch.eye(4, 2))
        >>> found.logits[0].round(decimals=2).tolist(), found.answers.tolist(), found.kept
        ([1.0, 2.0], [1, 1, 1, 1], 0.25)
    """

    layer: str  #: that the answers are read from
    fit: CoupledFactors
    votes: Tensor  #: V, classes × rank, in units of logits for a loading of 1
    bias: Tensor  #: b, classes: the logits where the layer is silent
    own_logits: Tensor  #: images × classes, of the network itself

    @property
    def logits(self) -> Tensor:
        """Those that the components give without what they leave out: b + V F, images × classes."""
        F = self.fit.image_factor.to(self.votes)
        return self.bias + F @ self.votes.T

    @property
    def answers(self) -> Tensor:
        """What the network would answer if the layer were what the factorization says."""
        return self.logits.argmax(1)

    @property
    def own_answers(self) -> Tensor:
        """What the network answers."""
        return self.own_logits.argmax(1)

    @property
    def kept(self) -> float:
        """Share of the images with the same answer of both."""
        return (self.answers == self.own_answers).double().mean().item()

    def of(self, image: int) -> pd.DataFrame:
        """How the logits of one image come about: they are the sums of the columns.

        Args:
            image: its number, from 0.

        Returns:
            A row for each component, by number from 0, one for what the factorization leaves out,
            and one for the bias; a column for each class.

        Raises:
            IndexError: for an image that the fit does not have.

        Example:
            >>> import peeklib as pk
            >>> fit = pk.coupled_nmf({"relu": torch.ones(3, 4)}, 1)
            >>> votes = Votes("relu", fit, torch.ones(2, 1), torch.zeros(2), torch.eye(4, 2) + 2)
            >>> votes.of(0).sum().round(2).tolist()
            [3.0, 2.0]
        """
        count = len(self.own_logits)
        if not -count <= image < count:
            raise IndexError(f"no image {image}; the fit is of {count}, from 0 up")
        each = self.votes * self.fit.image_factor[image].to(self.votes)  # classes × rank
        rest = self.own_logits[image].to(each) - self.logits[image]
        columns = torch.cat([each, rest[:, None], self.bias[:, None]], dim=1)
        names = [*range(self.fit.rank), REST, BIAS]
        return pd.DataFrame(columns.T.double().cpu().numpy(), index=names)

    def table(self) -> pd.DataFrame:
        """The votes: classes × components.

        Returns:
            In units of logits, for a loading of 1, the usual one: columns of F have root mean
            square 1.

        Example:
            >>> import peeklib as pk
            >>> fit = pk.coupled_nmf({"relu": torch.ones(3, 4)}, 1)
            >>> Votes("relu", fit, torch.ones(2, 1), torch.zeros(2), torch.eye(4, 2)).table().shape
            (2, 1)
        """
        found = pd.DataFrame(self.votes.double().cpu().numpy())
        return found.rename_axis(index="class", columns="component")

    def why(self, image: int, images, *, against: int | None = None, most: int = 5) -> Figure:
        """Why this answer? From pixels to logits, for one image.

        The image; the components that say most between two classes, as pixels; and bars of what
        each says for the one less what it says for the other, with all other components, what the
        factorization leaves out, and the bias. The bars add up to the lead of the answer.

        Args:
            image: its number, from 0.
            images: those of the fit, as `votes` takes them; of a pixel for each of its rows.
            against: the class to compare the answer with. None: the one with the next largest logit.
            most: components that are shown by themselves.

        Returns:
            A figure of two rows.

        Raises:
            IndexError: for an image or a class that there is not.
            ValueError: for a fit without an input block, other images, or a network with one output.

        Example:
            >>> import peeklib as pk
            >>> images = torch.ones(4, 1, 2, 2)
            >>> fit = pk.coupled_nmf(pk.input_blocks(images) | {"relu": torch.ones(3, 4)}, 1)
            >>> votes = Votes("relu", fit, torch.ones(2, 1), torch.zeros(2), torch.eye(4, 2))
            >>> votes.why(0, images).axes[-1].get_title()
            'for 0 less for 1: 1, the sum of'
        """
        said, images = self.of(image), as_images(images)
        if len(images) != len(self.own_logits):
            raise ValueError(
                f"there are {len(images)} images, and the votes are of {len(self.own_logits)}; give "
                "those of the fit, in their order"
            )
        answer, other = self._rivals(image, against)
        lead = pd.Series(said[answer] - said[other])  # of each component, the rest, and the bias
        check_count(most, "most")
        strongest = lead.iloc[: self.fit.rank].abs().sort_values(ascending=False)
        chosen = sorted(strongest.index[:most], key=lambda k: -lead[k])
        return _draw_why(self.fit, images, image, lead, chosen, f"for {answer} less for {other}")

    def _rivals(self, image: int, against: int | None) -> tuple[int, int]:
        """The answer, and the class to compare it with."""
        if self.own_logits.shape[1] < 2:
            raise ValueError(
                "the network has one output, and no other class to compare its answer with; "
                f"of({image}) has what each component adds to it"
            )
        ranked = self.own_logits[image].argsort(descending=True).tolist()
        if against is None:
            return ranked[0], ranked[1]
        if against not in ranked or against == ranked[0]:
            raise IndexError(
                f"against is {against}; name one of the classes {sorted(ranked[1:])}, as the "
                f"answer is {ranked[0]}"
            )
        return ranked[0], against

    def __repr__(self):
        classes, rank = self.votes.shape
        kept = f"{100 * self.kept:.1f} % of {len(self.own_logits):,} answers kept"
        where = readable(self.layer)
        return f"Votes of {rank} components of {where} for {classes} classes; by them alone {kept}"

    def _repr_html_(self) -> str:
        table = self.table().to_html(float_format="{:.2f}".format, border=0)
        return f"<p>{escape(repr(self))}</p>{table}"


def votes(
    model: nn.Module,
    fit: CoupledFactors,
    images,
    *,
    layer: str | None = None,
    preprocess: Preprocess | None = None,
    batch_size: int = 500,
) -> Votes:
    """What every component says for every class, exactly, where logits are linear in its layer.

    V = L O, of the map L from that layer to the logits (direct attribution of logits, Elhage et al.
    2021; Olah et al. 2018). L is not looked for among the weights: the network is run with columns
    of O in place of the layer's output, so an average or a flattening may stand between.

    Args:
        model, fit, images, preprocess, batch_size: as for `intervene`.
        layer: a block of the fit from which on the network is linear; None: the last one.

    Returns:
        The votes, and the logits that they add up to beside the network's own.

    Raises:
        TypeError, ValueError: as `intervene`; and if the logits are not linear in the layer, depend
            on the images in a way around it, or are probabilities.

    Example:
        >>> import peeklib as pk
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).requires_grad_(False)
        >>> images = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
        >>> fit = pk.coupled_nmf(pk.record(model, images), 2)
        >>> found = pk.votes(model, fit, images)
        >>> torch.allclose(found.votes, model[2].weight @ fit.factors["1"], atol=1e-5)
        True
    """
    check_count(batch_size, "batch_size")
    stage = Stage.of(model, fit, images, preprocess, batch_size)
    site = stage.site(stage.last if layer is None else layer)
    own = stage.run(check=[site.name])
    _check_logits(own)
    probes = _probes(fit.factors[site.name])
    answers = _answers_to(stage, site, probes)
    bias = answers[0]
    said = answers[1 : fit.rank + 1] - bias  # rank × classes
    _check_linear(site.name, said, answers[fit.rank + 1 :] - bias, bias)
    _check_alone(stage, site, probes[:, [0, -1]], answers[[0, -1]])
    return Votes(site.name, fit, said.T.to(own), bias.to(own), own)


def _mixes(rank: int) -> Tensor:
    """Components to add up: rank × mixes, the same every time."""
    return torch.rand(rank, MIXES, generator=torch.Generator().manual_seed(0))


@full_precision()
def _probes(O: Tensor) -> Tensor:
    """Silence, each column of O, and mixes of them: neurons × probes."""
    mixed = O @ _mixes(O.shape[1]).to(O)
    return torch.cat([torch.zeros_like(O[:, :1]), O, mixed], dim=1)


def _answers_to(stage: Stage, site: Site, block: Tensor, images: Tensor | None = None) -> Tensor:
    """Logits where a layer gives `block`, neurons × probes, for images that do not matter then."""
    count = block.shape[1]
    if images is None:
        images = stage.images[:1].expand(count, *stage.images.shape[1:])

    def swap(sight: Sight) -> Tensor | None:
        if sight.name == site.name:
            return site.restore(block.to(sight.tensor), sight.tensor)
        return None

    with unchanged(stage.model):
        output = forward(stage.model, images, stage.preprocess, swap)
    return as_logits(logits_of(output, count))


def _check_logits(own: Tensor) -> None:
    """Whether these are logits, of which a softmax has not made probabilities."""
    if own.shape[1] < 2:
        return
    values = own.double()
    shares = {"softmax": values, "log-softmax": values.exp()}
    for name, share in shares.items():
        apart = (share.sum(1) - 1).abs()
        if bool((share >= 0).all() and (apart <= _room(own)).all()):
            raise ValueError(
                f"the model ends in a {name}, and its outputs are not linear in any layer; give it "
                "without that: what it gives before are the logits"
            )


def _room(logits: Tensor) -> float:
    """By what share of the largest logit two may differ by rounding."""
    return max(WITHIN, ROUNDINGS * torch.finfo(logits.dtype).eps)


def _check_alone(stage: Stage, site: Site, probes: Tensor, answers: Tensor) -> None:
    """Whether the logits are the same for all images where the layer gives them the same."""
    images = stage.images[:: max(1, len(stage.images) // SHOWN)]
    for probe, expected in zip(probes.T, answers, strict=True):
        block = probe[:, None].expand(-1, len(images))
        found = _answers_to(stage, site, block, images)
        missed = float((found - expected).abs().max())
        if not missed <= _room(found) * float(answers.abs().max()):
            raise ValueError(
                f"the logits do not depend on layer {site.name!r} alone: where it gives the same for "
                f"all images, they differ by {missed:.2g}. Something leads around it; take a layer "
                "behind which all goes through: record it, factorize it with the others, and name "
                "it as layer="
            )


@full_precision()
def _check_linear(layer: str, said: Tensor, mixed: Tensor, bias: Tensor) -> None:
    """Whether mixes of components say what these say, added up."""
    expected = _mixes(len(said)).to(said).T @ said  # mixes × classes
    largest = float(torch.cat([expected, mixed, bias[None]]).abs().max())
    missed = float((mixed - expected).abs().max())
    if not missed <= _room(mixed) * largest:  # nor for NaN
        raise ValueError(
            f"the logits are not linear in layer {layer!r}: components say {missed / largest:.0%} "
            "of the largest logit more or less together than one by one. Take the last layer before "
            "the logits, what a pool after it gives included: record it, factorize it with the "
            "others, and name it as layer="
        )


@theme()
def _draw_why(fit: CoupledFactors, images, image: int, lead: pd.Series, chosen: list, words: str):
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 2])
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    shape = tuple(images.shape[2:])
    latent = _pixel_images(fit, slice(None), shape)
    pixels = np.moveaxis(torch.as_tensor(images[image]).cpu().numpy(), 0, -1)
    axes = above.subplots(1, 1 + len(chosen), squeeze=False)[0]
    titles = [f"image {image}", *(f"component {k}" for k in chosen)]
    loadings = fit.image_factor[image].tolist()
    for ax, title, picture in zip(axes, titles, [pixels, *latent[chosen]], strict=True):
        ax.imshow(np.squeeze(picture / (picture.max() or 1)), cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    said = dict(zip(lead.index, lead.tolist(), strict=True))
    bars = {f"component {k} ({loadings[k]:.1f} of it)": said.pop(k) for k in chosen}
    left_out, bias = said.pop(REST), said.pop(BIAS)
    bars |= {"all other components": sum(said.values()), REST: left_out, BIAS: bias}
    ax = below.subplots()
    colours = ["#0173b2" if value > 0 else "#de8f05" for value in bars.values()]
    ax.barh([literal(name) for name in bars], list(bars.values()), color=colours)
    ax.axvline(0, color="black", linewidth=1)
    ax.invert_yaxis()
    ax.set_xlabel("logits")
    ax.set_title(f"{words}: {lead.sum():.3g}, the sum of", fontsize=10)
    return figure
