"""Who hears of changes of what is live. Apart from what does so: every service's settings name it."""

from __future__ import annotations

from headrace.hop import config
from headrace.releases.records.webhook import WebhookSettings


class RecordSettings(config.Settings):
    """Who hears of changes of what is live."""

    webhook: WebhookSettings | None = None
