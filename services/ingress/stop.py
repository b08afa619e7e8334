"""`python -m services.ingress.stop --config FILE`: stops an ingress without losing a call.

With `--drain-only`, the process goes on without calls until SIGTERM: for preStop hooks.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from headrace.hop.config import ConfigError, load
from services.ingress.config import IngressSettings
from services.ingress.envoy.drain import AdminPort, stop


def main() -> None:
    """Returns the exit code: 0 if every call was answered, 1 if some were not, 2 for unusable settings."""
    parser = argparse.ArgumentParser(prog="ingress.stop")
    parser.add_argument("--config", type=Path, help="settings of the running ingress; else its variables")
    parser.add_argument(
        "--successor", action="store_true", help="another process listens on its ports already"
    )
    parser.add_argument(
        "--drain-only", action="store_true", help="let the calls finish, but leave the process to SIGTERM"
    )
    options = parser.parse_args()
    try:
        settings = load(IngressSettings, options.config)
    except ConfigError as error:
        print(f"ingress: {error}", file=sys.stderr)
        sys.exit(2)
    drain_s = settings.server.drain_s
    left = asyncio.run(
        stop(
            AdminPort(settings.admin).ask,
            notice_s=settings.server.drain_notice_s,
            drain_s=drain_s,
            successor=options.successor,
            drain_only=options.drain_only,
        )
    )
    if left:
        print(f"ingress: {left} calls were not answered within {drain_s:g} s", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
