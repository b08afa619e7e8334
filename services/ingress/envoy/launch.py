"""From settings to a running door."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import yaml

from headrace.hop.config import ConfigError, load
from headrace.hop.process import grpc_core
from services.ingress.config import IngressSettings
from services.ingress.envoy import certificates
from services.ingress.envoy import configuration as envoy


def main() -> None:
    """Exits with code 2 for unusable settings, after one line that says why."""
    parser = argparse.ArgumentParser(prog="ingress")
    parser.add_argument("--config", type=Path, help="YAML file; HEADRACE__SECTION__KEY variables overlay it")
    options = parser.parse_args()
    grpc_core.settle()  # the Python inside Envoy inherits this
    try:
        settings = load(IngressSettings, options.config)
        sys.exit(run(settings, options.config))
    except (ConfigError, ValueError) as error:
        parser.exit(2, f"ingress: {error}\n")


def run(settings: IngressSettings, path: Path | None) -> int:
    """Serves inside Envoy, which replaces this process. If that is not possible, serves behind Envoy and returns the exit code.

    `path`: the file of the settings, if there is one. Raises ValueError if they require a mode that is not possible here.
    """
    reason = why_not_envoy(settings)
    if not reason:
        become_envoy(settings, path)
    print(f"ingress: {reason}; serving with grpc.aio behind Envoy", file=sys.stderr)
    return serve_grpc(settings)


def why_not_envoy(settings: IngressSettings) -> str:
    """Why the application can't run inside Envoy; "" if it can. Raises ValueError if it can't and the settings require it."""
    if settings.mode == "grpc":
        return "mode is grpc"
    if envoy.libpython() is None:
        reason = "this Python has no shared library (libpython) for Envoy to load"
        if settings.mode == "envoy":
            raise ValueError(f"{reason}; set `mode: grpc`")
        return reason
    return ""


def become_envoy(settings: IngressSettings, path: Path | None) -> NoReturn:
    """Renders Envoy's configuration into the run folder and replaces this process with Envoy: same pid, same signals."""
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    begin_certificates(settings)
    configuration = settings.run_dir / "envoy.yaml"
    configuration.write_text(yaml.safe_dump(envoy.render(settings)))
    command = envoy.command(settings, configuration)
    os.execve(command[0], command, envoy.environment(path, os.environ))  # noqa: S606, TID251 - the environment of the new process


def begin_certificates(settings: IngressSettings) -> None:
    """Gives the certificate and the clients' CA to the Envoy that starts. If one is unusable, only TLS does not work."""
    for secret in certificates.secrets(settings.http):
        try:
            secret.begin(settings.run_dir, time.time())  # noqa: TID251 - certificates are valid by the calendar
        except certificates.CertificateError as error:
            print(f"ingress: no TLS until this is mended: {error}", file=sys.stderr)


def serve_grpc(settings: IngressSettings) -> int:
    """Serves behind a stock Envoy until SIGTERM or SIGINT. Returns the exit code."""
    import uvloop

    from services.ingress.envoy.in_front import serve

    return uvloop.run(serve(settings))
