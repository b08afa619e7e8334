"""EventsService: messages → domain → messages."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.events import messages, split_prediction_id
from headrace.hop.call import Call
from headrace.hop.request_ids import request_key
from services.monitoring import errors
from services.monitoring.events.reception import Reception
from services.monitoring.events.values import MAX_US, Erasure, MaskedError, Position, Query, Subject
from services.monitoring.outcomes.records import StorageError

_LIMIT, _MAX_LIMIT = 20, 1000
_MAX_GAPS = 100
_EVENT_ID = re.compile(r"[0-9a-f]{32}\Z")
_PAGE = re.compile(r"(\d{1,18})\.(\d{1,18})\.([0-9a-f]{32})\Z")


class EventsServicer:
    """Serves headrace.api.monitoring.v1.EventsService."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        errors.check_trusted(call)
        query = _query(request)
        try:
            found = await self._reception.find(query)
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        return pb.ListEventsResponse(
            events=[
                pb.Event(prediction_id=e["prediction_id"], event_id=e["event_id"], content_json=json.dumps(e))
                for e in found.events
            ],
            unreadable_segments=found.unreadable,
        )

    async def ReadEvents(self, request: pb.ReadEventsRequest, call: Call) -> pb.ReadEventsResponse:
        errors.check_trusted(call)
        query = replace(_query(request.chosen), before=_position(request.page))
        try:
            page = await self._reception.read(query)
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        reply = pb.ReadEventsResponse(unreadable_segments=page.unreadable)
        for group in page.groups:
            messages.write_group(reply.groups.add(), group)
        if page.last is not None:
            reply.next_page = f"{page.last.time_us}.{page.last.sequence}.{page.last.event_id.hex()}"
        return reply

    async def EraseEvents(self, request: pb.EraseEventsRequest, call: Call) -> pb.EraseEventsResponse:
        errors.check_trusted(call)
        who = _erasure(request)
        try:
            erased = await self._reception.erase(who)
        except MaskedError as error:
            raise errors.subject_masked(error.column) from None
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        return pb.EraseEventsResponse(
            erased_count=erased.events,
            rewritten_segment_count=erased.files,
            unreadable_segments=erased.unreadable,
        )

    async def ListEventGaps(self, request: pb.ListEventGapsRequest, call: Call) -> pb.ListEventGapsResponse:  # noqa: ARG002 - no fields
        errors.check_trusted(call)
        try:
            streams = await self._reception.streams()
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        reply = pb.ListEventGapsResponse()
        for epoch, stream in sorted(streams.items(), key=lambda item: item[1].heard, reverse=True):
            gaps = stream.received.gaps(stream.noted)[:_MAX_GAPS]
            reply.streams.add(
                replica=stream.replica,
                epoch=epoch,
                noted_count=stream.noted,
                stored_count=len(stream.received),
                gaps=[pb.EventGap(first=first, last=last) for first, last in gaps],
            )
        return reply

    async def VerifyEvents(self, request: pb.VerifyEventsRequest, call: Call) -> pb.VerifyEventsResponse:  # noqa: ARG002 - no fields
        errors.check_trusted(call)
        try:
            hashes, problems = await self._reception.check()
        except StorageError as error:
            raise errors.events_unavailable(str(error)) from None
        return pb.VerifyEventsResponse(
            files=[pb.EventFile(path=path, sha256=digest) for path, digest in sorted(hashes.items())],
            problems=[pb.EventFileProblem(path=p.path, problem=p.why) for p in problems],
        )


def _query(request: pb.ListEventsRequest) -> Query:
    event_id, request_id, row = _identity(request.prediction_id)
    wanted = request_key(request.request_id) if request.request_id else ""
    if request_id and wanted not in ("", request_id):
        raise errors.unreadable("request_id is not that of prediction_id")
    if request.limit > _MAX_LIMIT:
        raise errors.unreadable(f"limit is at most {_MAX_LIMIT}")
    begin = _microseconds(request.begin_time) if request.HasField("begin_time") else 0
    end = _microseconds(request.end_time) if request.HasField("end_time") else MAX_US
    return Query(
        event_id,
        request.pipeline,
        request.tenant,
        request_id or wanted,
        row,
        begin,
        end,
        request.limit or _LIMIT,
    )


def _identity(text: str) -> tuple[bytes, str, int | None]:
    """What `prediction_id` names: an event, or request and row."""
    if not text:
        return b"", "", None
    if _EVENT_ID.match(text):
        return bytes.fromhex(text), "", None
    try:
        return b"", *split_prediction_id(text)
    except ValueError as error:
        raise errors.unreadable(f"prediction_id: {error}") from None


def _position(page: str) -> Position | None:
    if not page:
        return None
    found = _PAGE.match(page)
    if found is None:
        raise errors.unreadable("page is no `next_page` of an earlier reply")
    return Position(int(found[1]), int(found[2]), bytes.fromhex(found[3]))


def _microseconds(time: Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1000


def _erasure(request: pb.EraseEventsRequest) -> Erasure:
    if not request.tenant:
        raise errors.erasure_names_nobody("tenant")
    subjects = tuple(Subject(s.column, s.value) for s in request.subjects)
    if any(not s.column or not s.value for s in subjects):
        raise errors.erasure_names_nobody("subjects")
    if not (subjects or request.request_ids or request.whole_tenant):
        raise errors.erasure_names_nobody("subjects, request_ids or whole_tenant")
    return Erasure(
        request.tenant, subjects, tuple(map(request_key, request.request_ids)), request.whole_tenant
    )
