"""Pictures and sliders that live everywhere.

An `Explorer` is one object with two faces in one MIME bundle. With a kernel it is ipywidgets: every value of
every slider can be computed. Without one (the built book, a saved notebook) it is a `<figure>` with native
range inputs over frames drawn beforehand, and a few lines of inline script: no network, no library.

A picture is a WebP of an off-screen matplotlib figure on its own background, with alt text.
"""

import base64
import html
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import product

from matplotlib.figure import Figure

from .plots import theme

DPI = 150
QUALITY = 80  # WebP; half the size of PNG at no visible loss

# Inline, so that a picture looks the same in Jupyter, on Colab and in the book.
_STYLE = "max-width:100%;height:auto;background:#fff;display:block;margin:0 auto"

_SCRIPT = """
(() => {
  const figure = document.currentScript.closest("figure");
  const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const sliders = [...figure.querySelectorAll("input[type=range]")];
  const image = figure.querySelector("img"), caption = figure.querySelector("figcaption");
  const update = () => {
    let index = 0;
    sliders.forEach((slider, k) => {
      const label = data.labels[k][slider.value];
      slider.setAttribute("aria-valuetext", label);
      slider.nextElementSibling.value = label;
      index = index * data.labels[k].length + Number(slider.value);
    });
    image.src = data.frames[index][0];
    image.alt = caption.textContent = data.frames[index][1];
  };
  sliders.forEach(slider => { slider.disabled = false; slider.addEventListener("input", update); });
  update();
})();
"""


def profile() -> str:
    """ "full" or "embedded", from PEEK_PROFILE; "full" if it is not set."""
    name = os.environ.get("PEEK_PROFILE", "full")
    if name not in ("full", "embedded"):
        raise ValueError(f'PEEK_PROFILE is {name!r}; it is "full" or "embedded"')
    return name


class Picture:
    """A figure frozen as WebP, with alt text; shows itself wherever HTML does."""

    def __init__(self, figure: Figure, alt: str):
        if not alt.strip():
            raise ValueError(
                "a picture needs alt text: say what it shows to somebody who cannot see it"
            )
        buffer = io.BytesIO()
        with theme():  # ticks are made while drawing
            figure.savefig(
                buffer, format="webp", dpi=DPI, facecolor="white", pil_kwargs={"quality": QUALITY}
            )
        self.alt = alt
        self.uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def img(self) -> str:
        """The `<img>` element."""
        return f'<img src="{self.uri}" alt="{html.escape(self.alt)}" style="{_STYLE}">'

    def _repr_html_(self):
        return f'<figure class="peek-figure" style="margin:1rem 0">{self.img()}</figure>'

    def __repr__(self):
        return f"Picture({self.alt!r})"


def show(figure: Figure, alt: str) -> Picture:
    """`figure` as a picture with alt text: the last line of a notebook cell."""
    return Picture(figure, alt)


class Explorer:
    """Sliders over named axes, and a picture for every combination of their values.

    With a kernel every value is drawn when it is first asked for, and then kept.

    Args:
        axes: dict of name → values, in the order of `draw`'s arguments.
        draw: called with one value for each axis, by position; returns a matplotlib Figure and its alt text.
        prepared: dict of axis → the values that work without a kernel; axes left out are prepared whole. Under the
            embedded profile it is the ends of each axis, and the start.
        start: dict of axis → the value shown first; by default the first one.

    Raises:
        ValueError: for an empty axis, or for `prepared` or `start` values that are not on their axis.
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
        self.prepared = {
            **self.axes,
            **{name: list(values) for name, values in (prepared or {}).items()},
        }
        self.start = {
            **{name: values[0] for name, values in self.prepared.items() if values},
            **(start or {}),
        }
        self._check()
        self._whole = self.prepared
        if profile() == "embedded":
            self.prepared = {name: self._ends(name) for name in self.axes}
        self._pictures: dict[tuple, Picture] = {}
        self._widget = None

    def _check(self):
        if not self.axes or not all(self.axes.values()):
            raise ValueError(f"every axis needs a value; the axes are {self.axes}")
        for what, chosen in (
            ("prepared", self.prepared),
            ("start", {k: [v] for k, v in self.start.items()}),
        ):
            for name, values in chosen.items():
                if name not in self.axes:
                    raise ValueError(
                        f"{what} names an axis {name!r}; the axes are {list(self.axes)}"
                    )
                allowed = self.axes[name] if what == "prepared" else self.prepared[name]
                if not values or (off := [value for value in values if value not in allowed]):
                    raise ValueError(
                        f"{what} has {off if values else 'no values'} on axis {name!r}; it has {allowed}"
                    )

    def _ends(self, name: str) -> list:
        """Of what is prepared on an axis: the first value, the last and the start."""
        values = self.prepared[name]
        return [value for value in values if value in (values[0], values[-1], self.start[name])]

    def picture(self, *values) -> Picture:
        """The picture for one value of each axis, drawn once and kept."""
        if values not in self._pictures:
            self._pictures[values] = Picture(*self.draw(*values))
        return self._pictures[values]

    def to_html(self) -> str:
        """The kernel-less face: a self-contained `<figure>` with every prepared frame."""
        for (
            name,
            values,
        ) in self._whole.items():  # what the embedded profile leaves out is drawn, and not rendered
            for value in (value for value in values if value not in self.prepared[name]):
                self.draw(*[(self.start | {name: value})[axis] for axis in self.axes])
        frames = [self.picture(*values) for values in product(*self.prepared.values())]
        labels = [[str(value) for value in values] for values in self.prepared.values()]
        data = json.dumps({"labels": labels, "frames": [(f.uri, f.alt) for f in frames]}).replace(
            "<", "\\u003c"
        )
        first = self.picture(*(self.start[name] for name in self.axes))
        return (
            f'<figure class="peek-figure peek-explorer" style="margin:1rem 0">'
            f"{''.join(self._range(name, values) for name, values in self.prepared.items())}"
            f'{first.img()}<figcaption aria-live="polite" style="font-size:.85em">{html.escape(first.alt)}</figcaption>'
            f'<script type="application/json">{data}</script><script>{_SCRIPT}</script></figure>'
        )

    def _range(self, name: str, values: list) -> str:
        at = values.index(self.start[name])
        value = html.escape(str(values[at]))
        return (
            f'<label style="display:flex;gap:.75rem;align-items:center;margin:.25rem 0">'
            f'<span style="min-width:4.5rem">{html.escape(name)}</span>'
            f'<input type="range" min="0" max="{len(values) - 1}" value="{at}" aria-valuetext="{value}" disabled '
            f'style="flex:1;min-width:0;height:1.75rem"><output aria-hidden="true" style="min-width:4.5rem">{value}</output></label>'
        )

    @property
    def widget(self):
        """The live face: one SelectionSlider for each axis above the picture."""
        if self._widget is None:
            self._widget = self._make_widget()
        return self._widget

    def _make_widget(self):
        from ipywidgets import HTML, Layout, SelectionSlider, VBox

        sliders = [
            SelectionSlider(
                options=[(str(value), value) for value in values],
                index=values.index(self.start[name]),
                description=name,
                continuous_update=False,
                layout=Layout(width="95%", max_width="40rem"),
            )
            for name, values in self.axes.items()
        ]
        view = HTML()

        def update(_=None):
            values = tuple(slider.value for slider in sliders)
            if values not in self._pictures:
                chosen = ", ".join(
                    f"{name} {value}" for name, value in zip(self.axes, values, strict=True)
                )
                view.value = f"<p>computing {html.escape(chosen)} …</p>"
            try:
                picture = self.picture(*values)
                view.value = (
                    picture.img() + f'<p style="font-size:.85em">{html.escape(picture.alt)}</p>'
                )
            except Exception as why:  # a widget callback has no cell to raise in: show it where the picture would be
                view.value = f"<pre>{html.escape(f'{type(why).__name__}: {why}')}</pre>"

        for slider in sliders:
            slider.observe(update, "value")
        update()
        return VBox([*sliders, view])

    def _repr_mimebundle_(self, **_):
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {
            "text/plain": repr(self),
            "text/html": self.to_html(),
            "application/vnd.jupyter.widget-view+json": view,
        }

    def __repr__(self):
        return f"Explorer over {', '.join(f'{name} ({len(values)} values)' for name, values in self.axes.items())}"
