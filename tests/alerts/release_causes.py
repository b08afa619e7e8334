"""Causes in releases and features."""

from collections.abc import Iterator

from tests.alerts.alarmed_system import Alarmed, fill
from tests.alerts.causes import Causes, file_instead
from tests.alerts.model_causes import table
from tests.repeated import repeated
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
    add_document("judged", _JUDGE)
    add_unusable("judged")
    try:
        yield
    finally:
        remove_document("judged")


@CAUSES.add(RolledBack={"pipeline": "table"})
def bad_rollout(alarmed: Alarmed) -> Iterator[None]:
    with table(8):
        file = HOME / "run" / "table2.onnx"
        file.write_bytes(lookup(4))
        headrace("models", "add", "table", str(file), "--version", "2")
        try:
            with (
                repeated(lambda: alarmed.asks("table", {"x": 7}, 8), 0.05),
                repeated(lambda: alarmed.asks("table", {"x": 1}, 8), 0.05),
            ):
                headrace("rollout", "start", "table", "--models", "table=2", "--ladder", "20,100", "--yes")
                yield
        finally:
            headrace("release", "freeze", "--off")
            remove_document("table")
            remove_models("table", "2")


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


@CAUSES.add(RolloutFailing={})
def no_lease(alarmed: Alarmed) -> Iterator[None]:
    """A file stands where the analyser's lease and evidence should be, and the service starts anew."""
    try:
        with file_instead(HOME / "rollouts"):
            alarmed.kill("monitoring")
            yield
    finally:
        alarmed.ready("monitoring")


@CAUSES.add(FeaturesMissing={"view": "weather"})
def empty_store(alarmed: Alarmed) -> Iterator[None]:
    alarmed.stores.command("FLUSHDB")
    try:
        yield
    finally:
        fill(alarmed.folder, alarmed.stores)
