"""Any network: what `peek` finds in one call, and scores that need no label."""

from . import scores

__all__ = ["scores"]
