"""Who is believed over TCP, by servers and by clients; new certificates are taken up without a lost call."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config
from headrace.hop.client.dial import Client
from headrace.hop.server.serve import serving
from headrace.hop.transport import channels
from headrace.hop.transport.tls import WatchedTls, client_credentials
from tests.libs.hop.hop_callee import fault_of
from tests.libs.hop.hop_certificates import Authority
from tests.libs.hop.hop_echo import ONE, Caller, EchoServicer, definition

QUIET = config.Telemetry(log_level="error")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def served(servicer: EchoServicer, tls: config.Tls | None = None, **server: Any) -> AsyncIterator[str]:
    values = config.Server(listen="127.0.0.1:0", tls=tls, drain_notice_s=0, **server)
    settings = config.ServiceSettings(server=values, telemetry=QUIET)
    async with serving(definition(servicer), settings) as running:
        yield running.address


def credentials_of(files: config.Tls) -> grpc.ChannelCredentials:
    return client_credentials(WatchedTls(files, "client").look())


@asynccontextmanager
async def secure(address: str, credentials: grpc.ChannelCredentials) -> AsyncIterator[Caller]:
    options = [("grpc.ssl_target_name_override", "echo.test"), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield Caller(channel)


@pytest.mark.parametrize(("peers", "identity"), [(("router.test",), "router.test"), ((), "other.test")])
async def test_a_name_that_is_listed_is_trusted_and_without_a_list_any_that_the_ca_signed(
    authority: Authority, servicer: EchoServicer, peers: tuple[str, ...], identity: str
) -> None:
    tls = authority.issue("server", "echo.test", peers=peers)
    mine = authority.issue("client", "other.test", "router.test")
    async with served(servicer, tls) as address, secure(address, credentials_of(mine)) as call:
        assert await call("hello", timeout=60) == "hello"

    peer = servicer.calls[0].peer
    assert (peer.transport, peer.identity, peer.trusted) == ("tls", identity, True)
    assert peer.names == ("other.test", "router.test")


async def test_a_peer_with_another_name_is_refused(authority: Authority, servicer: EchoServicer) -> None:
    tls = authority.issue("server", "echo.test", peers=("router.test",))
    mine = authority.issue("client", "intruder.test")
    async with served(servicer, tls) as address, secure(address, credentials_of(mine)) as call:
        fault = await fault_of(call("hello", timeout=60))

    assert fault.reason == hop.Reason.REASON_PEER_UNTRUSTED
    assert fault.code == hop.Code.PERMISSION_DENIED
    assert "router.test" not in fault.message
    assert not servicer.calls


async def test_a_stranger_does_not_get_through_the_handshake(
    authority: Authority, servicer: EchoServicer, tmp_path: Path
) -> None:
    tls = authority.issue("server", "echo.test")
    (tmp_path / "strange").mkdir()
    stranger = Authority(tmp_path / "strange").issue("client", "router.test")
    ours, key, chain = (path.read_bytes() for path in (authority.ca, stranger.key, stranger.certificate))
    forged, without = grpc.ssl_channel_credentials(ours, key, chain), grpc.ssl_channel_credentials(ours)
    async with served(servicer, tls) as address:
        for credentials in (forged, without):
            async with secure(address, credentials) as call:
                assert (await fault_of(call("hello", timeout=60))).code == hop.Code.UNAVAILABLE
    assert not servicer.calls


async def test_plain_tcp_is_served_untrusted_and_only_by_wish(servicer: EchoServicer) -> None:
    async with (
        served(servicer, allow_plaintext=True) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await Caller(channel)("hello", timeout=60)
    assert servicer.calls[0].peer == hop.Peer("tcp", "", False)

    with pytest.raises(config.ConfigError, match=r"needs server\.tls"):
        async with served(servicer):
            pass


async def test_new_files_are_used_for_new_connections_and_bad_ones_are_not(
    authority: Authority, servicer: EchoServicer, tmp_path: Path
) -> None:
    tls = authority.issue("server", "echo.test")
    mine = credentials_of(authority.issue("client", "router.test"))
    async with served(servicer, tls) as address:
        async with secure(address, mine) as call:
            await call("before", timeout=60)

        tls.key.write_text("half of a rotation")
        async with secure(address, mine) as call:
            assert await call("between", timeout=60) == "between"

        (tmp_path / "next").mkdir()
        successor = Authority(tmp_path / "next")
        fresh = successor.issue("server", "echo.test")
        for old, new in ((tls.certificate, fresh.certificate), (tls.key, fresh.key), (tls.ca, fresh.ca)):
            old.write_bytes(new.read_bytes())
        theirs = credentials_of(successor.issue("client", "router.test"))
        async with secure(address, theirs) as call:
            assert await call("after", timeout=60) == "after"
        async with secure(address, mine) as call:
            with pytest.raises(hop.Fault):
                await call("too late", timeout=60)


@asynccontextmanager
async def counted(address: str) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Another address of a server, and the connections that were made to it."""
    host, _, port = address.rpartition(":")
    made: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", made


async def test_an_old_connection_is_left_and_no_call_is_lost(
    authority: Authority, servicer: EchoServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may need longer for a handshake than calls are to wait.
    monkeypatch.setattr(channels, "CONNECT_MS", 60_000)
    tls, mine = authority.issue("server", "echo.test"), authority.issue("client", "router.test")
    # A call that meets the end of its connection was seen by no server, so it is sent again without a retry of hop's.
    once = config.RetrySettings(attempts=1)
    async with served(servicer, tls, max_connection_age_s=0.5) as address, counted(address) as (there, made):
        settings = config.ClientSettings(target=there, tls=mine, server_name="echo.test", retry=once)
        client = Client("echo", settings)
        call = client.unary(ONE)
        try:
            async with asyncio.timeout(60):
                # The first connection has to be closed too, not only another one to be made.
                while len(made) < 3 or not made[0].is_closing():
                    await call(StringValue(value="hello"), deadline=time.monotonic() + 10)
        finally:
            await client.close()


@asynccontextmanager
async def dialled(
    address: str, tls: config.Tls, server_name: str = "echo.test"
) -> AsyncIterator[Callable[[str], Awaitable[StringValue]]]:
    client = Client("echo", config.ClientSettings(target=address, tls=tls, server_name=server_name))
    call = client.unary(ONE)
    try:
        yield lambda word: call(StringValue(value=word), deadline=time.monotonic() + 60)
    finally:
        await client.close()


async def test_new_certificates_are_taken_up_and_unusable_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channels, "_WATCH_S", 0.0)
    authority, servicer = Authority(tmp_path), EchoServicer()
    mine = authority.issue("client", "router.old")
    async with (
        served(servicer, authority.issue("server", "echo.test")) as address,
        dialled(address, mine) as call,
    ):
        await call("a")
        mine.key.write_text("no key")
        await call("b")
        authority.issue("client", "router.new")
        await call("c")
    assert [c.peer.identity for c in servicer.calls] == ["router.old", "router.old", "router.new"]
    assert "unusable" in caplog.text


async def test_a_callee_with_another_name_is_not_believed(tmp_path: Path) -> None:
    authority, servicer = Authority(tmp_path), EchoServicer()
    async with (
        served(servicer, authority.issue("server", "echo.test")) as address,
        dialled(address, authority.issue("client", "router.test"), "bank.test") as call,
    ):
        fault = await fault_of(call("a"))
    assert fault.reason == hop.Reason.REASON_UNREACHABLE
    assert servicer.calls == []
