"""Who changed what is live, why and when: the audit, the webhook that tells of it, and the store that sees to both."""

from headrace.releases.records.audit import Audit, Finding, verify
from headrace.releases.records.recorded import RecordedReleases, RecordSettings, open_recorded
from headrace.releases.records.webhook import Webhook, WebhookSettings

__all__ = [
    "Audit",
    "Finding",
    "RecordSettings",
    "RecordedReleases",
    "Webhook",
    "WebhookSettings",
    "open_recorded",
    "verify",
]
