"""Callers of the measured pipeline: an open loop of single rows whose rate goes up and down, and outcomes of the answers."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client import AsyncHeadrace, Outcome
from load.scenarios.releases.rollouts.planted import ALWAYS_FAILS, ENTRIES, LIVE_VERSION, PIPELINE

_PREDICT = "/headrace.api.inference.v1.InferenceService/Predict"
_CLIENTS, _FAILING = 1000, 20
_WOBBLE_S = 10.0
_OUTCOMES_EACH_S = 0.25
_TIMEOUT_S = 10.0
_VERSION = re.compile(rf"model '{PIPELINE}' version '(\d+)'")


@dataclass(frozen=True, slots=True)
class Answered:
    """One row: when its answer came (monotonic seconds), how long it took, its arm ("": the request failed), its error if it has
    one, and whether its caller always fails."""

    at: float
    seconds: float
    arm: str
    error: str
    hopeless: bool
    wrong: bool


@dataclass
class Traffic:
    """`rate`: requests a second, ± `wobble` of it. `outcomes`: the true label of each answer is posted a moment later."""

    target: str
    key: str
    rate: float
    wobble: float = 0.5
    outcomes: bool = False
    failing: bool = False
    seed: int = 0
    answered: list[Answered] = field(default_factory=list)
    # When outcomes of a wrong row were posted first.
    outcome_at: float = math.inf
    outcomes_failed: int = 0
    _known: list[Outcome] = field(default_factory=list)
    _known_wrong: bool = False
    _asked: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[Traffic]:
        """Requests flow until it is left; those on the way are answered before."""
        async with grpc.aio.insecure_channel(self.target) as channel:  # noqa: TID251 - a client from outside
            call = channel.unary_unary(
                _PREDICT,
                request_serializer=pb.PredictRequest.SerializeToString,
                response_deserializer=pb.PredictResponse.FromString,
            )
            async with AsyncHeadrace(self.target, key=self.key, timeout_s=_TIMEOUT_S) as client:
                loops = [asyncio.create_task(self._send(call))]
                if self.outcomes:
                    loops.append(asyncio.create_task(self._post(client)))
                try:
                    yield self
                finally:
                    for loop in loops:
                        loop.cancel()
                    await asyncio.gather(*loops, return_exceptions=True)
                    if self._asked:
                        await asyncio.gather(*self._asked)

    async def _send(self, call: Any) -> None:
        draw = random.Random(self.seed)
        began = due = time.monotonic()
        while True:
            wobble = 1 + self.wobble * math.sin(2 * math.pi * (due - began) / _WOBBLE_S)
            due += draw.expovariate(self.rate * wobble)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            client = draw.randrange(_CLIENTS)
            hopeless = self.failing and client < _FAILING
            x = ALWAYS_FAILS if hopeless else draw.randrange(ENTRIES)
            task = asyncio.create_task(self._ask(call, x, client, hopeless))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def _ask(self, call: Any, x: int, client: int, hopeless: bool) -> None:
        began = time.monotonic()
        request = pb.PredictRequest(pipeline=PIPELINE)
        request.rows.add().update({"x": x, "client": client})
        try:
            answer = await call(
                request, timeout=_TIMEOUT_S, metadata=(("authorization", f"Bearer {self.key}"),)
            )
        except grpc.aio.AioRpcError as error:
            said = f"{error.code().name}: {error.details()}"
            now = time.monotonic()
            # A request whose only row failed names no arm, but the version that it failed on.
            found = _VERSION.search(said)
            arm = "" if found is None else "live" if found[1] == LIVE_VERSION else "candidate"
            self.answered.append(Answered(now, now - began, arm, said, hopeless, False))
            return
        now = time.monotonic()
        row = answer.predictions[0]
        arm = answer.decisions[row.decision].arm
        wrong = not row.HasField("error") and row.outputs["label"] != x % 2
        self.answered.append(Answered(now, now - began, arm, row.error.message, hopeless, wrong))
        if self.outcomes and not row.HasField("error"):
            self._known.append(Outcome(answer.request_id, "label", x % 2))
            self._known_wrong |= wrong

    async def _post(self, client: AsyncHeadrace) -> None:
        while True:
            await asyncio.sleep(_OUTCOMES_EACH_S)
            known, self._known = self._known, []
            wrong, self._known_wrong = self._known_wrong, False
            try:
                await client.record_outcomes(known)
            except Exception:  # noqa: BLE001 - counted; the run goes on
                self.outcomes_failed += 1
                continue
            if wrong:
                self.outcome_at = min(self.outcome_at, time.monotonic())
