"""The YAML file of an archive: its values are sent to processes as JSON."""

from __future__ import annotations

import json

from models.archives.yaml_file import read_yaml


def test_dates_are_texts_and_everything_is_json():
    text = b"day: 2020-01-31\nat: 2020-01-31 10:00:00\n2020-02-01: [x, {y: .nan}]\n1: null\n<<: {z: 0x10}\n"
    found = read_yaml(text, "c")
    assert json.loads(json.dumps(found))["day"] == "2020-01-31"
    assert found["at"] == "2020-01-31T10:00:00" and found["2020-02-01"][0] == "x"
    assert found[1] is None and found["z"] == 16
    assert read_yaml(b"", "c") == read_yaml(b"# nothing", "c") == {}
