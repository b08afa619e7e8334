"""What the processes of an installation say of themselves: their metrics, at the addresses that Prometheus has too, or DNS."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from headrace.cost.prices import GB

LookUp: TypeAlias = Callable[..., list[Any]]
"""As `socket.getaddrinfo`."""

_TIMEOUT_S = 2.0
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_WANTED = re.compile(
    r"^(process_cpu_seconds_total|process_resident_memory_bytes|process_start_time_seconds|"
    r"headrace_ingress_requests_total)(?:\{(.*)\})? (\S+)",
    re.MULTILINE,
)
# Codes of requests that the door refuses before the router is asked.
_REFUSED = frozenset(
    {"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
)


class TargetsError(Exception):
    """It is not known where the processes are; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A process: its name, such as `router.2` or `router.10.0.0.7`, and host:port of its metrics."""

    instance: str
    address: str

    @property
    def service(self) -> str:
        return self.instance.partition(".")[0]


@dataclass(slots=True)
class Page:
    """Counters of a process since its start, which is in seconds since 1970. `refused`: (tenant, pipeline) → requests; `text`:
    all that it says."""

    target: Target
    text: str = ""
    started: float = 0.0
    cpu_s: float = 0.0
    memory_gb: float = 0.0
    refused: dict[tuple[str, str], float] = field(default_factory=dict)


def targets(path: Path) -> list[Target]:
    """All processes. Blocks. Raises TargetsError."""
    try:
        groups = json.loads(path.read_text())
        return [Target(g["labels"]["instance"], address) for g in groups for address in g["targets"]]
    except OSError as error:
        raise TargetsError(f"{path} can't be read: {(error.strerror or '').lower()}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TargetsError(f"{path} names no processes: {type(error).__name__} {error}") from error


def resolved(services: Mapping[str, str], look_up: LookUp = socket.getaddrinfo) -> list[Target]:
    """All processes of services that DNS has at NAME:PORT; a service whose name has no address is one process that does not
    answer. Blocks. Raises TargetsError: no name has any."""
    found: list[Target] = []
    problem = ""
    for service, place in services.items():
        host, _, port = place.rpartition(":")
        try:
            told = look_up(host, int(port), type=socket.SOCK_STREAM)
        except OSError as error:
            problem = f"{host} has no address: {error.strerror or error}"
            told = []
        addresses = sorted({str(address[0]) for *_, address in told})
        found += [Target(f"{service}.{a}", f"[{a}]:{port}" if ":" in a else f"{a}:{port}") for a in addresses]
        if not addresses:
            found.append(Target(service, place))
    if all(target.instance in services for target in found):
        raise TargetsError(problem or "no service has an address")
    return found


def ask(target: Target) -> Page | None:
    """What a process says; None: it does not answer, as it is being restarted. Blocks."""
    try:
        with urllib.request.urlopen(f"http://{target.address}/metrics", timeout=_TIMEOUT_S) as reply:
            return read(target, reply.read().decode())
    except (OSError, ValueError):
        return None


def read(target: Target, text: str) -> Page:
    """The page of a process."""
    page = Page(target, text)
    for name, labels, value in _samples(text):
        match name:
            case "process_cpu_seconds_total":
                page.cpu_s = value
            case "process_resident_memory_bytes":
                page.memory_gb = value / GB
            case "process_start_time_seconds":
                page.started = value
            case "headrace_ingress_requests_total" if labels["code"] in _REFUSED:
                who = labels["tenant"], labels["pipeline"]
                page.refused[who] = page.refused.get(who, 0.0) + value
    return page


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for name, labels, value in _WANTED.findall(text):
        yield name, dict(_LABEL.findall(labels)), float(value)
