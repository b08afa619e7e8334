"""`features` stages: read features for the entities of each row, with rules for how old they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from headrace.columns import DType
from headrace.pipeline.document.durations import duration_text
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.stages.kind import Finding, Signatures, StageKind, ViewSignature, Written
from headrace.pipeline.types import TYPE_NAMES, ColumnType

OnMissing: TypeAlias = Literal["default", "refuse"]

# The router says in 64 bits per row which fallbacks it used: four for each view.
MAX_VIEWS = 16
_MILLISECOND_US = 1_000
_MAX_AGE_US = 36_500 * 86_400_000_000


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the values of a view may be (microseconds): up to `max_age_us` they are present, and for `stale_us` more
    they are used as stale ones. `otherwise`: what to do with a row whose values are older."""

    max_age_us: int
    stale_us: int
    otherwise: OnMissing


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A feature view: its features (scalars) and what to do with a row for which it has no present values.

    `freshness` None: values may be as old as the view's time to live.
    """

    features: Mapping[str, DType]
    on_missing: OnMissing = "default"
    freshness: Freshness | None = None

    @property
    def too_old(self) -> OnMissing:
        return self.freshness.otherwise if self.freshness else self.on_missing

    @property
    def takes_stale(self) -> bool:
        """Whether stale values are good enough for a view that demands present ones."""
        return self.freshness is not None and self.freshness.stale_us > 0


@dataclass(frozen=True, slots=True)
class FeaturesStage:
    """Reads the features of a Feast feature service for the entities of each row.

    `request`: columns that on-demand feature views are worked out from, besides stored features.
    """

    kind: ClassVar[str] = "features"

    name: str
    feature_service: str
    entities: tuple[str, ...]
    views: Mapping[str, ViewSpec]
    request: tuple[str, ...] = ()


class FeaturesKind(StageKind[FeaturesStage]):
    name = FeaturesStage.kind
    varies = True

    def read(self, entry: Entry) -> FeaturesStage | None:
        required = ["features", "feature_service", "entities", "views"]
        fields = entry.fields(required, ["request"])
        if not set(required) <= fields.keys():
            return None
        views = {name: _read_view(name, e) for name, e in fields["views"].entries().items()}
        if not views:
            fields["views"].fail("needs at least one view")
        _refuse_repeated(views, fields["views"])
        entities = fields["entities"].names()
        request = fields["request"].names() if "request" in fields else ()
        for name in request:
            if name in entities:
                fields["request"].fail(f"{name!r} is sent already, as an entity")
        return FeaturesStage(
            fields["features"].name(),
            fields["feature_service"].name(),
            entities,
            MappingProxyType(views),
            request,
        )

    def check_document(self, stages: Sequence[FeaturesStage], entry: Entry) -> None:
        if sum(len(stage.views) for stage in stages) > MAX_VIEWS:
            entry.fail(f"more than {MAX_VIEWS} feature views in one pipeline")

    def reads(self, stage: FeaturesStage) -> Mapping[str, str]:
        entities = {name: f"entities[{i}]" for i, name in enumerate(stage.entities)}
        return entities | {name: f"request[{i}]" for i, name in enumerate(stage.request)}

    def writes(self, stage: FeaturesStage) -> list[Written]:
        return [
            Written(name, ColumnType(dtype), f"views.{view}.features.{name}")
            for view, spec in stage.views.items()
            for name, dtype in spec.features.items()
        ]

    def check(
        self, stage: FeaturesStage, signatures: Signatures, types: Mapping[str, ColumnType | None]
    ) -> Iterable[Finding]:
        views = signatures.features
        if views is None:
            return
        for view, spec in stage.views.items():
            if view in views:
                yield from _check_view(view, spec, views[view])
            else:
                yield Finding(f"views.{view}", f"there is no feature view {view!r}{suggestion(view, views)}")
        yield from _check_request(stage, views, types)


def _read_view(name: str, entry: Entry) -> ViewSpec:
    entry.check_name(name)
    fields = entry.fields(["features"], ["on_missing", "freshness"])
    features: dict[str, DType] = {}
    for feature, e in fields["features"].entries().items() if "features" in fields else ():
        e.check_name(feature)
        features[feature] = TYPE_NAMES[e.choice(TYPE_NAMES)]
    if "features" in fields and not features:
        fields["features"].fail("needs at least one feature")
    on_missing = _read_on_missing(fields["on_missing"]) if "on_missing" in fields else "default"
    freshness = _read_freshness(fields["freshness"], on_missing) if "freshness" in fields else None
    return ViewSpec(MappingProxyType(features), on_missing, freshness)


def _refuse_repeated(views: Mapping[str, ViewSpec], entry: Entry) -> None:
    """A feature has its name in the pipeline alone, so only one view may have it."""
    seen: dict[str, str] = {}
    for view, spec in views.items():
        for feature in spec.features:
            if feature in seen:
                entry.fail(f"feature {feature!r} is in the views {seen[feature]!r} and {view!r}")
            seen[feature] = view


def _read_on_missing(entry: Entry) -> OnMissing:
    return "refuse" if entry.choice(["default", "refuse"]) == "refuse" else "default"


def _read_freshness(entry: Entry, on_missing: OnMissing) -> Freshness | None:
    """`on_missing`: what `otherwise` is if the document does not say."""
    fields = entry.fields(["max_age"], ["stale", "otherwise"])
    if "max_age" not in fields:
        return None
    return Freshness(
        fields["max_age"].duration(_MILLISECOND_US, _MAX_AGE_US),
        fields["stale"].duration(0, _MAX_AGE_US) if "stale" in fields else 0,
        _read_on_missing(fields["otherwise"]) if "otherwise" in fields else on_missing,
    )


def _check_view(view: str, spec: ViewSpec, real: ViewSignature) -> Iterable[Finding]:
    for name, dtype in spec.features.items():
        found = real.features.get(name)
        if found is None:
            message = f"view {view!r} has no feature {name!r}{suggestion(name, real.features)}"
            yield Finding(f"views.{view}.features.{name}", message)
        elif found is not dtype:
            message = f"declared as {dtype.name.lower()}, the registry says {found.name.lower()}"
            yield Finding(f"views.{view}.features.{name}", message)
    if key := _beyond_ttl(spec, real):
        ttl = duration_text(real.ttl_us)
        message = f"view {view!r} lives for {ttl}, and older values are never used: allow no more in all"
        yield Finding(f"views.{view}.freshness.{key}", message)


def _beyond_ttl(spec: ViewSpec, real: ViewSignature) -> str:
    """The key of the freshness rule that allows what the time to live does not; "" if there is none."""
    rule = spec.freshness
    if rule is None or not real.ttl_us or rule.max_age_us + rule.stale_us <= real.ttl_us:
        return ""
    return "max_age" if rule.max_age_us > real.ttl_us else "stale"


def _check_request(
    stage: FeaturesStage, views: Mapping[str, ViewSignature], types: Mapping[str, ColumnType | None]
) -> Iterable[Finding]:
    """Is each on-demand view sent what it takes, and does any view take what is sent?"""
    sent = (*stage.entities, *stage.request)
    taken: dict[str, DType] = {}
    for view in stage.views:
        for name, dtype in views[view].request.items() if view in views else ():
            taken[name] = dtype
            column = types.get(name)
            if name not in sent:
                message = f"the on-demand view {view!r} takes {name!r} of the request: `request: [{name}]`"
                yield Finding("request", message)
            elif column is not None and not _fits_request(column, dtype):
                wanted = dtype.name.lower()
                message = f"column {name!r} is {column}, the on-demand view {view!r} takes {wanted}"
                yield Finding("request", message)
    for i, name in enumerate(stage.request):
        if name not in taken:
            message = f"no view of this stage takes {name!r}{suggestion(name, taken)}"
            yield Finding(f"request[{i}]", message)


def _fits_request(column: ColumnType, wanted: DType) -> bool:
    """As the features service reads it: one value per row, text for text and numbers for numbers."""
    return not column.row_shape and (column.dtype is DType.BYTES) == (wanted is DType.BYTES)


FEATURES = FeaturesKind()
