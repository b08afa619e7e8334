"""The simulation finds nothing in the code as it is, is the same each time, and finds what is planted."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import pytest

from headrace.hop.batching.coalesce import Coalescer
from headrace.hop.resilience.breaker import Breaker
from headrace.hop.resilience.health_check import Liveness
from headrace.hop.resilience.replicas import Replica
from headrace.hop.server.stack import Shed
from tests.simulation.world import failures, played

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]
CASES, BLOCK = 1000, 50
# A planted fault is found in so many cases.
FOUND_WITHIN = 150


@pytest.mark.parametrize("first", range(0, CASES, BLOCK))
def test_nothing_is_wrong_in_any_case(first: int) -> None:
    assert {seed: found for seed in range(first, first + BLOCK) if (found := failures(seed))} == {}


def test_a_case_is_played_in_the_same_way_in_each_process() -> None:
    code = "from tests.simulation.world import played; print([played(seed)[1] for seed in range(6)])"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert other.stdout.strip() == str([played(seed)[1] for seed in range(6)])


def every_timeout_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that let one tenant close the door: one breaker for all methods, and timeouts longer than the mean count."""
    guard = Replica.guard
    monkeypatch.setattr(Replica, "guard", lambda self, _: guard(self, "all"))

    def timed_out(self: Breaker, permit: int, now: float, seconds: float, kind: Hashable, *_: Any) -> bool:
        if seconds < self._usual.get(kind, 0.0):
            self.release(permit)
        else:
            self.record(permit, now, seconds, 1.0)
        return True

    monkeypatch.setattr(Breaker, "timed_out", timed_out)


def a_stall_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "patience", lambda *_: 0.1)


def a_cancelled_call_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Shed.leave

    def kept(self: Shed) -> None:
        if not isinstance(sys.exception(), asyncio.CancelledError):
            leave(self)

    monkeypatch.setattr(Shed, "leave", kept)


def the_end_of_a_call_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    flush, sent = Coalescer._flush, Coalescer._sent

    def sometimes(self: Coalescer[Any, Any], *ended: Any) -> None:
        if random.random() < 0.2:
            monkeypatch.setattr(Coalescer, "_flush", lambda *_: None)
        sent(self, *ended)
        monkeypatch.setattr(Coalescer, "_flush", flush)

    monkeypatch.setattr(Coalescer, "_sent", sometimes)


@pytest.mark.parametrize(
    ("plant", "means"),
    [
        (every_timeout_counts, "of the good tenant failed"),
        (a_stall_is_silence, "of the good tenant failed"),
        (a_cancelled_call_keeps_its_place, "at the end"),
        (the_end_of_a_call_wakes_nobody, "a row waits"),
    ],
)
def test_what_is_planted_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, means: str) -> None:
    plant(monkeypatch)
    assert any(means in " ".join(failures(seed)) for seed in range(FOUND_WITHIN))
