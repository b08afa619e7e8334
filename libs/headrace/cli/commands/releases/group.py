"""`headrace release`, `rollout` and `experiment`: their commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.releases import changing, experiments, looking, rollouts

release = typer.Typer(help="What is live: which document and which versions of models.", no_args_is_help=True)
release.command()(looking.show)
release.command()(changing.deploy)
release.command()(changing.apply)
release.command()(changing.rollback)
release.command()(looking.history)
release.command()(changing.label)
release.command()(changing.freeze)
release.command()(changing.remove)

rollout = typer.Typer(help="A new version that takes over step by step.", no_args_is_help=True)
rollout.command()(rollouts.start)
rollout.command()(looking.status)
rollout.command()(rollouts.pause)
rollout.command()(rollouts.resume)
rollout.command()(rollouts.promote)
rollout.command()(rollouts.abort)

experiment = typer.Typer(
    help="Versions that are compared by what came of their answers.", no_args_is_help=True
)
experiment.command()(experiments.start)
experiment.command()(experiments.stop)
