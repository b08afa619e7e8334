"""The feature store dies, hangs, slows down or talks nonsense while requests come through the real door."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.faults.fault_proxy import FaultProxy
from tests.faults.traffic import Traffic, add_hurried, healthy, kinds
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system import (
    DOCUMENTS,
    HOME,
    PATIENT,
    ROOT,
    System,
    add_document,
    poll,
    remove_document,
    restarted,
    row_request,
)

OK = grpc.StatusCode.OK
VIEWS = ["planes", "tail_history", "route_history", "congestion", "weather"]
BY_TAIL = {"planes", "tail_history"}
FAULT_S = 2.0
# By itself, without a restart. About a second where it was measured (load/RESULTS.md); CI has taken 2.1.
RECOVERED_S = 20.0
# What the pipeline allows: three times the usual, as a busy machine needs it; and a twentieth of it for the store, which is still
# less than a slow one takes.
STEADY, DEADLINE_S = "steady", 3.0


@dataclass
class Store:
    """A Redis, and the way to it."""

    redis: RedisServer
    proxy: FaultProxy
    loop: asyncio.AbstractEventLoop
    # Where the way begins.
    port: int

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Self]:
        """An empty one, with an event loop in a thread of its own."""
        loop = asyncio.new_event_loop()
        with RedisServer(folder) as redis:
            store = cls(redis, FaultProxy(redis.port), loop, free_port())
            ready, stop = threading.Event(), asyncio.Event()
            thread = threading.Thread(target=loop.run_until_complete, args=(store._serve(ready, stop),))
            thread.start()
            try:
                assert ready.wait(60), "the proxy does not listen"
                yield store
            finally:
                loop.call_soon_threadsafe(stop.set)
                thread.join()
                loop.close()

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        async with self.proxy.serving(self.port):
            ready.set()
            await stop.wait()

    def switch(self, mode: str) -> None:
        """How the way is from now on."""
        self.loop.call_soon_threadsafe(self.proxy.switch, mode)


@pytest.fixture(scope="module")
def store(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """What the system reads its features from; afterwards it reads from its own store again."""
    folder = tmp_path_factory.mktemp("store")
    with Store.running(folder) as store:
        places = [folder / "repo", HOME / "data", f"127.0.0.1:{store.redis.port}", f"127.0.0.1:{store.port}"]
        filled = subprocess.run(
            [sys.executable, "-m", "tests.faults.redis_repo", *map(str, places)],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert filled.returncode == 0, filled.stderr[-2000:]
        # Without a cache every batch needs the store: rows that are still current would hide the fault for a while.
        settings = {"repo": str(folder / "repo"), "cache_s": 0, "store_timeout_s": DEADLINE_S / 20}
        with restarted("features", settings, PATIENT):
            add_hurried(system, STEADY, int(DEADLINE_S * 1000))
            yield store
            remove_document(STEADY)


FAULTS: dict[str, tuple[Callable[[Store], None], Callable[[Store], None]]] = {
    "killed": (lambda s: s.redis.kill(), lambda s: s.redis.start()),
    "stopped": (lambda s: s.redis.signal(signal.SIGSTOP), lambda s: s.redis.signal(signal.SIGCONT)),
    "slow": (lambda s: s.switch("slow"), lambda s: s.switch("pass")),
    "unreachable": (lambda s: s.switch("closed"), lambda s: s.switch("pass")),
    "garbage": (lambda s: s.switch("garbage"), lambda s: s.switch("pass")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_predictions_go_on_with_what_is_known(system: System, store: Store, fault: str) -> None:
    begin, end = FAULTS[fault]
    with Traffic(system, STEADY, timeout_s=DEADLINE_S) as traffic:
        calm = system.predict(row_request(traffic.rows[0])).predictions[0]
        poll("traffic flows", lambda: healthy(traffic))
        broken = time.monotonic()
        begin(store)
        try:
            poll("the fault shows", lambda: not healthy(traffic))
            shown = time.monotonic()
            known, unknown = system.predict(row_request(traffic.rows[0], unasked(system))).predictions
            time.sleep(max(shown + FAULT_S - time.monotonic(), 0))
            poll("the fault lasts", lambda: len(traffic.since(shown)) > 100)
        finally:
            repaired = time.monotonic()
            end(store)
        poll("the store serves again", lambda: healthy(traffic))
    outcomes = traffic.since(broken)
    # Each within the deadline, which is its caller's too.
    assert kinds(o for o in outcomes if o.code is not OK) == {}
    # What waits for the store as it comes back is answered by it.
    during = [o for o in outcomes if shown < o.began and o.began + o.took < repaired]
    assert during
    # Each of these rows was asked before, so that all its views are remembered.
    assert {o.fallbacks for o in during} == {tuple(f"features/{view}:stale" for view in VIEWS)}
    assert max(o.began for o in outcomes if o.fallbacks) - repaired <= RECOVERED_S
    assert known.outputs["probability"] == calm.outputs["probability"]
    assert {view: known.features[view].source for view in VIEWS} == dict.fromkeys(VIEWS, "stale")
    assert all(known.features[view].age_ms >= calm.features[view].age_ms for view in VIEWS)
    told(unknown)


def test_a_pipeline_that_demands_a_feature_refuses_while_nobody_knows_it(
    system: System, store: Store
) -> None:
    text = (
        (DOCUMENTS / "flights" / "pipeline.yaml")
        .read_text()
        .replace("pipeline: flights", "pipeline: demanding")
    )
    head, planes = text.split("planes:", 1)
    add_document(
        "demanding", f"{head}planes:{planes.replace('on_missing: default', 'on_missing: refuse', 1)}"
    )
    row = unasked(system)
    request = row_request(row, pipeline="demanding")
    try:
        poll("the pipeline is served", lambda: refusal(system, request) is None)
        # Of another plane, as this one's features are remembered now.
        other = next(r for r in reversed(system.rows) if r.get("tailnum") not in (None, row["tailnum"]))
        store.redis.kill()
        try:
            error = refusal(system, row_request(other, pipeline="demanding"))
        finally:
            store.redis.start()
        assert error is not None
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "planes" in (error.details() or "")
        poll(
            "the store serves again",
            lambda: refusal(system, row_request(other, pipeline="demanding")) is None,
        )
    finally:
        remove_document("demanding")


def refusal(system: System, request: pb.PredictRequest) -> Any:
    """Why there is no prediction; None if there is one."""
    try:
        system.predict(request)
    except grpc.RpcError as error:
        return error
    return None


def unasked(system: System) -> dict[str, object]:
    """A flight of a plane that no request asked for while all was well."""
    asked = {row.get("tailnum") for row in system.rows[: Traffic.ROWS]}
    return next(row for row in system.rows[Traffic.ROWS :] if row.get("tailnum") not in asked)


def told(prediction: pb.Prediction) -> None:
    """The answer for such a flight: nothing is remembered of the plane, but of the airport and the weather."""
    sources = {view: prediction.features[view].source for view in VIEWS}
    assert {view for view, source in sources.items() if source == "default"} >= BY_TAIL
    assert (sources["congestion"], sources["weather"]) == ("stale", "stale")
    assert list(prediction.fallbacks) == [f"features/{view}:{source}" for view, source in sources.items()]
    assert 0 <= prediction.outputs["probability"] <= 1
