"""`python -m server` and the console script `snapserve`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from models.errors import ModelError
from server.config import Config, ConfigError
from server.options import config_text, parse_config

WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server.

    Returns:
        The exit code: 0 after a clean stop, 1 when requests were left unanswered, 2 for a wrong option, a
        port that is taken or a model that cannot be served; the last three say why in one line.
    """
    try:
        config, only_print = parse_config(sys.argv[1:] if arguments is None else arguments, os.environ)
        if only_print:
            print(config_text(config))
            return 0
        _serve(config)
    except (ConfigError, ModelError) as error:
        print(f"snapserve: {error}", file=sys.stderr)
        return WRONG_USE


def _serve(config: Config) -> NoReturn:
    from server.catalog import find_bundles
    from server.service import listen, serve

    logging.basicConfig(
        level=config.server.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    bundles = find_bundles(config.models)
    listening = listen(config.server)
    with asyncio.Runner(loop_factory=_loop_factory(config.server.loop)) as runner:
        runner.run(serve(config, bundles, listening))


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
