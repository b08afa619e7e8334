"""`headrace keys`: API keys of tenants. The doors have a change at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from headrace.access import changes
from headrace.access.records import AccessError
from headrace.access.specs import DEFAULT_SCOPES, NEW_LIMITS, Scope, TenantSpec, narrowed, new_key
from headrace.cli.commands.access.control import by, late_doors, read_scopes, records
from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out
from headrace.cli.tables import headed_table

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
    wanted = read_scopes(scopes or [])
    now = datetime.now(UTC)
    expires = None if days is None else now + timedelta(days=days)
    text, key = new_key(created=now, expires=expires)
    if wanted:
        key = key.model_copy(update={"scopes": wanted})
    with records(home) as asked:
        spec = changes.add_key(
            asked, tenant, key, lambda found: _tenant(tenant, found, tuple(pipelines or ()), wanted), by()
        )
        count = len(changes.keys_of(asked, tenant))
    if not spec.pipelines and "predict" in spec.scopes:
        err.print(
            f"tenant {tenant} may use no pipeline yet; see: headrace tenants set --help", style="yellow"
        )
    if count == 1 and spec.limits == NEW_LIMITS:
        err.print(f"its limits are those of new tenants; see: headrace tenants show {tenant}", style="dim")
    err.print(f"key {key.id} of {tenant}; keep it, it is shown only now:", style="dim")
    print(text)


@keys.command(name="list")
def list_keys(
    tenant: Annotated[str | None, typer.Argument(help="Name of the tenant; all if absent.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """List tenants and their keys, by id."""
    with records(home) as asked:
        access = changes.read(asked)
        names = sorted(access.tenants) if tenant is None else [tenant]
        found = [(name, access.tenant(name)) for name in names]
    table = headed_table("tenant", "pipelines", "key", "may", "created", "expires")
    for name, spec in found:
        for key in access.keys[name].values():
            may = ", ".join(spec.scopes if key.scopes is None else sorted(narrowed(spec.scopes, key.scopes)))
            created, expires = _day(key.created), _day(key.expires) or "never"
            table.add_row(name, ", ".join(spec.pipelines), key.id, may, created, expires)
        if not access.keys[name]:
            table.add_row(name, ", ".join(spec.pipelines), "none", "", "", "")
    out.print(table)


@keys.command()
def revoke(
    tenant: Tenant,
    key: Annotated[str, typer.Argument(help="Id of the key, as `headrace keys list` shows it.")],
    home: Home = DEFAULT_HOME,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once every door refuses it; name those that may not.")
    ] = False,
) -> None:
    """Take a key away; every door that hears of control refuses it within a second."""
    with records(home) as asked:
        made = changes.revoke_key(asked, tenant, key, by())
        out.print(f"key {key} of {tenant} is revoked")
        if wait and (late := late_doors(asked, made.position)):
            fail("not known to have it yet: " + "; ".join(late))


def _tenant(
    name: str, found: TenantSpec | None, pipelines: tuple[str, ...], scopes: tuple[Scope, ...]
) -> TenantSpec:
    """The tenant of a new key, made if there is none. Raises AccessError if the key may do more than it."""
    if found is None:
        return TenantSpec(pipelines=pipelines, scopes=scopes or DEFAULT_SCOPES, limits=NEW_LIMITS)
    if pipelines:
        raise AccessError(f"tenant {name!r} exists; change its pipelines by: headrace tenants set")
    if beyond := [s for s in scopes if s not in narrowed(found.scopes, scopes)]:
        raise AccessError(
            f"tenant {name!r} itself may not {', '.join(beyond)}; allow it by: headrace tenants set --scope, "
            "or make another tenant"
        )
    return found


def _day(value: datetime | None) -> str:
    return "" if value is None else f"{value:%Y-%m-%d}"
