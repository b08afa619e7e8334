"""A pipeline document: text → `Pipeline`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import cast, get_args

from headrace.columns import DType
from headrace.pipeline.checks.whole_numbers import misfits
from headrace.pipeline.document.cache_rule import read_cache
from headrace.pipeline.document.entries import Entry, Json, Log, compose
from headrace.pipeline.document.explanations import read_explanations
from headrace.pipeline.document.input_fields import read_inputs, read_range
from headrace.pipeline.document.objectives import read_objectives
from headrace.pipeline.guards import GUARDS, GuardAction
from headrace.pipeline.problems import DocumentError, Source, suggestion
from headrace.pipeline.spec import InputField, OutputField, Pipeline
from headrace.pipeline.stage_order import column_types, cut, plan
from headrace.pipeline.stages.registry import read_stages
from headrace.pipeline.types import ColumnType

MAX_DEADLINE_MS = 3_600_000
# A float64 has no more decimal digits.
MAX_DIGITS = 15
MAX_SEGMENTS = 50
_UNTYPED = ColumnType(DType.BYTES)


def parse(text: str, file: str) -> Pipeline:
    """The pipeline of a document; `file` names it in errors.

    Raises DocumentError with every problem found. Whether the stages fit together is checked only when each of them
    can be read.
    """
    log = Log(file)
    top = compose(text, log)
    fields = top.fields(
        ["pipeline", "version", "deadline_ms", "inputs", "stages", "outputs"],
        ["description", "objectives", "cache", "regulated", "explanations", "segments", "guards"],
    )
    inputs = read_inputs(fields.get("inputs"))
    stages = read_stages(fields.get("stages"))
    outputs = _read_outputs(fields["outputs"]) if "outputs" in fields else {}
    if "outputs" in fields and not outputs:
        fields["outputs"].fail("needs at least one column")
    deadline_ms = fields["deadline_ms"].integer(1, MAX_DEADLINE_MS) if "deadline_ms" in fields else 0
    draft = Pipeline(
        fields["pipeline"].name() if "pipeline" in fields else "",
        fields["version"].integer(1, (1 << 53) - 1) if "version" in fields else 0,
        revision_of(top.plain()),
        fields["description"].text() if "description" in fields else "",
        deadline_ms,
        inputs,
        stages,
        (),
        read_objectives(fields["objectives"], deadline_ms) if "objectives" in fields else None,
        log.source(),
        read_cache(fields.get("cache")),
        fields["regulated"].boolean() if "regulated" in fields else False,
        segments=_read_segments(fields.get("segments"), inputs),
        guards=_read_guards(fields.get("guards")),
    )
    log.raise_if_any()
    pipeline = _with_outputs(draft, outputs, fields["outputs"], log)
    if "cache" in fields and not log.problems and not cut(plan(pipeline)).tail.stages:
        fields["cache"].fail("there is nothing to cache: every stage is needed to read the features")
    if "explanations" in fields and not log.problems:
        pipeline = replace(pipeline, explanations=read_explanations(fields["explanations"], pipeline))
    log.raise_if_any()
    return pipeline


def revision_of(document: Json) -> str:
    """SHA-256 of the canonical JSON text of a document (keys sorted, no spaces, UTF-8), hexadecimal."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(text: str) -> str | None:
    """The revision of a document, whatever it says; None: it can't be read."""
    try:
        return revision_of(compose(text, Log("")).plain())
    except (DocumentError, ValueError, RecursionError):
        return None


def _read_segments(entry: Entry | None, inputs: Sequence[InputField]) -> tuple[str, ...]:
    """Names of inputs with few values."""
    if entry is None:
        return ()
    by_name, names = {field.name: field for field in inputs}, entry.names()
    for name in names:
        if name not in by_name:
            entry.fail(f"there is no input {name!r}{suggestion(name, by_name)}")
        elif not by_name[name].choices or by_name[name].pii:
            entry.fail(f"{name!r} needs `choices`, each of which is a segment, and no `pii`")
    count = sum(len(by_name[n].choices or ()) for n in names if n in by_name)
    if count > MAX_SEGMENTS:
        entry.fail(f"these inputs have {count} choices; at most {MAX_SEGMENTS} segments can be told apart")
    return names


def _read_guards(entry: Entry | None) -> dict[str, GuardAction]:
    found = entry.entries() if entry is not None else {}
    for name, action in found.items():
        if name not in GUARDS:
            action.fail(f"there is no guard {name!r}{suggestion(name, GUARDS)}")
    return {name: cast(GuardAction, action.choice(get_args(GuardAction))) for name, action in found.items()}


def _read_outputs(entry: Entry) -> dict[str, OutputField]:
    """The columns of the reply; nothing is known of their types yet."""
    found: dict[str, OutputField] = {}
    for item in entry.items():
        digits, ends = None, None
        if item.is_mapping:
            fields = item.fields(["column"], ["round", "range"])
            if "column" not in fields:
                continue
            name = fields["column"].name()
            if "round" in fields:
                digits = fields["round"].integer(0, MAX_DIGITS)
            ends = read_range(fields.get("range"))
        else:
            name = item.name()
        if name in found:
            item.fail(f"{name!r} is listed twice")
        found[name] = OutputField(name, _UNTYPED, digits, ends)
    return found


def _with_outputs(draft: Pipeline, outputs: Mapping[str, OutputField], entry: Entry, log: Log) -> Pipeline:
    """The pipeline with its outputs typed by the stages that write them."""
    try:
        plan(draft)
    except DocumentError as error:
        log.problems.extend(error.problems)
    else:
        log.problems.extend(misfits(replace(draft, source=log.source())))
    types = column_types(draft)
    found = []
    for i, (name, output) in enumerate(outputs.items()):
        kind = types.get(name)
        if kind is not None:
            found.append(replace(output, type=kind))
            if output.range is not None and kind.dtype in (DType.BYTES, DType.BOOL):
                log.add(f"{entry.key}[{i}].range", f"only numbers have a range; {name!r} is {kind}")
            if output.digits is not None and not kind.dtype.is_float:
                log.add(
                    f"{entry.key}[{i}].round", f"only floating-point numbers are rounded; {name!r} is {kind}"
                )
        elif name in types:
            example = f"{{column: {name}, type: float32, shape: […]}}"
            message = f"the model that writes {name!r} must say its type: `{example}`"
            log.add(f"{entry.key}[{i}]", message)
        else:
            log.add(f"{entry.key}[{i}]", f"no stage writes {name!r}{suggestion(name, types)}")
    return replace(draft, outputs=tuple(found), source=Source(log.file, MappingProxyType(dict(log.lines))))
