"""Causes in what monitoring keeps: events, the journal, drift, the audit."""

from collections.abc import Iterator

from tests.alerts.alarmed_system import PLACE, Alarmed, dice, monitoring_settings
from tests.alerts.causes import Causes, file_instead, moved, restored
from tests.libs.slo.alert_world import until
from tests.ports import free_port
from tests.system import headrace, restarted

CAUSES = Causes()


@CAUSES.add(EventSegmentsAway={})
def no_far_store(_: Alarmed) -> Iterator[None]:
    """Events are to move to an object storage where nobody listens."""
    at, usual = f"127.0.0.1:{free_port()}", monitoring_settings()
    far = {"segments": f"s3://events/a?endpoint_override={at}&scheme=http"}
    with restarted("monitoring", {**usual, "events": far}, usual):
        yield


@CAUSES.add(JournalUnwritable={"instance": "router"})
def no_journal(_: Alarmed) -> Iterator[None]:
    """A file stands where the router's journal of regulated predictions should be."""
    with file_instead(PLACE.journal):
        yield


@CAUSES.add(EventsUnreadable={})
def flipped_segment(_: Alarmed) -> Iterator[None]:
    """The footer of a segment of events is overwritten."""
    folder = PLACE.events / "segments"
    until("a segment is closed", lambda: any(folder.glob("*.parquet")))
    newest = max(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime)
    content = bytearray(newest.read_bytes())
    content[-200:] = bytes(200)
    newest.write_bytes(content)
    # Nobody's request: so every segment is looked into.
    headrace("events", "list", "--request", "nobody")
    yield


@CAUSES.add(
    Drift={"pipeline": "dice", "column": "x"},
    RetrainTriggered={"pipeline": "dice", "cause": "distribution"},
    RetrainFailing={"pipeline": "dice"},
)
def false_dice(alarmed: Alarmed) -> Iterator[None]:
    """Of the rows, 68 % are from the half that half of the training's were from: a population stability index of about 0.2."""
    with alarmed.dice.of(dice(0.68)):
        yield


@CAUSES.add(DriftSevere={"pipeline": "dice", "column": "x"})
def one_side(alarmed: Alarmed) -> Iterator[None]:
    with alarmed.dice.of(lambda: [{"x": 3}] * 64):
        yield


@CAUSES.add(DriftBlind={})
def damaged_baseline(alarmed: Alarmed) -> Iterator[None]:
    """A byte of the model's baseline is changed, and the service reads it anew."""
    [file] = [f for f in (PLACE.models / "flights_light" / "1").iterdir() if "baseline" in f.name]
    try:
        with restored(file):
            good = file.read_bytes()
            file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
            headrace("restart", "monitoring")
            yield
    finally:
        headrace("restart", "monitoring")


@CAUSES.add(AuditFailing={})
def unreadable_journal(_: Alarmed) -> Iterator[None]:
    PLACE.deployment_log.mkdir()
    try:
        yield
    finally:
        PLACE.deployment_log.rmdir()


@CAUSES.add(AuditGap={})
def removed_journal(_: Alarmed) -> Iterator[None]:
    with moved(PLACE.model_log, "away"):
        yield


@CAUSES.add(AuditNotExported={})
def unwritable_export(alarmed: Alarmed) -> Iterator[None]:
    with file_instead(alarmed.folder / "heads"):
        yield
