"""The suite's own tools: the descriptions hold together, and a link loses no byte of a stream whatever its quality is."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace.cli.gameday import table
from headrace.slo import alert_names
from tests.chaos.link import Link, Quality
from tests.chaos.record import ChaosRecord
from tests.chaos.test_chaos import FAULTS

_DATA = bytes(range(256)) * 1024


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """To a server that sends back what it gets."""
    callee = tmp_path / "callee"
    callee.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(callee / "1.sock"))
        server.listen()
        thread = threading.Thread(target=_echo, args=(server,))
        thread.start()
        try:
            link = Link(callee)
            with link.running():
                yield link
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _echo(server: socket.socket) -> None:
    try:
        with server.accept()[0] as connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
    except OSError:
        return  # the test has ended


def _called(link: Link) -> socket.socket:
    host, _, port = link.address.rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def _received(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(1 << 16)
        assert part, "it was closed"
        found += part
    return found


@pytest.mark.parametrize("quality", [Quality(), Quality(delay_s=0.02, jitter_s=0.02), Quality(loss=0.05)])
def test_all_arrives_in_order(link: Link, quality: Quality) -> None:
    link.become(quality)
    with _called(link) as connection:
        connection.sendall(_DATA)
        assert _received(connection, len(_DATA)) == _DATA


def test_what_is_slow_comes_later(link: Link) -> None:
    with _called(link) as connection:
        link.become(Quality(delay_s=0.2))
        began = time.monotonic()
        connection.sendall(b"slow")
        assert _received(connection, 4) == b"slow"
    assert time.monotonic() - began >= 0.4


def test_nothing_passes_a_cut_and_all_arrives_afterwards(link: Link) -> None:
    with _called(link) as connection:
        connection.sendall(b"before")
        assert _received(connection, 6) == b"before"
        link.become(Quality(cut=True))
        connection.sendall(b"during")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        link.become(Quality())
        assert _received(connection, 6) == b"during"


def test_nobody_can_connect_across_a_cut(link: Link) -> None:
    link.become(Quality(cut=True))
    host, _, port = link.address.rpartition(":")
    with pytest.raises(TimeoutError):
        socket.create_connection((host, int(port)), 0.3)
    link.become(Quality())
    _called(link).close()


def test_a_link_without_a_callee_closes(tmp_path: Path) -> None:
    link = Link(tmp_path)
    with link.running(), _called(link) as connection:
        assert connection.recv(1) == b""


def test_each_fault_has_a_name_of_its_own_and_an_alert_that_there_is() -> None:
    names = [chaos.expected.name for chaos in FAULTS]
    assert len(set(names)) == len(names)
    assert {chaos.expected.alert for chaos in FAULTS} <= set(alert_names())


def test_a_row_takes_the_place_of_its_faults_earlier_one(tmp_path: Path) -> None:
    page = tmp_path / "chaos.md"
    for row in ("| killed | 1 |\n", "| frozen | 2 |\n", "| killed | 3 |\n"):
        ChaosRecord(page).add(row)
    assert page.read_text().endswith(f"{table.HEAD}| killed | 3 |\n| frozen | 2 |\n")
