"""A device whose streams really run at different times: each is a list of jobs, done in an order drawn by chance.

It obeys streams and events only: what the engine does not order it will sooner or later do in the wrong order.
"""

from __future__ import annotations

import random
import threading
import time

import torch


class Stream:
    def __init__(self):
        self.jobs = []


class Event:
    """Job numbers: waits refer to the record that was last asked for, as CUDA's do."""

    def __init__(self, device):
        self.device, self.asked, self.done = device, 0, 0

    def record(self, stream):
        with self.device.lock:
            self.asked += 1
            number = self.asked
            self.device.ask(stream, lambda: True, lambda: setattr(self, "done", max(self.done, number)))

    def wait(self, stream):
        with self.device.lock:
            number = self.asked
            self.device.ask(stream, lambda: self.done >= number, lambda: None)
        time.sleep(0)  # another thread comes in between, if it may

    def synchronize(self):
        with self.device.lock:
            number = self.asked
            self.device.work(lambda: self.done >= number)


class SimulatedDevice:
    """Obeys `models.engines.cuda_device.Device`. Graphs share their memory: it fails where two run at once."""

    def __init__(self, seed=0):
        self.lock = threading.RLock()
        self.choose = random.Random(seed)
        self.streams, self.captured, self.freed = [], [], False
        self.running = None

    def stream(self):
        self.streams.append(Stream())
        return self.streams[-1]

    def event(self):
        return Event(self)

    def host_buffer(self, shape, dtype):
        return torch.zeros(shape, dtype=dtype)

    def buffer(self, shape, dtype):
        return torch.randint(0, 256, shape).to(dtype)  # what was never written is noise

    def capture(self, run):
        with torch.no_grad():
            run()
        self.captured.append(run)
        return run

    def launch(self, graph, stream):
        with self.lock:
            self.ask(stream, lambda: True, lambda: self.begin(graph))
            self.ask(stream, lambda: True, lambda: self.end(graph))

    def begin(self, graph):
        assert self.running is None, "two graphs that share memory run at once"
        self.running = graph

    def end(self, graph):
        with torch.no_grad():
            graph()
        self.running = None

    def copy(self, target, source, stream):
        with self.lock:
            self.ask(stream, lambda: True, lambda: target.copy_(source))

    def synchronize(self):
        with self.lock:
            self.work(lambda: not any(stream.jobs for stream in self.streams))

    def free(self):
        self.freed = True

    def ask(self, stream, ready, job):
        stream.jobs.append((ready, job))
        for _ in range(self.choose.randrange(3)):  # a device does not wait until somebody waits for it
            self.step()

    def work(self, until):
        while not until():
            assert self.step(), "the streams wait for each other"

    def step(self):
        able = [stream for stream in self.streams if stream.jobs and stream.jobs[0][0]()]
        if able:
            _, job = self.choose.choice(able).jobs.pop(0)
            job()
        return bool(able)
