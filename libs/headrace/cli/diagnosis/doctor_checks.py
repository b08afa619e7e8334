"""The checks of `headrace doctor`: what this machine and the files of this home lack, and how to correct it. What runs, `headrace
status` tells."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import find_libpython

from headrace.cli.installation import certificates, pid_lock, ports, services
from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.state.certificates import pair_end

_GIB = 1024**3
MIN_DISK_BYTES = 2 * _GIB
MIN_MEMORY_BYTES = 3 * _GIB
MIN_FILES = 4096
MIN_PYTHON = (3, 11)
# The services import them; if one is missing, the installation is incomplete.
_PACKAGES = ("grpc", "pyvoy", "envoy", "onnxruntime", "feast", "connectrpc", "uvloop")


class Level(enum.Enum):
    """How bad a finding is."""

    GOOD = "ok"
    # It works, but not as well as it could.
    WARN = "warn"
    BAD = "bad"


Verdict = tuple[Level, str, str]
"""Of a check: level, what was found, what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check. `fix`: what to do, "" if nothing."""

    what: str
    level: Level
    found: str
    fix: str = ""


def examine(layout: Layout, now: datetime) -> Iterator[Finding]:
    """Runs the checks, one after the other."""
    checks: dict[str, Callable[[], Verdict]] = {
        "Python": lambda: python(tuple(sys.version_info[:3])),
        "packages": _packages,
        "libpython": _libpython,
        "lane": _lane,
        "open files": lambda: _files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "disk": lambda: _disk(shutil.disk_usage(_existing(layout.home)).free),
        "memory": lambda: _memory(Path("/proc/meminfo").read_text()),
        "ports": lambda: _ports(layout),
        "certificate": lambda: _certificate(layout.tls, now),
        "data": lambda: _prepared(layout),
        "settings": lambda: _settings(layout),
    }
    for what, check in checks.items():
        yield Finding(what, *check())


def good(found: str) -> Verdict:
    """Nothing is to be done."""
    return Level.GOOD, found, ""


def warn(found: str, fix: str) -> Verdict:
    """It works, but not as well as it could."""
    return Level.WARN, found, fix


def bad(found: str, fix: str) -> Verdict:
    """It does not work."""
    return Level.BAD, found, fix


def python(version: tuple[int, ...]) -> Verdict:
    """Whether this version of Python is new enough."""
    text = ".".join(map(str, version))
    if version >= MIN_PYTHON:
        return good(text)
    return bad(text, "install Python 3.11 or later, then: make PYTHON=python3.11 up")


def _packages() -> Verdict:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return bad(f"missing: {', '.join(missing)}", "rm .venv/.installed && make up")
    return good("complete")


def _libpython() -> Verdict:
    candidates = (Path(path) for path in find_libpython.candidate_paths())
    found = next((path for path in candidates if path.name.startswith("libpython") and path.exists()), None)
    if found is not None:
        return good(f"{found.name}: the ingress runs inside Envoy")
    return bad(
        "none, so Envoy can't load this Python, and the ingress does not start",
        "use a Python built with --enable-shared (apt: libpython3-dev; uv: uv python install)",
    )


def _lane() -> Verdict:
    # By name: libraries do not import services.
    if importlib.import_module("services.ingress.lane.library").compiled() is not None:
        return good("compiled: small requests reach the ingress in batches")
    return warn(
        "not compiled for this version, Envoy and machine; requests cost more CPU, refusals in a crowd much more",
        "apt: gcc libc6-dev, then: python -m services.ingress.lane.library, and headrace restart ingress",
    )


def _files(soft: int) -> Verdict:
    if soft == resource.RLIM_INFINITY or soft >= MIN_FILES:
        return good("unlimited" if soft == resource.RLIM_INFINITY else str(soft))
    fix = f"ulimit -n {MIN_FILES} before headrace up: every connection of a client needs one"
    return warn(str(soft), fix)


def _disk(free: int) -> Verdict:
    text = f"{free / _GIB:.1f} GiB free"
    if free >= MIN_DISK_BYTES:
        return good(text)
    return bad(text, f"free {MIN_DISK_BYTES // _GIB} GiB, or use --home on another disk")


def _memory(meminfo: str) -> Verdict:
    lines = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    available = int(lines["MemAvailable"].split()[0]) * 1024
    text = f"{available / _GIB:.1f} GiB available"
    if available >= MIN_MEMORY_BYTES:
        return good(text)
    return warn(text, "close other programs, or use: headrace up --together")


def _ports(layout: Layout) -> Verdict:
    pid = pid_lock.holder(layout.lock)
    if pid is not None:
        return good(f"in use by headrace itself (pid {pid})")
    saved = ports.load(layout.ports)
    taken = {name: port for name, port in saved.items() if not ports.free(port)}
    if not taken:
        return good("free")
    text = ", ".join(f"{name} {port}" for name, port in taken.items())
    return good(f"taken by others, so up will choose new ones for: {text}")


def _certificate(folder: Path, now: datetime) -> Verdict:
    try:
        pair = (folder / "server.pem").read_bytes(), (folder / "server.key").read_bytes()
        end = datetime.fromtimestamp(pair_end(*pair, now.timestamp()), UTC)
    except FileNotFoundError:
        return good("not made yet; up makes it")
    except (OSError, ValueError) as error:
        make = f"put a good pair into {folder}, or remove server.pem: headrace down && headrace up makes one"
        return bad(f"the door refuses it: {error}", make)
    until = f"good until {end:%Y-%m-%d}"
    if end - now > certificates.RENEW_BEFORE:
        return good(until)
    return warn(until, "headrace down && headrace up renews it")


def _prepared(layout: Layout) -> Verdict:
    wanted = {"features": layout.feast, "models": layout.models, "requests": layout.requests}
    missing = [name for name, path in wanted.items() if not path.exists()]
    if missing:
        return good(f"not prepared yet ({', '.join(missing)}); up prepares it")
    return good(f"prepared in {layout.home}")


def _settings(layout: Layout) -> Verdict:
    files = sorted(layout.override("supervisor").parent.glob("*.yaml"))
    try:
        for file in files:
            config.read(file)
    except config.ConfigError as error:
        return bad(str(error), "mend the file, or remove it")
    known = (*services.start_order(), "supervisor", "releases", "slo", "readiness")
    strange = [file.name for file in files if file.stem not in known]
    if strange:
        fix = f"name it as one of {', '.join(known)}"
        return warn(f"of no service: {', '.join(strange)}", fix)
    return good(f"of {len(files)} services your own" if files else "none of your own")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)
