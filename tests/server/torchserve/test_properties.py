"""config.properties: syntax, keys and environment."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.config import Config, ConfigError
from server.options import parse_config
from server.torchserve.properties import read_properties, write_properties
from server.torchserve.settings import KEYS, settings_of, texts_of

FILE = Path("config.properties")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\nb = 2\nc:3\nd 4\n", {"a": "1", "b": "2", "c": "3", "d": "4"}),
        ("# no\n! no\n\n  a=1  \n", {"a": "1"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ('models={\\\n  "m": {\\\n    "1.0": 1}}\nb=2', {"models": '{"m": {"1.0": 1}}', "b": "2"}),
        ("a=http\\://x\\=y\\tz", {"a": "http://x=y\tz"}),
        ("a=\\u00e9\\ud83d\\ude00", {"a": "é😀"}),
        ("a\na=2", {"a": "2"}),
        ("a=x\\\\\nb=1", {"a": "x\\", "b": "1"}),
        ("a=1\\", {"a": "1"}),
    ],
)
def test_the_syntax_is_javas(text, expected):
    assert read_properties(text) == expected


@settings(max_examples=50)
@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_what_is_written_is_read(values):
    values = {key: text.rstrip(" \t\f") for key, text in values.items() if key < "\ud800" and key.strip(" \t\f")}
    written = write_properties(values, "a comment")
    assert written.isascii()
    assert read_properties(written) == values


def test_keys_become_options_and_the_others_are_named_in_one_line(caplog):
    text = "number_of_gpu=0\nload_models=all\nnumber_of_netty_threads=3\nmetrics_mode=legacy\nodd=1\nmodels=\n"
    with caplog.at_level(logging.WARNING, "snapserve"):
        found = settings_of(read_properties(text), FILE, {})
    assert found == {"device": "cpu", "models": "all", "metrics_mode": "log"}
    assert caplog.messages == ["config.properties: no effect on this server: number_of_netty_threads, odd"]


def test_the_environment_fills_values_and_beats_them_where_that_is_on():
    properties = {"model_store": "$$PLACE$$/store", "job_queue_size": "5", "allowed_urls": "a"}
    environment = {"PLACE": "/here", "TS_JOB_QUEUE_SIZE": "7", "TS_ALLOWED_URLS": "b"}
    assert settings_of(properties, FILE, environment)["model_store"] == "/here/store"
    assert settings_of(properties, FILE, environment)["job_queue_size"] == 5
    found = settings_of({**properties, "enable_envvars_config": "true"}, FILE, environment)
    assert (found["job_queue_size"], found["allowed_urls"]) == (7, "a")
    properties |= {"enable_envvars_config": "true", "use_env_allowed_urls": "true"}
    assert settings_of(properties, FILE, environment)["allowed_urls"] == "b"
    with pytest.raises(
        ConfigError, match=r"config\.properties: model_store: the environment has no variable PLACE"
    ):
        settings_of(properties, FILE, {})


def test_every_key_has_a_variable_of_torchserve_s_name():
    named = {"token_expiration_min": "TS_TOKEN_EXPIRATION_TIME_MIN"}
    values = dict.fromkeys(("number_of_gpu", "job_queue_size", "token_expiration_min", "max_response_size"), "1")
    environment = {named.get(key, f"TS_{key.upper()}"): value for key, value in values.items()}
    found = settings_of({"enable_envvars_config": "true"}, FILE, environment)
    assert found == {
        "device": "auto", "job_queue_size": 1, "token_expiration_min": 1.0, "max_response_size": 1
    }  # fmt: skip


@pytest.mark.parametrize("line", ["job_queue_size=many", "enable_model_api=perhaps", "inference_address=unix:/x"])
def test_a_wrong_value_is_named_with_its_file_and_key(line):
    with pytest.raises(ConfigError, match=f"^config.properties: {line.partition('=')[0]} "):
        settings_of(read_properties(line), FILE, {})


def test_a_flag_beats_the_file_which_turns_the_api_on(tmp_path, monkeypatch):
    file = tmp_path / "ts.properties"
    file.write_text("job_queue_size=5\nmodel_store=here\nenable_model_api=true\n")
    config, _ = parse_config(["--ts-config", str(file), "--job-queue-size", "9"], {})
    given = config.torchserve
    assert (given.is_on, given.job_queue_size, given.enable_model_api) == (True, 9, True)
    assert config.models.model_store == "here"
    monkeypatch.chdir(tmp_path)
    assert parse_config([], {"TS_CONFIG_FILE": str(file)})[0] == Config(), "another server's variable"
    assert parse_config(["--torchserve"], {"TS_CONFIG_FILE": str(file)})[0].models.model_store == "here"
    logs = parse_config(["--torchserve"], {"LOG_LOCATION": "/logs"})[0].torchserve
    assert logs.snapshots == Path("/logs/config")
    for text, is_on in (("oip", True), ("none", False), ("", False)):
        found = parse_config(["--torchserve"], {"TS_OPEN_INFERENCE_PROTOCOL": text})[0]
        assert found.torchserve.ts_open_inference_protocol == is_on, text
    file.rename(tmp_path / "config.properties")
    assert parse_config(["--torchserve"], {})[0].models.model_store == "here", "it lies where the server starts"


def test_settings_that_are_no_defaults_survive_a_snapshot(tmp_path):
    file = tmp_path / "ts.properties"
    file.write_text("job_queue_size=5\nenable_model_api=true\ndecode_input_request=false\nallowed_urls=a,b\n")
    config, _ = parse_config(["--ts-config", str(file)], {})
    texts = texts_of(config)
    assert settings_of(texts, FILE, {}) == {
        "job_queue_size": 5,
        "enable_model_api": True,
        "decode_input_request": False,
        "allowed_urls": "a,b",
    }
    assert set(texts) <= set(KEYS)
