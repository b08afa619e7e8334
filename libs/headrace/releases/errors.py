"""Why a release document can't be read, or a change is refused."""

from __future__ import annotations

from collections.abc import Iterable


class ReleaseError(Exception):
    """A release document is unusable, or a change is refused; nothing was changed.

    `pipeline`: whose release. `problems`: each one names the key and says what to do.
    """

    def __init__(self, pipeline: str, problems: Iterable[str]) -> None:
        self.pipeline = pipeline
        self.problems = tuple(problems)
        super().__init__(f"release of {pipeline}: " + "; ".join(self.problems))


class UnreleasedError(ReleaseError):
    """The pipeline has no release, so there is nothing to change."""

    def __init__(self, pipeline: str) -> None:
        first = f"headrace release deploy {pipeline}"
        super().__init__(pipeline, [f"pipeline: it has no release yet; make the first: {first}"])


class StaleError(ReleaseError):
    """Someone else changed the release first. `number`: of the release that is live now."""

    def __init__(self, pipeline: str, number: int, wanted: int) -> None:
        self.number = number
        super().__init__(
            pipeline,
            [
                f"number: the change was made for release {wanted - 1}, but {number} is live; look and try again"
            ],
        )


class FrozenError(ReleaseError):
    """Automation may change nothing now. `author`, `reason`: who froze it and why."""

    def __init__(self, pipeline: str, author: str, reason: str) -> None:
        self.author, self.reason = author, reason
        super().__init__(
            pipeline, [f"frozen by {author} ({reason}); to end it: headrace release freeze --off"]
        )
