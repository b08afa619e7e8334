"""hop: the one server and client library of headrace.

Names that need pydantic, grpc.aio's server side or telemetry are loaded on first use, so that the SDK, which
stands on grpcio and protobuf alone, can import hop's dialling core.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.hop.call import Call, Peer, current
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.method import Method, unary

if TYPE_CHECKING:
    from headrace.hop.definition import Definition, Runtime, Service
    from headrace.hop.dial import Client
    from headrace.hop.folding import Folding
    from headrace.hop.hosting import hosted
    from headrace.hop.lifecycle import run
    from headrace.hop.local import LocalServers
    from headrace.hop.serve import Running, serving
    from headrace.hop.telemetry import Telemetry

__all__ = [
    "Call",
    "Client",
    "Code",
    "Definition",
    "Fault",
    "Folding",
    "LocalServers",
    "Method",
    "Peer",
    "Reason",
    "Running",
    "Runtime",
    "Service",
    "Telemetry",
    "current",
    "hosted",
    "run",
    "serving",
    "unary",
]

_LAZY = {
    "Client": "dial",
    "Definition": "definition",
    "Folding": "folding",
    "LocalServers": "local",
    "Running": "serve",
    "Runtime": "definition",
    "Service": "definition",
    "Telemetry": "telemetry",
    "hosted": "hosting",
    "run": "lifecycle",
    "serving": "serve",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"headrace.hop.{_LAZY[name]}"), name)
