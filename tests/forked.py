"""A copy of the process of a test, to be killed, to work beside it, or to import ours anew."""

import multiprocessing
import sys
import warnings


def fork(target, *args):
    """A copy of this process that runs `target`."""
    process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads are not copied
        process.start()
    return process


def anew(target, *args):
    """Run `target` in a copy where nothing of ours is loaded yet; what it raises fails the test."""
    copy = fork(_forget_ours, target, args)
    copy.join()
    assert copy.exitcode == 0, "the traceback is in what was written to stderr"


def _forget_ours(target, args):
    for name in [name for name in sys.modules if name.partition(".")[0] == "peeklib"]:
        del sys.modules[name]
    target(*args)
