"""A TorchScript graph of one number each, with BaseHandler's own inference and postprocess."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class Lin(BaseHandler):
    """The body is a number as text; the graph gets it twice."""

    def preprocess(self, data):
        return torch.tensor([[float(row["body"])] * 2 for row in data])
