"""Blocks: what passes the checks, and that stacking keeps rows, weights and precision."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from peeklib.blocks import (
    as_matrix,
    check_blocks,
    check_count,
    check_weights,
    energy_of,
    full_precision,
    pick_device,
    power_near,
    stack,
)

CPU = torch.device("cpu")


def count_up(rows, images, **options):
    return torch.arange(rows * images, **options).reshape(rows, images)


def stack_up(blocks, weights=None):
    return stack(check_blocks(blocks), weights, CPU)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_integers_become_float32(kind):
    block = count_up(2, 3).to(kind)
    matrix = as_matrix(block)
    assert matrix.dtype == torch.float32
    assert torch.equal(matrix, block.float())


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_keep_their_precision(kind):
    array = np.arange(6, dtype=kind).reshape(2, 3)
    matrix = as_matrix(array)
    assert matrix.numpy().dtype == kind
    assert np.array_equal(matrix.numpy(), array)


TWO_BY_THREE = np.arange(6.0).reshape(2, 3)
READ_ONLY = TWO_BY_THREE.copy()
READ_ONLY.setflags(write=False)
SAME = {
    "column-major": np.asfortranarray(TWO_BY_THREE),
    "of the other byte order": TWO_BY_THREE.astype(TWO_BY_THREE.dtype.newbyteorder()),
    "read-only": READ_ONLY,
    "of long doubles": TWO_BY_THREE.astype(np.longdouble),
    "of half precision": TWO_BY_THREE.astype(np.float16),
    "of unsigned integers": TWO_BY_THREE.astype(np.uint16),
    "with a mask that hides nothing": np.ma.array(TWO_BY_THREE, mask=False),
    "a table": pd.DataFrame(TWO_BY_THREE),
    "a table of types that pandas adds": pd.DataFrame(TWO_BY_THREE).astype("Int64"),
    "bfloat16": torch.arange(6).reshape(2, 3).bfloat16(),
    "float8": torch.arange(6.0).reshape(2, 3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("block", SAME.values(), ids=SAME.keys())
def test_numbers_are_read_however_they_are_kept(block):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = as_matrix(block)
    assert matrix.dtype in (torch.float32, torch.float64)
    assert np.array_equal(matrix.numpy(), TWO_BY_THREE)


def test_a_file_that_is_mapped_to_memory_is_not_copied(tmp_path):
    np.save(tmp_path / "block.npy", TWO_BY_THREE)
    mapped = np.load(tmp_path / "block.npy", mmap_mode="r")
    assert as_matrix(mapped).data_ptr() == mapped.ctypes.data


@pytest.mark.parametrize("of", [torch.tensor, np.array])
def test_whole_numbers_that_float32_cannot_tell_apart_become_float64(of):
    assert as_matrix(of([[2**24, 2**24 + 1]])).diff().item() == 1


OTHER = {
    "list": ([[1.0]], TypeError, "is a list; give a tensor or array"),
    "objects": (TWO_BY_THREE.astype(object), TypeError, "array of object; give numbers"),
    "words": (np.array([["a"]]), TypeError, "give numbers"),
    "wide complex": (TWO_BY_THREE.astype(np.clongdouble), TypeError, "is complex"),
    "too long double": (np.array([[np.longdouble(2) ** 2000]]), ValueError, "infinite"),
    "masked": (
        np.ma.array(TWO_BY_THREE, mask=TWO_BY_THREE == 4),
        ValueError,
        "masked entries .1 of them, first at row 1, image 1.; fill them",
    ),
    "a column of words": (
        pd.DataFrame({"class": ["cat"], "area": [0.5]}),
        TypeError,
        r"columns \['class'\] hold no numbers",
    ),
    "a missing value": (
        pd.DataFrame({"area": [1, None]}, dtype="Int64"),
        ValueError,
        "NaN .* row 1, image 0",
    ),
    "sparse matrix": (
        scipy.sparse.csr_array((1000, 5000)),
        TypeError,
        r"is sparse, 1000 × 5000; .* block.toarray\(\), which takes 20.0 MB",
    ),
    "sparse tensor": (torch.eye(3).to_sparse(), TypeError, r"block.to_dense\(\)"),
    "no values": (torch.ones(2, 3, device="meta"), ValueError, "meta device"),
}


@pytest.mark.parametrize(("block", "kind", "words"), OTHER.values(), ids=OTHER.keys())
def test_what_is_no_dense_array_of_real_numbers_is_refused(block, kind, words):
    with pytest.raises(kind, match=f"block 'relu' .*{words}"):
        as_matrix(block, "relu")


def test_full_precision_ends_what_was_set_and_leaves_it_set():
    torch.set_default_device("meta")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            with full_precision():
                product = torch.ones(2, 2) @ torch.ones(2, 2)
            assert torch.is_autocast_enabled("cpu") and torch.is_inference_mode_enabled()
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)
    assert product.dtype == torch.float32 and product.device == CPU and not product.is_inference()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_dividing_by_the_power_near_a_block_rounds_nothing(kind):
    limits = torch.finfo(kind)
    for largest in (limits.max, limits.tiny, 1.0, 0.0):
        block = torch.tensor([[largest, largest / 3]], dtype=kind)
        size = power_near(block)
        assert torch.equal(block / size * size, block)
        assert (block / size).square().sum().isfinite()


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose], ids=lambda f: f.__name__)
def test_array_views_are_read_as_they_look(turn):
    array = turn(np.arange(6.0).reshape(2, 3))
    assert np.array_equal(as_matrix(array).numpy(), array)


def test_a_block_that_wants_gradients_gives_them_up():
    assert not as_matrix(torch.ones(2, 3, requires_grad=True)).requires_grad


def test_the_default_name_is_not_needed_to_find_the_place():
    with pytest.raises(ValueError, match="row 1, image 2"):
        as_matrix(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, torch.nan]]))


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)], ids=lambda v: type(v).__name__)
def test_any_whole_number_is_a_count(value):
    assert check_count(value, "rank", 3, "images") == 3
    assert type(check_count(value, "rank")) is int


@pytest.mark.parametrize("value", [3.0, True, "3", None, torch.tensor(3)], ids=str)
def test_a_count_is_a_whole_number(value):
    with pytest.raises(TypeError, match="rank is .*; it is a whole number"):
        check_count(value, "rank")


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {}, "rank is 0; it is at least 1"),
        (-1, {"least": 0}, "rank is -1; it is at least 0"),
        (7, {"most": 6, "of": "images"}, "rank is 7; there are 6 images, so .* between 1 and 6"),
        (0, {"most": 6, "of": "images"}, "rank is 0; there are 6 images, so .* between 1 and 6"),
        (7, {"most": 6, "of": "images", "least": 0}, "between 0 and 6"),
    ],
)
def test_a_count_out_of_range_is_refused(value, limits, message):
    with pytest.raises(ValueError, match=message):
        check_count(value, "rank", **limits)


def test_checked_blocks_keep_names_order_and_values():
    blocks = {"relu2": count_up(2, 3).float(), "input": count_up(4, 3).double()}
    checked = check_blocks(blocks)
    assert list(checked) == ["relu2", "input"]
    assert all(torch.equal(checked[name], block) for name, block in blocks.items())


def test_zero_is_not_negative():
    zero = torch.tensor([[0.0, -0.0]])
    assert torch.equal(check_blocks({"input": zero})["input"], zero)


def test_how_many_entries_are_bad_is_counted():
    block = torch.tensor([[1.0, -1.0], [-2.0, -3.0]])
    with pytest.raises(ValueError, match="3 of them, first at row 0, image 1"):
        check_blocks({"relu": block})


def test_no_weights_means_one_each():
    assert check_weights(dict.fromkeys("ab", torch.ones(1, 1)), None) == {"a": 1.0, "b": 1.0}


def test_weights_come_in_the_order_of_the_blocks():
    weights = check_weights(dict.fromkeys("ab", torch.ones(1, 1)), {"b": 2, "a": 3})
    assert list(weights.items()) == [("a", 3.0), ("b", 2.0)]


@pytest.mark.parametrize("weight", ["2", None, [1.0], 10**400, 1e-400])
def test_a_weight_that_is_no_number_is_named(weight):
    with pytest.raises((TypeError, ValueError), match="'relu'"):
        check_weights({"relu": torch.ones(1, 1)}, {"relu": weight})


def dense(data):
    """The stack written out, from its product with the identity."""
    return torch.eye(data.shape[0], dtype=data.dtype) @ data


def test_stacking_puts_every_block_in_its_rows():
    blocks = {"input": count_up(2, 3).float(), "relu": 10 * count_up(4, 3).float()}
    data = stack_up(blocks)
    assert data.shape == (6, 3)
    assert all(torch.equal(dense(data)[data.rows[name]], block) for name, block in blocks.items())


def test_weights_enter_as_square_roots_and_leave_again():
    blocks = {"input": count_up(2, 3).double(), "relu": count_up(4, 3).double()}
    data = stack_up(blocks, {"input": 9, "relu": 0.25})
    torch.testing.assert_close(dense(data), torch.cat([3 * blocks["input"], 0.5 * blocks["relu"]]))
    torch.testing.assert_close(torch.eye(3, dtype=torch.float64) @ data.T, dense(data).T)
    for name, block in data.split(dense(data)).items():
        torch.testing.assert_close(block, blocks[name])


def test_energy_is_that_of_the_data_and_the_total_that_of_the_weighted_rows():
    blocks = {"input": count_up(2, 3).double(), "relu": count_up(4, 3).double()}
    data = stack_up(blocks, {"input": 9, "relu": 0.25})
    assert data.energy == pytest.approx(
        {name: block.square().sum().item() for name, block in blocks.items()}
    )
    assert data.total_energy == pytest.approx(dense(data).square().sum().item())


def test_some_images():
    blocks = {"input": count_up(2, 7).double(), "relu": count_up(4, 7).double()}
    data, some = stack_up(blocks, {"input": 9, "relu": 0.25}), torch.tensor([0, 3, 5])
    torch.testing.assert_close(dense(data.take(some)), dense(data)[:, some])
    torch.testing.assert_close(data.columns(some), dense(data)[:, some].T)
    assert data.take(some).total_energy == pytest.approx(dense(data)[:, some].square().sum().item())


def test_images_that_are_small_beside_the_others_are_large_among_themselves():
    block = torch.ones(3, 9)
    block[:, 5] = 1e20
    some = stack_up({"input": block}).take(torch.tensor([0, 4]))
    assert 0.25 < some.total_energy / 6 < 4


def test_energy_is_summed_in_float64():
    big = torch.tensor([[1e4] + [1.0] * 3000])  # in float32 1e8 + 1 is 1e8
    assert energy_of(big) == 1e8 + 3000


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((torch.float64, torch.float64), torch.float64),
        ((torch.float64, torch.float32), torch.float32),
        ((torch.float16, torch.float16), torch.float32),
    ],
)
def test_float64_only_if_all_are(kinds, expected):
    data = stack_up({str(k): torch.ones(2, 3, dtype=kind) for k, kind in enumerate(kinds)})
    assert data.dtype == expected


def test_a_block_that_is_right_already_is_not_copied():
    block = torch.ones(2, 3)
    assert stack_up({"input": block}).blocks["input"].data_ptr() == block.data_ptr()


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e30, 4e37])
def test_a_block_of_extreme_size_is_kept_in_a_unit_of_its_own(size):
    block = size * count_up(2, 3).float()
    data = stack_up({"input": block})
    assert torch.equal(data.blocks["input"].double() * data.units["input"], block.double())
    assert 0.25 < data.total_energy / 6 < 4


def test_a_block_that_is_too_small_to_be_seen_is_made_larger_and_its_factor_smaller_again():
    X, Y = count_up(2, 3).float(), count_up(4, 3).float()
    data = stack_up({"input": X, "relu": 1e-25 * Y})
    share = dense(data)[data.rows["relu"]].norm() / dense(data).norm()
    assert 2**-27 <= share < 2**-25
    W = torch.ones(6, 2)
    factors = {name: V * data.units[name] for name, V in data.split(W).items()}
    joined, exponent = data.join(factors)
    torch.testing.assert_close(joined * 2.0**exponent, W.double())
    assert stack_up({"input": X}).multipliers == {"input": 1}


def test_sizes_that_float32_cannot_hold_are_kept_in_float64():
    tiny, huge = torch.full((2, 3), 1e-40), torch.full((4, 3), 1e38)
    assert stack_up({"tiny": tiny}).dtype == stack_up({"huge": huge}).dtype == torch.float32
    assert stack_up({"tiny": tiny, "huge": huge}).dtype == torch.float64
    assert stack_up({"ones": tiny + 1, "huge": 1e99 * huge.double()}).dtype == torch.float64


def test_new_images_are_weighed_as_the_fit_was_be_they_zero():
    new = {"input": torch.zeros(2, 3).double(), "relu": count_up(4, 3).double()}
    data = stack(check_blocks(new), {"input": 9, "relu": 0.25}, CPU, faint=0)
    joined, exponent = data.join({name: torch.ones_like(block) for name, block in new.items()})
    assert (joined * 2.0**exponent).unique().tolist() == [0.5, 3]


def test_a_device_that_was_asked_for_is_taken():
    assert pick_device("cpu", torch.device("meta")) == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_fallback_is_taken():
    assert pick_device(None, torch.device("meta")) == torch.device("meta")


def test_a_gpu_is_taken_unasked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(None, CPU) == torch.device("cuda")
