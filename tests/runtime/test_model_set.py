"""The desired state: what may be asked of it, and its JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.added_model import ARCHIVE, AddedModel, ArchiveAsked, GoldenAsked
from runtime.errors import LastModel, RuntimeFault, TooManyModels, UnknownModel, VersionInUse, VersionTaken
from runtime.model_set import MOST_MODELS, Default, ModelSet, Shadow
from runtime.model_set_json import from_json, to_json
from runtime.record import RecordError
from runtime.transition import Scaling, Transition

START = ModelSet(("a", "b"))
TWO, THREE, OTHER = AddedModel("a", "2", "a2"), AddedModel("a", "3", "a3"), AddedModel("c", "1", "c")
FULL = START.with_model(TWO).with_model(THREE)


def test_the_models_of_the_command_line_have_version_1():
    assert list(START) == [("a", "1"), ("b", "1")]
    assert (START.default_name, START.default_of("b"), START.before("b")) == ("a", "1", "")
    assert START.find("a", "1") is None


def test_a_further_version_is_not_the_default_and_the_first_of_a_name_is():
    models = FULL.with_model(OTHER)
    assert (models.versions("a"), models.default_of("a")) == (("1", "2", "3"), "1")
    assert models.default_of("c") == "1"
    assert models.find("a", "2") == TWO
    assert ModelSet(("a", "b")) == START, "operations change nothing"


@pytest.mark.parametrize(
    ("operation", "error", "text"),
    [
        (lambda: FULL.with_model(TWO), VersionTaken, "a has a version 2"),
        (lambda: START.with_model(AddedModel("a", "1", "x")), VersionTaken, "a has a version 1"),
        (lambda: FULL.without("a", "1"), VersionInUse, "default one of a"),
        (lambda: START.without("a", "1"), LastModel, "last version"),
        (lambda: START.without("a", "2"), UnknownModel, "there are 1"),
        (lambda: START.without("z", "2"), UnknownModel, "'z'"),
        (lambda: START.with_default("a", "2"), UnknownModel, "there are 1"),
        (lambda: FULL.with_shadow("a", Shadow("1", 0.1)), VersionInUse, "cannot shadow itself"),
        (lambda: FULL.with_shadow("a", Shadow("9", 0.1)), UnknownModel, "there are 1, 2, 3"),
        (lambda: FULL.without_shadow("a"), UnknownModel, "no shadow"),
        (lambda: FULL.without_shadow("z"), UnknownModel, "'z'"),
        (lambda: FULL.scaled("a", "9", 1), UnknownModel, "there are"),
        (lambda: FULL.scaled("a", "1", 0), RecordError, "between 1 and 64"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(operation, error, text):
    with pytest.raises(error, match=text):
        operation()


def test_there_is_a_bound_to_what_is_added():
    full = ModelSet(("a",), tuple(AddedModel("b", str(number), "x") for number in range(MOST_MODELS)))
    with pytest.raises(TooManyModels):
        full.with_model(TWO)


def test_the_default_before_is_known_until_it_is_gone():
    models = FULL.with_default("a", "2").with_default("a", "3")
    assert (models.default_of("a"), models.before("a")) == ("3", "2")
    assert models.without("a", "2").before("a") == ""
    assert models.without("a", "2").with_model(TWO).before("a") == "", "another version 2"
    assert models.without("a", "1").before("a") == "2"
    assert models.with_default("a", "3") is models
    back = models.with_default("a", "2", undoing=True)
    assert (back.default_of("a"), back.before("a")) == ("2", ""), "not back again to the one that failed"


def test_removing_an_old_version_does_not_change_the_default():
    models = (
        FULL.with_model(AddedModel("c", "1", "x")).with_model(AddedModel("c", "2", "x")).with_default("c", "2")
    )
    assert models.without("c", "1").default_of("c") == "2"
    assert FULL.without("a", "2").default_of("a") == "1"


def test_a_model_of_the_command_line_can_be_replaced_and_removed():
    models = FULL.with_default("a", "2").without("a", "1").without("b", "1")
    assert list(models) == [("a", "2"), ("a", "3")]
    again = models.with_model(AddedModel("b", "1", "new"))
    assert again.find("b", "1").path == "new"
    assert list(from_json(to_json(again), START.fixed)) == list(again)


def test_a_shadow_ends_with_its_version_and_when_it_becomes_the_default():
    shadowed = FULL.with_shadow("a", Shadow("2", 0.1))
    assert shadowed.shadows == {"a": Shadow("2", 0.1)}
    for models in (shadowed.without("a", "2"), shadowed.with_default("a", "2"), shadowed.without_shadow("a")):
        assert models.shadows == {}
    assert shadowed.with_default("a", "3").shadows == {"a": Shadow("2", 0.1)}


def test_scaling():
    models = FULL.scaled("a", "2", 4).scaled("a", "1", 3)
    assert [models.processes_of("a", version) for version in "123"] == [3, 4, 0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "../x"}, "no name of a model"),
        ({"version": ""}, "no name of a model"),
        ({"version": "1" * 65}, "no name of a model"),
        ({"name": "-x"}, "no name of a model"),
        ({"path": ""}, "path is empty"),
        ({"path": "x" * 1025}, "more than 1024"),
        ({"runner": "gpu"}, "runner must be one of auto, thread, process"),
        ({"processes": 65}, "between 0 and 64"),
        ({"on_use": True, "golden": GoldenAsked()}, "no golden set"),
    ],
)
def test_an_added_model_has_bounds(change, text):
    with pytest.raises(RecordError, match=text):
        AddedModel(**{"name": "a", "version": "1", "path": "x", **change})


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_has_bounds(share):
    with pytest.raises(RecordError):
        Shadow("2", share)


@pytest.mark.parametrize("rules", [{"least_agreement": 2.0}, {"max_latency_ms": -1.0}, {"folder": "x" * 2000}])
def test_golden_rules_have_bounds(rules):
    with pytest.raises(RecordError):
        GoldenAsked(**rules)


names = st.sampled_from(["a", "b", "c"])
versions = st.sampled_from(["1", "2", "3"])
operations = st.one_of(
    st.builds(
        lambda name, version, processes: (
            lambda models: models.with_model(AddedModel(name, version, "x", processes=processes))
        ),
        *(names, versions, st.integers(0, 3)),
    ),
    st.builds(lambda name, version: lambda models: models.without(name, version), names, versions),
    st.builds(lambda name, version: lambda models: models.with_default(name, version), names, versions),
    st.builds(
        lambda name, version: lambda models: models.with_shadow(name, Shadow(version, 0.5)), names, versions
    ),
    st.builds(lambda name: lambda models: models.without_shadow(name), names),
    st.builds(lambda name, version: lambda models: models.scaled(name, version, 2), names, versions),
)


def walk(steps):
    models = START
    for step in steps:
        try:
            models = step(models)
        except RuntimeFault:
            continue
        yield models


@given(st.lists(operations, max_size=20))
def test_whatever_is_asked_the_set_stays_whole_and_its_json_is_the_same_set(steps):
    for models in walk(steps):
        keys = list(models)
        assert len(set(keys)) == len(keys)
        assert models.versions(models.default_name)
        for name in {name for name, _ in keys}:
            assert models.default_of(name) in models.versions(name)
        for name, shadow in models.shadows.items():
            assert shadow.version in models.versions(name)
            assert shadow.version != models.default_of(name)
        read = from_json(to_json(models), models.fixed)
        assert list(read) == keys
        assert {name: read.default_of(name) for name, _ in keys} == {
            name: models.default_of(name) for name, _ in keys
        }
        assert (read.shadows, read.added) == (models.shadows, models.added)


@given(st.lists(operations, max_size=20))
def test_the_steps_of_a_transition_lead_from_one_set_to_the_other(steps):
    before = START
    for after in walk(steps):
        known = {key: before.processes_of(*key) for key in before}
        defaults = {name: before.default_of(name) for name, _ in before}
        shadows = dict(before.shadows)
        done = Transition.between(before, after)
        known |= {each.key: each.processes for each in done.load}
        for scaling in done.scale:
            assert known[scaling.name, scaling.version] == scaling.before
            known[scaling.name, scaling.version] = scaling.after
        defaults |= dict(done.switch)
        shadows |= dict(done.shadow)
        for key in done.remove:
            del known[key]
        assert known == {key: after.processes_of(*key) for key in after}
        assert all(defaults[name] == after.default_of(name) for name, _ in after)
        assert {name: each for name, each in shadows.items() if each} == after.shadows
        before = after


def test_a_transition_is_empty_between_equal_sets_and_has_no_more_than_it_needs():
    assert Transition.between(FULL, FULL) == Transition()
    assert Transition.between(FULL, FULL.scaled("a", "2", 2)) == Transition(scale=(Scaling("a", "2", 0, 2),))
    swapped = FULL.with_default("a", "2").without("a", "1")
    assert Transition.between(FULL, swapped) == Transition(switch=(("a", "2"),), remove=(("a", "1"),))


def test_the_json_of_a_set_that_has_everything():
    models = (
        START.with_model(AddedModel("a", "2", "x", labels="l", golden=GoldenAsked("g", 0.9, 5), batchable=False))
        .with_default("a", "2")
        .with_shadow("a", Shadow("1", 0.25))
        .without("b", "1")
        .scaled("a", "1", 2)
    )
    assert from_json(to_json(models), models.fixed) == models


def test_another_command_line_leaves_out_what_is_no_more():
    models = START.with_model(TWO).with_model(OTHER).with_default("a", "2").without("b", "1").scaled("a", "1", 2)
    text = to_json(models.with_shadow("a", Shadow("1", 0.5)))
    elsewhere = from_json(text, ("z", "a"))
    assert list(elsewhere) == [("z", "1"), ("a", "1"), ("a", "2"), ("c", "1")]
    assert (elsewhere.default_of("a"), elsewhere.removed, elsewhere.processes) == ("2", (), {"a": 2})
    gone = from_json(text, ("z",))
    assert (gone.shadows, gone.processes, gone.default_of("a")) == ({}, {}, "2")


def test_the_first_model_of_the_command_line_is_served_though_it_was_removed():
    text = to_json(START.without("b", "1"))
    assert list(from_json(text, ("b",))) == [("b", "1")]


def test_what_was_written_before_models_had_kinds_is_read_as_image_classifiers():
    document = json.loads(to_json(FULL))
    for each in document["added"]:
        del each["kind"]
    assert from_json(json.dumps(document), FULL.fixed) == FULL
    tensor = START.with_model(AddedModel("t", "1", "t.pt", kind="tensor"))
    assert from_json(to_json(tensor), START.fixed) == tensor


GOOD = json.loads(to_json(FULL.with_default("a", "2").with_shadow("a", Shadow("3", 0.5))))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"more": 1}, "unknown field 'more'"),
        ({"added": {}}, "added: must be a list"),
        ({"added": [{"name": "a"}]}, "'version' is missing"),
        ({"added": [{**GOOD["added"][0], "on_use": 1}]}, "on_use: must be true or false"),
        ({"added": [{**GOOD["added"][0], "processes": True}]}, "processes: must be a whole number"),
        ({"added": [{**GOOD["added"][0], "golden": {"least": 1}}]}, "golden: unknown field 'least'"),
        ({"added": [{**GOOD["added"][0], "x": 1}]}, "unknown field 'x'"),
        ({"added": [GOOD["added"][0]] * 2}, "one version is there twice"),
        ({"removed": [1]}, "removed: must be strings"),
        ({"defaults": []}, "defaults: must be an object"),
        ({"defaults": {"a": {"version": 2}}}, "version: must be a string"),
        ({"shadows": {"a": {"version": "2", "share": 7}}}, "share must be above 0"),
        ({"shadows": {"a": None}}, "must be an object"),
        ({"processes": {"a": 0}}, "between 1 and 64"),
        ({"processes": []}, "between 1 and 64"),
    ],
)
def test_json_that_is_anything_else_is_refused_with_the_place(change, text):
    with pytest.raises(RecordError, match=text):
        from_json(json.dumps({**GOOD, **change}), START.fixed)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", "[" * 100_000, b"\xff\xfe", json.dumps(GOOD)[:-5]])
def test_what_is_no_json_of_a_set_is_refused(text):
    with pytest.raises(RecordError):
        from_json(text, START.fixed)


def test_a_default_knows_no_way_back_at_first():
    assert Default("1").before == ""


def test_a_process_is_created_with_the_default_versions_the_default_model_first():
    later = AddedModel("c", "1", "x", on_use=True)
    models = START.with_model(TWO).with_model(OTHER).with_default("a", "2").without("a", "1")
    assert models.first() == (("a", "2"), ("b", "1"), ("c", "1"))
    assert START.with_model(later).first() == (("a", "1"), ("b", "1"))
    only = (
        ModelSet(("a",))
        .with_model(AddedModel("a", "2", "x", on_use=True))
        .with_default("a", "2")
        .without("a", "1")
    )
    assert only.first() == (("a", "2"),)


IDLE = AddedModel("c", "1", "c.mar", kind=ARCHIVE, archive=ArchiveAsked())


def test_an_archive_may_have_no_workers_and_is_loaded_freed_or_scaled_by_their_number():
    none = START.with_model(IDLE)
    two = none.scaled("c", "1", 2, most=5)
    assert two.find("c", "1").archive == ArchiveAsked(min_workers=2, max_workers=5)
    assert two.scaled("c", "1", 3).find("c", "1").archive.max_workers == 3
    assert Transition.between(START, none) == Transition(load=(IDLE,), switch=(("c", "1"),))
    assert Transition.between(none, two) == Transition(wake=two.added)
    assert Transition.between(two, none) == Transition(rest=none.added)
    scaled = Transition.between(two, two.scaled("c", "1", 4)).scale
    assert scaled == (Scaling("c", "1", 2, 4, is_of_archive=True),)
    assert two.first() == (("a", "1"), ("b", "1")), "an archive that does not load hurts itself only"
    assert [two.added[0].processes_in(workers) for workers in (1, 2, 3)] == [2, 1, 1]
    assert from_json(to_json(two), START.fixed) == two
    with pytest.raises(RecordError, match="between 0 and 64"):
        none.scaled("c", "1", -1)


def test_requests_wait_for_the_workers_of_an_archive_from_one_change_to_the_next():
    none = START.with_model(IDLE)
    starting = none.starting("c", "1", 2, 3)
    (model,) = starting.added
    assert model.is_idle and model.is_starting
    assert (model.archive.min_workers, model.archive.max_workers) == (2, 3), "a start of the server gives it these"
    assert Transition.between(none, starting) == Transition(expect=(model,))
    assert Transition.between(START, starting).expect == (model,)
    started = starting.started("c", "1")
    assert started == none.scaled("c", "1", 2, 3)
    assert Transition.between(starting, started) == Transition(wake=started.added)
    assert starting.starting("c", "1", 4).started("c", "1") == none.scaled("c", "1", 4), "the last word counts"
    assert from_json(to_json(starting), START.fixed) == starting
    for given_up in (starting.scaled("c", "1", 0), starting.not_started("c", "1", removes=False)):
        assert not given_up.added[0].is_starting and given_up.added[0].is_idle
        assert Transition.between(starting, given_up) == Transition(expect=given_up.added)


def test_workers_that_do_not_start_leave_an_archive_without_any_or_take_it_away():
    starting = START.with_model(IDLE).starting("c", "1", 2)
    assert starting.not_started("c", "1", removes=True).added == ()
    second = dataclasses.replace(IDLE, version="2")
    both = starting.with_model(second)
    (first, _) = both.not_started("c", "1", removes=True).added
    assert (first.key, first.is_starting) == (("c", "1"), False), "the default one of several stays"
    running = starting.started("c", "1")
    for same in (running.started("c", "1"), running.starting("c", "1", 3)):
        assert same == running, "another change was faster"
    assert running.not_started("c", "1", removes=True) == running
    assert START.with_model(IDLE).starting("c", "1", 0) == START.with_model(IDLE)
    with pytest.raises(UnknownModel):
        START.started("c", "1")


def test_of_versions_that_go_together_the_default_one_goes_last():
    models = START.with_model(OTHER).with_model(AddedModel("c", "2", "c2"))
    gone = models.without("c", "2").without("c", "1")
    assert Transition.between(models, gone).remove == (("c", "2"), ("c", "1"))
