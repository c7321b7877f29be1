"""Clients: a wrong body is seen by wrk's upload script, and a lone upload gets its answer."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark.compare.candidates import Candidate
from benchmark.harness.clients import Known, Prediction, ask, checked_wrk, read_answer, wrk
from benchmark.harness.server import PORT

STAND_IN = Path(__file__).with_name("stand_in.py")


@pytest.fixture
def needs_wrk(require):
    require("wrk")


@pytest.fixture
def images(tmp_path):
    """Two files that the stand-in tells apart."""
    files = [tmp_path / "first.jpg", tmp_path / "second.jpg"]
    for file in files:
        file.write_bytes(file.stem.encode() * 100)
    return files


@contextmanager
def stand_in(image, *options):
    with Candidate("stand-in", (str(STAND_IN), "--port", PORT, *options)).start(image) as server:
        yield server.url


def known(images):
    return [Known(images[0], 3, 0.75), Known(images[1], 7, 0.5)]


@pytest.mark.usefixtures("needs_wrk")
def test_right_answers_are_counted_and_none_is_wrong(images):
    with stand_in(images[0]) as url:
        report = checked_wrk(url, known(images), 4, 1, tolerance=0.01)
    assert report["requests"] > 20
    assert report["checked"] >= report["requests"]
    assert report["wrong"] == report["non_2xx"] == report["socket_errors"] == 0
    assert 0 < report["p50"] <= report["p99"] <= report["p999"]


@pytest.mark.usefixtures("needs_wrk")
def test_a_lone_connection_uploads_the_first_image(images):
    with stand_in(images[0]) as url:
        report = checked_wrk(url, known(images), 1, 1, tolerance=0.01)
    assert report["checked"] > 5
    assert report["wrong"] == 0


@pytest.mark.usefixtures("needs_wrk")
def test_a_wrong_class_is_seen(images):
    with stand_in(images[0], "--lie-every", "5") as url:
        report = checked_wrk(url, known(images), 4, 1, tolerance=0.01)
    assert report["checked"] // 5 - 1 <= report["wrong"] <= report["checked"] // 5 + 1
    assert 'a \\"' in report["wrong_example"]


@pytest.mark.usefixtures("needs_wrk")
def test_each_thread_uploads_its_own_image(images):
    """The answers of the two, exchanged: all are wrong; so each image is met with its own answer only."""
    first, second = known(images)
    with stand_in(images[0]) as url:
        exchanged = [Known(first.image, second.first, second.score), Known(second.image, first.first, 0.75)]
        all_wrong = checked_wrk(url, exchanged, 4, 1, tolerance=0.01)
        half = checked_wrk(url, [first, Known(second.image, 7, 0.6)], 4, 1, tolerance=0.01)
        tolerant = checked_wrk(url, [first, Known(second.image, 7, 0.6)], 4, 1, tolerance=0.2)
    assert all_wrong["wrong"] == all_wrong["checked"] > 0
    assert 0 < half["wrong"] < half["checked"]
    assert tolerant["wrong"] == 0


@pytest.mark.usefixtures("needs_wrk")
def test_refusals_are_no_wrong_answers(images):
    with stand_in(images[0], "--refuse-every", "3") as url:
        report = checked_wrk(url, known(images), 4, 1, tolerance=0.01)
    assert report["non_2xx"] > 0
    assert report["wrong"] == 0
    assert report["checked"] <= report["requests"] - report["non_2xx"] + 4


@pytest.mark.usefixtures("needs_wrk")
def test_without_an_answer_nothing_is_checked(images):
    with stand_in(images[0], "--lie-every", "1") as url:
        report = wrk(url, images[0], 2, 1)
    assert report["requests"] > 0
    assert report["checked"] == report["wrong"] == 0


@pytest.mark.usefixtures("needs_wrk")
def test_wrk_alone_raises_on_errors(images):
    with stand_in(images[0], "--refuse-every", "2") as url, pytest.raises(RuntimeError, match="errors"):
        wrk(url, images[0], 2, 1)


def test_a_lone_request_gets_the_answer(images):
    with stand_in(images[0]) as url:
        assert [each.index for each in ask(url, images[1])] == [7]


def test_an_answer_may_be_alone_in_a_list():
    body = b'{"predictions": [{"label": "3", "score": 0.5, "index": 3}]}'
    assert read_answer(body) == read_answer(b"[" + body + b"]") == [Prediction(3, 0.5)]
    for wrong in (b'{"error": 1}', b"[]", b"{", b'{"predictions": [{}]}'):
        with pytest.raises(ValueError):
            read_answer(wrong)
