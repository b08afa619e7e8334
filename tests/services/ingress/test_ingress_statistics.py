"""What ModelStatistics reports adds up, whichever batches the requests shared."""

from collections.abc import Sequence

from headrace.columns import Batch, Rows, Timing
from headrace.pipeline import parse
from services.ingress.documents.catalog import Entry
from services.ingress.inference import InferenceResult
from services.ingress.reporting.reporter import Statistics
from tests.services.ingress.ingress_door import PIPELINE

ENTRY = Entry.of(parse(PIPELINE, "double.yaml"))


def answered(timings: Sequence[Timing], rows: int = 1) -> InferenceResult:
    batch = Batch(Rows.one_request(rows, "r", "demo", 1.0), {}, {}, timings)
    return InferenceResult(ENTRY, batch, (), (), router_start_s=0.001, router_s=0.010)


def test_a_batch_counts_once_however_its_requests_are_told_of() -> None:
    shared = [Timing("a", "features", 1000, 2000, 4), Timing("b", "executor", 3000, 4000, 4)]
    other = [Timing("a", "features", 500, 500, 1)]
    statistics = Statistics(lambda: 5.0)
    for timings, rows in ((shared, 1), (other, 1), (shared, 3), ([], 2)):
        statistics.success(answered(timings, rows), total_s=0.015)
    counts = statistics.of("double")
    assert counts.successes == 4
    assert counts.rows == 7
    assert counts.executions == 1 / 4 + 1 + 3 / 4 + 1
    # Inside the router: 7 ms, 1 ms, 7 ms and nothing known; the rest of its 10 ms was spent in a queue.
    assert round(counts.compute_infer_s, 9) == 0.015
    assert round(counts.queue_s, 9) == 0.025
    assert round(counts.compute_input_s, 9) == 0.004
    assert round(counts.compute_output_s, 9) == 0.016
    assert counts.last_ms == 5000
