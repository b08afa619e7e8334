"""`headrace render DIR --for kubernetes|compose`: the files of a deployment, from one description."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from headrace.cli.console import fail, out
from headrace.cli.deployment import compose
from headrace.cli.deployment.description import Description
from headrace.cli.deployment.kubernetes import tree
from headrace.hop import config
from headrace.state import atomic

_FILES = {"kubernetes": tree.files, "compose": compose.files}
_HEAD = (
    "# Made by `headrace render`; what differs in your cluster belongs into the description or an overlay.\n"
)


def render(
    folder: Annotated[Path, typer.Argument(help="Where the files are written.")],
    target: Annotated[
        Literal["kubernetes", "compose"], typer.Option("--for", help="What runs the containers.")
    ],
    description: Annotated[
        Path | None, typer.Option("--description", help="YAML: namespace, registry, version, replicas, …")
    ] = None,
) -> None:
    """Write the settings of each service, and the manifests around them."""
    try:
        made = _FILES[target](config.load(Description, description, {}))
    except config.ConfigError as error:
        fail(str(error))
    for name, content in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        atomic.write(folder / name, written(content).encode())
    out.print(f"{len(made)} files in {folder}")


def written(content: Any) -> str:
    """The text of a file; a list is one of several documents."""
    documents = content if isinstance(content, list) else [content]
    return _HEAD + yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=130)


class _Plain(yaml.SafeDumper):
    """Writes a value out each time: `kubectl` reads anchors, people do not."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True
