"""The fused sweep: as on the CPU, on a GPU or in Triton's interpreter; and compiled for GPUs that are not here."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import peeklib
from peeklib import solvers

triton = pytest.importorskip("triton", reason="Triton is not installed")
NEW_TRITON = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9)

COMPARED = """
import sys
import torch
from peeklib import gpu, solvers

device = sys.argv[1]
draw = torch.Generator().manual_seed(0)
for dtype, close, ranks in (
    (torch.float32, 1e-5, (2,)),
    (torch.float64, 1e-12, (5, 16, 3)),
    (torch.float32, 1e-5, (17, 2)),
):
    ends, n = torch.tensor([0, *ranks]).cumsum(0).tolist(), 45
    rows = [slice(a, b) for a, b in zip(ends, ends[1:])]
    W = torch.rand(ends[-1], 30, generator=draw, dtype=dtype)
    X = torch.rand(30, n, generator=draw, dtype=dtype) - 0.5
    W[-1] = 0  # a component without a partner
    B, G = W @ X, torch.block_diag(*(W[fit] @ W[fit].T for fit in rows))
    wide = torch.rand(ends[-1], n + 5, generator=draw, dtype=dtype)  # with something beside V in memory
    expected = wide[:, :n].clone()
    solvers.hals_update(expected, B, G, rows, 2)
    wide, B, G = wide.to(device), B.to(device), G.to(device)
    V, beside = wide[:, :n], wide[:, n:].clone()
    assert gpu.takes(V, rows) and not gpu.takes(V, [slice(0, 129)])
    turned = V.T.clone().T  # column-major
    gpu.sweep(turned, B.T.contiguous().T, G, rows, 2)
    gpu.sweep(V, B, G, rows, 2)
    assert torch.equal(turned, V)
    assert (V >= 0).all() and (V == 0).any() and torch.equal(wide[:, n:], beside)
    apart = (V.cpu() - expected).abs().max()
    assert apart <= close * expected.max(), (dtype, ranks, apart)
print("equal")
"""


def test_the_kernel_does_what_the_cpu_does(fresh):
    """In a process of its own, as Triton's interpreter must be chosen before Triton is imported.

    Where no GPU is: the interpreter of Triton 3.6 stops with NumPy 2.4 or later, the one of 3.9 does not.
    """
    device, how = ("cuda", "0") if torch.cuda.is_available() else ("cpu", "1")
    done = fresh(COMPARED, device, TRITON_INTERPRET=how)
    assert done.stdout == "equal\n", done.stderr


T4, H200 = 75, 90
HIGHEST = [("fp32", 128, H200), ("fp64", 64, H200), ("fp32", 64, T4)]  # 128 takes eight seconds
LOWER = [("fp32", 128, T4), ("fp64", 64, T4), ("fp32", 64, H200), ("fp32", 32, T4)]


@pytest.mark.parametrize(
    ("number", "height", "capability"),
    [*HIGHEST, *(pytest.param(*one, marks=pytest.mark.slow) for one in LOWER)],
)
def test_the_kernel_compiles_and_stays_in_its_registers(
    number, height, capability, tmp_path, monkeypatch
):
    """Were a column kept in memory, all of it would be read for each of its rows: the stack would be its size or more.

    Triton 3.9 needs no stack. Triton 3.6 puts up to a quarter of the highest columns there.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from peeklib import gpu

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"RANK": height, "TILE": gpu.TILE, "PART": gpu.PART}
    kinds = dict.fromkeys("VBG", f"*{number}") | {"fits": "*i32"}
    signature = {
        name: kinds.get(name, "i32") for name in gpu._sweep_tile.arg_names if name not in constants
    }
    if "constexprs" in inspect.signature(ASTSource).parameters:
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(fn=gpu._sweep_tile, signature=signature, constexprs=constants)
    else:  # before Triton 3.3
        source = ASTSource(fn=gpu._sweep_tile, signature=signature, constants=constants)
    options = {"num_warps": 1, "enable_fp_fusion": True}
    done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert "shfl" not in done.asm["ptx"]  # a thread has a whole column: nothing to ask the others
    (tmp_path / "cubin").write_bytes(done.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run(
        [tool, "-res-usage", tmp_path / "cubin"], capture_output=True, text=True, check=True
    ).stdout
    used = {name: int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("STACK", "LOCAL")}
    column = height * (4 if number == "fp32" else 8)  # bytes
    assert used["LOCAL"] == 0
    assert used["STACK"] <= (0 if NEW_TRITON else column // 4)


def test_without_triton_there_is_no_fused_sweep(monkeypatch):
    for name in ("triton", "peeklib.gpu"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(peeklib, "gpu", raising=False)
    assert solvers._gpu.__wrapped__() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
def test_the_kernel_on_a_gpu():
    W, X, V = torch.rand(50, 300), torch.rand(300, 1000), torch.rand(50, 1000)
    expected, rows = V.clone(), [slice(0, 20), slice(20, 50)]
    solvers.hals_update(expected, W @ X, W @ W.T, rows)
    V = V.cuda()
    solvers.hals_update(V, (W @ X).cuda(), (W @ W.T).cuda(), rows)
    torch.testing.assert_close(V.cpu(), expected, rtol=1e-3, atol=1e-4)
