"""Addresses of several servers: what is read of them, and what is refused without quoting a password."""

from __future__ import annotations

import pytest

from headrace.hop.config import ConfigError
from headrace.state.redis import RedisCalls
from headrace.state.redis_address import ManyServers, many_servers


def test_addresses_of_several_servers_are_read() -> None:
    assert many_servers("redis://host:1/0") is many_servers("unix:///x") is None
    assert many_servers("rediss+sentinel://me:p%40ss@a,b:7,[::1]:8/main/3") == ManyServers(
        (("a", 26379), ("b", 7), ("::1", 8)), "main", 3, True, "me", "p@ss"
    )
    assert many_servers("redis+cluster://:pw@a:1,b") == ManyServers(
        (("a", 1), ("b", 6379)), "", 0, False, None, "pw"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://:secret@a,b", "name that the Sentinels watch"),
        ("redis+sentinel://:secret@a/main/x", "number of a database"),
        ("redis+sentinel://:secret@a/main/1/2", "NAME/DATABASE"),
        ("redis+cluster://:secret@a/1", "one database only"),
        ("redis+cluster://secret@a", "without a password"),
        ("redis+cluster://:secret@a:99999", "HOST:PORT"),
        ("redis+cluster://:secret@a,,b", "HOST:PORT"),
        ("redis+ring://:secret@a", "begins with neither"),
    ],
)
async def test_others_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        RedisCalls(url, 1.0, lambda: 0.0)
    assert "secret" not in str(caught.value)
