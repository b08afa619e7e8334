"""`headrace experiment start` and `stop`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from headrace.cli.commands.releases.commit import commit
from headrace.cli.commands.releases.place import (
    Number,
    PipelineName,
    Reason,
    opened,
)
from headrace.cli.console import DEFAULT_HOME, Home, fail, pairs
from headrace.releases.changes import experiment_started, experiment_stopped


def start(
    pipeline: PipelineName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment.")],
    weights: Annotated[
        list[str], typer.Option("--weight", metavar="ARM=SHARE", help="Share of each arm, such as live=0.5.")
    ],
    outcome: Annotated[str, typer.Option("--outcome", help="The numeric outcome that is compared.")],
    by: Annotated[
        str, typer.Option("--by", help="Input column whose values are assigned, such as a customer.")
    ],
    reason: Reason = "",
    number: Number = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Compare arms by an outcome. Put the other arm in first: `release deploy --arm NAME`. Other weights begin another phase."""
    shares = {}
    for arm, text in pairs(weights, "--weight").items():
        try:
            shares[arm] = float(text)
        except ValueError:
            fail(f"--weight {arm}={text} is no share; as live=0.5", code=2)
    with opened(home) as at:
        basis = at.basis(pipeline, reason, number)
        release = experiment_started(basis, name, shares, outcome, by, datetime.now(UTC))
        steps = [f"experiment status {pipeline}", f"experiment stop {pipeline}"]
        commit(at, basis, release, at.documents(pipeline), next_steps=steps)


def stop(pipeline: PipelineName, reason: Reason = "", home: Home = DEFAULT_HOME) -> None:
    """End it: all rows go to the live arm. The other arms stay, so that the better one can be rolled out."""
    with opened(home) as at:
        basis = at.basis(pipeline, reason)
        steps = [f"rollout start {pipeline}"]
        commit(at, basis, experiment_stopped(basis), at.documents(pipeline), next_steps=steps)
