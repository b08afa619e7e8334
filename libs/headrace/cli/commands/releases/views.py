"""`headrace release show` and `history`: what is live, and how it came to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from rich.text import Text

from headrace.cli.commands.releases.place import PipelineName, ReleasePlace, opened
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out
from headrace.cli.tables import headed_table, print_rows
from headrace.releases import LIVE, Broken, Release, RolloutState
from headrace.releases.changes import desired, rolled_back_by
from headrace.releases.document import to_bytes

STATES = {
    RolloutState.RUNNING: "cyan",
    RolloutState.PAUSED: "yellow",
    RolloutState.PROMOTED: "green",
    RolloutState.ROLLED_BACK: "red",
    RolloutState.ABORTED: "red",
}


def show(
    pipeline: Annotated[str, typer.Argument(metavar="[PIPELINE]", help="All if absent.")] = "",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    wanted: Annotated[
        bool, typer.Option("--desired", help="As a document for `release apply -f` (YAML).")
    ] = False,
) -> None:
    """Show what is live."""
    with opened(home) as at:
        names = [pipeline] if pipeline else at.store.pipelines()
        found = [(name, *at.store.current(name)) for name in names]
        _say_broken([broken for _, _, broken in found])
        if pipeline and found[0][1] is None:
            there = ", ".join(at.store.pipelines()) or "none"
            fail(f"pipeline {pipeline} has no release that can be read (with one: {there})")
        releases = [release for _, release, _ in found if release is not None]
        if as_json:
            told = [json.loads(to_bytes(release)) for release in releases]
            print(json.dumps(told[0] if pipeline else told, indent=2))
        elif wanted:
            print(
                yaml.safe_dump_all([desired(r) for r in releases], sort_keys=False, allow_unicode=True),
                end="",
            )
        elif pipeline:
            _show_one(releases[0])
        else:
            _show_all(releases)
        say_frozen(at)


def history(pipeline: PipelineName, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the kept releases, newest first."""
    with opened(home) as at:
        releases = at.store.history(pipeline)
        broken = at.store.current(pipeline)[1]
        back = rolled_back_by(releases)
        if as_json:
            told = [{**json.loads(to_bytes(r)), "rolled_back_by": back.get(r.number)} for r in releases]
            print(json.dumps({"releases": told}, indent=2))
        else:
            _say_broken([broken])
            out.print(_history_table(releases, back))


def _show_one(release: Release) -> None:
    rows: list[tuple[str, Any]] = [
        ("release", f"{release.number} of {release.at:%Y-%m-%d %H:%M:%S %Z}, after {release.parent}"),
        ("by", Text(f"{release.author}: {release.reason}")),
    ]
    if release.restores:
        rows.append(("brings back", f"release {release.restores}"))
    for name, arm in sorted(release.arms.items(), key=lambda one: (one[0] != LIVE, one[0])):
        models = ", ".join(f"{model} {version}" for model, version in arm.models.items())
        share = release.assign.weights.get(name, 0.0)
        settings = "; ".join(f"{s}.{k}={v}" for s, own in arm.settings.items() for k, v in own.items())
        text = f"{share:.4g} of the rows; version {arm.version}, revision {arm.revision[:12]}…; {models or 'no models'}"
        rows.append((f"arm {name}", Text(text + (f"; {settings}" if settings else ""))))
    if release.assign.by:
        rows.append(("sticky by", release.assign.by))
    rows += [(f"rule {rule.name}", Text(f"{', '.join(rule.when)} → {rule.arm}")) for rule in release.rules]
    if release.shadow:
        rows.append(("shadow", f"{release.shadow.arm}, {release.shadow.share:.0%} of the requests"))
    if release.rollout:
        state = Text(release.rollout.state, style=STATES[release.rollout.state])
        rows.append(("rollout", Text.assemble(f"{release.rollout.arm}, ", state)))
    if release.experiment:
        rows.append(("experiment", f"{release.experiment.name}, phase {release.experiment.phase}"))
    for label, versions in release.labels.items():
        rows.append((f"label {label}", ", ".join(f"{m} {v}" for m, v in versions.items())))
    if release.frozen:
        rows.append(("frozen", Text("automation leaves this pipeline alone", style="yellow")))
    print_rows(rows)


def _show_all(releases: Sequence[Release]) -> None:
    table = headed_table("pipeline", "release", "version", "models", "weights", "rollout", "by")
    for release in releases:
        models = ", ".join(f"{model} {version}" for model, version in release.live.models.items())
        state = release.rollout.state if release.rollout else ""
        rollout = Text(state, style=STATES[release.rollout.state] if release.rollout else "")
        by = Text(release.author)
        version = str(release.live.version)
        table.add_row(release.pipeline, str(release.number), version, models, weights(release), rollout, by)
    out.print(table)


def _history_table(releases: Sequence[Release], back: dict[int, int]) -> Table:
    table = headed_table("release", "at", "by", "version", "models", "weights", "reason")
    for release in releases:
        models = ", ".join(f"{model} {version}" for model, version in release.live.models.items())
        reason = release.reason
        if release.rollout and release.rollout.verdict:
            reason += f" ({release.rollout.verdict})"
        if release.number in back:
            reason += f" (rolled back by {back[release.number]})"
        table.add_row(
            str(release.number),
            f"{release.at:%Y-%m-%d %H:%M:%S}",
            Text(release.author),
            str(release.live.version),
            models,
            weights(release),
            Text(reason),
        )
    return table


def _say_broken(found: Sequence[Broken | None]) -> None:
    for broken in found:
        if broken is not None:
            text = f"{broken.pipeline}: release {broken.number} can't be used (headrace status: what serves): {broken.problem}"
            err.print(text, style="bold red", markup=False, soft_wrap=True)


def say_frozen(at: ReleasePlace) -> None:
    freeze = at.store.frozen()
    if freeze is not None:
        text = f"all automation is frozen by {freeze.author} ({freeze.reason}); to end it: headrace release freeze --off"
        err.print(text, style="yellow", markup=False, soft_wrap=True)


def weights(release: Release) -> str:
    return ", ".join(f"{arm} {weight:.4g}" for arm, weight in sorted(release.assign.weights.items()))
