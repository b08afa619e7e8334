"""Credentials: what proves a tenant and what does not; refusals never say which part was wrong. A credential with
`operate:PIPELINE` changes and sees what is live of that pipeline alone."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from headrace.access.records import key_content, tenant_content
from headrace.access.specs import KeySpec, TenantSpec, new_key
from headrace.api.releases.v1 import releases_pb2 as pb
from headrace.hop.errors import Code, Fault, Reason
from headrace.oip import open_inference_pb2 as oip
from headrace.pipeline import IndexedModel, ModelState
from headrace.releases.of_records import RecordReleases
from headrace.resources.snapshot import Resource
from services.ingress.auth.authenticator import Authenticator
from services.ingress.auth.directory import Directory, DirectoryBuilder
from services.ingress.auth.tokens import fetch_jwks
from services.ingress.oip.repository import ModelRepository
from services.ingress.releases.desk import Desk
from services.ingress.releases.service import ReleaseServicer
from services.ingress.request_context import RequestContext, begin
from tests import token_issuer
from tests.released import releases_in
from tests.services.ingress.ingress_calls import operating
from tests.services.ingress.released_door import first_of_double
from tests.token_issuer import Publisher, jwks

NEW = pb.ArmSpec(models={"doubler": "2"})
NOW = time.time()
KEY = token_issuer.new_key()


class Models:
    """Lists two versions of a model."""

    async def index(self, deadline: float) -> Sequence[IndexedModel]:
        assert deadline
        return [IndexedModel("doubler", version, ModelState.ACTIVE, "") for version in "12"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordReleases]:
    """With release 1 of `double`."""
    with releases_in(tmp_path) as found:
        first_of_double(found)
        yield found


@pytest.fixture
async def servicer(store: RecordReleases) -> AsyncIterator[ReleaseServicer]:
    desk = Desk(store, Models(), structlog.get_logger(), time.monotonic)  # type: ignore[arg-type]  # the part that is used
    yield ReleaseServicer(desk)
    await desk.close()


async def test_an_operator_of_one_pipeline_changes_it(
    servicer: ReleaseServicer, store: RecordReleases
) -> None:
    request = pb.DeployPipelineRequest(pipeline="double", spec=NEW, without_holdback=True)
    assert (await servicer.DeployPipeline(request, operating("operate:double"))).change.changed
    assert store.current("double")[0].live.models == {"doubler": "2"}
    frozen = pb.SetFreezeRequest(pipeline="double", frozen=True)
    await servicer.SetFreeze(frozen, operating("operate:double"))
    assert store.current("double")[0].frozen


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        (pb.GetReleaseRequest(pipeline="double"), "operate:double"),
        (pb.ListReleasesRequest(pipeline="double"), "operate:double"),
        (pb.DeployPipelineRequest(pipeline="double", spec=NEW), "operate:double"),
        (pb.CommitReleaseRequest(document='{"pipeline": "double", "parent": 1}'), "operate:double"),
        (pb.ApplyReleaseRequest(document='{"pipeline": "double"}'), "operate:double"),
        (pb.RollBackReleaseRequest(pipeline="double"), "operate:double"),
        (pb.StartRolloutRequest(pipeline="double", spec=NEW), "operate:double"),
        (pb.SteerRolloutRequest(pipeline="double", action=pb.ROLLOUT_ACTION_PAUSE), "operate:double"),
        (pb.SetFreezeRequest(pipeline="double", frozen=True), "operate:double"),
        (pb.SetFreezeRequest(frozen=True), "operate"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_an_operator_of_another_pipeline_does_nothing(
    servicer: ReleaseServicer, store: RecordReleases, request_: Any, scope: str
) -> None:
    before = store.current("double")
    method = getattr(servicer, type(request_).__name__.removesuffix("Request"))
    with pytest.raises(Fault) as error:
        await method(request_, operating("operate:other"))
    fault = error.value
    assert (fault.code, fault.reason) == (Code.PERMISSION_DENIED, Reason.REASON_NOT_ALLOWED)
    assert fault.metadata == {"scope": scope}
    assert (store.current("double"), store.frozen()) == (before, None)


async def test_each_sees_the_pipelines_that_are_his(servicer: ReleaseServicer) -> None:
    for scope, seen in (("operate:double", ["double"]), ("operate", ["double"]), ("operate:other", [])):
        found = await servicer.ListReleases(pb.ListReleasesRequest(), operating(scope))
        assert [release.pipeline for release in found.releases] == seen


async def test_models_are_loaded_by_operators_of_everything() -> None:
    repository = ModelRepository(Models())  # type: ignore[arg-type]  # the part that is used
    listed = await repository.RepositoryIndex(oip.RepositoryIndexRequest(), operating("operate:double"))
    assert [model.version for model in listed.models] == ["1", "2"]
    with pytest.raises(Fault, match="lacks the scope `operate`"):
        await repository.RepositoryModelLoad(
            oip.RepositoryModelLoadRequest(model_name="m"), operating("operate:double")
        )


def call(headers: dict[bytes, bytes]) -> RequestContext:
    return begin("ModelInfer", headers, 0.0, 0.0)


def directory(*keys: KeySpec, **spec: Any) -> Directory:
    demo = Resource.of("tenant", "demo", tenant_content(TenantSpec(pipelines=("*",), **spec)))
    found = (demo, *(Resource.of("key", f"demo/{key.id}", key_content(key)) for key in keys))
    return DirectoryBuilder(print).build({resource.key: resource for resource in found})


async def test_a_key_set_is_read_from_a_file_or_by_https(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks(KEY))
    assert fetch_jwks(str(path)) == jwks(KEY)
    with Publisher.running(jwks(KEY)) as publisher:
        assert fetch_jwks(publisher.url) == jwks(KEY)
        publisher.text = None
        with pytest.raises(OSError, match="503"):
            fetch_jwks(publisher.url)
    for insecure in (
        "http://issuer.example/keys",
        "http://localhost.example/keys",
        "http://127.0.0.1@issuer.example/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
    ):
        with pytest.raises(ValueError, match="https only"):
            fetch_jwks(insecure)


def test_keys() -> None:
    text, key = new_key(created=datetime.fromtimestamp(NOW, UTC))
    late_text, late = new_key(
        created=datetime.fromtimestamp(NOW, UTC), expires=datetime.fromtimestamp(NOW - 1, UTC)
    )
    events: list[str] = []
    door = Authenticator(directory(key, late), lambda: NOW, lambda kind, *_: events.append(kind))
    assert door.authenticate(call({b"authorization": b"Bearer " + text.encode()})).tenant.name == "demo"
    assert door.authenticate(call({b"x-api-key": text.encode()})).key_id == key.id
    refused = [{}, {b"authorization": b"Basic eA=="}]
    refused += [{b"x-api-key": key} for key in (b"hr_x", late_text.encode(), b"x" * 10_000)]
    messages = set()
    for headers in refused:
        with pytest.raises(Fault) as caught:
            door.authenticate(call(headers))
        assert caught.value.code is Code.UNAUTHENTICATED
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert events[:2] == ["missing_credential", "unknown_scheme"]
    assert events[2:] == ["unknown_key", "expired_credential", "oversized_credential"]
    door.replace(directory())
    with pytest.raises(Fault):
        door.authenticate(call({b"x-api-key": text.encode()}))
