"""The process that keeps the services running.

    python -m headrace.cli.supervision.supervisor --home DIR --shape SHAPE [--count SERVICE=N …]

It has its own session, so it outlives the terminal from which it was started. Its children do not outlive it
(`pdeathsig.py`), so a kill -9 of the supervisor leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from headrace.cli.installation import layout, log_files, pid_lock, ports, services
from headrace.cli.installation.layout import LayoutError, service_of
from headrace.cli.installation.settings import Installation, Shape
from headrace.cli.supervision import control, prometheus_targets
from headrace.cli.supervision.managed_process import ManagedProcess, ReplaceError, sentence
from headrace.cli.supervision.restart_policy import RestartRules
from headrace.hop import config
from headrace.hop.process.lifecycle import stop_signal
from headrace.hop.process.logs import logger

_KEEP_FILES_EVERY_S = 5.0


class Supervisor:
    """All services of one installation."""

    def __init__(self, installation: Installation, rules: RestartRules, log: Any) -> None:
        self._installation = installation
        self._log = log
        self._targets_outdated = False  # the file for Prometheus could not be written
        self._metrics: dict[str, str] = {}  # of each instance that was ever started: host:port
        self._managed = {
            name: ManagedProcess(installation, name, rules, log, moved=self._moved)
            for name in installation.instances
        }
        self._stop: asyncio.Event | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps them running until `stop` is set, then stops them in order."""
        self._stop = stop
        async with control.serving(self._installation.layout.supervisor, self._answer):
            keeping = asyncio.create_task(self._keep_files())
            for managed in self._managed.values():
                managed.begin()
            await stop.wait()
            keeping.cancel()
            await self._stop_all()
            self._write_targets({})

    async def _stop_all(self) -> None:
        # Callers first, so that none is left without a service that it calls.
        for group in services.stop_groups():
            stopping = [m.stop() for name, m in self._managed.items() if service_of(name) in group]
            for failed in await asyncio.gather(*stopping, return_exceptions=True):
                if isinstance(failed, Exception):
                    self._log.error("not stopped cleanly", error=sentence(failed))
        self._log.info("all stopped")

    def _moved(self, instance: str, metrics: str) -> None:
        self._metrics[instance] = metrics
        self._write_targets(self._metrics)

    def _write_targets(self, metrics: Mapping[str, str]) -> None:
        try:
            prometheus_targets.write(self._installation.layout.targets, metrics)
        except OSError as error:  # a full disk must not end the services
            self._log.error("Prometheus is not told of the metrics", error=sentence(error))
            self._targets_outdated = True
        else:
            self._targets_outdated = False

    async def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        match request.get("do"):
            case "status":
                return {
                    "shape": self._installation.shape,
                    "counts": dict(self._installation.counts),
                    "services": self._services(),
                }
            case "restart":
                return await self._restart(str(request.get("service")))
            case "stop":
                assert self._stop is not None
                self._stop.set()
                return {}
            case other:
                return {
                    "error": f"the supervisor knows no {other!r}; is it of another version? headrace down"
                }

    async def _restart(self, instance: str) -> Mapping[str, Any]:
        managed = self._managed.get(instance)
        if managed is None:
            return {
                "error": f"no service {instance!r} has a process here; there are: {', '.join(self._managed)}"
            }
        try:
            await managed.replace()
        except ReplaceError as error:
            return {"error": str(error)}
        return self._services()[instance]

    def _services(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name, managed in self._managed.items():
            current = managed.current
            found[name] = {
                "pid": current.pid if current else None,
                "state": str(managed.policy.state),
                "trouble": managed.policy.trouble or None,
                "reason": managed.policy.reason or None,
                "restarts": managed.policy.restarts,
                "metrics": f"http://{current.metrics}/metrics" if current else None,
                # Name of a deployed version; None: the checkout's own.
                "version": current.version.name if current and current.version else None,
            }
        return found

    async def _keep_files(self) -> None:
        """Writes the targets if they are outdated and rotates the logs, now and then; errors are logged and tried again."""
        told: dict[str, str] = {}
        while True:
            await asyncio.sleep(_KEEP_FILES_EVERY_S)
            if self._targets_outdated:
                self._write_targets(self._metrics)
            for path in sorted(self._installation.layout.logs.glob("*.log")):
                try:
                    await asyncio.to_thread(log_files.rotate, path)
                    told.pop(path.name, None)
                except Exception as error:  # noqa: BLE001 - the other logs, and the next time
                    if told.get(path.name) != (problem := sentence(error)):  # once, not every five seconds
                        told[path.name] = problem
                        self._log.error("a log is not rotated", log=path.name, error=problem)


_DEFAULT = RestartRules()
# Silent probes are samples, a heartbeat is a measurement: half of the time that they need is enough. But not less than this.
_LEAST_STILL_S = 5.0


class SupervisorSettings(config.Settings):
    """`settings/supervisor.yaml` in the home: when a process that does not answer is killed."""

    # Seconds between two probes of a process that is ready, and seconds for an answer.
    probe_every_s: PositiveFloat = _DEFAULT.every
    probe_timeout_s: PositiveFloat = _DEFAULT.timeout
    # A process is killed after so many probes in a row without an answer while its event loop is blocked (or after half of that
    # time, if its heartbeat says so), …
    probes_silent: PositiveInt = _DEFAULT.silent
    # … and after so many without an answer while it runs.
    probes_unanswered: PositiveInt = _DEFAULT.unanswered

    def rules(self) -> RestartRules:
        """The policy with these settings."""
        return RestartRules(
            every=self.probe_every_s,
            timeout=self.probe_timeout_s,
            silent=self.probes_silent,
            unanswered=self.probes_unanswered,
            still=max(self.probe_timeout_s * self.probes_silent / 2, _LEAST_STILL_S),
        )


async def _run(home: Path, shape: Shape, counts: Mapping[str, int]) -> int:
    place = layout.of(home)
    place.make()
    own = place.override("supervisor")
    # Without the environment, whose HEADRACE__ variables are settings of the services.
    rules = config.load(SupervisorSettings, own if own.exists() else None, {}).rules()
    if not pid_lock.acquire(place.lock):
        print("another supervisor runs in this home", file=sys.stderr)
        return 1
    log = logger("supervisor", config.Telemetry())
    for stale in place.sockets.rglob("*.sock*"):
        stale.unlink(missing_ok=True)  # of a supervisor that was killed
    try:
        chosen, held = ports.claim(place.ports, Installation(place, shape, {}, counts).instances)
    except LookupError as error:
        print(f"{error}; see who listens there: ss -ltnp", file=sys.stderr)
        return 1
    log.info("begins", shape=shape, http=chosen["http"], tls=chosen["tls"])
    await Supervisor(Installation(place, shape, chosen, counts), rules, log).run(stop_signal())
    for holding in held:
        holding.close()
    return 0


def main() -> None:
    """Exit code 1 if another supervisor runs in this home."""
    parser = argparse.ArgumentParser(prog="supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--shape", choices=("apart", "together"), required=True)
    parser.add_argument("--count", action="append", default=[], metavar="SERVICE=N")
    options = parser.parse_args()
    counts = {service: int(count) for service, _, count in (text.partition("=") for text in options.count)}
    try:
        sys.exit(asyncio.run(_run(options.home, options.shape, counts)))
    except (OSError, LayoutError, config.ConfigError) as error:
        sys.exit(f"the supervisor can't start: {sentence(error)}")


if __name__ == "__main__":
    main()
