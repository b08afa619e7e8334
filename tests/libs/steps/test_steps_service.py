"""The part of both services that knows no transport; rows that take no part, and programs by their hash."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from headrace.columns import Batch, Column, DType, RowError, Rows
from headrace.hop.errors import Code, Fault, Reason
from headrace.steps import Frame, compile_steps
from headrace.steps.program.program import run_batch
from headrace.steps.service import MAX_SPEC_BYTES, ProgramCache, StepMetrics, StepRunner

MIXED_SPEC = {
    "steps": [{"log1p": {"column": "x", "into": "y"}}, {"join_text": {"columns": ["t"], "into": "u"}}],
    "outputs": {"y": "float64", "u": "string"},
}
MIXED = compile_steps("preprocessing", MIXED_SPEC)
EARLIER = RowError(Code.NOT_FOUND, Reason.REASON_FEATURE_UNAVAILABLE, "earlier", "features")


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


def drawn_batch(values: list[float], late: set[int], failed: set[int]) -> Batch:
    count = len(values)
    deadlines = [9.0 if i in late else 11.0 for i in range(count)]
    rows = Rows([f"r{i}" for i in range(count)], ["t"] * count, [1] * count, deadlines, [""] * count)
    columns = [
        Column.of("x", np.array(values, float)),
        Column.of_text("t", [f"text{i}" for i in range(count)]),
    ]
    return Batch(rows, {c.name: c for c in columns}, {i: EARLIER for i in failed if i < count})


@given(
    values=st.lists(st.floats(-2, 2), max_size=20),
    late=st.sets(st.integers(0, 19)),
    failed=st.sets(st.integers(0, 19)),
)
def test_each_row_gets_its_own_answer_or_its_own_error(
    values: list[float], late: set[int], failed: set[int]
) -> None:
    batch = drawn_batch(values, late, failed)
    outputs, _ = run_batch(MIXED, batch, 10.0)

    assert outputs.rows is batch.rows
    assert list(outputs.columns) == ["y", "u"]
    for i, value in enumerate(values):
        error = outputs.errors.get(i)
        if i in failed:
            assert error == EARLIER
        elif i in late:
            assert error is not None
            assert error.code is Code.DEADLINE_EXCEEDED
        elif value <= -1:
            assert error is not None
            assert error.reason == Reason.REASON_INPUT_RANGE
        else:
            assert error is None
            assert outputs.columns["y"].array[i] == np.log1p(value)
            assert outputs.columns["u"].text()[i] == f"text{i}"
    # Nothing of a row that failed before leaves.
    for i in {*late, *failed}:
        if i < len(values):
            assert (outputs.columns["y"].array[i], outputs.columns["u"].text()[i]) == (0, "")


def test_the_programs_unused_for_longest_are_forgotten() -> None:
    programs = ProgramCache("preprocessing", 2)
    for name in ("a", "b"):
        programs.keep(name, MIXED)
    programs.find("a")
    programs.keep("c", MIXED)
    assert [n for n in "abc" if programs.find(n)] == ["a", "c"]
    assert len(programs) == 2


@pytest.mark.parametrize(
    ("spec", "code", "reason"),
    [
        (b"", Code.FAILED_PRECONDITION, Reason.REASON_SPEC_UNKNOWN),
        (b"{}", Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST),
        (b" " * (MAX_SPEC_BYTES + 1), Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST),
    ],
)
def test_a_body_that_is_not_of_the_hash_is_refused(spec: bytes, code: Code, reason: int) -> None:
    with pytest.raises(Fault) as caught:
        ProgramCache("preprocessing", 2).compile("0" * 64, spec)
    assert (caught.value.code, caught.value.reason) == (code, reason)


@given(
    spec=st.binary(min_size=1)
    | st.sampled_from([b"[" * 100_000, b"[]", b"nan", b'{"steps":[1],"outputs":{}}', b"\xff"])
)
def test_no_body_crashes_the_compiler(spec: bytes) -> None:
    import hashlib

    with pytest.raises(Fault) as caught:
        ProgramCache("preprocessing", 2).compile(hashlib.sha256(spec).hexdigest(), spec)
    assert caught.value.code is Code.INVALID_ARGUMENT
