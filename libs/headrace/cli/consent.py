"""A command that changes what serves or is kept says what it will do and asks; without a terminal it needs `--yes`.

`main.py` applies this to every command that it loads, so a new command asks unless it is in `UNASKED`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.main import get_command

from headrace.cli.console import err, fail

# Reason → the commands that change nothing that serves or is kept.
UNASKED: Mapping[str, tuple[str, ...]] = {
    "it reads": (
        *("status", "trace", "doctor", "readiness", "logs", "security", "cost", "plan", "pipeline check"),
        *("tenants list", "tenants show", "keys list", "features check", "models list", "models show"),
        *("models verify", "release show", "release history", "rollout status", "experiment status"),
        *("shadow report", "events list", "events show", "events gaps", "outcomes show", "audit verify"),
        *("explain prediction", "explain coverage", "explain bias"),
        "slo status",
    ),
    "it runs models in its own process": ("events replay", "cascade tune"),
    "it sends what any caller may send": ("predict", "outcomes post"),
    "it starts what is absent, or ends it until the next `up`; service managers call it": ("up", "down"),
    "it makes a file that nothing reads until somebody says so": (
        *("backup", "models baseline", "models keys", "audit export"),
    ),
}
# Commands that call `agree` themselves, once they know what will change.
ASKS_ITSELF = frozenset(
    (
        *("release deploy", "release apply", "release rollback", "release label", "release freeze"),
        *("release remove", "rollout start", "rollout pause", "rollout resume", "rollout promote"),
        *("rollout abort", "experiment start", "experiment stop", "shadow start", "shadow stop"),
        *("tenants remove", "events erase", "recover"),
    )
)


@dataclass(frozen=True, slots=True)
class _Given:
    """The options of the command that runs."""

    command: str = "this command"
    yes: bool = False
    dry_run: bool = False


_GIVEN: ContextVar[_Given] = ContextVar("given")


def agree(what: str, question: str = "Do it?") -> None:
    """Returns if the person at the terminal agrees, or `--yes` does; else it ends the command, and nothing was changed.

    `what`: what will change; "": it was said already.
    """
    given = _GIVEN.get(_Given())
    if given.yes and not given.dry_run:
        return
    if what:
        err.print(what, markup=False, soft_wrap=True)
    if given.dry_run:
        err.print("nothing was changed (--dry-run)", style="yellow")
        raise typer.Exit
    if sys.stdin is None or not sys.stdin.isatty():
        fail(
            f"nothing was changed, as nobody can be asked here; if {given.command} shall be done: add --yes",
            code=2,
        )
    if not typer.confirm(question, err=True):
        err.print("nothing was changed", style="yellow")
        raise typer.Exit(1)


def ask_first(command: Any, path: str) -> Any:
    """The command, or group of commands, each of which asks first if it has to. `path`: as a person types it."""
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            ask_first(one, f"{path} {name}")
    elif not any(path in commands for commands in UNASKED.values()):
        _with_options(command, path)
    return command


def _with_options(command: Any, path: str) -> None:
    run, own = command.callback, list(command.params)

    def called(yes: bool, dry_run: bool, **values: Any) -> Any:
        _GIVEN.set(_Given(path, yes, dry_run))
        if path not in ASKS_ITSELF:
            agree(_said(command, path, own, values))
        return run(**values)

    options = typer.Typer(add_completion=False)
    options.command()(_options)
    command.params += get_command(options).params
    command.callback = called


def _options(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """The options of every command that changes something."""


def _said(command: Any, path: str, own: list[Any], values: Mapping[str, Any]) -> str:
    """What the command does, and what was typed for it."""
    typed = {p.name: v for p in own if (v := values.get(p.name)) not in (None, False, "", (), [], p.default)}
    text = command.help.partition("\n\n")[0].replace("\n", " ")
    return "\n".join([f"{path}: {text}", *(f"  {name}: {value}" for name, value in typed.items())])
