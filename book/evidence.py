"""Heavy evidence: many networks, trained and factorized, as small tidy tables in book/evidence.

`python book/evidence.py [study …]` (`make evidence`) runs the studies named, or all of them. A study writes
`<study>.csv`, one row for each fit, in which what describes the network repeats over its ranks; and
`<study>.json`, which says how the table was made.
"""

import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import pad

import peeklib as pk

HERE = Path(__file__).resolve().parent / "evidence"
FIT = {"solver": "auto", "max_iter": 60, "tol": 1e-3}
CLASSES = {"{0}": [0], "{0–4}": range(5), "{5–9}": range(5, 10)}
RECIPES = {"paper": {"lr": 0.01, "momentum": 0.5}, "tuned": {"lr": 0.02, "momentum": 0.9}}


@functools.cache
def load(name: str) -> pk.Dataset:
    """A data set, read once."""
    return pk.load_dataset(name)


def measure(which: dict, model, part: pk.Split | None, test: pk.Split, *, ranks, seed: int, **recipe) -> Iterator[dict]:
    """Train `model` on `part`, if any, and factorize what it makes of `test`: one row for each rank."""
    if part is not None:
        pk.train(model, *part, seed=seed, **recipe)
    blocks = pk.input_blocks(test.images) | pk.record(model, test.images)
    facts = {"accuracy": pk.accuracy(model, *test)}
    for label in test.labels.unique().tolist():
        chosen = test.labels == label
        facts[f"recall of {label}"] = pk.accuracy(model, test.images[chosen], test.labels[chosen])
    for name, block in blocks.items():  # a network can die: all its activations are zero then
        facts[f"entropy rank of {name}"] = pk.effective_rank(block) if block.any() else float("nan")
    table = pk.rank_sweep(blocks, ranks, [seed], **FIT).table().drop(columns=["seed", "seconds"])
    for row in table.to_dict("records"):
        yield {**which, "seed": seed, **row, **facts}


def shuffled_test(data: pk.Dataset, count: int) -> pk.Split:
    """`count` test images drawn with one seed: files sorted by class would give a few classes only."""
    chosen = torch.randperm(len(data.test.labels), generator=torch.Generator().manual_seed(0))[:count]
    return pk.Split(data.test.images[chosen], data.test.labels[chosen])


def alexnet(seeds=range(3)) -> Iterator[dict]:
    """Case Study I on the deeper network: four fractions, both data sets, 5,000 test images."""
    for seed in seeds:
        for name, recipe in (("cifar10", "tuned"), ("mnist", "tuned"), ("cifar10", "paper")):
            data = load(name)
            border = [2 if name == "mnist" else 0] * 4  # 28×28 to 32×32
            images, labels = shuffled_test(data, 5_000)
            for fraction in (0.25, 0.5, 0.75, 1.0):
                part = pk.subset(data, fraction=fraction, seed=seed)
                yield from measure(
                    {"data": name, "recipe": recipe, "fraction": fraction},
                    pk.models.CifarAlexNet(images.shape[1], seed=seed),
                    pk.Split(pad(part.images, border), part.labels),
                    pk.Split(pad(images, border), labels),
                    ranks=(10, 20, 30, 40, 50),
                    seed=seed,
                    **RECIPES[recipe],
                )


def orders(seeds=range(3)) -> Iterator[dict]:
    """Case Study III: classes one after the other, in eleven orders; and 9 first at other learning rates."""
    data = load("mnist")
    rotations = [[(first + step) % 10 for step in range(10)] for first in range(10)]
    runs = [(order, 0.01) for order in [*rotations, rotations[0][::-1]]]
    runs += [(rotations[9], lr) for lr in (0.0001, 0.001, 0.1)]
    for seed in seeds:
        for order, lr in runs:
            yield from measure(
                {"order": "".join(map(str, order)), "lr": lr},
                pk.models.PaperCNN(seed=seed),
                pk.subset(data, order=order),
                data.test,
                ranks=(10, 30),
                seed=seed,
                shuffle=False,
                lr=lr,
            )


def cases(seeds=range(5)) -> Iterator[dict]:
    """All networks of the three case studies on MNIST, and one that is not trained: what the headline is judged by."""
    data = load("mnist")
    runs = [("data", f"{fraction:.0%}", {"fraction": fraction}) for fraction in (0.25, 0.5, 0.75, 1.0)]
    runs += [("classes", name, {"classes": chosen}) for name, chosen in CLASSES.items()]
    runs += [("order", "9 first", {"order": [9, *range(9)]}), ("untrained", "none", {})]
    for seed in seeds:
        for study, setting, part in runs:
            yield from measure(
                {"study": study, "setting": setting},
                pk.models.PaperCNN(seed=seed),
                None if study == "untrained" else pk.subset(data, seed=seed, **part),
                data.test,
                ranks=(10, 30),
                seed=seed,
                shuffle=study != "order",
            )


STUDIES = {"alexnet": alexnet, "orders": orders, "cases": cases}


def commit() -> str:
    """The code that runs."""
    git = ["git", "-C", str(HERE.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def sidecar(study: str, code: str, table: pd.DataFrame, seconds: float) -> dict:
    """How a table was made."""
    return {
        "command": f"python book/evidence.py {study}",
        "commit": code,
        "seeds": sorted(map(int, table["seed"].unique())),
        "fit": FIT,
        "pins": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "device": "cuda" if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "data": {name: load(name).source for name in (("cifar10", "mnist") if study == "alexnet" else ("mnist",))},
        "date": time.strftime("%Y-%m-%d"),
        "minutes": round(seconds / 60, 1),
    }


def run(study: str) -> None:
    """One study into its two files; a table without its last network stays a `.part`."""
    rows, code, started = [], commit(), time.perf_counter()
    HERE.mkdir(exist_ok=True)
    part = HERE / f"{study}.part"
    for row in STUDIES[study]():
        rows.append(row)
        print(f"{study}: {list(row.values())[:6]} rmse {row['rmse']:.4f}, accuracy {row['accuracy']:.3f}", flush=True)
        table = pd.DataFrame(rows)
        table.to_csv(part, index=False, float_format="%.5g")
    how = sidecar(study, code, table, time.perf_counter() - started)
    part.replace(HERE / f"{study}.csv")
    (HERE / f"{study}.json").write_text(json.dumps(how, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(STUDIES)
    if unknown:
        sys.exit(f"no study {sorted(unknown)}; there are {list(STUDIES)}")
    for study in sys.argv[1:] or STUDIES:
        run(study)
