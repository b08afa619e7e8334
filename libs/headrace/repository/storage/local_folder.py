"""A repository in a folder of this machine."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from headrace.repository.storage.store import EscapeError
from headrace.state import atomic, plain_files

_HIDDEN = (".", "_")


class Folder:
    """Files under `root`. Symbolic links may point to other places inside it (mounted volumes do that), never outside."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folders(self, path: str) -> list[str]:
        # Hidden folders are left by an interrupted publication, or by a mounted volume.
        return sorted(
            p.name for p in (self.root / path).iterdir() if p.is_dir() and not p.name.startswith(_HIDDEN)
        )

    def files(self, path: str) -> list[str]:
        return sorted(p.name for p in (self.root / path).iterdir() if p.is_symlink() or not p.is_dir())

    def read(self, path: str, limit: int | None = None) -> bytes:
        real = (self.root / path).resolve()
        if not real.is_relative_to(self.root.resolve()):
            raise EscapeError(errno.EPERM, "links out of the repository", path)
        # The path has no links now: one that is created in between is not followed, and a pipe does not block.
        with plain_files.opened(real, os.O_NOFOLLOW) as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise OSError(errno.EFBIG, f"has {size} bytes, more than {limit}", path)
            return file.read()

    def create(self, folder: str, files: Mapping[str, bytes]) -> None:
        target = self.root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        try:
            for name, content in files.items():
                _write(draft / name, content)
            draft.chmod(0o755)
            # Fails if the folder exists: a folder with files is never replaced.
            draft.rename(target)
            atomic.sync_folder(target.parent)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), folder) from error
            raise

    def replace(self, path: str, content: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(target, content)

    def remove(self, folder: str) -> None:
        target = self.root / folder
        # Renamed first, so that no reader sees a part of it.
        trash = Path(tempfile.mkdtemp(prefix=".removed-", dir=target.parent))
        target.rename(trash / target.name)
        shutil.rmtree(trash)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
