"""A service of one method, for the tests of hop's server; also a program."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.transport import wire_errors


def _descriptor() -> ServiceDescriptor:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/echo.proto",
        package="tests",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    service = file.service.add(name="Echo")
    kind = ".google.protobuf.StringValue"
    service.method.add(name="One", input_type=kind, output_type=kind)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("tests.Echo")


ECHO = _descriptor()
ONE = hop.unary(StringValue, StringValue, idempotent=True, name="One", file=ECHO.file)


async def called(
    local: hop.LocalServers, word: str, deadline: float, *metadata: tuple[str, str], callee: str = "echo"
) -> Any:
    out = Outgoing(ONE, StringValue(value=word), deadline, 1)
    out.metadata = metadata
    return await local.call(callee, out)


class EchoServicer:
    """Answers with what it gets; some words make it misbehave."""

    def __init__(self) -> None:
        self.calls: list[hop.Call] = []
        self.cancelled = 0
        self.release = asyncio.Event()

    async def _act(self, word: str, call: hop.Call) -> StringValue:
        self.calls.append(call)
        try:
            return await self._say(word)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _say(self, word: str) -> StringValue:
        match word:
            case "fault":
                raise hop.Fault(
                    hop.Code.NOT_FOUND,
                    hop.Reason.REASON_MODEL_UNKNOWN,
                    "no model m",
                    metadata={"model": "m"},
                    retry_after_s=0.25,
                )
            case "defect":
                raise RuntimeError("password=hunter2 in /etc/secret")
            case "timeout":
                raise TimeoutError("of something else")
            case "leak":  # a cancellation that is not ours
                gone = asyncio.get_running_loop().create_future()
                gone.cancel()
                await gone
            case "wrong":
                return descriptor_pb2.FileDescriptorProto()  # type: ignore[return-value]  # what is under test
            case "bytes":
                return StringValue(value=word).SerializeToString()  # type: ignore[return-value]  # a reply as its bytes
            case "hold":
                await self.release.wait()
            case _ if word.startswith("sleep "):
                await asyncio.sleep(float(word.removeprefix("sleep ")))
        return StringValue(value=word)

    async def One(self, request: StringValue, call: hop.Call) -> StringValue:
        return await self._act(request.value, call)


def definition(
    servicer: object | None = None, closed: list[str] | None = None
) -> hop.Definition[config.ServiceSettings]:
    @asynccontextmanager
    async def build(
        settings: config.ServiceSettings, runtime: hop.Runtime
    ) -> AsyncIterator[Sequence[hop.Service]]:
        yield [hop.Service(ECHO, servicer or EchoServicer())]
        if closed is not None:
            closed.append(runtime.name)

    return hop.Definition("echo", config.ServiceSettings, build)


class Caller:
    """Calls the echo service through a plain gRPC channel: what hop's own client adds is not under test here."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.one: Callable[..., Any] = channel.unary_unary(
            ONE.path, StringValue.SerializeToString, StringValue.FromString
        )

    async def __call__(self, word: str, **options: Any) -> str:
        """The word that came back. Raises Fault."""
        call = self.one(StringValue(value=word), **options)
        try:
            return str((await call).value)
        except grpc.aio.AioRpcError as error:
            raise wire_errors.fault_of_rpc(error) from error
        finally:
            call.cancel()  # one that a cancelled task leaves, grpc.aio does not always cancel


@asynccontextmanager
async def caller(target: str) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Caller(channel)


if __name__ == "__main__":
    hop.run(definition())
