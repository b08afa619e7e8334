"""What a kind of stage brings to the document: its syntax, the columns that it reads and writes, and its offline checks.

To add a kind: write one file beside this one and name it in `registry.py`; what calls its service is in
`services/router/stages`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from headrace.columns import DType
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.types import ColumnType
from headrace.steps.value_ranges import Known, Values


class Stage(Protocol):
    """What every stage says, whatever its kind."""

    @property
    def kind(self) -> str:
        """The key that begins the stage in the document."""
        ...

    @property
    def name(self) -> str:
        """Its name, unlike that of any other stage of the pipeline."""
        ...


S = TypeVar("S", bound=Stage)
# The value of a setting in a release document.
Setting: TypeAlias = str | int | float | bool


class SettingError(ValueError):
    """A release sets something of a stage that can't be set, or to a value that does not fit. `setting`: its name."""

    def __init__(self, stage: str, setting: str, message: str) -> None:
        super().__init__(f"stage {stage!r}, setting {setting!r}: {message}")
        self.stage = stage
        self.setting = setting


class Written(NamedTuple):
    """A column that a stage writes. `type` None: only the model's signature tells. `key`: where the stage declares it."""

    column: str
    type: ColumnType | None
    key: str


class Finding(NamedTuple):
    """What is wrong with a stage. `key`: below the key of the stage itself, such as `views.weather`; may be empty."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a model takes and gives: tensor name → type of one row."""

    inputs: Mapping[str, ColumnType]
    outputs: Mapping[str, ColumnType]


@dataclass(frozen=True, slots=True)
class ViewSignature:
    """What a feature view gives: feature → type. `ttl_us`: the greatest age of its values; 0: any age. `request`: what an
    on-demand view takes from the request, name → type."""

    features: Mapping[str, DType]
    ttl_us: int = 0
    request: Mapping[str, DType] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signatures:
    """What a stage can be compared with offline: models and feature views by name. None: not known, so not checked."""

    models: Mapping[str, ModelSignature] | None = None
    features: Mapping[str, ViewSignature] | None = None


class StageKind(ABC, Generic[S]):
    """One kind of stage. `name`: the key that begins such a stage in the document, unlike that of any other kind."""

    name: str
    # Whether what it gives may change while its columns, the document and the models stay the same, as the values of features do.
    varies = False

    def answered_by(self, stage: S) -> str | None:  # noqa: ARG002 - for kinds that name what answers
        """Names what answers, as far as the document's text does not: versions of models. None: nobody knows for sure, so that
        no answer of the stage may be kept."""
        return None

    @abstractmethod
    def read(self, entry: Entry) -> S | None:
        """The stage of a document's entry. What is wrong is logged at its entry; None: too much to make a stage of it."""

    def check_document(self, stages: Sequence[S], entry: Entry) -> None:
        """Logs at `entry`, the list of stages, what is wrong with all stages of this kind together."""

    @abstractmethod
    def reads(self, stage: S) -> Mapping[str, str]:
        """Each column that the stage is sent, and the key in the stage that names it."""

    @abstractmethod
    def writes(self, stage: S) -> Sequence[Written]:
        """The columns that come back; one that is named twice is in the list twice."""

    def output_types(self, stage: S, signatures: Signatures) -> Mapping[str, ColumnType | None]:  # noqa: ARG002 - for kinds that need it
        """The type of each column that it writes, as far as it can be known."""
        return {written.column: written.type for written in self.writes(stage)}

    def check(
        self,
        stage: S,  # noqa: ARG002 - for kinds that have something to check
        signatures: Signatures,  # noqa: ARG002 - likewise
        types: Mapping[str, ColumnType | None],  # noqa: ARG002 - likewise
    ) -> Iterable[Finding]:
        """What does not fit. `types`: of every column of the pipeline; None: not known."""
        return ()

    def models(self, stage: S) -> Mapping[str, str]:  # noqa: ARG002 - for kinds that run models
        """The models that it runs: name → version, "" for one that the document leaves open."""
        return {}

    def pinned(self, stage: S, models: Mapping[str, str], settings: Mapping[str, Setting]) -> S:  # noqa: ARG002 - for kinds that run models
        """The stage as a release has it. `models`: version of each model by name, also of models of other stages; one that is
        absent stays as the document says. `settings`: by name, only of this stage.

        Raises SettingError for a setting that the stage does not have, or a value that it can't take.
        """
        refuse_unknown_settings(stage, settings, ())
        return stage

    def flow(
        self,
        stage: S,
        given: Mapping[str, Values],  # noqa: ARG002 - for kinds that compute
        types: Mapping[str, ColumnType | None],
    ) -> Known:
        """What the columns that it writes can hold if the columns of the pipeline hold `given`; any value of their type."""
        found = {w.column: w.type or types.get(w.column) for w in self.writes(stage)}
        return Known({name: Values.of(kind.dtype if kind else None) for name, kind in found.items()})


def refuse_unknown_settings(stage: Stage, settings: Iterable[str], known: Sequence[str]) -> None:
    """Raises SettingError for the first setting that is not among `known`."""
    for name in settings:
        if name not in known:
            hint = suggestion(name, known) if known else f"; a {stage.kind} stage has no settings"
            raise SettingError(stage.name, name, f"there is no such setting{hint}")
