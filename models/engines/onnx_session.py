"""An ONNX file as a module: ONNX Runtime on the CPU. Needs the extra `onnx`."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import nn

from models.engines.open_program import known_sizes
from models.errors import EngineError

_FATAL = 4  # of its severities; errors are raised, too


class OnnxSession(nn.Module):
    """Runs the file in fp32 as it is, or in its own precision.

    Attributes:
        input_shapes: of its inputs; None is a size that may change.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        """Reads the file.

        Args:
            file: with its external data beside it, if it has some.
            threads: 0 leaves the choice to ONNX Runtime.

        Raises:
            EngineError: damaged, or with operators that ONNX Runtime does not know; names the file.
        """
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL
        # Idle threads would spin beside the decode threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of classes that have nothing in common
            first = (str(error).strip().splitlines() or [""])[0][:200]
            raise EngineError(f"{file}: ONNX Runtime cannot load it: {first}") from None
        inputs = self._session.get_inputs()
        self._input = inputs[0].name if inputs else ""
        self._outputs = [each.name for each in self._session.get_outputs()]
        self.input_shapes = [known_sizes(tensor.shape) for tensor in inputs]

    def forward(self, images: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """images: float [N, C, H, W]. Returns the output, or all by name where there are several."""
        answers = self._session.run(None, {self._input: images.contiguous().numpy()})
        tensors = [torch.from_numpy(answer) for answer in answers]
        return tensors[0] if len(tensors) == 1 else dict(zip(self._outputs, tensors, strict=True))
