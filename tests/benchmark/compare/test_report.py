"""Figures of a comparison: ratios within rounds, medians, agreement with the reference."""

from __future__ import annotations

from benchmark.compare.report import difference, percent_of_limit, ratios, spread, summary
from benchmark.harness.clients import Prediction


def turns(*rates, p99=10.0):
    return [{"requests_per_s": rate, "p99": p99 * number} for number, rate in enumerate(rates, 1)]


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds():
    """Not the ratio of the medians, which would be 2: the machine was three times as slow in the last round."""
    result = ratios({"snapserve": turns(100, 90, 40), "peer": turns(50, 30, 10)})
    assert result["snapserve"]["peer"]["requests_per_s"]["rounds"] == [2, 3, 4]
    assert result["snapserve"]["peer"]["requests_per_s"]["median"] == 3
    assert result["snapserve"]["peer"]["p99"]["median"] == 1
    assert list(result) == ["snapserve"]


def test_a_peer_that_answered_nothing_has_no_ratio():
    assert ratios({"snapserve": turns(10), "peer": turns(0)})["snapserve"]["peer"]["requests_per_s"] is None


def test_the_limit_is_that_of_the_same_round():
    assert percent_of_limit(turns(90, 40), [100, 50])["rounds"] == [90, 80]


def test_a_summary_has_medians_peaks_totals_and_the_first_wrong_body():
    names = ("requests_per_s", "p50", "p99", "p999", "cpu_ms_per_request", "peak_rss_mb", "pss_mb")
    counts = ("requests", "checked", "wrong", "non_2xx", "socket_errors")
    rows = [
        {**dict.fromkeys(names, value), **dict.fromkeys(counts, value), "wrong_example": example}
        for value, example in ((1, ""), (5, "body"), (3, ""))
    ]
    result = summary(rows)
    assert result["p999"] == {"median": 3, "min": 1, "max": 5, "rounds": [1, 5, 3]}
    assert (result["pss_mb"], result["wrong"], result["wrong_example"]) == (5, 9, "body")
    assert spread([1, 2])["median"] == 1.5


def test_answers_are_compared_by_class():
    answers = [[Prediction(1, 0.7), Prediction(0, 0.2)], [Prediction(0, 0.6)]]
    assert difference(answers, [[0.25, 0.75], [0.4, 0.6]]) == {"top1_agreement": 0.5, "max_abs_diff": 0.2}
