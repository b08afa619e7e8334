"""Addresses of a callee's replicas: fixed by the settings, or resolved periodically in a task."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_DNS = "dns:///"
_DIRECTORY = "unix-dir:"
# A directory is read this often, so that sockets which a supervisor adds or removes are seen soon.
_DIRECTORY_EVERY_S = 0.1
# Until the first success; doubled at each failure up to the normal interval.
_FIRST_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed `config.ClientSettings.target`. `addresses` are gRPC targets; empty if they must be looked up: of
    `dns_host`, or the sockets in `directory`."""

    addresses: tuple[str, ...] = ()
    dns_host: str = ""
    dns_port: int = 0
    directory: str = ""


def parse(text: str) -> Target:
    """Reads `unix:/path[,unix:/path…]`, `host:port[,host:port…]`, `dns:///name:port`, `local`,
    or `unix-dir:/path` (every `*.sock` in that directory is a replica).

    Raises ValueError with what is wrong.
    """
    if text == "local":
        return Target(("local",))
    if text.startswith(_DNS):
        host, port = _host_port(text.removeprefix(_DNS))
        return Target((), host, port)
    if text.startswith(_DIRECTORY):
        directory = text.removeprefix(_DIRECTORY)
        if not os.path.isabs(directory):  # noqa: PTH117 - a str is enough
            raise ValueError(f"target {text!r}: an absolute path must follow unix-dir:")
        return Target(directory=directory)
    addresses = []
    for part in text.split(","):
        address = part.strip()
        if not address.startswith("unix:"):
            _host_port(address)
        elif address == "unix:":
            raise ValueError(f"target {text!r}: a path must follow unix:")
        addresses.append(address)
    if len(set(addresses)) != len(addresses):
        raise ValueError(f"target {text!r} names an address twice")
    return Target(tuple(addresses))


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        kinds = "host:port, unix:/path, unix-dir:/path, dns:///name:port or local"
        raise ValueError(f"target {text!r} is not {kinds}")
    return host.strip("[]"), int(port)


async def lookup(target: Target) -> tuple[str, ...]:
    """All addresses that the target has now, sorted. An empty directory means: no replicas.

    Raises OSError if DNS has none or does not answer.
    """
    if target.directory:
        return _sockets(target.directory)
    infos = await asyncio.get_running_loop().getaddrinfo(
        target.dns_host, target.dns_port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    found = {(family, str(sockaddr[0]), int(sockaddr[1])) for family, _, _, _, sockaddr in infos}
    return tuple(
        sorted(
            f"ipv6:[{host}]:{port}" if family == socket.AF_INET6 else f"ipv4:{host}:{port}"
            for family, host, port in found
        )
    )


def _sockets(directory: str) -> tuple[str, ...]:
    try:
        # Not in a thread: one system call on a folder of a few entries costs less than switching threads.
        names = os.listdir(directory)  # noqa: PTH208 - as above
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(f"unix:{directory}/{name}" for name in names if name.endswith(".sock")))


Lookup = Callable[[Target], Awaitable[tuple[str, ...]]]


class Resolver:
    """Calls `found` with the addresses of a target: fixed ones at once, others now and every `every_s`, in a task
    (at least every 0.1 s for a directory)."""

    def __init__(
        self,
        target: Target,
        every_s: float,
        found: Callable[[tuple[str, ...]], None],
        look: Lookup = lookup,
    ) -> None:
        self._target = target
        self._every_s = min(every_s, _DIRECTORY_EVERY_S) if target.directory else every_s
        self._found = found
        self._look = look
        self._task: asyncio.Task[None] | None = None
        if target.addresses:
            found(target.addresses)
        else:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def look(self) -> None:
        """Reads a directory now. DNS takes time, so it is left to the task."""
        if self._target.directory:
            self._found(_sockets(self._target.directory))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        pause = _FIRST_RETRY_S
        while True:
            try:
                self._found(await self._look(self._target))
                pause = self._every_s
            except Exception:  # noqa: BLE001 - whatever failed, the task must go on
                # A failure of the name server must not remove the known replicas: the lookup is repeated.
                pause = min(pause * 2, self._every_s)
            await asyncio.sleep(pause)
