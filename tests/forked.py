"""A copy of the process of a test, to be killed, or to work beside it."""

import multiprocessing
import warnings


def fork(target, *args):
    """A copy of this process that runs `target`."""
    process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads are not copied
        process.start()
    return process
