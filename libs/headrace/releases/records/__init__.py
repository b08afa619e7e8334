"""The webhook that hears of changes of what is live, and the store that sees to it. The audit is control's.

The store is loaded on first use, as in the package above: it needs the pipeline document.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.releases.records.settings import RecordSettings
from headrace.releases.records.webhook import Webhook, WebhookSettings

if TYPE_CHECKING:
    from headrace.releases.records.recorded import RecordedReleases, open_recorded, with_webhook

__all__ = [
    "RecordSettings",
    "RecordedReleases",
    "Webhook",
    "WebhookSettings",
    "open_recorded",
    "with_webhook",
]

_LAZY = ("RecordedReleases", "open_recorded", "with_webhook")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("headrace.releases.records.recorded"), name)
