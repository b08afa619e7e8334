"""The heartbeat of an event loop, read from the metrics while the loop is stuck."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import urllib.request

from headrace.hop import config
from headrace.hop.process.heartbeat import AGE, beating
from headrace.hop.process.telemetry import Telemetry


def age(address: str) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        found = re.search(rf"^{AGE} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_a_loop_that_is_stuck_shows_in_the_metrics_until_it_goes_on() -> None:
    telemetry = Telemetry("echo", config.Telemetry(metrics="127.0.0.1:0"))
    seen: list[float] = []

    def read_twice() -> None:
        seen.append(age(telemetry.metrics_address))
        time.sleep(0.5)
        seen.append(age(telemetry.metrics_address))

    try:
        with beating(telemetry):
            reader = threading.Thread(target=read_twice)
            reader.start()
            reader.join()  # the loop stands still
            assert seen[1] - seen[0] >= 0.5
            stuck = await asyncio.to_thread(age, telemetry.metrics_address)
            deadline = time.monotonic() + 30
            while await asyncio.to_thread(age, telemetry.metrics_address) >= max(stuck, seen[1]):
                assert time.monotonic() < deadline, "the loop goes on, and no heartbeat tells"
                await asyncio.sleep(0.1)
    finally:
        await telemetry.close()
