"""A router with its leaves, until it is killed; it prints where it listens. Its events leave four at a time."""

import asyncio
import sys
from pathlib import Path

from tests.services.router.router_leaves import SCORED, suite


async def main(folder: Path, monitoring: str) -> None:
    events = {"message_rows": 4, "wait_s": 600.0}
    told = {"monitoring": {"target": monitoring}, "tick_s": 600.0, "events": events}
    async with suite(folder, {"scored": SCORED}, **told) as started:
        print(started.router.target, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
