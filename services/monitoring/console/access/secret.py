"""The secret that cookies are signed with: 32 random bytes in a file of the home, shared by the processes of this machine."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from headrace.hop.config import ConfigError
from headrace.state import atomic

_BYTES = 32


def ensure(path: Path) -> bytes:
    """The secret; makes it if there is none. Blocks. Raises ConfigError: it can't be made or read, or is not ours alone."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # If another process is first, both have its secret.
        atomic.write_first(path, secrets.token_bytes(_BYTES), mode=0o600)
        if others_can_read(path.stat(), os.geteuid()):
            raise ConfigError(f"console.secret: others can read {path}: chmod 600 it")
        found = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"console.secret: {path} can't be used: {error.strerror}") from error
    if len(found) != _BYTES:
        raise ConfigError(f"console.secret: {path} holds no {_BYTES} bytes; remove it, and a new one is made")
    return found


def others_can_read(status: os.stat_result, user: int) -> bool:
    """Whether others than the user may. Not by the group of a file of root's: so Kubernetes mounts a Secret (`fsGroup`)."""
    mounted = status.st_uid == 0 != user
    return bool(status.st_mode & (0o037 if mounted else 0o077))
