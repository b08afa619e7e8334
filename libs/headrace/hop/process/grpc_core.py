"""How the C core of gRPC, Python's collector of garbage and C's allocator work in a process of ours."""

from __future__ import annotations

import gc
import os
from collections.abc import MutableMapping

from headrace.hop.process import memory

_VARIABLE = "GRPC_EXPERIMENTS"
# grpc.aio waits for the core in a thread of its own. The event engine puts two more between the socket and that
# thread: 14 context switches and 500 µs of CPU a call (client and server), against 7 and 370 without it
# (load/RESULTS.md). Where grpcio no longer knows these names, it says so in its log and goes on.
_WITHOUT_EVENT_ENGINE = "-event_engine_client,-event_engine_listener"


def settle(environ: MutableMapping[str, str] | None = None) -> None:
    """Chooses the core's poller, unless the operator's environment has a say of its own about experiments; bounds the allocator.

    The core reads this when grpc is imported.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251 - the core reads nothing else
    environ.setdefault(_VARIABLE, _WITHOUT_EVENT_ENGINE)
    memory.settle()


# Containers made and not freed before the youngest are looked at; Python's 700 come together in ten requests.
_YOUNG = 20_000


def freeze() -> None:
    """Takes all that there is now out of the collector's sight: what a service has when it begins to serve stays.

    The collector would walk through it (a quarter of a million objects of Feast, say) again and again: a tenth of a
    call's cost, and pauses of many milliseconds.
    """
    gc.collect()
    memory.give_back()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)


async def collect() -> None:
    """Frees what only circles of references keep, such as exceptions with the messages that they met.

    By itself the collector looks when enough has been made since; after a rush that may be long after.
    """
    gc.collect()
