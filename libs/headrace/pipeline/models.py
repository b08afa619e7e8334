"""Models as the router and the ingress speak of them: those that took part in a prediction, those in the repository.

The messages of their contracts have the same fields, so one function each reads and writes them here. The messages are
known by their fields alone: this library imports no generated code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.message import Message

from headrace.columns import Batch

MODELS_USED = "@models/"
"""Prefix of the annotation (uint32) of a stage with several models: bit i of a row for the i-th of the stage's ModelUses."""


# Not frozen, see `Column`; no tuple either: the store of events writes its fields with their names.
@dataclass(slots=True, unsafe_hash=True)
class ModelUse:
    """A model that took part in a prediction. `sha256`: of its artifact, hexadecimal. `backend`: what ran it. `standby`: this
    was not the model's first choice of backend. `cold_start`: the rows waited until the model was loaded again."""

    stage: str
    model: str
    version: str
    sha256: str
    backend: str = ""
    standby: bool = False
    cold_start: bool = False


# A message names a model with the same fields.
_model_use = attrgetter(*ModelUse.__slots__)


def read_model_uses(messages: Iterable[Message]) -> list[ModelUse]:
    return [ModelUse(*_model_use(m)) for m in messages]


def write_model_uses(models: Iterable[ModelUse], field: Any) -> None:
    for m in models:
        field.add(**dict(zip(ModelUse.__slots__, _model_use(m), strict=True)))


class Decision(NamedTuple):
    """One route through a pipeline that rows took, and why: the revision that served, and the models that ran.

    `route`: name of the release's arm. `release`: its number; 0: there is none. `rule`: what chose the arm; "": the weights.
    `sticky`: the row's key decided, so its next request takes the same arm.
    """

    version: int
    revision: str
    route: str
    models: Sequence[ModelUse]
    release: int = 0
    rule: str = ""
    sticky: bool = False


def models_of(decision: Decision, batch: Batch) -> Sequence[ModelUse]:
    """The models of a decision that took part in any row of `batch`, which may hold only some of the rows that it is about."""
    models = decision.models
    if len(models) < 2:
        return models
    found: list[ModelUse] = []
    for stage, uses in groupby(models, key=attrgetter("stage")):
        column = batch.columns.get(MODELS_USED + stage)
        if column is None:
            found.extend(uses)
            continue
        bits = 0
        for row in column.array.tolist():
            bits |= row
        found.extend(use for i, use in enumerate(uses) if bits >> i & 1)
    return found


class ModelState(IntEnum):
    """State of a version in the repository, numbered as headrace.api.executor.v1.ModelState."""

    UNLOADED = 1
    LOADING = 2
    ACTIVE = 3
    ASLEEP = 4

    @classmethod
    def _missing_(cls, value: object) -> ModelState:  # noqa: ARG003 - enum's own signature
        # A state that only a newer executor knows: nothing may be sent to the version.
        return cls.UNLOADED


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """A version in the model repository. `progress`: while it is being loaded, how far that is, in words."""

    name: str
    version: str
    state: ModelState
    progress: str


def read_index(messages: Iterable[Any]) -> list[IndexedModel]:
    return [IndexedModel(m.name, m.version, ModelState(m.state), m.progress) for m in messages]


def write_index(models: Iterable[IndexedModel], field: Any) -> None:
    for m in models:
        field.add(name=m.name, version=m.version, state=int(m.state), progress=m.progress)
