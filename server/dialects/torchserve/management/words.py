"""Errors of the management API, in TorchServe's words."""

from __future__ import annotations

from server.dialects.torchserve.replies import refusal
from server.http.faults import Refusal

PROCESSING = "Processing worker updates..."


def bad_request(message: str) -> Refusal:
    """A parameter that is wrong."""
    return refusal(400, "bad-request", "BadRequestException", message)


def unknown_model(name: str) -> Refusal:
    """No model of that name."""
    return refusal(404, "unknown-model", "ModelNotFoundException", f"Model not found: {name}")


def unknown_version(name: str, version: str) -> Refusal:
    """No such version of a model that is there."""
    message = f"Model version: {version} does not exist for model: {name}"
    return refusal(404, "unknown-model", "ModelVersionNotFoundException", message)


def unknown_default(name: str, version: str) -> Refusal:
    """The same, of a version that was to become the default."""
    message = f"Model version {version} does not exist for model {name}"
    return refusal(404, "unknown-model", "ModelVersionNotFoundException", message)


def nothing_at(url: str) -> Refusal:
    """There is no archive."""
    return refusal(404, "unknown-model", "ModelNotFoundException", f"Model not found at: {url}")


def no_archive(message: str) -> Refusal:
    """What is there is no archive, or none that may be served."""
    return refusal(400, "model-refused", "InvalidModelException", message)


def is_registered(name: str, version: str) -> Refusal:
    """The version is there."""
    message = f"Model version {version} is already registered for model {name}"
    return refusal(409, "version-taken", "ConflictStatusException", message)


def is_no_archive(name: str) -> Refusal:
    """The model is described here, and changed elsewhere."""
    message = f"Model {name} is no archive: it is changed by the server's options, or its own management API"
    return refusal(409, "version-in-use", "ConflictStatusException", message)


def is_default(name: str) -> Refusal:
    """The default version of several was to be removed."""
    message = f"Cannot remove default version for model {name}"
    return refusal(403, "version-in-use", "InvalidModelVersionException", message)


def not_started(name: str, version: str | None) -> Refusal:
    """A model did not load; version: as the client has named it."""
    message = f"Failed to start workers for model {name} version: {version or 'null'}"
    return refusal(500, "model-refused", "InternalServerException", message)


def not_changed(message: str) -> Refusal:
    """The models were not changed, for a reason that is not the model's: it may be tried again."""
    return refusal(503, "change-failed", "ServiceUnavailableException", message)


def nobody_describes(name: str) -> Refusal:
    """No process runs that could be asked."""
    message = (
        f'Model "{name}" has no worker to serve describe request. Please use scale workers API to add workers.'
    )
    return refusal(503, "no-workers", "ServiceUnavailableException", message)
