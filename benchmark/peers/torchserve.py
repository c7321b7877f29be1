"""TorchServe: its Java front, and worker processes with a handler that answers as the other peers do."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_HANDLER = Path(__file__).with_name("torchserve_handler.py")
NAME = "classify"  # of the model: its path is /predictions/classify


def missing() -> str:
    """Why TorchServe cannot run here; empty when it can."""
    return (
        "" if shutil.which("java") else "TorchServe needs Java, which is not installed (openjdk-17-jre-headless)"
    )


def write_archive(store: Path) -> None:
    """Writes the model archive, by the real archiver. store: folder for it."""
    words = ["--model-name", NAME, "--handler", str(_HANDLER), "--version", "1.0", "--export-path", str(store)]
    subprocess.run([sys.executable, "-m", "model_archiver.model_packaging", *words], check=True)


def write_settings(store: Path, options: argparse.Namespace) -> Path:
    """Writes config.properties beside the archive."""
    model = {
        "1.0": {
            "defaultVersion": True,
            "marName": f"{NAME}.mar",
            "minWorkers": options.workers,
            "maxWorkers": options.workers,
            "batchSize": options.max_batch_size,
            "maxBatchDelay": options.max_wait_ms,
            "responseTimeout": 120,
        }
    }
    addresses = {
        f"{api}_address": f"http://127.0.0.1:{options.port + offset}"
        for offset, api in enumerate(("inference", "management", "metrics"))
    }
    lines = {
        "model_store": store,
        "load_models": f"{NAME}.mar",
        "models": json.dumps({NAME: model}),
        "disable_token_authorization": "true",
        "job_queue_size": 1000,
        **addresses,
    }
    file = store / "config.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
    return file


def main() -> None:
    """Runs the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True, help="of inference; the next two are its other ports")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-batch-size", type=int, default=8)
    parser.add_argument("--max-wait-ms", type=int, default=1)
    options = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the folder goes with the server
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        tempfile.tempdir = folder  # the file that names the process: another TorchServe may run
        write_archive(store)
        settings = write_settings(store, options)
        os.environ["PYTHONPATH"] = str(_ROOT)  # for the handler, in the workers
        os.chdir(store)  # where TorchServe writes its logs
        from ts.model_server import start

        sys.argv[1:] = ["--start", "--foreground", "--ncs", "--ts-config", str(settings)]
        start()


if __name__ == "__main__":
    main()
