"""A program as it was given to the optimiser: TorchScript and torch.export's by torch, ONNX by ONNX Runtime."""

from __future__ import annotations

from models.bundles.bundle import ModelBundle
from models.engines.bare_torchscript import engine_of
from models.engines.base import EngineOptions
from models.engines.open_program import open_program
from models.engines.torch_engine import TorchEngine
from models.engines.torchscript import resolve


def load(bundle: ModelBundle, options: EngineOptions) -> TorchEngine:
    """Wraps the file into uint8 [N, crop, crop, 3] -> scores float32 [N, num_classes].

    Raises:
        EngineError: the file does not load or does not fit; one line that names the file and says what to do.
    """
    spec = resolve(bundle, options)
    side = bundle.spec.preprocess.crop_size
    return engine_of(open_program(bundle.file, side, spec.device, spec.threads), bundle, spec)
