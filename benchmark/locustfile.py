"""Mixed traffic for Locust, which shows it on its page (http://localhost:8089):

    .venv/bin/locust -f benchmark/locustfile.py --host http://127.0.0.1:8088

Every body is checked: whichever way an image is uploaded, its answer has to be the one from before the load.
"""

from __future__ import annotations

import base64
import itertools
import random
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task
from locust.clients import HttpSession, ResponseContextManager

_IMAGES = Path(__file__).parents[1] / "images"
_PHOTOS = {
    file.name: file.read_bytes() for file in sorted(_IMAGES.iterdir()) if file.suffix in (".jpg", ".png", ".webp")
}
_BROKEN = b"\x89PNG\r\n\x1a\n" + b"this is no image" * 50
_TOLERANCE = 5e-3  # of a score: an image's batch may round a little differently each time
_NUMBERS = itertools.count()

Answer = dict[str, float]  # label -> score

_known: dict[str, Answer] = {}


def _ask_first(environment: Any, **_: Any) -> None:
    """Asks for each image alone, before there is any load."""
    session = HttpSession(environment.host, environment.events.request, None)
    for name, data in _PHOTOS.items():
        with session.post("/classify", data=data, name="first answers", catch_response=True) as response:
            response.raise_for_status()
            _known[name] = _answer(response.json())


events.test_start.add_listener(_ask_first)  # type: ignore[no-untyped-call]


def _answer(document: Any) -> Answer:
    return {each["label"]: each["score"] for each in document["predictions"]}


def _fault(name: str, document: Any) -> str:
    """What is wrong with an answer to the image of that name, or ""."""
    given, known = _answer(document), _known[name]
    for label in given.keys() & known.keys():
        if abs(given[label] - known[label]) > _TOLERANCE:
            return f"{name}: {label!r} scores {given[label]:.4f}, it was {known[label]:.4f}"
    best = max(known, key=lambda label: known[label])
    return "" if best in given else f"{name}: {best!r} is missing"


def _any() -> tuple[str, bytes]:
    return random.choice(list(_PHOTOS.items()))


class Client(HttpUser):
    """A client that uploads in every way that there is, now and then a broken image."""

    wait_time = between(0.01, 0.2)

    @task(10)
    def one_file(self) -> None:
        """A form with one file."""
        name, data = _any()
        self._check_one(name, "one file", files={"image": (name, data)})

    @task(5)
    def raw_body(self) -> None:
        """The file as the body."""
        name, data = _any()
        self._check_one(name, "raw body", data=data)

    @task(3)
    def base64_in_json(self) -> None:
        """Base64 in JSON."""
        name, data = _any()
        self._check_one(name, "base64", json={"inputs": base64.b64encode(data).decode()})

    @task(2)
    def several_files(self) -> None:
        """A broken one among them fails alone, and the order is kept."""
        names = random.sample(list(_PHOTOS), 3)
        files = [("image", (name, _PHOTOS[name])) for name in names]
        files.insert(1, ("image", ("broken.png", _BROKEN)))
        with self._post("several files", files=files) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            results = response.json()["results"]
            if [each["filename"] for each in results] != [name for _, (name, _) in files]:
                response.failure("the order of the files is not kept")
            elif results.pop(1)["error"]["status"] != 422:
                response.failure("the broken file has no error 422")
            elif fault := next(filter(None, map(_fault, names, results)), ""):
                response.failure(fault)

    @task(2)
    def broken_image(self) -> None:
        """A file that is no image."""
        with self._post("broken image", files={"image": ("broken.png", _BROKEN)}) as response:
            problem = response.json()
            if (response.status_code, problem["status"]) != (422, 422):
                response.failure(f"status {response.status_code}: {problem}")
            else:
                response.success()

    @task(1)
    def metrics(self) -> None:
        """The metrics count requests."""
        with self.client.get("/metrics", catch_response=True) as response:
            if 'snapserve_requests_total{outcome="ok"}' not in response.text:
                response.failure("no requests are counted")

    @task(1)
    def models(self) -> None:
        """The model is listed."""
        with self.client.get("/models", catch_response=True) as response:
            if not response.json()["models"]:
                response.failure("no model is listed")

    def _check_one(self, name: str, way: str, **body: Any) -> None:
        request_id = f"locust-{next(_NUMBERS)}"
        with self._post(way, headers={"X-Request-ID": request_id}, **body) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {response.text[:200]}")
                return
            document = response.json()
            if not request_id == document["request_id"] == response.headers["X-Request-ID"]:
                response.failure(f"the answer is to {document['request_id']}, not to {request_id}")
            elif fault := _fault(name, document):
                response.failure(fault)

    def _post(self, way: str, **options: Any) -> ResponseContextManager:
        return self.client.post("/classify", name=way, catch_response=True, **options)
