"""Facts of the model and of the requests of a batch for a handler, and the settings of its responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from models.handlers.metrics.metrics_store import MetricsStore

CONTENT_TYPE = "content-type"


class Channel(Protocol):
    """Takes parts of responses before their end."""

    def send_parts(self, rows: Sequence[Any], message: str, code: int) -> None:
        """A part for each request of the batch, in order.

        Args:
            rows: of the kinds that a handler returns.
            message: phrase behind the status.
            code: HTTP status, where the handler has set none.
        """
        ...


class RequestProcessor:
    """Headers of one request, and status and headers of its response.

    Attributes:
        status: HTTP status; None: none was set.
        reason: phrase behind it; None: none was set.
        headers: of the response.
    """

    def __init__(self, request_header: Mapping[str, Any]) -> None:
        """Creates it; `request_header`: names as they were sent, and values."""
        self.status: int | None = None
        self.reason: str | None = None
        self.headers: dict[str, str] = {}
        self._request_header = dict(request_header)

    def get_request_property(self, key: str) -> Any:
        """A header of the request, by its exact name; None without it."""
        return self._request_header.get(key)

    def get_request_properties(self) -> dict[str, Any]:
        """All headers of the request."""
        return self._request_header

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Sets the status of the response, and the phrase behind it."""
        self.status = code
        self.reason = reason_phrase

    def get_response_status_code(self) -> int:
        """The status of the response."""
        return 200 if self.status is None else self.status

    def get_response_status_phrase(self) -> str | None:
        """The phrase behind the status."""
        return self.reason

    def add_response_property(self, key: str, value: str) -> None:
        """Sets a header of the response."""
        self.headers[key] = value

    def get_response_header(self) -> dict[str, str]:
        """The headers of the response that were set."""
        return self.headers

    get_response_headers = get_response_header


class Context:
    """One for the life of a handler; what belongs to a batch is set anew for each.

    Attributes:
        model_name: under which the model is served.
        manifest: the archive's, as it is.
        system_properties: `model_dir`, `gpu_id`, `batch_size`, `server_name`, `server_version`,
            `limit_max_image_pixels`.
        model_yaml_config: the whole configuration file of the archive.
        request_ids: by index in the batch.
        request_processor: of each request of the batch.
        metrics: takes the handler's own.
        stopping_criteria: for handlers that keep one.
        cl_socket: takes parts of responses; `send_intermediate_predict_response` uses it.
    """

    header_key_sequence_start = "ts_request_sequence_start"
    header_key_sequence_id = "ts_request_sequence_id"
    header_key_sequence_end = "ts_request_sequence_end"

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any],
        batch_size: int,
        gpu: int | None,
        model_yaml_config: dict[str, Any] | None = None,
    ) -> None:
        """Creates it, before the first batch.

        Args:
            model_name: under which the model is served.
            model_dir: where the archive lies unpacked.
            manifest: the archive's.
            batch_size: most requests of a batch.
            gpu: number of the device; None: the CPU.
            model_yaml_config: of the archive.
        """
        self.model_name = model_name
        self.manifest = manifest
        self._limit_max_image_pixels = True
        self._system_properties = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": "0.12.0",
            "limit_max_image_pixels": True,
        }
        self.model_yaml_config = {} if model_yaml_config is None else model_yaml_config
        self.request_ids: dict[int, str] = {}
        self._request_processor: list[RequestProcessor] = []
        self._metrics = MetricsStore(model_name)
        self.stopping_criteria: Any = None
        self.cl_socket: Channel | None = None

    def begin(self, request_ids: Sequence[str], headers: Sequence[Mapping[str, Any]]) -> None:
        """A batch begins: of each request its id and headers."""
        self.request_ids = dict(enumerate(request_ids))
        self._request_processor = [RequestProcessor(each) for each in headers]
        self._metrics.begin(request_ids)

    @property
    def system_properties(self) -> dict[str, Any]:
        """What the server tells of itself and of the model's place."""
        return self._system_properties

    @property
    def request_processor(self) -> list[RequestProcessor]:
        """Of each request of the batch."""
        return self._request_processor

    @property
    def metrics(self) -> MetricsStore:
        """Takes the handler's own metrics."""
        return self._metrics

    def get_request_id(self, idx: int = 0) -> str | None:
        """The id of a request."""
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        """A header of a request, by its exact name; None without it."""
        return self._request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        """All headers of a request."""
        return self._request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Sets the type of a response."""
        self.set_response_header(idx, CONTENT_TYPE, value)

    def get_response_content_type(self, idx: int) -> str | None:
        """The type of a response; None: none was set."""
        return self._request_processor[idx].headers.get(CONTENT_TYPE)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Sets the status of a response, and the phrase behind it."""
        self._request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Sets the status of every response of the batch, and the phrase behind it."""
        for each in self._request_processor:
            each.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """The status of a response, and the phrase behind it."""
        processor = self._request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Sets a header of a response."""
        self._request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """The headers of a response that were set."""
        return self._request_processor[idx].get_response_header()

    def get_sequence_id(self, idx: int) -> Any:
        """The sequence that a request belongs to; None outside one."""
        return self.get_request_header(idx, self.header_key_sequence_id)
