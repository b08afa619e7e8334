"""What is live where, as the processes' metrics say: the changes that each has, how old that is, what routers serve, and
whether doors share limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.cli.installation.layout import service_of
from headrace.cli.installation.services import INGRESS
from headrace.cli.supervision import probes

_SERVED = re.compile(rb'^headrace_router_release\{pipeline="([^"]+)"\} ([0-9.e+]+)', re.MULTILINE)
_RESOURCES = re.compile(
    rb'^headrace_resources_(number|age_seconds|rejected)\{service="([a-z]+)"\} ([0-9.e+-]+)', re.MULTILINE
)
_CONTROL = re.compile(
    rb"^headrace_control_(database_failing|diverged_followers|position) ([0-9.e+]+)", re.MULTILINE
)
_ALONE = re.compile(rb"^headrace_quota_alone 1", re.MULTILINE)
_DOORS = re.compile(rb"^headrace_quota_doors ([0-9]+)", re.MULTILINE)
# A follower asks every few seconds; after this it has missed several answers.
_OLD_S = 30.0


@dataclass
class LiveState:
    """`serving`: pipeline → its release at the router that answered last. `followers`: process → number of the last
    change that it has, seconds since control confirmed it, resources that it rejects. `position`: control's; None: it is away."""

    serving: dict[str, int] = field(default_factory=dict)
    followers: dict[str, dict[str, float]] = field(default_factory=dict)
    position: int | None = None
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"position": self.position, "followers": self.followers, "problems": self.problems}


def read(services: Mapping[str, Mapping[str, Any]]) -> LiveState:
    """`services`: as the supervisor tells of them."""
    pages = probes.metrics_pages({name: s["metrics"] for name, s in services.items() if s["metrics"]})
    state = LiveState()
    for process, page in pages.items():
        _add(state, process, page)
    if state.position is None:
        state.problems.append("control does not answer: what is live serves on, nothing can be changed")
    for process, found in state.followers.items():
        if found["age_seconds"] > _OLD_S:
            state.problems.append(f"{process} serves what control confirmed {found['age_seconds']:.0f} s ago")
        if found["rejected"]:
            state.problems.append(f"{process} can't use {found['rejected']:.0f} resources; its log says why")
    state.problems += _unshared([page for name, page in pages.items() if service_of(name) == INGRESS])
    return state


def _unshared(doors: list[bytes]) -> Iterator[str]:
    """What is wrong with limits of tenants that are to be shared with the doors of other machines."""
    alone = [page for page in doors if _ALONE.search(page)]
    if alone:
        count = max(int(found[1]) for page in alone if (found := _DOORS.search(page)))
        yield (
            f"limits of tenants are not shared: {len(alone)} of {len(doors)} doors here can't use the Redis of `sharing`, "
            f"so each has 1/{count} of each limit; headrace logs ingress says why, they share again by themselves"
        )


def _add(state: LiveState, process: str, page: bytes) -> None:
    for pipeline, value in _SERVED.findall(page):
        state.serving[pipeline.decode()] = int(float(value))
    for what, service, value in _RESOURCES.findall(page):
        name = process if process.partition(".")[0] == service.decode() else f"{process}/{service.decode()}"
        state.followers.setdefault(name, {})[what.decode()] = float(value)
    control = {what: float(value) for what, value in _CONTROL.findall(page)}
    if control:
        state.position = int(control.get(b"position", 0))
    if control.get(b"database_failing"):
        state.problems.append("control can't use its database: nothing can be changed; its log says why")
    if count := int(control.get(b"diverged_followers", 0)):
        state.problems.append(
            f"{count} processes have what control's database has not; nothing is changed until you decide: headrace recover"
        )
