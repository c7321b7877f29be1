"""Handlers of texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from models.errors import EngineError
from models.handlers.base_handler import BaseHandler
from models.handlers.context import Context

_VOCABULARY = "source_vocab.pt"
_TAG = re.compile(r"<[^>]*>")
_TOKEN = re.compile(r"\w+|[.,!?()'\"]")


class TextHandler(BaseHandler):
    """Cleans texts, and has the vocabulary of the archive.

    Attributes:
        source_vocab: number of each word.
    """

    def initialize(self, context: Context) -> None:
        """Loads the network and the vocabulary.

        Raises:
            EngineError: there is no vocabulary, or it needs torchtext, which is not installed.
        """
        super().initialize(context)
        file = Path(context.system_properties["model_dir"]) / _VOCABULARY
        if not file.is_file():
            raise EngineError(f"the archive has no {_VOCABULARY}")
        try:
            self.source_vocab = torch.load(file, weights_only=False)
        except ModuleNotFoundError as error:
            raise EngineError(
                f"{_VOCABULARY} needs the package {error.name}, which is not installed; torchtext ended with "
                "torch 2.3, so save the vocabulary as a dict of words and numbers"
            ) from None

    def ngrams_iterator(self, tokens: list[str], ngrams: int) -> Iterator[str]:
        """The words, then each run of 2 to `ngrams` words."""
        yield from tokens
        for length in range(2, ngrams + 1):
            for begin in range(len(tokens) - length + 1):
                yield " ".join(tokens[begin : begin + length])

    def get_source_vocab_path(self, ctx: Context) -> str:
        """Where the vocabulary is."""
        return str(Path(ctx.system_properties["model_dir"]) / _VOCABULARY)

    def get_word_token(self, input_tokens: Any) -> list[str]:
        """The words of numbers."""
        words = {number: word for word, number in dict(self.source_vocab).items()}
        return [str(words[int(number)]) for number in input_tokens]

    def remove_html_tags(self, text: str) -> str:
        """A text without tags."""
        return _TAG.sub("", text)

    def remove_accented_characters(self, text: str) -> str:
        """A text with plain letters only."""
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")

    def tokenize(self, text: str) -> list[str]:
        """The words and marks of a text."""
        return _TOKEN.findall(text)

    # As handlers know them.
    _remove_html_tags, _remove_accented_characters, _tokenize = (
        remove_html_tags,
        remove_accented_characters,
        tokenize,
    )


def text_of(row: Any) -> str:
    """The text of a request: field `data`, else `body`."""
    value = row.get("data", row.get("body")) if isinstance(row, dict) else row
    return value.decode("utf-8") if isinstance(value, bytes | bytearray) else str(value)
