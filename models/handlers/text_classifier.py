"""The built-in handler of networks that tell the class of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from models.handlers.label_mapping import map_class_to_label
from models.handlers.text_handler import TextHandler, text_of


class TextClassifier(TextHandler):
    """Answers with every class and its probability.

    Attributes:
        ngrams: longest run of words that has a number of its own.
    """

    ngrams = 2

    def preprocess(self, data: Sequence[Any]) -> tuple[Any, Any]:
        """Texts -> the numbers of all their words, and where each text begins."""
        numbers, offsets = list[int](), []
        for row in data:
            text = self.remove_accented_characters(self.remove_html_tags(text_of(row)).lower())
            offsets.append(len(numbers))
            words = self.ngrams_iterator(self.tokenize(text), self.ngrams)
            numbers += [self.source_vocab[word] for word in words if word in self.source_vocab]
        return torch.tensor(numbers, device=self.device), torch.tensor(offsets, device=self.device)

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the network with numbers and beginnings."""
        with torch.inference_mode():
            return self.model(*data)

    def postprocess(self, data: Any) -> list[Any]:
        """Scores [N, classes] -> {name: probability} per request."""
        return map_class_to_label(torch.nn.functional.softmax(data, dim=1).tolist(), self.mapping)

    def get_insights(self, tensor_data: Any, raw_data: Any, target: int = 0) -> NoReturn:
        """Raises NotImplementedError: explanations of texts need captum and torchtext."""
        raise NotImplementedError("texts are not explained: torchtext, which that needs, has ended")
