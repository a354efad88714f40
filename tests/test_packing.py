"""What is packed comes back to the bit, what cannot come back is refused, and no bytes run code."""

import io
import json
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import peeklib as pk
from peeklib import storage
from peeklib.course import packing

HAS_GPU = torch.cuda.is_available()
STRANGE = [0.1, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]
DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
]


def packed(value, before=None):
    return packing.pack("key", value, before)


def unpacked(content, before=None, key="key"):
    return packing.unpack(io.BytesIO(content), key, before)


def again(value, before=None):
    return unpacked(packed(value, before), before)


def bits(tensor):
    return (
        tensor.dtype,
        tensor.shape,
        tensor.stride(),
        bytes(tensor.contiguous().view(-1).view(torch.uint8)),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_to_the_bit(dtype):
    row = torch.tensor(STRANGE).to(dtype) if dtype.is_floating_point else torch.arange(7).to(dtype)
    grid = torch.stack([row, row.flip(0), row])
    for tensor in (row, grid, grid.T, grid[1:, ::2], row[2], row[:0], row[None, None], grid[:0].T):
        found = again(tensor)
        assert bits(found) == bits(tensor) and type(found) is torch.Tensor
        found.zero_()


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
def test_tensors_come_back_on_their_device():
    found = again([torch.ones(2, device="cuda"), torch.ones(2)])
    assert [tensor.device.type for tensor in found] == ["cuda", "cpu"]


def test_tensors_that_share_memory_share_it_again():
    whole = torch.rand(4, 6)
    parts = again([*whole.T.split([1, 5]), whole])
    parts[2].zero_()
    assert not parts[0].any() and not parts[1].any()
    assert parts[0].stride() == (1, 6)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", "f8"])
def test_arrays(dtype, order):
    array = np.array(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    for part in (array, array[:, ::-1], array[0], array[:0], np.array(array[1, 1])):
        found = again(part)
        assert type(found) is np.ndarray and (found.dtype, found.shape) == (part.dtype, part.shape)
        assert found.tobytes() == part.tobytes()
    assert again(array).flags["F_CONTIGUOUS"] == array.flags["F_CONTIGUOUS"]
    number = again(array[1, 1])
    assert number == array[1, 1] and type(number) is type(array[1, 1])


def shape(value):
    """The types of a value and of its parts, in order but for sets."""
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(shape, value), key=str)
    parts = value.items() if isinstance(value, dict) else value
    return type(value), [*map(shape, parts)] if isinstance(value, dict | list | tuple) else value


def test_plain_values_and_containers():
    value = {
        "none": None,
        (1, True): [1, 1.0, False, "text\n\ud800", 2**70],
        2.5: ({3, 4}, frozenset("ab"), range(5, 1, -2), [], (), {}, ""),
        "list": ["tensor", 0],
    }
    found = again(value)
    assert found == value and shape(found) == shape(value) and list(found) == list(value)
    strange = again(STRANGE)
    assert [number.hex() for number in strange] == [number.hex() for number in STRANGE]


FRAMES = {
    "history": pd.DataFrame({"step": [4, 9], "loss": np.array([0.1, np.nan], dtype="f4")}),
    "text": pd.DataFrame({"a": ["x", None], "b": ["x", "y"], "c": [1, "z"]}, index=["q", "q"]),
    "twice": pd.DataFrame([[1, 2.5], [3, 4.5]], columns=["a", "a"], index=[0.5, -0.0]),
    "names": pd.DataFrame([[True]], pd.RangeIndex(3, 4, name=("r", 1)), pd.Index([7], name="n")),
    "no rows": pd.DataFrame({"a": np.zeros(0, "i2"), "b": np.zeros(0, "f8")}),
    "no columns": pd.DataFrame(index=[3, 1]),
    "nothing": pd.DataFrame(),
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_tables(frame):
    found = again(frame)
    pd.testing.assert_frame_equal(
        found, frame, check_exact=True, check_index_type="exact", check_column_type="exact"
    )
    assert type(found.index) is type(frame.index) and type(found.columns) is type(frame.columns)
    found.loc[:, :] = found


def test_results_of_this_package():
    blocks = {"input": torch.rand(6, 9), "relu": torch.rand(4, 9)}
    sweep = pk.rank_sweep(blocks, (1, 2), (0, 1))
    found = again(sweep)
    pd.testing.assert_frame_equal(found.table(), sweep.table(), check_exact=True)
    assert list(found.fits) == list(sweep.fits)
    for pair, fit in sweep.fits.items():
        assert bits(found[pair].image_factor) == bits(fit.image_factor)
        assert [*map(bits, found[pair].factors.values())] == [*map(bits, fit.factors.values())]
        assert np.array_equal(found[pair].history, fit.history)
    tensors = pk.tensors.coupled_ntf({"map": torch.rand(3, 4, 9)}, 2, max_iter=3)
    found = again(tensors)
    assert isinstance(found, pk.tensors.CoupledTensors) and math.isnan(found.kkt)
    assert [*map(bits, found.modes["map"])] == [*map(bits, tensors.modes["map"])]
    split = pk.Split(torch.ones(2, 1, 3, 3, dtype=torch.uint8), torch.arange(2))
    found = again(pk.Dataset("name", split, split, ("a", "b"), "source"))
    assert isinstance(found.train, pk.Split) and found.classes == ("a", "b")
    assert bits(found.test.images) == bits(split.images) and found.stand_in_for is None


def test_a_model_is_a_copy_of_the_one_before_in_the_state_that_was_kept():
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    before = nn.Sequential(shared, nn.BatchNorm1d(3), shared, nn.Dropout())
    before[1].weight.requires_grad_(False)
    after = nn.Sequential(*before)
    data = packed((after.eval(), 1), before)
    after[1].train()
    other = packed((after, 1), before)
    state = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    with torch.no_grad():
        shared.weight.zero_()
        before[1].running_mean.fill_(5)
    model, _ = unpacked(data, before)
    assert model is not before and model[0].weight is model[2].weight
    assert {name: bits(tensor) for name, tensor in model.state_dict().items()} == {
        name: bits(tensor) for name, tensor in state.items()
    }
    assert not any(module.training for module in model.modules())
    assert not model[1].weight.requires_grad and model[0].weight.requires_grad
    model, _ = unpacked(other, before)
    assert [module.training for module in model] == [False, True, False, False]


@dataclass
class Sweep:
    """Not the package's."""

    fits: dict


class Twin(nn.Linear):
    """Other code, the same names and shapes."""


REFUSED = {
    "function": len,
    "class": dict,
    "subclass": OrderedDict(a=1),
    "another class of that name": Sweep({}),
    "bytes": b"x",
    "objects": np.array([None]),
    "other byte order": np.zeros(2, ">f4"),
    "gradient": torch.zeros(2, requires_grad=True),
    "parameter": nn.Parameter(torch.zeros(2)),
    "sparse": torch.eye(2).to_sparse(),
    "no memory": torch.zeros(2, device="meta"),
    "dates": pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}),
    "categories": pd.DataFrame({"a": pd.Categorical(["x"])}),
    "two levels": pd.DataFrame([[1]], index=pd.MultiIndex.from_tuples([(1, 2)])),
    "another model": nn.Linear(2, 3),
    "another model of that shape": nn.Linear(2, 2).double(),
    "another model of that state": Twin(2, 2),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_could_not_come_back_is_refused(value):
    with pytest.raises((TypeError, RuntimeError, NotImplementedError, ValueError)):
        packed([1, value], nn.Linear(2, 2))


def test_another_key_is_noticed():
    with pytest.raises(ValueError, match="another call"):
        unpacked(packed(1), key="other")


def test_every_flipped_bit_and_every_cut_is_noticed():
    value = {"a": torch.arange(3.0), "b": "text"}
    data = packed(value)
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:  # white space of JSON says nothing
            assert repr(unpacked(flipped)) == repr(value)
        except storage.DAMAGED:
            pass
    for length in range(len(data)):
        with pytest.raises(storage.DAMAGED):
            unpacked(data[:length])


class Trap:
    sprung = []

    def __reduce__(self):
        return self.sprung.append, ("run",)


def forged(result):
    """A file with a right checksum that says something else."""
    return storage.sealed({"key": "key", "result": result}, {"0": torch.arange(4.0)})


ROW = [["range", 0, 1, 1], None, None]
FORGED = {
    "pickle": pickle.dumps(Trap()),
    "class by name": forged(["builtins.eval", "1"]),
    "class of the module": forged(["_Packer", {"before": None}]),
    "unknown field": forged(["Sweep", {"fits": 1, "more": 2}]),
    "positional": forged(["Sweep", 1, 2]),
    "behind the memory": forged(["tensor", 0, "cpu", [4], [1], 1]),
    "before the memory": forged(["tensor", 0, "cpu", [4], [-1], 3]),
    "far away": forged(["tensor", 0, "cpu", [2], [2**60], 0]),
    "no such memory": forged(["tensor", 9, "cpu", [4], [1], 0]),
    "no such device": forged(["tensor", 0, "os", [4], [1], 0]),
    "other labels": forged(["table", ROW, ROW, [["list", "a"], "category"]]),
    "a model where none is": forged(["model", ["dict"], []]),
    "deep": forged(json.loads("[" * 900 + "]" * 900)),
    "nothing": forged([]),
}  # fmt: skip


@pytest.mark.parametrize("data", FORGED.values(), ids=FORGED)
def test_forged_bytes_are_refused_and_run_nothing(data):
    Trap.sprung.clear()
    with pytest.raises(Exception):  # noqa: B017
        unpacked(data)
    assert not Trap.sprung
    assert again(1) == 1
