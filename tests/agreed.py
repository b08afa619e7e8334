"""Commands as a script types them that agrees to what they change."""

from typing import Any

from typer.main import get_command

from headrace.cli.main import app


def with_yes(*words: object) -> list[str]:
    """The words of a `headrace` command, with `--yes` if it has that option and says none."""
    found: Any = get_command(app)
    for word in words:
        if hasattr(found, "commands") and word in found.commands:
            found = found.commands[word]
    options = {option for parameter in found.params for option in parameter.opts}
    asks = "--yes" in options and not {"--yes", "--dry-run"} & set(words)
    return [*map(str, words), *(["--yes"] if asks else [])]
