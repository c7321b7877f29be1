"""What the tests of other servers' clients share."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture(scope="session")
def certificate(tmp_path_factory, require):
    """Settings of TorchServe that name a key and its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "certificate.pem"
    words = [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run([*words, *names], check=True, capture_output=True)
    return {"private_key_file": str(key), "certificate_file": str(chain)}
