"""One process of a service: how it is started, listed for its callers, probed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from headrace.cli.installation import log_files, ports, services
from headrace.cli.installation.layout import service_of
from headrace.cli.installation.settings import Installation, overlaid, settings
from headrace.cli.supervision import deployed, pdeathsig, probes
from headrace.cli.supervision.deployed import Version
from headrace.cli.supervision.probes import GrpcProbe, IngressProbe
from headrace.cli.supervision.restart_policy import ProbeResult
from headrace.hop import config as hop_config
from headrace.hop.config import Document
from headrace.hop.transport.frames import SUFFIX
from headrace.state import atomic

# A drain takes at most `server.drain_s` (20 s) and a little more; after this, the process is stuck.
_DRAIN_S = 30.0
# The key in a service's message about a setting that it can't use.
_KEY = re.compile(r"(?<![^\s,;])([A-Za-z_][\w.-]*): ")


class Process:
    """A running process. `generation` numbers the processes of its instance; `slot` says which ports it has."""

    def __init__(
        self,
        installation: Installation,
        instance: str,
        slot: int,
        generation: int,
        child: asyncio.subprocess.Process,
        own_settings: Document,
        log_begins: int,
        probe_address: Path | str = "",
        version: Version | None = None,
    ) -> None:
        """`own_settings`: those that a person laid over the generated ones; `log_begins`: where its part of the log begins;
        `probe_address`: of an ingress, where to probe it; `version`: what it runs, None: the checkout."""
        layout = installation.layout
        self.service = service_of(instance)
        self.slot = slot
        self.generation = generation
        self.pid = child.pid
        self.metrics = installation.metrics(instance, slot)
        self._child = child
        self.version = version
        self._root = layout.root if version is None else version.root
        self._config = layout.config(instance, slot)
        self._bound = layout.starting(instance, generation)
        self._listed = layout.listed(self.service) / self._bound.name
        self._probe_address = probe_address
        self._own_settings = own_settings
        self._log = layout.log(instance)
        self._log_begins = log_begins
        self._probe: GrpcProbe | IngressProbe | None = None
        self._ending: asyncio.Task[int] | None = None

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._child.returncode is None

    @property
    def exit_code(self) -> int | None:
        """None as long as it has not ended; −N: ended by signal N."""
        return self._child.returncode

    @property
    def stopped(self) -> bool:
        """Whether the kernel has stopped it (SIGSTOP); a debugger's stop does not count."""
        return probes.kernel_state(Path(f"/proc/{self.pid}")) == "T"

    async def look(self, timeout_s: float) -> ProbeResult:
        """Probes it. `timeout_s`: how long to wait for the answer."""
        if self._probe is None:
            if self.service == services.INGRESS:
                self._probe = IngressProbe(self._probe_address, self.metrics)
            elif self._bound.exists():
                self._probe = GrpcProbe(self.service, self._bound, self.metrics)
            else:
                return ProbeResult.REFUSING
        return await self._probe.look(timeout_s)

    async def heartbeat_age(self) -> float | None:
        """Seconds since its event loop took a turn; None: it does not say, or may only be waiting for a disk."""
        age = await probes.heartbeat_age(self.metrics)
        return None if probes.waits_for_disk(self.pid) else age

    def last_words(self) -> str:
        """Its last log line: why it can't use its settings; with file and line of a setting that a person made."""
        said = log_files.tail(self._log, 1, begins=self._log_begins)
        words = said[0].strip() if said else ""
        keys = [found[1] for found in _KEY.finditer(words)]
        places = [self._own_settings.place(key) for key in keys if self._own_settings.sets(key)]
        return f"{words} (set in {'; '.join(dict.fromkeys(places))})" if places else words

    async def publish(self) -> None:
        """Moves its sockets to where callers look; does nothing the second time."""
        # A socket is found by its inode: moving it breaks no connection, and the process need not know.
        if self.service != services.INGRESS and self._bound.exists():
            with contextlib.suppress(FileNotFoundError):  # it may have no socket for frames
                _for_frames(self._bound).rename(_for_frames(self._listed))
            self._bound.rename(self._listed)
            await self._close_probe()
            self._probe = GrpcProbe(self.service, self._listed, self.metrics)

    async def ended(self, within: float, other: asyncio.Future[Any] | None = None) -> bool:
        """Waits at most `within` seconds for its end, or that of `other`. Returns whether it ended."""
        # Not `wait_for`: it drops a cancellation that comes together with the end.
        both = {self._end()} | ({other} if other else set())
        await asyncio.wait(both, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return not self.alive

    async def retire(self, *, successor: bool = False) -> None:
        """Lets it finish its calls and end; kills it if it does not. `successor`: another process has replaced it already."""
        self._unlist()
        if self.alive and self.service == services.INGRESS:
            # Envoy closes everything at once on SIGTERM; its clean stop goes through its admin port.
            await self._stop_ingress(successor)
        self._signal(signal.SIGTERM)
        # A process that is stopped (SIGSTOP) would never get the signal.
        self._signal(signal.SIGCONT)
        if not await self.ended(_DRAIN_S):
            self.kill()
        await self.forget()

    def kill(self) -> None:
        """Ends it at once."""
        self._signal(signal.SIGKILL)

    async def forget(self) -> None:
        """Waits for its end and removes its files."""
        await asyncio.wait({self._end()})
        self._unlist()
        _remove(self._bound)
        await self._close_probe()

    def _end(self) -> asyncio.Task[int]:
        """One task for all who wait, as most of them give up each second."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._child.wait())
        return self._ending

    async def _close_probe(self) -> None:
        if self._probe is not None:
            await self._probe.close()
            self._probe = None

    def _unlist(self) -> None:
        _remove(self._listed)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)

    async def _stop_ingress(self, successor: bool) -> None:
        successors = ("--successor",) if successor else ()
        program = ("-m", "services.ingress.stop", "--config", str(self._config), *successors)
        try:
            stop = await asyncio.create_subprocess_exec(*_python(self.version, *program), cwd=self._root)
        except OSError:
            return  # no process can be started: the ingress ends less cleanly
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _DRAIN_S)
        if stop.returncode is None:
            stop.kill()
            await stop.wait()


def _for_frames(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _remove(socket: Path) -> None:
    with contextlib.suppress(OSError):  # a disk that can't be written must not prevent a replacement
        socket.unlink(missing_ok=True)
        _for_frames(socket).unlink(missing_ok=True)


async def start(installation: Installation, instance: str, slot: int, generation: int) -> Process:
    """Starts a process, with its settings in a file and its output appended to the log of its instance.

    Raises ConfigError for settings of a person's own that can't be read, LayoutError, OSError.
    """
    service = service_of(instance)
    own_ports = ports.secured(installation.ports, instance, slot, ports.free)
    installation = replace(installation, ports=own_ports)
    layout = installation.layout
    layout.make()  # a folder may have been removed since
    config, bound = layout.config(instance, slot), layout.starting(instance, generation)
    version, run_dir = deployed.of(layout, service), layout.private(instance, slot)
    if version is None:
        made = settings(installation, instance, slot=slot, listen=bound, run_dir=run_dir)
    else:
        made = await version.settings(installation, instance, slot, bound, run_dir)
    own_settings = _own_settings(layout.override(service))
    made = overlaid(made, own_settings.values)
    # A person's own settings may hold a password.
    atomic.write(config, yaml.safe_dump(made, sort_keys=False).encode(), mode=0o600)
    # -O, without assertions (ours only narrow types): Feast decorates its functions with typeguard, which without -O
    # compiles them again, for three seconds at each start.
    program = ("-O", "-m", f"services.{service}", "--config", str(config))
    command = _python(version, *program)
    with layout.log(instance).open("ab", buffering=0) as log:
        log_begins = log.tell()
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", pdeathsig.__file__, str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.root if version is None else version.root,
            # A Ctrl-C at the terminal of `up` must reach only the supervisor, which then stops its services in order.
            start_new_session=True,
        )
    probe_address = _probe_address(made, child.pid) if service == services.INGRESS else ""
    return Process(
        installation, instance, slot, generation, child, own_settings, log_begins, probe_address, version
    )


def _python(version: Version | None, *program: str) -> tuple[str, ...]:
    return (sys.executable, *program) if version is None else version.command(*program)


def _probe_address(made: Mapping[str, Any], pid: int) -> Path | str:
    """The socket on which only this process's Envoy listens; without TLS the port that all of them share."""
    if made["http"]["tls"]:
        return Path(made["run_dir"]).resolve() / f"tls-{pid}.sock"
    return str(made["http"]["plaintext"])


def _own_settings(path: Path) -> Document:
    return hop_config.read(path) if path.exists() else Document(path, {}, {})
