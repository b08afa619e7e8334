"""One version of a model that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.repository import Artifact, Metadata
from services.executor.backends.backend import BackendError, Tensors
from services.executor.config import ModelSettings
from services.executor.failover.group import FailoverGroup, Member
from services.executor.scheduling.scheduler import Limits

# Starting a run takes a few tenths of a millisecond: less than a tenth of a run of this length.
_AHEAD_S = 0.005


@dataclass(frozen=True, slots=True)
class Model:
    """`artifact`: the verified bytes; a later activation uses the same bytes.

    `measured`: by how many bytes a process grew when it loaded and warmed up the model; 0 if not measured.
    """

    artifact: Artifact
    settings: ModelSettings
    group: FailoverGroup
    measured: int = 0

    @property
    def metadata(self) -> Metadata:
        return self.artifact.metadata

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that it takes: as measured, but at least what its backends report."""
        return max(
            self.measured, sum(m.backend.capabilities.memory_bytes for m in self.group.members if m.active)
        )

    def limits(self) -> Limits:
        """Limits of queue and runs with the backend that runs it now."""
        settings, able = self.settings, self.group.active.backend.capabilities
        most = min(settings.max_rows, able.max_rows or settings.max_rows)
        return Limits(
            max_rows=most,
            max_queue_rows=settings.max_queue_rows,
            instances=settings.instances if able.concurrent_runs else 1,
            max_delay=settings.max_delay_us / 1e6,
            max_bytes=settings.max_bytes,
            preferred=tuple(n for n in settings.preferred_rows if n <= most),
            buckets=able.buckets,
            lane_priority=settings.lane.priority if settings.lane else None,
            lane_rows=settings.lane.rows if settings.lane else 0,
            lane_instances=settings.lane.instances if settings.lane else 0,
            ahead=_AHEAD_S,
        )

    def run(self, inputs: Tensors, deadline: float) -> tuple[Tensors, Member]:
        """The declared outputs, and the backend that made them. Blocks. `deadline`: monotonic seconds.

        Raises what `FailoverGroup.run` raises, and BackendError for an output of a wrong shape.
        """
        rows = len(next(iter(inputs.values())))
        outputs, member = self.group.run(inputs, deadline)
        check_shapes(self.metadata, outputs, rows)
        return outputs, member


def check_shapes(about: Metadata, outputs: Tensors, rows: int) -> None:
    """Raises BackendError if an output does not have the declared shape."""
    for spec in about.outputs:
        found = outputs[spec.name].shape
        if found != (rows, *spec.row_shape):
            raise BackendError(f"output {spec} of {rows} rows came back with shape {list(found)}")
