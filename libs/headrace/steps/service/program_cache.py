"""A cache of compiled programs, by the hash of their specification."""

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


class ProgramCache:
    """The `limit` most recently used programs of one kind. `find` and `keep` belong to one thread; any may call `compile`."""

    def __init__(self, kind: Kind, limit: int) -> None:
        self._kind: Kind = kind
        self._limit = limit
        self._kept: OrderedDict[str, Program] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, sha256: str) -> Program | None:
        """The program of that specification; None if it is not in the cache."""
        program = self._kept.get(sha256)
        if program is not None:
            self._kept.move_to_end(sha256)
        return program

    def keep(self, sha256: str, program: Program) -> None:
        """Adds a program, and drops the least recently used one if there are too many."""
        self._kept[sha256] = program
        self._kept.move_to_end(sha256)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def compile(self, sha256: str, spec: bytes) -> Program:
        """The program of `spec`, which must have this SHA-256.

        Raises Fault FAILED_PRECONDITION with SPEC_UNKNOWN if `spec` is empty, else INVALID_ARGUMENT with what is wrong in it.
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
        # Nesting too deep for the parser is as much the caller's fault as a missing brace.
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
