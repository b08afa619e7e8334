"""Tells the webhook of each change of a release and of the freeze that this process has committed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.catalog.access import KEPT_VERSIONS, Change, Made, Record, Records, Write
from headrace.catalog.errors import RecordsError
from headrace.releases.document import LIVE, Release, from_bytes
from headrace.releases.errors import ReleaseError
from headrace.releases.of_records import FREEZE, RELEASE, facts, freeze_of
from headrace.releases.webhook import Webhook


class ChangeWebhook:
    """Called after each commit, with the records; raises nothing. A change that is sent again is told again, with the same id."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def __call__(self, records: Records, change: Change, made: Made) -> None:
        for number, event in enumerate(_events(records, change, made)):
            self._webhook.tell({"id": f"{change.id}.{number}" if number else change.id, **event})


def _events(records: Records, change: Change, made: Made) -> Iterator[dict[str, Any]]:
    for write, record in zip(change.writes, made.records, strict=True):
        if write.kind == RELEASE:
            yield {"pipeline": write.name, **_of_release(records, write, record)}
        elif write.kind == FREEZE:
            freeze = None if write.content is None else freeze_of(write.content)
            about = {"author": freeze.author, "reason": freeze.reason} if freeze else {}
            yield {"event": "frozen" if freeze else "unfrozen", **about}


def _of_release(records: Records, write: Write, record: Record) -> dict[str, Any]:
    if write.content is None:
        return {"event": "removed"}
    release = from_bytes(write.name, write.content)
    verdict = release.rollout.verdict if release.rollout else ""
    # A verdict, if the rollout was judged by this very change.
    judged = verdict and verdict != _verdict_before(records, record)
    return {"event": "verdict" if judged else "changed", **_about(release)}


def _verdict_before(records: Records, record: Record) -> str:
    try:
        for version in records.read(RELEASE, record.name, KEPT_VERSIONS):
            if version.version == record.version - 1 and version.content is not None:
                rollout = from_bytes(record.name, version.content).rollout
                return rollout.verdict if rollout else ""
    except (RecordsError, ReleaseError):
        pass  # what can't be read now has no verdict that is known
    return ""


def _about(release: Release) -> dict[str, Any]:
    rollout, live = release.rollout, release.arms[LIVE]
    about: dict[str, Any] = {key: value for key, value in facts(release).items() if value != ""}
    about |= {"at": release.at.isoformat(), "frozen": release.frozen, "weights": dict(release.assign.weights)}
    about["live"] = {"version": live.version, "revision": live.revision, "models": dict(live.models)}
    if rollout is not None:
        about["rollout"] = {"arm": rollout.arm, "state": rollout.state.value, "step": rollout.step}
    return about
