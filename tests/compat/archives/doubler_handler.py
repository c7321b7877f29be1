"""Doubles numbers: JSON, or the field `data`. Describes itself."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class Doubler(BaseHandler):
    """A handler without a model; explanations are left to BaseHandler, which has none for it."""

    def initialize(self, context):
        self.context = context
        self.initialized = True

    def preprocess(self, data):
        return [torch.tensor(row.get("data") or row.get("body"), dtype=torch.float32) for row in data]

    def inference(self, data, *args, **kwargs):
        return [2 * numbers for numbers in data]

    def postprocess(self, data):
        return [numbers.tolist() for numbers in data]

    def describe_handle(self):
        return {"about": "doubles numbers", "limit": 4}
