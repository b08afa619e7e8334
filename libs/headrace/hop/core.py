"""How gRPC's C core works in a process of ours. The core reads it when grpc is imported."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_VARIABLE = "GRPC_EXPERIMENTS"
# grpc.aio waits for the core in a thread of its own. The event engine puts two more between the socket and that
# thread: 14 context switches and 500 µs of CPU a call (client and server), against 7 and 370 without it
# (load/RESULTS.md). Where grpcio no longer knows these names, it says so in its log and goes on.
_WITHOUT_EVENT_ENGINE = "-event_engine_client,-event_engine_listener"


def settle(environ: MutableMapping[str, str] | None = None) -> None:
    """Chooses the core's poller, unless the operator's environment has a say of its own about experiments."""
    environ = os.environ if environ is None else environ  # noqa: TID251 - the core reads nothing else
    environ.setdefault(_VARIABLE, _WITHOUT_EVENT_ENGINE)
