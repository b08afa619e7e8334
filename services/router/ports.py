"""What the domain logic of the router needs of metrics."""

from __future__ import annotations


class Meter:
    """Counts what happens; this one counts nothing: what shadows and explanations do is not among what callers got."""

    def rows(self, pipeline: str, code: str, count: int) -> None:
        """`count` rows of the pipeline ended with a canonical code (`OK` …)."""

    def stage(self, pipeline: str, stage: str, seconds: float) -> None:
        """A stage took so long for one batch."""

    def fallback(self, pipeline: str, fallback: str, count: int) -> None:
        """`count` rows used a fallback."""

    def asked(self, pipeline: str, stage: str, member: str, count: int) -> None:
        """A stage of several models asked this one for `count` rows."""

    def refusal(self, pipeline: str, cause: str, count: int) -> None:
        """`count` rows were refused: a view that the pipeline demands had no values for them, or only values that are too old."""
