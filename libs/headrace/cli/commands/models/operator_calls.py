"""Loading and unloading models in a running system, by the model repository calls of the ingress."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from headrace.cli.commands.operations import door_calls
from headrace.cli.console import fail
from headrace.cli.installation.layout import Layout

# A load may build an engine; the ingress waits ten minutes for it.
_TIMEOUT_S = 610.0


def ask(layout: Layout, action: Literal["load", "unload"], model: str, key: Path | None) -> None:
    """Has every executor load or unload `model` (NAME or NAME:VERSION); ends the command if that fails."""
    path = f"/v2/repository/models/{quote(model, safe=':')}/{action}"
    try:
        door_calls.post(layout, path, b"{}", "application/json", key, _TIMEOUT_S)
    except door_calls.NoAnswerError as error:
        fail(str(error))
