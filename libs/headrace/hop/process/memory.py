"""Keeps the memory of a process small: limits of the C allocator, and imports that can be skipped."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

# Of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Blocks of at least this size go back to the system when they are freed. By default glibc raises this limit to the largest
# block ever freed, up to 32 MiB; then memory used during the start is kept: 40 MiB of an executor with open_nsfw.
_LARGE = 4 << 20


@contextmanager
def without(package: str) -> Iterator[None]:
    """Modules imported in this context see `package` as not installed, unless this process has imported it already."""
    if package in sys.modules:
        yield
        return
    # None tells the import system that there is no such module.
    sys.modules[package] = cast("ModuleType", None)
    try:
        yield
    finally:
        del sys.modules[package]


def settle() -> None:
    """Limits how much freed memory the allocator keeps. Call it early: memory kept already is not affected."""
    if (mallopt := _of_libc("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE)


def give_back() -> None:
    """Returns freed memory to the system, as far as the allocator can."""
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
