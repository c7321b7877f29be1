"""Faults as `application/problem+json`, RFC 9457: in the dialect of SnapServe, and below all dialects."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from server.http.faults import Fault
from server.operations.access_log import OUTCOME

CONTENT_TYPE = "application/problem+json"


def problem_json(fault: Fault, request_id: str) -> dict[str, Any]:
    """The JSON object."""
    return {
        "type": f"urn:snapserve:problem:{fault.kind}",
        "title": fault.title,
        "status": fault.status,
        "detail": fault.detail,
        **fault.extras,
        "request_id": request_id,
    }


def problem_response(fault: Fault, request_id: str) -> web.Response:
    """The HTTP response."""
    response = web.Response(
        status=fault.status,
        body=json.dumps(problem_json(fault, request_id)).encode() + b"\n",
        content_type=CONTENT_TYPE,
        headers=fault.headers,
    )
    response[OUTCOME] = fault.kind
    return response
