"""The TensorRT module of this process: `tensorrt`, or `tensorrt_rtx`, which has nearly the same interface.

Call `choose` first. Types are those of `tensorrt` (tests/gpu checks them against its real bindings).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from services.executor.backends.backend import BackendError

if TYPE_CHECKING:
    import tensorrt as trt  # type: ignore[import-not-found, unused-ignore]  # typed where tests/gpu makes its stub

_chosen: ModuleType | None = None
_HOW = {
    "tensorrt": "on a machine with an NVIDIA GPU: pip install 'headrace[gpu]'",
    "tensorrt_rtx": "pip install tensorrt-rtx",
}


def choose(name: str) -> None:
    """Sets module `name` for this process. Raises BackendError if it is not installed, or if another one is set."""
    global _chosen
    if _chosen is not None and _chosen.__name__ != name:
        raise BackendError(
            f"this process runs {_chosen.__name__} already; use one `tensorrt.module` for all models"
        )
    try:
        _chosen = importlib.import_module(name)
    except ImportError as error:
        raise BackendError(f"{name} can't be imported ({error}); {_HOW[name]}") from error


def is_rtx() -> bool:
    """Whether the module is TensorRT for RTX, which compiles at run time and therefore stores no timings."""
    return _module().__name__ == "tensorrt_rtx"


def version() -> str:
    """The module and its version, for the keys of caches."""
    module = _module()
    return f"{module.__name__}-{module.__version__}"


def _module() -> ModuleType:
    if _chosen is None:
        raise BackendError("no TensorRT module was chosen; call choose() first")
    return _chosen


def __getattr__(name: str) -> Any:
    if name == "trt":
        return _module()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["choose", "is_rtx", "trt", "version"]
