"""Options that several commands of delivery have, and how these commands fail."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from headrace.cli.console import fail
from headrace.delivery.errors import DeliveryError

RegistryFolder = Annotated[
    Path, typer.Option("--registry", help="The registry: a folder in OCI's image layout.", file_okay=False)
]
DEFAULT_REGISTRY = Path(".headrace-registry")
P = ParamSpec("P")
R = TypeVar("R")


def refusing(command: Callable[P, R]) -> Callable[P, R]:
    """Ends the command with the sentence of a DeliveryError."""

    @functools.wraps(command)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return command(*arguments, **options)
        except DeliveryError as error:
            fail(str(error))

    return call
