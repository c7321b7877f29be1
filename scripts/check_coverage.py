"""Fails unless the parts that must not break are covered: `python scripts/check_coverage.py coverage.json`.

coverage.py has one threshold for everything; these parts have one of their own, for branches.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REQUIRED_PERCENT = {
    ("batching/",): 95.0,
    (
        "models/images/preprocess.py",
        "models/images/decode.py",
        "models/images/geometry.py",
        "models/images/resize.py",
        "models/images/jpeg_file.py",
        "models/images/png.py",
        "models/images/webp.py",
        "models/images/exif.py",
    ): 95.0,
}


def branch_percent(files: dict[str, dict[str, dict[str, int]]], prefixes: tuple[str, ...]) -> float:
    """Covered branches in percent over all files whose name begins with one of `prefixes`."""
    summaries = [file["summary"] for name, file in files.items() if name.startswith(prefixes)]
    total = sum(summary["num_branches"] for summary in summaries)
    return 100 * sum(summary["covered_branches"] for summary in summaries) / total


def main(report: str) -> int:
    files = json.loads(Path(report).read_text(encoding="utf-8"))["files"]
    failed = False
    for prefixes, required in REQUIRED_PERCENT.items():
        percent = branch_percent(files, prefixes)
        failed |= percent < required
        print(f"branch coverage of {', '.join(prefixes)}: {percent:.1f} % (at least {required:g} % is required)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
