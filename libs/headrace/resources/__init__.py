"""What a process of the data plane follows, so that it serves by what it has: without control, database or Redis."""

from __future__ import annotations

from pathlib import Path

from headrace.hop import config


# Here, and not with what it makes, as whoever reads settings needs none of that: the ingress reads them twice at each start.
class ResourceSettings(config.Settings):
    """Where a process finds what is live, beside control."""

    # Public keys of control (PEM files): what none of them signed is not taken over.
    keys: tuple[Path, ...]
    # Folder in which the processes of this service on this machine keep what they serve by, for starts without control.
    folder: Path | None = None
    # Folder, or URL of a bucket, in which control keeps what is live, for starts with neither.
    artifacts: str | None = None
