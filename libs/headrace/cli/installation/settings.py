"""The settings file of each service, from the layout, the ports and the number of cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headrace.cli.diagnosis import alert_files, readiness_attestations
from headrace.cli.installation import ports as port_names
from headrace.cli.installation import services
from headrace.cli.installation.layout import Layout, instance, service_of
from headrace.hop.client.settings import CoalesceRules

Shape = Literal["apart", "together"]


@dataclass(frozen=True, slots=True)
class Installation:
    """What all settings are made from. `ports`: by name, as in ports.py."""

    layout: Layout
    shape: Shape
    ports: Mapping[str, int]
    # Number of processes by service; 1 for a service that is not here.
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def services(self) -> tuple[str, ...]:
        """Services that have processes of their own, in the order in which they start."""
        if self.shape == "apart":
            return services.start_order()
        return (*services.ASIDE, services.INGRESS)

    @property
    def instances(self) -> tuple[str, ...]:
        """All processes, in the order in which they start."""
        return tuple(instance(s, n + 1) for s in self.services for n in range(self.count(s)))

    def count(self, service: str) -> int:
        """How many processes of a service there are."""
        return self.counts.get(service, 1)

    def metrics(self, instance: str, slot: int) -> str:
        """host:port of a process's metrics."""
        return f"{port_names.LOOPBACK}:{self.ports[port_names.metrics(instance, slot)]}"

    def admin(self, instance: str, slot: int) -> str:
        """host:port of Envoy's admin interface."""
        return f"{port_names.LOOPBACK}:{self.ports[port_names.admin(instance, slot)]}"

    @property
    def plaintext(self) -> str:
        """host:port of the ingress without TLS."""
        return f"{port_names.LOOPBACK}:{self.ports['http']}"

    @property
    def console(self) -> str:
        """host:port of the operator console."""
        return f"{port_names.LOOPBACK}:{self.ports[port_names.CONSOLE]}"

    @property
    def tls(self) -> str:
        """host:port of the ingress with TLS."""
        return f"{port_names.LOOPBACK}:{self.ports['tls']}"


def settings(
    installation: Installation, instance: str, *, slot: int, listen: Path, run_dir: Path
) -> dict[str, Any]:
    """Settings of one process, which binds the socket `listen` and keeps its files in `run_dir`."""
    made: dict[str, Any] = {
        "server": {"listen": f"unix:{listen}"},
        "telemetry": {"metrics": installation.metrics(instance, slot)},
    }
    if service_of(instance) == services.INGRESS:
        return made | _ingress(installation, instance, slot, run_dir)
    return made | _own(installation, service_of(instance))


def _own(installation: Installation, service: str) -> dict[str, Any]:
    """What a hosted service has beyond its server and telemetry: its files in this home, and its callees."""
    made = {**files(installation.layout).get(service, {}), **_clients(installation, service)}
    return made | {"console": _console(installation)} if service == "monitoring" else made


def _console(installation: Installation) -> dict[str, Any]:
    """The operator console, which reads what others write."""
    layout = installation.layout
    return {
        "listen": installation.console,
        "secret": str(layout.console_secret),
        "security": str(layout.security_log),
        "models": str(layout.models),
        "model_keys": [str(layout.model_public_key)],
        "model_audit": str(layout.model_log),
        "readings": str(layout.readings),
        "executor_state": str(layout.executor_state),
        "traces": str(layout.traces),
        "runbooks": str(layout.runbooks),
        **({"alertmanager": found} if (found := alert_files.settings(layout).alertmanager) else {}),
    }


def _alerts(layout: Layout) -> dict[str, Any]:
    """Where an Alertmanager is, it tells of alerts. Raises ConfigError."""
    found = alert_files.settings(layout)
    return {"webhooks": {} if found.alertmanager else found.webhooks}


def files(layout: Layout) -> dict[str, dict[str, Any]]:
    """By service, the settings that say where its files are; a service that is not here has none. Raises ConfigError."""
    return {
        "control": {
            "database": str(layout.records),
            "initialise": True,
            "signing_key": str(layout.control_key),
            "artifacts": str(layout.artifacts),
            "audit": {"journals": {name: str(path) for name, path in layout.journals.items()}},
        },
        "router": {
            "resources": _resources(layout, "router"),
            "events": {"salt": str(layout.events_salt), "journal": {"folder": str(layout.journal)}},
            "explanations": {"models": str(layout.models), "model_keys": [str(layout.model_public_key)]},
        },
        "features": {"repo": str(layout.feast)},
        "executor": {
            "models": str(layout.models),
            "trust": {"keys": [str(layout.model_public_key)]},
            "access_log": str(layout.model_log),
            "state": str(layout.executor_state),
            "resources": _resources(layout, "executor"),
            "load": "released",
        },
        "monitoring": {
            "database": str(layout.facts),
            "events": {"files": str(layout.events), "salt": str(layout.events_salt)},
            "drift": {
                "models": str(layout.models),
                "trust": {"keys": [str(layout.model_public_key)]},
            },
            "alerts": _alerts(layout),
            "deployments": str(layout.deployment_log),
            "cost": {
                "targets": str(layout.targets),
                "prices": str(layout.prices),
                "files": str(layout.home),
            },
        },
    }


def _resources(layout: Layout, service: str) -> dict[str, Any]:
    """What a service follows, and where it and control keep it."""
    return {
        "keys": [str(layout.control_public_key)],
        "folder": str(layout.resources(service)),
        "artifacts": str(layout.artifacts),
    }


def _ingress(installation: Installation, instance: str, slot: int, run_dir: Path) -> dict[str, Any]:
    layout = installation.layout
    return {
        "http": {
            "plaintext": installation.plaintext,
            "tls": installation.tls,
            "certificate": str(layout.tls / "server.pem"),
            "key": str(layout.tls / "server.key"),
        },
        "admin": installation.admin(instance, slot),
        "run_dir": str(run_dir),
        "access_log": str(layout.log("access")),
        "resources": _resources(layout, services.INGRESS),
        "quotas": str(layout.quotas),
        "queries": str(layout.queries),
        "idempotency": {"file": str(layout.idempotency)},
        "security": {"file": str(layout.security_log)},
        **_attested(layout),
        "workers": installation.count(services.INGRESS),
        **_clients(installation, services.INGRESS),
        "traces": {"folder": str(layout.traces)},
        "together": _together(installation) if installation.shape == "together" else {},
    }


def _attested(layout: Layout) -> dict[str, str]:
    """Until when somebody attests that all data here is on encrypted storage; empty: nobody does. Raises ConfigError."""
    said = readiness_attestations.read(layout)
    return {} if said.encryption is None else {"encrypted_until": f"{said.end(said.encryption)}"}


def _together(installation: Installation) -> dict[str, Any]:
    """Settings of the services that live in the ingress's process. Nothing reaches them from outside."""
    return {
        name: {"server": {"listen": "local"}} | _own(installation, name)
        for name in services.start_order()
        if name not in installation.services
    }


def _clients(installation: Installation, caller: str) -> dict[str, Any]:
    """Settings of a service's clients, by callee."""
    return {callee: _client(installation, caller, callee) for callee in services.callees(caller)}


def _client(installation: Installation, caller: str, callee: str) -> dict[str, Any]:
    local = callee not in installation.services
    target = {"target": "local" if local else f"unix-dir:{installation.layout.listed(callee)}"}
    if callee in services.ASIDE:
        return target
    if caller == services.INGRESS:
        return {**target, "coalesce": {"window": _window(installation, callee)}}
    if local:
        return target
    # A replica without a batch does nothing: there must be as many batches in flight as replicas.
    replicas = installation.count(callee)
    return {**target, "coalesce": {"window": replicas}} if replicas > CoalesceRules().window else target


def _window(installation: Installation, callee: str) -> int:
    """How many batches the ingress has in flight at once: as many as the cores can work on.

    On two cores one batch of twice the rows gives a fifth more throughput and a lower p99 than two (load/RESULTS.md). In
    one process there is one thread to work on them: a second batch would leave with the first row that comes, and cost
    as much as a full one.
    """
    if installation.shape == "together":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(max(cores // 2, 1), 4), installation.count(callee))


def overlaid(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `extra` laid over it, also in the mappings within."""
    merged = dict(base)
    for key, value in extra.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = overlaid(below, value)
        else:
            merged[key] = value
    return merged
