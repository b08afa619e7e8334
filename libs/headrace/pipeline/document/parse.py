"""A pipeline document: text → `Pipeline`."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from headrace.pipeline.checks.whole_numbers import misfits
from headrace.pipeline.document.entries import MAX_DOCUMENT_BYTES, Entry, Json, Log, compose
from headrace.pipeline.document.input_fields import read_inputs
from headrace.pipeline.problems import DocumentError, Problem, Source, suggestion
from headrace.pipeline.spec import OutputField, Pipeline
from headrace.pipeline.stage_order import column_types, plan
from headrace.pipeline.stages.registry import read_stages

FILE_NAME = "pipeline.yaml"
# Tells one content of a file from another without reading it.
Stamp: TypeAlias = tuple[int, int, int]
MAX_DEADLINE_MS = 3_600_000
# A float64 has not more.
MAX_DIGITS = 15


def load(path: Path) -> Pipeline:
    """The pipeline of a file. Raises DocumentError."""
    return parse(read(path), shown(path))


def read(path: Path) -> str:
    """The text of a document's file. Raises DocumentError.

    Nothing that may stand in its place can hold the reader up or fill its memory: only a regular file is read, and no
    more of it than a document may have.
    """
    try:
        # Looked at first, as opening a device may do something; opened without waiting, as a FIFO has no writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, "is no regular file")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unreadable(path, "is no regular file")
            content = file.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, in Python before 3.13
        raise _unreadable(path, f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_DOCUMENT_BYTES:
        raise _unreadable(path, f"is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(path, "is not UTF-8", content.count(b"\n", 0, error.start) + 1) from None


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _unreadable(path: Path, message: str, line: int = 1) -> DocumentError:
    return DocumentError([Problem(shown(path), line, "(file)", message)])


def shown(path: Path) -> str:
    """A path as text that can be written anywhere, whatever bytes it is of."""
    return os.fsencode(path).decode(errors="backslashreplace")


def load_folder(path: Path) -> dict[str, Pipeline]:
    """The pipelines of a folder by name: one `pipeline.yaml` per subfolder.

    Raises DocumentError with the problems of all of them, also when two have one name.
    """
    found: dict[str, Pipeline] = {}
    problems: list[Problem] = []
    for file in sorted(path.glob(f"*/{FILE_NAME}")):
        try:
            pipeline = load(file)
        except DocumentError as error:
            problems.extend(error.problems)
            continue
        if pipeline.name in found:
            other = found[pipeline.name].source.file
            problems.append(
                pipeline.source.problem("pipeline", f"{pipeline.name!r} is the name of {other} too")
            )
        found[pipeline.name] = pipeline
    if problems:
        raise DocumentError(problems)
    return found


def parse(text: str, file: str) -> Pipeline:
    """The pipeline of a document; `file` names it in errors.

    Raises DocumentError with every problem found. Stages that do not fit together are looked for only when
    each of them can be read.
    """
    log = Log(file)
    top = compose(text, log)
    fields = top.fields(
        ["pipeline", "version", "deadline_ms", "inputs", "stages", "outputs"], ["description"]
    )
    inputs = read_inputs(fields.get("inputs"))
    stages = read_stages(fields.get("stages"))
    outputs = _read_outputs(fields["outputs"]) if "outputs" in fields else {}
    if "outputs" in fields and not outputs:
        fields["outputs"].fail("needs at least one column")
    draft = Pipeline(
        fields["pipeline"].name() if "pipeline" in fields else "",
        fields["version"].integer(1, (1 << 53) - 1) if "version" in fields else 0,
        revision_of(top.plain()),
        fields["description"].text() if "description" in fields else "",
        fields["deadline_ms"].integer(1, MAX_DEADLINE_MS) if "deadline_ms" in fields else 0,
        inputs,
        stages,
        (),
        log.source(),
    )
    log.raise_if_any()
    pipeline = _with_outputs(draft, outputs, fields["outputs"], log)
    log.raise_if_any()
    return pipeline


def revision_of(document: Json) -> str:
    """SHA-256 of the one JSON text of a document (keys sorted, no spaces, UTF-8), hexadecimal."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_outputs(entry: Entry) -> dict[str, int | None]:
    """The columns of the answer, with the digits that their numbers are rounded to."""
    found: dict[str, int | None] = {}
    for item in entry.items():
        digits = None
        if item.is_mapping:
            fields = item.fields(["column"], ["round"])
            if "column" not in fields:
                continue
            name = fields["column"].name()
            if "round" in fields:
                digits = fields["round"].integer(0, MAX_DIGITS)
        else:
            name = item.name()
        if name in found:
            item.fail(f"{name!r} is listed twice")
        found[name] = digits
    return found


def _with_outputs(draft: Pipeline, outputs: Mapping[str, int | None], entry: Entry, log: Log) -> Pipeline:
    """The pipeline with its outputs typed by the stages that write them."""
    try:
        plan(draft)
    except DocumentError as error:
        log.problems.extend(error.problems)
    else:
        log.problems.extend(misfits(replace(draft, source=log.source())))
    types = column_types(draft)
    found = []
    for i, (name, digits) in enumerate(outputs.items()):
        kind = types.get(name)
        if kind is not None:
            found.append(OutputField(name, kind, digits))
            if digits is not None and not kind.dtype.is_float:
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
