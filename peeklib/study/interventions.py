"""Parts of a network silenced or scaled while it runs: what becomes of its answers?

    A  neurons × images: what a layer gives
    O  neurons × rank, F images × rank: that layer's block of a coupled factorization, A ≈ O Fᵀ
    s  the strength: 0 silences, 1 changes nothing

A neuron n gives s Aₙ in place of Aₙ. So do Morcos et al. (2018, *On the importance of single
directions for generalization*), and Bau et al. (2020, *Understanding the role of individual units
in a deep neural network*), with s = 0. Of components k the part Σₖ Oₖ Fₖᵀ is taken out and s times
it put back: A − (1 − s) Σₖ Oₖ Fₖᵀ, in which nothing that was above zero falls below, since no later
layer ever saw a ReLU do that. What the factorization does not explain stays.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor, nn

from ..blocks import as_labels, check_count, full_precision
from ..hooks import logits_of
from ..images import as_images, to_float
from ..names import escape, readable
from ..nmf import CoupledFactors
from ..samples import even_batches
from ..sites import Site, layer_names, trace
from ..watch import Preprocess, See, Sight, forward, unchanged, unwrapped

ROOM = 1e-3  # that an error of a layer may differ from the fit's, by rounding on another machine


@dataclass(frozen=True, repr=False, eq=False)
class Intervention:
    """What a network answers with a part of it changed, beside what it answers as it is.

    Shows itself as a sentence, and on a page with the recall of each class below.

    Example:
        >>> before = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
        >>> found = Intervention("relu: 1 of 3 neurons × 0", before.flip(1), before)
        >>> found
        relu: 1 of 3 neurons × 0. 0.0 % of 2 answers kept, logits moved by 1.41 of their spread
        >>> found.answers.tolist(), found.own_answers.tolist()
        ([1, 0], [0, 1])
    """

    what: str  #: was changed, in words
    logits: Tensor  #: images × classes, with the change
    own_logits: Tensor  #: images × classes, of the network as it is
    labels: Tensor | None = None  #: the class of each image, if they were given

    @property
    def answers(self) -> Tensor:
        """The class of the largest logit of each image, with the change."""
        return self.logits.argmax(1)

    @property
    def own_answers(self) -> Tensor:
        """The same of the network as it is."""
        return self.own_logits.argmax(1)

    @property
    def kept(self) -> float:
        """Share of the images whose answer is that of the network as it is."""
        return (self.answers == self.own_answers).double().mean().item()

    @property
    def moved(self) -> float:
        """How far the logits moved, as a share of how far they differ from image to image.

        Returns:
            Root mean square of the change, over the standard deviation of a logit over the images.
            Infinite where a network gives all images the same logits, and they moved.
        """
        change = (self.logits - self.own_logits).double().square().mean().sqrt().item()
        spread = self.own_logits.double().var(dim=0, correction=0).mean().sqrt().item()
        if spread:
            return change / spread
        return math.inf if change else 0.0

    @cached_property
    def recall(self) -> pd.DataFrame:
        """Of the images of each class, the share that the network answers with this class.

        Where no labels were given, what the network itself says of an image is its class.

        Returns:
            A row for each class that has images: `images`, their number, and the share `before`
            and `after` the change.

        Example:
            >>> before = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
            >>> found = Intervention("", before.flip(1), before, labels=torch.tensor([1, 1]))
            >>> found.recall.to_dict("index")
            {1: {'images': 2, 'before': 0.5, 'after': 0.5}}
        """
        labels = self.own_answers if self.labels is None else self.labels
        labels = labels.to(self.logits.device)
        rows = {}
        for label in labels.unique().tolist():
            own = labels == label
            rows[label] = {
                "images": int(own.sum()),
                "before": (self.own_answers[own] == label).double().mean().item(),
                "after": (self.answers[own] == label).double().mean().item(),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("class")

    def __repr__(self):
        kept = f"{100 * self.kept:.1f} % of {len(self.logits):,} answers kept"
        return f"{self.what}. {kept}, logits moved by {self.moved:.3g} of their spread"

    def _repr_html_(self) -> str:
        whose = "its own answer" if self.labels is None else "label"
        table = self.recall.rename_axis(f"class by {whose}")
        table = table.round({"before": 3, "after": 3})
        return f"<p>{escape(repr(self))}</p>{table.to_html(border=0)}"


def intervene(
    model: nn.Module,
    fit: CoupledFactors,
    images,
    *,
    component: int | Iterable[int] | None = None,
    neurons=None,
    strength: float = 0.0,
    layers: str | Iterable[str] | None = None,
    labels=None,
    preprocess: Preprocess | None = None,
    batch_size: int = 500,
) -> Intervention:
    """Silence or scale neurons or components of a factorization while the network runs.

    Neurons n of a layer give s Aₙ in place of Aₙ (Morcos et al. 2018, Bau et al. 2020: s = 0).
    Components k, which are columns of the factors, give s times their part: the layer gives
    A − (1 − s) Σₖ Oₖ Fₖᵀ, but where it was above zero no less than zero. Later layers see the change
    and run on from there; of several layers, each is changed as it then is.

    Args:
        model: any, as for `record`; left as it was, after an error too.
        fit: of these images, with the layers that are changed among its blocks.
        images: those of the fit in their order, images × …; or what `as_images` takes.
        component: which ones, counted from 0, as columns of `fit.factors[layer]` are …
        neurons: … or which neurons, counted as rows are: numbers, or a mask with a truth value
            for each; of several layers, by name.
        strength: s: 0 silences, 1 leaves as it is, 2 doubles.
        layers: names of those that are changed. None: the last one of the network that the fit has,
            or those that `neurons` names.
        labels: the class of each image, for the recall by class. None: what the network itself says.
        preprocess: what is done to a batch of images, as floats, before the model gets it.
        batch_size: images in one forward pass.

    Returns:
        Logits before and after, answers, share of answers kept, recall by class.

    Raises:
        TypeError: for what is no fit, or numbers that are no whole numbers.
        ValueError: for a layer that the fit or the model does not have, or has with other neurons;
            components, neurons, a strength or labels that cannot be; both or none of components and
            neurons; images that are not the fit's; logits that are not images × classes.

    Example:
        >>> import peeklib as pk
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).requires_grad_(False)
        >>> images = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
        >>> fit = pk.coupled_nmf({"input": images.T} | pk.record(model, images, ["1"]), 2)
        >>> silenced = pk.intervene(model, fit, images, neurons=[0, 1, 2])
        >>> silenced.what, torch.equal(silenced.logits, model[2].bias.expand(9, 2))
        ('1: 3 of 3 neurons × 0', True)
        >>> pk.intervene(model, fit, images, component=1, strength=1).kept
        1.0
    """
    check_count(batch_size, "batch_size")
    strength = _strength(strength)
    stage = Stage.of(model, fit, images, preprocess, batch_size)
    labels = None if labels is None else as_labels(labels, len(stage.images))
    edits = _edits(stage, component, neurons, strength, layers)
    own = stage.run(check={edit.site.name for edit in edits})
    changed = stage.run({edit.site.name: edit for edit in edits})
    what = "; ".join(edit.what for edit in edits)
    return Intervention(what, changed, own, labels)


@dataclass(frozen=True)
class Stage:
    """A network, a factorization of what it makes of some images, and these images: it can run.

    Example:
        >>> import peeklib as pk
        >>> model, images = nn.Sequential(nn.ReLU()), torch.ones(3, 2)
        >>> fit = pk.coupled_nmf(pk.record(model, images), 1)
        >>> stage = Stage.of(model, fit, images)
        >>> list(stage.sites), stage.run().shape
        (['0'], torch.Size([3, 2]))
    """

    model: nn.Module
    fit: CoupledFactors
    images: Tensor
    sites: dict[str, Site]  #: of the layers that both the network and the fit have, as they ran
    preprocess: Preprocess | None
    batch_size: int

    @classmethod
    def of(
        cls, model, fit, images, preprocess: Preprocess | None = None, batch_size: int = 500
    ) -> "Stage":
        """The layers looked up, and whether the fit has a row for each image.

        Raises:
            TypeError: for what is no fit.
            ValueError: for another number of images, or no layer that both have.
        """
        if not isinstance(fit, CoupledFactors):
            kind = type(fit).__name__
            raise TypeError(f"fit is a {kind}; give one factorization, such as sweep[rank, seed]")
        model, images = unwrapped(model), as_images(images)
        to_float(images[:0])  # refuses what nobody can scale
        if len(images) != len(fit.image_factor):
            raise ValueError(
                f"there are {len(images)} images, and the fit is of {len(fit.image_factor)}; give "
                "those that were recorded, in their order, or factorize a record of these"
            )
        sites = {}
        ran = trace(model, images, preprocess=preprocess)
        for site in ran:
            if site.name in fit.factors:
                sites[site.name] = site
        if not sites:
            raise ValueError(
                f"no block of the fit is a layer of the model: the fit has {list(fit.factors)}, the "
                f"model {[site.name for site in ran]}; give the model that was recorded"
            )
        return cls(model, fit, images, sites, preprocess, batch_size)

    def site(self, name: str) -> Site:
        """One layer, which can be exchanged.

        Raises:
            ValueError: for one that is not there, cannot be recorded, is one of several outputs, or
                has other neurons than its block.
        """
        if name not in self.sites:
            raise ValueError(self._about(name))
        site, rows = self.sites[name], len(self.fit.factors[name])
        if site.reason:
            raise ValueError(f"layer {name!r} cannot be changed: {site.reason}; name another")
        if name.endswith("]"):
            raise ValueError(
                f"layer {name!r} is one of several outputs of a module, and cannot be exchanged; "
                "record and name a layer before or after it"
            )
        if site.features * site.positions != rows:
            raise ValueError(
                f"layer {name!r} of the model has {site.features * site.positions} neurons, the "
                f"fit's {rows}; give the model that was recorded, and the layer recorded whole"
            )
        return site

    def _about(self, name: str) -> str:
        """What is the matter with a name that is no layer of both."""
        if name in self.fit.factors:
            return (
                f"{name!r} is a block of the fit and no layer of the model; name one of "
                f"{list(self.sites)}"
            )
        near = difflib.get_close_matches(name, list(self.sites), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return (
            f"layer {name!r} is not in the fit{hint}, which has {list(self.sites)}; name one of "
            "these, or record that layer and factorize it with the others"
        )

    @property
    def last(self) -> str:
        """The layer of the fit that runs last."""
        return list(self.sites)[-1]

    def run(self, edits: Mapping[str, "Edit"] | None = None, check: Iterable[str] = ()) -> Tensor:
        """The logits of all images.

        Args:
            edits: what is changed, by name of the layer.
            check: layers of which to make sure that the fit is of them.

        Returns:
            images × classes, on the device of the images.

        Raises:
            ValueError: if a layer is not the one that was factorized; for other logits.
        """
        logits = []
        sums = {name: torch.zeros(2, dtype=torch.float64) for name in check}
        with unchanged(self.model):
            for batch in even_batches(len(self.images), self.batch_size):
                see = self._see(batch, edits or {}, sums)
                part = self.images[batch]
                found = logits_of(forward(self.model, part, self.preprocess, see), len(part))
                logits.append(found.to(self.images.device))
        for name, (lost, energy) in sums.items():
            self._check(name, math.sqrt(lost / energy) if energy else 0.0)
        return as_logits(torch.cat(logits))

    def _see(self, batch: slice, edits: Mapping[str, "Edit"], sums: dict[str, Tensor]) -> See:
        """What looks at a pass of one batch, and changes it."""

        def see(sight: Sight) -> Tensor | None:
            name = sight.name
            if name not in edits and name not in sums:
                return None
            count = batch.stop - batch.start
            A = self.sites[name].arrange(sight.tensor, count).flatten(1).T  # neurons × images
            F = self.fit.image_factor[batch].to(A)
            if name in sums:
                sums[name] += self._errors(A, F, name)
            if name not in edits:
                return None
            return self.sites[name].restore(edits[name].apply(A, F), sight.tensor)

        return see

    @full_precision()
    def _errors(self, A: Tensor, F: Tensor, name: str) -> Tensor:
        """Squares of what the fit loses of A, and of A itself, added up."""
        O = self.fit.factors[name].to(A)
        A = A.clamp(min=0)  # as recorded with negative="clip"
        parts = [(A - O @ F.T).double().square().sum(), A.double().square().sum()]
        return torch.stack(parts).cpu()

    def _check(self, name: str, error: float) -> None:
        expected = self.fit.block_errors[name]
        if abs(error - expected) > ROOM * max(expected, 1):
            raise ValueError(
                f"the fit's error in layer {name!r} is {expected:.3g}, and {error:.3g} of these "
                "images in this model; give the model and the images that were recorded, in "
                "their order"
            )


@dataclass(frozen=True)
class Edit:
    """A change of one layer: `strength` times some neurons, or some components.

    Example:
        >>> site = Site("relu", "relu", "ReLU", "activation", shape=(2,))
        >>> half = Edit(site, torch.tensor([1]), None, 0.5)
        >>> half.apply(torch.tensor([[1.0], [2.0]]), torch.ones(1, 1)).flatten().tolist()
        [1.0, 1.0]
    """

    site: Site
    chosen: Tensor  #: indices of the neurons, or of the components
    O: Tensor | None  #: neurons × components chosen; None where neurons are
    strength: float

    @property
    def what(self) -> str:
        """The change in words."""
        where, times = readable(self.site.name), f"× {self.strength:g}"
        if self.O is None:
            every = self.site.features * self.site.positions
            return f"{where}: {len(self.chosen)} of {every} neurons {times}"
        listed = ", ".join(map(str, self.chosen.tolist()))
        word = "component" if len(self.chosen) == 1 else "components"
        return f"{where}: {word} {listed} {times}"

    @full_precision()
    def apply(self, A: Tensor, F: Tensor) -> Tensor:
        """The layer with the change.

        Args:
            A: neurons × images.
            F: images × rank.

        Returns:
            As A, in other memory.
        """
        chosen = self.chosen.to(A.device)
        if self.O is None:
            return A.index_copy(0, chosen, self.strength * A[chosen])
        part = self.O.to(A) @ F[:, chosen].T
        return torch.maximum(A - (1 - self.strength) * part, A.clamp(max=0))


def _strength(strength: float) -> float:
    strength = float(strength)
    if not 0 <= strength < math.inf:
        raise ValueError(
            f"strength is {strength:g}; give a number from 0 (silent) up, 1 changes nothing"
        )
    return strength


def _edits(stage: Stage, component, neurons, strength: float, layers) -> list[Edit]:
    """What to change in each layer."""
    if (component is None) == (neurons is None):
        raise ValueError(
            "name what to change: component= or neurons=, one of the two (both by two calls)"
        )
    if neurons is None:
        names = [stage.last] if layers is None else layer_names(layers)
        rank = stage.fit.rank
        chosen = _indices(component, rank, f"component {{}}; this fit has {rank}, from 0 up")
        edits = []
        for name in names:
            site = stage.site(name)
            edits.append(Edit(site, chosen, stage.fit.factors[name][:, chosen], strength))
        return edits
    edits = []
    for name, which in _by_layer(stage, neurons, layers).items():
        site = stage.site(name)
        count = site.features * site.positions
        wrong = f"layer {name!r} has no neuron {{}}; it has {count}, from 0 up"
        edits.append(Edit(site, _indices(which, count, wrong), None, strength))
    return edits


def _by_layer(stage: Stage, neurons, layers) -> Mapping:
    """Neurons by the name of their layer."""
    if isinstance(neurons, Mapping):
        if layers is not None:
            raise ValueError("neurons= names its layers itself; leave layers= out")
        return neurons
    names = [stage.last] if layers is None else layer_names(layers)
    if len(names) != 1:
        raise ValueError(f"layers are {names}; give each its neurons: neurons={{layer: numbers}}")
    return {names[0]: neurons}


def _indices(which, count: int, wrong: str) -> Tensor:
    """Numbers below `count`, or a mask of as many truth values, as indices without repeats."""
    if isinstance(which, range | set | frozenset):
        which = list(which)
    try:
        chosen = torch.atleast_1d(torch.as_tensor(which)).cpu()
    except (TypeError, ValueError, RuntimeError) as why:
        raise TypeError(f"{which!r} are no whole numbers, nor a mask of truth values") from why
    if chosen.dtype == torch.bool:
        if chosen.shape != (count,):
            raise ValueError(f"a mask of shape {tuple(chosen.shape)}; it needs {count} entries")
        return chosen.nonzero().flatten()
    if not chosen.numel():
        return chosen.long().flatten()
    if chosen.dtype == torch.uint8:  # [0, 1, 0] may be either
        raise TypeError(
            "bytes (uint8) may be numbers or a mask; give mask.bool(), or numbers.long()"
        )
    if chosen.is_floating_point() or chosen.is_complex() or chosen.ndim != 1:
        raise TypeError(f"{which!r} are no whole numbers in a row, nor a mask of truth values")
    outside = chosen[(chosen < 0) | (chosen >= count)]
    if len(outside):
        raise ValueError(wrong.format(int(outside[0])))
    return chosen.unique().long()


def as_logits(logits: Tensor) -> Tensor:
    """The same, if they are images × classes.

    Raises:
        ValueError: for another number of axes.

    Example:
        >>> as_logits(torch.zeros(4, 2)).shape
        torch.Size([4, 2])
    """
    if logits.ndim != 2:
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)}; answers need logits, images × classes"
        )
    return logits
