"""What processes of the data plane follow, so that they serve by what they have.

The settings are here, as each service's have them: what follows needs much more, which reading settings does not pay for.
"""

from __future__ import annotations

from pathlib import Path

from headrace.hop import config


class ResourceSettings(config.Settings):
    """Where a process finds what is live, beside control."""

    # Public keys of control (PEM files): what none of them signed is not taken over.
    keys: tuple[Path, ...]
    # Folder in which the processes of this service on this machine keep what they serve by, for starts without control.
    folder: Path | None = None
    # Folder, or URL of a bucket, in which control keeps what is live, for starts with neither.
    artifacts: str | None = None
