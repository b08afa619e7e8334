"""RPC methods, found in proto descriptors without generated stubs; and what a layer or a handler knows about one call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Req, Resp]):
    """Path and message classes of one method. `idempotent`: hop may retry it on another replica.

    `lengthy`: it may take minutes by its nature, so how long it took says nothing of the callee's health.
    """

    service: str
    name: str
    request: type[Req]
    response: type[Resp]
    client_streaming: bool = False
    server_streaming: bool = False
    idempotent: bool = False
    lengthy: bool = False
    path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", f"/{self.service}/{self.name}")


def unary(
    request: type[Req],
    response: type[Resp],
    *,
    idempotent: bool,
    lengthy: bool = False,
    name: str = "",
    file: FileDescriptor | None = None,
) -> Method[Req, Resp]:
    """The unary method that takes `request`. `name`: "": that of its request without `Request`. `file`: where its service is
    declared; None: where its request is. The classes are checked against the descriptor.

    Raises ValueError if the descriptor disagrees.
    """
    name = name or request.DESCRIPTOR.name.removesuffix("Request")
    services = (file or request.DESCRIPTOR.file).services_by_name.values()
    [found] = (s.methods_by_name[name] for s in services if name in s.methods_by_name)
    if (found.input_type, found.output_type) != (request.DESCRIPTOR, response.DESCRIPTOR):
        raise ValueError(f"{name} takes {found.input_type.full_name}, gives {found.output_type.full_name}")
    if found.client_streaming or found.server_streaming:
        raise ValueError(f"{name} is not unary")
    return Method(
        found.containing_service.full_name, name, request, response, idempotent=idempotent, lengthy=lengthy
    )


def methods_of(service: ServiceDescriptor) -> list[Method[Any, Any]]:
    """All methods of a service, in declared order."""
    return [
        Method(
            service.full_name,
            m.name,
            GetMessageClass(m.input_type),
            GetMessageClass(m.output_type),
            m.client_streaming,
            m.server_streaming,
        )
        for m in service.methods
    ]


@dataclass(frozen=True, slots=True)
class Peer:
    """The caller of an RPC. `trusted`: it is an authenticated part of this installation (unix socket in a private
    directory, mTLS with a known name, or the same process)."""

    transport: str  # "unix" | "tls" | "tcp" | "local"
    identity: str = ""
    trusted: bool = False
    # Every name (DNS or URI SAN) in the certificate that the peer showed; empty without TLS.
    names: tuple[str, ...] = ()


LOCAL_PEER = Peer("local", "same-process", True)


@dataclass(slots=True)
class InProcessPayload:
    """Data that goes with a message by reference inside one process, instead of being written into the message.

    `brought`: with the request; `returned`: with the reply, if the servicer set it.
    """

    brought: Any
    returned: Any = None


class Call:
    """One RPC as the server sees it. `deadline` is on the monotonic clock, in seconds; only a caller in this process gives a
    `payload`. What few calls have is a default of the class: one is made for each call."""

    # Set by the servicer for an unusual reply: attributes of the call's span.
    notes: Mapping[str, str] | None = None
    # Ids of the requests whose rows this call carries, for log lines; set when the servicer has read them.
    request_ids: Sequence[str] = ()
    # When the request was written, in monotonic seconds: time budgets in it count from then. None: from when it is read.
    sent: float | None = None

    def __init__(
        self,
        method: str,  # "/package.Service/Method"
        peer: Peer,
        deadline: float = math.inf,
        metadata: Mapping[str, str] = MappingProxyType({}),
        payload: InProcessPayload | None = None,
    ) -> None:
        self.method = method
        self.peer = peer
        self.deadline = deadline
        self.metadata = metadata
        self.payload = payload
        # Sent to the caller with the status, for example pushback.
        self.trailing: list[tuple[str, str]] = []
