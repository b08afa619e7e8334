"""A service that says it is ready has served already: no caller is the first."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.hop.call import Call
from headrace.hop.testing import served
from services.executor.servicer import ExecutorServicer
from services.executor.wiring import SERVICE
from tests.services.executor.executor_models import put, put_lookup

TRANSPORTS = pytest.mark.parametrize("transport", ["unix", "local"])


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str, bool]]:
    """Calls by model, version and whether they brought something back without an error."""
    seen: Counter[tuple[str, str, bool]] = Counter()
    execute = ExecutorServicer.Execute

    async def noted(self: ExecutorServicer, request: pb.ExecuteRequest, call: Call) -> pb.ExecuteResponse:
        reply = await execute(self, request, call)
        seen[request.model, request.version, bool(reply.batch.columns and not reply.batch.errors)] += 1
        return reply

    monkeypatch.setattr(ExecutorServicer, "Execute", noted)
    return seen


@TRANSPORTS
async def test_each_version_has_answered_before_the_first_call(
    models: Path, answered: Counter[tuple[str, str, bool]], transport: Any
) -> None:
    for version in ("1", "2"):
        put(models, version=version)
    put_lookup(models)
    async with served(SERVICE, {"models": models}, transport=transport):
        found = dict(answered)
    assert set(found) == {("double", "2", True), ("lookup", "1", True)}
    assert all(1 < calls <= 20 for calls in found.values())
