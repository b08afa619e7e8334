"""`headrace release`, `rollout` and `experiment`: their commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.releases import analysis, changes, door, experiments, rollouts, views

release = typer.Typer(help="What is live: which document and which versions of models.", no_args_is_help=True)
release.command()(views.show)
release.command()(changes.deploy)
release.command()(changes.apply)
release.command()(changes.rollback)
release.command()(views.history)
release.command()(changes.label)
release.command()(changes.freeze)
release.command()(changes.remove)

rollout = typer.Typer(help="A new version that takes over step by step.", no_args_is_help=True)
rollout.command()(rollouts.start)
rollout.command("status")(analysis.rollout_status)
rollout.command()(rollouts.pause)
rollout.command()(rollouts.resume)
rollout.command()(rollouts.promote)
rollout.command()(rollouts.abort)

experiment = typer.Typer(
    help="Versions that are compared by what came of their answers.", no_args_is_help=True
)
experiment.command()(experiments.start)
experiment.command("status")(analysis.experiment_status)
experiment.command()(experiments.stop)

for group in (release, rollout, experiment):
    group.callback()(door.choose)
