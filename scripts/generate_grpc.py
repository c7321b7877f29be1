"""Makes the Python of `open_inference.proto`: `python scripts/generate_grpc.py [FOLDER]`. Needs grpcio-tools."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROTO = Path("server/dialects/open_inference/rpc/generated/open_inference.proto")


def generate(folder: Path = ROOT) -> int:
    """Writes the modules below `folder`, at the path of the proto file. Returns protoc's exit code."""
    from grpc_tools import protoc

    outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    code: int = protoc.main(["protoc", *includes, *outputs, str(ROOT / PROTO)])
    return code


if __name__ == "__main__":
    sys.exit(generate(*map(Path, sys.argv[1:2])))
