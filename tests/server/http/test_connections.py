"""How many connections there may be, and which of them make room."""

from __future__ import annotations

from server.http.connections import SPARE, Connections


class FakeConnection:
    """Idle or answering; notes how it was closed."""

    def __init__(self, idle=True, answering=False):
        self.idle, self.answering, self.spare, self.closed = idle, answering, False, ""

    def close_if_idle(self, idle_s=0.0):
        self.closed = "idle" if self.idle else self.closed
        return self.idle

    def close_unless_answering(self):
        self.closed = self.closed if self.answering else "spare"
        return not self.answering

    def refuse(self):
        self.closed = "refused"


def added(connections, count, **state):
    new = [FakeConnection(**state) for _ in range(count)]
    for each in new:
        connections.add(each)
    return new


def test_without_a_cap_none_is_spare_and_none_closed():
    connections = Connections()
    assert not any(each.spare or each.closed for each in added(connections, 100))
    assert len(connections) == 100


def test_each_connection_beyond_the_cap_takes_the_place_of_another_idle_one():
    connections = Connections(most=4)
    busy, idle = added(connections, 2, idle=False), added(connections, 2)
    assert not any(each.spare for each in added(connections, 2, idle=False))
    assert [each.closed for each in idle] == ["idle"] * 2
    assert not any(each.closed for each in busy)
    assert len(connections) == 4


def test_without_an_idle_one_it_is_spare_and_when_those_are_full_the_oldest_goes():
    connections = Connections(most=2)
    added(connections, 2, idle=False)
    spare = added(connections, SPARE, idle=False)
    assert all(each.spare for each in spare)
    assert not any(each.closed for each in spare)
    added(connections, 1)
    assert [each.closed for each in spare] == ["spare"] + [""] * (SPARE - 1)


def test_only_when_all_are_busy_one_is_refused():
    connections = Connections(most=2)
    added(connections, 2, idle=False)
    added(connections, SPARE, idle=False, answering=True)
    (refused,) = added(connections, 1)
    assert refused.closed == "refused"


def test_the_search_for_an_idle_one_looks_at_a_bounded_number():
    looked = []

    class Counting(FakeConnection):
        def close_if_idle(self, idle_s=0.0):
            looked.append(self)
            return False

    connections = Connections(most=1000)
    for _ in range(1000):
        connections.add(Counting())
    for _ in range(10):
        connections.add(FakeConnection())
    assert len(looked) == 10 * 64 == len(set(looked)), "each search goes on where the last one ended"


async def test_the_closed_are_reported_and_the_last_one_ends_the_wait():
    closed = []
    connections = Connections(lambda: closed.append(1), most=1)
    (first,), (spare,) = added(connections, 1, idle=False), added(connections, 1)
    connections.remove(first)
    assert len(connections) == 1
    connections.remove(spare)
    await connections.wait_closed()
    assert len(closed) == 2
