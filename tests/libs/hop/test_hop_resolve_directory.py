"""A target that is a directory: its sockets are the replicas, and they are followed as they come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.hop import resolve


async def test_the_sockets_of_a_directory_are_followed(tmp_path: Path) -> None:
    seen: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    resolver = resolve.Resolver(resolve.parse(f"unix-dir:{tmp_path}"), 5.0, seen.put_nowait)

    async def until(expected: tuple[str, ...]) -> None:
        async with asyncio.timeout(5):
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


async def test_an_absent_directory_has_no_replicas(tmp_path: Path) -> None:
    assert await resolve.lookup(resolve.parse(f"unix-dir:{tmp_path}/none")) == ()


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute path"):
        resolve.parse("unix-dir:run/sockets")
