"""Fits over several processes give what one gives, send what the formula says, and end together.

The processes are started twice, two and then four of them, and go through `CASES`; a test looks
at what came out of one.
"""

import contextlib
import datetime
import functools
import multiprocessing
import os
import pickle
import shutil
import signal
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

import peeklib as pk
from peeklib import checkpoints, nmf, shares
from peeklib.solvers import all_or_nothing
from peeklib.store import create, open_store

SPLITS = {2: [40, 21], 4: [7, 30, 1, 23]}  # images of each process, by the number of processes
IMAGES, FEATURES, RANK = 61, {"input": 23, "relu": 14}, 4
ROUNDS = {"max_iter": 8, "tol": 0}
WEIGHTS = {"input": 1, "relu": 3}


def data(features=FEATURES, dtype=torch.float32) -> dict[str, torch.Tensor]:
    """Blocks of low rank, and noise."""
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.rand, generator=generator, dtype=torch.float64)
    F = draw(5, IMAGES) * (draw(5, IMAGES) > 0.4)
    blocks = {}
    for name, rows in features.items():
        blocks[name] = (draw(rows, 5) ** 2 @ F + 0.05 * draw(rows, IMAGES)).to(dtype)
    return blocks


@contextlib.contextmanager
def changed(owner, **values):
    """Attributes that are others inside."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


class Here:
    """What one of the processes has; without a group, all images."""

    def __init__(self, folder, group=None):
        self.folder, self.group = folder, group
        self.rank, self.size = (group.rank(), group.size()) if group else (0, 1)
        counts = SPLITS.get(self.size, [IMAGES])
        first = sum(counts[: self.rank])
        self.images = slice(first, first + counts[self.rank])

    def own(self, blocks):
        return {name: block[:, self.images] for name, block in blocks.items()}

    def fit(self, blocks=None, rank=RANK, **options):
        blocks = self.own(data() if blocks is None else blocks)
        return pk.coupled_nmf(blocks, rank, group=self.group, **(ROUNDS | options))


def fit_by(solver, here):
    return here.fit(solver=solver, weights=WEIGHTS, seed=3)


def fit_in_float64(here):
    return here.fit(data(dtype=torch.float64), max_iter=20)


def fit_that_converges(here):
    return here.fit(max_iter=80, tol=1e-2)


def fit_on_a_sample(here):
    with changed(nmf, SAMPLE=20, PER_COMPONENT=1):
        return here.fit()


def fit_on_a_compressed_sample(here, **options):
    """Of 13 directions; all rounds but the last two are on it."""
    with changed(nmf, SAMPLE=30, PER_COMPONENT=1):
        return here.fit(data({"input": 300, "relu": 200}), rank=2, **options)


def fit_of_sparse_blocks(here):
    sparse = {name: (block * (block > 0.5)) for name, block in data().items()}
    own = {name: block.to_sparse() for name, block in here.own(sparse).items()}
    return pk.coupled_nmf(own, RANK, group=here.group, **ROUNDS)


def fit_from_what_came_back(here):
    return here.fit(init=here.fit(max_iter=3), solver="hals", max_iter=3)


def fit_with_dead_components(here):
    """Of W and of F one component each is nothing; both are started again."""
    start = here.fit(max_iter=0, solver="hals")
    start.image_factor[:, 0] = 0
    for W in start.factors.values():
        W[:, 1] = 0
    return here.fit(init=start, solver="hals", max_iter=6)


def fit_of_any_size(here):
    """Units far from each other, and a block that is zero but for the first images."""
    blocks = {"input": data()["input"] * 1e25, "relu": data()["relu"] * 1e-30}
    blocks["relu"][:, 5:] = 0
    return here.fit(blocks)


def fit_from_components_of_any_size(here):
    start = here.fit(max_iter=3)
    start.image_factor[:, 0] *= 2.0**70
    return here.fit(init=start, solver="hals", max_iter=6)


def sweep(here):
    return pk.rank_sweep(here.own(data()), (2, 5), (0, 1), group=here.group, **ROUNDS)


FITS = {
    **{solver: functools.partial(fit_by, solver) for solver in ("auto", "hals", "mu")},
    "float64": fit_in_float64,
    "converged": fit_that_converges,
    "sample": fit_on_a_sample,
    "compressed": fit_on_a_compressed_sample,
    "sparse": fit_of_sparse_blocks,
    "init": fit_from_what_came_back,
    "dead": fit_with_dead_components,
    "sizes": fit_of_any_size,
    "components": fit_from_components_of_any_size,
}


def bytes_of_a_round(here):
    """What one round more sends."""
    found = {}
    for name, fit in {
        "data": here.fit,
        "sample": functools.partial(fit_on_a_compressed_sample, here),
    }.items():
        amounts = []
        for rounds in (3, 4):
            with shares.counted() as sent:
                fit(max_iter=rounds)
            amounts.append(sent.bytes)
        found[name] = amounts[1] - amounts[0]
    return found


def bytes_without_a_group(here):
    with shares.counted() as sent:
        pk.coupled_nmf(here.own(data()), 1, **ROUNDS)
    return sent


def bad_block(here):
    blocks = data()
    blocks["relu"][3, 45] = torch.nan
    return here.fit(blocks)


def other_features(here):
    blocks = data()
    if here.rank == 1:
        blocks["relu"] = blocks["relu"][:-1]
    return here.fit(blocks)


def other_seed(here):
    return here.fit(seed=here.rank)


def other_checkpoint(here):
    return here.fit(checkpoint=None if here.rank else f"{here.folder}/only-one")


def bad_option(here):
    return here.fit(max_iter=-1 if here.rank == 1 else 1)


def no_images(here):
    own = {name: block[:, : here.rank != 1 and 9] for name, block in here.own(data()).items()}
    return pk.coupled_nmf(own, RANK, group=here.group)


def too_large_a_rank(here):
    return here.fit(rank=38)


def more_components_than_own_images(here):
    return here.fit(rank=30, max_iter=1).rank


def other_order(here):
    blocks = data()
    return here.fit(dict(reversed(blocks.items())) if here.rank == 1 else blocks)


def other_start(here):
    start = here.fit(max_iter=1)
    if here.rank == 1:
        start.factors["relu"][0, 0] += 1
    return here.fit(init=start)


def bad_disk(here):
    """The file of one process was cut off."""
    path = f"{here.folder}/{here.rank}-of-{here.size}-store"
    with create(path) as writer:
        writer.append("input", here.own(data())["input"])
    store = open_store(path)
    if here.rank == 1:
        os.truncate(store["input"].path, 200)
    return pk.coupled_nmf(store, RANK, group=here.group)


def bad_name_of_a_checkpoint(here):
    return here.fit(checkpoint=f"{here.folder}/fit.pt")


REFUSED = [
    bad_block,
    other_features,
    other_seed,
    other_order,
    other_start,
    other_checkpoint,
    bad_disk,
    bad_name_of_a_checkpoint,
    bad_option,
    no_images,
    too_large_a_rank,
]


@contextlib.contextmanager
def pressed_in_round(number, here, process=1):
    """Ctrl-C in one of the processes."""
    iterate, rounds = nmf.iterate, []

    def watched(group, solver, stop, after_round):
        def press(group):
            rounds.append(group)
            if len(rounds) == number and here.rank == process % here.size:
                os.kill(os.getpid(), signal.SIGINT)
            after_round(group)

        iterate(group, solver, stop, press)

    with changed(nmf, iterate=watched):
        yield


def interrupted(here):
    with pressed_in_round(4, here):
        return here.fit()


def stopped(here):
    """A fit that is stopped in its fifth round, after a checkpoint in each of the first four."""
    path = f"{here.folder}/{here.size}.safetensors"
    with changed(checkpoints, SECONDS=0, PART=1e9), pressed_in_round(5, here), all_or_nothing():
        return here.fit(seed=3, checkpoint=path)


def resumed(here):
    """Goes on, two or four of them, from where two were stopped."""
    path = f"{here.folder}/{here.size}-resumed.safetensors"
    if here.rank == 0:
        shutil.copy(f"{here.folder}/2.safetensors", path)
    dist.barrier(here.group)
    return here.fit(seed=3, checkpoint=path, resume=True)


def of_another_seed(here):
    return here.fit(seed=4, checkpoint=f"{here.folder}/2.safetensors", resume=True)


CASES = {
    **FITS,
    "sweep": sweep,
    "bytes": bytes_of_a_round,
    "alone": bytes_without_a_group,
    **{case.__name__: case for case in REFUSED},
    "many": more_components_than_own_images,
    "interrupted": interrupted,
    "stopped": stopped,
    "resumed": resumed,
    "of another seed": of_another_seed,
}
AMONG_FOUR = ("auto", "hals", "sample", "compressed", "dead", "sizes", "sweep", "bytes", "many")
AMONG_FOUR += ("bad_block", "bad_option", "interrupted", "stopped", "resumed")


def cases_of(size):
    """Two processes go through all; what four do otherwise than two shows in these."""
    return CASES if size == 2 else {name: CASES[name] for name in AMONG_FOUR}


def process(rank, size, folder):
    """Goes through the cases; a file has what came out, or the error."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/{size}.meet",
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=240),
    )
    here, found = Here(folder, dist.group.WORLD), {}
    for name, case in cases_of(size).items():
        found[name] = outcome(case, here)
    if rank == 1:
        write(here, found)
    found["death"] = outcome(death, here)
    write(here, found)


def outcome(case, here):
    """What a case returns or raises."""
    try:
        return case(here)
    except (Exception, KeyboardInterrupt) as error:
        return error


def death(here):
    """The second process ends in its third round."""
    rounds = []

    def leave(*_):
        rounds.append(0)
        if len(rounds) == 3 and here.rank == 1:
            os._exit(9)

    with changed(nmf.Keeper, note=leave):
        return here.fit()


def write(here, found):
    with open(f"{here.folder}/{here.rank}-of-{here.size}", "wb") as file:
        pickle.dump(found, file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def found(folder):
    """By their number what each process came to."""
    fork = multiprocessing.get_context("fork")  # which need not import PyTorch again
    return {size: run(fork, size, folder) for size in SPLITS}


def run(fork, size, folder):
    started = [fork.Process(target=process, args=(rank, size, folder)) for rank in range(size)]
    for one in started:
        one.start()
    for one in started:
        one.join(300)
        one.kill()  # had it hung
    parts = []
    for rank in range(size):
        with open(folder / f"{rank}-of-{size}", "rb") as file:
            parts.append(pickle.load(file))
    return parts


def assert_the_same(fits, whole):
    """The parts of a fit, and what one process gives."""
    F = torch.cat([fit.image_factor for fit in fits])
    assert torch.allclose(F, whole.image_factor, rtol=1e-4, atol=1e-4 * whole.image_factor.max())
    for fit in fits:
        for name, W in whole.factors.items():
            assert torch.allclose(fit.factors[name], W, rtol=1e-4, atol=1e-4 * W.max())
            assert torch.equal(fit.factors[name], fits[0].factors[name])
        assert fit.history == pytest.approx(whole.history, rel=1e-4)  # of sums that cancel
        assert fit.relative_error == pytest.approx(whole.relative_error, rel=1e-5)
        assert fit.rmse == pytest.approx(whole.rmse, rel=1e-5)
        assert fit.block_errors == pytest.approx(whole.block_errors, rel=1e-5)
        assert fit.kkt == pytest.approx(whole.kkt, rel=1e-2)
        assert fit.converged == whole.converged and fit.weights == whole.weights


@pytest.mark.parametrize(
    ("size", "case"), [(size, case) for size in SPLITS for case in FITS if case in cases_of(size)]
)
def test_several_processes_give_what_one_gives(found, folder, case, size):
    assert_the_same([part[case] for part in found[size]], FITS[case](Here(folder)))


@pytest.mark.parametrize("size", SPLITS)
def test_a_sweep_of_several_processes_is_that_of_one(found, folder, size):
    whole = sweep(Here(folder))
    for pair, fit in whole.fits.items():
        assert_the_same([part["sweep"][pair] for part in found[size]], fit)


def test_a_rank_may_be_larger_than_the_images_of_one_process(found):
    assert [part["many"] for part in found[4]] == [30] * 4


@pytest.mark.parametrize("size", SPLITS)
def test_a_round_sends_what_the_formula_says(found, size):
    features, width = sum(FEATURES.values()), 13
    on_data = 4 * RANK * (features + RANK) + 8 * (1 + RANK + 2)
    on_sample = 4 * 2 * (width + 2) + 8 * (1 + 2 + 2)
    for part in found[size]:
        assert part["bytes"] == {"data": on_data, "sample": on_sample}


def test_nothing_is_sent_without_a_group_though_processes_could_talk(found):
    assert [part["alone"].messages for part in found[2]] == [0, 0]


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("bad_block", ValueError, "block 'relu' has NaN or infinite values"),
        ("other_features", ValueError, "processes differ in blocks.*process 1 has.*13"),
        ("other_seed", ValueError, r"processes differ in \(rank, seed\).*process 1 has .*1"),
        ("other_checkpoint", ValueError, "processes differ in checkpoint.*only-one.*None"),
        (
            "other_order",
            ValueError,
            r"processes differ in blocks: .*\['input', 23.* process 1 .*\['relu'",
        ),
        ("other_start", ValueError, "processes differ in init's factor of 'relu'"),
        ("bad_disk", (OSError, RuntimeError), r"0\.npy' ends too early"),
        ("bad_name_of_a_checkpoint", ValueError, "call it 'fit.safetensors'"),
        ("bad_option", ValueError, "max_iter is -1"),
        ("no_images", ValueError, "block 'input' is empty"),
        ("too_large_a_rank", ValueError, "rank is 38; there are 37 features"),
        ("of another seed", ValueError, r"its \(rank, seed\) is \[\[4, 3\]\], and here it is"),
    ],
)
def test_what_one_process_refuses_all_refuse(found, case, kind, words):
    for part in [*found[2], *(part for part in found[4] if case in part)]:
        with pytest.raises(kind, match=words):
            raise part[case]


def test_the_others_say_in_which_process_it_was(found):
    told = [str(part["bad_option"]) for part in found[4]]
    assert told[0] == told[3] == f"in process 1 of 4: {told[1]}"


@pytest.mark.parametrize("size", SPLITS)
def test_an_interrupt_of_one_ends_all_after_the_same_round(found, size):
    fits = [part["interrupted"] for part in found[size]]
    assert [fit.interrupted for fit in fits] == [True] * size
    assert {len(fit.history) for fit in fits} == {5}
    assert all(type(part["stopped"]) is KeyboardInterrupt for part in found[size])


@pytest.mark.parametrize("size", SPLITS)
def test_a_fit_goes_on_with_any_number_of_processes(found, folder, size):
    whole = Here(folder).fit(seed=3)
    assert_the_same([part["resumed"] for part in found[size]], whole)


def test_one_process_goes_on_from_where_four_were(found, folder):
    fit = Here(folder).fit(seed=3, checkpoint=folder / "4.safetensors", resume=True)
    assert_the_same([fit], Here(folder).fit(seed=3))


@pytest.mark.parametrize("size", SPLITS)
def test_a_process_that_dies_ends_all_of_them_with_words(found, size):
    survivors = [part for rank, part in enumerate(found[size]) if rank != 1]
    for part in survivors:
        assert isinstance(part["death"], RuntimeError)
        assert "has lost another one" in str(part["death"])
        assert "resume=True" in str(part["death"])


def test_a_fit_says_how_many_images_it_has_of_how_many(found, folder):
    assert "images=40 of 61, blocks" in repr(found[2][0]["auto"])
    assert "images=61, blocks" in repr(fit_by("auto", Here(folder)))


def test_parts_of_a_fit_are_joined_as_the_page_on_running_does(found, folder, tmp_path):
    paths = [part["auto"].save(tmp_path / f"{rank}") for rank, part in enumerate(found[4])]
    parts = [pk.load(path) for path in paths]
    fit = replace(parts[0], image_factor=torch.cat([part.image_factor for part in parts]))
    assert "images=61, blocks" in repr(fit)
    assert_the_same([fit], fit_by("auto", Here(folder)))


def test_one_of_several_processes_that_fits_alone_says_so(monkeypatch, recwarn):
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = r"one of 2 processes .* fits alone: .*init_process_group\(\)"
    for fit, rank in ((pk.coupled_nmf, 1), (pk.rank_sweep, [1])):
        with pytest.warns(UserWarning, match=words) as told:
            fit(data(), rank, group=dist.group.WORLD, max_iter=1)
        assert told[0].filename == __file__
    monkeypatch.setenv("WORLD_SIZE", "1")
    pk.coupled_nmf(data(), 1, max_iter=1)
    assert not recwarn.list


def test_a_group_is_a_process_group():
    with pytest.raises(TypeError, match=r"group is 'world'; .*distributed\.group\.WORLD"):
        pk.coupled_nmf(data(), 2, group="world")
