"""The search for the fastest engine under a budget: what is begun, what is dropped, what Ctrl-C leaves."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.errors import ModelError
from models.optimize import optimizer, search
from models.optimize.budget import Budget
from models.optimize.candidates import Candidate, eager
from models.optimize.contestant import Contestant
from models.optimize.errors import Interrupted, OptimizeError
from models.optimize.report import Report
from models.optimize.search import HOPELESS
from tests.conftest import ROOT
from tests.models.optimize.runs import EFFORT, FP32, optimize, table_of
from tests.models.small import ARCHITECTURE, CLASSES, quiet, random_weights, write_preprocess


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Reporting(Report):
    """Does what a test wants at the steps of a search."""

    def __init__(self, at_step):
        super().__init__(quiet())
        self.at_step = at_step
        self.steps = []

    def step(self, text):
        self.steps.append(text)
        self.at_step(text)


def named(name, **changes):
    """The plain candidate under another name, as a file of its own."""

    def build(job, folder):
        spec = FP32.build(job, folder)
        file = (folder / spec.file).rename(folder / f"{name}.ts")
        return dataclasses.replace(spec, file=file.name)

    return dataclasses.replace(FP32, name=name, build=build, **changes)


def test_a_budget_counts_down_and_never_below_zero():
    clock = Clock()
    budget = Budget(10, clock)
    clock.now = 4
    assert (budget.spent, budget.left, budget.describe()) == (4, 6, "6 s left")
    clock.now = 40
    assert budget.left == 0
    assert Budget().left == math.inf and Budget().describe() == ""


def test_what_the_time_does_not_reach_is_not_begun(tmp_path):
    clock = Clock()

    def pass_time(text):
        clock.now += 5 if "building" in text else 0

    first, slow, quick = (named(name, typical_s=s) for name, s in (("a", 5.0), ("slow", 60.0), ("b", 5.0)))
    report = Reporting(pass_time)
    optimize(
        random_weights(tmp_path), tmp_path / "bundle", first, slow, quick, report=report, budget=Budget(50, clock)
    )
    rows = table_of(tmp_path / "bundle")
    assert rows["slow"]["refusal"] == "left out: 40 s were left, it takes about 60 s"
    assert not any("slow" in step for step in report.steps)
    assert rows["a"]["speeds"] and rows["b"]["speeds"]


def test_a_slow_machine_is_taken_into_account(tmp_path):
    """What took twice as long as it usually does lets others be left out that would fit elsewhere."""
    clock = Clock()

    def pass_time(text):
        clock.now += 20 if "building" in text else 0

    first, second = named("a", typical_s=10.0), named("b", typical_s=18.0)
    optimize(
        random_weights(tmp_path),
        tmp_path / "c",
        first,
        second,
        report=Reporting(pass_time),
        budget=Budget(60, clock),
    )
    assert table_of(tmp_path / "c")["b"]["refusal"] == "left out: 34 s were left, it takes about 36 s"


def test_without_time_there_is_still_one_engine(tmp_path):
    clock = Clock()
    budget = Budget(1, clock)
    clock.now = 30
    bundle = optimize(random_weights(tmp_path), tmp_path / "bundle", named("a"), named("b"), budget=budget)
    assert bundle.spec.engine.file == "a.ts"
    assert table_of(tmp_path / "bundle")["b"]["refusal"].startswith("left out: 0 s were left")


def test_what_is_hopeless_is_timed_once(tmp_path, monkeypatch):
    honest = Contestant.round

    def round(self, setting, sizes):
        slower = 1 / HOPELESS * 3 if self._candidate.name == "slow" else 1
        return {size: ms * slower for size, ms in honest(self, setting, sizes).items()}

    monkeypatch.setattr(Contestant, "round", round)
    effort = dataclasses.replace(EFFORT, rounds=4)
    optimize(random_weights(tmp_path), tmp_path / "bundle", named("a"), named("slow"), effort=effort)
    rounds = {name: len(row["speeds"][0]["rounds_ms"]["1"]) for name, row in table_of(tmp_path / "bundle").items()}
    assert rounds == {"a": 4, "slow": 1}


def test_rounds_end_with_the_budget(tmp_path):
    clock = Clock()

    def pass_time(text):
        clock.now += 10 if "round" in text else 0

    effort = dataclasses.replace(EFFORT, rounds=7)
    report = Reporting(pass_time)
    optimize(random_weights(tmp_path), tmp_path / "bundle", effort=effort, report=report, budget=Budget(35, clock))
    (speed,) = table_of(tmp_path / "bundle")["torchscript-fp32"]["speeds"]
    assert len(speed["rounds_ms"]["1"]) == 3


def interrupt_at(words):
    def at_step(text):
        if words in text:
            raise KeyboardInterrupt

    return Reporting(at_step)


def test_ctrl_c_leaves_a_bundle_with_what_is_finished(tmp_path):
    with pytest.raises(Interrupted, match="has what was finished") as caught:
        optimize(
            random_weights(tmp_path),
            tmp_path / "bundle",
            named("a"),
            named("b"),
            report=interrupt_at("b: comparing"),
        )
    assert caught.value.exit_code == 130
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert set(bundle.spec.engines) == {"a", "weights"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundle", "preprocess.json"]


def test_ctrl_c_in_the_rounds_keeps_the_finished_ones(tmp_path):
    effort = dataclasses.replace(EFFORT, rounds=5)
    with pytest.raises(Interrupted):
        optimize(random_weights(tmp_path), tmp_path / "bundle", effort=effort, report=interrupt_at("round 3"))
    (speed,) = table_of(tmp_path / "bundle")["torchscript-fp32"]["speeds"]
    assert len(speed["rounds_ms"]["1"]) == 2


def test_ctrl_c_before_anything_is_finished_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        optimize(random_weights(tmp_path), tmp_path / "bundle", report=interrupt_at("comparing"))
    assert [file.name for file in tmp_path.iterdir()] == ["preprocess.json"]


def test_ctrl_c_keeps_the_reference_where_nothing_else_is_finished(tmp_path):
    with pytest.raises(Interrupted):
        optimize(
            random_weights(tmp_path),
            tmp_path / "bundle",
            eager.FP32,
            named("b"),
            report=interrupt_at("b: building"),
        )
    assert ModelBundle.load(tmp_path / "bundle").spec.engine.kind == "eager"


def sleep(job, folder):
    time.sleep(600)


def test_what_does_not_end_in_time_is_stopped(tmp_path):
    """Its process is killed; the clock is real but for a jump to just before the end."""
    skipped, start = [0.0], time.monotonic()

    def jump(text):
        if text.startswith("torchscript-fp32: timing"):
            skipped[0] = 165.0 - (time.monotonic() - start)

    endless = Candidate("endless", "cpu", "fp32", sleep, typical_s=0.1)
    budget = Budget(200, lambda: time.monotonic() + skipped[0])
    effort = dataclasses.replace(EFFORT, is_isolated=True)
    began = time.monotonic()
    optimize(
        random_weights(tmp_path),
        tmp_path / "bundle",
        FP32,
        endless,
        report=Reporting(jump),
        effort=effort,
        budget=budget,
    )
    assert time.monotonic() - began < 60  # of the 600 that it would take
    assert table_of(tmp_path / "bundle")["endless"]["refusal"] == "left out: stopped at the end of the time"


def test_the_report_names_what_was_not_tried(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    clock = Clock()
    optimize(
        random_weights(tmp_path),
        tmp_path / "bundle",
        named("a"),
        named("far", typical_s=500.0),
        report=Report(console),
        budget=Budget(100, clock),
    )
    printed = console.file.getvalue()
    assert (
        "Not tried for want of time: far. A longer --budget-s, or none (make optimize), tries them too." in printed
    )
    assert "a: building (100 s left)" in printed


def test_ctrl_c_of_the_command_leaves_a_bundle_that_answers(tmp_path):
    """The real thing: a process group that gets SIGINT, as from a terminal."""
    words = ["--arch", ARCHITECTURE, "--weights", "none", "--num-classes", str(CLASSES), "--budget-s", "10000"]
    words += [
        "--threads",
        "1",
        "--preprocess",
        str(write_preprocess(tmp_path)),
        "--output",
        str(tmp_path / "bundle"),
    ]
    command = [sys.executable, str(ROOT / "optimize_model_for_inference.py"), *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if "timing batches" in line or "int8: building" in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    bundle = ModelBundle.load(tmp_path / "bundle")
    load_engine(bundle, EngineOptions()).warm_up()


def test_ctrl_c_does_not_interrupt_the_writing(tmp_path, monkeypatch):
    """Neither the new bundle nor the one that was there is lost, however often."""
    assemble = optimizer._assemble

    def interrupted(*arguments):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        return assemble(*arguments)

    monkeypatch.setattr(optimizer, "_assemble", interrupted)
    with pytest.raises(Interrupted, match="has what was finished"):
        optimize(random_weights(tmp_path), tmp_path / "bundle")
    ModelBundle.load(tmp_path / "bundle")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundle", "preprocess.json"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("error", [EOFError, ModelError("no more")], ids=["died", "failed"])
def test_what_fails_in_the_rounds_is_out_and_only_it(tmp_path, monkeypatch, error):
    honest, rounds = Contestant.round, []

    def round(self, setting, sizes):
        if self._candidate.name == "frail":
            rounds.append(setting)
            if len(rounds) > 2:  # what settles, and the first look
                raise error
        return honest(self, setting, sizes)

    monkeypatch.setattr(Contestant, "round", round)
    monkeypatch.setattr(search, "HOPELESS", 0.0)  # neither of the two is, whatever the machine does meanwhile
    effort = dataclasses.replace(EFFORT, rounds=3)
    optimize(random_weights(tmp_path), tmp_path / "bundle", named("frail"), named("sound"), effort=effort)
    rows = table_of(tmp_path / "bundle")
    assert "died" in rows["frail"]["refusal"] or "no more" in rows["frail"]["refusal"]
    assert len(rows["sound"]["speeds"][0]["rounds_ms"]["1"]) == 3 and not rows["frail"]["speeds"]


def test_what_an_engine_raises_is_one_line(tmp_path, monkeypatch):
    class Limited:
        spec = EngineSpec("limited", "file", "")

        def infer(self, pixels):
            raise RuntimeError("at most 8 rows\nand a stack")

    monkeypatch.setattr(Contestant, "_engine", lambda self, setting: Limited())
    with pytest.raises(OptimizeError, match=r"does not run \(RuntimeError: at most 8 rows\)$"):
        optimize(random_weights(tmp_path), tmp_path / "bundle")


def test_files_of_the_working_directory_are_not_imported(tmp_path):
    """One that is called like a package of the project, and one like the library's."""
    for name in ("models.py", "nncf.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    words = ["--arch", ARCHITECTURE, "--weights", "none", "--num-classes", str(CLASSES), "--budget-s", "10000"]
    words += ["--threads", "1", "--preprocess", str(write_preprocess(tmp_path)), "--engine", "torchscript-fp32"]
    command = [sys.executable, str(ROOT / "optimize_model_for_inference.py"), *words, "--output", "bundle"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    ModelBundle.load(tmp_path / "bundle")
