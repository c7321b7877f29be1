"""What nothing has caught is logged like everything else, and what is printed waits for no reader."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

from server.operations.logs import PlainFormatter
from tests.conftest import ROOT

CODE = """
import asyncio, sys, threading, warnings
from server.operations.line_writer import take_over_streams
from server.operations.logs import set_up_logs

take_over_streams()
set_up_logs("info", "worker 3")

def fails():
    raise ValueError("in a thread")

async def main():
    async def lost():
        raise KeyError("in a task")
    asyncio.ensure_future(lost())
    asyncio.get_running_loop().call_soon(int, "x")
    await asyncio.sleep(0.01)

thread = threading.Thread(target=fails, name="t1")
thread.start()
thread.join()
warnings.warn("of Python")
asyncio.run(main())
print("printed")
raise SystemError("at the end")
"""


def test_what_nothing_has_caught_is_logged_and_written_before_the_process_ends():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "printed\n"
    lines = [line for line in done.stderr.splitlines() if re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert all(" worker 3 " in line for line in lines)
    for text in (
        "thread t1 ended: ValueError: in a thread (",
        "UserWarning: of Python",
        "KeyError: 'in a task'",
        "ValueError: invalid literal for int()",
        "the process ends: SystemError: at the end (",
    ):
        assert text in done.stderr
    assert done.stderr.count("Traceback") == 4


def test_no_part_of_a_message_looks_like_another_line_or_moves_the_cursor():
    said = "a\r\x1b[2J\x9b1A\nERROR: b\x85\n"
    record = logging.LogRecord("snapserve", logging.INFO, "", 0, "model %s", (said,), None)
    text = PlainFormatter("%(levelname)s: %(message)s").format(record)
    assert text == "INFO: model a\\x0d\\x1b[2J\\x9b1A\n  ERROR: b\\x85"
    try:
        raise ValueError("first\nERROR: second\x1b")
    except ValueError:
        record = logging.LogRecord("snapserve", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    lines = PlainFormatter("%(levelname)s: %(message)s").format(record).split("\n")
    assert lines[0] == "ERROR: failed" and lines[-1] == "  ERROR: second\\x1b"


def test_every_line_is_formatted_so():
    code = "from server.operations.logs import *; set_up_logs('info'); log.info('a\\x1b\\nb')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("INFO snapserve: a\\x1b\n  b\n")


def test_a_process_whose_output_nobody_reads_ends_all_the_same():
    reading, writing = os.pipe()
    code = "from server.operations.line_writer import take_over_streams; take_over_streams(); print('x' * 1000000)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=writing) as process:
        assert process.wait(30) == 0
    os.close(writing)
    with open(reading) as stream:  # noqa: PTH123  a descriptor
        assert stream.read(1000) == "x" * 1000
