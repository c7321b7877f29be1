"""What each address does."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from aiohttp import HttpVersion11, web

from runtime.kinds.image_classifier import Classified, Classifier
from runtime.phases import PhaseClock
from runtime.store import Catalog
from server.dialects.classify.parameters import Parameters, chosen, read_parameters
from server.dialects.classify.picture import Picture
from server.dialects.classify.responses import Outcome, several_response, single_response
from server.http.body import Upload
from server.http.exchange import CONTEXT, Context, deadline_of, request_id_of
from server.http.faults import log_if_ours, problem_of
from server.operations.access_log import IMAGES, MODEL
from snapserve import __version__

PAGE = files("server.pages").joinpath("page.html").read_text(encoding="utf-8")


def add_routes(app: web.Application, prefix: str = "") -> None:
    """Puts every route into the application, with and without a slash at its end.

    Args:
        app: gets the routes.
        prefix: before every path; "" or "/path".
    """
    for path in {f"{prefix}/", prefix or "/"}:
        app.router.add_get(path, page)
    for end in ("", "/"):
        for method in ("POST", "PUT"):
            app.router.add_route(method, f"{prefix}/classify{end}", classify, expect_handler=expect_continue)
        app.router.add_get(f"{prefix}/models{end}", list_models)
        app.router.add_get(f"{prefix}/models/{{name}}{end}", show_model)
        for probe in (healthz, readyz, metrics):
            app.router.add_get(f"{prefix}/{probe.__name__}{end}", probe)


async def classify(request: web.Request) -> web.Response:
    """POST /classify: pictures in, labels out."""
    context, clock = request.app[CONTEXT], PhaseClock(time.monotonic)
    deadline = deadline_of(request, clock.started)
    query = chosen(request.query.items(), "the address") if request.query_string else {}
    _, default = context.catalog.find(query.get("model"))
    default.check_room()  # a full server says so before it reads the upload
    upload = await context.reader.read_images(request, deadline)
    request[IMAGES] = len(upload.pictures)
    began, answered = context.load.begin(), False
    try:
        clock.mark("read")
        parameters = read_parameters(query, upload.fields, request.headers.get("Accept", ""))
        job = Job(request, clock, deadline, parameters, *context.catalog.find(parameters.model))
        request[MODEL] = job.model
        response = await (_one(job, upload.pictures[0]) if len(upload.pictures) == 1 else _several(job, upload))
        answered = True
    finally:
        context.load.end(began, answered)
        context.reader.release(upload)
    response.headers["Server-Timing"] = clock.server_timing()
    if context.sheds(request):
        response.force_close()
    return response


@dataclass(frozen=True)
class Job:
    """A request that was read: what is asked for, of which model, until when (monotonic time)."""

    request: web.Request
    clock: PhaseClock
    deadline: float
    parameters: Parameters
    model: str
    classifier: Classifier

    @property
    def context(self) -> Context:
        return self.request.app[CONTEXT]

    async def classify(self, picture: Picture, clock: PhaseClock) -> Classified:
        self.context.reader.check(picture)
        top_k = self.parameters.top_k_of(self.classifier.engine.num_classes)
        classified = await self.classifier.classify(picture.data, top_k, clock, self.deadline)
        self.context.metrics.observe_phases(self.model, clock.seconds)
        return classified.above(self.parameters.min_score)


async def _one(job: Job, picture: Picture) -> web.Response:
    classified = await job.classify(picture, job.clock)
    return single_response(classified, job.clock, job.model, request_id_of(job.request), job.parameters.format)


async def _several(job: Job, upload: Upload) -> web.Response:
    job.parameters.top_k_of(
        job.classifier.engine.num_classes
    )  # a wrong top_k is the request's fault, not a file's
    outcomes = await asyncio.gather(*(_outcome(job, picture) for picture in upload.pictures))
    job.clock.mark("classify")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if len(errors) == len(outcomes) and all(problem_of(error).status >= 500 for error in errors):
        raise errors[0]  # the pictures are not to blame
    request_id = request_id_of(job.request)
    for error in errors:
        log_if_ours(error, problem_of(error), request_id)
    return several_response(outcomes, job.clock, job.model, request_id, job.parameters.format)


async def _outcome(job: Job, picture: Picture) -> Outcome:
    try:
        return Outcome(picture, await job.classify(picture, job.clock.fork()), None)
    except Exception as error:
        return Outcome(picture, None, error)


async def expect_continue(request: web.Request) -> web.StreamResponse | None:
    """Answers `Expect: 100-continue`: refuses what the headers alone rule out, before the upload."""
    context = request.app[CONTEXT]
    if request.version < HttpVersion11:
        return None  # RFC 9110, 10.1.1: it would not understand
    try:
        if request.headers["Expect"].lower() != "100-continue":
            raise web.HTTPExpectationFailed
        context.reader.check_announced(request)
        context.catalog.find(chosen(request.query.items(), "the address").get("model"))[1].check_room()
    except Exception as error:
        return context.refuse(request, error)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # aiohttp takes anything written for the beginning of the answer
    return None


async def page(request: web.Request) -> web.Response:
    """GET /: the page for people, and a cheat sheet for who comes without a browser."""
    context = request.app[CONTEXT]
    if "text/html" not in request.headers.get("Accept", ""):
        return web.Response(text=_cheat_sheet(context.proxies.url_of(request), context.catalog))
    return web.Response(
        text=PAGE,
        content_type="text/html",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        },
    )


def _cheat_sheet(url: str, catalog: Catalog) -> str:
    default, bundle = next(iter(catalog.bundles.items()))
    return (
        f"SnapServe {__version__}: upload a picture, get its labels. Serving {', '.join(catalog.bundles)}.\n\n"
        f"curl -F image=@{bundle.spec.example} {url}/classify\n"
        f"curl --data-binary @{bundle.spec.example} {url}/classify\n"
        f"curl -F a=@one.jpg -F b=@two.png '{url}/classify?top_k=1'        several at once\n"
        f"curl -F image=@one.jpg '{url}/classify?format=text'             a table; also hf\n"
        f"curl -F image=@one.jpg -F model={default} -F min_score=0.1 {url}/classify\n"
        f"curl {url}/models      what is served\n"
        f"curl {url}/metrics     for Prometheus; /healthz, /readyz for probes\n"
    )


async def list_models(request: web.Request) -> web.Response:
    """GET /models."""
    catalog = request.app[CONTEXT].catalog
    default = next(iter(catalog.bundles))
    return web.json_response({"models": [_summary(catalog, name) for name in catalog.bundles], "default": default})


async def show_model(request: web.Request) -> web.Response:
    """GET /models/{name}."""
    catalog, name = request.app[CONTEXT].catalog, request.match_info["name"]
    if name not in catalog.bundles:
        catalog.find(name)
    choice = catalog.choices[name]
    details: dict[str, Any] = {"engines": list(choice.bundle.spec.engines), "labels": choice.bundle.labels}
    if choice.table.document:
        details["table"] = choice.table.document
    return web.json_response({**_summary(catalog, name), **details})


def _summary(catalog: Catalog, name: str) -> dict[str, Any]:
    classifier, choice = catalog.loaded(name), catalog.choices[name]
    spec = choice.bundle.spec.to_json()
    engine = dataclasses.asdict(classifier.engine.spec) if classifier else spec["engine"]
    del spec["engines"]
    if classifier:
        spec["activation"] = engine["activation"] or spec["activation"]
        spec["preparation"] = classifier.preparation
        spec["notices"] = getattr(classifier.engine, "notices", ())
    return {**spec, "name": name, "ready": classifier is not None, "engine": {"name": choice.engine, **engine}}


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: the process answers."""
    return web.json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: every model is loaded and warm in some worker, and the server is not draining."""
    context = request.app[CONTEXT]
    context.check_ready()
    if context.ready_workers is None:
        return web.json_response({"status": "ready"})
    workers = {"ready": context.ready_workers, "all": context.config.server.workers}
    return web.json_response({"status": "ready", "workers": workers})


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics, in Prometheus' text format."""
    return web.Response(
        body=request.app[CONTEXT].metrics.exposition(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )
