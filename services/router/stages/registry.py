"""The kinds of stages that the router can run, each with the service that it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.hop.client.dial import Client
from headrace.hop.config import Settings
from services.router.stages.cascade import CASCADE
from services.router.stages.ensemble import ENSEMBLE
from services.router.stages.features import FEATURES
from services.router.stages.model import MODEL
from services.router.stages.runner import RunnerFactory, RunnerKind
from services.router.stages.steps import POSTPROCESSING, PREPROCESSING

RUNNER_KINDS: dict[str, RunnerKind] = {
    kind.name: kind for kind in (FEATURES, PREPROCESSING, MODEL, CASCADE, ENSEMBLE, POSTPROCESSING)
}


def callees() -> tuple[str, ...]:
    """The services that stages call, each once."""
    return tuple(dict.fromkeys(kind.callee for kind in RUNNER_KINDS.values()))


def connected(
    clients: Mapping[str, Client], settings: Settings, clock: Callable[[], float]
) -> dict[str, RunnerFactory]:
    """By kind, what makes the runners of its stages; only of kinds whose callee is among `clients`."""
    return {
        name: kind.connect(clients[kind.callee], settings, clock)
        for name, kind in RUNNER_KINDS.items()
        if kind.callee in clients
    }
