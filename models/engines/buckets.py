"""Batch sizes that have a graph of their own, and how a batch is fitted to them. Knows no torch."""

from __future__ import annotations


def buckets_up_to(limit: int, factor: int = 2) -> tuple[int, ...]:
    """1, factor, factor² …, and `limit` itself, in rising order.

    Args:
        limit: the largest batch, at least 1.
        factor: between neighbours, at least 2; a batch is padded to less than `factor` times its size.
    """
    sizes = []
    size = 1
    while size < limit:
        sizes.append(size)
        size *= factor
    return (*sizes, limit)


def bucket_of(size: int, buckets: tuple[int, ...]) -> int:
    """The smallest of `buckets`, which rise, that holds `size` pictures."""
    return next(bucket for bucket in buckets if bucket >= size)


def pieces_of(size: int, largest: int) -> list[slice]:
    """Cuts a batch of `size` pictures into pieces of `largest`, in order; the last may be smaller."""
    return [slice(start, min(start + largest, size)) for start in range(0, size, largest)]
