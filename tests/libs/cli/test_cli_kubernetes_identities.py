"""Services with the settings of the manifests believe whom these name, by real certificates."""

import time
from pathlib import Path
from typing import Any

from headrace.api.control.v1 import records_pb2, resources_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.cli.installation import services
from headrace.hop import config
from headrace.hop.call import Method, unary
from headrace.hop.client.dial import Client
from headrace.hop.errors import Fault, Reason
from headrace.hop.server.hosting import definition_named
from headrace.hop.server.serve import serving
from headrace.resources.manifest import new_keys
from services.router.stages.steps import TRANSFORM
from tests.libs.hop.hop_certificates import Authority
from tests.machines.manifests import callers, settings_of

SERVICES = services.start_order()


async def test_callers_by_the_manifests_are_believed_and_others_are_not(tmp_path: Path) -> None:
    """mTLS with real certificates of the names that the base asks for; only where it listens differs."""
    authority = Authority(tmp_path)
    definition = definition_named("preprocessing")
    server = listening(settings_of("preprocessing"), "preprocessing", authority)["server"]
    async with serving(definition, definition.config(server=server)) as running:
        for caller in ("router", "features"):
            settings = settings_of("router")["preprocessing"] | {"target": running.address}
            reason = await told(TRANSFORM, pb.TransformRequest(), settings, certified(authority, caller))
            believed = reason is not Reason.REASON_PEER_UNTRUSTED
            assert reason is not Reason.REASON_UNREACHABLE
            assert believed == (caller == "router")


async def test_a_control_of_the_manifests_believes_each_caller_what_it_is(tmp_path: Path) -> None:
    """Who changes what is live, and who follows it as which service, by the names in real certificates."""
    authority = Authority(tmp_path)
    definition = definition_named("control")
    (tmp_path / "signing.key").write_bytes(new_keys()[0])
    values = settings_of("control")
    for names in (values["server"]["tls"]["peers"], values["may_change"]):
        names.append("deployer.example")
    values = listening(values, "control", authority)
    values |= {"database": str(tmp_path / "records.sqlite"), "signing_key": str(tmp_path / "signing.key")}
    change = unary(records_pb2.ChangeRecordsRequest, records_pb2.ChangeRecordsResponse, idempotent=True)
    watch = unary(resources_pb2.WatchRequest, resources_pb2.WatchResponse, idempotent=True)
    changing, following = set(), set()
    async with serving(definition, definition.config(**values, settle_s=0)) as running:
        settings = settings_of("router")["control"] | {"target": running.address}
        for caller in (*SERVICES, "deployer.example", "stranger.example"):
            shown = certified(authority, caller)
            # There is no empty change, so whoever may make changes hears something else.
            reason = await told(change, records_pb2.ChangeRecordsRequest(), settings, shown)
            believed = caller in (*callers("control"), "deployer.example")
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


async def told(
    method: Method[Any, Any], request: Any, settings: dict[str, Any], shown: dict[str, Any]
) -> Reason | None:
    """Why a call by the settings of a client fails; None: it is answered. `shown`: the caller's certificate."""
    files = {**settings, "tls": {**settings["tls"], **shown}}
    client = Client(settings["server_name"], config.ClientSettings(**files))
    try:
        await client.unary(method)(request, deadline=time.monotonic() + 30)
    except Fault as fault:
        return fault.reason
    finally:
        await client.close()
    return None
