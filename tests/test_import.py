"""Importing peeklib changes nothing for whoever imports it, and waits for nothing that only some of its functions need."""

import json

SCRIPT = """
import json, socket, warnings
import matplotlib, numpy, PIL.Image, platformdirs, torch, tqdm.auto

LATER = ["seaborn", "matplotlib.pyplot", "scipy.stats", "sklearn", "IPython", "torch._dynamo", "torch._inductor"]

def state():
    return {
        "matplotlib settings": repr(sorted(dict.items(matplotlib.rcParams))),
        "the backend": matplotlib.get_backend(),
        "torch's random state": torch.get_rng_state().tolist(),
        "torch's settings": [torch.get_num_threads(), torch.is_grad_enabled(), repr(torch.tensor(0.5))],
        "numpy's random state": numpy.random.get_state()[1].tolist(),
        "warning filters": repr(warnings.filters),
        "the time-out": socket.getdefaulttimeout(),
    }

before = state()
import peeklib
for name in set(peeklib.__all__) - {"CoupledNMF"}:  # which is made of scikit-learn's classes
    getattr(peeklib, name)
after = state()
changed = [name for name in before if after[name] != before[name]]
import sys
peeklib.train(torch.nn.Linear(2, 2), torch.ones(4, 2), torch.tensor([0, 1, 0, 1]), seed=0)
print(json.dumps([changed, [name for name in LATER if name in sys.modules]]))
"""


def test_importing_leaves_global_state_alone_and_loads_little(fresh):
    done = fresh(SCRIPT, MPLBACKEND="svg")
    assert done.returncode == 0, done.stderr
    changed, loaded = json.loads(done.stdout)
    assert not changed and not loaded
