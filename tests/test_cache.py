"""A cached function computes once; what could change its result makes it compute again.

Whatever lies in the folder, or befalls it, a call gives the right result and runs no strange code.
"""

import errno
import inspect
import itertools
import multiprocessing
import os
import pickle
import random
import resource
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from forked import fork
from torch import nn

import peeklib as pk
from peeklib import nmf, solvers, spectra, storage
from peeklib.course import cache, fingerprint, packing, training, zoo
from peeklib.course.cache import cached
from peeklib.course.data import image_files

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PEEK_CACHE", str(tmp_path / "results"))
    monkeypatch.setattr(cache, "TOLD", set())
    return tmp_path / "results"


def count(monkeypatch, module, name):
    """A list that grows at each call of `module.name`, a function that the cached one calls."""
    calls, original = [], getattr(module, name)

    def counted(*args, **kwargs):
        calls.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.fixture
def spectra_computed(monkeypatch):
    return count(monkeypatch, spectra, "as_matrix")


def block(seed=0, rows=5, columns=4):
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def toy(count=12):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 1, 2, 2), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 3


def linear(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed))
    return model


def key(function, *args, **kwargs):
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return cache._key(function, bound.arguments)


def entries(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# What comes back


def test_a_spectrum_is_computed_once_and_may_be_written_to(spectra_computed):
    spectrum = cached(pk.spectrum)
    first, second = spectrum(block()), spectrum(block())
    assert len(spectra_computed) == 1
    assert torch.equal(first, second) and torch.equal(first, pk.spectrum(block()))
    second.zero_()
    assert torch.equal(spectrum(block()), first)


def test_a_trained_model_comes_back_ready_and_leaves_the_argument_alone(monkeypatch):
    computed, train = count(monkeypatch, training, "_history"), cached(pk.train)
    once, given = linear(), linear()
    first, second = train(once, *toy(), seed=0), train(given, *toy(), seed=0)
    assert len(computed) == 1
    assert first.model is once and second.model is not given
    assert torch.equal(given[1].weight, linear()[1].weight)
    assert not second.model.training
    assert first.history.equals(second.history)
    images = torch.rand(3, 1, 2, 2)
    assert torch.equal(first.model.cpu()(images), second.model.cpu()(images))
    pk.train(second.model, *toy(), seed=1)  # its weights still take gradients


def test_a_sweep_comes_back_whole(monkeypatch):
    computed, rank_sweep = count(monkeypatch, nmf, "checked_stack"), cached(pk.rank_sweep)
    blocks = {"input": block(), "relu": block(1)}
    first, second = (rank_sweep(blocks, (1, 2), [0], solver="auto") for _ in range(2))
    assert len(computed) == 1
    assert first.table().equals(second.table()) and list(second[2, 0].factors) == ["input", "relu"]
    assert torch.equal(first[2, 0].image_factor, second[2, 0].image_factor)
    assert torch.allclose(first[2, 0].transform(blocks), second[2, 0].transform(blocks))
    second[2, 0].image_factor.zero_()
    second[2, 0].history[0] = 0


def test_a_model_that_the_function_builds_comes_back(monkeypatch):
    split = pk.Split(torch.ones(8, 1, 28, 28, dtype=torch.uint8), torch.arange(8))
    small = pk.Dataset("digits", split, split, tuple("0123456789"), "white squares")
    monkeypatch.setattr(zoo, "dataset", lambda name: small)
    computed, rear = count(monkeypatch, zoo, "training_set"), cached(zoo.rear)
    recipe = zoo.Recipe("digits", "mlp", images=8, epochs=5)
    (model, facts), (again, same) = rear(recipe), rear(recipe)
    assert len(computed) == 1 and facts == same
    assert torch.equal(model.fc.weight, again.fc.weight) and not again.training
    assert not torch.equal(model.fc.weight, zoo.build(recipe).fc.weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_result_comes_back_on_its_device():
    spectrum, devices = cached(pk.spectrum), ["cuda", "cuda", "cpu", "cpu"]
    assert [spectrum(block().to(device)).device.type for device in devices] == devices


def test_it_looks_like_the_function():
    train = cached(pk.train)
    assert (train.__name__, train.__doc__) == ("train", pk.train.__doc__)
    assert inspect.signature(train) == inspect.signature(pk.train)
    with pytest.raises(TypeError, match="missing a required (keyword-only )?argument: 'seed'"):
        train(linear(), *toy())


def test_nothing_is_printed(capfd):
    for _ in range(2):
        cached(pk.spectrum)(block())
    assert capfd.readouterr() == ("", "")


def test_errors_come_through_and_are_not_kept(folder):
    for _ in range(2):
        with pytest.raises(ValueError, match="epochs is 0"):
            cached(pk.train)(linear(), *toy(), seed=0, epochs=0)
    assert not entries(folder)


# The key


def changed(tensor):
    copy = tensor.clone()
    copy.view(-1).view(torch.uint8)[-1] ^= 1
    return copy


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.float32, torch.float64, torch.int64, torch.float16]
)
def test_tensors_count_by_value(dtype):
    tensor = (block(columns=6) * 100).to(dtype)
    views = [tensor.clone(), tensor.T.contiguous().T, torch.stack([tensor, tensor], 2)[..., 0]]
    assert {cache._text(view) for view in views} == {cache._text(tensor)}
    assert cache._text(tensor[::5, ::6]) == cache._text(tensor[:1, :1].clone())
    assert cache._text(tensor[0, 0].expand(3)) == cache._text(tensor[0, :1].repeat(3))
    others = [
        changed(tensor),
        tensor.T,
        tensor.view(6, 5),
        tensor.view(torch.int8),
        tensor[:0],
        tensor[0, 0],
    ]
    assert len({cache._text(other) for other in [tensor, *others]}) == 7
    assert cache._text(tensor.numpy()) == cache._text(tensor.T.contiguous().numpy().T)
    assert cache._text(tensor.numpy()) != cache._text(changed(tensor).numpy())


def test_one_changed_argument_changes_the_key():
    images, labels = toy()
    calls = [
        key(pk.train, linear(), images, labels, seed=0),
        key(pk.train, linear(1), images, labels, seed=0),
        key(pk.train, linear().eval(), images, labels, seed=0),
        key(pk.train, linear().double(), images, labels, seed=0),
        key(pk.train, nn.Sequential(*linear(), nn.ReLU()), images, labels, seed=0),
        key(pk.train, linear(), changed(images), labels, seed=0),
        key(pk.train, linear(), images, labels.flip(0), seed=0),
        key(pk.train, linear(), images, labels, seed=1),
        key(pk.train, linear(), images, labels, seed=0, lr=0.02),
        key(pk.train, linear(), images, labels, seed=0, device="cpu"),
    ]
    assert len(set(calls)) == len(calls)
    blocks = {"input": block(), "relu": block(1)}
    fit = pk.coupled_nmf(blocks, 2)
    calls = [
        key(pk.coupled_nmf, blocks, 2),
        key(pk.coupled_nmf, dict(reversed(blocks.items())), 2),
        key(pk.coupled_nmf, {"input": block(), "other": block(1)}, 2),
        key(pk.coupled_nmf, blocks, 2, weights={"input": 1.0, "relu": 1.0}),
        key(pk.coupled_nmf, blocks, 2, init=fit),
        key(pk.coupled_nmf, blocks, 2, init=pk.coupled_nmf(blocks, 2, max_iter=1)),
    ]
    assert len(set(calls)) == len(calls)


def test_frozen_and_shared_weights_count():
    frozen, equal = linear().requires_grad_(False), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    equal.load_state_dict({**equal.state_dict(), "1.weight": equal[0].weight})
    shared = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    shared.load_state_dict(equal.state_dict())
    assert cache._text(shared) == cache._text(equal)
    shared[1].weight = shared[0].weight
    assert cache._text(shared) != cache._text(equal)
    assert cache._text(frozen) != cache._text(linear())


def test_two_ways_of_one_call_have_one_key():
    blocks, images = {"relu": block()}, toy()
    assert key(pk.coupled_nmf, blocks, 2) == key(
        pk.coupled_nmf, rank=2, blocks=blocks, seed=0, solver="auto"
    )
    assert key(pk.train, linear(), *images, seed=0) == key(
        pk.train, linear(), *images, seed=0, progress=True
    )
    assert key(pk.spectrum, block()) == key(pk.spectrum, block=block().clone())
    assert key(pk.spectrum, block()) != key(pk.effective_rank, block())


def other_version(patch, package):
    versions = {name: cache.metadata.version(name) for name in cache.DATA_MAKERS} | {package: "99"}
    patch.setattr(cache.metadata, "version", versions.get)


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(cache, "fingerprint", lambda name: "other code"),
        lambda patch: patch.setattr(torch, "__version__", "3.0"),
        lambda patch: patch.setattr(np, "__version__", "3.0"),
        lambda patch: other_version(patch, "scikit-learn"),
        lambda patch: other_version(patch, "pillow"),
        lambda patch: patch.setattr("platform.python_version", lambda: "4.0"),
        lambda patch: patch.setattr(cache, "_gpu", lambda: "another"),
        lambda patch: patch.setattr(torch, "get_float32_matmul_precision", lambda: "another"),
        lambda patch: patch.setattr(torch, "get_default_dtype", lambda: torch.float64),
        lambda patch: patch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cpu"),
    ],
    ids=[
        *("source", "torch", "numpy", "scikit-learn", "Pillow", "Python", "GPU", "precision"),
        *("default type", "autocast"),
    ],
)
def test_what_lies_below_counts(change, spectra_computed, monkeypatch):
    spectrum = cached(pk.spectrum)
    spectrum(block())
    with monkeypatch.context() as patch:
        change(patch)
        spectrum(block())
        assert len(spectra_computed) == 2
    spectrum(block())
    assert len(spectra_computed) == 2


def test_what_is_trained_under_autocast_is_not_taken_outside(monkeypatch):
    computed, train = count(monkeypatch, training, "_history"), cached(pk.train)
    plain = key(pk.train, linear(), *toy(), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train(linear(), *toy(), seed=0)
        assert "bfloat16" in key(pk.train, linear(), *toy(), seed=0)
    train(linear(), *toy(), seed=0)
    assert len(computed) == 2 and "autocast" not in plain and "default" not in plain


def test_what_lies_at_a_path_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load, fits = cached(pk.load), [pk.coupled_nmf({"relu": block()}, rank) for rank in (2, 3)]
    for fit in fits:
        fit.save("fit")
        assert load("fit").rank == load("fit.safetensors").rank == fit.rank
    (tmp_path / "pictures" / "below").mkdir(parents=True)
    keys = set()
    for name, pixels in (("a", b"1"), ("a", b"2"), ("below/b", b"2")):
        (tmp_path / "pictures" / name).write_bytes(pixels)
        keys |= {key(pk.record, linear(), "pictures"), key(pk.record, linear(), "pictures")}
    assert len(keys) == 3
    stamped = key(image_files._read_zip, "fit.safetensors", "cats", "", stamp=(1, 2))
    fits[0].save("fit")
    assert stamped == key(image_files._read_zip, "fit.safetensors", "cats", "", stamp=(1, 2))


def test_a_path_that_cannot_be_read_is_told(tmp_path, folder, monkeypatch):
    def refuse(file, algorithm):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = pk.coupled_nmf({"relu": block()}, 2).save(tmp_path / "fit")
    monkeypatch.setattr(cache.hashlib, "file_digest", refuse)
    with pytest.warns(UserWarning, match="without the cache: .*Permission denied"):
        assert cached(pk.load)(str(path)).rank == 2
    assert not folder.exists()


def test_results_of_a_store_are_not_kept_and_that_is_said(tmp_path, folder):
    with pk.store.create(tmp_path / "acts") as writer:
        writer.append("relu", block())
    store = pk.open_store(tmp_path / "acts")
    with pytest.warns(
        UserWarning, match="without the cache: a store on disk is not read"
    ) as caught:
        cached(pk.coupled_nmf)(store, 2)
        cached(pk.spectrum)(store["relu"])
    assert len(caught) == 1 and not folder.exists()


ANOTHER = """
import torch
from torch import nn
from peeklib import models, spectra, spectrum
from peeklib.course import cache

spectra.as_matrix = None  # whoever computes falls over
print(cache.cached(spectrum)(torch.arange(6.0).view(2, 3)).tolist())
parts = [{"b": 1.5, "a": None}, {"x", "y", "z"}, range(3)]
print(cache._text([models.PaperCNN(seed=0), nn.BatchNorm1d(2), *parts]))
"""


def test_another_process_finds_the_results(folder, monkeypatch, fresh):
    """Also in a second folder."""
    values, spectrum = torch.arange(6.0).view(2, 3), cached(pk.spectrum)
    spectrum(values)
    monkeypatch.setenv("PEEK_CACHE", str(folder.parent / "second"))
    expected = str(spectrum(values).tolist())
    same = [
        pk.models.PaperCNN(seed=0),
        nn.BatchNorm1d(2),
        {"b": 1.5, "a": None},
        {"z", "y", "x"},
        range(3),
    ]
    done = fresh(ANOTHER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [expected, cache._text(same)]


# What is refused, and what is computed without the cache


class Net(nn.Linear):
    """A model from outside of peeklib."""


def imitation(block):
    return block


imitation.__module__, imitation.__name__ = "peeklib.spectra", "spectrum"


@pytest.mark.parametrize(
    "function",
    [len, torch.linalg.svdvals, imitation, lambda x: x, pk.models.PaperCNN, cached(pk.spectrum), 3],
)
def test_only_what_peeklib_computes_is_taken(function):
    with pytest.raises(TypeError, match="not a function of peeklib"):
        cached(function)


def test_code_that_the_key_cannot_cover_is_run_and_not_kept(folder, monkeypatch):
    computed, train = count(monkeypatch, training, "_history"), cached(pk.train)
    with pytest.warns(UserWarning, match=r"without the cache: \S*test_cache\.Net has") as caught:
        for _ in range(2):
            train(nn.Sequential(nn.Flatten(), Net(4, 3)), *toy(), seed=0)
    assert len(computed) == 2 and len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(UserWarning, match="builtins.generator has no value"):
        sweep = cached(pk.rank_sweep)({"input": block()}, (rank for rank in (1, 2)))
    assert list(sweep.fits) == [(1, 0), (2, 0)]
    hooked = linear()
    hooked.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="<lambda> has code"):
        train(hooked, *toy(), seed=0)
    made = type("Made", (nn.Linear,), {"__module__": "peeklib.course.models"})
    with pytest.warns(UserWarning, match=r"models\.Made has code"):
        train(nn.Sequential(nn.Flatten(), made(4, 3)), *toy(), seed=0)
    assert not folder.exists()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_ran_while_the_code_changed_is_not_kept(when, folder, monkeypatch):
    """The function may be the old one, and its key that of the new one, or the other way round."""
    path, original = next(iter(fingerprint.AGES)), spectra.as_matrix

    def change(*args):
        monkeypatch.setitem(fingerprint.AGES, path, 0)
        return original(*args) if args else None

    if when == "before":
        change()
    monkeypatch.setattr(spectra, "as_matrix", change)
    with pytest.warns(UserWarning, match=f"{path} changed after this program began"):
        assert torch.equal(cached(pk.spectrum)(block()), pk.spectrum(block()))
    assert not folder.exists()


def test_a_result_of_another_kind_is_given_and_not_kept(folder, monkeypatch):
    layers = cached(pk.relu_layers)
    monkeypatch.setattr(storage, "PLAIN", (int,))
    with pytest.warns(UserWarning, match="relu_layers is not kept: a builtins.str") as caught:
        for seed in range(3):
            assert layers(pk.models.PaperCNN(seed=seed)) == ["relu1", "relu2"]
    assert len(caught) == 1 and not folder.exists()


# The folder


def test_the_folder_is_looked_up_at_the_call(folder, tmp_path, monkeypatch):
    spectrum = cached(pk.spectrum)
    monkeypatch.delenv("PEEK_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    spectrum(block())
    assert len(entries(tmp_path / "peeklib" / "results")) == 1 and not folder.exists()


def test_without_a_writable_folder_it_says_so_once_and_computes(
    tmp_path, spectra_computed, monkeypatch
):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PEEK_CACHE", str(tmp_path / "file" / "results"))
    with pytest.warns(UserWarning, match="name another folder in PEEK_CACHE") as caught:
        for seed in range(3):
            assert torch.equal(cached(pk.spectrum)(block(seed)), pk.spectrum(block(seed)))
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_folder_that_can_only_be_read_gives_its_results(folder, spectra_computed, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    spectrum = cached(pk.spectrum)
    expected = spectrum(block())
    monkeypatch.setattr(storage, "_begun", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert torch.equal(spectrum(block()), expected) and len(spectra_computed) == 1
    with pytest.warns(UserWarning, match="nothing can be written to .*Permission") as caught:
        for seed in range(1, 4):
            spectrum(block(seed))
    assert len(caught) == 1


def test_a_folder_that_cannot_be_read(spectra_computed, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    spectrum = cached(pk.spectrum)
    spectrum(block())
    monkeypatch.setattr(cache.Path, "is_file", refuse)
    with pytest.warns(UserWarning, match="nothing can be read from .*Permission") as caught:
        for _ in range(3):
            spectrum(block())
    assert len(caught) == 1 and len(spectra_computed) == 4


# Damage


class Trap:
    sprung = []

    def __reduce__(self):
        return self.sprung.append, ("run",)


DAMAGE = {
    "truncated": lambda data: data[:-20],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(1000),
    "garbage": lambda data: b"garbage",
    "pickle": lambda data: pickle.dumps(Trap()),
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "longer": lambda data: data + b"0",
    "another version": lambda data: data.replace(b'version\\": 1', b'version\\": 9'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_computed_again_with_a_warning_that_names_it(
    damage, folder, spectra_computed
):
    spectrum = cached(pk.spectrum)
    expected = spectrum(block())
    (entry,) = entries(folder)
    entry.write_bytes(damage(entry.read_bytes()))
    with pytest.warns(UserWarning, match=f"{entry} is damaged .*; spectrum runs") as caught:
        assert torch.equal(spectrum(block()), expected)
    assert len(caught) == 1 and caught[0].filename == __file__ and not Trap.sprung
    assert torch.equal(spectrum(block()), expected)
    assert len(spectra_computed) == 2
    entry.write_bytes(damage(entry.read_bytes()))
    assert torch.equal(spectrum(block()), expected), "a process is told once"
    assert len(spectra_computed) == 3


def test_the_result_of_another_call_is_not_taken(folder):
    spectrum = cached(pk.spectrum)
    expected = spectrum(block())
    (entry,) = entries(folder)
    other = spectrum(block(1))
    entry.write_bytes(next(path for path in entries(folder) if path != entry).read_bytes())
    with pytest.warns(UserWarning, match="it belongs to another call"):
        assert torch.equal(spectrum(block()), expected)
    assert not torch.equal(other, expected)


def test_what_is_no_file_is_not_waited_for(folder, spectra_computed):
    spectrum = cached(pk.spectrum)
    spectrum(block())
    (entry,) = entries(folder)
    entry.unlink()
    os.mkfifo(entry)
    spectrum(block())
    assert len(spectra_computed) == 2 and entry.is_file()
    entry.unlink()
    entry.mkdir()
    with pytest.warns(UserWarning, match="nothing can be written") as caught:
        for _ in range(3):
            spectrum(block())
    assert len(spectra_computed) == 5 and len(caught) == 1
    assert not entries(folder)


def test_a_link_in_the_place_of_a_result_leads_nowhere(folder, tmp_path, spectra_computed):
    """Who can write to the folder could else have any file of ours overwritten."""
    spectrum, mine = cached(pk.spectrum), tmp_path / "mine"
    spectrum(block())
    (entry,) = entries(folder)
    for content in (None, "my own file"):
        entry.unlink()
        entry.symlink_to(mine)
        if content:
            mine.write_text(content)
            with pytest.warns(UserWarning, match="is damaged"):
                spectrum(block())
            assert mine.read_text() == content
        else:
            spectrum(block())
            assert not mine.exists()
        assert entry.is_file() and not entry.is_symlink()


# Interrupts


def stop(*_):
    raise KeyboardInterrupt


def test_an_interrupted_fit_comes_out_and_is_not_kept(folder, monkeypatch):
    blocks = {"input": block()}
    monkeypatch.setattr(nmf, "_groups", lambda data, pairs: [[pair] for pair in pairs])
    with monkeypatch.context() as patch:
        patch.setitem(solvers.UPDATES, "mu", stop)
        assert pk.coupled_nmf(blocks, 2, solver="mu").interrupted
        with pytest.raises(KeyboardInterrupt):
            cached(pk.coupled_nmf)(blocks, 2, solver="mu")
        with pytest.raises(KeyboardInterrupt):
            cached(pk.rank_sweep)(blocks, (1, 2), solver="mu")
    with monkeypatch.context() as patch:
        fits = itertools.chain([nmf._fit], itertools.repeat(stop))
        patch.setattr(nmf, "_fit", lambda *args, **kwargs: next(fits)(*args, **kwargs))
        with pytest.raises(KeyboardInterrupt):  # between two fits
            cached(pk.rank_sweep)(blocks, (1, 2), solver="mu")
    assert not folder.exists()
    assert len(cached(pk.rank_sweep)(blocks, (1, 2), solver="mu").fits) == 2
    assert len(entries(folder)) == 1


@pytest.mark.parametrize("times, computed", [(1, 1), (2, 2)])
def test_one_interrupt_while_storing_costs_nothing_that_was_computed(
    times, computed, folder, spectra_computed, monkeypatch
):
    stops, pack = [stop] * times, packing.pack
    monkeypatch.setattr(packing, "pack", lambda *args: (stops.pop() if stops else pack)(*args))
    with pytest.raises(KeyboardInterrupt):
        cached(pk.spectrum)(block())
    assert len(entries(folder)) == 2 - times
    cached(pk.spectrum)(block())
    assert len(spectra_computed) == computed


# Size


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    spectrum = cached(pk.spectrum)
    paths = []
    for seed in range(3):
        spectrum(block(seed, 300, 300))
        (new,) = set(entries(folder)) - set(paths)
        paths.append(new)
        os.utime(new, (1000 + seed, 1000 + seed))
    notes = folder / "notes.result"
    notes.write_bytes(bytes(1000))
    os.utime(notes, (0, 0))
    spectrum(block(0, 300, 300))
    monkeypatch.setenv("PEEK_CACHE_GB", str(3.5e-9 * paths[0].stat().st_size))
    spectrum(block(3, 300, 300))
    spectrum(block(4, 300, 300))
    assert paths[0].exists() and not paths[1].exists() and not paths[2].exists()
    assert len(entries(folder)) == 3 + 1 and notes.exists(), "what is not ours stays"


def test_a_result_larger_than_all_room_takes_nothing_else_away(folder, monkeypatch):
    spectrum = cached(pk.spectrum)
    spectrum(block())
    monkeypatch.setenv("PEEK_CACHE_GB", str(1e-9 * (entries(folder)[0].stat().st_size + 100)))
    with pytest.warns(UserWarning, match="spectrum is not kept: it is larger .*PEEK_CACHE_GB"):
        spectrum(block(0, 300, 300))
    assert len(entries(folder)) == 1


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_of_gigabytes_is_said(given, folder, monkeypatch):
    monkeypatch.setenv("PEEK_CACHE_GB", given)
    with pytest.warns(UserWarning, match=f"PEEK_CACHE_GB is '{given}'; give a number"):
        assert torch.equal(cached(pk.spectrum)(block()), pk.spectrum(block()))
    assert not folder.exists()


def test_what_less_room_than_before_does_not_allow_is_no_damage(
    folder, spectra_computed, monkeypatch
):
    spectrum = cached(pk.spectrum)
    spectrum(block(0, 300, 300))
    monkeypatch.setenv("PEEK_CACHE_GB", "1e-9")
    with pytest.warns(UserWarning, match="not kept: it is larger .*PEEK_CACHE_GB") as caught:
        for _ in range(2):
            spectrum(block(0, 300, 300))
    assert len(caught) == 1 and len(spectra_computed) == 3


def test_removing_never_fails_a_call(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    spectrum = cached(pk.spectrum)
    spectrum(block())
    monkeypatch.setenv("PEEK_CACHE_GB", str(1e-9 * (entries(folder)[0].stat().st_size + 100)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        spectrum(block(1))
    assert len(entries(folder)) == 2


def test_a_hit_does_not_measure_the_folder(monkeypatch):
    spectrum, measured = cached(pk.spectrum), count(monkeypatch, cache, "_make_room")
    for _ in range(2):
        spectrum(block())
        assert len(measured) == 1


# Several processes and versions


def compute_where_files_stay_small():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    with pytest.warns(UserWarning, match="File too large") as caught:
        for seed in range(3):
            assert torch.equal(cached(pk.spectrum)(block(seed)), pk.spectrum(block(seed)))
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_full_disk_costs_the_copy_and_not_the_result(folder):
    """As with a quota: a file may have 100 bytes."""
    process = fork(compute_where_files_stay_small)
    process.join()
    assert process.exitcode == 0 and not entries(folder)


ROOM = 3_500_000  # bytes: four results


def big(seed):
    return {"seed": seed, "values": torch.full((200_000,), float(seed))}


def path_of(seed):
    return cache._path(pk.spectrum, f"key {seed}")


def keep(seed):
    cache._write(path_of(seed), ROOM, f"key {seed}", big(seed), None)


def kept(seed):
    """Whether a result is there; it is right, then."""
    try:
        result = cache._read(path_of(seed), ROOM, f"key {seed}", None)
    except FileNotFoundError:
        return False
    assert torch.equal(result["values"], big(seed)["values"])
    return True


def store_without_end(started):
    for seed in itertools.cycle(range(5)):
        keep(seed)
        started.set()


KILLS = int(os.environ.get("KILLS", "10"))  # in each test of what a kill leaves


def test_killed_at_any_moment_it_leaves_whole_results_or_none(folder):
    generator, found = random.Random(), 0
    for _ in range(KILLS):
        started = multiprocessing.get_context("fork").Event()
        process = fork(store_without_end, started)
        assert started.wait(60)
        time.sleep(generator.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found += sum(map(kept, range(5)))
    assert found >= KILLS
    left = [path for path in entries(folder) if path.suffix != ".result"]
    assert all(storage.PART.fullmatch(path.name) for path in left), "they go in their turn"


def use_without_end(seed):
    warnings.simplefilter("error")
    generator = random.Random(seed)
    for _ in range(60):
        one = generator.randrange(8)
        if not kept(one):
            keep(one)


def test_processes_share_a_folder_that_is_too_small_for_them(folder):
    processes = [fork(use_without_end, seed) for seed in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert {path.suffix for path in entries(folder)} == {".result"}
    assert sum(path.stat().st_size for path in entries(folder)) <= ROOM


def test_another_version_takes_nothing_away(folder, spectra_computed, monkeypatch):
    spectrum = cached(pk.spectrum)
    for seed in range(3):
        spectrum(block(seed))
    for name, other in (("fingerprint", lambda name: "other code"), ("FORMAT", 99)):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, other)
            spectrum(block())
    assert len(entries(folder)) == len(spectra_computed) == 5
    for seed in range(3):
        spectrum(block(seed))
    assert len(spectra_computed) == 5


def test_two_at_once(folder, monkeypatch):
    both, original, found = threading.Barrier(2), spectra.as_matrix, []

    def together(*args):
        both.wait(10)
        return original(*args)

    monkeypatch.setattr(spectra, "as_matrix", together)
    threads = [
        threading.Thread(target=lambda: found.append(cached(pk.spectrum)(block())))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(cached(pk.spectrum)(block()))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert len(entries(folder)) == 1
