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


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one installation. `root` is the checkout, with services/ and deploy/ in it."""

    home: Path
    root: Path
    sockets: Path

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def traces(self) -> Path:
        return self.run / "traces"

    @property
    def supervisor(self) -> Path:
        """Where commands ask the supervisor."""
        return self.sockets / "supervisor.sock"

    @property
    def lock(self) -> Path:
        return self.run / "supervisor.pid"

    @property
    def ports(self) -> Path:
        return self.run / "ports.json"

    @property
    def targets(self) -> Path:
        """Where Prometheus finds the metrics of what runs."""
        return self.run / "prometheus.json"

    @property
    def events_salt(self) -> Path:
        """The secret that personal data in events is hashed with."""
        return self.home / "events.salt"

    @property
    def demo_key(self) -> Path:
        return self.home / "demo.key"

    @property
    def tls(self) -> Path:
        return self.home / "tls"

    @property
    def ca(self) -> Path:
        return self.tls / "ca.pem"

    @property
    def feast(self) -> Path:
        return self.home / "feast"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def model_key(self) -> Path:
        """Private key that models are signed with here."""
        return self.home / "models.key"

    @property
    def model_public_key(self) -> Path:
        """Its public half: what readers of the repository trust."""
        return self.home / "models.pub"

    @property
    def model_memory(self) -> Path:
        """The last list of versions that was seen of each model; outside the repository on purpose."""
        return self.home / "models.seen.json"

    @property
    def model_log(self) -> Path:
        """Access log of the repository: what was added, loaded, refused."""
        return self.home / "audit" / "models.jsonl"

    @property
    def audit(self) -> Path:
        """The journals that join the audit, which is in control's database."""
        return self.home / "audit"

    @property
    def readings(self) -> Path:
        """Who read the audit; a hash chain."""
        return self.audit / "readings.jsonl"

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
    def executor_state(self) -> Path:
        """What the executors share: which versions serve, which files are known to load, which are in quarantine."""
        return self.home / "executor"

    @property
    def replay_state(self) -> Path:
        """What the executors of replays share: which files are known to load."""
        return self.home / "replay"

    @property
    def operator_key(self) -> Path:
        """A key with which `headrace models load` may load and unload, and nothing else."""
        return self.home / "operator.key"

    @property
    def requests(self) -> Path:
        """Real rows of the demo pipeline, one JSON object per line."""
        return self.home / "data" / "requests.jsonl"

    @property
    def pipelines(self) -> Path:
        return self.root / "deploy" / "pipelines"

    @property
    def documents(self) -> Path:
        """Folder of the documents that can be released: the home's own, or else those of the checkout."""
        own = self.home / "pipelines"
        return own if own.is_dir() else self.pipelines

    @property
    def runbooks(self) -> Path:
        """What to do about alerts."""
        return self.root / "deploy" / "runbooks"

    @property
    def records(self) -> Path:
        """What is live and who may: the database of control."""
        return self.home / "records" / "control.sqlite"

    @property
    def control_key(self) -> Path:
        """Private key that control signs with what the data plane follows."""
        return self.home / "control.key"

    @property
    def control_public_key(self) -> Path:
        """Its public half."""
        return self.home / "control.pub"

    @property
    def artifacts(self) -> Path:
        """What is live as control writes it for starts without control, beside what each process keeps."""
        return self.home / "kept" / "artifacts"

    def resources(self, service: str) -> Path:
        """Where the processes of a service keep what they serve by."""
        return self.home / "kept" / service

    @property
    def rollouts(self) -> Path:
        """What the analyser of rollouts knows: its evidence."""
        return self.home / "rollouts"

    @property
    def quotas(self) -> Path:
        """Where the processes of the ingress share their counts of what tenants use."""
        return self.run / "quotas"

    @property
    def queries(self) -> Path:
        """What tenants with a daily budget of different queries have sent today."""
        return self.home / "queries"

    @property
    def idempotency(self) -> Path:
        """Outcomes of calls with an idempotency key; shared by the processes of the ingress."""
        return self.home / "idempotency" / "keys.sqlite"

    @property
    def security_log(self) -> Path:
        """Refused credentials and forbidden requests, as JSON lines."""
        return self.home / "audit" / "security.jsonl"

    @property
    def alerts(self) -> Path:
        """Rules for Prometheus, and the configurations of Prometheus and Alertmanager; `headrace slo rules` writes them."""
        return self.home / "monitoring"

    @property
    def deployed(self) -> Path:
        """Versions of services that were deployed beside the checkout, and which of them run."""
        return self.home / "deployed"

    @property
    def deployment_log(self) -> Path:
        """Which versions were deployed, and how it ended; a hash chain."""
        return self.audit / "deployments.jsonl"

    @property
    def explanations(self) -> Path:
        """Explanations of predictions."""
        return self.home / "monitoring" / "explanations.sqlite"

    @property
    def outcomes(self) -> Path:
        """What became known of predictions, and which arm made them."""
        return self.home / "monitoring" / "outcomes.sqlite"

    @property
    def cost_ledger(self) -> Path:
        """What predictions cost, by hour."""
        return self.home / "monitoring" / "cost.sqlite"

    @property
    def prices(self) -> Path:
        """What resources cost and how many are reserved, by people; absent by default."""
        return self.home / "settings" / "prices.yaml"

    @property
    def kept_prices(self) -> Path:
        """The prices that were used last."""
        return self.home / "kept" / "prices.json"

    @property
    def console_secret(self) -> Path:
        """What the cookies of the operator console are signed with."""
        return self.home / "monitoring" / "console.key"

    @property
    def events(self) -> Path:
        """Prediction events: segments and their index."""
        return self.home / "monitoring" / "events"

    @property
    def drift(self) -> Path:
        """Windows of what was predicted, so that drift is still known after a restart."""
        return self.home / "monitoring" / "drift"

    @property
    def journal(self) -> Path:
        """Events of regulated predictions that the monitoring service has not collected yet."""
        return self.home / "journal"

    @property
    def retrainings(self) -> Path:
        """When retrainings were triggered, for their rate limit."""
        return self.home / "monitoring" / "retrainings.json"

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
