"""Plans (built engines) on disk, by model, GPU and version: a plan only fits the device and library it was built with."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from headrace.state import atomic
from services.executor.backends.backend import BackendError


@dataclass(frozen=True, slots=True)
class PlanKey:
    """What a plan depends on. `sha256`: of the ONNX model; `gpu`: its name; `options`: of the build."""

    model: str
    sha256: str
    gpu: str
    version: str
    options: str

    @property
    def file(self) -> str:
        told = f"{self.sha256} {self.gpu} {self.version} {self.options}"
        return f"{self.model}-{hashlib.sha256(told.encode()).hexdigest()[:32]}.plan"

    @property
    def timings_file(self) -> str:
        """Timings depend on the device and the library, not on the model."""
        return f"timings-{hashlib.sha256(f'{self.gpu} {self.version}'.encode()).hexdigest()[:16]}.cache"


class Plans:
    """A folder of plans. A plan is code that is executed: only the executor may be able to write to the folder.

    Each file starts with a digest, so that a truncated one is noticed. `folder` None: nothing is stored.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, key: PlanKey) -> bytes | None:
        """The plan; None if there is no complete one. Raises BackendError if others can write to the folder."""
        return self._read(key.file)

    def timings(self, key: PlanKey) -> bytes:
        """The timings of earlier builds for this kind of GPU; empty if there are none."""
        return self._read(key.timings_file) or b""

    def keep(self, key: PlanKey, plan: bytes, timings: bytes) -> None:
        """Writes plan and timings; each file atomically."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check()
        for name, content in ((key.file, plan), (key.timings_file, timings)):
            if content:
                atomic.write(self._folder / name, hashlib.sha256(content).digest() + content)

    def _read(self, name: str) -> bytes | None:
        if self._folder is None or not self._folder.is_dir():
            return None
        self._check()
        try:
            whole = (self._folder / name).read_bytes()
        except OSError:
            return None
        digest, content = whole[:32], whole[32:]
        return content if hashlib.sha256(content).digest() == digest else None

    def _check(self) -> None:
        assert self._folder is not None
        if self._folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BackendError(
                f"others may write to the plans in {self._folder}; chmod 700 it, or name another folder"
            )
