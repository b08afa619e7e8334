"""One request of any protocol: its headers, its times, and the facts that become known while it is served."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.request_ids import MAX_CHARACTERS, TOKEN, request_key
from services.ingress.documents.catalog import Credential
from services.ingress.faults import malformed

if TYPE_CHECKING:
    from services.ingress.admission.admission_control import AdmissionControl
    from services.ingress.admission.quotas import Quota
    from services.ingress.inference import InferenceResult, InferenceShare

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
# Identities must be unique, but need not be secret.
_random = random.Random()  # noqa: S311 - names traces, protects nothing


def new_request_id() -> str:
    """A new identity: 32 hexadecimal digits."""
    return f"{_random.getrandbits(128):032x}"


def new_span_id() -> str:
    return f"{_random.getrandbits(64):016x}"


class RequestTrace:
    """The trace that a request belongs to. `parent`: the span of the caller, "" if it sent none. `trace_id` "": a new one, made
    when somebody asks for it, which is seldom."""

    _span_id = ""

    def __init__(self, trace_id: str, parent: str, *, sampled: bool) -> None:
        self._trace_id = trace_id
        self.parent = parent
        self.sampled = sampled

    @property
    def trace_id(self) -> str:
        self._trace_id = self._trace_id or new_request_id()
        return self._trace_id

    @property
    def span_id(self) -> str:
        self._span_id = self._span_id or new_span_id()
        return self._span_id

    @property
    def traceparent(self) -> str:
        """The W3C traceparent for the services that we call: this request's own span is their parent."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def forwarded(self) -> str:
        """The traceparent for the services that we call if this trace is of interest to anybody; else ""."""
        return self.traceparent if self.sampled or self.parent else ""


def read_trace(sent: bytes | None, ratio: float) -> RequestTrace:
    """The caller's trace if it sent a `traceparent` that can be read, otherwise a new one.

    Sampled if the caller says so, and with probability `ratio` in any case.
    """
    found = _TRACEPARENT.match(sent) if sent else None
    if found is not None and found[1] != b"0" * 32:
        sampled = bool(int(found[3], 16) & 1) or chance(ratio)
        return RequestTrace(found[1].decode(), found[2].decode(), sampled=sampled)
    return RequestTrace("", "", sampled=chance(ratio))


def chance(ratio: float) -> bool:
    """True with probability `ratio`."""
    return ratio > 0 and _random.random() < ratio


class RequestContext:
    """What is known about one request. `received` and `deadline` are monotonic seconds. `headers`: names in lower case.

    What is written in the class is so until it is known: setting it all for each request would take longer.
    """

    deadline: float = math.inf
    # Safe in logs, headers and addresses. What the caller calls the request is `client_id`; "": the same.
    request_id: str = ""
    client_id: str = ""
    credential: Credential | None = None
    pipeline: str = ""
    fault: Fault | None = None
    result: InferenceResult | InferenceShare | None = None
    # Set for calls that run a model. Other calls do not count in the objectives.
    inference: bool = False
    # Whether it is counted in `Door.in_flight`; whether its message is complete; the quota that counts it as in flight.
    entered: bool = False
    whole: bool = False
    quota: Quota | None = None
    # Size of its message, decompressed; 0: not known.
    size_bytes: int = 0
    # Where it holds a slot, and how many.
    admission: AdmissionControl | None = None
    slots: int = 1
    # Seconds that it may take, once known: from the caller's deadline or the pipeline's.
    time_allowed: float = math.inf
    # Whether the deadline that passed was our own (the pipeline's) and not one that the caller set.
    deadline_is_ours: bool = False
    # The header of that name; None: it was not sent. A message of a stream has none.
    idempotency_key: bytes | None = None
    # Of its URL; "": not known.
    path: str = ""
    # The request whose kept outcome this one got; "": it has its own.
    original_request_id: str = ""

    def __init__(
        self, method: str, headers: Mapping[bytes, bytes], received: float, trace: RequestTrace
    ) -> None:
        self.method = method
        self.headers = headers
        self.received = received
        self.trace = trace

    def identify(self, asked: str) -> None:
        """Uses the identity that the caller asks for, if any. Raises Fault INVALID_ARGUMENT if it is too long."""
        if TOKEN.match(asked):
            self.request_id = asked
            return
        if not asked:
            return
        if len(asked) > MAX_CHARACTERS:
            raise malformed(f"a request id has at most {MAX_CHARACTERS} characters", "request_id")
        self.request_id, self.client_id = request_key(asked), asked

    def deadline_within(self, seconds: float) -> float:
        """Its deadline; who sets none waits for so many seconds."""
        return self.deadline if self.deadline < math.inf else self.received + seconds

    @property
    def reply_id(self) -> str:
        """The request's identity as its caller wrote it, for the body of the reply."""
        return self.client_id or self.request_id

    @property
    def header_id(self) -> str:
        """The same for a header, which can't carry all that a body can; otherwise the safe identity."""
        own = self.client_id
        return own if own and own.isascii() and own.isprintable() and own == own.strip() else self.request_id

    def of_message(self, now: float) -> RequestContext:
        """A context for one message of this stream: the same caller, deadline and trace, but its own identity."""
        own = RequestContext(self.method, self.headers, now, self.trace)
        own.deadline, own.request_id = self.deadline, new_request_id()
        own.credential, own.path = self.credential, self.path
        return own

    @property
    def keyed(self) -> bool:
        """Whether it has an idempotency key: then its reply has to be the same in every byte when it is repeated."""
        return self.idempotency_key is not None

    def replay_headers(self) -> list[tuple[bytes, bytes]]:
        """Says in the reply that it is the kept outcome of an earlier request."""
        if not self.original_request_id:
            return []
        original = self.original_request_id.encode()
        return [(b"idempotency-replayed", b"true"), (b"idempotency-original-request-id", original)]

    @property
    def caller(self) -> Credential:
        """Who calls; the door has made sure that there is somebody."""
        if self.credential is None:
            raise Fault(Code.UNAUTHENTICATED, Reason.REASON_CREDENTIAL_INVALID, "no valid credential")
        return self.credential

    @property
    def tenant(self) -> str:
        """Name of the authenticated tenant; "" before authentication."""
        return "" if self.credential is None else self.credential.tenant.name


def begin(method: str, headers: Mapping[bytes, bytes], now: float, trace_ratio: float) -> RequestContext:
    """The context of a request that arrived at `now`, with the identity in `x-request-id` or a new one."""
    # White space around a value is no part of it, and no error, as gRPC's PROTOCOL-HTTP2 and RFC 9110 demand.
    # All are looked through at once, as almost none has any. A value has no line break.
    values = b"\n%b\n" % b"\n".join(headers.values())
    if b"\n " in values or b" \n" in values or b"\t" in values:
        headers = {name: value.strip() for name, value in headers.items()}
    context = RequestContext(method, headers, now, read_trace(headers.get(b"traceparent"), trace_ratio))
    key = headers.get(b"idempotency-key")
    if key is not None:
        context.idempotency_key = key
    # One that is too long, or no text, is as good as none: nothing in the reply's body could be wrong by it.
    if sent := headers.get(b"x-request-id"):
        try:  # noqa: SIM105 - `suppress` takes longer
            context.identify(sent.decode())
        except (Fault, UnicodeDecodeError):
            pass
    if not context.request_id:
        context.request_id = new_request_id()
    return context
