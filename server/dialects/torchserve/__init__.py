"""TorchServe's APIs: inference and metrics."""
