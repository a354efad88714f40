"""Fits that were stopped, at any round, go on to the very end that they would have had."""

import numpy as np
import pytest
import torch

import peeklib as pk
from peeklib import checkpoints, nmf, storage

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


def test_the_first_of_many_starts_needs_no_checkpoint(tmp_path):
    fit = pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=tmp_path / "fit", resume=True)
    assert_equal(fit, pk.coupled_nmf(data(), 3, **ROUNDS))
    assert [file.name for file in tmp_path.iterdir()] == ["fit.safetensors"]


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


def test_no_checkpoint_is_written_over_by_mistake(path):
    pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="resume=True to go on from it, or delete it"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path)
    assert path.read_bytes() == before


def test_what_is_no_checkpoint_is_refused(path):
    pk.coupled_nmf(data(), 3, **ROUNDS).save(path)
    with pytest.raises(ValueError, match=r"no checkpoint to go on from: .*'CoupledFactors'"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint to go on from: .*empty file"):
        pk.coupled_nmf(data(), 3, **ROUNDS, checkpoint=path, resume=True)


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        pk.coupled_nmf(data(), 3, checkpoint=tmp_path / "nowhere" / "fit")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        pk.coupled_nmf(data(), 3, checkpoint=tmp_path)
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
