"""A service whose methods work for as long as the message says, and give it back: its descriptor, servicer and codec."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf import descriptor_pb2 as pb
from google.protobuf import descriptor_pool
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop.call import Method
from tests.simulation.cases import METHODS

_KIND = ".google.protobuf.StringValue"
_POOL = descriptor_pool.Default()
_RPCS = [pb.MethodDescriptorProto(name=name, input_type=_KIND, output_type=_KIND) for name in METHODS]
_POOL.Add(
    pb.FileDescriptorProto(
        name="tests/simulated.proto",
        package="tests",
        dependency=["google/protobuf/wrappers.proto"],
        service=[pb.ServiceDescriptorProto(name="Simulated", method=_RPCS)],
    )
)
DESCRIPTOR = _POOL.FindServiceByName("tests.Simulated")
RPCS: dict[str, Method[StringValue, StringValue]] = {
    name: hop.unary(
        DESCRIPTOR.file,
        "Simulated",
        name,
        StringValue,
        StringValue,
        idempotent=True,
        lengthy=name == "Explain",
    )
    for name in METHODS
}


class Servicer:
    async def Predict(self, request: StringValue, call: hop.Call) -> StringValue:
        await asyncio.sleep(float(request.value.split()[0]))
        return request

    List = Rank = Explain = Predict


class Item(NamedTuple):
    """Rows of one caller that share calls with others of one lane."""

    number: int
    deadline: float
    rows: int
    work_s: float
    lane: str
    tenant: str


class Codec:
    """Of `Predict`: a call works for as long as its longest item."""

    def describe(self, item: Item) -> hop.ItemDescription:
        return item.lane, item.tenant, item.rows, item.rows, item.deadline, 1

    def merge(self, items: Sequence[Item]) -> StringValue:
        return message(max(i.work_s for i in items), *(i.number for i in items))

    def split(self, items: Sequence[Item], response: StringValue) -> Sequence[int]:
        return numbers(response)


def message(work_s: float, *numbers: int) -> StringValue:
    return StringValue(value=" ".join([str(work_s), *map(str, numbers)]))


def numbers(reply: StringValue) -> list[int]:
    return [int(number) for number in reply.value.split()[1:]]
