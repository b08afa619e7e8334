"""What a cause of an alert is: something that is done to a running system, and undone as its runbook says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.alerts.alarmed_system import Alarmed

Provoke = Callable[[Alarmed], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Cause:
    """`alerts`: those that must come, each with some of its labels. `provoke`: the cause lasts within the context. `what`,
    `mended`: in words, for the record. `afterwards`: alerts that come once it is mended."""

    alerts: Mapping[str, Mapping[str, str]]
    what: str
    mended: str
    provoke: Provoke
    afterwards: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
