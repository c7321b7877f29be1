"""What handlers are usually derived from: loads a network, and runs a batch through four steps."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.archives.eager import load_network
from models.errors import EngineError
from models.handlers.context import Context
from models.handlers.label_mapping import load_label_mapping
from models.torch_private import load_aoti_package

logger = logging.getLogger(__name__)

_LABELS = "index_to_name.json"
_TORCHSCRIPT, _AOTINDUCTOR, _ONNX = (".pt", ".pth", ".bin", ".ts"), ".pt2", ".onnx"


class BaseHandler:
    """Takes tensors, returns what the network does.

    Attributes:
        model: the network; None before `initialize`.
        mapping: from indices to names; None without `index_to_name.json`.
        device: where the network is.
        map_location: "cpu" or "cuda".
        initialized: whether `initialize` was called.
        context: of the batch.
        manifest: of the archive.
        model_pt_path: file of the network.
        explain: whether the requests of the batch ask for explanations.
        target: class that is explained.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: dict[str, Any] | None = None
        self.device: Any = None
        self.map_location = "cpu"
        self.initialized = False
        self.context: Context | None = None
        self.manifest: dict[str, Any] | None = None
        self.model_pt_path: str | None = None
        self.explain = False
        self.target = 0

    def initialize(self, context: Context) -> None:
        """Loads the network of the archive. Raises EngineError: there is none."""
        properties = context.system_properties
        self.context, self.manifest = context, context.manifest
        gpu = properties.get("gpu_id")
        self.map_location = "cuda" if torch.cuda.is_available() and gpu is not None else "cpu"
        self.device = torch.device(f"cuda:{gpu}" if self.map_location == "cuda" else "cpu")
        folder, described = Path(properties["model_dir"]), context.manifest["model"]
        file = described.get("serializedFile", "")
        self.model_pt_path = str(folder / file) if file else None
        model_file = described.get("modelFile", "")
        if model_file:
            self.model = self._load_pickled_model(str(folder), model_file, self.model_pt_path)
        elif self.model_pt_path:
            self.model = self._load_file(Path(self.model_pt_path))
        else:
            raise EngineError("the archive has neither a serialized file nor a model file")
        self.mapping = load_label_mapping(str(folder / _LABELS))
        self.initialized = True

    def _load_file(self, file: Path) -> Any:
        if not file.is_file():
            raise EngineError(f"{file.name} is not in the archive")
        if file.suffix == _AOTINDUCTOR:
            return load_aoti_package(file)
        if file.suffix == _ONNX:
            from onnxruntime import InferenceSession

            return InferenceSession(str(file))
        if file.suffix not in _TORCHSCRIPT:
            known = ", ".join((*_TORCHSCRIPT, _AOTINDUCTOR, _ONNX))
            raise EngineError(f"{file.name}: without a model file, one of {known} is loaded")
        return self._load_torchscript_model(str(file))

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        """Loads TorchScript."""
        model = torch.jit.load(model_pt_path, map_location=self.device)
        return model.to(self.device).eval()

    def _load_pickled_model(self, model_dir: str, model_file: str, model_pt_path: str | None) -> Any:
        """Makes the network of the model file and loads its state dict. Raises EngineError."""
        weights = Path(model_pt_path).name if model_pt_path else ""
        return load_network(Path(model_dir), model_file, weights, str(self.device))

    def preprocess(self, data: Sequence[Any]) -> Any:
        """Requests -> a tensor of the device, of their numbers."""
        values = [_numbers(row) for row in data]
        return torch.as_tensor(values, device=self.device)

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the network."""
        with torch.inference_mode():
            if hasattr(self.model, "get_inputs"):  # a session of onnxruntime
                (given,) = self.model.get_inputs()
                return torch.as_tensor(self.model.run(None, {given.name: data.cpu().numpy()})[0])
            return self.model(data.to(self.device), *args, **kwargs)

    def postprocess(self, data: Any) -> list[Any]:
        """What the network returned -> an answer per request."""
        return data.tolist()  # type: ignore[no-any-return]

    def handle(self, data: Any, context: Context) -> list[Any]:
        """Answers a batch: preprocess, inference, postprocess, or the explanations, or the description.

        Args:
            data: a dict per request.
            context: of the batch.
        """
        began = time.perf_counter()
        self.context = context
        if self._is_describe():
            output = [self.describe_handle()]
        else:
            prepared = self.preprocess(data)
            self.explain = self._is_explain()
            if self.explain:
                output = self.explain_handle(prepared, data)
            else:
                output = self.postprocess(self.inference(prepared))
        took_ms = (time.perf_counter() - began) * 1000
        context.metrics.add_time("HandlerTime", round(took_ms, 2), None, "ms")
        return output

    def explain_handle(self, data_preprocess: Any, raw_data: Sequence[Any]) -> list[Any]:
        """The attribution of each input to a class: `target` of the request, else class 0.

        Args:
            data_preprocess: what `preprocess` returned.
            raw_data: a dict per request.
        """
        contents = [_content_of(row) for row in raw_data]
        targets = [_target(*pair) for pair in zip(raw_data, contents, strict=True)]
        self.target = targets[0]
        if not isinstance(data_preprocess, torch.Tensor) or len(data_preprocess) != len(contents):
            return self.get_insights(data_preprocess, contents[0], self.target)
        output: list[Any] = []
        for place, (content, self.target) in enumerate(zip(contents, targets, strict=True)):
            output += self.get_insights(data_preprocess[place : place + 1], content, self.target)
        return output

    def get_insights(self, tensor_data: Any, raw_data: Any, target: int = 0) -> list[Any]:
        """An explanation per request. Raises NotImplementedError: a handler that has some defines it.

        Args:
            tensor_data: what `preprocess` returned.
            raw_data: field `data` or `body` of the request.
            target: class that is explained.
        """
        raise NotImplementedError(f"{type(self).__name__} has no get_insights")

    def describe_handle(self) -> Any:
        """What `GET /models/{model}?customized=true` shows of the model; None for nothing."""
        return None

    def get_device(self) -> Any:
        """Where the network is."""
        return self.device

    def _is_explain(self) -> bool:
        return bool(self._header("explain") == "True")

    def _is_describe(self) -> bool:
        return bool(self._header("describe") == "True")

    def _header(self, name: str) -> Any:
        context = self.context
        return context.get_request_header(0, name) if context and context.request_processor else None


def _content_of(row: Any) -> Any:
    """Field `data` of a request, else `body`."""
    return row.get("data", row.get("body")) if isinstance(row, dict) else row


def _numbers(row: Any) -> Any:
    """The content of a request; JSON in bytes or text is read."""
    value = _content_of(row)
    return json.loads(value) if isinstance(value, bytes | bytearray | str) else value


def _target(row: Any, content: Any) -> int:
    """The class that a request wants to have explained."""
    nested: Any = content.get("target", 0) if isinstance(content, dict) else 0
    asked: Any = row.get("target", nested) if isinstance(row, dict) else 0
    return int(asked)
