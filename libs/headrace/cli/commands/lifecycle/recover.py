"""`headrace recover`: a person decides what is right when control's database and the data plane differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.catalog.access import Change
from headrace.catalog.errors import RecordsError
from headrace.catalog.remote import RemoteRecords
from headrace.cli.backup import recovery
from headrace.cli.backup.recovery import Difference
from headrace.cli.commands.models.options import user
from headrace.cli.consent import agree
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.installation import control_place
from headrace.hop.config import ConfigError
from headrace.repository.storage.store import open_store
from headrace.resources.manifest import Verifier
from headrace.resources.snapshot import part_of

_SHOWN = 40


def recover(
    home: Home = DEFAULT_HOME,
    keep_database: Annotated[
        bool, typer.Option("--keep-database", help="What the database has becomes live everywhere.")
    ] = False,
    from_data_planes: Annotated[
        bool,
        typer.Option("--from-data-planes", help="What the services serve by is written into the database."),
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit.")] = "",
    artifacts: Annotated[
        str,
        typer.Option(
            "--artifacts",
            help="Folder or bucket in which a cluster's control keeps what is live; default: the home's.",
        ),
    ] = "",
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="Of that control; default: the home's.")
    ] = None,
) -> None:
    """Begin the history of what is live anew, after control's database was emptied, restored, or lost changes.

    Shows first what would go live, what would be gone, and which revoked keys would be valid again.
    """
    if keep_database == from_data_planes:
        fail("say which side is right: --keep-database or --from-data-planes")
    layout = place(home)
    try:
        records = RemoteRecords(control_place.target(layout))
    except (ConfigError, ValueError) as error:
        fail(str(error))
    try:
        parts = recovery.newest_parts(
            {service: layout.resources(service) for service in recovery.SERVICES},
            open_store(artifacts or layout.artifacts),
            Verifier([(public_key or layout.control_public_key).read_bytes()]),
        )
        if from_data_planes and not parts:
            fail("neither processes on this machine nor the artifact store have anything that control signed")
        kinds = {kind for service in parts for kind in part_of(service)}
        there = recovery.resources_of(parts.values())
        found = recovery.differences(records, kinds, there)
        _print_differences(found, keep=keep_database)
        agree("", "Begin anew with this?")
        made = () if keep_database else recovery.writes(records, found)
        action = "records.keep_database" if keep_database else "records.from_data_planes"
        position = records.begin_epoch(Change(user(), action, "records", made, reason))
    except (RecordsError, OSError, ValueError) as error:
        fail(str(error))
    finally:
        records.close()
    out.print(f"epoch {position.epoch} begins with change {position.number}; services follow within seconds")


def _print_differences(found: list[Difference], *, keep: bool) -> None:
    if not found:
        out.print("both sides have the same; the history begins anew all the same")
    for one in found[:_SHOWN]:
        out.print(f"  {_sentence(one, keep=keep)}", markup=False, soft_wrap=True)
    if len(found) > _SHOWN:
        out.print(f"  and {len(found) - _SHOWN} more")


def _sentence(one: Difference, *, keep: bool) -> str:
    """What becomes of it."""
    stays, goes = (one.here, one.there) if keep else (one.there, one.here)
    what = f"{one.kind} {one.name}"
    if stays is None:
        return f"{what}: will be gone"
    if goes is None:
        returns = " (revoked, or made by the other side alone)" if one.kind == "key" else ""
        return f"{what}: will be valid again{returns}" if one.kind == "key" else f"{what}: goes live again"
    return f"{what}: goes live as the {'database' if keep else 'data plane'} has it"
