"""What releases name and control lists is loaded, and nothing else."""

import asyncio
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from headrace.api.control.v1.resources_pb2 import RejectedResource
from headrace.catalog.access import Position
from headrace.hop.errors import Code, Fault, reason_name
from headrace.pipeline import parse
from headrace.releases import Arm, Release, ReleaseStore
from headrace.releases.catalog import Released
from headrace.repository import changes
from headrace.repository.records import Records
from headrace.repository.signing import key_pair as keys
from headrace.resources.apply import View
from headrace.resources.follower import Follower
from headrace.resources.manifest import new_keys
from headrace.resources.releases import ReleaseCatalog
from headrace.resources.snapshot import Snapshot
from services.executor.lifecycle.released import ReleasedVersions
from tests.first_release import first_release
from tests.released import released
from tests.services.executor.executor_caller import batch, calling, quarantined, ys
from tests.services.executor.executor_models import put, scaling
from tests.services.executor.test_executor_change import load, states, unload

PIPELINE = """
pipeline: p
version: 1
deadline_ms: 1000
inputs: {x: {type: float32, shape: [3]}}
stages:
  - {model: m, name: double, inputs: {x: x}, outputs: {y: {column: y, type: float32, shape: [3]}}}
outputs: [y]
"""


def deploy(store: ReleaseStore, *arms: str) -> None:
    """A release whose arms name these versions of `double`; the first is live."""
    pipeline = parse(PIPELINE, "p")
    made = {
        name: Arm(version=1, revision=pipeline.revision, models={"double": version})
        for name, version in zip(("live", "other"), arms, strict=False)
    }
    before, _ = store.current("p")
    store.commit(
        before.next("me", "", arms=made)
        if before
        else Release(pipeline="p", number=1, author="me", arms=made),
        {pipeline.revision: PIPELINE},
    )


async def test_what_control_lists_is_loaded_and_nothing_else(models: Path, tmp_path: Path) -> None:
    """A label that moves; a version that is removed, not what is listed, without files, not listed at all."""
    private, public = tmp_path / "key", tmp_path / "pub"
    keys.generate(private, public)
    with released(tmp_path / "control") as releases:
        records = releases.store.records
        for version in "12345":
            about = put(models, version=version, content=scaling(float(version)), key=private)
            if version != "5":
                changes.add(records, about, "ann")
        put(models, "planted", key=private)
        deploy(releases.store, "1", "3", "4")
        folder = models / "double"
        shutil.rmtree(folder / "3")
        put(models, version="3", content=scaling(0.5), key=private)
        shutil.rmtree(folder / "4")
        changes.label(records, "double", "1", "best", "ann")
        settings = {
            "load": "released",
            "trust": {"keys": [str(public)]},
            "state": tmp_path / "state",
            **releases.settings,
            "resources": {**releases.settings["resources"], "folder": tmp_path / "disk"},
        }
        async with calling(models, **settings) as caller:
            assert await states(caller) == {
                "double:1": "ACTIVE",
                **{f"double:{v}": "UNLOADED" for v in "234"},
            }
            with pytest.raises(Fault, match="not the one that the index lists"):
                await load(caller, "3")
            deploy(releases.store, "1", "2")
            async with asyncio.timeout(30):
                while (await states(caller))["double:2"] != "ACTIVE":
                    await asyncio.sleep(0.01)
            with pytest.raises(Fault) as error:
                await unload(caller, "2")
            found = error.value.code, reason_name(error.value.reason)
            assert found == (Code.FAILED_PRECONDITION, "MODEL_RELEASED")
            assert error.value.metadata["pipelines"] == "p"
            assert ys(await caller(batch(1.0))) == [1.0]
            changes.label(records, "double", "2", "best", "ann")
            async with asyncio.timeout(30):
                while (await load(caller, "best")).version != "2":
                    await asyncio.sleep(0.01)
            assert ys(await caller(batch(1.0))) == [2.0]  # what an operator loaded
            for version, model in (("5", "double"), ("", "planted")):
                with pytest.raises(Fault) as error:
                    await load(caller, version, model)
                assert reason_name(error.value.reason) == "MODEL_UNKNOWN"
        deploy(releases.store, "1", "3", "4")
        changes.label(records, "double", "1", "best", "ann")
        copy = tmp_path / "copy"
        shutil.copytree(folder / "2", copy)
        changes.remove(records, models, "double", "2", "ann")
        shutil.copytree(copy, folder / "2")
        async with calling(models, **settings) as caller:
            async with asyncio.timeout(30):
                while "double:2" in await states(caller):
                    await asyncio.sleep(0.01)
            assert (await states(caller))["double:1"] == "ACTIVE"
    # Without control: by what its disk has.
    async with calling(models, **settings) as caller:
        assert (await states(caller))["double:1"] == "ACTIVE"
        assert "double:2" not in await states(caller)


async def test_before_control_has_said_what_there_is_nothing_is_loaded_or_forgotten(
    models: Path, tmp_path: Path
) -> None:
    put(models)
    put(models, "other")
    state, key = tmp_path / "state", tmp_path / "control.pub"
    key.write_bytes(new_keys()[1])
    Records(state).serve("other", "1")
    Records(state).stop("double", "1")
    settings: dict[str, Any] = {
        "control": {"target": f"unix:{tmp_path}/nowhere.sock"},
        "resources": {"keys": [str(key)]},
    }
    async with calling(models, load="released", state=state, **settings) as caller:
        assert (await quarantined(caller)).keys() == {"other:1"}
        assert "nothing to serve by has come from control" in (await quarantined(caller))["other:1"]
    assert Records(state).serving() == {"other": ["1"], "double": []}


def test_a_version_stays_a_while_after_the_last_release_that_names_it() -> None:
    now, follower = [0.0], Mock(Follower)
    pipeline, key = parse(PIPELINE, "p"), ("release", "p")

    def serve(version: str, **rejected: RejectedResource) -> None:
        found = Released({"live": pipeline}, first_release(pipeline, {"double": version}, "me", ""))
        problems = {("release", name): one for name, one in rejected.items()}
        follower.view = View(Position(1, 1, b""), Snapshot(), problems, {key: found})

    serve("1")
    versions = ReleasedVersions(ReleaseCatalog(follower), lambda: now[0])
    assert (versions.versions, versions.by("double", "1")) == ({"double": ["1"]}, ["p"])
    serve("2")
    assert versions.look() == {"double": ["1", "2"]}
    assert versions.by("double", "1") == []
    now[0] = 31.0
    assert versions.look() == {"double": ["2"]}
    assert versions.problems == []
    serve("2", p=RejectedResource(problem="no"))
    assert versions.look() == {"double": ["2"]}
    assert versions.problems == ["releases/p/1:1: (release): no"]
