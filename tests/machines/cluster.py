"""All eight services on several machines: two pods of each on different ones, mTLS between them, found by DNS."""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from headrace.catalog.remote import RemoteRecords
from headrace.cli.installation import first_releases, layout, services
from headrace.cli.installation import secrets as home_secrets
from headrace.repository import Repository, changes
from tests.machines import database, manifests
from tests.machines.authority import Authority, trust
from tests.machines.containers import USER, Containers
from tests.machines.database import Database
from tests.machines.forwarding import Forwarded
from tests.machines.names import Names
from tests.machines.network import Network, choose_of, connect
from tests.machines.processes import Launcher, Mounts, Processes, Running
from tests.machines.store import Store
from tests.released import store_at
from tests.system import HOME, ROOT, poll

MACHINES = 3
# The door's Service; its name resolves to this one address, whatever doors there are.
DOOR = "10.78.0.1"
# Keeps what must not be lost with a pod: one pod, that ends before the next begins.
ALONE = "monitoring"
# Whoever changes what is live from outside, by a certificate of this name.
OPERATOR = "operator"
_STOP = ("services.ingress.stop", "--drain-only")
# The most that a process takes to stop.
_GRACE_S = manifests.NOTICE_S + 35
# As long as the startup probe of the manifests gives a pod.
_START_S = 300.0
# Containers of the images in place of processes of this checkout.
CONTAINERS = bool(os.environ.get("HEADRACE_TESTS_CONTAINERS"))
# Of the images.
VERSION = os.environ.get("HEADRACE_TESTS_VERSION", "latest")


@dataclass(eq=False)
class Pod:
    """One replica of a service."""

    service: str
    machine: int
    namespace: str
    address: str
    running: Running

    def ready(self) -> bool:
        """As a probe asks. AssertionError with the end of its log if it ended."""
        code = self.running.ended()
        assert code is None, f"{self.service} ended with {code}:\n{self.running.log.read_text()[-3000:]}"
        try:
            with connect(self.namespace, "127.0.0.1", manifests.METRICS_PORT, 2) as asking:
                asking.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
                return b" 200 " in asking.recv(64)
        except OSError:
            return False


class Cluster:
    """What a cluster does for the services: starts pods, tells callers of them, gives out certificates."""

    def __init__(self, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """`settings`: of services, over those of the manifests."""
        self._settings = settings or {}
        self.folder = Path(tempfile.mkdtemp(prefix="hm-"))
        self.pods: list[Pod] = []
        # Also those of which no caller knows.
        self._started: list[Pod] = []
        self.authority = Authority()
        with ExitStack() as made:
            made.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.network = Network(MACHINES)
            made.callback(self.network.close)
            self.names = Names(self.folder, self.network.switch)
            made.callback(self.names.close)
            self.store = Store(self.folder, self.network, self.authority)
            made.callback(self.store.close)
            self.database = Database(self.network, self.authority)
            made.callback(self.database.close)
            self.outside, _ = self.network.pod(0)
            self._control = Forwarded(self._to_control)
            made.callback(self._control.close)
            made.callback(self._kill)
            pods = self.folder / "pods"
            self._launcher: Launcher = Containers(pods, VERSION) if CONTAINERS else Processes(pods)
            self._files()
            self._made = made.pop_all()

    def close(self) -> None:
        """Ends everything at once and removes it."""
        self._made.close()

    def up(self) -> None:
        """Two pods of each service, spread; returns once all are ready and known, with the checkout's pipelines live.
        HOME's keys are made here."""
        first, *others = services.start_order()
        assert first == services.CONTROL
        self._begin(first)
        with closing(RemoteRecords(self.control.removeprefix("control:"))) as records:
            home_secrets.ensure_keys(layout.of(HOME), records)
            self.demo_key = layout.of(HOME).demo_key.read_text().strip()  # a home makes others in its place
            models = Repository(layout.of(HOME).models)
            for model in models.models():
                changes.add(records, models.metadata(model, models.versions(model)[-1]), "tests")
        with closing(store_at(self.control)) as store:
            made = list(first_releases.make(layout.of(HOME), store, ROOT / "deploy" / "pipelines"))
        problems = [outcome.problem for outcome in made if outcome.problem]
        assert made, "control has releases already"
        assert not problems, problems
        self._begin(*others)

    @property
    def control(self) -> str:
        """Where control is asked from here, as whoever deploys to the cluster asks."""
        files = {"ca": "ca.crt", "certificate": "tls.crt", "key": "tls.key"}
        own = "&".join(f"{name}={self.folder / 'tls' / OPERATOR / file}" for name, file in files.items())
        name = manifests.name_of(services.CONTROL)
        return f"control:{self._control.address}?{own}&server_name={name}"

    def of(self, service: str) -> list[Pod]:
        """The pods of a service that serve."""
        return [pod for pod in self.pods if pod.service == service]

    def ahead(self, service: str, replicas: int = 2) -> list[Pod]:
        """New pods that are ready, of which no caller knows yet.

        Machines of a test share a few cores, so a start takes from those who serve what it would not in a cluster: it can be
        done before there is traffic.
        """
        machines = [pod.machine for pod in self.of(service)]
        return [self._ready(service, machines[number % len(machines)]) for number in range(replicas)]

    def roll(self, service: str, made: list[Pod]) -> None:
        """One after another, pods that were made ahead replace those that serve; for the one that is alone, as it ends."""
        if service == ALONE:
            [old] = self.of(service)
            self.stop(old)
            self.join(self._ready(service, old.machine))
            return
        for old, new in zip(self.of(service), made, strict=True):
            self.join(new)
            self.stop(old)

    def join(self, *made: Pod) -> None:
        """Callers learn of the pods."""
        self.pods += made
        for service in {pod.service for pod in made}:
            self.tell(service)

    def stop(self, pod: Pod) -> None:
        """As Kubernetes ends a pod: callers are told and the pod is stopped at the same time."""
        self.pods.remove(pod)
        self.tell(pod.service)
        if pod.service == services.INGRESS:
            pod.running.run(*_STOP)
        pod.running.signal(signal.SIGTERM)
        poll(f"{pod.service} ends", lambda: pod.running.ended() is not None, _GRACE_S + 30)
        assert pod.running.ended() == 0, pod.running.log.read_text()[-3000:]
        self.network.remove(pod.namespace)

    def forget_doors(self, machine: int) -> None:
        """The doors' Service gives out no new connections to those of the machine; `tell` brings them back."""
        left = [pod.address for pod in self.of(services.INGRESS) if pod.machine != machine]
        choose_of(self.outside, DOOR, manifests.DOOR_PORT, left)

    def tell(self, service: str) -> None:
        """Callers find the pods that serve now."""
        addresses = [pod.address for pod in self.of(service)]
        name = manifests.name_of(service)
        if service == services.INGRESS:
            choose_of(self.outside, DOOR, manifests.DOOR_PORT, addresses)
            addresses = [DOOR]
        self.names.put(name, addresses)

    def trust(self, *authorities: Authority) -> None:
        """Whom all services believe from now on."""
        for service in (*services.start_order(), OPERATOR):
            trust(self.folder / "tls" / service, *authorities)
        self.store.trust(*authorities)

    def certify(self, authority: Authority) -> None:
        """New certificates for all services, and for whatever starts later."""
        self.authority = authority
        for service in (*services.start_order(), OPERATOR):
            folder = self.folder / "tls" / service
            authority.issue(folder, manifests.name_of(service))
        self.store.certify(authority)
        self.database.certify(authority)

    def _begin(self, *names: str) -> None:
        order = services.start_order()
        made = [
            self._start(service, 1 + (order.index(service) + replica) % MACHINES)
            for service in names
            for replica in range(1 if service == ALONE else 2)
        ]
        for pod in made:
            self._await(pod)
        self.join(*made)

    def _to_control(self) -> socket.socket:
        """To one of its pods; OSError while there is none."""
        for pod in self.of(services.CONTROL):
            return connect(self.outside, pod.address, manifests.PORT)
        raise ConnectionRefusedError

    def _ready(self, service: str, machine: int) -> Pod:
        pod = self._start(service, machine)
        self._await(pod)
        return pod

    def _await(self, pod: Pod) -> None:
        try:
            poll(f"{pod.service} on machine {pod.machine} is ready", pod.ready, _START_S)
        except AssertionError as error:
            error.add_note(pod.running.log.read_text()[-3000:])
            raise

    def _start(self, service: str, machine: int) -> Pod:
        namespace, address = self.network.pod(machine)
        mounts = Mounts(
            settings=self.folder / "settings" / f"{service}.yaml",
            tls=self.folder / "tls" / service,
            secrets=self.folder / "secrets",
            models=layout.of(HOME).models,
            features=self.folder / "feast",
            resolv=self.names.resolv,
        )
        running = self._launcher.start(service, f"{service}-{len(self._started)}", namespace, mounts)
        pod = Pod(service, machine, namespace, address, running)
        self._started.append(pod)
        return pod

    def _kill(self) -> None:
        left = [pod for pod in self._started if pod.running.ended() is None]
        for pod in left:
            pod.running.signal(signal.SIGKILL)
        for pod in left:
            poll(f"{pod.service} is gone", lambda pod=pod: pod.running.ended() is not None)  # type: ignore[misc] # mypy knows no lambdas with defaults

    def _files(self) -> None:
        """What an operator gives a cluster: settings, secrets, certificates, stores."""
        (self.folder / "pods").mkdir()
        (self.folder / "settings").mkdir()
        for service in services.start_order():
            values = {**_settings_of(service), **self._settings.get(service, {})}
            (self.folder / "settings" / f"{service}.yaml").write_text(yaml.safe_dump(values))
        home, secrets = layout.of(HOME), self.folder / "secrets"
        secrets.mkdir(mode=0o700)
        given = (
            home.control_public_key,
            home.events_salt,
            home.model_public_key,
            home.control_key,
        )
        # A home that was copied from another lane's has none yet.
        home_secrets.ensure(home, datetime.now(UTC))
        for path in given:
            shutil.copy(path, secrets / path.name)
        (secrets / "console.key").write_bytes(os.urandom(32))
        self.store.secrets(secrets)
        self.database.secrets(secrets)
        for path in secrets.iterdir():
            # A process of this checkout is root, who reads no key that a group may read.
            path.chmod(0o440 if CONTAINERS else 0o400)
            os.chown(path, -1, USER)
        _of_the_user(secrets)
        self.names.put("redis", [self.store.address])
        self.names.put(database.NAME, [self.database.address])
        for service in (*services.start_order(), OPERATOR):
            (self.folder / "tls" / service).mkdir(parents=True)
            _of_the_user(self.folder / "tls" / service)
        self.certify(self.authority)
        self.trust(self.authority)
        self.store.fill(self.folder / "feast")


def _of_the_user(folder: Path) -> None:
    """As `fsGroup` mounts a Secret: the service's group reads what is in the folder, also what will be."""
    os.chown(folder, -1, USER)
    folder.chmod(0o2750)


def _settings_of(service: str) -> dict[str, Any]:
    """Of the manifests, with DNS as quick as it is here, and an operator whom control believes."""
    values = manifests.settings_of(service)
    values["server"]["drain_notice_s"] = manifests.NOTICE_S
    if service == services.CONTROL:
        values["server"]["tls"]["peers"].append(manifests.name_of(OPERATOR))
        values["may_change"].append(manifests.name_of(OPERATOR))
    return values
