"""What the audit and the webhook say of a release."""

from __future__ import annotations

import json

from headrace.releases.document import Release, to_bytes


def facts(release: Release) -> dict[str, str | int]:
    """Plain values; `sha256` is the content hash that is stored with the release."""
    rollout = release.rollout
    return {
        "number": release.number,
        "parent": release.parent,
        "sha256": str(json.loads(to_bytes(release))["sha256"]),
        "author": release.author,
        "reason": release.reason,
        "verdict": rollout.verdict if rollout else "",
        "restores": release.restores or "",
    }
