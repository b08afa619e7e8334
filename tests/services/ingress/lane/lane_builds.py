"""Builds of lane.c with the fake Envoy. `python -m tests.services.ingress.lane.lane_builds SEED MESSAGES` plays traffic."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from services.ingress.lane import library

HERE = Path(__file__).parent
LANE = Path(library.__file__).with_name("lane.c")
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Wno-unused-function", "-pthread")
# traffic.c counts what lane.c allocates, and lets some of it fail.
_COUNTED = tuple(f"-D{name}=lane_{name}" for name in ("malloc", "calloc", "realloc", "free"))


def traffic(folder: Path, sanitizers: str) -> Path:
    """The program of traffic.c. Skips the test if there is no C compiler with these sanitizers."""
    program = folder / sanitizers.replace(",", "-")
    flags = (*_FLAGS, f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    _compile(*flags, *_COUNTED, "-c", str(LANE), "-o", f"{program}.o")
    _compile(*flags, str(HERE / "traffic.c"), f"{program}.o", "-o", str(program))
    return program


def shared(folder: Path) -> Path:
    """One library with the fake Envoy and lane.c in it."""
    made = folder / "lane-and-envoy.so"
    _compile(*_FLAGS, "-shared", "-fPIC", str(HERE / "envoy.c"), str(LANE), "-o", str(made))
    return made


def need_lane() -> None:
    """Skips the test on a machine without a C compiler: there the installation has made no lane."""
    try:
        library.compile_lane()
    except library.LaneError as error:
        pytest.skip(f"no lane: {error}")


def _compile(*arguments: str) -> None:
    try:
        done = subprocess.run(["gcc", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no gcc")
    if "san" in done.stderr and ("cannot find" in done.stderr or "No such file" in done.stderr):
        pytest.skip("gcc has no sanitizers here")
    assert (done.returncode, done.stderr) == (0, "")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = traffic(Path(folder), "address,undefined")
        sys.exit(subprocess.run([str(program), *sys.argv[1:]], check=False).returncode)


if __name__ == "__main__":
    main()
