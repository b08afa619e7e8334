"""The monitoring service over its socket: ticks and outcomes in, typed refusals, rollouts judged, with the next
release in the store."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.api.monitoring.v1 import accuracy_pb2, cost_pb2, events_pb2, explanations_pb2, facts_pb2
from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.events import messages
from headrace.hop.call import Call, Peer, methods_of
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from headrace.releases import Experiment, Guard, Release, Rollout, RolloutState
from headrace.releases.document import LIVE
from headrace.releases.of_records import RecordReleases
from headrace.ticks import LATENCY_BUCKETS, ArmFigures, ArmName, AssignedFigures, Tick
from services.monitoring.accuracy.servicer import AccuracyServicer
from services.monitoring.cost.servicer import CostServicer
from services.monitoring.database import periodic
from services.monitoring.events.servicer import EventsServicer
from services.monitoring.explanations.servicer import ExplanationsServicer
from services.monitoring.intake.servicer import FactsServicer
from services.monitoring.outcomes.records import Judged
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.outcomes.tables import OUTCOMES
from services.monitoring.servicer import AnalysisServicer, MonitoringServicer
from services.monitoring.wiring import SERVICE
from tests.disks import fill, tiny_disk
from tests.released import Released, released
from tests.services.monitoring.monitoring_calls import call
from tests.services.monitoring.monitoring_calls import report as reported
from tests.services.monitoring.monitoring_events import answered
from tests.services.monitoring.monitoring_outcomes import facts_at
from tests.services.monitoring.rollout_simulation import CANARY, keep_documents, release_of
from tests.services.waiting import until

FAST = 10


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Released]:
    with released(tmp_path / "control") as found:
        yield found


def begin(store: RecordReleases, rollout: Rollout, pipeline: str = "p") -> None:
    """The first release has this rollout, already at its first step."""
    about = {"since": 1, "started": datetime.now(UTC)}
    release = release_of(rollout.model_copy(update=about))
    share = rollout.ladder[0]
    assign = release.assign.model_copy(update={"weights": {LIVE: 1 - share, CANARY: share}})
    first = {"pipeline": pipeline, "number": 1, "parent": 0, "assign": assign}
    keep_documents(store, pipeline)
    store.commit(release.model_copy(update=first))


def settings(tmp_path: Path, releases: Released) -> dict[str, Any]:
    return {
        "database": str(tmp_path / "o"),
        "control": releases.client,
    }


def figures(requests: int, bad: int) -> ArmFigures:
    answers = tuple(requests if i == FAST else 0 for i in range(LATENCY_BUCKETS))
    return ArmFigures(
        requests, bad, answers, assigned=AssignedFigures(requests, bad_requests=bad, answers=answers)
    )


async def report(harness: Harness, sequence: int, release: int, counts: Mapping[str, ArmFigures]) -> None:
    arms = {ArmName("p", release, arm): f for arm, f in counts.items()}
    await reported(harness, Tick(7, sequence, 0, arms))


async def rollout_of(harness: Harness, pipeline: str = "p") -> pb.GetRolloutResponse:
    response: pb.GetRolloutResponse
    response = await call(harness, "GetRollout", pb.GetRolloutRequest(pipeline=pipeline))
    return response


async def ended_as(store: RecordReleases, state: RolloutState, pipeline: str = "p") -> Release:
    release, _ = store.current(pipeline)
    while release is not None and release.rollout.state == RolloutState.RUNNING:
        await asyncio.sleep(0.02)
        release, _ = store.current(pipeline)
    assert release is not None
    assert release.rollout.state == state
    return release


@pytest.fixture
def rollout() -> Rollout:
    # All counts are there at once, so stages may be short.
    return Rollout(arm=CANARY, ladder=(0.5, 1.0), stage_s=0.1)


async def test_one_of_two_services_judges_and_the_audit_says_so(
    tmp_path: Path, releases: Released, rollout: Rollout
) -> None:
    store = releases.store
    begin(store, rollout)
    first = settings(tmp_path, releases)
    async with served(SERVICE, first) as one:
        while not (await rollout_of(one)).leads:
            await asyncio.sleep(0.02)
        async with served(SERVICE, {**first, "database": str(tmp_path / "o2")}) as other:
            while "another analyser" not in (await rollout_of(other)).problem:
                await asyncio.sleep(0.02)
            for harness in (one, other):
                await report(harness, 1, 1, {LIVE: figures(500, 0), CANARY: figures(500, 60)})
            ended = await ended_as(store, RolloutState.ROLLED_BACK)
    assert ended.number == 2
    assert "harm by errors" in ended.rollout.verdict
    line = json.loads(list(store.records.lines())[-1].line)
    assert (line["actor"], line["subject"], line["details"]["number"]) == ("ladder", "p", "2")
    assert "harm by errors" in line["details"]["verdict"]


async def test_a_good_canary_is_promoted_across_a_restart(
    tmp_path: Path, releases: Released, rollout: Rollout
) -> None:
    store = releases.store
    begin(store, rollout)
    candidate = store.current("p")[0].arms[CANARY]
    sequence, counts = 0, dict[ArmName, ArmFigures]()
    for number in (1, 2):  # another service takes over when the canary has all rows
        async with served(SERVICE, settings(tmp_path, releases)) as harness:
            while (release := store.current("p")[0]).number == number:
                sequence += 1
                # Rows go on coming, else the rollout would wait for them.
                rows = {CANARY: figures(5000 + 100 * sequence, 5)}
                if number == 1:
                    rows[LIVE] = figures(5000 + 100 * sequence, 5)
                counts |= {ArmName("p", number, arm): of for arm, of in rows.items()}
                first = 2000 * sequence + 1
                answers = [
                    answered([1] * 1000, first=first + 1000 * i, release=number, arm=arm, pipeline="p")
                    for i, arm in enumerate(rows)
                ]
                events = messages.write("r", 7, 0, answers)
                await reported(harness, Tick(7, sequence, 0, counts), events=events)
                await asyncio.sleep(0.02)
        assert release.rollout.state == (RolloutState.RUNNING if number == 1 else RolloutState.PROMOTED)
    ended = store.current("p")[0]
    assert ended.rollout.state == RolloutState.PROMOTED
    assert ended.live == candidate
    assert "non_finite: canary 0 bad of" in ended.rollout.verdict


async def answer(harness: Harness, rows: int, release: int, *, keyed: bool = False) -> None:
    """Chance sent as many rows to each arm, late they said: r1 and so on are the live arm's. Returns when they are stored."""
    groups = [
        answered(
            [1] * rows,
            first=i * rows + 1,
            drawn=[True] * rows,
            keys=[f"{arm}{k}" for k in range(rows)] if keyed else (),
            arm=arm,
            release=release,
        )
        for i, arm in enumerate((LIVE, CANARY))
    ]
    await reported(harness, events=messages.write("router", 7, 2 * rows, groups))
    value = harness.runtime.telemetry.registry.get_sample_value
    await until(lambda: value("headrace_outcomes_predictions_total") == 2 * rows)


async def test_wrong_predictions_are_judged_by_their_outcomes(
    tmp_path: Path, releases: Released, rollout: Rollout
) -> None:
    guards = {"wrong": Guard()}
    store = releases.store
    begin(store, rollout.model_copy(update={"guards": guards}), "flights")
    # The live arm is wrong in a tenth, the canary in nearly all.
    outcomes = [
        pb.Outcome(request_id=f"r{i}", name="late", label=(i % 10 == 0) == (i > 200)) for i in range(1, 401)
    ]
    async with served(SERVICE, settings(tmp_path, releases)) as harness:
        await answer(harness, 200, release=1)
        await call(harness, "RecordOutcomes", pb.RecordOutcomesRequest(tenant="acme", outcomes=outcomes))
        ended = await ended_as(store, RolloutState.ROLLED_BACK, "flights")
    assert "harm by wrong" in ended.rollout.verdict


async def test_it_says_how_a_rollout_stands_while_it_waits(
    tmp_path: Path, releases: Released, rollout: Rollout
) -> None:
    begin(releases.store, rollout)
    async with served(SERVICE, settings(tmp_path, releases)) as harness:
        while not (status := await rollout_of(harness)).release:
            await asyncio.sleep(0.02)
        assert (status.leads, status.problem, status.action) == (True, "", "hold")
        assert (status.verdict, status.weight) == ("not enough data", 0.5)
        assert status.reason.startswith("no counts arrive. errors: canary 0 bad of 0")
        assert status.waits_for == "no counts arrive"
        errors = status.guards[0]
        assert (errors.guard, errors.live.unit_count, errors.live.high) == ("errors", 0, 1.0)
        left = status.deadline_time.ToSeconds() - status.look_time.ToSeconds()
        assert 0 < left <= rollout.deadline_s
        # Too few to decide, so it goes on waiting.
        await report(harness, 1, 1, {LIVE: figures(40, 0), CANARY: figures(40, 1)})
        while not (status := await rollout_of(harness)).guards[0].canary.unit_count:
            await asyncio.sleep(0.02)
        canary = status.guards[0].canary
        assert (canary.unit_count, canary.bad_count) == (40, 1)
        assert 0 < canary.low < 1 / 40 < canary.high < 1
        assert (await rollout_of(harness, "unknown")).release == 0
    async with served(SERVICE, {"database": str(tmp_path / "o")}) as harness:
        assert "not judged here" in (await rollout_of(harness)).problem


async def test_an_experiment_is_read_out(tmp_path: Path, releases: Released, rollout: Rollout) -> None:
    store = releases.store
    begin(store, rollout, "flights")
    experiment = Experiment(name="price", arms=(LIVE, CANARY), outcome="revenue")
    release = store.current("flights")[0]
    store.commit(release.next("me", "test", rollout=None, experiment=experiment))
    outcomes = [
        pb.Outcome(request_id=f"r{i}", name="revenue", number=(i > 200) + i % 3) for i in range(1, 401)
    ]
    async with served(SERVICE, settings(tmp_path, releases)) as harness:
        await answer(harness, 200, release=2, keyed=True)
        await call(harness, "RecordOutcomes", pb.RecordOutcomesRequest(tenant="acme", outcomes=outcomes))
        found = await call(harness, "ReadExperiment", pb.ReadExperimentRequest(pipeline="flights"))
        assert (found.experiment, found.phase, found.sample_ratio_expected) == ("price", 1, True)
        live, canary = found.arms
        assert (live.arm, live.exposed_key_count, live.outcome_key_count) == (LIVE, 200, 200)
        assert not live.HasField("difference")
        assert canary.difference.low < 1 < canary.difference.high
        assert canary.mean - live.mean == pytest.approx(canary.difference.value)
        none = await call(harness, "ReadExperiment", pb.ReadExperimentRequest(pipeline="unknown"))
        assert none == pb.ReadExperimentResponse()


def outcomes(*requests: str, tenant: str = "acme") -> pb.RecordOutcomesRequest:
    return pb.RecordOutcomesRequest(
        tenant=tenant, outcomes=[pb.Outcome(request_id=r, name="late", label=False) for r in requests]
    )


NO_TICK = facts_pb2.ReportRequest(tick=pb.TickReport(sequence=1))
TOO_MANY = outcomes(*map(str, range(1001)))


def metric(harness: Harness, name: str) -> float | None:
    return harness.runtime.telemetry.registry.get_sample_value(f"headrace_monitoring_{name}")


async def test_ticks_and_outcomes_meet_in_the_database(address: str) -> None:
    async with served(SERVICE, {"database": address}) as harness:
        assert not (await reported(harness, Tick(7, 1, 0))).tick.behind
        await answer(harness, 1, release=3)
        second = (await reported(harness, Tick(8, 5, 4))).tick
        assert (second.behind, second.live_router_count) == (True, 2)
        reply = await call(harness, "RecordOutcomes", outcomes("r1", "r2", "unknown"))
        assert reply.accepted_count == 3
        again = await call(harness, "RecordOutcomes", outcomes("r1"))
        assert again.accepted_count == 1
        counted = ("ticks_total", "outcomes_total", "unmatched_outcomes_total", "routers")
        assert [metric(harness, name) for name in counted] == [2, 3, 1, 2]
    with closing(facts_at(address)) as facts:
        assert OutcomeStore(facts).judged("flights") == {(3, LIVE): Judged(1, 1), (3, CANARY): Judged(1, 1)}


async def test_values_and_times_are_stored(tmp_path: Path) -> None:
    at = Timestamp(seconds=50, nanos=500_000_000)
    one = pb.Outcome(request_id="a", row=2, name="revenue", number=12.5, time=at)
    request = pb.RecordOutcomesRequest(tenant="acme", outcomes=[one])
    async with served(SERVICE, {"database": str(tmp_path / "o")}) as harness:
        await call(harness, "RecordOutcomes", request)
    with closing(facts_at(tmp_path / "o")) as facts:
        [found] = facts.query(lambda connection: connection.execute(sa.select(OUTCOMES)).mappings().all())
    assert {"tenant": "acme", "row": 2, "value": 12.5, "label": 0, "time": 50.5}.items() <= found.items()


async def test_a_full_disk_is_a_typed_refusal_and_passes(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        async with served(SERVICE, {"database": str(folder / "o")}) as harness:
            filler = fill(folder, "filler")
            many = outcomes(*(f"{i}{'x' * 100}" for i in range(1000)))
            with pytest.raises(Fault) as raised:
                await call(harness, "RecordOutcomes", many)
            fault = raised.value
            assert (fault.code, fault.reason) == (Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE)
            assert str(folder) not in fault.message
            assert metric(harness, "storage_failing") == 1
            # Ticks are counted in memory.
            assert not (await reported(harness, Tick(7, 1, 0))).tick.behind
            filler.unlink()
            assert (await call(harness, "RecordOutcomes", many)).accepted_count == 1000
            assert metric(harness, "storage_failing") == 0


@pytest.mark.parametrize(
    ("name", "request_", "code", "reason"),
    [
        ("Report", NO_TICK, Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST),
        ("RecordOutcomes", TOO_MANY, Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE),
    ],
)
async def test_what_no_part_of_the_installation_sends_is_refused(
    name: str, request_: Any, code: Code, reason: Reason
) -> None:
    async with served(SERVICE) as harness:
        with pytest.raises(Fault) as raised:
            await call(harness, name, request_)
        assert (raised.value.code, raised.value.reason) == (code, reason)


SERVICERS = (
    (pb, "MonitoringService", MonitoringServicer),
    (pb, "AnalysisService", AnalysisServicer),
    (accuracy_pb2, "AccuracyService", AccuracyServicer),
    (cost_pb2, "CostService", CostServicer),
    (events_pb2, "EventsService", EventsServicer),
    (explanations_pb2, "ExplanationsService", ExplanationsServicer),
    (facts_pb2, "FactsService", FactsServicer),
)


@pytest.mark.parametrize(
    ("servicer", "method"),
    [(s, m) for module, name, s in SERVICERS for m in methods_of(module.DESCRIPTOR.services_by_name[name])],
)
async def test_strangers_are_refused(servicer: Any, method: Any) -> None:
    # Before anything of it is used.
    nothing = servicer.__new__(servicer)
    with pytest.raises(Fault) as raised:
        await getattr(nothing, method.name)(method.request(), Call("m", Peer("tcp")))
    assert raised.value.reason == Reason.REASON_PEER_UNTRUSTED


async def test_old_outcomes_are_swept_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "SWEEP_S", 0.01)
    async with served(SERVICE, {"database": str(tmp_path / "o"), "retention": {"days": 1e-9}}) as harness:
        await call(harness, "RecordOutcomes", outcomes("a", "b"))
        await until(lambda: metric(harness, "swept_rows_total") == 2)
