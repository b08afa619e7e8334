"""`headrace release deploy`, `apply`, `rollback`, `label`, `freeze` and `remove`: what people change of what is live."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from headrace.cli.commands.models.options import content, user
from headrace.cli.commands.releases.commit import commit
from headrace.cli.commands.releases.place import (
    Number,
    PipelineName,
    Reason,
    ReleasePlace,
    opened,
)
from headrace.cli.consent import agree
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, pairs
from headrace.pipeline import Pipeline
from headrace.releases import LIVE, Freeze, ReleaseError
from headrace.releases.changes import (
    Basis,
    Documents,
    HoldbackContext,
    applied,
    labelled,
    rolled_back_to,
    switched,
    with_holdback,
)
from headrace.releases.changes.deployment import arm_of
from headrace.releases.document import Arm

Models = Annotated[
    list[str] | None,
    typer.Option("--models", metavar="MODEL=VERSION", help="Version or label of a model; may be repeated."),
]
Label = Annotated[
    str, typer.Option("--label", help="The versions that this label points at, where there are.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="Setting of a stage; may be repeated."),
]
Document = Annotated[
    Path | None, typer.Option("--document", help="The pipeline document; that of the folder if absent.")
]


def deploy(
    pipeline: PipelineName,
    models: Models = None,
    label: Label = "",
    settings: Set = None,
    document: Document = None,
    arm: Annotated[
        str, typer.Option("--arm", help="The arm to put it into; one other than live gets no rows yet.")
    ] = LIVE,
    no_holdback: Annotated[
        bool, typer.Option("--no-holdback", help="Leave nothing with what was live before.")
    ] = False,
    reason: Reason = "",
    number: Number = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Make a document live at once, with the newest versions of its models or those that you name. For an hour what was live
    before keeps 5 % of the rows and is compared with it. To go step by step: `headrace rollout start`."""
    with opened(home) as at:
        basis = at.basis(pipeline, reason, number)
        documents = at.documents(pipeline)
        made = built(at, basis, documents, arm, models, label, settings, document)
        undo = [f"release rollback {pipeline}"] if arm == LIVE and basis.release else []
        holdback = (
            None
            if no_holdback
            else HoldbackContext(documents, at.known(), datetime.now(UTC), at.store.frozen())
        )
        release, why_none = with_holdback(basis, made, arm, holdback)
        steps = [f"{'release show' if why_none else 'rollout status'} {pipeline}", *undo]
        note = f"no holdback: {why_none}" if why_none else ""
        commit(at, basis, release, documents, note=note, next_steps=steps)


def built(
    at: ReleasePlace,
    basis: Basis,
    documents: Documents,
    name: str,
    models: list[str] | None,
    label: str,
    settings: list[str] | None,
    document: Path | None,
) -> Arm:
    """The arm that the options describe. Raises ReleaseError."""
    if document is not None:
        found = at.document_file(document, documents, basis.pipeline)
    else:
        found = at.newest_document(basis, documents)
    return arm_of(
        basis,
        found,
        at.known(),
        name=name,
        models=pairs(models or [], "--models"),
        label=label,
        settings=_settings(settings or []),
    )


def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="The desired release (YAML or JSON).")],
    reason: Reason = "",
    number: Number = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also if it was applied before and was changed since.")
    ] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Make a desired document current, as it lies in git. Applied again, it changes nothing: what a rollout, a rollback or a
    person changed since stays."""
    wanted = _document(file)
    pipeline = str(wanted.get("pipeline") or "")
    if not pipeline:
        fail(f"{file}: pipeline: names no pipeline")
    with opened(home) as at:
        basis = at.basis(pipeline, reason, number)
        documents = at.documents(pipeline)

        def read(key: str, value: Any) -> Pipeline:
            if not isinstance(value, str):
                raise ReleaseError(pipeline, [f"{key}: needs the path of a pipeline document"])
            return at.document_file(file.parent / value, documents, pipeline)

        release = applied(basis, wanted, at.known(), read, again=again)
        commit(at, basis, release, documents, next_steps=[f"release show {pipeline}"])


def rollback(
    pipeline: PipelineName,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Number of the release to go back to.")
    ] = None,
    reason: Reason = "",
    number: Number = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Go back, by a new release that points at an old one. Without --to: out of a running rollout, else to the live arm before
    this one."""
    with opened(home) as at:
        basis = at.basis(pipeline, reason, number)
        release = rolled_back_to(basis, at.store.history(pipeline), to)
        steps = [f"release history {pipeline}"]
        commit(
            at,
            basis,
            release,
            at.documents(pipeline),
            next_steps=steps,
            urgent=True,
        )


def label(
    pipeline: PipelineName,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="The label, such as champion.")],
    model: Annotated[str, typer.Argument(metavar="MODEL:VERSION", help="What it points at.")],
    delete: Annotated[bool, typer.Option("--delete", help="Take the label away instead.")] = False,
    reason: Reason = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Point a label at a version. Nothing goes live by it: `release deploy --label` does that."""
    which, _, version = model.partition(":")
    if not version and not delete:
        fail(f"{model!r} names no version; as MODEL:VERSION", code=2)
    with opened(home) as at:
        basis = at.basis(pipeline, reason)
        release = labelled(basis, name, which, None if delete else version, at.known())
        steps = [] if delete else [f"release deploy {pipeline} --label {name}"]
        commit(at, basis, release, at.documents(pipeline), next_steps=steps)


def freeze(
    pipeline: Annotated[str, typer.Argument(metavar="[PIPELINE]", help="All pipelines if absent.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Let automation go on.")] = False,
    reason: Reason = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Stop all automation: rollouts stay where they are. People may still change everything."""
    with opened(home) as at:
        if pipeline:
            basis = at.basis(pipeline, reason)
            commit(at, basis, switched(basis, frozen=not off), at.documents(pipeline), urgent=True)
            return
        agree("automation goes on" if off else "all automation stops, until: release freeze --off")
        at.store.freeze(None if off else Freeze(user(), reason or "no reason given", datetime.now(UTC)))
        said = (
            "automation goes on"
            if off
            else "all automation is frozen; to end it: headrace release freeze --off"
        )
        out.print(f"[green]done[/]: {said}")


def remove(pipeline: PipelineName, home: Home = DEFAULT_HOME) -> None:
    """Take a pipeline out of service, with the history of its releases. Its document stays."""
    with opened(home) as at:
        if pipeline not in at.store.pipelines():
            raise ReleaseError(pipeline, ["pipeline: it has no release"])
        agree(f"{pipeline} goes out of service: its callers get NOT_FOUND")
        at.store.remove(pipeline)
        out.print(f"[green]done[/]: {pipeline} is out of service")


def _settings(texts: list[str]) -> dict[str, dict[str, Any]]:
    """`stage.key=value`; the value as YAML reads it."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in ((n, v) for one in texts for n, v in pairs([one], "--set").items()):
        stage, dot, key = name.partition(".")
        if not (stage and dot and key):
            fail(f"--set {name}={text} is not STAGE.KEY=VALUE", code=2)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        found.setdefault(stage, {})[key] = value if isinstance(value, str | int | float | bool) else text
    return found


def _document(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(content(file, 1))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        fail(
            f"{file}{'' if line is None else f':{line + 1}'} is no YAML ({getattr(error, 'problem', None) or error})"
        )
    if not isinstance(found, dict):
        fail(f"{file} holds no mapping")
    return found
