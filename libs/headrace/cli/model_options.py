"""What `headrace models` is told on the command line, read and checked."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli.console import fail
from headrace.cli.layout import Layout
from headrace.columns import DType
from headrace.repository import AccessLog, Repository, TensorSpec, Trust

_DTYPES = {"string": DType.BYTES, **{d.name.lower(): d for d in DType}}


@dataclass(frozen=True, slots=True)
class Place:
    """A repository and how it is used from here: its root, the keys, the access log."""

    layout: Layout
    elsewhere: str

    @property
    def root(self) -> Path | str:
        """The home's own repository, or the folder or URL that was named."""
        return self.elsewhere if "://" in self.elsewhere else Path(self.elsewhere or self.layout.models)

    @property
    def log(self) -> AccessLog:
        return AccessLog(self.layout.model_log, f"{_user()} (headrace models)")

    def repository(self, keys: Sequence[Path] = (), *, accept_unsigned: bool = False) -> Repository:
        """For reading as a service would: `keys`, or the home's own, are trusted."""
        trusted = tuple(keys) or tuple(p for p in [self.layout.model_public_key] if p.exists())
        # What this home remembers is about its own repository.
        memory = None if self.elsewhere else self.layout.model_memory
        return Repository(self.root, trust=Trust(trusted, accept_unsigned, memory), log=self.log)

    def shown(self) -> Repository:
        """For showing alone: no signature is looked at, nothing is recorded."""
        return Repository(self.root)

    def signing_key(self, key: Path | None, unsigned: bool) -> Path | None:
        """The private key to sign with; ends the command if there is none and nobody said that this is meant."""
        if unsigned and key is not None:
            fail("--key and --unsigned exclude each other")
        if unsigned:
            return None
        found = key or self.layout.model_key
        if not found.exists():
            fail(f"there is no key {found} to sign with; make one: headrace models keys (or say --unsigned)")
        return found


def tensors(texts: Sequence[str]) -> list[TensorSpec]:
    """`name:type` or `name:type:4,224,224`; the dimensions are those of one row."""
    return [_tensor(text) for text in texts]


def document(path: Path | None) -> dict[str, Any]:
    """A JSON object from a file; empty without one."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        fail(f"{path} holds no JSON ({error})")
    if not isinstance(found, dict):
        fail(f"{path} holds no JSON object")
    return found


def contents(paths: Sequence[Path]) -> dict[str, bytes]:
    """Files by name."""
    try:
        return {path.name: path.read_bytes() for path in paths}
    except OSError as error:
        fail(f"can't read {error.filename} ({error.strerror})")


def named(text: str) -> tuple[str, str]:
    """`NAME` or `NAME:VERSION`, also `NAME:LABEL`; the second is empty if absent."""
    name, _, version = text.partition(":")
    return name, version


def _tensor(text: str) -> TensorSpec:
    name, _, rest = text.partition(":")
    dtype, _, shape = rest.partition(":")
    sizes = [n for n in shape.split(",") if n]
    if not name or dtype not in _DTYPES or not all(n.isdecimal() and int(n) > 0 for n in sizes):
        fail(f"{text!r} is no tensor; as image:float32:224,224,3 (types: {', '.join(_DTYPES)})")
    return TensorSpec(name, _DTYPES[dtype], tuple(int(n) for n in sizes))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        return str(os.getuid())
