"""Batch sizes that have a graph of their own, and how a batch is fitted to them. Knows no torch."""

from __future__ import annotations

_FULL_ENOUGH = 0.75


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
    """The smallest of `buckets`, which rise, that holds `size` images."""
    return next(bucket for bucket in buckets if bucket >= size)


def pieces_of(size: int, largest: int) -> list[slice]:
    """Cuts a batch of `size` images into pieces of `largest`, in order; the last may be smaller."""
    return [slice(start, min(start + largest, size)) for start in range(0, size, largest)]


def fitted(size: int, buckets: tuple[int, ...]) -> list[tuple[int, int]]:
    """How a batch is made up of graphs that run one after the other: for each its images, and its bucket.

    A graph that would be filled to three quarters or less is not worth its time; smaller ones do it.

    Args:
        size: images, at least 1.
        buckets: rising, from 1.
    """
    pieces = []
    while size:
        bucket = next((each for each in buckets if each >= size), buckets[-1])
        if size <= _FULL_ENOUGH * bucket:
            bucket = max(each for each in buckets if each <= size)
        pieces.append((min(size, bucket), bucket))
        size -= pieces[-1][0]
    return pieces
