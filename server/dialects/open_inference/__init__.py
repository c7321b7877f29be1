"""The Open Inference Protocol, version 2 (KServe, Triton), below `/v2`."""
