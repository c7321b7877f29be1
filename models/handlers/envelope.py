"""Handlers in an envelope."""

from __future__ import annotations

from models.errors import EngineError
from models.handlers import names
from models.handlers.entry import Entry

ENVELOPES = {
    "body": "BodyEnvelope",
    "json": "JSONEnvelope",
    "kserve": "KServeEnvelope",
    "kservev2": "KServev2Envelope",
}


def in_envelope(name: str, entry: Entry) -> Entry:
    """A handler behind an envelope.

    Args:
        name: one of `ENVELOPES`; "" for none.
        entry: of the handler.

    Raises:
        EngineError: there is no such envelope.
    """
    if not name:
        return entry
    if name not in ENVELOPES:
        raise EngineError(f"there is no service envelope {name!r}, only {', '.join(ENVELOPES)}")
    module = names.ours(f"envelopes.{name}")
    found: Entry = getattr(module, ENVELOPES[name])(entry).handle
    return found
