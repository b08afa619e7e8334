"""Which lines of the journals a power loss has cut off (libs/headrace/state/torn.py)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from headrace.audit.settings import Audit
from headrace.cli.installation.audit import audit_place
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError


def look(layout: Layout) -> list[dict[str, Any]]:
    """For `--json`: journal, file, line and byte of each, as far as they can be read."""
    found: list[dict[str, Any]] = []
    with suppress(ConfigError, OSError):  # `headrace audit verify` names them
        for journal in Audit(audit_place.settings(layout)).journals:
            for path, line in journal.torn():
                found.append({"journal": journal.name, "file": str(path), "line": line.line, "byte": line.at})
    return found


def sentence(found: dict[str, Any]) -> str:
    """For people."""
    where = f"journal {found['journal']}, {found['file']}, line {found['line']} (byte {found['byte']})"
    return f"torn: {where}: a write was cut off, and its end is missing; the journal goes on after it"
