"""`CoupledNMF` is what scikit-learn expects of an estimator, and `coupled_nmf` underneath."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import peeklib as pk
from peeklib import estimator
from peeklib.solvers import UPDATES

X = np.random.default_rng(0).random((20, 6))  # samples × features
X_NAMED = pd.DataFrame(X).add_prefix("pixel")
BLOCKS = {"input": X.T, "relu": X.T[:4] ** 2}  # features × images


def nmf(n_components=2, **parameters) -> estimator.CoupledNMF:
    return pk.CoupledNMF(n_components, random_state=0, **parameters)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([pk.CoupledNMF(n_components=2)])
def test_it_passes_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("solver", ["auto", "hals", "mu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_gives_what_coupled_nmf_gives_of_its_transpose(solver, dtype):
    data = X.astype(dtype)
    fit = pk.coupled_nmf({"X": data.T}, 3, solver=solver, seed=4, max_iter=30, tol=0)
    ours = pk.CoupledNMF(3, solver=solver, random_state=4, max_iter=30, tol=0)
    F = ours.fit_transform(data)
    assert F.dtype == ours.components_.dtype == dtype
    assert np.array_equal(F, fit.image_factor.numpy())
    assert np.array_equal(ours.components_, fit.factors["X"].T.numpy())
    assert np.array_equal(ours.transform(data), fit.transform({"X": data.T}).numpy())
    assert ours.n_iter_ == fit.iterations and ours.n_features_in_ == 6
    assert ours.factors_.relative_error == fit.relative_error


@pytest.mark.filterwarnings("ignore:Maximum number of iterations")  # theirs
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_error_is_that_of_scikit_learn(rank):
    theirs = NMF(rank, random_state=0, max_iter=1000).fit(X)
    ours = nmf(rank)
    model = ours.inverse_transform(ours.fit_transform(X))
    assert ours.reconstruction_err_ == pytest.approx(np.linalg.norm(X - model))
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=0.02)


def test_blocks_come_and_go_in_the_layout_of_record():
    weights = {"input": 1, "relu": 3}
    ours = nmf(weights=weights)
    F = ours.fit_transform(BLOCKS)
    fit = pk.coupled_nmf(BLOCKS, 2, weights=weights)
    assert np.array_equal(F, fit.image_factor.numpy())
    assert {name: H.shape for name, H in ours.components_.items()} == {
        "input": (2, 6),
        "relu": (2, 4),
    }
    assert ours.n_features_in_ == 10 and ours.n_components_ == 2
    again = ours.inverse_transform(F)
    for name in BLOCKS:
        assert np.allclose(again[name], fit.reconstruct(name).numpy())
    lost = sum(np.linalg.norm(BLOCKS[name] - again[name]) ** 2 for name in BLOCKS)
    assert ours.reconstruction_err_ == pytest.approx(lost**0.5)


def test_some_of_the_blocks_place_an_image():
    ours = nmf().fit(BLOCKS)
    few = {"relu": BLOCKS["relu"][:, :3]}
    assert np.array_equal(ours.transform(few), ours.factors_.transform(few).numpy())


def test_a_fit_to_a_matrix_forgets_one_to_blocks_and_the_other_way_round():
    table = pd.DataFrame(X, columns=list("abcdef"))
    ours = nmf().fit(table)
    assert list(ours.feature_names_in_) == list("abcdef")
    ours.fit(BLOCKS)
    assert not hasattr(ours, "feature_names_in_") and ours.n_features_in_ == 10
    assert ours.fit(X).components_.shape == (2, 6) and ours.n_features_in_ == 6


@pytest.mark.parametrize("n_components", ["auto", None])
def test_as_many_components_as_can_be_unless_told(n_components):
    assert pk.CoupledNMF(n_components, max_iter=5, tol=0).fit(X[:4]).n_components_ == 4
    assert pk.CoupledNMF(n_components, max_iter=5, tol=0).fit(BLOCKS).n_components_ == 10


def test_a_random_state_is_taken_as_scikit_learn_takes_it():
    def fitted(random_state):
        return pk.CoupledNMF(2, random_state=random_state, max_iter=3, tol=0).fit_transform(X)

    assert np.array_equal(fitted(np.int64(3)), fitted(3))
    drawn = np.random.RandomState(0)
    first, second = fitted(drawn), fitted(drawn)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, fitted(np.random.RandomState(0)))
    assert not np.array_equal(fitted(None), fitted(None))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
def test_a_tensor_of_any_kind_gives_arrays_of_float32(dtype):
    data = torch.from_numpy(9 * X).to(dtype)
    F = nmf().fit_transform(data)
    assert isinstance(F, np.ndarray) and F.dtype == np.float32
    assert np.array_equal(F, nmf().fit_transform(data.float().numpy()))


def test_a_tensor_may_carry_a_gradient():
    data = torch.tensor(X, requires_grad=True)
    assert np.array_equal(nmf().fit_transform(data), nmf().fit_transform(X))


def test_a_table_that_cannot_be_written_to_gives_no_warning(recwarn):
    data = np.asfortranarray(X)
    data.setflags(write=False)
    nmf().fit(data).transform(data)
    assert not recwarn.list


def test_what_is_given_is_not_what_is_kept():
    ours = nmf()
    F = ours.fit_transform(X)
    F *= 0
    assert ours.factors_.image_factor.min() >= 0 and ours.factors_.image_factor.max() > 0


def test_tables_come_out_with_names_and_the_index():
    table = pd.DataFrame(X, columns=list("abcdef"), index=range(5, 25))
    ours = nmf().set_output(transform="pandas")
    F = ours.fit_transform(table)
    assert list(F.columns) == list(ours.get_feature_names_out()) == ["couplednmf0", "couplednmf1"]
    assert list(F.index) == list(table.index)
    assert ours.inverse_transform(F).shape == X.shape
    assert ours.fit(BLOCKS).transform({"input": BLOCKS["input"][:, :3]}).shape == (3, 2)


def test_a_grid_search_finds_a_rank_for_a_pipeline():
    flowers, kinds = load_iris(return_X_y=True)
    steps = make_pipeline(nmf(), LogisticRegression())
    search = GridSearchCV(steps, {"couplednmf__n_components": [1, 3]}, cv=3).fit(flowers, kinds)
    assert search.best_params_ == {"couplednmf__n_components": 3} and search.best_score_ > 0.8


def test_a_pipeline_hands_blocks_on():
    kinds = (X[:, 0] > 0.5).astype(int)
    steps = make_pipeline(nmf(4), LogisticRegression()).fit(BLOCKS, kinds)
    assert steps.predict({"input": BLOCKS["input"][:, :7]}).shape == (7,)


def test_a_clone_has_the_parameters_and_not_the_fit_and_a_pickle_has_both():
    ours = nmf(weights={"input": 1, "relu": 3}, tol=1e-3).fit(BLOCKS)
    twin = clone(ours)
    assert twin.get_params() == ours.get_params() and not hasattr(twin, "factors_")
    kept = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(kept.transform(BLOCKS), ours.transform(BLOCKS))


def test_a_fit_that_has_not_converged_says_so():
    with pytest.warns(ConvergenceWarning, match="3 iterations; raise max_iter"):
        nmf(max_iter=3).fit(X)


@pytest.mark.parametrize("refit", ["fit", "fit_transform"])
@pytest.mark.parametrize(
    "bad", [pd.DataFrame(-np.ones((9, 9))).add_prefix("c"), -np.ones((9, 1)), {"input": -X}]
)
def test_a_refit_that_raises_leaves_the_fit_before(refit, bad):
    fitted = nmf().fit(X_NAMED)
    before, expected = dict(vars(fitted)), fitted.transform(X_NAMED)
    with pytest.raises(ValueError, match="(?i)negative"):
        getattr(fitted, refit)(bad)
    assert vars(fitted) == before
    assert np.array_equal(fitted.transform(X_NAMED), expected)


def test_a_first_fit_that_raises_leaves_it_unfitted():
    unfitted = nmf()
    with pytest.raises(ValueError, match="Negative"):
        unfitted.fit(-X)
    assert vars(unfitted) == nmf().get_params()
    with pytest.raises(NotFittedError):
        unfitted.transform(X)


def test_an_interrupted_fit_is_no_fit(monkeypatch):
    def stop(*run, **options):
        raise KeyboardInterrupt

    monkeypatch.setitem(UPDATES, "auto", stop)
    ours = nmf()
    with pytest.raises(KeyboardInterrupt):
        ours.fit(X)
    with pytest.raises(NotFittedError):
        ours.transform(X)


@pytest.mark.parametrize(
    ("parameters", "data", "error", "says"),
    [
        (
            {},
            X - 0.5,
            ValueError,
            r"Negative values .* \(53 of them, first at sample 0, feature 1\)",
        ),
        ({}, np.full((5, 3), np.nan), ValueError, "NaN"),
        ({}, np.zeros((5, 3)), ValueError, "nothing to factorize"),
        ({}, sparse.csr_array(X), TypeError, "toarray"),
        ({}, sparse.dok_array(X), TypeError, "toarray|todense"),  # a dict, and no dict of blocks
        ({}, {"a": X, "b": X[:, :4]}, ValueError, "number of images"),
        ({}, {"a": -X.T}, ValueError, "block 'a' has negative"),
        ({}, {}, ValueError, "no blocks"),
        ({"n_components": 7}, X, ValueError, "n_components is 7; there are 6 features"),
        ({"n_components": 6}, X[:5], ValueError, "n_components is 6; there are 5 samples"),
        ({"n_components": 2.0}, X, TypeError, "n_components is 2.0"),
        ({"n_components": np.array([2, 3])}, X, TypeError, "n_components is array"),
        ({"solver": "cd"}, X, ValueError, "solver 'cd'"),
        ({"weights": {"X": 2}}, X, ValueError, "weights are for blocks"),
        ({"weights": {"relu": 2}}, BLOCKS, ValueError, "one weight for each block"),
        ({"random_state": "seven"}, X, ValueError, "'seven' cannot be used to seed"),
    ],
)
def test_what_cannot_be_fitted_is_named(parameters, data, error, says):
    with pytest.raises(error, match=says):
        nmf().set_params(**parameters).fit(data)


@pytest.mark.parametrize(
    ("fitted", "given", "error", "says"),
    [
        (X, X[:, :4], ValueError, "4 features.*6 features"),
        (X, -X, ValueError, "Negative values"),
        (X, BLOCKS, TypeError, "a matrix was fitted; give a matrix, samples × features"),
        (BLOCKS, X, TypeError, r"a ndarray, and blocks .* \['input', 'relu'\]"),
        (BLOCKS, {"conv": X.T}, ValueError, "'conv' was not fitted"),
        (BLOCKS, {"relu": X.T}, ValueError, "'relu' has 6 rows, it was fitted with 4"),
    ],
)
def test_what_cannot_be_placed_is_named(fitted, given, error, says):
    with pytest.raises(error, match=says):
        nmf().fit(fitted).transform(given)


def test_a_factor_of_another_rank_is_no_image_factor():
    with pytest.raises(ValueError, match=r"\(20, 6\); there are 2 components"):
        nmf().fit(X).inverse_transform(X)
