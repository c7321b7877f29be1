"""`python -m server` and the console script `snapserve`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from models.errors import ModelError
from models.machine.process import prepare_process
from server.config import Config, ConfigError
from server.operations.descriptors import raise_limit
from server.operations.lifecycle import ExitCode
from server.operations.line_writer import take_over_streams
from server.options import config_text, parse_config


def main(arguments: Sequence[str] | None = None, alone: bool = False) -> int:
    """Runs the server; `models …` manages the models of one that runs.

    Args:
        arguments: of the command line; None: those of this process.
        alone: serve in this process, without supervisor and workers: for programs that change what is served.

    Returns:
        The exit code: 0 after a clean stop, 1 when requests were left unanswered, 2 for a wrong option, a
        port that is taken or a model that cannot be served; the last three say why in one line.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["models"]:
        from snapserve.models_command import main as manage

        return manage(arguments[1:], os.environ)
    try:
        config, only_print = parse_config(arguments, os.environ)
        if only_print:
            print(config_text(config))
            return 0
        _serve(config, alone)
    except (ConfigError, ModelError) as error:
        print(f"snapserve: {error}", file=sys.stderr)
        return ExitCode.WRONG_USE


def _serve(config: Config, alone: bool) -> NoReturn:
    take_over_streams()
    prepare_process()
    raise_limit()
    from server.dialects.torchserve.keys import key_file
    from server.model_options import find_bundles
    from server.operations.lifecycle import loop_factory
    from server.operations.listeners import open_listeners
    from server.operations.logs import set_up_logs
    from server.operations.rpc_port import reserve_rpc_port
    from server.operations.temporary_folder import name_temporary_folder
    from server.workers.managed_ports import open_managed_ports
    from server.workers.sizing import plan
    from server.workers.supervisor import supervise

    _check_formats(config)
    set_up_logs(config.server.log_level)
    name_temporary_folder()
    bundles = find_bundles(config.models)
    config = plan(config, bundles)
    config, managing = open_managed_ports(config, alone)
    config, listening = open_listeners(config)
    config, _held = reserve_rpc_port(config)  # for as long as this process runs
    if keys := key_file(config.torchserve):
        keys.create()
    if not alone:
        asyncio.run(supervise(config, bundles, listening, managing))
    with asyncio.Runner(loop_factory=loop_factory(config.server.loop)) as runner:
        from server.service import serve

        runner.run(serve(config, bundles, listening))


def _check_formats(config: Config) -> None:
    from models.images.formats import installation

    for name in config.limits.accept_format:
        if line := installation(name):
            raise ConfigError(f"--accept-format {name}: no decoder for it is installed; {line}")


if __name__ == "__main__":
    sys.exit(main())
