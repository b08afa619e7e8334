"""Every call to TensorRT is checked against its real binding's types, without a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.tensorrt_stub import absent, make

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "services/executor/backends/tensorrt"
pytestmark = pytest.mark.skipif(bool(absent()), reason=f"no TensorRT stub: {absent()}")
# What someone who learned TensorRT 8 or 10 would write.
PLANTED = """
from services.executor.backends.tensorrt.api import trt

def wrong(engine: trt.ICudaEngine, context: trt.IExecutionContext, builder: trt.Builder) -> None:
    print(trt.BuilderFlag.FP16)
    context.execute_async_v2([], 0)
    builder.build_engine(None, None)
    engine.get_binding_shape(0)
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stub")
    make(folder)
    return folder


def errors(stub: Path, *paths: Path) -> list[str]:
    """What mypy says of `paths`, the stub's own oddities aside."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(stub / "cache"), *map(str, paths)],
        cwd=ROOT,
        env={"MYPYPATH": str(stub), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "checked" in done.stdout or "Success" in done.stdout, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return [line for line in lines if ": error:" in line and "/tensorrt/__init__.pyi" not in line]


def test_our_calls_are_the_bindings(stub: Path) -> None:
    assert errors(stub, ROOM) == []


def test_the_check_would_see_a_call_that_is_not(stub: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(PLANTED)
    found = "\n".join(errors(stub, planted))
    for name in ("FP16", "execute_async_v2", "build_engine", "get_binding_shape"):
        assert f'has no attribute "{name}"' in found
