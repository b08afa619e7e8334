"""Memory that a process of ours need not hold."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

# Of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Blocks from this size on go back to the system when they are freed. By itself glibc raises the limit to the largest block
# that was ever freed, up to 32 MiB; then what a start has used stays, in pieces: 40 MiB of an executor with open_nsfw.
_LARGE = 4 << 20


@contextmanager
def without(package: str) -> Iterator[None]:
    """Whoever is imported in here finds `package` not installed, unless this process has it already."""
    if package in sys.modules:
        yield
        return
    # None is how the import system is told that there is no such module.
    sys.modules[package] = cast("ModuleType", None)
    try:
        yield
    finally:
        del sys.modules[package]


def settle() -> None:
    """Bounds what the allocator keeps of freed memory. Early: it does not change what has been kept already."""
    if (mallopt := _of_libc("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE)


def give_back() -> None:
    """Returns to the system what was freed, as far as the allocator can."""
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    """A function of glibc; None where C's library is another one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
