"""top_k, min_score, model, format: where they come from and what is allowed."""

from __future__ import annotations

import pytest

from server.dialects.classify.parameters import Parameters, read_parameters
from server.http.faults import BadRequest


def test_defaults():
    assert read_parameters({}, {}, "*/*") == Parameters(None, 0.0, None, None, "json")


def test_the_query_wins_over_the_body_and_format_over_accept():
    got = read_parameters({"top_k": "2", "format": "json"}, {"top_k": "9", "min_score": "0.5"}, "text/plain")
    assert got == Parameters(2, 0.5, None, None, "json")
    assert read_parameters({}, {}, "text/plain; q=1, */*").format == "text"


def test_json_bodies_bring_numbers():
    given = {"top_k": 3, "min_score": 1, "model": "m", "version": 2}
    assert read_parameters({}, given, "") == Parameters(3, 1.0, "m", "2", "json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": "0"},
        {"top_k": "-1"},
        {"top_k": "1.5"},
        {"top_k": "many"},
        {"top_k": 2.5},
        {"top_k": True},
        {"top_k": [3]},
        {"top_k": "9" * 5000},
        {"min_score": "nan"},
        {"min_score": "1.01"},
        {"min_score": {}},
        {"format": "xml"},
    ],
)
def test_what_is_not_allowed_is_a_bad_request_that_names_the_parameter(wrong):
    with pytest.raises(BadRequest, match=next(iter(wrong))):
        read_parameters({}, wrong, "")


def test_top_k_of_a_model():
    assert Parameters().top_k_of(1000) == 5
    assert Parameters().top_k_of(3) == 3
    assert Parameters(top_k=10).top_k_of(10) == 10
    with pytest.raises(BadRequest, match="between 1 and 10"):
        Parameters(top_k=11).top_k_of(10)
