"""A route whose answers are kept: where the plan is cut, what answers, and the place of the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from headrace.pipeline import CacheRule, Cut, ModelUse, Plan, cut
from services.router.cache.clients import SharedAnswers
from services.router.cache.entries import Entries, Evictions
from services.router.cache.flights import Flights
from services.router.cache.identity import identity_of
from services.router.cache.meter import CacheMeter
from services.router.cache.rows import Answer, Field
from services.router.routes.route import Route

_MICRO = 1e-6


class PipelineAnswers:
    """The answers of one pipeline, whichever revision and arm gave them: they share the memory that the document allows."""

    def __init__(
        self, pipeline: str, rule: CacheRule, meter: CacheMeter, shared: SharedAnswers | None
    ) -> None:
        self._pipeline = pipeline
        self._meter = meter
        self._told = Evictions()
        self.rule = rule
        self.shared = shared
        self.flights = Flights()
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

    def count(self, outcomes: Mapping[str, int]) -> None:
        """Counts rows by outcome, and what the entries tell since the last call."""
        for outcome, rows in outcomes.items():
            if rows:
                self._meter.rows(self._pipeline, outcome, rows)
        seen, told = self.entries.evicted, self._told
        if seen != told:
            self._meter.evicted(self._pipeline, seen.space - told.space, seen.age - told.age)
            self._told = replace(seen)
        self._meter.bytes(self._pipeline, self.entries.bytes)


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


class AnswerCaches:
    """The caches of all pipelines. `shared`: answers that several routers keep together; None: each keeps its own."""

    def __init__(self, meter: CacheMeter, build: str, shared: SharedAnswers | None = None) -> None:
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
