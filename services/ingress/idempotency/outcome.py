"""The key and the parameters of a call, and its outcome as it is kept."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass

from google.protobuf.message import Message

from headrace.hop.errors import Code, Fault, reason_name, reason_of
from services.ingress.faults import malformed
from services.ingress.reporting.metrics import is_ours
from services.ingress.request_context import RequestContext

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x20-\x7e]{1,255}\Z")
# Failures that the same call would meet again. What depends on the moment (quotas, deadlines) is not among them.
_KEPT_CODES = frozenset(
    {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.OUT_OF_RANGE, Code.UNIMPLEMENTED}
)
# Identities of the request, which a retry may have anew; all other fields are parameters.
_IDENTITIES = ("id", "request_id")
_HEAD = struct.Struct("<I")


def read_key(sent: bytes) -> str:
    """The key in the header. Raises Fault INVALID_ARGUMENT."""
    text = sent.decode("latin-1")
    if not _KEY.match(text):
        raise malformed(f"{HEADER} has 1 to 255 printable ASCII characters; a UUID is a good one", HEADER)
    return text


def fingerprint_of(method: str, request: Message) -> bytes:
    """SHA-256 of the method and of all parameters, whichever protocol brought them. Clears the request's identity, which is none.

    A message has one canonical form within one build: fields by number, maps by key.
    """
    for name in _IDENTITIES:
        if name in request.DESCRIPTOR.fields_by_name:
            request.ClearField(name)
    return hashlib.sha256(method.encode() + b"\n" + request.SerializeToString(deterministic=True)).digest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: with a reply (its bytes) or with a fault. `request_id`: of the call that ran."""

    request_id: str
    reply: bytes = b""
    fault: Fault | None = None

    def to_bytes(self) -> bytes:
        head: dict[str, object] = {"request_id": self.request_id}
        if self.fault is not None:
            head |= {
                "code": int(self.fault.code),
                "reason": reason_name(self.fault.reason),
                "message": self.fault.message,
                "metadata": dict(self.fault.metadata),
            }
        text = json.dumps(head).encode()
        return _HEAD.pack(len(text)) + text + self.reply

    @classmethod
    def of_bytes(cls, data: bytes) -> Outcome:
        """The inverse. Raises ValueError for anything else."""
        try:
            (length,) = _HEAD.unpack_from(data)
            end = _HEAD.size + length
            head = json.loads(data[_HEAD.size : end])
            fault = None
            if "code" in head:
                code, reason = Code(head["code"]), reason_of(head["reason"])
                fault = Fault(code, reason, str(head["message"]), metadata=dict(head["metadata"]))
            request_id = head["request_id"]
        except (struct.error, KeyError, TypeError, RecursionError) as error:
            raise ValueError("not an outcome") from error
        if not isinstance(request_id, str) or len(data) < end:
            raise ValueError("not an outcome")
        return cls(request_id, data[end:], fault)


def is_kept(fault: Fault, context: RequestContext) -> bool:
    """Whether a failure is the answer to its key: it is the caller's, and the same call would meet it again."""
    return fault.code in _KEPT_CODES and not is_ours(fault, context)


def is_whole(context: RequestContext) -> bool:
    """Whether no row of the answer failed through our fault: a repeated call may do better."""
    result = context.result
    if result is None or not result.batch.errors:
        return True
    return not any(is_ours(error.fault(), context) for error in result.batch.errors.values())
