"""Scripts that run as in a new interpreter, where nothing of ours is loaded and nothing is settled yet.

A new interpreter takes seconds to import PyTorch. So one does that, once, and each script runs in a copy of it.
"""

import json
import os
import subprocess
import sys

SERVER = """
import json, os, sys, torch

def run(told):
    for number, path in enumerate((os.devnull, told["out"], told["err"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.path[:], sys.argv[1:] = told["path"], told["arguments"]
    exec(compile(told["code"], "<script>", "exec"), {"__name__": "__main__"})

for line in sys.stdin:
    copy = os.fork()
    if not copy:
        run(json.loads(line))
        break
    _, status = os.waitpid(copy, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
SETTLED = {
    "OMP_NUM_THREADS": "1",
    # what is freed goes back at once: a measure of memory finds no room that an earlier one left
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_MMAP_THRESHOLD_": "65536",
}


class Interpreter:
    """One that has imported PyTorch and nothing else, and runs scripts in copies of itself."""

    def __init__(self, folder):
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | SETTLED,
        )

    def __call__(self, code, *arguments, path=(), folder=".", **environment):
        """Run `code`, with more folders to import from and more variables; what it wrote, and how it ended."""
        out, err = self.folder / "out", self.folder / "err"
        out.write_text("")
        err.write_text("")
        told = {
            "code": code,
            "arguments": list(map(str, arguments)),
            "path": [*map(str, path), *filter(None, sys.path)],
            "folder": os.path.abspath(folder),
            "environment": os.environ | SETTLED | environment,
            "out": str(out),
            "err": str(err),
        }
        self.server.stdin.write(json.dumps(told) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        return subprocess.CompletedProcess(code, status, out.read_text(), err.read_text())

    def close(self):
        self.server.communicate()
