"""Causes in what monitoring keeps: events, the journal, drift, the audit."""

from collections.abc import Iterator

from tests.alerts.alarmed_system import PLACE, Alarmed, dice, monitoring_settings
from tests.alerts.causes import Causes, file_instead, moved, restored
from tests.alerts.release_causes import _JUDGE
from tests.libs.slo.alert_world import until
from tests.ports import free_port
from tests.repeated import repeated
from tests.system import add_document, headrace, remove_document, restarted

CAUSES = Causes()


@CAUSES.add(
    {"HeadraceEventSegmentsAway": {}, "HeadraceEventStreamFailing": {}},
    "object storage and stream of events set to an address where nobody listens, `headrace restart monitoring`",
    "the settings corrected, `headrace restart monitoring`",
)
def no_far_store(_: Alarmed) -> Iterator[None]:
    """Events are to move to an object storage and come by a Redis where nobody listens."""
    at, usual = f"127.0.0.1:{free_port()}", monitoring_settings()
    far = {"segments": f"s3://events/a?endpoint_override={at}&scheme=http", "stream": f"redis://{at}/0"}
    with restarted("monitoring", {**usual, "events": far}, usual):
        yield


@CAUSES.add(
    {"HeadraceJournalUnwritable": {"instance": "router"}},
    "a file in place of the journal's folder, a regulated pipeline is asked",
    "the folder is put back",
)
def no_journal(alarmed: Alarmed) -> Iterator[None]:
    """A file stands where the router's journal of regulated predictions should be."""
    add_document("judged", _JUDGE.replace("deadline_ms: 1000", "deadline_ms: 1000\nregulated: true"))
    until("it answers", lambda: not alarmed.asks("judged", {"level": 1.0}))
    ask = repeated(lambda: alarmed.asks("judged", {"level": 1.0}), 0.1)
    try:
        with file_instead(PLACE.journal), ask:
            yield
    finally:
        until("it answers again", lambda: not alarmed.asks("judged", {"level": 1.0}))
        remove_document("judged")


@CAUSES.add(
    {"HeadraceEventsUnreadable": {}},
    "the end of a segment of events overwritten with zeros, `headrace events list --request nobody`",
    "it was set aside by itself",
)
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
    {
        "HeadraceDrift": {"pipeline": "dice", "column": "x"},
        "HeadraceRetrainTriggered": {"pipeline": "dice", "cause": "distribution"},
        "HeadraceRetrainFailing": {"pipeline": "dice"},
    },
    "68 % of the rows from the half that half of the training's rows were from; the command for retraining fails",
    "rows as in training again",
)
def false_dice(alarmed: Alarmed) -> Iterator[None]:
    """Of the rows, 68 % are from the half that half of the training's were from: a population stability index of about 0.2."""
    with alarmed.dice.of(dice(0.68)):
        yield


@CAUSES.add(
    {"HeadraceDriftSevere": {"pipeline": "dice", "column": "x"}},
    "all callers send the same row",
    "rows as in training again",
)
def one_side(alarmed: Alarmed) -> Iterator[None]:
    with alarmed.dice.of(lambda: [{"x": 3}] * 64):
        yield


@CAUSES.add(
    {"HeadraceDriftBlind": {}},
    "a byte of a model's signed baseline changed, `headrace restart monitoring`",
    "the good file is put back, `headrace restart monitoring`",
)
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


@CAUSES.add(
    {"HeadraceAuditFailing": {}},
    "the deployments' journal replaced by a folder",
    "the folder is removed",
)
def unreadable_journal(_: Alarmed) -> Iterator[None]:
    PLACE.deployment_log.mkdir()
    try:
        yield
    finally:
        PLACE.deployment_log.rmdir()


@CAUSES.add({"HeadraceAuditGap": {}}, "the chain of the models moved away", "it is put back")
def removed_journal(_: Alarmed) -> Iterator[None]:
    with moved(PLACE.model_log, "away"):
        yield


@CAUSES.add(
    {"HeadraceAuditNotExported": {}},
    "the folder for signed heads replaced by a file",
    "the folder is put back",
)
def unwritable_export(alarmed: Alarmed) -> Iterator[None]:
    with file_instead(alarmed.folder / "heads"):
        yield
