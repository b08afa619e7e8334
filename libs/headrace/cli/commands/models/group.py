"""`headrace models`: its commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.models import baseline, load_unload, registration, repository

models = typer.Typer(
    help="The model repository: versions, signatures, labels; which versions serve.", no_args_is_help=True
)
models.command()(load_unload.load)
models.command()(load_unload.unload)
models.command()(registration.keys)
models.command()(registration.add)
models.command(name="baseline")(baseline.make)
models.command(name="list")(repository.list_models)
models.command()(repository.show)
models.command()(repository.verify)
models.command(name="label")(repository.label_)
models.command(name="remove")(repository.remove_)
