"""The files of pipeline documents: read without trust in what lies in the folder."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.pipeline.document.entries import MAX_DOCUMENT_BYTES
from headrace.pipeline.document.parse import parse
from headrace.pipeline.problems import DocumentError, Problem
from headrace.pipeline.spec import Pipeline
from headrace.state import plain_files

FILE_NAME = "pipeline.yaml"


def load(path: Path) -> Pipeline:
    """The pipeline of a file. Raises DocumentError."""
    return parse(read(path), shown(path))


def read(path: Path) -> str:
    """The text of a document's file. Raises DocumentError.

    Only a regular file is read, and no more of it than a document may have: so whatever lies in its place (a device, a FIFO, a
    huge file) can neither block the reader nor fill its memory.
    """
    try:
        content = plain_files.read(path, MAX_DOCUMENT_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, in Python before 3.13
        raise _unreadable(path, f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_DOCUMENT_BYTES:
        raise _unreadable(path, f"is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(path, "is not UTF-8", content.count(b"\n", 0, error.start) + 1) from None


def _unreadable(path: Path, message: str, line: int = 1) -> DocumentError:
    return DocumentError([Problem(shown(path), line, "(file)", message)])


def shown(path: Path) -> str:
    """A path as text that can be printed, also if its bytes are no UTF-8."""
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
            problem = f"{pipeline.name!r} is the name of {other} too"
            problems.append(pipeline.source.problem("pipeline", problem))
        found[pipeline.name] = pipeline
    if problems:
        raise DocumentError(problems)
    return found
