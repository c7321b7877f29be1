"""The measurements of this folder, by the modules that add them to the command line."""

from __future__ import annotations

from benchmark import accuracy, engines, gpu, http, lag, lone, policies, queue
from benchmark import limit_command as limit
from benchmark.compare import command as compare
from benchmark.compare import drawings
from benchmark.load import command as load
from benchmark.micro import agreement, memory, recipe
from benchmark.micro import command as micro
from benchmark.peers import command as peers

COMMANDS = (
    accuracy,
    engines,
    gpu,
    http,
    lag,
    limit,
    load,
    lone,
    peers,
    policies,
    queue,
    compare,
    drawings,
    micro,
    agreement,
    memory,
    recipe,
)
