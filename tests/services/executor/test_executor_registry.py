"""A new backend is a module and a line in the registry: nothing else has to change."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.executor.backends.registry import BACKENDS, Registered, checkable
from services.executor.config import ModelSettings
from tests.services.executor.executor_caller import batch, calling, quarantined, ys
from tests.services.executor.executor_models import put


async def test_a_version_published_for_a_new_backend_runs_on_it(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "dummy", Registered("tests.services.executor.dummy_backend"))
    put(models, content=b"3.0", backend="dummy")
    async with calling(models) as caller:
        reply = await caller.raw(batch(1.0, 2.0))
        assert (reply.version, reply.backend, reply.standby) == ("1", "dummy", False)
        assert ys(await caller(batch(1.0, 2.0))) == [3.0, 6.0]
        (model,) = await caller.models()
        assert (model.backend, model.active_backend, model.device) == ("dummy", "dummy", "nowhere")
        assert caller.metric("backend_active", model="double", backend="dummy") == 1


async def test_a_backend_that_is_not_registered_is_refused_by_name(models: Path) -> None:
    put(models, content=b"3.0", backend="dummy")
    async with calling(models) as caller:
        problem = (await quarantined(caller))["double:1"]
        assert "backend 'dummy' is not built in" in problem
        assert all(name in problem for name in BACKENDS)


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("onnxruntime", "cpu", True),
        ("onnxruntime:cpu", "cpu", True),
        ("onnxruntime:cuda", "cpu", False),
        ("onnxruntime:auto", "cpu", False),
        ("onnxruntime", "auto", False),
        ("remote:gpu", "cpu", False),
        ("remote", "cpu", False),
        ("tensorrt", "cpu", False),
        ("no such thing", "cpu", True),
    ],
)
def test_only_what_runs_on_this_cpu_is_tried_in_a_process_of_its_own(
    name: str, device: str, expected: bool
) -> None:
    assert checkable(name, ModelSettings.model_validate({"device": device})) is expected


def test_the_check_reads_the_registry_without_importing_an_engine() -> None:
    code = (
        "import sys, services.executor.check as check\n"
        "from services.executor.config import ModelSettings\n"
        "assert check.registry.checkable('onnxruntime', ModelSettings())\n"
        "print('onnxruntime' in sys.modules, 'grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
