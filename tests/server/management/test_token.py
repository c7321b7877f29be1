"""The token of the management."""

from __future__ import annotations

import pytest

from server.config import ConfigError
from server.management.token import Token


def test_a_new_token_is_long_and_never_the_same():
    assert len(Token.new().text) >= 40
    assert Token.new().text != Token.new().text


def test_a_file_with_a_token(tmp_path, caplog):
    file = tmp_path / "token"
    file.write_text("\n  0123456789abcdef \n")
    file.chmod(0o600)
    assert Token.read(file).text == "0123456789abcdef"
    assert caplog.text == ""
    file.chmod(0o644)
    assert Token.read(file).is_in("bearer 0123456789abcdef")
    assert "others on this machine may read it" in caplog.text


@pytest.mark.parametrize(
    "data", [b"", b"short", b"x" * 1025, b"two words of it all", "ä".encode() * 20, bytes(20)]
)
def test_what_is_no_token(tmp_path, data):
    file = tmp_path / "token"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"token: must hold 16 to 1024"):
        Token.read(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        Token.read(tmp_path / "token")
