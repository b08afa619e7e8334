"""What a server does around each call, from the outside in. (The client's is in `client/stack.py`.)

trace     writes on the span of an RPC whose caller samples it; OpenTelemetry's interceptor made it before.
report    counts the status that the caller gets, so it sits outside whatever makes or changes a status.
errors    everything inside may raise anything; everything outside sees Faults only.
shed      before the certificate is checked: refusing must be the cheapest thing that a loaded server does.
auth      before the deadline: a stranger learns nothing, not even that it is late.
deadline  innermost: the time that it bounds is the handler's.

It sees a handler's outcome as what is returned or raised.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace.hop import config
from headrace.hop.call import Call, Peer
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import SERVER_CONCURRENCY
from headrace.hop.metrics import Report, ServerInstruments
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.report import Errors, Trace


class Handler(NamedTuple):
    """How a method is served: `run` answers a request of a call; `convert` makes a `reply` of anything else that it gives, or
    raises."""

    run: Callable[[Any, Call], Awaitable[Any]]
    reply: type
    convert: Callable[[Any], Any]


# Serves a call: runs the handler of the request with all of the above, and raises nothing but Fault and CancelledError.
Serve = Callable[[Call, Handler, Any], Awaitable[Any]]

# Timers of uvloop count whole milliseconds and may fire up to one millisecond early.
_TICK_S = 0.001
# Long enough for some calls in flight to finish, short compared with any deadline.
_RETRY_AFTER_S = 0.05


class Shed:
    """Limits the calls in flight. After `close()` all new calls are refused: the service shuts down."""

    def __init__(self, service: str, max_concurrent_calls: int) -> None:
        self._service = service
        self.limit = max_concurrent_calls
        self._idle: asyncio.Event | None = None
        self.in_flight = 0

    def close(self) -> None:
        """From here on, every new call is answered UNAVAILABLE."""
        self.limit = 0

    async def idle(self) -> None:
        """Returns when no call is in flight. For one waiter, after `close`."""
        if self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def refusal(self) -> Fault:
        """Of a call that comes while as many as the limit are in flight. The others add themselves; `leave` must follow."""
        if not self.limit:
            return Fault(
                Code.UNAVAILABLE,
                Reason.REASON_DRAINING,
                f"{self._service} is shutting down; try another replica.",
                metadata={"service": self._service},
                retry_after_s=0.0,
            )
        return SERVER_CONCURRENCY.refusal(
            f"{self._service} serves {self.limit} calls already; try again later.",
            retry_after_s=_RETRY_AFTER_S,
            service=self._service,
            limit=str(self.limit),
        )

    def leave(self) -> None:
        """A call ends."""
        self.in_flight -= 1
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()


# The socket's directory is private (checked when it is bound), so a peer that connects runs as the same user.
UNIX_PEER = Peer("unix", "same-user", True)


class Auth:
    """Sets identity and trust of a call's peer. A TLS peer must have one of the names `peers`, if there are any; its
    certificate was checked against the CA in the handshake. Plain TCP passes as untrusted: the server listens on
    it only if the settings allow that."""

    def __init__(self, peers: tuple[str, ...]) -> None:
        self._peers = frozenset(peers)

    def identify(self, peer: Peer) -> Peer:
        """The peer with identity and trust. Raises Fault PERMISSION_DENIED for an unknown name."""
        if peer.transport != "tls":
            return peer
        if not self._peers:
            return Peer("tls", peer.names[0] if peer.names else "", True, peer.names)
        for name in peer.names:
            if name in self._peers:
                return Peer("tls", name, True, peer.names)
        # The names are not sent back: a stranger must not learn whom we trust.
        raise Fault(
            Code.PERMISSION_DENIED,
            Reason.REASON_PEER_UNTRUSTED,
            "The client certificate is valid, but no name in it is allowed here; the operator can add one.",
        )


class Deadline:
    """A call without a deadline gets `default_timeout_s`."""

    def __init__(self, default_timeout_s: float, min_budget_s: float) -> None:
        self._default = default_timeout_s
        self._minimum = min_budget_s

    def of(self, call: Call, now: float) -> float:
        """The call's deadline; sets it if there was none. `now`: monotonic seconds. Raises Fault DEADLINE_EXCEEDED if too little
        time is left."""
        remaining = call.deadline - now
        if remaining < self._minimum:
            raise Fault(
                Code.DEADLINE_EXCEEDED,
                Reason.REASON_DEADLINE_PASSED,
                f"{remaining * 1000:.2f} ms were left on arrival, too few to begin; allow a longer deadline.",
                metadata={"remaining_us": str(round(remaining * 1e6))},
            )
        if remaining == math.inf:
            call.deadline = now + self._default
        return call.deadline


class Timeouts:
    """Tasks of one event loop that each have a time limit, at a tenth of what asyncio.timeout costs (4 µs a task): one timer
    looks after all of them. A task that takes longer is cancelled. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._timeouts: dict[Timeout, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def begin(self, until: float) -> Timeout:
        """The running task begins something that may last until then; `end` must follow."""
        task = asyncio.current_task()
        assert task is not None, "calls are served in tasks"
        timeout = Timeout(task, until)
        self._timeouts[timeout] = None
        if until < self._timer_at:
            self._arm(until, self._clock())
        return timeout

    def end(self, timeout: Timeout) -> None:
        """The task has ended it."""
        self._timeouts.pop(timeout, None)

    def _arm(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(at - now, _TICK_S), self._expire)

    def _expire(self) -> None:
        now = self._clock()
        for timeout in [t for t in self._timeouts if t.until <= now]:
            del self._timeouts[timeout]
            timeout.expired = True
            timeout.task.cancel()
        self._timer, self._timer_at = None, math.inf
        if self._timeouts:
            self._arm(min(t.until for t in self._timeouts), now)


class Timeout:
    """The time limit of one task."""

    __slots__ = ("_cancelling", "expired", "task", "until")

    def __init__(self, task: asyncio.Task[Any], until: float) -> None:
        self.task = task
        self.until = until
        self.expired = False
        self._cancelling = task.cancelling()

    def caused_it(self) -> bool:
        """Whether only this timeout has cancelled the task. If so, the cancellation is undone. To be asked once."""
        return self.expired and self.task.uncancel() <= self._cancelling


@dataclass(frozen=True, slots=True)
class ServerStack:
    """That of one server; `shed` is what a shutdown closes."""

    serve: Serve
    shed: Shed


def server_stack(service: str, settings: config.Server, telemetry: Telemetry) -> ServerStack:
    """The stack of one server of the service."""
    shed = Shed(service, settings.max_concurrent_calls)
    serve = _serve(
        Report(service, telemetry.once(ServerInstruments), telemetry.log),
        Errors(telemetry.log),
        shed,
        Auth(settings.tls.peers if settings.tls else ()),
        Deadline(settings.default_timeout_s, settings.min_budget_s),
    )
    return ServerStack(serve if telemetry.traces is None else Trace(telemetry.traces).around(serve), shed)


def _serve(report: Report, errors: Errors, shed: Shed, auth: Auth, deadline: Deadline) -> Serve:
    timeouts = Timeouts()

    async def serve(call: Call, handler: Handler, request: Any) -> Any:
        began, timeout = time.monotonic(), None
        failed: BaseException | None = None
        try:
            if shed.in_flight >= shed.limit:
                raise shed.refusal()
            shed.in_flight += 1
            try:
                if not call.peer.trusted:
                    call.peer = auth.identify(call.peer)
                timeout = timeouts.begin(deadline.of(call, began))
                reply = await handler.run(request, call)
                return reply if type(reply) is handler.reply else handler.convert(reply)
            finally:
                if timeout is not None:
                    timeouts.end(timeout)
                shed.leave()
        except BaseException as error:
            if timeout is not None and isinstance(error, asyncio.CancelledError) and timeout.caused_it():
                message = "The deadline passed while the call was served."
                failed = Fault(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message)
                raise failed from None
            failed = errors.seen(call, error)
            if failed is error:
                raise
            raise failed from error
        finally:
            report.record(call, time.monotonic() - began, failed)

    return serve
