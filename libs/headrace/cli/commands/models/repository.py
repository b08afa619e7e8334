"""`headrace models list`, `show`, `verify`, `label`, `remove` and `resign`: what is in the model repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from headrace.cli.commands.models import options
from headrace.cli.commands.models.load_unload import running
from headrace.cli.commands.models.options import (
    Key,
    Model,
    Name,
    RepositoryPlace,
    Root,
    Unsigned,
    refusals_told,
)
from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out, place
from headrace.cli.diagnosis import released_versions
from headrace.hop.config import ConfigError
from headrace.repository import Repository, RepositoryError, label, remove, resign, unlabel
from headrace.repository.access_log import entries
from headrace.repository.records import Records


def list_models(home: Home = DEFAULT_HOME, root: Root = "") -> None:
    """List models, versions and labels."""
    at = RepositoryPlace(place(home), root)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("model", "version", "labels", "serves", "backend", "metrics"):
        table.add_column(column)
    records = Records(None if root else at.layout.executor_state)
    loaded, quarantined = records.serving(), records.quarantined()
    released = {} if root else running(at.layout)
    with refusals_told():
        repository = at.shown()
        for name in repository.models():
            labels = repository.labels(name)
            for version in repository.versions(name):
                about = repository.metadata(name, version)
                pointing = ", ".join(sorted(k for k, v in labels.items() if v == version))
                serves = "loaded" if version in loaded.get(name, ()) else ""
                serves = ", ".join(map("".join, released.get((name, version), ()))) or serves
                serves = "in quarantine" if f"{name}:{version}" in quarantined else serves
                table.add_row(name, version, pointing, serves, about.backend, _numbers(about.metrics))
    out.print(table)


def show(model: Model, home: Home = DEFAULT_HOME, root: Root = "") -> None:
    """Print all that is known about a version, as JSON."""
    at = RepositoryPlace(place(home), root)
    with refusals_told():
        repository = at.shown()
        name, version = _resolved(repository, model)
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
    """Read models as a service does: digests, signatures, releases. Exit code 1 if one is refused."""
    at = RepositoryPlace(place(home), root)
    repository = at.repository(trusted or (), accept_unsigned=unsigned)
    with refusals_told():
        found = names or at.shown().models()
    refused = sum(_refused(repository, name) for name in found) + _log_broken(at)
    if refused:
        raise typer.Exit(1)


def label_(
    model: Model,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="The label.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    take_away: Annotated[bool, typer.Option("--delete", help="Take the label away instead.")] = False,
    key: Key = None,
    unsigned: Unsigned = False,
) -> None:
    """Point a label at a version: a name that a route may follow. Nothing goes live by it."""
    at = RepositoryPlace(place(home), root)
    with refusals_told():
        signing = at.signing_key(key, unsigned)
        if take_away:
            which, _ = options.named(model)
            version = unlabel(at.root, which, name, key=signing, log=at.log)
            out.print(f"{name} of {which} is taken away; it pointed at version {version}")
            return
        which, version = _resolved(at.shown(), model)
        label(at.root, which, version, name, key=signing, log=at.log)
    out.print(f"{name} of {which} points at version {version}")


def remove_(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    key: Key = None,
    unsigned: Unsigned = False,
) -> None:
    """Remove a version for good. Those who run it keep it until they let go."""
    at = RepositoryPlace(place(home), root)
    try:
        naming = released_versions.naming(at.layout, name, version)
    except (ConfigError, OSError) as error:
        fail(f"what is live may name it, and can't be read: {error}")
    if naming:
        fail(f"{naming[0]} names {name} version {version}; change it first")
    with refusals_told():
        remove(at.root, name, version, key=at.signing_key(key, unsigned), log=at.log)
    out.print(f"{name} version {version} is removed")


def resign_(
    name: Name,
    trusted: Annotated[list[Path], typer.Option("--trusted", help="Public key that signed until now.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    key: Key = None,
) -> None:
    """Sign a model's list of versions with another key."""
    at = RepositoryPlace(place(home), root)
    signing = at.signing_key(key, unsigned=False)
    assert signing is not None
    with refusals_told():
        resign(at.root, name, signing, trusted, at.log)
    out.print(f"the releases of {name} are signed with {signing}")


def _resolved(repository: Repository, model: str) -> tuple[str, str]:
    name, wanted = options.named(model)
    versions = repository.versions(name)
    if not versions:
        there = ", ".join(repository.models()) or "none"
        raise RepositoryError(name, "", f"there is no such model (there are: {there})", "name one of them")
    return name, repository.resolve(name, wanted) if wanted else versions[-1]


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


def _log_broken(at: RepositoryPlace) -> int:
    try:
        count = sum(1 for _ in entries(at.layout.model_log))
    except FileNotFoundError:
        return 0
    except (ValueError, OSError) as error:
        err.print(str(error), style="bold red", markup=False)
        return 1
    out.print(f"[green]ok[/] {at.layout.model_log}: {count} entries, unbroken")
    return 0


def _numbers(metrics: Any) -> str:
    shown = [f"{k} {v:g}" for k, v in metrics.items() if isinstance(v, int | float)]
    return ", ".join(shown[:3]) + (" …" if len(shown) > 3 else "")
