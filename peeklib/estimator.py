"""`coupled_nmf` behind scikit-learn's interface, for its pipelines and searches.

Two layouts meet here. A matrix is scikit-learn's, samples × features; blocks are those of `record`,
features × images. An image is a sample: F, images × rank, is what `transform` gives in both cases.
"""

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state, validation
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .blocks import check_blocks, check_count, check_seed
from .nmf import CoupledFactors, coupled_nmf
from .solvers import all_or_nothing

# Any: scikit-learn has no types, and what is guessed from its defaults is wrong
validate_data: Any = getattr(validation, "validate_data", None)
if validate_data is None:  # a method before scikit-learn 1.6
    validate_data = vars(BaseEstimator)["_validate_data"]

MATRIX = "X"  # the name of the block that a plain matrix becomes
FLOATS: Any = [np.float32, np.float64]  # are kept; everything else becomes the first


class CoupledNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """`coupled_nmf` as an estimator of scikit-learn (Saini & Papalexakis 2018, eq. 1).

    A plain matrix X is samples × features, as everywhere in scikit-learn: an array, DataFrame or
    tensor. A dict of blocks is as `record` gives it, each features × images. Tools that cut X into
    samples, such as a grid search, need the matrix. Results are NumPy arrays, of float64 if all data
    is, else of float32.

    Args:
        n_components: the rank; "auto" or None takes min(samples, features), the largest possible.
        solver, weights, max_iter, tol, device: as for `coupled_nmf`; `weights` are for blocks.
        random_state: of the random start: an int is the `seed` of `coupled_nmf`; a RandomState, or
            for None NumPy's global one, is drawn from.

    Attributes:
        factors_: the `CoupledFactors`; a plain matrix is its block "X".
        components_: rank × features; for blocks a dict of name → rank × features.
        n_components_: the rank.
        reconstruction_err_: ‖X − F H‖ over all blocks, in the unit of the data.
        n_iter_: iterations done.
        n_features_in_: features, of all blocks together.
        feature_names_in_: columns of the DataFrame, if it was one and they are strings.

    Example:
        >>> import peeklib as pk
        >>> X = np.random.default_rng(0).random((20, 6))  # samples × features
        >>> nmf = pk.CoupledNMF(n_components=2, random_state=0).fit(X)
        >>> nmf.transform(X).shape, nmf.components_.shape
        ((20, 2), (2, 6))
        >>> blocks = {"input": X.T, "relu": X.T[:4] ** 2}  # features × images
        >>> nmf.fit_transform(blocks).shape, nmf.components_["relu"].shape
        ((20, 2), (2, 4))
    """

    def __init__(
        self,
        n_components="auto",
        *,
        solver="auto",
        weights=None,
        max_iter=200,
        tol=1e-4,
        random_state=None,
        device=None,
    ):
        self.n_components = n_components
        self.solver = solver
        self.weights = weights
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.device = device

    def fit(self, X, y=None):
        """Find the factors.

        One that has not converged within `max_iter` says so in a ConvergenceWarning. An interrupt
        raises KeyboardInterrupt. A fit that raises leaves the estimator as it was.

        Args:
            X: a matrix, samples × features, or a dict of blocks, features × images; non-negative.
            y: not used; pipelines pass it.

        Returns:
            The estimator itself.

        Raises:
            TypeError, ValueError, RuntimeError: for a bad X or parameter.

        Example:
            >>> CoupledNMF(n_components=1, random_state=0).fit(np.ones((8, 6))).n_components_
            1
        """
        with _as_it_was_on_errors(self):
            self._fit(X)
        return self

    def fit_transform(self, X, y=None):  # pyright: ignore[reportIncompatibleMethodOverride]  # `fit` takes no more
        """Find the factors, and give that of the images as the fit left it.

        `transform` of the same X comes nearer to it, the better the fit has converged.

        Args:
            X: as for `fit`.
            y: not used; pipelines pass it.

        Returns:
            F, images × rank, without unit, each column of root mean square 1.

        Raises:
            TypeError, ValueError, RuntimeError: as `fit`.

        Example:
            >>> CoupledNMF(n_components=1, random_state=0).fit_transform(np.ones((2, 6))).round(3)
            array([[1.],
                   [1.]])
        """
        with _as_it_was_on_errors(self):
            self._fit(X)
        return self.factors_.image_factor.numpy(force=True).copy()

    def transform(self, X):
        """Image factor of new samples under the components found; see `CoupledFactors.transform`.

        Args:
            X: of the kind that was fitted. Some of the blocks will do: the pixels alone, say,
                place an image that never went through the network.

        Returns:
            F, images × rank, without unit.

        Raises:
            TypeError, ValueError: for an X of the other kind, or with other features.

        Example:
            >>> nmf = CoupledNMF(n_components=1, random_state=0).fit(np.ones((8, 6)))
            >>> nmf.transform(np.array([[2.0] * 6, [3.0] * 6])).round(2)
            array([[2.],
                   [3.]])
        """
        check_is_fitted(self)
        by_block = isinstance(self.components_, dict)
        if by_block and not _is_blocks(X):
            raise TypeError(
                f"X is a {type(X).__name__}, and blocks were fitted; "
                f"give a dict of some of {list(self.components_)}, each features × images"
            )
        if not by_block and _is_blocks(X):
            raise TypeError(
                "X is a dict, and a matrix was fitted; give a matrix, samples × features"
            )
        blocks = X if by_block else self._block(X, reset=False)
        return self.factors_.transform(blocks).numpy(force=True)

    def inverse_transform(self, X):
        """The model's version of the data.

        Args:
            X: image factor, images × rank, as `transform` gives it.

        Returns:
            What was fitted, in its layout and unit: a matrix, samples × features, or a dict of
            blocks, features × images.

        Raises:
            ValueError: for anything but a finite matrix of `n_components_` columns.

        Example:
            >>> nmf = CoupledNMF(n_components=1, random_state=0).fit({"input": np.ones((6, 8))})
            >>> nmf.inverse_transform([[2.0], [3.0]])["input"].shape
            (6, 2)
        """
        check_is_fitted(self)
        F = check_array(_as_array(X), dtype=FLOATS, input_name="X")
        if F.shape[1] != self.n_components_:
            raise ValueError(
                f"X has shape {F.shape}; there are {self.n_components_} components, "
                "so give images × rank, as transform does"
            )
        if isinstance(self.components_, dict):
            return {name: (F @ H).T for name, H in self.components_.items()}
        return F @ self.components_

    def _fit(self, X) -> None:
        by_block = _is_blocks(X)
        if self.weights is not None and not by_block:
            raise ValueError("weights are for blocks, and X is one matrix; leave them None")
        blocks: Mapping[str, Any] = check_blocks(X) if by_block else self._block(X, reset=True)
        with all_or_nothing():  # a pipeline would take half a fit for whole
            factors = coupled_nmf(
                blocks,
                self._rank(blocks),
                solver=self.solver,
                weights=self.weights,
                seed=_seed(self.random_state),
                device=self.device,
                max_iter=self.max_iter,
                tol=self.tol,
            )
        if self.tol > 0 and not factors.converged:
            warnings.warn(
                f"not converged after {factors.iterations} iterations; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._keep(factors, by_block)

    def _block(self, X, *, reset: bool) -> dict[str, Tensor]:
        """A matrix, samples × features, as one block, once scikit-learn's own checks are passed."""
        X = validate_data(self, _as_array(X), reset=reset, dtype=FLOATS)
        negative = X < 0
        if negative.any():
            sample, feature = np.argwhere(negative)[0].tolist()
            raise ValueError(
                f"Negative values in data passed to {type(self).__name__} "
                f"({negative.sum()} of them, first at sample {sample}, feature {feature}); "
                "set them to zero, or give positive and negative parts as features of their own"
            )
        block = np.require(X.T, requirements=["C", "W"])  # torch warns of what it cannot write to
        return {MATRIX: torch.from_numpy(block)}

    def _rank(self, blocks: Mapping[str, Any]) -> int:
        features = sum(map(len, blocks.values()))
        images = next(iter(blocks.values())).shape[1]
        most = min(features, images)
        asked = self.n_components
        if asked is None or (isinstance(asked, str) and asked == "auto"):
            return most
        fewer = "samples" if images < features else "features"
        return check_count(asked, "n_components", most, fewer)

    def _keep(self, factors: CoupledFactors, by_block: bool) -> None:
        components = {name: W.T.numpy(force=True) for name, W in factors.factors.items()}
        features = sum(H.shape[1] for H in components.values())
        entries = features * len(factors.image_factor)
        self.factors_ = factors
        self.components_ = components if by_block else components[MATRIX]
        self.n_components_ = factors.rank
        self.reconstruction_err_ = factors.rmse * math.sqrt(entries)
        self.n_iter_ = factors.iterations
        if by_block:  # else validate_data has seen to it
            self.n_features_in_ = features
            vars(self).pop("feature_names_in_", None)

    @property
    def _n_features_out(self) -> int:  # for get_feature_names_out
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.dict = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _more_tags(self):  # what scikit-learn asks before 1.6
        return {"requires_positive_X": True, "preserves_dtype": [np.float64, np.float32]}


@contextlib.contextmanager
def _as_it_was_on_errors(estimator: CoupledNMF) -> Iterator[None]:
    """What raises inside leaves no attribute changed: `validate_data` sets some before others."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def _is_blocks(X) -> bool:
    return isinstance(X, Mapping) and not issparse(X)  # one sparse format of SciPy's is a dict


def _as_array(X):
    """A tensor as an array, wherever it was and whatever its gradient; all else as it is."""
    if not isinstance(X, Tensor):
        return X
    if X.dtype in (torch.float16, torch.bfloat16):
        X = X.float()
    return X.numpy(force=True)


def _seed(random_state) -> int:
    if isinstance(random_state, Integral):
        return check_seed(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
