"""`headrace audit witness`: sign checkpoints of another machine's log, if they go on from the last one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from headrace.audit.notes import WITNESS, NoteError, ensure_keys, read_signer, read_verifier
from headrace.audit.witness import Witness
from headrace.audit.witness.server import server
from headrace.cli.console import err, fail, out

_WALL = time.time  # noqa: TID251 - a signature says when it was made


def witness(
    folder: Annotated[
        Path, typer.Argument(help="Where the last checkpoints and the witness's key are kept.")
    ],
    logs: Annotated[list[Path], typer.Option("--log", help="Public key (audit.pub) of a log to sign for.")],
    name: Annotated[
        str, typer.Option(help="Name of the witness, the first time.")
    ] = "headrace.local/witness",
    listen: Annotated[str, typer.Option(help="Address and port.")] = "127.0.0.1:9099",
) -> None:
    """Run a witness. Do so on a machine that the log's owner does not hold: what it signed can't be undone there."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        fail(f"{listen!r} is no address and port, such as 0.0.0.0:9099")
    private, public = folder / "witness.key", folder / "witness.pub"
    try:
        ensure_keys(private, public, name, WITNESS)
        keeping = Witness(
            folder / "checkpoints", read_signer(private), [read_verifier(p) for p in logs], _WALL
        )
    except NoteError as error:
        fail(str(error))
    with server(
        (host.strip("[]"), int(port)), keeping, lambda text: err.print(text, markup=False)
    ) as listening:
        out.print(f"signs at http://{host}:{listening.server_port}; its public key: {public}", markup=False)
        out.print(
            "Next, at the log: put it into HOME/settings/audit.yaml (witnesses), and restart monitoring",
            style="dim",
        )
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            return
