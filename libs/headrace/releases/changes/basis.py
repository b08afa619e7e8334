"""What a change starts from, and who makes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.releases.document import Release, RolloutState, plain, validated
from headrace.releases.errors import ReleaseError, UnreleasedError
from headrace.releases.store import ReleaseStore

ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED)


@dataclass(frozen=True, slots=True)
class Basis:
    """The current release of `pipeline` and who changes it, why. `release` None: there is none that can be read. `newest`: the
    number that the next one follows, also if that release can't be read."""

    pipeline: str
    release: Release | None
    newest: int
    author: str
    reason: str = ""

    @classmethod
    def of(cls, store: ReleaseStore, pipeline: str, author: str, reason: str = "") -> Basis:
        """What is in the store now. Raises OSError."""
        release, broken = store.current(pipeline)
        newest = max(release.number if release else 0, broken.number if broken else 0)
        return cls(pipeline, release, newest, author, reason)

    @property
    def current(self) -> Release:
        """The current release. Raises UnreleasedError if there is none."""
        if self.release is None:
            raise UnreleasedError(self.pipeline)
        return self.release

    def next(self, reason: str = "", **changes: Any) -> Release:
        """The release with these changes; `reason` if nobody gave one. Raises ReleaseError."""
        why = self.reason or reason
        if self.release is not None:
            # Whoever brings an old release back says so in `changes`; any other change does not.
            return self.release.next(self.author, why, self.newest, **{"restores": 0, **changes})
        about = {"pipeline": self.pipeline, "number": self.newest + 1, "parent": self.newest}
        who = {"author": self.author, "reason": why, "at": datetime.now(UTC).isoformat()}
        return validated(self.pipeline, {**plain(changes), **about, **who})

    def refuse_rollout(self, doing: str) -> None:
        """Raises ReleaseError if a rollout is not over."""
        rollout = self.release.rollout if self.release else None
        if rollout is not None and rollout.state in ACTIVE:
            step = f"step {rollout.step + 1} of {len(rollout.ladder)}"
            over = f"headrace rollout promote {self.pipeline}, or abort {self.pipeline}"
            problem = f"rollout: the one of arm {rollout.arm!r} is {rollout.state} ({step}); end it before {doing}: {over}"
            raise ReleaseError(self.pipeline, [problem])

    def refuse_experiment(self, doing: str) -> None:
        """Raises ReleaseError if an experiment runs: its figures would mix different things."""
        experiment = self.release.experiment if self.release else None
        if experiment is not None:
            over = f"headrace experiment stop {self.pipeline}"
            problem = f"experiment: {experiment.name!r} is running; end it before {doing}: {over}"
            raise ReleaseError(self.pipeline, [problem])
