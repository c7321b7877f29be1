"""`POST /classify`: images in, labels out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiohttp import web

from runtime.errors import InvalidInput
from runtime.inputs import Image
from runtime.outputs import Output, Prediction, Scores
from runtime.store import ModelStore
from server.dialects.classify.parameters import Parameters, chosen, read_parameters
from server.dialects.classify.responses import Outcome, several_response, single_response
from server.dialects.classify.upload import UploadParser
from server.http.dialect import Call, Target
from server.http.exchange import Exchange
from server.http.faults import Fault, fault_of, log_if_internal
from server.http.problem import problem_response
from server.operations.access_log import IMAGES


class Asked(NamedTuple):
    """What a request asks for beside its images.

    Attributes:
        parameters: of the request.
        top_k: how many predictions, for the model.
        filenames: of the images, None for one without.
    """

    parameters: Parameters
    top_k: int
    filenames: Sequence[str | None]


class Classify:
    """The dialect of SnapServe itself."""

    hint = "Images go to POST /classify: curl -F image=@cat.jpg sends one there."

    def __init__(self, store: ModelStore, parser: UploadParser) -> None:
        """Creates it.

        Args:
            store: of the models.
            parser: of bodies.
        """
        self.catalog = store
        self._parser = parser

    def paths(self) -> Iterable[str]:
        """Its address."""
        return ("/classify",)

    def methods(self) -> Iterable[str]:
        """PUT for `curl -T`."""
        return ("POST", "PUT")

    def target_of(self, request: web.Request) -> Target:
        """The model and version that the query names."""
        query = _query(request)
        name, version = query.get("model"), query.get("version")
        return Target(None if name is None else str(name), None if version is None else str(version))

    def body_limit_of(self, request: web.Request) -> int:
        """Most bytes of the body."""
        return self._parser.limit_of(request)

    async def parse(self, exchange: Exchange, body: bytearray, deadline: float) -> Call:
        """Takes the body apart and reads the parameters. Raises RequestError."""
        request = exchange.request
        upload = await self._parser.parse_where_it_fits(body, request, deadline)
        images = upload.images
        request[IMAGES] = len(images)
        parameters = read_parameters(_query(request), upload.fields, request.headers.get("Accept", ""))
        target = Target(parameters.model, parameters.version)
        facts = self.catalog.model(*target).facts
        if not facts.num_classes:
            raise InvalidInput(f"The model {facts.name} is no image classifier.")
        top_k = parameters.top_k_of(facts.num_classes)
        inputs = [self._parser.error_of(each) or Image(each.data) for each in images]
        return Call(target, inputs, Asked(parameters, top_k, [each.filename for each in images]))

    def render(self, exchange: Exchange, call: Call, answers: Sequence[Output | Exception]) -> web.Response:
        """The predictions of each image. Raises the error of a single image, and one that is the server's own."""
        asked = call.asked
        if len(answers) == 1:
            (answer,) = answers
            if isinstance(answer, Exception):
                raise answer
            predictions = _predictions(asked, answer)
            return single_response(predictions, exchange, asked.parameters.format)
        exchange.clock.mark("classify")
        errors = [each for each in answers if isinstance(each, Exception)]
        if len(errors) == len(answers) and all(fault_of(error).status >= 500 for error in errors):
            raise errors[0]  # no image is to blame
        for error in errors:
            log_if_internal(error, fault_of(error), exchange.id)
        outcomes = [_outcome(asked, *each) for each in zip(asked.filenames, answers, strict=True)]
        return several_response(outcomes, exchange, asked.parameters.format)

    def refuse(self, fault: Fault, request_id: str) -> web.Response:
        """RFC 9457."""
        return problem_response(fault, request_id)


def _query(request: web.Request) -> dict[str, object]:
    return chosen(request.query.items(), "the address") if request.query_string else {}


def _outcome(asked: Asked, filename: str | None, answer: Output | Exception) -> Outcome:
    if isinstance(answer, Exception):
        return Outcome(filename, None, fault_of(answer))
    return Outcome(filename, _predictions(asked, answer), None)


def _predictions(asked: Asked, answer: Output) -> Sequence[Prediction]:
    if not isinstance(answer, Scores):
        raise InvalidInput("This model gives no scores.")
    return answer.top(asked.top_k, asked.parameters.min_score)
