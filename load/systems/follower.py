"""A process that follows control as a door does: `python -m load.systems.follower TARGET KEY ROOT`.

Prints, for each view, when it came (monotonic), the number of its position, and the bytes of all answers so far.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import ClientRules
from headrace.resources.bootstrap import follow
from headrace.resources.releases import release_compiler
from headrace.resources.service import HopControl

_WAIT_S = 3600.0


class _Weighed(HopControl):
    """Counts what it receives."""

    received = 0

    def watch(self, request: WatchRequest, timeout_s: float) -> WatchResponse:
        answer = super().watch(request, timeout_s)
        self.received += answer.ByteSize()
        return answer


async def main(target: str, key: str, root: str) -> None:
    """Until it is killed."""
    control = _Weighed(Client("control", ClientRules(target)), asyncio.get_running_loop())
    await asyncio.to_thread(_follow, control, Path(key).read_bytes(), Path(root))


def _follow(control: _Weighed, key: bytes, root: Path) -> None:
    follower = follow("ingress", "load", [key], control, root, compilers={"release": release_compiler()})
    state = ""
    while (view := follower.wait(state, _WAIT_S)) is not None:
        state = view.state
        print(time.monotonic(), view.position.number, control.received, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
