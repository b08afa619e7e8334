"""Runs a call with an idempotency key once: who comes with the same key gets the outcome of the first.

Whoever gets here has proven credential, scope and size, and has paid: a replay costs the tenant's quota as any call does, since
it is charged before the key is looked at. Otherwise known keys would be free requests, and a tenant without quota could find
out which keys are known.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import IDEMPOTENCY_KEYS
from services.ingress.idempotency.outcome import (
    HEADER,
    Outcome,
    fingerprint_of,
    is_kept,
    is_whole,
    read_key,
)
from services.ingress.idempotency.store import Call, Claim, KeyStore, State, StoreUnreachableError
from services.ingress.request_context import RequestContext

M = TypeVar("M", bound=Message)
# How often a key that another process has claimed is looked at again.
_LOOK_S, _LONGEST_LOOK_S = 0.01, 0.25
_RETRY_AFTER_S = 0.5
# The work is done; only its outcome is not kept yet.
_COMMIT_ATTEMPTS = 3


def _refusal(code: Code, reason: Reason, message: str, retry_s: float | None = None) -> Fault:
    return Fault(code, reason, message, metadata={"field": HEADER}, retry_after_s=retry_s)


_FULL = IDEMPOTENCY_KEYS.refusal("the tenant has as many idempotency keys as it may; send no key, or wait")
_REUSED = _refusal(
    Code.INVALID_ARGUMENT,
    Reason.REASON_IDEMPOTENCY_KEY_REUSED,
    f"this {HEADER} was used for a call with other parameters; use a new key for a new call",
)
_IN_USE = _refusal(
    Code.ABORTED,
    Reason.REASON_IDEMPOTENCY_KEY_IN_USE,
    f"a call with this {HEADER} is still being served; ask again with the same key",
    _RETRY_AFTER_S,
)
_UNREACHABLE = _refusal(
    Code.UNAVAILABLE,
    Reason.REASON_IDEMPOTENCY_UNAVAILABLE,
    f"whether this {HEADER} was used can't be found out now, so nothing was done; ask again with the same key",
    _RETRY_AFTER_S,
)
_UNREADABLE = _refusal(
    Code.UNAVAILABLE,
    Reason.REASON_IDEMPOTENCY_UNAVAILABLE,
    f"a call with this {HEADER} was answered, but its kept outcome can't be read, so nothing was done; use a new key if "
    "the call may run again",
)


class IdempotentCalls:
    """`clock`: monotonic seconds. `lease_s`: of the store; it is renewed three times as often."""

    def __init__(self, store: KeyStore, log: Any, lease_s: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._log = log
        self._renew_s = lease_s / 3
        self._clock = clock
        self._failing = False
        # Calls that run in this process, by tenant and key: who waits for one need not ask the store again and again.
        self._running: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def once(
        self,
        context: RequestContext,
        request: Message,
        limit_s: float,
        reply: type[M],
        run: Callable[[], Awaitable[M]],
    ) -> M:
        """The reply of `run`, or that of an earlier call with this key. `limit_s`: how long a call of the pipeline may take.

        Raises Fault: what `run` raises or raised; INVALID_ARGUMENT for a key that belongs to another call; ABORTED if the
        other call with the key did not end in time; RESOURCE_EXHAUSTED; UNAVAILABLE if the store can't be asked.
        """
        key = read_key(context.idempotency_key or b"")
        call = Call(context.tenant, key, fingerprint_of(context.method, request), secrets.token_hex(16))
        deadline = min(context.deadline, context.received + limit_s)
        while True:
            kept = await self._claimed(call, deadline)
            if kept is not None:
                return self._replay(kept, context, reply)
            done = await self._run(call, context, run)
            if done is not None:
                return done
            # Our lease ended before we did, so somebody else may have answered. That answer counts; ours is forgotten.

    async def _claimed(self, call: Call, deadline: float) -> bytes | None:
        """The outcome that is kept; None: the key is claimed."""
        pause = _LOOK_S
        while True:
            claim = await self._claim(call)
            if claim.state is State.CLAIMED:
                return None
            if claim.state is State.KEPT:
                return claim.outcome
            left = deadline - self._clock()
            if claim.state is not State.BUSY or left <= 0:
                raise _refused(claim.state).copy()
            if (running := self._running.get((call.tenant, call.key))) is not None:
                await asyncio.wait([running], timeout=left)
            else:  # it runs in another process
                await asyncio.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_LOOK_S)

    async def _claim(self, call: Call) -> Claim:
        try:
            claim = await self._store.claim(call)
        except StoreUnreachableError as error:
            self._tell(error)
            raise _UNREACHABLE.copy() from None
        self._tell(None)
        return claim

    def _tell(self, error: StoreUnreachableError | None) -> None:
        """Logs that the store can't be asked, and that it can again: once, not for each call."""
        if (error is not None) != self._failing:
            self._failing = error is not None
            if error is None:
                self._log.info("idempotency keys can be looked up again")
            else:
                self._log.error("calls with an idempotency key are refused", error=str(error))

    def _replay(self, kept: bytes, context: RequestContext, reply: type[M]) -> M:
        try:
            outcome = Outcome.of_bytes(kept)
            message = reply.FromString(outcome.reply)
        except (ValueError, DecodeError) as error:
            # To run the call again would break the promise of its key.
            self._log.error(
                "a kept outcome can't be read; its key is refused until it ends", error=repr(error)
            )
            raise _UNREADABLE.copy() from None
        context.original_request_id = outcome.request_id
        if outcome.fault is not None:
            raise outcome.fault
        return message

    async def _run(self, call: Call, context: RequestContext, run: Callable[[], Awaitable[M]]) -> M | None:
        """Runs the call under the lease. None: the lease has ended, so that the outcome is nobody's."""
        name = call.tenant, call.key
        running = self._running[name] = asyncio.get_running_loop().create_future()
        renewal = _Renewal(self._renew_s, lambda: self._store.renew(call))
        settled = False
        try:
            try:
                done = await run()
            except Fault as fault:
                if not is_kept(fault, context):
                    raise
                settled = True
                if await self._commit(call, context, Outcome(context.request_id, fault=fault)):
                    raise
                return None
            if not is_whole(context):
                return done
            settled = True
            outcome = Outcome(context.request_id, done.SerializeToString())
            return done if await self._commit(call, context, outcome) else None
        finally:
            renewal.end()
            if not settled:
                await self._abandon(call)
            if self._running.get(name) is running:
                del self._running[name]
            running.set_result(None)

    async def _commit(self, call: Call, context: RequestContext, outcome: Outcome) -> bool:
        """False: the lease has ended. If the store does not answer, the caller still gets what was computed for it."""
        said = {
            "request_id": context.request_id,
            "method": context.method,
            "pipeline": context.pipeline,
            "code": Code.OK.name if outcome.fault is None else outcome.fault.code.name,
        }
        for attempt in range(_COMMIT_ATTEMPTS):
            try:
                # Not to be given up half-way: who disconnects now comes back with the key.
                return await asyncio.shield(self._store.commit(call, outcome.to_bytes(), json.dumps(said)))
            except StoreUnreachableError as error:
                if attempt + 1 == _COMMIT_ATTEMPTS:
                    self._log.error("the outcome of an idempotent call is not kept", error=str(error), **said)
                else:
                    await asyncio.sleep(_LOOK_S)
        return True

    async def _abandon(self, call: Call) -> None:
        try:
            await asyncio.shield(self._store.abandon(call))
        except StoreUnreachableError as error:
            self._log.warning("an idempotency key is free only after its lease", error=str(error))


def _refused(state: State) -> Fault:
    if state is State.FULL:
        return _FULL
    return _REUSED if state is State.OTHER else _IN_USE


class _Renewal:
    """Renews a lease until `end`. Most calls end before the first time, so there is no task until then."""

    def __init__(self, every_s: float, renew: Callable[[], Awaitable[bool]]) -> None:
        self._every_s = every_s
        self._renew = renew
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(every_s, self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._repeat())

    async def _repeat(self) -> None:
        # While the store does not answer, it is tried again: the lease may not have ended yet.
        held = True
        while held:
            try:
                held = await self._renew()
            except StoreUnreachableError:
                held = True
            await asyncio.sleep(self._every_s)

    def end(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
