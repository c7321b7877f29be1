"""The page, the list of models, probes."""

from aiohttp import web

from server.pages.models import list_models, show_model
from server.pages.page import page
from server.pages.probes import healthz, metrics, readyz

__all__ = ["add_pages"]


def add_pages(app: web.Application, prefix: str = "") -> None:
    """Routes to every page, with and without a slash at the end.

    Args:
        app: gets the routes.
        prefix: before every path; "" or "/path".
    """
    for path in {f"{prefix}/", prefix or "/"}:
        app.router.add_get(path, page)
    for end in ("", "/"):
        app.router.add_get(f"{prefix}/models{end}", list_models)
        app.router.add_get(f"{prefix}/models/{{name}}{end}", show_model)
        for probe in (healthz, readyz, metrics):
            app.router.add_get(f"{prefix}/{probe.__name__}{end}", probe)
