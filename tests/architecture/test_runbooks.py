"""Runbooks: every alert has its page with the same parts, and what a page says to type can be typed."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import click
import typer

from headrace.cli.main import app
from headrace.slo import alert_names, alerts, runbook

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/runbooks"
PAGES = sorted(FOLDER.glob("*.md"))
PARTS = ["What it means", "How to see it", "How to mend it", "How to verify"]
_COMMAND = re.compile(r"`(headrace [a-z][^`]*)`")
# `… && …`, `… </dev/null` and pipes: the rest is the shell's.
_SHELL = {"&&", "|", ";", "||"}


def commands() -> list[tuple[str, str]]:
    """(where, what to type): of the pages, and the next steps of the alerts."""
    found = [(page.name, text) for page in PAGES for text in _COMMAND.findall(page.read_text())]
    steps = [(rule["alert"], rule["annotations"]["next_step"]) for rule in alerts()]
    templates = [(name, re.sub(r"{{.*?}}", "NAME", step)) for name, step in steps]
    return sorted(set(found + templates))


@cache
def root() -> Any:
    """The command: typer's own copy of click, which has no public types."""
    return typer.main.get_command(app)


def parse(words: list[str]) -> None:
    """Parses a command line as the command would, and does not run it. Raises click.ClickException. A group alone is its help."""
    command, arguments = root(), words
    while hasattr(command, "commands"):
        if not arguments:
            return
        name = arguments[0]
        if name not in command.commands:
            raise click.UsageError(f"there is no command {name!r}")
        command, arguments = command.commands[name], arguments[1:]
    command.make_context(words[-1], list(arguments))


def refusal(text: str) -> str:
    """Why a line can't be typed; empty if it can."""
    words = shlex.split(text.replace("…", "x"))[1:]
    end = next((i for i, word in enumerate(words) if word in _SHELL), len(words))
    try:
        parse(words[:end])
    except Exception as error:  # noqa: BLE001 - typer has click's exceptions under names of its own
        return f"{error!r} {error}"
    return ""


def test_what_a_page_says_to_type_can_be_typed() -> None:
    refused = [f"{where}: {text}: {why}" for where, text in commands() if (why := refusal(text))]
    assert not refused, "\n".join(refused)


def test_the_parser_of_this_test_refuses_what_cannot_be_typed() -> None:
    for wrong in ("relaese show", "release shw", "release show --no-such", "trace"):
        assert refusal(f"headrace {wrong}"), wrong


def test_each_alert_has_a_page_with_all_parts() -> None:
    listed = (FOLDER / "README.md").read_text()
    for name in alert_names():
        page = (FOLDER / runbook(name)).read_text()
        assert f"`{name}`" in page, name
        assert re.findall(r"^## (.+)$", page, re.MULTILINE) == PARTS, name
        assert f"[{runbook(name)}]" in listed, name


def test_no_page_is_of_an_alert_that_is_gone() -> None:
    named = {found for page in PAGES for found in re.findall(r"Headrace[A-Z]\w+", page.read_text())}
    assert named - set(alert_names()) == set()
