from itertools import repeat

import pytest

from models.optimize.contestant import Setting
from models.optimize.timing import Rounds, Speed, best_speed, settings_for


class Fake:
    """Takes the times that it is given, in milliseconds per image, round by round."""

    def __init__(self, turns, name, times):
        self.turns, self.name, self.times = turns, name, iter(times)

    def round(self, setting, sizes):
        self.turns.append((self.name, setting))
        ms = next(self.times)
        return {size: size * ms for size in sizes}


ONE, TWO, STREAMS = Setting(1), Setting(2), Setting(2, 2)


def test_a_round_measures_every_setting_and_what_settles_does_not_count():
    turns = []
    fake = Fake(turns, "a", [50.0, 60.0, 9.0, 4.0, 1.0, 3.0, 2.0, 5.0])
    rounds = Rounds((1, 8), [ONE, TWO])
    rounds.settle(fake)
    for _ in range(3):
        rounds.add(fake)
    assert turns == [("a", ONE), ("a", TWO)] * 4
    one, two = rounds.speeds
    assert one == Speed(ONE, {1: [9.0, 1.0, 2.0], 8: [72.0, 8.0, 16.0]})
    assert one.latency_ms == {1: 2.0, 8: 16.0}
    assert two.latency_ms[1] == 4.0


def test_throughput_is_that_of_the_best_batch_size():
    speed = Speed(ONE, {1: [10.0], 8: [40.0], 32: [200.0]})
    assert speed.best == (200.0, 8)
    assert speed.lone_ms == 10.0


def test_engines_are_chosen_by_their_fastest_round():
    disturbed = Speed(ONE, {1: [10.0, 15.0, 15.0], 8: [60.0, 70.0, 40.0]})
    lucky = Speed(TWO, {1: [11.0, 11.0, 11.0], 8: [50.0, 50.0, 50.0]})
    assert disturbed.best[0] < lucky.best[0] and disturbed.peak == 200.0 > lucky.peak
    assert best_speed([lucky, disturbed]) is disturbed


def test_among_settings_that_are_nearly_as_fast_the_lone_request_decides():
    quick = Speed(TWO, {1: [5.0], 8: [41.0]})
    wide = Speed(STREAMS, {1: [10.0], 8: [40.0]})
    assert best_speed([wide, quick]) is quick
    wider = Speed(STREAMS, {1: [10.0], 8: [30.0]})
    assert best_speed([wider, quick]) is wider


@pytest.mark.parametrize(
    ("device", "cores", "has_streams", "expected"),
    [
        ("cpu", 2, False, [ONE, TWO]),
        ("cpu", 2, True, [ONE, TWO, STREAMS]),
        ("cpu", 1, True, [ONE]),
        ("cuda", 16, True, [ONE]),
    ],
)
def test_settings_use_one_core_or_all(device, cores, has_streams, expected):
    assert list(settings_for(device, cores, has_streams)) == expected


def test_a_setting_is_told_in_words():
    assert [str(setting) for setting in (ONE, TWO, STREAMS)] == ["1 thread", "2 threads", "2 streams"]


def test_the_record_keeps_every_round():
    record = Speed(TWO, dict(zip((1, 2), repeat([1.23456, 2.0, 3.0]), strict=False))).to_json()
    assert record["rounds_ms"] == {"1": [1.235, 2.0, 3.0], "2": [1.235, 2.0, 3.0]}
    assert (record["threads"], record["streams"], record["latency_ms"]) == (2, 1, {"1": 2.0, "2": 2.0})
