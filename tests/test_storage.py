"""What was saved comes back to the bit on any device, strangers can read it, and no file runs code."""

import errno
import itertools
import json
import math
import os
import pickle
import random
import resource
import signal
import stat
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from forked import fork
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from simulated import Simulation
from torch import Tensor, nn

import peeklib as pk
from peeklib import storage
from peeklib.directions import Direction
from peeklib.study import files, report

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ["input", "a/b.c", "", "größe ⊙ \0\n\ud800", "__metadata__", "x" * 200]


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def fit_of(names=NAMES, rank=3, **options):
    return pk.coupled_nmf({name: rand(5, 9) for name in names}, rank, max_iter=5, **options)


def tensors_of():
    return pk.tensors.coupled_ntf({"conv/1": rand(3, 4, 2, 9), "fc": rand(3, 9)}, 2, max_iter=5)


def sweep_of():
    return pk.rank_sweep({"": rand(5, 9), "relu": rand(3, 9)}, [1, 3], [0, 4], max_iter=5)


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 3, 3), nn.ReLU())
    options = {"ranks": (2, 3), "device": "cpu", "progress": False, "title": "<i>mine</i>"}
    return pk.peek(model, rand(12, 3, 9, 9), **options)


def differences(one, other, place="it"):
    """Places at which two results differ, in kind, numbers to the bit, or order of axes in memory."""
    if isinstance(one, str) and isinstance(other, str):  # PyTorch has a text of its own
        return [place] if one != other else []
    if type(one) is not type(other):
        return [place]
    if is_dataclass(one):
        names = [field.name for field in fields(one)]
        one, other = vars(one), vars(other)
        found = [differences(one[name], other[name], f"{place}.{name}") for name in names]
    elif isinstance(one, dict):
        found = [[] if repr(list(one)) == repr(list(other)) else [place]]
        found += [differences(one[key], other[key], f"{place}[{key!r}]") for key in one]
    elif isinstance(one, list | tuple):
        found = [[] if len(one) == len(other) else [place]]
        found += [differences(*pair, f"{place}[]") for pair in zip(one, other, strict=True)]
    elif isinstance(one, Tensor):
        same = bits(one) == bits(other) and one.device == other.device
        found = [[] if same else [place]]
    elif isinstance(one, np.ndarray):
        found = [differences(torch.tensor(one), torch.tensor(other), place)]
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, obj=place)
        found = []
    else:
        found = [[] if repr(one) == repr(other) else [place]]
    return [place for places in found for place in places]


def bits(tensor):
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    raw = tensor.contiguous().view(-1).view(torch.uint8)
    return tensor.dtype, tensor.shape, order, bytes(raw.tolist())


@pytest.fixture
def blank(monkeypatch):
    """Reports without pictures, which take seconds to draw."""
    monkeypatch.setattr(report, "_page_parts", lambda found: defaultdict(str))


# There and back


@pytest.mark.parametrize("make", [fit_of, tensors_of, sweep_of])
def test_a_result_comes_back_to_the_bit(make, tmp_path):
    result = make()
    path = result.save(tmp_path / "result.safetensors")
    assert path == tmp_path / "result.safetensors"
    assert differences(pk.load(path), result) == []
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_peek_comes_back_with_all_it_shows(found, tmp_path):
    again = pk.load(found.save(tmp_path / "report.safetensors"))
    assert differences(again, found) == []
    assert {field.name for field in fields(again)} == {field.name for field in fields(found)}
    assert again._repr_html_() == found._repr_html_()
    twice = again.save(tmp_path / "twice.peek")
    assert twice.read_bytes() == (tmp_path / "report.safetensors").read_bytes()


def test_a_fit_goes_on_where_it_was(tmp_path):
    fit = fit_of(["input", "relu"])
    again = pk.load(fit.save(tmp_path / "fit"))
    new = {"input": rand(5, 4)}
    assert torch.equal(again.transform(new), fit.transform(new))
    assert torch.equal(again.reconstruct("relu"), fit.reconstruct("relu"))
    blocks = {"input": rand(5, 9), "relu": rand(5, 9)}
    assert pk.coupled_nmf(blocks, 3, init=again).rmse == pk.coupled_nmf(blocks, 3, init=fit).rmse


STRANGE = [0.1, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]


@pytest.mark.parametrize("number", STRANGE)
def test_strange_numbers_are_strict_json(number, tmp_path):
    fit = replace(fit_of(), kkt=number, interrupted=True, history=np.array(STRANGE))
    fit = replace(
        fit, image_factor=torch.tensor([STRANGE]).T, block_errors={"": np.float64(number)}
    )
    path = fit.save(tmp_path / "fit")
    assert differences(pk.load(path), fit) == []

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(stored(path), parse_constant=refuse)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_any_type_and_any_strides(dtype, tmp_path):
    grid = (100 * rand(6, 8)).to(dtype)
    views = {"T": grid.T, "part": grid[1:, ::2], "empty": grid[:0], "row": grid[:1].T}
    fit = replace(
        fit_of(), factors=views | {"wide": grid[:1].expand(4, 8), "three": rand(2, 3, 4).mT}
    )
    assert differences(pk.load(fit.save(tmp_path / "fit")), fit) == []


def test_what_shares_memory_is_kept_each_by_itself(tmp_path):
    whole = rand(4, 3)
    fit = replace(fit_of(), factors={"one": whole, "same": whole}, image_factor=whole[1:])
    again = pk.load(fit.save(tmp_path / "fit"))
    again.factors["one"].zero_()
    assert torch.equal(again.factors["same"], whole) and torch.equal(again.image_factor, whole[1:])


def test_a_factor_with_a_gradient_is_kept_without(tmp_path):
    fit = replace(fit_of(), image_factor=rand(9, 3).requires_grad_())
    again = pk.load(fit.save(tmp_path / "fit"))
    assert torch.equal(again.image_factor, rand(9, 3)) and not again.image_factor.requires_grad


def test_keys_of_a_sweep_may_be_numpys(tmp_path):
    sweep = pk.rank_sweep({"input": rand(5, 9)}, np.arange(1, 3), max_iter=2)
    sweep = replace(
        sweep, fits={(rank, np.int32(seed)): fit for (rank, seed), fit in sweep.fits.items()}
    )
    again = pk.load(sweep.save(tmp_path / "sweep"))
    assert differences(again, sweep) == [] and again[2, 0].rank == 2
    pd.testing.assert_frame_equal(again.table(), sweep.table(), check_exact=True)


def test_numpys_text_is_text(tmp_path):
    fit = fit_of(list(np.array(["input", "relu"])))
    assert list(pk.load(fit.save(tmp_path / "fit")).factors) == ["input", "relu"]


def test_equal_results_give_equal_files(tmp_path):
    one, other = (fit_of().save(tmp_path / name) for name in ("one", "other"))
    ours = [replace(pk.load(path), seconds=1.0).save(path).read_bytes() for path in (one, other)]
    assert ours[0] == ours[1]


# Strangers


def stored(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()["peeklib"]


def test_strangers_find_the_factors_by_name(tmp_path):
    fit = fit_of(["input", "conv/1"])
    tensors = load_file(fit.save(tmp_path / "fit.safetensors"))
    assert tensors.keys() == {"image_factor", "factors/input", "factors/conv/1", "history"}
    assert torch.equal(tensors["image_factor"], fit.image_factor)
    assert torch.equal(tensors["factors/conv/1"], fit.factors["conv/1"])
    assert {"modes/conv/1/0", "modes/fc/0"} < load_file(tensors_of().save(tmp_path / "t.st")).keys()
    assert "fits/3,4/factors/relu" in load_file(sweep_of().save(tmp_path / "s.st"))


def test_the_files_of_a_peek_name_layers(found, tmp_path):
    tensors = load_file(found.save(tmp_path / "report.peek"))
    assert torch.equal(tensors["images"], found.images)
    assert torch.equal(tensors["spectra/1"], found.spectra["1"])
    assert {"sweep/fits/2,0/image_factor", "directions/1,singular/0/vector"} < tensors.keys()


def test_two_places_of_one_name_stay_two(found, tmp_path):
    one = Direction(rand(3), 1.0, "conv", "neuron 0", rand(4))
    other = replace(one, vector=2 * one.vector)
    twice = replace(found, directions={("a,b", "c"): [one], ("a", "b,c"): [other]})
    assert differences(pk.load(twice.save(tmp_path / "it.peek")), twice) == []


# Paths


def test_a_path_is_used_as_given_and_completed_without_a_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = fit_of(["input"])
    assert fit.save("fit") == Path("fit.safetensors")
    assert fit.save(Path("run.1/../fit.v2")) if Path("run.1").mkdir() is None else None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fit.safetensors",
        "fit.v2",
        "run.1",
    ]
    for name in ("fit", "fit.safetensors", Path("fit.v2")):
        assert pk.load(name).rank == 3
    Path("fit").mkdir()  # beside it
    assert pk.load("fit").rank == 3


def test_a_peek_is_saved_as_its_suffix_says(found, blank, tmp_path):
    for name in ("a.html", "a.htm", "a.HTML"):
        assert found.save(str(tmp_path / name)).read_text().startswith("<!doctype html>")
    for name in ("a.safetensors", "a.peek", "a.PEEK"):
        assert pk.load(found.save(str(tmp_path / name))).title == found.title
    for name in ("a", "a.pkl", "a.pdf", ".html", "a.html.zip"):
        with pytest.raises(ValueError, match=r"does not say .*html.*safetensors"):
            found.save(tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "suffix", [".html", ".htm", ".pt", ".pth", ".pkl", ".npz", ".json", ".csv", ".HTML"]
)
@pytest.mark.parametrize("make", [fit_of, sweep_of, tensors_of])
def test_no_result_goes_by_the_suffix_of_another_kind_of_file(make, suffix, tmp_path):
    with pytest.raises(ValueError, match=rf"'a\.b{suffix}'.*safetensors.*'a\.b\.safetensors'"):
        make().save(tmp_path / f"a.b{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fit.safetensors", "report.html", "report.peek"])
def test_saving_says_where_it_cannot(found, blank, name, tmp_path):
    result = fit_of(["input"]) if name.startswith("fit") else found
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        result.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder '.*missing'.*make it first"):
        result.save(tmp_path / "missing" / name)
    assert not list(tmp_path.iterdir())


# Whole or not at all


@pytest.mark.parametrize("name", ["fit.safetensors", "report.html", "report.peek"])
@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_the_old_file_outlives_what_goes_wrong(found, name, trouble, blank, tmp_path, monkeypatch):
    result = fit_of(["input"]) if name.startswith("fit") else found
    path = tmp_path / name
    path.write_text("old")

    def fail(part, target):
        assert part.parent == target.parent and part.stat().st_size > 100
        raise trouble

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(type(trouble)) as caught:
        result.save(path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    if isinstance(trouble, OSError):
        assert caught.value.errno == errno.ENOSPC and str(path) in str(caught.value)


CONTENTS = [bytes([number]) * 2_000_000 for number in range(3)]


def write_without_end(path):
    for content in itertools.cycle(CONTENTS):
        storage.write(path, content)


KILLS = int(os.environ.get("KILLS", "10"))  # in each test of what a kill leaves


def test_killed_at_any_moment_a_file_is_whole(tmp_path):
    path, generator = tmp_path / "a.bin", random.Random()
    path.write_bytes(CONTENTS[0])
    for _ in range(KILLS):
        process = fork(write_without_end, path)
        time.sleep(generator.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert path.read_bytes() in CONTENTS
    left = [other for other in tmp_path.iterdir() if other != path]
    for part in left:
        os.utime(part, (0, 0))
    storage.write(path, b"new")
    assert list(tmp_path.iterdir()) == [path], "what killed processes left is gone"


def save_where_files_stay_small(fit, path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match=f"cannot be saved: File too large: '{path}'"):
        fit.save(path)


def test_a_full_disk_is_said_with_the_name_of_the_file_and_the_old_one_stays(tmp_path):
    """As with a quota: a file may have 100 bytes."""
    path = tmp_path / "fit.safetensors"
    path.write_text("old")
    process = fork(save_where_files_stay_small, fit_of(["input"]), path)
    process.join()
    assert process.exitcode == 0
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_who_writes_comes_through_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.bin"
    path.write_text("old")
    with pytest.raises(TimeoutError, match="^too slow$"):
        with storage.written(path) as file:
            file.write(b"new")
            raise TimeoutError("too slow")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.bin"
    for mode in (0o640, 0o600, 0o666):
        path.touch()
        path.chmod(mode)
        storage.write(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


def test_a_write_protected_file_is_left(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write all
    with pytest.raises(PermissionError, match=f"cannot be saved: Permission denied: '{path}'"):
        storage.write(path, b"new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_another_process_goes_on_with_its_part(tmp_path):
    """Of a killed one it is after an hour; what has another name is not ours."""
    young, old = (tmp_path / f".peek-{digit * 16}.part" for digit in "ab")
    others = [tmp_path / name for name in (".peek-1.part", "peek.part", f"{old.name}.txt")]
    for path in (young, old, *others):
        path.touch()
    for path in (old, *others):
        os.utime(path, (0, 0))
    storage.write(tmp_path / "a.bin", b"new")
    assert {*tmp_path.iterdir()} == {young, *others, tmp_path / "a.bin"}


def test_a_link_stays_a_link_unless_it_is_not_to_be_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link, there = tmp_path / "fit.safetensors", tmp_path / "there" / "real.safetensors"
    link.symlink_to(there)
    fit_of(["input"]).save(link)
    assert link.is_symlink() and pk.load(there).rank == 3
    storage.write(link, b"new", follow=False)
    assert not link.is_symlink() and link.read_bytes() == b"new" and pk.load(there).rank == 3


def test_a_pipe_stays_a_pipe(tmp_path):
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    storage.write(path, b"text")
    reader.join()
    assert got == [b"text"] and path.is_fifo() and list(tmp_path.iterdir()) == [path]


# Devices


def test_files_open_on_the_device_that_is_asked_for(tmp_path):
    sweep = sweep_of()
    with Simulation():
        path = sweep.to("cuda").save(tmp_path / "sweep")
        for fit in (pk.load(path)[3, 0], pk.load(path, device="cpu")[3, 0]):
            assert fit.image_factor.device.type == "cpu"
        again = pk.load(path, device="cuda")
        for factor in (again[3, 0].image_factor, again[1, 4].factors["relu"]):
            assert factor.device.type == "cuda"
        assert again.table().equals(sweep.table())


def test_a_peek_whose_sweep_is_elsewhere_draws_the_same(found, tmp_path):
    with Simulation():
        again = pk.load(found.to("cuda").save(tmp_path / "report.peek"), device="cuda")
        assert again.sweep[2, 0].image_factor.device.type == "cuda"
        assert again.images.device.type == again.spectra["1"].device.type == "cpu"
        assert again._repr_html_() == found._repr_html_()


def test_a_device_that_is_not_there_is_refused_before_reading(tmp_path):
    with pytest.raises(RuntimeError, match="no GPU of that number"):
        pk.load(tmp_path / "missing", device="cuda:99")


def test_a_sweep_moves_as_a_whole_and_stays_where_it_is():
    sweep = sweep_of()
    moved = sweep.to("meta")
    assert list(moved.fits) == list(sweep.fits)
    assert {fit.factors["relu"].device.type for fit in moved.fits.values()} == {"meta"}
    assert sweep[1, 0].image_factor.device.type == "cpu"


# What is no file of ours


class Trap:
    sprung = []

    def __reduce__(self):
        return self.sprung.append, ("run",)


def make_pt(path):
    torch.save({"trap": Trap()}, path)


def make_old_pt(path):
    torch.save({"trap": Trap()}, path, _use_new_zipfile_serialization=False)


def make_cut_pt(path):
    torch.save(torch.ones(99), path)
    path.write_bytes(path.read_bytes()[:300])


def make_npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.array([Trap()], dtype=object), b=np.ones(2))


def make_npy(path):
    with path.open("wb") as file:
        np.save(file, np.ones(2))


FOREIGN = {
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Trap())), "a pickle.*run code"),
    "pt": (make_pt, r"torch\.save.*weights_only=True"),
    "old pt": (make_old_pt, "a pickle.*run code"),
    "cut pt": (make_cut_pt, "ZIP archive.*cut off"),
    "npz": (make_npz, r"NumPy.*numpy\.load"),
    "npy": (make_npy, r"NumPy.*numpy\.load"),
    "html": (lambda path: path.write_text("\n <!DOCTYPE html><html>"), "a page.*safetensors"),
    "empty": (lambda path: path.touch(), "an empty file; save the result again"),
    "lfs": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS"),
    "text": (lambda path: path.write_text('{"rank": 3}'), r"no file of peeklib; pk\.load opens"),
    "noise": (lambda path: path.write_bytes(bytes(range(255, 0, -1))), "no file of peeklib"),
    "foreign": (lambda path: save_file({"w": torch.ones(2)}, path), "another program.*load_file"),
    "foreign, said": (
        lambda path: save_file({"w": torch.ones(2)}, path, {"format": "pt"}),
        "another program.*load_file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make, words", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("name", ["x.safetensors", "x"])
def test_another_file_is_called_what_it_is(make, words, name, tmp_path):
    make(tmp_path / name)
    Trap.sprung.clear()
    with pytest.raises(ValueError, match=rf"(?s){name}' is .*{words}"):
        pk.load(tmp_path / name)
    assert not Trap.sprung


def test_no_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*fit' or '.*fit\.safetensors'"):
        pk.load(tmp_path / "fit")
    with pytest.raises(FileNotFoundError, match=r"no file '.*fit\.peek'"):
        pk.load(str(tmp_path / "fit.peek"))
    with pytest.raises(IsADirectoryError, match="is a folder"):
        pk.load(tmp_path)
    with pytest.raises(TypeError, match="NoneType"):
        pk.load(None)


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path):
    fit = fit_of(["a"], rank=1)
    path = fit.save(tmp_path / "fit.safetensors")
    whole = path.read_bytes()
    for length in [*range(12), *range(12, len(whole), 50), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut off|empty|no file of peeklib"):
            pk.load(path)
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:  # white space of JSON says nothing, nor a digit that no float can hold
            assert differences(pk.load(path), fit) == []
        except ValueError as why:
            assert "fit.safetensors' is" in str(why)


# Files by hand


def rewritten(path, change):
    """The file with other facts and a checksum that is right."""
    tensors = load_file(path)
    facts = json.loads(stored(path))
    del facts["checksum"]
    facts = change(facts) or facts
    if isinstance(facts, dict):
        facts["checksum"] = storage._checksum(facts, tensors)
    save_file(tensors, path, {"peeklib": json.dumps(facts)})
    return path


@pytest.fixture
def saved(tmp_path):
    return fit_of(["input"]).save(tmp_path / "fit.safetensors")


def test_a_newer_form_asks_for_a_newer_peeklib(saved):
    rewritten(saved, lambda facts: facts.update(version=2, made_by="peeklib 9.1", result="?"))
    with pytest.raises(ValueError, match=r"version 2, made by peeklib 9\.1.*install a newer"):
        pk.load(saved)


def test_fields_that_a_file_lacks_take_their_defaults(saved):
    def forget(facts):
        for name in ("kkt", "interrupted", "weights"):
            del facts["result"][1][name]

    fit = pk.load(rewritten(saved, forget))
    assert math.isnan(fit.kkt) and fit.interrupted is False and fit.weights == {}


def change_result(change):
    def changed(facts):
        facts["result"] = change(facts["result"])

    return changed


def change_field(name, value):
    def changed(facts):
        facts["result"][1][name] = value

    return changed


FORGED = {
    "class by name": change_result(lambda _: ["builtins.eval", "1"]),
    "class inside": change_field("rmse", ["subprocess.Popen", {"args": "ls"}]),
    "class of the package": change_field("rmse", ["Trained", {"model": 1}]),
    "class of the module": change_field("rmse", ["Packer", {}]),
    "a method": change_field("rmse", ["Sweep.save", {"path": "x"}]),
    "no result": change_result(lambda _: ["list", 1, 2]),
    "plain": change_result(lambda _: 3),
    "a part of one": change_result(lambda _: ["Direction", dict.fromkeys(["vector", "scale", "layer", "name", "scores"], 1)]),
    "unknown field": change_field("more", 1),
    "missing field": change_result(lambda result: [result[0], {"rmse": 1}]),
    "no such tensor": change_field("image_factor", ["tensor", "other", [0, 1]]),
    "axes twice": change_field("image_factor", ["tensor", "image_factor", [0, 0]]),
    "too few axes": change_field("image_factor", ["tensor", "image_factor", [0]]),
    "objects": change_field("rmse", ["number", "object", 1]),
    "numbers too large": change_field("rmse", ["number", "int8", 2**70]),
    "no number": change_field("rmse", ["float", "one"]),
    "unhashable": change_field("factors", ["dict", [["list"], 1]]),
    "text for a factor": change_field("image_factor", "x"),
    "array for a factor": change_field("image_factor", ["array", "image_factor", [0, 1]]),
    "number for a factor": change_field("factors", ["dict", ["input", 1]]),
    "factors without names": change_field("factors", ["list", ["tensor", "image_factor", [0, 1]]]),
    "text for a number": change_field("rmse", "x"),
    "nothing for a number": change_field("kkt", None),
    "text for numbers": change_field("weights", ["dict", ["input", "x"]]),
    "list for a history": change_field("history", ["list", 1.0]),
    "number for a truth value": change_field("converged", 2),
    "nothing": change_field("rmse", []),
    "deep": change_field("rmse", json.loads("[" * 900 + "]" * 900)),
    "no facts": lambda _: [1],
    "no version": lambda facts: facts.pop("version") and None,
}  # fmt: skip


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_file_made_by_hand_is_refused(saved, change):
    with pytest.raises(ValueError, match=r"fit.safetensors' (is damaged|holds)"):
        pk.load(rewritten(saved, change))


@pytest.mark.parametrize(
    "fits",
    [
        ["list"],
        ["dict", [["tuple", 1, 0], "x"]],
        ["dict", [["tuple", 1], 0]],
        ["dict", ["1,0", ["Sweep", {"fits": ["dict"]}]]],
    ],
)
def test_a_sweep_made_by_hand_is_refused(fits, tmp_path):
    path = rewritten(sweep_of().save(tmp_path / "sweep"), change_field("fits", fits))
    with pytest.raises(ValueError, match="is damaged.*fits of a Sweep"):
        pk.load(path)


@pytest.mark.parametrize("name", [field.name for field in fields(pk.Peek)])
def test_no_field_of_a_peek_holds_anything_else(found, name, tmp_path):
    path = rewritten(found.save(tmp_path / "it.peek"), change_field(name, ["set", 1]))
    with pytest.raises(ValueError, match=f"is damaged.*{name} of a Peek"):
        pk.load(path)


def test_what_can_be_read_is_listed():
    assert set(files.KINDS.values()) == {
        *(pk.CoupledFactors, pk.tensors.CoupledTensors, pk.Sweep, pk.Peek, Direction)
    }


# What cannot be kept


@dataclass(frozen=True, repr=False)
class Mine(pk.CoupledFactors):
    """Somebody's own, which no other program has."""


def test_a_class_of_somebody_elses_is_refused_and_nothing_written(tmp_path):
    fit = fit_of(["input"])
    mine = Mine(**{field.name: getattr(fit, field.name) for field in fields(fit)})
    for result in (mine, pk.Sweep({(3, 0): mine}), replace(fit, weights={"input": 1j})):
        with pytest.raises(TypeError, match="of no kind that can be kept"):
            result.save(tmp_path / "fit")
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    fit = replace(fit_of(["input"]), rmse="small")
    for result in (fit, pk.Sweep({(3, 0): fit})):
        with pytest.raises(TypeError, match="rmse of a CoupledFactors is no float"):
            result.save(tmp_path / "fit")
    assert not list(tmp_path.iterdir())
