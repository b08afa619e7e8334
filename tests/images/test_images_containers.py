"""What is in the images, and that each service gets ready and answers in a hardened container. First: `make images`."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # has no stubs
from packaging.utils import canonicalize_name

from deploy.images import locks, podman
from headrace.access.specs import TenantSpec
from headrace.api.postprocessing.v1 import postprocessing_pb2, postprocessing_pb2_grpc
from headrace.api.preprocessing.v1 import preprocessing_pb2, preprocessing_pb2_grpc
from headrace.cli.installation import services
from headrace.columns.batch import Batch, Rows
from headrace.columns.column import Column
from headrace.columns.wire import decode, encode
from headrace.resources.manifest import new_keys
from headrace.steps import spec_json, spec_sha256
from tests import system
from tests.images.containers import HARDENED, METRICS, SOCKET, STATE, Container, found, inside, running
from tests.live_access import signed_folder

pytestmark = pytest.mark.slow
RESOURCES = {"keys": [f"{STATE}/resources/control.pub"], "artifacts": f"{STATE}/resources"}
IMAGES = locks.names(services.start_order())
SPEC: dict[str, Any] = {"steps": [{"round": {"column": "x", "decimals": 0}}], "outputs": {"x": "float64"}}
EXECUTOR = {
    "models": f"{STATE}/models",
    "trust": {"keys": [f"{STATE}/models.pub"]},
}
FEATURES = {"repo": f"{STATE}/feast"}
CONTROL = {
    "database": f"{STATE}/control/records.sqlite",
    "initialise": True,
    "signing_key": f"{STATE}/control.key",
}
MONITORING = {"database": f"{STATE}/facts.sqlite", "events": {"files": f"{STATE}/events"}}
DOOR = {
    "http": {"plaintext": "127.0.0.1:8080"},
    "admin": "127.0.0.1:9901",
    "run_dir": "/run/headrace/envoy",
    "access_log": "/dev/stdout",
    "resources": RESOURCES,
}
LOCAL = {"target": "local"}
SETTINGS: dict[str, dict[str, Any]] = {
    "preprocessing": {},
    "postprocessing": {},
    "executor": EXECUTOR,
    # As the overlay `gpu` has it.
    locks.GPU: EXECUTOR
    | {"defaults": {"device": "auto"}, "tensorrt": {"module": "tensorrt_rtx", "cache": f"{STATE}/engines"}},
    "features": FEATURES,
    "monitoring": MONITORING,
    "control": CONTROL,
    "router": {"resources": RESOURCES},
    "ingress": DOOR | {"router": {"target": "unix:/run/headrace/router.sock"}},
    "edge": DOOR
    | {
        "router": LOCAL,
        "together": {
            "features": {"server": {"listen": "local"}} | FEATURES,
            "executor": {"server": {"listen": "local"}} | EXECUTOR,
            "preprocessing": {"server": {"listen": "local"}},
            "postprocessing": {"server": {"listen": "local"}},
            "router": {"server": {"listen": "local"}, "resources": RESOURCES}
            | dict.fromkeys(("features", "executor", "preprocessing", "postprocessing"), LOCAL),
        },
    },
}
# MB. Of the others 256. Edge has a model of 23 MB for pictures beside those of flights.
MEMORY = {"executor": "512m", locks.GPU: "512m", "edge": "640m"}
STEPS: dict[str, Any] = {
    "preprocessing": (
        preprocessing_pb2_grpc.PreprocessingServiceStub,
        "Transform",
        preprocessing_pb2.TransformRequest,
    ),
    "postprocessing": (
        postprocessing_pb2_grpc.PostprocessingServiceStub,
        "Format",
        postprocessing_pb2.FormatRequest,
    ),
}
# A prediction of the pipeline of flights, as JSON.
_PREDICT = """
import sys, urllib.request as u
url = "http://127.0.0.1:8080/headrace.api.inference.v1.InferenceService/Predict"
headers = {"authorization": "Bearer " + open(sys.argv[1]).read(), "content-type": "application/json"}
print(u.urlopen(u.Request(url, sys.argv[2].encode(), headers), timeout=30).read().decode())
"""
_HTTP = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=30).status)"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What services find in /var/lib/headrace: models and features of the prepared home, a tenant, the checkout's pipelines."""
    system.prepared()
    folder = tmp_path_factory.mktemp("home")
    for name in ("models", "models.pub", "feast"):
        subprocess.run(["cp", "-r", system.HOME / name, folder / name], check=True)
    documents = [path.read_text() for path in (system.ROOT / "deploy" / "pipelines").glob("*/pipeline.yaml")]
    keys, _ = signed_folder(folder, {"demo": TenantSpec(pipelines=("*",))}, *documents)
    (folder / "demo.key").write_text(keys["demo"])
    return folder


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What control finds there."""
    folder = tmp_path_factory.mktemp("key")
    (folder / "control.key").write_bytes(new_keys()[0])
    return folder


@pytest.fixture(params=IMAGES)
def container(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[str, Container]]:
    """Each image, running and ready; says how long that took."""
    image = request.param
    found(image)
    # Preparing a home takes a minute, which these do not need.
    state = request.getfixturevalue("key" if image in {*STEPS, "control"} else "state")
    settings = {"server": {"listen": SOCKET}, "telemetry": {"metrics": METRICS}} | SETTINGS[image]
    with running(image, settings, tmp_path, state=state, memory=MEMORY.get(image, "256m")) as one:
        took_s = one.ready_s()
        with capsys.disabled():
            print(f"\n{image}: ready {took_s:.2f} s after its container's start")
        yield image, one


def test_each_image_gets_ready_answers_and_ends_by_sigterm(container: tuple[str, Container]) -> None:
    image, one = container
    if image in {"ingress", "edge"}:
        assert one.python(_HTTP, "http://127.0.0.1:8080/v2/health/live").strip() == "200"
        if image == "edge":
            assert one.python(_HTTP, "http://127.0.0.1:8080/v2/health/ready").strip() == "200"
            [prediction] = predicted(one)["predictions"]
            assert prediction["outputs"]
            assert not {"error", "fallbacks"} & prediction.keys(), prediction
    else:
        with grpc.insecure_channel(f"unix:{one.sockets}/service.sock") as channel:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            if image in STEPS:
                rounds_a_number(image, channel)
    assert one.stopped() == 0, one.log()


def test_edge_predicts_flights_in_256_mb_without_a_network(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the models and the pipeline of flights alone, as a small machine would have it."""
    found("edge")
    flights = tmp_path / "flights"
    others = shutil.ignore_patterns("open_nsfw", "moderation*", "*nsfw*")
    shutil.copytree(state, flights, ignore=others)
    settings = {"server": {"listen": SOCKET}, "telemetry": {"metrics": METRICS}} | SETTINGS["edge"]
    with running("edge", settings, tmp_path, state=flights, memory="256m") as edge:
        took_s = edge.ready_s()
        assert predicted(edge)["predictions"][0]["outputs"]
        with capsys.disabled():
            print(f"\nedge with flights alone, 256 MB: ready {took_s:.2f} s after its container's start")


def predicted(edge: Container) -> dict[str, Any]:
    """What the pipeline of flights answers for one flight of the demo, through all services."""
    row = json.loads((system.HOME / "data" / "requests.jsonl").read_text().splitlines()[0])
    request = json.dumps({"pipeline": "flights", "rows": [row]})
    answer: dict[str, Any] = json.loads(edge.python(_PREDICT, f"{STATE}/demo.key", request))
    return answer


def rounds_a_number(service: str, channel: grpc.Channel) -> None:
    stub, method, request = STEPS[service]
    rows = Rows.one_request(1, "r", "tenant", time.monotonic() + 30)
    batch = encode(Batch.of(rows, [Column.of("x", np.array([1.6]))]))
    reply = getattr(stub(channel), method)(
        request(spec_sha256=spec_sha256(SPEC), spec=spec_json(SPEC), batch=batch), timeout=30
    )
    assert decode(reply.batch).columns["x"].array.tolist() == [2.0]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_nobodys_root_and_imports_its_service(image: str) -> None:
    service = locks.service_of(image)
    code = f"import os, services.{service}.wiring; print(os.getuid(), os.path.exists('/bin/sh'), os.path.exists('/usr/bin/perl'))"
    assert inside(image, code).split() == ["65532", "False", "False"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_its_bill_of_materials(image: str) -> None:
    bill = json.loads(inside(image, "print(open('/usr/share/headrace/sbom.cdx.json').read())"))
    code = "from importlib.metadata import distributions as d; print(*(x.name for x in d()))"
    installed = {canonicalize_name(name) for name in inside(image, code).split()} - {"headrace"}
    assert installed == {part["name"] for part in bill["components"] if part["purl"].startswith("pkg:pypi/")}


def test_settings_that_are_missing_end_it_at_once() -> None:
    runtime = ("podman", "--runtime", "runc", "run", "--rm", *HARDENED, *podman.limits())
    done = subprocess.run(
        [*runtime, found("preprocessing"), "--config", "/etc/headrace/none.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "none.yaml" in done.stderr


def test_a_socket_that_others_could_reach_is_refused(tmp_path: Path) -> None:
    settings = {"server": {"listen": "unix:/tmp/service.sock"}, "telemetry": {"metrics": METRICS}}
    with running("preprocessing", settings, tmp_path) as one:
        podman.podman("wait", one.name)
        assert one.stopped() == 2
        assert "/tmp must belong to this user and be private" in one.log()
