"""The zoo: recipes, training sets, a table with every network, a run that can be killed."""

import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
import torch

from peeklib import scores, solvers, storage, zoo
from peeklib.course.data import Dataset, Split
from peeklib.course.zoo import FACTORS, Recipe, recipes, training_set

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import zoo as run  # noqa: E402


@pytest.fixture
def tiny(monkeypatch):
    """Every data set is 2,000 images of one pixel value each; label k is every tenth image."""
    values = (torch.arange(2000) % 251).to(torch.uint8)
    images = values.view(-1, 1, 1, 1).expand(-1, 1, 28, 28).contiguous()
    labels = torch.arange(2000) % 10
    train, test = Split(images, labels), Split(images[:600], labels[:600])
    data = Dataset("tiny", train, test, tuple("0123456789"), "made")
    monkeypatch.setattr(zoo, "dataset", lambda name: data)
    return data


def test_the_zoo_is_balanced_and_no_network_is_in_it_twice():
    everything = recipes()
    assert len(everything) == 384 and len({recipe.name for recipe in everything}) == len(everything)
    environments = Counter((recipe.data, recipe.architecture) for recipe in everything)
    assert len(environments) == 9 and set(environments.values()) == {48, 32}
    assert {recipe.half for recipe in everything if recipe.data == "cifar10"} == {"test"}
    assert {recipe.half for recipe in everything if recipe.architecture == "resnet"} == {"test"}


def test_a_network_departs_in_its_factor_alone():
    default = asdict(Recipe("mnist", "cnn"))
    for recipe in recipes():
        departs = {k for k, v in asdict(recipe).items() if v != default[k]}
        departs -= {"data", "architecture", "factor", "seed"}
        if recipe.factor in FACTORS:
            assert departs == {recipe.factor}
        elif recipe.factor in ("base", "untrained"):
            assert departs == ({"epochs"} if recipe.factor == "untrained" else set())


def test_training_sets(tiny):
    base = Recipe("mnist", "mlp", images=1000)
    assert len(training_set(base).labels) == 1000
    assert len(training_set(replace(base, classes=2)).labels.unique()) == 2
    labels = training_set(replace(base, sorting=1.0)).labels
    assert int((labels[1:] != labels[:-1]).sum()) == 9, "class after class"
    half, mixed = (training_set(replace(base, sorting=s)).labels for s in (0.5, 0.0))
    late = labels[-1]
    early, even, end = ((part == late).sum() for part in (half[:300], mixed[:300], half[-300:]))
    assert early < even / 2 < end


def test_label_noise_replaces_that_share(tiny):
    recipe = Recipe("mnist", "mlp", images=2000)
    clean, noisy = training_set(recipe), training_set(replace(recipe, noise=0.6))
    assert torch.equal(clean.images, noisy.images)
    assert (clean.labels != noisy.labels).float().mean() == pytest.approx(0.6 * 0.9, abs=0.04)


def test_the_last_fifth_of_the_epochs_is_slow(tiny, monkeypatch):
    calls = []

    def train(model, images, labels, *, epochs, lr, **_):
        calls.append((epochs, lr))

    monkeypatch.setattr(zoo, "train", train)
    for epochs in (0, 1, 5, 60):
        zoo.rear(Recipe("mnist", "mlp", images=100, epochs=epochs))
    assert calls == [(1, 0.02), (4, 0.02), (1, 0.002), (48, 0.02), (12, 0.002)]


SMALL = Recipe("mnist", "mlp", images=50, epochs=1)


@pytest.fixture
def kept(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(run, "KEPT", tmp_path)
    return tmp_path


def test_nothing_is_trained_twice(kept, monkeypatch):
    families = ("outputs", "spectrum")
    cheap = {name: one for name, one in scores.SCORES.items() if one.family in families}
    monkeypatch.setattr(scores, "SCORES", cheap)
    first = run.scored(SMALL)
    monkeypatch.setattr(zoo, "rear", None)
    monkeypatch.setattr(scores, "observe", None)
    assert run.scored(SMALL) == first
    assert first["accuracy"] >= 0 and set(scores.SCORES) < set(first)


def test_a_run_killed_while_it_writes_leaves_nothing_half_done(kept, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            run.trained(SMALL)
    assert not list(kept.iterdir())
    assert "weights" in torch.load(run.trained(SMALL))


def test_a_second_run_at_once_is_refused(kept):
    with run.alone(), pytest.raises(SystemExit, match="Another `make zoo` is at work"):
        with run.alone():
            pytest.fail("both would train")
    with run.alone():
        pass  # the first has ended


def test_scores_are_of_whole_fits(kept, monkeypatch):
    """An interrupt comes out of them."""
    monkeypatch.setattr(scores, "observe", lambda model, images: None)
    monkeypatch.setattr(scores, "SCORES", {"whole": lambda seen: solvers.is_all_or_nothing()})
    assert run.scored(SMALL)["whole"] is True


def in_worker(recipe):
    return recipe.seed, torch.get_num_threads(), signal.getsignal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_every_worker_has_one_thread_and_ends_at_an_interrupt(monkeypatch, capsys):
    monkeypatch.setattr(run, "get_context", lambda name: get_context("fork"))
    several = [replace(SMALL, seed=seed) for seed in range(5)]
    found = run.everywhere(in_worker, several, "seen")
    assert found == [(seed, 1, signal.SIG_DFL) for seed in range(5)]
    assert capsys.readouterr().out.count("seen: ") == 5


def work_for_a_while(pipe):
    run.begin_worker()
    pipe.send("begun")
    time.sleep(20)
    pipe.send("went on")


def have_work_done(pipe):
    get_context("fork").Process(target=work_for_a_while, args=(pipe,)).start()
    time.sleep(60)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_ends_with_its_parent():
    ours, theirs = get_context("fork").Pipe()
    parent = get_context("fork").Process(target=have_work_done, args=(theirs,))
    parent.start()
    theirs.close()
    assert ours.recv() == "begun"
    parent.kill()
    with pytest.raises(EOFError):  # nobody is there any more
        ours.recv()
    parent.join()
    ours.close()


@pytest.mark.parametrize("trouble", [".csv", ".json"])
def test_a_table_and_its_sidecar_are_put_in_place_together(trouble, tmp_path, monkeypatch):
    begun = storage._begun

    def fail(part, target):
        if target.suffix == trouble:
            raise OSError(errno.ENOSPC, "No space left on device", str(part))
        return begun(part, target)

    def files():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    monkeypatch.setattr(run.evidence, "HERE", tmp_path)
    run.evidence.keep("zoo", pd.DataFrame({"seed": [1, 2]}), {"command": "make zoo"})
    before = files()
    assert before == {"zoo.csv": b"seed\n1\n2\n", "zoo.json": b'{\n "command": "make zoo"\n}\n'}
    monkeypatch.setattr(storage, "_begun", fail)
    with pytest.raises(OSError, match=f"No space left on device: .*zoo{trouble}"):
        run.evidence.keep("zoo", pd.DataFrame({"seed": [3]}), {"command": "other"})
    assert files() == before


@pytest.mark.parametrize("stopped", [".csv", ".json"])
def test_no_sidecar_stands_beside_another_table(stopped, tmp_path, monkeypatch):
    """Not even where a kill comes between the two."""
    replace = Path.replace

    def stop(part, target):
        if target.suffix == stopped:
            raise KeyboardInterrupt
        return replace(part, target)

    monkeypatch.setattr(run.evidence, "HERE", tmp_path)
    run.evidence.keep("zoo", pd.DataFrame({"seed": [1, 2]}), {"command": "make zoo"})
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        run.evidence.keep("zoo", pd.DataFrame({"seed": [3]}), {"command": "other"})
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.csv"]


def test_weights_on_disk_are_the_network(kept):
    saved = torch.load(run.trained(SMALL))
    model, facts = zoo.rear(SMALL)
    assert all(torch.equal(saved["weights"][k], v) for k, v in model.state_dict().items())
    assert saved["facts"]["accuracy"] == facts["accuracy"]


def test_a_recipe_is_found_once():
    table = pd.DataFrame(asdict(recipe) for recipe in recipes())
    recipe = recipes()[100]
    assert zoo.find(table, recipe).name == 100
    with pytest.raises(KeyError, match="0 rows"):
        zoo.find(table, replace(recipe, seed=99))
    with pytest.raises(KeyError, match="2 rows"):
        zoo.find(pd.concat([table, table]), recipe)


def test_the_table_has_every_network_once():
    table = pd.read_csv(ROOT / "peeklib/course/evidence/zoo.csv")
    asked = pd.DataFrame(asdict(recipe) | {"half": recipe.half} for recipe in recipes())
    pd.testing.assert_frame_equal(table[asked.columns], asked, check_dtype=False)
    assert set(scores.SCORES) <= set(table)
    assert table[list(scores.SCORES)].notna().mean().min() > 0.95
    how = json.loads((ROOT / "peeklib/course/evidence/zoo.json").read_text())
    assert {"pins", "device", "data", "date", "minutes", "fit"} <= how.keys()
    assert how["command"] == "make zoo"
    assert "dirty" not in how["commit"] + "".join(how["trained at"])


def test_the_table_can_be_made_again():
    """The cheapest network of the zoo, trained and scored here."""
    recipe = Recipe("digits", "mlp", factor="images", images=500)
    table = pd.read_csv(ROOT / "peeklib/course/evidence/zoo.csv")
    row = zoo.find(table, recipe)
    model, facts = zoo.rear(recipe)
    seen = scores.observe(model, zoo.probe_images("digits"))
    assert facts["accuracy"] == pytest.approx(row.accuracy, abs=0.03)
    for name in ("rmse_area", "answers_area", "nuclear_norm", "rankme"):
        assert scores.SCORES[name](seen) == pytest.approx(row[name], rel=0.05), name
