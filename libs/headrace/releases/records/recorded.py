"""A store whose changes a webhook hears of. Everything that changes releases uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.hop import config
from headrace.releases.document import LIVE, Release
from headrace.releases.place import PlaceError, open_store
from headrace.releases.records.facts import facts
from headrace.releases.records.settings import RecordSettings
from headrace.releases.records.webhook import Webhook
from headrace.releases.store import Broken, Freeze, ReleaseStore

# A process that ends waits so long for a receiver of the webhook.
_LEAVE_S = 2.0


def open_recorded(place: str, settings: RecordSettings, complain: Callable[[str], None]) -> RecordedReleases:
    """The store at `place`, for whoever changes releases. `complain`: told of what the webhook gave up; from its thread.

    Raises ConfigError.
    """
    try:
        store = open_store(place)
    except PlaceError as error:
        raise config.ConfigError(f"releases: {error}") from None
    return with_webhook(store, settings, complain)


def with_webhook(
    store: ReleaseStore, settings: RecordSettings, complain: Callable[[str], None]
) -> RecordedReleases:
    """The store, of whose changes the webhook hears, if one is set. Raises ConfigError."""
    return RecordedReleases(store, Webhook(settings.webhook, complain) if settings.webhook else None)


class RecordedReleases:
    """A `ReleaseStore` around another."""

    def __init__(self, store: ReleaseStore, webhook: Webhook | None = None) -> None:
        self._store = store
        self.webhook = webhook

    @property
    def store(self) -> ReleaseStore:
        """The store itself, of whose changes nobody hears."""
        return self._store

    def pipelines(self) -> list[str]:
        return self._store.pipelines()

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        return self._store.current(pipeline)

    def history(self, pipeline: str) -> list[Release]:
        return self._store.history(pipeline)

    def document(self, pipeline: str, revision: str) -> str | None:
        return self._store.document(pipeline, revision)

    def keep_document(self, pipeline: str, revision: str, text: str) -> None:
        # Nothing is live by it.
        self._store.keep_document(pipeline, revision, text)

    def frozen(self) -> Freeze | None:
        return self._store.frozen()

    def wait(self, seen: str, timeout_s: float) -> str:
        return self._store.wait(seen, timeout_s)

    def commit(self, release: Release) -> None:
        before, _ = self._store.current(release.pipeline)
        self._store.commit(release)
        self._tell({"event": _kind(before, release), "pipeline": release.pipeline, **_about(release)})

    def remove(self, pipeline: str) -> None:
        self._store.remove(pipeline)
        self._tell({"event": "removed", "pipeline": pipeline})

    def freeze(self, freeze: Freeze | None) -> None:
        about = {"author": freeze.author, "reason": freeze.reason} if freeze else {}
        self._store.freeze(freeze)
        self._tell({"event": "frozen" if freeze else "unfrozen", **about})

    def close(self) -> None:
        """Ends connections. What the webhook has not delivered is given up after a moment."""
        self._store.close()
        self.leave()

    def leave(self) -> None:
        """Ends without the store, which others go on with."""
        if self.webhook is not None:
            self.webhook.close(_LEAVE_S)

    def _tell(self, event: dict[str, Any]) -> None:
        if self.webhook is not None:
            self.webhook.tell(event)


def _kind(before: Release | None, after: Release) -> str:
    """`verdict` if a rollout was judged by it, else `changed`."""
    said = before.rollout.verdict if before and before.rollout else ""
    now = after.rollout.verdict if after.rollout else ""
    return "verdict" if now and now != said else "changed"


def _about(release: Release) -> dict[str, Any]:
    rollout = release.rollout
    about: dict[str, Any] = {key: value for key, value in facts(release).items() if value != ""}
    about |= {"at": release.at.isoformat(), "frozen": release.frozen}
    live = release.arms[LIVE]
    about["live"] = {"version": live.version, "revision": live.revision, "models": dict(live.models)}
    about["weights"] = dict(release.assign.weights)
    if rollout is not None:
        about["rollout"] = {"arm": rollout.arm, "state": rollout.state.value, "step": rollout.step}
    return about
