"""One bad model stops nobody else, heals when it is mended, and never ends the executor's process."""

import asyncio
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.hop.errors import Code, Fault, Reason
from headrace.repository import Repository, RepositoryError, changes
from headrace.repository.records import Checked, Records
from services.executor.check import fingerprint
from services.executor.config import ModelSettings
from services.executor.lifecycle.quarantine import FailureKind, Quarantine
from tests.services.executor.executor_caller import WITHIN_S, Caller, batch, calling, quarantined, refusal, ys
from tests.services.executor.executor_models import endless, expanding, put, scaling
from tests.services.waiting import until


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def answer(caller: Caller, model: str = "double") -> list[float]:
    """What the model answers once it is out of quarantine and loaded."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return ys(await caller(batch(1.0), model))
            except Fault as fault:
                if fault.code not in (Code.FAILED_PRECONDITION, Code.UNAVAILABLE):
                    raise
            await asyncio.sleep(0.05)


async def test_a_bad_model_is_in_quarantine_among_good_ones_and_heals(models: Path) -> None:
    put(models)
    put(models, "altered")
    file = models / "altered/1/model.onnx"
    good = file.read_bytes()
    file.write_bytes(b"no model")
    async with calling(models) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        fault = await refusal(caller, "altered")
        assert fault.reason == Reason.REASON_MODEL_UNTRUSTED
        assert dict(fault.metadata) == {"model": "altered", "version": "1"}
        assert "has SHA-256" in (await quarantined(caller))["altered:1"]
        assert caller.metric("quarantined", model="altered") == 1
        file.write_bytes(good)
        assert await answer(caller, "altered") == [2.0]
        assert caller.metric("quarantined", model="altered") == 0


async def test_the_last_good_version_serves_and_a_named_bad_one_is_refused(models: Path, state: Path) -> None:
    put(models)
    Records(state).serve("double", "1")
    Records(state).serve("double", "2")
    put(models, version="2", content=b"no model")
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        await refusal(caller, version="2")
        changes.remove(None, models, "double", "2", "ann")

        async def freed() -> bool:
            return not await quarantined(caller) and Records(state).serving() == {"double": ["1"]}

        await until(freed, WITHIN_S)


async def test_a_newer_version_takes_the_place_of_one_that_never_served(models: Path, state: Path) -> None:
    put(models, content=b"no model")
    async with calling(models, state=state) as caller:
        await refusal(caller)
        assert list(Records(state).quarantined()) == ["double:1"]
        put(models, version="2")
        assert await answer(caller) == [2.0]
        # It answers before it is recorded.
        await until(lambda: not Records(state).quarantined(), WITHIN_S)
        await until(lambda: Records(state).serving() == {"double": ["2"]}, WITHIN_S)


async def test_files_are_checked_once_in_a_process_of_their_own(models: Path, state: Path) -> None:
    put(models)
    put(models, "big", content=expanding())
    check = {"seconds": 60, "memory_mib": 1024}
    async with calling(models, state=state, check=check, start_s=WITHIN_S) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        assert "more than 1024 MiB of memory" in (await quarantined(caller))["big:1"]
        [double] = await caller.models()
        assert double.memory_bytes > 0
    artifact = Repository(models).read("double", "1")
    known = Records(state).checked(fingerprint(artifact, ModelSettings()))
    assert (known.good, known.memory_bytes) == (True, double.memory_bytes)


async def test_a_load_without_end_holds_nobody_up(models: Path, state: Path) -> None:
    put(models)
    async with calling(models, state=state, start_s=WITHIN_S):
        pass  # the good one is known from now on
    put(models, "endless", content=endless())
    # The start waits a moment, then goes on without it.
    async with calling(models, state=state, check={"seconds": 3}, start_s=1.0) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        await asyncio.wait_for(_held(caller, "endless:1"), WITHIN_S)
        assert "took longer than 3 s" in (await quarantined(caller))["endless:1"]
    # The same files are not tried again before the next start is over, however long that would take.
    async with calling(models, state=state, check={"seconds": 3000}, start_s=3000.0) as caller:
        assert "took longer than 3 s" in (await quarantined(caller))["endless:1"]
        await refusal(caller, "endless")


async def _held(caller: Caller, key: str) -> None:
    while key not in await quarantined(caller):
        await asyncio.sleep(0.05)


async def test_files_that_ended_processes_are_checked_anew_then_left_alone(models: Path, state: Path) -> None:
    put(models)
    put(models, "deadly")
    mark = fingerprint(Repository(models).read("deadly", "1"), ModelSettings())
    records = Records(state)
    for deaths in (1, 2, 3):
        records.note(mark, Checked(True, 0, deaths - 1))
        # What a process leaves that ends while it loads them.
        (state / "loading").mkdir(exist_ok=True)
        (state / "loading" / f"{mark}.1").touch()
        async with calling(models, state=state, start_s=WITHIN_S) as caller:
            assert not list((state / "loading").iterdir())
            assert ys(await caller(batch(1.0))) == [2.0]
            if deaths < 3:
                assert ys(await caller(batch(1.0), "deadly")) == [2.0]
                assert records.checked(mark) == Checked(True, records.checked(mark).memory_bytes, 0)
            else:
                assert "3 processes of the executor ended" in (await quarantined(caller))["deadly:1"]
                # An operator may insist.
                await caller.load(pb.LoadModelRequest(model="deadly", version="1"))
                assert ys(await caller(batch(1.0), "deadly")) == [2.0]
                assert await quarantined(caller) == {}


def test_a_load_that_ends_its_process_is_a_verdict(models: Path, state: Path, tmp_path: Path) -> None:
    put(models)
    config = tmp_path / "executor.yaml"
    settings = {"server": {"listen": "local"}, "models": str(models), "state": str(state)}
    config.write_text(json.dumps(settings))
    # A segmentation fault in the middle of a load, in the real child process.
    code = (
        "import os, signal, services.executor.check as check\n"
        "check._activate = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "check.main()"
    )
    command = [sys.executable, "-c", code, "--config", str(config), "double:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    verdict = json.loads(done.stdout)
    assert verdict["problem"] == "loading it ends the process that does it (SIGSEGV)"
    assert not Records(state).checked(verdict["fingerprint"]).good


async def test_the_version_that_served_stays_until_an_operator_says_so(models: Path, state: Path) -> None:
    put(models, content=scaling(2))
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        put(models, version="2", content=scaling(3))
    async with calling(models, state=state) as caller:
        assert [m.version for m in await caller.models()] == ["1"]
        await caller.load(pb.LoadModelRequest(model="double", version="2"))
        assert ys(await caller(batch(1.0))) == [3.0]
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [3.0]
        assert ys(await caller(batch(1.0), version="1")) == [2.0]
        # Back to the old one.
        await caller.load(pb.LoadModelRequest(model="double", version="1"))
        assert ys(await caller(batch(1.0))) == [2.0]
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        await caller.unload(pb.UnloadModelRequest(model="double"))
    async with calling(models, state=state) as caller:
        assert await caller.models() == []


async def test_executors_of_one_home_follow_each_other(models: Path, state: Path) -> None:
    put(models, content=scaling(2))
    put(models, "other")
    async with calling(models, state=state) as one, calling(models, state=state) as two:
        put(models, version="2", content=scaling(3))
        await one.load(pb.LoadModelRequest(model="double", version="2"))
        await one.unload(pb.UnloadModelRequest(model="other"))
        async with asyncio.timeout(WITHIN_S):
            while [(m.name, m.version) for m in await two.models()] != [("double", "1"), ("double", "2")]:
                await asyncio.sleep(0.05)
        assert ys(await two(batch(1.0))) == [3.0]


async def test_a_removed_version_is_forgotten(models: Path, state: Path) -> None:
    for version in ("1", "2"):
        put(models, version=version, content=scaling(float(version)))
        Records(state).serve("double", version)
    changes.remove(None, models, "double", "2", "ann")
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [1.0]
        assert Records(state).serving() == {"double": ["1"]}
    changes.remove(None, models, "double", "1", "ann")
    put(models, version="3", content=scaling(3))
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [3.0]
        assert await quarantined(caller) == {}
        assert Records(state).serving() == {"double": ["3"]}


WRONG_RECORDS = [b"", b"\xff", b"7", b"null", b"[1]", b"[" * 100_000]
WRONG_RECORDS += [b'{"double": %b}' % versions for versions in (b"7", b"null", b'"text"', b"[{}]")]


@pytest.mark.parametrize("content", WRONG_RECORDS)
async def test_a_record_that_cannot_be_read_stops_no_start(models: Path, state: Path, content: bytes) -> None:
    put(models)
    state.mkdir()
    (state / "serving.json").write_bytes(content)
    (state / "checked.json").write_bytes(content)
    (state / "quarantine.json").write_bytes(content)
    async with calling(models, state=state) as caller:
        assert ys(await caller(batch(1.0))) == [2.0]


@pytest.mark.parametrize("content", WRONG_RECORDS)
def test_a_wrong_record_is_mended_by_the_next_change(state: Path, content: bytes) -> None:
    state.mkdir()
    (state / "serving.json").write_bytes(content)
    Records(state).serve("double", "1")
    assert Records(state).serving() == {"double": ["1"]}
    (state / "serving.json").write_bytes(content)
    Records(state).stop("double", "1")
    assert Records(state).serving() == {"double": []}


async def test_a_disk_that_can_not_be_written_stops_nobody(models: Path, state: Path, tmp_path: Path) -> None:
    """Neither the record nor the access log can be written: folders that are files, for root may write everywhere."""
    put(models)
    state.write_text("in the way")
    audit = tmp_path / "audit"
    audit.write_text("in the way")
    async with calling(models, state=state, access_log=audit / "models.jsonl") as caller:
        assert ys(await caller(batch(1.0))) == [2.0]
        await until(lambda: caller.metric("unsaved") == 1, WITHIN_S)
        state.unlink()
        audit.unlink()
        await until(lambda: caller.metric("unsaved") == 0, WITHIN_S)
        assert Records(state).serving() == {"double": ["1"]}
        assert '"loaded"' in (audit / "models.jsonl").read_text()


async def test_a_folder_with_an_odd_name_stops_no_start(models: Path) -> None:
    put(models)
    (models / "odd name" / "1").mkdir(parents=True)
    shutil.copytree(models / "double" / "1", models / "double" / "odd version")
    async with calling(models) as caller:
        assert ys(await caller(batch(1.0), version="1")) == [2.0]


def test_tries_are_farther_and_farther_apart() -> None:
    quarantine, error = Quarantine(), RepositoryError("m", "1", "bad", "mend it")

    def wait(kind: FailureKind, stamp: str) -> float:
        quarantine.hold(("m", "1"), error, kind, stamp, 100.0)
        held = quarantine.get(("m", "1"))
        assert held is not None
        return held.due - 100.0

    assert [wait(FailureKind.FILES, "stamp") for _ in range(8)] == [2, 4, 8, 16, 30, 30, 30, 30]
    assert wait(FailureKind.FILES, "changed") == 2
    assert wait(FailureKind.CRASH, "changed") == math.inf
