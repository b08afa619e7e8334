"""What preparations of pipelines have in common: one at a time in a home, a key to sign with, what code says."""

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
from headrace.repository import AccessLog, Repository, Trust, keys

Report = Callable[[str, int, int], None]


def tell(step: str, done: int, total: int) -> None:
    """A line of progress as `headrace up` reads it."""
    print(json.dumps({"step": step, "done": done, "total": total}), flush=True)


@contextmanager
def alone(home: Path, report: Report) -> Iterator[None]:
    """Keeps other preparations of this home waiting; the kernel gives the lock back even after a kill -9."""
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
    """The home's repository, to publish into: signed with the home's key, which is made if need be."""

    def __init__(self, home: Path, who: str) -> None:
        place = layout.of(home)
        keys.ensure(place.model_key, place.model_public_key)
        self.root = place.models
        self.key = place.model_key
        self.log = AccessLog(place.model_log, who)
        self._trusted = Repository(self.root, trust=Trust((place.model_public_key,)))
        self._all = Repository(self.root)

    def made_from(self, name: str) -> str:
        """What the newest signed version says it was made from; empty if there is none. Raises RepositoryError."""
        if not self._all.releases(name).versions:
            return ""
        versions = [v for v in self._trusted.versions(name) if v in self._all.versions(name)]
        return str(self._all.metadata(name, versions[-1]).lineage.get("made_from", "")) if versions else ""

    def next_version(self, name: str) -> str:
        """A published version never changes, so a model that is made anew gets a new number."""
        taken = [int(v) for v in self._all.versions(name) if v.isdecimal()]
        return str(max(taken, default=0) + 1)


def code_sha256(files: Iterable[Path]) -> str:
    """Hexadecimal digest of what Python files do: comments, docstrings and layout leave it as it is."""
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
