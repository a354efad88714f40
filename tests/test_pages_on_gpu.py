"""All notebooks, in their small version, where there is a GPU: a simulated one. `make devices` runs this."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem[:2])
def test_no_cell_mixes_devices(page):
    """Each in a process of its own, every cell to its end."""
    told = os.environ | {"PEEK_PROFILE": "embedded", "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, ROOT / "tests/simulated.py", page]
    done = subprocess.run(command, capture_output=True, text=True, env=told)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 0, "\n".join(failed) or done.stderr
