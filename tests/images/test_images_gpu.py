"""executor-gpu where there is no GPU: it serves on the CPU and says so. First: `make images SERVICES=executor-gpu`."""

from collections.abc import Iterator

import grpc
import pytest

from deploy.images import locks
from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.api.executor.v1 import executor_pb2_grpc
from headrace.columns import decode, encode
from tests.images.containers import METRICS, SOCKET, STATE, Container, inside, running
from tests.services.executor.executor_caller import batch, ys
from tests.services.executor.executor_models import doubling, put

pytestmark = pytest.mark.slow
# As the overlay `gpu` has it, with a model for each way to name TensorRT; unsigned ones.
SETTINGS = {
    "server": {"listen": SOCKET},
    "telemetry": {"metrics": METRICS},
    "models": f"{STATE}/models",
    "state": f"{STATE}/executor",
    "defaults": {"device": "auto"},
    "overrides": {
        "preferred": {"backends": ["tensorrt", "onnxruntime"]},
        "alone": {"backends": ["tensorrt"]},
    },
    "tensorrt": {"module": "tensorrt_rtx", "cache": f"{STATE}/engines"},
}
MEMORY = "512m"
# Prints for each of what is loaded at run time what is missing for it.
_MISSING = """
import ctypes, importlib, sys
from pathlib import Path
import onnxruntime
capi = Path(onnxruntime.__file__).parent / "capi"
def pycuda(): import pycuda.driver
def provider():
    ctypes.CDLL(capi / "libonnxruntime_providers_shared.so", ctypes.RTLD_GLOBAL)
    ctypes.CDLL(capi / "libonnxruntime_providers_cuda.so")
def library(name): return lambda: ctypes.CDLL(name)
for try_ in (pycuda, provider, *map(library, sys.argv[1:])):
    try:
        try_()
        print("nothing")
    except (ImportError, OSError) as error:
        print(str(error).partition(":")[0])
"""
# What ONNX Runtime opens when a model needs it.
_OPENED = ("libcudnn.so.9", "libcufft.so.12", "libcublasLt.so.13", "libnvrtc.so.13", "libcurand.so.10")
_PLAN = """
import sys, threading
from services.executor.backends.tensorrt import api
api.choose("tensorrt_rtx")
from services.executor.backends.tensorrt.builder import Options, build
made = build(bytes.fromhex(sys.argv[1]), Options((1, 8), 1 << 28, 2), b"", lambda _: None, threading.Event())
print(len(made.plan))
"""
_COUNT = "from services.executor.backends.tensorrt.device import device_count; print(device_count())"


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    state, folder = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("executor")
    for name in ("anywhere", "preferred", "alone"):
        put(state / "models", name)
    with running(locks.GPU, SETTINGS, folder, state=state, memory=MEMORY) as one:
        one.ready_s()
        yield one


@pytest.fixture
def stub(executor: Container) -> Iterator[executor_pb2_grpc.ExecutorServiceStub]:
    with grpc.insecure_channel(f"unix:{executor.sockets}/service.sock") as channel:
        yield executor_pb2_grpc.ExecutorServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without types


@pytest.mark.parametrize(("model", "standby"), [("anywhere", False), ("preferred", True)])
def test_it_answers_on_the_cpu(
    model: str, standby: bool, stub: executor_pb2_grpc.ExecutorServiceStub
) -> None:
    request = pb.ExecuteRequest(model=model, batch=encode(batch(1.5, -2.0, budget=30)))
    reply = stub.Execute(request, timeout=30)
    assert ys(decode(reply.batch)) == [3.0, -4.0]
    assert (reply.backend, reply.standby) == ("onnxruntime", standby)
    listed = {one.name: one for one in stub.ListModels(pb.ListModelsRequest(), timeout=30).models}
    assert listed.keys() == {"anywhere", "preferred"}
    assert (listed[model].device, listed[model].active_backend) == ("cpu", "onnxruntime")


def test_a_model_for_tensorrt_alone_is_refused_and_why_is_told(
    stub: executor_pb2_grpc.ExecutorServiceStub,
) -> None:
    with pytest.raises(grpc.RpcError, match="is in quarantine") as caught:
        stub.Execute(pb.ExecuteRequest(model="alone", batch=encode(batch(1.0, budget=30))), timeout=30)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    index = {one.name: one.progress for one in stub.IndexModels(pb.IndexModelsRequest(), timeout=30).models}
    assert "there is no GPU 0 with a working driver here" in index["alone"]


def test_its_log_says_that_there_is_no_gpu(executor: Container) -> None:
    log = executor.log()
    assert "no GPU: the model runs on the CPU" in log
    assert "ONNX Runtime found no usable GPU" in log
    assert "there is no GPU 0 with a working driver here; let onnxruntime stand by" in log
    assert "EP Error" not in log


def test_of_all_libraries_only_the_drivers_own_is_missing() -> None:
    missing = inside(locks.GPU, _MISSING, *_OPENED, memory="1g").split()
    assert missing == ["libcuda.so.1", "libcuda.so.1", *["nothing"] * len(_OPENED)]
    assert inside(locks.GPU, _COUNT).strip() == "0"


def test_its_tensorrt_builds_a_plan() -> None:
    assert int(inside(locks.GPU, _PLAN, doubling().hex(), memory="1g")) > 1000


def test_nothing_of_what_compiles_is_in_it() -> None:
    code = "import shutil; from pathlib import Path; print(shutil.which('gcc'), Path('/compile').exists())"
    assert inside(locks.GPU, code).split() == ["None", "False"]
