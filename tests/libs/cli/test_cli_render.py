"""Rendered deployments: what differs from the manifests of Kubernetes is told, and services believe whom the settings name."""

import time
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from headrace.api.control.v1 import records_pb2, resources_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.cli.deployment import compose, service_settings
from headrace.cli.deployment.description import Description
from headrace.cli.installation import services
from headrace.cli.main import app
from headrace.hop import config
from headrace.hop.call import Method, unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault, Reason
from headrace.hop.server.hosting import definition_named
from headrace.hop.server.serve import serving
from headrace.resources.manifest import new_keys
from tests.libs.cli.kubernetes_cluster import TREE, paths
from tests.libs.hop.hop_certificates import Authority
from tests.libs.steps.step_calls import TRANSFORM

SERVICES = services.start_order()
DIGEST = "sha256:" + "0" * 64


def read_settings(service: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((TREE / "base" / service / "settings.yaml").read_text())
    return found


def test_both_targets_have_the_same_settings_and_compose_mounts_what_they_name(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["render", str(tmp_path)])
    assert said.exit_code == 0, said.output
    for service in SERVICES:
        rendered = yaml.safe_load((tmp_path / "settings" / f"{service}.yaml").read_text())
        assert rendered == read_settings(service)
    containers = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]
    assert containers.keys() == set(SERVICES)
    for service, container in containers.items():
        mounts = [volume.split(":")[1] for volume in container["volumes"]]
        mounts += [place.split(":")[0] for place in container["tmpfs"]]
        for path in paths(read_settings(service)):
            assert any(path.startswith(f"{mount}/") or path == mount for mount in mounts), path
        # The addresses of all doors have a name of their own, which monitoring asks.
        names = [service, "ingress-each"] if service == "ingress" else [service]
        assert container["networks"]["default"]["aliases"] == [f"{name}.headrace.svc" for name in names]


def test_the_description_changes_what_is_rendered_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    described = Description(
        namespace="bank",
        registry="registry.example",
        version="1.2.3",
        digests={"router": DIGEST},
        door_memory_mb=2048,
        encrypted_until=date(2027, 6, 30),
        artifacts="s3://live/headrace",
    )
    made = compose.files(described)
    settings = {service: made[f"settings/{service}.yaml"] for service in SERVICES}
    image = made["compose.yaml"]["services"]["router"]["image"]
    assert image == f"registry.example/headrace-router:1.2.3@{DIGEST}"
    assert settings["ingress"]["router"]["target"] == "dns:///router.bank.svc:7100"
    assert settings["ingress"]["limits"]["max_heap_bytes"] == 1536 * 2**20
    attested = {service: values.get("encrypted_until") for service, values in settings.items()}
    assert attested == {**dict.fromkeys(SERVICES), "ingress": "2027-06-30"}
    # Control and those who follow it share a bucket.
    shared = [
        settings["control"],
        *(settings[name]["resources"] for name in ("ingress", "router", "executor")),
    ]
    assert [values["artifacts"] for values in shared] == ["s3://live/headrace"] * 4
    file = tmp_path / "description.yaml"
    file.write_text("digests:\n  router: latest\n")
    said = CliRunner().invoke(app, ["render", str(tmp_path / "x"), "--description", str(file)])
    assert said.exit_code == 1
    assert "line 2, digests.router: " in " ".join(said.output.split())
    assert not (tmp_path / "x").exists()


async def test_callers_with_rendered_settings_are_believed_and_others_are_not(tmp_path: Path) -> None:
    """mTLS with real certificates of the names that the base asks for; only where it listens differs."""
    authority = Authority(tmp_path)
    definition = definition_named("preprocessing")
    server = listening(read_settings("preprocessing"), "preprocessing", authority)["server"]
    async with serving(definition, definition.config(server=server)) as running:
        for caller in ("router", "features"):
            settings = read_settings("router")["preprocessing"] | {"target": running.address}
            reason = await told(TRANSFORM, pb.TransformRequest(), settings, certified(authority, caller))
            believed = reason is not Reason.REASON_PEER_UNTRUSTED
            assert reason is not Reason.REASON_UNREACHABLE
            assert believed == (caller == "router")


async def test_a_rendered_control_believes_each_caller_what_it_is(tmp_path: Path) -> None:
    """Who changes what is live, and who follows it as which service, by the names in real certificates."""
    authority = Authority(tmp_path)
    definition = definition_named("control")
    (tmp_path / "signing.key").write_bytes(new_keys()[0])
    described = Description(operators=("deployer.example",))
    values = listening(service_settings.of(described, "control"), "control", authority)
    values |= {"database": str(tmp_path / "records.sqlite"), "signing_key": str(tmp_path / "signing.key")}
    change = method_of(records_pb2, "RecordsService", "ChangeRecords")
    watch = method_of(resources_pb2, "ResourcesService", "Watch")
    changing, following = set(), set()
    async with serving(definition, definition.config(**values, settle_s=0)) as running:
        settings = read_settings("router")["control"] | {"target": running.address}
        for caller in (*SERVICES, "deployer.example", "stranger.example"):
            shown = certified(authority, caller)
            # There is no empty change, so whoever may make changes hears something else.
            reason = await told(change, records_pb2.ChangeRecordsRequest(), settings, shown)
            believed = caller in (*service_settings.callers("control"), "deployer.example")
            assert (reason is not Reason.REASON_PEER_UNTRUSTED) == believed, caller
            if reason not in (Reason.REASON_PEER_UNTRUSTED, Reason.REASON_NOT_ALLOWED):
                changing.add(caller)
            for service in ("ingress", "router", "executor"):
                asked = resources_pb2.WatchRequest(service=service, watcher="one")
                if await told(watch, asked, settings, shown) is None:
                    following.add((caller, service))
    assert changing == {"ingress", "monitoring", "deployer.example"}
    assert following == {(service, service) for service in ("ingress", "router", "executor")}


def certified(authority: Authority, name: str) -> dict[str, Any]:
    """Files of the name that a service is called by; of a name that is no service, of this one."""
    dns = f"{name}.headrace.svc" if name in SERVICES else name
    return authority.issue(name, dns).model_dump(exclude={"peers"})


def listening(settings: dict[str, Any], service: str, authority: Authority) -> dict[str, Any]:
    """The settings with a server of the same peers, here."""
    server = dict(settings["server"])
    server |= {"tls": {**server["tls"], **certified(authority, service)}, "listen": "127.0.0.1:0"}
    return {**settings, "server": {**server, "drain_notice_s": 0}, "telemetry": {}}


def method_of(contract: Any, service: str, name: str) -> Method[Any, Any]:
    messages = getattr(contract, f"{name}Request"), getattr(contract, f"{name}Response")
    return unary(contract.DESCRIPTOR, service, name, *messages, idempotent=True)


async def told(
    method: Method[Any, Any], request: Any, settings: dict[str, Any], shown: dict[str, Any]
) -> Reason | None:
    """Why a call by the rendered settings of a client fails; None: it is answered. `shown`: the caller's certificate."""
    files = {**settings, "tls": {**settings["tls"], **shown}}
    client = Client(settings["server_name"], config.ClientSettings(**files))
    try:
        await client.unary(method)(request, deadline=time.monotonic() + 30)
    except Fault as fault:
        return fault.reason
    finally:
        await client.close()
    return None
