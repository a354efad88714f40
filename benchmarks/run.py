"""How long our solvers and other people's take to an error: tidy tables of evidence.

`python benchmarks/run.py` (`make bench`) measures all solvers in one run and writes

    bench-curves.csv   seconds and error at growing budgets of iterations, on activations of two trained networks
    bench-sweep.csv    25 fits, five ranks from five seeds, of one network
    bench-scaling.csv  seconds and error on made-up data: images, features and rank varied, one at a time
    bench-peers.csv    every peer: whether it could be installed and run, and what to know of it
    bench.json         machine, versions, threads and data

What keeps it fair:

- Ours is timed as a user would call it, with its checks, its compression and its exact errors, in whole; on a GPU with
  the copies there and back. Of a peer only the call of its solver is timed.
- All begin from the same random factors. Ours draws them on the clock. Peers get them off the clock, scaled to fit
  best, as ours scales them for HALS itself; a peer that takes no start says so in its remark.
- A budget is a run from scratch without a stopping rule, after one small call that loads and compiles.
- A quick run is repeated, each repeat as a row, and one round over all solvers ends before the next begins, so that
  noise of the machine hits all alike.
- One function here computes every error, in float64, from the factors returned; nobody's own report counts.
- What fails or would take too long is a row that says so.

X is features × images, W features × rank, H rank × images.
"""

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import peers
import torch
from problems import FULL, HEADLINE, SEED, SMALL, Problem, Size, load, planted

import peeklib as pk
from peeklib import storage

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ROOT / "_build/peers"
ITERATIONS = 20  # of the scaling study
REPEATS, QUICK = 3, 1.5  # a run under QUICK seconds is done REPEATS times
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SETTINGS = {  # of `rank_sweep`
    "60 iterations at most, tolerance 1e-3": {"max_iter": 60, "tol": 1e-3},
    "defaults: 200 iterations at most, tolerance 1e-4": {},
}
NETWORKS = 4  # that a GPU factorizes one after the other
NO_GPU = {
    "solver": "peeklib auto (GPU)",
    "package": f"peeklib=={pk.__version__}",
    "status": "not measured: no GPU",
}
SCALED = ("peeklib auto", "peeklib hals", "scikit-learn cd", "scikit-learn mu")
SCALED += ("nmf-torch hals", "torchnmf mu", "overcomplete hals", "matcouply aoadmm")
RUN = ["features", "images", "rank", "solver", "package"]
COLUMNS = {
    "curves": [
        "problem",
        *RUN,
        "budget",
        "repeat",
        "seconds",
        "relative_error",
        "lowest",
        "status",
    ],
    "sweep": ["who", "setting", "network", "rank", "seed", "seconds", "relative_error", "status"],
    "scaling": ["ladder", *RUN, "iterations", "repeat", "seconds", "relative_error", "status"],
    "peers": ["name", "package", "status", "remark"],
}


class Solver(NamedTuple):
    name: str
    package: str
    fit: Callable  # fit(problem, W, H, iterations) -> W, H


@dataclass
class Bench:
    """One run of the benchmark."""

    size: Size
    solvers: list[Solver]
    cap: float
    remarks: dict[str, str] = field(default_factory=dict)  #: of every problem seen


def ours(problem: Problem, W, H, iterations: int, *, solver: str, device: str = "cpu"):
    """`coupled_nmf` as a user calls it; it draws the start that (W, H) came from."""
    how = {"solver": solver, "device": device, "max_iter": iterations, "tol": 0}
    return factors(pk.coupled_nmf(problem.data.blocks, W.shape[1], seed=SEED, **how))


def factors(fit: pk.CoupledFactors) -> tuple[np.ndarray, np.ndarray]:
    """W and H of a fit of ours, off the GPU."""
    if fit.interrupted:  # it returns what it has; here an interrupt means stop
        raise KeyboardInterrupt
    return torch.cat(list(fit.factors.values())).numpy(force=True), fit.image_factor.T.numpy(
        force=True
    )


def theirs(problem: Problem, W, H, iterations: int, *, peer: peers.Peer):
    return peer.fit(problem.X, W, H, iterations, list(problem.data.rows.values()))


def gather(prefixes: list[str], folder: Path) -> tuple[list[Solver], list[dict]]:
    """Our solvers and the peers that could be installed, all called once; and a row for every peer, come what may."""
    own = f"peeklib=={pk.__version__}"
    solvers = [
        Solver(f"peeklib {name}", own, functools.partial(ours, solver=name))
        for name in ("auto", "hals", "mu")
    ]
    if torch.cuda.is_available():
        solvers.append(
            Solver(NO_GPU["solver"], own, functools.partial(ours, solver="auto", device="cuda"))
        )
    small, rows, installed = planted(30, 40, 3), [], {}
    for solver in solvers:
        timed(solver.fit, small, *small.start(3, SEED), 5)
    for peer in peers.PEERS:
        if not peer.name.startswith(tuple(prefixes)):
            continue
        package = peer.package or f"scikit-learn=={metadata.version('scikit-learn')}"
        if package not in installed:
            installed[package] = peers.install(peer, folder)
        status = f"not installed: {installed[package]}" if installed[package] else "installed"
        if status == "installed":
            solvers.append(Solver(peer.name, package, functools.partial(theirs, peer=peer)))
            _, _, outcome = timed(solvers[-1].fit, small, *small.start(3, SEED), 5)
            status = status if outcome == "ok" else outcome
        what = {"name": peer.name, "package": package, "status": status}
        rows.append(what | {"remark": peer.remark})
        print("peers", peer.name, status, flush=True)
    return solvers, rows


def timed(call: Callable, *arguments):
    """What a call gives, the seconds it took, and "ok" or why it gave nothing."""
    result, status, began = None, "ok", time.perf_counter()
    try:
        result = call(*arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except Exception as why:
        status = f"failed: {type(why).__name__}: {' '.join(str(why).split())}"[:200]
    return result, time.perf_counter() - began, status


def judged(problem: Problem, found, status: str) -> dict:
    """Error and smallest entry of the factors found, if any."""
    error = lowest = None
    if found is not None:
        error, _, status = timed(problem.relative_error, *found)
        lowest = float(min(part.min() for part in found))
        if error is not None and not np.isfinite(error):
            status = "failed: not finite"
    return {"relative_error": error, "lowest": lowest, "status": status}


def measure(
    problem: Problem, rank: int, iterations: int, bench: Bench, pace: dict[str, float], names=()
):
    """Rows of all solvers, or of those named: one round over them, and two more over those that are quick.

    pace: seconds for one iteration, component and entry of X in the last run of each solver; it grows here.
    """
    W, H = problem.start(rank, SEED)
    left = [solver for solver in bench.solvers if not names or solver.name in names]
    size = dict(zip(("features", "images"), problem.X.shape, strict=True)) | {
        "rank": rank,
        "iterations": iterations,
    }
    work = rank * iterations * problem.X.size
    for repeat in range(REPEATS):
        quick = []
        for name, package, fit in left:
            row = size | {"solver": name, "package": package, "repeat": repeat}
            if pace.get(name, 0) * work > bench.cap:
                yield row | {"status": f"skipped: would take {pace[name] * work:.0f} s"}
                continue
            found, seconds, status = timed(fit, problem, W, H, iterations)
            yield (
                row
                | {"seconds": seconds if status == "ok" else None}
                | judged(problem, found, status)
            )
            pace[name] = seconds / work
            if status == "ok" and seconds < QUICK:
                quick.append(Solver(name, package, fit))
        left = quick


def curves(bench: Bench) -> Iterator[dict]:
    """Every solver at growing budgets of iterations."""
    for make in bench.size.problems:
        problem, pace = make(), {}
        bench.remarks[problem.name] = problem.remark
        for budget in bench.size.budgets:
            for row in measure(problem, bench.size.rank, budget, bench, pace):
                yield {"problem": problem.name, "budget": budget} | row
        if not torch.cuda.is_available():
            yield {"problem": problem.name} | NO_GPU


def scaling(bench: Bench) -> Iterator[dict]:
    """Images, features and rank, one varied at a time."""
    bench.remarks["planted"] = planted.__doc__
    for ladder, steps in bench.size.ladders.items():
        pace = {}
        for step in steps:
            shape = bench.size.centre | {ladder: step}
            for row in measure(planted(**shape), shape["rank"], ITERATIONS, bench, pace, SCALED):
                yield {"ladder": ladder} | row


def sweep(bench: Bench) -> Iterator[dict]:
    """Many fits of one network: `rank_sweep`, and scikit-learn one fit after the other."""
    problem, (ranks, seeds, iterations) = bench.size.problems[0](), bench.size.sweep
    bench.remarks[problem.name] = problem.remark
    for setting, how in SETTINGS.items():
        yield from swept(
            problem, ranks, seeds, how, {"who": "peeklib auto", "setting": setting, "network": 0}
        )
    for solver in bench.solvers:
        if solver.name == "scikit-learn cd":
            row, rows = (
                {"who": solver.name, "setting": f"{iterations} iterations", "network": 0},
                [],
            )
            for rank, seed in product(ranks, seeds):
                found, seconds, status = timed(
                    solver.fit, problem, *problem.start(rank, seed), iterations
                )
                fit = {"rank": rank, "seed": seed, "seconds": seconds} | judged(
                    problem, found, status
                )
                rows.append(fit)
                yield row | fit
            status = next((fit["status"] for fit in rows if fit["status"] != "ok"), "ok")
            yield row | {"seconds": sum(fit["seconds"] for fit in rows), "status": status}
    if not torch.cuda.is_available():
        yield {"who": NO_GPU["solver"], "status": NO_GPU["status"]}
        return
    for (setting, how), network in product(SETTINGS.items(), range(NETWORKS)):
        row = {"who": NO_GPU["solver"], "setting": setting, "network": network}
        yield from swept(problem, ranks, seeds, how, row, device="cuda")


def swept(
    problem: Problem, ranks, seeds, how: dict, row: dict, device: str = "cpu"
) -> Iterator[dict]:
    """Fits of one `rank_sweep`, which share its time by rank; then, without rank and seed, the whole call."""
    blocks = {
        name: block.clone() for name, block in problem.data.blocks.items()
    }  # as if of one more network
    found, seconds, status = timed(
        lambda: pk.rank_sweep(blocks, ranks, seeds, solver="auto", device=device, **how)
    )
    for (rank, seed), fit in found.fits.items() if found else ():
        yield (
            row
            | {"rank": rank, "seed": seed, "seconds": fit.seconds}
            | judged(problem, factors(fit), status)
        )
    yield row | {"seconds": seconds, "status": status}


STUDIES = {"curves": curves, "sweep": sweep, "scaling": scaling}
DATA = {"curves": ("mnist", "cifar10"), "sweep": ("mnist",), "scaling": ()}


def machine() -> dict:
    """What it runs on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    memory = (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    )
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": f"{memory / 2**30:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def sidecar(arguments: argparse.Namespace, bench: Bench, done: list[str], seconds: float) -> dict:
    """How the tables were made."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    used = {solver.package for solver in bench.solvers}
    used |= {need for peer in peers.PEERS if peer.package in used for need in peer.needs}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    versions["scikit-learn"] = metadata.version("scikit-learn")
    return {
        "command": " ".join(["python benchmarks/run.py", *sys.argv[1:]]),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "studies": done,
        "machine": machine(),
        "versions": versions | dict(sorted(package.split("==") for package in used)),
        "threads": arguments.threads,
        "environment": {name: os.environ.get(name) for name in VARIABLES},
        "cap": arguments.cap,
        "problem": bench.remarks,
        "seconds": round(seconds, 1),
    }


def write(folder: Path, study: str, rows: list[dict]) -> None:
    """One table, whole or not at all."""
    table = pd.DataFrame(rows, columns=COLUMNS[study])
    whole = {
        name: "Int64"
        for name in ("budget", "features", "images", "rank", "repeat", "seed", "network")
        if name in table
    }
    text = table.astype(whole).to_csv(index=False, float_format="%.6g")
    storage.write(folder / f"bench-{study}.csv", text.encode())


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny made-up matrices, for a test of this script"
    )
    parser.add_argument(
        "--headline",
        action="store_true",
        help="in five minutes: MNIST only, beside scikit-learn's coordinate descent, and 25 fits",
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write to; default peeklib/course/evidence"
    )
    parser.add_argument(
        "--only", nargs="+", choices=STUDIES, default=list(STUDIES), help="studies; default: all"
    )
    parser.add_argument(
        "--peers", nargs="+", default=[""], help="beginnings of names of peers; default: all"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="default: one for each core"
    )
    parser.add_argument(
        "--cap", type=float, default=25, help="seconds that one run may take; default 25"
    )
    arguments = parser.parse_args()
    if (arguments.quick or arguments.headline) and not arguments.out:
        parser.error("--quick and --headline need --out: their numbers are no evidence")
    if arguments.headline:
        arguments.only, arguments.peers = ["curves", "sweep"], ["scikit-learn cd"]
    arguments.out = arguments.out or ROOT / "peeklib/course/evidence"
    return arguments


def settle_threads(threads: int) -> None:
    """Start over with the number of threads in the environment, which libraries read when they are loaded."""
    wanted = dict.fromkeys(VARIABLES, str(threads))
    if wanted.items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    torch.set_num_threads(threads)


def main() -> None:
    began, arguments = time.perf_counter(), options()
    settle_threads(arguments.threads)
    for name in (
        {name for study in arguments.only for name in DATA[study]} if not arguments.quick else ()
    ):
        load(name)
    arguments.out.mkdir(parents=True, exist_ok=True)
    solvers, rows = gather(arguments.peers, INSTALLED)
    write(arguments.out, "peers", rows)
    size = HEADLINE if arguments.headline else FULL
    bench, done = Bench(SMALL if arguments.quick else size, solvers, arguments.cap), []
    for study in arguments.only:
        rows = []
        for row in STUDIES[study](bench):
            rows.append(row)
            print(
                study,
                *(f"{v:.4g}" if isinstance(v, float) else v for v in row.values()),
                flush=True,
            )
        write(arguments.out, study, rows)
        done.append(study)
        how = sidecar(arguments, bench, done, time.perf_counter() - began)
        said = json.dumps(how, indent=1, ensure_ascii=False) + "\n"
        storage.write(arguments.out / "bench.json", said.encode())


if __name__ == "__main__":
    main()
