"""What control makes of verdicts, over its socket."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.api.control.v1 import ladder_pb2 as pb
from headrace.catalog.access import LeaseToken
from headrace.catalog.errors import LeaseLostError, RecordsUnavailableError
from headrace.catalog.remote import RemoteRecords
from headrace.releases import Freeze, Rollout
from headrace.releases.document import OneOf, Rule, Shadow
from headrace.releases.ladder import LEASE, Action, Answer, Report, RolloutVerdict, answer_of, report_message
from headrace.releases.of_records import RecordReleases
from tests.control_service import Here
from tests.libs.resources.following import until
from tests.services.control.following import LONG_S
from tests.services.monitoring.rollout_simulation import CANARY, keep_documents, release_of


class Judge:
    """Reports verdicts on `p`."""

    def __init__(self, records: RemoteRecords) -> None:
        self.records, self.store = records, RecordReleases(records)
        self.lease = records.take_lease(LEASE, "me", LONG_S)

    def say(self, verdict: RolloutVerdict, number: int = 2, **more: Any) -> Answer:
        about = {"pipeline": "p", "lease": self.lease, "reason": "so it is", **more}
        report = Report(number=number, verdict=verdict, **about)
        return answer_of(self.records.report_verdict(report_message(report)))

    @property
    def number(self) -> int:
        return self.store.history("p")[0].number


@pytest.fixture
def judge(records: RemoteRecords) -> Judge:
    """A rollout at its first weight, which control has begun as release 2."""
    found = Judge(records)
    keep_documents(found.store, "p")
    rollout = Rollout(arm=CANARY, ladder=(0.05, 0.5, 1.0), stage_s=0.001)
    named = {
        "rules": (Rule(name="own", when={"@tenant": OneOf(any=("us",))}, arm=CANARY),),
        "shadow": Shadow(arm=CANARY),
    }
    found.store.commit(release_of(rollout).model_copy(update={"number": 1, "parent": 0, **named}))
    until(lambda: found.number == 2)
    return found


def test_a_rollout_is_moved_by_verdicts_alone(judge: Judge, control: Here) -> None:
    held = judge.say(RolloutVerdict.MAY_STEP_UP, weight=0.3, reason="errors: an excess allows 30.00%")
    assert (held.action, held.number, held.weight) == (Action.HOLD, 2, 0.05)
    assert held.reason == "errors: an excess allows 30.00%, the next step is 50.00%"
    assert judge.say(RolloutVerdict.NOT_KNOWN, reason="no counts arrive").reason == "no counts arrive"
    assert judge.number == 2
    stepped = judge.say(RolloutVerdict.MAY_STEP_UP, weight=0.5, figures="errors: 0 bad of 9000")
    assert (stepped.action, stepped.number, stepped.weight) == (Action.STEP, 3, 0.5)
    assert stepped.ends is not None
    assert judge.store.history("p")[0].reason == "from 5.00% to 50.00%. errors: 0 bad of 9000"
    ended = judge.say(RolloutVerdict.HARM, 3, reason="harm by errors")
    assert (ended.action, ended.reason) == (Action.ROLL_BACK, "harm by errors at 50.00%")
    # Nothing leads to the bad arm any more.
    assert (judge.store.history("p")[0].rules, judge.store.history("p")[0].shadow) == ((), None)
    assert judge.say(RolloutVerdict.HARM, 4).reason == "it is over: rolled_back"
    assert judge.number == 4
    labels = {"pipeline": "p", "action": "roll back", "verdict": "harm"}
    assert control.metric("headrace_rollout_changes_total", **labels) == 1


@pytest.mark.parametrize("number", [1, 3, 0])
def test_a_verdict_on_another_release_is_stale(judge: Judge, number: int) -> None:
    answer = judge.say(RolloutVerdict.HARM, number)
    assert (answer.action, answer.number, judge.number) == (Action.HOLD, 2, 2)
    assert "stale: release 2 is the newest" in answer.reason


def test_without_the_lease_of_who_judges_nothing_is_done(judge: Judge) -> None:
    for lease in ("", "x"):
        with pytest.raises(LeaseLostError):
            judge.say(RolloutVerdict.HARM, lease=lease)
    judge.records.give_back(LeaseToken(LEASE, judge.lease))
    with pytest.raises(LeaseLostError):
        judge.say(RolloutVerdict.HARM)
    assert judge.number == 2


def test_frozen_nothing_is_done(judge: Judge) -> None:
    judge.store.freeze(Freeze("carol", "incident", datetime.now(UTC)))
    assert judge.say(RolloutVerdict.HARM).reason == "frozen: nothing changes by itself"
    assert judge.number == 2
    judge.store.freeze(None)
    assert judge.say(RolloutVerdict.HARM).action is Action.ROLL_BACK


def test_what_is_no_rollout_is_answered_so(judge: Judge) -> None:
    assert judge.say(RolloutVerdict.HARM, pipeline="unknown").reason == "rollout: there is none"
    with pytest.raises(RecordsUnavailableError, match="one of RolloutVerdict"):
        judge.records.report_verdict(pb.ReportVerdictRequest(pipeline="p", number=2))
    assert judge.number == 2
