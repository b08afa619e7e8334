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
from headrace.columns import Batch, Column
from headrace.events import EventGroup, Mask, messages
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from services.monitoring.wiring import SERVICE
from tests.services.monitoring.monitoring_calls import call, report
from tests.services.monitoring.monitoring_events import SALT, group

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


async def record(harness: Harness, events: EventGroup, *explained: pb.Explanation, demanded: int = 0) -> int:
    told = pb.ExplanationReport(explanations=explained)
    told.demanded.add(pipeline="flights", prediction_count=demanded or len(events))
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


async def test_explanations_outlive_a_restart_and_count_once(tmp_path: Path) -> None:
    events = group(1, 4, now=time.time())
    sent = pb.ExplanationReport(
        explanations=[explanation(i) for i in ids(events)[:3]],
        demanded=[pb.DemandedExplanations(pipeline="flights", prediction_count=4)],
        number=1,
    )
    for stored in ((3, 0), (0, 0)):
        async with served(SERVICE, settings(tmp_path)) as harness:
            await report(harness, events=messages.write("router-1", 7, 0, [events]))
            for count in stored:
                assert (await report(harness, explanations=sent)).explanations.stored_count == count
            assert metric(harness, "headrace_monitoring_explanation_coverage", pipeline="flights") == 0.75
            reply = await call(harness, "GetExplanationCoverage", pb.GetExplanationCoverageRequest())
            [covered] = reply.pipelines
            assert (covered.pipeline, covered.prediction_count, covered.explained_count) == ("flights", 4, 3)
            await call(
                harness, "GetExplanation", pb.GetExplanationRequest(prediction_id=ids(events)[2].hex())
            )


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
