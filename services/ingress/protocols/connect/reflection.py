"""Server reflection v1 and v1alpha (both have the same wire format), so that `buf curl` and grpcurl need no proto files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb  # type: ignore[import-untyped]  # has no stubs

from headrace.hop.call import Method
from headrace.hop.errors import Code

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def methods() -> list[Method[Any, Any]]:
    """The one method of each version."""
    request, response = pb.ServerReflectionRequest, pb.ServerReflectionResponse
    return [Method(name, "ServerReflectionInfo", request, response, True, True) for name in NAMES]


class Reflection:
    """Answers for the given services, from this process's descriptor pool."""

    def __init__(self, services: Sequence[str]) -> None:
        # v1's own descriptor is not in the pool (grpcio-reflection has v1alpha only), but every listed service must resolve.
        self._services = sorted([*services, NAMES[1]])
        self._pool = descriptor_pool.Default()

    async def serve(
        self, requests: AsyncIterator[pb.ServerReflectionRequest], _: object
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        """One answer per request. If something is not found, the answer says so."""
        async for request in requests:
            response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
            try:
                self._answer(request, response)
            except KeyError:
                response.error_response.error_code = int(Code.NOT_FOUND)
                response.error_response.error_message = "not found"
            yield response

    def _answer(self, request: pb.ServerReflectionRequest, response: pb.ServerReflectionResponse) -> None:
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                self._file(self._pool.FindFileByName(request.file_by_filename), response)
            case "file_containing_symbol":
                self._file(self._pool.FindFileContainingSymbol(request.file_containing_symbol), response)
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                self._pool.FindMessageTypeByName(name)
                response.all_extension_numbers_response.base_type_name = name
            case _:
                raise KeyError("proto3 services have no extensions")

    def _file(self, file: FileDescriptor, response: pb.ServerReflectionResponse) -> None:
        found: dict[str, FileDescriptor] = {}
        _collect(file, found)
        for one in found.values():
            proto = FileDescriptorProto()
            one.CopyToProto(proto)
            response.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    if file.name not in found:
        found[file.name] = file
        for dependency in file.dependencies:
            _collect(dependency, found)
