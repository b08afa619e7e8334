"""One request: its trace, and its predictions with what they were made of and what became of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from headrace.hop.request_ids import MAX_CHARACTERS, request_key
from headrace.state import traces
from services.monitoring.console import faults
from services.monitoring.console.known import Reach, notice
from services.monitoring.console.ports import RequestSources
from services.monitoring.console.requests.predictions import explained, outcome_rows, shown, trace_id_of
from services.monitoring.console.requests.timeline import timeline
from services.monitoring.console.requests.views import View, Views
from services.monitoring.console.threads import Threads
from services.monitoring.events.query import Found
from services.monitoring.events.values import Query
from services.monitoring.outcomes.records import Outcome, StorageError
from services.monitoring.ports import Log

EVENTS, TRACES, OUTCOMES = "the store of events", "the store of traces", "the store of outcomes"
# A request's id, and the position of a row.
_MAX_ID = MAX_CHARACTERS + 10
_HEX = re.compile(r"[0-9a-f]{32}")
# Rows of one request that a page shows; a batch may have thousands.
_ROWS = 50
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


@dataclass(slots=True)
class _Trouble:
    """Notices of one page."""

    notices: list[dict[str, str]]

    def add(self, one: dict[str, str]) -> None:
        if one not in self.notices:
            self.notices.append(one)


class Requests:
    """`wall`: seconds since 1970; `now`: the time as ISO 8601 text."""

    def __init__(
        self,
        sources: RequestSources | None,
        views: Views,
        threads: Threads,
        reach: Reach,
        log: Log,
        wall: Callable[[], float],
        now: Callable[[], str],
    ) -> None:
        self._sources = sources
        self._views = views
        self._threads = threads
        self._reach = reach
        self._log = log
        self._wall = wall
        self._now = now

    async def page(self, asked: str, tenant: str = "", *, all_kept: bool = False) -> dict[str, Any]:
        """What is known of the request, prediction or trace `asked`; "": the newest predictions. `tenant`: whose; "": if several
        have sent this id, `tenants` names them and nothing else is told. `all_kept`: look further back than a day. Raises Fault:
        it is no such id."""
        asked = asked.strip()
        if len(asked) > _MAX_ID:
            raise faults.malformed(
                "id", f"an id of a request, prediction or trace has at most {_MAX_ID} characters"
            )
        page = {"at": self._now(), "asked": asked, "all_kept": all_kept}
        page |= {"newest": [], "found": None, "tenants": []}
        if self._sources is None:
            return {
                **page,
                "notices": [notice("watch", "Events of predictions are not kept here (events.files).")],
            }
        trouble = _Trouble([])
        if asked:
            found = await self._one(self._sources, asked, tenant, all_kept, trouble)
            page |= {"tenants": found} if isinstance(found, list) else {"found": found}
        else:
            page["newest"] = await self._newest(self._sources, trouble)
        return {**page, "notices": trouble.notices}

    async def _newest(self, sources: RequestSources, trouble: _Trouble) -> list[dict[str, Any]]:
        found = await self._find(sources, Query(limit=_NEWEST), trouble)
        keys = ("request_id", "prediction_id", "row", "time", "tenant", "pipeline", "arm", "code", "reason")
        return [{**{key: e[key] for key in keys}, "latency_ms": e["latency_us"] / 1000} for e in found]

    async def _one(
        self, sources: RequestSources, asked: str, tenant: str, all_kept: bool, trouble: _Trouble
    ) -> dict[str, Any] | list[str] | None:
        """The names of tenants, if several have sent it."""
        request_id, slash, row = asked.rpartition("/")
        of_row = bool(slash) and row.isdecimal()
        wanted = request_key(request_id if of_row else asked)
        found = await self._traces(sources, wanted, trouble)
        trace = found.get(tenant) if tenant else next(iter(found.values()), None)
        query = Query(tenant=tenant, first_us=0 if all_kept else int(self._wall() * 1e6) - _DAY_US)
        events = await self._events(sources, wanted, trace, query, trouble)
        if not tenant:
            first_rows = await self._find(
                sources, replace(query, request_id=wanted, row=0, limit=_ROWS), trouble
            )
            tenants = {*filter(None, found), *(str(e["tenant"]) for e in (*events, *first_rows))}
            if len(tenants) > 1:
                return sorted(tenants)
        if of_row:
            events = [event for event in events if str(event["row"]) == row]
        if trace is None and events:
            own = trace_id_of(events[0]) or str(events[0]["request_id"])
            found = await self._traces(sources, own, trouble)
            trace = found.get(str(events[0]["tenant"]), found.get(""))
        if trace is None and not events:
            return None
        about = events[0] if events else {}
        identity = str(about.get("request_id") or (trace or {})["request_id"])
        events.sort(key=lambda e: (e["row"], e["arm"]))
        return {
            "request_id": identity,
            "trace_id": trace["trace_id"] if trace else trace_id_of(about),
            "tenant": about.get("tenant", tenant),
            "trace": trace,
            "no_trace": "" if trace else self._why_no_trace(sources, identity),
            "predictions": await self._predictions(sources, events, trouble),
        }

    async def _events(
        self,
        sources: RequestSources,
        wanted: str,
        trace: Mapping[str, Any] | None,
        query: Query,
        trouble: _Trouble,
    ) -> list[dict[str, Any]]:
        query = replace(query, request_id=wanted, limit=_ROWS)
        if trace is not None:
            # When it was is known, so few segments have to be read.
            at, span = int(trace["began_us"]), _DAY_US // 24
            query = replace(query, request_id=str(trace["request_id"]), first_us=at - span, last_us=at + span)
        found = await self._find(sources, query, trouble)
        if not found and _HEX.fullmatch(wanted):
            found = await self._find(
                sources, Query(tenant=query.tenant, event_id=bytes.fromhex(wanted)), trouble
            )
            found = found or await self._find(
                sources, replace(query, request_id="", trace_id=wanted), trouble
            )
        return found

    async def _find(self, sources: RequestSources, query: Query, trouble: _Trouble) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found: Found = await sources.events(query)
        except (StorageError, OSError) as error:
            trouble.add(self._reach.away(EVENTS, OSError(str(error) or "it does not answer")))
            return []
        self._reach.back(EVENTS)
        if found.unreadable:
            trouble.add(
                notice(
                    "watch", f"{len(found.unreadable)} segments of events can't be read; the log names them."
                )
            )
        return list(found.events)

    async def _traces(
        self, sources: RequestSources, wanted: str, trouble: _Trouble
    ) -> dict[str, dict[str, Any]]:
        """By tenant."""
        if sources.traces is None:
            return {}
        try:
            found = await self._threads.run(partial(traces.find_all, sources.traces, wanted))
            self._reach.back(TRACES)
            return {
                tenant: {**timeline(one), "request_id": str(one["request_id"])}
                for tenant, one in found.items()
            }
        except OSError as error:
            trouble.add(self._reach.away(TRACES, error))
        except (KeyError, ValueError, TypeError, AttributeError):
            trouble.add(notice("watch", "The trace of this request can't be read."))
        return {}

    @staticmethod
    def _why_no_trace(sources: RequestSources, request_id: str) -> str:
        return _NOT_KEPT if sources.traces is not None else _ELSEWHERE.format(id=request_id)

    async def _predictions(
        self, sources: RequestSources, events: Sequence[Mapping[str, Any]], trouble: _Trouble
    ) -> list[dict[str, Any]]:
        if not events:
            return []
        tenant, request_id = str(events[0]["tenant"]), str(events[0]["request_id"])
        known: Sequence[Outcome] = []
        try:
            known = await sources.outcomes(tenant, request_id)
        except (StorageError, OSError) as error:
            trouble.add(self._reach.away(OUTCOMES, OSError(str(error))))
        rows = []
        for event in events:
            views = await self._views_of(event, trouble)
            made = shown(event, views) | {"outcomes": outcome_rows(known, event["row"])}
            told: dict[str, Any] = {"explanation": None, "no_explanation": _TOO_MANY.format(id=request_id)}
            if event["code"] != "OK":
                told["no_explanation"] = _FAILED
            elif len(events) <= _EXPLAINED:
                told = await self._explained(sources, bytes.fromhex(event["event_id"]))
            rows.append(made | told)
        return rows

    async def _views_of(self, event: Mapping[str, Any], trouble: _Trouble) -> Mapping[str, View]:
        try:
            return await self._threads.run(partial(self._views.of, event["pipeline"], event["revision"]))
        except OSError as error:
            trouble.add(self._reach.away("the documents of pipelines", error))
            return {}

    async def _explained(self, sources: RequestSources, event_id: bytes) -> dict[str, Any]:
        if sources.explanation is None:
            return {"explanation": None, "no_explanation": _UNEXPLAINED}
        try:
            found = explained(await sources.explanation(event_id))
        except Exception as error:  # noqa: BLE001 - another part's failure must not take the page with it
            self._log.warning("a prediction was not explained", event_id=event_id.hex(), error=repr(error))
            return {"explanation": None, "no_explanation": "It can't be explained now; the log says why."}
        why = "" if found else "It has no explanation: its pipeline or model can't be explained."
        return {"explanation": found, "no_explanation": why}
