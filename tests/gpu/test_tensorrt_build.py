"""The build half of the TensorRT backend, for real: tensorrt_rtx builds engines without a GPU."""

import importlib.util
import os
import threading
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from headrace.repository import Repository
from services.executor.backends.backend import BackendError
from services.executor.backends.tensorrt import api
from services.executor.backends.tensorrt.backend import TensorRt
from services.executor.backends.tensorrt.plans import PlanKey, Plans
from services.executor.config import TensorRtSettings
from tests.gpu.machine import no_gpu
from tests.services.executor.executor_models import doubling, onnx_bytes, put

RTX = importlib.util.find_spec("tensorrt_rtx") is not None
# Where everything must be there (CI) the tests fail instead.
SKIPS = not RTX and not os.environ.get("HEADRACE_TESTS_REQUIRE_ALL")
needs_rtx = pytest.mark.skipif(SKIPS, reason="tensorrt-rtx is not installed (make gpu-tests)")


@pytest.fixture(scope="module", autouse=True)
def chosen() -> None:
    if RTX:
        api.choose("tensorrt_rtx")


def built(
    content: bytes, rows: tuple[int, ...] = (1, 8, 32), cancelled: bool = False
) -> tuple[bytes, list[str]]:
    """A plan, and what was told on the way."""
    from services.executor.backends.tensorrt.builder import Options, build

    told: list[str] = []
    cancel = threading.Event()
    if cancelled:
        cancel.set()
    return build(content, Options(rows, 1 << 28, 2), b"", told.append, cancel).plan, told


@needs_rtx
def test_a_plan_for_many_sizes_is_built_and_told_of() -> None:
    plan, told = built(doubling())
    assert len(plan) > 1000
    assert any(line.startswith("building: ") and ", step 1 of " in line for line in told)


@needs_rtx
def test_a_build_can_be_cancelled() -> None:
    with pytest.raises(BackendError, match="the build was cancelled"):
        built(doubling(), cancelled=True)


@needs_rtx
def test_what_is_no_model_is_not_built() -> None:
    with pytest.raises(BackendError, match="TensorRT can't read the model"):
        built(b"garbage")


@needs_rtx
def test_an_unknown_operator_is_named() -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 3]) for n in "xy")
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="some.where")
    graph = helper.make_graph([node], "unknown", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("some.where", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    with pytest.raises(BackendError, match="Frobnicate"):
        built(model.SerializeToString())


@needs_rtx
def test_open_dimensions_of_a_row_are_refused() -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", "wide"]) for n in "xy")
    content = onnx_bytes(helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "open", [x], [y]))
    with pytest.raises(BackendError, match="input x has open dimensions"):
        built(content)


@needs_rtx
def test_sizes_that_make_no_profile_are_refused() -> None:
    with pytest.raises(BackendError, match="does not take the sizes"):
        built(doubling(), rows=(8, 32, 4))


@needs_rtx
@pytest.mark.skipif(not no_gpu(), reason="there is a GPU here")
def test_without_a_gpu_the_backend_says_so(models: Path) -> None:
    put(models)
    artifact = Repository(models).read("double", "1")
    settings = TensorRtSettings(module="tensorrt_rtx")
    backend = TensorRt(artifact, (1, 8), 2, settings, lambda _: None)
    with pytest.raises(BackendError, match="there is no GPU 0 with a working driver here"):
        backend.activate()
    backend.deactivate()


def test_plans_are_kept_by_what_they_depend_on(tmp_path: Path) -> None:
    plans = Plans(tmp_path / "plans")
    key = PlanKey("double", "ab" * 32, "NVIDIA X sm_90", "tensorrt-11.4", "(1, 8)")
    assert plans.find(key) is None
    plans.keep(key, b"plan", b"timings")
    assert plans.find(key) == b"plan"
    assert plans.timings(key) == b"timings"
    for field, value in (("gpu", "NVIDIA Y sm_89"), ("version", "tensorrt-11.5"), ("sha256", "cd" * 32)):
        other = PlanKey(**{**{f: getattr(key, f) for f in PlanKey.__slots__}, field: value})
        assert plans.find(other) is None
    # Timings are the GPU's and the library's, whatever the model.
    assert plans.timings(PlanKey("other", "ef" * 32, key.gpu, key.version, "(1,)")) == b"timings"


def test_a_plan_cut_short_is_not_taken_and_an_open_folder_is_refused(tmp_path: Path) -> None:
    plans = Plans(tmp_path / "plans")
    key = PlanKey("double", "ab" * 32, "gpu", "1", "")
    plans.keep(key, b"a plan of some length", b"")
    path = tmp_path / "plans" / key.file
    path.write_bytes(path.read_bytes()[:-3])
    assert plans.find(key) is None
    (tmp_path / "plans").chmod(0o777)
    with pytest.raises(BackendError, match="others may write"):
        plans.find(key)
