"""Classifies images with a network that AOTInductor compiled: machine code, and no Python of the network."""

from __future__ import annotations

from ts.torch_handler.image_classifier import ImageClassifier


class CompiledClassifier(ImageClassifier):
    """The built-in handler: BaseHandler loads a serialized file `.pt2` with AOTInductor's loader."""
