"""Alerts of encryption at rest: the keys can't be reached, or files need a key that is not here."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert

KEYS_AWAY = "HeadraceEncryptionKeysAway"

ENCRYPTION = (
    Alert(
        KEYS_AWAY,
        # A process that is restarted meanwhile can seal nothing, and after `max_age_s` none can.
        PAGE,
        "max by (instance) (headrace_encryption_keys_away_seconds) > 0",
        5 * MINUTE_S,
        "{{ $labels.instance }} can't reach the keys that files are sealed with: the data key in memory serves for a day",
        "headrace encryption status",
    ),
    Alert(
        "HeadraceEncryptionLocked",
        TICKET,
        'max by (store) (headrace_encryption_files{state="locked"}) > 0',
        2 * MINUTE_S,
        "files of {{ $labels.store }} are sealed with a key that is not here, so nobody can read them",
        "headrace encryption status",
    ),
)
