"""The studies behind the tables of evidence: many networks, trained and factorized, in tidy rows.

`book/evidence.py` writes the tables; a chapter calls the same functions for one network, and shows
the result beside the table's.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import peeklib as pk

from . import (
    caffenet,
    higher_order,
    mnist,
    neighbours,
    neurons,
    sayings,
    scale,
    shapes,
    speed,
    stopped,
    switched,
    uneven,
)
from .common import FIT
from .trainings import alexnet, orders, untrained
from .zhang import directions, layers


class Study(NamedTuple):
    """One table of evidence: who makes it, from which data, and how it factorizes.

    Example:
        >>> STUDIES["spectra"].data, STUDIES["spectra"].fit is None
        (('mnist',), True)
    """

    rows: Callable[..., Iterator[dict]]  #: gives the rows of some seeds; without seeds, all of them
    data: tuple[str, ...] = ("mnist",)  #: names of the data sets
    fit: dict[str, Any] | None = FIT  #: settings of its factorizations; None: it makes none


STUDIES = {
    "alexnet": Study(alexnet, ("cifar10", "mnist")),
    "orders": Study(orders),
    "cases": Study(mnist.cases),
    "spectra": Study(mnist.spectra, fit=None),
    "controls": Study(mnist.controls),
    "forgetting": Study(neurons.forgetting, fit=None),
    "loadings": Study(neurons.loadings),
    "overlaps": Study(neurons.overlaps, fit=None),
    "travels": Study(shapes.travels),
    "places": Study(shapes.places),
    "neighbours": Study(neighbours.neighbours),
    "rescalings": Study(neighbours.rescalings),
    "moved": Study(neighbours.moved),
    "twins": Study(neighbours.twins, fit=None),
    "nulls": Study(neighbours.nulls, fit=None),
    "directions": Study(directions, ("cifar10",)),
    "layers": Study(layers, ("cifar10",), fit=None),
    "few_rounds": Study(stopped.few_rounds, fit={"solver": "mu", "max_iter": 200, "tol": 0}),
    "round_shapes": Study(sayings.round_shapes),
    "separable": Study(sayings.separable, fit=None),
    "caffenet": Study(caffenet.caffenet, ("cifar10",), fit=None),
    "untrained": Study(untrained, ("cifar10",), fit=None),
    "ends": Study(speed.ends, fit=speed.HOW),
    "rounds": Study(speed.rounds, fit={"max_iter": speed.ROUNDS, "tol": 0}),
    "rank_or_scale": Study(scale.rank_or_scale, fit=pk.scores.FIT),
    "uneven": Study(uneven.uneven, ("digits-rgb",), fit=pk.scores.FIT),
    "higher_order": Study(higher_order.higher_order, fit=higher_order.FIT),
    "silenced": Study(switched.silenced),
    "surviving": Study(switched.surviving),
    "joint": Study(switched.joint),
    "libraries": Study(higher_order.libraries, fit=higher_order.PROGRAMS),
}
