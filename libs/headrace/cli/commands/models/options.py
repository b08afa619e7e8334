"""The options of `headrace models`, read and checked."""

from __future__ import annotations

import errno
import getpass
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.catalog.remote import RemoteRecords
from headrace.cli.commands.access import control as access
from headrace.cli.console import fail
from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.columns import DType
from headrace.repository import AccessLog, Repository, RepositoryError, TensorSpec, Trust
from headrace.repository.model_index import all_indexes
from headrace.repository.names import may_name
from headrace.state import plain_files

Root = Annotated[
    str, typer.Option("--root", help="Another repository: a folder, or a URL that fsspec knows.")
]
Key = Annotated[
    Path | None, typer.Option("--key", help="Private key to sign with; models.key of the home if absent.")
]
Unsigned = Annotated[bool, typer.Option("--unsigned", help="Do not sign; readers must accept that.")]
Model = Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is its newest version.")]
Name = Annotated[str, typer.Argument(help="Name of the model.")]

_MIB = 1 << 20
_DOCUMENT_MIB = 16
_DTYPES = {"string": DType.BYTES, **{d.name.lower(): d for d in DType}}


@dataclass(frozen=True, slots=True)
class RepositoryPlace:
    """The repository that a command uses: its root, the keys, the access log. `elsewhere`: the option `--root`."""

    layout: Layout
    elsewhere: str

    @property
    def root(self) -> Path | str:
        """The home's own repository, or the folder or URL that was named."""
        return self.elsewhere if "://" in self.elsewhere else Path(self.elsewhere or self.layout.models)

    @property
    def log(self) -> AccessLog:
        return AccessLog(self.layout.model_log, f"{user()} (headrace models)")

    def repository(self, keys: Sequence[Path] = (), *, accept_unsigned: bool = False) -> Repository:
        """For reading as a service does. Trusts `keys`, or the home's own key if there are none."""
        trusted = tuple(keys) or tuple(p for p in [self.layout.model_public_key] if p.exists())
        return self._listed(Trust(trusted, accept_unsigned), self.log)

    def shown(self) -> Repository:
        """For showing only: checks no signature and records nothing."""
        return self._listed()

    @contextmanager
    def records(self) -> Iterator[RemoteRecords | None]:
        """The control that lists the models, or ends the command; None: `--root` names files that no control lists, unless the
        home's settings name one."""
        if self.elsewhere and not control_place.settings(self.layout).store:
            yield None
            return
        with access.records(self.layout.home) as found:
            yield found

    def _listed(self, trust: Trust | None = None, log: AccessLog | None = None) -> Repository:
        """By the index that control has; while the home's own is away, what has a folder."""
        if not self.elsewhere:
            return control_place.models(self.layout, trust, log)
        with self.records() as found:
            index = all_indexes(found).get if found else None
        return Repository(self.root, trust=trust, index=index, log=log)

    def signing_key(self, key: Path | None, unsigned: bool) -> Path | None:
        """The private key to sign with, None if `unsigned`; ends the command if there is no key."""
        if unsigned and key is not None:
            fail("--key and --unsigned exclude each other")
        if unsigned:
            return None
        found = key or self.layout.model_key
        if not found.exists():
            fail(f"there is no key {found} to sign with; make one: headrace models keys (or say --unsigned)")
        return found


@contextmanager
def refusals_told() -> Iterator[None]:
    """What the repository refuses within ends the command with its sentence."""
    try:
        yield
    except RepositoryError as error:
        fail(str(error))


def tensors(texts: Sequence[str]) -> list[TensorSpec]:
    """`name:type` or `name:type:4,224,224`; the dimensions are those of one row."""
    return [_tensor(text) for text in texts]


def document(path: Path | None) -> dict[str, Any]:
    """A JSON object from a file; empty without one."""
    if path is None:
        return {}
    try:
        found = json.loads(content(path, _DOCUMENT_MIB))
    except (ValueError, RecursionError) as error:
        fail(f"{path} holds no JSON ({error})")
    if not isinstance(found, dict):
        fail(f"{path} holds no JSON object")
    return found


def content(path: Path, max_mib: int) -> bytes:
    """The bytes of a plain file; ends the command for anything else, and for one that is too large."""
    limit = max_mib * _MIB
    try:
        with plain_files.opened(path, os.O_NOFOLLOW) as file:
            # Reads one byte more than allowed: some files are longer than their size says.
            whole = os.fstat(file.fileno()).st_size <= limit
            found = file.read(limit + 1) if whole else b""
    except OSError as error:
        if error.errno == errno.ELOOP:
            fail(f"{path} is a symbolic link; name the file itself: {os.path.realpath(path)}")
        fail(f"{path} can't be read ({error.strerror}); name the file itself")
    if not whole or len(found) > limit:
        fail(f"{path} has more than {max_mib} MiB; if that is meant: --max-mib")
    return found


def named(text: str) -> tuple[str, str]:
    """`NAME` or `NAME:VERSION`, also `NAME:LABEL`; the second is empty if absent."""
    name, _, version = text.partition(":")
    return name, version


def resolved(repository: Repository, text: str) -> tuple[str, str]:
    """Model and version that `NAME`, `NAME:VERSION` or `NAME:LABEL` mean. Raises RepositoryError."""
    name, wanted = named(text)
    return name, repository.asked(name, wanted, "")


def check_named(text: str) -> None:
    """Ends the command unless it is NAME or NAME:VERSION, as models may be called."""
    name, version = named(text)
    if not may_name(name) or not may_name(version or "1") or text.endswith(":"):
        fail(f"{text!r} names no model; as NAME, NAME:VERSION or NAME:LABEL")


def _tensor(text: str) -> TensorSpec:
    name, _, rest = text.partition(":")
    dtype, _, shape = rest.partition(":")
    sizes = [n for n in shape.split(",") if n]
    if not name or dtype not in _DTYPES or not all(n.isdecimal() and int(n) > 0 for n in sizes):
        fail(f"{text!r} is no tensor; as image:float32:224,224,3 (types: {', '.join(_DTYPES)})")
    return TensorSpec(name, _DTYPES[dtype], tuple(int(n) for n in sizes))


def user() -> str:
    """Who runs this command, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        return str(os.getuid())
