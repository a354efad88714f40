"""Singular values against NumPy, entropy rank and similarities against cases known by heart, convolutions against their matrix."""

import math

import numpy as np
import pytest
import torch

from peeklib import effective_rank, spectrum
from peeklib.spectra import cka, conv_singular_values, eckart_young, parallel_analysis, svcca


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
    np.testing.assert_allclose(
        values, np.linalg.svd(block.double().numpy(), compute_uv=False), rtol=1e-10
    )


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
    ("measure", "bad"),
    [*BAD, (spectrum, torch.ones(3))],
    ids=lambda x: getattr(x, "__name__", None),
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_matrix_of_the_rank_comes_nearer_than_the_truncated_decomposition(dtype):
    block = rand(8, 20).to(dtype)
    errors = eckart_young(spectrum(block), range(10))
    U, values, Vt = torch.linalg.svd(block.double(), full_matrices=False)
    for rank, error in enumerate(errors.tolist()):
        best = U[:, :rank] * values[:rank] @ Vt[:rank]
        expected = (block.double() - best).norm() / block.double().norm()
        assert error == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    assert errors[0] == 1 and errors[8] == errors[9] == 0 and errors.dtype == torch.float64


def test_what_little_is_left_is_not_lost_in_rounding():
    values = torch.logspace(0, -12, 5, dtype=torch.float64)
    torch.testing.assert_close(eckart_young(values, [1, 4]), values[[1, 4]], rtol=1e-5, atol=0)


def test_errors_come_in_the_order_of_the_ranks_and_nothing_is_missing_from_zeros():
    assert eckart_young(torch.tensor([4.0, 3.0]), [2, 0, 1]).tolist() == pytest.approx([0, 1, 0.6])
    assert eckart_young(torch.zeros(3), [1, 3]).tolist() == [0, 0]
    assert eckart_young(torch.ones(3), []).shape == (0,)


@pytest.mark.parametrize(
    ("values", "rank", "error"),
    [
        (torch.ones(3), 1.5, TypeError),
        (torch.ones(3), -1, ValueError),
        (torch.ones(3, 3), 1, ValueError),
        (torch.tensor([1.0, 2.0]), 1, ValueError),
        (torch.tensor([1.0, torch.nan]), 1, ValueError),
        (torch.tensor([1.0, -1.0]), 1, ValueError),
    ],
    ids=["no whole number", "negative", "a matrix", "rising", "NaN", "below zero"],
)
def test_ranks_and_values_that_cannot_be_are_refused(values, rank, error):
    with pytest.raises(error):
        eckart_young(values, [rank])


# fewer, or more, features than images
SHAPES = [((5, 40), (8, 40)), ((60, 40), (8, 40)), ((60, 40), (70, 40))]
similarity = pytest.mark.parametrize("measure", [cka, svcca], ids=["cka", "svcca"])


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_cka_equals_its_formula_over_images(shapes):
    """Kornblith et al. 2019, equations 2 and 3: centred Gram matrices, images × images."""
    X, Y = (rand(*shape, seed=k) for k, shape in enumerate(shapes))
    H = torch.eye(40, dtype=torch.float64) - 1 / 40
    K, L = H @ X.T @ X @ H, H @ Y.T @ Y @ H
    assert cka(X, Y) == pytest.approx((K * L).sum().item() / (K.norm() * L.norm()).item(), rel=1e-9)


@pytest.mark.parametrize("shapes", SHAPES[:2], ids=str)
def test_svcca_of_everything_is_the_mean_cosine_of_principal_angles(shapes):
    """With share 1: cosines between the spaces that the centred features span."""
    X, Y = (rand(*shape, seed=k) for k, shape in enumerate(shapes))
    bases = []
    for block in (X, Y):
        centred = block - block.mean(dim=1, keepdim=True)
        U, values, _ = np.linalg.svd(centred.T.numpy(), full_matrices=False)
        bases.append(U[:, values > 1e-9 * values[0]])
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean()
    assert svcca(X, Y, share=1) == pytest.approx(expected, rel=1e-6)


@similarity
@pytest.mark.parametrize("shape", [(6, 50), (60, 50)], ids=str)
def test_a_block_is_wholly_like_itself_rotated_scaled_and_shifted(measure, shape):
    X = rand(*shape)
    Q = torch.linalg.qr(rand(len(X), len(X), seed=1)).Q
    assert measure(X, X) == pytest.approx(1)
    assert measure(X, -3 * Q @ X + 100) == pytest.approx(1)


@similarity
def test_similarity_is_symmetric_and_knows_rotations(measure):
    X, Y = rand(6, 50), rand(9, 50, seed=1)
    Q = torch.linalg.qr(rand(6, 6, seed=2)).Q
    assert measure(X, Y) == pytest.approx(measure(Y, X))
    assert measure(7 * Q @ X + 1, Y) == pytest.approx(measure(X, Y))


def test_only_cca_ignores_any_invertible_map():
    X, Y = rand(6, 50), rand(9, 50, seed=1)
    stretched = rand(6, 6, seed=2) @ X
    assert svcca(stretched, Y, share=1) == pytest.approx(svcca(X, Y, share=1), rel=1e-6)
    assert abs(cka(stretched, Y) - cka(X, Y)) > 0.01


def three_directions():
    """Orthonormal rows of 20 images, each with mean 0."""
    rows = torch.cat([torch.ones(1, 20, dtype=torch.float64), rand(3, 20)])
    return torch.linalg.qr(rows.T).Q.T[1:]


def test_unrelated_directions_have_no_similarity_and_a_shared_one_counts():
    """Orthonormal, centred rows: SVCCA counts the shared one as one of two, CKA by its size."""
    a, b, c = three_directions()
    assert cka(a[None], b[None]) == pytest.approx(0, abs=1e-12)
    assert svcca(a[None], b[None]) == pytest.approx(0, abs=1e-6)
    assert svcca(torch.stack([a, b]), torch.stack([a, c])) == pytest.approx(0.5)
    assert cka(torch.stack([a, b]), torch.stack([a, c])) == pytest.approx(0.5)
    assert cka(torch.stack([3 * a, b]), torch.stack([3 * a, c])) == pytest.approx(81 / 82)


def test_svcca_keeps_the_fewest_directions_with_the_share():
    """One row carries 98.9 % of the variance: it alone is kept below that share, both above."""
    a, b, c = three_directions()
    X, Y = torch.stack([9.5 * a, b]), torch.stack([9.5 * a, c])
    assert svcca(X, Y, share=0.98) == pytest.approx(1)
    assert svcca(X, Y, share=0.99) == pytest.approx(0.5)


EXTREMES = [(torch.float32, 1e20), (torch.float32, 1e-25), (torch.float64, 1e150)]
EXTREMES += [(torch.float64, 1e-150), (torch.float16, 1e4), (torch.bfloat16, 1e-30)]


@pytest.mark.parametrize(("kind", "scale"), EXTREMES, ids=str)
def test_no_measure_depends_on_the_unit_of_the_blocks(kind, scale):
    X, Y = rand(9, 40).abs().clamp(max=5), rand(6, 40, seed=1)
    big, other = (X * scale).to(kind), (Y * scale).to(kind)
    rel = 1e-2 if kind.itemsize == 2 else 1e-5
    assert cka(big, other) == pytest.approx(cka(X, Y), rel=rel)
    assert svcca(big, other) == pytest.approx(svcca(X, Y), rel=rel)
    assert effective_rank(big) == pytest.approx(effective_rank(X), rel=rel)
    assert effective_rank(spectrum(big)) == pytest.approx(effective_rank(X), rel=rel)
    errors = eckart_young(spectrum(big), [0, 2]).tolist()
    assert errors == pytest.approx(eckart_young(spectrum(X), [0, 2]).tolist(), rel=rel)
    assert parallel_analysis(big) == parallel_analysis(X)


def test_few_images_make_unrelated_blocks_alike():
    few, many = ((rand(20, count), rand(20, count, seed=1)) for count in (30, 3000))
    assert svcca(*few) > 0.6 > 0.2 > svcca(*many)


@similarity
def test_single_precision_agrees_with_double(measure):
    X, Y = rand(6, 50) + 3, rand(60, 50, seed=1)
    assert measure(X.float(), Y.float()) == pytest.approx(measure(X, Y), rel=1e-4)


@similarity
@pytest.mark.parametrize(
    ("other", "why"),
    [
        (torch.ones(3, 6), "number of images"),
        (torch.arange(3.0)[:, None].expand(3, 5), "'Y' is the same for all of its 5 images"),
        (torch.full((3, 5), torch.nan), "'Y' has NaN"),
        (torch.ones(5), "'Y' has shape"),
    ],
    ids=["images", "constant", "nan", "axes"],
)
def test_blocks_that_cannot_be_compared_are_refused(measure, other, why):
    with pytest.raises(ValueError, match=why):
        measure(rand(4, 5), other)


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_a_share_is_above_0_and_at_most_1(share):
    with pytest.raises(ValueError, match="share"):
        svcca(rand(4, 5), rand(4, 5, seed=1), share=share)


def conv_matrix(weight, size, wrap):
    """The convolution as a matrix: its answers to images with a single one."""
    ones = torch.eye(weight.shape[1] * size[0] * size[1], dtype=torch.float64)
    ones = ones.unflatten(1, (-1, *size))
    if wrap:
        beyond = (0, weight.shape[3] - 1, 0, weight.shape[2] - 1)
        ones = torch.nn.functional.pad(ones, beyond, mode="circular")
    return torch.nn.functional.conv2d(ones, weight).flatten(1).T


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (2, 3, 3, 2), (3, 1, 1, 1), (1, 4, 4, 6)], ids=str)
@pytest.mark.parametrize("size", [(6, 6), (7, 8)], ids=str)
def test_singular_values_of_a_convolution_that_wraps(shape, size):
    weight = rand(*shape)
    values = conv_singular_values(weight, size)
    assert values.shape == (*size, min(shape[:2])) and values.dtype == torch.float64
    expected = torch.linalg.svdvals(conv_matrix(weight, size, wrap=True))
    found = values.flatten().sort(descending=True).values
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-10)
    assert expected[len(found) :].sum() < 1e-9


def test_without_padding_no_singular_value_is_larger():
    weight, size = rand(4, 3, 3, 3), (8, 7)
    valid = torch.linalg.svdvals(conv_matrix(weight, size, wrap=False))
    wraps = conv_singular_values(weight, size).flatten().sort(descending=True).values
    assert (valid <= wraps[: len(valid)] + 1e-12).all() and valid[0] < wraps[0]


def test_a_parameter_will_do_and_keeps_its_gradient():
    conv = torch.nn.Conv2d(2, 3, 3)
    assert not conv_singular_values(conv.weight, (5, 5)).requires_grad
    assert conv.weight.requires_grad


@pytest.mark.parametrize(("shape", "why"), [((3, 2, 5), "shape"), ((3, 2, 5, 9), "larger")])
def test_kernels_that_do_not_fit_are_refused(shape, why):
    with pytest.raises(ValueError, match=why):
        conv_singular_values(torch.ones(shape), (8, 8))


def test_parallel_analysis_finds_next_to_nothing_in_noise_and_what_was_planted():
    in_noise = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(60, 300, generator=generator)
        in_noise.append(parallel_analysis(noise))
        W, F = (torch.randn(n, 3, generator=generator) for n in (60, 300))
        planted = noise + 4 * W @ F.T / 3
        assert parallel_analysis(planted) == parallel_analysis(5 * planted + 7) == 3
        assert parallel_analysis(planted.T) >= 1  # more features than images
    assert sum(in_noise) <= 2, "one in twenty, by its level"
