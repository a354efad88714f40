"""Wherever the model and the images are, no call mixes devices, and results come back where they are said to.

Every public call that takes tensors runs with its data on the CPU and on a GPU: a simulated one, and the real one where
there is one. The notebooks are in `test_pages_on_gpu.py`.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from simulated import Simulation
from torch import nn

import peeklib as pk
from peeklib import masks, solvers, zoo
from peeklib.course.data import Dataset, Split
from peeklib.course.subjects import Subject
from peeklib.course.training import correct

PLACES = ["cpu", "cuda"]
APART = [("cpu", "cuda"), ("cuda", "cpu")]  # a model and its images
MOVES = [(home, None) for home in PLACES] + APART  # where data is, and where it is worked on
GPUS = ["simulated", "real"] if torch.cuda.is_available() else ["simulated"]


@pytest.fixture(params=GPUS, autouse=True)
def gpu(request, monkeypatch):
    if request.param == "real":
        yield
        return
    monkeypatch.setattr(solvers, "_gpu", lambda: None)  # its kernel would start
    with Simulation():
        yield


@pytest.fixture(params=PLACES)
def home(request) -> str:
    """Where the data is."""
    return request.param


@pytest.fixture
def blocks(home) -> dict:
    draw = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(n, 40, generator=draw).to(home) for name, n in (("input", 12), ("relu", 7))
    }


def images(home: str, count: int = 24) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, 12, 12), generator=draw, dtype=torch.uint8).to(home)


def labels(home: str, count: int = 24) -> torch.Tensor:
    return (torch.arange(count) % 4).to(home)


def net(home: str) -> nn.Module:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 4)
    return nn.Sequential(*parts).to(home)


def places(*tensors: torch.Tensor) -> set[str]:
    return {tensor.device.type for tensor in tensors}


# The simulation: each line fails on a real GPU too


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([there.T, here]),
        lambda here, there: here[there.bool()],
        lambda here, there: there.numpy(),
        lambda here, there: np.asarray(there),
        lambda here, there: nn.Linear(3, 2)(there),
        lambda here, there: nn.functional.cross_entropy(there, here.argmax(1)),
        lambda here, there: torch.rand(3, generator=torch.Generator(), device="cuda"),
    ],
)
def test_a_gpu_refuses(mix):
    here, there = torch.eye(3), torch.eye(3).to("cuda")
    with pytest.raises((RuntimeError, TypeError), match="device|cuda|indices|CPU"):
        mix(here, there)


def test_a_gpu_takes_what_is_moved():
    here, there = torch.eye(3), torch.eye(3).to("cuda")
    there[0] = here[1]
    assert places(
        there, there[1:], there.T, there.clone(), there[here.bool()], there * 2, here.to(there)
    ) == {"cuda"}
    assert places(here, there.cpu(), there.to(here), torch.from_numpy(there.cpu().numpy())) == {
        "cpu"
    }
    assert there.cpu().tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]


# The method


@pytest.mark.parametrize("target", [None, *PLACES])
@pytest.mark.parametrize("model_home", PLACES)
def test_record(home, model_home, target):
    model, shown = net(model_home), images(home)
    found = pk.record(model, shown, device=target)
    assert places(*found.values()) == {target or home}
    assert places(*model.parameters()) == {model_home}
    assert places(pk.to_float(shown), *pk.input_blocks(shown).values()) == {home}


@pytest.mark.parametrize(("home", "device"), [*MOVES, ("cuda", "cuda")])
@pytest.mark.parametrize("solver", sorted(solvers.UPDATES))
def test_coupled_nmf(blocks, home, solver, device):
    fit = pk.coupled_nmf(
        blocks, 3, solver=solver, device=device, max_iter=5, weights={"input": 2.0, "relu": 1.0}
    )
    more = fit.transform(blocks), fit.reconstruct("relu"), fit.reconstruct("relu", 3)
    assert places(fit.image_factor, *fit.factors.values(), *more) == {home}
    assert fit.kkt >= 0 and set(fit.block_errors) == set(blocks)
    for place in PLACES:
        moved = fit.to(place)
        assert places(moved.image_factor, *moved.factors.values()) == {place}
        assert places(moved.transform(blocks)) == {home}


@pytest.mark.parametrize("solver", sorted(solvers.UPDATES))
def test_a_start_may_be_anywhere(blocks, home, solver):
    first = pk.coupled_nmf(blocks, 3, max_iter=2)
    for place in PLACES:
        start = first.to(place)
        assert places(
            pk.coupled_nmf(blocks, 3, solver=solver, init=start, max_iter=2).image_factor
        ) == {home}


@pytest.mark.parametrize(("home", "device"), MOVES)
def test_rank_sweep(blocks, home, device):
    sweep = pk.rank_sweep(blocks, [2, 3], [0, 1], device=device, max_iter=5)
    assert len(sweep.table()) == 4
    assert places(
        *(fit.image_factor for fit in sweep.fits.values()), sweep[3, 1].factors["relu"]
    ) == {home}


@pytest.mark.parametrize(("home", "device"), MOVES[1:])
def test_choose_rank(blocks, home, device, monkeypatch):
    monkeypatch.setattr(masks, "ROUNDS", 5)
    choice = pk.choose_rank(blocks, [1, 2], seeds=[0, 1], device=device)
    assert choice.table.notna().all(axis=None)


def test_blocks_may_lie_apart(blocks, home):
    other = {"cpu": "cuda", "cuda": "cpu"}[home]
    apart = blocks | {"relu": blocks["relu"].to(other)}
    fit = pk.coupled_nmf(apart, 3, max_iter=5)
    assert places(fit.image_factor, *fit.factors.values(), fit.transform(apart)) == {home}


def test_tensors(home):
    draw = torch.Generator().manual_seed(0)
    shaped = {
        "input": torch.rand(4, 3, 20, generator=draw).to(home),
        "relu": torch.rand(6, 20, generator=draw).to(home),
    }
    for device in (None, *PLACES):
        fit = pk.tensors.coupled_ntf(shaped, 2, device=device, max_iter=3)
        modes = [V for factors in fit.modes.values() for V in factors]
        assert places(
            fit.image_factor, fit.reconstruct("input"), fit.transform(shaped), *modes
        ) == {home}
    assert places(pk.tensors.khatri_rao([V.T for V in fit.modes["input"]])) == {home}
    assert places(*fit.to("cuda").modes["input"]) == {"cuda"}


def test_spectra(blocks, home):
    A, B = blocks["input"], blocks["relu"]
    assert pk.effective_rank(A) > 1
    assert 0 <= pk.spectra.cka(A, B) <= 1 and 0 <= pk.spectra.svcca(A, B) <= 1
    assert pk.spectra.parallel_analysis(A, permutations=3) >= 0
    assert len(pk.spectra.conv_singular_values(torch.rand(2, 3, 3, 3).to(home), (6, 6)))
    assert pk.spectrum(A).argmax() == 0


def test_directions(blocks, home):
    A = blocks["input"]
    alive = A.sum(dim=1) > 0
    fit = pk.coupled_nmf(blocks, 3, max_iter=5)
    there, what = pk.directions, labels(home, 40)
    for among in (alive, alive.cpu()):
        found = there.neurons(A, 3, among=among)
    for rows in (
        found,
        there.random(A, 3),
        there.singular(A, 3),
        there.nmf(A, 3, fit=fit, layer="input"),
    ):
        assert places(*(one.vector for one in rows), *(one.scores for one in rows)) == {home}
        for marks in (what, what.cpu()):
            assert set(there.describe(rows, marks, k=4)) > set()
        there.overlap([there.top_images(one, 4) for one in rows])
    assert places(there.normalize(A)) == {home}


def test_plots(blocks, home):
    shown = images(home, 40)
    fit = pk.coupled_nmf(pk.input_blocks(shown) | {"relu": blocks["relu"]}, 3, max_iter=5)
    figures = [
        pk.plots.latent_images(fit, (12, 12), title=""),
        pk.plots.neuron_heatmap(fit.factors["relu"], title=""),
        pk.plots.channel_maps(fit.factors["relu"][:6, 0], (1, 2, 3), title=""),
        pk.plots.image_grid(list(shown[:3, 0]), title=""),
    ]
    for place in PLACES:  # images stay on the CPU in most pages
        found = pk.directions.singular(blocks["relu"], 2)
        figures.append(pk.plots.contact_sheet(found, shown.to(place), 3, title=""))
        how = {"maps": (1, 1, 7), "images": shown.to(place), "labels": labels(place, 40)}
        figures.append(pk.plots.journey(fit, "relu", 1, **how, title=""))
    assert all(figure.axes for figure in figures)


# Networks and what the course makes of them


@pytest.mark.parametrize("device", [None, *PLACES])
@pytest.mark.parametrize(("model_home", "images_home"), APART)
def test_training(model_home, images_home, device):
    model, known = net(model_home), (images(images_home), labels(images_home))
    trained = pk.train(model, *known, device=device, batch_size=8, seed=0)
    assert places(*trained.model.parameters()) == {model_home}
    assert np.isfinite(trained.history.to_numpy(float)).all()
    assert 0 <= pk.accuracy(model, *known) <= 1
    assert correct(model, *known).sum() >= 0


@pytest.mark.parametrize(("model_home", "images_home"), APART)
def test_scores(model_home, images_home, monkeypatch):
    monkeypatch.setattr("peeklib.study.seen.RANKS", (1, 2))
    monkeypatch.setattr("peeklib.study.seen.FIT", pk.scores.FIT | {"max_iter": 3})
    table = pk.scores.table(net(model_home), images(images_home)).set_index("score")
    without = table.why[table.why != ""]
    assert without.empty, without.to_dict()


@pytest.mark.parametrize(("model_home", "images_home"), APART)
def test_peek(model_home, images_home):
    found = pk.peek(net(model_home), images(images_home, 8), ranks=(2,), progress=False)
    assert "<figure" in found._repr_html_()


@pytest.mark.parametrize("architecture", sorted(zoo.ARCHITECTURES))
def test_the_zoo(architecture, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    split = Split(
        torch.randint(256, (60, 1, 28, 28), generator=draw, dtype=torch.uint8), labels("cpu", 60)
    )
    data = Dataset("noise", split, split, tuple("0123"), "made")
    monkeypatch.setattr(zoo, "dataset", lambda name: data)
    model, facts = zoo.rear(
        zoo.Recipe("mnist", architecture, images=40, epochs=1, classes=4, width=0.25)
    )
    assert 0 <= facts["accuracy"] <= 1 and places(*model.parameters()) == {"cpu"}
    assert places(*pk.record(model, zoo.probe_images("mnist")).values()) == {"cpu"}


@pytest.mark.parametrize("model_home", PLACES)
def test_a_subject(home, model_home):
    subject = Subject(
        net(model_home), {"relu": "1"}, images(home), labels(home), tuple("0123"), "made"
    )
    assert subject.shape("relu") == (8, 10, 10)
    A = subject.activations("relu")
    assert places(A, subject.labels[pk.directions.top_images(pk.directions.singular(A, 1)[0])]) == {
        home
    }


@pytest.mark.parametrize("model_home", PLACES)
def test_subjects_are_chosen(model_home):
    made = Split(torch.zeros(30, 3, 32, 32, dtype=torch.uint8), labels("cpu", 30))
    model = pk.models.CifarAlexNet(3).to(model_home)
    subject = pk.subjects.cifar(
        model, Dataset("n", made, made, tuple("0123"), ""), count=5, only_correct=False
    )
    assert places(subject.images, subject.labels, subject.activations("pool5")) == {"cpu"}


def test_imagenet(tmp_path):
    (tmp_path / "goldfish").mkdir()
    Image.new("RGB", (256, 256)).save(tmp_path / "goldfish/1.png")
    subject = pk.subjects.imagenet(tmp_path, weights=None, only_correct=False)
    assert places(subject.images, subject.activations("pool1")) == {"cpu"}
