"""Pipelines that come and go while a system runs: a test goes on once every door and every router has noticed.

Each of them reads what is live by itself, within a second, and a call meets whichever door and router its connection leads to.
A test that had one answer could meet another door or router next, which does not know the pipeline yet.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from headrace.cli.installation import services
from headrace.oip import open_inference_pb2 as oip
from headrace.pipeline import parse
from tests.gauges import samples
from tests.system import OIP, System, add_document, poll, remove_document

# Together, the router lives in the door's process.
_WITH_ROUTER = ("router", services.INGRESS)
_CALL_S = 10.0


@contextmanager
def deployed(system: System, name: str, text: str, models: Mapping[str, str] | None = None) -> Iterator[int]:
    """The pipeline `name` of the document `text`, served everywhere, and nowhere afterwards. `models`: versions, else the newest.

    The value is the number of its release. Only for pipelines that the demo's tenant may use.
    """
    number = add_document(name, text, models)
    try:
        await_served(system, name, number, parse(text, name).revision)
        yield number
    finally:
        remove_document(name)
        # Also before a test of the same name comes: a door that looked in between would take the new one away again.
        poll(f"{name} is served nowhere", lambda: not _doors(system, name) and not _releases(system, name))


def await_served(system: System, name: str, release: int, revision: str) -> None:
    """Returns once each router serves that release, and each door has that revision of its document."""
    routers = len(samples(system, "headrace_router_shared_caps_routers", _WITH_ROUTER))
    assert routers, "no router has metrics"
    wanted = [float(release)] * routers, [revision] * len(system.doors)
    poll(
        f"release {release} of {name} at {routers} routers and {len(system.doors)} doors",
        lambda: (_releases(system, name), _doors(system, name)) == wanted,
    )


def _releases(system: System, name: str) -> list[float]:
    """The number of the release that serves, of each router that serves one."""
    found = samples(system, "headrace_router_release", _WITH_ROUTER)
    return [number for labels, number in found if labels["pipeline"] == name]


def _doors(system: System, name: str) -> list[str]:
    """The revision of the document, of each door that has one."""
    return [revision for door in system.doors if (revision := _revision(system, door, name))]


def _revision(system: System, door: str, name: str) -> str:
    with grpc.insecure_channel(door) as channel:
        ask: Any = channel.unary_unary(
            f"{OIP}ModelConfig", oip.ModelConfigRequest.SerializeToString, oip.ModelConfigResponse.FromString
        )
        try:
            answer = ask(oip.ModelConfigRequest(name=name), timeout=_CALL_S, metadata=system.auth())
        except grpc.RpcError as raised:
            error: Any = raised
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
            return ""
    return str(answer.config.parameters["revision"].string_value)
