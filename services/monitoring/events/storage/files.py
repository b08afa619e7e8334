"""Names of the files of a folder of events. Nothing heavy is imported here: commands look at them too."""

from __future__ import annotations

from pathlib import Path

from headrace.encryption.files import SealedFiles

OPEN_SUFFIX, SUFFIX, ASIDE_SUFFIX = ".arrows", ".parquet", ".unreadable"
OPEN, SEGMENTS, ASIDE = "open", "segments", "unreadable"


def sealed_files(folder: Path) -> SealedFiles:
    """The segments of a folder of events (`events.folder`): closed, open and set aside."""
    patterns = f"{SEGMENTS}/*{SUFFIX}", f"{OPEN}/*{OPEN_SUFFIX}", f"{ASIDE}/*{ASIDE_SUFFIX}"
    return SealedFiles("events", folder, patterns)
