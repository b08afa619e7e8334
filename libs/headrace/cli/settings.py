"""The settings file of each service, from the layout, the ports and the number of cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headrace.cli import ports as port_names
from headrace.cli.layout import LEAVES, Layout, instance, service_of
from headrace.hop.client.settings import CoalesceRules

Shape = Literal["apart", "together"]


@dataclass(frozen=True, slots=True)
class Installation:
    """What all settings are made from."""

    layout: Layout
    shape: Shape
    ports: Mapping[str, int]
    # Processes of a service; one of each that is not named.
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def services(self) -> tuple[str, ...]:
        """Services that have processes of their own, in the order in which they start."""
        return (*LEAVES, "router", "ingress") if self.shape == "apart" else ("ingress",)

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
        """host:port of the door without TLS."""
        return f"{port_names.LOOPBACK}:{self.ports['http']}"

    @property
    def tls(self) -> str:
        """host:port of the door with TLS."""
        return f"{port_names.LOOPBACK}:{self.ports['tls']}"


def settings(
    installation: Installation, instance: str, *, slot: int, listen: Path, run_dir: Path
) -> dict[str, Any]:
    """Settings of one process, which binds the socket `listen` and keeps its files in `run_dir`."""
    made: dict[str, Any] = {
        "server": {"listen": f"unix:{listen}"},
        "telemetry": {"metrics": installation.metrics(instance, slot)},
    }
    if service_of(instance) == "ingress":
        return made | _ingress(installation, instance, slot, run_dir)
    return made | _own(installation, service_of(instance), "apart")


def _own(installation: Installation, service: str, shape: Shape) -> dict[str, Any]:
    """What one service has beyond its server and telemetry."""
    layout = installation.layout
    match service:
        case "router":
            callees = {name: _client(installation, name, shape) for name in LEAVES}
            return {"pipelines": str(layout.pipelines), "kept": str(layout.kept_pipelines), **callees}
        case "features":
            return {"repo": str(layout.feast)}
        case "executor":
            trust = {"keys": [str(layout.model_public_key)], "memory": str(layout.model_memory)}
            return {
                "models": str(layout.models),
                "trust": trust,
                "access_log": str(layout.model_log),
                "state": str(layout.executor_state),
            }
        case _:
            return {}


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
        "pipelines": str(layout.pipelines),
        "kept": str(layout.kept_pipelines),
        "tenants": str(layout.tenants),
        "tenants_kept": str(layout.kept_tenants),
        "pepper": str(layout.pepper),
        "quotas": str(layout.quotas),
        "queries": str(layout.queries),
        "security": {"file": str(layout.security_log)},
        "workers": installation.count("ingress"),
        "router": _client(installation, "router", installation.shape),
        "traces": {"folder": str(layout.traces)},
        "together": _together(installation) if installation.shape == "together" else {},
    }


def _window(installation: Installation, shape: Shape) -> int:
    """How many batches are on their way to the router at once: as many as the cores can work on. On two cores one
    batch of twice the rows gives a fifth more throughput and a lower p99 than two (load/RESULTS.md). In one process there is
    one thread to work on them: a second batch would leave with the first row that comes, and cost as much as a full one."""
    if shape == "together":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(max(cores // 2, 1), 4), installation.count("router"))


def _together(installation: Installation) -> dict[str, Any]:
    """Settings of the services that live in the ingress's process. Nothing reaches them from outside."""
    return {
        name: {"server": {"listen": "local"}} | _own(installation, name, "together")
        for name in (*LEAVES, "router")
    }


def _client(installation: Installation, callee: str, shape: Shape) -> dict[str, Any]:
    local = shape == "together"
    target = {"target": "local" if local else f"unix-dir:{installation.layout.listed(callee)}"}
    if callee == "router":
        return {**target, "coalesce": {"window": _window(installation, shape)}}
    if local:
        return target
    # A replica without a batch does nothing: there must be as many on their way.
    replicas = installation.count(callee)
    return {**target, "coalesce": {"window": replicas}} if replicas > CoalesceRules().window else target


def overlaid(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `extra` put over it, mapping by mapping."""
    merged = dict(base)
    for key, value in extra.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = overlaid(below, value)
        else:
            merged[key] = value
    return merged
