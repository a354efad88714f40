"""Activations larger than memory and disk: some columns of them, drawn and scaled in one run.

X is the stack of all blocks, features × N images, and x_i its columns. A network gives them batch by
batch, and nobody knows N beforehand. A sketch keeps X S, features × k, where S picks k of the images
and multiplies each by 1/√π_i, π_i being the probability with which it was picked: then E[X S Sᵀ Xᵀ]
is X Xᵀ (Drineas, Kannan & Mahoney 2006), and what a fit of X S finds, W, serves X. One half of the
images is picked alike, the other by ‖x_i‖², so that a few images with much to explain are not missed.
Either half is a bottom-k sample (Cohen & Kaplan 2007): image i draws u_i from [0, 1) and v_i, and
those with the smallest u_i stay, and those with the smallest v_i / ‖x_i‖². With τ the first that does
not stay, the probabilities are τ and min(1, τ ‖x_i‖²).

A sketch of columns stays non-negative, which a Gaussian one, X Ω, does not. That was tried as well:
fitted together with a sample, its codes of any sign, it is worse than the sample alone on ordinary
data and hardly better on others; as one from both sides (Tropp et al. 2017), or as the range on
which a second run is projected, it has to keep some hundred numbers of each image to be as good.

F of all images, and what they leave unexplained, come from a second run, batch by batch; what it
adds up, F Xᵀ and Fᵀ F, is all that an improvement of W on all images needs.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from .blocks import check_count, check_seed, full_precision, stack
from .hooks import Passing, start
from .images import as_images, count_of, in_batches, input_blocks, is_read_by_sample
from .nmf import KKT_TOL, CoupledFactors, Sweep, residuals
from .sites import Site
from .solvers import hals_update
from .store import MEMORY
from .watch import Preprocess, unwrapped

SAMPLE = 3000  # images that are kept
SWEEPS = 10  # over the rows of W, when it is improved on all images
ALIKE = 1e-3  # by how much of it ‖block‖² of a second run may differ from that of the first

Take = Callable[[Tensor, dict[str, Tensor]], object]


@dataclass(frozen=True)
class Recording:
    """How a network gives blocks, so that it can do so again.

    Example:
        >>> model, images = nn.Sequential(nn.Flatten(), nn.ReLU()), torch.rand(9, 1, 4, 4)
        >>> sketch(model, images).recording.negative
        'refuse'
    """

    model: nn.Module
    images: object  #: what `as_images` takes
    sites: list[Site]  #: whose activations are recorded
    preprocess: Preprocess | None
    negative: str  #: as for `record`
    pixels: bool  #: whether the images are blocks, too
    batch_size: int

    def again(self, take: Take, images=None, *, progress: bool = False) -> int:
        """Another run.

        Args:
            take: takes a batch of images, and all its blocks.
            images: others; None: the same.
            progress: show a progress bar.

        Returns:
            How many images there were.
        """
        images = self.images if images is None else images
        if not is_read_by_sample(images):
            images = as_images(images)
        batches = in_batches(images, self.batch_size)
        passing = Passing(self.model, self.sites, batches, count_of(images), self.preprocess)
        return self.run(passing, take, progress)

    def run(self, passing: Passing, take: Take, progress: bool) -> int:
        """As `again`, of a run that has been prepared."""
        blocks: dict[str, Tensor] = {}

        def take_all(batch: Tensor) -> None:
            shown = _pixels(batch) if self.pixels else {}
            take(batch, shown | blocks)
            blocks.clear()

        keep = blocks.__setitem__
        return passing.run(keep, take_all, negative=self.negative, progress=progress)


def _pixels(batch: Tensor) -> dict[str, Tensor]:
    try:
        return input_blocks(batch)
    except (TypeError, ValueError) as why:
        raise type(why)(f"{why}; or leave the images out of the blocks: pixels=False") from why


# The sketch


@dataclass(frozen=True, repr=False, eq=False)
class Sketch(Mapping[str, Tensor]):
    """Columns of blocks that are nowhere as a whole; taken wherever blocks are.

    Each column is that of an image times `scale`, so that products A Aᵀ of a block with itself are,
    on average, those of the whole block: factors, singular values and directions among neurons are
    estimates of those of all images. What belongs to single images, such as F, comes from `place`.

    Example:
        >>> import peeklib as pk
        >>> model, images = nn.Sequential(nn.Flatten(), nn.ReLU()), torch.ones(90, 1, 4, 4)
        >>> sketch = pk.sketch(model, images, sample=40)
        >>> list(sketch), sketch.count, len(sketch.numbers) <= 40
        (['input', '1'], 90, True)
        >>> fit = sketch.place(pk.coupled_nmf(sketch, 2))
        >>> fit.image_factor.shape
        torch.Size([90, 2])
    """

    blocks: dict[str, Tensor]  #: features × drawn images, scaled
    images: (
        Tensor | list[Tensor]
    )  #: those that were drawn, as they were given; a list if of several sizes
    numbers: Tensor  #: which these are, counted from 0 in the order of the run
    scale: Tensor  #: of each of them, 1/√π; `sketch["relu"] / sketch.scale` is what the layer gave
    count: int  #: images of the run
    energy: dict[str, float]  #: ‖block‖² over all of them, in the square of its unit
    recording: Recording  #: what they came from

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.blocks:
            raise KeyError(f"no block {name!r} in the sketch; there are {list(self)}")
        return self.blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def nbytes(self) -> int:
        """What the columns take in memory."""
        return sum(block.nbytes for block in self.blocks.values())

    def __repr__(self):
        drawn, size = len(self.numbers), f"{self.nbytes / 1e9:.3g} GB"
        return f"Sketch of {self.count} images: {drawn} of them, {list(self)}, {size}"

    @overload
    def place(
        self, fit: CoupledFactors, images=None, *, passes: int = 1, progress: bool = False
    ) -> CoupledFactors: ...

    @overload
    def place(
        self, fit: Sweep, images=None, *, passes: int = 1, progress: bool = False
    ) -> Sweep: ...

    def place(self, fit, images=None, *, passes: int = 1, progress: bool = False):
        """Run the network again: F of every image, and errors over all of them.

        An image is placed by non-negative least squares, as by `CoupledFactors.transform`, and its
        activations are gone with its batch. Each run but the last also improves the factors P and O
        on all images; it takes as long as the last.

        Args:
            fit: of this sketch, or of some of its blocks; or all fits of a sweep, which share the
                runs.
            images: others that shall be placed; None: the same again.
            passes: runs of the network, 1 or more.
            progress: show a progress bar.

        Returns:
            The same kind, with a row of F for each image, in the order of the last run: that of the
            data set, also where a loader shuffles; that of the loader where it has a sampler of its
            own. `history` ends with the error of each run. `kkt` is that of P and O over all images
            (those of F are where they should be), and `converged` asks that of it, too.

            There is a warning where the images, or their order, are not those of the first run.

        Raises:
            TypeError: for what is no fit.
            ValueError: for blocks that the sketch does not have, or where the images are fewer or
                more than in the first run.

        Example:
            >>> import peeklib as pk
            >>> model = nn.Sequential(nn.Flatten(), nn.ReLU())
            >>> images = torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(0))
            >>> sketch = pk.sketch(model, images, sample=40)
            >>> sweep = sketch.place(pk.rank_sweep(sketch, [2, 4]), passes=2)
            >>> sweep[4, 0].relative_error < sweep[2, 0].relative_error
            True
        """
        passes = check_count(passes, "passes")
        fits = self._checked(fit)
        for _ in range(passes - 1):
            fits = [total.improved() for total in self._run(fits, images, progress)]
        placed = [total.result() for total in self._run(fits, images, progress)]
        if isinstance(fit, Sweep):
            return replace(fit, fits=dict(zip(fit.fits, placed, strict=True)))
        return placed[0]

    def _checked(self, fit) -> list[CoupledFactors]:
        """The fits, if they are of blocks that are here."""
        fits = [*fit.fits.values()] if isinstance(fit, Sweep) else [fit]
        for one in fits:
            if type(one) is not CoupledFactors:  # nor one of tensors
                raise TypeError(
                    f"this is a {type(one).__name__}, not a coupled fit; give what "
                    "pk.coupled_nmf(sketch, rank) or pk.rank_sweep(sketch, ranks) gave"
                )
            own = {name: len(block) for name, block in self.items()}
            of_fit = {name: len(W) for name, W in one.factors.items()}
            if not of_fit.items() <= own.items():
                raise ValueError(
                    f"the fit is of blocks {of_fit} (rows of each), and the sketch has {own}; "
                    "place it by the sketch that it was made of"
                )
        return fits

    def _run(self, fits: list[CoupledFactors], images, progress: bool) -> list["_Totals"]:
        totals = [_Totals(fit) for fit in fits]
        began, again = time.perf_counter(), _Again(self)

        def take(batch: Tensor, blocks: dict[str, Tensor]) -> None:
            again.look(batch)
            for total in totals:
                total.add(blocks)

        count = self.recording.again(take, images, progress=progress)
        if images is None:
            self._compare(count, totals[0].energy, again.others)
        elif not count:
            raise ValueError("there are no images to place")
        share = (time.perf_counter() - began) / len(totals)
        for total in totals:
            total.seconds = share
        return totals

    def _compare(self, count: int, energy: Mapping[str, float], others: int) -> None:
        """Whether a run saw what the first one did; sums of squares do not depend on the order."""
        if count != self.count:
            raise ValueError(
                f"the first run had {self.count} images, this one {count}; give a loader that gives "
                "the same again, or name others with images="
            )
        if others:
            warnings.warn(
                f"{others} of the {len(self.numbers)} images that were drawn are others in this run: "
                "they come in another order, or changed. Rows of F are in the order of this run; "
                "give a loader that always gives the same, such as one of a Dataset",
                stacklevel=4,
            )
        for name, found in energy.items():
            if abs(found - self.energy[name]) > ALIKE * self.energy[name]:
                change = (found / self.energy[name]) ** 0.5 if self.energy[name] else math.inf
                warnings.warn(
                    f"block {name!r} is not what it was when the sketch was made: its norm is "
                    f"{change:.4g} times that; the loader gives other images each time, or the model "
                    "has changed. What comes out is of this run",
                    stacklevel=4,
                )


def sketch(
    model: nn.Module,
    images,
    layers: str | Iterable[str] | None = None,
    *,
    preprocess: Preprocess | None = None,
    negative: str = "refuse",
    pixels: bool = True,
    sample: int = SAMPLE,
    memory: float = MEMORY,
    seed: int = 0,
    batch_size: int = 500,
    progress: bool = False,
) -> Sketch:
    """Columns of images and activations, drawn in one run of a network over images of any number.

    For what is larger than memory where there is no disk: `record(…, store=path)` keeps all
    activations there; this keeps those of `sample` images, and `Sketch.place` finds F of all others
    in a second run. Half of the images are drawn alike, half by how much there is to explain; see
    `sketches`. All are kept, as they are, if there are no more of them.

    Args:
        model, images, layers, preprocess, negative, batch_size: as for `record`; images of a data
            set or loader, also one that does not know its length, are read batch by batch. They are
            read again by `place`.
        pixels: whether the images themselves are blocks, as `input_blocks` gives them, from before
            `preprocess`; False where they are no pictures in [0, 1].
        sample: how many images to keep, 2 or more; some fewer stay where both halves drew the same.
            60 for each component serve.
        memory: GB (10⁹ bytes) that their columns may take.
        seed: of the draw, which is the same for whatever batch size.
        progress: show a progress bar.

    Returns:
        name → block, which whatever takes blocks takes; the drawn images, and ‖block‖² of all.

    Raises:
        TypeError, ValueError: as `record`; for a sample that memory does not hold.

    Example:
        >>> import peeklib as pk
        >>> model, images = nn.Sequential(nn.Flatten(), nn.ReLU()), torch.ones(90, 1, 4, 4)
        >>> sketch = pk.sketch(model, images, sample=40)
        >>> sketch["1"].shape[0], sketch.count, sketch.energy["1"]
        (16, 90, 1440.0)
    """
    check_count(batch_size, "batch_size")
    check_count(sample, "sample", least=2)
    seed = check_seed(seed)
    passing = start(unwrapped(model), images, layers, preprocess, batch_size)
    recording = Recording(
        passing.model, images, passing.sites, preprocess, negative, pixels, batch_size
    )
    drawn = _Columns(int(sample), seed, memory, passing.count)
    count = recording.run(passing, drawn.take, progress)
    return drawn.sketch(count, recording)


# The draw


@dataclass
class _Bottom:
    """The images with the smallest keys of a stream."""

    numbers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    keys: np.ndarray = field(default_factory=lambda: np.empty(0))  # ascending
    limit: float = math.inf  # the smallest key that did not stay

    def offer(self, numbers: np.ndarray, keys: np.ndarray, most: int) -> None:
        numbers, keys = np.append(self.numbers, numbers), np.append(self.keys, keys)
        order = keys.argsort(kind="stable")
        stay, leave = order[:most], order[most:]
        if len(leave):
            self.limit = min(self.limit, float(keys[leave[0]]))
        self.numbers, self.keys = numbers[stay], keys[stay]

    def limits(self, numbers: np.ndarray) -> np.ndarray:
        """Of each image, below which key it would have stayed, whatever its own is."""
        if math.isinf(self.limit):
            return np.full(len(numbers), math.inf)
        return np.where(np.isin(numbers, self.numbers), self.limit, self.keys[-1])


class _Draw:
    """Which images of a stream stay, and in which of `most` places."""

    def __init__(self, most: int, seed: int):
        self.most, self.seen = most, 0
        self.generator = np.random.default_rng(seed % 2**64)  # NumPy takes no negative one
        self.alike, self.by_size = _Bottom(), _Bottom()
        self.places: dict[int, int] = {}  # by number of the image
        self.energy: dict[int, float] = {}
        self.free: list[int] = []  # places that others have left

    def offer(self, energy: np.ndarray) -> dict[int, int]:
        """The next images, by ‖x‖² of each.

        Returns:
            The place of each that stays, by its number in the batch.
        """
        first, self.seen = self.seen, self.seen + len(energy)
        numbers = np.arange(first, self.seen)
        keys, counts = self.generator.random((len(energy), 2)), energy > 0
        most = self.most if self.seen <= self.most else self.most // 2
        with np.errstate(over="ignore"):
            by_size = keys[counts, 1] / energy[counts]
        self.alike.offer(numbers, keys[:, 0], most)
        self.by_size.offer(numbers[counts], by_size, most)
        stay = {*self.alike.numbers.tolist(), *self.by_size.numbers.tolist()}
        for number in [*self.places.keys() - stay]:
            self.free.append(self.places.pop(number))
            del self.energy[number]
        new = sorted(stay - self.places.keys())
        for number in new:
            self.places[number] = self.free.pop() if self.free else len(self.places)
            self.energy[number] = float(energy[number - first])
        return {number - first: self.places[number] for number in new}

    def chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """The images that stayed, in their order, and the probability with which each did."""
        numbers = np.array(sorted(self.places), dtype=np.int64)
        energy = np.array([self.energy[number] for number in numbers.tolist()])
        alike = np.minimum(self.alike.limits(numbers), 1)
        by_size = np.zeros(len(numbers))
        there = energy > 0
        by_size[there] = np.minimum(self.by_size.limits(numbers)[there] * energy[there], 1)
        return numbers, 1 - (1 - alike) * (1 - by_size)


class _Columns:
    """The columns of the images that stay, each block images × features."""

    def __init__(self, most: int, seed: int, memory: float, expected: int | None):
        self.draw, self.most, self.memory = _Draw(most, seed), most, memory
        self.expected = most if expected is None else min(most, expected)  # images to keep
        self.kept: dict[str, Tensor] = {}
        self.images: dict[int, Tensor] = {}  # by place
        self.energy: dict[str, float] = {}

    @full_precision()
    def take(self, batch: Tensor, blocks: dict[str, Tensor]) -> None:
        """A batch of images, and their blocks, features × images."""
        if not self.kept:
            self.energy = dict.fromkeys(blocks, 0.0)
            self._reserve(self.expected, blocks)
        own = {name: _energy_by_image(name, block) for name, block in blocks.items()}
        for name, energy in own.items():
            self.energy[name] += energy.sum().item()
        places = self.draw.offer(torch.stack([*own.values()]).sum(dim=0).numpy())
        if len(self.draw.places) > self.expected:  # of a length that was given wrong
            self.expected = self.most
            self._reserve(self.most, blocks)
        columns, rows = [*places], [*places.values()]
        for name, block in blocks.items():
            self.kept[name][rows] = block[:, columns].T.cpu()
        self.images |= {row: batch[column].cpu().clone() for column, row in places.items()}

    def _reserve(self, count: int, blocks: dict[str, Tensor]) -> None:
        """Room for so many images, with those that are there."""
        each = sum(len(block) * block.itemsize for block in blocks.values())
        if count * each > self.memory * 1e9:
            raise ValueError(
                f"{count} images of {len(blocks)} blocks take {count * each / 1e9:.3g} GB, and "
                f"memory is {self.memory:g}; give sample={int(self.memory * 1e9 / each)} or fewer, "
                "name fewer layers, or give more memory="
            )
        for name, block in blocks.items():
            room = torch.empty(count, len(block), dtype=block.dtype)
            if name in self.kept:
                room[: len(self.kept[name])] = self.kept[name]
            self.kept[name] = room

    @full_precision()
    def sketch(self, count: int, recording: Recording) -> Sketch:
        """All that stayed, in the order of the images."""
        numbers, chance = self.draw.chosen()
        rows = [self.draw.places[number] for number in numbers.tolist()]
        scale, blocks = torch.from_numpy(chance**-0.5), {}
        for name in [*self.kept]:  # one by one, so that there are never two copies of all
            kept = self.kept.pop(name)[rows]
            blocks[name] = kept.mul_(scale.to(kept.dtype)[:, None]).T
        found = [self.images[row] for row in rows]
        alike = len({image.shape for image in found}) == 1
        images = torch.stack(found) if alike else found
        return Sketch(
            blocks, images, torch.from_numpy(numbers), scale.float(), count, self.energy, recording
        )


def _energy_by_image(name: str, block: Tensor) -> Tensor:
    energy = torch.linalg.vector_norm(block, dim=0, dtype=torch.float64).square().cpu()
    if not energy.isfinite().all():
        raise ValueError(f"block {name!r} has numbers whose squares float64 cannot hold")
    return energy


# The runs after it


class _Again:
    """How many of the images that were drawn are others when their turn comes again."""

    def __init__(self, sketch: Sketch):
        self.images = sketch.images
        self.places = {number: place for place, number in enumerate(sketch.numbers.tolist())}
        self.seen = self.others = 0

    def look(self, batch: Tensor) -> None:
        for k in range(len(batch)):
            place = self.places.get(self.seen + k)
            if place is not None and not torch.equal(batch[k].cpu(), self.images[place]):
                self.others += 1
        self.seen += len(batch)


class _Totals:
    """What a run adds up for one fit."""

    def __init__(self, fit: CoupledFactors):
        self.fit, self.seconds = fit, 0.0
        self.rows: list[Tensor] = []  # of F
        self.lost = dict.fromkeys(fit.factors, 0.0)  # ‖A − O Fᵀ‖²
        self.energy = dict.fromkeys(fit.factors, 0.0)  # ‖A‖²
        self.gram = torch.zeros(fit.rank, fit.rank, dtype=torch.float64)  # Fᵀ F
        self.products: dict[str, Tensor] = {}  # Fᵀ Aᵀ, rank × features
        for name, W in fit.factors.items():
            self.products[name] = torch.zeros(fit.rank, len(W), dtype=torch.float64)

    @full_precision()
    def add(self, blocks: Mapping[str, Tensor]) -> None:
        """A batch."""
        own = {name: blocks[name] for name in self.fit.factors}
        F = self.fit.transform(own)
        data = stack(own, None, F.device, faint=0)
        Ft, factors = F.T.to(data.dtype).contiguous(), {}
        for name, W in self.fit.factors.items():
            unit = data.units[name]
            factors[name] = (W.to(F.device).double() / unit).to(data.dtype)
            self.energy[name] += data.energy[name] * unit**2
        for name, product in data.split((Ft @ data.T).T).items():
            self.products[name] += product.T.double().cpu() * data.units[name]
        for name, lost in residuals(data, factors, Ft).items():
            self.lost[name] += lost * data.units[name] ** 2
        self.gram += (Ft @ Ft.T).double().cpu()
        self.rows.append(F.cpu())

    @full_precision()
    def improved(self) -> CoupledFactors:
        """The fit with factors that are better for the F of this run."""
        factors = {}
        for name, W in self.fit.factors.items():
            Wt = W.T.double().cpu().contiguous()
            hals_update(Wt, self.products[name], self.gram, [slice(0, len(Wt))], SWEEPS)
            factors[name] = Wt.T.to(W.dtype)
        seconds, history = self.fit.seconds + self.seconds, self._history()
        return replace(self.fit, factors=factors, seconds=seconds, history=history)

    @full_precision()
    def result(self) -> CoupledFactors:
        """The fit with all images of this run."""
        F, factors = self._ordered()
        fit, kkt = self.fit, self._kkt()
        lost, energy = sum(self.lost.values()), sum(self.energy.values())
        entries = len(F) * sum(map(len, factors.values()))
        return replace(
            fit,
            image_factor=F,
            factors=factors,
            rmse=math.sqrt(lost / entries),
            relative_error=_share(lost, energy),
            block_errors={name: _share(self.lost[name], self.energy[name]) for name in factors},
            history=self._history(),
            converged=fit.converged and kkt <= KKT_TOL,
            seconds=fit.seconds + self.seconds,
            kkt=kkt,
        )

    def _ordered(self) -> tuple[Tensor, dict[str, Tensor]]:
        """F and the factors as every fit has them: F of root mean square 1, the strong first."""
        F, weights = torch.cat(self.rows), self.fit.weights
        self.rows.clear()
        size = (self.gram.diagonal() / len(F)).sqrt()
        size = torch.where(size > 0, size, 1.0)
        factors = {name: W.double().cpu() * size for name, W in self.fit.factors.items()}
        strength = sum(weights[name] * W.square().sum(dim=0) for name, W in factors.items())
        order = torch.as_tensor(strength).argsort(descending=True, stable=True)
        own = {name: W[:, order].to(self.fit.factors[name].dtype) for name, W in factors.items()}
        return F.div_(size.to(F.dtype))[:, order], own

    def _history(self) -> np.ndarray:
        lost = sum(self.fit.weights[name] * lost for name, lost in self.lost.items())
        energy = sum(self.fit.weights[name] * energy for name, energy in self.energy.items())
        return np.append(self.fit.history, _share(lost, energy))

    def _kkt(self) -> float:
        """The residual of `kkt_residuals` on the side of W."""
        weight, moved, size = self.gram.diagonal(), 0.0, 0.0
        for name, W in self.fit.factors.items():
            Wt = W.T.double().cpu()
            slope = self.products[name] - self.gram @ Wt
            step = Wt - (Wt + torch.where(weight > 0, 1 / weight, 0)[:, None] * slope).clamp(min=0)
            moved += self.fit.weights[name] * (weight @ step.square().sum(dim=1)).item()
            size += self.fit.weights[name] * (weight @ Wt.square().sum(dim=1)).item()
        return math.sqrt(moved / size) if size else math.inf


def _share(lost: float, energy: float) -> float:
    """‖residual‖ / ‖data‖; of zeros 0, or 1 if their model is not zero."""
    return math.sqrt(lost / energy) if energy else float(lost > 0)
