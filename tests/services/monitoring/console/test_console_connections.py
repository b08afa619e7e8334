"""The console over real sockets: who holds its connections, who is let in, and what a restart changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.monitoring.console.web import connections
from tests.ports import free_port
from tests.services.monitoring.console.console_place import Browser, Place


@asynccontextmanager
async def silent(
    port: int, count: int, source: str = "127.0.0.1"
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that send nothing; they are open to the end, as far as the console leaves them."""
    opened = [await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)) for _ in range(count)]
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def cut_off(reader: asyncio.StreamReader) -> None:
    """Waits until the console has closed it."""
    async with asyncio.timeout(60):
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            pass


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
async def test_500_silent_connections_hold_up_no_operator(place: Place, source: str) -> None:
    port = free_port()
    before, again = Browser(port), Browser(port)
    async with place.serving(port):
        assert (await before.sign_in(place.keys["operator"])).status == 303
        again.cookies = dict(before.cookies)
        async with silent(port, 500, source):
            # On the connection that has shown the session, on another one, and from a sign-in on.
            assert (await before.get("/")).status == 200
            assert (await again.get("/")).status == 200
            newcomer = Browser(port)
            assert (await newcomer.sign_in(place.keys["operator"])).status == 303
            async with silent(port, 100, source):
                for client in (before, again, newcomer):
                    assert (await client.get("/")).status == 200
        for client in (before, again, newcomer):
            client.close()


async def test_an_address_with_many_connections_takes_none_of_another(place: Place) -> None:
    port = free_port()
    async with place.serving(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with silent(port, 40, "127.0.0.2") as readers:
            # The oldest of an address go first.
            await asyncio.gather(*map(cut_off, readers[:8]))
            assert not any(r.at_eof() for r in readers[8:])
        async with silent(port, 100, "127.0.0.2"), silent(port, 100, "127.0.0.3"):
            writer.write(b"GET /sign-in HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            async with asyncio.timeout(60):
                assert b" 200 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /sign-in HTTP/1.1\r\nhost: ", id="half a header"),
        pytest.param(b"POST /sign-in HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n", id="no body"),
        pytest.param(
            b"GET /sign-in HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
            b"POST /sign-in HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n",
            id="no body of a request that was sent ahead",
        ),
    ],
)
async def test_a_slow_request_is_cut_off(place: Place, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    port = free_port()
    async with place.serving(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        dripping = asyncio.create_task(_drip(writer, b"x" if sent.endswith(b"host: ") else b""))
        await cut_off(reader)
        dripping.cancel()
        writer.close()


async def _drip(writer: asyncio.StreamWriter, byte: bytes) -> None:
    while byte:
        writer.write(byte)
        await asyncio.sleep(0.05)


async def test_a_slow_page_of_an_operator_outlasts_the_deadline_of_requests(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(_: str) -> None:
        await asyncio.sleep(1)

    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    place.panels.append(slow)
    port = free_port()
    async with place.serving(port):
        client = Browser(port)
        assert (await client.get("/pipelines/flights", x_api_key=place.keys["operator"])).status == 200
        client.close()


async def test_a_session_that_was_signed_out_is_over_after_a_restart(place: Place) -> None:
    port = free_port()
    out, goes_on = Browser(port), Browser(port)
    async with place.serving(port):
        for client in (out, goes_on):
            assert (await client.sign_in(place.keys["operator"])).status == 303
        stolen = dict(out.cookies)
        assert (await out.post("/sign-out", {})).status == 303
        out.cookies = dict(stolen)
        assert (await out.get("/")).status == 303
        out.close()
        goes_on.close()
    out.cookies = stolen
    async with place.serving(port):
        assert (await out.get("/")).status == 303
        assert (await goes_on.get("/")).status == 200
        goes_on.close()
    # When nobody knows who signed out, all sign in again.
    (place.folder / "audit" / "console.ended").write_bytes(b"\0\1")
    async with place.serving(port):
        assert (await goes_on.get("/")).status == 303
        place.wall += 1
        assert (await goes_on.sign_in(place.keys["operator"])).status == 303
        assert (await goes_on.get("/")).status == 200
        for client in (out, goes_on):
            client.close()
