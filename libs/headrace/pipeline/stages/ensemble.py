"""`ensemble` stages: several models answer each row, and their answers become one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from headrace.columns import DType
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.stages.kind import (
    Finding,
    Setting,
    SettingError,
    Signatures,
    StageKind,
    Written,
    refuse_unknown_settings,
)
from headrace.pipeline.stages.model import (
    ModelOutput,
    ModelStage,
    check_model,
    model_output_types,
    read_columns,
    read_model,
    read_output,
)
from headrace.pipeline.types import ColumnType

Combine: TypeAlias = Literal["mean", "vote"]
# Each member that is missing is a fallback, of which a batch has at most 64.
MAX_MEMBERS = 16
_MAX_BUDGET_MS = 600_000
_MAX_WEIGHT = 1e6
_QUORUM = "quorum"
_WEIGHT = "weight."


@dataclass(frozen=True, slots=True)
class Member:
    """One model of an ensemble; `model` has one output, the ensemble's column.

    `required`: a row that this member fails is failed. `budget_ms`: the most time that it may take of a row's; None: what is
    left of it, for an optional member half of that.
    """

    model: ModelStage
    weight: float = 1.0
    required: bool = False
    budget_ms: float | None = None


@dataclass(frozen=True, slots=True)
class EnsembleStage:
    """Runs all members on every row. `quorum`: how many must answer a row. `parallel`: at the same time, else in this order."""

    kind: ClassVar[str] = "ensemble"

    name: str
    members: Mapping[str, Member]
    combine: Combine
    into: ModelOutput
    quorum: int
    parallel: bool = True


class EnsembleKind(StageKind[EnsembleStage]):
    name = EnsembleStage.kind

    def read(self, entry: Entry) -> EnsembleStage | None:
        required = ["ensemble", "members", "combine", "into"]
        fields = entry.fields(required, [_QUORUM, "order"])
        if not set(required) <= fields.keys():
            return None
        name, into = fields["ensemble"].name(), read_output(fields["into"])
        members = {}
        for member, e in fields["members"].entries().items():
            e.check_name(member)
            found = _read_member(name, e, into)
            if found is not None:
                members[member] = found
        if not 2 <= len(fields["members"].entries()) <= MAX_MEMBERS:
            fields["members"].fail(f"needs from 2 to {MAX_MEMBERS} members")
        _refuse_repeated(members, fields["members"])
        least = max(1, sum(m.required for m in members.values()))
        quorum = fields[_QUORUM].integer(1, max(len(members), 1)) if _QUORUM in fields else least
        combine: Combine = "vote" if fields["combine"].choice(["mean", "vote"]) == "vote" else "mean"
        if message := _misfit(combine, into.type):
            fields["into"].fail(message)
        order = fields["order"].choice(["parallel", "serial"]) if "order" in fields else "parallel"
        return EnsembleStage(name, MappingProxyType(members), combine, into, quorum, order == "parallel")

    def reads(self, stage: EnsembleStage) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for name, member in stage.members.items():
            for column, key in read_columns(member.model).items():
                found.setdefault(column, f"members.{name}.{key}")
        return found

    def writes(self, stage: EnsembleStage) -> list[Written]:
        return [Written(stage.into.column, stage.into.type, "into")]

    def models(self, stage: EnsembleStage) -> Mapping[str, str]:
        return {m.model.model: m.model.version for m in stage.members.values()}

    def answered_by(self, stage: EnsembleStage) -> str | None:
        # A release may set weights and quorum, so the document does not tell.
        members = stage.members.values()
        if not all(member.model.version for member in members):
            return None
        named = [f"{m.model.model}:{m.model.version} {m.weight!r}" for m in members]
        return f"{' + '.join(named)} {stage.quorum!r}"

    def pinned(
        self, stage: EnsembleStage, models: Mapping[str, str], settings: Mapping[str, Setting]
    ) -> EnsembleStage:
        refuse_unknown_settings(stage, settings, (_QUORUM, *(_WEIGHT + name for name in stage.members)))
        members = {
            name: replace(
                member,
                model=replace(member.model, version=models.get(member.model.model, member.model.version)),
                weight=_weight(stage, _WEIGHT + name, settings.get(_WEIGHT + name, member.weight)),
            )
            for name, member in stage.members.items()
        }
        quorum = _quorum(stage, settings.get(_QUORUM, stage.quorum))
        return replace(stage, members=MappingProxyType(members), quorum=quorum)

    def output_types(self, stage: EnsembleStage, signatures: Signatures) -> Mapping[str, ColumnType | None]:
        column, kind = stage.into.column, stage.into.type
        for member in stage.members.values():
            kind = kind or model_output_types(member.model, signatures)[column]
        return {column: kind}

    def check(
        self, stage: EnsembleStage, signatures: Signatures, types: Mapping[str, ColumnType | None]
    ) -> Iterable[Finding]:
        kind = self.output_types(stage, signatures)[stage.into.column]
        for name, member in stage.members.items():
            for key, message in check_model(member.model, signatures, types):
                # A member names its only output in `output`.
                at = "output" if key.startswith("outputs") else key
                yield Finding(f"members.{name}.{at}", message)
            other = model_output_types(member.model, signatures)[stage.into.column]
            if stage.into.type is None and kind and other and not kind.fits(other):
                yield Finding(f"members.{name}.output", f"is {other}, that of another member is {kind}")
        if stage.into.type is None and (message := _misfit(stage.combine, kind)):
            yield Finding("into", message)


def _read_member(stage: str, entry: Entry, into: ModelOutput) -> Member | None:
    required = ["name", "inputs", "output"]
    fields = entry.fields(required, ["version", "weight", "required", "budget_ms"])
    if not set(required) <= fields.keys():
        return None
    return Member(
        read_model(stage, fields, {fields["output"].text(): into}),
        _read_weight(fields["weight"]) if "weight" in fields else 1.0,
        fields["required"].boolean() if "required" in fields else False,
        fields["budget_ms"].number(1, _MAX_BUDGET_MS) if "budget_ms" in fields else None,
    )


def _read_weight(entry: Entry) -> float:
    weight = entry.number(0, _MAX_WEIGHT)
    if weight == 0:
        entry.fail("should be above 0: leave a member out that has no say")
    return weight


def _refuse_repeated(members: Mapping[str, Member], entry: Entry) -> None:
    seen: dict[str, str] = {}
    for name, member in members.items():
        model = member.model.model
        if model in seen:
            entry.fail(
                f"{seen[model]!r} and {name!r} run the model {model!r}; a release gives each model one version, so they need "
                "two names"
            )
        seen[model] = name


def _misfit(combine: Combine, kind: ColumnType | None) -> str:
    """What is wrong with the type of the combined column; "" if nothing is, or the type is not known."""
    if kind is None:
        return ""
    if combine == "mean" and not kind.dtype.is_float:
        return f"is {kind}; a mean needs floats"
    if combine == "vote" and (kind.dtype.is_float or kind.dtype is DType.BYTES or kind.row_shape):
        return f"is {kind}; votes are for one whole number or bool per row"
    return ""


def _weight(stage: EnsembleStage, setting: str, value: Setting) -> float:
    if isinstance(value, bool | str) or not 0 < value <= _MAX_WEIGHT or math.isnan(value):
        raise SettingError(
            stage.name, setting, f"should be a number above 0 and at most {_MAX_WEIGHT:g}, is {value!r}"
        )
    return float(value)


def _quorum(stage: EnsembleStage, value: Setting) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= len(stage.members):
        message = f"should be an integer from 1 to {len(stage.members)}, the number of members; is {value!r}"
        raise SettingError(stage.name, _QUORUM, message)
    return value


ENSEMBLE = EnsembleKind()
