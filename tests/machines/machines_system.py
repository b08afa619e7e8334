"""A cluster of machines as the system that end-to-end tests ask."""

import itertools
import os
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from headrace.cli.installation import services
from headrace.pipeline import parse
from tests.machines import manifests
from tests.machines.cluster import DOOR, Cluster, Pod
from tests.machines.forwarding import Forwarded
from tests.machines.network import connect
from tests.served import await_served
from tests.system import PATIENT_MS, RELEASES_VARIABLE, ROOT, System, add_document, deadline

_PLAINTEXT_PORT = 8080


class MachinesSystem(System):
    """Reached through ports of this host: in plaintext each connection goes to another door, over TLS to whichever its Service
    chooses."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__("machines")
        self.cluster = cluster
        self._turns = itertools.count()
        self._plain = Forwarded(self._next_door)
        self._tls = Forwarded(lambda: connect(cluster.outside, DOOR, manifests.DOOR_PORT))
        self._forwarded: dict[tuple[Pod, int], Forwarded] = {}
        os.environ[RELEASES_VARIABLE] = cluster.control

    def patient(self) -> None:
        """From now on all pipelines allow requests the time that those of a home do in tests; see PATIENT_MS."""
        for path in sorted((ROOT / "deploy" / "pipelines").glob("*/pipeline.yaml")):
            name, text = path.parent.name, deadline(path.read_text(), PATIENT_MS)
            await_served(self, name, add_document(name, text), parse(text, name).revision)

    def down(self) -> None:
        self.leave()
        self.cluster.close()

    def leave(self) -> None:
        """Closes the ports that lead there; the cluster goes on."""
        os.environ.pop(RELEASES_VARIABLE, None)
        for port in (self._plain, self._tls, *self._forwarded.values()):
            port.close()

    @cached_property
    def endpoints(self) -> dict[str, str]:
        return {
            "grpc": self._plain.address,
            "http": f"http://{self._plain.address}",
            "grpc_tls": self._tls.address,
        }

    @property
    def doors(self) -> list[str]:
        return [self._port(pod, _PLAINTEXT_PORT) for pod in self.cluster.of(services.INGRESS)]

    @property
    def key(self) -> str:
        return self.cluster.demo_key

    @cached_property
    def ca_file(self) -> Path:
        path = self.cluster.folder / "ca.pem"
        path.write_bytes(self.cluster.authority.pem)
        return path

    def logs(self, service: str) -> list[Path]:
        return [pod.running.log for pod in self.cluster.of(service)]

    def metrics(self) -> list[tuple[str, str]]:
        metrics = [(pod.service, self._port(pod, manifests.METRICS_PORT)) for pod in self.cluster.pods]
        return [(service, f"http://{address}/metrics") for service, address in metrics]

    def pids(self, service: str) -> list[int | None]:
        return [pod.running.pid for pod in self.cluster.of(service)]

    def status(self) -> dict[str, Any]:
        raise AssertionError(
            "no supervisor here: list the test in tests/machines/one_home.py, with the reason"
        )

    def _port(self, pod: Pod, port: int) -> str:
        """The address here of a port that the pod has on its loopback."""
        if (pod, port) not in self._forwarded:
            self._forwarded[pod, port] = Forwarded(partial(connect, pod.namespace, "127.0.0.1", port))
        return self._forwarded[pod, port].address

    def _next_door(self) -> Any:
        doors = self.cluster.of(services.INGRESS)
        return connect(doors[next(self._turns) % len(doors)].namespace, "127.0.0.1", _PLAINTEXT_PORT)
