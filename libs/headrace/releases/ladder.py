"""What is said of a rollout to control, which moves it, and what control answers: values, and the messages that carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from headrace.api.control.v1 import ladder_pb2 as pb
from headrace.releases.document import LIVE

# Who judges rollouts holds this lease.
LEASE = "rollouts"


class RolloutVerdict(StrEnum):
    """What the evidence says of the new arm; see ladder.proto."""

    NOT_KNOWN = "not known"
    HARM = "harm"
    SAMPLE_RATIO_BROKEN = "sample ratio broken"
    MAY_STEP_UP = "may step up"
    PROVEN_FINE = "proven fine"


class Action(StrEnum):
    """What becomes of the rollout."""

    HOLD = "hold"
    START = "start"
    STEP = "step up"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict on release `number`. `weight`: the highest that the evidence allows; `reason`: in a few words; `figures`: of what
    was looked at. `lease`: token of the lease. `suspicion`: what the rollout pauses for; empty: nothing."""

    pipeline: str
    number: int
    verdict: RolloutVerdict
    reason: str
    figures: str = ""
    weight: float = 0.0
    lease: str = ""
    suspicion: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was done. `number`: of the newest release; `weight`: of the new arm; `reason`: why, or what is waited for; `ends`: the
    deadline, in seconds since 1970."""

    action: Action
    number: int
    weight: float
    reason: str
    ends: float | None = None


def canary_share(weights: Mapping[str, float], arm: str) -> float:
    """The arm's share of what it divides with the live one (other arms have theirs)."""
    both = weights.get(arm, 0.0) + weights.get(LIVE, 0.0)
    return round(weights.get(arm, 0.0) / both, 9) if both else 0.0


def report_message(report: Report) -> pb.ReportVerdictRequest:
    """The whole report."""
    return pb.ReportVerdictRequest(
        pipeline=report.pipeline,
        number=report.number,
        verdict=f"ROLLOUT_VERDICT_{report.verdict.name}",
        allowed_weight=report.weight,
        reason=report.reason,
        figures=report.figures,
        lease_token=report.lease,
        suspicion=report.suspicion,
    )


def report_of(message: pb.ReportVerdictRequest) -> Report:
    """Inverse of `report_message`. Raises ValueError: there is no such verdict."""
    name = pb.RolloutVerdict.Name(message.verdict).removeprefix("ROLLOUT_VERDICT_")
    if name not in RolloutVerdict.__members__:
        raise ValueError("no verdict is named")
    return Report(
        message.pipeline,
        message.number,
        RolloutVerdict[name],
        message.reason,
        message.figures,
        message.allowed_weight,
        message.lease_token,
        message.suspicion,
    )


def answer_message(answer: Answer) -> pb.ReportVerdictResponse:
    """The whole answer."""
    action, weight, reason = f"LADDER_ACTION_{answer.action.name}", answer.weight, answer.reason
    message = pb.ReportVerdictResponse(action=action, number=answer.number, weight=weight, reason=reason)
    if answer.ends is not None:
        message.deadline_time.FromMilliseconds(round(answer.ends * 1000))
    return message


def answer_of(message: pb.ReportVerdictResponse) -> Answer:
    """Inverse of `answer_message`."""
    action = Action[pb.LadderAction.Name(message.action).removeprefix("LADDER_ACTION_")]
    ends = message.deadline_time.ToMilliseconds() / 1000 if message.HasField("deadline_time") else None
    return Answer(action, message.number, message.weight, message.reason, ends)
