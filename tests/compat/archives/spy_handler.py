"""A handler that reads the file that the request names."""

from pathlib import Path


def handle(data, context):
    return None if data is None else [Path(row["body"]).read_text() for row in data]
