"""What all studies share: how they factorize, and data sets that are read once."""

import functools

import peeklib as pk

FIT = {"solver": "auto", "max_iter": 60, "tol": 1e-3}


@functools.cache
def load(name: str) -> pk.Dataset:
    """A data set, read once."""
    return pk.load_dataset(name)
