"""The port of TorchServe's management API."""

from __future__ import annotations

import socket
from collections.abc import Callable

from aiohttp import web

from server.config import Config
from server.dialects.torchserve.keys import key_file
from server.dialects.torchserve.management.archives import Archives
from server.dialects.torchserve.management.changer import Changer
from server.dialects.torchserve.management.handlers import ManagementApi
from server.dialects.torchserve.management.shown_models import ShownModels
from server.dialects.torchserve.management.urls import Urls
from server.dialects.torchserve.replies import common_headers, cors_headers, error_response
from server.management.listener import Listener
from server.model_options import store_folder
from server.operations.tls import tls_of
from server.torchserve_config import patterns_of


def torchserve_listener(
    config: Config,
    changes: Changer,
    listening: socket.socket,
    count: Callable[[int], None],
    is_inner: bool = False,
) -> Listener:
    """What answers on a socket.

    Args:
        config: of the service.
        changes: of all workers.
        listening: where requests come.
        count: called with the status of each response.
        is_inner: only workers connect, which speak HTTP.

    Raises:
        ConfigError: a certificate cannot be read.
        ModelError: the model store cannot be read.
    """
    given, folder = config.torchserve, store_folder(config.models)
    urls = Urls(folder, config.models.model_store, patterns_of(given.allowed_urls))
    shown = ShownModels(config, changes, folder)
    api = ManagementApi(config, shown, Archives(config, changes, folder, urls, shown), key_file(given))
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", api.handle)
    app.on_response_prepare.append(common_headers(cors_headers(given), count))
    tls = tls_of(given) if given.management.is_tls and not is_inner else None
    return Listener(app, config.limits, listening, tls, lambda fault, _: error_response(fault))
