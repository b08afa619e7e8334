"""`headrace tenants`: who may use what, and how much. The doors have a change at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from headrace.access import changes
from headrace.access.records import Access, AccessError
from headrace.access.specs import NEW_LIMITS, QuotaSpec, TenantSpec
from headrace.cli.commands.access.control import by, read_scopes, records
from headrace.cli.consent import agree
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place
from headrace.cli.installation.secrets import DEMO_LIMITS
from headrace.cli.tables import headed_table
from headrace.state import queries

tenants = typer.Typer(help="Tenants: what each may use, and how much.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the tenant.")]
_NO_LIMIT = "none"


# By field of the document: what a person reads, and the help of the option that sets it.
_LIMITS = {
    "rows_per_s": ("rows per second", "Rows per second, or `none`."),
    "rows_burst": (
        "rows at once",
        "Rows that may come at once after a quiet time, or `none`: one second's worth. Never given: follows the rate.",
    ),
    "bytes_per_s": ("bytes per second", "Bytes of messages per second, or `none`."),
    "bytes_burst": ("bytes at once", "The same of bytes, or `none`."),
    "concurrency": ("requests in flight", "Requests in flight at once, or `none`."),
    "max_rows": ("rows of a request", "Rows of one request, or `none`."),
    "distinct_queries_per_day": (
        "different rows per day and pipeline",
        "Different rows that it may ask of each pipeline in a day (UTC), against the copying of models; or `none`.",
    ),
}
_OTHERS = ("priority", "regulated", "requires_encryption")
# Bursts and their rates. One that nobody gave stands to its rate as in the limits of a new tenant, or of the demo.
_BURSTS = {"rows_burst": "rows_per_s", "bytes_burst": "bytes_per_s"}
_DEFAULTS = (NEW_LIMITS.model_dump(), DEMO_LIMITS.model_dump())
# What `add` and `set` take, besides the tenant and the home. Absent: as it was.
_OPTIONS: dict[str, Any] = {
    "pipelines": Annotated[
        list[str] | None,
        typer.Option("--pipeline", help="What it may use; `*` is all. Replaces what it had."),
    ],
    "scopes": Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="What it may do: predict, read, outcomes, operate, operate:PIPELINE. Replaces all.",
        ),
    ],
    "priority": Annotated[int | None, typer.Option(min=1, max=10, help="Lower is refused first under load.")],
    "regulated": Annotated[
        bool | None,
        typer.Option(
            "--regulated/--not-regulated",
            help="Whether the event of each prediction must be on the disk before the answer.",
        ),
    ],
    "requires_encryption": Annotated[
        bool | None,
        typer.Option(
            "--requires-encryption/--plain-storage",
            help="Whether it is refused where nobody attests that all storage is encrypted.",
        ),
    ],
    **{field: Annotated[str | None, typer.Option(help=text)] for field, (_, text) in _LIMITS.items()},
}


@dataclass(frozen=True, slots=True)
class _Change:
    """What a person wants of a tenant. None, or a limit that is not there: as it was."""

    pipelines: list[str] | None
    scopes: list[str] | None
    # By field of the document.
    others: Mapping[str, int | bool]
    # By field; None: no limit.
    limits: Mapping[str, str | None]

    @property
    def empty(self) -> bool:
        return not (self.limits or self.others) and self.pipelines is None and self.scopes is None


def _with_options(command: Callable[[str, Path, _Change], None]) -> Callable[..., None]:
    """The command with an option for each thing that can be changed in a tenant."""

    def called(tenant: str, home: Path, **said: Any) -> None:
        limits = {
            field: None if said[field] == _NO_LIMIT else said[field]
            for field in _LIMITS
            if said[field] is not None
        }
        others = {field: said[field] for field in _OTHERS if said[field] is not None}
        command(tenant, home, _Change(said["pipelines"], said["scopes"], others, limits))

    parameters = [
        Parameter("tenant", Parameter.KEYWORD_ONLY, annotation=Name),
        Parameter("home", Parameter.KEYWORD_ONLY, default=DEFAULT_HOME, annotation=Home),
        *(Parameter(n, Parameter.KEYWORD_ONLY, default=None, annotation=a) for n, a in _OPTIONS.items()),
    ]
    # Typer reads the signature and the annotations.
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # any function may have one
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called


@tenants.command(name="list")
def list_tenants(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the tenants with their limits; `-` is none."""
    access = _read(home)
    if as_json:
        print(json.dumps({name: _told(access, name) for name in sorted(access.tenants)}, indent=2))
        return
    table = headed_table(
        "tenant", "pipelines", "keys", "rows/s", "bytes/s", "in flight", "rows", "different/day"
    )
    for name, spec in sorted(access.tenants.items()):
        shown = (getattr(spec.limits, field) for field in _LIMITS if field not in _BURSTS)
        numbers = ("-" if value is None else _number(value) for value in shown)
        table.add_row(name, ", ".join(spec.pipelines) or "-", str(len(access.keys[name])), *numbers)
    out.print(table)


@tenants.command()
def show(tenant: Name, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show what one tenant may use, and what it has asked today."""
    access = _read(home, tenant)
    spec = access.tenant(tenant)
    today = queries.used(place(home).queries, f"{datetime.now(UTC):%Y%m%d}")
    asked = {use.pipeline: use.count for use in today if use.tenant == tenant}
    if as_json:
        print(json.dumps({**_told(access, tenant), "distinct_queries_today": asked}, indent=2))
        return
    lines = [
        ("tenant", tenant),
        ("pipelines", ", ".join(spec.pipelines) or "none"),
        ("may", ", ".join(spec.scopes)),
        ("priority", str(spec.priority)),
        ("regulated", "yes" if spec.regulated else "no"),
        ("requires encryption", "yes" if spec.requires_encryption else "no"),
        ("keys", ", ".join(access.keys[tenant]) or "none"),
    ]
    for field, (title, _) in _LIMITS.items():
        value = getattr(spec.limits, field)
        if value is None and field in _BURSTS:
            value = getattr(spec.limits, _BURSTS[field])
        lines.append((title, "no limit" if value is None else _number(value)))
    if spec.limits.distinct_queries_per_day is not None:
        lines += [(f"  of {pipeline}, today", _number(count)) for pipeline, count in asked.items()]
    width = max(len(title) for title, _ in lines)
    for title, value in lines:
        out.print(f"{title:{width}}  {value}", markup=False, soft_wrap=True)


@tenants.command()
@_with_options
def add(tenant: str, home: Path, change: _Change) -> None:
    """Make a tenant. What is not said of its limits is as for every new one; `headrace tenants show` has it."""

    def added(found: TenantSpec | None) -> TenantSpec:
        if found is not None:
            raise AccessError(f"tenant {tenant!r} exists; change it by: headrace tenants set")
        return _changed(TenantSpec(limits=NEW_LIMITS), change)

    with records(home) as asked:
        changes.edit_tenant(asked, tenant, added, by())
    out.print(f"tenant {tenant} is made; make a key for it by: headrace keys create {tenant}")


@tenants.command(name="set")
@_with_options
def set_tenant(tenant: str, home: Path, change: _Change) -> None:
    """Change what a tenant may use. What is not said stays."""
    if change.empty:
        fail("say what to change; see: headrace tenants set --help")
    with records(home) as asked:

        def edited(found: TenantSpec | None) -> TenantSpec:
            return _changed(changes.read(asked).tenant(tenant) if found is None else found, change)

        changes.edit_tenant(asked, tenant, edited, by())
    show(tenant, home)


@tenants.command()
def remove(tenant: Name, home: Home = DEFAULT_HOME) -> None:
    """Take a tenant away with all its keys; requests with them are refused within a second."""
    keys = len(_read(home, tenant).keys[tenant])
    agree(f"tenant {tenant} and its keys ({keys}) are removed")
    with records(home) as asked:
        changes.remove_tenant(asked, tenant, by())
    out.print(f"tenant {tenant} is removed")


def _told(access: Access, name: str) -> dict[str, Any]:
    """A tenant for programs: no hashes of keys."""
    return {**access.tenants[name].model_dump(), "keys": list(access.keys[name])}


def _changed(spec: TenantSpec, change: _Change) -> TenantSpec:
    """The tenant with what was said in place of what it had. Raises AccessError, naming what is wrong."""
    changed: dict[str, Any] = dict(change.others)
    if change.pipelines is not None:
        changed["pipelines"] = tuple(change.pipelines)
    if change.scopes is not None:
        changed["scopes"] = read_scopes(change.scopes)
    if change.limits:
        limits = {**spec.limits.model_dump(), **change.limits}
        try:
            valid = QuotaSpec.model_validate(limits)
            changed["limits"] = valid.model_copy(update=_following(spec.limits, valid, change.limits))
        except ValidationError as error:
            wrong = error.errors()[0]
            option = str(wrong["loc"][0]).replace("_", "-")
            raise AccessError(f"--{option}: {wrong['msg']}, or `{_NO_LIMIT}`") from error
    return spec.model_copy(update=changed)


def _following(before: QuotaSpec, after: QuotaSpec, said: Mapping[str, str | None]) -> dict[str, float]:
    """The bursts that nobody gave, for the rates that were said."""
    found: dict[str, float] = {}
    old, new = before.model_dump(), after.model_dump()
    for burst, rate in _BURSTS.items():
        if burst in said or rate not in said or new[rate] is None:
            continue
        for default in _DEFAULTS:
            ratio = default[burst] / default[rate]
            if old[burst] == (old[rate] or default[rate]) * ratio:
                found[burst] = new[rate] * ratio
    return found


def _read(home: Path, needed: str | None = None) -> Access:
    """All tenants; ends the command if `needed` is not one of them."""
    with records(home) as asked:
        access = changes.read(asked)
        if needed is not None:
            access.tenant(needed)
    for problem in access.problems:
        err.print(problem, style="yellow", markup=False, soft_wrap=True)
    return access


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,g}"
