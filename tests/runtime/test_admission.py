"""Whether a request is accepted, and when a refused one is to come back."""

from __future__ import annotations

import math

import pytest

from runtime.admission import Admission, RetryBook
from runtime.errors import Overloaded

NOW = 1000.0


@pytest.fixture
def admission():
    made = Admission(clock=lambda: NOW)
    made.target_s = 1.0
    return made


def test_without_a_target_everything_is_accepted():
    assert Admission().admit(1e9, deadline=0.0) == math.inf


def test_what_nothing_lies_before_is_accepted_and_has_no_end(admission):
    assert admission.admit(None, deadline=NOW - 1) == math.inf


@pytest.mark.parametrize(
    ("forecast_s", "deadline", "finish_by"),
    [
        (0.7, None, NOW + 1.0),
        (0.7, NOW + 30, NOW + 1.0),
        (0.3, NOW + 0.5, NOW + 0.5),
        (0.9, None, None),  # a fifth is kept for what the forecast does not know
        (0.7, NOW + 0.5, None),
    ],
)
def test_accepted_only_if_it_can_be_answered_in_time(admission, forecast_s, deadline, finish_by):
    if finish_by is None:
        with pytest.raises(Overloaded):
            admission.admit(forecast_s, deadline)
    else:
        assert admission.admit(forecast_s, deadline) == finish_by


def test_the_further_items_of_a_request_do_not_count_against_it(admission):
    assert admission.admit(0.7, None, own_s=5.0) == NOW + 6.0


def test_it_has_to_begin_two_batches_before_its_time_is_over(admission):
    assert admission.admit(0.7, None, batch_s=0.1) == pytest.approx(NOW + 0.8)
    assert admission.admit(0.7, None, batch_s=0.4) == NOW + 0.5, "half of the time is left to begin"


def test_refused_clients_that_come_back_find_room_which_others_leave(admission):
    assert admission.admit(0.7, None)
    with pytest.raises(Overloaded):
        admission.admit(0.9, None)
    with pytest.raises(Overloaded):
        admission.admit(0.7, None)
    assert admission.admit(0.7, None, is_retry=True)
    assert admission.admit(0.3, None), "others are accepted as well, up to half of the time"


def test_refused_clients_come_back_one_after_the_other_at_the_models_pace():
    book = RetryBook(chance=lambda: 0.0)
    told = [book.book(NOW, 0.4) for _ in range(10)]
    assert told == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    for second in range(1, 6):
        book.note_return(NOW + second)
    assert book.is_waiting(NOW + 5.9)
    assert not book.is_waiting(NOW + 6.1)
    assert book.book(NOW + 100, 0.4) == 1, "what was promised has passed"


def test_places_whose_clients_do_not_come_back_are_forgotten_soon():
    book = RetryBook(chance=lambda: 0.0)
    told = [book.book(NOW, 0.4) for _ in range(100)]
    assert told[-1] == 51
    assert book.is_waiting(NOW + 4.4), "the first may be late"
    assert not book.is_waiting(NOW + 4.6)
    assert book.book(NOW + 4.6, 0.4) == 1, "not behind those that never come"


def test_an_overload_whose_clients_never_come_back_does_not_fill_the_book():
    book = RetryBook(chance=lambda: 0.0)
    told = [book.book(NOW + tick / 20, 0.1) for tick in range(1200)]  # a minute of three times what it can take
    assert max(told) <= 9
    assert book.book(NOW + 60 + 4, 0.1) == 1


def test_places_stay_as_long_as_clients_come_back():
    book = RetryBook(chance=lambda: 0.0)
    for _ in range(40):
        book.book(NOW, 1.0)
    for second in range(1, 40):
        book.note_return(NOW + second)
        assert book.is_waiting(NOW + second + 0.9)
    assert book.book(NOW + 40, 1.0) == 12


def test_a_slow_model_waits_longer_for_the_next_client():
    book = RetryBook(chance=lambda: 0.0)
    assert [book.book(NOW, 8.0) for _ in range(3)] == [11, 21, 31]
    book.note_return(NOW + 11)
    assert book.is_waiting(NOW + 21)


def test_a_client_that_comes_back_is_noted(admission):
    with pytest.raises(Overloaded):
        for _ in range(100):
            admission.admit(0.9, None, item_s=0.4)
    before = admission.retries._patient_until
    admission.admit(None, None, is_retry=True)
    assert admission.retries._patient_until != before


def test_a_second_at_least_and_a_minute_at_most():
    book = RetryBook(chance=lambda: 0.0)
    assert book.book(NOW, 0.0001) == 1
    assert max(book.book(NOW, 10.0) for _ in range(100)) == 60


def test_the_fraction_of_a_second_is_rounded_by_chance():
    chances = iter((0.4, 0.6))
    book = RetryBook(chance=lambda: next(chances))
    assert [book.book(NOW, 0.4), RetryBook(chance=lambda: 0.6).book(NOW, 0.4)] == [1, 2]
