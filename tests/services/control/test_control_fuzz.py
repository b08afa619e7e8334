"""Garbage on both services: each call gets a typed answer, and the service answers the next one."""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from headrace.api.control.v1 import records_pb2, resources_pb2
from headrace.catalog.remote import RemoteRecords
from headrace.hop.call import Method, methods_of
from headrace.hop.transport.wire_errors import fault_of
from tests.control_service import Here

METHODS = [
    *methods_of(records_pb2.DESCRIPTOR.services_by_name["RecordsService"]),
    *methods_of(resources_pb2.DESCRIPTOR.services_by_name["ResourcesService"]),
]
ROUNDS = 150
# What a caller's own fault, or the database's, is answered by; never UNKNOWN or INTERNAL.
CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
TEXTS = [
    "",
    *["release", "document", "freeze", "removal", "flights", "all", "router"],
    "a\x00b",
    "é😀",
    "x" * 600,
]
NUMBERS = [0, 1, 2, 10, 1 << 20, (1 << 31) - 1, (1 << 32) - 1]
BYTES = [b"", b"{}", b"[" * 1000, bytes(32), b"\xff" * 40]


@pytest.fixture
def channel(control: Here) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(control.target) as found:
        yield found


def garbage(draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([0, 1, 5, 50, 5000]))


def odd(kind: type[Message], draw: random.Random, depth: int = 0) -> Any:
    """A message that can be parsed, with odd values."""
    message: Any = kind()
    for field in kind.DESCRIPTOR.fields:
        if draw.random() < 0.3 or depth > 3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[draw.choice(TEXTS)] = draw.choice(TEXTS)
        elif field.message_type is not None:
            inner = type(getattr(kind(), field.name)) if not field.is_repeated else None
            if inner is None:
                for _ in range(draw.randrange(3)):
                    fresh = getattr(message, field.name).add()
                    fresh.CopyFrom(odd(type(fresh), draw, depth + 1))
            else:
                getattr(message, field.name).CopyFrom(odd(inner, draw, depth + 1))
        elif field.is_repeated:
            getattr(message, field.name).append(draw.choice(TEXTS))
        else:
            setattr(message, field.name, draw.choice(values(field)))
    return message


def values(field: Any) -> Sequence[Any]:
    if field.type == field.TYPE_BYTES:
        return BYTES
    large = [1 << 40, 1 << 63, (1 << 64) - 1]
    known: dict[int, Sequence[Any]] = {
        field.CPPTYPE_STRING: TEXTS,
        field.CPPTYPE_BOOL: [True, False],
        field.CPPTYPE_UINT64: [*NUMBERS, *large],
    }
    return known.get(field.cpp_type, NUMBERS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_garbage_gets_a_typed_answer(control: Here, channel: grpc.Channel, method: Method[Any, Any]) -> None:
    draw = random.Random(method.name)
    call: Any = channel.unary_unary(method.path)
    for number in range(ROUNDS):
        request = garbage(draw) if number % 2 else odd(method.request, draw).SerializeToString()
        try:
            method.response.FromString(call(request, timeout=0.2 if method.name == "Watch" else 20))
        except grpc.RpcError as error:
            failed: Any = error
            fault = fault_of(failed.code(), failed.details(), failed.trailing_metadata())
            assert failed.code() in CODES, fault
            assert fault.reason, fault
            assert "Traceback" not in fault.message
    with closing(RemoteRecords(control.target)) as records:
        assert records.position().number >= 1
