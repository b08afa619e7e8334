"""Where everything of one installation is: a home folder, and a private folder for its sockets."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from headrace.cli.installation import services

# The kernel's limit for the path of a unix socket, without the closing zero byte.
_MAX_SOCKET_PATH = 107
# The longest file name behind a service's: its 99th process, the 999,999th start of it. hop binds under the name with
# seven more characters, then renames; the socket for frames has as many more.
_LONGEST_SUFFIX = ".99.999999.sock.frames"
# More processes of one service than a machine has cores for; two digits in a socket's name.
MAX_INSTANCES = 64


def instance(service: str, number: int) -> str:
    """Name of one of a service's processes, numbered from 1. The first has the name of the service."""
    return service if number == 1 else f"{service}.{number}"


def service_of(instance: str) -> str:
    """The service of an instance."""
    return instance.partition(".")[0]


class LayoutError(Exception):
    """The installation's folders can't be used; the text says what to do."""


class _Below:
    """A path below the home, or below another path of the layout, by its name."""

    def __init__(self, path: str, under: str = "home") -> None:
        self._path, self._under = path, under

    def __get__(self, layout: Layout, _: type[Layout]) -> Path:
        above: Path = getattr(layout, self._under)
        return above / self._path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one installation. `root` is the checkout, with services/ and deploy/ in it."""

    home: Path
    root: Path
    sockets: Path

    run = _Below("run")
    logs = _Below("logs", "run")
    traces = _Below("traces", "run")
    # Where commands ask the supervisor.
    supervisor = _Below("supervisor.sock", "sockets")
    lock = _Below("supervisor.pid", "run")
    ports = _Below("ports.json", "run")
    # Where Prometheus finds the metrics of what runs.
    targets = _Below("prometheus.json", "run")
    # The secret that personal data in events is hashed with.
    events_salt = _Below("events.salt")
    demo_key = _Below("demo.key")
    tls = _Below("tls")
    ca = _Below("ca.pem", "tls")
    feast = _Below("feast")
    models = _Below("models")
    # Private key that models are signed with here.
    model_key = _Below("models.key")
    # Its public half: what readers of the repository trust.
    model_public_key = _Below("models.pub")
    # Model → the version that its preparation published and that `up` has control list.
    prepared_models = _Below("prepared_models.json")
    # Access log of the repository: what was added, loaded, refused.
    model_log = _Below("audit/models.jsonl")
    # The journals that join the audit, which is in control's database.
    audit = _Below("audit")
    # Who read the audit.
    readings = _Below("readings.jsonl", "audit")
    # What the executors share: which versions serve, which files are known to load, which are in quarantine.
    executor_state = _Below("executor")
    # What the executors of replays share: which files are known to load.
    replay_state = _Below("replay")
    # A key with which `headrace models load` may load and unload, and nothing else.
    operator_key = _Below("operator.key")
    # Real rows of the demo pipeline, one JSON object per line.
    requests = _Below("data/requests.jsonl")
    pipelines = _Below("deploy/pipelines", "root")
    # What to do about alerts.
    runbooks = _Below("deploy/runbooks", "root")
    # All alerts, as Prometheus reads them.
    # What is live and who may: the database of control.
    records = _Below("records/control.sqlite")
    # Private key that control signs with what the data plane follows.
    control_key = _Below("control.key")
    # Its public half.
    control_public_key = _Below("control.pub")
    # What is live as control writes it for starts without control, beside what each process keeps.
    artifacts = _Below("kept/artifacts")
    # Where the processes of the ingress share their counts of what tenants use.
    quotas = _Below("quotas", "run")
    # What tenants with a daily budget of different queries have sent today.
    queries = _Below("queries")
    # Outcomes of calls with an idempotency key; shared by the processes of the ingress.
    idempotency = _Below("idempotency/keys.sqlite")
    # Refused credentials and forbidden requests, as JSON lines.
    security_log = _Below("audit/security.jsonl")
    # Which services run the code of another checkout.
    deployed = _Below("deployed")
    # Which versions were deployed, and how it ended.
    deployment_log = _Below("deployments.jsonl", "audit")
    # What happened: the database of monitoring.
    facts = _Below("monitoring/facts.sqlite")
    # What resources cost and how many are reserved, by people; absent by default.
    prices = _Below("settings/prices.yaml")
    # What the cookies of the operator console are signed with.
    console_secret = _Below("monitoring/console.key")
    # Files of prediction events.
    events = _Below("monitoring/event-files")
    # Events of regulated predictions that the monitoring service has not collected yet.
    journal = _Below("journal")

    @property
    def journals(self) -> dict[str, Path]:
        """What control takes into the audit, by name."""
        return {
            "deployments": self.deployment_log,
            "models": self.model_log,
            "readings": self.readings,
            "security": self.security_log,
        }

    @property
    def documents(self) -> Path:
        """Folder of the documents that can be released: the home's own, or else those of the checkout."""
        own = self.home / "pipelines"
        return own if own.is_dir() else self.pipelines

    def resources(self, service: str) -> Path:
        """Where the processes of a service keep what they serve by."""
        return self.home / "kept" / service

    def config(self, instance: str, slot: int) -> Path:
        """Settings file of the process in a slot: during a restart an instance has two processes."""
        return self.run / "config" / f"{instance}.{slot}.yaml"

    def private(self, instance: str, slot: int) -> Path:
        """Folder for the files of one process."""
        return self.run / instance / str(slot)

    def override(self, service: str) -> Path:
        """Settings that a person adds to the generated ones; absent by default."""
        return self.home / "settings" / f"{service}.yaml"

    def log(self, instance: str) -> Path:
        return self.logs / f"{instance}.log"

    def listed(self, service: str) -> Path:
        """Folder with a socket for each live replica of a service; callers watch it."""
        return self.sockets / service

    def starting(self, instance: str, generation: int) -> Path:
        """Where a process binds; when it is ready, its socket moves to the `listed` folder of its service."""
        return self.sockets / "starting" / f"{instance}.{generation}.sock"

    def make_home(self) -> None:
        """Makes the home, and takes other users' access to one that exists: it holds data, traces and settings.

        Raises LayoutError if it can't be closed.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = self.home.stat().st_mode
        if mode & stat.S_ISVTX or self.home.resolve() == Path("/"):
            raise LayoutError(f"{self.home} is a folder for everybody; give headrace one of its own (--home)")
        try:
            if mode & 0o077:
                self.home.chmod(0o700)
            for secret in self._secrets():
                if secret.is_file() and secret.stat().st_mode & 0o077:
                    secret.chmod(0o600)
        except PermissionError as error:
            raise LayoutError(
                f"{error.filename} can't be closed to others (chmod); it must belong to the user who runs headrace"
            ) from error

    def _secrets(self) -> tuple[Path, ...]:
        keys = (
            self.events_salt,
            self.demo_key,
            self.model_key,
            self.control_key,
            self.console_secret,
        )
        return (*keys, *self.tls.glob("*.key"))

    def make(self) -> None:
        """Makes the folders, private where they must be. Raises LayoutError if a socket folder is another's."""
        self.make_home()
        for folder in (self.run, self.logs, self.traces, self.run / "config"):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (
            self.sockets,
            self.sockets / "starting",
            *(self.listed(name) for name in services.start_order()),
        ):
            _make_private(folder)


def of(home: Path, *, root: Path | None = None) -> Layout:
    """The layout of the installation in `home`.

    The sockets are in the home or, if that path is too long for a unix socket, in a folder of this user in /tmp (not in
    XDG_RUNTIME_DIR: it is deleted at logout, and another session would not find it).
    """
    home = home.absolute()
    sockets = home / "run" / "sockets"
    if not _fits(sockets):
        tag = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        sockets = Path("/tmp") / f"headrace-{os.getuid()}-{tag}"  # noqa: S108 - checked to be ours when made
    return Layout(home, root or checkout(), sockets)


def checkout() -> Path:
    """Root of the checkout: the folder that holds services/. Raises LayoutError if there is none."""
    found = importlib.util.find_spec("services")
    if found is None or not found.submodule_search_locations:
        raise LayoutError(
            "services/ is not installed; run `make up` in a checkout of headrace, which installs it"
        )
    return Path(next(iter(found.submodule_search_locations))).parent


def _fits(sockets: Path) -> bool:
    longest = max((*services.hosted(), services.INGRESS), key=len)
    return len(os.fsencode(sockets / longest / f"{longest}{_LONGEST_SUFFIX}")) <= _MAX_SOCKET_PATH


def _make_private(folder: Path) -> None:
    # Everybody may write to /tmp: someone may have put a folder or a link there first.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise LayoutError(f"{folder} belongs to someone else; remove it, or use --home with a shorter path")
    folder.chmod(0o700)
