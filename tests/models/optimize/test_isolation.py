import dataclasses
import os
import signal
import subprocess
import sys

import psutil
import pytest

from models.errors import EngineError
from models.optimize.candidates import Candidate
from models.optimize.errors import OptimizeError
from models.optimize.isolation import isolated
from tests.models.optimize.remote import Remote
from tests.models.optimize.runs import EFFORT, FP32, ROOT, optimize, table_of
from tests.models.small import random_weights


def test_it_lives_in_a_process_of_its_own_that_ends_with_the_context(capfd):
    with isolated(Remote) as remote:
        pid = remote.pid()
        assert pid != os.getpid()
        with pytest.raises(EngineError, match=r"^no such instruction$"):
            remote.fail()
        remote.print()
    assert not psutil.pid_exists(pid)
    assert capfd.readouterr() == ("", "")


def test_its_death_is_an_error_here():
    with isolated(Remote) as remote, pytest.raises((EOFError, OSError)):
        remote.die()


def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = (
        "import time; from models.optimize.isolation import isolated; from tests.models.optimize.remote "
        "import Remote\nif __name__ == '__main__':\n  with isolated(Remote) as r:\n"
        "    print(r.pid(), flush=True); time.sleep(60)"
    )
    (tmp_path / "parent.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        child.wait(timeout=30)


def deadly(job, folder):
    os.kill(os.getpid(), signal.SIGKILL)


def odd(job, folder):
    raise ZeroDivisionError("of all things\nsecond line")


def test_a_candidate_whose_process_dies_is_out_and_the_others_go_on(tmp_path):
    effort = dataclasses.replace(EFFORT, is_isolated=True)
    candidates = (Candidate("deadly", "cpu", "fp32", deadly), Candidate("odd", "cpu", "fp32", odd), FP32)
    bundle = optimize(random_weights(tmp_path), tmp_path / "bundle", *candidates, effort=effort)
    rows = table_of(tmp_path / "bundle")
    assert "died" in rows["deadly"]["refusal"]
    assert rows["odd"]["refusal"] == "cannot be built (ZeroDivisionError: of all things)"
    assert bundle.spec.engine.file == "torchscript-fp32.ts"


def test_nothing_is_written_when_every_process_dies(tmp_path):
    candidates = (Candidate("odd", "cpu", "fp32", odd),)
    with pytest.raises(OptimizeError, match="odd: cannot be built"):
        optimize(random_weights(tmp_path), tmp_path / "bundle", *candidates)
    assert not (tmp_path / "bundle").exists()
