"""A Redis that asks for certificates: shown, refused, and replaced while a client runs."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace.state.redis import RedisCalls, RedisDownError
from headrace.state.redis_address import many_servers
from tests.machines.authority import Authority, trust
from tests.programs import needs_program
from tests.redis_server import RedisServer

pytestmark = needs_program("redis-server")
FILES = "ca={0}/ca.crt&certificate={0}/tls.crt&key={0}/tls.key"


def certified(folder: Path, authority: Authority) -> None:
    folder.mkdir(exist_ok=True)
    authority.issue(folder, f"{folder.name}.headrace.svc")
    trust(folder, authority)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    own = tmp_path / "redis"
    certified(own, Authority())
    shutil.copytree(own, tmp_path / "client")
    files = {"cert-file": "tls.crt", "key-file": "tls.key", "ca-cert-file": "ca.crt"}
    options = [word for name, file in files.items() for word in (f"--tls-{name}", own / file)]
    with RedisServer(tmp_path, *options, "--tls-auth-clients", "yes", tls=True) as made:
        yield made


@asynccontextmanager
async def calls(server: RedisServer, options: str) -> AsyncIterator[RedisCalls]:
    made = RedisCalls(f"rediss://127.0.0.1:{server.tls_port}/0?{options}", 5.0, time.monotonic, pause_s=0.0)
    try:
        yield made
    finally:
        await made.close()


async def test_who_shows_a_certificate_is_answered(server: RedisServer, tmp_path: Path) -> None:
    async with calls(server, FILES.format(tmp_path / "client")) as known:
        assert await known.ask([("PING",)]) == [True]
    async with calls(server, f"ca={tmp_path}/client/ca.crt") as unknown:
        with pytest.raises(RedisDownError):
            await unknown.ask([("PING",)])
    # Neither believes a server that another authority signed for.
    certified(tmp_path / "other", Authority())
    async with calls(server, FILES.format(tmp_path / "other")) as stranger:
        with pytest.raises(RedisDownError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.ask([("PING",)])


async def test_certificates_and_the_authority_are_replaced_under_a_client(
    server: RedisServer, tmp_path: Path
) -> None:
    client = tmp_path / "client"
    async with calls(server, FILES.format(client)) as asking:
        assert await asking.ask([("PING",)]) == [True]
        after = Authority()
        server.kill()
        for folder in (tmp_path / "redis", client):
            certified(folder, after)
        await asyncio.to_thread(server.start)
        assert await _at_last(asking) == [True]


async def _at_last(asking: RedisCalls) -> object:
    """What Redis says once the broken connections are gone: each of them fails one call."""
    for _ in range(20):
        try:
            return await asking.ask([("PING",)])
        except RedisDownError as error:
            told = error
    raise told


def test_several_servers_get_the_files() -> None:
    found = many_servers("rediss+sentinel://a,b/main?ca=/ca.crt")
    assert found is not None
    assert found.options()["ssl_ca_certs"] == "/ca.crt"
