"""Singular values against NumPy, and entropy rank against cases known by heart."""

import math

import numpy as np
import pytest
import torch

from peeklib import effective_rank, spectrum


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_values(values, rows, cols):
    """A rows × cols matrix with the given singular values."""
    U, V = (torch.linalg.qr(rand(n, len(values), seed=n)).Q for n in (rows, cols))
    return U * values @ V.T


@pytest.mark.parametrize("shape", [(6, 30), (30, 6), (9, 9), (1, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectrum_equals_numpy(shape, dtype):
    block = rand(*shape).to(dtype)
    values = spectrum(block)
    assert values.dtype == torch.float64 and values.shape == (min(shape),)
    np.testing.assert_allclose(values, np.linalg.svd(block.double().numpy(), compute_uv=False), rtol=1e-10)


@pytest.mark.parametrize("shape", [(8, 40), (40, 8)], ids=["wide", "tall"])
def test_small_singular_values_survive(shape):
    """XᵀX would square 1e-10 to 1e-20, far below the rounding of float64."""
    planted = torch.logspace(0, -10, 6, dtype=torch.float64)
    values = spectrum(with_values(planted, *shape))
    np.testing.assert_allclose(values[:6], planted, rtol=1e-4)
    assert values[6:].max() < 1e-14


def test_spectrum_takes_integers_and_signs_and_leaves_the_block_alone():
    block = torch.tensor([[3, 0], [0, -4]])
    assert spectrum(block).tolist() == pytest.approx([4, 3])
    assert block.tolist() == [[3, 0], [0, -4]]


NAN = torch.tensor([[1.0, torch.nan]])
BAD = [(measure, bad) for measure in (spectrum, effective_rank) for bad in (NAN, torch.zeros(0, 3))]


@pytest.mark.parametrize(
    ("measure", "bad"), [*BAD, (spectrum, torch.ones(3))], ids=lambda x: getattr(x, "__name__", None)
)
def test_bad_blocks_are_refused(measure, bad):
    with pytest.raises(ValueError, match="block"):
        measure(bad)


KNOWN = {
    "identity": (torch.eye(7), 7),
    "rank one": (torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 9)), 1),
    "three equal": (with_values(torch.full((3,), 2.0, dtype=torch.float64), 9, 12), 3),
    "halves and quarters": (torch.diag(torch.tensor([2.0, 1.0, 1.0])), math.exp(1.5 * math.log(2))),
    "a number": (torch.tensor([[5.0]]), 1),
}


@pytest.mark.parametrize(("block", "expected"), KNOWN.values(), ids=KNOWN.keys())
def test_effective_rank_of(block, expected):
    assert effective_rank(block) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, -3.0, 1e30])
def test_effective_rank_does_not_depend_on_scale_or_orientation(scale):
    block = rand(6, 11)
    assert effective_rank(scale * block) == pytest.approx(effective_rank(block))
    assert effective_rank(block.T) == pytest.approx(effective_rank(block))


def test_effective_rank_takes_singular_values_too():
    block = rand(6, 11)
    assert effective_rank(spectrum(block)) == pytest.approx(effective_rank(block), rel=1e-12)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1.0], ids=str)
def test_singular_values_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError):
        effective_rank(torch.tensor([2.0, bad]))


def test_effective_rank_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="zero"):
        effective_rank(torch.zeros(3, 4))
