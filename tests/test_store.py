"""A store on disk: whole or absent, and in all that takes it the same as the blocks it holds."""

import errno
import os
import re
import resource
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from forked import fork
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler, TensorDataset

import peeklib as pk
from peeklib import record, store
from peeklib.spectra import spectrum
from peeklib.store import Stored, create, open_store

IMAGES = torch.rand(70, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.ReLU())
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    return model


@pytest.fixture
def stored(tmp_path):
    """A function: a block on disk, with a memory that holds so many images of it at a time."""

    def put(block, at_once, name="relu"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        with create(path) as writer:
            for batch in block.split(7, dim=1):
                writer.append(name, batch)
        memory = 8 * at_once * len(block) * block.itemsize / 1e9
        return open_store(path, memory=memory * 1.001)[name]

    return put


def random(*shape, seed=0, **how):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), **how)


class OneByOne(IterableDataset):
    def __iter__(self):
        return iter(IMAGES)


# Recording


def test_a_store_holds_what_a_recording_in_memory_gives(model, tmp_path):
    store = record(model, IMAGES, store=tmp_path / "acts", batch_size=16)
    blocks = record(model, IMAGES, batch_size=16)
    assert list(store) == list(blocks) and store.images == 70
    for name, block in blocks.items():
        assert store[name].shape == tuple(block.shape)
        assert torch.equal(store[name][:], block)


def test_files_are_numpy_s_own_images_first(model, tmp_path):
    store = record(model, IMAGES, "4", store=tmp_path / "acts")
    assert np.array_equal(np.load(store["4"].path).T, record(model, IMAGES, "4")["4"].numpy())


def test_a_store_opens_again(model, tmp_path):
    store = record(model, IMAGES, store=tmp_path / "acts")
    again = open_store(str(tmp_path / "acts"), memory=2)
    assert torch.equal(again["1"][:], store["1"][:]) and again["1"].memory == 2
    assert "['1', '4'], 70 images" in repr(again)


@pytest.mark.parametrize(
    "source",
    [
        TensorDataset(IMAGES),
        DataLoader(TensorDataset(IMAGES), batch_size=9),
        DataLoader(TensorDataset(IMAGES), batch_size=9, shuffle=True),
        OneByOne(),
        list(IMAGES),
    ],
)
def test_images_come_from_whatever_they_come_as(model, tmp_path, source):
    store = record(model, source, store=tmp_path / "acts", batch_size=16)
    torch.testing.assert_close(store["4"][:], record(model, IMAGES)["4"])


@pytest.mark.parametrize("how", [{}, {"store": "acts"}])
def test_images_that_differ_in_size_are_refused_with_a_remedy(model, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    images = [torch.zeros(1, 4, 4)] * 10 + [torch.zeros(1, 5, 5)] * 10
    for size in (10, 7):
        with pytest.raises(ValueError, match="images differ in size.*4.*5.*Resize"):
            record(model, DataLoader(images, batch_size=size), **how)
    assert not list(tmp_path.iterdir())


def test_a_disk_need_only_hold_what_the_loader_takes(model, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    some = DataLoader(TensorDataset(IMAGES), sampler=SequentialSampler(range(10)))
    assert record(model, some, store=tmp_path / "acts").images == 10


def test_a_data_set_is_read_batch_by_batch(tmp_path):
    read, seen = [], []

    class Counted(torch.utils.data.Dataset):
        def __len__(self):
            return 300

        def __getitem__(self, k):
            read.append(k)
            return IMAGES[0] + k / 300

    def preprocess(batch):
        seen.append((len(batch), len(read)))
        return batch

    model = nn.Sequential(nn.ReLU())
    record(model, Counted(), store=tmp_path / "acts", batch_size=10, preprocess=preprocess)
    assert seen[-10:] == [(10, k) for k in range(210, 301, 10)]


def test_negative_values_are_treated_as_in_memory(model, tmp_path):
    for negative in ("clip", "split", "keep"):
        store = record(model, IMAGES, "0", store=tmp_path / negative, negative=negative)
        blocks = record(model, IMAGES, "0", negative=negative)
        assert list(store) == list(blocks)
        assert all(torch.equal(store[name][:], blocks[name]) for name in blocks)
    with pytest.raises(ValueError, match="layer '0' has .* negative"):
        record(model, IMAGES, "0", store=tmp_path / "refuse")
    assert not (tmp_path / "refuse").exists()


def test_clipping_what_is_kept_does_not_reach_the_layers_after(tmp_path):
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2, bias=False))
    images = torch.tensor([[-1.0, 2.0]])
    store = record(model, images, ["0", "1"], store=tmp_path / "acts", negative="split")
    assert torch.equal((store["1+"][:] - store["1-"][:]), model(images).detach().T)


def test_nan_is_refused_by_layer_and_image_and_nothing_is_left(model, tmp_path):
    images = IMAGES.clone()
    images[40] = torch.nan
    with pytest.raises(ValueError, match=r"layer '1' gives NaN .*image 40"):
        record(model, images, store=tmp_path / "acts", batch_size=16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("why", [KeyboardInterrupt, ZeroDivisionError, FileNotFoundError("a.png")])
def test_an_interrupt_or_an_error_leaves_nothing(model, tmp_path, why):
    calls = []

    def preprocess(batch):
        calls.append(batch)
        if len(calls) == 5:
            raise why
        return batch

    kind = why if isinstance(why, type) else type(why)
    with pytest.raises(kind):
        record(model, IMAGES, store=tmp_path / "acts", batch_size=10, preprocess=preprocess)
    assert len(calls) == 5 and not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")
def test_a_killed_recording_is_refused_by_name_and_replaced_by_the_next(tmp_path):
    path = tmp_path / "acts"
    child = os.fork()
    if not child:
        with create(path) as writer:
            writer.append("relu", torch.ones(3, 5))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(
        FileNotFoundError, match=r"acts.* was interrupted, .*acts\.peek-part.*again"
    ):
        open_store(path)
    with create(path) as writer:
        writer.append("other", torch.zeros(3, 2))
    assert list(open_store(path)) == ["other"] and os.listdir(tmp_path) == ["acts"]


def write_one(path, name="relu"):
    with create(path) as writer:
        writer.append(name, torch.ones(3, 5))


def test_what_somebody_else_keeps_beside_a_store_stays(tmp_path):
    (tmp_path / "acts.part").mkdir()
    (tmp_path / "acts.part" / "notes").write_text("mine")
    write_one(tmp_path / "acts")
    assert (tmp_path / "acts.part" / "notes").read_text() == "mine"
    ours = tmp_path / ".other.peek-part"
    (ours / "sub").mkdir(parents=True)
    (ours / "0.npy").write_text("left by a kill")
    with pytest.raises(
        FileExistsError, match="holds 'sub', which no recording wrote.*another path"
    ):
        write_one(tmp_path / "other")
    assert len(os.listdir(ours)) == 2
    (tmp_path / ".third.peek-part").write_text("a file")
    (tmp_path / ".fourth.peek-part").symlink_to(tmp_path / "acts.part")
    for name in ("third", "fourth"):
        with pytest.raises(FileExistsError, match=f"{name}.peek-part' is in the way"):
            write_one(tmp_path / name)
    assert os.listdir(tmp_path / "acts.part") == ["notes"]


def test_the_end_of_a_recording_takes_nothing_from_the_next(tmp_path, monkeypatch):
    """Which may begin as soon as the store is in its place."""
    path, rename, second = tmp_path / "acts", store._rename, tmp_path / ".acts.peek-part"

    def begin_another(part, path):
        rename(part, path)
        second.mkdir()
        (second / "0.npy").write_text("half")

    monkeypatch.setattr(store, "_rename", begin_another)
    write_one(path)
    assert (second / "0.npy").exists() and list(open_store(path)) == ["relu"]


def test_two_recordings_to_one_path_do_not_mix(tmp_path):
    with create(tmp_path / "acts") as first:
        first.append("relu", torch.ones(3, 5))
        with pytest.raises(FileExistsError, match="another process is recording"):
            with create(tmp_path / "acts"):
                pass
    assert open_store(tmp_path / "acts")["relu"].shape == (3, 5)


def test_what_is_there_is_kept_and_said(model, tmp_path):
    store = record(model, IMAGES, store=tmp_path / "acts")
    with pytest.raises(FileExistsError, match=r"store at .*open_store.*rmtree.*another path"):
        record(model, IMAGES[:3], store=tmp_path / "acts")
    assert store.images == 70
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FileExistsError, match="no store"):
        record(model, IMAGES, store=tmp_path / "notes")
    with pytest.raises(FileNotFoundError, match="make it first"):
        record(model, IMAGES, store=tmp_path / "nowhere" / "acts")


def test_paths_and_memory_that_are_none_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    record(model, IMAGES, store="~/acts")
    assert open_store("~/acts").images == 70 and os.listdir(tmp_path) == ["acts"]
    for bad in (5, True):
        with pytest.raises(TypeError, match=f"store is {bad}; give the path"):
            record(model, IMAGES, store=bad)
        with pytest.raises(TypeError, match=f"store is {bad}; give the path"):
            pk.peek(model, IMAGES, store=bad, progress=False)
    with pytest.raises(ValueError, match="store is empty"):
        record(model, IMAGES, store="")
    with pytest.raises(TypeError, match="path is None"):
        open_store(None)
    for take in (
        lambda m: open_store("~/acts", memory=m),
        lambda m: record(model, IMAGES, memory=m),
    ):
        with pytest.raises(TypeError, match="memory is '8GB'; give a number of GB"):
            take("8GB")
        with pytest.raises(ValueError, match="memory is -1 GB"):
            take(-1)


def test_an_empty_folder_may_become_the_store(model, tmp_path):
    assert record(model, IMAGES, store=tmp_path).images == 70


def test_a_disk_that_is_too_small_is_said_before_work(model, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="2 layers for 70 images take") as told:
        record(model, IMAGES, store=tmp_path / "acts")
    assert told.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_a_layer_that_some_batch_skips_is_refused(tmp_path):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.other(self.one(x)) if x.min() < 3 else self.one(x)

    images = torch.arange(10.0)[:, None]
    with pytest.raises(ValueError, match=r"\['other'\] run on some batches"):
        record(Sometimes(), images, ["one", "other"], store=tmp_path / "acts", batch_size=5)


# Opening


def test_what_is_no_whole_store_is_refused_in_words(model, tmp_path):
    record(model, IMAGES, store=tmp_path / "acts")
    with pytest.raises(FileNotFoundError, match="no store"):
        open_store(tmp_path / "other")
    with pytest.raises(ValueError, match="is no store"):
        open_store(tmp_path)
    with pytest.raises(ValueError, match="memory is 0 GB"):
        open_store(tmp_path / "acts", memory=0)
    file = tmp_path / "acts" / "1.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"block '4' .* not whole: .*1\.npy.* cut off"):
        open_store(tmp_path / "acts")
    file.unlink()
    with pytest.raises(ValueError, match="block '4' .* is missing"):
        open_store(tmp_path / "acts")
    mark = tmp_path / "acts" / "store.json"
    mark.write_text(mark.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(ValueError, match="version 99.* install a newer one"):
        open_store(tmp_path / "acts")
    for text in ("{", "[]", "3", "{}", '{"version": 1}'):
        mark.write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            open_store(tmp_path / "acts")
    mark.unlink()
    with pytest.raises(ValueError, match="not recorded to its end"):
        open_store(tmp_path / "acts")


# Blocks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_a_block_is_read_and_multiplied_chunk_by_chunk(stored, dtype, at_once):
    X = random(6, 30, dtype=dtype)
    block = stored(X, at_once)
    assert block.dtype == dtype and len(list(block.chunks())) == -(-30 // min(at_once, 30))
    V, W = random(3, 6, dtype=dtype), random(2, 30, dtype=dtype)
    torch.testing.assert_close(V @ block, V @ X)
    torch.testing.assert_close(W @ block.T, W @ X.T)


def test_parts_of_a_block_are_tensors(stored):
    X = random(6, 30)
    block = stored(X, at_once=4)
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    for chosen in (
        (slice(None), [3, 28, 4]),
        (slice(None), slice(5, 9)),
        (slice(None), 7),
        (slice(None), shuffled),
        (slice(None), X[0] > 0.5),
        (slice(2, 4), slice(0, 3)),
        (slice(None), slice(0, 0)),
        (2, 5),
        [4, 0],
        slice(1, 3),
        2,
    ):
        assert torch.equal(block[chosen], X[chosen])
    assert torch.equal((block.take(shuffled[:5]) / 4)[:], X[:, shuffled[:5]] / 4)


def test_a_block_larger_than_its_memory_is_no_array(stored):
    X = random(6, 30)
    assert np.array_equal(stored(X, at_once=30), X)
    with pytest.raises(ValueError, match=r"block 'relu', 6 features × 30 images.*memory="):
        np.asarray(stored(X, at_once=3))
    with pytest.raises(ValueError, match="block 'relu'.*memory="):
        pk.spectra.cka(stored(X, at_once=3), X)


def test_memory_holds_a_few_images_or_says_how_much_it_takes(stored):
    block = stored(random(6, 30), at_once=0.5)
    with pytest.raises(ValueError, match="open the store with memory="):
        next(block.chunks())


def test_at_most_two_chunks_are_held_at_a_time(stored, monkeypatch):
    block, held = stored(random(6, 30), at_once=4), []
    made = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: held.append(made(*a, **k)) or held[-1])
    for _ in block.chunks():
        pass
    assert sum(buffer.nbytes for buffer in held) <= block.memory * 1e9 / 4


def test_the_next_chunk_is_read_while_one_is_computed_with(stored, monkeypatch):
    import threading

    reading, read_into = threading.Semaphore(0), Stored.read_into

    def read(self, buffer, images):
        found = read_into(self, buffer, images)
        reading.release()
        return found

    monkeypatch.setattr(Stored, "read_into", read)
    parts = stored(random(6, 30), at_once=10).chunks()
    next(parts)
    for _ in range(2):  # the first, and the second, which nobody has asked for
        assert reading.acquire(timeout=60)
    parts.close()


def test_a_file_that_is_gone_is_named_with_its_block(stored):
    block = stored(random(6, 30), at_once=4)
    block.path.unlink()
    for read in (lambda: block[:], lambda: list(block.by_features())):
        with pytest.raises(
            FileNotFoundError, match="block 'relu' cannot be read .*record the store"
        ):
            read()


def test_a_file_that_shrank_is_an_error(stored):
    block = stored(random(6, 30), at_once=4)
    os.truncate(block.path, 300)
    with pytest.raises(OSError, match="ends too early"):
        block[:]


def test_numbers_that_were_changed_to_nan_are_no_fit(planted, on_disk):
    store = on_disk(planted, 1)
    np.load(store["relu1"].path, mmap_mode="r+")[3, 5] = np.nan
    with pytest.raises(ValueError, match="block 'relu1' has NaN"):
        pk.coupled_nmf(store, 3)


# Analyses


@pytest.mark.parametrize("shape", [(5, 60), (60, 5)])
def test_singular_values_are_those_in_memory(stored, shape):
    X = random(*shape)
    block = stored(X, at_once=max(1, shape[1] * 3 // 8))
    assert not block.fits(6)
    torch.testing.assert_close(spectrum(block), spectrum(X))
    assert pk.effective_rank(block) == pytest.approx(pk.effective_rank(X))


def test_a_spectrum_that_memory_does_not_hold_is_refused_with_a_way_out(stored):
    block = stored(random(20, 30), at_once=3)
    with pytest.raises(ValueError, match=r"'relu' is 20 × 30.*directions.singular") as told:
        spectrum(block)
    memory, images = re.search(r"memory=(\S+) .*block\[:, :(\d+)\]", str(told.value)).groups()
    for ours in (replace(block, memory=float(memory)), block[:, : int(images)]):
        torch.testing.assert_close(spectrum(ours), spectrum(ours[:]))
    assert 0 < int(images) < 20


def test_several_blocks_where_one_is_wanted_are_told_of(on_disk, planted):
    store = on_disk(planted, 1)
    for blocks, words in ((store, r"store\['relu0'\]"), (planted, r"dict\['relu0'\]")):
        for ask in (spectrum, pk.directions.singular, lambda X: pk.spectra.cka(X, X)):
            with pytest.raises(TypeError, match=f"of blocks .*relu1.*one of them, such as {words}"):
                ask(blocks)
    with pytest.raises(TypeError, match=r"a Stored; give it with its name, {'relu1': block}"):
        pk.coupled_nmf(store["relu1"], 2)
    with pytest.raises(TypeError, match=r"a str; give .*pk\.open_store\('acts'\)"):
        pk.coupled_nmf("acts", 2)


@pytest.mark.parametrize("kind", ["neurons", "random", "singular"])
def test_directions_are_those_in_memory(stored, kind):
    X = random(9, 40) * torch.linspace(1, 2, 9)[:, None]
    X += 3 * torch.outer(random(9, seed=1), random(40, seed=2))
    find = getattr(pk.directions, kind)
    for ours, theirs in zip(find(stored(X, at_once=5), 2), find(X, 2), strict=True):
        assert ours.name == theirs.name
        assert ours.scale == pytest.approx(theirs.scale, rel=1e-4)
        torch.testing.assert_close(ours.vector, theirs.vector, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4)


# Factorization


@pytest.fixture
def planted():
    """Two blocks of one image factor, and noise."""
    F = random(4, 60, seed=1) * (random(4, 60, seed=2) > 0.5)
    blocks = {}
    for k, features in enumerate((30, 9)):
        blocks[f"relu{k}"] = (
            random(features, 4, seed=3 + k) @ F + random(features, 60, seed=5 + k) / 9
        )
    return blocks


@pytest.fixture
def on_disk(tmp_path):
    """A function: blocks as a store, with a memory that is so large a part of them."""

    def put(blocks, share):
        with create(tmp_path / "acts") as writer:
            for name, block in blocks.items():
                writer.append(name, block)
        size = sum(block.nbytes for block in blocks.values())
        return open_store(tmp_path / "acts", memory=share * size / 1e9)

    return put


@pytest.fixture
def read(monkeypatch):
    """Bytes of each read from a store."""
    sizes, read_into = [], Stored.read_into

    def counted(self, buffer, images):
        found = read_into(self, buffer, images)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(Stored, "read_into", counted)
    return sizes


@pytest.mark.parametrize(
    ("solver", "share", "rounds"),
    [("auto", 1, 12), ("hals", 1, 12), ("mu", 1, 12), ("auto", 0.2, 4)],
)
def test_a_fit_of_a_store_is_that_of_memory(planted, on_disk, solver, share, rounds):
    how = {"solver": solver, "max_iter": rounds, "weights": {"relu0": 1, "relu1": 3}}
    ours = pk.coupled_nmf(on_disk(planted, share), 3, **how)
    theirs = pk.coupled_nmf(planted, 3, **how)
    assert ours.relative_error == pytest.approx(theirs.relative_error, rel=1e-4)
    assert ours.iterations == theirs.iterations
    torch.testing.assert_close(ours.image_factor, theirs.image_factor, rtol=1e-3, atol=1e-3)
    for name, W in theirs.factors.items():
        torch.testing.assert_close(ours.factors[name], W, rtol=1e-3, atol=1e-3)
        assert ours.block_errors[name] == pytest.approx(theirs.block_errors[name], rel=1e-4)


@pytest.mark.parametrize("solver", ["auto", "hals", "mu"])
def test_a_round_reads_the_data_once_in_chunks_of_an_eighth_of_the_memory(
    planted, on_disk, read, solver
):
    store = on_disk(planted, 1)
    passes = []
    for rounds in (4, 6):
        read.clear()
        pk.coupled_nmf(store, 3, solver=solver, max_iter=rounds, tol=0, init=start(planted))
        passes.append(sum(read) / store.nbytes)
    assert passes[1] - passes[0] == 2
    assert passes[0] <= 4 + 5  # how large it is, the start, the end
    assert sum(read[-4:-2]) <= store["relu0"].memory * 1e9 / 8  # of both blocks


def test_blocks_of_two_stores_are_one_set(planted, stored, read):
    one, other = (stored(block, at_once=30, name=name) for name, block in planted.items())
    stores = [open_store(block.path.parent, memory=block.memory) for block in (one, other)]
    both = stores[0] | stores[1]
    assert list(both) == ["relu0", "relu1"] and both["relu0"].path.parent == one.path.parent
    fit = pk.coupled_nmf(both, 3, max_iter=9)
    assert len(read) > 9 * 2 * 8  # rounds, blocks, chunks
    expected = pk.coupled_nmf(planted, 3, max_iter=9)
    assert fit.relative_error == pytest.approx(expected.relative_error, rel=1e-4)
    torch.testing.assert_close(fit.image_factor, expected.image_factor, rtol=1e-3, atol=1e-3)
    inputs = {"input": planted["relu0"]}
    assert list(inputs | stores[1]) == ["input", "relu1"] == list(stores[1] | inputs)[::-1]
    with pytest.raises(TypeError, match="unsupported operand"):
        stores[0] | 3


def fit_in_little_memory(path, memory):
    """The most that this process holds grows by what `memory` says, and not by what is on disk."""
    data = open_store(path, memory=memory)
    pk.coupled_nmf({"relu": torch.rand(30, 80)}, 2, max_iter=2)  # what any fit takes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pk.coupled_nmf(data, 2, solver="hals", max_iter=2)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 0.4 * data.nbytes, f"{grown / 1e6:.0f} MB"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")
def test_a_fit_of_ten_times_the_memory_takes_no_more_than_that(tmp_path):
    with create(tmp_path / "acts") as writer:
        for _ in range(20):
            writer.append("relu", torch.rand(1000, 1000))
    process = fork(fit_in_little_memory, tmp_path / "acts", 0.008)
    process.join()
    assert process.exitcode == 0


def start(blocks):
    return pk.coupled_nmf(blocks, 3, solver="hals", max_iter=1)


def test_what_half_the_memory_holds_is_read_once_and_the_fit_is_that_of_memory(
    planted, on_disk, read
):
    store = on_disk(planted, 2.01)
    fit = pk.coupled_nmf(store, 3)
    assert sum(read) == store.nbytes
    assert torch.equal(fit.image_factor, pk.coupled_nmf(planted, 3).image_factor)


def test_blocks_on_disk_and_in_memory_go_together(planted, on_disk):
    store = on_disk({"relu1": planted["relu1"]}, 1)
    sparse = planted["relu0"].to_sparse()
    for other in (planted["relu0"], sparse):
        fit = pk.coupled_nmf({"relu0": other, **store}, 3, max_iter=9)
        expected = pk.coupled_nmf(planted, 3, max_iter=9)
        assert fit.relative_error == pytest.approx(expected.relative_error, rel=1e-4)


def test_fits_of_a_sweep_share_passes_where_half_the_memory_holds_their_work(
    planted, on_disk, read
):
    how = {"seeds": [0, 1, 2], "max_iter": 9, "tol": 0, "solver": "hals"}
    store = on_disk(planted, 1.9)
    table = pk.rank_sweep(store, [1], **how).table()
    expected = pk.rank_sweep(planted, [1], **how).table()
    assert np.allclose(table.relative_error, expected.relative_error, rtol=1e-4)
    assert sum(read) <= (9 + 2 + 3 * 2) * store.nbytes  # rounds, the start, what comes of each


def test_the_sample_that_a_fit_begins_on_may_stay_on_disk_too(monkeypatch, on_disk):
    monkeypatch.setattr(pk.nmf, "SAMPLE", 40)
    monkeypatch.setattr(pk.nmf, "PER_COMPONENT", 1)
    X = {"relu": random(150, 3, seed=1) @ random(3, 200, seed=2) + random(150, 200, seed=3) / 9}
    fit, expected = pk.coupled_nmf(on_disk(X, 1), 3), pk.coupled_nmf(X, 3)
    assert fit.history[:3] == pytest.approx(expected.history[:3], rel=1e-4)
    assert fit.relative_error == pytest.approx(expected.relative_error, rel=1e-4)


def test_new_images_are_placed_from_a_store(planted, on_disk):
    fit = pk.coupled_nmf(planted, 3)
    F = fit.transform(on_disk(planted, 1))
    torch.testing.assert_close(F, fit.transform(planted), rtol=1e-3, atol=1e-3)


def test_a_dead_component_starts_again_on_disk(on_disk):
    X = {"relu": torch.block_diag(*[torch.ones(4, 10)] * 3)}
    begin = pk.coupled_nmf(X, 3, max_iter=0)
    begin.image_factor[:, 2] = 0
    begin.factors["relu"][:, 2] = 0
    fit = pk.coupled_nmf(on_disk(X, 1), 3, init=begin, solver="hals")
    assert fit.relative_error < 1e-3


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_stores_of_any_size_are_fitted_alike(planted, on_disk, size):
    X = {name: block * size for name, block in planted.items()}
    fit = pk.coupled_nmf(on_disk(X, 1), 3)
    assert fit.relative_error == pytest.approx(pk.coupled_nmf(X, 3).relative_error, rel=1e-4)


def test_negative_stores_are_refused_by_block(tmp_path):
    with create(tmp_path / "acts") as writer:
        writer.append("conv", torch.tensor([[1.0, -2]]))
    with pytest.raises(ValueError, match=r"block 'conv' on disk goes down to -2; .*clip"):
        pk.coupled_nmf(open_store(tmp_path / "acts"), 1)


def test_components_of_a_stored_layer_are_directions(planted, on_disk):
    store = on_disk(planted, 1)
    fit = pk.coupled_nmf(planted, 3)
    (found, *_) = pk.directions.nmf(store["relu0"], 2, fit=fit, layer="relu0")
    (expected, *_) = pk.directions.nmf(planted["relu0"], 2, fit=fit, layer="relu0")
    assert torch.equal(found.vector, expected.vector) and found.scale == expected.scale
    alone = pk.directions.nmf(store["relu0"], 2, layer="relu0")
    assert alone[0].scale == pytest.approx(
        pk.directions.nmf(planted["relu0"], 2, layer="relu0")[0].scale, rel=1e-3
    )


@pytest.mark.parametrize("kind", ["neurons", "random", "singular", "nmf"])
def test_directions_of_a_stored_block_bear_its_name(stored, kind):
    block, find = stored(random(9, 40), at_once=5, name="relu7"), getattr(pk.directions, kind)
    assert [found.layer for found in find(block, 1)] == ["relu7"]
    assert [found.layer for found in find(block, 1, layer="mine")] == ["mine"]
    assert [found.layer for found in find(block[:], 1)] == [""]


# Inputs


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_inputs_on_disk_are_those_in_memory(tmp_path, dtype):
    images = (IMAGES.expand(-1, 3, -1, -1) * 255).to(dtype)
    images = images if dtype == torch.uint8 else images / 255
    store = pk.input_blocks(TensorDataset(images), store=tmp_path / "pixels", memory=2)
    for name, block in pk.input_blocks(images).items():
        assert torch.equal(store[name][:], block.to(store[name].dtype))
    assert (
        list(store) == ["input.red", "input.green", "input.blue"] and store["input.red"].memory == 2
    )
    assert (store["input.red"].dtype == torch.float64) == (dtype == torch.float64)


def test_inputs_and_activations_on_disk_are_fitted_together(model, tmp_path):
    images = DataLoader(TensorDataset(IMAGES), batch_size=9)
    how = {"memory": 4e-6}
    store = pk.input_blocks(images, store=tmp_path / "pixels", **how)
    blocks = store | record(model, images, store=tmp_path / "acts", **how)
    expected = pk.input_blocks(IMAGES) | record(model, IMAGES)
    assert list(blocks) == list(expected)
    fits = [pk.coupled_nmf(X, 2, max_iter=9) for X in (blocks, expected)]
    assert fits[0].relative_error == pytest.approx(fits[1].relative_error, rel=1e-4)


def test_inputs_that_cannot_be_kept_leave_nothing(tmp_path):
    sizes = [torch.zeros(1, 8, 8)] * 500 + [torch.zeros(1, 9, 9)]
    for bad, words in (
        (sizes, "images differ in size: .*"),
        (DataLoader(sizes, batch_size=50), r"size: there are 1 × 8 × 8 and 1 × 9 × 9; .*Resize"),
        (TensorDataset(2 * IMAGES), "not from 0 to 1"),
        (TensorDataset(IMAGES[:0]), "no images"),
    ):
        with pytest.raises(ValueError, match=words):
            pk.input_blocks(bad, store=tmp_path / "pixels")
    assert not list(tmp_path.iterdir())


# The whole analysis


def test_a_peek_keeps_every_neuron_on_disk_and_finds_what_it_finds_in_memory(tmp_path):
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 9), nn.GELU()
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    how = {"ranks": (1, 2), "negative": "split", "progress": False, "device": "cpu"}
    expected = pk.peek(model, IMAGES, memory=1, **how)
    found = pk.peek(model, IMAGES, memory=1e-4, store=tmp_path / "acts", **how)
    assert found.layers.kept.tolist() == ["all", "all"]
    assert "split" in found.layers.negatives.tolist()
    numbers = expected.layers.select_dtypes("number")
    assert np.allclose(found.layers[numbers.columns].astype(float), numbers, rtol=1e-4)
    assert np.allclose(found.errors, expected.errors, rtol=1e-3)
    for key, directions in expected.directions.items():
        assert [d.name for d in found.directions[key]] == [d.name for d in directions]
    layer = model[:2](IMAGES).detach().flatten(1).T
    torch.testing.assert_close(open_store(tmp_path / "acts")["1"][:], layer)


def test_a_peek_does_not_write_over_what_is_there(model, tmp_path):
    write_one(tmp_path / "acts")
    with pytest.raises(FileExistsError, match=r"a peek records its own; delete it: shutil\.rmtree"):
        pk.peek(model, IMAGES, store=tmp_path / "acts", progress=False)
    (tmp_path / "mine").write_text("notes")
    with pytest.raises(FileExistsError, match="another path"):
        pk.peek(model, IMAGES, store=tmp_path, progress=False)


def test_load_says_what_opens_a_store(model, tmp_path):
    record(model, IMAGES, store=tmp_path / "acts")
    with pytest.raises(IsADirectoryError, match=r"pk\.open_store"):
        pk.load(tmp_path / "acts")
