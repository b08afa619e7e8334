"""Homes of earlier versions that this one can't go on with: they are refused before anything in them is changed."""

from __future__ import annotations

from pathlib import Path

from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.state.files import sealed_before

# Of a backup: the file of keys that `backup --with-keys` added.
KEYS = "encryption.keys"


def refuse_sealed(layout: Layout) -> None:
    """Raises ConfigError if anything in the home was sealed, or would have been."""
    for mark in (layout.override("encryption"), layout.home / KEYS):
        if mark.exists():
            raise sealed_before.refused(mark)
    sealed_before.refuse_sealed(
        layout.events, layout.journal, layout.audit / "persons", layout.security_log, _recordings(layout)
    )


def _recordings(layout: Layout) -> Path | None:
    path = layout.override("router")
    found = config.read(path).values.get("recording") if path.exists() else None
    folder = found.get("folder") if isinstance(found, dict) else None
    return Path(folder) if isinstance(folder, str) else None
