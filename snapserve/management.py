"""A client of the management of a server's models. Standard library only."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote


class ManagementError(Exception):
    """A change that was refused, or a server that does not answer. The message is one line.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        kind: of the problem, "version-taken" for instance; "" where there was none.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class ModelManagement:
    """Adds, switches and removes models of a server that runs. Every method raises ManagementError."""

    def __init__(self, host: str, port: int, token: str, timeout_s: float = 900.0) -> None:
        """Creates it; each call opens a connection of its own.

        Args:
            host: of `--management-host`.
            port: of `--management-port`.
            token: of the server.
            timeout_s: longest wait for an answer; a model may take long to load.
        """
        self._host = host
        self._port = port
        self._token = token
        self._timeout_s = timeout_s

    def list(self) -> dict[str, Any]:
        """All models, with what each worker knows of them."""
        return self._ask("GET")

    def show(self, name: str) -> dict[str, Any]:
        """One model."""
        return self._ask("GET", name)

    def add(self, name: str, version: str, path: str, **settings: Any) -> dict[str, Any]:
        """Adds a version, and returns when all workers serve it.

        Args:
            name: of the model.
            version: of it.
            path: of its bundle or file, below the server's `--model-store`.
            settings: further members of the body, docs/models.md.
        """
        return self._ask("PUT", name, version, body={"path": path, **settings})

    def remove(self, name: str, version: str) -> dict[str, Any]:
        """Removes a version that is not the default one."""
        return self._ask("DELETE", name, version)

    def set_default(self, name: str, version: str) -> dict[str, Any]:
        """Makes a version that of requests that name none."""
        return self._ask("POST", name, version, "default")

    def scale(self, name: str, version: str, processes: int) -> dict[str, Any]:
        """Runs an engine in so many processes per worker."""
        return self._ask("POST", name, version, "scale", body={"processes": processes})

    def begin_shadow(self, name: str, version: str, share: float) -> dict[str, Any]:
        """Runs a version beside the default one, on a share of the requests from 0 to 1."""
        return self._ask("PUT", name, "shadow", body={"version": version, "share": share})

    def end_shadow(self, name: str) -> dict[str, Any]:
        """Ends that."""
        return self._ask("DELETE", name, "shadow")

    def _ask(self, method: str, *parts: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        where = f"{self._host}:{self._port}"
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = "/".join(["/models", *(quote(part, safe="") for part in parts)])
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            document = json.loads(response.read())
        except OSError as error:
            raise ManagementError(f"{where}: {error.strerror or error}") from None
        except (ValueError, http.client.HTTPException):
            raise ManagementError(f"{where}: no management of SnapServe answers there") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise _refusal(response.status, document)
        return dict(document)


def _refusal(status: int, problem: dict[str, Any]) -> ManagementError:
    title, detail, hint = (str(problem.get(name, "")) for name in ("title", "detail", "hint"))
    text = ": ".join(filter(None, [title, detail]))
    return ManagementError(f"{text} {hint}".rstrip(), status, str(problem.get("type", "")).rpartition(":")[2])
