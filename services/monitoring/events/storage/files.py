"""Names of the files of a folder of events. Nothing heavy is imported here: commands look at them too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headrace.encryption.files import sealed_among

OPEN_SUFFIX, SUFFIX, ASIDE_SUFFIX = ".arrows", ".parquet", ".unreadable"
OPEN, SEGMENTS, ASIDE = "open", "segments", "unreadable"


def sealed_files(folder: Path) -> Iterator[Path]:
    """The sealed files of a folder of events (`events.folder`): closed and open segments, and those set aside. Each can be given to
    `headrace.encryption.files.rewrap`. Raises OSError."""
    for name, suffix in ((SEGMENTS, SUFFIX), (OPEN, OPEN_SUFFIX), (ASIDE, ASIDE_SUFFIX)):
        yield from sealed_among(sorted((folder / name).glob(f"*{suffix}")))
