"""Who changed what is live, why and when: the audit, the webhook that tells of it, and the store that sees to both.

The store is loaded on first use, as in the package above: it needs the pipeline document.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.releases.records.audit import Audit, Finding, Writer, verify
from headrace.releases.records.settings import RecordSettings
from headrace.releases.records.webhook import Webhook, WebhookSettings

if TYPE_CHECKING:
    from headrace.releases.records.recorded import RecordedReleases, open_recorded, with_webhook

__all__ = [
    "Audit",
    "Finding",
    "RecordSettings",
    "RecordedReleases",
    "Webhook",
    "WebhookSettings",
    "Writer",
    "open_recorded",
    "verify",
    "with_webhook",
]

_LAZY = ("RecordedReleases", "open_recorded", "with_webhook")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("headrace.releases.records.recorded"), name)
