"""Entry point of the ingress: the process becomes Envoy with the application inside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from headrace.hop.config import ConfigError, load
from headrace.hop.process import grpc_core
from services.ingress.config import IngressSettings
from services.ingress.envoy.launch import run


def main() -> None:
    """Returns the exit code: 2 for unusable settings, after one line that says why."""
    parser = argparse.ArgumentParser(prog="ingress")
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args()
    grpc_core.settle()  # the Python inside Envoy inherits this
    try:
        settings = load(IngressSettings, options.config)
        sys.exit(run(settings, options.config))
    except (ConfigError, ValueError) as error:
        parser.exit(2, f"ingress: {error}\n")


main()
