"""Stored events as records that can be run again, and why others can't be.

What an event was made by is looked up: the document, the arm and the versions of the models of its release, whose files must be
the same. Inputs and feature values are those of the event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import Candidate, ReplayError, candidate
from headrace.columns import ANNOTATION, Batch, Column, Rows
from headrace.events import CODE, REASON, ROW, EventGroup, GroupHeader, prediction_id
from headrace.hop.errors import Code, Reason, reason_name
from headrace.pipeline import ModelUse, Pipeline, kind_of
from headrace.releases import LIVE
from headrace.repository import Repository, RepositoryError

# What features stages say of their values, beside the values.
_OF_FEATURES = ("@age_us/", "@source/")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Rows of one run that were answered without errors. `features`: columns and annotations that the features stages gave, by
    name; `answer`: outputs, its rows are those of `inputs`; `models`: that ran."""

    inputs: Batch
    features: Mapping[str, Column]
    answer: Batch
    models: Sequence[ModelUse]


class Basis(NamedTuple):
    """What made events: the arm of a release, as its document was then."""

    pipeline: str
    release: int
    arm: str
    revision: str


class Replayable:
    """Sorts events into those that can be run again and others. `records`: by what they are run on, in the order of their events;
    `left_out`: why so many other events can't be run."""

    def __init__(self, layout: Layout, models: Mapping[str, str], release: int | None) -> None:
        """What events are run on instead of what made them: other versions (name → version or label), the live arm of a
        release; None: the release and arm of each event."""
        self.records: dict[Basis, tuple[Candidate, list[Record]]] = {}
        self.left_out: Counter[str] = Counter()
        self._layout, self._instead, self._release = layout, models, release
        self._repository = Repository(layout.models)
        self._candidates: dict[Basis, Candidate | str] = {}
        self._models: dict[ModelUse, str] = {}

    def add(self, groups: Iterable[EventGroup]) -> None:
        """Adds events."""
        for group in groups:
            header = group.header
            basis = Basis(header.pipeline, header.release, header.arm, header.revision)
            chosen = self._candidate(basis)
            why = chosen if isinstance(chosen, str) else self._hindrance(header, chosen)
            if why or isinstance(chosen, str):
                self.left_out[why] += len(group)
                continue
            rows = self._answered(group)
            if len(rows):
                self.records.setdefault(basis, (chosen, []))[1].append(record_of(group, rows))

    def _candidate(self, basis: Basis) -> Candidate | str:
        """What events of the basis are run on; else why they can't be."""
        known = self._candidates.get(basis)
        if known is None:
            try:
                known = self._made(basis)
            except ReplayError as error:
                known = str(error)
            self._candidates[basis] = known
        return known

    def _made(self, basis: Basis) -> Candidate | str:
        if self._release is not None:
            return candidate(self._layout, basis.pipeline, self._release, LIVE, self._instead)
        if not basis.release:
            return "they were answered without a release, so it is not known what their document was"
        made = candidate(self._layout, basis.pipeline, basis.release, basis.arm, self._instead)
        if made.pipeline.revision != basis.revision:
            return f"release {basis.release} of {basis.pipeline} has another document now"
        return made

    def _hindrance(self, header: GroupHeader, chosen: Candidate) -> str:
        """Why no event of a group can be run; "": nothing is in the way."""
        if not header.outputs:
            return "none of their outputs was kept"
        return _lacking(header, chosen.pipeline) or next(
            filter(None, map(self._changed, self._own(header))), ""
        )

    def _own(self, header: GroupHeader) -> list[ModelUse]:
        """The models of the events that are run again as they were."""
        if self._release is not None:
            return []
        return [used for used in header.models if used.model not in self._instead]

    def _changed(self, used: ModelUse) -> str:
        """Whether the version of a model is not what it was."""
        known = self._models.get(used)
        if known is None:
            name = f"version {used.version} of model {used.model}"
            try:
                found = self._repository.metadata(used.model, used.version).sha256
            except RepositoryError:
                known = f"{name} is not in the repository any more"
            else:
                known = "" if found == used.sha256 else f"{name} is another file now"
            self._models[used] = known
        return known

    def _answered(self, group: EventGroup) -> NDArray[np.intp]:
        """Positions of the events that have an answer to compare with."""
        codes, reasons = group.batch.columns[CODE].array, group.batch.columns[REASON].array
        for code, reason in zip(codes[codes != 0].tolist(), reasons[codes != 0].tolist(), strict=True):
            name = reason_name(reason) if reason in Reason.values() else str(reason)
            self.left_out[f"they had no answer: {Code(code).name} {name}"] += 1
        return np.flatnonzero(codes == 0)


def record_of(group: EventGroup, rows: NDArray[np.intp]) -> Record:
    """Some events of a group as a recorded batch; its requests are named as predictions."""
    header, batch = group.header, group.batch.take(rows)
    columns, count = batch.columns, len(batch)
    ids = [
        prediction_id(request, row)
        for request, row in zip(batch.rows.request_ids, columns[ROW].array.tolist(), strict=True)
    ]
    named = Rows(ids, batch.rows.tenants, [1] * count, [0.0] * count, [""] * count)
    known = [name for name in header.inputs if name not in header.masked]
    told = [name for name in columns if name.startswith(_OF_FEATURES)]
    outputs = [n for n in header.outputs if n not in header.masked and not n.startswith(ANNOTATION)]
    return Record(
        Batch(named, {name: columns[name] for name in known}),
        {name: columns[name] for name in (*header.features, *told)},
        Batch(named, {name: columns[name] for name in outputs}),
        header.models,
    )


def _lacking(header: GroupHeader, pipeline: Pipeline) -> str:
    """What the pipeline reads and the events do not have; "": they have it all."""
    declared = {i.name for i in pipeline.inputs}
    read = {name for s in pipeline.stages if not kind_of(s).varies for name in kind_of(s).reads(s)}
    read |= {output.name for output in pipeline.outputs}
    for name in sorted(declared & read):
        if name in header.masked:
            return f"the input {name!r} is personal data, of which events have only a hash"
        if name in header.omitted:
            return f"the input {name!r} is too large to be kept in events (`events.max_value_bytes` of the router)"
        if name not in header.inputs:
            return f"the pipeline that answered had no input {name!r}"
    for stage in pipeline.stages:
        for written in kind_of(stage).writes(stage) if kind_of(stage).varies else ():
            if written.column in header.omitted:
                return f"the feature {written.column!r} is too large to be kept in events"
            if written.column not in header.features:
                return f"the pipeline that answered did not read the feature {written.column!r}"
    return ""
