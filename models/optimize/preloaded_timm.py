"""timm, for candidates whose network is one of its: see models/optimize/preloaded.py."""

from contextlib import suppress

with suppress(Exception):
    import timm  # noqa: F401
