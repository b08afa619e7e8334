"""Redis as it is run for real: with passwords, databases, TLS, as a cluster; and peers that are no Redis at all. Events of a
Redis Stream end up in the online store: the newest of each entity, and none twice or lost."""

import asyncio
import json
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import asyncio as client_of

from headrace.hop.config import ConfigError
from headrace.hop.testing import Harness
from tests.libs.state.redis_servers import cluster, watched
from tests.redis_server import RedisServer
from tests.services.features.calling import Features, get, serving
from tests.services.features.conftest import NOW, create_repo
from tests.services.features.test_features_outage import eventually
from tests.services.features.test_features_service import looked_up
from tests.services.waiting import until

KEYS: dict[str, Sequence[object]] = {"tail": ["p1", "nobody"], "airport": [1, 1], "carrier": ["UA", "UA"]}
STREAM, REJECTED = "headrace:features", "headrace:features:rejected"
TIME = "event_timestamp"


async def read(repo: Path, **settings: Any) -> Features:
    async with serving(repo, store_timeout_s=5.0, **settings) as harness:
        return await get(harness, KEYS)


def check(found: Features) -> None:
    assert found.sources("planes") == ["PRESENT", "NOT_FOUND"]
    assert found.values["seats"] == [101, None]
    assert found.values["delay"] == [1.5, 1.5]


async def test_a_password_an_account_and_a_database(
    tmp_path: Path, redis_with: Callable[..., RedisServer], now: datetime
) -> None:
    server = redis_with("--requirepass", "12345", "--user", "reader", "on", ">s3cret", "~*", "&*", "+@all")
    for i, account in enumerate(["password=12345,db=3", "username=reader,password=s3cret"]):
        repo = tmp_path / f"repo-{i}"
        create_repo(repo, {"type": "redis", "connection_string": f"127.0.0.1:{server.port},{account}"})
        check(await read(repo))
    configuration = repo / "feature_store.yaml"
    configuration.write_text(configuration.read_text().replace("s3cret", "wrong"))
    assert (await read(repo)).sources("planes") == ["DEFAULT", "DEFAULT"]


async def test_tls(tmp_path: Path, redis_with: Callable[..., RedisServer], now: datetime) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    try:
        server = redis_with(
            "--tls-cert-file", tmp_path / "cert.pem", "--tls-key-file", tmp_path / "key.pem",
            "--tls-ca-cert-file", tmp_path / "cert.pem", "--tls-auth-clients", "no", tls=True,
        )  # fmt: skip
    except RuntimeError as error:
        pytest.skip(f"this redis-server has no TLS: {error}")
    place = f"localhost:{server.tls_port},ssl=true"
    create_repo(
        tmp_path / "repo",
        {"type": "redis", "connection_string": f"{place},ssl_ca_certs={tmp_path / 'cert.pem'}"},
    )
    check(await read(tmp_path / "repo"))
    configuration = tmp_path / "repo" / "feature_store.yaml"
    trusting_nobody = configuration.read_text().replace(f",ssl_ca_certs={tmp_path / 'cert.pem'}", "")
    configuration.write_text(trusting_nobody)
    assert (await read(tmp_path / "repo")).sources("planes") == ["DEFAULT", "DEFAULT"]


async def test_a_cluster_does_not_tell_of_changes_and_is_asked_each_time(
    tmp_path: Path, now: datetime
) -> None:
    with cluster(tmp_path) as (_, ports, _):
        places = ",".join(f"127.0.0.1:{port}" for port in ports)
        place = {"connection_string": places, "redis_type": "redis_cluster"}
        create_repo(tmp_path / "repo", {"type": "redis", **place})
        # Two planes and an airport, each of them known to be there or not.
        async with serving(tmp_path / "repo", store_timeout_s=5.0, cache_s=1000) as harness:
            for _ in range(2):
                check(await get(harness, KEYS))
            assert looked_up(harness)["store"] == 6


async def test_options_that_it_does_not_know_are_named_at_the_start(
    redis: RedisServer, redis_repo: Path
) -> None:
    configuration = redis_repo / "feature_store.yaml"
    odd = configuration.read_text().replace(f":{redis.port}", f":{redis.port},single_connection_client=false")
    configuration.write_text(odd)
    with pytest.raises(ConfigError, match="has single_connection_client; leave them out"):
        async with serving(redis_repo):
            pass


async def test_sentinel_tells_where_the_master_is_and_where_the_next_one(
    tmp_path: Path, now: datetime
) -> None:
    with watched(tmp_path) as (servers, master, url):
        place = {"connection_string": urlsplit(url).netloc, "sentinel_master": "limits"}
        create_repo(tmp_path / "repo", {"type": "redis", "redis_type": "redis_sentinel", **place})
        async with serving(tmp_path / "repo", store_timeout_s=1.0) as harness:
            check(await get(harness, KEYS))
            servers.kill(master)
            sources = (await get(harness, KEYS)).sources("planes")
            assert sources == ["STALE", "DEFAULT"], (
                "what the next master has is not known before there is one"
            )
            check(await eventually(lambda: get(harness, KEYS), ["PRESENT", "NOT_FOUND"]))


@asynccontextmanager
async def speaking(port: int, answer: bytes) -> AsyncIterator[None]:
    """A peer at `port` that says the same to everything."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 500, b"+OK\r\n" * 9, b":1\r\n" * 9,
     b"*2\r\n+a\r\n+b\r\n" * 9, b"$99999999\r\nabc", b"-LOADING wait\r\n" * 9, b"*-1\r\n" * 9],
)  # fmt: skip
async def test_garbage_is_an_outage_and_nothing_else(
    redis: RedisServer, redis_repo: Path, now: datetime, answer: bytes
) -> None:
    async with serving(redis_repo, store_timeout_s=0.1, cache_s=0) as harness:
        assert (await get(harness, KEYS)).sources("planes") == ["PRESENT", "NOT_FOUND"]
        redis.kill()
        async with speaking(redis.port, answer):
            for _ in range(8):
                assert (await get(harness, KEYS)).sources("planes") == ["STALE", "DEFAULT"]
                await asyncio.sleep(0.02)
        redis.start()
        await eventually(lambda: get(harness, KEYS), ["PRESENT", "NOT_FOUND"])


def pushed(tail: str, seats: int, age_s: float, **changes: Any) -> dict[str, str]:
    """An event of a plane."""
    moment = (NOW - timedelta(seconds=age_s)).isoformat()
    row = {"tail": tail, "rating": 0.5, "seats": seats, "model": "pushed", TIME: moment, **changes}
    return {"view": "planes", "row": json.dumps(row)}


def of_plane(row: dict[str, Any]) -> dict[str, str]:
    return {"view": "planes", "row": json.dumps({"seats": 3, "rating": 0.5, "model": "m", **row})}


async def add(client: client_of.Redis, fields: dict[str, str]) -> Any:
    return await client.xadd(STREAM, fields)  # type: ignore[arg-type]  # str keys are fine


async def ask(harness: Harness, tails: list[str]) -> Features:
    count = len(tails)
    return await get(harness, {"tail": tails, "airport": [1] * count, "carrier": ["UA"] * count})


@pytest.mark.parametrize("kind", ["own_sqlite_repo", "redis_repo"])
async def test_the_newest_event_wins_in_whatever_order_they_come(
    request: pytest.FixtureRequest, redis: RedisServer, now: datetime, kind: str
) -> None:
    repo: Path = request.getfixturevalue(kind)
    events = [(f"new{i}", age) for i in range(10) for age in range(0, 50, 10)]
    random.Random(3).shuffle(events)
    stream = {"url": f"redis://127.0.0.1:{redis.port}", "batch": 7}
    async with (
        client_of.Redis(port=redis.port) as client,
        serving(repo, store_timeout_s=2.0, stream=stream) as harness,
    ):
        for tail, age in events:
            await add(client, pushed(tail, 1000 - age, age))
        # Older than what is there from the start.
        last = await add(client, pushed("p1", 1, 3600))

        async def done() -> bool:
            groups = await client.xinfo_groups(STREAM)
            return bool(groups) and groups[0]["pending"] == 0 and groups[0]["last-delivered-id"] == last

        await until(done)
        tails = [f"new{i}" for i in range(10)] + ["p1"]
        found = await ask(harness, tails)
    assert found.values["seats"] == [1000] * 10 + [101]
    assert found.ages_s("planes")[:10] == [0.0] * 10


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"row": "{}"}, ""),
        ({"view": "planes", "row": "{"}, ""),
        ({"view": "planes", "row": "[]"}, ""),
        ({"view": "nothing", "row": "{}"}, ""),
        ({"view": "planes", "row": '{"tail": "x"}'}, TIME),
        (pushed("y", 1, 0, event_timestamp="soon"), ""),
        (of_plane({TIME: 1.0}), "need tail"),
        (of_plane({"tail": None, TIME: 1.0}), "null in tail"),
        (of_plane({"tail": "x", TIME: None}), f"null in {TIME}"),
    ],
)
async def test_what_can_not_be_written_is_set_aside_with_the_reason_also_beside_good_ones(
    redis: RedisServer, redis_repo: Path, now: datetime, event: dict[str, str], why: str
) -> None:
    """They are written as one table, in which what a row lacks would look like a null."""
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    async with client_of.Redis(port=redis.port, decode_responses=True) as client:
        # Before the service starts, so that it reads them at once.
        await add(client, pushed("good", 7, 0))
        await add(client, event)
        async with serving(redis_repo, stream=stream) as harness:
            await until(lambda: client.xlen(REJECTED))
            [(_, fields)] = await client.xrange(REJECTED)

            async def written() -> bool:
                return (await ask(harness, ["good"])).values["seats"] == [7]

            await until(written)
    assert fields["why"]
    assert why in fields["why"]


async def test_it_goes_on_after_a_server_restart(redis: RedisServer, redis_repo: Path, now: datetime) -> None:
    stream = {"url": f"redis://127.0.0.1:{redis.port}"}
    async with serving(redis_repo, stream=stream) as harness:
        redis.kill()
        await asyncio.sleep(0.3)
        redis.start()
        async with client_of.Redis(port=redis.port) as client:
            await add(client, pushed("late", 9, 0))

        async def written() -> bool:
            return (await ask(harness, ["late"])).values["seats"] == [9]

        await until(written)
