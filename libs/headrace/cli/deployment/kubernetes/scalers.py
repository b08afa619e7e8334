"""The size of each service follows its demand: the cores that it would need if every request were served.

That is the CPU time that it takes now, times the requests that were offered over those that were served. It neither ends at
what the pods can do, as their load does, nor counts a queue twice, as calls in flight do; tests/load simulates it.
"""

from __future__ import annotations

from typing import Any

from headrace.cli.deployment.description import Description, Scale
from headrace.cli.deployment.kubernetes.manifest import (
    Object,
    kustomization,
    labels,
    manifest,
    part,
)
from headrace.cli.deployment.kubernetes.pod import confined, security
from headrace.cli.installation import services

# Between two reads of a pod's metrics, and the time that a rate is taken over: at least two reads, also if one is late.
SCRAPE_S = 5
RATE_S = 30
# A window before growing would only turn more requests away; one before shrinking saves changes of size.
BEHAVIOR: Object = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    },
}
# Offered over served is not believed above this: if nearly nothing is served, something is broken, and pods do not mend it.
MOST_OFFERED = 10
PLACEHOLDER = "placeholder"


def scaled() -> tuple[str, ...]:
    """The services that scale: those that requests wait for."""
    return tuple(service for service in services.start_order() if service not in services.ASIDE)


def scale_of(description: Description, service: str) -> Scale:
    """How a service follows its load."""
    return description.scale.get(service, Scale())


def cpu_demand(description: Description, service: str) -> str:
    """PromQL: cores that a service needs."""
    where = f'namespace="{description.namespace}"'
    process = f"rate(process_cpu_seconds_total{{{where}}}[{RATE_S}s])"
    # Only the services themselves know which they are; `max` as a pod may be replaced by another version at its address.
    own = f'max by (instance) (headrace_build_info{{{where},service="{service}"}})'
    return f"sum({process} * on (instance) group_left {own}) * {_offered(where)}"


def run_demand(description: Description) -> str:
    """PromQL: runs of models that would be going on at once. A GPU's work does not show in CPU time."""
    where = f'namespace="{description.namespace}"'
    runs = f"rate(headrace_executor_run_seconds_sum{{{where}}}[{RATE_S}s])"
    return f"(sum({runs}) or vector(0)) * {_offered(where)}"


def _offered(where: str) -> str:
    """Offered over served. Whoever is over a quota is not offered more by more pods, so only our own refusals count."""
    refused = f'headrace_ingress_requests_total{{{where},fault="ours",code="RESOURCE_EXHAUSTED"}}'
    served = f'headrace_request_seconds_count{{{where},outcome="ok"}}'
    rates = [f"(sum(rate({series}[{RATE_S}s])) or vector(0))" for series in (refused, served)]
    return f"clamp_max(1 + {rates[0]} / clamp_min({rates[1]}, 1), {MOST_OFFERED})"


def components(description: Description) -> dict[str, Any]:
    """The files of `components/`: KEDA with what Prometheus reads, and room that is held for more pods."""
    return {**_keda(description), **_warm_pool(description)}


def trigger(description: Description, query: str, target: float) -> Object:
    """A trigger of KEDA. No answer is an error, not a zero: the size stays as it is."""
    told = {
        "serverAddress": description.prometheus,
        "query": query,
        "threshold": str(target),
        "ignoreNullValues": "false",
    }
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": told}


def _keda(description: Description) -> dict[str, Any]:
    return {
        "components/keda/scaledobjects.yaml": [_scaled_object(description, s) for s in scaled()],
        "components/keda/podmonitor.yaml": _pod_monitor(),
        "components/keda/kustomization.yaml": kustomization(
            "Component",
            resources=["scaledobjects.yaml", "podmonitor.yaml"],
            patches=[_sized(description, service) for service in scaled()],
        ),
    }


def _sized(description: Description, service: str) -> Object:
    """The Deployment leaves its size to the autoscaler, and a node is asked for what a pod is meant for."""
    milli = round(scale_of(description, service).cores * 1000)
    patch = (
        "- {op: remove, path: /spec/replicas}\n"
        f"- {{op: replace, path: /spec/template/spec/containers/0/resources/requests/cpu, value: {milli}m}}\n"
    )
    return {"target": {"kind": "Deployment", "name": service}, "patch": patch}


def _scaled_object(description: Description, service: str) -> Object:
    scale = scale_of(description, service)
    spec = {
        "scaleTargetRef": {"name": service},
        "minReplicaCount": scale.least,
        "maxReplicaCount": scale.most,
        "pollingInterval": 15,
        "advanced": {"horizontalPodAutoscalerConfig": {"name": service, "behavior": BEHAVIOR}},
        "triggers": [trigger(description, cpu_demand(description, service), scale.cores)],
    }
    return manifest("keda.sh/v1alpha1", "ScaledObject", service, spec=spec)


def _pod_monitor() -> Object:
    scraped = {"port": "metrics", "interval": f"{SCRAPE_S}s", "scrapeTimeout": "4s"}
    spec = {"selector": {"matchLabels": part()}, "podMetricsEndpoints": [scraped]}
    metadata = {"name": "headrace", "labels": part()}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
        "spec": spec,
    }


def _warm_pool(description: Description) -> dict[str, Any]:
    """Pods that do nothing and give way at once: a new executor takes their room, and a node is added for them meanwhile."""
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "headrace-placeholder", "labels": part()},
        "value": -10,
        "preemptionPolicy": "Never",
        "description": "Holds room for pods of headrace; any other pod may have it.",
    }
    milli = round(scale_of(description, "executor").cores * 1000)
    room = {"cpu": f"{milli}m", "memory": f"{description.memory('executor') // 4}Mi"}
    pod = {
        "priorityClassName": "headrace-placeholder",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": security(),
        # Of the executor's image, so that a node that holds room also holds what is to run there.
        "containers": [
            {
                "name": PLACEHOLDER,
                "image": description.image("executor"),
                "command": ["python", "-c", "import signal; signal.pause()"],
                "resources": {"requests": room, "limits": {"memory": room["memory"]}},
                "securityContext": confined(),
            }
        ],
    }
    spec = {
        "replicas": description.warm_pool,
        "selector": {"matchLabels": labels(PLACEHOLDER)},
        "template": {"metadata": {"labels": labels(PLACEHOLDER)}, "spec": pod},
    }
    where = "components/warm-pool"
    return {
        f"{where}/placeholder.yaml": [priority, manifest("apps/v1", "Deployment", PLACEHOLDER, spec=spec)],
        f"{where}/kustomization.yaml": kustomization("Component", resources=["placeholder.yaml"]),
    }
