"""What a GPU makes of the project: tests, chapters and timings there, as small tables. `benchmarks/gpu.sh` starts it.

It writes into one folder

    gpu.csv            a row for each measurement: what, where it ran and where its data was, seconds, errors
    gpu-chapters.csv   a row for each chapter: profile, seconds, status ("ok", "failed", "not run": no time was left for
                       all of it), how many cells failed, and their errors
    gpu-tests.csv      a row for each file of tests: counts; and one for each test that failed
    gpu.json           card, driver, versions, data, commit, date, and how each part ended
    gpu.log            what all parts printed

The exit status is 1 if anything failed, a part broke off, or nothing at all was measured; parts and chapters for which no
time was left are no failures.

The tables but the tests' are evidence: copied into peeklib/course/evidence, chapter 8 draws `gpu`.

Parts are processes of their own with a time-out each, in the order of their worth: one that fails or hangs costs only
itself, and rows are written as they come. Seconds are of the whole call, after one call that loads and compiles, with
the GPU's queue empty at both ends.
"""

import argparse
import csv
import gzip
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import product
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
KERNEL = ("gpu", "devices")
TESTS = (
    "nmf",
    "cache",
    "explorer",
    "tensors",
    "training",
    "scores",
    "directions",
    "spectra",
)  # which take a GPU by default
FIRST = "12", "13", "15"  # the chapters that mixed devices once
AT_ONCE = 4  # chapters
SETTINGS = {  # of a sweep, as in run.py
    "60 iterations at most, tolerance 1e-3": {"max_iter": 60, "tol": 1e-3},
    "defaults: 200 iterations at most, tolerance 1e-4": {},
}
COLUMNS = {
    "gpu": "what device data setting repeats median min max relative_error error_difference accuracy peak_MB status".split(),
    "gpu-chapters": "chapter profile seconds status cells failed error".split(),
    "gpu-tests": "file passed failed skipped seconds error".split(),
}
LATE = "stopped after", "no time was left"  # how a part ends that had too little time
LEAST = 30  # seconds that a chapter takes; it is not begun with fewer left
LIMITS = {
    "kernel": 90,
    "timings": 235,
    "chapters": 120,
    "tests": 120,
    "rest": 200,
}  # seconds of each part


# Timings


def synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def timed(call: Callable, device: str, repeats: int, most: float) -> tuple[list[float], object]:
    """Seconds of each repeat, as many as begin within `most` seconds, and what the last one gave."""
    seconds, found = [], None
    while len(seconds) < repeats and sum(seconds) < most:
        synchronize(device)
        began = time.perf_counter()
        found = call()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds, found


class Table:
    """Rows of gpu.csv, each printed at once as a line of JSON."""

    def __init__(self, device: str):
        self.device = device

    def measure(
        self,
        what: str,
        call: Callable,
        *,
        repeats=5,
        more: Callable | None = None,
        device=None,
        **row,
    ):
        """Time a call and add a row, with what `more(result)` says; gives the result, or None if it failed."""
        device, most = device or self.device, 20 if device == "cuda" else 6
        row = {"what": what, "device": device} | row
        try:
            if device == "cuda":
                call()  # compiles, and loads what it needs
            forget_peak(device)
            seconds, found = timed(call, device, repeats, most)
            row |= {
                "repeats": len(seconds),
                "median": median(seconds),
                "min": min(seconds),
                "max": max(seconds),
            }
            row |= {"peak_MB": peak(device), "status": "ok"} | (more(found) if more else {})
        except Exception as why:  # one measurement that fails is a row that says so
            found, row = (
                None,
                row | {"status": f"{type(why).__name__}: {' '.join(str(why).split())}"[:300]},
            )
        print("ROW", json.dumps(row), flush=True)
        return found


def forget_peak(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float | None:
    """Most memory of the GPU that tensors took since `forget_peak`, in MB."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 1e6, 1) if device == "cuda" else None


def timings(device: str, quick: bool) -> None:
    """Training, recording, single fits, sweeps of many fits; each on `device` and on the CPU, with errors compared."""
    import torch

    import peeklib as pk

    table, data = Table(device), pk.load_dataset("mnist", fallback=True)
    images, labels = (part[: 640 if quick else None] for part in data.train)
    shown = data.test.images[: 300 if quick else None]
    print("FACT", json.dumps({"data": data.source, "stand_in_for": data.stand_in_for}), flush=True)
    print("FACT", json.dumps({"threads": torch.get_num_threads()}), flush=True)
    where = dict.fromkeys((device, "cpu"))  # in this order, once each
    model = {name: _training(table, name, images, labels, data.test) for name in where}[device]
    model = model or pk.models.PaperCNN(seed=0)
    seen = {name: _recording(table, name, model, shown) for name in where}
    blocks = pk.input_blocks(shown) | pk.record(model.cpu(), shown)
    if device != "cpu" and seen[device]:
        differ = {
            name: float((block - blocks[name]).norm() / block.norm())
            for name, block in seen[device].items()
        }
        note(
            what="activations",
            device=f"{device} against cpu",
            error_difference=max(differ.values()),
        )
    small = {name: block[:, :100] for name, block in blocks.items()}
    for name in where:
        pk.rank_sweep(small, [2, 3], [0, 1], device=name, max_iter=8)
    for dtype, most in (
        (torch.float32, 50),
        (torch.float64, 64),
    ):  # the second is as high as the kernel takes
        _kernel(table, device, dtype, *(3, 50) if quick else (most, 10_000))
    _fits(table, blocks, where, (2, 3) if quick else (10, 30, 50))
    _sweeps(table, blocks, where, *((2, 3), (0, 1)) if quick else (range(5, 51, 5), range(10)))


def note(status: str = "ok", **row) -> None:
    """A row of gpu.csv that is no time."""
    print("ROW", json.dumps(row | {"status": status}), flush=True)


def _recording(table: Table, device: str, model, images):
    import peeklib as pk

    model.to(device)
    return table.measure(
        "record", lambda: pk.record(model, images), device=device, data="cpu", repeats=3
    )


def _training(table: Table, device: str, images, labels, test):
    """The network of chapter 1 after one epoch."""
    import peeklib as pk

    pk.train(pk.models.PaperCNN(seed=0), images[:128], labels[:128], seed=0, device=device)
    return table.measure(
        "train one epoch",
        lambda: pk.train(pk.models.PaperCNN(seed=0), images, labels, seed=0, device=device).model,
        more=lambda model: {"accuracy": pk.accuracy(model, *test)},
        repeats=3,
        device=device,
        data="cpu",
        setting=f"{len(images)} images",
    )


def _fits(table: Table, blocks, where, ranks) -> None:
    """Single fits, with the data on the CPU and, on a GPU, there too."""
    for rank, solver in product(ranks, ("auto", "mu")):
        errors = {}
        for device, data in product(where, where):
            if device != "cpu" or data == "cpu":
                here = {name: block.to(data) for name, block in blocks.items()}
                errors[device] = _fit(table, here, rank, solver, device, data)
        for device, error in errors.items():
            if device != "cpu" and error and errors["cpu"]:
                apart = {"setting": solver, "error_difference": error / errors["cpu"] - 1}
                note(what=f"errors of rank {rank}", device=f"{device} against cpu", **apart)


def _fit(table: Table, blocks, rank: int, solver: str, device: str, data: str) -> float | None:
    import peeklib as pk

    how = {"max_iter": 60, "tol": 0} if solver == "mu" else {}
    fit = table.measure(
        f"fit rank {rank}",
        lambda: pk.coupled_nmf(blocks, rank, solver=solver, device=device, **how),
        more=lambda fit: {"relative_error": fit.relative_error},
        device=device,
        data=data,
        setting=f"{solver}, {'60 iterations' if how else 'defaults'}",
    )
    return fit.relative_error if fit else None


def _sweeps(table: Table, blocks, where, ranks, seeds) -> None:
    """The longest comes last."""
    what, found = f"sweep of {len(ranks) * len(seeds)} fits", {}
    for device, setting in product(where, SETTINGS):
        found[device, setting] = _sweep(table, blocks, ranks, seeds, device, what, setting)
        mine, other = (found.get((name, setting)) for name in (next(iter(where)), "cpu"))
        if device == "cpu" and len(where) > 1 and mine and other:
            mine, other = (
                one.table().set_index(["rank", "seed"]).relative_error for one in (mine, other)
            )
            apart = {"setting": setting, "error_difference": float((mine / other - 1).abs().max())}
            note(
                what=f"errors of the {what}, largest difference",
                device=f"{next(iter(where))} against cpu",
                **apart,
            )


def _sweep(table: Table, blocks, ranks, seeds, device: str, what: str, setting: str):
    import peeklib as pk

    return table.measure(
        what,
        lambda: pk.rank_sweep(blocks, ranks, seeds, device=device, **SETTINGS[setting]),
        more=lambda sweep: {"relative_error": float(sweep.table().relative_error.mean())},
        device=device,
        data="cpu",
        setting=setting,
    )


def _kernel(table: Table, device: str, dtype, rank: int, images: int) -> None:
    """Both ways of a sweep of HALS on the device: the fused kernel, and row by row."""
    import torch

    from peeklib import solvers

    draw = torch.Generator().manual_seed(0)
    W, V, B = (
        torch.rand(rank, n, generator=draw, dtype=dtype).to(device) for n in (300, images, images)
    )
    G, rows, results = W @ W.T, [slice(0, rank)], {}
    number = str(dtype).removeprefix("torch.")
    fused = solvers._gpu
    try:
        for way in ("fused kernel", "row by row"):
            if way == "row by row":
                solvers._gpu = lambda: None
            elif device != "cuda" or not (solvers._gpu() and solvers._gpu().takes(V, rows)):
                note(what="HALS, 2 sweeps", setting=f"{way}, {number}", status="not run")
                continue
            call = {
                "repeats": 20,
                "data": device,
                "setting": f"{way}, {number}, rank {rank}, {images} images",
            }
            results[way] = V.clone()
            solvers.hals_update(results[way], B, G, rows)
            table.measure(
                "HALS, 2 sweeps", lambda: solvers.hals_update(V.clone(), B, G, rows), **call
            )
    finally:
        solvers._gpu = fused
    if len(results) == 2:
        one, other = results.values()
        apart = float((one - other).abs().max() / other.max())
        note(
            what="HALS, fused against row by row",
            device=device,
            setting=number,
            error_difference=apart,
        )


# Chapters


def chapter(notebook: Path, seconds: float) -> None:
    """Run a notebook to its end whatever fails, in a kernel or, where none can be had, here."""
    import nbformat

    book = nbformat.read(notebook, as_version=4)
    cells, began = [cell for cell in book.cells if cell.cell_type == "code"], time.perf_counter()
    try:
        errors, late = in_kernel(book, notebook.parent, seconds)
        way = "kernel"
    except Exception as why:  # no kernel or no sockets
        print(f"no kernel: {type(why).__name__}: {why}")
        errors, late, way = in_here(cells, notebook.parent), "", "this process"
    status = "failed" if errors else "not run" if late else "ok"
    row = {"chapter": notebook.stem, "profile": f"{os.environ['PEEK_PROFILE']}, {way}"}
    row |= {"seconds": round(time.perf_counter() - began, 1), "status": status, "cells": len(cells)}
    row |= {"failed": len(errors), "error": " | ".join([*errors, late] if late else errors)[:600]}
    print("ROW", json.dumps(row), flush=True)


def in_kernel(book, folder: Path, seconds: float) -> tuple[list[str], str]:
    """The errors of all cells, and that time ran out if it did. What cells say on stderr, warnings above all, is printed.

    A kernel that dies on the way is an error as well; one that does not start raises.
    """
    import nbclient

    end, late = time.monotonic() + seconds, ""
    errors, begun = [], []
    how = {
        "kernel_name": "python3",
        "allow_errors": True,
        "timeout_func": lambda cell: max(1, end - time.monotonic()),
    }
    how["on_notebook_start"] = lambda notebook: begun.append(notebook)
    try:
        nbclient.NotebookClient(book, **how).execute(cwd=str(folder))
    except nbclient.exceptions.CellTimeoutError:
        late = f"stopped after {seconds:.0f} s"
    except Exception as why:
        if not begun:
            raise
        errors.append(f"in the kernel: {type(why).__name__}: {why}")
    for number, cell in enumerate(cell for cell in book.cells if cell.cell_type == "code"):
        for out in cell.outputs:
            if out.output_type == "stream" and out.name == "stderr":
                print(f"code cell {number} says: {out.text}")
            if out.output_type == "error" and not (late and out.ename == "KeyboardInterrupt"):
                errors.append(said(number, cell, out.ename, out.evalue))
    return errors, late


def in_here(cells, folder: Path) -> list[str]:
    from IPython.core.interactiveshell import InteractiveShell

    os.chdir(folder)
    shell, errors = InteractiveShell.instance(), []
    for number, cell in enumerate(cells):
        done = shell.run_cell(cell.source)
        if why := done.error_before_exec or done.error_in_exec:
            errors.append(said(number, cell, type(why).__name__, str(why)))
    return errors


def said(number: int, cell, kind: str, words: str) -> str:
    first = next((line for line in cell.source.splitlines() if line.strip()), "")
    return f"code cell {number} ({first[:50]}): {kind}: {' '.join(words.split())[:200]}"


# The parts, from outside


class Run:
    """One run of the script: where it writes, how long it has, and what it has found so far."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.began = options, time.monotonic()
        self.rows = {name: [] for name in COLUMNS}
        self.broken = []  # how processes ended that ended badly
        self.facts = {"command": "benchmarks/gpu.sh", "parts": {}} | facts()
        self.scratch = Path(tempfile.mkdtemp())
        self.env = dict(os.environ) | {
            "PEEK_CACHE": str(self.scratch / "cache"),
            "TQDM_DISABLE": "1",
        }
        self.env["PYTHONUNBUFFERED"] = "1"
        self.env["MPLBACKEND"] = "agg"
        if data := data_folder(self.scratch):
            self.env["PEEK_DATA"] = data
        options.out.mkdir(parents=True, exist_ok=True)
        self.log = (options.out / "gpu.log").open("w")

    def left(self) -> float:
        return self.options.seconds - (time.monotonic() - self.began)

    def start(self, command: list, limit: float, table: str, **env: str) -> str:
        """A process, with its rows taken up even if it is stopped; how it ended."""
        limit = min(limit, self.left())
        if limit < 5:
            return "no time was left"
        out, began = self.scratch / f"{time.monotonic_ns()}.out", time.monotonic()
        with out.open("w") as file:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.env | env,
                start_new_session=True,  # so that a kernel goes with it
            )
            try:
                code = process.wait(limit)
                ended = "ok" if not code else f"exit status {code}"
                self.broken += [ended] if code else []
            except subprocess.TimeoutExpired:
                ended = f"stopped after {limit:.0f} s"
            stop(process)
        self.take(out.read_text(errors="replace"), table)
        return f"{ended}, {time.monotonic() - began:.0f} s"

    def take(self, text: str, table: str) -> None:
        self.log.write(text)
        self.log.flush()
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "ROW":
                self.rows[table].append(json.loads(rest))
            elif kind == "FACT":
                self.facts |= json.loads(rest)

    def write(self) -> None:
        """All tables, as they are now."""
        self.facts["seconds"] = round(time.monotonic() - self.began)
        said = json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n"
        put(self.options.out / "gpu.json", said)
        for name, rows in self.rows.items():
            text = io.StringIO()
            table = csv.DictWriter(text, COLUMNS[name])
            table.writeheader()
            table.writerows({key: short(value) for key, value in row.items()} for row in rows)
            put(self.options.out / f"{name}.csv", text.getvalue())


def put(path: Path, text: str) -> None:
    """A file, whole or not at all; this process does without PyTorch, and so without `peeklib.storage`."""
    part = path.with_suffix(".part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def short(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def stop(process: subprocess.Popen) -> None:
    """End the group of a process that this script started, and nothing else."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()


def facts() -> dict:
    """What it runs on."""
    import torch

    seen = torch.cuda.is_available()
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    smi = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(": ")[2]
        for line in info.read_text().splitlines()
        if line.startswith("model name")
    ]
    packages = "torch torchvision triton numpy pandas scikit-learn ipykernel nbclient".split()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": os.environ.get("COMMIT") or said_by(git) or "unknown",
        "gpu": torch.cuda.get_device_name() if seen else None,
        "nvidia-smi": said_by(smi),
        "capability": list(torch.cuda.get_device_capability()) if seen else None,
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), "cuda": torch.version.cuda}
        | {name: version(name) for name in packages},
    }


def said_by(command: list[str]) -> str | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def data_folder(scratch: Path) -> str | None:
    """The folder PEEK_DATA, with its MNIST unpacked elsewhere if its files are there as .gz; None if it names none."""
    given = os.environ.get("PEEK_DATA")
    packed = sorted(Path(given).glob("MNIST/raw/*.gz")) if given else []
    if not packed:
        return str(Path(given).resolve()) if given else None
    (scratch / "data/MNIST/raw").mkdir(parents=True)
    for file in packed:
        with (
            gzip.open(file) as source,
            (scratch / "data/MNIST/raw" / file.stem).open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
    return str(scratch / "data")


def tests(run: Run, names: tuple[str, ...], limit: float) -> str:
    """Files of tests, each to its end; counts by file, and every test that failed."""
    files = [f"tests/test_{name}.py" for name in names if (ROOT / f"tests/test_{name}.py").exists()]
    if not files:
        return "nothing to do"
    workers = min(8, os.cpu_count() or 1)
    spread = ["-n", str(workers)] if version("pytest-xdist") and workers > 2 else []
    result = run.scratch / f"{time.monotonic_ns()}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-ra",
        "-p",
        "no:cacheprovider",
        *spread,
        f"--junitxml={result}",
    ]
    ended = run.start([*command, *files], limit, "gpu-tests")
    counts = {}
    if not result.exists():
        failed = int(not ended.startswith(LATE))
        run.rows["gpu-tests"].append(
            {"file": " ".join(names), "failed": failed, "error": f"{ended}; see gpu.log"}
        )
    for case in ElementTree.parse(result).iter("testcase") if result.exists() else ():
        file = case.get("classname", "").split(".")[-1]
        row = counts.setdefault(
            file, {"file": file, "passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
        )
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        kind = (
            "failed"
            if wrong is not None
            else "skipped"
            if case.find("skipped") is not None
            else "passed"
        )
        row[kind] += 1
        row["seconds"] += float(case.get("time", 0))
        if wrong is not None:
            words = " ".join((wrong.get("message") or wrong.text or "").split())[:400]
            run.rows["gpu-tests"].append(
                {"file": f"{file}::{case.get('name')}", "failed": 1, "error": words}
            )
    run.rows["gpu-tests"] += counts.values()
    return ended


def chapters(run: Run, books: list[Path], limit: float) -> str:
    """Some chapters side by side; a row for each, whatever happens."""
    env = {
        "PEEK_PROFILE": "embedded",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // AT_ONCE)),
    }

    def one(book: Path) -> str:
        row = {"chapter": book.stem, "profile": "embedded", "status": "not run"}
        if min(limit, run.left()) < LEAST:
            run.rows["gpu-chapters"].append(row | {"error": "no time was left"})
            return f"{book.stem[:2]}: no time was left"
        known = len(run.rows["gpu-chapters"])
        command = [sys.executable, __file__, "--part", "chapter", "--chapter", book]
        command += [
            "--seconds",
            max(1, min(limit, run.left()) - 15),
        ]  # to start, and to end in order
        ended = run.start(command, limit, "gpu-chapters", **env)
        if book.stem not in [row["chapter"] for row in run.rows["gpu-chapters"][known:]]:
            row["status"] = "not run" if ended.startswith(LATE) else "failed"
            run.rows["gpu-chapters"].append(row | {"error": ended})
        return f"{book.stem[:2]}: {ended}"

    with ThreadPoolExecutor(AT_ONCE if run.options.device == "cuda" else 1) as pool:
        return "; ".join(pool.map(one, books))


def parts(run: Run) -> dict[str, Callable[[float], str]]:
    """Each part by its name, in order."""
    books = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    first = [book for number in run.options.first for book in books if book.stem[:2] == number]
    rest = [book for book in books if book not in first]
    quick = ["--quick"] if run.options.quick else []
    timing = [sys.executable, __file__, "--part", "timings", "--device", run.options.device, *quick]
    return {
        "kernel": lambda limit: tests(run, KERNEL, limit),
        "timings": lambda limit: run.start(timing, limit, "gpu"),
        "chapters": lambda limit: chapters(run, first[-1:] if run.options.quick else first, limit),
        "tests": lambda limit: tests(run, () if run.options.quick else TESTS, limit),
        "rest": lambda limit: chapters(run, [] if run.options.quick else rest, limit),
    }


def main() -> int:
    options = arguments()
    if options.part == "timings":
        return timings(options.device, options.quick)
    if options.part == "chapter":
        return chapter(options.chapter, options.seconds)
    run = Run(options)
    for name, part in parts(run).items():
        try:
            run.facts["parts"][name] = part(LIMITS[name] * options.patience)
        except Exception as why:  # the other parts run all the same
            run.facts["parts"][name] = f"{type(why).__name__}: {why}"
            run.broken.append(run.facts["parts"][name])
        run.write()
        print(name, run.facts["parts"][name], flush=True)
    shutil.rmtree(run.scratch, ignore_errors=True)
    return summary(run)


def summary(run: Run) -> int:
    """All that was found, in a few lines; 1 if anything failed, or nothing was found."""
    print(f"\n{run.facts['gpu'] or 'no GPU'}; data: {run.facts.get('data', 'not reached')}\n")
    for row in run.rows["gpu"]:
        figure = row.get("median", row.get("error_difference"))
        words = (str(row.get(key, "")) for key in ("what", "device", "data", "setting"))
        print(
            " · ".join(words), f"→ {short(figure)}", row["status"] if row["status"] != "ok" else ""
        )
    for row in run.rows["gpu-chapters"]:
        print(
            f"chapter {row['chapter']}: {row['status']} {row['error']} ({row.get('seconds', '?')} s)"
        )
    for row in run.rows["gpu-tests"]:
        print(" ".join(f"{key} {short(value)}" for key, value in row.items()))
    if not any_found(run.rows):
        print("nothing was measured; see gpu.log")
    return int(bool(run.broken) or any_failed(run.rows) or not any_found(run.rows))


def any_failed(rows: dict[str, list]) -> bool:
    """Whether a measurement, a chapter or a test did."""
    every = rows["gpu-chapters"] + rows["gpu"]
    return any(row["status"] not in ("ok", "not run") for row in every) or any(
        row["failed"] for row in rows["gpu-tests"]
    )


def any_found(rows: dict[str, list]) -> bool:
    """Whether there is a measurement, a chapter or a test that came to its end."""
    every = rows["gpu-chapters"] + rows["gpu"]
    return any(row["status"] == "ok" for row in every) or any(
        row.get("passed") for row in rows["gpu-tests"]
    )


def arguments() -> argparse.Namespace:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_build/gpu", help="folder to write to")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu"
    )
    parser.add_argument("--seconds", type=float, default=440, help="in all; default 440")
    parser.add_argument(
        "--patience", type=float, default=1, help="multiplies the time-out of each part; default 1"
    )
    parser.add_argument(
        "--first",
        nargs="+",
        default=FIRST,
        help=f"chapters before the others; default {' '.join(FIRST)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a little of each part, for a test of this script"
    )
    parser.add_argument("--part", choices=("timings", "chapter"), help=argparse.SUPPRESS)
    parser.add_argument("--chapter", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
