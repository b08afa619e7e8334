"""Causes in releases and features."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.alerts.alarmed_system import Alarmed, fill
from tests.alerts.causes import Causes
from tests.alerts.model_causes import table
from tests.repeated import repeated
from tests.served import deployed
from tests.services.executor.executor_models import lookup
from tests.system import HOME, add_document, add_unusable, headrace, remove_document, remove_models

CAUSES = Causes()

_JUDGE = """
pipeline: judged
version: 1
deadline_ms: 1000
inputs: {level: float32}
stages:
  - {postprocessing: judge, steps: [threshold: {column: level, at: 5, into: high}], outputs: {high: bool}}
outputs: [high]
"""
_KEPT = _JUDGE.replace("judged", "kept").replace("deadline_ms: 1000", "deadline_ms: 1000\ncache: {ttl: 30s}")


@CAUSES.add(PipelineDown={"pipeline": "never_good"})
def broken_release(_: Alarmed) -> Iterator[None]:
    add_unusable("never_good")
    try:
        yield
    finally:
        remove_document("never_good")


@CAUSES.add(DocumentQuarantined={"pipeline": "judged"})
def altered_release(alarmed: Alarmed) -> Iterator[None]:
    """The newest release of a pipeline can't be used; the one before serves."""
    with deployed(alarmed.system, "judged", _JUDGE):
        add_unusable("judged")
        yield


@contextmanager
def rollout(entries: int) -> Iterator[None]:
    """A rollout of a second version of the table, which knows this many of its eight inputs."""
    with table(8):
        file = HOME / "run" / "table2.onnx"
        file.write_bytes(lookup(entries))
        headrace("models", "add", "table", str(file), "--version", "2")
        try:
            headrace("rollout", "start", "table", "--models", "table=2", "--ladder", "20,100", "--yes")
            yield
        finally:
            remove_document("table")
            remove_models("table", "2")


@CAUSES.add(RolledBack={"pipeline": "table"})
def bad_rollout(alarmed: Alarmed) -> Iterator[None]:
    with rollout(4):
        try:
            with (
                repeated(lambda: alarmed.asks("table", {"x": 7}, 8), 0.05),
                repeated(lambda: alarmed.asks("table", {"x": 1}, 8), 0.05),
            ):
                yield
        finally:
            headrace("release", "freeze", "--off")


@CAUSES.add(FeatureStoreErrors={}, AnswerStoreFailing={}, QuotasLocal={})
def no_store(alarmed: Alarmed) -> Iterator[None]:
    """The Redis of features, answers and shared limits is killed."""
    add_document("kept", _KEPT)
    alarmed.stores.kill()
    level = iter(range(10**9))
    try:
        with repeated(lambda: alarmed.asks("kept", {"level": float(next(level))}), 0.1):
            yield
    finally:
        alarmed.stores.start()
        remove_document("kept")


@CAUSES.add(FeatureEventsRejected={})
def nonsense_events(alarmed: Alarmed) -> Iterator[None]:
    """Feature events that can't be used."""
    for _ in range(3):
        alarmed.stores.command("XADD", "headrace:features", "*", "view", "no_such_view")
    yield


@CAUSES.add(FeaturesMissing={"view": "weather"})
def empty_store(alarmed: Alarmed) -> Iterator[None]:
    alarmed.stores.command("FLUSHDB")
    try:
        yield
    finally:
        fill(alarmed.folder, alarmed.stores)
