"""The journals of an installation, which control takes into the audit."""

from __future__ import annotations

from headrace.audit.access import READINGS
from headrace.audit.journals import Journal
from headrace.cli.installation.layout import Layout

# Its lines tell of persons.
SECURITY = "security"


def journals(layout: Layout) -> list[Journal]:
    """By name."""
    found = {
        "deployments": layout.deployment_log,
        "models": layout.model_log,
        READINGS: layout.readings,
        SECURITY: layout.security_log,
    }
    return [Journal(name, path) for name, path in found.items()]
