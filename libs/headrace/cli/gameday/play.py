"""One fault, from a healthy system to a healthy system."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from headrace.cli.gameday.faults import Fault
from headrace.cli.gameday.figures import Figures, counted
from headrace.cli.gameday.stage import GameDayError, Stage
from headrace.cli.gameday.traffic import Traffic

# So long before the fault it is seen which fallbacks are usual.
_CALM_S = 3.0


def played(fault: Fault, stage: Stage, traffic: Traffic, say: Callable[[str], None]) -> Figures:
    """Does it, waits for its alert, has it undone, waits until all is well again. `say`: is told each step.

    Raises GameDayError if the system was not healthy at first; ControlError and ServerError if the supervisor or the alerts'
    servers do not answer. Whatever is raised, the fault is undone.
    """
    stage.begun = stage.mended = 0.0
    calm = time.monotonic()
    time.sleep(_CALM_S)
    usual = traffic.fallbacks(since=calm)
    stage.until("requests are answered", lambda: traffic.healthy(usual))
    expected = fault.expected
    told = partial(stage.told, expected.alert, expected.labels)
    if told():
        say(f"waiting until {expected.alert} of before has ended …")
        stage.until(f"{expected.alert}, which fires already, ends", lambda: not told())
    say(f"{expected.what}; waiting for {expected.alert}, {stage.patience_s:g} s at most …")
    stage.begin()
    try:
        fault.begin(stage)
        detected = _came(stage, told)
        say(f"{expected.alert} {_after(detected, stage.begun, 'was not told')}")
        if fault.by_itself:
            # Undone too early, it would not be seen that nobody has to.
            _came(stage, lambda: traffic.healthy(usual))
    finally:
        for line in stage.undo.apply():
            say(line)
    if not fault.by_itself:
        stage.mend()
    say("waiting until all requests are answered as before …")
    recovered = _came(stage, lambda: traffic.healthy(usual))
    figures = counted(
        list(traffic.requests),
        begun=stage.begun,
        mended=stage.mended,
        detected=detected,
        recovered=recovered is not None,
        usual=usual,
    )
    say("well again" if recovered is not None else "not well again")
    return figures


def _came(stage: Stage, holds: Callable[[], bool]) -> float | None:
    """When it held; None: it did not."""
    try:
        stage.until("", holds)
    except GameDayError:
        return None
    return time.monotonic()


def _after(when: float | None, begun: float, never: str) -> str:
    return never if when is None else f"told after {when - begun:.0f} s"
