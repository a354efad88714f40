"""The benchmark's script, on tiny matrices and with the one peer that is always there: its tables, not its times."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import non_negative_factorization

import peeklib as pk

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
ONE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a quick run wrote; with these variables it need not start over."""
    folder = tmp_path_factory.mktemp("bench")
    options = ["--quick", "--threads", "1", "--peers", "scikit-learn", "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        patch.setattr(sys, "argv", ["run.py", *options])
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for name, value in ONE.items():
            patch.setenv(name, value)
        import run

        run.main()
    return folder


@pytest.fixture
def run(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import run

    return run


@pytest.fixture
def small(run):
    return run.SMALL.problems[0]()


def table(folder, study):
    return pd.read_csv(folder / f"bench-{study}.csv")


def test_every_table_is_there_with_its_columns(folder, run):
    for study, columns in run.COLUMNS.items():
        assert list(table(folder, study).columns) == columns
    assert not list(folder.glob("*.part"))
    how = json.loads((folder / "bench.json").read_text())
    assert how["studies"] == ["curves", "sweep", "scaling"] and how["threads"] == 1
    assert how["environment"]["OMP_NUM_THREADS"] == "1" and how["machine"]["gpu"] is None
    assert {"python", "torch", "numpy", "scikit-learn", "peeklib"} <= set(how["versions"])


def test_errors_fall_with_the_budget_and_repeats_agree(folder, run):
    rows = table(folder, "curves").query("status == 'ok'")
    assert set(rows.solver) == {
        "peeklib auto",
        "peeklib hals",
        "peeklib mu",
        "scikit-learn cd",
        "scikit-learn mu",
    }
    for _, own in rows.groupby(["solver", "budget"]):
        assert len(own) == run.REPEATS or own.seconds.iloc[-1] >= run.QUICK, (
            "what is quick here is repeated"
        )
    assert (
        rows.relative_error.between(0, 1).all()
        and (rows.seconds > 0).all()
        and (rows.lowest >= 0).all()
    )
    for _, errors in rows.groupby(["solver", "budget"]).relative_error:
        assert np.ptp(errors) < 1e-6
    by_budget = rows.groupby(["solver", "budget"]).relative_error.first().unstack()
    assert list(by_budget.columns) == list(run.SMALL.budgets)
    assert (by_budget.diff(axis=1).iloc[:, 1:] < 0).all(axis=None)


def test_a_round_over_the_solvers_ends_before_the_next_begins(folder):
    rows = table(folder, "curves").query("budget == 5")
    assert list(rows.repeat) == sorted(rows.repeat)


def test_errors_in_the_table_are_those_of_the_solvers(folder, run, small):
    rank, rows = (
        run.SMALL.rank,
        table(folder, "curves").query("budget == 20").drop_duplicates("solver"),
    )
    listed = rows.set_index("solver").relative_error
    W, H = small.start(rank, run.SEED)
    W, H, _ = non_negative_factorization(
        small.X, W=W, H=H, n_components=rank, init="custom", solver="cd", tol=0, max_iter=20
    )
    again = np.linalg.norm(small.X.astype(float) - W.astype(float) @ H) / np.linalg.norm(
        small.X.astype(float)
    )
    assert listed["scikit-learn cd"] == pytest.approx(again, rel=1e-3)
    fit = pk.coupled_nmf(small.data.blocks, rank, solver="hals", max_iter=20, tol=0)
    assert listed["peeklib hals"] == pytest.approx(fit.relative_error, rel=1e-3)


def test_the_error_in_chunks_is_the_error(run, small, monkeypatch):
    W, H = (part * factor for part, factor in zip(small.start(3, 1), (1, -1), strict=True))
    X = small.X.astype(float)
    dense = np.linalg.norm(X - W.astype(float) @ H) / np.linalg.norm(X)
    for entries in (1, 7 * X.shape[1], X.size):
        monkeypatch.setattr(sys.modules["problems"], "CHUNK", entries)
        assert small.relative_error(W, torch.from_numpy(H)) == pytest.approx(dense, rel=1e-12)


def test_peers_begin_where_ours_does(run, small):
    W, H = small.start(run.SMALL.rank, run.SEED)
    start = pk.coupled_nmf(small.data.blocks, run.SMALL.rank, solver="hals", max_iter=0)
    assert small.relative_error(W, H) == pytest.approx(start.relative_error, rel=1e-5)


def test_the_sweep_has_every_fit_and_the_whole(folder, run):
    rows, (ranks, seeds, _) = table(folder, "sweep"), run.SMALL.sweep
    for _, part in rows[rows.status == "ok"].groupby(["who", "setting"]):
        fits, whole = part.dropna(subset="seed"), part[part.seed.isna()]
        assert len(fits) == len(ranks) * len(seeds) and len(whole) == 1
        assert whole.seconds.item() >= 0.99 * fits.seconds.sum()
    assert (rows[rows.who == "peeklib auto (GPU)"].status == "not measured: no GPU").all()


def test_a_ladder_varies_one_thing(folder, run):
    for ladder, rows in table(folder, "scaling").groupby("ladder"):
        assert sorted(rows[ladder].unique()) == list(run.SMALL.ladders[ladder])
        assert all(
            rows[fixed].nunique() == 1 for fixed in {"features", "images", "rank"} - {ladder}
        )
        assert (rows.status == "ok").all()


def peer(run, package="", fit=None):
    return run.peers.Peer("fake", package, (), fit, "")


def test_a_peer_that_cannot_be_installed_is_a_row(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr(run.peers, "PEERS", (peer(run, "scikit-learn==0.0.999"),))
    solvers, (row,) = run.gather(["fake"], tmp_path)
    assert row["status"].startswith("not installed: ") and "scikit-learn==0.0.999" in row["status"]
    assert "fake" not in [solver.name for solver in solvers]


def test_a_peer_that_fails_or_takes_too_long_is_a_row(run, small, monkeypatch, tmp_path):
    def fail(*_):
        raise ArithmeticError("a singular\nGram matrix")

    monkeypatch.setattr(run.peers, "PEERS", (peer(run, fit=fail),))
    solvers, (row,) = run.gather(["fake"], tmp_path)
    why = "failed: ArithmeticError: a singular Gram matrix"
    assert row["status"] == why
    bench = run.Bench(run.SMALL, solvers[-1:], cap=1)
    (measured,) = run.measure(small, 2, 2, bench, {})
    assert measured["status"] == why and measured["relative_error"] is None
    (skipped,) = run.measure(small, 2, 2, bench, {"fake": 30 / (2 * 2 * small.X.size)})
    assert skipped["status"] == "skipped: would take 30 s"
