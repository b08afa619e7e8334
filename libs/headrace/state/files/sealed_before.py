"""Files that an earlier version sealed: this one encrypts nothing itself, so it can't read them, and leaves them alone."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from headrace.hop.config import ConfigError
from headrace.state import plain_files

MAGIC = b"HRSEALv1"
# What a sealed line begins with; its other characters depend on what follows.
LINE = base64.b64encode(MAGIC[:6])
# Lines were sealed from some moment on, so the last ones are looked at too.
_TAIL_BYTES = 1 << 16


def refused(path: Path) -> ConfigError:
    """The error that names what is sealed."""
    return ConfigError(
        f"{path} is of an earlier version of headrace that sealed its files; this one encrypts nothing itself and can't open"
        " them: begin a new home or folder, on an encrypted volume; nothing was changed"
    )


def refuse_sealed(*places: Path | None) -> None:
    """Looks at all files of these folders, and at these files and the older ones beside them (FILE.1 …).

    Raises ConfigError, which names the first file that is sealed.
    """
    for place in places:
        for path in _files(place) if place is not None else ():
            with suppress(OSError):  # whoever needs it says so
                if _is_sealed(path):
                    raise refused(path)


def _files(place: Path) -> Iterator[Path]:
    return place.rglob("*") if place.is_dir() else place.parent.glob(f"{place.name}*")


def _is_sealed(path: Path) -> bool:
    with plain_files.opened(path) as file:
        if (beginning := file.read(len(MAGIC))) == MAGIC or beginning.startswith(LINE):
            return True
        if ".jsonl" not in path.name:
            return False
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        return b"\n" + LINE in file.read()
