"""Train every network of `peeklib.course.zoo`, score it, write the table `zoo` of evidence.

`make zoo`. Every network is a file of its own in _build/zoo, written whole or not at all: killed at
any moment and started again, it goes on where it was and trains nothing twice. Scores are files
too, made anew when the code that computes them has changed; networks are not: after a change of how
they are trained, delete that folder.

Networks are trained in processes of their own, which end with this one, however it ends.
"""

import fcntl
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path

import evidence
import pandas as pd
import torch

import peeklib as pk
from peeklib import storage, zoo
from peeklib.course.fingerprint import fingerprint
from peeklib.solvers import all_or_nothing

KEPT = Path(__file__).resolve().parent.parent / "_build" / "zoo"
SCORING = (
    "peeklib.study.scores.table",
    "peeklib.course.zoo.build",
    "peeklib.course.zoo.probe_images",
)
CODE = fingerprint(*SCORING)[:12]


@contextmanager
def alone() -> Iterator[None]:
    """Two runs at once would train every network twice. Of one that was killed no lock is left."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another `make zoo` is at work in {KEPT}; wait for its end, or stop it.")
        yield


def trained(recipe: zoo.Recipe) -> Path:
    """The file of a network: its weights, what labels say of it, what code made it and how long."""
    path = KEPT / f"{recipe.name}.pt"
    if not path.exists():
        started = time.perf_counter()
        model, facts = zoo.rear(recipe)
        facts |= {"commit": evidence.commit(), "seconds": time.perf_counter() - started}
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        content = io.BytesIO()
        torch.save({"facts": facts, "weights": weights}, content)
        write(path, content.getvalue())
    return path


def write(path: Path, content: bytes) -> None:
    """A file, whole or not at all, and the folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(path, content)


def everywhere(task: Callable, recipes: list[zoo.Recipe], title: str) -> list:
    """`task` of every recipe, one process and one thread for each core; in order."""
    results = {}
    started = time.perf_counter()
    workers = 1 if torch.cuda.is_available() else os.cpu_count()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), begin_worker)
    try:
        jobs = {pool.submit(task, recipe): recipe for recipe in recipes}
        for done in as_completed(jobs):
            recipe = jobs[done]
            results[recipe] = done.result()
            seconds = time.perf_counter() - started
            count = f"{len(results)} of {len(recipes)}"
            print(f"{title}: {count}, {seconds:.0f} s, {recipe.name}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return [results[recipe] for recipe in recipes]


def begin_worker() -> None:
    """What each process does first: one thread, and an end at Ctrl-C or when its parent is gone."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and follow it."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


@all_or_nothing()
def scored(recipe: zoo.Recipe) -> dict:
    """The row of a network in the table: recipe, what labels say, and every score."""
    path = KEPT / CODE / f"{recipe.name}.json"
    if not path.exists():
        kept = torch.load(trained(recipe), weights_only=True)
        model = zoo.build(recipe)
        model.load_state_dict(kept["weights"])
        started = time.perf_counter()
        seen = pk.scores.observe(model, zoo.probe_images(recipe.data))
        row = {**asdict(recipe), "half": recipe.half, **kept["facts"]}
        for name, score in pk.scores.SCORES.items():  # one that fails stops the run
            row[name] = score(seen)
        row["score_seconds"] = time.perf_counter() - started
        write(path, json.dumps(row).encode())
    return json.loads(path.read_text())


def main() -> None:
    """Train, score, write the table and how it was made."""
    recipes = zoo.recipes()
    with alone():
        everywhere(trained, recipes, "trained")
        rows = everywhere(scored, recipes, "scored")
    table = pd.DataFrame(rows).drop(columns="commit")
    training = sum(row["seconds"] for row in rows)
    scoring = sum(row["score_seconds"] for row in rows)
    how = evidence.sidecar("zoo", evidence.commit(), table, training + scoring)
    how |= {
        "command": "make zoo",
        "trained at": sorted({row["commit"] for row in rows}),
        "fit": {"ranks": pk.scores.RANKS, **pk.scores.FIT},
        "device": f"cpu, one thread for each network, {os.cpu_count()} at a time",
        "minutes": {
            "training, one core": round(training / 60, 1),
            "scoring, one core": round(scoring / 60, 1),
        },
    }
    evidence.keep("zoo", table, how)


if __name__ == "__main__":
    main()
