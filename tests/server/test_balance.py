"""Whose connections had better be another's."""

from __future__ import annotations

import heapq

import pytest

from server.balance import Load, LoadMeter, Move, move


class Clock:
    now = 10.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meter(clock):
    return LoadMeter(clock)


def test_the_meter_counts_who_is_being_answered_and_how_long_that_takes(meter, clock):
    first = meter.begin()
    clock.now += 0.5
    second = meter.begin()
    clock.now += 0.5
    meter.end(first, answered=True)
    meter.end(second, answered=True)
    clock.now += 1.0
    assert meter.read() == Load(in_flight=0.75, latency_s=0.75)
    clock.now += 1.0
    assert meter.read() == Load(0.0, 0.0)


def test_of_a_batch_that_takes_longer_than_a_beat_nothing_is_said_before_it_ends(meter, clock):
    begun = [meter.begin() for _ in range(4)]
    clock.now += 1.0
    assert meter.read() is None
    clock.now += 1.0
    for began in begun:
        meter.end(began, answered=True)
    assert meter.read() == Load(in_flight=4.0, latency_s=2.0)


def test_a_worker_that_answers_nothing_is_not_taken_for_an_idle_one(meter, clock):
    failing = meter.begin()
    clock.now += 0.5
    meter.end(failing, answered=False)
    clock.now += 0.5
    assert meter.read() is None
    meter.begin()
    clock.now += 20.0
    assert meter.read() is None


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ({0: Load(12.0, 0.2), 1: Load()}, Move(0, 1, 6)),
        ({0: Load(12.0, 0.2), 1: Load(), 2: Load(30.0, 0.5)}, Move(2, 1, 15)),
        ({0: Load(16.0, 0.2), 1: Load(16.0, 0.31)}, Move(1, 0, 1)),
        ({0: Load(1.8, 0.2), 1: Load()}, Move(0, 1, 1)),
    ],
    ids=["one idle", "slowest to quickest", "a slow core", "two clients"],
)
def test_who_moves(loads, expected):
    assert move(loads) == expected


@pytest.mark.parametrize(
    "loads",
    [
        {0: Load(100.0, 0.2), 1: Load(100.0, 0.29)},
        {0: Load(1.0, 0.9), 1: Load()},
        {0: Load(), 1: Load()},
        {0: Load(50.0, 1.0)},
    ],
    ids=["about equal", "a lone client", "all idle", "one worker"],
)
def test_nobody_moves(loads):
    assert move(loads).connections == 0


class Worker:
    """Answers its clients in batches of at most 16."""

    def __init__(self, clock, speed, clients):
        self.meter, self.speed, self.queue, self.batch, self.to_shed = LoadMeter(clock), speed, [], [], 0
        for _ in range(clients):
            self.ask()

    @property
    def clients(self):
        return len(self.queue) + len(self.batch)

    def ask(self):
        self.queue.append(self.meter.begin())


def simulate(clock, speeds, clients, seconds):
    """Clients that always ask again; loads are read every second, and clients moved every other one.

    Returns:
        The workers, and the connections that each balance moved.
    """
    workers = [Worker(clock, speed, count) for speed, count in zip(speeds, clients, strict=True)]
    events = [(clock.now + second, -1) for second in range(1, seconds)]
    loads, moves, target = {}, [], 0

    def start(number):
        worker = workers[number]
        if worker.queue and not worker.batch:
            worker.batch, worker.queue = worker.queue[:16], worker.queue[16:]
            heapq.heappush(events, (clock.now + len(worker.batch) / worker.speed, number))

    for number in range(len(workers)):
        start(number)
    heapq.heapify(events)
    beat = 0
    while events:
        clock.now, number = heapq.heappop(events)
        if number < 0:
            beat += 1
            loads |= {n: load for n, each in enumerate(workers) if (load := each.meter.read())}
            if beat % 2 == 0 and loads:
                source, target, connections = move(loads)
                for worker in workers:
                    worker.to_shed = 0
                workers[source].to_shed = connections
                moves.append(connections)
                loads = {}
            continue
        worker, answered = workers[number], workers[number].batch
        worker.batch = []
        for began in answered:
            worker.meter.end(began, answered=True)
            leaves = worker.to_shed > 0
            worker.to_shed -= leaves
            (workers[target] if leaves else worker).ask()
        start(number)
        start(target)
        if clock.now > 10.0 + seconds:
            break
    return workers, moves


@pytest.mark.parametrize("speed", [13.5, 30.0, 75.0, 2000.0], ids=lambda speed: f"{speed}/s")
@pytest.mark.parametrize("clients", [4, 8, 16, 40])
def test_two_equal_workers_keep_their_clients(clock, speed, clients):
    """Also where a batch takes longer than a beat."""
    workers, moves = simulate(clock, [speed, speed * 1.01], [clients, clients], 60)
    assert sum(moves) <= len(moves) // 10
    assert abs(workers[0].clients - workers[1].clients) <= 2


@pytest.mark.parametrize("clients", [2, 8, 32, 200])
@pytest.mark.parametrize("speeds", [[75.0, 75.0], [75.0, 25.0], [25.0, 75.0], [75.0, 75.0, 75.0, 30.0]], ids=str)
def test_clients_that_were_all_with_one_come_to_wait_about_alike(clock, speeds, clients):
    workers, moves = simulate(clock, speeds, [clients, *[0] * (len(speeds) - 1)], 120)
    fair = [clients * speed / sum(speeds) for speed in speeds]
    for worker, share in zip(workers, fair, strict=True):
        assert abs(worker.clients - share) <= max(2.0, 0.3 * share)
    assert sum(moves[len(moves) // 2 :]) <= 0.1 * clients * len(moves) / 2
