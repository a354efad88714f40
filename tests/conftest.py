"""One thread: the tensors here are tiny, and on a busy machine threads would mostly wait for each other.

And no module leaves anything open: Python tells of a forgotten file, socket or event loop when it collects garbage, which
may be in a later test of another module. So we collect after each module, and it is that module that fails.
"""

import gc
import signal
import warnings

import pytest
import torch
from fresh import Interpreter

from peeklib.study import seen


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def quick_to_collect():
    """What was made while libraries and tests were imported is never garbage: a million objects not to look at again."""
    assert not left_open()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """Call it with a script, which runs as in a new interpreter."""
    interpreter = Interpreter(tmp_path_factory.mktemp("fresh"))
    yield interpreter
    interpreter.close()


@pytest.fixture(scope="module")
def rough_fits():
    """Scores come from few and short factorizations: for tests that do not ask what these come to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "RANKS", (1, 2))
        patch.setitem(seen.FIT, "max_iter", 3)
        yield


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open():
    yield
    assert not left_open()


def left_open() -> list[str]:
    """What garbage held open, as Python's warnings name it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    return [str(one.message) for one in told if issubclass(one.category, ResourceWarning)]
