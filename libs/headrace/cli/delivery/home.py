"""A home as the target: the supervisor replaces the processes of each service one after another, and loses no request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.cli.installation import services
from headrace.cli.installation.layout import Layout, service_of
from headrace.cli.supervision import control, daemon, deployed, probes
from headrace.cli.supervision.deployed import Version
from headrace.delivery import packages
from headrace.delivery.deployer import Image, Look
from headrace.delivery.errors import DeliveryError
from headrace.delivery.oci import Registry
from headrace.hop.config import ConfigError

_RESTART_S = 300.0
_REQUESTS = "headrace_ingress_requests_total"


class Home:
    """A running installation in the shape apart, whose packages come from `registry`."""

    def __init__(self, layout: Layout, registry: Registry) -> None:
        """Raises DeliveryError: nothing runs there, or in one process."""
        self._layout, self._registry = layout, registry
        if not daemon.running(layout):
            raise DeliveryError(f"headrace is not running in {layout.home}; start it: headrace up")
        if self._status()["shape"] != "apart":
            raise DeliveryError("together, all services are one process; deploy to a home in the shape apart")

    @property
    def name(self) -> str:
        return "home"

    def services(self) -> Sequence[str]:
        return services.start_order()

    def running(self, service: str) -> Image | None:
        try:
            found = deployed.of(self._layout, service)
        except ConfigError as error:
            raise DeliveryError(str(error)) from None
        return None if found is None else Image(found.digest, found.name)

    def deploy(self, service: str, image: Image | None) -> None:
        version = None
        try:
            if image is not None:
                root = packages.unpack(self._registry, image.digest, self._layout.deployed)
                version = Version(root, image.version, image.digest)
            deployed.put(self._layout, service, version)
            for name in (n for n in self._status()["services"] if service_of(n) == service):
                control.ask(self._layout.supervisor, {"do": "restart", "service": name}, _RESTART_S)
        except OSError as error:
            raise DeliveryError(f"{error.filename or self._layout.home}: {error.strerror or error}") from None
        except control.ControlError as error:
            raise DeliveryError(str(error)) from None

    def look(self, service: str) -> Look:
        found = self._status()["services"]
        for name, state in found.items():
            if service_of(name) == service and state["state"] != "ready":
                why = state["trouble"] or state["reason"]
                return Look(f"{name} is {state['state']}{f': {why}' if why else ''}")
        doors = {
            n: s["metrics"] for n, s in found.items() if service_of(n) == services.INGRESS and s["metrics"]
        }
        answered = [_requests(page) for page in probes.metrics_pages(doors).values()]
        return Look(calls=sum(calls for calls, _ in answered), failed=sum(ours for _, ours in answered))

    def forget_unused(self) -> None:
        """Removes the packages that no service runs; the registry has them."""
        kept = [v.root for s in services.start_order() if (v := deployed.of(self._layout, s)) is not None]
        packages.forget(self._layout.deployed, kept)

    def _status(self) -> dict[str, Any]:
        try:
            return daemon.status(self._layout)
        except control.ControlError as error:
            raise DeliveryError(str(error)) from None


def _requests(page: bytes) -> tuple[float, float]:
    """Requests that a door has answered, and those of them that failed by our fault. A page that can't be read: none.

    The supervisor's own probes say whether it answers; a scrape that fails must roll nothing back.
    """
    found = [line.rpartition(" ") for line in page.decode().splitlines() if line.startswith(_REQUESTS)]
    ours = sum(float(value) for labels, _, value in found if 'fault="ours"' in labels)
    return sum(float(value) for *_, value in found), ours
