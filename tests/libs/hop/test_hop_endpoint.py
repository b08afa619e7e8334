"""Over real HTTP: probes for those that can show no client certificate, and the heartbeat of a loop that is stuck."""

import asyncio
import re
import threading
import urllib.error
import urllib.request
from typing import NamedTuple

from headrace.hop import config
from headrace.hop.definition import Runtime
from headrace.hop.process.heartbeat import AGE, beating
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.serve import serving
from headrace.hop.transport.in_process import LocalServers
from tests.libs.hop.hop_echo import EchoServicer, definition
from tests.system import poll


class Answer(NamedTuple):
    status: int
    text: str


def get(address: str, path: str) -> Answer:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as reply:
            return Answer(reply.status, reply.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


async def test_ready_is_what_the_service_says_and_metrics_stay_where_they_were() -> None:
    telemetry = Telemetry("echo", config.Telemetry(metrics="127.0.0.1:0"))
    address = telemetry.metrics_address
    runtime = Runtime("echo", telemetry, LocalServers(telemetry))
    settings = config.ServiceSettings(
        server=config.Server(listen="127.0.0.1:0", allow_plaintext=True, drain_notice_s=0)
    )
    try:
        # That a service which it hosts is ready does not make the process so.
        telemetry.named("hosted").ready(True)
        telemetry.page("/told", lambda query: f"[{query}]".encode())
        assert await asyncio.to_thread(get, address, "/told?1") == Answer(200, "[1]")
        assert await asyncio.to_thread(get, address, "/ready") == Answer(503, "not ready: echo\n")
        async with serving(definition(EchoServicer()), settings, runtime):
            assert await asyncio.to_thread(get, address, "/ready") == Answer(200, "ok\n")
            telemetry.named("other").ready(False)
            assert await asyncio.to_thread(get, address, "/ready") == Answer(503, "not ready: other\n")
            telemetry.named("other").ready(True)
            assert (await asyncio.to_thread(get, address, "/ready")).status == 200
            assert (
                'headrace_ready{service="echo"} 1.0'
                in (await asyncio.to_thread(get, address, "/metrics")).text
            )
        assert await asyncio.to_thread(get, address, "/ready") == Answer(503, "not ready: echo\n")
    finally:
        await telemetry.close()


def age(address: str) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        found = re.search(rf"^{AGE} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_a_loop_that_stands_still_shows_and_is_not_live_until_it_goes_on() -> None:
    telemetry = Telemetry("echo", config.Telemetry(metrics="127.0.0.1:0", live_s=2))
    address, seen, ages = telemetry.metrics_address, list[Answer](), list[float]()

    def stuck() -> bool:
        seen.append(get(address, "/live"))
        ages.append(age(address))
        return seen[-1].status == 503

    try:
        assert await asyncio.to_thread(get, address, "/live") == Answer(200, "ok\n")
        with beating(telemetry):
            watcher = threading.Thread(target=lambda: poll("a stuck loop", stuck, 60))
            watcher.start()
            watcher.join()  # the loop stands still
            assert seen[-1].text.startswith("the event loop has stood still for ")
            assert ages[-1] - ages[0] >= 0.5
            async with asyncio.timeout(60):
                while (await asyncio.to_thread(get, address, "/live")).status != 200:
                    await asyncio.sleep(0.05)
                while await asyncio.to_thread(age, address) >= ages[-1]:
                    await asyncio.sleep(0.05)
    finally:
        await telemetry.close()
