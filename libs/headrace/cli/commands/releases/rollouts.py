"""`headrace rollout start`, `pause`, `resume`, `promote` and `abort`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from headrace.cli.commands.releases.changes import Document, Label, Models, Set, built
from headrace.cli.commands.releases.commit import commit
from headrace.cli.commands.releases.place import (
    Number,
    PipelineName,
    Reason,
    ReleasePlace,
    opened,
)
from headrace.cli.console import DEFAULT_HOME, Home, fail, seconds
from headrace.pipeline.guards import GUARDS, GuardAction
from headrace.releases import Guard, Release
from headrace.releases.changes import Basis, aborted, paused, promoted, resumed, rollout_started
from headrace.releases.changes.rollouts import CANDIDATE, Plan


def start(
    pipeline: PipelineName,
    models: Models = None,
    label: Label = "",
    settings: Set = None,
    document: Document = None,
    arm: Annotated[str, typer.Option("--arm", help="Name of the arm that takes over.")] = CANDIDATE,
    by: Annotated[str, typer.Option("--by", help="Input column whose value sticks to an arm.")] = "",
    ladder: Annotated[
        str, typer.Option("--ladder", help="Its weights in percent, such as 1,5,25,50,100.")
    ] = "",
    deadline: Annotated[
        str, typer.Option("--deadline", help="After so long without proof, such as 2h …")
    ] = "",
    otherwise: Annotated[
        str, typer.Option("--otherwise", help="… do this: pause, promote or roll_back.")
    ] = "",
    alpha: Annotated[float | None, typer.Option("--alpha", help="Chance of a false rollback.")] = None,
    guards: Annotated[
        list[str] | None,
        typer.Option(
            "--guard",
            help="NAME=ACTION: what a guard does: go_back, pause or tell; wrong: judge by outcomes, too.",
        ),
    ] = None,
    reason: Reason = "",
    number: Number = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Let a new version take over step by step; the monitoring service judges it, promotes it or rolls it back."""
    rules = _rules(ladder, deadline, otherwise, alpha) | _guards(guards or [])
    with opened(home) as at:
        basis = at.basis(pipeline, reason, number)
        documents = at.documents(pipeline)
        made = built(at, basis, documents, arm, models, label, settings, document)
        plan = Plan(arm, by or None, rules, documents.guards(made))
        release = rollout_started(basis, made, plan, datetime.now(UTC), at.store.frozen())
        steps = [f"rollout status {pipeline}", f"rollout abort {pipeline}"]
        commit(at, basis, release, documents, next_steps=steps)


def pause(pipeline: PipelineName, reason: Reason = "", home: Home = DEFAULT_HOME) -> None:
    """Leave the weights as they are until you say more."""
    _steer(pipeline, reason, home, lambda basis, _: paused(basis), [f"rollout resume {pipeline}"])


def resume(pipeline: PipelineName, reason: Reason = "", home: Home = DEFAULT_HOME) -> None:
    """Go on with a paused rollout."""
    _steer(pipeline, reason, home, lambda basis, at: resumed(basis, at.store.frozen()))


def promote(pipeline: PipelineName, reason: Reason = "", home: Home = DEFAULT_HOME) -> None:
    """Give the new version all rows now, without further proof."""
    steps = [f"release rollback {pipeline}"]
    _steer(pipeline, reason, home, lambda basis, _: promoted(basis), steps)


def abort(pipeline: PipelineName, reason: Reason = "", home: Home = DEFAULT_HOME) -> None:
    """Give all rows back to the live arm."""
    _steer(pipeline, reason, home, lambda basis, _: aborted(basis))


def _steer(
    pipeline: str,
    reason: str,
    home: Path,
    how: Callable[[Basis, ReleasePlace], Release],
    next_steps: list[str] | None = None,
) -> None:
    with opened(home) as at:
        basis = at.basis(pipeline, reason)
        steps = next_steps or [f"rollout status {pipeline}"]
        commit(at, basis, how(basis, at), at.documents(pipeline), next_steps=steps, urgent=True)


def _guards(named: list[str]) -> dict[str, Any]:
    found: dict[str, Guard] = {}
    for text in named:
        name, _, action = text.partition("=")
        if name not in GUARDS or action not in ("", *get_args(GuardAction)):
            actions = ", ".join(get_args(GuardAction))
            fail(f"--guard {text!r}: NAME or NAME=ACTION of {', '.join(GUARDS)} and {actions}", code=2)
        found[name] = Guard.model_validate({"action": action or None})
    return {"guards": found} if named else {}


def _rules(ladder: str, deadline: str, otherwise: str, alpha: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ladder:
        try:
            found["ladder"] = [float(share) / 100 for share in ladder.replace("%", "").split(",")]
        except ValueError:
            fail(f"--ladder {ladder!r} holds no percentages; as 1,5,25,50,100", code=2)
    if deadline:
        found["deadline_s"] = seconds(deadline, "--deadline")
    if otherwise:
        found["otherwise"] = otherwise
    if alpha is not None:
        found["alpha"] = alpha
    return found
