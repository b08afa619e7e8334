"""The client's side of mTLS: names are checked, new certificates are taken up without a lost call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config
from headrace.hop.client.dial import Client
from headrace.hop.server.serve import serving
from headrace.hop.transport import channels
from headrace.hop.transport.tls import TlsError
from tests.libs.hop.hop_certificates import Authority
from tests.libs.hop.hop_echo import ONE, EchoServicer, definition


@asynccontextmanager
async def served(servicer: EchoServicer, tls: config.Tls) -> AsyncIterator[str]:
    server = config.Server(listen="127.0.0.1:0", tls=tls, drain_notice_s=0)
    settings = config.ServiceSettings(server=server, telemetry=config.Telemetry(log_level="error"))
    async with serving(definition(servicer), settings) as running:
        yield running.address


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
        with pytest.raises(hop.Fault) as caught:
            await call("a")
    assert caught.value.reason == hop.Reason.REASON_UNREACHABLE
    assert servicer.calls == []


async def test_missing_files_are_told_when_the_client_is_made(tmp_path: Path) -> None:
    nothing = config.Tls(certificate=tmp_path / "a", key=tmp_path / "b", ca=tmp_path / "c")
    with pytest.raises(TlsError):
        Client("echo", config.ClientSettings(target="127.0.0.1:1", tls=nothing))
