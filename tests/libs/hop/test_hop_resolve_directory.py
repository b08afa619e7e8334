"""A target that is a directory: its sockets are the replicas, and they are followed as they come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.hop.errors import Fault, Reason
from headrace.hop.resilience import resolve
from headrace.hop.testing import served
from tests.libs.hop.hop_callee import DO, soon, words
from tests.libs.hop.test_hop_client_dial import DEFINITION


async def test_the_sockets_of_a_directory_are_followed(tmp_path: Path) -> None:
    seen: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    resolver = resolve.Resolver(resolve.parse(f"unix-dir:{tmp_path}"), 5.0, seen.put_nowait)

    async def until(expected: tuple[str, ...]) -> None:
        async with asyncio.timeout(60):
            while await seen.get() != expected:
                pass

    try:
        await until(())
        (tmp_path / "2.sock").touch()
        (tmp_path / "other").touch()
        await until((f"unix:{tmp_path}/2.sock",))
        (tmp_path / "1.sock").touch()
        await until((f"unix:{tmp_path}/1.sock", f"unix:{tmp_path}/2.sock"))
        (tmp_path / "2.sock").unlink()
        await until((f"unix:{tmp_path}/1.sock",))
    finally:
        await resolver.close()


async def test_a_call_finds_the_first_socket_before_the_directory_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as a loaded machine may take.
    monkeypatch.setattr(resolve, "_DIRECTORY_EVERY_S", 3600.0)
    async with served(DEFINITION) as harness:
        client = harness.client(target=f"unix-dir:{tmp_path}", resolve_every_s=3600.0)
        call = client.unary(DO)
        with pytest.raises(Fault) as nobody:
            await call(words("early"), deadline=soon())
        assert nobody.value.reason == Reason.REASON_UNREACHABLE
        (tmp_path / "1.sock").symlink_to(harness.target.removeprefix("unix:"))
        assert list(await call(words("now"), deadline=soon())) == ["now"]


async def test_an_absent_directory_has_no_replicas(tmp_path: Path) -> None:
    assert await resolve.lookup(resolve.parse(f"unix-dir:{tmp_path}/none")) == ()


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute path"):
        resolve.parse("unix-dir:run/sockets")
