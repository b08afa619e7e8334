"""What a layer or a handler knows about the call it is part of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls. `trusted`: an authenticated part of this installation (unix socket in a private
    directory, mTLS with a known name, or the same process)."""

    transport: str  # "unix" | "tls" | "tcp" | "local"
    identity: str = ""
    trusted: bool = False
    # Every name (DNS or URI SAN) in the certificate that the peer showed; empty without TLS.
    names: tuple[str, ...] = ()


LOCAL_PEER = Peer("local", "same-process", True)


@dataclass(slots=True)
class InProcessPayload:
    """What rides along with a message inside one process instead of being written into it.

    `brought`: with the request; `returned`: with the reply, if the servicer left something there.
    """

    brought: Any
    returned: Any = None


@dataclass(slots=True)
class Call:
    """One RPC as the server sees it. `deadline` is on the monotonic clock, in seconds."""

    method: str  # "/package.Service/Method"
    peer: Peer
    deadline: float = math.inf
    metadata: Mapping[str, str] = field(default_factory=dict)
    # Sent to the caller with the status, for example pushback.
    trailing: list[tuple[str, str]] = field(default_factory=list)
    # Only from a caller in this process.
    payload: InProcessPayload | None = None
    # What the servicer has to say of an answer that is none of the usual: attributes of the call's span.
    notes: Mapping[str, str] | None = None
    # Requests whose rows it carries, for log lines; known once the servicer has read them.
    request_ids: Sequence[str] = ()
    # When the request was written, in monotonic seconds: budgets in it count from then. None: when it is read.
    sent: float | None = None

    def remaining(self) -> float:
        """Seconds left; negative when the deadline has passed, inf when there is none."""
        return self.deadline - time.monotonic()


_current: ContextVar[Call | None] = ContextVar("headrace_call", default=None)


def current() -> Call | None:
    """The call that the running task serves, if any."""
    return _current.get()


def enter(call: Call) -> Token[Call | None]:
    """Makes `call` the current one for this task; hop's server does it, nobody else."""
    return _current.set(call)


def leave(token: Token[Call | None]) -> None:
    """Undoes `enter`, for a call served inside its caller's own task."""
    _current.reset(token)
