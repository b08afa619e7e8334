"""The release document of one pipeline: its arms, who gets which, and what automation does with it.

It is JSON. `number` rises by one with each change; `sha256` is of the canonical JSON of everything else, so a document that was
altered by hand is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from headrace.pipeline.guards import Guard, GuardName
from headrace.releases.errors import ReleaseError
from headrace.releases.spans import LIVE as LIVE
from headrace.releases.spans import Span, placed, spans_of

# Release documents are read by every service; nobody writes a larger one on purpose.
MAX_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_WEIGHTS_OFF = 1e-9


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name begins with a letter and has at most 128 letters, digits, '_', '.' and '-'")
    return name


Name: TypeAlias = Annotated[str, AfterValidator(_named)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Scalar: TypeAlias = str | int | float | bool


class Part(BaseModel):
    """A part of the document: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(Part):
    """One way to answer. `version`, `revision`: number and content hash of the pipeline document; `models`: the version of each
    model that its stages run; `settings`: stage → setting → value, of stages whose kind lets a release set something (the
    threshold of a cascade)."""

    version: PositiveInt
    revision: str = Field(pattern=r"^[0-9a-f]{64}$")
    models: Mapping[Name, str] = Field(default_factory=dict)
    settings: Mapping[Name, Mapping[Name, Scalar]] = Field(default_factory=dict)


class OneOf(Part):
    """True for these values. Texts are compared with the UTF-8 of the column's bytes."""

    any: tuple[Scalar, ...] = Field(min_length=1, max_length=1000)


class Between(Part):
    """True from `min` to `max`, both included; None: open."""

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        return self


Condition: TypeAlias = OneOf | Between


class Rule(Part):
    """Rows for which every condition holds go to `arm`. The keys of `when`: an input column, `@tenant`, `@priority`, or
    `@attribute/NAME`, which the ingress derives from a header. A null meets no condition."""

    name: Name
    when: Mapping[str, Condition] = Field(min_length=1)
    arm: Name


class Assignment(Part):
    """Who gets which arm, if no rule says. `by`: the input column (or `@tenant`) whose value sticks to an arm; None: each
    request is drawn anew. `salt`: unlike that of any other rollout or experiment, so that they are independent.

    A key is hashed to a point of [0, 1). Each arm but `live` holds the points from its start up to its weight (`spans.py`), and
    `live` what is left. `starts`: the fixed starts, also of arms without a weight now; an arm without one gets one that depends
    on which arms have weights, so whoever changes which ones do keeps the starts (`placed` in `spans.py`).
    """

    weights: Mapping[Name, Share] = Field(min_length=1)
    by: str | None = None
    salt: str = ""
    starts: Mapping[Name, Share] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = math.fsum(self.weights.values())
        if abs(total - 1) > _WEIGHTS_OFF:
            raise ValueError(f"the weights add up to {total:g}, not to 1")
        for arm, start in self.starts.items():
            if arm == LIVE:
                raise ValueError(f"starts.{arm}: {LIVE!r} holds what is left, so it has no start")
            if start >= 1:
                raise ValueError(f"starts.{arm}: must be below 1")
        if len(set(self.starts.values())) < len(self.starts):
            raise ValueError("starts: two arms have the same")
        return self

    def spans(self) -> list[Span]:
        """Which arm holds which points of [0, 1), ascending; what none holds is the live arm's."""
        return spans_of(self.weights, placed(self.weights, self.starts))


class Partition(Part):
    """Rows with the same value of the input column `by` (or `@tenant`) go to the same replica of the executor; a replica that has
    more than `load_factor` × the mean passes its surplus on."""

    by: str
    load_factor: float = Field(default=1.25, ge=1.05, le=4)


class Cap(Part):
    """The most that requests may use of this pipeline in one router, all arms together.

    `shared`: in all routers together; each has its part of it. `session_by`: the input column (or `@tenant`) whose values are
    sessions, each tenant's its own. The rows of a second may come at once.
    """

    rows_per_s: PositiveFloat | None = None
    rows_in_flight: PositiveInt | None = None
    session_by: str | None = None
    session_rows_per_s: PositiveFloat | None = None
    shared: bool = False

    @model_validator(mode="after")
    def _session(self) -> Self:
        if (self.session_by is None) != (self.session_rows_per_s is None):
            raise ValueError("session_by and session_rows_per_s belong together")
        return self


class Shadow(Part):
    """A copy of `share` of the requests runs on `arm` after they were answered; its answers have no effect."""

    arm: Name
    share: Share = 1.0


class RolloutState(StrEnum):
    """Where a rollout is. Only a running one changes weights by itself."""

    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


class Rollout(Part):
    """The arm `arm` takes over from `live` step by step. `step`: index in `ladder`; `verdict`: the last one, with its figures.

    `alpha`: chance that an arm as good as the live one is rolled back; `fine_alpha`: that a worse one is promoted. `stage_s`:
    the least time at each weight. `budget_share`: of the error budget that is left, what a stage may use at worst. `deadline_s`:
    after so long without proof `otherwise` is done. `since`: number of the release that began it; 0: the analyser has yet to.
    """

    arm: Name
    ladder: tuple[Share, ...] = (0.01, 0.05, 0.25, 0.5, 1.0)
    step: int = Field(default=0, ge=0)
    guards: Mapping[GuardName, Guard] = Field(default_factory=dict)
    alpha: float = Field(default=0.01, gt=0, le=0.2)
    fine_alpha: float = Field(default=0.05, gt=0, le=0.5)
    stage_s: PositiveFloat = 30.0
    budget_share: Share = 0.1
    deadline_s: PositiveFloat = 7200.0
    otherwise: Literal["pause", "promote", "roll_back"] = "pause"
    state: RolloutState = RolloutState.RUNNING
    since: int = Field(default=0, ge=0)
    started: datetime | None = None
    verdict: str = ""

    @property
    def is_holdback(self) -> bool:
        """Whether it only keeps some rows for what was live before, until its deadline: a deployment's first hour."""
        return self.otherwise == "promote" and self.stage_s > self.deadline_s

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.ladder or list(self.ladder) != sorted(set(self.ladder)) or self.ladder[-1] != 1.0:
            raise ValueError("ladder: the weights must rise and end with 1")
        if self.step >= len(self.ladder):
            raise ValueError(f"step: the ladder has {len(self.ladder)} steps, counted from 0")
        return self


class Experiment(Part):
    """An A/B test between arms, read out by `outcome` (the name of a numeric outcome). `phase` rises when weights change, as
    figures of different weights must not be mixed."""

    name: Name
    arms: tuple[Name, ...] = Field(min_length=2)
    outcome: Name
    started: datetime | None = None
    phase: PositiveInt = 1


class Release(Part):
    """What is live for `pipeline`."""

    pipeline: Name
    number: PositiveInt
    parent: int = Field(default=0, ge=0)
    author: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    arms: Mapping[Name, Arm] = Field(min_length=1)
    assign: Assignment = Assignment(weights={LIVE: 1.0})
    rules: tuple[Rule, ...] = ()
    partition: Partition | None = None
    caps: Cap | None = None
    shadow: Shadow | None = None
    rollout: Rollout | None = None
    experiment: Experiment | None = None
    # Label → model → version.
    labels: Mapping[Name, Mapping[Name, str]] = Field(default_factory=dict)
    # Whether automation must leave this pipeline alone.
    frozen: bool = False
    # Number of the older release that this one brings back; 0: none.
    restores: int = Field(default=0, ge=0)
    # SHA-256 of the desired document that was applied last (`release apply`), so that applying it again changes nothing.
    applied: str = Field(default="", max_length=64)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if LIVE not in self.arms:
            raise ValueError(f"arms: one must be named {LIVE!r}")
        named = {f"assign.weights.{a}": a for a in self.assign.weights}
        named |= {f"rules[{i}].arm": rule.arm for i, rule in enumerate(self.rules)}
        if self.shadow:
            named["shadow.arm"] = self.shadow.arm
        if self.rollout and self.rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED):
            named["rollout.arm"] = self.rollout.arm
        if self.experiment:
            named |= {f"experiment.arms[{i}]": a for i, a in enumerate(self.experiment.arms)}
        for key, arm in named.items():
            if arm not in self.arms:
                raise ValueError(f"{key}: there is no arm {arm!r} (there are: {', '.join(self.arms)})")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("rules: two have the same name")
        return self

    @property
    def live(self) -> Arm:
        """The arm that requests are checked against."""
        return self.arms[LIVE]

    def models(self) -> set[tuple[str, str]]:
        """Every (model, version) that it names, labels included: what must stay in the repository."""
        arms = {pair for arm in self.arms.values() for pair in arm.models.items()}
        return arms | {pair for label in self.labels.values() for pair in label.items()}

    def revisions(self) -> set[str]:
        """Content hashes of the pipeline documents that it names."""
        return {arm.revision for arm in self.arms.values()}

    def next(self, author: str, reason: str, after: int | None = None, **changes: Any) -> Release:
        """The release that follows this one. `after`: the number that it follows, if newer ones can't be read.

        Raises ReleaseError if it would not be valid.
        """
        parent = self.number if after is None else after
        values = {**self.model_dump(mode="json"), **plain(changes)}
        values |= {"number": parent + 1, "parent": parent, "author": author, "reason": reason}
        values["at"] = datetime.now(UTC).isoformat()
        return validated(self.pipeline, values)


def plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON has them."""

    def one(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        if isinstance(value, Mapping):
            return {k: one(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [one(v) for v in value]
        return value

    return {k: one(v) for k, v in changes.items()}


def validated(pipeline: str, values: object) -> Release:
    """The release of plain values. Raises ReleaseError, which names each key that is wrong."""
    try:
        return Release.model_validate(values)
    except ValidationError as error:
        raise ReleaseError(pipeline, [_problem(e) for e in error.errors()]) from None


def _problem(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def to_bytes(release: Release) -> bytes:
    """The document's file: the content and its hash."""
    values = release.model_dump(mode="json", exclude_none=True)
    return json.dumps({**values, "sha256": digest(values)}, indent=1, sort_keys=True).encode() + b"\n"


def from_bytes(pipeline: str, content: bytes) -> Release:
    """The release of a document's file. Raises ReleaseError: unreadable, altered, or of another pipeline."""
    if len(content) > MAX_BYTES:
        raise ReleaseError(pipeline, [f"(document): larger than {MAX_BYTES} bytes"])
    try:
        values = json.loads(content)
        stored = values.pop("sha256")
        intact = stored == digest(values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ReleaseError(pipeline, ["(document): can't be read; it is no release document"]) from None
    if not intact:
        raise ReleaseError(pipeline, ["sha256: the document was altered after it was written"])
    release = validated(pipeline, values)
    if release.pipeline != pipeline:
        raise ReleaseError(pipeline, [f"pipeline: the document is that of {release.pipeline!r}"])
    return release


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON (keys sorted, no spaces, UTF-8), hexadecimal."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
