"""Few, large steps on all cores: nothing lost or done twice, PyTorch on one thread inside, all as before afterwards."""

import threading

import pytest
import torch

import peeklib as pk
from peeklib import blocks, crew, solvers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 100])
def test_parts_cover_the_range_once(count):
    seen = torch.zeros(count, dtype=torch.int)

    def note(part):
        seen[part] += 1

    with crew.crew(CPU):
        crew.each(count, note, least=2)
    assert (seen == 1).all()


def test_parts_are_no_smaller_than_asked_and_no_more_than_threads():
    parts = []
    with crew.crew(CPU):
        crew.each(100, parts.append, least=30)
        crew.each(100, parts.append, least=1)
        crew.each(100, parts.append, least=101)
    sizes = [part.stop - part.start for part in parts]
    assert sorted(sizes[:3]) == [33, 33, 34]
    assert sorted(sizes[3:7]) == [25] * 4
    assert sizes[7:] == [100]


def test_several_fits_share_the_threads():
    with crew.crew(CPU):
        assert len(crew.pieces(100, 1)) == 4 and len(crew.pieces(100, 1, already=2)) == 2
        assert crew.pieces(100, 1, already=4) == crew.pieces(100, 1, already=9) == [slice(0, 100)]


def test_without_a_crew_it_is_one_part():
    parts = []
    crew.each(100, parts.append, least=1)
    assert parts == [slice(0, 100)]


def test_pytorch_has_one_thread_inside_and_its_own_afterwards():
    inside = []

    def note(_):
        inside.append((threading.get_ident(), torch.get_num_threads()))

    with crew.crew(CPU):
        assert torch.get_num_threads() == 1
        with crew.crew(CPU):
            crew.each(4, note, least=1)
        crew.each(4, note, least=1)
    assert {threads for _, threads in inside} == {1} and threading.get_ident() not in dict(inside)
    assert torch.get_num_threads() == 4
    new = []
    thread = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert new == [4], "threads started later have what was set before"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_comes_through_when_all_have_stopped(error):
    working, gate = [], threading.Event()

    def task(part):
        if part.start == 0:
            gate.set()
            raise error
        gate.wait()
        working.append(part)

    with pytest.raises(error), crew.crew(CPU):
        try:
            crew.each(4, task, least=1)
        finally:
            assert len(working) == 3, "nobody works on once the error is out"
    assert torch.get_num_threads() == 4


def test_an_interrupt_between_two_parts_waits_for_those_that_began(monkeypatch):
    """Ctrl-C comes to the main thread, anywhere: here, while it hands out the third part."""
    began, gate, done = threading.Semaphore(0), threading.Event(), []

    def task(part):
        began.release()
        gate.wait(10)
        done.append(part)

    with pytest.raises(KeyboardInterrupt), crew.crew(CPU):
        pool, _ = crew._crew.get() or pytest.fail("there is no crew")
        submit = pool.submit

        def interrupted(*args):
            if began.acquire(blocking=False):
                gate.set()
                raise KeyboardInterrupt
            future = submit(*args)
            began.acquire()
            began.release()
            return future

        monkeypatch.setattr(pool, "submit", interrupted)
        try:
            crew.each(4, task, least=1)
        finally:
            assert len(done) == 1, "the part that began has ended"


@pytest.fixture
def wide():
    """Blocks of 5,000 images: wide enough for sweeps in parts."""
    generator = torch.Generator().manual_seed(0)
    rows = {"input": 90, "relu": 60}
    return {name: torch.rand(n, 5_000, generator=generator) for name, n in rows.items()}


@pytest.mark.parametrize("solver", ["auto", "hals", "mu"])
def test_a_fit_is_the_same_on_any_number_of_threads(wide, solver, monkeypatch):
    """In float64, where what differs is the order of sums alone."""
    monkeypatch.setattr(crew, "WORK", 10_000)
    wide = {name: block.double() for name, block in wide.items()}
    how = {"solver": solver, "max_iter": 20, "tol": 0, "device": "cpu"}
    many = pk.coupled_nmf(wide, 5, **how)
    torch.set_num_threads(1)
    one = pk.coupled_nmf(wide, 5, **how)
    assert many.relative_error == pytest.approx(one.relative_error, rel=1e-12)
    torch.testing.assert_close(many.image_factor, one.image_factor, rtol=1e-9, atol=1e-12)
    weights = {"input": 2.0, "relu": 0.5}
    X = blocks.stack(blocks.check_blocks(wide), weights, CPU)
    V, U = torch.rand(4, 150, dtype=torch.float64), torch.rand(4, 5_000, dtype=torch.float64)
    dense = torch.cat([wide[name] * weights[name] ** 0.5 for name in wide])
    torch.set_num_threads(4)
    with crew.crew(CPU):
        torch.testing.assert_close(V @ X, V @ dense, rtol=1e-12, atol=0)
        torch.testing.assert_close(U @ X.T, U @ dense.T, rtol=1e-12, atol=0)


def test_a_round_meets_a_few_times_and_not_in_every_step(wide, monkeypatch):
    """Regions in parts, and the threads that PyTorch may use in each step of a sweep: what neighbours make slow."""
    regions, threads, original = [], set(), crew.each

    def counted(count, task, *, least):
        regions.append(count)
        original(count, task, least=least)

    sweep = solvers._sweep

    def watched(*args):
        threads.add(torch.get_num_threads())
        sweep(*args)

    monkeypatch.setattr(solvers, "_sweep", watched)
    for module in (blocks, solvers):
        monkeypatch.setattr(module, "each", counted)
    how = {"solver": "hals", "tol": 0, "device": "cpu"}
    counts = []
    for rounds in (10, 30):
        regions.clear()
        pk.coupled_nmf(wide, 20, max_iter=rounds, **how)
        counts.append(len(regions))
    assert threads == {1}
    assert counts[1] - counts[0] == 20 * 4, "two products and two sweeps in each round"


def test_a_spectrum_in_parts_is_the_spectrum():
    X = torch.rand(30, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with crew.crew(CPU):
        parts = crew.pieces(500, 60)
    assert len(parts) == 4
    for block in (X, X.T, X[:, :70]):
        assert torch.allclose(pk.spectrum(block), torch.linalg.svdvals(block), rtol=1e-10)


def test_training_does_not_depend_on_the_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (128, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels, weights = torch.arange(128) % 10, []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        model = pk.train(pk.models.PaperCNN(seed=0), images, labels, seed=0, device="cpu").model
        assert not model.training
        weights.append(model.conv2.weight)
        assert torch.get_num_threads() == threads
    assert torch.equal(*weights)
