"""An error is one line, and its traceback comes once per kind and minute."""

from __future__ import annotations

import logging

import pytest

from server.operations.logs import LineFormatter


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def formatter(clock):
    return LineFormatter("%(levelname)s %(message)s", clock)


def fails(message="broken"):
    raise RuntimeError(message)


def fails_elsewhere():
    raise RuntimeError("broken")


def error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error


def text_of(formatter, error, request="r1"):
    info = (type(error), error, error.__traceback__)
    return formatter.format(logging.LogRecord("x", logging.ERROR, "", 0, "request %s failed", (request,), info))


def test_the_first_error_of_a_kind_has_a_line_and_a_traceback(formatter):
    line, *trace = text_of(formatter, error_of(fails)).splitlines()
    assert line.startswith("ERROR request r1 failed: RuntimeError: broken (")
    assert "test_logs.py:" in line
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "RuntimeError: broken"


def test_the_same_kind_within_a_minute_is_one_line_with_its_request_and_then_counted(formatter, clock):
    text_of(formatter, error_of(fails))
    for number in range(100):
        clock.now += 0.5
        text = text_of(formatter, error_of(fails, f"other {number}"), f"r{number}")
        assert text.startswith(f"ERROR request r{number} failed: RuntimeError: other {number} (")
        assert "\n" not in text
    clock.now = 61.0
    line, *trace = text_of(formatter, error_of(fails)).splitlines()
    assert line.endswith("; 100 tracebacks like this one were left out")
    assert trace
    clock.now = 122.0
    assert "left out" not in text_of(formatter, error_of(fails))


def test_another_place_or_another_class_is_another_kind(formatter):
    for error in (error_of(fails), error_of(fails_elsewhere), error_of(int, "x")):
        assert "Traceback" in text_of(formatter, error)


def test_the_line_tells_the_cause_not_what_wraps_it(formatter):
    wrapped = ValueError("wraps")
    wrapped.__cause__ = error_of(fails)
    wrapped.__cause__.__cause__ = wrapped  # nobody loops for ever
    assert text_of(formatter, wrapped).startswith("ERROR request r1 failed: RuntimeError: broken (")


@pytest.mark.parametrize("message", ["two\nlines\r\x1b[2J\u2028\ud800 é", "long " * 1000])
def test_a_message_is_one_short_line_of_printable_characters(formatter, message):
    text_of(formatter, error_of(fails))
    text = text_of(formatter, error_of(fails, message))
    assert text.isascii() and text.isprintable()
    assert len(text) < 500


def test_an_error_that_has_no_text_is_told_all_the_same(formatter):
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    assert "Silent: <exception str() failed>" in text_of(formatter, Silent())


def test_what_is_no_error_is_as_it_was_written(formatter):
    record = logging.LogRecord("x", logging.INFO, "", 0, "all\nwell", (), None)
    assert formatter.format(record) == "INFO all\nwell"


def test_kinds_are_bounded(formatter):
    for number in range(3000):
        kind = type(f"Kind{number}", (Exception,), {})
        text_of(formatter, kind())
    assert len(formatter._kinds) <= 1000
