"""An exact typed stub of TensorRT's Python binding, made from the binding itself, with no GPU and no TensorRT library.

usage: python -m tests.gpu.tensorrt_stub FOLDER

The binding (PyPI `tensorrt-cu13-bindings`) needs three shared libraries to be imported; three empty ones satisfy it,
and pybind11-stubgen writes down what it then finds.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_SYMBOLS = {
    "libnvinfer.so.11": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvinfer_plugin.so.11": ("initLibNvInferPlugins",),
    "libnvonnxparser.so.11": (
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}
_MODULE = "tensorrt_bindings.tensorrt"


def absent() -> str:
    """Why the stub can't be made here; empty if it can, and where it must be (CI)."""
    if os.environ.get("HEADRACE_TESTS_REQUIRE_ALL"):
        return ""
    for package, name in (
        ("tensorrt_bindings", "tensorrt-cu13-bindings"),
        ("pybind11_stubgen", "pybind11-stubgen"),
    ):
        if importlib.util.find_spec(package) is None:
            return f"{name} is not installed (make gpu-tests)"
    return "" if shutil.which("gcc") else "gcc is not installed"


def make(folder: Path) -> Path:
    """Writes `tensorrt/__init__.pyi` into `folder` and returns its path."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for library, symbols in _SYMBOLS.items():
            _empty_library(work, library, symbols)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pybind11_stubgen",
                _MODULE,
                "-o",
                str(work / "out"),
                "--ignore-all-errors",
            ],
            env={"LD_LIBRARY_PATH": str(work), "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
        )
        text = (work / "out" / "tensorrt_bindings" / "tensorrt.pyi").read_text()
    target = folder / "tensorrt" / "__init__.pyi"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_corrected(text))
    return target


def _empty_library(folder: Path, library: str, symbols: tuple[str, ...]) -> None:
    source = folder / f"{library}.c"
    source.write_text("\n".join(f"void *{symbol}(void) {{ return 0; }}" for symbol in symbols))
    output = folder / library
    command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(output), str(source)]
    subprocess.run(command, check=True, capture_output=True)


def _corrected(text: str) -> str:
    """What pybind11-stubgen can't know: defaults without a source form, implicit conversions, names that hide builtins."""
    text = text.replace(_MODULE, "tensorrt")
    text = re.sub(r"= <[^>]*>", "= ...", text)
    text = re.sub(r"\bin: ", "in_: ", text)
    # tensorrt.bool is a data type, and would hide what the methods return.
    text = re.sub(r"(?<=-> )bool\b|(?<=: )bool\b(?=[,)=\s])", "builtins.bool", text)
    text = re.sub(r"(\w+: [\w.\[\] |]+) = None\b", r"\1 | None = None", text)
    text = re.sub(r"\b(min|opt|max): Dims\b", r"\1: Dims | typing.Sequence[int]", text)
    text = text.replace("typing.SupportsInt", "int").replace("typing.SupportsFloat", "float")
    text = text.replace("= None, channel_axis: int)", "= None, channel_axis: int = ...)")
    text = text.replace(
        "class IHostMemory:\n",
        "class IHostMemory:\n    def __buffer__(self, flags: int, /) -> memoryview: ...\n    def __len__(self) -> int: ...\n",
        1,
    )
    text = text.replace(
        "class Dims:\n", "class Dims:\n    def __iter__(self) -> typing.Iterator[int]: ...\n", 1
    )
    head = "from __future__ import annotations\nimport builtins\nimport typing_extensions\n"
    tail = (
        "\ndef nptype(trt_type: DataType) -> type: ...\n"
        "def volume(iterable: typing.Iterable[int]) -> int: ...\n__version__: str\n"
    )
    return head + text.replace("from __future__ import annotations\n", "", 1) + tail


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
