"""The life of a service's process: settings, signals, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

from headrace.hop import config
from headrace.hop.definition import Definition, Runtime
from headrace.hop.process import grpc_core

EXIT_CONFIG = 2


def run(definition: Definition[Any] | str, argv: Sequence[str] | None = None) -> None:
    """Main of a service: reads the settings, serves until SIGTERM or SIGINT, drains, and exits.

    `definition`: preferably "module:NAME", because gRPC's core must be set up before anything imports grpc.
    Exit codes: 0 after a drain, 2 for unusable settings (one line on stderr says what is wrong), 1 for a
    service that failed to start. A second signal ends the process at once.
    """
    grpc_core.settle()
    definition = _found(definition)
    options = _arguments(definition.name, argv)
    try:
        settings = config.load(definition.config, options.config)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(definition, settings, replace=options.replace))
    except config.ConfigError as error:
        # One line, even if YAML's message has several: supervisors show the last line.
        print(f"{definition.name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)


def _found(definition: Definition[Any] | str) -> Definition[Any]:
    if not isinstance(definition, str):
        return definition
    module, _, name = definition.partition(":")
    found: Definition[Any] = getattr(import_module(module), name)
    return found


async def _serve(definition: Definition[Any], settings: config.ServiceSettings, *, replace: bool) -> None:
    # Imported here, so that a wrong setting is reported before the large modules are loaded.
    from headrace.hop.process.heartbeat import beating
    from headrace.hop.process.telemetry import Telemetry
    from headrace.hop.server.serve import serving
    from headrace.hop.transport.in_process import LocalServers

    telemetry = Telemetry(definition.name, settings.telemetry)
    telemetry.take_over_logs()
    runtime = Runtime(definition.name, telemetry, LocalServers(telemetry))
    stop = stop_signal()
    try:
        # `freeze` runs before the first call: it takes time, and memory that was given back must be mapped again.
        server = serving(definition, settings, runtime, replace=replace, settle=grpc_core.freeze)
        with beating(telemetry):
            await _until(stop, server)
    except config.ConfigError:
        raise
    except Exception as error:  # the process ends: any error is logged like all else
        telemetry.log.critical("stopped by an error", exc_info=error)
        sys.exit(1)
    finally:
        await telemetry.close()


async def _until(stop: asyncio.Event, server: AbstractAsyncContextManager[Any]) -> None:
    ready = asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await stop.wait()

    serving = asyncio.ensure_future(serve())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not ready.is_set() and not serving.done():
        serving.cancel()  # still building: the stop must not wait for a long warm-up
    stopping.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        if not stop.is_set():
            raise


def stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on, number)
    return stop


def _arguments(name: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--config", type=Path, help="YAML file; HEADRACE__SECTION__KEY variables overlay it")
    parser.add_argument(
        "--replace", action="store_true", help="take the unix socket over from a running instance, once ready"
    )
    return parser.parse_args(argv)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
