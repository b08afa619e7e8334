"""Names of the files of a folder of events. Nothing heavy is imported here: commands look at them too."""

from __future__ import annotations

OPEN_SUFFIX, SUFFIX, ASIDE_SUFFIX = ".arrows", ".parquet", ".unreadable"
OPEN, SEGMENTS, ASIDE = "open", "segments", "unreadable"
