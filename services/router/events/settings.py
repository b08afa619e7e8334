"""Settings of prediction events."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from headrace.hop.config import Settings

_MIB = 1 << 20


class JournalSettings(Settings):
    """Where events of regulated predictions wait that monitoring could not take before the answer left."""

    # On a volume that outlives the process. Only its owner may read it; processes of one machine may share it.
    folder: Path
    # Of what was not collected yet; beyond this regulated predictions are refused.
    max_bytes: PositiveInt = 1024 * _MIB
    # How often it is brought to monitoring.
    collect_s: PositiveFloat = 1.0


class EventsSettings(Settings):
    """Whether and how events leave the router. They need a client of the monitoring service (`monitoring`)."""

    # Bytes of events and explanations that may wait for the monitoring service; more is dropped and counted.
    max_waiting_bytes: PositiveInt = 32 * _MIB
    # A message leaves with so many rows, or after so long with what there is. Its cost a row falls with its rows.
    message_rows: PositiveInt = 2048
    wait_s: PositiveFloat = 0.5
    # Columns with more bytes a row, such as pictures, are left out; their names are kept.
    max_value_bytes: PositiveInt = 4096
    # File with the secret that personal data is hashed with, the same for all routers and the monitoring service. Absent:
    # personal data is left out altogether, and events can't be erased by it.
    salt: Path | None = None
    # Absent: regulated predictions are refused while monitoring does not take their events.
    journal: JournalSettings | None = None
    # What becomes of regulated predictions while monitoring does not take their events: `spool` to the journal, or `refuse`, so
    # that the journal only sends what it holds. Absent: `spool` if there is a journal.
    when_unrecorded: Literal["spool", "refuse"] | None = None
    # Only where nobody gets the answers, as in a replay: then nothing is regulated, whatever documents and tenants say.
    nothing_regulated: bool = False

    @model_validator(mode="after")
    def _spools_somewhere(self) -> Self:
        if self.when_unrecorded == "spool" and self.journal is None:
            raise ValueError("when_unrecorded: `spool` needs `journal`")
        return self
