"""The part of both services that knows no transport."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from headrace.columns import Batch, Column, DType, Rows
from headrace.hop.errors import Code
from headrace.steps import Frame, compile_steps
from headrace.steps.service.runner import ProgramCache, StepMetrics, StepRunner


@dataclass(frozen=True)
class Broken:
    """A user's step with a bug."""

    reads: tuple[str, ...] = ("x",)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {"x": DType.FLOAT64}

    def run(self, frame: Frame) -> None:
        raise KeyError("a secret")


PROGRAM = compile_steps(
    "preprocessing", {"steps": [{"clip": {"column": "x", "low": 0}}], "outputs": {"x": "float64"}}
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def runner(registry: CollectorRegistry) -> Iterator[StepRunner]:
    times = iter(range(100))
    programs = ProgramCache("preprocessing", 4)
    programs.keep("good", PROGRAM)
    programs.keep("broken", replace(PROGRAM, steps=[("steps[0].mine", Broken())]))
    with ThreadPoolExecutor(1) as pool:
        yield StepRunner(
            programs,
            pool,
            1,
            StepMetrics(registry, "test"),
            structlog.get_logger(),
            lambda: float(next(times)),
            "preprocessing",
        )


def batch_of(rows: int) -> Batch:
    return Batch.of(Rows.one_request(rows, "r", "t", 1000.0), [Column.of("x", np.arange(rows) - 1.0)])


@pytest.mark.parametrize("rows", [1, 2])
async def test_small_and_large_batches_get_the_same_answer_and_their_time(
    runner: StepRunner, rows: int
) -> None:
    outputs = await runner.run("good", b"", batch_of(rows), received=-2.0)
    assert outputs.columns["x"].array.tolist() == [0.0] * rows
    (timing,) = outputs.timings
    assert (timing.start_us, timing.duration_us, timing.row_count) == (2_000_000, 1_000_000, rows)


async def test_a_bug_is_told_to_the_log_and_not_to_the_caller(
    runner: StepRunner, registry: CollectorRegistry
) -> None:
    with capture_logs() as logs:
        outputs = await runner.run("broken", b"", batch_of(8), received=0.0)

    assert {e.code for e in outputs.errors.values()} == {Code.INTERNAL}
    assert len(outputs.errors) == 8
    assert not any("secret" in e.message for e in outputs.errors.values())
    assert [(line["step"], type(line["exc_info"])) for line in logs] == [("steps[0].mine", KeyError)] * 3
    assert registry.get_sample_value("headrace_test_row_errors_total", {"reason": "STEP_FAILED"}) == 8
