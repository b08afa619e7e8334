"""Settings of gRPC's C core, Python's garbage collector and the C allocator, for our processes."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, MutableMapping

from headrace.hop.process import memory

_VARIABLE = "GRPC_EXPERIMENTS"
# No call was seen so many times: who came a second ago has gone, and nobody came since.
_CALM_LOOKS, _LOOK_S = 10, 0.1
# grpc.aio waits for the core in its own thread. The event engine puts two more threads between the socket and that
# thread: 14 context switches and 500 µs of CPU a call (client and server), against 7 and 370 without it
# (load/RESULTS.md). A grpcio that no longer knows these names only logs that.
_WITHOUT_EVENT_ENGINE = "-event_engine_client,-event_engine_listener"


def settle(environ: MutableMapping[str, str] | None = None) -> None:
    """Chooses the core's poller, unless the environment sets experiments itself; limits the allocator.

    Call it before grpc is imported: the core reads the variable then.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251 - the core reads nothing else
    environ.setdefault(_VARIABLE, _WITHOUT_EVENT_ENGINE)
    memory.settle()


def freeze() -> None:
    """Excludes all current objects from garbage collection: what a service has when it begins to serve stays anyway.

    The collector would visit these objects (a quarter of a million with Feast) again and again: a tenth of a call's
    cost, and pauses of many milliseconds.
    """
    gc.collect()
    memory.give_back()
    gc.freeze()
    # 2,000 new containers take 0.3 ms to look at, 20,000 up to 6, for the same in all. What outlives one look is seldom a cycle.
    gc.set_threshold(2_000, 200, 20)


async def collect(calls: Callable[[], int]) -> None:
    """Frees reference cycles, such as exceptions with the messages in their tracebacks, once nobody waits for the loop.

    It takes 10 to 25 ms in one piece. The collector runs by itself only after enough new allocations; after a burst of load that
    may take long. `calls`: how many are being served.
    """
    calm = 0
    while calm < _CALM_LOOKS:
        await asyncio.sleep(_LOOK_S)
        calm = 0 if calls() else calm + 1
    gc.collect()
