"""`python -m services.ingress.stop --config FILE` (or `--admin HOST:PORT`): stops an ingress without losing a call.

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
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--config", type=Path, help="settings of the running ingress; else its variables")
    target.add_argument("--admin", help="host:port of its Envoy's admin interface")
    parser.add_argument("--notice", type=float, default=0.2, help="seconds that balancers get to notice")
    parser.add_argument(
        "--drain", type=float, default=20.0, help="seconds that calls in flight get to finish"
    )
    parser.add_argument(
        "--successor", action="store_true", help="another process listens on its ports already"
    )
    parser.add_argument(
        "--drain-only", action="store_true", help="let the calls finish, but leave the process to SIGTERM"
    )
    options = parser.parse_args()
    notice_s, drain_s, admin = options.notice, options.drain, options.admin
    if admin is None:
        try:
            settings = load(IngressSettings, options.config)
        except ConfigError as error:
            print(f"ingress: {error}", file=sys.stderr)
            sys.exit(2)
        admin, notice_s, drain_s = settings.admin, settings.server.drain_notice_s, settings.server.drain_s
    left = asyncio.run(
        stop(
            AdminPort(admin).ask,
            notice_s=notice_s,
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
