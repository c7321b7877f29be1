"""An error is one line, its traceback comes once per kind and minute, and a flood of it is cut off and counted."""

from __future__ import annotations

import logging

import pytest

from server.operations.repeated_errors import RepeatedErrors


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def errors(clock):
    return RepeatedErrors(clock)


def fails(message="broken"):
    raise RuntimeError(message)


def fails_elsewhere():
    raise RuntimeError("broken")


def error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error


def text_of(errors, error, request="r1"):
    """What is written; None where it is left out."""
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "request %s failed", (request,), info)
    return logging.Formatter("%(levelname)s %(message)s").format(record) if errors.filter(record) else None


def test_the_first_error_of_a_kind_has_a_line_and_a_traceback(errors):
    line, *trace = text_of(errors, error_of(fails)).splitlines()
    assert line.startswith("ERROR request r1 failed: RuntimeError: broken (")
    assert f"{__file__}:" in line
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "RuntimeError: broken"


def test_the_same_kind_within_a_minute_is_one_line_with_its_request(errors, clock):
    text_of(errors, error_of(fails))
    for number in range(99):
        clock.now += 0.6
        text = text_of(errors, error_of(fails, f"other {number}"), f"r{number}")
        assert text.startswith(f"ERROR request r{number} failed: RuntimeError: other {number} (")
        assert "\n" not in text
    clock.now = 61.0
    line, *trace = text_of(errors, error_of(fails)).splitlines()
    assert trace and "left out" not in line


def test_a_flood_is_left_out_and_the_next_line_counts_it(errors, clock):
    texts = [text_of(errors, error_of(fails)) for _ in range(5000)]
    assert [text is None for text in texts] == [False] * 100 + [True] * 4900
    assert text_of(errors, error_of(fails_elsewhere)), "another kind is not hidden"
    clock.now = 61.0
    line, *trace = text_of(errors, error_of(fails)).splitlines()
    assert trace and line.endswith("; 4900 more like this were left out")
    assert "left out" not in text_of(errors, error_of(fails))


def test_another_place_or_another_class_is_another_kind(errors):
    for error in (error_of(fails), error_of(fails_elsewhere), error_of(int, "x")):
        assert "Traceback" in text_of(errors, error)


def test_the_line_tells_the_cause_not_what_wraps_it(errors):
    wrapped = ValueError("wraps")
    wrapped.__cause__ = error_of(fails)
    wrapped.__cause__.__cause__ = wrapped  # nobody loops for ever
    assert text_of(errors, wrapped).startswith("ERROR request r1 failed: RuntimeError: broken (")


@pytest.mark.parametrize("message", ["two\nlines\r\x1b[2J\u2028\ud800 é", "long " * 1000 + "reason"])
def test_a_message_is_one_short_line_of_printable_characters(errors, message):
    text_of(errors, error_of(fails))
    text = text_of(errors, error_of(fails, message))
    assert text.isascii() and text.isprintable()
    assert len(text) < 500
    assert message[-6:] != "reason" or "long reason (" in text


def test_an_error_that_has_no_text_is_told_all_the_same(errors):
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    assert "Silent: <exception str() failed>" in text_of(errors, Silent())


def test_what_is_no_error_is_as_it_was_written(errors):
    record = logging.LogRecord("x", logging.INFO, "", 0, "all %s", ("well",), None)
    assert all(errors.filter(record) for _ in range(1000))
    assert record.getMessage() == "all well"


def test_kinds_are_bounded(errors):
    for number in range(3000):
        kind = type(f"Kind{number}", (Exception,), {})
        text_of(errors, kind())
    assert len(errors._kinds) <= 1000
