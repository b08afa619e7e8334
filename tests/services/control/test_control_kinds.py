"""What a record of each kind must be, as callers are told it."""

import json

import pytest

from headrace.catalog.access import Change, Write
from headrace.catalog.errors import RecordInvalidError
from headrace.catalog.remote import RemoteRecords
from headrace.releases.document import to_bytes
from headrace.repository import ModelIndex
from tests.libs.releases.release_stores import REVISION, TEXT, release

DOCUMENT = f"flights/{REVISION}"
ONE = ModelIndex("m", {"1": "ab" * 32})
FROZEN = {"author": "ann", "reason": "", "at": "2026-12-01T00:00:00+00:00"}


def refused(records: RemoteRecords, *writes: Write, action: str = "x", actor: str = "me") -> str:
    """Why; nothing was changed."""
    before = records.position()
    with pytest.raises(RecordInvalidError) as error:
        records.change(Change(actor, action, "s", writes))
    assert records.position() == before
    return error.value.problem


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (Write("nobody", "x", b""), "there is no such kind"),
        (Write("release", "flights", to_bytes(release(1))), "say which version"),
        (Write("release", "flights", b"{}", 0), "can't be read"),
        (Write("release", "other", to_bytes(release(1)), 0), "the document is that of 'flights'"),
        (
            Write("release", "flights", to_bytes(release(1)).replace(b'"m": "1"', b'"m": "2"'), 0),
            "was altered",
        ),
        (Write("release", "flights", to_bytes(release(1)), 0), r"arms.live.revision: no document"),
        (Write("document", f"flights/{'0' * 64}", TEXT.encode()), f"its revision is {REVISION}"),
        (Write("document", REVISION, TEXT.encode()), "PIPELINE/REVISION"),
        (Write("document", DOCUMENT, b"\xff"), "not UTF-8"),
        (Write("document", DOCUMENT, b"["), "none: it is no document"),
        (Write("freeze", "flights", json.dumps(FROZEN).encode()), "named all"),
        (Write("freeze", "all", b"[]"), "needs"),
        (Write("freeze", "all", json.dumps({**FROZEN, "at": "now"}).encode()), "a time"),
        (Write("freeze", "all", json.dumps({**FROZEN, "more": 1}).encode()), "no more"),
        (Write("model", "m", ONE.content()), "say which version"),
        (Write("model", "../m", ONE.content(), 0), "is no model name"),
        (Write("model", "m", b"{}", 0), "its index can't be read"),
        (Write("model", "m", ONE.content().replace(b"abab", b"ABAB"), 0), "its digest is not 64"),
        (
            Write("model", "m", ONE.content().replace(b'"labels":{}', b'"labels":{"1":"1"}'), 0),
            "is a version already",
        ),
        (
            Write("model", "m", ONE.content().replace(b'"labels":{}', b'"labels":{"x":"2"}'), 0),
            "no such version",
        ),
        (Write("removal", "flights", b'{"number": "1", "version": 2}'), "needs `number`"),
        (Write("removal", "flights", None), "needs `number`"),
        (Write("removal", "flights", b"[" * 100_000), "needs `number`"),
    ],
)
def test_what_is_wrong_is_refused(records: RemoteRecords, write: Write, problem: str) -> None:
    assert problem in refused(records, write)


def test_a_document_stays_while_the_live_release_names_it(records: RemoteRecords) -> None:
    writes = [
        Write("release", "flights", to_bytes(release(1)), 0),
        Write("document", DOCUMENT, TEXT.encode(), 0),
    ]
    records.change(Change("me", "release.change", "flights", writes))
    gone = Write("document", DOCUMENT, None)
    assert "the release that is live names it" in refused(records, gone)
    records.change(Change("me", "release.remove", "flights", [gone, Write("release", "flights", None, 1)]))
    assert records.read("document", DOCUMENT)[0].content is None


def test_a_version_stays_what_it_is_and_as_long_as_a_live_release_names_it(records: RemoteRecords) -> None:
    writes = [
        Write("release", "flights", to_bytes(release(1)), 0),
        Write("document", DOCUMENT, TEXT.encode(), 0),
        Write("model", "m", ONE.content(), 0),
    ]
    records.change(Change("me", "x", "flights", writes))
    other = ModelIndex("m", {"1": "cd" * 32})
    assert "a version never changes" in refused(records, Write("model", "m", other.content(), 1))
    named = "release 1 of pipeline flights (arm live) names m version 1; change it first"
    for content in (ModelIndex("m").content(), None):
        assert refused(records, Write("model", "m", content, 1)) == named
    two = ONE.with_version("2", "cd" * 32).with_label("x", "2")
    records.change(Change("me", "x", "m", [Write("model", "m", two.content(), 1)]))
    records.change(Change("me", "x", "m", [Write("model", "m", ONE.content(), 2)]))
    gone = [Write("release", "flights", None, 1), Write("model", "m", ModelIndex("m").content(), 3)]
    records.change(Change("me", "x", "flights", gone))


def test_a_change_that_says_too_little_or_too_much_is_refused(records: RemoteRecords) -> None:
    assert "actor" in refused(records, actor="")
    assert "actor" in refused(records, actor="x" * 201)
    assert "action" in refused(records, action="Do it")
    assert "writes" in refused(records, *(Write("document", str(n), None) for n in range(2001)))
    assert "writes" in refused(records, *(Write("document", str(n), bytes(2 << 20)) for n in range(9)))
