"""torch.compile in mode max-autotune, in FP16 on CUDA, its runs recorded as CUDA graphs.

Compiled where it is loaded, in minutes of Python, which hold the interpreter lock. A batch then needs none of it:
torch.compile's own CUDA graphs would go through Python's guards for each batch and belong to one thread, so they
are left out and those of the engine `cuda-graphs` are used.
"""

from __future__ import annotations

import torch

from models.bundles.bundle import ModelBundle
from models.engines.base import EngineOptions
from models.engines.cuda_graphs import record, resolve_cuda
from models.engines.eager import serving_graph
from models.engines.graph_engine import GraphEngine
from models.torch_private import recompile_limit

MODE = "max-autotune-no-cudagraphs"
# Every bucket is compiled by itself, in about a minute: of 1, 4, 16, 64 there are four. Batches of other sizes
# pay for the padding.
_BUCKET_FACTOR = 4
# torch's own limit is 8 per function, for the whole process.
_MOST_COMPILATIONS = 64


def load(bundle: ModelBundle, options: EngineOptions) -> GraphEngine:
    """Builds the architecture, loads its weights, compiles and records every bucket.

    Raises:
        EngineError: the file holds no weights, or they do not fit, or cannot be compiled here, or there is no
            CUDA device.
    """
    spec = resolve_cuda(bundle, options)
    # fullgraph: an error where torch would leave a part to Python.
    compiled = torch.compile(serving_graph(bundle, spec), mode=MODE, fullgraph=True, dynamic=False)
    with recompile_limit(_MOST_COMPILATIONS):
        return record(compiled, bundle, spec, bucket_factor=_BUCKET_FACTOR)
