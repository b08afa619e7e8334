"""Which alarms are raised, and when one is over. A state machine without a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace.drift import Check, Level, Verdict

# An alarm is over when so many looks in a row found nothing.
QUIET_LOOKS = 3
_ORDER = (Level.FINE, Level.ALERT, Level.PAGE)


class Change(StrEnum):
    """What became of an alarm."""

    RAISED = "raised"
    WORSE = "worse"
    OVER = "over"


@dataclass(slots=True)
class Alarm:
    """`since`: seconds since 1970; `verdict`: the newest that was not fine; `level`: the worst so far; `segment`: of whose rows
    alone it was when it was raised; "": of no single one."""

    since: float
    verdict: Verdict
    level: Level
    quiet: int = 0
    segment: str = ""


class Alarms:
    """Of one series."""

    def __init__(self) -> None:
        self.raised: dict[tuple[str, Check], Alarm] = {}

    def look(self, verdicts: Sequence[Verdict], now: float) -> list[tuple[Change, Alarm]]:
        """Takes the verdicts of a look; returns what changed."""
        return list(self._changes(verdicts, now))

    def _changes(self, verdicts: Sequence[Verdict], now: float) -> Iterator[tuple[Change, Alarm]]:
        for verdict in verdicts:
            key = (verdict.column, verdict.check)
            alarm = self.raised.get(key)
            if verdict.level is Level.FINE:
                if alarm is not None and self._is_over(key, alarm):
                    yield Change.OVER, alarm
            elif alarm is None:
                alarm = self.raised[key] = Alarm(now, verdict, verdict.level)
                yield Change.RAISED, alarm
            else:
                worse = _ORDER.index(verdict.level) > _ORDER.index(alarm.level)
                alarm.verdict, alarm.quiet = verdict, 0
                if worse:
                    alarm.level = verdict.level
                    yield Change.WORSE, alarm

    def _is_over(self, key: tuple[str, Check], alarm: Alarm) -> bool:
        alarm.quiet += 1
        if alarm.quiet < QUIET_LOOKS:
            return False
        del self.raised[key]
        return True
