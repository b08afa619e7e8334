"""`headrace tenants`: who may use what, and how much. The door sees a change within a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from headrace.cli.commands.access.scopes import read_scopes
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, prepared
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.state import queries
from headrace.state import tenants as documents

tenants = typer.Typer(help="Tenants: what each may use, and how much.")
Name = Annotated[str, typer.Argument(help="Name of the tenant.")]
_NO_LIMIT = "none"
# Field of the document: what a person reads.
_TITLES = {
    "rows_per_s": "rows per second",
    "rows_burst": "rows at once",
    "bytes_per_s": "bytes per second",
    "bytes_burst": "bytes at once",
    "concurrency": "requests in flight",
    "max_rows": "rows of a request",
    "distinct_queries_per_day": "different rows per day and pipeline",
}

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Pipelines = Annotated[
    list[str] | None, typer.Option("--pipeline", help="What it may use; `*` is all. Replaces what it had.")
]
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="What it may do: predict, read, operate. Replaces what it had."),
]
Priority = Annotated[int | None, typer.Option(min=1, max=10, help="Lower is refused first under load.")]
RowsPerS = Annotated[str | None, typer.Option(help="Rows per second, or `none`.")]
RowsBurst = Annotated[
    str | None,
    typer.Option(help="Rows that may come at once after a quiet time, or `none`: one second's worth."),
]
BytesPerS = Annotated[str | None, typer.Option(help="Bytes of messages per second, or `none`.")]
BytesBurst = Annotated[str | None, typer.Option(help="The same of bytes, or `none`.")]
Concurrency = Annotated[str | None, typer.Option(help="Requests in flight at once, or `none`.")]
MaxRows = Annotated[str | None, typer.Option(help="Rows of one request, or `none`.")]
DistinctQueries = Annotated[
    str | None,
    typer.Option(
        help="Different rows that it may ask of each pipeline in a day (UTC), against the copying of models; or `none`."
    ),
]


@tenants.callback(invoke_without_command=True)
def tenants_or_list(context: typer.Context, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Without a command: the list."""
    if context.invoked_subcommand is None:
        list_tenants(home, as_json)
    elif (source := context.get_parameter_source("home")) is not None and source.name == "COMMANDLINE":
        # The command has its own, which would be another home.
        fail(f"write --home behind `{context.invoked_subcommand}`")


@tenants.command(name="list")
def list_tenants(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the tenants with their limits; `-` is none."""
    file = _load(prepared(home))
    if as_json:
        print(json.dumps({name: _told(spec) for name, spec in sorted(file.tenants.items())}, indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("tenant", "pipelines", "keys", "rows/s", "bytes/s", "in flight", "rows", "different/day"):
        table.add_column(column)
    for name, spec in sorted(file.tenants.items()):
        limits = spec.limits
        shown = (
            limits.rows_per_s,
            limits.bytes_per_s,
            limits.concurrency,
            limits.max_rows,
            limits.distinct_queries_per_day,
        )
        numbers = ("-" if value is None else _number(value) for value in shown)
        table.add_row(name, ", ".join(spec.pipelines) or "-", str(len(spec.keys)), *numbers)
    out.print(table)


@tenants.command()
def show(tenant: Name, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show what one tenant may use, and what it has asked today."""
    layout = prepared(home)
    try:
        spec = _load(layout).tenant(tenant)
    except ConfigError as error:
        fail(str(error))
    today = queries.used(layout.queries, f"{datetime.now(UTC):%Y%m%d}")
    asked = {use.pipeline: use.count for use in today if use.tenant == tenant}
    if as_json:
        print(json.dumps({**_told(spec), "distinct_queries_today": asked}, indent=2))
        return
    lines = [
        ("tenant", tenant),
        ("pipelines", ", ".join(spec.pipelines) or "none"),
        ("may", ", ".join(spec.scopes)),
        ("priority", str(spec.priority)),
        ("keys", ", ".join(key.id for key in spec.keys) or "none"),
    ]
    for field, title in _TITLES.items():
        value = getattr(spec.limits, field)
        lines.append((title, "no limit" if value is None else _number(value)))
    if spec.limits.distinct_queries_per_day is not None:
        lines += [(f"  of {pipeline}, today", _number(count)) for pipeline, count in asked.items()]
    width = max(len(title) for title, _ in lines)
    for title, value in lines:
        out.print(f"{title:{width}}  {value}", markup=False, soft_wrap=True)


@tenants.command()
def add(
    tenant: Name,
    home: Home = DEFAULT_HOME,
    pipelines: Pipelines = None,
    scopes: Scopes = None,
    priority: Priority = None,
    rows_per_s: RowsPerS = None,
    rows_burst: RowsBurst = None,
    bytes_per_s: BytesPerS = None,
    bytes_burst: BytesBurst = None,
    concurrency: Concurrency = None,
    max_rows: MaxRows = None,
    distinct_queries_per_day: DistinctQueries = None,
) -> None:
    """Make a tenant. What is not said of its limits is as for every new one; `headrace tenants show` has it."""
    limits = _limits(
        rows_per_s, rows_burst, bytes_per_s, bytes_burst, concurrency, max_rows, distinct_queries_per_day
    )

    def added(file: documents.TenantsFile) -> documents.TenantsFile:
        if tenant in file.tenants:
            raise ConfigError(f"tenant {tenant!r} exists; change it by: headrace tenants set")
        spec = documents.TenantSpec(limits=documents.NEW_LIMITS)
        return file.with_tenant(tenant, _changed(spec, pipelines, scopes, priority, limits))

    _change(home, added)
    out.print(f"tenant {tenant} is made; make a key for it by: headrace keys create {tenant}")


@tenants.command(name="set")
def set_tenant(
    tenant: Name,
    home: Home = DEFAULT_HOME,
    pipelines: Pipelines = None,
    scopes: Scopes = None,
    priority: Priority = None,
    rows_per_s: RowsPerS = None,
    rows_burst: RowsBurst = None,
    bytes_per_s: BytesPerS = None,
    bytes_burst: BytesBurst = None,
    concurrency: Concurrency = None,
    max_rows: MaxRows = None,
    distinct_queries_per_day: DistinctQueries = None,
) -> None:
    """Change what a tenant may use. What is not said stays."""
    limits = _limits(
        rows_per_s, rows_burst, bytes_per_s, bytes_burst, concurrency, max_rows, distinct_queries_per_day
    )
    if not limits and pipelines is None and scopes is None and priority is None:
        fail("say what to change; see: headrace tenants set --help")
    _change(
        home,
        lambda file: file.with_tenant(
            tenant, _changed(file.tenant(tenant), pipelines, scopes, priority, limits)
        ),
    )
    show(tenant, home)


@tenants.command()
def remove(
    tenant: Name,
    home: Home = DEFAULT_HOME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a tenant away with all its keys; requests with them are refused from the next second on."""
    try:
        keys = len(_load(prepared(home)).tenant(tenant).keys)
    except ConfigError as error:
        fail(str(error))
    if not yes:
        typer.confirm(f"Remove tenant {tenant} and its keys ({keys})?", abort=True)
    _change(home, lambda file: file.without_tenant(tenant))
    out.print(f"tenant {tenant} is removed")


def _told(spec: documents.TenantSpec) -> dict[str, Any]:
    """A tenant for programs: no hashes of keys."""
    return {
        "pipelines": spec.pipelines,
        "scopes": spec.scopes,
        "priority": spec.priority,
        "keys": [key.id for key in spec.keys],
        "limits": spec.limits.model_dump(),
    }


def _limits(
    rows_per_s: str | None,
    rows_burst: str | None,
    bytes_per_s: str | None,
    bytes_burst: str | None,
    concurrency: str | None,
    max_rows: str | None,
    distinct_queries_per_day: str | None,
) -> dict[str, str | None]:
    """The limits that were said, by field; None for `none`."""
    said = {
        "rows_per_s": rows_per_s,
        "rows_burst": rows_burst,
        "bytes_per_s": bytes_per_s,
        "bytes_burst": bytes_burst,
        "concurrency": concurrency,
        "max_rows": max_rows,
        "distinct_queries_per_day": distinct_queries_per_day,
    }
    return {
        field: None if value == _NO_LIMIT else value for field, value in said.items() if value is not None
    }


def _changed(
    spec: documents.TenantSpec,
    pipelines: list[str] | None,
    scopes: list[str] | None,
    priority: int | None,
    limits: dict[str, str | None],
) -> documents.TenantSpec:
    """The tenant with what was said in place of what it had. Raises ConfigError, naming what is wrong."""
    changed: dict[str, Any] = {}
    if pipelines is not None:
        changed["pipelines"] = tuple(pipelines)
    if scopes is not None:
        changed["scopes"] = read_scopes(scopes)
    if priority is not None:
        changed["priority"] = priority
    if limits:
        try:
            changed["limits"] = documents.QuotaSpec.model_validate({**spec.limits.model_dump(), **limits})
        except ValidationError as error:
            wrong = error.errors()[0]
            option = str(wrong["loc"][0]).replace("_", "-")
            raise ConfigError(f"--{option}: {wrong['msg']}, or `{_NO_LIMIT}`") from error
    return spec.model_copy(update=changed)


def _change(home: Path, how: Callable[[documents.TenantsFile], documents.TenantsFile]) -> None:
    try:
        documents.change(prepared(home).tenants, how)
    except ConfigError as error:
        fail(str(error))


def _load(layout: Layout) -> documents.TenantsFile:
    try:
        return documents.load(layout.tenants)
    except ConfigError as error:
        fail(str(error))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,g}"
