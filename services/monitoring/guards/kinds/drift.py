"""What drifts in the canary's rows from its model's baseline, and not in those of the live arm from its own."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.releases.spans import LIVE
from services.monitoring.guards.guard import Facts, Finding, Guard, Setting, Verdict


class Drift(Guard):
    """By the looks of `services/monitoring/drift`, whose own alarms leave little to chance."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._found: Mapping[str, str] | None = None
        self._compared = False

    def learn(self, facts: Facts) -> None:
        """See Guard."""
        live, canary = (facts.drifted.get(arm) for arm in (LIVE, self.setting.arm))
        self._compared = live is not None
        self._found = (
            None if canary is None else {k: text for k, text in canary.items() if k not in (live or {})}
        )

    def finding(self) -> Finding:
        """Without a baseline of the live arm nobody knows whether traffic drifts or the version: it is only said."""
        setting, found = self.setting, self._found
        action = setting.action if self._compared else "tell"
        if found is None:
            return Finding(
                setting.name,
                Verdict.NOT_KNOWN,
                action,
                "",
                unknown="no baseline of the canary's model, or too few rows",
            )
        unknown = "" if self._compared else "whether it drifts in the live arm, too"
        verdict = Verdict.HARM if found else Verdict.NOTHING_FOUND
        return Finding(setting.name, verdict, action, "; ".join(found.values()), unknown=unknown)


make = Drift
