"""`headrace keys`: API keys of tenants. The ingress sees a change within a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from headrace.cli.commands.access.scopes import read_scopes
from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out, place, prepared
from headrace.hop.config import ConfigError
from headrace.state import tenants

keys = typer.Typer(help="API keys of tenants.", no_args_is_help=True)
Tenant = Annotated[str, typer.Argument(help="Name of the tenant.")]


@keys.command()
def create(
    tenant: Tenant,
    home: Home = DEFAULT_HOME,
    pipelines: Annotated[
        list[str] | None, typer.Option("--pipeline", help="What a new tenant may use; `*` is all.")
    ] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="What the key may do: predict, read, outcomes, operate, or operate:PIPELINE. Absent: what its tenant may do.",
        ),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Until it expires; never if absent.")
    ] = None,
) -> None:
    """Make a key and print it: this once, for only its hash is kept. Makes the tenant if need be.

    A new tenant may do what `--scope` says; without it, predict and read. Only `operate` loads and unloads models.
    """
    layout = prepared(home)
    wanted = read_scopes(scopes or [])
    now = datetime.now(UTC)
    expires = None if days is None else now + timedelta(days=days)
    try:
        text, kept = tenants.new_key(created=now, expires=expires)
        if wanted:
            kept = kept.model_copy(update={"scopes": wanted})
        file = tenants.change(
            layout.tenants, lambda file: _with_key(file, tenant, kept, tuple(pipelines or ()), wanted)
        )
    except ConfigError as error:
        fail(str(error))
    spec = file.tenant(tenant)
    if not spec.pipelines and "predict" in spec.scopes:
        err.print(
            f"tenant {tenant} may use no pipeline yet; see: headrace tenants set --help", style="yellow"
        )
    if len(spec.keys) == 1 and spec.limits == tenants.NEW_LIMITS:
        err.print(f"its limits are those of new tenants; see: headrace tenants show {tenant}", style="dim")
    err.print(f"key {kept.id} of {tenant}; keep it, it is shown only now:", style="dim")
    print(text)


@keys.command(name="list")
def list_keys(
    tenant: Annotated[str | None, typer.Argument(help="Name of the tenant; all if absent.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """List tenants and their keys, by id."""
    try:
        file = tenants.load(place(home).tenants)
        names = sorted(file.tenants) if tenant is None else [tenant]
        found = [(name, file.tenant(name)) for name in names]
    except ConfigError as error:
        fail(str(error))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("tenant", "pipelines", "key", "may", "created", "expires"):
        table.add_column(column)
    for name, spec in found:
        for key in spec.keys:
            may = ", ".join(
                spec.scopes if key.scopes is None else sorted(tenants.narrowed(spec.scopes, key.scopes))
            )
            created, expires = _day(key.created), _day(key.expires) or "never"
            table.add_row(name, ", ".join(spec.pipelines), key.id, may, created, expires)
        if not spec.keys:
            table.add_row(name, ", ".join(spec.pipelines), "none", "", "", "")
    out.print(table)


@keys.command()
def revoke(
    tenant: Tenant,
    key: Annotated[str, typer.Argument(help="Id of the key, as `headrace keys list` shows it.")],
    home: Home = DEFAULT_HOME,
) -> None:
    """Take a key away; requests with it are refused from the next second on."""
    layout = place(home)
    try:
        tenants.change(layout.tenants, lambda file: file.without_key(tenant, key))
    except ConfigError as error:
        fail(str(error))
    out.print(f"key {key} of {tenant} is revoked")


def _with_key(
    file: tenants.TenantsFile,
    name: str,
    key: tenants.KeySpec,
    pipelines: tuple[str, ...],
    scopes: tuple[tenants.Scope, ...],
) -> tenants.TenantsFile:
    """The file with one more key for a tenant, which is made if it is new. Raises ConfigError if the key may do more than it."""
    if name not in file.tenants:
        made = tenants.TenantSpec(
            pipelines=pipelines, scopes=scopes or tenants.DEFAULT_SCOPES, limits=tenants.NEW_LIMITS
        )
        return file.with_tenant(name, made).with_key(name, key)
    if pipelines:
        raise ConfigError(f"tenant {name!r} exists; change its pipelines by: headrace tenants set")
    own = file.tenant(name).scopes
    if beyond := [s for s in scopes if s not in tenants.narrowed(own, scopes)]:
        raise ConfigError(
            f"tenant {name!r} itself may not {', '.join(beyond)}; allow it by: headrace tenants set --scope, "
            "or make another tenant"
        )
    return file.with_key(name, key)


def _day(value: datetime | None) -> str:
    return "" if value is None else f"{value:%Y-%m-%d}"
