"""What decoding may cost: checked before it costs it."""

from __future__ import annotations

import threading

import pytest

from models.bundles.spec import IMAGENET
from models.errors import TooCostly, TooManyPixels, TooMuchMemory
from models.images.budget import FREE_BYTES, DecodeBudget
from models.images.cost import Cost
from models.images.preprocess import Preprocessor
from models.images.stop import Stop, Stopped
from tests.models.image_files import GREY, RGB, chunk, photo, png

BIG = FREE_BYTES + 1


def one_colour(side, depth=8, colour=RGB, interlaced=False):
    """A PNG whose header says so many pixels; there are none."""
    data = png([[[0, 0, 0]]], 8, RGB)
    header = side.to_bytes(4) + side.to_bytes(4) + bytes((depth, colour, 0, 0, interlaced))
    return data[:8] + chunk(b"IHDR", header) + data[33:]


def test_an_image_that_would_take_too_long_is_refused_with_both_figures():
    prepare = Preprocessor(IMAGENET, budget=DecodeBudget(max_decode_ms=1000, speed=lambda: 3.0))
    with pytest.raises(TooCostly) as caught:
        prepare(one_colour(5400, 16, interlaced=True))
    assert caught.value.limit == 1000
    assert 1000 < caught.value.actual < 10_000


def test_the_same_image_is_decoded_by_a_machine_that_is_fast_enough():
    prepare = Preprocessor(IMAGENET, budget=DecodeBudget(max_decode_ms=1000, speed=lambda: 0.25))
    with pytest.raises(Exception, match="PNG"):  # the file has no pixels, which only a decoder can tell
        prepare(one_colour(5400, 16, interlaced=True))


def test_an_image_that_needs_more_than_all_memory_is_refused():
    budget = DecodeBudget(memory=100e6)
    with pytest.raises(TooMuchMemory) as caught:
        Preprocessor(IMAGENET, budget=budget)(one_colour(7000))
    assert caught.value.limit == 100_000_000 < caught.value.actual
    assert budget.held == 0


def test_too_many_pixels_are_refused_first():
    with pytest.raises(TooManyPixels):
        Preprocessor(IMAGENET, 1000, budget=DecodeBudget(1, 1))(one_colour(100))


def test_nothing_is_computed_of_a_size_that_is_not_allowed():
    huge = one_colour(2**31 - 1)
    with pytest.raises(TooManyPixels):
        Preprocessor(IMAGENET)(huge)  # the region of that would take minutes


def test_small_images_take_nothing_of_the_budget_and_ask_for_no_speed():
    budget = DecodeBudget(1.0, 1.0, lambda: pytest.fail("asked"))
    assert Preprocessor(IMAGENET, budget=budget)(photo("JPEG")).shape == (224, 224, 3)


def test_one_that_does_not_fit_now_waits_until_another_has_given_back():
    budget, held, order = DecodeBudget(memory=2 * BIG), threading.Event(), []

    def second():
        with budget.hold(Stop()) as hold:
            held.set()
            hold.admit(Cost(1, 0, 1.5 * BIG))
            order.append("second")

    with budget.hold(Stop()) as hold:
        hold.admit(Cost(1, 0, BIG))
        thread = threading.Thread(target=second)
        thread.start()
        assert held.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert budget.held == 0


def test_who_turns_out_to_need_more_gives_back_first():
    budget = DecodeBudget(memory=2 * BIG)
    with budget.hold(Stop()) as hold:
        hold.admit(Cost(1, 0, BIG))
        hold.admit(Cost(1, 0, 2 * BIG))  # would wait for ever beside its own
        assert budget.held == 2 * BIG
    assert budget.held == 0


def test_who_waits_for_memory_leaves_when_nobody_waits_for_the_image():
    budget, stop = DecodeBudget(memory=BIG), Stop()
    stop.set()
    with budget.hold(Stop()) as first, budget.hold(stop) as second:
        first.admit(Cost(1, 0, BIG))
        with pytest.raises(Stopped):
            second.admit(Cost(1, 0, BIG))
    with budget.hold(Stop()) as third:  # none that left stands in the way
        third.admit(Cost(1, 0, BIG))


def test_a_broken_image_gives_its_memory_back():
    budget = DecodeBudget(memory=500e6)
    with pytest.raises(Exception, match="PNG"):
        Preprocessor(IMAGENET, budget=budget)(one_colour(4000, colour=GREY))
    assert budget.held == 0
