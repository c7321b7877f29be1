"""Ports that speak HTTPS."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from server.config import ConfigError, TorchServeConfig
from server.http.connection import Connection
from server.operations.tls import tls_of
from tests.conftest import flat

ADDRESSES = {"inference_address": "https://127.0.0.1:0", "metrics_address": "127.0.0.1:0"}


async def test_the_port_speaks_https_and_the_others_do_not(serve, certificate):
    server = await serve(**certificate, **ADDRESSES)
    assert server.inference.startswith("https://") and server.metrics.startswith("http://")
    trusting = ssl.create_default_context(cafile=certificate["certificate_file"])
    for _ in range(2):
        assert (await server.answer("/predictions/hash", flat(1), ssl=trusting))[0] == 200
    async with server.ask("/predictions/probe", "stream", ssl=trusting) as response:
        assert await response.read() == b"part0 part1 part2 last"
    assert await server.show("?name[]=none") == ""


async def test_a_connection_whose_client_has_read_all_is_not_paused(serve, certificate, monkeypatch):
    """A connection that is paused is dropped after `body_timeout_s`, and its next answer waits."""
    unread = []  # bytes, each time when the connection is paused
    note = lambda self: unread.append(self.transport.get_write_buffer_size())  # noqa: E731
    monkeypatch.setattr(Connection, "pause_writing", note)
    monkeypatch.setattr(Connection, "resume_writing", lambda self: None)
    server = await serve(**certificate, **ADDRESSES)
    trusting = ssl.create_default_context(cafile=certificate["certificate_file"])
    for _ in range(3):
        assert (await server.answer("/predictions/hash", flat(1), ssl=trusting))[0] == 200
    assert 0 not in unread


async def test_plain_http_on_that_port_hurts_itself_only(serve, certificate):
    server = await serve(**certificate, **ADDRESSES)
    host, port = server.inference.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert answer.endswith(b'{\n  "status": "This TorchServe instance only accepts HTTPS requests"\n}\n')
    trusting = ssl.create_default_context(cafile=certificate["certificate_file"])
    assert (await server.answer("/ping", ssl=trusting))[0] == 200


@pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x02\x00"], ids=["silent", "one byte", "a header"])
async def test_a_handshake_that_is_not_completed_ends_with_its_connection(serve, certificate, first):
    server = await serve(**certificate, **ADDRESSES, header_timeout_s=0.2)
    reader, writer = await asyncio.open_connection(*server.inference.removeprefix("https://").split(":"))
    writer.write(first)
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()
    trusting = ssl.create_default_context(cafile=certificate["certificate_file"])
    assert (await server.answer("/ping", ssl=trusting))[0] == 200


def test_files_that_are_no_certificate_end_the_start(certificate, tmp_path):
    (tmp_path / "no.pem").write_text("no")
    for changed in ({"certificate_file": tmp_path / "no.pem"}, {"private_key_file": tmp_path / "none.pem"}):
        with pytest.raises(ConfigError, match=r"--certificate-file .*: "):
            tls_of(TorchServeConfig(**{**certificate, **changed}))


def test_https_needs_a_certificate_and_the_metrics_a_port_of_their_own():
    with pytest.raises(ConfigError, match="https needs --certificate-file"):
        TorchServeConfig(inference_address="https://127.0.0.1:8443")
    with pytest.raises(ConfigError, match="both are needed"):
        TorchServeConfig(certificate_file="x")
    with pytest.raises(ConfigError, match="--metrics-address"):
        TorchServeConfig(metrics_address="127.0.0.1:8080")
    assert TorchServeConfig(management_address="127.0.0.1:8080").management.url == "http://127.0.0.1:8080"
    with pytest.raises(ConfigError, match="HOST:PORT"):
        TorchServeConfig(inference_address="unix:/tmp/x")
