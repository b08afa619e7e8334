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
        become_envoy(load(IngressSettings, options.config), options.config)
    except (ConfigError, ValueError) as error:
        parser.exit(2, f"ingress: {error}\n")


def become_envoy(settings: IngressSettings, path: Path | None) -> NoReturn:
    """Renders Envoy's configuration into the run folder and replaces this process with Envoy: same pid, same signals.

    `path`: the file of the settings, if there is one. Raises ConfigError if Envoy can't load this Python.
    """
    variables = envoy.environment(path, os.environ)  # noqa: TID251 - the environment of the new process
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    begin_certificates(settings)
    configuration = settings.run_dir / "envoy.yaml"
    configuration.write_text(yaml.safe_dump(envoy.render(settings)))
    command = envoy.command(settings, configuration)
    os.execve(command[0], command, variables)  # noqa: S606 - the arguments are ours


def begin_certificates(settings: IngressSettings) -> None:
    """Gives the certificate and the clients' CA to the Envoy that starts. If one is unusable, only TLS does not work."""
    for secret in certificates.secrets(settings.http):
        try:
            secret.begin(settings.run_dir, time.time())  # noqa: TID251 - certificates are valid by the calendar
        except certificates.CertificateError as error:
            print(f"ingress: no TLS until this is mended: {error}", file=sys.stderr)
