"""Pictures and sliders that live everywhere.

An `Explorer` is one object with two faces. One is a `<figure>` with native range inputs over frames
drawn beforehand and a few lines of inline script (`explorer.js`): it lives in the built book and
in saved notebooks, without a kernel, network or library. If there are values that were not prepared
and somebody is there to ask for them, the other follows as an output of its own: ipywidgets, where
every value can be computed. It hides the first while it is alive, and itself when it no longer is.

A picture is a WebP of an off-screen matplotlib figure on its own background, with alt text.
"""

import base64
import io
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure

from .names import brief, cut, escape, readable, shown
from .plots import theme
from .solvers import all_or_nothing

DPI = 150
QUALITY = 80  # WebP; half the size of PNG at no visible loss
SCRIPT = Path(__file__).with_name("explorer.js").read_text()
LIVE = Path(__file__).with_name("explorer-live.html").read_text()
WIDGET = "application/vnd.jupyter.widget-view+json"

# Inline, so that a picture looks the same in Jupyter, on Colab and in the book.
WRAP = "overflow-wrap:anywhere"
FIGURE_STYLE = f"margin:1rem 0;{WRAP}"
IMAGE_STYLE = "max-width:100%;height:auto;background:#fff;display:block;margin:0 auto"
TEXT_STYLE = "font-size:.85em"
SLIDER_STYLE = "display:flex;flex-wrap:wrap;gap:.75rem;align-items:center;margin:.25rem 0"
RANGE_STYLE = "flex:1 8rem;min-width:0;height:1.75rem"
WORD_STYLE = "min-width:4.5rem;max-width:40%"
STYLES = (FIGURE_STYLE, IMAGE_STYLE, TEXT_STYLE, SLIDER_STYLE, RANGE_STYLE, WORD_STYLE)
LABEL = 80  # characters beside a slider; the tooltip has all
PLAIN = "mathjax_ignore tex2jax_ignore"  # MathJax, where a page has it, passes over these classes


def profile() -> str:
    """How much of the book to compute, by the environment variable PEEK_PROFILE.

    Returns:
        "full", also if that is not set, or "embedded", which is a small part of it.

    Raises:
        ValueError: for another word.

    Example:
        >>> profile() in ("full", "embedded")
        True
    """
    name = os.environ.get("PEEK_PROFILE", "full")
    if name not in ("full", "embedded"):
        raise ValueError(f'PEEK_PROFILE is {name!r}; it is "full" or "embedded"')
    return name


class Picture:
    """A figure frozen as WebP, with alt text; shows itself wherever HTML does.

    Raises:
        ValueError: for empty alt text.

    Example:
        >>> Picture(Figure(figsize=(1, 1)), "A white square.").img()[:32]
        '<img src="data:image/webp;base64'
    """

    def __init__(self, figure: Figure, alt: str):
        if not alt.strip():
            raise ValueError(
                "a picture needs alt text: say what it shows to somebody who cannot see it"
            )
        buffer = io.BytesIO()
        webp = {"format": "webp", "pil_kwargs": {"quality": QUALITY}}
        with theme():  # ticks are made while drawing
            figure.savefig(buffer, dpi=DPI, facecolor="white", **webp)
        self.alt = alt
        self.uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def img(self) -> str:
        """The `<img>` element.

        Returns:
            HTML that needs no other file, as the picture is inside.

        Example:
            >>> Picture(Figure(figsize=(1, 1)), "A < B").img().split('"')[3]  # the alt text
            'A &lt; B'
        """
        return f'<img src="{self.uri}" alt="{escape(self.alt)}" style="{IMAGE_STYLE}">'

    def _repr_html_(self):
        return f'<figure class="peek-figure" style="{FIGURE_STYLE}">{self.img()}</figure>'

    def __repr__(self):
        return f"Picture({self.alt!r})"


def show(figure: Figure, alt: str) -> Picture:
    """`figure` with alt text: the last line of a notebook cell.

    Returns:
        The picture, which shows itself there.

    Raises:
        ValueError: for empty alt text.

    Example:
        >>> show(Figure(figsize=(1, 1)), "A white square.")
        Picture('A white square.')
    """
    return Picture(figure, alt)


class Explorer:
    """Sliders over named axes, and a picture for every combination of their values.

    With a kernel every value is drawn when it is first asked for, and then kept.

    Args:
        axes: dict of name → values, in the order of `draw`'s arguments.
        draw: called with one value for each axis, by position; returns a matplotlib Figure and its
            alt text.
        prepared: dict of axis → the values that work without a kernel; axes left out are prepared
            whole. Under the embedded profile it is the ends of each axis, and the start.
        start: dict of axis → the value shown first; by default the first one.

    Raises:
        ValueError: for an empty axis, or for `prepared` or `start` values that are not on their
            axis.

    Example:
        >>> def draw(rank):
        ...     return Figure(figsize=(1, 1)), f"Nothing, at rank {rank}."
        >>> explorer = Explorer({"rank": [10, 20]}, draw)
        >>> explorer
        Explorer over rank (2 values)
        >>> explorer.picture(20)
        Picture('Nothing, at rank 20.')
    """

    def __init__(
        self,
        axes: Mapping[str, Iterable],
        draw: Callable[..., tuple[Figure, str]],
        *,
        prepared: Mapping[str, Iterable] | None = None,
        start: Mapping | None = None,
    ):
        self.axes = {name: list(values) for name, values in axes.items()}
        self.draw = draw
        self.prepared = dict(self.axes)
        for name, values in (prepared or {}).items():
            self.prepared[name] = list(values)
        self.start = {name: values[0] for name, values in self.prepared.items() if values}
        self.start |= start or {}
        self._check_axes()
        self._asked_for = self.prepared
        if profile() == "embedded":
            self.prepared = {name: self._ends(name) for name in self.axes}
        self._pictures: dict[tuple, Picture] = {}
        self._last: Picture | None = None  # that the live face shows

    def _check_axes(self) -> None:
        if not self.axes or not all(self.axes.values()):
            raise ValueError(f"every axis needs a value; the axes are {self.axes}")
        for name, values in self.prepared.items():
            _check_values("prepared", name, values, self.axes)
        for name, value in self.start.items():
            _check_values("start", name, [value], self.prepared)

    def _ends(self, name: str) -> list:
        """Of what is prepared on an axis: the first value, the last and the start."""
        values = self.prepared[name]
        return [value for value in values if value in (values[0], values[-1], self.start[name])]

    def picture(self, *values) -> Picture:
        """The picture for one value of each axis.

        Returns:
            The same one every time; if `draw` went on after an interrupt its alt text says so, and
            the next call draws again.

        Raises:
            KeyboardInterrupt: for an interrupt that comes out of `draw`, as it does of a fit.

        Example:
            >>> explorer = Explorer({"rank": [1, 2]}, lambda k: (Figure((1, 1)), f"Rank {k}."))
            >>> explorer.picture(2) is explorer.picture(2)
            True
        """
        if values in self._pictures:
            return self._pictures[values]
        with all_or_nothing(), interrupts() as caught:
            picture = Picture(*self.draw(*values))
        if caught:
            picture.alt += " (Interrupted: this is not its end. Choose it again to compute it.)"
        else:
            self._pictures[values] = picture
        return picture

    def to_html(self) -> str:
        """The kernel-less face, with every prepared frame.

        Returns:
            HTML of a `<figure>` that needs no other file.

        Example:
            >>> explorer = Explorer({"rank": [1, 2]}, lambda k: (Figure((1, 1)), f"Rank {k}."))
            >>> explorer.to_html().count('type="range"')  # one slider for each axis
            1
        """
        self._draw_what_is_left_out()
        frames = []
        for values in product(*self.prepared.values()):
            picture = self.picture(*values)
            if values not in self._pictures:
                raise KeyboardInterrupt("the pictures of an Explorer were not all drawn")
            frames.append((picture.uri, shown(picture.alt)))
        labels = [list(map(shown, values)) for values in self.prepared.values()]
        data = {"labels": labels, "most": LABEL, "frames": frames}
        packed = json.dumps(data).replace("<", "\\u003c")
        sliders = "".join([self._slider(name) for name in self.prepared])
        first = self.picture(*self.start.values())
        return (
            f'<figure class="peek-figure peek-explorer {PLAIN}" style="{FIGURE_STYLE}">{sliders}'
            f'{first.img()}<figcaption aria-live="polite" style="{TEXT_STYLE}">'
            f"{escape(first.alt)}</figcaption>"
            f'<script type="application/json">{packed}</script><script>{SCRIPT}</script></figure>'
        )

    def _draw_what_is_left_out(self) -> None:
        """Draw, but do not render, each value that was to be prepared and is not: does it work?"""
        for name, values in self._asked_for.items():
            for value in values:
                if value not in self.prepared[name]:
                    with all_or_nothing():
                        self.draw(*(self.start | {name: value}).values())

    def _slider(self, name: str) -> str:
        values = self.prepared[name]
        at = values.index(self.start[name])
        value = shown(values[at])
        return (
            f'<label style="{SLIDER_STYLE}"><span style="{WORD_STYLE}">{brief(name, LABEL)}</span>'
            f'<input type="range" min="0" max="{len(values) - 1}" value="{at}" '
            f'aria-valuetext="{escape(value)}" disabled style="{RANGE_STYLE}">'
            f'<output aria-hidden="true" title="{escape(value)}" style="{WORD_STYLE}">'
            f"{escape(cut(value, LABEL))}</output></label>"
        )

    @cached_property
    def widget(self):
        """The live face.

        Returns:
            An ipywidgets box with a SelectionSlider for each axis, and the picture below.

        Example:
            >>> explorer = Explorer({"rank": [1, 2]}, lambda k: (Figure((1, 1)), f"Rank {k}."))
            >>> [type(part).__name__ for part in explorer.widget.children]
            ['SelectionSlider', 'HTML']
        """
        from ipywidgets import HTML, Layout, SelectionSlider, VBox

        view = HTML()
        sliders = []
        for name, values in self.axes.items():
            slider = SelectionSlider(
                options=[(str(value), value) for value in values],
                index=values.index(self.start[name]),
                description=name,
                continuous_update=False,
                layout=Layout(width="95%", max_width="40rem"),
            )
            sliders.append(slider)

        def update(_=None):
            values = tuple(slider.value for slider in sliders)
            if values not in self._pictures:
                view.value = self._computing(values)
            view.value = self._picture_or_error(values)

        for slider in sliders:
            slider.observe(update, "value")
        update()
        return VBox([*sliders, view])

    def _computing(self, values: tuple) -> str:
        """The picture that was there, faint, so that nothing below it moves."""
        pairs = zip(self.axes, values, strict=True)
        chosen = ", ".join(f"{readable(name)} {readable(value)}" for name, value in pairs)
        last = f'<div style="opacity:.4">{self._last.img()}</div>' if self._last else ""
        return f"{last}{_paragraph(f'computing {chosen} …')}"

    def _picture_or_error(self, values: tuple) -> str:
        """The picture over its alt text, or an error: a callback has no cell to raise it in."""
        try:
            self._last = self.picture(*values)
        except KeyboardInterrupt:
            return _paragraph("Interrupted; choose it again to compute it.")
        except Exception as why:
            return f"<pre>{escape(f'{type(why).__name__}: {why}')}</pre>"
        return f"{self._last.img()}{_paragraph(self._last.alt)}"

    @property
    def has_more(self) -> bool:
        """Whether there are values that only a kernel can show.

        Returns:
            False if every value of every axis is prepared.

        Example:
            >>> def draw(rank):
            ...     return Figure((1, 1)), f"Rank {rank}."
            >>> Explorer({"rank": [1, 2]}, draw, prepared={"rank": [1]}).has_more
            True
        """
        return self.prepared != self.axes

    def _repr_mimebundle_(self, **_):
        bundle: dict[str, object] = {"text/plain": repr(self), "text/html": self.to_html()}
        if self.has_more and not run_by_a_program():
            view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
            bundle[WIDGET] = view
        return bundle

    @property
    def _ipython_display_(self):
        """How it shows itself where the live face has more to show; None: as one output."""
        return self._show_both if self.has_more and not run_by_a_program() else None

    def _show_both(self) -> None:
        """The face without a kernel, and then the live one, each as an output of its own.

        Of one output with both, a saved notebook shows an error in place of the widget, and not the
        other face.
        """
        from IPython.display import display

        name = f"peek-{uuid.uuid4().hex[:8]}"
        self.widget.add_class(name)
        page = self.to_html().replace("<figure ", f'<figure id="{name}" ', 1)
        page += LIVE.replace("NAME", name)
        display({"text/plain": repr(self), "text/html": page}, raw=True)
        display(self.widget)

    def __repr__(self):
        sizes = [f"{name} ({len(values)} values)" for name, values in self.axes.items()]
        return f"Explorer over {', '.join(sizes)}"


def _paragraph(text: str) -> str:
    return f'<p class="{PLAIN}" style="{TEXT_STYLE};{WRAP}">{escape(text)}</p>'


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """What stops this program (Ctrl-C, the stop button), noted: long computations end early then.

    Yields:
        A list that grows, with the numbers of the signals so far.

    Example:
        >>> with interrupts() as caught:
        ...     pass
        >>> caught
        []
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield caught
        return
    before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL  # None if C code set it

    def note(number, frame):
        caught.append(number)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)


def run_by_a_program() -> bool:
    """Whether a kernel runs this for a program.

    Returns:
        True for a builder or a test, which can be asked nothing; False without a kernel.

    Example:
        >>> run_by_a_program()
        False
    """
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and not getattr(kernel, "_allow_stdin", False)


def _check_values(what: str, name: str, values: list, allowed: Mapping[str, list]) -> None:
    if name not in allowed:
        raise ValueError(f"{what} names an axis {name!r}; the axes are {list(allowed)}")
    off = [value for value in values if value not in allowed[name]]
    if off or not values:
        raise ValueError(
            f"{what} has {off or 'no values'} on axis {name!r}; it has {allowed[name]}"
        )
