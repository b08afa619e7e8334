"""Where the releases of an installation are and who hears of changes: `HOME/settings/releases.yaml`, or the defaults.

store: control:control.internal:7100?ca=/tls/ca.crt&certificate=/tls/tls.crt&key=/tls/tls.key
webhook: {url: "https://ci.example/headrace", secret_file: /run/secrets/webhook}
"""

from __future__ import annotations

from typing import Any

from headrace.cli.installation import pid_lock
from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.releases import PlaceError, open_store
from headrace.releases.store import ReleaseStore
from headrace.releases.webhook import WebhookSettings


class NotRunningError(config.ConfigError):
    """Control, which says what is live, does not run here."""


class ReleaseSettings(config.Settings):
    """The file's keys; all may be absent."""

    # `control:TARGET` of another machine. Empty: the control of this home.
    store: str = ""
    # Who hears of changes, from the control of this home.
    webhook: WebhookSettings | None = None


def settings(layout: Layout) -> ReleaseSettings:
    """Raises ConfigError naming file, line and key."""
    path = layout.override("releases")
    return config.load(ReleaseSettings, path, {}) if path.exists() else ReleaseSettings()


def place(layout: Layout) -> str:
    """Where control is. Raises ConfigError: it does not run here."""
    if store := settings(layout).store:
        return store
    if pid_lock.holder(layout.lock) is None:
        raise NotRunningError(
            f"headrace does not run in {layout.home}, and control says what is live: headrace up --home {layout.home}"
        )
    return f"control:unix-dir:{layout.listed('control')}"


def webhook(layout: Layout) -> dict[str, Any]:
    """Control's setting that says who hears of changes; empty: nobody. Raises ConfigError."""
    found = settings(layout).webhook
    return {} if found is None else {"webhook": found.model_dump(mode="json", exclude_none=True)}


def opened(layout: Layout) -> ReleaseStore:
    """The store. Raises ConfigError."""
    try:
        return open_store(place(layout))
    except PlaceError as error:
        raise config.ConfigError(f"releases: {error}") from None
