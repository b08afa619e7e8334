"""Shared by the preparations of pipelines: a lock, so that one runs at a time in a home; a signing key; what is due."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from headrace.cli.commands.models import prepared_models
from headrace.cli.installation import layout
from headrace.repository import Repository, Trust, UntrustedError, publish
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

    def __init__(self, home: Path) -> None:
        place = layout.of(home)
        key_pair.ensure(place.model_key, place.model_public_key)
        self.root = place.models
        self.key = place.model_key
        self._place = place
        self._repository = Repository(self.root, trust=Trust((place.model_public_key,)))

    def made_from(self, name: str) -> str:
        """The digest of what the newest version was made from; empty if there is none that is signed by the home's key. That one
        is noted, so that control lists it."""
        try:
            newest = self._repository.examine(name, self._repository.versions(name)[-1]).metadata
        except (IndexError, UntrustedError):
            return ""
        prepared_models.note(self._place, name, newest.version)
        return str(newest.lineage.get("made_from", ""))

    def publish(self, name: str, content: bytes, made_from: str, **about: Any) -> None:
        """The next version, made from what has the digest `made_from`; `about`: as of `headrace.repository.publish`."""
        # A published version never changes, so a new model needs a new number.
        taken = [int(v) for v in self._repository.versions(name) if v.isdecimal()]
        version = str(max(taken, default=0) + 1)
        about["lineage"] = {"made_from": made_from, **about.get("lineage", {})}
        publish(self.root, name, version, content, key=self.key, **about)
        prepared_models.note(self._place, name, version)


def note_models(home: Path) -> None:
    """Has the next `up` of a home list the newest versions of all its models: another home has prepared them."""
    place = layout.of(home)
    repository = Repository(place.models)
    for model in repository.models():
        prepared_models.note(place, model, repository.versions(model)[-1])


def package_folder(package: str) -> Path:
    """Where a package of data lies. It is not imported."""
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"the Python package {package} is not installed; run `make up` (it installs the lock)"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def input_stages(document: Path) -> str:
    """The stages of a document that make its models' inputs, as JSON."""
    stages = yaml.safe_load(document.read_text())["stages"]
    return json.dumps([s for s in stages if "features" in s or "preprocessing" in s])


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
