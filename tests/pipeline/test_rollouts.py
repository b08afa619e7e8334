"""A bad version that takes over step by step is judged by the answers of real traffic, and taken back by itself."""

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from tests.services.executor.executor_models import lookup
from tests.system import (
    System,
    headrace,
    poll,
    predicting,
    remove_document,
    remove_models,
    row_request,
    write_document,
)

WITHIN_S = 120
NAME = "table"
# Entries that version 2 lacks: rows that ask for them fail there, half of all.
LACKS = range(4, 8)
DOCUMENT = """\
pipeline: table
version: 1
deadline_ms: 30000
inputs: {x: {type: int64, range: [0, 7]}}
stages:
  - {model: m, name: table, inputs: {x: x}, outputs: {y: {column: y, type: float32, shape: [2]}}}
outputs: [y]
"""


@pytest.fixture
def table(system: System, tmp_path: Path) -> Iterator[None]:
    """Version 1 serves; version 2, which is bad, is in the repository."""
    for version, entries in (("1", 8), ("2", 4)):
        file = tmp_path / f"{NAME}{version}.onnx"
        file.write_bytes(lookup(entries))
        headrace("models", "add", NAME, str(file), "--version", version)
        if version == "1":
            write_document(NAME, DOCUMENT)
            headrace("release", "deploy", NAME, "--yes")
    poll("it answers", lambda: answered(system), WITHIN_S)
    try:
        yield
    finally:
        headrace("release", "freeze", "--off")
        remove_document(NAME)
        remove_models(NAME, "1", "2")


def answered(system: System) -> bool:
    with suppress(grpc.RpcError):
        return not system.predict(row_request({"x": 7}, pipeline=NAME)).predictions[0].HasField("error")
    return False


@dataclass
class Asked:
    """What callers got: the arm, the entry that they asked for, and the error ("": none)."""

    arm: str
    x: int
    error: str


@dataclass
class Traffic:
    """Callers that ask for one row after the other, until the context is left."""

    system: System
    callers: int = 16
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self.system.endpoints["grpc"]) as channel:
            call = predicting(channel)
            await asyncio.gather(*(self._ask(call, caller) for caller in range(self.callers)))

    async def _ask(self, call: Any, caller: int) -> None:
        for x in itertools.cycle(range(caller, caller + 8)):
            if self._stop.is_set():
                return
            request = row_request({"x": x % 8}, {"x": x % 8}, pipeline=NAME)
            try:
                answer = await call(request, timeout=30, metadata=self.system.auth())
            except grpc.aio.AioRpcError as error:
                self.asked.append(Asked("", x % 8, f"{error.code().name}: {error.details()}"))
                continue
            arm = answer.decisions[answer.predictions[0].decision].arm
            self.asked += [Asked(arm, x % 8, p.error.message) for p in answer.predictions]


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(headrace("rollout", "status", NAME, "--json"))
    return found


def test_a_bad_version_is_taken_back_and_nobody_else_notices(system: System, table: None) -> None:
    with Traffic(system) as traffic:
        poll("traffic flows", lambda: len(traffic.asked) > 50, WITHIN_S)
        headrace("rollout", "start", NAME, "--models", f"{NAME}=2", "--ladder", "20,100", "--yes")
        poll("it is taken back", lambda: status()["rollout"]["state"] == "rolled_back", WITHIN_S)
        known = len(traffic.asked)
        poll("nobody gets the bad version", lambda: calm(traffic.asked[known:]), WITHIN_S)
    failed = [asked for asked in traffic.asked if asked.error]
    assert failed
    # Only rows of the bad version failed, and among them those that it lacks.
    assert {asked.arm for asked in failed} == {"candidate"}
    # A row that it has never fails with one that it lacks, though they share a run of the engine.
    assert {asked.x for asked in failed if "failed on this row" in asked.error} <= {*LACKS}
    assert {asked.x for asked in failed} & {*LACKS}
    shown = json.loads(headrace("release", "show", NAME, "--json"))
    assert shown["assign"]["weights"]["live"] == 1.0
    assert shown["author"] == "ladder"
    assert "harm" in shown["rollout"]["verdict"]


def calm(asked: list[Asked]) -> bool:
    """Whether the last hundred rows were all answered by the live arm."""
    return len(asked) > 200 and all(a.arm == "live" and not a.error for a in asked[-100:])
