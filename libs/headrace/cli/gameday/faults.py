"""The faults that a running home can bear: each ends by itself or is undone in a moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from headrace.cli.gameday.expectation import AWAY, USUAL, Expectation
from headrace.cli.gameday.stage import GameDayError, Stage
from headrace.cli.installation import certificates

_KILLED, _FROZEN = "preprocessing", "postprocessing"
_CRASH_LOOP, _MOST_KILLS = "HeadraceCrashLoop", 8
# A stopped process is replaced after some 10 s, which is too little of an hour where others ask, too. A scrape that hangs is told
# after 10 s and is one of 15 s: whether HeadraceTargetDown comes in that time is chance.
_FASTER_THAN_ITS_ALERT = 20.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`harm`: what callers notice. `begin` does it; what it changes, it changes through `Stage.undo`. `by_itself`: the system
    mends it without help. `service`: whose process it needs; `pace`: at least so fast must the alerts be (settings/slo.yaml), or
    none can come."""

    expected: Expectation
    harm: str
    begin: Callable[[Stage], None]
    by_itself: bool = False
    service: str = ""
    pace: float = 0.0

    def hindered(self, stage: Stage) -> str:
        """Why it can't be begun here; empty: it can. Raises ControlError, ServerError."""
        if self.service and not stage.ready(self.service):
            return f"{self.service} has no process of its own that is ready"
        if stage.settings.pace < self.pace:
            return (
                f"{self.expected.alert} can't come in time: set pace: 60 in settings/slo.yaml, "
                "headrace slo rules, and SIGHUP to Prometheus and Alertmanager"
            )
        return ""


def _kill_again(stage: Stage) -> None:
    """Three starts within the alert's window are enough. At a pace of 60 that holds four samples: three slow starts are not."""
    started = f'changes(process_start_time_seconds{{instance="{_KILLED}"}}[15m])'
    seen = stage.value(started)
    for count in range(1, _MOST_KILLS + 1):
        pid = stage.pid(_KILLED)
        if pid is None:
            raise GameDayError(f"{_KILLED} has no process")
        os.kill(pid, signal.SIGKILL)
        stage.mend()
        stage.until(f"{_KILLED} is ready again", partial(_replaced, stage, pid))
        stage.until("Prometheus sees the new process", partial(_at_least, stage, started, seen + count))
        if stage.due(_CRASH_LOOP, {"instance": _KILLED}):
            return


def _replaced(stage: Stage, pid: int) -> bool:
    return stage.pid(_KILLED) not in (pid, None) and stage.ready(_KILLED)


def _at_least(stage: Stage, expression: str, least: float) -> bool:
    return stage.value(expression) >= least


def _freeze(stage: Stage) -> None:
    pid = stage.pid(_FROZEN)
    if pid is None:
        raise GameDayError(f"{_FROZEN} has no process")
    stage.undo.stop("frozen", pid)
    stage.mend()


def _end_certificate(stage: Stage) -> None:
    certificate, key = certificates.ended(stage.layout.tls, datetime.now(UTC), timedelta(days=1))
    folder = stage.layout.tls
    stage.undo.write("certificate", {folder / "server.key": key, folder / "server.pem": certificate})


FAULTS = {
    fault.expected.name: fault
    for fault in (
        Fault(
            Expectation(
                "killed",
                f"{_KILLED} killed (SIGKILL) three times, or until the alert is due",
                "the supervisor starts it",
                _CRASH_LOOP,
                {"instance": _KILLED},
                codes=frozenset({"UNAVAILABLE"}),
                fallbacks=USUAL,
            ),
            "requests fail at once for the seconds of three starts",
            _kill_again,
            by_itself=True,
            service=_KILLED,
        ),
        Fault(
            Expectation(
                "frozen",
                f"{_FROZEN} stopped (SIGSTOP)",
                "the supervisor replaces it",
                "HeadraceAvailabilityBurn",
                {"level": "14.4x"},
                codes=AWAY,
                fallbacks=USUAL,
                recovery_s=120.0,
            ),
            "requests fail for some ten seconds, until the supervisor replaces the process",
            _freeze,
            by_itself=True,
            service=_FROZEN,
            pace=_FASTER_THAN_ITS_ALERT,
        ),
        Fault(
            Expectation.harmless(
                "certificate",
                "the door gets a certificate that ended yesterday",
                "the good one is put back",
                "HeadraceCertificateRefused",
            ),
            "nothing: the door serves the one before. A door that starts meanwhile would have none",
            _end_certificate,
            service="ingress",
        ),
    )
}
