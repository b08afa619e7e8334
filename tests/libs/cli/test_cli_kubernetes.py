"""The overlays as Kustomize builds them: what one object says of another is true, and who may talk is who does. The queries that
services scale by: they name series that are exported, and Prometheus answers what is meant."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from headrace.cli.installation import services
from headrace.hop import config
from headrace.hop.config import Telemetry as TelemetrySettings
from headrace.hop.errors import BLAME, Blame, Code, Reason
from headrace.hop.limiters import LIMITERS
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.hosting import definition_named
from services.executor.metrics import Metrics as ExecutorMetrics
from services.ingress.config import IngressSettings
from services.ingress.reporting.metrics import Metrics as DoorMetrics
from tests.libs.cli.kubernetes_cluster import (
    BROUGHT_CLAIMS,
    BROUGHT_SECRETS,
    OVERLAYS,
    PLACEHOLDER,
    Object,
    built,
    by_name,
    limit_of,
    paths,
    pod_of,
    query_of,
    references,
    settings_of,
)
from tests.programs import needs_program

SERVICES = services.start_order()
# Port by the store that a service asks. What is live is in one of control's own; no request waits for it.
STORES = {"control": {"postgres": 5432}, "features": {"redis": 6379}, "ingress": {"redis": 6379}}
NAME = "app.kubernetes.io/name"
pytestmark = needs_program("kustomize")
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def ours(overlay: str) -> dict[str, Object]:
    """The Deployments of services."""
    found = by_name(built(overlay), "Deployment")
    return {name: each for name, each in found.items() if name != PLACEHOLDER}


@each_overlay
def test_an_overlay_has_each_service_once_and_what_is_named_exists(overlay: str) -> None:
    objects = built(overlay)
    assert ours(overlay).keys() == ({"ingress"} if overlay == "edge" else set(SERVICES))
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    there |= {("Secret", each["spec"]["secretName"]) for each in objects if each["kind"] == "Certificate"}
    missing = set(references(objects)) - there
    brought = {("PersistentVolumeClaim", claim) for claim in BROUGHT_CLAIMS}
    brought |= {("Secret", f"{name}{BROUGHT_SECRETS}") for name in SERVICES}
    assert missing <= brought
    for each in objects:
        if each["kind"] not in ("Namespace", "PriorityClass"):
            assert each["metadata"]["namespace"] == "headrace", each["metadata"]["name"]


@each_overlay
def test_selectors_find_the_pods_of_their_service_and_no_others(overlay: str) -> None:
    objects = built(overlay)
    pods = {
        name: each["spec"]["template"]["metadata"]["labels"]
        for name, each in by_name(objects, "Deployment").items()
    }

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    for name, deployment in by_name(objects, "Deployment").items():
        assert found(deployment["spec"]["selector"]["matchLabels"]) == {name}
        for spread in pod_of(deployment).get("topologySpreadConstraints", []):
            assert found(spread["labelSelector"]["matchLabels"]) == {name}
    for name in ours(overlay):
        assert found(by_name(objects, "Service")[name]["spec"]["selector"]) == {name}
        assert found(by_name(objects, "PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"]) == {
            name
        }
        assert found(by_name(objects, "NetworkPolicy")[name]["spec"]["podSelector"]["matchLabels"]) == {name}
    denied = by_name(objects, "NetworkPolicy")["default-deny"]["spec"]
    assert found(denied["podSelector"]["matchLabels"]) == pods.keys()
    assert denied.keys() == {"podSelector", "policyTypes"}


@each_overlay
def test_each_map_of_settings_is_taken_by_its_service(overlay: str, tmp_path: Path) -> None:
    url = tmp_path / "redis-url"
    url.write_text("redis://redis:6379/0\n")
    for name in ours(overlay):
        text = settings_of(built(overlay), name).replace("/secrets/redis-url", str(url))
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        found: Any = config.load(config_of(name), file, {})
        # What the door hosts has settings of its own.
        for hosted, values in getattr(found, "together", {}).items():
            config.checked(config_of(hosted), values, hosted)
        if name == "ingress":
            assert set(found.together) == (set(services.hosted()) if overlay == "edge" else set())


def config_of(service: str) -> Any:
    return IngressSettings if service == "ingress" else definition_named(service).config


@each_overlay
def test_a_service_may_call_exactly_those_that_its_settings_name(overlay: str) -> None:
    objects = built(overlay)
    policies = by_name(objects, "NetworkPolicy")
    targets = {name: dialled(yaml.safe_load(settings_of(objects, name))) for name in ours(overlay)}
    for name in ours(overlay):
        egress = policies[name]["spec"]["egress"]
        read = yaml.safe_load(settings_of(objects, name)).get("cost", {}).get("services", {})
        if read:
            metrics = egress[-2]
            assert metrics["ports"] == [{"port": 7190}]
            assert [to["podSelector"]["matchLabels"][NAME] for to in metrics["to"]] == list(read)
            egress = [rule for rule in egress if rule is not metrics]
        called = {peer(rule): rule["ports"][0]["port"] for rule in egress if "to" in rule}
        assert called == {**targets[name], **(STORES.get(name, {}) if overlay != "edge" else {})}
        names = [rule for rule in egress if "to" not in rule]
        assert [port["port"] for rule in names for port in rule["ports"]] == (
            [53, 53] if called or read else []
        )
        calls, scrapes = policies[name]["spec"]["ingress"]
        callers = {other for other, wanted in targets.items() if name in wanted}
        assert {each["podSelector"]["matchLabels"][NAME] for each in calls.get("from", [])} == callers
        assert ("from" in calls) == (name != "ingress")
        scraper, *readers = scrapes["from"]
        assert scraper == {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
        }
        assert [each["podSelector"]["matchLabels"][NAME] for each in readers] == (
            ["monitoring"] if "monitoring" in policies else []
        )
        open_ports = {port["port"] for rule in (calls, scrapes) for port in rule["ports"]}
        [container] = pod_of(ours(overlay)[name])["containers"]
        assert open_ports == {port["containerPort"] for port in container["ports"]}


def dialled(settings: Any) -> dict[str, int]:
    """Port by the service that is called over the network."""
    found: dict[str, int] = {}
    for value in settings.values():
        if isinstance(value, dict) and str(value.get("target", "")).startswith("dns:///"):
            host, port = value["target"].removeprefix("dns:///").split(":")
            found[host.partition(".")[0]] = int(port)
    return found


def peer(rule: Object) -> str:
    [to] = rule["to"]
    found: str = to["podSelector"]["matchLabels"][NAME]
    return found


@each_overlay
def test_pods_are_spread_confined_and_stop_in_time(overlay: str) -> None:
    for name, deployment in ours(overlay).items():
        pod = pod_of(deployment)
        [spread] = pod["topologySpreadConstraints"]
        assert spread["whenUnsatisfiable"] == "DoNotSchedule"
        assert spread["matchLabelKeys"] == ["pod-template-hash"]
        assert spread["nodeTaintsPolicy"] == "Honor"
        assert pod["automountServiceAccountToken"] is False
        server = yaml.safe_load(settings_of(built(overlay), name))["server"]
        assert pod["terminationGracePeriodSeconds"] > server["drain_notice_s"] + server["drain_s"] + 10
        [container] = pod["containers"]
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert {kind: path["path"] for kind, path in paths.items()} == {
            "startup": "/ready",
            "readiness": "/ready",
            "liveness": "/live",
        }
        assert {path["port"] for path in paths.values()} == {"metrics"}
    for deployment in by_name(built(overlay), "Deployment").values():
        [container] = pod_of(deployment)["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert pod_of(deployment)["securityContext"]["runAsNonRoot"]


@each_overlay
def test_what_a_service_s_settings_name_is_in_its_container(overlay: str) -> None:
    objects = built(overlay)
    for name, deployment in ours(overlay).items():
        settings, pod = yaml.safe_load(settings_of(objects, name)), pod_of(deployment)
        [container] = pod["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        listen = settings["http"]["tls"] if name == "ingress" else settings["server"]["listen"]
        if "limits" in settings:
            # It refuses requests before the kernel ends it for its memory.
            assert settings["limits"]["max_heap_bytes"] == limit_of(deployment) * 2**20 * 3 // 4
        assert listen == f"0.0.0.0:{ports['grpc']}"
        assert settings["telemetry"]["metrics"] == f"0.0.0.0:{ports['metrics']}"
        assert [port["port"] for port in by_name(objects, "Service")[name]["spec"]["ports"]] == [
            ports["grpc"]
        ]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert volumes.keys() == mounts.keys()
        certificate = by_name(objects, "Certificate")[name]["spec"]
        assert volumes["tls"]["secret"]["secretName"] == certificate["secretName"]
        # By this name callers know it, and it those whom it calls.
        assert f"{name}.headrace.svc" in certificate["dnsNames"]
        for path in paths(settings):
            assert any(path.startswith(f"{mount}/") or path == mount for mount in mounts.values()), path
        assert container["args"] == ["--config", f"{mounts['settings']}/settings.yaml"]


def test_the_executor_has_a_gpu_and_room_for_the_next_holds_one_too() -> None:
    objects = built("gpu")
    for name in ("executor", PLACEHOLDER):
        pod = pod_of(by_name(objects, "Deployment")[name])
        [container] = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert container["image"].startswith("localhost/headrace-executor-gpu:")
        assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    settings, without = (yaml.safe_load(settings_of(built(o), "executor")) for o in ("gpu", "cpu"))
    # What `make images SERVICES=executor-gpu` puts into it.
    tensorrt = {"module": "tensorrt_rtx", "cache": "/var/lib/headrace/engines"}
    assert settings == {**without, "defaults": {"device": "auto"}, "tensorrt": tensorrt}
    assert "headrace_executor_run_seconds_sum" in query_of(objects, "executor")


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_room_that_is_held_is_that_of_an_executor(overlay: str) -> None:
    found = by_name(built(overlay), "Deployment")
    executor, placeholder = (pod_of(found[name])["containers"][0] for name in ("executor", PLACEHOLDER))
    assert placeholder["resources"]["requests"] == executor["resources"]["requests"]
    assert placeholder["image"] == executor["image"]


def test_what_requests_wait_for_scales() -> None:
    objects = built("cpu")
    scaled = by_name(objects, "ScaledObject")
    assert scaled.keys() == set(SERVICES) - {"control", "monitoring"}
    for name, each in scaled.items():
        assert each["spec"]["minReplicaCount"] >= 2, name
        assert f'service="{name}"' in query_of(objects, name)
        # `kubectl apply` would set a size that is written down, whatever the autoscaler had made of it.
        deployment = by_name(objects, "Deployment")[name]
        assert "replicas" not in deployment["spec"]
        [container] = pod_of(deployment)["containers"]
        [trigger] = each["spec"]["triggers"]
        wanted = float(container["resources"]["requests"]["cpu"].removesuffix("m")) / 1000
        assert wanted == float(trigger["metadata"]["threshold"])


# The overlays in which the executor scales by its CPU time, and by the time that its models run.
CPU, RUNS = "cpu", "gpu"
WHERE = 'namespace="headrace"'
SERVED = f'headrace_request_seconds_count{{{WHERE},pipeline="flights",outcome="ok",instance="d"}}'
REFUSED = f'headrace_ingress_requests_total{{{WHERE},fault="ours",code="RESOURCE_EXHAUSTED",instance="d"}}'
OVER_QUOTA = (
    f'headrace_ingress_requests_total{{{WHERE},fault="caller",code="RESOURCE_EXHAUSTED",instance="d"}}'
)


async def test_each_series_of_the_queries_is_exported_with_its_labels() -> None:
    telemetry = Telemetry("executor", TelemetrySettings())
    door, runs = CollectorRegistry(), CollectorRegistry()
    DoorMetrics(door)
    ExecutorMetrics(runs)
    try:
        # Names also of series that have no sample yet.
        text = "".join(generate_latest(each).decode() for each in (telemetry.registry, door, runs))
    finally:
        await telemetry.close()
    exported = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    for overlay in (CPU, RUNS):
        wanted = set(re.findall(r"\b((?:process|headrace)_\w+)\{", query_of(built(overlay), "executor")))
        assert wanted
        assert {re.sub("_(count|sum)$", "", name) for name in wanted} <= exported
    assert re.search(r'^headrace_build_info\{[^}]*service="executor"[^}]*\} 1.0$', text, re.MULTILINE)


def test_what_capacity_refuses_counts_as_offered_and_what_a_quota_refuses_does_not() -> None:
    """The query tells them apart by `fault` and `code`, so each reason for RESOURCE_EXHAUSTED must have the right blame."""
    capacity = {each.reason for each in LIMITERS.values() if each.code is Code.RESOURCE_EXHAUSTED}
    assert BLAME[Reason.REASON_OVERLOADED] is Blame.OURS
    assert BLAME[Reason.REASON_QUOTA_EXCEEDED] is Blame.CALLER
    ours = {reason for reason in capacity if BLAME[reason] is Blame.OURS}
    # A store of keys that is full is not mended by more pods of any service, but it refuses few.
    assert ours <= {Reason.REASON_OVERLOADED, Reason.REASON_IDEMPOTENCY_KEYS_FULL}


def of(name: str, instance: str, **labels: str) -> str:
    told = ",".join(f'{key}="{value}"' for key, value in {"instance": instance, **labels}.items())
    return f"{name}{{{WHERE},{told}}}"


def process(instance: str, service: str, cores: float) -> dict[str, str]:
    """A process that takes so many cores."""
    return {
        of("process_cpu_seconds_total", instance): f"0+{cores * 5}x40",
        of("headrace_build_info", instance, service=service, version="1"): "1x40",
    }


TWO = {**process("a", "executor", 0.5), **process("b", "executor", 0.3), **process("c", "router", 5)}
ELSEWHERE = {
    'process_cpu_seconds_total{namespace="other",instance="o"}': "0+50x40",
    'headrace_build_info{namespace="other",instance="o",service="executor",version="1"}': "1x40",
}
CASES: dict[str, tuple[dict[str, str], str, float | None]] = {
    "each request is served": ({**TWO, **ELSEWHERE, SERVED: "0+500x40"}, CPU, 0.8),
    "as many were refused for lack of capacity as were served": (
        {**TWO, SERVED: "0+500x40", REFUSED: "0+500x40"},
        CPU,
        1.6,
    ),
    "a tenant is far over its quota": ({**TWO, SERVED: "0+500x40", OVER_QUOTA: "0+9000x40"}, CPU, 0.8),
    "nobody has asked yet": (TWO, CPU, 0.8),
    "nearly nothing is served": ({**TWO, REFUSED: "0+9000x40"}, CPU, 8.0),
    "a pod was replaced by one of another version at its address": (
        {**TWO, of("headrace_build_info", "a", service="executor", version="2"): "_x20 1x20"},
        CPU,
        0.8,
    ),
    # No answer, so KEDA leaves the size as it is.
    "the processes are not scraped": ({SERVED: "0+500x40"}, CPU, None),
    "one model runs half of the time, and half is refused": (
        {
            of("headrace_executor_run_seconds_sum", "a", model="m", version="1"): "0+2.5x40",
            SERVED: "0+500x40",
            REFUSED: "0+500x40",
        },
        RUNS,
        1.0,
    ),
}


@needs_program("promtool")
def test_prometheus_answers_the_cores_that_are_demanded(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {
            "name": name,
            "interval": "5s",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "promql_expr_test": [
                {
                    # To six places: rates are sums of fractions.
                    "expr": f"round({query_of(built(overlay), 'executor')}, 0.000001)",
                    "eval_time": "180s",
                    "exp_samples": [] if expected is None else [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for name, (given, overlay, expected) in CASES.items()
    ]
    (tmp_path / "tests.yml").write_text(json.dumps({"tests": cases}))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
