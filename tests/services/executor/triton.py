"""A real Triton server around the doubling model, where one is installed.

PyPI's nvidia-pytriton in an environment of its own: .venv/triton (`make peers`), or what HEADRACE_TESTS_TRITON names.
It ships the server with the Python backend alone, so the model is three lines of NumPy.
"""

import os
import platform
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from headrace.oip import open_inference_pb2 as oip
from tests.children import ends_with_tests
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
HOME = Path(os.environ.get("HEADRACE_TESTS_TRITON", ROOT / ".venv" / "triton"))
SITE = next(HOME.glob("lib/python3*/site-packages"), HOME)
PACKAGE = SITE / "pytriton" / "tritonserver"
MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        xs = [pb.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        return [pb.InferenceResponse([pb.Tensor("y", x + x)]) for x in xs]
"""
CONFIG = """
name: "double"
backend: "python"
max_batch_size: 16
input [{name: "x", data_type: TYPE_FP32, dims: [3]}]
output [{name: "y", data_type: TYPE_FP32, dims: [3]}]
instance_group [{kind: KIND_CPU, count: 1}]
"""


def absent() -> str:
    """Why there is no Triton here; empty if there is one."""
    if (PACKAGE / "bin" / "tritonserver").exists():
        return ""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "tritonserver is built for x86-64 Linux"
    return f"no Triton in {HOME} (make peers, or set HEADRACE_TESTS_TRITON)"


@contextmanager
def triton(folder: Path) -> Iterator[str]:
    """A running Triton that serves `double`; yields host:port."""
    version = SITE.parent.name.removeprefix("python")
    shutil.copytree(PACKAGE / "backends" / "python", folder / "backends" / "python")
    stub = PACKAGE / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder / "backends" / "python")
    model = folder / "models" / "double"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "1" / "model.py").write_text(f"import sys; sys.path[:0] = [{str(SITE)!r}]\n" + MODEL)
    port = free_port()
    command = [
        str(PACKAGE / "bin" / "tritonserver"), "--model-repository", str(folder / "models"), "--backend-directory",
        str(folder / "backends"), "--allow-http=false", "--allow-metrics=false", "--grpc-address", "127.0.0.1",
        "--grpc-port", str(port), "--log-info=false",
    ]  # fmt: skip
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{SITE}/nvidia_pytriton.libs"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ends_with_tests(*command),
            env={"LD_LIBRARY_PATH": libraries, "PATH": f"{HOME}/bin:/usr/bin:/bin"},
            stdout=log,
            stderr=log,
        )
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        _wait(channel, process, folder / "log")
        channel.close()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(channel: grpc.Channel, process: subprocess.Popen[bytes], log: Path) -> None:
    # Not by the channel's connectivity: a thread of grpcio's that watches it may outlive the channel, and raise.
    ready = channel.unary_unary(
        "/inference.GRPCInferenceService/ServerReady",
        request_serializer=oip.ServerReadyRequest.SerializeToString,
        response_deserializer=oip.ServerReadyResponse.FromString,
    )
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if ready(oip.ServerReadyRequest(), timeout=1, wait_for_ready=True).ready:
                return
        except grpc.RpcError:
            continue
    raise AssertionError(log.read_text()[-2000:])
