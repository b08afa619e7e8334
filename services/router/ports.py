"""What the domain logic of the router needs of the wire and of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.hop.errors import Fault
from headrace.pipeline import IndexedModel


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version that serves. `sha256`: of its artifact, hexadecimal; `backend`: what runs it, on which `device`."""

    name: str
    version: str
    sha256: str
    backend: str
    device: str


class ExecutorReplicas(Protocol):
    """The executor's calls for operators, each made on every replica: one reply or Fault per replica, at least one.

    Deadlines are monotonic seconds. Raises Fault if there is no replica at all.
    """

    async def index(self, deadline: float) -> Sequence[Sequence[IndexedModel] | Fault]: ...

    async def load(
        self, model: str, version: str, operator: str, deadline: float
    ) -> Sequence[LoadedModel | Fault]: ...

    async def unload(
        self, model: str, version: str, operator: str, deadline: float
    ) -> Sequence[Sequence[str] | Fault]: ...


class Replicas(Protocol):
    """The replicas of the executor that rows can be sent to."""

    def healthy(self) -> Mapping[str, int]:
        """Address → index of each that answered last; of all, if none did."""
        ...


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
