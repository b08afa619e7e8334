"""A running headrace for end-to-end tests: real processes, reached only through their doors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import yaml

from deploy.pipelines.preparation import note_models
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli.commands.lifecycle import status
from headrace.cli.diagnosis import broken_pipelines, live_state
from headrace.cli.installation import layout
from headrace.cli.supervision import daemon
from headrace.oip import open_inference_pb2 as oip
from headrace.pipeline import content_hash, parse
from headrace.releases import LIVE, Arm, ReleaseStore
from headrace.releases.changes import Basis
from headrace.releases.changes.models import models_run
from headrace.repository import Repository
from tests.agreed import with_yes
from tests.prepared import copied_from, copy_to, is_prepared, own_ports
from tests.released import store_at

ROOT = Path(__file__).parents[1]
HOME = Path(os.environ.get("HEADRACE_TESTS_HOME", ROOT / ".headrace" / "tests")).absolute()
# Where homes of several lanes share what `headrace up` prepares in a minute; else each home is prepared by itself.
PREPARED = Path(shared).absolute() if (shared := os.environ.get("HEADRACE_TESTS_PREPARED")) else None
DOCUMENTS = HOME / "pipelines"
# Names another control than the home's (`control:TARGET`), for a system that shares none of its folders.
RELEASES_VARIABLE = "HEADRACE_TESTS_RELEASES"
HEADRACE = Path(sys.executable).parent / "headrace"
CLIENTS_PYTHON = ROOT / ".venv" / "clients" / "bin" / "python"
# Only to end a command that hangs, before pytest's own limit does: on a loaded machine a restart takes a minute.
COMMAND_S = 280
# What a request may take in the systems of tests. The checkout's documents allow a second, which a machine that runs three
# systems on two processors may stop for; few tests ask about that second, and they bring a document of their own.
PATIENT_MS = 30_000
# The same for the features service: its store may be as slow as busy processors make it, and still is no fault. Values fall back
# only because of what a test does.
PATIENT = {"store_timeout_s": 10.0}
# And for the router, which waits for the features service.
PATIENT_ROUTER = {"features_timeout_s": 10.0}
PREDICT = "/headrace.api.inference.v1.InferenceService/Predict"
OIP = "/inference.GRPCInferenceService/"
T = TypeVar("T")


def poll(what: str, probe: Callable[[], T | None], within_s: float = 60.0) -> T:
    """What `probe` returns once it is true; AssertionError naming `what` if it is not within the time."""
    deadline = time.monotonic() + within_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


@dataclass
class System:
    """`headrace up` in HOME, with its endpoints and ways to call them."""

    shape: str

    @classmethod
    def up(
        cls,
        shape: str,
        *options: str,
        ingress: Mapping[str, Any] | None = None,
        router: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        patient: bool = True,
    ) -> Self:
        """`options`: of the command; `ingress`, `router`, `features`: settings over those that the tests have; `patient`: as
        PATIENT_MS says, else all times are those of the checkout."""
        HOME.mkdir(parents=True, exist_ok=True)
        daemon.stop(layout.of(HOME))  # what a run left that was cut off
        new = not is_prepared(HOME) and not copied_from(PREPARED, HOME)
        _own_settings(shape, ingress or {}, router or {}, features or {}, patient=patient)
        own_ports(HOME)
        together = ("--together",) if shape == "together" else ()
        headrace("up", *together, *options, timeout=COMMAND_S)
        if new:
            copy_to(PREPARED, HOME)
        running = cls(shape)
        _ = (
            running.endpoints,
            running.key,
        )  # asked now: a test within an event loop can't, as `status` runs one
        return running

    def down(self) -> None:
        headrace("down")

    def status(self) -> dict[str, Any]:
        """What `headrace status --json` prints, without the command: starting Python takes a second, and tests ask 200 times."""
        place = layout.of(HOME)
        found = status.read(place)
        live = live_state.read(found["services"])
        told = broken_pipelines.told(broken_pipelines.look(place), live.serving)
        return {**found, "what_is_live": live.to_json(), "quarantined_pipelines": told}

    def pid(self, service: str) -> int | None:
        """Of the service's process now, None between two; from the supervisor itself, as `status` has it.

        For tests that ask often: a command takes half a second of a processor that the services need.
        """
        found = self.services()[service]["pid"]
        return None if found is None else int(found)

    def running(self, service: str) -> int:
        """The process of a service that has one."""
        pid = self.pid(service)
        assert pid is not None
        return pid

    def kill(self, service: str, within_s: float = 60.0, how: signal.Signals = signal.SIGKILL) -> None:
        """Until another process is there."""
        pid = self.running(service)
        os.kill(pid, how)
        poll("a new process", lambda: self.pid(service) not in (pid, None), within_s)

    def services(self) -> dict[str, dict[str, Any]]:
        """What the supervisor knows of each process; without a command, as `pid`."""
        return dict(daemon.status(layout.of(HOME))["services"])

    def pids(self, service: str) -> list[int | None]:
        """Of the service's processes."""
        return [self.pid(service)]

    def metrics(self) -> list[tuple[str, str]]:
        """Of each process: its service, and the address of its metrics."""
        return [(name, state["metrics"]) for name, state in self.services().items()]

    def logs(self, service: str) -> list[Path]:
        """Of the service's processes."""
        return [layout.of(HOME).log(service)]

    @cached_property
    def endpoints(self) -> dict[str, str]:
        return dict(self.status()["endpoints"])

    @property
    def doors(self) -> list[str]:
        """Where each door is asked, whichever of them `endpoints` lead to."""
        return [self.endpoints["grpc"]]

    @cached_property
    def key(self) -> str:
        return str(self.status()["demo_key"])

    @cached_property
    def ca_file(self) -> Path:
        return Path(self.status()["ca_file"])

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Real held-out flights, as a client would send them."""
        return requests()

    def channel(self, *, tls: bool = False) -> grpc.Channel:
        if tls:
            return grpc.secure_channel(
                self.endpoints["grpc_tls"], grpc.ssl_channel_credentials(self.ca_file.read_bytes())
            )
        return grpc.insecure_channel(self.endpoints["grpc"])

    def auth(self, key: str | None = None) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key if key is None else key}"),)

    def predict(
        self, request: pb.PredictRequest, *, timeout: float = 30.0, key: str | None = None, **headers: str
    ) -> pb.PredictResponse:
        """`Predict` over gRPC; raises grpc.RpcError as any client would see it."""
        with self.channel() as channel:
            metadata = (*self.auth(key), *headers.items())
            answer: pb.PredictResponse = predicting(channel)(request, timeout=timeout, metadata=metadata)
            return answer

    def infer(self, request: oip.ModelInferRequest, *, timeout: float = 30.0) -> oip.ModelInferResponse:
        """OIP `ModelInfer` over gRPC."""
        with self.channel() as channel:
            call = channel.unary_unary(
                OIP + "ModelInfer", oip.ModelInferRequest.SerializeToString, oip.ModelInferResponse.FromString
            )
            answer: oip.ModelInferResponse = call(request, timeout=timeout, metadata=self.auth())
            return answer


def predicting(channel: grpc.Channel | grpc.aio.Channel) -> Any:
    """`Predict`, to be called by this channel."""
    return channel.unary_unary(PREDICT, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString)


def prepared() -> None:
    """The home is prepared, and nothing runs in it."""
    if not is_prepared(HOME) and not copied_from(PREPARED, HOME):
        System.up("apart")
    daemon.stop(layout.of(HOME))


def _own_settings(
    shape: str,
    ingress: Mapping[str, Any],
    router: Mapping[str, Any],
    features: Mapping[str, Any],
    *,
    patient: bool,
) -> None:
    """Gives the home the checkout's documents, to which a test may add."""
    shutil.rmtree(DOCUMENTS, ignore_errors=True)
    # Nothing is live, and no process remembers what was.
    place = layout.of(HOME)
    for folder in (
        place.records.parent,
        place.artifacts,
        *map(place.resources, ("ingress", "router", "executor")),
    ):
        shutil.rmtree(folder, ignore_errors=True)
    if place.models.exists():
        note_models(HOME)
    for document in (ROOT / "deploy" / "pipelines").glob("*/pipeline.yaml"):
        text = document.read_text()
        write_document(document.parent.name, deadline(text, PATIENT_MS) if patient else text)
    routing = {**(PATIENT_ROUTER if patient else {}), **router}
    override("router", routing)
    reading = {**(PATIENT if patient else {}), **features}
    override("features", reading)
    hosted = {"together": {"router": routing, "features": reading}} if shape == "together" else {}
    override("ingress", {**hosted, **ingress})


def deadline(text: str, milliseconds: int) -> str:
    """The document with this time for a request."""
    changed, count = re.subn(r"(?m)^deadline_ms: \d+$", f"deadline_ms: {milliseconds}", text)
    assert count == 1, text
    return changed


def write_document(name: str, text: str) -> None:
    """A document that can be released; that it is there changes nothing."""
    folder = DOCUMENTS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.yaml").write_text(text)


def add_document(name: str, text: str, models: Mapping[str, str] | None = None) -> int:
    """A pipeline that is served within seconds; returns the number of its release. `models`: versions, else the newest."""
    write_document(name, text)
    store, pipeline = releases(), parse(text, name)
    repository = Repository(HOME / "models")

    versions = {
        model: (models or {}).get(model) or next(iter(named), "") or repository.versions(model)[-1]
        for model, named in models_run(pipeline).items()
    }
    arm = Arm(version=pipeline.version, revision=pipeline.revision, models=versions)
    release = Basis.of(store, pipeline.name, "tests").next(arms={LIVE: arm})
    store.commit(release, {pipeline.revision: text})
    return release.number


def remove_document(name: str) -> None:
    """The pipeline is served no longer, and its models may be unloaded."""
    shutil.rmtree(DOCUMENTS / name, ignore_errors=True)
    releases().remove(name)


def add_unusable(name: str) -> int:
    """A release that this version can't use, as one of a newer version may be; returns its number."""
    text = f"pipeline: {name}\nversion: 99\nof_a_newer_version: true\n"
    store, revision = releases(), str(content_hash(text))
    arm = Arm(version=99, revision=revision, models={})
    release = Basis.of(store, name, "tests").next(arms={LIVE: arm})
    store.commit(release, {revision: text})
    return release.number


@cache
def releases() -> ReleaseStore:
    """What is live, at control."""
    control = f"control:unix-dir:{layout.of(HOME).listed('control')}"
    return store_at(os.environ.get(RELEASES_VARIABLE) or control)


def override(service: str, settings: dict[str, Any]) -> None:
    """Settings that are put over the generated ones when the service starts; {}: none."""
    path = layout.of(HOME).override(service)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings))


@contextmanager
def restarted(service: str, settings: dict[str, Any], usual: dict[str, Any]) -> Iterator[None]:
    """The service runs with these settings, and with its usual ones afterwards."""
    override(service, settings)
    try:
        headrace("restart", service)
        yield
    finally:
        override(service, usual)
        headrace("restart", service)


def refused(*arguments: str, timeout: float = COMMAND_S) -> str:
    """What the command says when it fails, as it must, with a sentence and no traceback."""
    done = tried(*arguments, timeout=timeout)
    assert done.returncode == 1, f"{done.args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def tried(*arguments: str, timeout: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
    """The command, however it ends."""
    command = [str(HEADRACE), *with_yes(*arguments), "--home", str(HOME)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(
            f"{' '.join(command)}: not done within {timeout:g} s\n{_last_lines()}"
        ) from error


def _last_lines(lines: int = 12) -> str:
    """The end of each service's log: why a command hangs is said there, and a machine that only ran the tests is gone later."""
    found = sorted(layout.of(HOME).logs.glob("*.log"))
    return "\n".join(
        f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
        for path in found
    )


def headrace(*arguments: str, timeout: float = COMMAND_S) -> str:
    """Output of the command; AssertionError with what it printed if it fails."""
    done = tried(*arguments, timeout=timeout)
    command = done.args
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def remove_models(name: str, *versions: str, within_s: float = 120.0) -> None:
    """Takes versions out of the repository, each once no release keeps it loaded."""

    def gone(version: str) -> bool:
        tried("models", "unload", name)
        return tried("models", "remove", name, version).returncode == 0

    for version in versions:
        poll(f"{name}:{version} is removed", partial(gone, version), within_s)


def requests() -> list[dict[str, Any]]:
    """The prepared held-out requests."""
    with (HOME / "data" / "requests.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def row_request(*rows: dict[str, Any], pipeline: str = "flights", **fields: Any) -> pb.PredictRequest:
    """A PredictRequest of rows as objects."""
    request = pb.PredictRequest(pipeline=pipeline, **fields)
    for row in rows:
        request.rows.add().update(row)
    return request


def client_environment() -> dict[str, str]:
    """Environment for other people's clients: nothing of this process's Python."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
