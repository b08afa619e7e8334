"""The guards of a rollout, by the names that its document and `GUARDS` give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from headrace.pipeline.guards import GUARDS, judging
from headrace.releases.document import Release, Rollout
from services.monitoring.guards.guard import Guard, Objectives, Setting

# Of α for those that look at the whole; the rest is for segments and tenants.
_WHOLE = 0.5


def guards_of(
    release: Release, rollout: Rollout, objectives: Objectives, edges_s: Sequence[float]
) -> dict[str, Guard]:
    """All guards that judge the rollout. `edges_s`: upper edges of the latency buckets in seconds."""
    named = judging(rollout.guards)
    weights = {name: GUARDS[name].weight for name in named}
    whole, parts = sum(weights.values()), sum(not weight for weight in weights.values())
    made: dict[str, Guard] = {}
    for name, guard in named.items():
        alpha = _WHOLE * weights[name] / whole if weights[name] else (1 - _WHOLE) / parts
        promised_ms = guard.slow_ms or objectives.slow_ms
        usual = GUARDS[name].action
        action = guard.action or usual
        setting = Setting(
            name,
            action,
            guard.margins(name),
            rollout.alpha * alpha,
            rollout.fine_alpha,
            1 if rollout.is_holdback else len(rollout.ladder),
            rollout.deadline_s,
            rollout.arm,
            rollout.since,
            guard.required and usual == "go_back" and action != "tell",
            promised_ms / 1000 if promised_ms else None,
            edges_s,
            bool(release.rules),
        )
        made[name] = maker(name)(setting)
    return made


def maker(name: str) -> Callable[[Setting], Guard]:
    """Of the file of this name in `kinds/`."""
    made: Callable[[Setting], Guard] = import_module(f"services.monitoring.guards.kinds.{name}").make
    return made
