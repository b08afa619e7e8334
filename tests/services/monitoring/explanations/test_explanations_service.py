"""Stored explanations over their socket: found with their events, gone with them, covered and compared over groups."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.monitoring.v1 import events_pb2, explanations_pb2, monitoring_pb2
from headrace.columns import Batch, Column, decode
from headrace.events import EventGroup, Mask, messages
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from services.monitoring.wiring import SERVICE
from tests.services.monitoring.monitoring_calls import call, report
from tests.services.monitoring.monitoring_events import SALT, group
from tests.services.waiting import until

pb = explanations_pb2


def settings(folder: Path) -> dict[str, Any]:
    return {
        "events": {"files": str(folder / "events")},
        "database": str(folder / "facts.sqlite"),
    }


def ids(events: EventGroup) -> list[bytes]:
    return events.batch.columns["@event_id"].ragged.to_list()


def explanation(identity: bytes, added: Sequence[float] = (0.25, -1.0), **fields: Any) -> pb.Explanation:
    columns = ["x", "key"][: len(added)]
    given: dict[str, Any] = {
        "prediction_id": identity,
        "tenant": "acme",
        "pipeline": "flights",
        "revision": "f" * 64,
        "output": "y",
        "base": 2.0,
        "value": 2.0 + sum(added),
        "columns": columns,
        "contributions": added,
        "standard_errors": [0.01] * len(added),
        "base_sources": ["baseline"] * len(added),
        **fields,
    }
    return pb.Explanation(**given)


async def record(harness: Harness, events: EventGroup, *explained: pb.Explanation) -> int:
    told = pb.ExplanationReport(explanations=explained)
    parts: dict[str, Any] = {"events": messages.write("router-1", 7, 0, [events]), "explanations": told}
    return (await report(harness, **parts)).explanations.stored_count


def metric(harness: Harness, name: str, **labels: str) -> float | None:
    return harness.runtime.telemetry.registry.get_sample_value(name, labels)


async def test_an_explanation_comes_with_the_values_of_its_event(tmp_path: Path) -> None:
    events = group(1, 2, now=time.time(), mask=Mask(SALT))
    async with served(SERVICE, settings(tmp_path)) as harness:
        assert await record(harness, events, explanation(ids(events)[0])) == 1
        found = await call(
            harness, "GetExplanation", pb.GetExplanationRequest(prediction_id=ids(events)[0].hex())
        )
        # The largest first; personal data is not shown.
        assert list(found.explanation.columns) == ["key", "x"]
        assert list(found.explanation.contributions) == [-1.0, 0.25]
        assert json.loads(found.values_json[0]).startswith("hash:")
        assert json.loads(found.values_json[1]) == 1
        assert (found.explanation.base, found.explanation.value) == (2.0, 1.25)


async def given(
    harness: Harness, coverage: float = 1.0, columns: Sequence[str] = ("x", "key")
) -> list[bytes]:
    """The ids of what is given to a router that demands it; its values are those of the events."""
    demand = pb.ExplanationDemand(pipeline="flights", revision="f" * 64, coverage=coverage, columns=columns)
    reply = await call(harness, "NextPredictions", pb.NextPredictionsRequest(demands=[demand]))
    found: list[bytes] = []
    for predictions in reply.predictions:
        batch = decode(predictions.batch)
        assert (predictions.pipeline, list(batch.columns)) == ("flights", list(columns))
        numbers = batch.columns["x"].array.tolist()
        assert [f"k{n}".encode() for n in numbers] == batch.columns["key"].ragged.to_list()
        assert [f"r{n}" for n in numbers] == batch.rows.request_ids
        found += predictions.prediction_ids
    return found


async def covered(harness: Harness) -> list[tuple[int, int]]:
    """Predictions that must be explained, and that are."""
    reply = await call(harness, "GetExplanationCoverage", pb.GetExplanationCoverageRequest())
    return [(found.prediction_count, found.explained_count) for found in reply.pipelines]


async def test_what_lacks_an_explanation_is_given_once_and_anew_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.monitoring.database.periodic.SWEEP_S", 0.01)
    owners = ["many"] * 9 + ["few"]
    events = group(1, 160, now=time.time() - 120, tenants=owners)
    async with served(SERVICE, settings(tmp_path)) as harness:
        await record(harness, events)
        first = await given(harness)
        # Tenants take turns: the one with few has its sixteen, the newest of each are first.
        of_few = {ids(events)[i] for i in range(9, 160, 10)}
        assert of_few == {*first[:32]} & of_few
        assert (len(first), first[1]) == (128, ids(events)[158])
        second = await given(harness)
        assert {*first, *second} == {*ids(events)}
        assert not await given(harness)
        assert await record(harness, events, *map(explanation, first)) == 128
    async with served(SERVICE, settings(tmp_path)) as harness:
        assert await covered(harness) == []  # nobody has demanded anything yet
        assert sorted(await given(harness)) == sorted(second)
        assert await covered(harness) == [(160, 128)]
        name, labels = "headrace_monitoring_explanation_coverage", {"pipeline": "flights"}
        await until(lambda: metric(harness, name, **labels) == 0.8)
        monkeypatch.setattr("services.monitoring.explanations.explanations._MOST_PIPELINES", 1)
        other = pb.ExplanationDemand(pipeline="flights", revision="e" * 64, coverage=1.0, columns=["x"])
        await call(harness, "NextPredictions", pb.NextPredictionsRequest(demands=[other]))
        assert await covered(harness) == []  # the demand of longest ago is forgotten


async def test_a_share_is_the_same_at_each_look_and_old_ones_are_reached(tmp_path: Path) -> None:
    events = group(1, 1000, now=time.time() - 7200)
    found: list[set[bytes]] = []
    for _ in range(2):
        async with served(SERVICE, settings(tmp_path)) as harness:
            await record(harness, events)
            assert not await given(harness, 0.02)
            found.append({i for _ in range(14) for i in await given(harness, 0.02)})
            assert await covered(harness) == [(len(found[-1]), 0)]
    assert found[0] == found[1]
    assert 2 <= len(found[0]) < 60


@pytest.mark.parametrize(
    ("made", "due"),
    [
        ({"failed": (13, 2)}, []),
        ({"mask": Mask(SALT)}, [(3, 0)]),
        ({"now": -90_000.0}, []),
        ({"now": 0.0}, []),
        ({"pipeline": "other"}, []),
    ],
    ids=["failed", "personal data, whose hash explains nothing", "too old", "too young to count", "other"],
)
async def test_what_can_not_be_explained_is_not_given(
    tmp_path: Path, made: dict[str, Any], due: list[tuple[int, int]]
) -> None:
    now = time.time() + made.pop("now", -120.0)
    async with served(SERVICE, settings(tmp_path)) as harness:
        await record(harness, group(1, 3, now=now, **made))
        assert len(await given(harness)) == (3 if now > time.time() - 60 else 0)
        assert await covered(harness) == due


async def test_a_demand_of_nothing_is_refused() -> None:
    async with served(SERVICE, {}) as harness:
        for wrong in ({"coverage": 1.5}, {"columns": ()}):
            with pytest.raises(Fault, match="a demand has a pipeline"):
                await given(harness, **wrong)
        assert await given(harness) == []  # no events are kept here


async def test_what_is_erased_with_its_event_does_not_come_back(tmp_path: Path) -> None:
    events = group(1, 3, now=time.time())
    async with served(SERVICE, settings(tmp_path)) as harness:
        await record(harness, events, *map(explanation, ids(events)[:2]))
        subject = events_pb2.EventSubject(column="key", value="k2")
        await call(harness, "EraseEvents", events_pb2.EraseEventsRequest(tenant="acme", subjects=[subject]))
        await call(harness, "EraseEvents", events_pb2.EraseEventsRequest(tenant="acme", request_ids=["r3"]))
        late = pb.ExplanationReport(explanations=[explanation(i) for i in ids(events)])
        # The first one is there already; the others may not come any more.
        assert (await report(harness, explanations=late)).explanations.stored_count == 0
        for identity in ids(events)[1:]:
            with pytest.raises(Fault) as caught:
                await call(harness, "GetExplanation", pb.GetExplanationRequest(prediction_id=identity.hex()))
            assert caught.value.reason == Reason.REASON_PREDICTION_UNKNOWN


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"prediction_id": b"short"}, "prediction_id has 16 bytes"),
        ({"pipeline": ""}, "pipeline is empty"),
        ({"contributions": [1.0]}, "one value for each"),
        ({"columns": [], "contributions": [], "standard_errors": [], "base_sources": []}, "1 to 256 columns"),
        ({"value": float("nan")}, "finite"),
    ],
)
async def test_what_no_router_sends_is_refused(changed: dict[str, Any], words: str) -> None:
    async with served(SERVICE, {}) as harness:
        wrong = pb.ExplanationReport(explanations=[explanation(b"i" * 16, **changed)])
        receipt = (await report(harness, explanations=wrong)).explanations
        assert (receipt.stored_count, receipt.dropped_count, receipt.again) == (0, 1, False)
        assert words in receipt.problem


async def test_unknown_predictions_and_pipelines_without_any_are_said(tmp_path: Path) -> None:
    async with served(SERVICE, settings(tmp_path)) as harness:
        for identity, code in (
            ("ab" * 16, Code.NOT_FOUND),
            ("ab", Code.INVALID_ARGUMENT),
            ("?", Code.INVALID_ARGUMENT),
        ):
            with pytest.raises(Fault) as caught:
                await call(harness, "GetExplanation", pb.GetExplanationRequest(prediction_id=identity))
            assert caught.value.code is code
        with pytest.raises(Fault, match="no predictions") as caught:
            await call(harness, "GetBiasSlices", pb.GetBiasSlicesRequest(pipeline="other", column="x"))
        assert caught.value.code is Code.NOT_FOUND


def carriers(events: EventGroup, names: Sequence[str]) -> EventGroup:
    """The events with other texts in the input `key`."""
    columns = {**events.batch.columns, "key": Column.of_text("key", list(names))}
    return EventGroup(events.header, Batch(events.batch.rows, columns))


async def test_groups_are_compared(tmp_path: Path) -> None:
    count = 90
    names = ["UA"] * 50 + ["AA"] * 35 + ["B6"] * 3 + ["WN"] * 2
    events = carriers(group(1, count, now=time.time()), names)
    async with served(SERVICE, settings(tmp_path)) as harness:
        explained = [
            explanation(i, (0.0, 1.0 if n == "UA" else -3.0)) for i, n in zip(ids(events), names, strict=True)
        ]
        await record(harness, events, *explained)
        failed = group(
            count + 1, 2, now=time.time(), failed=(int(Code.INTERNAL), int(Reason.REASON_INTERNAL))
        )
        header = replace(failed.header, outputs=())
        columns = [column for name, column in failed.batch.columns.items() if name != "y"]
        await record(harness, EventGroup(header, Batch.of(failed.batch.rows, columns)))
        outcomes = [
            monitoring_pb2.Outcome(request_id=f"r{n}", row=0, name="wrong", label=n % 5 == 0)
            for n in range(1, 51)
        ]
        await call(
            harness, "RecordOutcomes", monitoring_pb2.RecordOutcomesRequest(tenant="acme", outcomes=outcomes)
        )
        reply = await call(
            harness, "GetBiasSlices", pb.GetBiasSlicesRequest(pipeline="flights", column="key")
        )
        assert (reply.output, reply.prediction_count, reply.truncated) == ("y", count, False)
        assert [(s.group, s.group_count) for s in reply.slices] == [("UA", 1), ("AA", 1), ("", 2)]
        first, second, rest = reply.slices
        numbers = np.array([n for n in range(1, 51) if n % 3], float)  # y is null for every third
        assert first.output.prediction_count == len(numbers)
        assert first.output.mean == pytest.approx(numbers.mean())
        half = 1.96 * numbers.std(ddof=1) / np.sqrt(len(numbers))
        assert first.output.low == pytest.approx(numbers.mean() - half, rel=1e-3)
        assert (first.wrong.prediction_count, first.wrong.mean) == (50, 0.2)
        assert 0.1 < first.wrong.low < 0.2 < first.wrong.high < 0.34
        assert (first.contribution.mean, second.contribution.mean) == (1.0, -3.0)
        assert not second.wrong.HasField("mean")
        assert (rest.contribution.prediction_count, rest.contribution.mean) == (5, -3.0)


@pytest.mark.parametrize(
    ("fields", "masked", "cause", "words"),
    [
        ({"column": "colour"}, False, "unknown", "it has: x, key, vector"),
        ({"column": "key"}, True, "masked", "personal data"),
        ({"column": "vector"}, False, "values", "several values"),
        ({"column": "x", "output": "key"}, False, "output", "name one of: y"),
    ],
)
async def test_columns_that_make_no_groups_are_refused(
    tmp_path: Path, fields: dict[str, Any], masked: bool, cause: str, words: str
) -> None:
    events = group(1, 3, now=time.time(), mask=Mask(SALT) if masked else None)
    async with served(SERVICE, settings(tmp_path)) as harness:
        await record(harness, events)
        with pytest.raises(Fault, match=words) as caught:
            await call(harness, "GetBiasSlices", pb.GetBiasSlicesRequest(pipeline="flights", **fields))
        assert (caught.value.code, caught.value.metadata["cause"]) == (Code.INVALID_ARGUMENT, cause)
