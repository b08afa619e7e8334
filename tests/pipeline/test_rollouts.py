"""A bad version that takes over step by step is judged by the answers of real traffic, and taken back by itself."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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
# Half of the entries: version 2 lacks them, so that rows that ask for them fail there; version 3 has NaN there.
WORSE = range(4, 8)
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
    """Version 1 serves; versions 2 and 3, which are bad, are in the repository."""
    for version, model in (("1", lookup(8)), ("2", lookup(4)), ("3", lookup(8, nan=4))):
        file = tmp_path / f"{NAME}{version}.onnx"
        file.write_bytes(model)
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
        remove_models(NAME, "1", "2", "3")


def answered(system: System) -> bool:
    with suppress(grpc.RpcError):
        return not system.predict(row_request({"x": 7}, pipeline=NAME)).predictions[0].HasField("error")
    return False


@dataclass
class Asked:
    """What callers got: the arm, the entry that they asked for, and what was wrong with the answer ("": nothing)."""

    arm: str
    x: int
    wrong: str
    at: float = field(default_factory=time.monotonic)


def ask(system: System, asked: list[Asked], x: int) -> None:
    """One request for two rows of this entry."""
    try:
        answer = system.predict(row_request({"x": x}, {"x": x}, pipeline=NAME), timeout=30)
    except grpc.RpcError as error:
        failed: Any = error
        asked.append(Asked("", x, f"{failed.code().name}: {failed.details()}"))
        return
    arm = answer.decisions[answer.predictions[0].decision].arm
    # Plain rows have nothing where an output is NaN.
    asked += [
        Asked(arm, x, p.error.message or "NaN" * ("null" in str(p.outputs["y"]))) for p in answer.predictions
    ]


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(headrace("rollout", "status", NAME, "--json"))
    return found


ROLLOUT, DEPLOYMENT = ("rollout", "start", NAME, "--ladder", "20,100"), ("release", "deploy", NAME)


@pytest.mark.parametrize(
    ("version", "guard", "begin"),
    [("2", "errors", ROLLOUT), ("3", "non_finite", ROLLOUT), ("3", "non_finite", DEPLOYMENT)],
)
def test_a_bad_version_is_taken_back_and_nobody_else_notices(
    system: System, table: None, version: str, guard: str, begin: tuple[str, ...]
) -> None:
    asked, entries = list[Asked](), itertools.cycle(range(8))
    with repeated(lambda: ask(system, asked, next(entries)), 0.0, 16):
        poll("traffic flows", lambda: len(asked) > 50, WITHIN_S)
        headrace(*begin, "--models", f"{NAME}={version}", "--yes")
        poll("it is taken back", lambda: status()["rollout"]["state"] == "rolled_back", WITHIN_S)
        known = len(asked)
        poll("nobody gets the bad version", lambda: calm(asked[known:]), WITHIN_S)
    wrong = [one for one in asked if one.wrong]
    print(f"from the first wrong row to the last: {wrong[-1].at - wrong[0].at:.2f} s")
    # Only rows of the bad version were wrong, and among them those in which it is worse.
    assert {one.arm for one in wrong} == {"candidate"}
    # A good row never fails with a bad one, though they share a run of the engine.
    assert {one.x for one in wrong if "failed on this row" in one.wrong or one.wrong == "NaN"} <= {*WORSE}
    assert {one.x for one in wrong} & {*WORSE}
    shown = json.loads(headrace("release", "show", NAME, "--json"))
    assert shown["assign"]["weights"]["live"] == 1.0
    assert shown["author"] == "ladder"
    assert f"harm by {guard}" in shown["rollout"]["verdict"]


def calm(asked: list[Asked]) -> bool:
    """Whether the last hundred rows were all answered by the live arm."""
    return len(asked) > 200 and all(a.arm == "live" and not a.wrong for a in asked[-100:])
