"""One request: its trace, and its predictions with what they were made of and what became of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from headrace.hop.request_ids import MAX_CHARACTERS, request_key
from headrace.state import traces
from services.monitoring.console import faults
from services.monitoring.console.ports import ConsoleSources
from services.monitoring.console.reach import Notices, Reach, notice
from services.monitoring.console.requests.predictions import shown, trace_id_of
from services.monitoring.console.requests.views import View, Views
from services.monitoring.console.web.forms import number
from services.monitoring.events.query import Found
from services.monitoring.events.values import MAX_US, Query
from services.monitoring.outcomes.records import Outcome

EVENTS, TRACES, OUTCOMES = "the store of events", "the store of traces", "the store of outcomes"
DOCUMENTS = "the documents of pipelines"
# A request's id, and the position of a row.
_MAX_ID = MAX_CHARACTERS + 10
_HEX = re.compile(r"[0-9a-f]{32}")
# Rows of one request that a page shows; a batch may have thousands.
_ROWS = 50
_FILTERS = ("pipeline", "arm", "tenant", "release", "failed", "since", "until")
_NEWEST = 20
_DAY_US = 86_400_000_000
# Reading all that is kept takes a while, and the store is one thread's.
_PATIENCE_S = 30.0
# Sampled, failed or slow requests are kept; see services/ingress/reporting.
_NOT_KEPT = "No trace is kept of this request: kept are those that were sampled, failed or slow, until newer ones push them out."
_ELSEWHERE = (
    "The folder of traces is not set here (console.traces). On the machine of the door: headrace trace {id}"
)
# To explain one may take hundreds of rows of the model.
_EXPLAINED = 4
_TOO_MANY = "Not for so many rows at once: look for one of them, {id}/ROW."
_FAILED = "It failed, so there is no answer to explain."
_UNEXPLAINED = "Nothing explains predictions here."
_UNEXPLAINABLE = "It has no explanation: its pipeline or model can't be explained."
_LATER = "It can't be explained now; the log says why."


class Requests:
    """`traces`: the folder in which the ingress keeps them; None: it is not on this machine or not set."""

    def __init__(self, sources: ConsoleSources, traces: Path | None, views: Views, reach: Reach) -> None:
        self._sources = sources
        self._folder = traces
        self._views = views
        self._reach = reach

    async def page(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """What is known of the request, prediction or trace `id`; "": the newest predictions that fit. `tenant`: whose; "": if
        several have sent this id, `tenants` names them and nothing else is told. `all`: look further back than a day. Raises
        Fault: it is no such id, or no time or number."""
        asked, all_kept = fields.get("id", "").strip(), bool(fields.get("all"))
        if len(asked) > _MAX_ID:
            raise faults.malformed(
                "id", f"an id of a request, prediction or trace has at most {_MAX_ID} characters"
            )
        notices: Notices = []
        page = {"at": self._reach.at(), "asked": asked, "all_kept": all_kept, "notices": notices}
        page |= {
            "newest": [],
            "found": None,
            "tenants": [],
            "filters": {k: fields.get(k, "") for k in _FILTERS},
        }
        wanted = _wanted(fields)
        if self._sources.events is None:
            notices.append(notice("watch", "Events of predictions are not kept here (events.files)."))
        elif asked:
            found = await self._one(asked, wanted.tenant, all_kept, notices)
            page |= {"tenants": found} if isinstance(found, list) else {"found": found}
        else:
            page["newest"] = await self._find(wanted, notices)
        return page

    async def _one(
        self, asked: str, tenant: str, all_kept: bool, notices: Notices
    ) -> dict[str, Any] | list[str] | None:
        """The names of tenants, if several have sent it."""
        request_id, slash, row = asked.rpartition("/")
        of_row = bool(slash) and row.isdecimal()
        wanted = request_key(request_id if of_row else asked)
        found = await self._traces(wanted, notices)
        trace = found.get(tenant) if tenant else next(iter(found.values()), None)
        query = Query(tenant=tenant, first_us=0 if all_kept else int(self._reach.wall() * 1e6) - _DAY_US)
        events = await self._events(wanted, trace, query, notices)
        if not tenant:
            first_rows = await self._find(replace(query, request_id=wanted, row=0, limit=_ROWS), notices)
            tenants = {*filter(None, found), *(str(e["tenant"]) for e in (*events, *first_rows))}
            if len(tenants) > 1:
                return sorted(tenants)
        if of_row:
            events = [event for event in events if str(event["row"]) == row]
        if trace is None and events:
            own = trace_id_of(events[0]) or str(events[0]["request_id"])
            found = await self._traces(own, notices)
            trace = found.get(str(events[0]["tenant"]), found.get(""))
        if trace is None and not events:
            return None
        about = events[0] if events else {}
        identity = str(about.get("request_id") or (trace or {})["request_id"])
        events.sort(key=lambda e: (e["row"], e["arm"]))
        missing = _NOT_KEPT if self._folder is not None else _ELSEWHERE.format(id=identity)
        return {
            "request_id": identity,
            "trace_id": trace["trace_id"] if trace else trace_id_of(about),
            "tenant": about.get("tenant", tenant),
            "trace": trace,
            "no_trace": "" if trace else missing,
            "predictions": await self._predictions(events, notices),
        }

    async def _events(
        self, wanted: str, trace: Mapping[str, Any] | None, query: Query, notices: Notices
    ) -> list[dict[str, Any]]:
        query = replace(query, request_id=wanted, limit=_ROWS)
        if trace is not None:
            # When it was is known, so few segments have to be read.
            at, span = int(trace["began_us"]), _DAY_US // 24
            query = replace(query, request_id=str(trace["request_id"]), first_us=at - span, last_us=at + span)
        found = await self._find(query, notices)
        if not found and _HEX.fullmatch(wanted):
            found = await self._find(Query(tenant=query.tenant, event_id=bytes.fromhex(wanted)), notices)
            found = found or await self._find(replace(query, request_id="", trace_id=wanted), notices)
        return found

    async def _find(self, query: Query, notices: Notices) -> list[dict[str, Any]]:
        events = self._sources.events
        assert events is not None, "the page has looked"
        work = asyncio.wait_for(events(query), _PATIENCE_S)
        found = await self._reach.attempt(EVENTS, work, Found(), notices)
        if lost := len(found.unreadable):
            notices.append(notice("watch", f"{lost} segments of events can't be read; the log names them."))
        return list(found.events)

    async def _traces(self, wanted: str, notices: Notices) -> dict[str, dict[str, Any]]:
        """By tenant."""
        if self._folder is None:
            return {}
        work = self._reach.run(partial(traces.find_all, self._folder, wanted))
        found: Mapping[str, Any] = await self._reach.attempt(TRACES, work, {}, notices)
        try:
            return {tenant: traces.timeline(one) for tenant, one in found.items()}
        except (KeyError, ValueError, TypeError, AttributeError):
            notices.append(notice("watch", "The trace of this request can't be read."))
            return {}

    async def _predictions(
        self, events: Sequence[Mapping[str, Any]], notices: Notices
    ) -> list[dict[str, Any]]:
        if not events:
            return []
        tenant, request_id = str(events[0]["tenant"]), str(events[0]["request_id"])
        work = self._sources.outcomes(tenant, request_id)
        known = await self._reach.attempt(OUTCOMES, work, (), notices)
        rows = []
        for event in events:
            of_revision = partial(self._views.of, event["pipeline"], event["revision"])
            views: Mapping[str, View] = await self._reach.attempt(
                DOCUMENTS, self._reach.run(of_revision), {}, notices
            )
            became = [_outcome(one) for one in known if one.row == event["row"]]
            made = shown(event, views) | {"outcomes": became}
            why = _FAILED if event["code"] != "OK" else "" if len(events) <= _EXPLAINED else _TOO_MANY
            told = {"explanation": None, "no_explanation": why.format(id=request_id)}
            rows.append(made | (told if why else await self._explained(bytes.fromhex(event["event_id"]))))
        return rows

    async def _explained(self, event_id: bytes) -> dict[str, Any]:
        if self._sources.explanation is None:
            return {"explanation": None, "no_explanation": _UNEXPLAINED}
        failed: Notices = []
        work = self._sources.explanation(event_id)
        found = await self._reach.attempt("an explanation", work, None, failed, _LATER, (Exception,))
        if found is None:
            return {"explanation": None, "no_explanation": _LATER if failed else _UNEXPLAINABLE}
        about = {"base": found.base, "output": found.value, "standard_error": found.standard_error}
        return {"explanation": {**about, "rows": found.columns}, "no_explanation": ""}


def _outcome(found: Outcome) -> dict[str, Any]:
    value = bool(found.value) if found.label else found.value
    return {"name": found.name, "value": value, "at": datetime.fromtimestamp(found.time, UTC).isoformat()}


def _wanted(fields: Mapping[str, str]) -> Query:
    """Which of the newest predictions. Raises Fault."""
    pipeline, arm, tenant, *_ = (fields.get(name, "").strip() for name in _FILTERS)
    return Query(
        pipeline=pipeline,
        arm=arm,
        tenant=tenant,
        release=number(fields, "release") or 0,
        failed=bool(fields.get("failed")),
        first_us=_time_us(fields, "since", 0),
        last_us=_time_us(fields, "until", MAX_US),
        limit=_NEWEST,
    )


def _time_us(fields: Mapping[str, str], name: str, absent: int) -> int:
    """In UTC, unless it says otherwise. Raises Fault."""
    text = fields.get(name, "").strip()
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise faults.malformed(name, "is a time such as 2026-12-01T17:30, in UTC") from None
    return absent if at is None else int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
