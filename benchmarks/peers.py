"""Other people's non-negative matrix factorizations, all called in one way, to be timed against `peeklib`.

Every peer minimises ‖X − W H‖² over non-negative factors, without penalties, for a fixed number of iterations:

    X  features × images     W  features × rank     H  rank × images (Fᵀ in `peeklib.nmf`)

A peer runs on the CPU in float32 with the settings that serve it best; its own stopping rule and its own output
are off. Where a package names samples and features, the rows of X are the samples: it then reads X as it lies,
which was up to a third faster than Xᵀ in our trials. The first call of a peer imports its package: call once
before timing.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from unittest import mock

import numpy as np


@dataclass(frozen=True)
class Peer:
    """One solver of one package."""

    name: str
    package: str  #: the requirement with its exact pin; "" if peeklib itself needs it
    needs: tuple[str, ...]  #: what the solver imports beyond what peeklib needs, pinned
    fit: Callable  #: fit(X, W, H, iterations, blocks) -> (W, H), from one iteration up; leaves its arguments alone
    remark: str  #: what a reader of a timing must know


def fit_sklearn(X, W, H, iterations, blocks, *, solver):
    """`sklearn.decomposition.non_negative_factorization`; tolerance 0 also spares it the loss."""
    from sklearn.decomposition import non_negative_factorization

    options = {"init": "custom", "n_components": W.shape[1], "tol": 0, "max_iter": iterations}
    return non_negative_factorization(X, W=W.copy(), H=H.copy(), solver=solver, **options)[:2]


def fit_torchnmf(X, W, H, iterations, blocks):
    """`torchnmf.nmf.NMF`, whose model is V ≈ H Wᵀ; it stops when the loss rises, unless the tolerance is −∞."""
    import torch
    from torchnmf.nmf import NMF

    model = NMF(W=torch.from_numpy(H.T), H=torch.from_numpy(W))  # it copies them
    model.fit(torch.from_numpy(X), beta=2, tol=-np.inf, max_iter=iterations)
    return model.H.detach().numpy(), model.W.detach().numpy().T


def fit_nmf_torch(X, W, H, iterations, blocks, *, solver, **options):
    """A batch model as `nmf.run_nmf` builds it, with two methods replaced: one takes our start, one never stops.

    Its compiled part calls `torch.cholesky`, which torch has removed; `torch.linalg.cholesky` does the same.
    """
    import torch
    from nmf import nmf_models

    class Fixed(getattr(nmf_models, solver)):
        def _initialize_H_W(self):
            self.H, self.W = torch.from_numpy(W.copy()), torch.from_numpy(H.copy())

        def _is_converged(self, *errors):
            return False

    none = {"alpha_W": 0.0, "l1_ratio_W": 0.0, "alpha_H": 0.0, "l1_ratio_H": 0.0}
    own = {
        "init": None,
        "beta_loss": 2,
        "tol": 0.0,
        "random_state": 0,
        "fp_precision": "float",
        "device_type": "cpu",
    }
    model = Fixed(W.shape[1], max_iter=iterations, **none, **own, **options)
    with (
        open(os.devnull, "w") as sink,
        contextlib.redirect_stdout(sink),
        mock.patch.object(torch, "cholesky", torch.linalg.cholesky),
    ):
        model.fit(torch.from_numpy(X))
    return model.H.numpy(), model.W.numpy()


def fit_overcomplete(X, W, H, iterations, blocks, *, solver):
    """A solver function of `overcomplete.optimization.nmf`, which its class `NMF` calls after making its own start."""
    import torch

    _skip_init("overcomplete")
    from overcomplete.optimization import nmf

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = torch.from_numpy(W.copy()), torch.from_numpy(H.copy())
        W, H = getattr(nmf, solver)(torch.from_numpy(X), *start, max_iter=iterations, tol=0)
    return W.numpy(), H.numpy()


def _skip_init(package: str) -> None:
    """Make a package's modules importable without its `__init__`, which imports fifteen packages we do not need."""
    if package not in sys.modules and (spec := importlib.util.find_spec(package)):
        sys.modules[package] = importlib.util.module_from_spec(spec)


def fit_matcouply(X, W, H, iterations, blocks):
    """`matcouply.decomposition.cmf_aoadmm`, X_i ≈ B_i diag(a_i) Cᵀ: the X_i are our blocks, C is our F.

    The a_i would only repeat the scale of the B_i, so they stay 1. It holds two copies of each factor, alike in the
    limit; we return the non-negative one. Under numpy its identity matrices turn all into float64, under torch not.
    """
    import tensorly
    import torch
    from matcouply.decomposition import cmf_aoadmm
    from matcouply.penalties import NonNegativity

    B, C = [torch.from_numpy(W[rows].copy()) for rows in blocks], torch.from_numpy(H.T.copy())
    on_B = NonNegativity(aux_init=list(B), dual_init=[torch.zeros_like(part) for part in B])
    on_C = NonNegativity(aux_init=C, dual_init=torch.zeros_like(C))
    with tensorly.backend_context("pytorch"):
        _, found = cmf_aoadmm(
            [torch.from_numpy(X[rows]) for rows in blocks],
            W.shape[1],
            init=(None, (torch.ones(len(blocks), W.shape[1]), B, C)),
            regs=[[], [on_B], [on_C]],
            update_A=False,
            feasibility_penalty_scale=0.1,
            n_iter_max=iterations,
            tol=None,
            absolute_tol=None,
            return_admm_vars=True,
        )
    W = np.empty_like(W)
    for rows, part in zip(blocks, found.auxes[1][0], strict=True):
        W[rows] = part.numpy()
    return W, found.auxes[2][0].numpy().T


def install(peer: Peer, folder) -> str:
    """Install a peer and what it needs into `folder`, and put that on the path.

    Returns "", or the last line of what the installer said when it failed.
    """
    there = {
        f"{found.name}=={found.version}".lower()
        for found in metadata.distributions(path=[str(folder)])
    }
    missing = [
        package for package in (peer.package, *peer.needs) if package and package not in there
    ]
    if missing:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
        uv = ["uv", "pip", "install", "--python", sys.executable]
        command = pip if importlib.util.find_spec("pip") else uv
        command += ["--quiet", "--no-deps", "--upgrade", "--target", str(folder), *missing]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return f"{command[0]}: {error}"
        if done.returncode:
            return (
                (done.stderr.strip() or f"the installer ended with {done.returncode}")
                .splitlines()[-1]
                .strip()
            )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()  # the folder may be new
    return ""


def _peers(title, package, needs, fit, solvers):
    """The solvers of one package, each with options of `fit` and a remark."""
    for name, options, remark in solvers:
        yield Peer(f"{title} {name}", package, needs, partial(fit, **options), remark)


SWEEP = "An iteration is one sweep of coordinate descent over each factor"
UPDATE = "An iteration is one multiplicative update of each factor"
SKLEARN = [
    ("cd", {"solver": "cd"}, f"{SWEEP}, compiled, on one thread but for the products with X."),
    ("mu", {"solver": "mu"}, f"{UPDATE}; before the first it forms X − W H once."),
]
TORCHNMF = [
    (
        "mu",
        {},
        f"{UPDATE}, by automatic differentiation; it forms W H twice, every tenth three times.",
    )
]
REPLACED = "our start, and no stopping, through two replaced methods"
NMF_TORCH = [
    ("hals", {"solver": "NMFBatchHALS", "hals_max_iter": 1}, f"{SWEEP}; {REPLACED}."),
    (
        "halsvar",
        {"solver": "NMFBatchHALS"},
        f"An iteration is up to 200 sweeps over each factor; {REPLACED}.",
    ),
    ("mu", {"solver": "NMFBatchMU"}, f"{UPDATE}; {REPLACED}."),
    (
        "bpp",
        {"solver": "NMFBatchNnlsBpp"},
        f"An iteration solves each factor exactly and fails at a singular Gram matrix; `torch.cholesky` put back, {REPLACED}.",
    ),
]
OVERCOMPLETE = [
    (
        "hals",
        {"solver": "hierarchical_als"},
        f"{SWEEP}; a component whose partner is zero is lost.",
    ),
    ("mu", {"solver": "multiplicative_update"}, f"{UPDATE}; it forms W H."),
    (
        "pgd",
        {"solver": "projected_gradient_descent"},
        "An iteration is a clipped step of Adam with weight decay.",
    ),
    (
        "anls",
        {"solver": "alternating_nnls"},
        "Up to 50 gradient steps for each factor, from random; ignores the W given.",
    ),
]
MATCOUPLY = [
    (
        "aoadmm",
        {},
        "An iteration is five ADMM steps for each factor, at a tenth of the default penalty.",
    )
]

PEERS: tuple[Peer, ...] = (
    *_peers("scikit-learn", "", (), fit_sklearn, SKLEARN),
    *_peers("torchnmf", "torchnmf==0.3.5", (), fit_torchnmf, TORCHNMF),
    *_peers("nmf-torch", "nmf-torch==0.1.1", (), fit_nmf_torch, NMF_TORCH),
    *_peers("overcomplete", "overcomplete==0.3.0", (), fit_overcomplete, OVERCOMPLETE),
    *_peers("matcouply", "matcouply==0.2.0", ("tensorly==0.10.0",), fit_matcouply, MATCOUPLY),
)
