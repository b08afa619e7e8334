"""`headrace models list`, `show`, `verify`, `label` and `remove`: what is in the model repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.commands.models import options
from headrace.cli.commands.models.load_unload import running
from headrace.cli.commands.models.options import Model, Name, RepositoryPlace, Root, refusals_told
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.tables import headed_table
from headrace.repository import Repository, RepositoryError, changes
from headrace.repository.model_index import recorded
from headrace.repository.records import Records


def list_models(home: Home = DEFAULT_HOME, root: Root = "") -> None:
    """List models, versions and labels."""
    at = RepositoryPlace(place(home), root)
    table = headed_table("model", "version", "labels", "serves", "backend", "metrics")
    records = Records(None if root else at.layout.executor_state)
    loaded, quarantined = records.serving(), records.quarantined()
    released = {} if root else running(at.layout)
    with refusals_told():
        repository = at.shown()
        for name in repository.models():
            labels = repository.labels(name)
            for version in repository.versions(name):
                pointing = ", ".join(sorted(k for k, v in labels.items() if v == version))
                serves = "loaded" if version in loaded.get(name, ()) else ""
                serves = ", ".join(map("".join, released.get((name, version), ()))) or serves
                serves = "in quarantine" if f"{name}:{version}" in quarantined else serves
                table.add_row(name, version, pointing, serves, *_described(repository, name, version))
    out.print(table)


def _described(repository: Repository, model: str, version: str) -> tuple[str, str]:
    """Backend and metrics; of a version that is listed, but has no files, what is wrong."""
    try:
        about = repository.metadata(model, version)
    except RepositoryError as error:
        return "", error.problem
    return about.backend, _numbers(about.metrics)


def show(model: Model, home: Home = DEFAULT_HOME, root: Root = "") -> None:
    """Print all that is known about a version, as JSON."""
    at = RepositoryPlace(place(home), root)
    with refusals_told():
        repository = at.shown()
        name, version = options.resolved(repository, model)
        about = json.loads(repository.metadata(name, version).to_json())
        labels = sorted(k for k, v in repository.labels(name).items() if v == version)
    print(json.dumps({**about, "labels": labels}, indent=2))


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="All versions of all models if absent.")
    ] = None,
    home: Home = DEFAULT_HOME,
    root: Root = "",
    trusted: Annotated[
        list[Path] | None, typer.Option("--trusted", help="Public key; models.pub of the home if absent.")
    ] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Accept models without a signature.")] = False,
) -> None:
    """Read models as a service does: digests, signatures, index. Exit code 1 if one is refused."""
    at = RepositoryPlace(place(home), root)
    with refusals_told():
        repository = at.repository(trusted or (), accept_unsigned=unsigned)
        found = names or at.shown().models()
    if sum(_refused(repository, name) for name in found):
        raise typer.Exit(1)


def label_(
    model: Model,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="The label.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    take_away: Annotated[bool, typer.Option("--delete", help="Take the label away instead.")] = False,
) -> None:
    """Point a label at a version: a name that a route may follow. Nothing goes live by it."""
    at = RepositoryPlace(place(home), root)
    which, version = options.named(model)
    with refusals_told(), at.records() as asked:
        if asked is None:
            fail("labels are at the control that lists the models; name it in the settings of a home")
        if take_away:
            version = changes.unlabel(asked, which, name, options.user())
        else:
            which, version = options.resolved(Repository(at.root, index=recorded(asked)), model)
            changes.label(asked, which, version, name, options.user())
    how = "is taken away; it pointed" if take_away else "points"
    out.print(f"{name} of {which} {how} at version {version}")


def remove_(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
) -> None:
    """Remove a version for good. Those who run it keep it until they let go."""
    at = RepositoryPlace(place(home), root)
    with refusals_told(), at.records() as asked:
        changes.remove(asked, at.root, name, version, options.user())
    out.print(f"{name} version {version} is removed")


def _refused(repository: Repository, model: str) -> int:
    """How many versions of what `NAME` or `NAME:VERSION` means can't be loaded; says of each how it is."""
    name, wanted = options.named(model)
    refused = 0
    try:
        versions = [repository.resolve(name, wanted)] if wanted else repository.versions(name)
        if not versions:
            raise RepositoryError(name, "", "there is no such model", "see: headrace models list")
    except RepositoryError as error:
        return _say_refused(error)
    for version in versions:
        try:
            artifact = repository.read(name, version)
        except RepositoryError as error:
            refused += _say_refused(error)
        else:
            signer = f"signed by {artifact.signer[:16]}" if artifact.signer else "not signed"
            out.print(f"[green]ok[/] {name} version {version}, {signer}")
    return refused


def _say_refused(error: RepositoryError) -> int:
    out.print("[red]refused[/]", end=" ")
    out.print(str(error), markup=False, soft_wrap=True)
    return 1


def _numbers(metrics: Any) -> str:
    shown = [f"{k} {v:g}" for k, v in metrics.items() if isinstance(v, int | float)]
    return ", ".join(shown[:3]) + (" …" if len(shown) > 3 else "")
