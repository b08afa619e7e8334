"""A route whose answers are kept: where the plan is cut, what answers, and the place of the answers.

An answer may be served from the cache only if the very same code and weights would compute it now. The document's content hash
names everything but the models. A model stage without a version runs whatever version was loaded last in the replica that gets
the call. The router learns which one that was from the reply, and a hit has no reply: between a load and the next miss every
hit would be an old answer, and asking the executor now and then only makes that time shorter. So the answers of such a route
are not kept at all. A stage with a version (of the document, or put there by the release) always runs that version, and a
signed version is never altered. As a number may be used again after `models remove`, the SHA-256 that the executor last
reported is part of the key, too: nothing is served before the first reply of a route has named it, and a reply with another one
leaves all older answers behind (`CachedRoute.prefix`). Loading and unloading through this router forgets it.

Of a stage of several models (cascade, ensemble) no answer is kept: which of them took part differs from row to row.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from weakref import WeakValueDictionary

from headrace.pipeline import CacheRule, Cut, ModelUse, Plan, cut
from headrace.pipeline.stages.registry import kind_of
from services.router.cache.clients import SharedAnswers
from services.router.cache.entries import Entries
from services.router.cache.meter import CacheMetrics
from services.router.cache.rows import Answer, Field
from services.router.routes.route import Route

_MICRO = 1e-6


Flight: TypeAlias = "asyncio.Future[Answer | None]"
"""What a flight brings; None: nothing that may be kept, so who waits has to run itself."""


class PipelineAnswers:
    """The answers of one pipeline, whichever revision and arm gave them: they share the memory that the document allows."""

    def __init__(
        self, pipeline: str, rule: CacheRule, meter: CacheMetrics, shared: SharedAnswers | None
    ) -> None:
        self._pipeline = pipeline
        self._meter = meter
        self.rule = rule
        self.shared = shared
        # Answers that are being computed now. A row with the same key waits for the first one instead of running, too.
        self.flights: dict[bytes, Flight] = {}
        self._fields: tuple[Field, ...] = ()
        self.entries: Entries[Answer] = Entries(*_limits(rule))

    def limit(self, rule: CacheRule) -> None:
        """The rule of a new revision."""
        self.rule = rule
        self.entries.limit(*_limits(rule))

    def same(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        """An equal tuple, the same object each time, so that answers of many batches are put together at once."""
        if self._fields != fields:
            self._fields = fields
        return self._fields

    def land(self, key: bytes, answer: Answer | None) -> None:
        """The row that runs has its answer, or none. A flight that has ended already is left alone."""
        flight = self.flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(answer)

    def count(self, outcomes: Mapping[str, int]) -> None:
        """Counts rows by outcome."""
        for outcome, rows in outcomes.items():
            if rows:
                self._meter.rows(self._pipeline, outcome, rows)


def _limits(rule: CacheRule) -> tuple[float, float, int]:
    return rule.ttl_us * _MICRO, rule.kept_us * _MICRO, rule.max_bytes


@dataclass(slots=True, eq=False)
class CachedRoute:
    """`head` always runs; `tail` runs for rows whose answer is not kept. `identity`: what answers in the tail."""

    head: Route
    tail: Route
    cut: Cut
    identity: str
    answers: PipelineAnswers
    # Forgets of operators' changes (AnswerCaches.forget) that this route knows of.
    forgets: Callable[[], int]
    _models: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _prefix: bytes = b""
    _forgets: int = 0

    @property
    def prefix(self) -> bytes:
        """The begin of every key: 32 bytes that only this identity with these models has. Empty until a reply has named the
        models that run now."""
        if self._forgets != self.forgets():
            self._forgets, self._models, self._prefix = self.forgets(), {}, b""
        return self._prefix

    def reported(self, models: Iterable[ModelUse]) -> bytes:
        """These models ran just now. Returns the prefix for what they answered."""
        found = {m.stage: (m.model, m.version, m.sha256) for m in models}
        if not self.prefix or any(self._models.get(stage) != model for stage, model in found.items()):
            self._models |= found
            said = repr((self.identity, sorted(self._models.items())))
            self._prefix = hashlib.sha256(said.encode()).digest()
        return self._prefix


def identity_of(tail: Plan, *more: str) -> str:
    """What answers in the stages of `tail`; "": that is not known for sure, so no answer may be kept.

    `more`: what else decides, such as release number and arm, and the settings that an arm gives its stages.
    """
    found = [kind_of(planned.stage).answered_by(planned.stage) for planned in tail.stages]
    known = [name for name in found if name is not None]
    if len(known) < len(found):
        return ""
    return "\n".join((tail.pipeline.revision, *known, *more))


class AnswerCaches:
    """The caches of all pipelines. `shared`: answers that several routers keep together; None: each keeps its own."""

    def __init__(self, meter: CacheMetrics, build: str, shared: SharedAnswers | None = None) -> None:
        """`build`: version of the code, as steps are code, too."""
        self._meter = meter
        self._build = build
        self._shared = shared
        self._forgets = 0
        # A pipeline's answers go with its last route.
        self._found: WeakValueDictionary[str, PipelineAnswers] = WeakValueDictionary()

    def add(self, route: Route, *more: str) -> Route:
        """The route with a cache, if its document asks for one and it is known for sure what answers.

        `more`: what else decides about the answer: release and arm, settings of stages.
        """
        pipeline = route.plan.pipeline
        rule = pipeline.cache
        if rule is None:
            return route
        parts = cut(route.plan)
        identity = identity_of(parts.tail, self._build, route.name, *more)
        self._meter.unpinned(pipeline.name, not identity)
        if not identity:
            return route
        answers = self._found.get(pipeline.name)
        if answers is None:
            answers = self._found[pipeline.name] = PipelineAnswers(
                pipeline.name, rule, self._meter, self._shared
            )
        else:
            answers.limit(rule)
        runners = dict(zip((s.stage.name for s in route.plan.stages), route.runners, strict=True))

        def part(plan: Plan) -> Route:
            return Route(route.name, plan, tuple(runners[s.stage.name] for s in plan.stages))

        cached = CachedRoute(
            part(parts.head), part(parts.tail), parts, identity, answers, lambda: self._forgets
        )
        return replace(route, cached=cached)

    def forget(self) -> None:
        """An operator has loaded or unloaded a model: nothing kept so far is served again by this router."""
        self._forgets += 1
        for answers in self._found.values():
            answers.entries.clear()
