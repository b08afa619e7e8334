"""The pipelines that there are and who may use them, as requests need them: by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from headrace.access.specs import ANY, QuotaSpec
from headrace.columns import DType
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import InputField, OutputField, Pipeline, rounds


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. `limits` compare by value, so that a quota outlives a reload that did not touch it."""

    name: str
    pipelines: frozenset[str]
    limits: QuotaSpec
    priority: int
    # Whether its rows are marked, so that their events are on the disk before the answer.
    regulated: bool = False
    requires_encryption: bool = False

    def may_use(self, pipeline: str) -> bool:
        return pipeline in self.pipelines or ANY in self.pipelines


@dataclass(frozen=True, slots=True)
class Credential:
    """A proven identity: the tenant, what the credential allows, and until when (seconds since the epoch)."""

    tenant: Tenant
    key_id: str
    scopes: frozenset[str]
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One input with what reading a tensor asks of it, worked out once."""

    field: InputField
    # Name of its type in the Open Inference Protocol.
    datatype: str
    # Shapes of a tensor that brings one row: a scalar may have a dimension of its own.
    one_row: tuple[list[int], ...]
    # Elements of a row, and their bytes (0: of any length).
    row_size: int
    row_bytes: int

    @classmethod
    def of(cls, field: InputField) -> Input:
        dtype, size = field.dtype, math.prod(field.row_shape)
        fixed = 0 if dtype is DType.BYTES else size * dtype.numpy.itemsize
        shapes = ([1, *field.row_shape],) if field.row_shape else ([1], [1, 1])
        return cls(field, dtype.oip, shapes, size, fixed)


@dataclass(frozen=True, slots=True)
class Entry:
    """One pipeline with what each request needs of it, worked out once."""

    pipeline: Pipeline
    inputs: Mapping[str, Input]
    outputs: Mapping[str, OutputField]
    deadline_s: float
    # Whether any output is rounded before it leaves.
    rounds: bool

    @classmethod
    def of(cls, pipeline: Pipeline) -> Entry:
        inputs, outputs = (
            {f.name: Input.of(f) for f in pipeline.inputs},
            {f.name: f for f in pipeline.outputs},
        )
        return cls(pipeline, inputs, outputs, pipeline.deadline_ms / 1000, rounds(pipeline))


class Catalog:
    """The pipelines by name; replaced as a whole when their documents change. `changed`: gets them then."""

    def __init__(
        self,
        pipelines: Mapping[str, Pipeline],
        unusable: frozenset[str] = frozenset(),
        changed: Callable[[Iterable[Pipeline]], None] = lambda _: None,
    ) -> None:
        self._changed = changed
        self._entries: dict[str, Entry] = {}
        self._unusable: frozenset[str] = frozenset()
        self.replace(pipelines, unusable)

    def replace(self, pipelines: Mapping[str, Pipeline], unusable: frozenset[str] = frozenset()) -> None:
        """Serves these from now on; `unusable`: names of those whose documents are broken and were never good."""
        self._unusable = unusable
        self._entries = {name: Entry.of(pipeline) for name, pipeline in sorted(pipelines.items())}
        self._changed(pipelines.values())

    def known(self, name: str) -> Entry | None:
        """The pipeline of that name, for our own eyes; `find` is for a tenant's."""
        return self._entries.get(name)

    def visible(self, credential: Credential, scope: str = "") -> list[Entry]:
        """The pipelines that the tenant may use, by name. Raises Fault PERMISSION_DENIED without the `scope`."""
        if scope:
            require(credential, scope)
        return [e for name, e in self._entries.items() if credential.tenant.may_use(name)]

    def find(self, name: str, version: int, credential: Credential, scope: str) -> Entry:
        """The pipeline `name` (`version` 0 = the current one) for someone who needs `scope`.

        Raises Fault NOT_FOUND (no such pipeline or version; names those this tenant may use), PERMISSION_DENIED,
        FAILED_PRECONDITION (its document is broken).
        """
        entry = self._entries.get(name)
        tenant = credential.tenant
        if entry is None:
            if name in self._unusable and tenant.may_use(name):
                require(credential, scope)
                raise Fault(
                    Code.FAILED_PRECONDITION,
                    Reason.REASON_PIPELINE_QUARANTINED,
                    f"pipeline {name} can't be used until its document is mended; ask who runs this installation",
                    metadata={"pipeline": name},
                )
            raise Fault(
                Code.NOT_FOUND,
                Reason.REASON_PIPELINE_UNKNOWN,
                f"no pipeline {_shown(name)}; {self._usable(credential)}",
                metadata={"pipeline": _shown(name)},
            )
        if not tenant.may_use(name):
            raise Fault(
                Code.PERMISSION_DENIED,
                Reason.REASON_NOT_ALLOWED,
                f"tenant {tenant.name} may not use pipeline {name}; {self._usable(credential)}",
                metadata={"pipeline": name, "tenant": tenant.name},
            )
        require(credential, scope)
        if version and version != entry.pipeline.version:
            raise Fault(
                Code.NOT_FOUND,
                Reason.REASON_VERSION_UNKNOWN,
                f"pipeline {name} has no version {version}; it has {entry.pipeline.version}",
                metadata={"pipeline": name, "version": str(version), "versions": str(entry.pipeline.version)},
            )
        return entry

    def _usable(self, credential: Credential) -> str:
        names = ", ".join(e.pipeline.name for e in self.visible(credential))
        return f"this tenant may use: {names}" if names else "this tenant may use none"


def require(credential: Credential, scope: str, pipeline: str | None = None) -> None:
    """Raises Fault PERMISSION_DENIED if the credential lacks `scope`.

    `pipeline`: for which one, as a credential may have `operate:PIPELINE` alone; "": for all; None: for any, and whoever
    serves the call looks for which.
    """
    if scope not in credential.scopes and not has_scope(credential, scope, pipeline):
        needed = f"{scope}:{_shown(pipeline)}" if pipeline and has_scope(credential, scope) else scope
        raise Fault(
            Code.PERMISSION_DENIED,
            Reason.REASON_NOT_ALLOWED,
            f"this credential lacks the scope `{needed}`",
            metadata={"scope": needed},
        )


def has_scope(credential: Credential, scope: str, pipeline: str | None = None) -> bool:
    """Whether the credential has `scope`; `pipeline` as in `require`."""
    scopes = credential.scopes
    if scope in scopes:
        return True
    if pipeline is None:
        return any(own.startswith(f"{scope}:") for own in scopes)
    return bool(pipeline) and f"{scope}:{pipeline}" in scopes


def _shown(name: str) -> str:
    """A name that a caller sent, short enough for a message."""
    return name if len(name) <= 80 else f"{name[:77]}…"
