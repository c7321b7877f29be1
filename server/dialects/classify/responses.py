"""Answers in the formats that clients ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from runtime.outputs import Prediction
from server.http.exchange import Exchange
from server.http.faults import Fault
from server.http.problem import problem_json


@dataclass(frozen=True)
class Outcome:
    """The result of one of several images: its predictions, or the fault."""

    filename: str | None
    predictions: Sequence[Prediction] | None
    fault: Fault | None


def single_response(predictions: Sequence[Prediction], exchange: Exchange, format: str) -> web.Response:
    """The answer to one image."""
    if format == "text":
        return web.Response(text=_table(predictions))
    if format == "hf":
        return _json(_bare(predictions))
    document = {
        "predictions": [prediction.to_json() for prediction in predictions],
        **_served_by(exchange),
        "batch_size": exchange.clock.batch_size,
        "timing_ms": exchange.clock.timing_ms(),
    }
    return _json(document)


def several_response(outcomes: Sequence[Outcome], exchange: Exchange, format: str) -> web.Response:
    """The answers to several images, in the order sent; 422 when there is none."""
    status = 200 if any(outcome.predictions is not None for outcome in outcomes) else 422
    if format == "text" and status == 200:
        return web.Response(text="\n".join(_text(outcome) for outcome in outcomes))
    if format == "hf" and status == 200:
        return _json([_bare(outcome.predictions or ()) for outcome in outcomes])
    document = {
        "results": [_result(outcome, exchange.id) for outcome in outcomes],
        **_served_by(exchange),
        "timing_ms": exchange.clock.timing_ms(),
    }
    return _json(document, status)


def _served_by(exchange: Exchange) -> dict[str, str]:
    assert exchange.model is not None
    return {"model": exchange.model.name, "version": exchange.model.version, "request_id": exchange.id}


def _result(outcome: Outcome, request_id: str) -> dict[str, Any]:
    filename = {"filename": outcome.filename}
    if outcome.fault:
        return {**filename, "error": problem_json(outcome.fault, request_id)}
    predictions = [prediction.to_json() for prediction in outcome.predictions or ()]
    return {**filename, "predictions": predictions}


def _bare(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [{"label": prediction.label, "score": prediction.score} for prediction in predictions]


def _text(outcome: Outcome) -> str:
    title = outcome.filename or "image"
    if outcome.fault:
        return f"{title}\n  {outcome.fault.title}: {outcome.fault.detail}\n"
    return f"{title}\n{_table(outcome.predictions or ())}"


def _table(predictions: Sequence[Prediction]) -> str:
    return "".join(f"{prediction.score:7.2%}  {prediction.label}\n" for prediction in predictions)


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")
