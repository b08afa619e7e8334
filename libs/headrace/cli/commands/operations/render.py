"""`headrace render DIR`: the files of a deployment with compose, from one description."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from headrace.cli.console import fail, out
from headrace.cli.deployment import compose
from headrace.cli.deployment.description import Description
from headrace.hop import config
from headrace.state import atomic

_HEAD = "# Made by `headrace render`; what differs belongs into the description.\n"


def render(
    folder: Annotated[Path, typer.Argument(help="Where the files are written.")],
    description: Annotated[
        Path | None, typer.Option("--description", help="YAML: namespace, registry, version, database, …")
    ] = None,
) -> None:
    """Write the settings of each service, and the compose file around them."""
    try:
        made = compose.files(config.load(Description, description, {}))
    except config.ConfigError as error:
        fail(str(error))
    for name, content in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = _HEAD + yaml.dump(content, Dumper=_Plain, sort_keys=False, width=130)
        atomic.write(folder / name, text.encode())
    out.print(f"{len(made)} files in {folder}")


class _Plain(yaml.SafeDumper):
    """Writes a value out each time: programs read anchors, people do not."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True
