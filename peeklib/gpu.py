"""The sweeps of `solvers.hals_update` on a GPU: one launch for all sweeps of all fits, in Triton.

Row after row, a sweep is many small steps, and starting each from Python would cost far more than
the step. But the columns of V do not depend on each other: here each thread keeps one column of one
fit in registers and takes it through all sweeps. Import this module only where Triton is installed;
`solvers.hals_update` does.
"""

import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 32  # columns of a program: one warp, each thread a whole column, so no sum leaves its thread
PART = 16  # rows among which the one that changes is looked for
OPTIONS: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": True}  # of Triton's compiler
WIDEST = {torch.float32: 128, torch.float64: 64}  # ranks whose columns fit into the registers


def takes(V: Tensor, rows: Sequence[slice]) -> bool:
    """Whether the kernel can sweep these fits, on the GPU where V is.

    V: total rank × n; rows: the components of each fit.

    Returns:
        True if each rank fits into the registers and Triton runs there.
    """
    largest = max(own.stop - own.start for own in rows)
    return largest <= WIDEST.get(V.dtype, 0) and _runs(V.device)


@cache
def _runs(device: torch.device) -> bool:
    """Whether the kernel works here, found out on one number.

    Triton also needs a C compiler, and a GPU that it knows.
    """
    one = torch.ones(1, 1, dtype=torch.float32, device=device)
    try:
        sweep(one, one, one, [slice(0, 1)], 1)
    except Exception as error:  # of many kinds, and none is a reason to stop
        text = f"NMF updates row by row, which is slow, as Triton does not run: {error}"
        warnings.warn(text, stacklevel=2)
        return False
    return True


def sweep(V: Tensor, B: Tensor, G: Tensor, rows: Sequence[slice], sweeps: int) -> None:
    """What `solvers.hals_update` does, in place.

    Args:
        V: the factor, total rank × n.
        B: the other factor times the data, total rank × n.
        G: the Gram matrix of the other factor, total rank × total rank.
        rows: the components of each fit.
        sweeps: how often all rows are updated.
    """
    fits = tuple((own.start, own.stop - own.start) for own in rows)
    height = max(32, triton.next_power_of_2(max(rank for _, rank in fits)))
    out, B, G = (A if A.stride(1) == 1 else A.contiguous() for A in (V, B, G))
    grid = triton.cdiv(V.shape[1], TILE), len(rows)
    sizes = V.shape[1], out.stride(0), B.stride(0), G.stride(0), sweeps
    constants: dict[str, Any] = {"RANK": height, "TILE": TILE, "PART": PART}
    with torch.cuda.device_of(V):  # Triton starts on the current one
        _sweep_tile[grid](out, B, G, _table(fits, V.device), *sizes, **constants, **OPTIONS)
    if out is not V:
        V.copy_(out)


@lru_cache(maxsize=16)
def _table(fits: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """First row and rank of each fit, for the kernel; kept from one sweep to the next."""
    return torch.tensor(fits, dtype=torch.int32, device=device)


@triton.jit(do_not_specialize=["n", "V_row", "B_row", "G_row", "sweeps"])
def _sweep_tile(
    V, B, G, fits, n, V_row, B_row, G_row, sweeps,
    RANK: tl.constexpr, TILE: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """All sweeps of one fit over TILE columns.

    fits: first row and rank of each; X_row: from a row of X to the next.

    A register has no index, so that to change row k all are asked whether they hold it: unless it
    is known when this is compiled that they do not, which is why k runs over one part of the rows
    at a time. Vectors are loaded flat, or the rows of V would lie across the threads. B comes one
    row ahead, as it comes from far.
    """
    first = tl.load(fits + 2 * tl.program_id(1)).to(tl.int64)
    rank = tl.load(fits + 2 * tl.program_id(1) + 1)
    row = tl.arange(0, RANK)
    column = tl.program_id(0) * TILE + tl.arange(0, TILE)
    V_row, B_row = V_row.to(tl.int64), B_row.to(tl.int64)
    V += first * V_row + column
    B += first * B_row + column
    G += first * (G_row + 1)
    held = (row < rank)[:, None] & (column < n)
    v = tl.load(V + row[:, None] * V_row, mask=held, other=0.0)  # RANK × TILE
    b = tl.load(B, mask=column < n, other=0.0)
    for _ in range(sweeps):
        # Triton unrolls this loop; Python could not run it
        for part in tl.static_range(0, RANK, PART):  # pyright: ignore[reportGeneralTypeIssues]
            for k in range(part, tl.minimum(rank, part + PART)):
                following = tl.where(k + 1 < rank, k + 1, 0)
                b_next = tl.load(B + following * B_row, mask=column < n, other=0.0)
                others = tl.load(G + k * G_row + row, mask=(row < rank) & (row != k), other=0.0)
                own = tl.load(G + k * (G_row + 1))
                if own > 1.2e-38:  # as small as float32 can divide by
                    best = (b - tl.sum(others[:, None] * v, axis=0)) * (1 / own)
                    best = tl.where(best < 0, 0.0, best)  # a NaN stays one
                    here = (row >= part) & (row < part + PART) & (row == k)
                    v = tl.where(here[:, None], best, v)
                    tl.store(V + k * V_row, best, mask=column < n)
                b = b_next
