"""What is applied: `cpu` (a service scales by its demand), `gpu` (the executor on GPUs besides), `edge` (one pod, no network)."""

from __future__ import annotations

from typing import Any

import yaml

from headrace.cli.deployment import description as mounted
from headrace.cli.deployment import service_settings
from headrace.cli.deployment.description import Description
from headrace.cli.deployment.kubernetes import network, objects, scalers
from headrace.cli.deployment.kubernetes.manifest import Object, kustomization, part
from headrace.cli.deployment.kubernetes.pod import Workload
from headrace.cli.installation import services
from headrace.cli.installation.settings import overlaid

_EXECUTOR = "executor"
_GPU = "nvidia.com/gpu"
# Part of the time that a GPU is meant to run; as for cores, the rest takes the load until the next one is there.
_GPU_BUSY = 0.6
_EDGE_MEMORY_MB = 640
_OVERLAYS = "../../"
_CA = "headrace-ca"


def files(description: Description) -> dict[str, Any]:
    """The files of `overlays/` and of the component with the certificate authority."""
    made = {**_authority(description), **_edge(description), **_gpu(description)}
    made["overlays/cpu/kustomization.yaml"] = kustomization(
        "Kustomization",
        namespace=description.namespace,
        resources=[f"{_OVERLAYS}base"],
        components=[f"{_OVERLAYS}components/{name}" for name in ("authority", "keda", "warm-pool")],
    )
    return made


def _authority(description: Description) -> dict[str, Any]:
    """A CA of our own by cert-manager. Its renewal keeps the key, so that certificates of before and after verify each other."""
    own: Object = {"selfSigned": {}}
    spec = {
        "isCA": True,
        "commonName": _CA,
        "secretName": _CA,
        "duration": "87600h",
        "renewBefore": "8760h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
        "issuerRef": {"name": f"{_CA}-self", "kind": "Issuer"},
    }
    made = [
        _unlabelled("Issuer", f"{_CA}-self", own),
        _unlabelled("Certificate", _CA, spec),
        _unlabelled("Issuer", description.issuer, {"ca": {"secretName": _CA}}),
    ]
    where = "components/authority"
    return {
        f"{where}/authority.yaml": made,
        f"{where}/kustomization.yaml": kustomization("Component", resources=["authority.yaml"]),
    }


def _unlabelled(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "labels": part()}
    return {"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _gpu(description: Description) -> dict[str, Any]:
    """The executor in an image with CUDA, one GPU a pod, scaled by the time that its models run."""
    settings = service_settings.of(description, _EXECUTOR)
    tensorrt = {"module": description.tensorrt, "cache": str(mounted.STATE / "engines")}
    own = {"defaults": {"device": "auto"}, "tensorrt": tensorrt}
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": _EXECUTOR},
        "spec": {"triggers": [scalers.trigger(description, scalers.run_demand(description), _GPU_BUSY)]},
    }
    patches = [*(_on_a_gpu(description, name) for name in (_EXECUTOR, scalers.PLACEHOLDER)), scaled]
    where = "overlays/gpu"
    return {
        f"{where}/settings/{_EXECUTOR}.yaml": overlaid(settings, own),
        f"{where}/kustomization.yaml": kustomization(
            "Kustomization",
            namespace=description.namespace,
            resources=["../cpu"],
            configMapGenerator=[{**service_settings.map_of(_EXECUTOR), "behavior": "replace"}],
            patches=[{"patch": yaml.safe_dump(patch, sort_keys=False)} for patch in patches],
        ),
    }


def _on_a_gpu(description: Description, name: str) -> Object:
    """A patch that gives each pod of a Deployment a GPU; for the warm pool too, which holds room where the executor runs."""
    container = {
        "name": name,
        "image": description.image(f"{_EXECUTOR}-gpu"),
        "resources": {"requests": {"memory": "4Gi"}, "limits": {"memory": "8Gi", _GPU: 1}},
    }
    pod = {
        "nodeSelector": {f"{_GPU}.present": "true"},
        "tolerations": [{"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod}},
    }


def _edge(description: Description) -> dict[str, Any]:
    """One pod that hosts all services. Its volume is a home: what `headrace restore` puts there, it serves."""
    name = services.INGRESS
    settings = service_settings.together(description)
    workload = Workload(
        name=name,
        image="edge",
        settings=settings,
        replicas=1,
        memory_mb=_EDGE_MEMORY_MB,
        claim=True,
        all_in_claim=True,
    )
    unit = objects.Unit(workload, service_settings.service_port(name), callers=(), peers={})
    where = "overlays/edge"
    return {
        f"{where}/settings/{name}.yaml": settings,
        f"{where}/{name}.yaml": objects.of(description, unit),
        f"{where}/namespace.yaml": [objects.namespace(description), network.default_deny()],
        f"{where}/kustomization.yaml": kustomization(
            "Kustomization",
            namespace=description.namespace,
            resources=["namespace.yaml", f"{name}.yaml"],
            components=[f"{_OVERLAYS}components/authority"],
            configMapGenerator=[service_settings.map_of(name)],
        ),
    }
