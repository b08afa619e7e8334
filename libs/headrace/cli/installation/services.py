"""Which services there are, who calls whom, and in which order they start. Only the ingress is named here, and those that no
request waits for.

A service is there if an entry point of the group `headrace.services` names it. It calls those for which its settings
have a field. So a new service needs no edit here.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.hop.config import ServiceSettings

# As hop's `server/hosting.py` has it, whose import takes longer than most commands.
GROUP = "headrace.services"
# No request waits for them: in a home they have processes of their own in every shape, so that their work delays no request.
CONTROL = "control"
ASIDE = (CONTROL, "monitoring")
# Two processes of it can't run at the same time: what they work on has one user. No request waits for it meanwhile.
ALONE = ASIDE
# Not in the group: it hosts the others in the together shape, and nobody hosts it.
INGRESS = "ingress"
_INGRESS_PACKAGE = "services.ingress"


@cache
def hosted() -> tuple[str, ...]:
    """The services of the group, by name: all but the ingress. The names alone; cheap."""
    return tuple(sorted(entry_points(group=GROUP).names))


@cache
def callees(service: str) -> tuple[str, ...]:
    """The services that a service calls, in the order of its settings."""
    known = {*hosted()} - {service}
    return tuple(name for name in _settings_class(service).model_fields if name in known)


@cache
def start_order() -> tuple[str, ...]:
    """All services, each after those that it calls; the ingress is the last."""
    found: list[str] = []
    seen: set[str] = set()

    def visit(service: str) -> None:
        if service not in seen:
            seen.add(service)
            for callee in callees(service):
                visit(callee)
            found.append(service)

    # The ingress first, so that services start in the order in which a request reaches them.
    for service in (INGRESS, *hosted()):
        visit(service)
    return (*(s for s in found if s != INGRESS), INGRESS)


@cache
def stop_groups() -> tuple[tuple[str, ...], ...]:
    """All services in groups that stop one after another, callers before those they call."""
    depth: dict[str, int] = {}
    for service in reversed(start_order()):
        depth.setdefault(service, 0)
        for callee in callees(service):
            depth[callee] = max(depth.get(callee, 0), depth[service] + 1)
    return tuple(
        tuple(s for s in start_order() if depth[s] == level) for level in range(max(depth.values()) + 1)
    )


def clear() -> None:
    """Forgets what was found; for tests."""
    for cached in (hosted, callees, start_order, stop_groups):
        cached.cache_clear()


def _settings_class(service: str) -> type[ServiceSettings]:
    """The class in the service's `config.py`; without that file (a factory made the service) its Definition has it.

    Not always by the Definition: `wiring.py` imports what the service runs on, such as Feast, which takes seconds.
    """
    if service == INGRESS:
        return _class_in(f"{_INGRESS_PACKAGE}.config")
    [entry_point] = entry_points(group=GROUP, name=service)
    module = f"{entry_point.module.rpartition('.')[0]}.config"
    if find_spec(module) is not None:
        return _class_in(module)
    found: type[ServiceSettings] = entry_point.load().config
    return found


def _class_in(module: str) -> type[ServiceSettings]:
    from headrace.hop.config import ServiceSettings  # late: with pydantic, it takes longer than most commands

    [found] = {
        value
        for value in vars(import_module(module)).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value is not ServiceSettings
    }
    return found
