"""The records as control has them, for programs and threads that block: a client of its RecordsService."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote

from google.protobuf.message import Message

from headrace.api.control.v1 import ladder_pb2
from headrace.api.control.v1 import records_pb2 as pb
from headrace.api.control.v1.resources_pb2 import ListWatchersRequest, ListWatchersResponse, Watcher
from headrace.audit.chain import AuditLine, Problem
from headrace.audit.chain import Fault as AuditFault
from headrace.catalog import messages
from headrace.catalog.access import Change, LeaseToken, Made, Position, Record
from headrace.catalog.errors import RecordInvalidError, RecordsUnavailableError, Unavailable
from headrace.catalog.faults import error_of, fault_of
from headrace.hop.call import Method, unary
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import BreakerRules, ClientRules, TlsFiles
from headrace.hop.errors import Code, Fault
from headrace.hop.resilience import resolve

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)
T = TypeVar("T")


def _method(request: type[Req], reply: type[Resp], *, lengthy: bool = False) -> Method[Req, Resp]:
    # All may be sent again: a change is made once for its id, and who takes a lease twice waits at worst until it ends.
    return unary(request, reply, idempotent=True, lengthy=lengthy)


_READ = _method(pb.ReadRecordRequest, pb.ReadRecordResponse)
_LIST = _method(pb.ListRecordsRequest, pb.ListRecordsResponse)
_CHANGE = _method(pb.ChangeRecordsRequest, pb.ChangeRecordsResponse)
_BEGIN = _method(pb.BeginEpochRequest, pb.BeginEpochResponse)
_TAKE = _method(pb.TakeLeaseRequest, pb.TakeLeaseResponse)
_GIVE_BACK = _method(pb.GiveBackLeaseRequest, pb.GiveBackLeaseResponse)
_LINES = _method(pb.ListAuditLinesRequest, pb.ListAuditLinesResponse)
_POSITION = _method(pb.ReadPositionRequest, pb.ReadPositionResponse)
_VERIFY = _method(pb.VerifyRecordsRequest, pb.VerifyRecordsResponse, lengthy=True)
_WAIT = _method(pb.ReadPositionRequest, pb.ReadPositionResponse, lengthy=True)

_REPORT = unary(ladder_pb2.ReportVerdictRequest, ladder_pb2.ReportVerdictResponse, idempotent=True)
_WATCHERS = unary(ListWatchersRequest, ListWatchersResponse, idempotent=True)

# A call takes so long at most, and a lease is asked for so long at least; so long until the next try.
_CALL_S, _LEASE_S, _AGAIN_S = 10.0, 2.0, 0.1
# A million lines take half a minute.
_VERIFY_S = 600.0
_NEVER = 1 << 30
# A wait is several calls, as a proxy or the server may end longer ones.
_POLL_S = 10.0
# Control says that its database can't be used, and that will be so for a while.
_LASTING = frozenset({*Unavailable} - {Unavailable.UNREACHABLE, Unavailable.IN_USE})


class TargetError(ValueError):
    """A text names no control; it says what is wrong."""


@dataclass(frozen=True, slots=True)
class ControlTarget:
    """Where control is: `target` as hop's clients have it (unix:/path, unix-dir:/folder, HOST:PORT, dns:///HOST:PORT)."""

    target: str
    tls: TlsFiles | None = None
    server_name: str = ""

    @classmethod
    def parse(cls, text: str) -> ControlTarget:
        """Of `TARGET[?ca=FILE&certificate=FILE&key=FILE&server_name=NAME]`; dns:HOST:PORT is dns:///HOST:PORT.

        Raises TargetError.
        """
        target, _, given = text.partition("?")
        try:
            options = dict(parse_qsl(given, keep_blank_values=True, strict_parsing=bool(given)))
        except ValueError:
            raise TargetError("the options behind '?' can't be read; write NAME=VALUE&NAME=VALUE") from None
        if not target:
            raise TargetError("name where control is: unix:/PATH, unix-dir:/FOLDER or HOST:PORT")
        if target.startswith("dns:") and not target.startswith("dns:///"):
            target = f"dns:///{target.removeprefix('dns:')}"
        server_name = options.pop("server_name", "")
        files = {name: Path(unquote(options.pop(name, ""))) for name in ("certificate", "key", "ca")}
        if options:
            raise TargetError(
                f"{min(options)[:40]} is no option; there are: ca, certificate, key, server_name"
            )
        try:
            resolve.parse(target)
        except ValueError as error:
            raise TargetError(str(error)) from None
        named = [name for name, path in files.items() if path != Path()]
        if named and len(named) < len(files):
            raise TargetError("ca, certificate and key belong together; name all or none")
        return cls(target, TlsFiles(**files) if named else None, server_name)


class RemoteRecords:
    """`Records` of a control. Threads may share it; it connects at the first call, on an event loop in a thread of its own.

    Create it after forking, not before. All methods raise RecordsUnavailableError.
    """

    def __init__(self, target: ControlTarget | str, patience_s: float = 2.0) -> None:
        """`patience_s`: so long control may be away (it is restarted) before a call fails. Raises TargetError."""
        self._patience_s = patience_s
        self._target = ControlTarget.parse(target) if isinstance(target, str) else target
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        self._calls: set[asyncio.Future[Any]] = set()
        self._closed = False

    @classmethod
    def over(cls, client: Client, loop: asyncio.AbstractEventLoop) -> Self:
        """By a client of this process, which its opener closes. Not to be called on the thread of `loop`."""
        made = cls(ControlTarget(""))
        made._client, made._loop = client, loop
        return made

    def read(self, kind: str, name: str, versions: int = 1) -> list[Record]:
        request = pb.ReadRecordRequest(kind=kind, name=name, version_count=versions)
        return [messages.record_of(message) for message in self._call(_READ, request).versions]

    def list(self, kind: str, prefix: str = "", *, names_only: bool = False) -> list[Record]:
        request = pb.ListRecordsRequest(kind=kind, name_prefix=prefix, names_only=names_only)
        found: list[Record] = []
        more = True
        while more:
            page = self._call(_LIST, request)
            found += map(messages.record_of, page.records)
            more = page.more and bool(page.records)
            request.after_name = found[-1].name if found else ""
        return found

    def change(self, change: Change) -> Made:
        try:
            request = messages.change_message(change)
        except UnicodeEncodeError:
            problem = "its texts must be Unicode, without halves of surrogates"
            raise RecordInvalidError("change", change.id, problem) from None
        return messages.made_of(self._call(_CHANGE, request))

    def begin_epoch(self, change: Change) -> Position:
        """Begins the history anew with this change, whatever processes of the data plane have."""
        request = pb.BeginEpochRequest(change=messages.change_message(change))
        return messages.position_of(self._call(_BEGIN, request).position)

    def position(self) -> Position:
        return messages.position_of(self._call(_POSITION, pb.ReadPositionRequest()).position)

    def wait(self, known: Position | None, timeout_s: float) -> Position:
        end = time.monotonic() + timeout_s
        request = pb.ReadPositionRequest()
        if known is not None:
            request.known.CopyFrom(messages.position_message(known))
        while True:
            left = end - time.monotonic()
            request.wait_ms = max(0, round(min(left, _POLL_S) * 1000))
            try:
                position = messages.position_of(self._call(_WAIT, request, max(left, _CALL_S)).position)
            except RecordsUnavailableError:
                if self._closed or time.monotonic() >= end:
                    raise
                # As long as somebody waits, control may come back.
                time.sleep(_AGAIN_S)
                continue
            if position != known or time.monotonic() >= end:
                return position

    def lines(self, after: int = 0) -> Iterator[AuditLine]:
        more = True
        while more:
            page = self._call(_LINES, pb.ListAuditLinesRequest(after_number=after))
            yield from map(messages.line_of, page.lines)
            more = page.more and bool(page.lines)
            after = page.lines[-1].number if page.lines else after

    def problems(self) -> Sequence[Problem]:
        """What control finds wrong with the audit, and with the records by the audit. Takes a while."""
        found = self._call(_VERIFY, pb.VerifyRecordsRequest(), _VERIFY_S).problems
        return [Problem(AuditFault(p.fault), p.number, p.text) for p in found]

    def take_lease(self, name: str, holder: str, duration_s: float, token: str = "") -> str:
        request = pb.TakeLeaseRequest(
            name=name, holder=holder, token=token, duration_ms=max(1, round(duration_s * 1000))
        )
        # Its holder must know soon that it has it no more.
        return self._call(_TAKE, request, min(_CALL_S, max(duration_s, _LEASE_S))).token

    def give_back(self, lease: LeaseToken) -> None:
        self._call(_GIVE_BACK, pb.GiveBackLeaseRequest(lease=messages.lease_message(lease)))

    def report_verdict(self, request: ladder_pb2.ReportVerdictRequest) -> ladder_pb2.ReportVerdictResponse:
        """What control makes of a verdict on a rollout."""
        return self._call(_REPORT, request)

    def watchers(self) -> Sequence[Watcher]:
        """The processes of the data plane that any process of control has heard of within the last minutes."""

        async def ask() -> Sequence[ListWatchersResponse | Fault]:
            each = self._connected().each(_WATCHERS)
            return await each(ListWatchersRequest(), deadline=time.monotonic() + _CALL_S)

        found: dict[tuple[str, str], Watcher] = {}
        for reply in self._on_loop(ask):
            if isinstance(reply, Fault):
                raise error_of(reply)
            for watcher in reply.watchers:
                known = found.setdefault((watcher.service, watcher.watcher), watcher)
                if watcher.age_s < known.age_s:
                    found[watcher.service, watcher.watcher] = watcher
        return [found[key] for key in sorted(found)]

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            for call in list(self._calls):
                # The loop and the client are its opener's.
                call.get_loop().call_soon_threadsafe(call.cancel)
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _call(self, method: Method[Req, Resp], request: Req, within_s: float = _CALL_S) -> Resp:
        """The reply. Raises what `error_of` makes of the fault."""
        began = time.monotonic()
        patient, deadline = began + self._patience_s, began + max(within_s, self._patience_s)
        try:
            return self._on_loop(lambda: self._until(method, request, deadline, patient))
        except Fault as fault:
            raise error_of(fault) from None

    async def _until(self, method: Method[Req, Resp], request: Req, deadline: float, patient: float) -> Resp:
        """The reply, also of a control that is started again meanwhile. Raises Fault."""
        call = self._connected().unary(method)
        while True:
            try:
                return await call(request, deadline=deadline)
            except Fault as fault:
                again = fault.code is Code.UNAVAILABLE and fault.metadata.get("why") not in _LASTING
                if self._closed or not again or time.monotonic() + _AGAIN_S >= patient:
                    raise
            await asyncio.sleep(_AGAIN_S)

    def _connected(self) -> Client:
        if self._client is None:
            rules = ClientRules(
                target=self._target.target,
                tls=self._target.tls,
                server_name=self._target.server_name,
                # Nothing is spared by not asking a control that is away, and one that is back is found at once.
                breaker=BreakerRules(min_calls=_NEVER),
            )
            self._client = _dialled(rules)
        return self._client

    def _on_loop(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            if self._closed:
                raise _closed()
            loop = self._running()
        future = asyncio.run_coroutine_threadsafe(self._tracked(call()), loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()  # Ctrl-C must not leave the call running
            raise

    async def _tracked(self, call: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await task

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="records", daemon=True)
            self._thread.start()
        return self._loop

    async def _end(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if self._client is not None:
            await self._client.close()


def _dialled(rules: ClientRules) -> Client:
    """Raises Fault: the certificates can't be used."""
    if rules.tls is None:
        return Client("control", rules)
    from headrace.hop.transport.tls import TlsError

    try:
        return Client("control", rules)
    except TlsError as error:
        unusable = RecordsUnavailableError(Unavailable.UNREACHABLE, f"certificates: {error}")
        raise fault_of(unusable) from None


def _closed() -> RecordsUnavailableError:
    return RecordsUnavailableError(Unavailable.UNREACHABLE, "the client of control is closed")
