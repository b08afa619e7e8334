"""Main of the ingress: becomes Envoy with the application inside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from headrace.hop.config import ConfigError, load
from headrace.hop.process import grpc_core
from services.ingress.config import IngressSettings
from services.ingress.envoy.launch import run


def main() -> None:
    """Exit code 2 for unusable settings, with one line why."""
    parser = argparse.ArgumentParser(prog="ingress")
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args()
    grpc_core.settle()  # Envoy's Python inherits it
    try:
        settings = load(IngressSettings, options.config)
        sys.exit(run(settings, options.config))
    except (ConfigError, ValueError) as error:
        parser.exit(2, f"ingress: {error}\n")


main()
