"""Causes in what monitoring keeps: events, the journal, drift, the audit log."""

import fcntl
import shutil
from collections.abc import Iterator

from tests.alerts.alarmed_system import PLACE, Alarmed, dice, monitoring_settings, repeated
from tests.alerts.causes import Causes, moved, restarted, restored
from tests.alerts.release_causes import _JUDGE
from tests.libs.slo.alert_world import until
from tests.ports import free_port
from tests.system import add_document, headrace, remove_document

CAUSES = Causes()

_LOG = PLACE.audit / "log"


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
    away = PLACE.journal.with_name("journal.away")
    PLACE.journal.rename(away)
    PLACE.journal.write_text("")
    try:
        with repeated(lambda: alarmed.asks("judged", {"level": 1.0}), 0.1):
            yield
    finally:
        PLACE.journal.unlink()
        away.rename(PLACE.journal)
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
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    headrace("restart", "monitoring")
    try:
        yield
    finally:
        file.write_bytes(good)
        headrace("restart", "monitoring")


@CAUSES.add(
    {"HeadraceAuditFailing": {}},
    "hash tiles of the audit log overwritten with zeros, monitoring killed",
    "the good files are put back",
)
def changed_log(alarmed: Alarmed) -> Iterator[None]:
    """A tile of the audit log loses its end behind the service's back, which is killed."""
    tiles = sorted(
        (path for path in (_LOG / "tile").rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime
    )
    with restored(*tiles):
        for path in tiles:
            path.write_bytes(b"\0" * path.stat().st_size)
        alarmed.kill("monitoring")
        alarmed.ready("monitoring")
        yield


@CAUSES.add(
    {"HeadraceAuditNotKept": {}},
    "another process holds the audit log's lock, monitoring killed",
    "it gives the lock back",
)
def locked_log(alarmed: Alarmed) -> Iterator[None]:
    """Another process holds the audit log's lock when the service starts."""
    with (_LOG / ".lock").open("rb+") as file:
        alarmed.kill("monitoring")
        fcntl.flock(file, fcntl.LOCK_EX)
        alarmed.ready("monitoring")
        yield


@CAUSES.add({"HeadraceAuditGap": {}}, "the chain of the models moved away", "it is put back")
def removed_journal(_: Alarmed) -> Iterator[None]:
    with moved(PLACE.model_log, "away"):
        yield


@CAUSES.add({"HeadraceAuditWitnessUnreachable": {}}, "the witness killed", "it is started again")
def silent_witness(alarmed: Alarmed) -> Iterator[None]:
    alarmed.witness.stop()
    try:
        yield
    finally:
        alarmed.witness.start()


def _witnessed(alarmed: Alarmed) -> int:
    """Entries that the witness has signed for."""
    files = [
        path
        for path in alarmed.witness.folder.rglob("*")
        if path.is_file() and path.name not in ("witness.key", "witness.pub")
    ]
    sizes = [int(line) for path in files for line in path.read_text().splitlines()[1:2] if line.isdecimal()]
    return max(sizes, default=0)


@CAUSES.add(
    {"HeadraceAuditWitnessRefused": {}},
    "an older copy of HOME/audit put back, monitoring killed",
    "the newest is put back",
)
def older_log(alarmed: Alarmed) -> Iterator[None]:
    """An older copy of the audit log, with its places, is put back; the service goes on from there."""
    copy, newest = PLACE.audit.with_name("audit.older"), PLACE.audit.with_name("audit.newest")
    shutil.copytree(PLACE.audit, copy)
    size = _witnessed(alarmed)
    headrace("keys", "create", "demo")
    headrace("release", "freeze", "--reason", "for the audit")
    headrace("release", "freeze", "--off")
    until("the witness has signed more", lambda: _witnessed(alarmed) > size)
    PLACE.audit.rename(newest)
    copy.rename(PLACE.audit)
    alarmed.kill("monitoring")
    alarmed.ready("monitoring")
    try:
        yield
    finally:
        shutil.rmtree(PLACE.audit)
        newest.rename(PLACE.audit)
        alarmed.kill("monitoring")
        alarmed.ready("monitoring")
