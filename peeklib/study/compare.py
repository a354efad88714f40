"""`compare`: several networks, or one network while it trains, by scores that need no labels.

Scores of outputs presume that the images show all classes about equally often. Whether they do
is judged from the networks' decisions, see `find_uneven`.
"""

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn
from tqdm.auto import tqdm

from .. import plots
from ..explorer import Picture, show
from ..images import as_images, check_pictures, reading
from ..names import escape, literal, readable
from ..sites import layer_names
from ..watch import Preprocess, unwrapped
from . import page
from .scores import SCORES, table_of
from .seen import MEMORY, observe

Layers = str | Iterable[str]

# The scores that chapter 14 found worth trusting, best first, in networks that they were not tuned
# on: τ with accuracy is 0.89, 0.77 and 0.87; with noisy labels 0.67, 1.00 and 0.59. The third is
# almost the first.
TRUSTED = ("answers_area", "nuclear_norm", "answers_alone_area")
SHOWN = TRUSTED[:2]  # in the figure
MOST = 22  # characters of a name there

# With 50 images a share, of which the scores are made, has a standard error of up to 7 points: as
# much as lies between good networks. Chapter 14 takes 500.
FEW_IMAGES = 50
# Cohen's kappa of two networks' decisions: from FAIR on their agreement is called fair (Landis &
# Koch 1977). A network that always says the same, or guesses, has about 0 with any other. Those that
# agree far less than others do are left out as well: they err, and errors spread the answers.
FAIR = 0.2
CLOSE = 0.7  # of the best agreement
# Even answers are spread over nine tenths of the classes. With two of ten classes in three fifths of
# the images, where scores mislead (chapter 14), right answers are spread as over 6.8. Set on the
# multilayer perceptrons of that chapter's study, good and bad, two to seven at a time with 500
# images: evenly drawn images were taken for uneven in 6 % of the cases, none where all networks were
# right on more than 60 %; uneven ones were noticed in 90 and 99 %.
EVEN = 0.9
# Of few classes the first alone is a large part: right answers to two classes, three quarters and a
# quarter, are spread as over 1.8, which networks that err make more even. So below FEW_CLASSES only
# those beyond the first are counted. Simulated with three networks, 2 to 6 classes, 100 and 500
# images, 150 times each: networks right on 92 % and more took evenly drawn images for uneven in less
# than 2 % of the cases; those right on 59 to 85 %, each with a strong liking of its own for some
# classes, in 3 to 64 %. With 500 images, three quarters in one of two classes (or three fifths in one
# of three or four, two of six) were noticed in 81 to 100 % of the cases by the former, in 8 to 37 %
# by the latter, whose errors hide it.
FEW_CLASSES = 10
DRAWS = 200  # of evenly drawn classes: chance goes below all of them once in 200 times


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Networks beside each other; shows itself in a notebook.

    Example:
        >>> import torch
        >>> images = torch.eye(4).reshape(4, 1, 2, 2)
        >>> pair = {"one": nn.Sequential(nn.ReLU(), nn.Flatten()), "none": nn.Linear(3, 4)}
        >>> with warnings.catch_warnings(action="ignore"):
        ...     found = compare(pair, images, progress=False)
        >>> found.table.nuclear_norm.round(3).tolist(), found.places.nuclear_norm.tolist()
        ([0.475, nan], [1.0, nan])
    """

    #: networks × scores, in the order given, scores worth trusting first; NaN where there is none.
    #: The last column, "why", says of each network what could not be computed.
    table: pd.DataFrame
    warnings: list[str]  #: what speaks against taking the scores as they stand, in plain words

    @property
    def places(self) -> pd.DataFrame:
        """The place of each network by each score.

        Returns:
            networks × scores: 1 for the best, equal places for equal values, NaN where there is
            no value.

        Example:
            >>> rows = {"confidence": [0.9, 0.5], "prediction_entropy": [0.1, 0.7], "why": ["", ""]}
            >>> Comparison(pd.DataFrame(rows, index=["a", "b"]), []).places.loc["a"].tolist()
            [1.0, 1.0]
        """
        values = self.table.drop(columns="why")
        better = np.array([SCORES[name].better for name in values])
        return (values * better).rank(ascending=False, method="min")

    def figure(self) -> Figure:
        """The scores worth trusting first, a panel for each; the best network is marked.

        Returns:
            A figure with a line for each network, in the order given.

        Example:
            >>> rows = {"answers_area": [0.9, 0.5], "nuclear_norm": [0.8, 0.6], "why": ["", ""]}
            >>> found = Comparison(pd.DataFrame(rows, index=["a", "b"]), [])
            >>> found.figure()._suptitle.get_text()
            'a comes first by answers_area and by nuclear_norm'
        """
        return _draw(self)

    def _picture(self) -> Picture:
        values = []
        for name in SHOWN:
            listed = (
                f"{readable(network)} {value:.3g}" for network, value in self.table[name].items()
            )
            values.append(f"{name}: {', '.join(listed)}")
        return show(self.figure(), f"{_title(self)}. {'; '.join(values)}.")

    def _repr_html_(self) -> str:
        values = self.table.drop(columns="why").map("{:.3g}".format)
        places = self.places.map("{:.0f}".format)
        parts = [
            f"{page.FRAGMENT}\n<style>\n{page.STYLE}</style>",
            "".join(f"<p><strong>Mind:</strong> {escape(one)}</p>" for one in self.warnings),
            self._picture()._repr_html_(),
            page.table(_texts(values), "Scores"),
            page.table(_texts(places), "Places by each score: 1 is best"),
            page.table(_meanings(values.columns), "What the scores are"),
        ]
        missing = self.table.loc[self.table.why != "", ["why"]]
        if len(missing):
            parts.append(page.table(_texts(missing), "What could not be computed"))
        return "\n".join([*parts, "</div>"])

    def __repr__(self):
        shown = self.table[list(TRUSTED)].round(3).to_string()
        lines = [f"{len(self.table)} networks by {self.table.shape[1] - 1} scores, of which", shown]
        return "\n".join([*lines, *(f"Mind: {one}" for one in self.warnings)])


class Checkpoints:
    """Scores of a network while it trains: a callback that keeps numbers, and no network.

    In a loop of your own::

        watch = pk.Checkpoints(images, preprocess=normalize)
        for epoch in range(10):
            train_one_epoch(model)
            watch(f"epoch {epoch}", model)
        watch.comparison()

    With a trainer, call it where an epoch ends: in Lightning from a callback's
    `on_validation_epoch_end(trainer, module)`, in Hugging Face's Trainer from a callback's
    `on_epoch_end(…, model=model)`, in fastai from `after_epoch(self)` with `self.model`. The model
    comes back as it was, in training mode if it was; no random number of the training is used up.

    Args:
        images: the same for all, as `compare` takes them.
        preprocess, layers, memory: as of `compare`.

    Raises:
        TypeError, ValueError: for images that nobody can read.

    Example:
        >>> import torch
        >>> watch = Checkpoints(torch.eye(4).reshape(4, 1, 2, 2))
        >>> watch("epoch 1", nn.Sequential(nn.ReLU(), nn.Flatten()))
        >>> with warnings.catch_warnings(action="ignore"):  # these are few images
        ...     watch.comparison().table.nuclear_norm.round(3).to_dict()
        {'epoch 1': 0.475}
    """

    def __init__(
        self,
        images,
        *,
        preprocess: Preprocess | Mapping[Any, Preprocess | None] | None = None,
        layers: Layers | Mapping[Any, Layers | None] | None = None,
        memory: float = MEMORY,
    ):
        with reading(images):
            self.images = check_pictures(as_images(images))
        if not len(self.images):
            raise ValueError("there are no images")
        self.preprocess = preprocess
        if layers is not None and not isinstance(layers, str | Mapping):
            layers = layer_names(layers)  # once: an iterator would be used up by the first network
        self.layers = layers
        self.memory = memory
        self._failure: Exception | None = None  # the first
        self._rows: dict[Any, dict[str, Any]] = {}
        self._decisions: dict[Any, np.ndarray] = {}  # the class decided on for each image
        self._classes: dict[Any, int] = {}

    def __call__(self, name, model: nn.Module | Callable[[], nn.Module]) -> None:
        """Compute the scores now.

        Args:
            name: what the comparison calls it.
            model: the network, an exported program, or a function without arguments that loads one.

        Raises:
            ValueError: for a name that is there already.
            TypeError: for anything else than a network or a function.
        """
        if name in self._rows:
            raise ValueError(f"there is a network {name!r} already; give each its own name")
        model = _network(name, model)
        try:
            seen = observe(
                model if isinstance(model, nn.Module) else model(),
                self.images,
                preprocess=_own(self.preprocess, name),
                layers=_own(self.layers, name),
                memory=self.memory,
            )
        except Exception as error:  # whatever the network raises costs no other its scores
            why = f"{type(error).__name__}: {error}"
            warnings.warn(f"network {name!r} has no scores: {why}", stacklevel=2)
            self._rows[name] = {"why": why}
            self._failure = self._failure or _without_frames(error)
            return
        scores = table_of(seen).set_index("score")
        missing = scores.why[scores.why != ""]
        why = "; ".join(f"{score}: {reason}" for score, reason in missing.items())
        if "logits" not in seen.absent:
            self._decisions[name] = seen.logits.argmax(1).cpu().numpy()
            self._classes[name] = seen.logits.shape[1]
        self._rows[name] = {**scores.value, "why": why}

    def comparison(self) -> Comparison:
        """What there is so far.

        Returns:
            The networks in the order in which they came.

        Raises:
            ValueError: if there is none.
            Exception: the first network's, if none could be scored: then the mistake is likely in
                what they share, such as `preprocess`.
        """
        if not self._rows:
            raise ValueError("there is no network to compare; give one or more")
        if self._failure and not any(len(row) > 1 for row in self._rows.values()):
            raise self._failure
        columns = [*TRUSTED, *(name for name in SCORES if name not in TRUSTED), "why"]
        table = pd.DataFrame.from_dict(self._rows, orient="index", columns=columns)
        found = Comparison(table.rename_axis("network"), self._warnings())
        for text in found.warnings:
            warnings.warn(text, stacklevel=2)
        return found

    def _warnings(self) -> list[str]:
        found = []
        outputs = set(self._classes.values())
        if len(outputs) > 1:
            listed = ", ".join(f"{name!r} {count}" for name, count in self._classes.items())
            found.append(
                f"The networks have different numbers of outputs ({listed}), and scores of outputs "
                "depend on it: compare only those that tell the same classes apart."
            )
        if len(self.images) < FEW_IMAGES:
            found.append(
                f"{len(self.images)} images are few: chance may order the networks. "
                "Some hundred are better."
            )
        for count in sorted(outputs):
            same = [self._decisions[name] for name, own in self._classes.items() if own == count]
            if uneven := find_uneven(np.stack(same), count):
                found.append(uneven)
        return found


def compare(
    models: Mapping[Any, nn.Module | Callable[[], nn.Module]] | Iterable[tuple[Any, Any]],
    images,
    *,
    preprocess: Preprocess | Mapping[Any, Preprocess | None] | None = None,
    layers: Layers | Mapping[Any, Layers | None] | None = None,
    memory: float = MEMORY,
    progress: bool = True,
) -> Comparison:
    """Several networks, or checkpoints of one, by the scores without labels, on the same images.

    A network whose scores cannot be computed has a row that says why, and a warning; the others
    have theirs. If none can be scored, the first one's error is raised.

    Args:
        models: name → network, or pairs of both, in the order to show. A network is an
            `nn.Module` or an exported program. Instead of it a
            function without arguments may stand, which is called when its turn comes: so not all
            need be in memory at once. Pairs may come from a generator.
        images: some hundred of any kind that `scores.table` takes, of classes that occur about
            equally often.
        preprocess: what the networks expect to be done to a batch of float images: one function,
            or name → function.
        layers: hidden layers, as of `scores.table`: for all, or name → layers.
        memory: GB for the hidden layers of one network, as of `scores.table`.
        progress: show a progress bar.

    Returns:
        A table with a row for each network, and its figure. It warns of few images, of different
        numbers of outputs, and where the networks' decisions suggest that some classes occur much
        more often than others. Of the latter no warning is no proof: networks that err on many
        images answer more evenly than classes occur, and with 100 images much is left to chance.

    Raises:
        TypeError: for what is no network, such as a state_dict, or no images.
        ValueError: for no networks, two of one name, or images of another shape.

    Example:
        >>> import torch
        >>> def network(scale):
        ...     model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), nn.ReLU())
        ...     _ = model[1].weight.data.copy_(scale * torch.eye(4))
        ...     return model
        >>> images = torch.eye(4).repeat(25, 1).reshape(100, 1, 2, 2)
        >>> checkpoints = {"epoch 1": network(1), "epoch 2": lambda: network(9)}
        >>> compare(checkpoints, images, progress=False).table.confidence.round(3).to_dict()
        {'epoch 1': 0.475, 'epoch 2': 1.0}
    """
    watch = Checkpoints(images, preprocess=preprocess, layers=layers, memory=memory)
    for name, model in tqdm(_pairs(models), "scoring", disable=not progress, leave=False):
        watch(name, model)
    return watch.comparison()


# What was given


def _pairs(models) -> Iterable[tuple[Any, Any]]:
    """Names and networks; those that are there already are checked before the first is scored."""
    if isinstance(models, nn.Module) or not isinstance(models, Iterable):
        raise TypeError(f'models is a {type(models).__name__}; give {{"a name": model, …}}')
    if isinstance(models, Mapping):
        return [(name, _network(name, model)) for name, model in models.items()]
    return map(_pair, models)


def _pair(given) -> tuple[Any, Any]:
    if isinstance(given, tuple | list) and len(given) == 2:
        return given[0], given[1]
    raise TypeError(f"models hold a {type(given).__name__}; give pairs of a name and a network")


def _network(name, model) -> nn.Module | Callable[[], Any]:
    """The module in what was given, or the function that makes it."""
    try:
        return unwrapped(model)
    except TypeError as why:
        if callable(model):
            return model
        raise TypeError(f"network {name!r}: {why}") from why


def _without_frames(error: Exception) -> Exception:
    """An error that says where it came from, without the frames, which would hold the network."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    error.add_note(
        "(None of the networks could be scored. This is the error of the first, raised in "
        f"{place.filename}, line {place.lineno}.)"
    )
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _own(option, name):
    """What an option says for one network."""
    if not isinstance(option, Mapping):
        return option
    if name not in option:
        raise ValueError(f"there is nothing for {name!r} among {list(option)}; None does nothing")
    return option[name]


# Whether the images show all classes about equally often


def find_uneven(decisions: np.ndarray, classes: int) -> str:
    """Words of warning if the decisions suggest images of which a few classes make up most.

    Decisions are spread as over exp(H) classes, with H the entropy of their shares. Networks may
    be uneven by themselves, having given up classes; so of those that agree with another one
    beyond chance, the most even speaks for the images. A network that always says the same agrees
    with none, nor does one that guesses. Where no two agree, as with a single network, the most
    even of all speaks, unless it gives one answer only.

    Args:
        decisions: networks × images, the class that each decides on.
        classes: how many there are.

    Returns:
        Nothing, unless the spread is far below `classes`, and below what chance makes of as many
        images whose classes are drawn evenly.

    Example:
        >>> even = np.arange(10).repeat(30)
        >>> find_uneven(np.stack([even, even, 0 * even]), 10)
        ''
        >>> uneven = np.array([0] * 90 + [1] * 90 + [*range(2, 10)] * 15)
        >>> find_uneven(np.stack([uneven, uneven, 0 * uneven]), 10)[:75]
        'The answers are uneven: 60% of the images are taken for class 0 or 1, and a'
    """
    counts = np.stack([np.bincount(row, minlength=classes) for row in decisions])
    spreads = np.array([_spread(row) for row in counts])
    agreement = _agreement(decisions, counts)
    heard = agreement >= max(FAIR, CLOSE * agreement.max())
    if not heard.any():
        heard = spreads >= 2
    if not heard.any():
        return ""
    speaker = np.where(heard, spreads, 0).argmax()
    by_chance = _spreads_by_chance(decisions.shape[1], classes)
    beyond = 1 if classes < FEW_CLASSES else 0
    even = beyond + EVEN * (by_chance.mean() - beyond)
    if spreads[speaker] >= min(even, by_chance.min()):
        return ""
    return _words_on(counts[speaker], spreads[speaker])


def _words_on(counts: np.ndarray, spread: float) -> str:
    first, second = (-counts).argsort(kind="stable")[:2]
    share = (counts[first] + counts[second]) / counts.sum()
    return (
        f"The answers are uneven: {share:.0%} of the images are taken for class {first} or "
        f"{second}, and all as if there were {spread:.1f} of {len(counts)} classes. Either the "
        "networks have given up classes, or the images show some far more often than others; then "
        "scores mislead. Those of outputs, answers_area above all, presume that classes occur "
        "about equally often, and favour networks that answer evenly: give images of all classes, "
        "or trust nuclear_norm first (chapter 14)."
    )


def _spread(counts: np.ndarray) -> float:
    """exp(H): the number of classes among which evenly spread decisions have the same entropy."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _spreads_by_chance(images: int, classes: int) -> np.ndarray:
    """Of as many images whose classes are drawn evenly, again and again."""
    random = np.random.default_rng(0)
    return np.array(
        [_spread(random.multinomial(images, [1 / classes] * classes)) for _ in range(DRAWS)]
    )


def _agreement(decisions: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa of each network with the one that it agrees with most (Cohen 1960).

    1 for the same decisions, 0 for as many equal ones as chance gives, or for no other network.
    """
    shares = counts / decisions.shape[1]
    equal = np.array([(decisions == row).mean(axis=1) for row in decisions])
    chance = shares @ shares.T
    kappa = (equal - chance) / np.where(chance < 1, 1 - chance, np.inf)
    np.fill_diagonal(kappa, 0)
    return kappa.max(axis=1)


# How it is shown


def _texts(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis([str(name) for name in table.index]).rename_axis("network")


def _meanings(names: Iterable[str]) -> pd.DataFrame:
    rows = {}
    for name in names:
        way = "larger" if SCORES[name].better > 0 else "smaller"
        rows[name] = {"better if": way, "what it is": SCORES[name].says}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("score")


def _title(found: Comparison) -> str:
    """What the figure shows, in a sentence."""
    if len(found.table) == 1:
        return "One network: nothing to compare with yet"
    leaders = {}
    for name in SHOWN:
        best = np.flatnonzero(found.places[name].to_numpy() == 1)
        if len(best):
            more = f" and {len(best) - 1} more" if len(best) > 1 else ""
            leaders[name] = f"{literal(found.table.index[best[0]], MOST)}{more}"
    if not leaders:
        return "No network could be scored"
    if len(leaders) == len(SHOWN) and len(set(leaders.values())) == 1:
        return f"{leaders[SHOWN[0]]} comes first by {' and by '.join(SHOWN)}"
    return "\n".join(f"by {name} {leader} comes first" for name, leader in leaders.items())


@plots.theme()
def _draw(found: Comparison) -> Figure:
    height = 1.8 + 0.3 * min(len(found.table), 30)
    figure, axes = plots.canvas(1, len(SHOWN), height=height, title=_title(found), sharey=True)
    colours = mpl.colormaps[plots.MAP]([0.15, 0.55])
    for ax, name, colour, marker in zip(axes, SHOWN, colours, "os", strict=True):
        _draw_score(ax, found, name, color=colour, marker=marker)
    places = range(len(found.table))
    step = 1 + len(found.table) // 31
    axes[0].set_yticks(places[::step], labels=[literal(n, MOST) for n in found.table.index[::step]])
    axes[0].set_ylim(len(found.table) - 0.5, -0.5)  # the first on top
    return figure


def _draw_score(ax: Axes, found: Comparison, name: str, **look) -> None:
    values = found.table[name].to_numpy(dtype=float)
    places = np.arange(len(values))
    best = (found.places[name] == 1).to_numpy()
    way = "larger" if SCORES[name].better > 0 else "smaller"
    ax.plot(values, places, linestyle="none", markerfacecolor="white", markersize=7, **look)
    ax.plot(values[best], places[best], linestyle="none", markersize=9, **look)
    ax.grid(axis="y", color="0.9")
    ax.set(xlabel=f"{name}\n{way} is better")
    ax.spines[["top", "right"]].set_visible(False)
