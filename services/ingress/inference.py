"""One inference, the same for every protocol of the door: limits, deadline, schema, router."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

from headrace.columns import Batch, Column, RowError, Rows, Timing
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import REGULATED, Decision, ModelUse, models_of, rounded, validate_inputs
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.attributes import Attributes
from services.ingress.documents.catalog import Credential, Entry, Tenant
from services.ingress.request_context import RequestContext

if TYPE_CHECKING:
    from services.ingress.clients import HopRouter


@dataclass(slots=True)
class Routed:
    """What the router answered: outputs and annotations as columns, rows in the order of the request."""

    batch: Batch
    # The name of each fallback that at least one row used, and its bit in the column `@fallbacks`.
    fallbacks: Sequence[tuple[str, int]]
    # What rows of this request took; `decided` is the index of each row, None if there is one decision for all of them.
    decisions: Sequence[Decision]
    decided: Sequence[int] | None = None


@dataclass(slots=True)
class InferenceResult:
    """The outcome of the rows of one request. `router_start_s`: seconds from its arrival to the call to the router."""

    entry: Entry
    batch: Batch
    # The name of each fallback that at least one row used, and its bit in the column `@fallbacks`.
    fallbacks: Sequence[tuple[str, int]]
    decisions: Sequence[Decision]
    router_start_s: float
    router_s: float
    # Index in `decisions` of each row; None: all rows took the same.
    decided: Sequence[int] | None = None

    @property
    def rows(self) -> int:
        return len(self.batch)

    @property
    def timings(self) -> Sequence[Timing]:
        return self.batch.timings

    @property
    def errors(self) -> Mapping[int, RowError]:
        return self.batch.errors

    def outputs(self, names: Iterable[str]) -> list[Column]:
        """The columns of these outputs. Raises Fault INTERNAL if the router did not give one of them."""
        found = []
        for name in names:
            column = self.batch.columns.get(name)
            if column is None:
                raise Fault(Code.INTERNAL, Reason.REASON_INTERNAL, f"the pipeline gave no output {name}")
            found.append(column)
        return found

    def slice(self, start: int, stop: int) -> InferenceResult:
        """That of some of the rows."""
        decided = self.decided[start:stop] if self.decided else self.decided
        return replace(self, batch=self.batch.slice(start, stop), decided=decided)

    @property
    def decision(self) -> Decision | None:
        """The route that answered; the first one if there were several."""
        return self.decisions[0] if self.decisions else None

    @property
    def models(self) -> Sequence[ModelUse]:
        """The models that took part in any of these rows."""
        return models_of(self.decisions[0], self.batch) if self.decisions else ()

    @property
    def version(self) -> int:
        return self.decisions[0].version if self.decisions else self.entry.pipeline.version

    @property
    def revision(self) -> str:
        return self.decisions[0].revision if self.decisions else self.entry.pipeline.revision


# A request with less time left than this is not started.
MIN_BUDGET_S = 0.001


class InferenceShare:
    """The part of an InferenceResult that belongs to one of the requests that shared it; cut out when somebody looks at it."""

    __slots__ = ("router_s", "router_start_s", "rows", "start", "stop", "whole")

    def __init__(
        self, whole: InferenceResult, start: int, stop: int, router_start_s: float, router_s: float
    ) -> None:
        self.whole = whole
        self.start, self.stop, self.rows = start, stop, stop - start
        self.router_start_s, self.router_s = router_start_s, router_s

    @property
    def entry(self) -> Entry:
        return self.whole.entry

    @property
    def timings(self) -> Sequence[Timing]:
        return self.whole.batch.timings

    @property
    def errors(self) -> Mapping[int, RowError]:
        return self.batch.errors if self.whole.batch.errors else {}

    @property
    def batch(self) -> Batch:
        return self.whole.batch.slice(self.start, self.stop)

    def result(self) -> InferenceResult:
        """As if the request had been alone."""
        whole, batch = self.whole, self.batch
        bits = reduce(or_, batch.columns["@fallbacks"].array.tolist()) if whole.fallbacks else 0
        fallbacks = [(name, bit) for name, bit in whole.fallbacks if bits >> bit & 1]
        decisions, decided = whole.decisions, whole.decided
        if decided is not None:
            own = decided[self.start : self.stop]
            taken = sorted(set(own))
            decisions = [decisions[place] for place in taken]
            decided = [taken.index(place) for place in own] if len(taken) > 1 else None
        return InferenceResult(
            whole.entry, batch, fallbacks, decisions, self.router_start_s, self.router_s, decided
        )


class InferenceRunner:
    """Runs requests. `clock`: monotonic seconds. `attributes`: those that rules may read; None: there are none."""

    def __init__(
        self,
        router: HopRouter,
        max_rows: int,
        guard: ExtractionGuard,
        clock: Callable[[], float],
        attributes: Attributes | None = None,
    ) -> None:
        self._router = router
        self._attributes = attributes
        self._guard = guard
        self._max_rows = max_rows
        self._clock = clock

    def max_rows(self, credential: Credential) -> int:
        """Maximum number of rows in one request of this caller."""
        own = credential.tenant.limits.max_rows
        return self._max_rows if own is None else min(own, self._max_rows)

    def rows(
        self,
        context: RequestContext,
        entry: Entry,
        credential: Credential,
        count: int,
        priority: int,
        timeout_s: float,
    ) -> Rows:
        """The context of `count` rows. `priority` and `timeout_s`: as `allow` takes them.

        Raises Fault INVALID_ARGUMENT for no rows, RESOURCE_EXHAUSTED for too many.
        """
        check_rows(count, self.max_rows(credential))
        tenant = credential.tenant
        deadline, priority = self.allow(context, entry, tenant, priority, timeout_s)
        return Rows.one_request(
            count, context.request_id, tenant.name, deadline, priority, context.trace.forwarded
        )

    def allow(
        self, context: RequestContext, entry: Entry, tenant: Tenant, priority: int, timeout_s: float
    ) -> tuple[float, int]:
        """The deadline (monotonic seconds) and the priority of a request. `priority` 0: the tenant's. `timeout_s` inf: only the
        deadlines of the caller and of the pipeline apply."""
        received, deadline, allowed = context.received, context.deadline, tenant.priority
        ours = timeout_s >= entry.deadline_s
        own = received + (entry.deadline_s if ours else timeout_s)
        context.deadline_is_ours = ours and own <= deadline
        deadline = own if own < deadline else deadline
        context.time_allowed = deadline - received
        return deadline, priority if priority and priority < allowed else allowed

    def checked(self, context: RequestContext, entry: Entry, batch: Batch) -> Batch:
        """Rows that are to be explained: validated, and counted by the extraction guard. Raises Fault, that of the first row
        which is not valid."""
        batch = validate_inputs(entry.pipeline, batch)
        if batch.errors:
            raise first_fault(batch)
        self._guard.check(context, entry.pipeline, batch)
        return batch

    async def infer(
        self, context: RequestContext, entry: Entry, batch: Batch, version: int, *, whole: bool
    ) -> InferenceResult:
        """Validates and runs the rows. `version` 0: the router chooses the version.

        `whole`: if any row fails, the request fails with the error of the first failed row. A request of one row always
        fails with its row.
        Raises Fault.
        """
        batch = validate_inputs(entry.pipeline, batch)
        whole = whole or len(batch) == 1
        if batch.errors and whole:
            raise first_fault(batch)
        now = self._clock()
        self._check_budget(batch.rows.deadlines[0] - now)
        if len(batch.errors) == len(batch):
            # There is nothing to run: each row has its own error, and no model is called.
            return InferenceResult(entry, batch, (), (), now - context.received, 0.0)
        self._guard.check(context, entry.pipeline, batch)
        if self._attributes is not None:
            batch = batch.with_columns(self._attributes.columns([context.headers] * len(batch)))
        if context.credential is not None and context.credential.tenant.regulated:
            batch = batch.with_columns([Column.of(REGULATED, np.ones(len(batch), bool))])
        routed = await self._route(entry, version, batch)
        # A row that the door refused keeps the door's error, even if a later service returned something for it.
        result = (
            routed.batch
            if not batch.errors
            else replace(routed.batch, errors={**routed.batch.errors, **batch.errors})
        )
        if entry.rounds:
            result = rounded(entry.pipeline, result)
        answer = InferenceResult(
            entry,
            result,
            routed.fallbacks,
            routed.decisions,
            now - context.received,
            self._clock() - now,
            routed.decided,
        )
        context.result = answer
        if whole and result.errors:
            raise first_fault(result)
        return answer

    async def _route(self, entry: Entry, version: int, batch: Batch) -> Routed:
        """Asks for the version that the rows were checked against, also while the router goes over to another one."""
        pipeline = entry.pipeline
        try:
            return await self._router.infer(pipeline.name, version or pipeline.version, batch)
        except Fault as fault:
            if version or fault.reason != Reason.REASON_VERSION_UNKNOWN:
                raise
            # The router was restarted in between and has the newer version only; most rows fit it, too.
            return await self._router.infer(pipeline.name, 0, batch)

    def _check_budget(self, left: float) -> None:
        if left < MIN_BUDGET_S:
            left_ms = f"{max(left, 0.0) * 1000:.1f}"
            raise Fault(
                Code.DEADLINE_EXCEEDED,
                Reason.REASON_DEADLINE_PASSED,
                f"{left_ms} ms are left, too few to try; allow more",
                metadata={"remaining_ms": left_ms},
            )


def check_rows(count: int, limit: int) -> None:
    """Raises Fault INVALID_ARGUMENT for no rows, RESOURCE_EXHAUSTED for more than `limit`."""
    if count < 1:
        raise Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, "the request has no rows")
    if count > limit:
        raise Fault(
            Code.RESOURCE_EXHAUSTED,
            Reason.REASON_TOO_LARGE,
            f"{count} rows in one request; at most {limit}",
            metadata={"rows": str(count), "limit": str(limit)},
        )


def read_timeout(microseconds: int) -> float:
    """Seconds of a timeout parameter; 0 or less means no timeout."""
    return microseconds / 1_000_000 if microseconds > 0 else math.inf


def first_fault(batch: Batch) -> Fault:
    """The fault of a request of which at least one row failed."""
    row = min(batch.errors)
    error = batch.errors[row]
    fault = error.fault()
    if len(batch) == 1 or "row" in error.metadata:
        return fault
    metadata = {**error.metadata, "row": str(row)}
    message, retry = f"row {row}: {fault.message}", fault.retry_after_s
    return Fault(fault.code, fault.reason, message, metadata=metadata, retry_after_s=retry)
