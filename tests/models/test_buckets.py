"""How batches are fitted to graphs of fixed sizes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engines.buckets import bucket_of, buckets_up_to, fitted, pieces_of


@given(limit=st.integers(1, 600), factor=st.integers(2, 4))
def test_buckets_rise_by_the_factor_and_end_with_the_limit(limit, factor):
    buckets = buckets_up_to(limit, factor)
    assert buckets[0] == 1 and buckets[-1] == limit
    assert all(small < large <= small * factor for small, large in pairwise(buckets))


def test_buckets_of_the_usual_sizes():
    assert buckets_up_to(64) == (1, 2, 4, 8, 16, 32, 64)
    assert buckets_up_to(24) == (1, 2, 4, 8, 16, 24)
    assert buckets_up_to(64, 4) == (1, 4, 16, 64)


@given(limit=st.integers(1, 300), data=st.data())
def test_every_size_fits_its_bucket_and_no_smaller_one(limit, data):
    size, buckets = data.draw(st.integers(1, limit)), buckets_up_to(limit)
    bucket = bucket_of(size, buckets)
    assert size <= bucket < 2 * size or bucket == size == 1
    assert all(other < size for other in buckets if other < bucket)


@given(size=st.integers(1, 600), largest=st.integers(1, 600))
def test_pieces_are_the_batch_in_order(size, largest):
    pieces = pieces_of(size, largest)
    assert [row for piece in pieces for row in range(size)[piece]] == list(range(size))
    assert all(1 <= piece.stop - piece.start <= largest for piece in pieces)


@given(st.integers(1, 300), st.integers(1, 64), st.sampled_from([2, 4]))
def test_all_images_are_taken_once_by_graphs_that_are_not_mostly_empty(size, limit, factor):
    buckets = buckets_up_to(limit, factor)
    pieces = fitted(size, buckets)
    assert sum(images for images, _ in pieces) == size
    assert all(bucket in buckets and 0.75 * bucket < images <= bucket for images, bucket in pieces)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [(1, 1)]),
        (3, [(1, 1)] * 3),
        (4, [(4, 4)]),
        (6, [(4, 4), (1, 1), (1, 1)]),
        (7, [(7, 8)]),
        (8, [(8, 8)]),
        (21, [(8, 8), (8, 8), (4, 4), (1, 1)]),
    ],
)
def test_a_graph_takes_what_nearly_fills_it(size, expected):
    assert fitted(size, (1, 4, 8)) == expected
