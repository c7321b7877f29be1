"""Flags, environment, file, defaults: all from the fields of the configuration."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.__main__ import main
from server.config import Config, ConfigError, ServerConfig
from server.options import SECTIONS, config_text, parse_config
from snapserve.options import options_of

ROOT = Path(__file__).parents[2]


def test_defaults():
    assert parse_config([], {}) == (Config(), False)


def test_a_flag_wins_over_the_environment_which_wins_over_the_default():
    environment = {"SNAPSERVE_PORT": "1111", "SNAPSERVE_QUEUE_LIMIT": "7", "SNAPSERVE_ACCESS_LOG": "yes"}
    config, _ = parse_config(["--port", "2222"], environment)
    assert (config.server.port, config.batching.queue_limit, config.server.access_log) == (2222, 7, True)


def test_the_environment_wins_over_the_file_which_wins_over_the_default(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('port = 3333\nqueue-limit = 9\n[models]\nmodel = ["a", "b=c"]\n[server]\nworkers = "auto"\n')
    config, _ = parse_config(["--config", str(file), "--model", "x"], {"SNAPSERVE_PORT": "1111"})
    assert (config.server.port, config.batching.queue_limit, config.models.model) == (1111, 9, ("x",))
    assert (
        parse_config(["--config", str(file), "--port", "2222"], {"SNAPSERVE_PORT": "1111"})[0].server.port == 2222
    )
    assert parse_config([], {"SNAPSERVE_CONFIG": str(file)})[0].models.model == ("a", "b=c")


def test_the_flag_names_another_file_than_the_variable_or_none(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("port = 3333")
    environment = {"SNAPSERVE_CONFIG": "/nowhere.toml"}
    assert parse_config(["--config", str(file)], environment)[0].server.port == 3333
    assert parse_config(["--config", ""], environment)[0] == Config()
    assert parse_config([], {"SNAPSERVE_CONFIG": ""})[0] == Config()


@pytest.mark.parametrize("by_variable", [False, True])
def test_the_process_prints_what_the_file_says(tmp_path, by_variable):
    file = tmp_path / "server.toml"
    file.write_text('[server]\nport = 3333\naccess_log = true\ncors_origin = ["https://a", "https://b"]\n')
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | (
        {"SNAPSERVE_CONFIG": str(file)} if by_variable else {}
    )
    words = [] if by_variable else ["--config", "server.toml"]
    command = [sys.executable, "-m", "server", *words, "--print-config", "--queue-limit", "7"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {"--port 3333", "--access-log True", "--queue-limit 7", "--cors-origin https://a https://b"} <= {*lines}
    assert len(lines) == len(config_text(Config()).splitlines())


def test_a_wrong_file_ends_the_process_with_code_2_and_one_line(tmp_path):
    (tmp_path / "server.toml").write_text("[server]\nport = 70000\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "server", "--config", "server.toml"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    said = "snapserve: server.toml: server.port 70000: must be between 0 and 65535\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_options_that_may_be_repeated():
    config, _ = parse_config(["--model", "a=x", "--model", "y"], {"SNAPSERVE_CORS_ORIGIN": "https://a,https://b"})
    assert config.models.model == ("a=x", "y")
    assert config.server.cors_origin == ("https://a", "https://b")


def test_what_is_printed_can_be_given_back():
    config, only_print = parse_config(["--print-config", "--max-batch-size", "5", "--cors-origin", "*"], {})
    assert only_print
    words = [
        word
        for line in config_text(config).splitlines()
        for word in line.split(" ")
        if " " in line and "_" not in word
    ]
    kinds = SECTIONS.values()
    switches = [each.flag for kind in kinds for each in options_of(kind) if each.kind is bool]  # --x, --no-x
    switches += ["True", "False"]
    assert parse_config([word for word in words if word not in switches], {})[0] == config


def test_scaled_decoding_can_be_switched_off():
    assert parse_config([], {})[0].server.scaled_decode
    assert not parse_config(["--no-scaled-decode"], {})[0].server.scaled_decode
    assert not parse_config([], {"SNAPSERVE_SCALED_DECODE": "false"})[0].server.scaled_decode


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-batch-size", "-1"], "--max-batch-size -1: must be between 0 and 1024"),
        (["--max-batch-size", "many"], "--max-batch-size many: must be a whole number between 0 and 1024"),
        (["--port", "70000"], "--port 70000: must be between 0 and 65535"),
        (["--device", "tpu"], "--device tpu: must be auto, cpu or cuda"),
        (["--batch-timeout-ms", "-1"], "--batch-timeout-ms -1.0: must be between 0 and 10000"),
        (["--batch-timeout-ms", "nan"], "--batch-timeout-ms nan: must be between 0 and 10000"),
        (["--bach-timeout-ms", "1"], "--bach-timeout-ms: unknown option, did you mean --batch-timeout-ms?"),
        (["--qqq"], "--qqq: unknown option, --help lists what is allowed"),
        (["image.jpg"], "image.jpg: not expected, options begin with --"),
        (["--port"], "argument --port: expected one argument"),
        (["--root-path", "vision"], "--root-path vision: must be a path like /vision, without a slash at its end"),
        (
            ["--root-path", "/vision/"],
            "--root-path /vision/: must be a path like /vision, without a slash at its end",
        ),
        (["--root-path", '/a"b'], '--root-path /a"b: must be a path like /vision, without a slash at its end'),
        (["--trusted-proxy", "*"], "--trusted-proxy *: must be an address or a network like 10.0.0.0/8"),
        (["--trusted-proxy", "proxy"], "--trusted-proxy proxy: must be an address or a network like 10.0.0.0/8"),
        (["--model", "/nowhere"], "/nowhere: there is no such folder or file"),
    ],
)
def test_a_wrong_word_ends_the_start_with_code_2_and_one_line(arguments, said, capsys, monkeypatch):
    for name in ("server.__main__.take_over_streams", "server.operations.logs.set_up_logs"):
        monkeypatch.setattr(name, lambda *_: None)  # the streams, hooks and warnings are those of the tests
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"snapserve: {said}\n"


def test_a_wrong_variable_is_named(monkeypatch, capsys):
    monkeypatch.setenv("SNAPSERVE_ACCESS_LOG", "perhaps")
    assert main([]) == 2
    assert capsys.readouterr().err == "snapserve: SNAPSERVE_ACCESS_LOG perhaps: must be true or false\n"


def test_every_option_has_help_and_a_default_that_is_allowed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for section in SECTIONS.values():
        section()
        for each in options_of(section):
            assert each.flag in text
            assert each.help
            assert each.variable == "SNAPSERVE_" + each.name.upper()


def test_a_variant_by_replace_is_checked_too():
    with pytest.raises(ConfigError, match="--port"):
        dataclasses.replace(ServerConfig(), port=-1)


def test_asking_for_the_options_does_not_import_torch():
    code = (
        "import sys; from server.__main__ import main; main(['--print-config']); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True)
