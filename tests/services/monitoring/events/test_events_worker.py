"""The process that has the files: what ends it, or takes too long, ends one question and nothing else."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.monitoring.events.files.arrow import packed, record_batch
from services.monitoring.events.files.location import Location
from services.monitoring.events.files.worker import FileWorker, WorkerError
from services.monitoring.events.values import Batch, Erasure, FileDamagedError, Query
from tests.services.monitoring.monitoring_events import group

BATCH = Batch(1, "flights", packed(record_batch("router-1", 7, group(1, 3))))
FOREVER = "SELECT count(*) FROM events a, range(10_000_000_000) b WHERE a.x + b.range = 3"
SORTED = "SELECT list(b.range ORDER BY random()) FROM range(100_000_000) b"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[FileWorker]:
    made = FileWorker(Location(str(tmp_path)), 128 << 20, 1, timeout_s=20)
    yield made
    made.close()


def test_it_answers_and_says_what_it_can_not_do(worker: FileWorker) -> None:
    file = worker.run("write", "a.parquet", [BATCH])
    answer, _ = worker.run(
        "ask", 'SELECT sum(x) AS s, min("$pipeline") AS p FROM events', [], [file], [BATCH]
    )
    assert answer.to_pylist() == [{"s": 12, "p": "flights"}]
    many, _ = worker.run("ask", "SELECT count(*) AS n FROM events", [], [], [BATCH] * 3000)
    assert many.to_pylist() == [{"n": 9000}]
    with pytest.raises(WorkerError):
        worker.run("ask", "SELECT nothing FROM events", [], [file], [])
    # No file but those of events can be read, no extension loaded.
    for sql in ("SELECT * FROM read_csv('/etc/passwd')", "INSTALL httpfs", "COPY events TO '/tmp/x.csv'"):
        with pytest.raises(WorkerError):
            worker.run("ask", sql, [], [file], [])
    worker.run("remove", "a.parquet")
    with pytest.raises(FileDamagedError, match="not there"):
        worker.run("concerned", Erasure("acme", request_ids=("r1",)), file)


def test_what_takes_too_much_memory_or_time_ends_alone(worker: FileWorker) -> None:
    worker.run("listed")
    first = worker._process
    with pytest.raises(WorkerError):
        worker.run("ask", SORTED, [], [], [BATCH])
    assert worker.run("listed") == []
    assert worker._process is first
    worker._timeout_s = 0.5
    with pytest.raises(WorkerError, match="took more"):
        worker.run("ask", FOREVER, [], [], [BATCH])
    worker._timeout_s = 20
    assert worker.run("newest", Query(), [], [BATCH]).positions[0].sequence == 3
    assert worker._process is not first


def test_killed_it_is_started_again(worker: FileWorker) -> None:
    worker.run("listed")
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    with pytest.raises(WorkerError, match="has ended"):
        worker.run("listed")
    assert worker.run("listed") == []
