"""Sparse blocks: the same fits as of the dense ones, without ever writing one out."""

import numpy as np
import pytest
import scipy.sparse
import torch

from peeklib import coupled_nmf, directions, nmf, rank_sweep, solvers, spectrum
from peeklib.sparse import Sparse, is_sparse
from peeklib.tensors import coupled_ntf


def block(features=60, images=300, kind=np.float32):
    """One entry in ten is not zero."""
    generator = np.random.default_rng(0)
    shape = (features, images)
    return (generator.random(shape) * (generator.random(shape) < 0.1)).astype(kind)


SPARSE = {
    "rows": scipy.sparse.csr_array,
    "columns": scipy.sparse.csc_matrix,
    "entries": scipy.sparse.coo_array,
    "dictionary": scipy.sparse.dok_array,
    "tensor": lambda dense: torch.from_numpy(dense).to_sparse(),
}


@pytest.fixture
def pixels():
    return torch.rand(20, 300, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("to_sparse", SPARSE.values(), ids=SPARSE.keys())
def test_entries_are_read_however_they_are_kept(to_sparse):
    sparse = to_sparse(block())
    assert is_sparse(sparse)
    fit = coupled_nmf({"relu": sparse}, 2, max_iter=3)
    expected = coupled_nmf({"relu": block()}, 2, max_iter=3)
    assert torch.allclose(fit.image_factor, expected.image_factor, atol=1e-3)


@pytest.mark.parametrize("solver", solvers.UPDATES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_sparse_block_beside_others_is_fitted_as_the_dense_one(pixels, monkeypatch, solver, kind):
    monkeypatch.setattr(nmf, "SAMPLE", 100)  # so that "auto" begins on some of the images
    monkeypatch.setattr(nmf, "PER_COMPONENT", 10)
    how = {"solver": solver, "max_iter": 12, "weights": {"input": 1, "relu": 4}}
    pixels = pixels.numpy().astype(kind)
    dense = {"input": pixels, "relu": block(kind=kind)}
    sparse = {"input": pixels, "relu": scipy.sparse.csr_array(dense["relu"])}
    fit, expected = (coupled_nmf(blocks, 3, **how) for blocks in (sparse, dense))
    assert fit.image_factor.dtype == expected.image_factor.dtype
    assert torch.allclose(fit.image_factor, expected.image_factor, atol=1e-2)
    assert fit.block_errors == pytest.approx(expected.block_errors, rel=1e-4)
    placed = fit.transform({"relu": sparse["relu"]})
    assert torch.allclose(placed, fit.transform({"relu": dense["relu"]}), atol=1e-3)


def test_no_large_part_is_ever_written_out(monkeypatch):
    written, dense = [], Sparse.dense
    monkeypatch.setattr(Sparse, "dense", lambda part: written.append(len(part)) or dense(part))
    monkeypatch.setattr("peeklib.blocks.CHUNK", 3000)
    rank_sweep({"relu": scipy.sparse.csr_array(block())}, [1, 5], max_iter=4)
    assert written and max(written) == 10  # rows of 300 images


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, 'negative .* image 7.; record it with negative="clip"'), (np.nan, "NaN")],
)
def test_a_bad_entry_is_placed(value, words):
    spoilt = block()
    spoilt[4] = 0
    spoilt[4, 7] = value
    with pytest.raises(ValueError, match=f"'relu' has {words}"):
        coupled_nmf({"relu": scipy.sparse.csr_array(spoilt)}, 2)


def test_what_needs_the_whole_block_says_how_to_write_it_out():
    sparse = scipy.sparse.csr_array(block())
    for call in (spectrum, directions.singular, lambda X: coupled_ntf({"relu": X}, 2)):
        with pytest.raises(TypeError, match=r"block.toarray\(\), which takes 0.1 MB"):
            call(sparse)


def test_nothing_and_one_axis_are_refused_as_they_are_when_dense():
    with pytest.raises(ValueError, match="every entry .* is zero"):
        coupled_nmf({"relu": scipy.sparse.csr_array((4, 5))}, 2)
    with pytest.raises(ValueError, match="is empty"):
        coupled_nmf({"relu": scipy.sparse.csr_array((0, 5))}, 2)
    with pytest.raises(TypeError, match="to_dense"):
        coupled_nmf({"relu": torch.ones(4, 5).to_sparse(1)}, 2)
