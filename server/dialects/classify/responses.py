"""Answers in the formats that clients ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from runtime.kinds.image_classifier import Classified, Prediction
from runtime.phases import PhaseClock
from server.dialects.classify.picture import Picture
from server.http.faults import Problem, problem_of


@dataclass(frozen=True)
class Outcome:
    """What became of one of several pictures: `classified`, or the `error` it met."""

    picture: Picture
    classified: Classified | None
    error: Exception | None

    @property
    def problem(self) -> Problem:
        """What the client is told of the error."""
        assert self.error is not None
        return problem_of(self.error)


def single_response(
    classified: Classified, clock: PhaseClock, model: str, request_id: str, format: str
) -> web.Response:
    """The answer to one picture."""
    if format == "text":
        return web.Response(text=_table(classified.predictions))
    if format == "hf":
        return _json(_bare(classified.predictions))
    document = {
        "predictions": [prediction.to_json() for prediction in classified.predictions],
        "model": model,
        "request_id": request_id,
        "batch_size": classified.batch_size,
        "timing_ms": clock.timing_ms(),
    }
    return _json(document)


def several_response(
    outcomes: Sequence[Outcome], clock: PhaseClock, model: str, request_id: str, format: str
) -> web.Response:
    """The answers to several pictures, in the order sent; 422 when there is none."""
    status = 200 if any(outcome.classified for outcome in outcomes) else 422
    if format == "text" and status == 200:
        return web.Response(text="\n".join(_text(outcome) for outcome in outcomes))
    if format == "hf" and status == 200:
        return _json([_bare(outcome.classified.predictions) if outcome.classified else [] for outcome in outcomes])
    document = {
        "results": [_result(outcome, request_id) for outcome in outcomes],
        "model": model,
        "request_id": request_id,
        "timing_ms": clock.timing_ms(),
    }
    return _json(document, status)


def _result(outcome: Outcome, request_id: str) -> dict[str, Any]:
    filename = {"filename": outcome.picture.filename}
    if outcome.classified is None:
        return {**filename, "error": outcome.problem.to_json(request_id)}
    predictions = [prediction.to_json() for prediction in outcome.classified.predictions]
    return {**filename, "predictions": predictions}


def _bare(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [{"label": prediction.label, "score": prediction.score} for prediction in predictions]


def _text(outcome: Outcome) -> str:
    title = outcome.picture.filename or "picture"
    if outcome.classified is None:
        return f"{title}\n  {outcome.problem.title}: {outcome.problem.detail}\n"
    return f"{title}\n{_table(outcome.classified.predictions)}"


def _table(predictions: Sequence[Prediction]) -> str:
    return "".join(f"{prediction.score:7.2%}  {prediction.label}\n" for prediction in predictions)


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")
