"""The objects of one service: a Deployment, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.cli.deployment import description as mounted
from headrace.cli.deployment import service_settings
from headrace.cli.deployment.description import Description
from headrace.cli.deployment.kubernetes import network
from headrace.cli.deployment.kubernetes.manifest import Object, labels, manifest, part
from headrace.cli.deployment.kubernetes.pod import Workload, deployment
from headrace.cli.installation import services

# Keeps what must not be lost with a container, so one process of it has a volume of its own.
_KEEPS = "monitoring"


@dataclass(frozen=True, slots=True)
class Unit:
    """A service as it is deployed. `peers`: port by the service or store that it calls; `read`: monitoring reads its metrics."""

    workload: Workload
    port: int
    callers: tuple[str, ...]
    peers: dict[str, int]
    read: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return self.workload.settings


def unit(description: Description, service: str) -> Unit:
    """A service in a process of its own."""
    settings = service_settings.of(description, service)
    alone = service == _KEEPS
    workload = Workload(
        name=service,
        image=service,
        settings=settings,
        replicas=description.replicas.get(service, 1 if alone else 2),
        memory_mb=description.memory(service),
        claim=alone,
    )
    peers = {callee: service_settings.service_port(callee) for callee in services.callees(service)}
    return Unit(
        workload,
        service_settings.service_port(service),
        service_settings.callers(service),
        {**peers, **network.stores(settings)},
        read=True,
    )


def of(description: Description, unit: Unit) -> list[Object]:
    """All objects of a service but its settings."""
    name, port = unit.workload.name, unit.port
    # Callers of a leaf choose among its replicas themselves; those of the door come through an ordinary Service.
    headless = {} if name == services.INGRESS else {"clusterIP": "None"}
    ports = [{"name": "grpc", "port": port, "targetPort": "grpc", "appProtocol": "grpc"}]
    found: list[Object] = [
        manifest("v1", "ServiceAccount", name, automountServiceAccountToken=False),
        manifest("v1", "Service", name, spec={**headless, "selector": labels(name), "ports": ports}),
        _certificate(description, name),
        deployment(description, unit.workload),
        manifest(
            "policy/v1",
            "PodDisruptionBudget",
            name,
            spec={"maxUnavailable": 1, "selector": {"matchLabels": labels(name)}},
        ),
        network.policy(
            description,
            name,
            port,
            callers=unit.callers,
            peers=unit.peers,
            reads=unit.settings.get("cost", {}).get("services", ()),
            readers=[_KEEPS] if unit.read else [],
        ),
    ]
    if unit.read and not headless:
        # For who counts what each process uses.
        ports = [{"name": "metrics", "port": mounted.METRICS_PORT, "targetPort": "metrics"}]
        spec = {"clusterIP": "None", "selector": labels(name), "ports": ports}
        found.append(manifest("v1", "Service", service_settings.EACH_DOOR, spec=spec))
    if unit.workload.claim:
        size = {"resources": {"requests": {"storage": "20Gi"}}, "accessModes": ["ReadWriteOnce"]}
        found.append(manifest("v1", "PersistentVolumeClaim", name, spec=size))
    return found


def namespace(description: Description) -> Object:
    """Its label lets the API server refuse any pod that asks for more than ours do."""
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": description.namespace, "labels": {**part(), **enforced}},
    }


def _certificate(description: Description, service: str) -> Object:
    dns = service_settings.name_of(description, service)
    spec = {
        "secretName": f"{service}-tls",
        "issuerRef": {"name": description.issuer, "kind": "Issuer"},
        "dnsNames": [dns, f"{dns}.cluster.local"],
        "usages": ["digital signature", "server auth", "client auth"],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    }
    return manifest("cert-manager.io/v1", "Certificate", service, spec=spec)
