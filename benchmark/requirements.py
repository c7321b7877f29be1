"""What has to be installed before anything here can run. Imports nothing that might be missing."""

from __future__ import annotations

from importlib.util import find_spec

# As it is imported, and as it is installed.
NEEDED = {
    "PIL": "pillow",
    "aiohttp": "aiohttp",
    "multipart": "multipart",
    "numpy": "numpy",
    "orjson": "orjson",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "rich": "rich",
    "safetensors": "safetensors",
    "torch": "torch",
    "torchvision": "torchvision",
    "uvloop": "uvloop",
}


def missing_packages() -> list[str]:
    """The names of all packages that are missing, as pip knows them."""
    return [package for module, package in NEEDED.items() if find_spec(module) is None]
