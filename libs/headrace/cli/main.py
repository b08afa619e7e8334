"""The `headrace` command.

A command's module is imported when the command is called: all of them together take a second of a processor, which
`headrace down` and each script that calls `headrace` would pay.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from headrace.cli.consent import ask_first
from headrace.cli.console import fail

_PACKAGE = "headrace.cli.commands"
# Each command or group of commands, and its module; in the order in which the help shows them. It has its name there, too.
COMMANDS = {
    "up": "lifecycle.up",
    "down": "lifecycle.down",
    "restart": "lifecycle.restart",
    "status": "lifecycle.status",
    "predict": "requests.predict",
    "trace": "requests.trace",
    "doctor": "lifecycle.doctor",
    "readiness": "operations.readiness",
    "logs": "lifecycle.logs",
    "backup": "lifecycle.backup",
    "restore": "lifecycle.backup",
    "recover": "lifecycle.recover",
    "security": "access.security",
    "pipeline": "pipeline",
    "tenants": "access.tenants",
    "keys": "access.keys",
    "features": "features",
    "models": "models.group",
    "cascade": "cascade",
    "outcomes": "requests.outcomes",
    "release": "releases.group",
    "rollout": "releases.group",
    "experiment": "releases.group",
    "shadow": "operations.shadow",
    "events": "operations.events",
    "explain": "operations.explain",
    "audit": "audit.group",
    "slo": "operations.slo",
    "cost": "operations.cost",
    "plan": "operations.cost",
}


class _Loaded(MutableMapping[str, Any]):
    """The commands by name; each is imported when it is taken."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are not taken away")

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS


def _load(name: str) -> Any:
    if name not in COMMANDS:
        raise KeyError(name)
    found = getattr(import_module(f"{_PACKAGE}.{COMMANDS[name]}"), name)
    parent = typer.Typer(callback=_any_command)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        parent.command(name)(found)
    return ask_first(get_group(parent).commands[name], name)


def _any_command() -> None:
    """Makes a group of an app that has one command, or none yet."""


class _Commands(TyperGroup):
    """The commands. An error of the operating system (a full disk, no permission) ends one with a sentence."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Loaded()

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE or not error.strerror:
                raise  # nobody reads our output any more; or not an error of the operating system
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror.lower()}")


app = typer.Typer(
    cls=_Commands,
    help="An inference pipeline as a suite of gRPC services behind Envoy.",
    callback=_any_command,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold keys
)
