"""The recording over sockets: what was answered is in the files, and what can't be written disturbs nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.columns import Batch, RowError
from headrace.hop.errors import Code, Reason
from headrace.recordings import Record, read_records
from services.router.recording import recorder
from services.router.routes.observer import chosen_rows
from tests.services.router.router_leaves import SCORED, Suite, batch_of, features, suite

PRIVATE = SCORED.replace("key: {type: string}", "key: {type: string, pii: true}")


@asynccontextmanager
async def running(folder: Path, text: str = SCORED, **recording: Any) -> AsyncIterator[Suite]:
    given = {"folder": folder / "recordings", **recording}
    async with suite(folder / "documents", {"scored": text}, recording=given) as started:
        yield started


def recorded(folder: Path) -> list[Record]:
    return list(read_records(sorted((folder / "recordings").iterdir())))


def metric(started: Suite, name: str, **labels: str) -> float:
    return started.sample(name, **labels) or 0.0


async def test_a_batch_is_recorded_with_its_values_and_its_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as started:

        async def refuse_first(batch: Batch) -> Batch:
            error = RowError(Code.INVALID_ARGUMENT, Reason.REASON_STEP_FAILED, "no such key")
            return Batch(batch.rows, {c.name: c for c in features(batch)}, {0: error})

        await started.ask("scored", batch_of(["ab", "?"], [1.0, -9.0], request_id="one"))
        started.features.hook = refuse_first
        await started.ask("scored", batch_of(["ab", "abc"], [1.0, -9.0], request_id="two"))
    # Also what waited when the router stopped.
    one, two = recorded(tmp_path)
    assert one.pipeline == "scored"
    assert (one.inputs.rows.request_ids, one.inputs.rows.tenants) == (["one"] * 2, ["tenant"] * 2)
    assert one.inputs.columns["key"].text() == ["ab", "?"]
    assert one.features["score"].is_valid().tolist() == [True, False]
    assert one.features["@source/user"].array.tolist() == [1, 2]
    assert one.answer.columns["y"].array.tolist() == [3.0, -10.0]
    assert one.answer.columns["@fallbacks"].array.tolist() == [0, 1]
    assert list(one.fallbacks) == ["features/user:not_found"]
    assert [(m.model, m.version, m.sha256) for m in one.decision.models] == [("adder", "7", "ab" * 32)]
    assert one.decision.route == "live"
    assert two.answer.errors[0].stage == "store"
    assert metric(started, "router_recorded_rows_total") == 4
    assert metric(started, "router_recording") == 1


@pytest.mark.parametrize("stored", [False, True])
async def test_personal_data_is_left_out_unless_the_settings_allow_it(tmp_path: Path, stored: bool) -> None:
    allowed = {"personal_data": "store"} if stored else {}
    async with running(tmp_path, PRIVATE, **allowed) as started:
        await started.ask("scored", batch_of(["secret"], [1.0]))
    [found] = recorded(tmp_path)
    assert ("key" in found.inputs.columns) is stored
    assert list(found.redacted) == ([] if stored else ["key"])
    [file] = (tmp_path / "recordings").iterdir()
    assert (b"secret" in file.read_bytes()) is stored


async def test_only_the_share_of_the_named_pipelines_is_recorded(tmp_path: Path) -> None:
    async with running(tmp_path, share=0.4, pipelines=["scored"]) as started:
        for i in range(40):
            await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
    wanted = chosen_rows([f"r{i}" for i in range(40)], 0.4, "recording")
    assert wanted is not None
    assert [r.inputs.rows.request_ids for r in recorded(tmp_path)] == [[f"r{i}"] for i in wanted]
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "other", pipelines=["another"]) as started:
        await started.ask("scored", batch_of(["ab"], [1.0]))
    assert not (tmp_path / "other" / "recordings").exists()


async def test_a_folder_that_cannot_be_written_disturbs_nobody_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_AGAIN_S", 0.05)
    (tmp_path / "recordings").write_text("a file stands in the way")
    async with running(tmp_path) as started:

        async def ask() -> None:
            assert not (await started.ask("scored", batch_of(["ab"], [1.0]))).batch.errors

        async def until(name: str, least: float, **labels: str) -> None:
            async with asyncio.timeout(60):
                while metric(started, name, **labels) < least:
                    await ask()

        await until("router_unrecorded_rows_total", 3, reason="disk")
        assert metric(started, "router_recording") == 0
        (tmp_path / "recordings").unlink()
        await until("router_recorded_rows_total", 2)
        assert metric(started, "router_recording") == 1
    assert len(recorded(tmp_path)) >= 2


async def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, max_waiting_bytes=1) as started:
        released = asyncio.Event()

        async def hold(*_: object) -> None:
            await released.wait()

        monkeypatch.setattr(asyncio, "to_thread", hold)
        for i in range(10):
            await started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
        monkeypatch.undo()
        # One is being written, one waits.
        assert metric(started, "router_unrecorded_rows_total", reason="full") == 8
        released.set()
