"""Shared by the preparations of pipelines: a lock, so that one runs at a time in a home; a signing key; a digest of code."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.cli.installation import layout
from headrace.repository import AccessLog, Repository, Trust
from headrace.repository.signing import key_pair

Report = Callable[[str, int, int], None]


def tell(step: str, done: int, total: int) -> None:
    """Prints a line of progress in the form that `headrace up` reads."""
    print(json.dumps({"step": step, "done": done, "total": total}), flush=True)


@contextmanager
def alone(home: Path, report: Report) -> Iterator[None]:
    """Holds the lock of this home, for which other preparations wait. The kernel releases it even after a kill -9."""
    layout.of(home).make_home()
    descriptor = os.open(home / "prepare.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another preparation of this home", 0, 1)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Models:
    """The home's model repository, to publish to. Models are signed with the home's key, which is created if it is missing."""

    def __init__(self, home: Path, who: str) -> None:
        place = layout.of(home)
        key_pair.ensure(place.model_key, place.model_public_key)
        self.root = place.models
        self.key = place.model_key
        self.log = AccessLog(place.model_log, who)
        self._trusted = Repository(self.root, trust=Trust((place.model_public_key,)))
        self._all = Repository(self.root)

    def made_from(self, name: str) -> str:
        """The digest of what the newest signed version was made from; empty if there is no version. Raises RepositoryError."""
        if not self._all.version_list(name).versions:
            return ""
        versions = [v for v in self._trusted.versions(name) if v in self._all.versions(name)]
        return str(self._all.metadata(name, versions[-1]).lineage.get("made_from", "")) if versions else ""

    def next_version(self, name: str) -> str:
        """The number of the next version: a published version never changes, so a new model needs a new number."""
        taken = [int(v) for v in self._all.versions(name) if v.isdecimal()]
        return str(max(taken, default=0) + 1)


def code_sha256(files: Iterable[Path]) -> str:
    """SHA-256 (hexadecimal) of the code of Python files; comments, docstrings and formatting do not change it."""
    digest = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = [s for s in node.body if not _is_text(s)]
        digest.update(f"{file.name}\0{ast.dump(tree)}\0".encode())
    return digest.hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
