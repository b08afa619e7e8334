"""Compiled programs by the hash of their specification, the most recently used ones."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict

from headrace.hop.errors import Code, Fault, Reason
from headrace.steps.errors import SpecError
from headrace.steps.program.compilation import compile_steps
from headrace.steps.program.program import Program
from headrace.steps.registry import Kind

MAX_SPEC_BYTES = 1 << 20


class Programs:
    """At most `limit` programs of one kind. `find` and `keep` are for one thread; `compile` is for any."""

    def __init__(self, kind: Kind, limit: int) -> None:
        self._kind: Kind = kind
        self._limit = limit
        self._kept: OrderedDict[str, Program] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, sha256: str) -> Program | None:
        """The program of a specification seen lately."""
        program = self._kept.get(sha256)
        if program is not None:
            self._kept.move_to_end(sha256)
        return program

    def keep(self, sha256: str, program: Program) -> None:
        """Remembers it, and forgets the one that was unused for longest if there are too many."""
        self._kept[sha256] = program
        self._kept.move_to_end(sha256)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def compile(self, sha256: str, spec: bytes) -> Program:
        """The program of `spec`, which must have this SHA-256.

        Raises Fault FAILED_PRECONDITION with SPEC_UNKNOWN if `spec` is empty, else INVALID_ARGUMENT naming what
        is wrong in it.
        """
        if not spec:
            message = "the steps of this hash are not known here; send the same call again with `spec`"
            raise Fault(Code.FAILED_PRECONDITION, Reason.REASON_SPEC_UNKNOWN, message)
        if len(spec) > MAX_SPEC_BYTES:
            raise _refused(f"the specification has {len(spec)} bytes; at most {MAX_SPEC_BYTES}")
        if hashlib.sha256(spec).hexdigest() != sha256:
            raise _refused("`spec` does not have the SHA-256 that `spec_sha256` says")
        try:
            values = json.loads(spec)
        # Deep nesting is the caller's doing as much as a missing brace is.
        except (ValueError, RecursionError):
            raise _refused("`spec` is not JSON") from None
        if not isinstance(values, dict):
            raise _refused("`spec` is not a JSON object")
        try:
            return compile_steps(self._kind, values)
        except SpecError as error:
            raise _refused(f"{error.path}: {error}", path=error.path) from error


def _refused(message: str, **metadata: str) -> Fault:
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, metadata=metadata)
