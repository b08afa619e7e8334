"""A disk that can really be full: a small tmpfs in place of a folder, which needs root and the right to mount."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MIB = 1 << 20
# `headrace up` begins nothing with less than 2 GiB. None of it is memory until something is written there.
_WANTED_BY_UP_MIB = 3072
_FULL_FOR_S = 1.0


def _mount(folder: Path, mib: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("a full disk needs root: a tmpfs is mounted")
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "headrace-tests", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a full disk needs the right to mount a tmpfs: {mounted.stderr.strip()}")


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """A disk of one MiB at `folder`, which is empty. Skips by name without the right to mount."""
    _mount(folder, 1)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def small_ext4(folder: Path, image: Path) -> Iterator[None]:
    """An ext4 of 16 MiB at `folder`, which is empty; `image`: the new file that holds it. Skips without the right to mount."""
    if os.geteuid() != 0:
        pytest.skip("a read-only disk needs root: an image is mounted")
    with image.open("wb") as file:
        file.truncate(16 * _MIB)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a read-only disk needs the right to mount an image: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Has ext4 treat the disk at `folder` as after an error of the device: files that are open can't be written either."""
    subprocess.run(["mount", "-o", "remount,abort", str(folder)], check=True)


@contextmanager
def own_disk(folder: Path) -> Iterator[None]:
    """A copy of `folder` on a disk of its own, with room, stands in its place. The folder itself is as it was
    afterwards. Skips by name without the right to mount."""
    copy = folder.with_name(f"{folder.name}.disk")
    copy.mkdir(exist_ok=True)
    try:
        _mount(copy, _WANTED_BY_UP_MIB)
    except BaseException:
        copy.rmdir()
        raise
    try:
        ignored = shutil.ignore_patterns("*.sock*")
        shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        subprocess.run(["mount", "--move", str(copy), str(folder)], check=True)
    except BaseException:
        subprocess.run(["umount", "--lazy", str(copy)], check=False)
        raise
    finally:
        if not os.path.ismount(copy):
            copy.rmdir()
    try:
        yield
    finally:
        # Lazily: a log may be open for a moment yet.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def shrink(folder: Path, room_mib: int) -> None:
    """Leaves so much room on the disk of `folder`."""
    found = os.statvfs(folder)
    size = (found.f_blocks - found.f_bfree) * found.f_frsize + room_mib * _MIB
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def fill(folder: Path, name: str) -> Path:
    """A file that takes all the room that the disk of `folder` has, and what others give back within a second. Called
    again, it takes what others gave back since."""
    path = folder / name
    refused_since: float | None = None
    with path.open("ab", buffering=0) as file:
        while refused_since is None or time.monotonic() - refused_since < _FULL_FOR_S:
            try:
                file.write(b"\0" * 4096)
                refused_since = None
            except OSError:
                refused_since = refused_since or time.monotonic()
                time.sleep(0.01)
    return path
