"""A service with all four RPC arities, for the tests of hop's server; also a program."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
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

ARITIES = ("One", "Out", "In", "Both")


def _descriptor() -> ServiceDescriptor:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/echo.proto",
        package="tests",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    service = file.service.add(name="Echo")
    kind = ".google.protobuf.StringValue"
    for name in ARITIES:
        into, out = name in ("In", "Both"), name in ("Out", "Both")
        service.method.add(
            name=name, input_type=kind, output_type=kind, client_streaming=into, server_streaming=out
        )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("tests.Echo")


ECHO = _descriptor()
ONE = hop.unary(ECHO.file, "Echo", "One", StringValue, StringValue, idempotent=True)


def called(
    local: hop.LocalServers, word: str, deadline: float, *metadata: tuple[str, str]
) -> Coroutine[Any, Any, Any]:
    out = Outgoing(ONE, StringValue(value=word), deadline, "", 1)
    out.metadata = metadata
    return local.call("echo", None, out)


class EchoServicer:
    """Answers with what it gets; some words make it misbehave."""

    def __init__(self) -> None:
        self.calls: list[hop.Call] = []
        self.current: list[hop.Call | None] = []
        self.cancelled = 0
        self.release = asyncio.Event()

    async def _act(self, word: str, call: hop.Call) -> StringValue:
        self.calls.append(call)
        self.current.append(hop.current())
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

    async def Out(self, request: StringValue, call: hop.Call) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        yield await self._act(request.value, call)

    async def In(self, requests: AsyncIterator[StringValue], call: hop.Call) -> StringValue:
        words = [request.value async for request in requests]
        return await self._act(words[-1], call)

    async def Both(self, requests: AsyncIterator[StringValue], call: hop.Call) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield await self._act(request.value, call)


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
        ends = (StringValue.SerializeToString, StringValue.FromString)
        self.channel = channel
        self.stubs: dict[str, Callable[..., Any]] = {
            "One": channel.unary_unary("/tests.Echo/One", *ends),
            "Out": channel.unary_stream("/tests.Echo/Out", *ends),
            "In": channel.stream_unary("/tests.Echo/In", *ends),
            "Both": channel.stream_stream("/tests.Echo/Both", *ends),
        }

    async def __call__(self, arity: str, word: str, **options: Any) -> list[str]:
        """The words that came back. Raises Fault."""
        request = StringValue(value=word)
        given = iter([request]) if arity in ("In", "Both") else request
        call = self.stubs[arity](given, **options)
        try:
            if arity in ("Out", "Both"):
                return [reply.value async for reply in call]
            return [(await call).value]
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
