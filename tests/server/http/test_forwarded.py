"""X-Forwarded headers count where a trusted proxy sends them, and nowhere else."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from server.http.forwarded import Proxies

ALL = {
    "Host": "inner:8088",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "photos.example",
    "X-Forwarded-Prefix": "/vision",
}


def request_of(headers, peer="10.0.0.7"):
    return make_mocked_request("GET", "/", {"Host": "inner:8088", **headers}).clone(remote=peer)


def test_a_trusted_proxy_says_who_asks_and_for_which_address():
    proxies = Proxies(("10.0.0.0/8",), "")
    assert proxies.client_of(request_of(ALL)) == "203.0.113.9"
    assert proxies.url_of(request_of(ALL)) == "https://photos.example/vision"


@pytest.mark.parametrize("trusted", [(), ("10.0.0.8",), ("127.0.0.1",), ("::/0",)])
def test_what_anybody_else_says_is_passed_over(trusted):
    proxies = Proxies(trusted, "/own")
    assert proxies.client_of(request_of(ALL)) == "10.0.0.7"
    assert proxies.url_of(request_of(ALL)) == "http://inner:8088/own"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("1.1.1.1, 203.0.113.9", "203.0.113.9"),  # the first was made up by the client
        ("203.0.113.9, 10.1.1.1", "203.0.113.9"),  # two proxies
        ("203.0.113.9,10.1.1.1,10.2.2.2", "203.0.113.9"),
        ("10.3.3.3, 10.1.1.1", "10.3.3.3"),  # a client within
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("unknown", "10.0.0.7"),
        ("203.0.113.9, <script>", "10.0.0.7"),
        ("", "10.0.0.7"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(forwarded, client):
    assert Proxies(("10.0.0.0/8",), "").client_of(request_of({"X-Forwarded-For": forwarded})) == client


@pytest.mark.parametrize(("peer", "client"), [("::ffff:10.0.0.7", "203.0.113.9"), ("::1", "::1"), ("", "-")])
def test_the_peer_may_be_ipv6_or_unknown(peer, client):
    assert Proxies(("10.0.0.7",), "").client_of(request_of(ALL, peer)) == client


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({"X-Forwarded-Prefix": "/vision/"}, "http://inner:8088/vision"),
        ({"X-Forwarded-Prefix": "/"}, "http://inner:8088/own"),
        ({"X-Forwarded-Prefix": "/a, /b"}, "http://inner:8088/a"),
        ({"X-Forwarded-Prefix": "//evil.example"}, "http://inner:8088/own"),
        ({"X-Forwarded-Prefix": "/<script>"}, "http://inner:8088/own"),
        ({"X-Forwarded-Prefix": "/" + "a" * 300}, "http://inner:8088/own"),
        ({"X-Forwarded-Proto": "javascript"}, "http://inner:8088/own"),
        ({"X-Forwarded-Proto": "HTTPS, http"}, "https://inner:8088/own"),
        ({"X-Forwarded-Host": "a'$(reboot)"}, "http://inner:8088/own"),
        ({"Host": "a'$(reboot)"}, "http://localhost/own"),
    ],
)
def test_what_a_shell_or_a_page_could_stumble_over_is_passed_over(said, url):
    assert Proxies(("10.0.0.7",), "/own").url_of(request_of(said)) == url
