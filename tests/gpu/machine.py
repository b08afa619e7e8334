"""What this machine can do with a GPU, and why not more."""

import importlib.util
import os

from services.executor.backends.backend import BackendError
from services.executor.backends.tensorrt.device import device_count

# The TensorRT flavour to test; the one for data-centre cards unless told otherwise.
MODULE = os.environ.get("HEADRACE_TESTS_TENSORRT", "tensorrt")


def no_gpu() -> str:
    """Why there is no GPU here; empty if there is one."""
    try:
        return "" if device_count() else "no NVIDIA GPU with a working driver"
    except BackendError as error:
        return str(error)


def no_tensorrt() -> str:
    """Why TensorRT can't run here; empty if it can."""
    missing = [m for m in (MODULE, "pycuda") if importlib.util.find_spec(m) is None]
    return no_gpu() or (f"not installed: {', '.join(missing)}" if missing else "")


def no_cuda_provider() -> str:
    """Why ONNX Runtime can't use a GPU here; empty if it can."""
    import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

    there = "CUDAExecutionProvider" in ort.get_available_providers()
    return no_gpu() or ("" if there else "not installed: onnxruntime-gpu")
