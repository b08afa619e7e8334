"""Whether a release fits the pipelines of its arms: the columns that its rules, assignment, partition and caps read.

`deploy` and the router call `check_inputs` before a release is taken. A column is an input of the live arm's pipeline, because
requests are checked against that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headrace.columns import DType
from headrace.pipeline.problems import suggestion
from headrace.pipeline.spec import InputField, Pipeline
from headrace.pipeline.types import ColumnType, scalar
from headrace.releases.document import Between, Condition, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.spans import LIVE

TENANT = "@tenant"
PRIORITY = "@priority"
ATTRIBUTE = "@attribute/"
# What stands for a signal that is no input column.
_TEXT = ColumnType(DType.BYTES, text=True)
_SIGNALS = {TENANT: _TEXT, PRIORITY: ColumnType(DType.INT64)}


def check_inputs(release: Release, pipelines: Mapping[str, Pipeline]) -> None:
    """Raises ReleaseError that names each key of the release that does not fit. `pipelines`: of every arm."""
    problems = [
        f"arms.{arm}: there is no pipeline document for it" for arm in release.arms if arm not in pipelines
    ]
    if not problems:
        inputs = {field.name: field for field in pipelines[LIVE].inputs}
        problems = [*_arms(release, pipelines, inputs), *_keys(release, inputs), *_rules(release, inputs)]
    if problems:
        raise ReleaseError(release.pipeline, problems)


def attributes(release: Release) -> frozenset[str]:
    """Names of the attributes that its rules read. Whoever makes the batches adds the column `@attribute/NAME` for each."""
    signals = {signal for rule in release.rules for signal in rule.when}
    return frozenset(s.removeprefix(ATTRIBUTE) for s in signals if s.startswith(ATTRIBUTE))


def signal_type(signal: str, inputs: Mapping[str, InputField]) -> ColumnType | None:
    """What a signal of a rule holds; None: there is none of this name."""
    if signal.startswith(ATTRIBUTE):
        return _TEXT if len(signal) > len(ATTRIBUTE) else None
    if signal in _SIGNALS:
        return _SIGNALS[signal]
    return inputs[signal].type if signal in inputs else None


def _arms(
    release: Release, pipelines: Mapping[str, Pipeline], inputs: Mapping[str, InputField]
) -> Iterator[str]:
    """Requests have the columns of the live arm, so another arm can read no others."""
    for arm in release.arms:
        for field in pipelines[arm].inputs:
            live = inputs.get(field.name)
            if live is None:
                yield (
                    f"arms.{arm}: its pipeline reads the input {field.name!r}, which that of the arm {LIVE!r} does not declare; "
                    "declare it there first"
                )
            elif not live.type.fits(field.type):
                yield f"arms.{arm}: its input {field.name!r} is {field.type}, that of the arm {LIVE!r} is {live.type}"


def _keys(release: Release, inputs: Mapping[str, InputField]) -> Iterator[str]:
    """The columns whose values are keys."""
    caps, partition = release.caps, release.partition
    keys = {
        "assign.by": release.assign.by,
        "partition.by": partition.by if partition else None,
        "caps.session_by": caps.session_by if caps else None,
    }
    for key, column in keys.items():
        if column is None or column == TENANT:
            continue
        if column not in inputs:
            yield f"{key}: {_unknown(column, inputs, [TENANT])}"
        elif inputs[column].row_shape:
            yield f"{key}: {column!r} is {inputs[column].type}; a key is a single value"


def _rules(release: Release, inputs: Mapping[str, InputField]) -> Iterator[str]:
    for i, rule in enumerate(release.rules):
        for signal, condition in rule.when.items():
            key = f"rules[{i}].when.{signal}"
            kind = signal_type(signal, inputs)
            if kind is None:
                yield f"{key}: {_unknown(signal, inputs, [TENANT, PRIORITY, f'{ATTRIBUTE}NAME'])}"
            elif kind.row_shape:
                yield f"{key}: is {kind}; a rule reads single values"
            else:
                problem = _misfit(condition, kind)
                if problem:
                    yield f"{key}{problem}"


def _misfit(condition: Condition, kind: ColumnType) -> str:
    if isinstance(condition, Between):
        if kind.dtype in (DType.BYTES, DType.BOOL):
            return f": is {kind}, which has no min and max; use `any`"
        return ""
    for i, value in enumerate(condition.any):
        try:
            # Texts are compared with the bytes of a column, whether these are declared as text or not.
            scalar(kind.dtype, kind.dtype is DType.BYTES, value)
        except ValueError as error:
            return f".any[{i}]: {error}"
    return ""


def _unknown(name: str, inputs: Mapping[str, InputField], others: list[str]) -> str:
    return f"the pipeline has no input {name[:80]!r}{suggestion(name, [*inputs, *others])}"
