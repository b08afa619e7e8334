"""Settings of the recording."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from headrace.hop.config import Settings


class RecordingSettings(Settings):
    """What is recorded, and where."""

    # Folder of the files; replicas may share it. Only its owner may read it.
    folder: Path
    # Share of the requests, chosen by their ids.
    share: float = Field(default=1.0, gt=0, le=1)
    # Names of the pipelines; empty: all.
    pipelines: tuple[str, ...] = ()
    # Of all files in the folder; the oldest are removed. And of one file.
    max_bytes: PositiveInt = 1024 * 1024 * 1024
    max_file_bytes: PositiveInt = 64 * 1024 * 1024
    # Bytes that may wait to be written; more is dropped and counted.
    max_waiting_bytes: PositiveInt = 32 * 1024 * 1024
    # Inputs marked `pii`. Without them a batch can't be replayed if another stage than a features stage reads them.
    personal_data: Literal["leave_out", "store"] = "leave_out"
