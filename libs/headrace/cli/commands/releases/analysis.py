"""`headrace rollout status` and `headrace experiment status`: how the monitoring service sees them now."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.cli.commands.operations import door_calls
from headrace.cli.commands.releases.place import PipelineName, ReleasePlace, opened
from headrace.cli.commands.releases.views import STATES, say_frozen, weights
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, out
from headrace.cli.tables import headed_table, print_rows
from headrace.pipeline.guards import judging
from headrace.releases import Release, RolloutState
from headrace.releases.document import Experiment, Rollout

_SERVICE = "/headrace.api.operations.v1.OperationsService/"
_ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED)
_VERDICTS = {"harm": "red", "proven fine": "green"}
_MS = 1e3
Reply = TypeVar("Reply", bound=Message)
Row = tuple[str, Any]


def rollout_status(pipeline: PipelineName, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show how a rollout stands: its step and weights, what is counted and proven by now, and what is waited for."""
    with opened(home) as at:
        release = at.basis(pipeline).current
        rollout = release.rollout
        found, problem = None, ""
        if rollout is not None and rollout.state in _ACTIVE:
            found, problem = _rollout(at, pipeline)
        if as_json:
            _print_json(release, "rollout", rollout, found, problem)
        elif rollout is None:
            out.print(f"{pipeline}: there was no rollout yet; start one: headrace rollout start {pipeline}")
        else:
            _say_silent(problem)
            print_rows(_rollout_rows(release, rollout) + (_look_rows(found) if found else []))
            if found and found.guards:
                _print_guards(found)
            say_frozen(at)


def experiment_status(pipeline: PipelineName, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show what the arms of an experiment brought by now, with intervals that hold at every look."""
    with opened(home) as at:
        release = at.basis(pipeline).current
        experiment = release.experiment
        found, problem = None, ""
        if experiment is not None:
            found, problem = _experiment(at, pipeline)
        if as_json:
            _print_json(release, "experiment", experiment, found, problem)
        elif experiment is None:
            out.print(f"{pipeline}: no experiment runs; start one: headrace experiment start {pipeline}")
        else:
            _say_silent(problem)
            print_rows(_experiment_rows(release, experiment, found))
            if found:
                _print_arms(found)


def _rollout(at: ReleasePlace, pipeline: str) -> tuple[monitoring_pb2.GetRolloutResponse | None, str]:
    """The analyser's last look, or why there is none."""
    reply, problem = _asked(at, "GetRollout", pb.GetRolloutRequest(pipeline=pipeline), pb.GetRolloutResponse)
    if reply is None:
        return None, problem
    found = reply.rollout
    return (found, "") if found.release else (None, found.problem or "it has not looked yet")


def _experiment(at: ReleasePlace, pipeline: str) -> tuple[monitoring_pb2.ReadExperimentResponse | None, str]:
    """The read-out, or why there is none."""
    request = pb.ReadExperimentRequest(pipeline=pipeline)
    reply, problem = _asked(at, "ReadExperiment", request, pb.ReadExperimentResponse)
    if reply is None:
        return None, problem
    found = reply.experiment
    return (found, "") if found.experiment else (None, "it does not know this experiment")


def _asked(at: ReleasePlace, name: str, request: Message, reply: type[Reply]) -> tuple[Reply | None, str]:
    """The door's answer, or why there is none."""
    try:
        return door_calls.answer(at.door, _SERVICE + name, request, reply), ""
    except door_calls.NoAnswerError as error:
        return None, str(error)


def _print_json(
    release: Release, kind: str, about: Rollout | Experiment | None, found: Message | None, problem: str
) -> None:
    told = {
        "number": release.number,
        kind: about.model_dump(mode="json") if about else None,
        "weights": dict(release.assign.weights),
        "analysis": MessageToDict(found, preserving_proto_field_name=True) if found is not None else None,
        "analysis_problem": problem or None,
    }
    print(json.dumps(told, indent=2))


def _say_silent(problem: str) -> None:
    if problem:
        text = f"monitoring does not answer ({problem}); from the release document:"
        err.print(text, style="yellow", markup=False, soft_wrap=True)


def _rollout_rows(release: Release, rollout: Rollout) -> list[Row]:
    ladder = " → ".join(
        f"[bold]{share:.0%}[/]" if i == rollout.step else f"{share:.0%}"
        for i, share in enumerate(rollout.ladder)
    )
    guards = ", ".join(
        f"{n}{'' if g.required else ' (not required)'}" for n, g in judging(rollout.guards).items()
    )
    return [
        ("release", str(release.number)),
        ("arm", rollout.arm),
        ("state", Text(rollout.state, style=STATES[rollout.state])),
        ("ladder", ladder),
        ("weights", weights(release)),
        ("guards", guards),
        ("started", f"{rollout.started:%Y-%m-%d %H:%M:%S %Z}" if rollout.started else ""),
        ("deadline", f"{rollout.deadline_s:g} s, then {rollout.otherwise.replace('_', ' ')}"),
        ("verdict", Text(rollout.verdict or "none yet")),
    ]


def _look_rows(found: monitoring_pb2.GetRolloutResponse) -> list[Row]:
    looked = _date(found.look_time)
    ago = (datetime.now(UTC) - looked).total_seconds()
    rows: list[Row] = [("looked at", f"{looked:%H:%M:%S %Z}, {max(ago, 0):.0f} s ago")]
    if not found.leads:
        rows.append(("analyser", Text("stands by; another one judges, or none", style="yellow")))
    if found.problem:
        rows.append(("problem", Text(found.problem, style="yellow")))
    if found.action:
        rows.append(("now", Text(f"{found.action}: {found.waits_for or found.reason}")))
    if found.HasField("deadline_time"):
        ends = _date(found.deadline_time)
        left = (ends - datetime.now(UTC)).total_seconds()
        rows.append(("time left", f"{max(left, 0):.0f} s, until {ends:%Y-%m-%d %H:%M:%S %Z}"))
    if found.unit_count:
        ratio = (
            f"evidence {found.sample_ratio_evidence:.3g} of 1000 against it, from {found.unit_count} units"
        )
        rows.append(("sample ratio", ratio))
    return rows


def _print_guards(found: monitoring_pb2.GetRolloutResponse) -> None:
    table = headed_table("guard", "canary", "live", "harm", "fine", "excess", "verdict")
    for guard in found.guards:
        if guard.says and not guard.fine_evidence:
            continue  # it compares no rates
        over = f" over {guard.slow_over_s * _MS:g} ms" if guard.slow_over_s else ""
        table.add_row(
            guard.guard + over,
            _rate(guard.canary),
            _rate(guard.live),
            f"{guard.harm_evidence:.3g} of {guard.harm_threshold:.3g}",
            f"{guard.fine_evidence:.3g} of {guard.fine_threshold:.3g}",
            f"at most {guard.excess:.2%} of {guard.excess_allowed:.2%}",
            Text(guard.verdict, style=_VERDICTS.get(guard.verdict, "")),
        )
    out.print()
    out.print(table)
    for guard in found.guards:
        unknown = f"not known: {guard.unknown}" if guard.unknown else ""
        if text := "; ".join(filter(None, (guard.says, unknown))):
            out.print(f"{guard.guard} ({guard.action}): {text}", markup=False, soft_wrap=True)


def _rate(found: monitoring_pb2.RateFigures) -> str:
    if not found.unit_count:
        return "none yet"
    share = found.bad_count / found.unit_count
    return f"{found.bad_count} of {found.unit_count}: {share:.2%} ({found.low:.2%} … {found.high:.2%})"


def _experiment_rows(
    release: Release, experiment: Experiment, found: monitoring_pb2.ReadExperimentResponse | None
) -> list[Row]:
    rows: list[Row] = [
        ("release", str(release.number)),
        ("experiment", f"{experiment.name}, phase {experiment.phase}"),
        ("outcome", experiment.outcome),
        ("weights", weights(release)),
    ]
    if found is None:
        return rows
    if found.sample_ratio_expected:
        rows.append(("sample ratio", "as the weights say"))
    else:
        text = f"not as the weights say (log evidence {found.sample_ratio_log_evidence:.3g}): do not trust the figures"
        rows.append(("sample ratio", Text(text, style="red")))
    if found.crossed_key_count:
        rows.append(("left out", f"{found.crossed_key_count} keys that met several arms"))
    return rows


def _print_arms(found: monitoring_pb2.ReadExperimentResponse) -> None:
    first = found.arms[0].arm if found.arms else ""
    table = headed_table("arm", "keys", "with outcome", "mean", f"difference from {first}", "relative")
    for arm in found.arms:
        share = f" ({arm.outcome_key_count / arm.exposed_key_count:.0%})" if arm.exposed_key_count else ""
        difference = arm.difference
        table.add_row(
            arm.arm,
            str(arm.exposed_key_count),
            f"{arm.outcome_key_count}{share}",
            f"{arm.mean:.6g}" if arm.HasField("mean") else "",
            f"{difference.value:+.4g} ({difference.low:+.4g} … {difference.high:+.4g})"
            if arm.HasField("difference")
            else "",
            f"{arm.relative.value:+.2%} ({arm.relative.low:+.2%} … {arm.relative.high:+.2%})"
            if arm.HasField("relative")
            else "",
        )
    out.print()
    out.print(table)


def _date(time: Timestamp) -> datetime:
    return time.ToDatetime(UTC)
