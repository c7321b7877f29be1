"""TorchServe's management API, in the supervisor."""
