"""The fused sweep: as on the CPU, in Triton's interpreter; and compiled for GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import peeklib
from peeklib import solvers

triton = pytest.importorskip("triton", reason="Triton is not installed")

INTERPRETED = """
import torch
from peeklib import gpu, solvers

draw = torch.Generator().manual_seed(0)
for dtype, close in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
    for ranks in ((2,), (5, 16, 3), (17, 2)):
        ends, n = torch.tensor([0, *ranks]).cumsum(0).tolist(), 45
        rows = [slice(a, b) for a, b in zip(ends, ends[1:])]
        W = torch.rand(ends[-1], 30, generator=draw, dtype=dtype)
        X = torch.rand(30, n, generator=draw, dtype=dtype) - 0.5
        W[-1] = 0  # a component without a partner
        B, G = W @ X, torch.block_diag(*(W[fit] @ W[fit].T for fit in rows))
        wide = torch.rand(ends[-1], n + 5, generator=draw, dtype=dtype)  # with something beside V in memory
        V, beside, expected = wide[:, :n], wide[:, n:].clone(), wide[:, :n].clone()
        solvers.hals_update(expected, B, G, rows, 3)
        assert gpu.takes(V, rows) and not gpu.takes(V, [slice(0, 129)])
        turned = V.T.clone().T  # column-major
        gpu.sweep(turned, B.T.contiguous().T, G, rows, 3)
        gpu.sweep(V, B, G, rows, 3)
        assert torch.equal(turned, V)
        assert (V >= 0).all() and (V == 0).any() and torch.equal(wide[:, n:], beside)
        assert (V - expected).abs().max() <= close * expected.max(), (dtype, ranks, (V - expected).abs().max())
print("equal")
"""


def test_the_kernel_does_what_the_cpu_does():
    """In Triton's interpreter, which must be chosen before Triton is imported."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment)
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("capability", [75, 90], ids=["T4", "H200"])
@pytest.mark.parametrize(("number", "height"), [("fp32", 32), ("fp32", 64), ("fp32", 128), ("fp64", 64)])
def test_the_kernel_compiles_and_stays_in_its_registers(number, height, capability, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from peeklib import gpu

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"RANK": height, "TILE": gpu.TILE, "PART": gpu.PART}
    kinds = dict.fromkeys("VBG", f"*{number}") | {"fits": "*i32"} | dict.fromkeys(constants, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in gpu._sweep_tile.arg_names}
    source = ASTSource(fn=gpu._sweep_tile, signature=signature, constexprs=constants)
    options = {"num_warps": 1, "enable_fp_fusion": True}
    done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert "shfl" not in done.asm["ptx"]  # a thread has a whole column: nothing to ask the others
    (tmp_path / "cubin").write_bytes(done.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run([tool, "-res-usage", tmp_path / "cubin"], capture_output=True, text=True, check=True).stdout
    assert "STACK:0 " in usage and "LOCAL:0 " in usage


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
