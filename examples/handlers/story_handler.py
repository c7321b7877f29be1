"""Writes a text word by word, and sends each word when it has it. No torch.

Each word follows one that it follows somewhere in `story.txt`, an extra file of the archive.
"""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from ts.handler_utils.utils import send_intermediate_predict_response

_WORDS = 40


class Story:
    """Continues a text."""

    def initialize(self, context: Any) -> None:
        """Learns which words follow which."""
        words = Path(context.system_properties["model_dir"], "story.txt").read_text(encoding="utf-8").split()
        self.next: defaultdict[str, list[str]] = defaultdict(list)
        for word, following in pairwise(words):
            self.next[word].append(following)
        self.beginnings = [word for word in words if word[0].isupper()]
        self.most = int(context.model_yaml_config.get("story", {}).get("words", _WORDS))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        """A text for each seed; every word but the last is sent at once."""
        writers = [self._write(row) for row in data]
        parts = [next(writer) for writer in writers]
        for _ in range(self.most - 1):
            send_intermediate_predict_response(parts, context.request_ids, "Intermediate", 200, context)
            parts = [" " + next(writer) for writer in writers]
        return [f"{part}\n" for part in parts]

    def _write(self, row: dict[str, Any]) -> Any:
        value = row.get("data") or row.get("body") or ""
        seed = bytes(value) if isinstance(value, bytes | bytearray) else str(value)
        chance = random.Random(seed)
        word = chance.choice(self.beginnings)
        while True:
            yield word
            word = chance.choice(self.next[word] or self.beginnings)
