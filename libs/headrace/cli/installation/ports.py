"""TCP ports of one installation: free when chosen, then kept, so that bookmarks and scrapers stay valid."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from headrace.cli.installation import services
from headrace.cli.installation.layout import service_of
from headrace.state import atomic

# During a restart the old and the new process of a service run at the same time. Ports that they can't share come from
# two slots, one for each process.
SLOTS = (0, 1)
LOOPBACK = "127.0.0.1"
# Of the ingress: the old and the new Envoy listen on them at the same time.
SHARED = ("http", "tls")
# Of the operator console, which one process of the monitoring service has at a time.
CONSOLE = "console"
_LAST = 32767  # above it are the kernel's ephemeral ports, which any outgoing connection may take


def wanted(instances: Iterable[str] = ()) -> dict[str, int]:
    """Name of each port and where the search for it begins; `instances`: those beyond the first of each service."""
    *others, ingress = services.start_order()
    processes = dict.fromkeys((ingress, *others, *instances))
    names = [name for instance in processes for slot in SLOTS for name in own(instance, slot)]
    return {"http": 8080, "tls": 8443, CONSOLE: 8490} | {
        name: 9901 + index for index, name in enumerate(names)
    }


def metrics(instance: str, slot: int) -> str:
    """Name of the port with a process's metrics."""
    return f"metrics.{instance}.{slot}"


def admin(instance: str, slot: int) -> str:
    """Name of the port with the admin interface of an ingress's Envoy."""
    return f"admin.{instance}.{slot}"


def own(instance: str, slot: int) -> list[str]:
    """Names of the ports that one process does not share."""
    own_admin = [admin(instance, slot)] if service_of(instance) == services.INGRESS else []
    return [*own_admin, metrics(instance, slot)]


def choose(first: Mapping[str, int], saved: Mapping[str, int], free: Callable[[int], bool]) -> dict[str, int]:
    """A port for each name: the saved one if it is still free, else the next free one from `first` on.

    Raises LookupError if there is none.
    """
    chosen: dict[str, int] = {}
    for name in first:
        port = saved.get(name)
        if port is not None and port not in chosen.values() and free(port):
            chosen[name] = port
    kept = set(chosen.values())
    for name, start in first.items():
        if name not in chosen:
            chosen[name] = next((p for p in range(start, _LAST + 1) if p not in kept and free(p)), 0)
            if not chosen[name]:
                raise LookupError(f"no free TCP port from {start} to {_LAST} for {name}")
            kept.add(chosen[name])
    return {name: chosen[name] for name in first}


def secured(
    ports: Mapping[str, int], instance: str, slot: int, free: Callable[[int], bool]
) -> dict[str, int]:
    """The ports, with new ones for a process that is about to start if another program has taken those of its slot.

    A slot is unused until the next restart, and meanwhile another program, or another home, may take its ports.
    """
    mine = own(instance, slot)
    others = {name: port for name, port in ports.items() if name not in mine}
    first = {name: port for name, port in wanted([instance]).items() if name in mine}
    taken = set(others.values())
    return others | choose(first, ports, lambda port: port not in taken and free(port))


def free(port: int) -> bool:
    """Whether nobody listens on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections in TIME_WAIT, left by an earlier run, must not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Bound, but not listening: the check must not hinder a process that is about to listen there.
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def hold(port: int) -> socket.socket:
    """Reserves a port for this installation until the socket is closed; its Envoys can listen on it meanwhile.

    Envoy listens with SO_REUSEPORT, so that a restart loses no connection. Without this socket the Envoys of two
    installations of one user would share the port, and its callers, without an error. This socket never listens. It
    makes every bind without that option fail, and so other installations' search for free ports. Raises OSError if
    the port is taken.
    """
    holding = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT don't count
        holding.bind((LOOPBACK, port))
        # Only after the bind: it was made without others, and from here on only SO_REUSEPORT may share the port.
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        holding.close()
        raise
    return holding


def reserve(port: int) -> socket.socket:
    """Reserves a port among installations until the socket is closed, also while nobody listens on it.

    An abstract name: all users of a network share it, and it ends with the process. Raises OSError if another has it.
    """
    reserving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reserving.bind(_name(port))
    except OSError:
        reserving.close()
        raise
    return reserving


def unreserved(port: int) -> bool:
    """Whether no installation has reserved it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(_name(port)) == errno.ECONNREFUSED


def _name(port: int) -> str:
    return f"\0headrace/port/{port}"


def claim(path: Path, instances: Iterable[str] = ()) -> tuple[dict[str, int], list[socket.socket]]:
    """Chooses all ports, reserves them, holds those that processes share, and keeps the choice in `path`.

    Raises LookupError if there are none free.
    """
    first = wanted(instances)
    while True:
        chosen = choose(first, load(path), lambda port: unreserved(port) and free(port))
        with ExitStack() as stack:
            try:
                held = [stack.enter_context(reserve(port)) for port in chosen.values()]
                held += [stack.enter_context(hold(chosen[name])) for name in SHARED]
            except OSError:
                continue  # another installation or program has taken it since
            stack.pop_all()
        save(path, chosen)
        return chosen, held


def load(path: Path) -> dict[str, int]:
    """The saved ports; none if there is no such file, or it is not one of ours."""
    try:
        saved = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(saved, dict):
        return {}
    return {str(name): port for name, port in saved.items() if isinstance(port, int) and 0 < port < 65536}


def save(path: Path, ports: Mapping[str, int]) -> None:
    """Keeps the ports for the next start."""
    atomic.write(path, json.dumps(dict(ports), indent=1).encode())
