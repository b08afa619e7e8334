"""Runs everything that needs a GPU and writes tests/gpu/REPORT.md: card, driver, versions, commit, what ran, figures.

usage: python -m tests.gpu.report [--model MODEL.onnx --input X --width 24]
"""

import argparse
import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

from tests.gpu.machine import no_cuda_provider, no_gpu, no_tensorrt

ROOT = Path(__file__).parents[2]
REPORT = Path(__file__).parent / "REPORT.md"
PACKAGES = ("tensorrt", "tensorrt-rtx", "pycuda", "cuda-bindings", "onnxruntime-gpu", "onnxruntime", "numpy")
TESTS = ("tests/gpu", "tests/services/executor/test_executor_backends.py")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--input", default="X")
    parser.add_argument("--width", default="24")
    options = parser.parse_args()
    if reason := no_gpu():
        raise SystemExit(f"nothing to report: {reason}")
    sections = [_machine(), _tests()]
    if options.model is not None:
        sections.append(_figures(options.model, options.input, options.width))
    REPORT.write_text("\n\n".join(sections) + "\n")
    print(f"wrote {REPORT.relative_to(ROOT)}")


def _machine() -> str:
    card = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    commit = _output("git", "rev-parse", "HEAD")
    changed = (
        " (with uncommitted changes)" if _output("git", "status", "--porcelain", "services", "libs") else ""
    )
    lines = [
        f"# GPU report, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"- card, driver, memory: {card or 'nvidia-smi is not there'}",
        f"- commit: {commit or 'unknown'}{changed}",
        f"- Python {platform.python_version()}, {platform.platform()}",
        *(f"- {name} {version}" for name in PACKAGES if (version := _version(name))),
        f"- TensorRT: {no_tensorrt() or 'runs'}",
        f"- ONNX Runtime's CUDA provider: {no_cuda_provider() or 'runs'}",
    ]
    return "\n".join(lines)


def _tests() -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--no-header", "--timeout", "600", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    marks = ("PASSED", "FAILED", "ERROR", "SKIPPED")
    lines = [line for line in done.stdout.splitlines() if line.startswith(marks)]
    verdict = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]
    return "\n".join([f"## Tests: {verdict}", "", "```", *lines, "```"])


def _figures(model: Path, name: str, width: str) -> str:
    command = [sys.executable, "-m", "tests.gpu.figures", str(model), name, width]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    body = done.stdout if done.returncode == 0 else f"{done.stdout}\nfailed:\n```\n{done.stderr[-2000:]}\n```"
    return f"## Figures, {model.name}\n\n{body}"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
