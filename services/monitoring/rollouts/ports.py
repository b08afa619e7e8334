"""What the analyser needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.releases import Release
from headrace.releases.ladder import Answer, Report
from services.monitoring.guards.guard import Facts, Objectives
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.judgement import Judgement


class Counts(Protocol):
    """Has the newest cumulative ticks of each source."""

    async def ticks(self, release: Release) -> Sequence[Tick]:
        """Ticks of the pipeline's last releases, those of ended sources included."""
        ...

    async def facts(self, release: Release, objectives: Objectives) -> Facts:
        """What is known of the answers of both arms. Those that were counted are given once."""
        ...

    async def objectives(self, release: Release) -> Objectives:
        """What the live arm promises, and what is left of its error budgets."""
        ...


class Ladder(Protocol):
    """Moves rollouts by what it is told of them."""

    def report(self, report: Report) -> Answer:
        """What it made of a judgement. Blocks. Raises RecordsError; OSError: it can't be reached."""
        ...


class Observer(Protocol):
    """Is told what the analyser does; see metrics.py."""

    def looked(self, pipeline: str, judgement: Judgement, answer: Answer) -> None:
        """After each answer of control."""
        ...

    def failed(self, kind: str) -> None:
        """Something did not work: a short word of ours (`store`, `lease`, `bug`, …)."""
        ...

    def leading(self, leads: bool) -> None:
        """Whether this analyser holds the lease."""
        ...

    def gone(self, pipeline: str) -> None:
        """There is no rollout of the pipeline any more."""
        ...
