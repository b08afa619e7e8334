"""Reads a model repository: `<root>/<model>/<version>/{metadata.json, model.onnx, model.sig}`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from headrace.repository import metadata as documents
from headrace.repository.access_log import AccessLog, Event
from headrace.repository.errors import AbsentError, RepositoryError, UntrustedError
from headrace.repository.metadata import Metadata
from headrace.repository.model_index import Indexes, ModelIndex
from headrace.repository.names import check_name, may_name, version_key
from headrace.repository.signing.signatures import MAX_SIGNATURE_BYTES
from headrace.repository.signing.trust import Trust
from headrace.repository.storage.store import Store, open_store

METADATA = "metadata.json"
SIGNATURE = "model.sig"
_MAX_METADATA_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version as it was read. The bytes that are checked are the same bytes that a backend loads.

    `files`: the other files that its metadata names, by name. `signer`: id of the signing key; empty if the version is unsigned
    or signatures were not checked.
    """

    metadata: Metadata
    metadata_bytes: bytes
    content: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)
    signer: str = ""


Check = Callable[[Artifact], None]
"""Checks an artifact before it may be used; raises RepositoryError."""


def digest_matches(artifact: Artifact) -> None:
    """Checks that the bytes have the SHA-256 that the metadata states. Raises RepositoryError."""
    about = artifact.metadata
    contents = {about.artifact: artifact.content, **artifact.files}
    for name, expected in {about.artifact: about.sha256, **about.files}.items():
        _check_digest(about, name, contents[name], expected)


def _check_digest(about: Metadata, name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(found, expected):
        raise UntrustedError(
            about.name,
            about.version,
            f"{name} has SHA-256 {found[:12]}…, not {expected[:12]}… as metadata.json says",
            "it was altered or half copied: restore the file, or publish the model anew",
        )


class Repository:
    """Models in a folder, or at any URL of fsspec. Reads at each call and caches nothing. Threads may share it.

    `trust`: which signatures are required; None: signatures are not checked (for tools that only show models). `index`: control's
    index of a model, which says what versions it has; None: those that have a folder. A model without an index has no version if
    signatures are required, else those that have a folder. `log`: records loads and refusals; a load that can't be recorded is
    refused.
    """

    def __init__(
        self,
        root: Path | str,
        checks: Sequence[Check] = (digest_matches,),
        *,
        trust: Trust | None = None,
        index: Indexes | None = None,
        log: AccessLog | None = None,
    ) -> None:
        self.root = root
        self._index_of = index
        self._checks = tuple(checks)
        self._trust = trust
        self._log = log

    def models(self) -> list[str]:
        """Names of the models that have a version, sorted. Raises RepositoryError: a folder or an index can't be read."""
        return [name for name in self.names() if self._ordered(name)]

    def names(self) -> list[str]:
        """Names of the folders that may hold a model, sorted. Raises RepositoryError: the root can't be read."""
        try:
            return [name for name in self._store.folders("") if may_name(name)]
        except OSError as error:
            raise self._unreadable("", "", f"list the folder {self.root}", error) from error

    def versions(self, model: str) -> list[str]:
        """Versions of `model`, oldest first; empty if there is none.

        If a version in the index was removed from the folder, reading it fails. Raises RepositoryError: a bad name; an index that
        can't be read.
        """
        with self._refusals(model, ""):
            return self._ordered(model)

    def labels(self, model: str) -> dict[str, str]:
        """Label → version. Raises RepositoryError as `versions`."""
        index = self._index(model)
        return dict(index.labels) if index else {}

    def resolve(self, model: str, name: str) -> str:
        """The version that `name`, a version or a label, stands for; a version has priority. Raises RepositoryError."""
        with self._refusals(model, "", unless=(AbsentError,)):
            return self._resolve(model, name)

    def _resolve(self, model: str, name: str) -> str:
        versions, labels = self._ordered(model), self.labels(model)
        if name in versions:
            return name
        if name in labels:
            return labels[name]
        there = ", ".join([*versions, *labels]) or "none"
        raise AbsentError(
            model, name, f"there is no such version or label (there are: {there})", "name one of them"
        )

    def metadata(self, model: str, version: str) -> Metadata:
        """The metadata of a version; its artifact and signature are not read. Raises RepositoryError."""
        return documents.parse(self._metadata_file(model, version), model, version)

    def read(self, model: str, version: str, *, operator: str = "") -> Artifact:
        """A version with its artifact's bytes, read once and checked. `operator`: who requested it, for the access log.

        Raises RepositoryError.
        """
        artifact = self.examine(model, version, operator=operator)
        self.loaded(artifact, operator)
        return artifact

    def examine(self, model: str, version: str, *, operator: str = "") -> Artifact:
        """As `read`, but the load is not recorded: call `loaded` when it is used. Raises RepositoryError."""
        with self._refusals(model, version, operator):
            return self._checked(model, version)

    def file(self, model: str, version: str, name: str, limit: int) -> tuple[Metadata, bytes | None]:
        """The metadata and one further file (at most `limit` bytes) of a version, without its artifact; None: it has none.

        The index holds the digest of the metadata, and they the file's; without an index, the signature of the whole version is
        verified. Raises RepositoryError.
        """
        with self._refusals(model, version):
            index = self._index(model)
            if index is None and self._trust is not None:
                artifact = self._checked(model, version)
                return artifact.metadata, artifact.files.get(name)
            about, _ = self._described(model, version, index)
            if name not in about.files:
                return about, None
            content = self._read(model, version, name, limit)
            _check_digest(about, name, content, about.files[name])
            return about, content

    def loaded(self, artifact: Artifact, operator: str = "") -> None:
        """Records that a service uses a version. Raises RepositoryError if this can't be recorded."""
        about = artifact.metadata
        said = {"sha256": about.sha256, "signer": artifact.signer, "operator": operator}
        self._record("loaded", about.name, about.version, **said)

    def quiet(self) -> Repository:
        """The same repository without an access log."""
        return Repository(self.root, self._checks, trust=self._trust, index=self._index_of)

    def stamp(self, model: str, version: str) -> str:
        """A hash that changes when metadata, signature or the list of versions change; the artifact is not read."""

        def listed() -> bytes:
            index = self._index(model)
            return index.content() if index else ",".join(self._present(model)).encode()

        def read(name: str) -> Callable[[], bytes]:
            return lambda: self._store.read(f"{model}/{version}/{name}", _MAX_METADATA_BYTES)

        found = hashlib.sha256()
        for part in (listed, read(METADATA), read(SIGNATURE)):
            try:
                content = part()
            except (OSError, RepositoryError) as error:
                content = type(error).__name__.encode()
            found.update(hashlib.sha256(content).digest())
        return found.hexdigest()

    def asked(self, model: str, name: str, operator: str) -> str:
        """As `resolve`, for an operator: "" means the newest version, and every refusal is recorded. Raises RepositoryError."""
        with self._refusals(model, name, operator):
            if name:
                return self._resolve(model, name)
            present = self._ordered(model)
            if not present:
                there = ", ".join(self.models()) or "none"
                raise AbsentError(
                    model, "", f"there is no such model (there are: {there})", "name one of them"
                )
            return present[-1]

    def unloaded(self, model: str, version: str, operator: str) -> None:
        """Records that a service unloaded a version. Raises RepositoryError if this can't be recorded."""
        self._record("unloaded", model, version, operator=operator)

    def _record(self, event: Event, model: str, version: str, **about: str) -> None:
        """Raises RepositoryError if it can't be written."""
        if self._log is None:
            return
        try:
            self._log.record(event, model, version, **about)
        except OSError as error:
            problem = f"the access log {self._log.path} can't be written ({error.strerror})"
            remedy = "mend disk or rights: what can't be recorded is not done"
            raise RepositoryError(model, version, problem, remedy) from error

    def _checked(self, model: str, version: str) -> Artifact:
        about, described = self._described(model, version, self._index(model))
        names = self._own_files(about)
        contents = {name: self._read(model, version, name) for name in names}
        signer = ""
        if self._trust is not None:
            signature = self._signature(model, version)
            signer = self._trust.files(model, version, {METADATA: described, **contents}, signature)
        further = {name: contents[name] for name in about.files}
        artifact = Artifact(about, described, contents[about.artifact], further, signer)
        for check in self._checks:
            check(artifact)
        return artifact

    def _own_files(self, about: Metadata) -> list[str]:
        names = [about.artifact, *about.files]
        for name in names:
            check_name("file", name)
            if name in (METADATA, SIGNATURE) or names.count(name) > 1:
                problem = f"metadata.json names {name} as a file of the model, or names it twice"
                raise RepositoryError(about.name, about.version, problem, "publish the model anew")
        return names

    def _described(self, model: str, version: str, index: ModelIndex | None) -> tuple[Metadata, bytes]:
        """The metadata that the index lists, parsed and as they are."""
        check_name("version", version)
        if index is not None and version not in index.versions:
            raise index.absent(version)
        described = self._metadata_file(model, version)
        if index is not None:
            index.check(version, described)
        return documents.parse(described, model, version), described

    def _index(self, model: str) -> ModelIndex | None:
        """None: what has a folder counts."""
        check_name("model", model)
        if self._index_of is None:
            return None
        found = self._index_of(model)
        required = self._trust is not None and not self._trust.accept_unsigned
        return ModelIndex(model) if found is None and required else found

    def _ordered(self, model: str) -> list[str]:
        index = self._index(model)
        return self._present(model) if index is None else index.ordered()

    def _present(self, model: str) -> list[str]:
        """Versions that have a folder with metadata, oldest first."""
        check_name("model", model)
        try:
            found = self._store.folders(model)
            there = [v for v in found if METADATA in self._store.files(f"{model}/{v}")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unreadable(model, "", f"list the folder {model}", error) from error
        return sorted(there, key=version_key)

    def _metadata_file(self, model: str, version: str) -> bytes:
        return self._read(model, version, METADATA, _MAX_METADATA_BYTES)

    def _signature(self, model: str, version: str) -> bytes | None:
        """None: it is unsigned."""
        try:
            return self._store.read(f"{model}/{version}/{SIGNATURE}", MAX_SIGNATURE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(model, version, f"read {SIGNATURE}", error) from error

    def _read(self, model: str, version: str, file: str, limit: int | None = None) -> bytes:
        path = "/".join(
            (check_name("model", model), check_name("version", version), check_name("file", file))
        )
        try:
            return self._store.read(path, limit)
        except OSError as error:
            known = self._present(model) if isinstance(error, FileNotFoundError) else []
            has = f" (there are: {', '.join(known)})" if known and version not in known else ""
            raise self._unreadable(model, version, f"read {file}", error, has) from error

    @property
    def _store(self) -> Store:
        try:
            return open_store(self.root)
        except OSError as error:
            raise self._unreadable("", "", f"open {self.root}", error) from error

    def _unreadable(
        self, model: str, version: str, doing: str, error: OSError, has: str = ""
    ) -> RepositoryError:
        why = error.strerror or str(error)
        at = "/".join(part for part in (str(self.root), model, version) if part)
        return RepositoryError(model, version, f"can't {doing} ({why}){has}", f"check {at} and its rights")

    @contextmanager
    def _refusals(
        self, model: str, version: str, operator: str = "", unless: tuple[type[RepositoryError], ...] = ()
    ) -> Iterator[None]:
        """Records refusals, except errors of the types `unless` (wrong names in a request)."""
        try:
            yield
        except RepositoryError as error:
            if not isinstance(error, unless):
                # If recording fails, the caller still gets the reason for the refusal, not the log's error.
                with suppress(RepositoryError):
                    self._record("refused", model, version, reason=error.problem, operator=operator)
            raise
