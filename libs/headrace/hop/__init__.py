"""hop: the one server and client library of headrace.

Names that need pydantic, grpc.aio's server side or telemetry are loaded on first use, so that the SDK, which
needs only grpcio and protobuf, can import hop's client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.hop.call import Call, Peer, unary
from headrace.hop.errors import Code, Fault, Reason

if TYPE_CHECKING:
    from headrace.hop.client.dial import Client
    from headrace.hop.definition import Definition, Runtime, Service
    from headrace.hop.process.lifecycle import run
    from headrace.hop.process.telemetry import Telemetry
    from headrace.hop.server.serve import serving
    from headrace.hop.transport.in_process import LocalServers

__all__ = [
    "Call",
    "Client",
    "Code",
    "Definition",
    "Fault",
    "LocalServers",
    "Peer",
    "Reason",
    "Runtime",
    "Service",
    "Telemetry",
    "run",
    "serving",
    "unary",
]

_LAZY = {
    "Client": "client.dial",
    "Definition": "definition",
    "LocalServers": "transport.in_process",
    "Runtime": "definition",
    "Service": "definition",
    "Telemetry": "process.telemetry",
    "run": "process.lifecycle",
    "serving": "server.serve",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"headrace.hop.{_LAZY[name]}"), name)
