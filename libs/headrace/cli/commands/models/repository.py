"""`headrace models`: the model repository, and which of its versions the executors serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from headrace.cli.commands.models import executor_check, options
from headrace.cli.commands.models.executor_check import Bounds
from headrace.cli.commands.models.options import Place
from headrace.cli.commands.models.serving import load, unload
from headrace.cli.commands.models.serving import serves as serves_version
from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out, place
from headrace.cli.diagnosis import broken_pipelines
from headrace.pipeline import ModelStage
from headrace.repository import Metadata, Repository, RepositoryError, label, publish, remove, resign, unlabel
from headrace.repository.access import entries
from headrace.repository.records import Records

models = typer.Typer(
    help="The model repository: versions, signatures, labels; which versions serve.", no_args_is_help=True
)

models.command()(load)
models.command()(unload)

Root = Annotated[
    str, typer.Option("--root", help="Another repository: a folder, or a URL that fsspec knows.")
]
Key = Annotated[
    Path | None, typer.Option("--key", help="Private key to sign with; models.key of the home if absent.")
]
Unsigned = Annotated[bool, typer.Option("--unsigned", help="Do not sign; readers must accept that.")]
Model = Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is its newest version.")]
Name = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[str, typer.Argument(help="The version.")]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", min=0.1, help="Time for the check; 120, or the executor's setting."),
]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory-mib", min=1, help="Memory for the check; three quarters of what is free, at most 8 GiB."
    ),
]
MaxMib = Annotated[int, typer.Option("--max-mib", min=1, help="Larger files are refused.")]
Unchecked = Annotated[
    bool,
    typer.Option(
        "--unchecked", help="Do not load it first, as the executor will, to see that it can be used."
    ),
]
# No ONNX file can be larger: it is one protobuf message.
_MAX_MIB = 2048
_INSPECT_S = 120.0


@models.command()
def keys(home: Home = DEFAULT_HOME) -> None:
    """Make the pair of keys that models of this home are signed with and verified against."""
    from headrace.repository import keys as pairs

    layout = place(home)
    try:
        made = pairs.ensure(layout.model_key, layout.model_public_key)
    except (OSError, ValueError) as error:
        fail(f"can't make keys: {error}")
    out.print(
        f"{'made' if made else 'there already'}: {layout.model_key} (keep it), {layout.model_public_key}"
    )


@models.command()
def add(
    name: Name,
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    version: Annotated[str, typer.Option(help="The next number if absent.")] = "",
    backend: Annotated[str, typer.Option(help="What runs it.")] = "onnxruntime",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="name:type:dimensions, where the file leaves it open.")
    ] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", help="The same for outputs.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="JSON: quality on held-out data.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="JSON: the inputs' distribution, for drift.")] = None,
    trained_on: Annotated[str, typer.Option(help="The data it learned from.")] = "",
    max_rows: Annotated[int | None, typer.Option(min=1, help="Rows in one run, at most.")] = None,
    parents: Annotated[
        list[str] | None, typer.Option("--parent", help="NAME:VERSION it was made from.")
    ] = None,
    files: Annotated[list[Path] | None, typer.Option("--file", help="A further file of the version.")] = None,
    key: Key = None,
    unsigned: Unsigned = False,
    seconds: Seconds = None,
    memory_mib: Memory = None,
    max_mib: MaxMib = _MAX_MIB,
    unchecked: Unchecked = False,
) -> None:
    """Add a version, if the executor can use it. Inputs and outputs are read from the file. Nothing that serves changes."""
    at = Place(place(home), root)
    stated = options.tensors([*(inputs or ()), *(outputs or ())])
    signing = at.signing_key(key, unsigned)
    with _told():
        about, why_not = _publish(
            at,
            name,
            version,
            options.content(file, max_mib),
            stated,
            None if unchecked else Bounds(seconds, memory_mib),
            backend=backend,
            metrics=options.document(metrics),
            baseline=options.document(baseline),
            trained_on=trained_on or None,
            max_rows=max_rows,
            lineage={"parents": parents} if parents else {},
            files={path.name: options.content(path, max_mib) for path in files or ()},
            key=signing,
        )
    _added(at, about, why_not, signed=not unsigned)


@models.command(name="import")
def import_(
    reference: Annotated[str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS.")],
    registry: Annotated[str, typer.Option("--from", help="The MLflow server, as http://host:5000.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    name: Annotated[str, typer.Option("--as", help="Its name here; the registry's if absent.")] = "",
    token: Annotated[str, typer.Option(help="Bearer token.", envvar="MLFLOW_TRACKING_TOKEN")] = "",
    inputs: Annotated[list[str] | None, typer.Option("--input", help="As of `add`.")] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", help="As of `add`.")] = None,
    key: Key = None,
    unsigned: Unsigned = False,
    seconds: Seconds = None,
    memory_mib: Memory = None,
    unchecked: Unchecked = False,
) -> None:
    """Add an ONNX model from an MLflow registry, under the registry's version number."""
    from headrace.repository.mlflow import Registry

    at = Place(place(home), root)
    stated = options.tensors([*(inputs or ()), *(outputs or ())])
    signing = at.signing_key(key, unsigned)
    with _told():
        found = Registry(registry, token).fetch(reference)
        about, why_not = _publish(
            at,
            name or found.name,
            found.version,
            found.content,
            stated,
            None if unchecked else Bounds(seconds, memory_mib),
            metrics=found.metrics,
            lineage=found.lineage,
            key=signing,
        )
    _added(at, about, why_not, signed=not unsigned)


@models.command(name="list")
def list_models(home: Home = DEFAULT_HOME, root: Root = "") -> None:
    """List models, versions and labels."""
    at = Place(place(home), root)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("model", "version", "labels", "serves", "backend", "metrics"):
        table.add_column(column)
    records = Records(None if root else at.layout.executor_state)
    live, quarantined = records.serving(), records.quarantined()
    with _told():
        repository = at.shown()
        for name in repository.models():
            labels = repository.labels(name)
            for version in repository.versions(name):
                about = repository.metadata(name, version)
                pointing = ", ".join(sorted(k for k, v in labels.items() if v == version))
                serves = serves_version(name, version, live, quarantined)
                table.add_row(name, version, pointing, serves, about.backend, _numbers(about.metrics))
    out.print(table)


@models.command()
def show(model: Model, home: Home = DEFAULT_HOME, root: Root = "") -> None:
    """Print all that is known about a version, as JSON."""
    at = Place(place(home), root)
    with _told():
        repository = at.shown()
        name, version = _resolved(repository, model)
        about = json.loads(repository.metadata(name, version).to_json())
        labels = sorted(k for k, v in repository.labels(name).items() if v == version)
    print(json.dumps({**about, "labels": labels}, indent=2))


@models.command()
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
    at = Place(place(home), root)
    repository = at.repository(trusted or (), accept_unsigned=unsigned)
    with _told():
        found = names or at.shown().models()
    refused = sum(_refused(repository, name) for name in found) + _log_broken(at)
    if refused:
        raise typer.Exit(1)


@models.command(name="label")
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
    at = Place(place(home), root)
    with _told():
        signing = at.signing_key(key, unsigned)
        if take_away:
            which, _ = options.named(model)
            version = unlabel(at.root, which, name, key=signing, log=at.log)
            out.print(f"{name} of {which} is taken away; it pointed at version {version}")
            return
        which, version = _resolved(at.shown(), model)
        label(at.root, which, version, name, key=signing, log=at.log)
    out.print(f"{name} of {which} points at version {version}")


@models.command(name="remove")
def remove_(
    name: Name,
    version: Version,
    home: Home = DEFAULT_HOME,
    root: Root = "",
    key: Key = None,
    unsigned: Unsigned = False,
) -> None:
    """Remove a version for good. Those who run it keep it until they let go."""
    at = Place(place(home), root)
    pipelines = _pinning(at, name, version)
    if pipelines:
        fail(f"pipeline {pipelines[0]} names {name} version {version}; change it first")
    with _told():
        remove(at.root, name, version, key=at.signing_key(key, unsigned), log=at.log)
    out.print(f"{name} version {version} is removed")


@models.command(name="resign")
def resign_(
    name: Name,
    trusted: Annotated[list[Path], typer.Option("--trusted", help="Public key that signed until now.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    key: Key = None,
) -> None:
    """Sign a model's list of releases with another key."""
    at = Place(place(home), root)
    signing = at.signing_key(key, unsigned=False)
    assert signing is not None
    with _told():
        resign(at.root, name, signing, trusted, at.log)
    out.print(f"the releases of {name} are signed with {signing}")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RepositoryError as error:
        fail(str(error))


def _publish(
    at: Place,
    name: str,
    version: str,
    content: bytes,
    stated: list[Any],
    bounds: Bounds | None,
    *,
    key: Path | None,
    **about: Any,
) -> tuple[Metadata, str]:
    """The version as published, and why it was not checked, if it was not; `bounds` None: nobody wants it checked."""
    from headrace.repository.inspecting import inspect

    seconds = None if bounds is None else bounds.seconds
    inputs, outputs = inspect(name, content, stated, seconds=seconds or _INSPECT_S)
    taken = [int(v) for v in at.shown().versions(name) if v.isdecimal()]
    chosen = version or str(max(taken, default=0) + 1)
    given = {
        "name": name,
        "version": chosen,
        "content": content,
        "inputs": inputs,
        "outputs": outputs,
        **about,
    }
    why_not = "--unchecked" if bounds is None else executor_check.check(at.layout, given, bounds)
    return publish(at.root, key=key, log=at.log, **given), why_not


def _added(at: Place, about: Metadata, why_not: str, *, signed: bool) -> None:
    how = "signed" if signed else "not signed"
    checked = f"not checked ({why_not})" if why_not else "checked by the executor"
    out.print(
        f"added {about.name} version {about.version}, {how}, SHA-256 {about.sha256[:12]}…, {checked}",
        markup=False,
    )
    for title, tensors in (("inputs", about.inputs), ("outputs", about.outputs)):
        out.print(f"  {title}: {', '.join(map(str, tensors))}", markup=False)
    if not at.elsewhere:
        out.print(f"  to serve it: headrace models load {about.name}:{about.version}", markup=False)


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


def _log_broken(at: Place) -> int:
    try:
        count = sum(1 for _ in entries(at.layout.model_log))
    except FileNotFoundError:
        return 0
    except (ValueError, OSError) as error:
        err.print(str(error), style="bold red", markup=False)
        return 1
    out.print(f"[green]ok[/] {at.layout.model_log}: {count} entries, unbroken")
    return 0


def _pinning(at: Place, name: str, version: str) -> list[str]:
    """Pipelines whose documents name this very version; of a broken document, its last good revision counts."""
    return [
        document.name
        for document in broken_pipelines.look(at.layout).pipelines.values()
        for stage in document.stages
        if isinstance(stage, ModelStage) and (stage.model, stage.version) == (name, version)
    ]


def _numbers(metrics: Any) -> str:
    shown = [f"{k} {v:g}" for k, v in metrics.items() if isinstance(v, int | float)]
    return ", ".join(shown[:3]) + (" …" if len(shown) > 3 else "")
