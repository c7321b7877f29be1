"""GET /: the page for people, and examples for curl."""

from __future__ import annotations

from importlib.resources import files

from aiohttp import web

from runtime.store import ModelStore
from server.http.context import CONTEXT
from snapserve import __version__

PAGE = files("server.pages").joinpath("page.html").read_text(encoding="utf-8")


async def page(request: web.Request) -> web.Response:
    """The page for browsers; text for everything else."""
    context = request.app[CONTEXT]
    if "text/html" not in request.headers.get("Accept", ""):
        return web.Response(text=_examples(context.proxies.url_of(request), context.store))
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


def _examples(url: str, store: ModelStore) -> str:
    example = store.models[store.default].example_file
    return (
        f"SnapServe {__version__}: upload an image, get its labels. Serving {', '.join(store.models)}.\n\n"
        f"curl -F image=@{example} {url}/classify\n"
        f"curl --data-binary @{example} {url}/classify\n"
        f"curl -F a=@one.jpg -F b=@two.png '{url}/classify?top_k=1'        several at once\n"
        f"curl -F image=@one.jpg '{url}/classify?format=text'             a table; also hf\n"
        f"curl -F image=@one.jpg -F model={store.default} -F min_score=0.1 {url}/classify\n"
        f"curl {url}/models      what is served\n"
        f"curl {url}/metrics     for Prometheus; /healthz, /readyz for probes\n"
    )
