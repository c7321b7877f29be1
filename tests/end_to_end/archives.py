"""Small model archives, and a server with TorchServe's API that serves them."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
import zipfile

from benchmark.harness.server import ServerProcess

ECHO = """
import time

def handle(data, context):
    if data is None:
        return None
    text = bytes(data[0].get("body") or b"").decode()
    if text.startswith("sleep"):
        time.sleep(float(text[5:]))
    return [f"{context.model_name} says {text}" for _ in data]
"""
DESCRIBES = """
class Handler:
    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        if context.get_request_header(0, "describe") == "True":
            return [{"about": "echoes"}]
        return ["hello"]
"""
BROKEN = "raise ImportError('nothing of that name')\n"


def make_archive(file, name, code=ECHO, version="1.0", yaml="", handler="handler.py"):
    """Writes an archive as the archiver does."""
    model = {"modelName": name, "handler": handler, "modelVersion": version}
    if yaml:
        model["configFile"] = "config.yaml"
    manifest = {
        "createdOn": "25/11/2026 21:47:37",
        "runtime": "python",
        "model": model,
        "archiverVersion": "0.12.0",
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("handler.py", code)
        if yaml:
            archive.writestr("config.yaml", yaml)


class TorchServer:
    """A server process in a working directory of its own; a context manager that ends it."""

    def __init__(self, folder, *options):
        addresses = (word for name in ("inference", "management", "metrics")
                     for word in (f"--{name}-address", "127.0.0.1:0"))  # fmt: skip
        self.server = ServerProcess(
            "--torchserve", "--model-store", "store", "--disable-token-auth", *addresses, *options, folder=folder
        )
        line = self.server.line("TorchServe's inference API on")
        self.inference, self.management, self.metrics = re.findall(r"http://[\d.:]+", line)

    def ask(self, method, path, body=None, headers=None, url=None):
        """Status and body of a request to the management port; JSON is parsed."""
        request = urllib.request.Request(
            (url or self.management) + path, method=method, data=body, headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, parsed(response)
        except urllib.error.HTTPError as response:
            return response.code, parsed(response)

    def predict(self, model, text=""):
        """Status and text of a prediction."""
        return self.ask("POST", f"/predictions/{model}", text.encode(), url=self.inference)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.__exit__()


def parsed(response):
    text = response.read().decode()
    return json.loads(text) if response.headers.get_content_type() == "application/json" else text
