"""The checks of `headrace doctor`: what this machine and this home lack, and how to correct it."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import find_libpython

from headrace.access import changes
from headrace.catalog.errors import RecordsError
from headrace.cli.diagnosis import (
    broken_pipelines,
    earlier_homes,
    encryption_at_rest,
    quarantined_models,
    readiness_attestations,
)
from headrace.cli.installation import certificates, control_place, pid_lock, ports, services
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


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check. `fix`: what to do, "" if nothing."""

    what: str
    level: Level
    found: str
    fix: str = ""


def examine(layout: Layout, now: datetime) -> Iterator[Finding]:
    """Runs the checks, one after the other."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _packages,
        _libpython,
        _lane,
        lambda: _files(resource.getrlimit(resource.RLIMIT_NOFILE)),
        lambda: _disk(shutil.disk_usage(_existing(layout.home)).free),
        lambda: _memory(Path("/proc/meminfo").read_text()),
        lambda: _ports(layout),
        lambda: _certificate(layout.tls, now),
        lambda: _prepared(layout),
        lambda: _pipelines(layout),
        lambda: _settings(layout),
        lambda: _tenants(layout),
        lambda: _encryption(layout, now.date()),
    )
    for check in checks:
        yield check()
    for model in quarantined_models.models(layout):
        yield Finding("model", Level.WARN, quarantined_models.sentence(model), model["remedy"])


def _python() -> Finding:
    return python(tuple(sys.version_info[:3]))


def python(version: tuple[int, ...]) -> Finding:
    """Whether this version of Python is new enough."""
    text = ".".join(map(str, version))
    if version >= MIN_PYTHON:
        return Finding("Python", Level.GOOD, text)
    return Finding("Python", Level.BAD, text, "install Python 3.11 or later, then: make PYTHON=python3.11 up")


def _packages() -> Finding:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            "packages", Level.BAD, f"missing: {', '.join(missing)}", "rm .venv/.installed && make up"
        )
    return Finding("packages", Level.GOOD, "complete")


def _libpython() -> Finding:
    candidates = (Path(path) for path in find_libpython.candidate_paths())
    found = next((path for path in candidates if path.name.startswith("libpython") and path.exists()), None)
    if found is not None:
        return Finding("libpython", Level.GOOD, f"{found.name}: the ingress runs inside Envoy")
    return Finding(
        "libpython",
        Level.BAD,
        "none, so Envoy can't load this Python, and the ingress does not start",
        "use a Python built with --enable-shared (apt: libpython3-dev; uv: uv python install)",
    )


def _lane() -> Finding:
    # By name: libraries do not import services.
    if importlib.import_module("services.ingress.lane.library").compiled() is not None:
        return Finding("lane", Level.GOOD, "compiled: small requests reach the ingress in batches")
    return Finding(
        "lane",
        Level.WARN,
        "not compiled for this version, Envoy and machine; requests cost more CPU, refusals in a crowd much more",
        "apt: gcc libc6-dev, then: python -m services.ingress.lane.library, and headrace restart ingress",
    )


def _files(limits: tuple[int, int]) -> Finding:
    soft = limits[0]
    if soft == resource.RLIM_INFINITY or soft >= MIN_FILES:
        return Finding("open files", Level.GOOD, "unlimited" if soft == resource.RLIM_INFINITY else str(soft))
    fix = f"ulimit -n {MIN_FILES} before headrace up: every connection of a client needs one"
    return Finding("open files", Level.WARN, str(soft), fix)


def _disk(free: int) -> Finding:
    text = f"{free / _GIB:.1f} GiB free"
    if free >= MIN_DISK_BYTES:
        return Finding("disk", Level.GOOD, text)
    return Finding(
        "disk", Level.BAD, text, f"free {MIN_DISK_BYTES // _GIB} GiB, or use --home on another disk"
    )


def _memory(meminfo: str) -> Finding:
    lines = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    available = int(lines["MemAvailable"].split()[0]) * 1024
    text = f"{available / _GIB:.1f} GiB available"
    if available >= MIN_MEMORY_BYTES:
        return Finding("memory", Level.GOOD, text)
    return Finding("memory", Level.WARN, text, "close other programs, or use: headrace up --together")


def _ports(layout: Layout) -> Finding:
    pid = pid_lock.holder(layout.lock)
    if pid is not None:
        return Finding("ports", Level.GOOD, f"in use by headrace itself (pid {pid})")
    saved = ports.load(layout.ports)
    taken = {name: port for name, port in saved.items() if not ports.free(port)}
    if not taken:
        return Finding("ports", Level.GOOD, "free")
    text = ", ".join(f"{name} {port}" for name, port in taken.items())
    return Finding("ports", Level.GOOD, f"taken by others, so up will choose new ones for: {text}")


def _certificate(folder: Path, now: datetime) -> Finding:
    what, fix = "certificate", "headrace down && headrace up renews it"
    try:
        pair = (folder / "server.pem").read_bytes(), (folder / "server.key").read_bytes()
        end = datetime.fromtimestamp(pair_end(*pair, now.timestamp()), UTC)
    except FileNotFoundError:
        return Finding(what, Level.GOOD, "not made yet; up makes it")
    except (OSError, ValueError) as error:
        make = f"put a good pair into {folder}, or remove server.pem: headrace down && headrace up makes one"
        return Finding(what, Level.BAD, f"the door refuses it: {error}", make)
    level = Level.GOOD if end - now > certificates.RENEW_BEFORE else Level.WARN
    return Finding(what, level, f"good until {end:%Y-%m-%d}", "" if level is Level.GOOD else fix)


def _prepared(layout: Layout) -> Finding:
    wanted = {"features": layout.feast, "models": layout.models, "requests": layout.requests}
    missing = [name for name, path in wanted.items() if not path.exists()]
    if missing:
        return Finding("data", Level.GOOD, f"not prepared yet ({', '.join(missing)}); up prepares it")
    return Finding("data", Level.GOOD, f"prepared in {layout.home}")


def _pipelines(layout: Layout) -> Finding:
    try:
        found = broken_pipelines.look(layout)
    except control_place.NotRunningError:
        return Finding("pipelines", Level.GOOD, "not looked at: control, which knows them, does not run")
    except config.ConfigError as error:
        return Finding("pipelines", Level.BAD, str(error), "mend the file, or remove it")
    lines = broken_pipelines.lines(found, {})
    if not lines:
        return Finding("pipelines", Level.GOOD, f"{len(found.released)} documents, all good")
    # A warning only: the other documents are served all the same.
    return Finding("pipelines", Level.WARN, "\n".join(lines), broken_pipelines.FIX)


def _tenants(layout: Layout) -> Finding:
    try:
        with control_place.records(layout) as records:
            found = changes.read(records)
    except RecordsError as error:
        # Before `up` nothing runs; what is live goes on without control.
        return Finding("tenants", Level.GOOD, str(error))
    if found.problems:
        fix = "headrace tenants set NAME, or keys revoke; the last good ones are in force until then"
        return Finding("tenants", Level.BAD, "\n".join(found.problems), fix)
    return Finding("tenants", Level.GOOD, f"{len(found.tenants)}")


def _encryption(layout: Layout, today: date) -> Finding:
    what = "encryption at rest"
    try:
        earlier_homes.refuse(layout)
        said = readiness_attestations.read(layout)
    except config.ConfigError as error:
        return Finding(what, Level.BAD, str(error), "use another home, or mend the file")
    return Finding(what, Level.GOOD, encryption_at_rest.summary(layout, said, today))


def _settings(layout: Layout) -> Finding:
    files = sorted(layout.override("supervisor").parent.glob("*.yaml"))
    try:
        for file in files:
            config.read(file)
    except config.ConfigError as error:
        return Finding("settings", Level.BAD, str(error), "mend the file, or remove it")
    known = (*services.start_order(), "supervisor", "releases", "slo", "readiness")
    strange = [file.name for file in files if file.stem not in known]
    if strange:
        fix = f"name it as one of {', '.join(known)}"
        return Finding("settings", Level.WARN, f"of no service: {', '.join(strange)}", fix)
    return Finding(
        "settings", Level.GOOD, f"of {len(files)} services your own" if files else "none of your own"
    )


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)
