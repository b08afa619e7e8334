"""Settings of prediction events."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from headrace.hop.config import Settings

_MIB = 1 << 20


class JournalSettings(Settings):
    """Where events of regulated predictions are written before the answer leaves."""

    # Only its owner may read it; processes of one machine may share it.
    folder: Path
    # Of all files in it that were not collected yet; beyond this regulated predictions are refused.
    max_bytes: PositiveInt = 1024 * _MIB
    # A file is closed, and can be collected, at this size or age.
    max_file_bytes: PositiveInt = 8 * _MIB
    collect_s: PositiveFloat = 1.0


class EventsSettings(Settings):
    """Whether and how events leave the router. They need a client of the monitoring service (`monitoring`)."""

    # Rows and bytes that may wait for the monitoring service; more is dropped and counted.
    max_waiting_rows: PositiveInt = 50_000
    max_waiting_bytes: PositiveInt = 32 * _MIB
    # A message leaves with so many rows, or after so long with what there is. Its cost a row falls with its rows.
    message_rows: PositiveInt = 2048
    wait_s: PositiveFloat = 0.5
    # Columns with more bytes a row, such as pictures, are left out; their names are kept.
    max_value_bytes: PositiveInt = 4096
    # File with the secret that personal data is hashed with, the same for all routers and the monitoring service. Absent:
    # personal data is left out altogether, and events can't be erased by it.
    salt: Path | None = None
    # Absent: regulated predictions are refused.
    journal: JournalSettings | None = None
    # Only where nobody gets the answers, as in a replay: then nothing is regulated, whatever documents and tenants say.
    nothing_regulated: bool = False
