"""First loads of models in processes of their own: `python -m services.executor.check --config FILE NAME:VERSION …`.

`headrace models add` runs it before it signs a model; the executor runs it before it loads unknown files. It prints one JSON
object a line: the verdict that the executor itself would give on each version. It does not check signatures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from headrace.hop import config as hop
from headrace.hop.process import memory as process_memory
from headrace.repository import Artifact, Repository, RepositoryError
from headrace.repository import bounded_process as bounded
from headrace.repository.records import Checked, Records
from services.executor.backends import registry
from services.executor.config import ExecutorConfig, ModelSettings

_MIB = 1 << 20
# Words in the messages of engines that have not enough memory.
_MEMORY = ("allocate memory", "bad_alloc", "memoryerror", "out of memory", "bad allocation")
_TICK_S = 0.2
_TIME = "correct the model, or allow it more time (check.seconds)"
_ROOM = "correct the model, or allow it more memory (check.memory_mib)"
_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one version. `done` False: its backend can't be tried here. `problem` empty: the version is good."""

    model: str
    version: str
    fingerprint: str = ""
    done: bool = True
    problem: str = ""
    remedy: str = ""
    memory_bytes: int = 0


def fingerprint(artifact: Artifact, settings: ModelSettings) -> str:
    """A digest of everything that decides how a load ends: the files, the model's settings and the engine's version."""
    try:
        engine = version("onnxruntime")
    except PackageNotFoundError:
        engine = ""
    # metadata.json has the digest of every other file.
    parts = (artifact.metadata_bytes, settings.model_dump_json().encode(), engine.encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def checkable(artifact: Artifact, settings: ModelSettings) -> bool:
    """Whether a process of its own can load the files: all backends of the model must run on this machine's CPU."""
    backends = settings.backends or (artifact.metadata.backend,)
    return all(registry.checkable(name, settings) for name in backends)


def main() -> None:
    """Checks the versions one after the other, and writes the results to the executor's records."""
    parser = argparse.ArgumentParser(prog="services.executor.check")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("versions", nargs="+", metavar="NAME:VERSION")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        config = hop.load(ExecutorConfig, given.config)
    except hop.ConfigError as error:
        sys.exit(str(error))
    records = Records(config.state, structlog.get_logger().error)
    for text in given.versions:
        name, _, wanted = text.partition(":")
        verdict = _check_version(config, name, wanted)
        if verdict.fingerprint and verdict.done:
            deaths = records.checked(verdict.fingerprint).deaths
            known = Checked(not verdict.problem, verdict.memory_bytes, deaths)
            records.note(verdict.fingerprint, known)
        print(json.dumps(asdict(verdict)), flush=True)


def _check_version(config: ExecutorConfig, name: str, wanted: str) -> Verdict:
    """The verdict on one version: what its child process reports, or how that process ended."""
    try:
        artifact = Repository(config.models).read(name, wanted)
    except RepositoryError as error:
        return Verdict(name, wanted, problem=error.problem, remedy=error.remedy)
    settings = config.settings_of(name)
    mark = fingerprint(artifact, settings)
    if not checkable(artifact, settings):
        return Verdict(name, wanted, mark, done=False)
    bound = config.check
    memory = bounded.allowance() if bound.memory_mib is None else bound.memory_mib * _MIB
    report, code = _run_child(config, artifact, memory)
    if report:
        problem, remedy, taken = report
    elif code is None:
        problem, remedy, taken = f"loading it took longer than {bound.seconds:g} s", _TIME, 0
    elif code == -signal.SIGKILL:
        problem, remedy, taken = (
            f"loading it takes more memory than there is ({memory // _MIB} MiB)",
            _ROOM,
            0,
        )
    else:
        how = bounded.killed_by(code) if code < 0 else f"exit code {code}"
        problem, remedy, taken = f"loading it ends the process that does it ({how})", "export it anew", 0
    if any(sign in problem.lower() for sign in _MEMORY):
        problem, remedy = f"loading it needs more than {memory // _MIB} MiB of memory", _ROOM
    return Verdict(name, wanted, mark, problem=problem, remedy=remedy, memory_bytes=taken)


def _run_child(config: ExecutorConfig, artifact: Artifact, memory: int) -> tuple[list[Any], int | None]:
    """What a child process reports on the version, and its exit code; None: it took too long. Also stops if our parent ends."""
    context, parent = multiprocessing.get_context("fork"), os.getppid()
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(config, artifact, memory, writer))
    child.start()
    writer.close()
    ends = time.monotonic() + config.check.seconds
    while not (told := reader.poll(_TICK_S)) and time.monotonic() < ends and os.getppid() == parent:
        pass
    report: list[Any] = []
    with suppress(EOFError, OSError):  # it ended without a report
        report = json.loads(reader.recv_bytes()) if told else []
    if not told:
        child.kill()
    child.join()
    if os.getppid() != parent:
        sys.exit("nobody waits for the verdict any more")
    return report, child.exitcode if told else None


def _in_child(config: ExecutorConfig, artifact: Artifact, memory: int, writer: Connection) -> None:
    """Reports what is wrong, if anything, and ends at once, whatever threads an engine has left."""
    bounded.limit(memory)
    writer.send_bytes(json.dumps(_activate(config, artifact)).encode())
    os._exit(0)


def _activate(config: ExecutorConfig, artifact: Artifact) -> list[Any]:
    """Activates the version. Returns problem and remedy (empty if it is good), and the bytes of memory it took."""
    from services.executor.backends.backend import Environment
    from services.executor.lifecycle.activation import Activator, LoadHandle
    from services.executor.lifecycle.memory import held_bytes
    from services.executor.metrics import Metrics

    backends, metrics = registry.factories(Environment(config, None)), Metrics(CollectorRegistry())
    try:
        activate = Activator(
            Repository(config.models), backends, config, metrics, structlog.get_logger()
        ).activate
        before = held_bytes() - sum(map(len, (artifact.content, *artifact.files.values())))
        model = activate(artifact, "start", LoadHandle())
        taken = held_bytes() - before
        model.group.deactivate()
    except RepositoryError as error:
        return [error.problem[:_TEXT], error.remedy[:_TEXT], 0]
    except MemoryError:
        return ["MemoryError", "", 0]
    return ["", "", max(taken, 0)]


if __name__ == "__main__":
    # A crash is expected here: the kernel must not write a core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Memory is measured: manage it as the executor does.
    process_memory.settle()
    main()
