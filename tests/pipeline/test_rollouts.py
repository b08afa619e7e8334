"""A bad version that takes over step by step is judged by the answers of real traffic, and taken back by itself."""

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.repeated import repeated
from tests.services.executor.executor_models import lookup
from tests.system import (
    System,
    headrace,
    poll,
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


def ask(system: System, asked: list[Asked], x: int) -> None:
    """One request for two rows of this entry."""
    try:
        answer = system.predict(row_request({"x": x}, {"x": x}, pipeline=NAME), timeout=30)
    except grpc.RpcError as error:
        failed: Any = error
        asked.append(Asked("", x, f"{failed.code().name}: {failed.details()}"))
        return
    arm = answer.decisions[answer.predictions[0].decision].arm
    asked += [Asked(arm, x, p.error.message) for p in answer.predictions]


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(headrace("rollout", "status", NAME, "--json"))
    return found


def test_a_bad_version_is_taken_back_and_nobody_else_notices(system: System, table: None) -> None:
    asked, entries = list[Asked](), itertools.cycle(range(8))
    with repeated(lambda: ask(system, asked, next(entries)), 0.0, 16):
        poll("traffic flows", lambda: len(asked) > 50, WITHIN_S)
        headrace("rollout", "start", NAME, "--models", f"{NAME}=2", "--ladder", "20,100", "--yes")
        poll("it is taken back", lambda: status()["rollout"]["state"] == "rolled_back", WITHIN_S)
        known = len(asked)
        poll("nobody gets the bad version", lambda: calm(asked[known:]), WITHIN_S)
    failed = [one for one in asked if one.error]
    assert failed
    # Only rows of the bad version failed, and among them those that it lacks.
    assert {one.arm for one in failed} == {"candidate"}
    # A row that it has never fails with one that it lacks, though they share a run of the engine.
    assert {one.x for one in failed if "failed on this row" in one.error} <= {*LACKS}
    assert {one.x for one in failed} & {*LACKS}
    shown = json.loads(headrace("release", "show", NAME, "--json"))
    assert shown["assign"]["weights"]["live"] == 1.0
    assert shown["author"] == "ladder"
    assert "harm" in shown["rollout"]["verdict"]


def calm(asked: list[Asked]) -> bool:
    """Whether the last hundred rows were all answered by the live arm."""
    return len(asked) > 200 and all(a.arm == "live" and not a.error for a in asked[-100:])
