"""Where a request came from and which address its client used, as proxies that are trusted say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

from server.config import is_root_path

_Address = IPv4Address | IPv6Address
_HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)


class Proxies:
    """The proxies whose X-Forwarded headers count, and the path under which they serve.

    Any client can send these headers, so those of other addresses are ignored.
    """

    def __init__(self, trusted: Sequence[str], root_path: str) -> None:
        """Creates it.

        Args:
            trusted: addresses and networks.
            root_path: "" or "/path"; X-Forwarded-Prefix wins over it.
        """
        self._networks = [ip_network(each, strict=False) for each in trusted]
        self._root_path = root_path

    def client_of(self, request: web.BaseRequest) -> str:
        """The address of the client, "-" where it is unknown: the last one in X-Forwarded-For that is no proxy."""
        client = _address(request.remote or "")
        if client is None:
            return "-"
        # Not `getall`: the headers of a request that aiohttp's parser refused are a dict.
        said = [value for name, value in request.headers.items() if name.lower() == "x-forwarded-for"]
        hops = ",".join(said).split(",")
        while self._trusts(client) and hops:
            hop = _address(hops.pop())
            if hop is None:
                break
            client = hop
        return str(client)

    def url_of(self, request: web.BaseRequest) -> str:
        """The address of this service as the client knows it, without a slash at its end."""
        return f"{self._scheme(request)}://{self._host(request)}{self.prefix_of(request)}"

    def prefix_of(self, request: web.BaseRequest) -> str:
        """The path under which the client sees this service: "" or "/path"."""
        said = self._said(request, "Prefix").rstrip("/")
        return said if is_root_path(said) and said else self._root_path

    def _scheme(self, request: web.BaseRequest) -> str:
        said = self._said(request, "Proto").lower()
        return said if said in ("http", "https") else request.scheme

    def _host(self, request: web.BaseRequest) -> str:
        hosts = (self._said(request, "Host"), request.host)
        return next((host for host in hosts if _HOST.fullmatch(host)), "localhost")

    def _said(self, request: web.BaseRequest, what: str) -> str:
        """A header's first value, which is what the outermost proxy says; "" where none is trusted."""
        header = request.headers.get(f"X-Forwarded-{what}", "")
        if not header or not self._trusts(_address(request.remote or "")):
            return ""
        return header.split(",")[0].strip()

    def _trusts(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> _Address | None:
    """An address in X-Forwarded-For: some proxies write a port behind it, and brackets around IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
