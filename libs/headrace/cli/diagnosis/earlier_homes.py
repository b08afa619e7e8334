"""Homes of earlier versions that this one can't go on with: they are refused before anything in them is changed."""

from __future__ import annotations

from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.state.files import sealed_before

# Of a backup: the file of keys that `backup --with-keys` added.
KEYS = "encryption.keys"


def refuse(layout: Layout) -> None:
    """Raises ConfigError for the home of a version before `control`, or one in which anything was sealed."""
    if (layout.home / "releases").exists() and not layout.records.exists():
        raise config.ConfigError(
            f"{layout.home} was made by an earlier version, whose releases this one does not read; nothing was changed. "
            "Begin in another folder (--home), or go on with the version that made it"
        )
    if mark := next(layout.models.glob("*/releases.json"), None):
        raise config.ConfigError(
            f"{mark} was written by an earlier version; control lists models now, and nothing was changed. "
            "Begin in another folder (--home), or go on with the version that made it"
        )
    for mark in (layout.override("encryption"), layout.home / KEYS):
        if mark.exists():
            raise sealed_before.refused(mark)
    sealed_before.refuse_sealed(layout.journal, layout.security_log)
