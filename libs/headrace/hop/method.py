"""An RPC method, found in a proto descriptor, so that no generated stub or registration is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
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

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


def unary(
    file: FileDescriptor,
    service: str,
    name: str,
    request: type[Req],
    response: type[Resp],
    *,
    idempotent: bool,
    lengthy: bool = False,
) -> Method[Req, Resp]:
    """The unary method `name` of `service` (short name) in `file`; the classes are checked against the descriptor.

    Raises ValueError if the descriptor disagrees.
    """
    found: MethodDescriptor = file.services_by_name[service].methods_by_name[name]
    if (found.input_type, found.output_type) != (request.DESCRIPTOR, response.DESCRIPTOR):
        raise ValueError(
            f"{service}.{name} takes {found.input_type.full_name}, gives {found.output_type.full_name}"
        )
    if found.client_streaming or found.server_streaming:
        raise ValueError(f"{service}.{name} is not unary")
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
