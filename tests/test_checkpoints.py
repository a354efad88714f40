"""Fits that were stopped, at any round, go on to the very end that they would have had."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from forked import fork

import peeklib as pk
from peeklib import checkpoints, nmf, storage
from peeklib.solvers import all_or_nothing
from peeklib.store import create, open_store

ROUNDS = {"max_iter": 14, "tol": 0}


class Killed(BaseException):
    """Nothing catches it."""


def data(count: int = 80) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    F = torch.rand(3, count, generator=generator)
    noise = 0.1 * torch.rand(30, count, generator=generator)
    whole = torch.rand(30, 3, generator=generator) @ F + noise
    return {"input": whole[:20], "relu": whole[20:]}


@pytest.fixture(autouse=True)
def always_due(monkeypatch):
    """There is a checkpoint after every round."""
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    monkeypatch.setattr(checkpoints, "PART", float("inf"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.safetensors"


def stop_after(monkeypatch, number: int, fit, *args, **options) -> None:
    """A fit whose process ends right after it wrote a number of checkpoints."""
    save, written = storage.save, []

    def stop(state, path):
        save(state, path)
        written.append(path)
        if len(written) == number:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(storage, "save", stop)
        fit(*args, **options)


def assert_equal(fit, other) -> None:
    assert torch.equal(fit.image_factor, other.image_factor)
    assert all(torch.equal(W, other.factors[name]) for name, W in fit.factors.items())
    assert fit.history.tolist() == other.history.tolist()
    facts = ("rmse", "relative_error", "block_errors", "kkt", "converged", "interrupted")
    assert [getattr(fit, name) for name in facts] == [getattr(other, name) for name in facts]


@pytest.mark.parametrize("solver", ["auto", "hals", "mu"])
@pytest.mark.parametrize("checkpoint", [1, 9, 14, 15])
def test_a_fit_ends_as_if_it_had_never_stopped(monkeypatch, path, solver, checkpoint):
    """After the first round, later, after the last one, and at its end."""
    options = {"solver": solver, "seed": 5, **ROUNDS}
    whole = pk.coupled_nmf(data(), 3, **options)
    options["checkpoint"] = path
    stop_after(monkeypatch, checkpoint, pk.coupled_nmf, data(), 3, **options)
    assert_equal(pk.coupled_nmf(data(), 3, **options, resume=True), whole)


@pytest.mark.parametrize("checkpoint", [1, 9, 13, 14])
def test_so_does_one_that_begins_on_a_sample(monkeypatch, path, checkpoint):
    """On the sample, at the last rounds of it, and on all images."""
    monkeypatch.setattr(nmf, "SAMPLE", 20)
    monkeypatch.setattr(nmf, "PER_COMPONENT", 1)
    whole = pk.coupled_nmf(data(), 3, **ROUNDS)
    options = {"checkpoint": path, **ROUNDS}
    stop_after(monkeypatch, checkpoint, pk.coupled_nmf, data(), 3, **options)
    assert_equal(pk.coupled_nmf(data(), 3, **options, resume=True), whole)


@pytest.mark.parametrize("before_the_end", [2, 3])
def test_so_does_one_with_rounds_near_what_was_seen(monkeypatch, path, before_the_end):
    """What was seen of the data is in the checkpoint."""
    monkeypatch.setattr(nmf, "CHEAPER", 0)
    generator = torch.Generator().manual_seed(0)
    planted = torch.rand(90, 2, generator=generator) @ torch.rand(2, 120, generator=generator)
    blocks = {"input": planted + 0.1 * torch.rand(90, 120, generator=generator)}
    written, options = [], {"max_iter": 200, "tol": 1e-5}
    with monkeypatch.context() as patch:
        patch.setattr(storage, "save", lambda state, path: written.append(state))
        whole = pk.coupled_nmf(blocks, 2, **options, checkpoint=path)
    assert written[-before_the_end].runs[0].near
    options["checkpoint"] = path
    stop_after(monkeypatch, len(written) - before_the_end + 1, pk.coupled_nmf, blocks, 2, **options)
    assert_equal(pk.coupled_nmf(blocks, 2, **options, resume=True), whole)


def test_so_does_one_that_converges(path, monkeypatch):
    options = {"max_iter": 200, "tol": 1e-3}
    whole = pk.coupled_nmf(data(), 3, **options)
    assert whole.converged
    options["checkpoint"] = path
    stop_after(monkeypatch, 5, pk.coupled_nmf, data(), 3, **options)
    assert_equal(pk.coupled_nmf(data(), 3, **options, resume=True), whole)


@pytest.mark.parametrize("checkpoint", [3, 15, 17, 30])
def test_a_sweep_goes_on_in_the_middle_of_its_fits(monkeypatch, path, checkpoint):
    """It takes two at a time here, and those that had ended are not fitted again."""
    monkeypatch.setattr(nmf, "_groups", lambda data, pairs: [pairs[:2], pairs[2:]])
    options = {"solver": "hals", **ROUNDS}
    whole = pk.rank_sweep(data(), [2, 3], [0, 1], **options)
    options["checkpoint"] = path
    stop_after(monkeypatch, checkpoint, pk.rank_sweep, data(), [2, 3], [0, 1], **options)
    again = pk.rank_sweep(data(), [2, 3], [0, 1], **options, resume=True)
    assert list(again) == list(whole)
    for pair, fit in whole.fits.items():
        assert_equal(again[pair], fit)


def test_a_fit_at_its_end_is_not_fitted_again(monkeypatch, path):
    first = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    monkeypatch.setattr(nmf, "iterate", None)
    assert_equal(pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True), first)


def test_numbers_of_numpy_are_those_of_python(path):
    fit = pk.coupled_nmf(data(), np.int64(3), **ROUNDS, checkpoint=path)
    assert_equal(pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True), fit)


def test_an_interrupted_fit_goes_on(monkeypatch, path):
    rounds = []

    def press(self, group, stage):
        note(self, group, stage)
        rounds.append(stage)
        if len(rounds) == 4:
            raise KeyboardInterrupt

    note = checkpoints.Keeper.note
    monkeypatch.setattr(checkpoints.Keeper, "note", press)
    assert pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path).interrupted
    fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS))


def press_in_round(monkeypatch, number: int) -> None:
    """Ctrl-C while a round is computed."""
    find, rounds = nmf.iterate.__globals__["_find_converged"], []

    def press(group, stop):
        rounds.append(group)
        if len(rounds) == number:
            os.kill(os.getpid(), signal.SIGINT)
        find(group, stop)

    monkeypatch.setitem(nmf.iterate.__globals__, "_find_converged", press)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("solver", ["auto", "hals"])
def test_an_interrupt_writes_a_checkpoint_long_before_it_is_due(monkeypatch, path, solver):
    """The round is ended for it, so that it goes on to the very end that it would have had."""
    options = {"solver": solver, "checkpoint": path, **ROUNDS}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "SECONDS", 1000)
        press_in_round(patch, 4)
        fit = pk.coupled_nmf(data(), 3, **options)
    assert fit.interrupted and fit.iterations == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    whole = pk.coupled_nmf(data(), 3, solver=solver, **ROUNDS)
    assert_equal(pk.coupled_nmf(data(), 3, **options, resume=True), whole)


@pytest.mark.usefixtures("interruptible")
def test_so_does_one_that_comes_out_of_a_fit(monkeypatch, path):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "SECONDS", 1000)
        press_in_round(patch, 4)
        with all_or_nothing(), pytest.raises(KeyboardInterrupt):
            pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS))


@pytest.mark.parametrize("last", ["kkt_residuals", "residuals"])
def test_an_interrupt_of_the_last_passes_leaves_the_factors(monkeypatch, path, last):
    def press(*_):
        raise KeyboardInterrupt

    whole = pk.coupled_nmf(data(), 3, **ROUNDS)
    with monkeypatch.context() as patch:
        patch.setattr(nmf, last, press)
        fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
        with all_or_nothing(), pytest.raises(KeyboardInterrupt):
            pk.coupled_nmf(data(), 3, **ROUNDS)
    assert fit.interrupted and not fit.converged
    assert torch.equal(fit.image_factor, whole.image_factor)
    assert np.isnan([fit.rmse, fit.relative_error, *fit.block_errors.values()]).all()
    assert_equal(pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True), whole)


def fit_until_killed(path) -> None:
    """Stops after its ninth round, if nobody killed it before."""
    note, rounds = checkpoints.Keeper.note, []

    def wait(self, group, stage):
        note(self, group, stage)
        rounds.append(stage)
        while len(rounds) == 9:
            signal.pause()

    checkpoints.Keeper.note = wait
    pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)


def test_a_killed_fit_goes_on(path):
    process = fork(fit_until_killed, path)
    while not path.exists() and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS))


@pytest.mark.parametrize("solver", ["auto", "hals"])
def test_a_fit_that_ran_all_its_rounds_goes_on_with_more(path, solver):
    short = pk.coupled_nmf(data(), 3, max_iter=3, tol=0, solver=solver, checkpoint=path)
    fit = pk.coupled_nmf(data(), 3, **ROUNDS, solver=solver, checkpoint=path, resume=True)
    assert fit.iterations == ROUNDS["max_iter"]
    assert fit.history[:4].tolist() == short.history.tolist()
    assert fit.relative_error < short.relative_error
    if solver == "hals":  # "auto" would have stayed longer on a sample
        assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS, solver=solver))


def test_so_does_one_that_was_stopped_on_its_way(monkeypatch, path):
    options = {"solver": "hals", "tol": 0, "checkpoint": path}
    stop_after(monkeypatch, 3, pk.coupled_nmf, data(), 3, max_iter=9, **options)
    fit = pk.coupled_nmf(data(), 3, max_iter=14, **options, resume=True)
    assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS, solver="hals"))


def test_a_sweep_has_as_many_rounds_as_it_had(path):
    pk.rank_sweep(data(), [2, 3], max_iter=3, tol=0, checkpoint=path)
    with pytest.raises(ValueError, match="its max_iter is 3, and here it is 4"):
        pk.rank_sweep(data(), [2, 3], max_iter=4, tol=0, checkpoint=path, resume=True)


@pytest.mark.parametrize("checkpoint", [2, 12])
def test_a_sweep_goes_on_in_less_memory_than_it_had(monkeypatch, path, tmp_path, checkpoint):
    """Fits that were on their way together stay together; those that come are fewer at a time."""
    with create(tmp_path / "store") as writer:
        writer.append("input", data()["input"])
    options = {"max_iter": 6, "tol": 0, "solver": "hals", "checkpoint": path}
    large, small = (open_store(tmp_path / "store", memory=memory) for memory in (1, 1e-5))
    assert len(nmf._groups(nmf.checked_stack(small, [3], "hals", None, None), [(3, 0)] * 2)) == 2
    whole = pk.rank_sweep(large, [2, 3], [0, 1], **options | {"checkpoint": None})
    with monkeypatch.context() as patch:
        patch.setattr(nmf, "_groups", lambda data, pairs: [pairs[:2], pairs[2:]])
        stop_after(monkeypatch, checkpoint, pk.rank_sweep, large, [2, 3], [0, 1], **options)
    again = pk.rank_sweep(small, [2, 3], [0, 1], **options, resume=True)
    assert list(again) == list(whole)
    for pair, fit in whole.fits.items():
        assert again[pair].relative_error == pytest.approx(fit.relative_error, rel=1e-4)


def test_the_same_numbers_elsewhere_are_the_same_fit(path, tmp_path):
    """In chunks from a disk, and sparse."""
    with create(tmp_path / "store") as writer:
        writer.append("input", data()["input"])
    dense = {"input": data()["input"]}
    fit = pk.coupled_nmf(dense, 3, **ROUNDS, checkpoint=path)
    for blocks in (
        open_store(tmp_path / "store", memory=1e-5),
        {"input": dense["input"].to_sparse()},
    ):
        again = pk.coupled_nmf(blocks, 3, **ROUNDS, checkpoint=path, resume=True)
        assert torch.equal(again.image_factor, fit.image_factor)


def test_the_first_of_many_starts_needs_no_checkpoint(tmp_path):
    fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=tmp_path / "fit", resume=True)
    assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS))
    assert [file.name for file in tmp_path.iterdir()] == ["fit.safetensors"]


def with_one_more_bit(values: torch.Tensor) -> torch.Tensor:
    values = values.clone()
    values[4, 7] = torch.nextafter(values[4, 7], torch.tensor(2.0))
    return values


def with_neighbours_swapped(values: torch.Tensor) -> torch.Tensor:
    values = values.clone()
    values[:, [40, 41]] = values[:, [41, 40]]
    return values


def changed(name: str, values) -> dict[str, torch.Tensor]:
    return data() | {name: values}


@pytest.mark.parametrize(
    ("blocks", "rank", "options", "words"),
    [
        (data(79), 3, {}, "its number of images is 80, and here it is 79"),
        (changed("relu", torch.ones(9, 80)), 3, {}, "its blocks is .*relu.*10.*, and here"),
        ({"input": data()["input"], "fc": data()["relu"]}, 3, {}, "its blocks is"),
        (changed("relu", data()["relu"] * 1.01), 3, {}, "its block 'relu' has other numbers"),
        (changed("relu", data()["relu"].flip(1)), 3, {}, "the same ones in another order"),
        (changed("relu", with_one_more_bit(data()["relu"])), 3, {}, "'relu' has other numbers"),
        (changed("relu", with_neighbours_swapped(data()["relu"])), 3, {}, r"images\.tensor_split"),
        (changed("input", data()["input"].flip(0)), 3, {}, "block 'input' .* in another order"),
        (data(), 2, {}, r"its \(rank, seed\) is \[\[3, 0\]\], and here it is \[\[2, 0\]\]"),
        (data(), 3, {"seed": 7}, r"its \(rank, seed\) is"),
        (data(), 3, {"solver": "mu"}, 'its solver is "hals", and here it is "mu"'),
        (data(), 3, {"weights": {"input": 1, "relu": 2}}, "its weights is"),
        (data(), 3, {"max_iter": 9}, "its max_iter is 14, and here it is 9"),
        (data(), 3, {"tol": 0.1}, "its tol is 0, and here it is 0.1"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(path, blocks, rank, options, words):
    options = {"solver": "hals", "checkpoint": path, **ROUNDS} | options
    pk.coupled_nmf(data(), 3, **{"solver": "hals", "checkpoint": path, **ROUNDS})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=words):
        pk.coupled_nmf(blocks, rank, **options, resume=True)
    assert path.read_bytes() == before


def test_another_start_is_another_fit(path):
    first, second = (pk.coupled_nmf(data(), 3, seed=seed, max_iter=1) for seed in (1, 2))
    options = {"checkpoint": path, **ROUNDS}
    fit = pk.coupled_nmf(data(), 3, init=first, **options)
    for other in (second, replace(first, image_factor=second.image_factor), None):
        with pytest.raises(ValueError, match="is a checkpoint of another fit: its start is"):
            pk.coupled_nmf(data(), 3, init=other, **options, resume=True)
    assert_equal(pk.coupled_nmf(data(), 3, init=first, **options, resume=True), fit)


def test_blocks_of_another_size_beside_each_other_are_another_fit(path):
    """Both are kept in units of their own, in which they are what they were."""
    small = {name: block * 2.0**-100 for name, block in data().items()}
    pk.coupled_nmf(small, 3, **ROUNDS, checkpoint=path)
    small["relu"] *= 2.0**-6
    with pytest.raises(ValueError, match="another fit: its units and multipliers is"):
        pk.coupled_nmf(small, 3, **ROUNDS, checkpoint=path, resume=True)


def test_no_checkpoint_is_written_over_by_mistake(path):
    pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="resume=True to go on from it, or delete it"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    assert path.read_bytes() == before


def test_what_is_no_checkpoint_is_refused(path):
    pk.coupled_nmf(data(), 3, **ROUNDS).save(path)
    words = "is a saved fit, not a checkpoint; name another path"
    with pytest.raises(ValueError, match=f"no checkpoint to go on from: .*{words}"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    with pytest.raises(FileExistsError, match=words):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint to go on from: .*empty file"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    with pytest.raises(FileExistsError, match="it is no checkpoint; name another path"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)


def test_a_checkpoint_is_no_saved_fit(path):
    pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    with pytest.raises(ValueError, match=r"is a checkpoint, .*fit\.safetensors' and resume=True"):
        pk.load(path)


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        pk.coupled_nmf(data(), 3, checkpoint=tmp_path / "nowhere" / "fit")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        pk.coupled_nmf(data(), 3, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"'fit.pt' would not be .* call it 'fit.safetensors'"):
        pk.coupled_nmf(data(), 3, checkpoint=tmp_path / "fit.pt")
    with pytest.raises(ValueError, match="resume=True goes on from a checkpoint"):
        pk.coupled_nmf(data(), 3, resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_and_ends_no_fit(monkeypatch, path):
    whole = pk.coupled_nmf(data(), 3, **ROUNDS)
    stop_after(monkeypatch, 3, pk.coupled_nmf, data(), 3, **ROUNDS, checkpoint=path)
    before = path.read_bytes()

    def full(state, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(storage, "save", full)
    with pytest.warns(UserWarning, match="the checkpoint is an older one: .*No space left"):
        fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    assert_equal(fit, whole)
    assert path.read_bytes() == before


def test_a_checkpoint_waits_for_its_time(monkeypatch, path):
    monkeypatch.setattr(checkpoints, "SECONDS", 1000)
    saved, save = [], storage.save
    monkeypatch.setattr(storage, "save", lambda *args: saved.append(args) or save(*args))
    pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    assert len(saved) == 1  # at the end
