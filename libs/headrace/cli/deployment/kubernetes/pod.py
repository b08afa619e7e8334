"""The Deployment of a service: how it is spread, probed, confined and stopped, and what it mounts."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.cli.deployment import description as mounted
from headrace.cli.deployment import service_settings
from headrace.cli.deployment.description import Description
from headrace.cli.deployment.kubernetes.manifest import Object, labels, manifest
from headrace.cli.installation import services

_USER = 65532
# Volumes that are there already, by the folder in which a service's settings look for them.
_CLAIMS = {"models": mounted.MODELS, "feast": mounted.FEATURES}
_STOP = ("python", "-m", "services.ingress.stop", "--config", str(mounted.SETTINGS / "settings.yaml"))


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs in the pods of a service. `claim`: its state is on a volume of its own, so there is one pod."""

    name: str
    image: str
    settings: Object
    replicas: int
    memory_mb: int
    claim: bool = False
    # Models and features are on that volume too, as nothing else is there to hold them.
    all_in_claim: bool = False


def security() -> Object:
    """Of a pod that the `restricted` standard admits."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def confined() -> Object:
    """Of a container in it."""
    return {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def deployment(description: Description, workload: Workload) -> Object:
    """The Deployment."""
    name = workload.name
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    pod = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": description.grace_s,
        "securityContext": security(),
        # ScheduleAnyway put both new replicas on one node after a roll; a lost node then cost ten times the calls.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "nodeTaintsPolicy": "Honor",
                "matchLabelKeys": ["pod-template-hash"],
                "labelSelector": {"matchLabels": labels(name)},
            }
        ],
        "containers": [_container(description, workload)],
        "volumes": _volumes(workload),
    }
    spec = {
        "replicas": workload.replicas,
        "selector": {"matchLabels": labels(name)},
        "strategy": {"type": "Recreate"} if workload.claim else rolling,
        "template": {"metadata": {"labels": labels(name)}, "spec": pod},
    }
    return manifest("apps/v1", "Deployment", name, spec=spec)


def _container(description: Description, workload: Workload) -> Object:
    ports = {"grpc": service_settings.service_port(workload.name), "metrics": mounted.METRICS_PORT}
    made: Object = {
        "name": workload.name,
        "image": description.image(workload.image),
        "args": ["--config", str(mounted.SETTINGS / "settings.yaml")],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        # Over HTTP, as a probe can show no client certificate. A start on a machine that is overloaded took nearly three minutes.
        "startupProbe": {**_probe("/ready"), "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": {**_probe("/ready"), "periodSeconds": 1, "failureThreshold": 1},
        "livenessProbe": {**_probe("/live"), "periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5},
        "resources": {
            "requests": {"cpu": "50m", "memory": f"{workload.memory_mb // 4}Mi"},
            "limits": {"memory": f"{workload.memory_mb}Mi"},
        },
        "securityContext": confined(),
        "volumeMounts": [{"name": v["name"], **_mount(v["name"])} for v in _volumes(workload)],
    }
    if workload.name == services.INGRESS:
        # On SIGTERM Envoy drops the calls in flight; after this hook there are none.
        made["lifecycle"] = {"preStop": {"exec": {"command": [*_STOP, "--drain-only"]}}}
    return made


def _probe(path: str) -> Object:
    return {"httpGet": {"path": path, "port": "metrics"}}


def _mount(volume: str) -> Object:
    written = {"state": mounted.STATE, "run": mounted.RUN, "temporary": "/tmp"}  # noqa: S108 - in the container
    if volume in written:
        return {"mountPath": str(written[volume])}
    read = {"settings": mounted.SETTINGS, "tls": mounted.TLS, "secrets": mounted.SECRETS, **_CLAIMS}
    return {"mountPath": str(read[volume]), "readOnly": True}


def _volumes(workload: Workload) -> list[Object]:
    """What a service's settings name, and no more."""
    name, named = workload.name, str(workload.settings)
    state = {"persistentVolumeClaim": {"claimName": name}} if workload.claim else {"emptyDir": {}}
    found: list[Object] = [
        {"name": "settings", "configMap": {"name": name}},
        {"name": "tls", "secret": {"secretName": f"{name}-tls", "defaultMode": 0o440}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "temporary", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "state", **state},
    ]
    if str(mounted.SECRETS) in named:
        found.append({"name": "secrets", "secret": {"secretName": f"{name}-secrets", "defaultMode": 0o440}})
    for claim, folder in _CLAIMS.items():
        if f"{folder}'" in named and not workload.all_in_claim:
            found.append({"name": claim, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    return found
