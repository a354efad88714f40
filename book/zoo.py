"""The zoo: train every network of `peeklib.zoo`, score each without labels, write book/evidence/zoo.csv.

`make zoo`. Every network is a file of its own in _build/zoo, written whole or not at all: killed at any moment and
started again, it goes on where it was and trains nothing twice. Scores are files too, made anew when the code that
computes them has changed.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from evidence import commit

from peeklib import zoo

KEPT = Path(__file__).resolve().parent.parent / "_build" / "zoo"


def trained(recipe: zoo.Recipe) -> Path:
    """The file of a network: its weights, what labels say of it, and the code and seconds that made it."""
    path = KEPT / f"{recipe.name}.pt"
    if not path.exists():
        started = time.perf_counter()
        model, facts = zoo.rear(recipe)
        facts |= {"commit": commit(), "seconds": time.perf_counter() - started}
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        write(path, lambda part: torch.save({"facts": facts, "weights": weights}, part))
    return path


def write(path: Path, save: Callable[[Path], None]) -> None:
    """Save under another name first: a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    save(part)
    part.replace(path)


def everywhere(task: Callable, recipes: list[zoo.Recipe], title: str) -> list:
    """`task` of every recipe, one process and one thread for each core; in order."""
    results, started = {}, time.perf_counter()
    workers = 1 if torch.cuda.is_available() else os.cpu_count()
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        jobs = {pool.submit(task, recipe): recipe for recipe in recipes}
        for done in as_completed(jobs):
            results[jobs[done]] = done.result()
            print(
                f"{title}: {len(results)} of {len(recipes)}, {time.perf_counter() - started:.0f} s, {jobs[done].name}",
                flush=True,
            )
    return [results[recipe] for recipe in recipes]


if __name__ == "__main__":
    everywhere(trained, zoo.recipes(), "trained")
    sys.exit()
